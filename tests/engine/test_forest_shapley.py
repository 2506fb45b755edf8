"""Shapley values of forests equal those of shap's explainer, also where values are missing."""

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

pytest.importorskip("numba")
pytest.importorskip("shap")

FORESTS = {
    "two classes": lambda: RandomForestClassifier(12, max_depth=6, random_state=0),
    "four classes": lambda: ExtraTreesClassifier(8, min_samples_leaf=3, random_state=0),
    "values": lambda: ExtraTreesRegressor(8, max_depth=7, random_state=0),
    "values of full depth": lambda: RandomForestRegressor(4, random_state=0),
}


def rows(n_features: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(400, n_features))
    target = matrix[:, 0] + matrix[:, 1] * matrix[:, 2] + rng.normal(size=400)
    matrix[rng.random(matrix.shape) < 0.05] = np.nan
    return matrix, target


@pytest.mark.parametrize("n_features", [3, 16])
@pytest.mark.parametrize("kind", FORESTS)
def test_the_values_are_those_of_the_tree_explainer(kind: str, n_features: int) -> None:
    from mcp_server.engine.forest_shapley import forest_shapley

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from shap import TreeExplainer
    matrix, target = rows(n_features)
    classes = {"two classes": (target > 0).astype(int), "four classes": np.digitize(target, [-1, 0, 1])}
    forest = FORESTS[kind]().fit(matrix, classes.get(kind, target))

    values, base = forest_shapley(forest, matrix[:60])

    explainer = TreeExplainer(forest, feature_perturbation="tree_path_dependent")
    expected = np.asarray(explainer.shap_values(matrix[:60], check_additivity=False))
    np.testing.assert_allclose(values, expected.reshape(values.shape), atol=1e-9)
    np.testing.assert_allclose(base, np.atleast_1d(explainer.expected_value), atol=1e-9)
    said = forest.predict_proba(matrix[:60]) if kind in classes else forest.predict(matrix[:60])[:, None]
    np.testing.assert_allclose(base + values.sum(axis=1), said, atol=1e-9)


def test_a_forest_of_bare_leaves_explains_nothing() -> None:
    from mcp_server.engine.forest_shapley import forest_shapley

    forest = RandomForestRegressor(3, random_state=0).fit(np.zeros((20, 2)), np.arange(20.0))
    values, base = forest_shapley(forest, np.zeros((2, 2)))
    assert not values.any()
    assert base == pytest.approx(forest.predict(np.zeros((1, 2))))
