"""Training through the service, on real stores: the plan, the result, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mcp_server.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    LifecycleError,
    NotFoundError,
    ResourceExhaustedError,
)
from mcp_server.runtime.progress import NoProgress
from mcp_server.settings import LimitSettings
from tests.services.training_world import CALLER, N_ROWS, Stand, games


def test_a_training_registers_a_model_with_honest_scores(trained: Stand) -> None:
    result = trained.train(name="honest", baseline="forecast")
    assert (result.model, result.version, result.task) == ("honest", "1.0.0", "binary")
    assert result.rows_train + result.rows_test == N_ROWS
    assert result.baseline == "forecast"
    assert [part.baseline for part in result.baselines] == ["forecast", "majority"]
    assert result.baseline_comparison is not None
    assert result.baseline_comparison.verdict in ("not_distinguishable", "worse")  # the forecast knows the truth
    assert "honest@1.0.0" in result.summary
    interval = result.test_intervals["log_loss"]
    score = result.test_metrics["log_loss"]
    assert score is not None
    assert interval.low < score < interval.high
    version = trained.models.resolve("honest")
    assert version.run_id == result.run_id
    assert version.signature.target == "won"
    assert [column.kind for column in version.signature.inputs] == ["numeric", "numeric", "category"]
    assert trained.models.reference(version).columns[:3] == ["rating", "rest", "venue"]
    assert "Model card: honest@1.0.0" in trained.models.card(version).html


def test_a_finish_that_runs_twice_registers_once(trained: Stand) -> None:
    plan = trained.plan(name="twice")
    history = [
        trained.service.run_trial(plan, trial, lambda: False) for trial in trained.service.ask_trials(plan, 0, [])
    ]
    finish = [
        trained.service.finish_training(caller=CALLER, job_id="job", plan=plan, history=history, progress=NoProgress())
        for _ in range(2)
    ]
    first, second = (result.model_dump(exclude={"card_report_uri"}) for result in finish)
    assert first == second
    assert finish[0].card_report_uri is not None
    assert [version.version for version in trained.models.versions("twice")] == ["1.0.0"]


def test_the_same_recipe_gives_a_patch_version_with_equal_predictions(trained: Stand) -> None:
    first, second, other = (
        trained.train(name="again"),
        trained.train(name="again"),
        trained.train(name="again", features=["rating"]),
    )
    assert (first.version, second.version, other.version) == ("1.0.0", "1.0.1", "2.0.0")
    kept = [trained.models.reference(f"again@{version}") for version in ("1.0.0", "1.0.1")]
    assert kept[0].equals(kept[1])


def test_a_time_split_scores_later_rows_only(trained: Stand) -> None:
    split = {"kind": "time", "column": "season", "train_from": 2002, "test_from": 2008}
    result = trained.train(name="later", split=split)
    assert result.rows_test == 2 * N_ROWS // 10


def test_all_columns_as_features_stop_on_the_points(stand: Stand) -> None:
    with pytest.raises(FailedPreconditionError) as refusal:
        stand.plan(features=None)
    assert set(refusal.value.details["columns"]) == {"points", "points_against"}
    assert "allow_features" in refusal.value.hint


def test_allowed_features_pass_the_leakage_check_with_a_warning(stand: Stand) -> None:
    plan = stand.plan(features=["points", "points_against"], allow_features=["points", "points_against"])
    assert any("allow_features" in warning for warning in plan["warnings"])


def test_a_forecast_column_is_a_model_of_its_own(trained: Stand) -> None:
    result = trained.train(name="column", estimators=["column:forecast"])
    assert result.features == ["forecast"]
    metrics = result.test_metrics
    assert metrics["log_loss"] is not None
    assert metrics["log_loss"] < 0.69


def test_a_voting_ensemble_is_made_of_the_best(trained: Stand) -> None:
    result = trained.train(name="voting", estimators=["logistic_regression", "naive_bayes", "voting"])
    assert {row.estimator for row in result.leaderboard} == {"logistic_regression", "naive_bayes", "voting"}


def test_pure_noise_is_called_noise(trained: Stand) -> None:
    rng = np.random.default_rng(3)
    trained.write("noise", pl.DataFrame({"x": rng.normal(size=500), "y": rng.integers(0, 2, 500)}))
    result = trained.train(name="noise", dataset="noise", target="y", features=["x"])
    assert any("say nothing about the target" in warning for warning in result.warnings)


def with_column(name: str, change: Callable[[pl.Expr], pl.Expr]) -> pl.DataFrame:
    return games().with_columns(change(pl.col(name)).alias(name))


BAD_REQUESTS: list[tuple[dict[str, Any], type[LifecycleError], str]] = [
    ({"target": "wonn"}, InvalidArgumentError, "won"),
    ({"features": ["ratings"]}, InvalidArgumentError, "rating"),
    ({"features": ["rating", "won"]}, InvalidArgumentError, "contains the target"),
    ({"features": []}, InvalidArgumentError, "No column is left"),
    ({"dataset": "gamse"}, NotFoundError, "games"),
    ({"trials": 0}, InvalidArgumentError, "trials must be"),
    ({"cv": 1}, InvalidArgumentError, "cv must be"),
    ({"estimators": ["logistic"]}, InvalidArgumentError, "unknown"),
    ({"estimators": ["ridge"]}, InvalidArgumentError, "does not fit a binary task"),
    ({"estimators": []}, InvalidArgumentError, "empty"),
    ({"estimators": ["column:nothing"]}, InvalidArgumentError, "not a column"),
    ({"estimators": ["column:points"]}, InvalidArgumentError, "no probability"),
    ({"metric": "acuracy"}, InvalidArgumentError, "unknown"),
    ({"metric": "rmse"}, InvalidArgumentError, "does not fit a binary task"),
    ({"task": "regression", "target": "venue"}, InvalidArgumentError, "numeric target"),
    ({"task": "binary", "target": "season"}, InvalidArgumentError, "two classes"),
    ({"split": {"kind": "time"}}, InvalidArgumentError, "needs split.column"),
    ({"split": {"kind": "time", "column": "seasn"}}, InvalidArgumentError, "season"),
    ({"split": {"kind": "time", "column": "season", "test_from": 2050}}, InvalidArgumentError, "held-out"),
    ({"split": {"kind": "weekly"}}, InvalidArgumentError, "unknown"),
    ({"split": {"test_size": 2}}, InvalidArgumentError, "between 0 and 1"),
    ({"split": {"kind": "random", "size": 0.2}}, InvalidArgumentError, "no field"),
    ({"baseline": "forecst"}, InvalidArgumentError, "forecast"),
    ({"baseline": "points"}, InvalidArgumentError, "no probability"),
    ({"baseline": "venue"}, InvalidArgumentError, "a baseline is a number"),
    ({"search_space": {}}, InvalidArgumentError, "empty"),
    ({"search_space": {"logistic_regression": {}}}, InvalidArgumentError, "empty"),
    ({"search_space": {"logistic_regression": {"c": [1]}}}, InvalidArgumentError, "no parameter"),
    ({"search_space": {"logistic_regression": {"C": {"low": 2, "high": 1}}}}, InvalidArgumentError, "range"),
    ({"class_weight": "heavy"}, InvalidArgumentError, "class_weight"),
    ({"missing_target": "ignore"}, InvalidArgumentError, "missing_target"),
    ({"time_budget_seconds": -1}, InvalidArgumentError, "above 0"),
    ({"allow_features": ["nothing"]}, InvalidArgumentError, "not a column"),
    ({"colour": "red"}, InvalidArgumentError, "colour"),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD_REQUESTS, ids=[str(case[0])[:60] for case in BAD_REQUESTS])
def test_bad_requests_are_refused_in_words(
    stand: Stand, change: dict[str, Any], error: type[LifecycleError], words: str
) -> None:
    with pytest.raises(error) as refusal:
        stand.plan(**change)
    assert words in f"{refusal.value.message} {refusal.value.hint}"
    assert type(refusal.value) is error


BAD_DATA: list[tuple[str, Callable[[], pl.DataFrame], str]] = [
    ("constant target", lambda: with_column("won", lambda c: c * 0), "constant"),
    ("no target at all", lambda: with_column("won", lambda c: pl.lit(None, pl.Int64)), "missing in every row"),
    ("two rows", lambda: games()[[0, 1]].with_columns(won=pl.Series([0, 1])), "too few"),
    ("a class a row", lambda: with_column("won", lambda c: pl.lit("c") + pl.col("game")), "too many classes"),
    ("infinite values", lambda: with_column("rating", lambda c: c / 0), "infinite"),
    ("huge values", lambda: with_column("rating", lambda c: c * 1e308), "infinite"),
]


@pytest.mark.parametrize(("frame", "words"), [case[1:] for case in BAD_DATA], ids=[case[0] for case in BAD_DATA])
def test_data_that_cannot_be_trained_on_is_refused(stand: Stand, frame: Callable[[], pl.DataFrame], words: str) -> None:
    stand.write("bad", frame())
    with pytest.raises(InvalidArgumentError, match=words):
        stand.plan(dataset="bad")


def test_rows_without_a_target_need_a_decision(stand: Stand) -> None:
    stand.write("gaps", with_column("won", lambda c: pl.when(pl.int_range(pl.len()) < 50).then(None).otherwise(c)))
    with pytest.raises(InvalidArgumentError) as refusal:
        stand.plan(dataset="gaps")
    assert "missing_target" in refusal.value.hint
    plan = stand.plan(dataset="gaps", missing_target="drop")
    assert plan["rows_unlabelled"] == 50


def test_a_name_belongs_to_one_kind_of_model(trained: Stand) -> None:
    trained.train(name="kinds")
    with pytest.raises(AlreadyExistsError, match="kinds"):
        trained.plan(name="kinds", target="points", task="regression", features=["rating"], estimators=["ridge"])


def test_a_suite_must_pass_before_the_fit(stand: Stand) -> None:
    stand.suites = {"strict": False, "kind": True}
    with pytest.raises(FailedPreconditionError, match="strict"):
        stand.plan(suite="strict")
    assert stand.plan(suite="kind")["recipe"]["suite"] == "kind@1"


def test_more_values_than_the_limit_are_refused_with_advice(stand: Stand) -> None:
    service = stand.make(LimitSettings(max_training_cells=100))
    with pytest.raises(ResourceExhaustedError, match="400 rows × 9 columns are more than the 100 values") as refusal:
        service.plan_training(caller=CALLER, job_id="job", name="winner", dataset="games", target="won")
    assert "transform_dataset" in refusal.value.hint
    assert "NBA_MCP_LIMITS__MAX_TRAINING_CELLS" in refusal.value.hint


def test_checks_without_a_fit_name_leaks_and_what_is_left_without_them(stand: Stand) -> None:
    found = stand.service.check_training_data(progress=NoProgress(), dataset="games", target="won")
    assert found.verdict == "fixable"
    leak = next(finding for finding in found.findings if finding.kind == "pair_leak")
    assert set(leak.columns) == {"points", "points_against"}
    assert leak.score_without is not None
    assert leak.score_without < 0.9
    clean = stand.service.check_training_data(
        progress=NoProgress(), dataset="games", target="won", features=["rating", "rest"]
    )
    assert clean.verdict == "ready"


def test_checks_with_a_model_count_the_rows_it_was_trained_on(trained: Stand) -> None:
    found = trained.service.check_training_data(
        progress=NoProgress(), dataset="games", target="won", model="winner@1.0.0"
    )
    assert trained.first is not None
    assert found.shared_rows == trained.first.rows_train


def test_evaluation_leaves_out_the_rows_the_model_was_trained_on(trained: Stand) -> None:
    first = trained.first
    assert first is not None
    result = trained.service.evaluate_model(progress=NoProgress(), model="winner@1.0.0", dataset="games")
    assert result.rows == first.rows_test
    assert result.metrics["log_loss"] == pytest.approx(first.test_metrics["log_loss"])
    assert result.warnings
    trained.write("later", games(seed=9))
    fresh = trained.service.evaluate_model(progress=NoProgress(), model="winner@1.0.0", dataset="later")
    assert fresh.rows == N_ROWS
    assert fresh.confusion_matrix is not None
    assert sum(map(sum, fresh.confusion_matrix.counts)) == N_ROWS
    assert fresh.report_uri is not None
    assert trained.reports.load(fresh.report_uri.removeprefix("report://")).title == "winner@1.0.0 on later@1"


def test_explanations_of_single_rows_add_up(trained: Stand) -> None:
    result = trained.service.explain_model(progress=NoProgress(), model="winner@1.0.0", dataset="games", rows=[0, 7])
    assert result.importances[0].feature == "rating"
    assert [row.row for row in result.explanations] == [0, 7]
    for row in result.explanations:
        total = row.base_value + row.others + sum(part.contribution for part in row.contributions)
        assert total == pytest.approx(row.output)


def test_comparing_a_model_with_the_forecast_behind_the_truth_finds_no_gain(trained: Stand) -> None:
    result = trained.service.compare_models(
        progress=NoProgress(), models=["winner@1.0.0", "column:forecast"], dataset="games"
    )
    first = result.differences[0]
    assert first.verdict == "not_distinguishable"
    assert [(part.metric, part.test) for part in result.differences] == [
        ("log_loss", "paired bootstrap"),
        ("accuracy", "mcnemar exact"),
    ]
    assert all(part.p_adjusted == part.p_value for part in result.differences)  # one pair: nothing to adjust for
    assert {part.model for part in result.ranking} == {"winner@1.0.0", "column:forecast"}


def test_comparing_records_says_so_and_names_what_differs(trained: Stand) -> None:
    result = trained.service.compare_models(progress=NoProgress(), models=["winner@1.0.0", "winner@2.0.0"])
    assert result.warnings
    assert [part.field for part in result.recipe_differences] == ["features", "baseline"]


@pytest.mark.parametrize(
    ("file", "error", "words"),
    [
        ("target_all_missing", InvalidArgumentError, "missing in every row"),
        ("target_unique_per_row", InvalidArgumentError, "60 different values in 60 rows"),
        ("leak_copy_of_target", FailedPreconditionError, "'copy'"),
    ],
)
def test_files_that_are_known_to_be_bad_are_refused(
    stand: Stand, shared_data: Path, file: str, error: type[LifecycleError], words: str
) -> None:
    stand.write("bad", pl.read_csv(shared_data / "bad_inputs" / "ml" / f"{file}.csv"))
    with pytest.raises(error, match=words):
        stand.plan(dataset="bad", target="y", features=None)
