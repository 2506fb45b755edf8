"""Predictions: the model's own answers, routed, logged, and answered by another version where one fails."""

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mcp_server.engine.preprocessing import describe_inputs, model_input
from mcp_server.errors import (
    InvalidArgumentError,
    LifecycleError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.progress import NoProgress
from mcp_server.settings import CacheSettings
from tests.engine.models import FEATURES, games
from tests.services.deployment_world import ANA, Deployed, rows

OLD, NEW = "winner@1.0.0", "winner@1.1.0"


@pytest.fixture
def serving(deployable: Deployed) -> Deployed:
    deployable.deploy()
    return deployable


def own_probabilities(world: Deployed, ref: str, n: int) -> list[float]:
    frame = games().head(n)
    model = world.models.load(ref)
    return [float(row[1]) for row in model.predict_proba(model_input(frame, describe_inputs(games(), FEATURES)))]


def test_an_answer_is_what_the_models_own_pipeline_says(serving: Deployed) -> None:
    answer = serving.predict(10, row_ids=[f"game-{i}" for i in range(10)])
    chances = [each.probabilities["True"] for each in answer.predictions if each.probabilities]
    assert chances == pytest.approx(own_probabilities(serving, OLD, 10), abs=1e-9)
    assert [each.prediction for each in answer.predictions] == [chance >= 0.5 for chance in chances]
    assert [each.row_id for each in answer.predictions] == [f"game-{i}" for i in range(10)]
    assert {each.model for each in answer.predictions} == {OLD}
    assert len({each.prediction_id for each in answer.predictions}) == 10
    assert (answer.revision, answer.warnings) == (1, [])


def test_every_answer_is_in_the_log_with_what_was_asked(serving: Deployed, clock: ManualClock) -> None:
    answer = serving.predict(2, row_ids=["a", "b"], key="ana")
    log = serving.logged()
    assert log["prediction_id"].to_list() == [each.prediction_id for each in answer.predictions]
    assert log["row_id"].to_list() == ["a", "b"]
    assert log["prediction"].to_list() == [each.prediction for each in answer.predictions]
    assert log["p_True"].to_list() == [(each.probabilities or {})["True"] for each in answer.predictions]
    assert log["elo"].to_list() == [row["elo"] for row in rows(2)]
    assert log["played"].to_list() == [row["played"] for row in rows(2)]
    assert set(log["route"]) == {"live"}
    assert set(log["time"]) == {clock.now()}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"rows": []}, InvalidArgumentError, "empty"),
        ({"rows": rows(1) * 101}, ResourceExhaustedError, "101"),
        ({"row_ids": ["a"]}, InvalidArgumentError, "1 row_ids for 3 rows"),
        ({"row_ids": ["a", "", "c"]}, InvalidArgumentError, "characters"),
        ({"rows": [rows(1)[0], {}]}, InvalidArgumentError, "Row 1 lacks 5 features"),
        ({"rows": [rows(1)[0] | {"elo": "high"}]}, InvalidArgumentError, "column 'elo': 'high'"),
        ({"rows": [rows(1)[0] | {"elo": float("nan")}]}, InvalidArgumentError, "finite"),
        ({"rows": [rows(1)[0] | {"elo": float("inf")}]}, InvalidArgumentError, "finite"),
        ({"key": "k" * 201}, InvalidArgumentError, "key must have"),
        ({"endpoint": "gamse"}, NotFoundError, "gamse"),
    ],
)
def test_what_cannot_be_answered_is_refused_and_leaves_nothing_in_the_log(
    serving: Deployed, changes: dict[str, Any], error: type[LifecycleError], message: str
) -> None:
    with pytest.raises(error, match=message):
        serving.predict(**changes)
    assert serving.logged().is_empty()
    assert len(serving.predict().predictions) == 3


