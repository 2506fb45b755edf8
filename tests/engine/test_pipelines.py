"""Every estimator of the contract can be fitted on mixed columns, saved, loaded, and predicts the same."""

import hashlib
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.datasets import make_friedman1

from mcp_server.engine.estimators import ENSEMBLES, FAMILIES, Building, automatic_families
from mcp_server.engine.metrics import Task
from mcp_server.engine.model_files import dump_model, load_model
from mcp_server.engine.pipelines import Trial, column_output, fit_trial, predict_output
from mcp_server.engine.preprocessing import describe_inputs, model_input
from mcp_server.errors import InvalidArgumentError
from tests.engine.models import need_booster

N_ROWS = 240
TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
CASES = [(task, name) for task in TASKS for name, family in FAMILIES.items() if task in family.tasks]
MEMBERS: dict[str, list[dict[str, Any]]] = {
    "binary": [
        {"estimator": "logistic_regression", "params": {"C": 1.0}},
        {"estimator": "hist_gradient_boosting", "params": {"max_iter": 20}},
    ],
    "multiclass": [
        {"estimator": "naive_bayes", "params": {}},
        {"estimator": "extra_trees", "params": {"n_estimators": 10}},
    ],
    "regression": [
        {"estimator": "ridge", "params": {"alpha": 1.0}},
        {"estimator": "random_forest", "params": {"n_estimators": 10}},
    ],
}


def mixed_columns(seed: int = 0) -> pl.DataFrame:
    """Numbers with gaps, a truth value, words with gaps, and dates with a gap."""
    rng = np.random.default_rng(seed)
    start = pl.date(2015, 1, 1)
    frame = pl.select(day=pl.date_range(start, start + pl.duration(days=N_ROWS - 1)))
    return frame.with_columns(
        number=pl.Series(rng.normal(size=N_ROWS)),
        gaps=pl.Series([None if x < 0.2 else x for x in rng.uniform(size=N_ROWS)]),
        truth=pl.Series([None if x < 0.1 else x < 0.5 for x in rng.uniform(size=N_ROWS)]),
        word=pl.Series(rng.choice(np.array(["home", "away", "neutral", None], dtype=object), N_ROWS).tolist()),
        day=pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(pl.col("day")),
    )


def target_of(frame: pl.DataFrame, task: Task) -> NDArray[Any]:
    signal = frame["number"].to_numpy() + (frame["word"] == "home").fill_null(False).to_numpy()
    if task == "regression":
        return np.asarray(signal)
    return np.asarray(np.digitize(signal, [0.0] if task == "binary" else [-0.5, 0.8]), dtype=np.int64)


@pytest.mark.parametrize(("task", "name"), CASES)
def test_every_estimator_takes_mixed_columns_and_predicts_the_same_after_saving_also_what_it_never_saw(
    task: Task, name: str
) -> None:
    need_booster(name)
    frame = mixed_columns()
    inputs = describe_inputs(frame, frame.columns)
    matrix, truth = model_input(frame, inputs), target_of(frame, task)
    defaults = {part.name: part.default for part in FAMILIES[name].space}
    pipeline, _ = fit_trial(Trial(0, name, defaults), inputs, matrix, truth, Building(task, 0, N_ROWS))
    n_classes = {"binary": 2, "multiclass": 3, "regression": 0}[task]
    output = predict_output(pipeline, matrix, n_classes)
    assert np.isfinite(output).all()
    assert output.shape == ((N_ROWS,) if task == "regression" else (N_ROWS, n_classes))
    data = dump_model(pipeline)
    loaded = load_model(data, hashlib.sha256(data).hexdigest())
    np.testing.assert_array_equal(predict_output(loaded, matrix, n_classes), output)
    strange = frame.with_columns(word=pl.lit("never seen"), number=pl.lit(None, pl.Float64), day=pl.lit(None, pl.Date))
    unseen = predict_output(pipeline, model_input(strange, inputs), n_classes)
    assert np.isfinite(unseen).all()
    np.testing.assert_array_equal(predict_output(loaded, model_input(strange, inputs), n_classes), unseen)


