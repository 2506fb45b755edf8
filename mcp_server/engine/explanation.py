"""What a model looks at: exact Shapley values for trees and linear models, permutation importance for the rest."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline

from mcp_server.engine.boosting import BoostedTrees
from mcp_server.engine.final_fit import feature_of
from mcp_server.engine.metrics import Floats
from mcp_server.engine.preprocessing import InputColumn
from mcp_server.engine.recalibration import uncorrected
from mcp_server.errors import FailedPreconditionError, InternalError

_BOOSTING = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
_FORESTS = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)
_LINEAR = (LogisticRegression, Ridge, ElasticNet, LinearRegression)
_EXACT = 1e-6
_SINGLE = 1e-4  # XGBoost explains in single precision


@dataclass(frozen=True, slots=True)
class Explanation:
    """Shapley values of some rows.

    Attributes:
        features: names, m of them.
        values: shape (n, m, k): what each feature adds to each output (k is 1 for two classes and for values).
        base: shape (k,): the output before anything is known.
        outputs: shape (n, k): base plus the sum of values.
        unit: what they are measured in.
    """

    features: list[str]
    values: Floats
    base: Floats
    outputs: Floats
    unit: str


def explains_exactly(pipeline: Any) -> bool:
    """Return True for a pipeline of ours whose last step has an exact explainer, corrected probabilities or not."""
    return (
        isinstance(pipeline, Pipeline)
        and list(pipeline.named_steps) == ["columns", "model"]
        and isinstance(uncorrected(pipeline[-1]), (BoostedTrees, *_BOOSTING, *_FORESTS, *_LINEAR))
    )


def shapley(
    pipeline: Pipeline, matrix: pd.DataFrame, background: pd.DataFrame, inputs: Sequence[InputColumn]
) -> Explanation:
    """Explain rows exactly; the columns of one feature (its words, its calendar) are summed.

    Of a model with corrected probabilities, it is what the correction is laid over that is explained.

    Trees: path-dependent TreeSHAP over the training rows in each node, of LightGBM and XGBoost their own. Linear
    models: features independent, against the mean of `background`.

    Args:
        pipeline: for which `explains_exactly` is true.
        matrix: n rows from `model_input`.
        background: rows from `model_input` that stand for the training part.
        inputs: the columns behind both.

    Raises:
        FailedPreconditionError: the package shap is needed and is not installed.
        InternalError: the values do not add up to the model's output.

    Source: Lundberg et al., Nature Machine Intelligence 2 (2020); Lundberg and Lee, NeurIPS (2017) for the linear case.
    """
    columns, model = pipeline.named_steps["columns"], uncorrected(pipeline.named_steps["model"])
    encoded = np.asarray(columns.transform(matrix), dtype=np.float64)
    if isinstance(model, _LINEAR):
        values, base, unit = _linear(model, encoded, np.asarray(columns.transform(background), dtype=np.float64))
        outputs = _linear_output(model, encoded)
    elif isinstance(model, BoostedTrees):
        found = model.contributions(encoded)
        values, base = np.swapaxes(found[:, :, :-1], 1, 2), found[0, :, -1]
        outputs, unit = model.margin(encoded), "log-odds" if hasattr(model, "classes_") else "target"
    elif isinstance(model, _FORESTS):
        values, base, unit = _forest(model, encoded)
        outputs = _tree_output(model, encoded)
    else:
        values, base, unit = _boosting(model, encoded)
        outputs = _tree_output(model, encoded)
    gap = float(np.abs(base + values.sum(axis=1) - outputs).max()) if len(matrix) else 0.0
    tolerance = _SINGLE if isinstance(model, BoostedTrees) else _EXACT
    if gap > tolerance * max(1.0, float(np.abs(outputs).max(initial=0.0))):
        raise InternalError(f"The explanation is off the prediction by {gap:.3g}.")
    features = [column.name for column in inputs]
    origins = _origins(columns, inputs)
    place = np.array([features.index(name) for name in origins])
    summed = np.stack([values[:, place == k, :].sum(axis=1) for k in range(len(features))], axis=1)
    return Explanation(features, summed, base, outputs, unit)


def _linear(model: Any, encoded: Floats, background: Floats) -> tuple[Floats, Floats, str]:
    weights, shift = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
    centre = background.mean(axis=0)
    values = (encoded - centre)[:, :, None] * weights.T[None, :, :]
    base = shift + weights @ centre
    return values, base, "log-odds" if isinstance(model, LogisticRegression) else "target"


def _linear_output(model: Any, encoded: Floats) -> Floats:
    raw = model.decision_function(encoded) if isinstance(model, LogisticRegression) else model.predict(encoded)
    return np.asarray(raw, dtype=np.float64).reshape(len(encoded), -1)


def _forest(model: Any, encoded: Floats) -> tuple[Floats, Floats, str]:
    _require("numba")
    from mcp_server.engine.forest_shapley import forest_shapley

    values, base = forest_shapley(model, encoded)
    if values.shape[2] == 2:  # of two classes the second says it all
        values, base = values[:, :, 1:], base[1:]
    return values, base, "probability" if hasattr(model, "classes_") else "target"


def _boosting(model: Any, encoded: Floats) -> tuple[Floats, Floats, str]:
    _require("shap")
    with warnings.catch_warnings():  # shap uses what matplotlib is about to deprecate
        warnings.simplefilter("ignore")
        from shap import TreeExplainer

    explainer = TreeExplainer(model, feature_perturbation="tree_path_dependent")
    values = np.asarray(explainer.shap_values(encoded, check_additivity=False), dtype=np.float64)
    if values.ndim == 2:
        values = values[:, :, None]
    base = np.atleast_1d(np.asarray(explainer.expected_value, dtype=np.float64))
    return values, base, "log-odds" if hasattr(model, "classes_") else "target"


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise FailedPreconditionError(
            f"Shapley values of trees need the package {package}, which is not installed.",
            hint='Install the extra explain (pip install "nba-mcp[explain]"), or use method="permutation".',
        )


def _tree_output(model: Any, encoded: Floats) -> Floats:
    if not hasattr(model, "classes_"):
        raw = model.predict(encoded)
    elif isinstance(model, _BOOSTING):
        raw = model.decision_function(encoded)
    else:
        raw = model.predict_proba(encoded)
        raw = raw[:, 1:] if raw.shape[1] == 2 else raw
    return np.asarray(raw, dtype=np.float64).reshape(len(encoded), -1)


def _origins(columns: Any, inputs: Sequence[InputColumn]) -> list[str]:
    """Return, for each column the preprocessing makes, the feature it comes from."""
    origins: list[str] = []
    for part, step, chosen in columns.transformers_:
        if part == "remainder":
            continue
        if part == "category" and hasattr(step, "sparse_output"):
            for name, width in zip(chosen, _widths(step), strict=True):
                origins += [str(name)] * width
        else:
            origins += [feature_of(str(name), inputs) for name in chosen]
            origins += [feature_of(str(chosen[k]), inputs) for k in _indicators(step)]
    return origins


def _widths(encoder: Any) -> list[int]:
    """Return how many columns a one-hot encoder makes of each of its inputs: rare words share one."""
    rare = getattr(encoder, "infrequent_categories_", [None] * len(encoder.categories_))
    return [
        len(words) if few is None else len(words) - len(few) + 1
        for words, few in zip(encoder.categories_, rare, strict=True)
    ]


def _indicators(step: Any) -> list[int]:
    """Return the inputs for which an imputer adds a column that says the value was missing."""
    imputer = step.named_steps.get("impute") if isinstance(step, Pipeline) else step
    indicator = getattr(imputer, "indicator_", None)
    return [] if indicator is None else [int(k) for k in indicator.features_]
