"""How columns of a table go together: correlations, and columns that say the same as another."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_server.engine.findings import Finding
from mcp_server.engine.profiling.columns import ColumnProfile
from mcp_server.engine.profiling.table import Table
from mcp_server.errors import shown

Method = Literal["pearson", "spearman", "cramers_v"]

MAX_CATEGORIES = 50
MAX_NUMERIC = 60
MAX_CATEGORICAL = 15
_MAX_WORK = 10_000_000_000  # rows × columns²; beyond it Pearson looks at the sample
_SAME_COLUMN = 0.999
_MAX_COMPARED_TEXTS = 40
_MAX_TRANSFORM_ERROR = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Correlation:
    """How strongly two columns go together: −1 to 1, Cramér's V 0 to 1."""

    a: str
    b: str
    method: Method
    value: float


def correlations(
    table: Table, sample: pl.DataFrame, profiles: Sequence[ColumnProfile]
) -> tuple[list[Correlation], bool]:
    """Return all pairs' correlations, strongest first: Pearson and Spearman for numbers, Cramér's V for categories.

    Pairs of rows where either is missing are left out. Pearson looks at all rows, unless those are very many, which
    the second value tells; the others at `sample`. Ranks are taken within a column, missing or not in the other.

    Source: Cramér, Mathematical Methods of Statistics (1946), section 21.9, for V.
    """
    numeric = [p for p in profiles if p.dtype.is_numeric() and p.distinct > 1 and p.std][:MAX_NUMERIC]
    names = [p.name for p in numeric]
    groups = [p.name for p in profiles if p.dtype in (pl.String, pl.Boolean) and 2 <= p.distinct <= MAX_CATEGORIES]
    whole = table.n_rows * len(names) ** 2 <= _MAX_WORK
    sums = PairSums([p.mean or 0.0 for p in numeric], [p.std or 1.0 for p in numeric])
    for batch in table.batches(names) if whole and len(names) > 1 else [sample.select(names)]:
        sums.add(_matrix(batch))
    found = _of_pairs(names, sums.correlations(), "pearson")
    ranks = sample.select(pl.col(names).cast(pl.Float64).rank())
    found += _of_pairs(names, pearson_matrix(_matrix(ranks)), "spearman")
    found += _of_categories(sample, groups[:MAX_CATEGORICAL])
    return sorted(found, key=lambda c: -abs(c.value)), whole


def _of_pairs(names: Sequence[str], matrix: Floats, method: Method) -> list[Correlation]:
    return [
        Correlation(names[i], names[j], method, float(matrix[i, j]))
        for i, j in combinations(range(len(names)), 2)
        if np.isfinite(matrix[i, j])
    ]


def _of_categories(sample: pl.DataFrame, names: Sequence[str]) -> list[Correlation]:
    codes = {name: _codes(sample[name]) for name in names}
    found = []
    for a, b in combinations(names, 2):
        value = _v_of_codes(codes[a], codes[b])
        if value is not None:
            found.append(Correlation(a, b, "cramers_v", value))
    return found


def _matrix(frame: pl.DataFrame) -> Floats:
    if not frame.width:
        return np.empty((len(frame), 0))
    values = frame.select(pl.all().cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, np.nan)


