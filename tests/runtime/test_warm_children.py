"""Children that stay: the next call finds the same process, unless a limit or a crash ended it."""

import os
from collections.abc import Iterator

import psutil
import pytest

from mcp_server.errors import CancelledError, InternalError, NotFoundError, ResourceExhaustedError
from mcp_server.runtime.warm_children import WarmChildren

GENEROUS = {"memory_bytes": 2 * 1024**3, "timeout_s": 60.0}


@pytest.fixture
def children() -> Iterator[WarmChildren]:
    made = WarmChildren(threads=1, keep=2, idle_s=60.0)
    yield made
    made.close()


def run(children: WarmChildren, name: str, subject: str = "games", **options: object) -> object:
    return children.run(f"tests.runtime.children:{name}", {"number": 21}, subject=subject, **(GENEROUS | options))


def test_calls_one_after_the_other_share_a_child_and_its_refusals_do_not_end_it(children):
    first = run(children, "double")
    with pytest.raises(NotFoundError):
        run(children, "refuse")
    with pytest.raises(InternalError, match="ZeroDivisionError"):
        run(children, "crash")

    assert run(children, "double") == first
    assert first["doubled"] == 42
    assert first["process"] != os.getpid()


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("spin", {"timeout_s": 0.2}, ResourceExhaustedError),
        ("spin", {"cancelled": lambda: True}, CancelledError),
        ("hoard", {"memory_bytes": 600 * 1024**2}, ResourceExhaustedError),
        ("abort", {}, InternalError),
    ],
    ids=["time", "cancelled", "memory", "crash"],
)
def test_a_child_that_met_a_limit_is_killed_and_the_next_call_gets_another(children, name, options, error):
    first = run(children, "double")["process"]

    with pytest.raises(error):
        run(children, name, **options)

    assert not psutil.pid_exists(first)
    assert run(children, "double")["process"] != first


def test_what_a_child_was_left_with_does_not_count_against_the_next_call(children):
    first = run(children, "leave_behind")["process"]

    second = run(children, "rest", memory_bytes=500 * 1024**2)["process"]

    assert second != first
    assert not psutil.pid_exists(first)


def test_a_child_that_ended_while_it_waited_is_replaced(children):
    first = run(children, "double")["process"]
    psutil.Process(first).kill()

    assert run(children, "double")["process"] != first


def test_closing_ends_those_that_wait(children):
    first = run(children, "double")["process"]

    children.close()

    assert not psutil.pid_exists(first)
