"""Keys of tables: primary keys, foreign keys into other tables, and columns that others determine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from mcp_server.engine.expectations.literals import family_of, plain, share_order, unused_name
from mcp_server.engine.integrity.table import (
    MAX_EXAMPLES,
    Finding,
    Groups,
    Table,
    counted,
    part_of,
    records,
    repeated,
    rows_of,
)
from mcp_server.errors import InvalidArgumentError, shown

_MAX_VALUES: Final = 5  # of a group in an example


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key: `columns` of the table must exist as `parent_columns` of `parent`."""

    columns: tuple[str, ...]
    parent: Table
    parent_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dependency:
    """Rows that agree in `determinant` must agree in `dependent`."""

    determinant: tuple[str, ...]
    dependent: str


def check_primary_key(table: Table, key: Sequence[str]) -> Iterator[Finding]:
    """Yield the rows whose key is missing, then those whose key another row has too.

    Raises:
        InvalidArgumentError: a column does not exist, is named twice, or cannot be compared.
    """
    table.require_key(key)
    target = ", ".join(key)
    n_missing, missing = _missing(table, key)
    part = "key is missing" if len(key) == 1 else "key lacks a part"
    text = f"The {part} in {counted(n_missing, 'row')} of {table.n_rows:,}." if n_missing else "No row lacks it."
    yield Finding("primary_key_missing", target, n_missing, table.n_rows, 0, text, missing)
    groups = repeated(table, key, missing_equal=False)
    text = f"{counted(groups.n_rows, 'row')} share {counted(groups.n_groups, 'key')}" if groups.n_rows else "No repeats"
    text += f"; the {counted(n_missing, 'row')} without a whole key not judged." if n_missing else "."
    examples = _with_rows(table, groups, key)
    checked = table.n_rows - n_missing
    yield Finding(
        "primary_key_duplicate", target, groups.n_rows, checked, n_missing, text, examples, groups=groups.n_groups
    )


def _missing(table: Table, key: Sequence[str]) -> tuple[int, tuple[dict[str, Any], ...]]:
    absent = pl.any_horizontal([pl.col(column).is_null() for column in key])
    count = int(table.frame.select(absent.sum()).collect(engine="streaming").item() or 0)
    if not count:
        return 0, ()
    row = unused_name("row", table.schema)
    first = table.frame.with_row_index(row).filter(absent).select(row, *key).head(MAX_EXAMPLES)
    return count, tuple(records(first.collect(engine="streaming").sort(row)))


