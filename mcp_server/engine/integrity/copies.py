"""Rows that are nearly copies of each other: equal but for some columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_server.engine.expectations.literals import plain, unused_name
from mcp_server.engine.integrity.table import (
    MAX_EXAMPLE_ROWS,
    Finding,
    Table,
    counted,
    occurring_twice,
    repeated,
    rows_of,
)
from mcp_server.errors import InvalidArgumentError, shown

_MAX_GROUPS_A_COLUMN: Final = 3  # in examples, where it is not said which columns may differ
_MAX_GROUPS: Final = 10
_CANDIDATES_AT_A_TIME: Final = 500_000
_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Rows that are equal but for the columns `ignored`; with none named, rows that differ in exactly one column."""

    ignored: tuple[str, ...] = ()


def check_copies(table: Table, rule: NearDuplicates) -> Finding:
    """Return the rows that are nearly copies of others; missing values equal each other.

    Raises:
        InvalidArgumentError: a column does not exist, or all are to be ignored.
    """
    table.require(rule.ignored)
    columns = [name for name in table.schema if _comparable(table.schema[name])]
    if not rule.ignored:
        return _differing_in_one(table, columns)
    key = [name for name in columns if name not in rule.ignored]
    if not key:
        raise InvalidArgumentError("No column is left to compare rows by.", hint="Except fewer columns.")
    return _equal_but_for(table, key, rule.ignored)


def _comparable(dtype: pl.DataType) -> bool:
    return not dtype.is_nested() and dtype not in (pl.Binary, pl.Object)


def _equal_but_for(table: Table, key: Sequence[str], ignored: Sequence[str]) -> Finding:
    groups = repeated(table, key, missing_equal=True)
    target = f"rows equal but for {', '.join(ignored)}"
    if groups.top is None or not groups.n_rows:
        return Finding("near_duplicates", target, 0, table.n_rows, 0, "No two rows are.", groups=0)
    top = groups.top.head(_MAX_GROUPS)
    numbers = rows_of(table, top, key, missing_equal=True)
    cells = _cells(table, [row for rows in numbers for row in rows])
    examples = tuple(
        _example(cells, rows, [name for name in ignored if _differ(cells, rows, name)], key, size)
        for rows, size in zip(numbers, top[groups.count].to_list(), strict=True)
    )
    text = f"{counted(groups.n_rows, 'row')} in {counted(groups.n_groups, 'group')}; missing values equal each other."
    return Finding("near_duplicates", target, groups.n_rows, table.n_rows, 0, text, examples, groups=groups.n_groups)