def test_an_explained_answer_says_what_each_feature_adds_up_to_what_is_said(serving: Deployed) -> None:
    plain, explained = serving.predict(6), serving.predict(6, explain=True)

    assert [each.prediction for each in explained.predictions] == [each.prediction for each in plain.predictions]
    for each in explained.predictions:
        assert each.explanation is not None
        assert each.explanation_base is not None
        assert each.probabilities is not None
        assert set(each.explanation) == set(FEATURES)
        total = each.explanation_base + sum(each.explanation.values())
        assert total == pytest.approx(each.probabilities[str(each.prediction)], abs=1e-9)
    assert {each.explanation for each in plain.predictions} == {None}
    with pytest.raises(InvalidArgumentError, match="at most 20 rows"):
        serving.predict(21, explain=True)


def test_columns_that_the_model_does_not_take_are_named(serving: Deployed) -> None:
    answer = serving.predict(rows=[rows(1)[0] | {"crowd": 1}])
    assert answer.warnings == ["The model does not take, and did not use: crowd."]
    assert "crowd" not in serving.logged().columns


def test_traffic_is_divided_by_weight_and_a_key_stays_with_its_version(serving: Deployed) -> None:
    serving.start(options={"steps": [30, 60, 100]})
    shares = [each.model for _ in range(20) for each in serving.predict(50).predictions]
    assert 0.2 < shares.count(NEW) / len(shares) < 0.4

    def arms() -> dict[str, str]:
        return {key: serving.predict(1, key=key).predictions[0].model for key in map(str, range(60))}

    first = arms()
    assert set(first.values()) == {OLD, NEW}
    assert arms() == first
    serving.deployment.advance_rollout(caller=ANA, endpoint="games", force=True)
    second = arms()
    assert [key for key in first if first[key] == NEW and second[key] == OLD] == []


def test_a_bad_row_is_named_by_its_place_in_the_call_also_when_versions_share_it(serving: Deployed) -> None:
    serving.start(options={"steps": [50, 100]})
    given = rows(40)
    given[33]["rest"] = "two"
    with pytest.raises(InvalidArgumentError, match="Row 33"):
        serving.predict(rows=given)


def test_a_damaged_candidate_is_answered_for_by_the_live_version(serving: Deployed, tmp_path: Path) -> None:
    serving.start(options={"steps": [50, 100]})
    other = Deployed.again(serving)
    path = next(tmp_path.rglob(f"*{serving.models.resolve(NEW).model_artifact}"))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == serving.models.resolve(NEW).sha256
    path.chmod(0o644)
    path.write_bytes(b"something else")
    try:
        answers = [other.predict(20) for _ in range(6)]
        assert {each.model for answer in answers for each in answer.predictions} == {OLD}
        assert any("could not score" in warning for answer in answers for warning in answer.warnings)
        assert other.prediction.breaker(NEW) == "open"
        assert other.deployment.states() == {"games": "degraded"}
        failed = [each for each in other.deployment.describe_endpoint(endpoint="games").breaker if each.state == "open"]
        assert [each.model for each in failed] == [NEW]
        log = other.logged()
        assert log.filter(pl.col("error").is_not_null())["model"].unique().to_list() == [NEW]
        assert log.filter(pl.col("error").is_null()).height == 120
    finally:
        other.close()


def test_without_any_version_that_can_score_the_call_is_unavailable_and_the_failure_logged(
    serving: Deployed, tmp_path: Path
) -> None:
    other = Deployed.again(serving)
    path = next(tmp_path.rglob(f"*{serving.models.resolve(OLD).model_artifact}"))
    path.chmod(0o644)
    path.write_bytes(b"something else")
    try:
        with pytest.raises(UnavailableError, match="cannot score"):
            other.predict(2)
        assert other.logged()["error"].null_count() == 0
        assert len(serving.predict().predictions) == 3  # what is loaded goes on serving
    finally:
        other.close()