@pytest.mark.parametrize("name", sorted(name for name, family in FAMILIES.items() if "binary" in family.tasks))
def test_balanced_classes_raise_what_a_rare_class_is_given_or_the_fit_says_that_it_cannot(name: str) -> None:
    need_booster(name)
    rng = np.random.default_rng(0)
    number = rng.normal(size=600)
    truth = (number + rng.normal(size=600) > 2.2).astype(np.int64)  # one in seventeen
    frame = pl.DataFrame({"number": number})
    inputs = describe_inputs(frame, ["number"])
    matrix = model_input(frame, inputs)
    defaults = {part.name: part.default for part in FAMILIES[name].space}
    mean, notes = {}, {}
    for weight in (None, "balanced"):
        building = Building("binary", 0, 600, weight, 1)
        pipeline, notes[weight] = fit_trial(Trial(0, name, defaults), inputs, matrix, truth, building)
        mean[weight] = predict_output(pipeline, matrix, 2)[:, 1].mean()
    said = [note for note in notes["balanced"] if "cannot weigh classes" in note]
    assert not any("cannot weigh" in note for note in notes[None])
    if FAMILIES[name].weighs_classes:
        assert not said
    else:
        assert said == [f"{name} cannot weigh classes: class_weight=balanced was not used there."]
        assert mean["balanced"] == mean[None]
    if FAMILIES[name].weighs_classes and name != "svm":  # its probabilities are fitted again on the shares there are
        assert mean["balanced"] > 2 * mean[None]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ENSEMBLES)
def test_ensembles_of_other_estimators_can_be_saved(task: Task, name: str) -> None:
    frame = mixed_columns()
    inputs = describe_inputs(frame, frame.columns)
    matrix, truth = model_input(frame, inputs), target_of(frame, task)
    trial = Trial(0, name, {}, MEMBERS[task])
    pipeline, _ = fit_trial(trial, inputs, matrix, truth, Building(task, 0, N_ROWS))
    n_classes = {"binary": 2, "multiclass": 3, "regression": 0}[task]
    data = dump_model(pipeline)
    loaded = load_model(data, hashlib.sha256(data).hexdigest())
    expected = predict_output(pipeline, matrix, n_classes)
    np.testing.assert_array_equal(predict_output(loaded, matrix, n_classes), expected)


def test_a_class_that_a_fold_lacks_gets_probability_zero() -> None:
    frame = mixed_columns()
    inputs = describe_inputs(frame, ["number"])
    truth = np.where(frame["number"].to_numpy() > 0, 2, 0)  # class 1 is never seen
    pipeline, _ = fit_trial(
        Trial(0, "naive_bayes", {}), inputs, model_input(frame, inputs), truth, Building("multiclass", 0, N_ROWS)
    )
    output = predict_output(pipeline, model_input(frame, inputs), 3)
    assert (output[:, 1] == 0).all()
    np.testing.assert_allclose(output.sum(axis=1), 1.0)


def forecast_frame() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    values = [None, *rng.uniform(0.01, 0.99, N_ROWS - 1).tolist()]
    return pl.DataFrame({"elo_forecast": values})


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_column_as_estimator_forecasts_its_own_value_also_after_saving(task: Task) -> None:
    frame = forecast_frame()
    inputs = describe_inputs(frame, ["elo_forecast"])
    truth = (np.arange(N_ROWS) % 3 == 0).astype(np.int64)
    trial = Trial(0, "column:elo_forecast", {})
    fitted, _ = fit_trial(trial, inputs, model_input(frame, inputs), truth, Building(task, 0, N_ROWS))
    data = dump_model(fitted)
    loaded = load_model(data, hashlib.sha256(data).hexdigest())
    output = predict_output(loaded, model_input(frame, inputs), 2 if task == "binary" else 0)
    forecast = output[:, 1] if task == "binary" else output
    np.testing.assert_allclose(forecast[1:], frame["elo_forecast"].to_numpy()[1:], rtol=0, atol=1e-12)
    assert forecast[0] == pytest.approx(truth.mean())  # a gap: what happened on average


