"""The audit: one event a change, secrets masked, pages from the newest on."""

import pytest

from mcp_server.errors import ConflictError, InvalidArgumentError
from mcp_server.runtime.identity import Caller
from mcp_server.stores.audit import AuditLog, masked

ANN = Caller("ann", "ml_engineer")


@pytest.fixture
def audit(database, clock):
    return AuditLog(database, clock)


def page(audit, **changes):
    return audit.page(**({"actor": None, "tool": None, "since": None, "limit": 50, "cursor": None} | changes))


def test_an_event_says_who_what_when_and_how_it_ended(audit, clock):
    audit.record(caller=ANN, tool="set_traffic", arguments={"endpoint": "e"}, error=ConflictError("too late"))

    ((event,), cursor) = page(audit)

    assert (event.actor, event.role, event.tool, event.arguments) == (
        "ann",
        "ml_engineer",
        "set_traffic",
        {"endpoint": "e"},
    )
    assert (event.outcome, event.message, event.time) == ("conflict", "too late", clock.now())
    assert cursor is None


def test_pages_go_from_the_newest_to_the_oldest_without_a_gap(audit):
    for number in range(5):
        audit.record(caller=ANN, tool=f"tool_{number}", arguments={})

    first, cursor = page(audit, limit=3)
    rest, end = page(audit, limit=3, cursor=cursor)

    assert [event.tool for event in [*first, *rest]] == ["tool_4", "tool_3", "tool_2", "tool_1", "tool_0"]
    assert end is None


def test_events_are_found_by_actor_tool_and_time(audit, clock):
    audit.record(caller=ANN, tool="deploy_model", arguments={})
    clock.advance(60)
    since = clock.now()
    audit.record(caller=Caller("bob", "admin"), tool="delete_model", arguments={})

    assert [event.actor for event in page(audit, actor="ann")[0]] == ["ann"]
    assert [event.tool for event in page(audit, tool="delete_model")[0]] == ["delete_model"]
    assert [event.actor for event in page(audit, since=since)[0]] == ["bob"]


def test_a_foreign_cursor_is_refused(audit):
    with pytest.raises(InvalidArgumentError, match="cursor"):
        page(audit, cursor="x'; DROP TABLE audit_events")


def test_secrets_are_masked_and_long_values_cut():
    shown = masked({"password": "hunter2", "nested": {"api_key": "k"}, "rows": list(range(100)), "text": "x" * 1000})

    assert shown["password"] == shown["nested"]["api_key"] == "***"
    assert len(shown["rows"]) == 21
    assert len(shown["text"]) == 501


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://me:hunter2@data.example.org/x.csv", "https://***@data.example.org/x.csv"),
        (
            "https://data.example.org/x.csv?season=2015&sig=hunter2#a",
            "https://data.example.org/x.csv?season=***&sig=***#a",
        ),
        ("postgresql://me:hun@ter2@db/x", "postgresql://***@db/x"),
        ("sql://games?query=SELECT a = 'b@c' FROM t", "sql://games?query=SELECT a = 'b@c' FROM t"),
        ("ann@example.org says x=1?", "ann@example.org says x=1?"),
    ],
)
def test_the_secrets_of_an_address_are_masked(given, kept):
    assert masked({"source": given}) == {"source": kept}
