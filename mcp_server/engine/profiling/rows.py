"""How the rows of a table relate: keys, rows that repeat or nearly do, rows out of the order of their time.

A row is compared by the sum of its cells' 64-bit hashes, so that leaving a column out is a subtraction. Two rows that
differ in one column agree in one half of the columns or the other: only rows that share a half are looked at closely.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import log
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_server.engine.findings import Finding
from mcp_server.engine.profiling.columns import ColumnProfile
from mcp_server.engine.profiling.table import Table
from mcp_server.errors import shown

_MAX_KEYS = 5
_MAX_KEY_PAIRS = 40
_FIRST_LOOK = 20_000  # rows that refute most pairs
_NEAR_KEY_SHARE = 0.5
_KEY_SHARE = 0.9
_MAX_NEAR_DUPLICATES = 5
_BEYOND_CHANCE = 5.0  # times as many agreeing pairs as independent columns would give
_MAX_COMPARED_ROWS = 100_000
_PAIRED_SHARE = 0.9
_OUT_OF_ORDER_SHARE = 0.05
_TIME_NAME = re.compile(r"(^|_)(date|day|time|timestamp|season|year|month|week)($|_)", re.IGNORECASE)

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Rows that agree in `key` and still differ; `groups` of two or more, `n_rows` beyond the first of each."""

    key: list[str]
    groups: int
    n_rows: int
    differing_columns: list[str]
    fix: str
    example: str = ""


@dataclass(frozen=True, slots=True)
class Repeated:
    """Rows that repeat others wholly, and groups of those that nearly do, most rows first."""

    duplicate_rows: int
    near: list[NearDuplicates]


def candidate_keys(table: Table, profiles: Mapping[str, ColumnProfile]) -> list[list[str]]:
    """Return up to five smallest sets of one or two columns that tell all rows apart, none of them missing.

    Measures are no keys: floats count only when all of them are whole.
    """
    usable = [name for name, p in profiles.items() if not p.missing and not p.infinite and _may_be_key(table, p)]
    single = [[name] for name in usable if profiles[name].distinct == table.n_rows]
    if single:
        return single[:_MAX_KEYS]
    rest = sorted((name for name in usable if profiles[name].distinct > 1), key=lambda name: -profiles[name].distinct)
    enough = [pair for pair in combinations(rest, 2) if _product(profiles, pair) >= table.n_rows]
    head = table.head(_FIRST_LOOK)
    keys: list[list[str]] = []
    for pair in enough[:_MAX_KEY_PAIRS]:
        if len(keys) < _MAX_KEYS and _tells_apart(head.select(pair)) and _tells_apart(table.columns(pair)):
            keys.append(list(pair))
    return keys


def _product(profiles: Mapping[str, ColumnProfile], pair: tuple[str, str]) -> int:
    return profiles[pair[0]].distinct * profiles[pair[1]].distinct


def _tells_apart(columns: pl.DataFrame) -> bool:
    return columns.hash_rows(seed=0).n_unique() == len(columns)


def _may_be_key(table: Table, profile: ColumnProfile) -> bool:
    if not profile.dtype.is_float():
        return True
    if any(value != int(value) for value, _ in profile.top_values) or profile.min != int(profile.min):
        return False
    column = table.column(profile.name)
    return bool((column.floor() == column).all())


# Rows that repeat ------------------------------------------------------------------------------------------------


def repeated_rows(table: Table, profiles: Mapping[str, ColumnProfile]) -> Repeated:
    """Return how many rows repeat an earlier one, and those that do but for one column, or share an identifier."""
    halves = _half_hashes(table, profiles)
    close = np.flatnonzero(_is_repeated(halves[0]) | _is_repeated(halves[1]))
    full = (halves[0] + halves[1])[close]
    _, first = np.unique(full, return_index=True)
    n_duplicates = len(close) - len(first)
    first.sort()
    near = _all_but_one(table, profiles, close[first], full[first], n_duplicates)
    near += _all_but_identifiers(table, profiles, halves[0] + halves[1], n_duplicates)
    said = {(each.groups, *each.differing_columns) for each in near}
    for name in _near_keys(profiles, n_duplicates):
        shared = _same_identifier(table, name, n_duplicates)
        if shared is not None and (shared.groups, *shared.differing_columns) not in said:
            near.append(shared)
    return Repeated(n_duplicates, near[:_MAX_NEAR_DUPLICATES])