def test_a_column_that_is_no_probability_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="no probability"):
        column_output("rating", np.array([1500.0, 1600.0]), 2, 0.5)


def test_a_fit_that_does_not_converge_says_so() -> None:
    frame = mixed_columns()
    inputs = describe_inputs(frame, frame.columns)
    trial = Trial(0, "mlp", {"hidden_layers": "4", "learning_rate_init": 1e-4})
    _, notes = fit_trial(
        trial, inputs, model_input(frame, inputs), target_of(frame, "binary"), Building("binary", 0, N_ROWS)
    )
    assert notes == ["mlp did not converge in its iterations."]


@pytest.mark.parametrize("name", ["logistic_regression", "hist_gradient_boosting", "random_forest", "voting"])
def test_a_column_without_a_value_in_the_training_part_does_not_fail_there_or_later(name: str) -> None:
    frame = mixed_columns().with_columns(late=pl.lit(None, pl.Float64), never=pl.lit(None))
    inputs = describe_inputs(frame, frame.columns)
    trial = Trial(0, name, {}, MEMBERS["binary"] if name == "voting" else [])
    pipeline, _ = fit_trial(
        trial, inputs, model_input(frame, inputs), target_of(frame, "binary"), Building("binary", 0, N_ROWS)
    )
    later = frame.with_columns(late=pl.lit(1.0))
    assert np.isfinite(predict_output(pipeline, model_input(later, inputs), 2)).all()


@pytest.mark.parametrize("name", ["logistic_regression", "hist_gradient_boosting"])
def test_rows_outside_the_training_part_do_not_change_what_was_fitted(name: str) -> None:
    frame = mixed_columns()
    part = pl.int_range(pl.len()) < 180
    changed = frame.with_columns(
        number=pl.when(part).then("number").otherwise(pl.lit(1e9)),
        word=pl.when(part).then("word").otherwise(pl.lit("only held out")),
    )
    truth = target_of(frame, "binary")[:180]
    files = []
    for version in (frame, changed):
        inputs = describe_inputs(version, version.columns)
        matrix = model_input(version, inputs).head(180)
        pipeline, _ = fit_trial(Trial(0, name, {}), inputs, matrix, truth, Building("binary", 0, 180))
        files.append(predict_output(pipeline, matrix, 2).tobytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("name", ["svm", "mlp"])
def test_the_unit_of_a_numeric_target_does_not_change_how_much_is_learned(name: str) -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"a": rng.normal(size=600), "b": rng.normal(size=600)})
    inputs = describe_inputs(frame, frame.columns)
    matrix = model_input(frame, inputs)
    truth = 50_000 + 10_000 * (frame["a"] + frame["b"] ** 2).to_numpy()
    defaults = {part.name: part.default for part in FAMILIES[name].space}
    pipeline, _ = fit_trial(Trial(0, name, defaults), inputs, matrix, truth, Building("regression", 0, 600, None, 2))
    left = truth - predict_output(pipeline, matrix, 0)
    assert left.var() < 0.15 * truth.var()


def test_a_family_of_auto_comes_near_the_ceiling_of_a_known_function_before_any_search() -> None:
    frame = pl.DataFrame(make_friedman1(6000, noise=1.0, random_state=0)[0], schema=[f"x{i}" for i in range(10)])
    truth = make_friedman1(6000, noise=1.0, random_state=0)[1]
    inputs = describe_inputs(frame, frame.columns)
    matrix, ceiling = model_input(frame, inputs), 1 - 1 / truth[3000:].var()
    best = 0.0
    for name in automatic_families("regression", 3000):
        trial = Trial(0, name, {part.name: part.default for part in FAMILIES[name].space})
        building = Building("regression", 0, 3000, None, 10)
        pipeline, _ = fit_trial(trial, inputs, matrix.head(3000), truth[:3000], building)
        best = max(best, 1 - (truth - predict_output(pipeline, matrix, 0))[3000:].var() / truth[3000:].var())
    assert ceiling - 0.04 < best < ceiling
