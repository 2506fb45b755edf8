"""Endpoints as their tools see them: made, described, balanced, rolled out, rolled back, removed."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mcp_server.errors import (
    AlreadyExistsError,
    ConflictError,
    FailedPreconditionError,
    InvalidArgumentError,
    LifecycleError,
    NotFoundError,
)
from mcp_server.runtime.clock import ManualClock
from mcp_server.stores.database import Database
from mcp_server.stores.schema import request_keys
from tests.engine.models import games
from tests.services.deployment_world import ANA, BEN, Deployed, open_registry, rows

OLD, NEW = "winner@1.0.0", "winner@1.1.0"


@pytest.fixture
def serving(deployable: Deployed) -> Deployed:
    deployable.deploy(OLD)
    return deployable


def weights(result: Any) -> dict[str, float]:
    return {route.model: route.weight for route in result.routes}


def advance(world: Deployed, **arguments: Any) -> Any:
    return world.deployment.advance_rollout(caller=ANA, endpoint="games", **arguments)


def test_a_deployed_model_serves_at_once_and_its_stage_does_not_move(deployable: Deployed) -> None:
    made = deployable.deploy("winner@1.0.0")
    assert (made.endpoint, made.revision, made.state, weights(made)) == ("games", 1, "serving", {OLD: 100.0})
    assert deployable.prediction.answers_at_once("games", 1)
    assert deployable.models.stage_of(deployable.models.resolve(OLD)) == "none"
    assert deployable.deployment.live_model("games") == OLD


def test_the_latest_version_is_deployed_where_none_is_named(deployable: Deployed) -> None:
    assert weights(deployable.deploy("winner")) == {NEW: 100.0}


def test_what_cannot_be_deployed_is_refused_and_leaves_no_endpoint(deployable: Deployed) -> None:
    with pytest.raises(NotFoundError) as refusal:
        deployable.deploy("winer")
    assert "winner" in refusal.value.hint
    path = next(Path(deployable.folder).rglob(f"*{deployable.models.resolve(OLD).model_artifact}"))
    path.chmod(0o644)
    path.write_bytes(b"something else")
    with pytest.raises(FailedPreconditionError):
        deployable.deploy(OLD)
    assert deployable.endpoints.names() == []


def test_an_endpoint_that_exists_is_not_made_again(serving: Deployed) -> None:
    with pytest.raises(AlreadyExistsError) as refusal:
        serving.deploy(NEW)
    assert "start_rollout" in refusal.value.hint


def test_a_description_has_the_figures_of_the_log(serving: Deployed) -> None:
    serving.start(options={"steps": [50, 100], "mirror": True}, reason="quicker")
    serving.predict(40, row_ids=[str(i) for i in range(40)])
    serving.wait_for_mirrors()
    serving.prediction.record_outcomes(
        caller=ANA, endpoint="games", outcomes=[{"row_id": "1", "outcome": True}, {"row_id": "2", "outcome": False}]
    )
    found = serving.deployment.describe_endpoint(endpoint="games")
    assert (found.revision, found.requests, found.errors) == (2, 40, 0)
    assert found.latency_ms.p50 is not None
    assert found.latency_ms.p50 <= (found.latency_ms.p99 or 0)
    assert {each.model: (each.role, each.requests, each.labelled) for each in found.per_model} == {
        OLD: ("live", 40, 2),
        NEW: ("candidate", 40, 2),
    }
    assert all(each.scorer.split(":")[0] for each in found.per_model)
    assert {(each.model, each.state) for each in found.breaker} == {(OLD, "closed"), (NEW, "closed")}
    assert [(each.action, each.by, each.reason) for each in found.history] == [
        ("start_rollout", "ana", "quicker"),
        ("deploy_model", "ana", None),
    ]
    assert found.rollout is not None
    assert {gate.gate for gate in found.rollout.gates} == {"min_requests", "max_error_rate", "max_latency_ratio"}
    assert len(found.model_dump_json()) < 16_000


def test_endpoints_are_listed_by_name_page_by_page(deployable: Deployed) -> None:
    for name in ("c", "a", "b"):
        deployable.deploy(OLD, name)
    listing = deployable.deployment.list_endpoints
    first = listing(limit=2)
    assert [item.endpoint for item in first.items] == ["a", "b"]
    second = listing(limit=2, cursor=first.next_cursor)
    assert [item.endpoint for item in second.items] == ["c"]
    assert second.next_cursor is None
    with pytest.raises(InvalidArgumentError, match="cursor"):
        listing(cursor="ö")


def test_a_canary_goes_from_its_first_step_to_the_end_on_real_traffic(serving: Deployed) -> None:
    gates = {"min_requests": 10, "metric": "log_loss", "max_metric_loss": 10.0, "min_labelled": 5}
    started = serving.start(options={"steps": [50, 100], "gates": gates})
    assert weights(started) == {OLD: 50.0, NEW: 50.0}
    with pytest.raises(FailedPreconditionError) as pending:
        advance(serving)
    assert {gate["gate"] for gate in pending.value.details["gates"] if gate["state"] == "pending"} >= {
        "min_requests",
        "max_metric_loss",
    }
    serving.predict(100, row_ids=[str(i) for i in range(100)])
    outcomes = [{"row_id": str(i), "outcome": i % 3 == 0} for i in range(100)]
    serving.prediction.record_outcomes(caller=ANA, endpoint="games", outcomes=outcomes)
    done = advance(serving, reason="the gates hold")
    assert weights(done) == {NEW: 100.0}
    assert done.rollout is not None
    assert done.rollout.state == "completed"
    assert {each.model for each in serving.predict(5).predictions} == {NEW}
    back = serving.deployment.rollback_endpoint(caller=ANA, endpoint="games")
    assert weights(back) == {OLD: 100.0}
    assert "Stages of models were not moved" in back.summary
    assert {each.model for each in serving.predict(5).predictions} == {OLD}


def test_a_candidate_that_is_worse_on_outcomes_is_rolled_back_by_itself_with_an_alert(serving: Deployed) -> None:
    gates = {"min_requests": 1, "metric": "accuracy", "max_metric_loss": 0.0, "min_labelled": 1}
    serving.start(options={"steps": [50, 100], "gates": gates, "mirror": True})
    answer = serving.predict(100, row_ids=[str(i) for i in range(100)])
    serving.wait_for_mirrors()
    log = serving.logged()
    said = {row["row_id"]: row["prediction"] for row in log.iter_rows(named=True) if row["model"] == OLD}
    assert len(answer.predictions) == 100
    outcomes = [{"row_id": name, "outcome": label} for name, label in said.items()]  # as the live version said
    serving.prediction.record_outcomes(caller=ANA, endpoint="games", outcomes=outcomes)
    assert serving.deployment.evaluate_rollouts() == ["games"]
    found = serving.deployment.describe_endpoint(endpoint="games")
    assert weights(found) == {OLD: 100.0}
    assert found.rollout is not None
    assert found.rollout.state == "rolled_back"
    assert found.history[0].action == "gate_failed"
    assert [(alert["endpoint"], alert["severity"]) for alert in serving.alerts] == [("games", "critical")]
    assert "max_metric_loss" in serving.alerts[0]["message"]
    assert serving.deployment.evaluate_rollouts() == []


def test_a_shadow_is_compared_with_the_live_version_on_the_same_rows(serving: Deployed) -> None:
    serving.start(strategy="shadow")
    answer = serving.predict(100, row_ids=[str(i) for i in range(100)])
    assert {each.model for each in answer.predictions} == {OLD}
    serving.wait_for_mirrors()
    found = serving.deployment.describe_endpoint(endpoint="games")
    assert found.requests == 100
    assert {each.model: each.requests for each in found.per_model} == {OLD: 100, NEW: 100}
    assert found.experiment is not None
    assert found.experiment.difference is None
    assert "0 outcomes of such rows, 20 needed" in found.experiment.decision
    won = games()["won"].to_list()
    outcomes = [{"row_id": str(i), "outcome": won[i]} for i in range(100)]
    serving.prediction.record_outcomes(caller=ANA, endpoint="games", outcomes=outcomes)
    judged = serving.deployment.describe_endpoint(endpoint="games").experiment
    assert judged is not None
    assert (judged.metric, judged.a, judged.b) == ("log_loss", OLD, NEW)
    log = serving.logged()
    losses = []
    for model in (OLD, NEW):
        part = log.filter(model=model, outcome=True).vstack(log.filter(model=model, outcome=False))
        chance = [row["p_True"] if row["outcome"] else row["p_False"] for row in part.iter_rows(named=True)]
        losses.append(-sum(math.log(each) for each in chance) / len(chance))
    assert judged.difference == pytest.approx(losses[1] - losses[0], abs=1e-9)
    assert (judged.ci_low or 0) <= (judged.difference or 0) <= (judged.ci_high or 0)
    done = advance(serving)
    assert weights(done) == {NEW: 100.0}


def test_advancing_over_a_failed_gate_rolls_back_unless_forced(serving: Deployed, clock: ManualClock) -> None:
    gates = {"min_requests": 1, "metric": "accuracy", "max_metric_loss": 0.0, "min_labelled": 1}
    for forced in (True, False):
        serving.start(options={"steps": [50, 75, 100], "gates": gates, "mirror": True})
        names = [f"{forced}-{i}" for i in range(50)]
        serving.predict(50, row_ids=names)
        serving.wait_for_mirrors()
        log = serving.logged()
        assert log.filter(row_id=names[0]).height == 2
        said = {row["row_id"]: row["prediction"] for row in log.iter_rows(named=True) if row["model"] == OLD}
        outcomes = [{"row_id": name, "outcome": said[name]} for name in names]
        serving.prediction.record_outcomes(caller=ANA, endpoint="games", outcomes=outcomes)
        if forced:
            assert weights(advance(serving, force=True)) == {OLD: 25.0, NEW: 75.0}
            serving.deployment.rollback_endpoint(caller=ANA, endpoint="games")
        else:
            with pytest.raises(FailedPreconditionError, match="accuracy") as refusal:
                advance(serving)
            assert [gate["gate"] for gate in refusal.value.details["gates"]] == ["max_metric_loss"]
            assert serving.deployment.live_model("games") == OLD
        clock.advance(60)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "empty"),
        ({OLD: 60, NEW: 30}, "sum to 90"),
        ({OLD: 160, NEW: -60}, "percent"),
        ({OLD: float("nan"), NEW: 50}, "percent"),
        ({"winner": 50, NEW: 50}, "twice"),
    ],
)
def test_weights_that_cannot_be_are_refused(serving: Deployed, given: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        serving.deployment.set_traffic(caller=ANA, endpoint="games", weights=given)
    assert serving.endpoints.get("games").revision == 1


def test_traffic_is_balanced_across_versions_that_fit(serving: Deployed) -> None:
    balanced = serving.deployment.set_traffic(caller=ANA, endpoint="games", weights={OLD: 30, NEW: 70})
    assert weights(balanced) == {OLD: 30.0, NEW: 70.0}
    assert {route.role for route in balanced.routes} == {"live"}
    with pytest.raises(FailedPreconditionError, match="regression"):
        serving.deployment.set_traffic(caller=ANA, endpoint="games", weights={OLD: 50, "margin": 50})
    back = serving.deployment.rollback_endpoint(caller=ANA, endpoint="games")
    assert weights(back) == {OLD: 100.0}


def test_traffic_is_not_balanced_by_hand_under_a_rollout(serving: Deployed) -> None:
    serving.start()
    with pytest.raises(FailedPreconditionError, match="under way"):
        serving.deployment.set_traffic(caller=ANA, endpoint="games", weights={OLD: 100})


def test_a_deleted_endpoint_answers_no_more_and_what_watched_it_is_told(serving: Deployed) -> None:
    assert serving.deployment.delete_endpoint(caller=ANA, endpoint="games").deleted == ["games"]
    assert serving.forgotten == ["games"]
    for call in (
        serving.predict,
        serving.start,
        lambda: serving.deployment.delete_endpoint(caller=ANA, endpoint="games"),
        lambda: serving.deployment.describe_endpoint(endpoint="games"),
    ):
        with pytest.raises(NotFoundError):
            call()


def test_the_same_request_key_changes_nothing_twice(serving: Deployed) -> None:
    call: dict[str, Any] = {"options": {"steps": [50, 100]}, "request_key": "k1"}
    first = serving.start(**call)
    assert serving.start(**call) == first
    assert serving.endpoints.get("games").revision == 2
    with pytest.raises(ConflictError, match="request_key"):
        serving.start(options={"steps": [10, 100]}, request_key="k1")


def test_a_call_cut_off_before_its_answer_was_kept_is_not_done_again(serving: Deployed) -> None:
    call: dict[str, Any] = {"options": {"steps": [50, 100]}, "request_key": "k1"}
    first = serving.start(**call)
    with serving.database.begin() as connection:  # as it is when the process dies between the two
        connection.execute(sa.update(request_keys).values(answer=None))
    again = serving.start(**call)
    assert (again.revision, again.routes, again.rollout) == (first.revision, first.routes, first.rollout)
    assert serving.endpoints.get("games").revision == 2


def test_a_change_for_an_old_revision_is_refused_with_the_current_one(serving: Deployed) -> None:
    serving.start(expected_revision=1)
    for call in (
        lambda: advance(serving, expected_revision=1, force=True),
        lambda: serving.deployment.rollback_endpoint(caller=BEN, endpoint="games", expected_revision=1),
        lambda: serving.deployment.set_traffic(caller=BEN, endpoint="games", weights={OLD: 100}, expected_revision=1),
    ):
        with pytest.raises(ConflictError) as refusal:
            call()
        assert refusal.value.details["current_revision"] == 2


def test_of_servers_that_promote_at_once_each_revision_has_one_winner(deployable: Deployed, clock: ManualClock) -> None:
    deployable.deploy(OLD)
    others = [Deployed.again(deployable) for _ in range(4)]

    def promote(number: int) -> str:
        model = (OLD, NEW)[number % 2]
        try:
            others[number % 4].deployment.set_traffic(
                caller=ANA, endpoint="games", weights={model: 100}, expected_revision=1
            )
        except ConflictError:
            return "conflict"
        return "won"

    with ThreadPoolExecutor(4) as threads:
        outcome = list(threads.map(promote, range(8)))
    assert sorted(outcome) == ["conflict"] * 7 + ["won"]
    assert deployable.endpoints.get("games").revision == 2
    for other in others:
        other.close()


def test_under_constant_changes_every_answer_is_of_one_revision_that_was_live(serving: Deployed) -> None:
    versions = {1: {OLD}}
    stop = False

    def change() -> None:
        while not stop:
            for model in (NEW, OLD):
                made = serving.deployment.set_traffic(caller=ANA, endpoint="games", weights={model: 100})
                versions[made.revision] = {model}

    with ThreadPoolExecutor(1) as threads:
        changing = threads.submit(change)
        answers = [serving.predict(5) for _ in range(300)]
        stop = True
        changing.result()
    assert all({each.model for each in answer.predictions} == versions[answer.revision] for answer in answers)
    assert len({answer.revision for answer in answers}) > 1
    log = serving.logged()
    assert log.height == 1500
    assert all({model} == versions[revision] for model, revision in zip(log["model"], log["revision"], strict=True))


def test_unsupported_strategies_say_what_is(serving: Deployed) -> None:
    with pytest.raises(LifecycleError) as refusal:
        serving.start(strategy="ensemble")
    assert "canary" in refusal.value.hint


def test_both_databases_serve(
    database: Database, tmp_path: Path, clock: ManualClock, mlflow_uri: str, deployable: Deployed
) -> None:
    from tests.services.deployment_world import register

    models = open_registry(tmp_path, database, clock, mlflow_uri)
    register(models, "logistic_regression")
    other = Deployed(tmp_path, database, clock, models)
    other.deploy(OLD, "shots")
    answer = other.prediction.predict(caller=ANA, endpoint="shots", rows=rows(3), row_ids=["a", "b", "c"])
    other.prediction.record_outcomes(caller=ANA, endpoint="shots", outcomes=[{"row_id": "a", "outcome": True}])
    found = other.deployment.describe_endpoint(endpoint="shots")
    assert (found.requests, found.per_model[0].labelled, len(answer.predictions)) == (3, 1, 3)
    other.close()


def test_a_deployment_repeated_by_its_key_gives_the_same_answer_and_another_use_of_the_key_is_refused(
    deployable: Deployed,
) -> None:
    call: dict[str, Any] = {"caller": BEN, "endpoint": "games", "request_key": "d1"}
    first = deployable.deployment.deploy_model(model=OLD, **call)
    again = deployable.deployment.deploy_model(model=OLD, **call)

    assert again == first
    assert deployable.endpoints.get("games").revision == 1
    with pytest.raises(ConflictError, match="request_key"):
        deployable.deployment.deploy_model(model=NEW, **call)


def test_a_deployment_that_expects_a_revision_is_refused_where_none_exists(deployable: Deployed) -> None:
    with pytest.raises(ConflictError):
        deployable.deployment.deploy_model(caller=BEN, endpoint="games", model=OLD, expected_revision=3)
    assert deployable.endpoints.names() == []
    made = deployable.deployment.deploy_model(caller=BEN, endpoint="games", model=OLD, expected_revision=0)
    assert made.revision == 1


def test_an_endpoint_is_deleted_only_at_the_revision_expected_and_once_by_its_key(serving: Deployed) -> None:
    with pytest.raises(ConflictError) as refusal:
        serving.deployment.delete_endpoint(caller=BEN, endpoint="games", expected_revision=7)
    assert refusal.value.details["current_revision"] == 1
    assert serving.endpoints.names() == ["games"]

    call: dict[str, Any] = {"caller": BEN, "endpoint": "games", "expected_revision": 1, "request_key": "x1"}
    first = serving.deployment.delete_endpoint(**call)
    assert serving.endpoints.names() == []
    assert serving.deployment.delete_endpoint(**call) == first
