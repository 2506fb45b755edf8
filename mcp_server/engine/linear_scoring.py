"""Linear models folded: imputing, scaling, one column a word and the weights become one table of numbers.

A linear model's output is a sum over the columns, so each column's part can be worked out in advance:
`weight × value` (its scale divided in), a constant where the value is missing (its imputed value and its
indicator), and a constant for each word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline

from mcp_server.engine.predictions import Floats, Predictions, Signature, calendar_of, frame_matrix, shaped
from mcp_server.engine.preparation import NumberStep, WordStep, read_preparation
from mcp_server.engine.preprocessing import MISSING
from mcp_server.engine.recalibration import uncorrected
from mcp_server.engine.signature import check_rows

_VALUES = (Ridge, ElasticNet, Lasso, LinearRegression)


@dataclass(slots=True)
class LinearTable:
    """The sum, column by column; k outputs.

    Attributes:
        constant: shape (k,).
        weights: of each numeric column of the pipeline's input, shape (k,).
        when_missing: what a missing value of it adds instead, shape (k,).
        words: of each word column, what each word adds, shape (k,); the word None stands for unseen ones.
    """

    constant: Floats
    weights: dict[str, Floats] = field(default_factory=dict)
    when_missing: dict[str, Floats] = field(default_factory=dict)
    words: dict[str, dict[str | None, Floats]] = field(default_factory=dict)


def fold_linear(model: Any) -> LinearTable | None:
    """Return the table of a pipeline of ours with a linear model at its end; None for any other model."""
    if not isinstance(model, Pipeline) or len(model.steps) != 2:
        return None
    preparation, last = read_preparation(model.steps[0][1]), model.steps[1][1]
    estimator, curve = uncorrected(last), _affine_curve(last)
    if preparation is None or curve is None or not isinstance(estimator, (LogisticRegression, *_VALUES)):
        return None
    slope, shift = curve
    coefficients = slope * np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
    constant = slope * np.asarray(estimator.intercept_, dtype=np.float64) + shift
    table = LinearTable(np.array(np.broadcast_to(constant, (len(coefficients),)), dtype=np.float64))
    start = 0
    for step in preparation.steps:
        if isinstance(step, WordStep):
            for column, words in step.tables.items():
                part = coefficients[:, start : start + len(words[None])]
                table.words[column] = {word: part @ numbers for word, numbers in words.items()}
                start += len(words[None])
        elif step.fill is None:
            return None  # a missing value would stay missing, which no linear model takes
        else:
            width = len(step.columns) + len(step.indicated)
            _fold_numbers(table, step, step.fill, coefficients[:, start : start + width])
            start += width
    return table


def _affine_curve(model: Any) -> tuple[float, float] | None:
    """Return slope and shift that the correction of a model's probabilities gives its margin; None for other curves."""
    if uncorrected(model) is model:
        return 1.0, 0.0
    curves = model.calibrated_classifiers_[0].calibrators
    if model.method != "sigmoid" or len(curves) != 1:
        return None
    return -float(curves[0].a_), -float(curves[0].b_)


def _fold_numbers(table: LinearTable, step: NumberStep, fill: Floats, part: Floats) -> None:
    """Divide the scales into the weights, move the means to the constant, add up what a missing value means."""
    weights = part if step.scale is None else part / step.scale
    if step.mean is not None:
        table.constant -= weights @ step.mean
    indicated = step.indicated.tolist()
    for place, column in enumerate(step.columns):
        missing = weights[:, place] * fill[place]
        if place in indicated:
            missing = missing + weights[:, len(step.columns) + indicated.index(place)]
        table.weights[column], table.when_missing[column] = weights[:, place], missing


class LinearScorer:
    """A folded linear model."""

    path: Literal["linear"] = "linear"
    reason = "linear model folded into one table; equal to the pipeline on every row it was compared on"

    def __init__(self, table: LinearTable, signature: Signature) -> None:
        self._signature = signature
        self._words = table.words
        self._numbers = list(table.weights)
        self._constant = table.constant
        self._weights = np.array([table.weights[name] for name in self._numbers]).reshape(-1, len(table.constant))
        self._missing = np.array([table.when_missing[name] for name in self._numbers]).reshape(self._weights.shape)
        self._dates = [column.name for column in signature.inputs if column.kind == "date"]

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> Predictions:
        checked = check_rows(rows, self._signature.inputs)
        columns = checked.columns
        for name in self._dates:
            columns |= {part: values.tolist() for part, values in calendar_of(name, columns[name]).items()}
        numbers = np.array([columns[name] for name in self._numbers], dtype=np.float64).reshape(-1, checked.n_rows)
        output = self._output(numbers, {name: columns[name] for name in self._words})
        return shaped(output, self._signature, checked.extra)

    def predict_frame(self, frame: pl.DataFrame) -> Predictions:
        matrix = frame_matrix(frame, self._signature)
        numbers = np.array([matrix[name].to_numpy() for name in self._numbers], dtype=np.float64)
        words = {name: matrix[name].to_list() for name in self._words}
        return shaped(self._output(numbers.reshape(-1, frame.height), words), self._signature, [])

    def _output(self, numbers: Floats, words: Mapping[str, Sequence[str | None]]) -> Floats:
        """Return what the model gives for numeric columns (p, n) and words: (n, k), or (n,) for a regression."""
        absent = np.isnan(numbers)
        if absent.any():
            present = np.where(absent, 0.0, numbers)
            total = present.T @ self._weights + absent.T.astype(np.float64) @ self._missing + self._constant
        else:
            total = numbers.T @ self._weights + self._constant
        for name, values in words.items():
            added = self._words[name]
            unseen = added[None]
            total += np.array([added.get(MISSING if word is None else word, unseen) for word in values])
        return self._linked(total)

    def _linked(self, total: Floats) -> Floats:
        if self._signature.task == "regression":
            return total[:, 0]
        if total.shape[1] == 1:  # the pipeline's own form of the logistic function, without overflow
            margin = total[:, 0]
            small = np.exp(-np.abs(margin))
            positive = np.where(margin >= 0, 1 / (1 + small), small / (1 + small))
            return np.column_stack([1 - positive, positive])
        powers = np.exp(total - total.max(axis=1, keepdims=True))
        shares: Floats = powers / powers.sum(axis=1, keepdims=True)
        return shares
