"""Sampled Shapley values add up exactly, and come near the values that are known."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from mcp_server.engine.estimators import Building
from mcp_server.engine.local_surrogate import explain_locally
from mcp_server.engine.metrics import Task
from mcp_server.engine.pipelines import Trial, fit_trial, predict_output
from mcp_server.engine.preprocessing import describe_inputs, model_input
from mcp_server.engine.sampled_explanation import rows_frame, sampled_shapley, typed_rows
from tests.engine.test_pipelines import N_ROWS, mixed_columns, target_of

MEMBERS = [
    {"estimator": "logistic_regression", "params": {}},
    {"estimator": "naive_bayes", "params": {}},
]
OF_VALUES = [{"estimator": "ridge", "params": {}}, {"estimator": "knn", "params": {}}]
CASES: list[tuple[Task, str]] = [
    ("binary", "knn"),
    ("binary", "svm"),
    ("binary", "naive_bayes"),
    ("binary", "voting"),
    ("multiclass", "mlp"),
    ("multiclass", "stacking"),
    ("regression", "knn"),
    ("regression", "voting"),
    ("regression", "dummy"),
]


def fitted(task: Task, name: str) -> tuple[Any, Any, pl.DataFrame]:
    frame = mixed_columns()
    inputs = describe_inputs(frame, frame.columns)
    members = [] if name not in ("voting", "stacking") else OF_VALUES if task == "regression" else MEMBERS
    trial = Trial(0, name, {"hidden_layers": "8"} if name == "mlp" else {}, members)
    matrix, building = model_input(frame, inputs), Building(task, 0, N_ROWS)
    pipeline, _ = fit_trial(trial, inputs, matrix, target_of(frame, task), building)
    return pipeline, inputs, frame


@pytest.mark.parametrize(("task", "name"), CASES)
def test_the_values_of_any_model_add_up_to_what_it_says(task: Task, name: str) -> None:
    pipeline, inputs, frame = fitted(task, name)
    n_classes = {"binary": 2, "multiclass": 3, "regression": 0}[task]

    def said(rows: pl.DataFrame) -> Any:
        return predict_output(pipeline, model_input(rows, inputs), n_classes).reshape(rows.height, -1)

    rows = typed_rows(frame[:4], inputs)
    found = sampled_shapley(said, rows, typed_rows(frame, inputs), seed=0, evaluations=2000)

    np.testing.assert_allclose(found.base + found.values.sum(axis=1), said(rows), atol=1e-12)
    np.testing.assert_allclose(found.outputs, said(frame[:4]), atol=1e-12)
    again = sampled_shapley(said, rows, typed_rows(frame, inputs), seed=0, evaluations=2000)
    np.testing.assert_array_equal(found.values, again.values)


def test_a_sum_is_explained_by_its_parts_and_a_product_is_shared() -> None:
    rng = np.random.default_rng(0)
    usual = pl.DataFrame({name: rng.normal(size=25) for name in "abc"})
    row = pl.DataFrame({"a": [2.0], "b": [3.0], "c": [100.0]})

    def said(rows: pl.DataFrame) -> Any:
        return rows.select(pl.col("a") * 2 - pl.col("b")).to_numpy()

    found = sampled_shapley(said, row, usual, seed=0)
    parts = [2 * (2.0 - usual["a"].mean()), -(3.0 - usual["b"].mean()), 0.0]  # type: ignore[operator]
    np.testing.assert_allclose(found.values[0, :, 0], parts, atol=1e-12)

    zero = pl.DataFrame({"a": [0.0], "b": [0.0], "c": [0.0]})
    product = sampled_shapley(lambda rows: rows.select(pl.col("a") * pl.col("b")).to_numpy(), row, zero, seed=0)
    np.testing.assert_allclose(product.values[0, :, 0], [3.0, 3.0, 0.0], atol=1e-12)


def test_rows_of_a_call_and_of_a_dataset_become_the_same_frame() -> None:
    _, inputs, frame = fitted("binary", "naive_bayes")
    rows = [
        {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
        for row in frame[:10].iter_rows(named=True)
    ]
    assert rows_frame(rows, inputs).equals(typed_rows(frame[:10], inputs))


def test_lime_finds_the_feature_behind_the_target_and_its_line_adds_up() -> None:
    pytest.importorskip("lime")
    pipeline, inputs, frame = fitted("binary", "knn")
    matrix = model_input(frame, inputs)
    found = explain_locally(lambda rows: predict_output(pipeline, rows, 2), matrix.iloc[:2], matrix, 1, seed=0)
    assert [max(local.weights, key=lambda name: abs(local.weights[name])) for local in found] == ["number", "number"]
    assert all(0 <= local.r2 <= 1 for local in found)
