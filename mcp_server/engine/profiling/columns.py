"""The figures of one column: range, moments, quantiles, histogram, frequent values. All of them over all rows.

A column is sorted once; distinct values, quantiles, ranges and the most frequent values are all read off the order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, sqrt
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
N_BINS = 20
N_TOP_VALUES = 10
FEW_DISTINCT = 100_000  # so many different texts are counted one by one
_N_EXTREMES = 5
_FAR = 3.0  # interquartile ranges beyond a quartile; Tukey, Exploratory Data Analysis (1977): "far out"
_TRIM_SPANS = 8.0
_CHUNK = 1_000_000
_WHOLE_WIDTHS = 10

Array = NDArray[Any]
Order = Literal["increasing", "strictly increasing", "decreasing", "strictly decreasing"]


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """One column. Figures that its type does not have are None or empty; quantiles interpolate linearly.

    Attributes:
        min, max: the least and the greatest value, of the column's own type, infinite ones left out; text by its bytes.
        std: sample standard deviation (n − 1).
        skew, kurtosis: third and fourth standardised moments, the latter less 3.
        outliers: values more than three interquartile ranges beyond a quartile.
        edges, counts: a histogram in equal ranges, each with its lower edge, the last with both; `edges` is one
            longer than `counts`. Whole numbers close together have ranges of whole width, the last reaching above.
        trimmed: edges and counts of the same between far values, where those leave no shape to see; else empty.
        top_values: the most frequent values with their counts, most frequent first.
        lowest, highest: the extreme different values, the most extreme first.
        lengths: least, mean and greatest number of characters of text.
        order: how values follow each other down the rows, missing ones left out.
        agreement: the chance that the cells of two different rows agree, missing counted as a value.
    """

    name: str
    dtype: pl.DataType
    n_rows: int
    missing: int
    distinct: int
    min: Any = None
    max: Any = None
    mean: float | None = None
    std: float | None = None
    skew: float | None = None
    kurtosis: float | None = None
    zeros: int | None = None
    negative: int | None = None
    infinite: int = 0
    outliers: int | None = None
    quantiles: dict[str, Any] = field(default_factory=dict)
    edges: list[Any] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    trimmed: tuple[list[Any], list[int]] = ((), ())  # type: ignore[assignment]
    top_values: list[tuple[Any, int]] = field(default_factory=list)
    lowest: list[Any] = field(default_factory=list)
    highest: list[Any] = field(default_factory=list)
    lengths: tuple[int, float, int] | None = None
    order: Order | None = None
    agreement: float = 1.0

    @property
    def present(self) -> int:
        """Cells that hold a value."""
        return self.n_rows - self.missing


def describe_column(column: pl.Series, counts: pl.DataFrame | None = None) -> ColumnProfile:
    """Return the figures of `column`.

    Args:
        column: numbers, truth values, times or text; missing values null.
        counts: for text, its `value`s with their `count`, where that is known already.
    """
    dtype = column.dtype
    base: dict[str, Any] = {"name": column.name, "dtype": dtype, "n_rows": len(column), "missing": column.null_count()}
    if base["missing"] == len(column):
        return ColumnProfile(**base, distinct=0)
    if dtype == pl.Boolean:
        return ColumnProfile(**base, **_truths(column))
    if dtype.is_numeric():
        return ColumnProfile(**base, **_numbers(column))
    if dtype.is_temporal():
        return ColumnProfile(**base, **_times(column))
    return ColumnProfile(**base, **_texts(column if dtype == pl.String else column.cast(pl.String), counts))


def text_counts(column: pl.Series) -> pl.DataFrame | None:
    """Return the different texts of a column as `value` with `count`, most frequent first; None where they are many."""
    if column.hash(seed=0).n_unique() > FEW_DISTINCT:
        return None
    counted = column.drop_nulls().rename("value").value_counts(name="count")
    return counted.sort(["count", "value"], descending=[True, False])


def histogram(column: pl.Series, n_bins: int = N_BINS) -> tuple[list[Any], list[int]]:
    """Return edges and counts of equal ranges over the finite numbers of `column`; empty where there are none."""
    values, _ = _finite_sorted(column)
    return _bins(values, n_bins) if len(values) else ([], [])


# Kinds of columns ------------------------------------------------------------------------------------------------


def _truths(column: pl.Series) -> dict[str, Any]:
    n_true, n_missing = int(column.sum()), column.null_count()
    n_false = len(column) - n_missing - n_true
    top = [(value, n) for value, n in ((True, n_true), (False, n_false)) if n]
    return {
        "distinct": len(top),
        "mean": n_true / (n_true + n_false),
        "top_values": sorted(top, key=lambda each: -each[1]),
        "agreement": _agreement(np.array([n_true, n_false, n_missing])),
    }


def _numbers(column: pl.Series) -> dict[str, Any]:
    values, n_infinite = _finite_sorted(column)
    if not len(values):
        return {"distinct": column.drop_nulls().n_unique(), "infinite": n_infinite}
    edges, counts = _bins(values, N_BINS)
    found = _in_order(column, values, n_infinite) | _moments(values)
    quantiles = {f"{q:g}": at for q in QUANTILES if isfinite(at := _quantile(values, q))}
    low, high = np.searchsorted(values, 0, "left"), np.searchsorted(values, 0, "right")
    return found | {
        "distinct": found["distinct"] + (column.filter(column.is_infinite()).n_unique() if n_infinite else 0),
        "infinite": n_infinite,
        "zeros": int(high - low),
        "negative": int(low),
        "outliers": _n_outliers(values, quantiles),
        "quantiles": quantiles,
        "edges": edges,
        "counts": counts,
        "trimmed": _trimmed(values, quantiles),
    }


def _finite_sorted(column: pl.Series) -> tuple[Array, int]:
    """Return the finite numbers in order, and how many infinite ones there are."""
    present = column.drop_nulls()
    n_infinite = 0
    if present.dtype.is_float():
        finite = present.is_finite()
        n_infinite = int(present.is_infinite().sum())
        if not finite.all():
            present = present.filter(finite)
    return present.sort().to_numpy(), n_infinite


def _times(column: pl.Series) -> dict[str, Any]:
    dtype = column.dtype
    values = column.drop_nulls().to_physical().sort().to_numpy()

    def times(ticks: Sequence[Any] | Array) -> list[Any]:
        whole = pl.Series(np.asarray(ticks).round().astype(np.int64))
        return whole.cast(column.to_physical().dtype).cast(dtype).to_list()

    edges, counts = _bins(values, N_BINS)
    found = _in_order(column, values, 0)
    found["top_values"] = list(
        zip(times([v for v, _ in found["top_values"]]), (n for _, n in found["top_values"]), strict=True)
    )
    for name in ("lowest", "highest"):
        found[name] = times(found[name])
    if edges[-1] > values[-1]:  # whole ranges end one tick above the last: a time that is in no row
        edges = [*edges[:-1], values[-1]]
    spread = times([_quantile(values, q) for q in QUANTILES])
    return found | {
        "min": found["lowest"][0],
        "max": found["highest"][0],
        "quantiles": {f"{q:g}": at for q, at in zip(QUANTILES, spread, strict=True)},
        "edges": times(edges),
        "counts": counts,
    }


def _in_order(column: pl.Series, values: Array, n_infinite: int) -> dict[str, Any]:
    """Return what the runs of equal values tell, of values in order."""
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    sizes = np.diff(np.append(starts, len(values)))
    heads = starts[-_N_EXTREMES:][::-1]
    others = np.array([column.null_count(), n_infinite])
    return {
        "distinct": len(starts),
        "min": values[0].item(),
        "max": values[-1].item(),
        "top_values": _top_runs(values, starts, sizes),
        "lowest": values[starts[:_N_EXTREMES]].tolist(),
        "highest": values[heads].tolist(),
        "order": _order(column),
        "agreement": _agreement(np.append(sizes, others)),
    }


def _top_runs(values: Array, starts: Array, sizes: Array) -> list[tuple[Any, int]]:
    """Return the longest runs; of many values those that repeat only."""
    kept = np.arange(len(sizes))
    if len(sizes) > N_TOP_VALUES:
        least = max(int(np.partition(sizes, -N_TOP_VALUES)[-N_TOP_VALUES]), 2)
        kept = np.flatnonzero(sizes >= least)
    first = kept[np.argsort(-sizes[kept], kind="stable")][:N_TOP_VALUES]
    return [(values[starts[i]].item(), int(sizes[i])) for i in first]


def _texts(column: pl.Series, counts: pl.DataFrame | None) -> dict[str, Any]:
    counts = counts if counts is not None else text_counts(column)
    lengths = column.str.len_chars()
    low, mean, high = lengths.min(), lengths.mean(), lengths.max()
    found: dict[str, Any] = {"min": column.min(), "max": column.max(), "lengths": (low, mean, high)}
    n_missing = column.null_count()
    if counts is not None:
        top = counts.head(N_TOP_VALUES)
        if len(counts) > N_TOP_VALUES:
            top = top.filter(pl.col("count") > 1)
        sizes = np.append(counts["count"].to_numpy(), n_missing)
        return found | {"distinct": len(counts), "top_values": top.rows(), "agreement": _agreement(sizes)}
    return found | _many_texts(column) | {"order": None}


def _many_texts(column: pl.Series) -> dict[str, Any]:
    """Return the figures of text with many different values, told apart by 64-bit hashes."""
    present = column.drop_nulls()
    hashes = present.hash(seed=0)
    ordered = hashes.sort().to_numpy()
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    sizes = np.diff(np.append(starts, len(ordered)))
    top: list[tuple[Any, int]] = []
    least = max(int(np.partition(sizes, -N_TOP_VALUES)[-N_TOP_VALUES]), 2)
    often = np.flatnonzero(sizes >= least)
    if len(often):
        often = often[np.argsort(-sizes[often], kind="stable")][: 10 * N_TOP_VALUES]
        chosen = present.filter(hashes.is_in(pl.Series(ordered[starts[often]]).implode())).rename("value")
        counted = chosen.value_counts(name="count").sort(["count", "value"], descending=[True, False])
        top = counted.head(N_TOP_VALUES).rows()
    agreement = _agreement(np.append(sizes, column.null_count()))
    return {"distinct": len(starts), "top_values": top, "agreement": agreement}


# Figures ---------------------------------------------------------------------------------------------------------


def _moments(values: Array) -> dict[str, float | None]:
    """Return mean, deviation, skewness and excess kurtosis of finite numbers; None where they are not finite.

    Source: Joanes and Gill, Comparing measures of sample skewness and kurtosis (1998): g1 and g2.
    """
    n = len(values)
    powers = np.zeros(3)
    with np.errstate(over="ignore", invalid="ignore"):  # near the ends of the range moments are not finite
        mean = float(values.mean(dtype=np.float64))
        for start in range(0, n, _CHUNK):
            deviations = values[start : start + _CHUNK].astype(np.float64) - mean
            squares = deviations * deviations
            powers += (squares.sum(), (squares * deviations).sum(), (squares * squares).sum())
        second, third, fourth = powers / n
        varies = second > 0 and isfinite(second) and values[0] != values[-1]
        skew = third / second**1.5 if varies else None
        kurtosis = fourth / second**2 - 3 if varies else None
    return {
        "mean": _known(mean),
        "std": _known(sqrt(second * n / (n - 1))) if n > 1 and isfinite(second) else None,
        "skew": _known(skew),
        "kurtosis": _known(kurtosis),
    }


def _known(value: float | None) -> float | None:
    return float(value) if value is not None and isfinite(value) else None


def _quantile(values: Array, q: float) -> float:
    """Return a quantile of values in order, between the two it lies between."""
    at = (len(values) - 1) * q
    below = int(at)
    low, high = float(values[below]), float(values[min(below + 1, len(values) - 1)])
    return low + (high - low) * (at - below) if high > low else low


def _n_outliers(values: Array, quantiles: dict[str, float]) -> int | None:
    fences = _fences(quantiles)
    if fences is None:
        return None
    return int(np.searchsorted(values, fences[0], "left") + len(values) - np.searchsorted(values, fences[1], "right"))


def _fences(quantiles: dict[str, float]) -> tuple[float, float] | None:
    if "0.25" not in quantiles or "0.75" not in quantiles:
        return None
    span = quantiles["0.75"] - quantiles["0.25"]
    if not span > 0 or not isfinite(span * _FAR):
        return None
    return quantiles["0.25"] - _FAR * span, quantiles["0.75"] + _FAR * span


def _trimmed(values: Array, quantiles: dict[str, float]) -> tuple[list[Any], list[int]]:
    """Return the histogram between the fences, where far values stretch the range so that one bar holds nearly all."""
    fences = _fences(quantiles)
    if fences is None or not float(values[-1]) - float(values[0]) > _TRIM_SPANS * (fences[1] - fences[0]) / 7:
        return [], []
    inside = values[np.searchsorted(values, fences[0], "left") : np.searchsorted(values, fences[1], "right")]
    return ([], []) if len(inside) == len(values) else _bins(inside, N_BINS)


def _bins(values: Array, n_bins: int) -> tuple[list[Any], list[int]]:
    """Return edges and counts of equal ranges over numbers in order."""
    low, high = values[0].item(), values[-1].item()
    if low == high or not isfinite(high - low):
        return [float(low), float(high)], [len(values)]
    if high - low < _WHOLE_WIDTHS * n_bins and bool((values == np.floor(values)).all()):
        low, high = int(low), int(high)  # ranges that hold different numbers of whole values would make false waves
        width = _whole_width(high - low + 1, n_bins)
        edges = [low + width * i for i in range((high - low) // width + 2)]
    else:
        edges = np.linspace(float(low), float(high), n_bins + 1).tolist()
    inner = np.searchsorted(values, np.asarray(edges[1:-1], dtype=np.float64 if values.dtype.kind == "f" else None))
    counts = np.diff(np.concatenate([[0], inner, [len(values)]]))
    return [float(edge) for edge in edges], counts.tolist()


def _whole_width(n_values: int, n_bins: int) -> int:
    """Return a width that leaves little of the last range empty: `n_bins` ranges or fewer, about half at least."""
    widths = range(-(-n_values // n_bins), max(-(-2 * n_values // n_bins), 1) + 1)
    return min(widths, key=lambda width: (-n_values % width / width, width))


def _order(column: pl.Series) -> Order | None:
    """Return how the values follow each other down the rows; None for constants and whatever goes up and down."""
    if len(column) < 2 or not _may_be_ordered(column.head(1000)):
        return None
    values = column.drop_nulls()
    if len(values) < 2 or values[0] == values[-1]:
        return None
    words: tuple[tuple[bool, Order, Order], ...] = (
        (False, "increasing", "strictly increasing"),
        (True, "decreasing", "strictly decreasing"),
    )
    for descending, loose, strict in words:
        if values.is_sorted(descending=descending):
            return loose if values.n_unique() < len(values) else strict
    return None


def _may_be_ordered(head: pl.Series) -> bool:
    values = head.drop_nulls()
    return values.is_sorted() or values.is_sorted(descending=True)


def _agreement(sizes: Array) -> float:
    """Return the share of pairs of different rows that fall into one of the groups of these sizes."""
    groups = sizes.astype(np.float64)
    n = float(groups.sum())
    return float((groups * (groups - 1)).sum() / (n * (n - 1))) if n > 1 else 1.0
