"""What a training admits: that features say nothing, that accuracy misleads, that groups are too few."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from mcp_server.results.training import TrainingResult
from mcp_server.runtime.progress import NoProgress
from tests.services.training_world import Stand

SAID = "the features say nothing about the target"
N_ROWS = 600
SEARCHED: dict[str, Any] = {
    "estimators": ["logistic_regression", "hist_gradient_boosting"],
    "search": "random",
    "trials": 4,
    "cv": 3,
}


def noise(task: str, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    targets = {
        "binary": rng.integers(0, 2, N_ROWS),
        "multiclass": rng.choice(["home", "away", "draw"], N_ROWS),
        "regression": rng.lognormal(size=N_ROWS),
    }
    return pl.DataFrame({"a": rng.normal(size=N_ROWS), "b": rng.normal(size=N_ROWS), "y": targets[task]})


def rare(seed: int, n_rows: int = 20_000, share: float = 0.005) -> pl.DataFrame:
    """One row in 200 is positive, and two of the features know something of it."""
    rng = np.random.default_rng(seed)
    y = np.zeros(n_rows, dtype=np.int64)
    y[rng.choice(n_rows, int(n_rows * share), replace=False)] = 1
    return pl.DataFrame(
        {
            "a": rng.normal(size=n_rows) + 3 * y,
            "b": rng.normal(size=n_rows) + 2 * y,
            "c": rng.normal(size=n_rows),
            "y": y,
        }
    )


def trained_on(stand: Stand, frame: pl.DataFrame, **arguments: Any) -> TrainingResult:
    stand.write("made", frame)
    features = [name for name in frame.columns if name in ("a", "b", "c")]
    return stand.train(**{"name": "made", "dataset": "made", "target": "y", "features": features} | arguments)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_target_of_pure_noise_is_called_noise_in_the_summary_and_in_a_warning(
    task: str, seed: int, stand: Stand
) -> None:
    linear = "ridge" if task == "regression" else "logistic_regression"
    result = trained_on(stand, noise(task, seed), **SEARCHED | {"estimators": [linear, "hist_gradient_boosting"]})
    assert result.task == task
    assert SAID in result.summary
    assert any(SAID in warning for warning in result.warnings)


def test_a_noise_score_that_looks_good_on_the_folds_of_the_search_is_called_luck(stand: Stand) -> None:
    result = trained_on(stand, noise("binary", 1), **SEARCHED, metric="accuracy")
    assert result.cv_score is not None
    assert result.cv_score > 0.5
    assert any(SAID in warning and "luck of the search" in warning for warning in result.warnings)


def test_noise_is_called_noise_for_a_metric_that_any_forecast_of_the_rare_class_lifts(stand: Stand) -> None:
    result = trained_on(stand, noise("binary", 1), metric="f1")
    assert SAID in result.summary


def test_a_signal_that_changes_no_answer_is_not_called_noise(stand: Stand) -> None:
    rng = np.random.default_rng(4)
    a = rng.normal(size=4000)
    y = (rng.uniform(size=4000) < 0.4 / (1 + np.exp(2 - 3 * a))).astype(int)  # never as likely as not
    result = trained_on(stand, pl.DataFrame({"a": a, "y": y}), metric="accuracy")
    assert result.baseline_comparison is not None
    assert result.baseline_comparison.verdict != "better"
    assert SAID not in result.summary
    assert not any(SAID in warning for warning in result.warnings)


def test_a_rare_class_is_found_by_a_model_trained_for_f1_and_accuracy_is_said_to_mislead(stand: Stand) -> None:
    result = trained_on(stand, rare(5), metric="f1", split={"kind": "stratified", "test_size": 0.25})
    metrics = {name: value or 0.0 for name, value in result.test_metrics.items()}
    assert metrics["recall"] >= 0.3
    assert metrics["precision"] >= 0.2
    assert result.threshold is not None
    assert result.threshold < 0.5
    assert result.threshold_metric == "f1"
    assert "Accuracy misleads" in result.summary
    assert "f1" in result.summary
    assert any(warning.startswith("Accuracy misleads") and "99.5%" in warning for warning in result.warnings)
    assert SAID not in result.summary


def test_the_threshold_of_a_model_divides_classes_the_same_way_wherever_it_is_used(stand: Stand) -> None:
    result = trained_on(stand, rare(5), metric="f1", split={"kind": "stratified", "test_size": 0.25})
    evaluated = stand.service.evaluate_model(progress=NoProgress(), model="made", dataset="made")
    assert evaluated.metrics == result.test_metrics
    assert evaluated.confusion_matrix is not None
    counts = np.array(evaluated.confusion_matrix.counts)
    assert counts[1, 1] / counts[1].sum() == pytest.approx(result.test_metrics["recall"])
    kept = stand.models.reference(stand.models.resolve("made"))
    said = kept["prediction"] == "1"
    assert result.threshold is not None
    assert said.to_list() == (kept["probability_1"] >= result.threshold).to_list()


def test_a_rare_class_that_no_answer_names_is_said_to_need_another_metric(stand: Stand) -> None:
    rng = np.random.default_rng(6)
    a = rng.normal(size=4000)
    y = (rng.uniform(size=4000) < 0.04 / (1 + np.exp(-a))).astype(int)
    result = trained_on(stand, pl.DataFrame({"a": a, "y": y}))
    assert result.threshold == 0.5
    assert result.test_metrics["recall"] == 0
    assert any("finds no row of the second class" in warning for warning in result.warnings)


@pytest.mark.parametrize(("n_groups", "warned"), [(12, True), (100, False)])
def test_a_split_that_leaves_few_groups_says_that_its_intervals_are_too_narrow(
    n_groups: int, warned: bool, stand: Stand
) -> None:
    rng = np.random.default_rng(7)
    group = np.arange(N_ROWS) % n_groups
    a = rng.normal(size=N_ROWS)
    frame = pl.DataFrame({"a": a, "team": group, "y": a + rng.normal(size=n_groups)[group]})
    split = {"kind": "group", "column": "team"}
    result = trained_on(stand, frame, estimators=["ridge"], split=split)
    assert any("intervals are too narrow" in warning for warning in result.warnings) is warned
