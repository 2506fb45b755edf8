"""Probabilities are corrected where that helps, and left alone where it does not."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mcp_server.engine.estimators import Building
from mcp_server.engine.final_fit import finish_in_child
from mcp_server.engine.metrics import METRICS, Truth, score
from mcp_server.engine.model_files import dump_model, load_model
from mcp_server.engine.pipelines import Trial, fit_trial, predict_output
from mcp_server.engine.predictions import Signature
from mcp_server.engine.preprocessing import describe_inputs, model_input
from mcp_server.engine.recalibration import OutOfFold, choose_correction, corrected_pipeline, out_of_fold, uncorrected
from mcp_server.engine.scoring import build_scorer
from mcp_server.engine.splits import Split
from mcp_server.engine.training import TrainingSpec, divide

N_ROWS = 2400
FEATURES = ["a", "b", "c", "d"]


def made(n_classes: int = 2, seed: int = 0, n_rows: int = N_ROWS) -> pl.DataFrame:
    """Four features that tell the same thing: naive Bayes counts it four times and is far too sure."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(n_rows, n_classes))
    y = (signal + rng.gumbel(size=signal.shape)).argmax(axis=1)
    told = signal[:, -1] - signal[:, 0]
    columns = {name: told + 0.05 * rng.normal(size=n_rows) for name in FEATURES}
    return pl.DataFrame(columns | {"season": np.arange(n_rows) * 30 // n_rows, "team": np.arange(n_rows) % 60, "y": y})


def spec_of(frame: pl.DataFrame, metric: str = "log_loss", split: Split | None = None) -> TrainingSpec:
    n_classes = frame["y"].n_unique()
    return TrainingSpec(
        task="binary" if n_classes == 2 else "multiclass",
        target="y",
        features=FEATURES,
        inputs=describe_inputs(frame, FEATURES),
        column_inputs=[],
        classes=list(range(n_classes)),
        metric=metric,
        split=split or Split("random", 0.25),
        cv=4,
        class_weight=None,
        baselines=[],
        seed=0,
    )


def corrected(estimator: str, frame: pl.DataFrame, split: Split | None = None) -> tuple[str, Any, Any, Truth, Any]:
    """Return the method, the pipeline before and after, and the held-out rows with their truth."""
    spec = spec_of(frame, split=split)
    rows, trial = divide(frame, spec), Trial(0, estimator, {})
    matrix, truth = model_input(rows.frame[rows.train], spec.inputs), rows.truth[rows.train]
    pipeline, _ = fit_trial(trial, spec.inputs, matrix, truth, Building(spec.task, 0, len(truth), None, 4))
    found = out_of_fold(trial, spec, rows, None)
    assert found is not None
    correction = choose_correction(found)
    assert correction is not None
    after = pipeline if correction.method == "none" else corrected_pipeline(pipeline, correction.method, found)
    return correction.method, pipeline, after, rows.truth[rows.test], model_input(rows.frame[rows.test], spec.inputs)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("split", [Split("random", 0.25), Split("time", 0.25, "season"), Split("group", 0.25, "team")])
def test_a_model_that_is_too_sure_is_corrected_and_better_on_rows_it_has_not_seen(n_classes: int, split: Split) -> None:
    method, before, after, truth, matrix = corrected("naive_bayes", made(n_classes), split)
    assert method in ("sigmoid", "isotonic", "temperature")
    losses = [score(METRICS["log_loss"], truth, predict_output(model, matrix, n_classes)) for model in (before, after)]
    assert losses[0] is not None
    assert losses[1] is not None
    assert losses[1] < 0.8 * losses[0]


def test_a_model_whose_probabilities_are_right_is_left_alone() -> None:
    methods = [corrected("logistic_regression", made(seed=seed))[0] for seed in range(5)]
    assert methods.count("none") >= 4


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_corrected_model_is_saved_and_loaded_with_equal_predictions(n_classes: int) -> None:
    _, _, after, _, matrix = corrected("naive_bayes", made(n_classes))
    data = dump_model(after)
    loaded = load_model(data, hashlib.sha256(data).hexdigest())
    assert loaded.predict_proba(matrix).tobytes() == after.predict_proba(matrix).tobytes()


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_curves_of_either_kind_sum_to_one_and_never_say_never(method: str) -> None:
    frame = made()
    spec = spec_of(frame)
    rows, trial = divide(frame, spec), Trial(0, "naive_bayes", {})
    found = out_of_fold(trial, spec, rows, None)
    assert found is not None
    matrix, truth = model_input(rows.frame[rows.train], spec.inputs), rows.truth[rows.train]
    pipeline, _ = fit_trial(trial, spec.inputs, matrix, truth, Building(spec.task, 0, len(truth), None, 4))
    output = predict_output(corrected_pipeline(pipeline, method, found), matrix * 100, 2)
    assert np.allclose(output.sum(axis=1), 1)
    assert output.min() > 0


@pytest.mark.parametrize(("estimator", "path"), [("logistic_regression", "linear"), ("random_forest", "prepared")])
def test_a_corrected_model_keeps_its_fast_scorer_and_its_inner_model(estimator: str, path: str) -> None:
    frame = made(n_rows=600)
    spec = spec_of(frame)
    matrix, truth = model_input(frame, spec.inputs), frame["y"].to_numpy()
    pipeline, _ = fit_trial(Trial(0, estimator, {}), spec.inputs, matrix, truth, Building("binary", 0, 600, None, 4))
    found = out_of_fold(Trial(0, estimator, {}), spec, divide(frame, spec), None)
    assert found is not None
    after = corrected_pipeline(pipeline, "sigmoid", found)
    assert list(after.named_steps) == ["columns", "model"]
    assert uncorrected(after[-1]) is pipeline[-1]
    scorer = build_scorer(after, Signature(spec.inputs, "y", "binary", [0, 1]), frame)
    assert scorer.path == path
    said = scorer.predict(frame.head(50).select(FEATURES).to_dicts()).probabilities
    assert said is not None
    assert np.abs(said - after.predict_proba(matrix.head(50))).max() < 1e-9


def test_no_curve_is_fitted_on_few_rows_and_no_rows_are_kept_out_where_nothing_is_chosen_on_them() -> None:
    frame = made(n_rows=120)
    found = out_of_fold(Trial(0, "naive_bayes", {}), spec_of(frame, "f1"), divide(frame, spec_of(frame, "f1")), None)
    assert found is not None
    assert choose_correction(found) is None
    assert out_of_fold(Trial(0, "naive_bayes", {}), spec_of(frame), divide(frame, spec_of(frame)), None) is None


def test_rows_out_of_fold_of_a_time_split_are_later_than_those_their_fit_had() -> None:
    frame = made()
    split = Split("time", 0.25, "season")
    spec = spec_of(frame, split=split)
    rows = divide(frame, spec)
    found = out_of_fold(Trial(0, "naive_bayes", {}), spec, rows, None)
    assert found is not None
    seasons = frame["season"].to_numpy()[rows.train]
    assert seasons[found.rows].min() > seasons.min()  # the first block only fits
    for part in np.unique(found.parts)[1:]:
        earlier, here = (seasons[found.rows[place]] for place in (found.parts < part, found.parts == part))
        assert earlier.max() < here.min()


def test_a_gain_that_hangs_on_few_clusters_is_not_clear() -> None:
    rng = np.random.default_rng(0)
    n_rows, n_groups = 900, 6
    group = np.arange(n_rows) % n_groups
    truth = (rng.uniform(size=n_rows) < np.where(group == 0, 0.95, 0.5)).astype(np.int64)
    said = np.full(n_rows, 0.5)
    output, response = np.column_stack([1 - said, said]), (rng.normal(size=n_rows) + (group == 0))[:, None]
    parts = np.arange(n_rows) // n_groups % 3
    alone = OutOfFold(np.arange(n_rows), parts, truth, response, output)
    together = OutOfFold(np.arange(n_rows), parts, truth, response, output, group)
    methods = [choose_correction(found) for found in (alone, together)]
    assert methods[0] is not None
    assert methods[1] is not None
    assert (methods[0].method, methods[1].method) == ("sigmoid", "none")


@pytest.mark.parametrize(("patience_s", "corrected_"), [(1e-9, False), (600.0, True)])
def test_fits_that_take_too_long_to_repeat_leave_the_model_as_it_is_and_say_so(
    patience_s: float, corrected_: bool, tmp_path: Path
) -> None:
    frame = made()
    frame.write_parquet(tmp_path / "made.parquet")
    places = {f"{name}_path": str(tmp_path / name) for name in ("model", "reference", "held_out")}
    spec, trial = spec_of(frame).to_document(), Trial(0, "naive_bayes", {}).to_document()
    given = {"path": str(tmp_path / "made.parquet"), "spec": spec, "trial": trial, "patience_s": patience_s}
    found = finish_in_child(given | places)
    assert (found["correction"] is not None) is corrected_
    assert any("take too long" in note for note in found["notes"]) is not corrected_
