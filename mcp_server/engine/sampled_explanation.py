"""Shapley values of any model, from what it says of rows put together of two: the explained one and a known one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from mcp_server.engine.metrics import Floats
from mcp_server.engine.signature import Column, check_rows

Predict = Callable[[pl.DataFrame], Floats]

_BACKGROUND_ROWS = 25
_FEWEST_WALKS, _MOST_WALKS = 2, 16  # of each background row; even, as each order is walked both ways
_AT_ONCE = 50_000
_TYPES: dict[str, Any] = {"category": pl.String, "date": pl.Date}


@dataclass(frozen=True, slots=True)
class SampledExplanation:
    """What each feature adds to each output of some rows.

    Attributes:
        features: names, m of them.
        values: shape (n, m, k).
        base: shape (k,): the mean output over the background rows.
        outputs: shape (n, k): base plus the sum of values, which is what the model says.
    """

    features: list[str]
    values: Floats
    base: Floats
    outputs: Floats


def sampled_shapley(
    predict: Predict, rows: pl.DataFrame, background: pl.DataFrame, seed: int, evaluations: int = 20_000
) -> SampledExplanation:
    """Estimate Shapley values by walking from background rows to each row, one feature after the other.

    Each walk takes the features in a random order and then in the reverse one, from every background row equally
    often, so that base and values add up to the output exactly, whatever the number of walks.

    Args:
        predict: gives shape (n, k) for frames with the columns of `rows`.
        rows: n rows to explain.
        background: rows that stand for what is usual, with the same columns and types; at most 25 are used.
        seed: of the orders; the same rows get the same values.
        evaluations: of the model for each row, about.

    Source: Štrumbelj and Kononenko, Knowledge and Information Systems 41 (2014); antithetic orders: Mitchell, Cooper,
    Frank and Holmes, JMLR 23 (2022).
    """
    usual = background.select(rows.columns).gather_every(max(1, -(-background.height // _BACKGROUND_ROWS)))
    rng, n_features, n_usual = np.random.default_rng(seed), rows.width, usual.height
    a_row = max(_FEWEST_WALKS, min(_MOST_WALKS, evaluations // ((n_features + 1) * n_usual) // 2 * 2))
    orders = _orders(rng, n_features, a_row * n_usual)
    starts = np.tile(np.arange(n_usual), a_row)
    values, outputs = [], []
    base = predict(usual).reshape(n_usual, -1).mean(axis=0)
    for i in range(rows.height):
        said = _walked(predict, pl.concat([usual, rows[i : i + 1]]), orders, starts)  # (walks, m + 1, k)
        steps = np.diff(said, axis=1)
        by_feature = np.empty_like(steps)
        np.put_along_axis(by_feature, orders[:, :, None], steps, axis=1)
        values.append(by_feature.mean(axis=0))
        outputs.append(said[0, -1])
    shape = (rows.height, n_features, len(base))
    return SampledExplanation(
        rows.columns, np.reshape(values, shape), base, np.reshape(outputs, (rows.height, len(base)))
    )


def rows_frame(rows: Sequence[Mapping[str, Any]], inputs: Sequence[Column]) -> pl.DataFrame:
    """Return rows of JSON values as a frame with a model's columns, in the types of `typed_rows`.

    Raises:
        InvalidArgumentError: a row does not fit; names the row, the column and the value.
    """
    checked = check_rows(rows, inputs)
    columns = {
        column.name: pl.Series(checked.columns[column.name], dtype=_TYPES.get(column.kind, pl.Float64))
        for column in inputs
    }
    return typed_rows(pl.DataFrame(columns), inputs)


def typed_rows(frame: pl.DataFrame, inputs: Sequence[Column]) -> pl.DataFrame:
    """Return a model's columns in one type a kind, so that rows from different places can be put together."""
    columns = [pl.col(column.name).cast(_TYPES.get(column.kind, pl.Float64)) for column in inputs]
    return frame.select(columns).fill_nan(None)


def _orders(rng: np.random.Generator, n_features: int, n_walks: int) -> np.ndarray[tuple[int, int], np.dtype[np.intp]]:
    """Return `n_walks` orders of the features, the second half of them the first half reversed."""
    half = rng.permuted(np.tile(np.arange(n_features), (n_walks // 2, 1)), axis=1)
    return np.concatenate([half, half[:, ::-1]])


def _walked(
    predict: Predict,
    known: pl.DataFrame,
    orders: np.ndarray[tuple[int, int], np.dtype[np.intp]],
    starts: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.intp]],
) -> Floats:
    """Return the outputs along every walk (walks, m + 1, k): from the row at its start to the last row of `known`."""
    n_walks, n_features = orders.shape
    taken_at = np.argsort(orders, axis=1)  # the step at which a feature changes
    step = np.arange(n_features + 1)
    goal = known.height - 1
    place = np.where(taken_at[:, None, :] < step[None, :, None], goal, np.asarray(starts)[:, None, None])
    place = place.reshape(-1, n_features)
    said = []
    for first in range(0, len(place), _AT_ONCE):
        part = place[first : first + _AT_ONCE]
        frame = pl.DataFrame([known[name].gather(part[:, k]) for k, name in enumerate(known.columns)])
        said.append(predict(frame).reshape(len(part), -1))
    return np.concatenate(said).reshape(n_walks, n_features + 1, -1)