def test_mirrored_rows_are_scored_on_every_version_and_answered_once(serving: Deployed) -> None:
    serving.start(options={"steps": [50, 100], "mirror": True})
    answer = serving.predict(30, row_ids=[str(i) for i in range(30)])
    assert len(answer.predictions) == 30
    serving.wait_for_mirrors()
    log = serving.logged()
    assert log.group_by("row_id").len()["len"].unique().to_list() == [2]
    assert set(log["route"]) == {"live", "candidate", "mirror"}
    assert log.filter(pl.col("model") == NEW).height == 30
    outcome = [{"row_id": str(i), "outcome": i % 2 == 0} for i in range(30)]
    counted = serving.prediction.record_outcomes(caller=ANA, endpoint="games", outcomes=outcome)
    assert counted.recorded == 30
    assert serving.logged()["outcome"].null_count() == 0


def test_a_version_whose_file_is_damaged_later_goes_on_serving(
    serving: Deployed, clock: ManualClock, tmp_path: Path
) -> None:
    before = serving.predict(2)
    path = next(tmp_path.rglob(f"*{serving.models.resolve(OLD).model_artifact}"))
    path.chmod(0o644)
    path.write_bytes(b"something else")
    clock.advance(2 * CacheSettings().ttl_s)
    after = serving.predict(2)
    assert [each.probabilities for each in after.predictions] == [each.probabilities for each in before.predictions]
    assert (after.warnings, serving.prediction.breaker(OLD)) == ([], "closed")


def test_text_that_no_database_takes_is_answered_and_logged(serving: Deployed) -> None:
    row_id = "game\x00\ud800"
    serving.predict(rows=[rows(1)[0] | {"team": "\ud800\x00"}], row_ids=[row_id])
    assert serving.logged()["team"].to_list() == ["?\ufffd"]
    assert record(serving, [{"row_id": row_id, "outcome": True}]).recorded == 1


def test_another_server_sees_a_change_and_never_mixes_revisions(serving: Deployed) -> None:
    other = Deployed.again(serving)
    try:
        assert other.predict().revision == 1
        serving.deployment.set_traffic(caller=ANA, endpoint="games", weights={NEW: 100})
        other.routes.look()
        assert other.predict().revision == 2
        assert {each.model for each in other.predict().predictions} == {NEW}
        serving.deployment.delete_endpoint(caller=ANA, endpoint="games")
        other.routes.look()
        with pytest.raises(NotFoundError):
            other.predict()
    finally:
        other.close()


def score(world: Deployed, **arguments: Any) -> Any:
    call: dict[str, Any] = {"dataset": "games", "name": "scored"}
    return world.prediction.predict_dataset(caller=ANA, progress=NoProgress(), **(call | arguments))


@pytest.fixture
def with_games(serving: Deployed) -> Deployed:
    table = games().with_row_index("game")
    serving.datasets.write("games", table, source="a test", lineage={}, caller=ANA)
    return serving


def test_a_dataset_is_scored_by_a_model_as_its_pipeline_does(with_games: Deployed) -> None:
    scored = score(with_games, model=OLD)
    frame = with_games.datasets.read("scored")
    assert (scored.rows, frame.height) == (150, 150)
    assert frame["probability_True"].to_list() == pytest.approx(own_probabilities(with_games, OLD, 150), abs=1e-9)
    assert frame["prediction"].to_list() == [chance >= 0.5 for chance in frame["probability_True"]]
    assert frame.columns[-3:] == ["prediction", "probability_False", "probability_True"]
    assert with_games.logged().is_empty()