class PairSums:
    """Sums over rows from which each pair's Pearson correlation follows; rows may come in any number of parts.

    Args:
        centres, scales: shape (p,), a mean and a deviation of each column; they keep the sums exact.
    """

    def __init__(self, centres: Sequence[float] | Floats, scales: Sequence[float] | Floats) -> None:
        self._centres, self._scales = np.asarray(centres, dtype=np.float64), np.asarray(scales, dtype=np.float64)
        width = len(self._centres)
        self._n, self._a, self._aa, self._ab = (np.zeros((width, width)) for _ in range(4))

    def add(self, values: Floats) -> None:
        """Take in rows: shape (n, p), missing values NaN."""
        present = ~np.isnan(values)
        if present.all():
            x = (values - self._centres) / self._scales
            self._n += len(x)
            self._a += x.sum(axis=0)[:, None]
            self._aa += (x * x).sum(axis=0)[:, None]
        else:
            mask = present.astype(np.float64)
            x = np.where(present, (values - self._centres) / self._scales, 0.0)
            self._n += mask.T @ mask
            self._a += x.T @ mask
            self._aa += (x * x).T @ mask
        self._ab += x.T @ x

    def correlations(self) -> Floats:
        """Return shape (p, p); NaN where a column does not vary on the shared rows."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            covariance = self._ab / self._n - self._a / self._n * (self._a.T / self._n)
            variance = self._aa / self._n - (self._a / self._n) ** 2
            varies = (variance > 1e-12) & (variance.T > 1e-12)
            matrix = np.where(varies, covariance / np.sqrt(variance * variance.T), np.nan)
        return np.clip(matrix, -1.0, 1.0)


def pearson_matrix(values: Floats) -> Floats:
    """Return Pearson's correlation of each pair of columns over the rows where neither is NaN.

    Args:
        values: shape (n, p), missing values NaN.

    Returns:
        Shape (p, p); NaN where a column does not vary on the shared rows.
    """
    present = ~np.isnan(values)
    n_present = np.maximum(present.sum(axis=0), 1)
    with np.errstate(invalid="ignore", over="ignore"):
        centre = np.where(present, values, 0).sum(axis=0) / n_present
        scale = np.sqrt((np.where(present, values - centre, 0.0) ** 2).sum(axis=0) / n_present)
    sums = PairSums(centre, np.where((scale > 0) & np.isfinite(scale), scale, 1.0))
    sums.add(values)
    return sums.correlations()


def cramers_v(a: pl.Series, b: pl.Series) -> float | None:
    """Return Cramér's V of two columns of categories over the rows that have both; None where either is constant."""
    return _v_of_codes(_codes(a), _codes(b))


def _codes(column: pl.Series) -> NDArray[np.int64]:
    """Return each value's number from 0, −1 where it is missing."""
    ranks = column.cast(pl.String).rank("dense").cast(pl.Int64).fill_null(0) - 1
    return ranks.to_numpy()


def _v_of_codes(a: NDArray[np.int64], b: NDArray[np.int64]) -> float | None:
    both = (a >= 0) & (b >= 0)
    a, b = a[both], b[both]
    if not len(a):
        return None
    width = int(b.max()) + 1
    observed = np.bincount(a * width + b, minlength=(int(a.max()) + 1) * width).reshape(-1, width).astype(np.float64)
    observed = observed[observed.sum(axis=1) > 0][:, observed.sum(axis=0) > 0]
    smaller = min(observed.shape) - 1
    if smaller < 1:
        return None
    # chi² / n is Σ O² / (R·C) − 1, in which empty cells count by themselves
    expected = observed.sum(axis=1)[:, None] * observed.sum(axis=0)
    phi2 = float((observed**2 / expected).sum()) - 1.0
    return float(np.sqrt(max(0.0, phi2) / smaller))


# Columns that say the same --------------------------------------------------------------------------------------


def same_columns(
    table: Table, sample: pl.DataFrame, profiles: Sequence[ColumnProfile], related: Iterable[Correlation]
) -> list[Finding]:
    """Return, for each column that says the same as an earlier one, what of it: equal, rescaled, reordered, renamed."""
    by_name = {p.name: p for p in profiles}
    place = {p.name: i for i, p in enumerate(profiles)}
    said: set[str] = set()
    found = []
    for a, b in [*_equal(table, sample, by_name), *_rescaled(related)]:
        first, second = sorted((a, b), key=place.__getitem__)
        if second in said:
            continue
        text = _likeness(table, sample, by_name[first], by_name[second], related)
        if text is not None:
            said.add(second)
            found.append(Finding(second, "near_duplicate_column", text))
    return found


def _equal(table: Table, sample: pl.DataFrame, profiles: Mapping[str, ColumnProfile]) -> list[tuple[str, str]]:
    """Return pairs of columns of text or times that agree on the sample, by capitals and spaces or by one-to-one."""
    names = [n for n, p in profiles.items() if not p.dtype.is_numeric() and p.distinct > 1][:_MAX_COMPARED_TEXTS]
    keys = {name: _folded(sample[name]).hash(seed=1) for name in names}
    return [(a, b) for a, b in combinations(names, 2) if _one_to_one(sample, profiles, keys, a, b)]