def _with_rows(table: Table, groups: Groups, key: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """Return the largest groups with `rows`, their count, and `row_numbers`, the first of them."""
    if groups.top is None or groups.top.is_empty():
        return ()
    name = unused_name("row_numbers", key)
    numbers = rows_of(table, groups.top, key, missing_equal=False)
    return tuple({**each, name: found} for each, found in zip(records(groups.top), numbers, strict=True))


def check_reference(table: Table, reference: Reference) -> Finding:
    """Return the rows whose key the parent does not have; rows that lack a part of the key are not judged.

    Raises:
        InvalidArgumentError: a column does not exist, or the types of a pair cannot be compared.
    """
    own, parent = reference.columns, reference.parent
    table.require_key(own)
    parent.require_key(reference.parent_columns)
    if len(own) != len(reference.parent_columns):
        raise InvalidArgumentError(
            f"A foreign key pairs {len(own)} columns with {len(reference.parent_columns)}.",
            hint="Give as many referenced columns as columns.",
        )
    pairs = list(zip(own, reference.parent_columns, strict=True))
    shared = [_shared_type(table.schema[a], parent.schema[b], a, f"{parent.name}.{b}") for a, b in pairs]
    children = table.frame.select(pl.col(a).cast(dtype) for (a, _), dtype in zip(pairs, shared, strict=True))
    parents = parent.frame.select(pl.col(b).cast(dtype).alias(a) for (a, b), dtype in zip(pairs, shared, strict=True))
    n_present = int(children.drop_nulls().select(pl.len()).collect(engine="streaming").item())
    groups, n_repeats = _orphans(table, parent, children, parents)
    target = f"{', '.join(own)} → {parent.name}.{', '.join(reference.parent_columns)}"
    n_missing = table.n_rows - n_present
    text = (
        f"{counted(groups.n_rows, 'row')} of {n_present:,} with {counted(groups.n_groups, 'value')} "
        f"that {parent.name} does not have"
        if groups.n_rows
        else f"All {n_present:,} are there"
    )
    text += f"; {counted(n_missing, 'row')} with a missing value not judged." if n_missing else "."
    if n_repeats:
        text += f" {counted(n_repeats, 'referenced value')} not unique in {parent.name}: a join multiplies rows."
    examples = _orphan_rows(table, children, groups)
    return Finding("foreign_key", target, groups.n_rows, n_present, n_missing, text, examples, groups=groups.n_groups)


def _orphans(table: Table, parent: Table, children: pl.LazyFrame, parents: pl.LazyFrame) -> tuple[Groups, int]:
    """Return the children's keys that no parent has, and how many of the parents' keys occur more than once."""
    key = children.collect_schema().names()
    count, times = unused_name("rows", key), unused_name("times", key)
    groups, n_repeats = Groups(tuple(key), count), 0
    n_parts = table.n_parts(key, n_rows=table.n_rows + parent.n_rows)
    for part in range(n_parts):
        table.tick()
        known = part_of(parents.drop_nulls(), key, part, n_parts).group_by(key).agg(pl.len().alias(times))
        held = known.collect(engine="streaming")
        n_repeats += held.filter(pl.col(times) > 1).height
        ours = part_of(children.drop_nulls(), key, part, n_parts).group_by(key).agg(pl.len().alias(count))
        groups.add(ours.join(held.lazy().select(key), on=key, how="anti").collect(engine="streaming"))
    return groups, n_repeats


def _orphan_rows(table: Table, children: pl.LazyFrame, groups: Groups) -> tuple[dict[str, Any], ...]:
    typed = Table(table.name, children, children.collect_schema(), table.n_rows, table.tick, table.room_bytes)
    return _with_rows(typed, groups, groups.key)


def _shared_type(own: pl.DataType, other: pl.DataType, name: str, other_name: str) -> pl.DataType:
    """Return a type that holds the values of both as they are."""
    if own == other:
        return own
    families = {family_of(own), family_of(other)}
    if families <= {"number", "flag"}:
        return pl.Float64() if own.is_float() or other.is_float() else pl.Int128()
    if families <= {"date", "moment"} and share_order(own, other):
        zone = own.time_zone if isinstance(own, pl.Datetime) else None
        return pl.Datetime("us", zone)
    if families == {"text"}:
        return pl.String()
    zoned = families <= {"date", "moment"}
    raise InvalidArgumentError(
        f"{shown(name)} and {shown(other_name)} cannot match: {own} against {other}"
        f"{' (time zones differ)' if zoned else ''}.",
        hint='Cast one of them with clean_dataset, steps=[{"action": "cast", "columns": […], "options": {…}}].',
    )


def check_dependency(table: Table, dependency: Dependency) -> Finding:
    """Return the rows of groups that have more than one value of the dependent column.

    Missing values of the dependent column are no value of their own; rows that lack a part of the determinant are
    not judged.

    Raises:
        InvalidArgumentError: a column does not exist, or cannot be compared.
    """
    key, dependent = list(dependency.determinant), dependency.dependent
    table.require_key(key)
    table.require_key([dependent])
    if dependent in key:
        raise InvalidArgumentError(f"{shown(dependent)} cannot depend on itself.", hint="Take it off the determinant.")
    rows = table.frame.select(*key, dependent).drop_nulls(key)
    n_checked = int(rows.select(pl.len()).collect(engine="streaming").item())
    count, low, high = (unused_name(name, [*key, dependent]) for name in ("rows", "low", "high"))
    groups = Groups(tuple(key), count)
    n_parts = table.n_parts([*key, dependent, dependent])
    for part in range(n_parts):
        table.tick()
        found = (
            part_of(rows, key, part, n_parts)
            .group_by(key)
            .agg(pl.len().alias(count), pl.col(dependent).min().alias(low), pl.col(dependent).max().alias(high))
            .filter(pl.col(low) != pl.col(high))
            .select(*key, count)
        )
        groups.add(found.collect(engine="streaming"))
    target = f"{', '.join(key)} → {dependent}"
    n_missing = table.n_rows - n_checked
    text = (
        f"{counted(groups.n_groups, 'group')} with more than one {dependent}, {counted(groups.n_rows, 'row')}"
        if groups.n_rows
        else "Each group has one value"
    )
    text += f"; {counted(n_missing, 'row')} without a determinant not judged." if n_missing else "."
    text += " Missing values are no value of their own."
    return Finding(
        "functional_dependency", target, groups.n_rows, n_checked, n_missing, text,
        _group_values(table, groups, dependent), groups=groups.n_groups,
    )  # fmt: skip


def _group_values(table: Table, groups: Groups, dependent: str) -> tuple[dict[str, Any], ...]:
    """Return the largest groups, each with its most frequent values: how many rows, and which is the first."""
    if groups.top is None or groups.top.is_empty():
        return ()
    key = list(groups.key)
    row, times, group = (unused_name(name, table.schema) for name in ("first_row", "times", "group"))
    chosen = groups.top.select(key).with_row_index(group)
    values = (
        table.frame.with_row_index(row)
        .select(row, *key, dependent)
        .join(chosen.lazy(), on=key)
        .drop_nulls(dependent)
        .group_by(group, dependent)
        .agg(pl.len().alias(times), pl.col(row).min())
        .collect(engine="streaming")
        .sort([times, row], descending=[True, False])
    )
    by_group: dict[int, list[dict[str, Any]]] = {}
    for index, value, n, first in values.select(group, dependent, times, row).iter_rows():
        kept = by_group.setdefault(index, [])
        if len(kept) < _MAX_VALUES:
            kept.append({"value": plain(value), "rows": n, "first_row": first})
    name = unused_name("values", [*key, groups.count])
    return tuple({**each, name: by_group[index]} for index, each in enumerate(records(groups.top)))
