"""Retraining: what starts it, that it happens once, and what becomes of the new model."""

from typing import Any

import pytest

from mcp_server.errors import FailedPreconditionError, InvalidArgumentError, PermissionDeniedError
from mcp_server.results.monitoring import RetrainingPolicy
from mcp_server.runtime.identity import Caller
from tests.services.monitoring_world import ANA, World, games, write_games


def save(world: World, trigger: dict[str, Any], **changes: Any) -> None:
    world.service.save_retraining_policy(caller=ANA, endpoint="live", trigger=trigger, **changes)


def policy(world: World) -> RetrainingPolicy:
    return world.service.list_monitoring(endpoint="live").policies[0]


def started(world: World) -> list[str]:
    return [name for name, *_ in world.jobs.submitted]


def test_drift_starts_one_training_by_the_live_recipe(world: World) -> None:
    save(world, {"drift": {"share": 0.3, "window": 300}})
    world.predict(games(300, seed=5))
    world.service.evaluate_alert_rules()
    assert started(world) == []
    world.predict(games(300, seed=6, shift=150))
    for _ in range(3):
        world.service.evaluate_alert_rules()
    assert started(world) == ["retrain-live-1"]
    _, kind, arguments, caller = world.jobs.submitted[0]
    assert (kind, caller.name) == ("train_model", "retraining-policy:live")
    assert (arguments["name"], arguments["dataset"], arguments["target"]) == ("winner", "games@1", "home_win")
    assert arguments["features"] == ["elo_diff", "rest", "home_team"]
    assert policy(world).state.reason == "33% of the features drifted, 30% is the limit"
    events, _ = world.parts.audit.page(actor=caller.name, tool="train_model", since=None, limit=9, cursor=None)
    assert [event.arguments["reason"] for event in events] == [policy(world).state.reason]


def test_a_worse_metric_starts_a_training(world: World) -> None:
    save(world, {"performance": {"metric": "accuracy", "drop": 0.1}})
    world.predict(games(300, seed=5))
    world.service.evaluate_alert_rules()
    assert started(world) == []
    world.predict(games(600, seed=6, flip=True))
    world.service.evaluate_alert_rules()
    assert started(world) == ["retrain-live-1"]


def test_new_outcomes_start_a_training(world: World) -> None:
    save(world, {"new_rows": 100}, cooldown="1h")
    world.clock.advance(60)
    world.predict(games(99, seed=5))
    world.service.evaluate_alert_rules()
    assert started(world) == []
    world.predict(games(1, seed=6))
    world.service.evaluate_alert_rules()
    assert started(world) == ["retrain-live-1"]


def test_a_schedule_is_caught_up_once(world: World) -> None:
    save(world, {"schedule": "0 6 * * 1"})  # the clock stands at Thursday 2026-01-01
    world.service.evaluate_alert_rules()
    assert started(world) == []
    world.clock.advance(30 * 86400)
    for _ in range(3):
        world.service.evaluate_alert_rules()
    assert started(world) == ["retrain-live-1"]


@pytest.mark.slow
def test_the_cool_down_holds_back_the_next_training(world: World) -> None:
    save(world, {"drift": {"share": 0.3}}, promote="none", cooldown="1d")
    world.predict(games(300, seed=6, shift=150))
    world.service.evaluate_alert_rules()
    world.run_jobs()
    world.service.evaluate_alert_rules()
    world.service.evaluate_alert_rules()
    assert started(world) == ["retrain-live-1"]
    assert policy(world).state.phase == "done"
    write_games(world, "games", games(1500, seed=3))
    world.clock.advance(86300)
    world.service.evaluate_alert_rules()
    assert started(world) == ["retrain-live-1"]
    world.clock.advance(101)
    world.service.evaluate_alert_rules()
    assert started(world) == ["retrain-live-1", "retrain-live-2"]


def test_the_same_data_is_not_trained_on_twice(world: World) -> None:
    save(world, {"drift": {"share": 0.3}}, cooldown="1h")
    world.predict(games(300, seed=6, shift=150))
    world.service.evaluate_alert_rules()
    world.run_jobs()
    for _ in range(5):
        world.clock.advance(7200)
        world.service.evaluate_alert_rules()
    assert started(world) == ["retrain-live-1"]
    assert policy(world).state.note.endswith("it would make the same model again")


def test_a_model_is_judged_by_its_own_answers(world: World) -> None:
    save(world, {"performance": {"metric": "accuracy", "drop": 0.1}})
    world.predict(games(300, seed=5))
    world.predict(games(600, seed=6, flip=True), model="winner@0.9.0")
    world.service.evaluate_alert_rules()
    assert started(world) == []


def test_a_better_model_is_started_with_little_traffic(world: World) -> None:
    write_games(world, "games", games(3000, seed=2, flip=True, first_season=2008))
    save(world, {"drift": {"share": 0.3}})
    world.predict(games(300, seed=6, shift=150))
    world.service.evaluate_alert_rules()
    assert world.jobs.submitted[0][2]["dataset"] == "games@2"
    split = world.jobs.submitted[0][2]["split"]
    assert (split["column"], split.get("test_from")) == ("season", None)  # a fixed season would hold all new rows out
    world.run_jobs()
    world.service.evaluate_alert_rules()
    (call,) = world.called("start_rollout")
    assert (call["model"], call["strategy"], call["endpoint"]) == ("winner@1.1.0", "canary", "live")
    state = policy(world).state
    assert (state.phase, state.model) == ("done", "winner@1.1.0")
    assert "is started as a canary" in (state.outcome or "")
    assert "better" in (state.outcome or "")


