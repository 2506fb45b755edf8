"""Alert rules: one alert a change of state, and actions that are really carried out."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from mcp_server.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from mcp_server.results.monitoring import Alert
from mcp_server.runtime.progress import NoProgress
from tests.services.monitoring_world import ANA, World, games


def save(world: World, name: str = "drifted", **changes: object) -> None:
    condition = {"signal": "drift", "operator": ">", "threshold": 0.2, "window": 300}
    arguments: dict[str, object] = {"endpoint": "live", "condition": condition, "channels": ["log"], **changes}
    if "condition" in changes:
        arguments["condition"] = condition | changes["condition"]  # type: ignore[operator]
    world.service.save_alert_rule(caller=ANA, name=name, **arguments)  # type: ignore[arg-type]


def alerts(world: World) -> list[Alert]:
    return world.service.list_alerts().items


def test_a_rule_fires_once_and_resolves_once(world: World) -> None:
    save(world)
    with capture_logs() as said:
        world.predict(games(300, seed=5))
        assert world.service.evaluate_alert_rules("live") == []
        world.predict(games(300, seed=6, shift=150))
        assert [alert.state for alert in world.service.evaluate_alert_rules("live")] == ["firing"]
        assert world.service.evaluate_alert_rules() == []
        world.predict(games(300, seed=7))
        assert [alert.state for alert in world.service.evaluate_alert_rules("live")] == ["resolved"]
        assert world.service.evaluate_alert_rules() == []
    assert [entry["state"] for entry in said if entry["event"] == "alert"] == ["firing", "resolved"]
    (alert,) = alerts(world)
    assert (alert.state, alert.rule, alert.severity) == ("resolved", "drifted", "warning")
    assert alert.value == pytest.approx(1 / 3)
    assert "check_drift(endpoint='live')" in alert.message


def test_a_check_evaluates_the_rules(world: World) -> None:
    save(world)
    world.predict(games(300, seed=6, shift=150))
    world.service.check_drift(progress=NoProgress(), endpoint="live")
    assert [alert.state for alert in alerts(world)] == ["firing"]


def test_for_waits_before_it_fires(world: World) -> None:
    save(world, condition={"for": "1h"})
    world.predict(games(300, seed=6, shift=150))
    assert world.service.evaluate_alert_rules() == []
    rule = world.service.list_monitoring().rules[0]
    assert rule.pending_since == world.clock.now()
    world.clock.advance(3599)
    assert world.service.evaluate_alert_rules() == []
    world.clock.advance(1)
    assert len(world.service.evaluate_alert_rules()) == 1


def test_a_condition_that_ends_in_time_begins_anew(world: World) -> None:
    save(world, condition={"for": "10h", "window": 100})
    world.predict(games(100, seed=6, shift=150))
    world.service.evaluate_alert_rules()
    world.predict(games(100, seed=7))
    world.service.evaluate_alert_rules()
    assert world.service.list_monitoring().rules[0].pending_since is None
    world.predict(games(100, seed=8, shift=150), seconds=400)
    assert world.service.evaluate_alert_rules() == []


def test_too_few_rows_are_not_judged(world: World) -> None:
    save(world)
    world.predict(games(20, seed=6, shift=300))
    assert world.service.evaluate_alert_rules() == []
    rule = world.service.list_monitoring(endpoint="live").rules[0]
    assert rule.last_value is None
    assert rule.note == "20 rows in the window, 50 needed"


@pytest.mark.parametrize(
    ("signal", "operator", "threshold"),
    [("accuracy", "<", 0.5), ("log_loss", ">", 0.8), ("psi", ">", 0.2), ("latency_p95", ">=", 1.5), ("ece", ">", 0.1)],
)
def test_every_kind_of_signal_fires(world: World, signal: str, operator: str, threshold: float) -> None:
    save(world, condition={"signal": signal, "operator": operator, "threshold": threshold})
    world.predict(games(300, seed=6, shift=150, flip=True))
    assert [alert.rule for alert in world.service.evaluate_alert_rules()] == ["drifted"]


def test_errors_and_gaps_are_signals(world: World) -> None:
    save(world, "errors", condition={"signal": "error_rate", "operator": ">", "threshold": 0.1})
    save(world, "gaps", condition={"signal": "missing_rate", "operator": ">", "threshold": 0.4})
    world.predict(games(100, seed=6))
    world.predict(games(100, seed=6), error="boom", rest=None)
    assert sorted(alert.rule for alert in world.service.evaluate_alert_rules()) == ["errors", "gaps"]


def test_an_alert_is_acknowledged_and_still_resolves(world: World) -> None:
    save(world)
    world.predict(games(300, seed=6, shift=150))
    world.service.evaluate_alert_rules()
    alert_id = alerts(world)[0].alert_id
    found = world.service.acknowledge_alert(caller=ANA, alert_id=alert_id, note="looking").alert
    assert found.state == "acknowledged"
    assert found.acknowledgement is not None
    assert (found.acknowledgement.by, found.acknowledgement.note) == ("ana", "looking")
    world.predict(games(300, seed=7))
    world.service.evaluate_alert_rules()
    assert alerts(world)[0].state == "resolved"
    with pytest.raises(FailedPreconditionError, match="resolved already"):
        world.service.acknowledge_alert(caller=ANA, alert_id=alert_id)
    with pytest.raises(NotFoundError):
        world.service.acknowledge_alert(caller=ANA, alert_id="nothing")


def test_a_rule_rolls_back_once(world: World) -> None:
    save(world, action="rollback")
    world.predict(games(300, seed=6, shift=150))
    world.service.evaluate_alert_rules()
    world.service.evaluate_alert_rules()
    (call,) = world.called("rollback_endpoint")
    assert call["endpoint"] == "live"
    assert call["caller"].name == "alert-rule:drifted"
    assert call["request_key"] == f"alert-{alerts(world)[0].alert_id}"
    assert [(action.action, action.state) for action in alerts(world)[0].actions] == [("rollback", "done")]
    events, _ = world.parts.audit.page(actor="alert-rule:drifted", tool=None, since=None, limit=9, cursor=None)
    assert [(event.tool, event.outcome) for event in events] == [("rollback_endpoint", "ok")]


def test_a_rollback_that_is_refused_is_told(world: World) -> None:
    save(world, action="rollback")
    world.refusal.append(FailedPreconditionError("There is no earlier revision."))
    world.predict(games(300, seed=6, shift=150))
    world.service.evaluate_alert_rules()
    (action,) = alerts(world)[0].actions
    assert (action.state, action.message) == ("refused", "There is no earlier revision.")


def test_a_paused_endpoint_rests(world: World) -> None:
    save(world)
    world.predict(games(300, seed=6, shift=150))
    paused = world.service.pause_monitoring(caller=ANA, endpoint="live", for_="2h", reason="moving house")
    assert paused.paused_until is not None
    assert world.service.is_paused("live")
    assert world.service.evaluate_alert_rules() == []
    assert world.service.list_monitoring().pauses[0].reason == "moving house"
    world.clock.advance(7201)
    assert len(world.service.evaluate_alert_rules()) == 1
    world.service.pause_monitoring(caller=ANA, endpoint="live", for_="2h")
    resumed = world.service.pause_monitoring(caller=ANA, endpoint="live", for_="0s")
    assert resumed.paused_until is None
    assert not world.service.is_paused("live")


def test_a_rule_of_a_lost_endpoint_does_not_stop_the_others(world: World) -> None:
    world.live["gone"] = "winner@1.0.0"
    save(world, "a-lost", endpoint="gone")
    save(world)
    del world.live["gone"]
    world.predict(games(300, seed=6, shift=150))
    assert [alert.rule for alert in world.service.evaluate_alert_rules()] == ["drifted"]
    lost = next(rule for rule in world.service.list_monitoring().rules if rule.name == "a-lost")
    assert lost.note.startswith("No endpoint named 'gone'")


def test_a_gates_alert_is_raised_once_for_each_failure(world: World) -> None:
    def raised(message: str) -> Alert:
        return world.service.raise_alert(
            endpoint="live", severity="critical", message=message, value=0.2, rule="rollout-gate", action="rolled back"
        )

    first, again = raised("error rate 0.2"), raised("error rate 0.2")
    assert first.alert_id == again.alert_id
    world.clock.advance(60)
    second = raised("latency ratio 3")
    assert [(alert.alert_id, alert.state) for alert in alerts(world)] == [
        (second.alert_id, "firing"),
        (first.alert_id, "resolved"),
    ]
    assert alerts(world)[0].actions[0].action == "rolled back"
    assert world.service.acknowledge_alert(caller=ANA, alert_id=second.alert_id).alert.state == "resolved"


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"endpoint": "lvie"}, NotFoundError, "'lvie'"),
        ({"condition": {"signal": "acuracy"}}, InvalidArgumentError, "'acuracy' is not one of a binary endpoint"),
        ({"condition": {"signal": "rmse"}}, InvalidArgumentError, "rmse"),
        ({"condition": {"window": "later"}}, InvalidArgumentError, "'later' is not a duration"),
        ({"channels": ["webhook"]}, FailedPreconditionError, "webhook is not set up: NBA_MCP_ALERTS__WEBHOOK_URL"),
    ],
)
def test_bad_rules_are_refused(world: World, changes: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        save(world, **changes)
    assert world.service.list_monitoring().rules == []


def test_a_rule_is_replaced_and_deleted(world: World) -> None:
    save(world)
    save(world, severity="critical")
    assert [rule.severity for rule in world.service.list_monitoring().rules] == ["critical"]
    world.live["other"] = "winner@1.0.0"
    with pytest.raises(AlreadyExistsError):
        save(world, endpoint="other")
    assert world.service.delete_alert_rule(caller=ANA, name="drifted").deleted == ["drifted"]
    with pytest.raises(NotFoundError):
        world.service.delete_alert_rule(caller=ANA, name="drifted")


def test_results_say_that_no_worker_lives(world: World) -> None:
    world.jobs.workers = 0
    listed = world.service.list_monitoring()
    assert listed.workers_alive == 0
    assert "No worker lives" in listed.summary
    assert world.service.list_alerts().warnings


def test_long_lists_stay_small(world: World) -> None:
    for i in range(40):
        save(world, f"rule-{i:02}")
        world.service.raise_alert(endpoint="live", severity="info", message=f"{i}: {'x' * 300}", rule=f"gate-{i}")
    listed = world.service.list_monitoring()
    assert listed.summary.startswith("40 rules")
    assert "more are not shown" in listed.warnings[-1]
    assert len(listed.model_dump_json()) < 16_000
    found, cursor = [], None
    while True:
        page = world.service.list_alerts(limit=500, cursor=cursor)
        assert len(page.model_dump_json()) < 16_000
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len({alert.alert_id for alert in found}) == len(found) == 40
