"""Columns that give away what looks like a target: hints to look closer, never verdicts."""

import re
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import polars as pl

from mcp_server.engine.findings import Finding
from mcp_server.engine.profiling.columns import ColumnProfile
from mcp_server.engine.profiling.table import spread_sample
from mcp_server.errors import shown

_TARGET_NAME = re.compile(
    r"^(y|target|label|class|outcome|result|win|wins|won|winner|churn|churned|survived|fraud|default|defaulted|"
    r"converted|conversion|died|purchased|success|approved|response|is_(fraud|churn|spam|win|default)|"
    r".*_(result|win|won|winner|outcome|label|target|class))$"
)
_TELLS = 0.99
_TELLS_BEYOND_BASE = 0.95
_MAX_CLASSES = 10
_LEAST_ROWS = 10
_MAX_ROWS = 25_000
_MAX_PAIR_ROWS = 5_000
_MAX_PAIR_COLUMNS = 12


def leak_findings(sample: pl.DataFrame, profiles: Sequence[ColumnProfile]) -> list[Finding]:
    """Return the columns, and pairs of numbers, that alone nearly decide a column that looks like an outcome."""
    sample = sample.select(pl.all().gather(spread_sample(len(sample), _MAX_ROWS)))
    found: list[Finding] = []
    for profile in profiles:
        if _TARGET_NAME.match(profile.name.lower()) and 2 <= profile.distinct <= _MAX_CLASSES:
            found += _leaks(sample, sample[profile.name], profiles)
    return found


def _leaks(sample: pl.DataFrame, target: pl.Series, profiles: Sequence[ColumnProfile]) -> Iterator[Finding]:
    others = [p for p in profiles if p.name != target.name and (p.distinct > 1 or p.missing)]
    alone = set()
    for profile in others:
        share = _separation(sample[profile.name], target) if profile.distinct > 1 else None
        if share is not None:
            alone.add(profile.name)
            text = f"Alone it tells {shown(target.name)} in {share:.1%} of cases: is it known before the outcome?"
            yield Finding(profile.name, "possible_leak", text + " If not, leave it out of the features.")
        elif profile.missing and _missing_tells(sample[profile.name], target):
            text = f"Whether it is missing nearly decides {shown(target.name)}: is it filled in after the outcome?"
            yield Finding(profile.name, "possible_leak", text)
    numbers = [p.name for p in others if p.dtype.is_numeric() and p.name not in alone and p.distinct > 2]
    rows = spread_sample(len(sample), _MAX_PAIR_ROWS)
    yield from _pair_leaks(sample.select(pl.all().gather(rows)), target.gather(rows), numbers[:_MAX_PAIR_COLUMNS])


def _pair_leaks(sample: pl.DataFrame, target: pl.Series, names: Sequence[str]) -> Iterator[Finding]:
    """Yield the pairs whose difference tells the two values of a target, as the points of both teams tell who won."""
    if target.n_unique() - bool(target.null_count()) != 2:
        return
    for a, b in combinations(names, 2):
        difference = sample[a].cast(pl.Float64) - sample[b].cast(pl.Float64)
        share = _separation(difference.rename(a), target)
        if share is not None and share >= 0.999:
            text = f"Its difference from {shown(b)} tells {shown(target.name)} in {share:.1%} of cases: are both"
            yield Finding(a, "possible_leak", f"{text} known before the outcome?")


def _separation(column: pl.Series, target: pl.Series) -> float | None:
    """Return how well a column alone tells a target where it nearly does, else None.

    The area under the ROC curve in either direction for numbers and two classes, else the share of rows in their
    group's most frequent class, which must beat the most frequent class of all by far.
    """
    rows = pl.DataFrame({"x": column, "y": target}).drop_nulls()
    if rows["y"].n_unique() < 2 or rows.group_by("y").len()["len"].min() < _LEAST_ROWS:  # type: ignore[operator]
        return None
    if column.dtype.is_numeric() and rows["y"].n_unique() == 2:
        area = _area(rows)
        return area if area >= _TELLS else None
    if rows["x"].n_unique() > len(rows) // 4:
        return None
    share, base = _purity(rows)
    return share if share >= _TELLS and (share - base) >= _TELLS_BEYOND_BASE * (1 - base) else None


def _area(rows: pl.DataFrame) -> float:
    positive = rows["y"] == rows["y"].max()
    n_positive = int(positive.sum())
    n_negative = len(rows) - n_positive
    rank_sum = float(rows["x"].rank().filter(positive).sum())
    area = (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
    return max(area, 1 - area)


def _purity(rows: pl.DataFrame) -> tuple[float, float]:
    cells = rows.group_by("x", "y").len()
    right = int(cells.group_by("x").agg(pl.max("len"))["len"].sum())
    base = int(np.max(rows.group_by("y").len()["len"].to_numpy()))
    return right / len(rows), base / len(rows)


def _missing_tells(column: pl.Series, target: pl.Series) -> bool:
    rows = pl.DataFrame({"x": column.is_null(), "y": target}).drop_nulls()
    if rows["x"].n_unique() < 2 or rows["y"].n_unique() < 2:
        return False
    share, base = _purity(rows)
    return share >= _TELLS and (share - base) >= _TELLS_BEYOND_BASE * (1 - base)