def test_a_dataset_is_scored_by_an_endpoint_routed_and_logged(with_games: Deployed) -> None:
    with_games.start(options={"steps": [50, 100]})
    score(with_games, endpoint="games", row_id_column="game")
    frame, log = with_games.datasets.read("scored"), with_games.logged()
    assert sorted(log["row_id"]) == sorted(str(i) for i in range(150))
    both = dict(zip(log["row_id"], log["p_True"], strict=True))
    assert [both[str(game)] for game in frame["game"]] == frame["probability_True"].to_list()
    assert set(log["model"]) == {OLD, NEW}


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({"column": "rest", "op": ">=", "value": 2}, pl.col("rest") >= 2),
        ([{"column": "team", "op": "in", "value": ["BOS", "LAL"]}], pl.col("team").is_in(["BOS", "LAL"])),
        ([{"column": "team", "op": "==", "value": None}], pl.col("team").is_null()),
        ([{"column": "played", "op": "<", "value": "2010-02-01"}], pl.col("played") < pl.date(2010, 2, 1)),
        (
            [{"column": "won", "op": "==", "value": True}, {"column": "elo", "op": "!=", "value": None}],
            pl.col("won") & pl.col("elo").is_not_null(),
        ),
    ],
)
def test_where_keeps_the_rows_it_says(with_games: Deployed, where: Any, kept: pl.Expr) -> None:
    assert score(with_games, model=OLD, where=where).rows == games().filter(kept).height


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, InvalidArgumentError, "either a model or an endpoint"),
        ({"model": OLD, "endpoint": "games"}, InvalidArgumentError, "either a model or an endpoint"),
        ({"model": OLD, "where": "rest > 2"}, InvalidArgumentError, "cannot be used"),
        ({"model": OLD, "where": [{"column": "rest", "op": "~", "value": 2}]}, InvalidArgumentError, "cannot be used"),
        ({"model": OLD, "where": [{"column": "rst", "op": "==", "value": 2}]}, InvalidArgumentError, "rst"),
        ({"model": OLD, "where": [{"column": "rest", "op": "==", "value": "2"}]}, InvalidArgumentError, "compared"),
        ({"model": OLD, "where": [{"column": "rest", "op": "==", "value": 9}]}, InvalidArgumentError, "No row"),
        ({"model": OLD, "row_id_column": "nobody"}, InvalidArgumentError, "nobody"),
        ({"endpoint": "games", "row_id_column": "team"}, InvalidArgumentError, "missing values"),
        ({"endpoint": "gamse"}, NotFoundError, "gamse"),
        ({"model": "winer"}, NotFoundError, "winer"),
        ({"model": OLD, "dataset": "game"}, NotFoundError, "game"),
    ],
)
def test_a_dataset_that_cannot_be_scored_is_refused(
    with_games: Deployed, arguments: dict[str, Any], error: type[LifecycleError], message: str
) -> None:
    with pytest.raises(error, match=message):
        score(with_games, **arguments)
    assert with_games.datasets.names() == ["games"]


def record(world: Deployed, outcomes: Any = None, **arguments: Any) -> Any:
    return world.prediction.record_outcomes(caller=ANA, endpoint="games", outcomes=outcomes, **arguments)


def test_outcomes_are_joined_by_prediction_or_row(serving: Deployed) -> None:
    ids = [each.prediction_id for each in serving.predict(3, row_ids=["a", "b", "c"]).predictions]
    first = record(
        serving,
        [
            {"prediction_id": ids[0], "outcome": True},
            {"row_id": "b", "outcome": 0},
            {"row_id": "c", "outcome": None},
            {"row_id": "z", "outcome": True},
        ],
    )
    assert (first.recorded, first.unknown, first.duplicates, first.updated, first.pending) == (2, 1, 0, 0, 1)
    assert first.unknown_examples == ["z"]
    again = record(serving, [{"row_id": "a", "outcome": True}, {"row_id": "b", "outcome": True}])
    assert (again.recorded, again.duplicates, again.updated) == (0, 1, 1)
    twice = record(serving, [{"row_id": "c", "outcome": True}, {"row_id": "c", "outcome": False}])
    assert (twice.recorded, twice.duplicates) == (1, 1)
    listed = serving.prediction.list_predictions(endpoint="games")
    assert {item.row_id: item.outcome for item in listed.items} == {"a": True, "b": True, "c": False}