def _half_hashes(table: Table, profiles: Mapping[str, ColumnProfile]) -> tuple[Hashes, Hashes]:
    """Return the rows' hashes over two halves of the columns, the most telling columns dealt out by turns."""
    halves = (np.zeros(table.n_rows, dtype=np.uint64), np.zeros(table.n_rows, dtype=np.uint64))
    for i, name in enumerate(sorted(table.names, key=lambda name: profiles[name].agreement)):
        target = halves[i % 2]
        target += _hash(table, name)
    return halves


def _hash(table: Table, name: str) -> Hashes:
    """Return the cells' hashes; equal values of two columns hash apart."""
    return table.column(name).hash(seed=table.names.index(name) + 1).to_numpy()


def _is_repeated(keys: Hashes) -> NDArray[np.bool_]:
    ordered = pl.Series(keys).sort().to_numpy()
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(twice):
        return np.zeros(len(keys), dtype=np.bool_)
    at = np.searchsorted(twice, keys).clip(max=len(twice) - 1)
    return np.asarray(twice[at] == keys)


def _all_but_one(
    table: Table, profiles: Mapping[str, ColumnProfile], rows: NDArray[np.int64], full: Hashes, n_duplicates: int
) -> list[NearDuplicates]:
    """Compare different rows without one column each: their hash less that column's stands for the rest."""
    found = []
    for name in table.names if len(rows) > 1 and len(table.names) > 1 else []:
        rest = full - _hash(table, name)[rows]
        repeated = np.flatnonzero(_is_repeated(rest))
        if not len(repeated):
            continue
        groups = np.unique(rest[repeated])
        n_rows = len(repeated) - len(groups)
        if _by_chance(table, profiles, [name], n_rows, n_duplicates):
            continue
        pair = rows[repeated[rest[repeated] == rest[repeated[0]]]][:2]
        key = [other for other in table.names if other != name]
        found.append(NearDuplicates(key, len(groups), n_rows, [name], *_advice(table, pair, name)))
    return sorted(found, key=lambda near: -near.n_rows)


def _by_chance(
    table: Table, profiles: Mapping[str, ColumnProfile], left_out: Sequence[str], n_rows: int, n_duplicates: int
) -> bool:
    """Return whether so many rows may well agree in the other columns without meaning the same.

    They do not where one of the others tells nearly all rows apart, nor where far more agree than independent columns
    of such values would make agree.
    """
    if table.n_rows - n_rows - n_duplicates < _NEAR_KEY_SHARE * table.n_rows:
        return True
    others = [p for name, p in profiles.items() if name not in left_out]
    if any(p.distinct >= _KEY_SHARE * (table.n_rows - n_duplicates) for p in others):
        return False
    chance = sum(log(max(p.agreement, 1e-300)) for p in others)
    expected = 2 * log(table.n_rows) - log(2) + chance
    return log(max(n_rows, 1)) < expected + log(_BEYOND_CHANCE)


def _advice(table: Table, pair: NDArray[np.int64], name: str) -> tuple[str, str]:
    """Return what to do about two rows that differ in one column, and what they hold there."""
    a, b = table.column(name).gather(pair).to_list()
    example = f"rows {pair[0]:,} and {pair[1]:,} (from 0): {shown(a, 40)} and {shown(b, 40)}"
    drop = f"clean_dataset with drop_duplicates on the columns other than {shown(name)} keeps the first row of each"
    if isinstance(a, str) and isinstance(b, str) and " ".join(a.lower().split()) == " ".join(b.lower().split()):
        return "The values differ in capitals or spaces only: trim or replace them, then drop_duplicates.", example
    if a is None or b is None:
        return f"One row of each may lack the value: {drop}; put the filled one first.", example
    return f"If one row of each is wrong: {drop}.", example


def _all_but_identifiers(
    table: Table, profiles: Mapping[str, ColumnProfile], full: Hashes, n_duplicates: int
) -> list[NearDuplicates]:
    """Compare rows without all the columns that number them, where there are several."""
    numbering = [n for n, p in profiles.items() if p.distinct == table.n_rows and not p.dtype.is_float()]
    if not 2 <= len(numbering) <= len(table.names) - 2:
        return []
    rest = full.copy()
    for name in numbering:
        rest -= _hash(table, name)
    repeated = np.flatnonzero(_is_repeated(rest))
    n_groups = len(np.unique(rest[repeated]))
    n_rows = len(repeated) - n_groups
    if not n_rows or _by_chance(table, profiles, numbering, n_rows, n_duplicates):
        return []
    key = [name for name in table.names if name not in numbering]
    fix = "The rows differ in what numbers them only: clean_dataset with drop_duplicates on the other columns."
    return [NearDuplicates(key, n_groups, n_rows, numbering, fix)]