def test_a_model_that_is_no_better_is_not_started(world: World) -> None:
    save(world, {"drift": {"share": 0.3}})
    world.predict(games(300, seed=6, shift=150))
    world.service.evaluate_alert_rules()
    world.run_jobs()
    world.service.evaluate_alert_rules()
    assert world.called("start_rollout") == []
    assert (policy(world).state.outcome or "").startswith("winner@1.0.1 is registered but not started: on its held-out")
    assert "not distinguishable" in (policy(world).state.outcome or "")


@pytest.mark.slow
def test_a_rollout_that_is_refused_leaves_the_version(world: World) -> None:
    write_games(world, "games", games(3000, seed=2, flip=True, first_season=2008))
    save(world, {"drift": {"share": 0.3}})
    world.refusal.append(FailedPreconditionError("A rollout runs already."))
    world.predict(games(300, seed=6, shift=150))
    world.service.evaluate_alert_rules()
    world.run_jobs()
    world.service.evaluate_alert_rules()
    assert "registered but not started: A rollout runs already." in (policy(world).state.outcome or "")


def test_a_failed_training_is_told(world: World) -> None:
    save(world, {"drift": {"share": 0.3}})
    world.predict(games(300, seed=6, shift=150))
    world.service.evaluate_alert_rules()
    world.jobs.states["retrain-live-1"] = {"state": "failed", "error": {"message": "no trial succeeded"}}
    world.service.evaluate_alert_rules()
    assert (policy(world).state.phase, policy(world).state.outcome) == ("failed", "training failed: no trial succeeded")


def test_a_claim_that_was_never_submitted_is_submitted_later(world: World) -> None:
    save(world, {"drift": {"share": 0.3}})
    world.predict(games(300, seed=6, shift=150))
    world.service.evaluate_alert_rules()
    world.jobs.submitted.clear()
    world.jobs.states.clear()  # as if the process had ended between the claim and the queue
    world.service.evaluate_alert_rules()
    assert started(world) == ["retrain-live-1"]


def test_an_alert_starts_a_training_and_says_so(world: World) -> None:
    condition = {"signal": "drift", "operator": ">", "threshold": 0.3}
    for name in ("first", "second"):
        world.service.save_alert_rule(caller=ANA, name=name, endpoint="live", condition=condition, action="retrain")
    world.predict(games(300, seed=6, shift=150))
    world.service.evaluate_alert_rules()
    assert started(world) == ["retrain-live-1"]  # a storm of alerts makes one training
    actions = {alert.rule: alert.actions[0] for alert in world.service.list_alerts().items}
    assert (actions["first"].state, actions["first"].job_id) == ("started", "retrain-live-1")
    assert actions["second"].state == "refused"
    assert "is training already" in actions["second"].message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"trigger": {}}, "trigger is empty"),
        ({"trigger": {"schedule": "every day"}}, "'every day' is not a cron expression"),
        ({"trigger": {"schedule": "99 * * * *"}}, "is not a cron expression"),
        ({"trigger": {"performance": {"metric": "rmse", "drop": 1.0}}}, "rmse"),
        ({"trigger": {"new_rows": 5}, "training": {"epochs": 3}}, "training has no field 'epochs'"),
        ({"trigger": {"new_rows": 5}, "cooldown": "soon"}, "cooldown 'soon'"),
        ({"trigger": {"drift": {"share": 0.5, "window": "x"}}}, "window 'x'"),
    ],
)
def test_bad_policies_are_refused(world: World, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        world.service.save_retraining_policy(caller=ANA, endpoint="live", **arguments)


def test_a_schedule_is_saved_under_the_callers_role(world: World) -> None:
    found = world.service.save_schedule(
        caller=ANA, name="daily", cron="30 6 * * *", tool="check_drift", arguments={"endpoint": "live"}
    )
    assert found.schedule.next_at is not None
    assert found.schedule.next_at.isoformat() == "2026-01-01T06:30:00+00:00"
    listed = world.service.list_monitoring(endpoint="live").schedules
    assert [(row.name, row.tool, row.caller, row.role) for row in listed] == [
        ("daily", "check_drift", "ana", "ml_engineer")
    ]


def test_a_schedule_cannot_reach_beyond_the_role(world: World) -> None:
    with pytest.raises(PermissionDeniedError):
        world.service.save_schedule(
            caller=Caller("eve", "viewer"), name="x", cron="0 0 * * *", tool="train_model", arguments={}
        )
    with pytest.raises(InvalidArgumentError, match="not a job tool"):
        world.service.save_schedule(caller=ANA, name="x", cron="0 0 * * *", tool="predict", arguments={})
    with pytest.raises(InvalidArgumentError, match="not a cron"):
        world.service.save_schedule(caller=ANA, name="x", cron="often", tool="check_drift", arguments={})
