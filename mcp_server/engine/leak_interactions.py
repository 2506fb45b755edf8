"""Leaks of other shapes than a line: cells of two columns, ratios, sums of parts, and columns made from the target."""

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from mcp_server.engine.leak_scores import Sample, Strength, strength
from mcp_server.engine.metrics import Floats
from mcp_server.engine.preprocessing import kind_of

_CELLS = 6  # quantiles of each of two columns
_PAIRS_SCORED = 20
_SMOOTHING = 1.0
_PARSED_SHARE = 0.99
_DETERMINED = 0.9999
_MANY_VALUES = 50
_FEWEST_ROWS = 200
_UNIT = 1e-6
_FEWEST_OF_A_VALUE = 20
_TOUCHING = 0.02  # of the range of nine tenths of the values


def with_numbers_read(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with its text columns that spell numbers as numbers."""
    read = []
    for name, dtype in frame.schema.items():
        if dtype != pl.String:
            continue
        column = frame[name].str.strip_chars().replace("", None)
        numbers = column.cast(pl.Float64, strict=False)
        known = len(column) - column.null_count()
        if known and (len(numbers) - numbers.null_count()) >= _PARSED_SHARE * known:
            read.append(numbers.alias(name))
    return frame.with_columns(read)


def with_days(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with dates and times as days since 1970, so that the difference of two can be looked at."""
    days = []
    for name, dtype in frame.schema.items():
        if dtype == pl.Date:
            days.append(pl.col(name).to_physical().cast(pl.Float64))
        elif isinstance(dtype, pl.Datetime):
            days.append(pl.col(name).dt.epoch("ms").cast(pl.Float64) / 86_400_000)
        elif dtype == pl.String and kind_of(frame[name]) == "date":
            days.append(pl.col(name).str.to_date("%Y-%m-%d", strict=False).to_physical().cast(pl.Float64))
    return frame.with_columns(days)


def coarse_target(sample: Sample, column: pl.Series) -> Literal["touching", "apart"] | None:
    """Return whether a column of few values divides a numeric target into ranges that do not overlap.

    `touching`: the ranges follow on each other without a gap, which nothing but the target itself can do (its sign,
    deciles, or words for low and high). `apart`: there are gaps, as between kinds of things.
    For more than two classes `apart` says that the column is a function of the class.
    """
    known = column.is_not_null().to_numpy()
    if known.sum() < _FEWEST_ROWS or column.n_unique() > _MANY_VALUES:
        return None
    rows = pl.DataFrame({"value": column, "truth": np.asarray(sample.truth)}).filter(pl.Series(known))
    if sample.task == "multiclass":
        of_class = rows.group_by("truth").agg(pl.col("value").n_unique().alias("n"), pl.len().alias("rows"))
        return "apart" if rows["value"].n_unique() > 1 and of_class["n"].max() == 1 else None
    if sample.task != "regression" or rows["truth"].n_unique() < _MANY_VALUES:
        return None
    ranges = rows.group_by("value").agg(
        pl.col("truth").min().alias("low"), pl.col("truth").max().alias("high"), pl.len().alias("rows")
    )
    ranges = ranges.sort("low")
    if ranges.height < 2 or int(ranges["rows"].sort(descending=True)[1]) < _FEWEST_OF_A_VALUE:
        return None
    gaps = ranges["low"].to_numpy()[1:] - ranges["high"].to_numpy()[:-1]
    if (gaps < 0).any():
        return None
    middle = np.diff(np.quantile(np.asarray(rows["truth"], dtype=np.float64), [0.05, 0.95]))[0]
    return "touching" if float(np.median(gaps)) <= _TOUCHING * middle else "apart"


def cell_strengths(sample: Sample, values: Floats) -> dict[tuple[int, int], Strength]:
    """Return what the target's rate in the cells of two columns reaches, for the most promising pairs.

    It finds what no line does: that two columns decide the target only together (exclusive or).

    Args:
        sample: the rows.
        values: shape (n, m), numbers without gaps.
    """
    half, n_columns = sample.half, values.shape[1]
    codes = np.stack([_cells_of(values[:, k], half) for k in range(n_columns)])
    if sample.task == "regression":
        wanted = np.asarray(sample.truth, dtype=np.float64)[:, None]
    else:
        wanted = np.eye(sample.n_classes)[sample.truth.astype(np.int64)]
    promise = {}
    overall = wanted[:half].mean(axis=0)
    for i in range(n_columns):
        for j in range(i + 1, n_columns):
            cell = codes[i] * _CELLS + codes[j]
            sums, counts = _totals(cell[:half], wanted[:half])
            centred = sums - counts[:, None] * overall
            promise[i, j] = float((centred**2 / np.maximum(counts, 1)[:, None]).sum())
    found = {}
    for i, j in sorted(promise, key=lambda pair: -promise[pair])[:_PAIRS_SCORED]:
        cell = codes[i] * _CELLS + codes[j]
        sums, counts = _totals(cell[:half], wanted[:half])
        rates = (sums + _SMOOTHING * overall) / (counts + _SMOOTHING)[:, None]
        output = rates[cell[half:]]
        found[i, j] = strength(sample, output[:, 0] if sample.task == "regression" else output)
    return found


def _cells_of(column: Floats, half: int) -> NDArray[np.int64]:
    distinct = np.unique(column)
    if len(distinct) <= _CELLS:
        return np.searchsorted(distinct, column)
    edges = np.unique(np.quantile(column[:half], np.linspace(0, 1, _CELLS + 1)[1:-1]))
    return np.searchsorted(edges, column, side="right")


def _totals(cell: NDArray[np.int64], wanted: Floats) -> tuple[Floats, Floats]:
    n_cells = _CELLS * _CELLS
    sums = np.stack([np.bincount(cell, weights=column, minlength=n_cells) for column in wanted.T], axis=1)
    return sums.astype(np.float64), np.bincount(cell, minlength=n_cells).astype(np.float64)


def made_from_target(sample: Sample, column: pl.Series) -> bool:
    """Return True when a column of many values is a function of a numeric target: its square, say.

    What is known before an outcome cannot be told from the outcome without an error.
    """
    if sample.task != "regression" or not column.dtype.is_numeric() or column.n_unique() < _MANY_VALUES:
        return False
    values = column.cast(pl.Float64).fill_nan(None)
    known = values.is_not_null().to_numpy() & np.isfinite(sample.truth)
    if known.sum() < _FEWEST_ROWS:
        return False
    truth, wanted = np.asarray(sample.truth, dtype=np.float64)[known], values.to_numpy()[known]
    order = np.argsort(truth)
    jumps = np.abs(np.diff(wanted[order]))
    # Neighbours in the target must be neighbours in the column: a function of it, whatever its shape.
    near = float(np.median(jumps)) <= 0.02 * float(np.median(np.abs(wanted - np.median(wanted)))) + 1e-300
    if not near:
        return False
    half = len(truth) // 2
    tree = DecisionTreeRegressor(min_samples_leaf=2, random_state=0).fit(truth[:half, None], wanted[:half])
    left = wanted[half:] - tree.predict(truth[half:, None])
    spread = float(np.var(wanted[half:]))
    return spread > 0 and float(np.median(left**2)) <= (1 - _DETERMINED) * spread


def parts_of_sum(sample: Sample, values: Floats) -> list[int]:
    """Return the columns whose plain sum or difference is a numeric target to the last digit; none where none is.

    Weights of one and no rest are what bookkeeping gives, not what a forecast learns.

    Args:
        sample: the rows.
        values: shape (n, m), numbers without gaps.
    """
    if sample.task != "regression" or len(values) < 2 * values.shape[1] + 10:
        return []
    truth = np.asarray(sample.truth, dtype=np.float64)
    spread = float(truth.std())
    scale = values.std(axis=0)
    if spread == 0 or not np.isfinite(values).all() or (scale == 0).all():
        return []
    used = np.flatnonzero(scale > 0)
    fitted = LinearRegression().fit(values[:, used] / scale[used], truth)
    weights = np.asarray(fitted.coef_) / scale[used]
    matters = np.abs(weights * scale[used]) > _UNIT * spread
    chosen = used[matters]
    if len(chosen) < 2 or not np.allclose(np.abs(weights[matters]), 1.0, atol=1e-4):
        return []
    rest = truth - values[:, chosen] @ np.round(weights[matters])
    return [int(k) for k in chosen] if float(rest.std()) <= _UNIT * spread else []


def logarithms(values: Floats) -> tuple[list[int], Floats]:
    """Return which columns are positive throughout, and their logarithms: a line of two is a ratio or a product."""
    positive = [k for k in range(values.shape[1]) if float(values[:, k].min()) > 0]
    return positive, np.log(values[:, positive])
