"""Pipelines: preprocessing and estimator in one object, made only of scikit-learn's own classes."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV, _CalibratedClassifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier, VotingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline

from mcp_server.engine.estimators import COLUMN_PREFIX, ENSEMBLES, FAMILIES, Building, Choice
from mcp_server.engine.metrics import Floats, Truth
from mcp_server.engine.preprocessing import InputColumn, empty_columns, frequent_words, preprocessor
from mcp_server.errors import FailedPreconditionError, InvalidArgumentError, shown

_STACKING_FOLDS = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate. An ensemble carries its `members`, each with estimator and params."""

    number: int
    estimator: str
    params: dict[str, Choice]
    members: list[dict[str, Any]] = field(default_factory=list)

    def to_document(self) -> dict[str, Any]:
        """Return the trial as JSON."""
        return asdict(self)


def fit_trial(
    trial: Trial, inputs: Sequence[InputColumn], matrix: pd.DataFrame, truth: Truth, building: Building
) -> tuple[Pipeline, list[str]]:
    """Fit what `trial` describes; returns the pipeline and what the fit had to say (did not converge, did not weigh).

    Args:
        trial: estimator, parameters, and the members of an ensemble.
        inputs: the columns behind `matrix`.
        matrix: from `model_input`, n rows.
        truth: shape (n,), class codes or values.
        building: task, seed, class weights.
    """
    if trial.estimator.startswith(COLUMN_PREFIX):
        return column_forecast(trial.estimator.removeprefix(COLUMN_PREFIX), matrix, truth, building), []
    pipeline = build(trial, inputs, building, empty_columns(matrix), frequent_words(matrix))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ConvergenceWarning)
        pipeline.fit(matrix, truth)
    slow = any(issubclass(warning.category, ConvergenceWarning) for warning in heard)
    said = [f"{trial.estimator} did not converge in its iterations."] if slow else []
    return pipeline, said + _unweighed(trial, building)


def _unweighed(trial: Trial, building: Building) -> list[str]:
    """Return a sentence where class weights were asked for and a part of `trial` cannot use them."""
    families = [str(member["estimator"]) for member in trial.members] or [trial.estimator]
    deaf = sorted({name for name in families if not FAMILIES[name].weighs_classes})
    if building.class_weight is None or not deaf:
        return []
    return [f"{' and '.join(deaf)} cannot weigh classes: class_weight={building.class_weight} was not used there."]


def build(
    trial: Trial,
    inputs: Sequence[InputColumn],
    building: Building,
    without: Sequence[str] = (),
    words_kept: Mapping[str, Sequence[str]] | None = None,
) -> Pipeline:
    """Return the unfitted pipeline of `trial`: steps `columns` and `model`, or `model` alone for an ensemble."""
    if trial.estimator in ENSEMBLES:
        return Pipeline([("model", _ensemble(trial, inputs, building, without, words_kept))])
    family = FAMILIES[trial.estimator]
    columns = preprocessor(inputs, family.style, without, words_kept)
    return Pipeline([("columns", columns), ("model", family.build(trial.params, building))])


def _ensemble(
    trial: Trial,
    inputs: Sequence[InputColumn],
    building: Building,
    without: Sequence[str],
    words_kept: Mapping[str, Sequence[str]] | None,
) -> Any:
    if not trial.members:
        raise FailedPreconditionError(f"{trial.estimator} has no members: no other trial succeeded.")
    members = [
        (
            member["estimator"],
            build(Trial(0, member["estimator"], member["params"]), inputs, building, without, words_kept),
        )
        for member in trial.members
    ]
    values = building.task == "regression"
    if trial.estimator == "voting":
        return VotingRegressor(members) if values else VotingClassifier(members, voting="soft")
    if values:
        return StackingRegressor(members, final_estimator=Ridge(), cv=_STACKING_FOLDS)
    final = LogisticRegression(max_iter=1000)
    return StackingClassifier(members, final, cv=_STACKING_FOLDS, stack_method="predict_proba")


def predict_output(pipeline: Any, matrix: pd.DataFrame, n_classes: int) -> Floats:
    """Return probabilities (n, n_classes), or values (n,) where `n_classes` is 0.

    A class that the fit never saw gets probability 0.
    """
    if n_classes == 0:
        return np.asarray(pipeline.predict(matrix), dtype=np.float64).ravel()
    if not hasattr(pipeline, "predict_proba"):
        codes = np.asarray(pipeline.predict(matrix), dtype=np.int64)
        return np.eye(n_classes)[codes]
    probabilities = np.asarray(pipeline.predict_proba(matrix), dtype=np.float64)
    if probabilities.shape[1] == n_classes:
        return probabilities
    aligned = np.zeros((len(matrix), n_classes))
    aligned[:, np.asarray(pipeline.classes_, dtype=np.int64)] = probabilities
    return aligned


def column_output(name: str, values: Floats, n_classes: int, fill: float) -> Floats:
    """Return what a column says as if it were a model; gaps become `fill`, the training part's mean.

    Raises:
        InvalidArgumentError: a probability is wanted and the column is none.
    """
    filled = np.where(np.isfinite(values), values, fill)
    if n_classes == 0:
        return filled
    if filled.size and (filled.min() < 0 or filled.max() > 1):
        raise InvalidArgumentError(
            f"Column {shown(name)} ranges from {filled.min():.4g} to {filled.max():.4g}: it is no probability.",
            hint="A forecast of a yes-or-no target lies between 0 and 1; scale it with transform_dataset.",
        )
    return np.column_stack([1 - filled, filled])


def column_forecast(name: str, matrix: pd.DataFrame, truth: Truth, building: Building) -> Pipeline:
    """Return a fitted pipeline whose forecast is column `name` itself, deployable like any model.

    It is made of scikit-learn's parts with their learned values set by hand: a linear function with weight 1 and, for
    classes, an isotonic curve that is the identity on 0 to 1.
    """
    fill = float(np.mean(truth))
    values = matrix[name].to_numpy(dtype=np.float64)
    column_output(name, values, 0 if building.task == "regression" else 2, fill)
    columns = ColumnTransformer(
        [("numeric", SimpleImputer(strategy="constant", fill_value=fill), [name])],
        remainder="drop",
        sparse_threshold=0,
        verbose_feature_names_out=False,
    ).fit(matrix)
    shaped = columns.transform(matrix)
    if building.task == "regression":
        line = LinearRegression().fit(shaped, truth)
        line.coef_, line.intercept_ = np.array([1.0]), 0.0
        return Pipeline([("columns", columns), ("model", line)])
    return Pipeline([("columns", columns), ("model", _identity_classifier(shaped, truth))])


def _identity_classifier(shaped: Floats, truth: Truth) -> CalibratedClassifierCV:
    line = LogisticRegression().fit(shaped, truth)
    line.coef_, line.intercept_ = np.array([[1.0]]), np.array([0.0])
    curve = IsotonicRegression(out_of_bounds="clip").fit([0.0, 1.0], [0.0, 1.0])
    classifier = CalibratedClassifierCV(FrozenEstimator(line), method="isotonic")
    classifier.classes_ = line.classes_
    classifier.n_features_in_ = 1
    classifier.calibrated_classifiers_ = [
        _CalibratedClassifier(line, [curve], classes=line.classes_, method="isotonic")
    ]
    return classifier
