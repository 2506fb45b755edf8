"""Shapley values add up to the prediction, find what matters, and know which columns belong to a feature."""

import numpy as np
import pytest

from mcp_server.engine.estimators import Building
from mcp_server.engine.explanation import explains_exactly, shapley
from mcp_server.engine.metrics import Task
from mcp_server.engine.pipelines import Trial, fit_trial, predict_output
from mcp_server.engine.preprocessing import describe_inputs, model_input
from tests.engine.models import need_booster
from tests.engine.test_pipelines import N_ROWS, mixed_columns, target_of

CASES: list[tuple[Task, str]] = [
    ("binary", "logistic_regression"),
    ("binary", "hist_gradient_boosting"),
    ("binary", "random_forest"),
    ("multiclass", "logistic_regression"),
    ("multiclass", "extra_trees"),
    ("regression", "ridge"),
    ("regression", "hist_gradient_boosting"),
    ("binary", "lightgbm"),
    ("multiclass", "lightgbm"),
    ("regression", "lightgbm"),
    ("binary", "xgboost"),
    ("multiclass", "xgboost"),
    ("regression", "xgboost"),
]


@pytest.mark.parametrize(("task", "name"), CASES)
def test_values_add_up_to_the_output_and_the_feature_behind_the_target_leads(task: Task, name: str) -> None:
    need_booster(name)
    frame = mixed_columns()
    inputs = describe_inputs(frame, frame.columns)
    matrix = model_input(frame, inputs)
    trial = Trial(0, name, {"n_estimators": 20} if name.endswith(("forest", "trees")) else {})
    pipeline, _ = fit_trial(trial, inputs, matrix, target_of(frame, task), Building(task, 0, N_ROWS))
    assert explains_exactly(pipeline)
    found = shapley(pipeline, matrix.iloc[:50], matrix, inputs)
    assert found.features == frame.columns
    tolerance = 1e-5 if name == "xgboost" else 1e-6  # it explains in single precision
    np.testing.assert_allclose(found.base + found.values.sum(axis=1), found.outputs, atol=tolerance)
    weights = np.abs(found.values).mean(axis=(0, 2))
    assert found.features[int(weights.argmax())] == "number"
    if found.unit == "probability":
        chance = predict_output(pipeline, matrix.iloc[:50], 2 if task == "binary" else 3)
        np.testing.assert_allclose(found.outputs, chance[:, 1:] if task == "binary" else chance, atol=1e-9)


def test_neighbours_have_no_exact_explanation() -> None:
    frame = mixed_columns()
    inputs = describe_inputs(frame, ["number"])
    truth = target_of(frame, "binary")
    pipeline, _ = fit_trial(
        Trial(0, "knn", {}), inputs, model_input(frame, inputs), truth, Building("binary", 0, N_ROWS)
    )
    assert not explains_exactly(pipeline)