def test_the_last_prediction_of_a_row_gets_its_outcome(serving: Deployed, clock: ManualClock) -> None:
    serving.predict(1, row_ids=["a"])
    clock.advance(1)
    last = serving.predict(1, row_ids=["a"]).predictions[0].prediction_id
    assert record(serving, [{"row_id": "a", "outcome": True}]).recorded == 1
    log = serving.logged().filter(pl.col("outcome").is_not_null())
    assert log["prediction_id"].to_list() == [last]


def test_times_that_name_rows_are_spelt_alike_when_outcomes_come(serving: Deployed, clock: ManualClock) -> None:
    times = [clock.now() + timedelta(hours=hour) for hour in range(games().height)]
    serving.datasets.write("games", games().with_columns(at=pl.Series(times)), source="a test", lineage={}, caller=ANA)
    score(serving, endpoint="games", row_id_column="at")
    counted = record(serving, dataset="games", row_id_column="at", outcome_column="won")
    assert (counted.recorded, counted.unknown) == (games()["won"].count(), 0)


def test_outcomes_come_from_a_dataset_too(with_games: Deployed) -> None:
    score(with_games, endpoint="games", row_id_column="game")
    counted = record(with_games, dataset="games", row_id_column="game", outcome_column="won")
    unknown = games()["won"].null_count()
    assert (counted.recorded, counted.pending, counted.unknown) == (150 - unknown, unknown, 0)
    assert with_games.log.count_outcomes("games") == 150 - unknown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either outcomes or a dataset"),
        ({"outcomes": [{"outcome": True}]}, "Outcome 0 needs one of"),
        ({"outcomes": [{"row_id": "a", "prediction_id": "b", "outcome": True}]}, "Outcome 0 needs one of"),
        ({"outcomes": [{"row_id": "a", "result": True}]}, "unknown field"),
        ({"outcomes": [{"row_id": "a"}]}, "no outcome"),
        ({"outcomes": [{"row_id": "a", "outcome": "banana"}]}, "banana"),
        ({"outcomes": [{"row_id": "a", "outcome": [1]}]}, "no plain value"),
        ({"dataset": "games", "row_id_column": "game"}, "outcome_column"),
        ({"dataset": "games", "row_id_column": "gam", "outcome_column": "won"}, "gam"),
        ({"dataset": "games", "row_id_column": "game", "outcome_column": "margin"}, "not what the model predicts"),
    ],
)
def test_outcomes_that_cannot_be_are_refused_as_a_whole(
    with_games: Deployed, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        record(with_games, **arguments)


def test_the_log_is_listed_newest_first_page_by_page(serving: Deployed, clock: ManualClock) -> None:
    for i in range(5):
        serving.predict(1, row_ids=[str(i)])
        clock.advance(60)
    record(serving, [{"row_id": "4", "outcome": True}])
    listing = serving.prediction.list_predictions
    first = listing(endpoint="games", limit=2)
    second = listing(endpoint="games", limit=2, cursor=first.next_cursor)
    assert [item.row_id for item in first.items + second.items] == ["4", "3", "2", "1"]
    assert [item.row_id for item in listing(endpoint="games", labelled=True).items] == ["4"]
    assert len(listing(endpoint="games", labelled=False).items) == 4
    assert listing(endpoint="games", since=clock.now()).items == []
    with pytest.raises(InvalidArgumentError, match="cursor"):
        listing(endpoint="games", cursor="abc")
    with pytest.raises(NotFoundError):
        listing(endpoint="gams")


def test_regressions_are_answered_with_numbers(deployable: Deployed) -> None:
    deployable.deploy("margin", "margins")
    answer = deployable.predict(2, endpoint="margins")
    assert all(isinstance(each.prediction, float) and each.probabilities is None for each in answer.predictions)
    assert deployable.logged("margins")["prediction"].dtype == pl.Float64