def _near_keys(profiles: Mapping[str, ColumnProfile], n_duplicates: int) -> list[str]:
    """Return the columns that tell most rows apart, but not all."""
    return [
        name
        for name, p in profiles.items()
        if _NEAR_KEY_SHARE * p.n_rows <= p.distinct < p.n_rows - n_duplicates
        and not p.missing
        and not p.dtype.is_float()
        and p.dtype != pl.Boolean
    ]


def _same_identifier(table: Table, name: str, n_duplicates: int) -> NearDuplicates | None:
    """Return the rows that share a value of column `name`, when they agree in most other columns."""
    keys = _hash(table, name)
    rows = np.flatnonzero(_is_repeated(keys))
    _, group, sizes = np.unique(keys[rows], return_inverse=True, return_counts=True)
    kept = group < np.searchsorted(np.cumsum(sizes), _MAX_COMPARED_ROWS, "right") if len(rows) else group > 0
    if not kept.any():
        return None
    doubled = table.rows(rows[kept])
    doubled = doubled.select(pl.all().gather(np.argsort(group[kept], kind="stable")))
    same = (pl.col(name) == pl.col(name).shift(1)).fill_null(False)
    others = [other for other in table.names if other != name]
    changed = doubled.select((pl.col(other).ne_missing(pl.col(other).shift(1)) & same) for other in others)
    differing = [column.name for column in changed.iter_columns() if column.any()]
    changing = doubled.filter(changed.select(pl.any_horizontal(pl.all())).to_series())[name].n_unique()
    n_groups = changing if kept.all() else len(sizes)
    paired = len(rows) == 2 * len(sizes) and len(rows) >= _PAIRED_SHARE * table.n_rows
    if not differing or (2 * len(differing) > len(others) and not paired):
        return None
    marker = _marker(doubled, name, differing) if paired else None
    if marker is not None:
        fix = f"Keep one row of each: {marker} tells the two apart."
    else:
        fix = f"clean_dataset with drop_duplicates and columns [{shown(name)}], if one row of each is wrong."
    first = doubled[name][0]
    example = f"{shown(name)} {shown(first, 40)} stands in {int((doubled[name] == first).sum())} rows"
    return NearDuplicates([name], n_groups, len(rows) - len(sizes) - n_duplicates, differing, fix, example)


def _marker(doubled: pl.DataFrame, key: str, differing: Sequence[str]) -> str | None:
    """Return a column that is 0 in one row of each pair and 1 in the other."""
    for name in differing:
        column = doubled[name]
        if column.null_count() or not (column.dtype.is_integer() or column.dtype == pl.Boolean):
            continue
        if column.n_unique() == 2 and doubled.select(key, name).n_unique() == len(doubled):
            return f"column {shown(name)} with two values"
    return None


# The order of rows -----------------------------------------------------------------------------------------------


def order_findings(table: Table, profiles: Sequence[ColumnProfile]) -> list[Finding]:
    """Return the columns of times whose rows are in order but for a few; tables sorted within groups are in order."""
    found = []
    for profile in profiles:
        timed = profile.dtype in (pl.Date, pl.Datetime) or (
            profile.dtype.is_integer() and _TIME_NAME.search(profile.name) is not None
        )
        if not timed or profile.order is not None or profile.present < 20:
            continue
        column = table.column(profile.name).to_physical()
        known = column.forward_fill()
        falls = (known < known.shift(1)).fill_null(False)
        n_falls = int(falls.sum())
        if not 0 < n_falls <= max(1, int(_OUT_OF_ORDER_SHARE * profile.present)):
            continue
        at = falls.arg_max()
        if at is None or _within_groups(table, profiles, falls, n_falls):
            continue
        before, after = (_time(table, profile.name, i) for i in (at - 1, at))
        n_late = int((known < known.cum_max()).sum())
        text = (
            f"Rows follow {shown(profile.name)} but for {n_falls:,} place{'' if n_falls == 1 else 's'} "
            f"({n_late:,} rows stand after a later one; first at row {at:,} from 0: {before}, then {after})."
        )
        found.append(Finding(profile.name, "rows_out_of_order", text + " Sort by it before splitting by time."))
    return found


def _time(table: Table, name: str, row: int) -> Any:
    return shown(str(table.column(name)[row]), 30)[1:-1]


def _within_groups(table: Table, profiles: Sequence[ColumnProfile], falls: pl.Series, n_falls: int) -> bool:
    """Return whether another column changes wherever the time falls back, and hardly anywhere else."""
    for profile in profiles:
        if not 2 <= profile.distinct <= n_falls + 1:
            continue
        column = table.column(profile.name)
        changes = column.ne_missing(column.shift(1))
        if int(changes.sum()) <= 2 * n_falls + 2 and bool((changes | ~falls).all()):
            return True
    return False
