"""Rules on sequences: rows in the order of a column, and columns of times or numbers without gaps."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import polars as pl

from mcp_server.engine.expectations.literals import (
    CannotEvaluateError,
    family_of,
    ordered,
    plain,
    unused_name,
)
from mcp_server.engine.integrity.table import MAX_EXAMPLES, Finding, Table, counted, part_of, records
from mcp_server.errors import InvalidArgumentError, shown

_ROWS_AT_A_TIME: Final = 2_000_000
_UNITS: Final = {"ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6, "d": 86400e6, "w": 7 * 86400e6}  # microseconds
_MONTHS: Final = {"mo": 1, "q": 3, "y": 12}
_ROUNDING: Final = 1e-9  # of a step between floats
_STEP: Final = re.compile(r"([0-9]{1,9})(ms|s|mo|m|h|d|w|q|y)")


@dataclass(frozen=True, slots=True)
class Order:
    """Values of `column` that must not fall from row to row, in each group of `by`; `strict`: that must rise."""

    column: str
    by: tuple[str, ...] = ()
    strict: bool = False
    descending: bool = False

    @property
    def target(self) -> str:
        """The rule in words."""
        way = "descending" if self.descending else "ascending"
        return f"{self.column} {'strictly ' if self.strict else ''}{way}{_within(self.by)}"


@dataclass(frozen=True, slots=True)
class Gaps:
    """Values of `column` that must follow each other in steps of `every`, in each group of `by`.

    Attributes:
        every: a duration such as "1d" or "1mo", a number for columns of numbers; None: the most common step.
        max_gap: the longest step that is no gap yet; None: `every`.
    """

    column: str
    by: tuple[str, ...] = ()
    every: str | float | None = None
    max_gap: str | float | None = None


def _within(by: Sequence[str]) -> str:
    return f" within {', '.join(by)}" if by else ""


def check_order(table: Table, order: Order) -> Finding:
    """Return the rows that come before what stands above them; rows that lack a value are passed over.

    Raises:
        InvalidArgumentError: a column does not exist, is named twice, or has no order.
    """
    table.require_key([order.column, *order.by])
    dtype = table.schema[order.column]
    n_bad, n_judged = 0, 0
    top: pl.DataFrame | None = None
    row, previous = unused_name("row", table.schema), unused_name("previous", table.schema)
    for rows in _in_order(table, order, row, previous):
        table.tick()
        left, right = (ordered(pl.col(name), dtype) for name in (order.column, previous))
        left, right = (right, left) if order.descending else (left, right)
        bad = rows.filter(left <= right if order.strict else left < right)
        n_bad += bad.height
        n_judged += rows.height
        if bad.height:
            found = bad.select(row, *order.by, order.column, previous)
            top = (found if top is None else pl.concat([top, found])).sort(row).head(MAX_EXAMPLES)
    text = f"{counted(n_bad, 'row')} out of order" if n_bad else f"{counted(n_judged, 'row')} in order"
    n_missing = table.n_rows - n_judged
    text += f"; {counted(n_missing, 'row')} with a missing value passed over." if n_missing else "."
    examples = tuple(records(top)) if top is not None else ()
    return Finding("ordered", order.target, n_bad, n_judged, n_missing, text, examples)


def _in_order(table: Table, order: Order, row: str, previous: str) -> Iterator[pl.DataFrame]:
    """Yield rows with a value, in their order, each with the value before it in its group."""
    names = [row, *order.by, order.column]
    rows = table.frame.with_row_index(row).select(names)
    column = pl.col(order.column)
    if order.by:
        n_parts = table.n_parts([*order.by, order.column])
        for part in range(n_parts):
            held = part_of(rows.drop_nulls(), order.by, part, n_parts).collect(engine="streaming").sort(row)
            yield held.with_columns(column.shift().over(list(order.by)).alias(previous))
        return
    last: Any = None
    for start in range(0, table.n_rows, _ROWS_AT_A_TIME):
        held = rows.slice(start, _ROWS_AT_A_TIME).collect().drop_nulls()
        yield held.with_columns(_before(column, last, table.schema[order.column]).alias(previous))
        last = held[order.column][-1] if held.height else last


def _before(column: pl.Expr, carried: Any, dtype: pl.DataType) -> pl.Expr:
    """Return the value in the row above; for the first row the one carried over from the part before."""
    return column.shift() if carried is None else column.shift().fill_null(pl.lit(carried, dtype=dtype))


@dataclass(frozen=True, slots=True)
class _Step:
    """A distance between neighbours.

    Attributes:
        length: microseconds, whole months, or for columns of numbers their unit.
        offset: the distance in Polars' words, so that days keep to the clock where it is put forward or back.
    """

    length: float
    text: str
    months: bool = False
    offset: str = ""

    def exceeded(self, before: pl.Expr, after: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        """Return true where `after` lies further from `before` than this."""
        if self.months or isinstance(dtype, pl.Datetime):
            return after > before.dt.offset_by(self.offset)
        limit = timedelta(microseconds=self.length) if dtype.is_temporal() else self.length * (1 + _ROUNDING)
        return _distance(before, after, dtype) > (self.length if dtype.is_integer() else limit)


def _distance(before: pl.Expr, after: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype.is_integer():
        return after.cast(pl.Int128) - before.cast(pl.Int128)
    return after - before


def check_gaps(table: Table, gaps: Gaps) -> Finding:
    """Return the steps between neighbouring values that are longer than they may be.

    Repeated values count once; missing ones are passed over.

    Raises:
        InvalidArgumentError: a column does not exist, or a step is none.
        CannotEvaluateError: the column holds neither times nor numbers.
    """
    table.require_key([gaps.column, *gaps.by])
    if family_of(table.schema[gaps.column]) not in ("number", "date", "moment"):
        raise CannotEvaluateError(
            f"{shown(gaps.column)} holds {table.schema[gaps.column]} values; gaps are of dates, times and numbers."
        )
    dtype = table.schema[gaps.column]
    found_by = ""
    if gaps.every in (None, "auto"):
        every, found_by = _usual_step(table, gaps, dtype), " (the most common step)"
    else:
        every = _parsed(gaps.every, "every", dtype)
    longest = every if gaps.max_gap is None else _parsed(gaps.max_gap, "max_gap", dtype)
    if every is None or longest is None:
        target = f"{gaps.column}{_within(gaps.by)}"
        return Finding("gaps", target, 0, 0, table.n_rows, "No two values follow each other: nothing to judge.")
    over = "" if gaps.max_gap is None else f", gaps over {longest.text}"
    target = f"{gaps.column}{_within(gaps.by)}, every {every.text}{found_by}{over}"
    return _gaps(table, gaps, every, longest, target)


def _gaps(table: Table, gaps: Gaps, every: _Step, longest: _Step, target: str) -> Finding:
    row, before, size = (unused_name(name, [*gaps.by, gaps.column]) for name in ("row", "from", "gap"))
    column, dtype = pl.col(gaps.column), table.schema[gaps.column]
    n_gaps, n_steps, n_absent, n_groups = 0, 0, 0, 0
    top: pl.DataFrame | None = None
    for steps in _steps(table, gaps, row, before):
        table.tick()
        n_steps += steps.height
        found = steps.filter(longest.exceeded(pl.col(before), column, dtype))
        if not found.height:
            continue
        found = found.with_columns(_distance(pl.col(before), column, dtype).alias(size))
        n_gaps += found.height
        n_absent += _absent(found, gaps.column, before, every, dtype)
        n_groups += found.select(gaps.by).unique().height if gaps.by else 1
        top = found if top is None else pl.concat([top, found])
        top = top.sort([size, row], descending=[True, False]).head(MAX_EXAMPLES)
    text = f"No gap among {counted(n_steps, 'step')}."
    if n_gaps:
        text = f"{counted(n_gaps, 'gap')} among {counted(n_steps, 'step')}, about {counted(n_absent, 'value')} absent"
        text += f", in {counted(n_groups, 'group')}." if gaps.by else "."
    to = unused_name("to", gaps.by)
    examples = tuple(
        {**{name: plain(each[name]) for name in gaps.by}, before: plain(each[before]), to: plain(each[gaps.column]),
         size: _gap_text(each[size]), row: each[row]}
        for each in (top.to_dicts() if top is not None else [])
    )  # fmt: skip
    groups = n_groups if gaps.by else None
    return Finding("gaps", target, n_gaps, n_steps, table.n_rows - n_steps, text, examples, groups=groups)


def _steps(table: Table, gaps: Gaps, row: str, before: str) -> Iterator[pl.DataFrame]:
    """Yield neighbouring distinct values in order: `before`, the column, and the first row that has it.

    With groups a part holds whole groups; without, a part is a range of values and the last one is carried over.
    """
    column, key = pl.col(gaps.column), list(gaps.by)
    rows = table.frame.select(*key, gaps.column).with_row_index(row).drop_nulls()
    n_parts = table.n_parts([*key, gaps.column])
    if key:
        for part in range(n_parts):
            held = part_of(rows, key, part, n_parts).collect(engine="streaming").sort([*key, gaps.column, row])
            previous = column.shift().over(key)
            yield held.with_columns(previous.alias(before)).filter(column != pl.col(before))
        return
    last: Any = None
    for chosen in _ranges(rows, gaps.column, n_parts):
        held = chosen.collect(engine="streaming").sort([gaps.column, row])
        previous = _before(column, last, table.schema[gaps.column])
        yield held.with_columns(previous.alias(before)).filter(column != pl.col(before))
        last = held[gaps.column][-1] if held.height else last


def _ranges(rows: pl.LazyFrame, name: str, n_parts: int) -> Iterator[pl.LazyFrame]:
    """Yield the rows in `n_parts` ranges of their values, of equal width, from low to high."""
    if n_parts == 1:
        yield rows
        return
    place = pl.col(name).to_physical().cast(pl.Float64)
    low, high = rows.select(place.min().alias("low"), place.max().alias("high")).collect(engine="streaming").row(0)
    if low is None or low == high:
        yield rows
        return
    part = ((place - low) / (high - low) * n_parts).floor().clip(0, n_parts - 1)
    for index in range(n_parts):
        yield rows.filter(part == index)


def _usual_step(table: Table, gaps: Gaps, dtype: pl.DataType) -> _Step | None:
    """Return the most common step between neighbours; a month, quarter or year where these fit more often."""
    row, before, step, count = (unused_name(name, table.schema) for name in ("row", "from", "step", "count"))
    column = pl.col(gaps.column)
    tallies, calendar = [], dict.fromkeys(_MONTHS, 0)
    for steps in _steps(table, gaps, row, before):
        table.tick()
        length = _distance(pl.col(before), column, dtype)
        tallies.append(steps.select(length.alias(step)).group_by(step).agg(pl.len().alias(count)))
        for unit, months in _MONTHS.items() if dtype.is_temporal() else ():
            calendar[unit] += steps.filter(pl.col(before).dt.offset_by(f"{months}mo") == column).height
    tally = pl.concat(tallies).group_by(step).agg(pl.col(count).sum()).sort([count, step], descending=[True, False])
    if not tally.height:
        return None
    length, times = tally.row(0)
    unit = max(calendar, key=lambda each: calendar[each])
    if calendar[unit] > times:
        return _Step(_MONTHS[unit], f"1{unit}", months=True, offset=f"{_MONTHS[unit]}mo")
    if not isinstance(length, timedelta):
        return _Step(length, f"{length:g}")
    whole = length / timedelta(microseconds=1)
    days = length // timedelta(days=1)
    return _Step(
        whole, str(_gap_text(length)), offset=f"{days}d" if length == timedelta(days=days) else f"{whole:.0f}us"
    )


def _parsed(step: str | float | None, name: str, dtype: pl.DataType) -> _Step:
    if not dtype.is_temporal():
        if isinstance(step, bool) or not isinstance(step, int | float) or not math.isfinite(step) or step <= 0:
            raise InvalidArgumentError(
                f"{name} is {shown(step)}; a column of numbers takes a positive number.", hint="For example 1."
            )
        return _Step(step, f"{step:g}")
    match = _STEP.fullmatch(step) if isinstance(step, str) else None
    if match is None or int(match[1]) == 0:
        raise InvalidArgumentError(
            f"{name} is {shown(step)}; a column of times takes a duration.",
            hint='For example "15m", "12h", "1d", "1w", "1mo", "1q" or "1y".',
        )
    number, unit = int(match[1]), match[2]
    if unit in _MONTHS:
        return _Step(number * _MONTHS[unit], match[0], months=True, offset=f"{number * _MONTHS[unit]}mo")
    return _Step(number * _UNITS[unit], match[0], offset=match[0])


def _absent(found: pl.DataFrame, column: str, before: str, every: _Step, dtype: pl.DataType) -> int:
    """Return about how many values of the step are absent in the gaps."""
    low, high = pl.col(before), pl.col(column)
    if every.months:
        steps = ((high.dt.year() - low.dt.year()).cast(pl.Int64) * 12 + high.dt.month() - low.dt.month()) / every.length
    else:
        length = _distance(low, high, dtype)
        steps = (length.dt.total_microseconds() if dtype.is_temporal() else length.cast(pl.Float64)) / every.length
    return int(found.select((steps.ceil() - 1).clip(0).sum()).item() or 0)


def _gap_text(length: object) -> object:
    """Return a distance as a person writes it: `3d`, `1d 12h`, a number."""
    if not isinstance(length, timedelta):
        return plain(length)
    parts = []
    rest = round(length / timedelta(microseconds=1))
    for unit in ("d", "h", "m", "s"):
        number, rest = divmod(rest, int(_UNITS[unit]))
        if number:
            parts.append(f"{number}{unit}")
    if rest:
        parts.append(f"{rest / 1e3:g}ms")
    return " ".join(parts) or "0s"
