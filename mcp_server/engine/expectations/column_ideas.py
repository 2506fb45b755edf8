"""What one column's figures suggest: presence, sets, shapes, ranges, order, type."""

import math
import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, Final

import polars as pl

from mcp_server.engine.expectations.dtypes import pandas_name
from mcp_server.engine.expectations.ideas import Idea
from mcp_server.engine.expectations.literals import plain
from mcp_server.engine.expectations.patterns import to_rust
from mcp_server.engine.expectations.profile import ColumnFigures

FEW_ROWS: Final = 10
MISSING_WORDS: Final = ("", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", "?", ".")
_MOST_MISSING: Final = 0.5
_WIDENING: Final = 0.5
_HARD_WIDENING: Final = 0.5
_FAR_OUT: Final = 4.0  # robust spreads beyond which an extreme says nothing about what is possible
_FEW_CLASSES: Final = 10
_LONGEST_SET: Final = 4000  # characters
_MEAN_ROWS: Final = 200
_MEAN_DISTINCT: Final = 20
_MEAN_SHIFT: Final = 0.25  # deviations
_SPANS_ON: Final = 10
_YEARS_ON: Final = 10
_ID_NAME: Final = re.compile(r"(?i)(^|_)(id|key|code|number|no|nr|index|zip|phone)$|Id$")
_BLANK_ENDS: Final = r"^\s|\s$"

_BETWEEN: Final = "expect_column_values_to_be_between"
_IN_SET: Final = "expect_column_values_to_be_in_set"
_NOT_NULL: Final = "expect_column_values_to_not_be_null"
_REGEX: Final = "expect_column_values_to_match_regex"
_FORMAT: Final = "expect_column_values_to_match_strftime_format"


def column_ideas(column: ColumnFigures) -> Iterator[Idea]:
    """Yield what the figures of one column suggest."""
    if not column.present:
        return
    yield from _presence(column)
    if column.family == "text":
        yield from _text(column)
    elif column.family in {"date", "moment"}:
        yield from _time(column)
    elif column.family == "number":
        yield from _number(column)
    yield from _order(column)
    yield from _type(column)


def _presence(column: ColumnFigures) -> Iterator[Idea]:
    share = column.missing / column.rows
    if not column.missing:
        evidence = f"None of {column.rows:,} rows lacks it."
        yield Idea(4, _NOT_NULL, {"column": column.name}, "critical", evidence)
    elif share <= _MOST_MISSING:
        mostly = math.floor((1 - min(1.0, share * 1.5 + 0.01)) * 100) / 100
        evidence = f"{column.missing:,} of {column.rows:,} rows ({share:.2%}) lack it; half as much again is allowed."
        yield Idea(5, _NOT_NULL, {"column": column.name, "mostly": mostly}, "warning", evidence)


def _text(column: ColumnFigures) -> Iterator[Idea]:
    values = [value for value in column.categories if value.strip().lower() not in MISSING_WORDS]
    if column.shape is not None and column.shape.regex is not None and len(values) > _FEW_CLASSES:
        fitting = pl.Series(values).str.contains(to_rust(column.shape.regex))
        values = pl.Series(values).filter(fitting).to_list()  # what is built otherwise is more likely a mistake
    is_class = bool(values) and column.distinct * 5 <= column.present and sum(map(len, values)) <= _LONGEST_SET
    if is_class:
        evidence = f"All {column.present:,} values are among these {len(values)}."
        yield Idea(3, _IN_SET, {"column": column.name, "value_set": values}, "warning", evidence)
    shape = column.shape
    if shape is not None and shape.format is not None:
        kwargs = {"column": column.name, "strftime_format": shape.format}
        yield Idea(3, _FORMAT, kwargs, "critical", f"All {column.present:,} values are dates or times of this format.")
    elif shape is not None and not (is_class and column.distinct <= _FEW_CLASSES):
        evidence = f"All {column.present:,} values match {shape.regex} ({shape.words})."
        yield Idea(3, _REGEX, {"column": column.name, "regex": shape.regex}, "critical", evidence)
    elif not is_class:
        yield from _free_text(column)


def _free_text(column: ColumnFigures) -> Iterator[Idea]:
    if column.lengths is not None:
        low, high = column.lengths
        kwargs = {"column": column.name, "min_value": min(low, 1), "max_value": max(high * 2, 20)}
        evidence = f"All {column.present:,} values have {low} to {high} characters; twice as many are allowed."
        yield Idea(6, "expect_column_value_lengths_to_be_between", kwargs, "info", evidence)
    kwargs = {"column": column.name, "regex": _BLANK_ENDS}
    evidence = f"All {column.present:,} values begin and end without blanks."
    yield Idea(7, "expect_column_values_to_not_match_regex", kwargs, "info", evidence)
    words = sorted({spelt for word in MISSING_WORDS if word for spelt in (word, word.upper(), word.capitalize())})
    evidence = f"All {column.present:,} values are more than a word for missing."
    kwargs = {"column": column.name, "value_set": words}
    yield Idea(7, "expect_column_values_to_not_be_in_set", kwargs, "warning", evidence)


def _time(column: ColumnFigures) -> Iterator[Idea]:
    if column.family == "date":
        evidence = f"All {column.present:,} values are dates such as {plain(column.low)}."
        yield Idea(3, _FORMAT, {"column": column.name, "strftime_format": "%Y-%m-%d"}, "critical", evidence)
    low, high = column.low, column.high
    try:
        latest = high + timedelta(days=366 * _YEARS_ON)
    except OverflowError:
        latest = high
    kwargs = {"column": column.name, "min_value": _day(low, up=False), "max_value": _day(latest, up=True)}
    evidence = f"From {plain(low)} to {plain(high)} now; ten years more are allowed."
    yield Idea(3, _BETWEEN, kwargs, "warning", evidence)


def _day(moment: date, *, up: bool) -> str:
    """Return the day of a date, or of a time: the following one to round up."""
    try:
        return str(plain(moment + timedelta(days=1) if up else moment))[:10]
    except OverflowError:
        return str(plain(moment))[:10]


def _number(column: ColumnFigures) -> Iterator[Idea]:
    if _is_class(column):
        values = [plain(value) for value in column.categories]
        evidence = f"All {column.present:,} values are among these {len(values)}."
        yield Idea(3, _IN_SET, {"column": column.name, "value_set": values}, "warning", evidence)
        return
    if grows(column) and math.isfinite(column.low) and math.isfinite(column.high):
        low, high = plain(column.low), plain(column.high)
        kwargs = {"column": column.name, "min_value": low, "max_value": high + (high - low) * _SPANS_ON}
        evidence = f"All {column.present:,} values lie between {low} and {high}; ten times that span is left to grow."
        yield Idea(3, _BETWEEN, kwargs, "warning", evidence)
        return
    ends = (column.low, column.high, column.robust_low, column.robust_high)
    if any(end is None or not math.isfinite(end) for end in ends):
        return
    yield from _range(column)
    yield from _mean(column)


def _is_class(column: ColumnFigures) -> bool:
    """True for a number that stands for one of a few classes, such as 0 and 1."""
    few = 0 < len(column.categories) <= 5 and column.distinct * 5 <= column.present
    return few and not grows(column) and all(float(value).is_integer() for value in column.categories)


def _range(column: ColumnFigures) -> Iterator[Idea]:
    robust_low, robust_high = float(column.robust_low or 0), float(column.robust_high or 0)
    margin = (robust_high - robust_low) * _WIDENING or max(abs(robust_high) * 0.1, 1.0)
    low, high = _clipped(column, robust_low - margin, robust_high + margin, margin)
    evidence = (
        f"All {column.present:,} values lie between {column.low:.6g} and {column.high:.6g}; 98 % between "
        f"{robust_low:.6g} and {robust_high:.6g}, widened by half of that distance."
    )
    yield Idea(3, _BETWEEN, {"column": column.name, "min_value": low, "max_value": high}, "warning", evidence)
    inside = (low <= column.low and column.high <= high) or column.low < 0 <= robust_low - margin
    far = max(robust_low - column.low, column.high - robust_high) > _FAR_OUT * 2 * margin
    if inside or far:
        return
    beyond = margin * _HARD_WIDENING
    low, high = _clipped(column, min(column.low - beyond, low), max(column.high + beyond, high), margin)
    evidence = f"All {column.present:,} values lie between {column.low:.6g} and {column.high:.6g}, with some room."
    yield Idea(3, _BETWEEN, {"column": column.name, "min_value": low, "max_value": high}, "critical", evidence)


def _clipped(column: ColumnFigures, low: float, high: float, margin: float) -> tuple[float, float]:
    """Round a range outwards and keep it from what the column never is: negative, or more than a share of one."""
    lower, upper = _outward(low, margin, up=False), _outward(high, margin, up=True)
    if column.low >= 0:
        lower = max(lower, 0.0)
        if column.high <= 1 and not column.dtype.is_integer():
            upper = min(upper, 1.0)
    if column.dtype.is_integer():
        return math.floor(lower), math.ceil(upper)
    return lower, upper


def _outward(value: float, scale: float, *, up: bool) -> float:
    """Round away from the data, to two digits of the margin."""
    step = 10.0 ** (math.floor(math.log10(scale)) - 1)
    steps = math.ceil(value / step) if up else math.floor(value / step)
    return float(f"{steps * step:.12g}")


def _mean(column: ColumnFigures) -> Iterator[Idea]:
    mean, deviation = column.mean, column.deviation
    enough = column.present >= _MEAN_ROWS and column.distinct > _MEAN_DISTINCT
    if not enough or mean is None or not deviation or not math.isfinite(deviation) or _is_name(column):
        return
    room = deviation * _MEAN_SHIFT
    low, high = _outward(mean - room, room, up=False), _outward(mean + room, room, up=True)
    kwargs = {"column": column.name, "min_value": low, "max_value": high}
    evidence = f"Mean {mean:.6g}, deviation {deviation:.6g}; a quarter of a deviation to either side is allowed."
    yield Idea(5, "expect_column_mean_to_be_between", kwargs, "warning", evidence)


def _is_name(column: ColumnFigures) -> bool:
    """True for a number that names something: a figure of it, such as its mean, says nothing."""
    whole = float(column.low).is_integer() and float(column.high).is_integer()
    return whole and (column.distinct == column.present or _ID_NAME.search(column.name) is not None)


def grows(column: ColumnFigures) -> bool:
    """True for a season, a running number or a date: no value below the one before."""
    return column.falls == 0 and not column.missing and column.rows >= FEW_ROWS * 2 and column.distinct >= 3


def _order(column: ColumnFigures) -> Iterator[Idea]:
    if not grows(column):
        return
    strictly = column.repeats_before == 0
    kwargs: dict[str, Any] = {"column": column.name}
    evidence = "No row's value is below the one before."
    if strictly:
        kwargs["strictly"], evidence = True, "Each row's value is above the one before."
    yield Idea(6, "expect_column_values_to_be_increasing", kwargs, "info", evidence)


def _type(column: ColumnFigures) -> Iterator[Idea]:
    if column.family in {"other", "date"} or column.dtype == pl.Null:
        return
    name = pandas_name(column.dtype, has_gaps=bool(column.missing) and column.dtype != pl.String)
    kwargs = {"column": column.name, "type_": name}
    evidence = f"Stored as {name}, as pandas names it."
    yield Idea(8, "expect_column_values_to_be_of_type", kwargs, "critical", evidence)