def _cells(table: Table, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the cells of a few rows, by row number."""
    row = unused_name("row", table.schema)
    wanted = pl.LazyFrame({row: sorted(set(rows))}, schema={row: table.frame.with_row_index(row).collect_schema()[row]})
    found = table.frame.with_row_index(row).join(wanted, on=row, how="semi").collect(engine="streaming")
    return {each.pop(row): each for each in found.to_dicts()}


def _differ(cells: dict[int, dict[str, Any]], rows: Sequence[int], name: str) -> bool:
    return len({repr(cells[row][name]) for row in rows}) > 1


def _example(
    cells: dict[int, dict[str, Any]], rows: Sequence[int], differing: Sequence[str], key: Sequence[str], size: int
) -> dict[str, Any]:
    """Return the first rows of a group with what differs between them, and some of what they share."""
    return {
        "rows": size,
        "row_numbers": list(rows),
        "differing": {name: [plain(cells[row][name]) for row in rows] for name in differing},
        "shared": {name: plain(cells[rows[0]][name]) for name in list(key)[:3]} if rows else {},
    }


def _differing_in_one(table: Table, columns: Sequence[str]) -> Finding:
    """For each column find the rows that agree in all others and differ in it.

    The hash of a row is the sum of its cells' hashes, so taking one cell's away leaves the hash of the others. Rows
    that agree in that are few; these are compared exactly. 32 bytes a row are held.
    """
    target = "rows equal but for one column"
    if len(columns) < 2:
        return Finding("near_duplicates", target, 0, table.n_rows, 0, "There is one column only.", groups=0)
    whole = np.zeros(table.n_rows, dtype=np.uint64)
    for name in columns:
        table.tick()
        whole += _hashes(table, name)
    involved = np.zeros(table.n_rows, dtype=bool)
    by_column: dict[str, tuple[int, int]] = {}
    examples: list[dict[str, Any]] = []
    for name in columns:
        table.tick()
        others = whole - _hashes(table, name)
        found = _groups_differing_in(table, name, [each for each in columns if each != name], others)
        if found.groups:
            by_column[name] = (found.groups, len(found.rows))
            involved[found.rows] = True
            examples += found.examples
    if not by_column:
        return Finding("near_duplicates", target, 0, table.n_rows, 0, "No two rows are.", groups=0)
    said = sorted(by_column.items(), key=lambda each: -each[1][1])
    listed = ", ".join(
        f"{shown(name)} ({rows:,} rows, {counted(groups, 'group')})" for name, (groups, rows) in said[:10]
    )
    order = [name for name, _ in said]
    examples.sort(key=lambda each: order.index(next(iter(each["differing"]))))
    n_groups = sum(groups for groups, _ in by_column.values())
    text = f"Equal but for {listed}; missing values equal each other."
    n_rows = int(involved.sum())
    return Finding("near_duplicates", target, n_rows, table.n_rows, 0, text, tuple(examples[:20]), groups=n_groups)


def _hashes(table: Table, name: str) -> NDArray[np.uint64]:
    """Return a hash for each cell of a column, another function for each column."""
    seed = _SEED + table.schema.names().index(name)
    values = table.frame.select(pl.col(name).hash(seed)).collect(engine="streaming").to_series()
    return values.to_numpy().astype(np.uint64, copy=False)


@dataclass(slots=True)
class _Found:
    """Groups of rows that differ in one column: how many, their rows' numbers, and a few of them."""

    groups: int
    rows: NDArray[np.int64]
    examples: list[dict[str, Any]]


def _groups_differing_in(table: Table, name: str, others: Sequence[str], hashes: NDArray[np.uint64]) -> _Found:
    twice = occurring_twice(pl.Series(hashes))
    found = _Found(0, np.zeros(0, dtype=np.int64), [])
    if not len(twice):
        return found
    candidates = np.flatnonzero(np.isin(hashes, twice))
    candidates = candidates[np.argsort(hashes[candidates], kind="stable")]
    start = 0
    while start < len(candidates):
        table.tick()
        end = min(start + _CANDIDATES_AT_A_TIME, len(candidates))
        while end < len(candidates) and hashes[candidates[end]] == hashes[candidates[end - 1]]:
            end += 1
        _compare(table, name, others, np.sort(candidates[start:end]), found)
        start = end
    return found


def _compare(table: Table, name: str, others: Sequence[str], candidates: NDArray[np.int64], found: _Found) -> None:
    """Compare the candidates exactly and add the groups that differ in the column."""
    row, numbers, kinds = (unused_name(each, table.schema) for each in ("row", "numbers", "kinds"))
    index = table.frame.with_row_index(row)
    wanted = pl.LazyFrame({row: candidates}).with_columns(pl.col(row).cast(index.collect_schema()[row]))
    groups = (
        index.join(wanted, on=row, how="semi")
        .group_by(list(others))
        .agg(pl.col(row).sort().alias(numbers), pl.col(name).n_unique().alias(kinds))
        .filter(pl.col(kinds) > 1)
        .select(numbers)
        .collect(engine="streaming")
        .sort(pl.col(numbers).list.first())
    )
    if not groups.height:
        return
    found.groups += groups.height
    found.rows = np.concatenate([found.rows, groups[numbers].explode().to_numpy().astype(np.int64)])
    for rows in groups[numbers].head(_MAX_GROUPS_A_COLUMN - len(found.examples)).to_list():
        chosen = rows[:MAX_EXAMPLE_ROWS]
        cells = _cells(table, chosen)
        found.examples.append(_example(cells, chosen, [name], others, len(rows)))