def _folded(column: pl.Series) -> pl.Series:
    return column.str.strip_chars().str.to_lowercase() if column.dtype == pl.String else column


def _one_to_one(
    sample: pl.DataFrame, profiles: Mapping[str, ColumnProfile], keys: Mapping[str, pl.Series], a: str, b: str
) -> bool:
    """Return whether two columns tell rows apart in the same way on the sample; identifiers always do, equal or not."""
    first, second = profiles[a], profiles[b]
    if min(first.distinct, second.distinct) > 0.5 * first.n_rows:
        return first.dtype == second.dtype and _folded(sample[a]).equals(_folded(sample[b]), null_equal=True)
    if abs(first.distinct - second.distinct) > 0.02 * max(first.distinct, second.distinct, 1):
        return False
    n_a, n_b = keys[a].n_unique(), keys[b].n_unique()
    return n_a == n_b == (keys[a].hash(seed=2) ^ keys[b].hash(seed=3)).n_unique()


def _rescaled(related: Iterable[Correlation]) -> list[tuple[str, str]]:
    return [(c.a, c.b) for c in related if c.method != "cramers_v" and abs(c.value) >= _SAME_COLUMN]


def _likeness(
    table: Table, sample: pl.DataFrame, first: ColumnProfile, second: ColumnProfile, related: Iterable[Correlation]
) -> str | None:
    """Return in which way `second` says the same as `first`, None where two truth values only go together."""
    a, b = table.column(first.name), table.column(second.name)
    name = shown(first.name)
    if a.dtype == b.dtype and a.equals(b, null_equal=True, check_names=False):
        return f"Equal to {name} in every row."
    if not a.dtype.is_numeric():
        if a.dtype == b.dtype == pl.String and _folded(a).equals(_folded(b), null_equal=True):
            return f"Equal to {name} but for capitals and spaces."
        return f"Goes one-to-one with {name}: each value of one stands beside one value of the other."
    values = {c.method: c.value for c in related if {c.a, c.b} == {first.name, second.name}}
    pearson, spearman = values.get("pearson", 0.0), values.get("spearman", 0.0)
    line = _line(a, b) if abs(pearson) > _SAME_COLUMN else None
    if line is not None:
        return f"Equal to {line[0]}{name}{line[1]} in every row."
    if abs(spearman) >= 1 - 1e-12 and not (first.order and second.order):
        return f"A transform of {name} that keeps its order (Spearman {spearman:.4f}, Pearson {pearson:.4f})."
    if abs(pearson) >= _SAME_COLUMN:
        return f"Goes with {name} almost exactly (Pearson {pearson:.4f})."
    return None


def _line(a: pl.Series, b: pl.Series) -> tuple[str, str] | None:
    """Return the words around `a` in b = slope · a + offset, where that holds in all rows; None where it does not."""
    if a.is_null().ne(b.is_null()).any():
        return None
    x, y = (series.drop_nulls().cast(pl.Float64).to_numpy() for series in (a, b))
    low, high = int(np.argmin(x)), int(np.argmax(x))
    with np.errstate(all="ignore"):
        slope = float((y[high] - y[low]) / (x[high] - x[low]))
        slope = round(slope) if abs(slope - round(slope)) < 1e-12 and round(slope) else slope
        offset = float(y[low] - slope * x[low])
        error = float(np.abs(slope * x + offset - y).max())
        size = float(np.abs(y).max())
    if not error <= _MAX_TRANSFORM_ERROR * max(size, 1e-300):
        return None
    offset = 0.0 if abs(offset) <= _MAX_TRANSFORM_ERROR * size else offset
    if slope == -1:
        return (f"{offset:.10g} − " if offset else "−"), ""
    factor = "" if slope == 1 else f"{slope:.10g} × "
    return factor, f" {'+' if offset > 0 else '−'} {abs(offset):.10g}" if offset else ""
