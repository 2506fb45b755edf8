"""Literals of suites and row conditions, brought to the type of the column that they meet."""

import math
from collections.abc import Container, Iterable
from datetime import UTC, date, datetime
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import polars as pl

from mcp_server.engine.expectations.conditions import Alignment, Combination, Comparison, Condition, Nullity
from mcp_server.errors import shown

Family = Literal["number", "flag", "text", "date", "moment", "other"]

_WORDS: Final[dict[Family, str]] = {
    "number": "numbers",
    "flag": "true and false",
    "text": "text",
    "date": "dates",
    "moment": "times",
    "other": "values of a nested or binary type",
}


class CannotEvaluateError(Exception):
    """An expectation that this table cannot answer: no such column, or values of another type.

    It becomes a failed result with a message, as an exception does in Great Expectations.
    """


def family_of(dtype: pl.DataType) -> Family:
    """Return what kind of values a type holds."""
    if dtype.is_numeric() or dtype == pl.Null:
        return "number"
    if dtype == pl.Boolean:
        return "flag"
    if dtype == pl.String:
        return "text"
    if dtype == pl.Date:
        return "date"
    return "moment" if isinstance(dtype, pl.Datetime) else "other"


def words_for(dtype: pl.DataType) -> str:
    """Return a plural noun for the values of a type, for messages."""
    return _WORDS[family_of(dtype)]


def comparable(value: Any, dtype: pl.DataType) -> Any:
    """Return `value` as it compares with a column of `dtype`.

    Raises:
        CannotEvaluateError: text meets numbers, or a text is no date.
    """
    family = family_of(dtype)
    if family in {"number", "flag"} and isinstance(value, bool | int | float):
        return _narrowed(value, dtype)
    if family == "text" and isinstance(value, str):
        return value
    if family in {"date", "moment"} and isinstance(value, str | date):
        return _moment(value, dtype)
    raise CannotEvaluateError(f"The column holds {words_for(dtype)}, and {shown(value)} is not comparable.")


def _narrowed(value: bool | int | float, dtype: pl.DataType) -> int | float:
    if dtype.is_integer() and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value)
    return int(value) if isinstance(value, bool) else value


def _moment(value: str | date, dtype: pl.DataType) -> date | datetime:
    try:
        read = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise CannotEvaluateError(f"The column holds dates, and {shown(value)} is none.") from None
    if isinstance(dtype, pl.Datetime):
        return _zoned(read if isinstance(read, datetime) else datetime(read.year, read.month, read.day), dtype)
    if isinstance(read, datetime) and (read.hour, read.minute, read.second, read.microsecond) != (0, 0, 0, 0):
        return read
    return read.date() if isinstance(read, datetime) else read


def _zoned(moment: datetime, dtype: pl.Datetime) -> datetime:
    """Bring a time to the column's zone; one without a zone is taken as that zone's."""
    if dtype.time_zone is None:
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    zone = ZoneInfo(dtype.time_zone)
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment.astimezone(zone)


def literal(value: Any, dtype: pl.DataType) -> pl.Expr:
    """Return `value` as a literal that compares with a column of `dtype`.

    Raises:
        CannotEvaluateError: as `comparable`.
    """
    held = comparable(value, dtype)
    return pl.lit(held, dtype=dtype) if isinstance(dtype, pl.Datetime) else pl.lit(held)


def share_order(first: pl.DataType, second: pl.DataType) -> bool:
    """Return True when values of the two types can be compared with each other."""
    families = {family_of(first), family_of(second)}
    if "moment" in families:
        zones = {dtype.time_zone if isinstance(dtype, pl.Datetime) else None for dtype in (first, second)}
        return families <= {"date", "moment"} and len(zones) == 1
    return families <= {"number", "flag"} or (len(families) == 1 and "other" not in families)


def unused_name(wanted: str, taken: Container[str]) -> str:
    """Return `wanted`, with underscores appended until nothing else is called so."""
    while wanted in taken:
        wanted += "_"
    return wanted


def ordered(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return `values` as something that compares by order: flags become 0 and 1."""
    return values.cast(pl.Int8) if family_of(dtype) == "flag" else values


def members(values: Iterable[Any], dtype: pl.DataType) -> pl.Series:
    """Return those of `values` that a column of `dtype` can equal, as a series of that type.

    Raises:
        CannotEvaluateError: the column is of a nested or binary type.
    """
    if family_of(dtype) == "other":
        raise CannotEvaluateError(f"The column holds {words_for(dtype)}, which no literal equals.")
    fitting: list[Any] = []
    for value in values:
        if value is None:
            continue
        try:
            fitting.append(comparable(value, dtype))
        except CannotEvaluateError:
            continue
    if dtype == pl.Null:
        return pl.Series([], dtype=dtype)
    if dtype.is_integer():
        low, high = pl.select(dtype.min().alias("low"), dtype.max().alias("high")).row(0)  # type: ignore[attr-defined]
        fitting = [int(each) for each in fitting if each == int(each) and low <= each <= high]
    if dtype == pl.Boolean:
        fitting = [bool(each) for each in fitting if each in (0, 1)]
    kept = [each for each in fitting if not isinstance(each, float) or math.isfinite(each)]
    return pl.Series([float(each) for each in kept] if dtype.is_float() else kept, dtype=dtype)


def as_text(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return `values` written as Python's `str` writes them.

    Raises:
        CannotEvaluateError: the column is of a nested or binary type.
    """
    if family_of(dtype) == "other":
        raise CannotEvaluateError(f"The column holds {words_for(dtype)}, which are not judged as text.")
    if dtype == pl.String:
        return values
    if dtype.is_float():
        return values.map_batches(_floats_as_text, return_dtype=pl.String, is_elementwise=True)
    if dtype == pl.Boolean:
        return pl.when(values).then(pl.lit("True")).when(values.not_()).then(pl.lit("False"))
    if isinstance(dtype, pl.Datetime):
        return values.dt.to_string("%Y-%m-%d %H:%M:%S")
    return values.cast(pl.String)


def _floats_as_text(values: pl.Series) -> pl.Series:
    return pl.Series(values.name, [None if v is None else repr(v) for v in values.to_list()], dtype=pl.String)


def plain(value: Any) -> Any:
    """Return a cell as a JSON value: no NaN, dates in ISO form, nested values as lists and objects."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value)


def require_column(schema: pl.Schema, name: str) -> pl.DataType:
    """Return a column's type.

    Raises:
        CannotEvaluateError: there is no such column.
    """
    if name not in schema:
        raise CannotEvaluateError(f"The dataset has no column {shown(name)}.")
    return schema[name]


def condition_expression(condition: Condition, schema: pl.Schema) -> pl.Expr:
    """Return the row condition as an expression that is true or false for each row, never missing.

    Missing values compare as in pandas: unequal to everything.

    Raises:
        CannotEvaluateError: a column is missing, or a literal is of another type than its column.
    """
    if isinstance(condition, Combination):
        parts = [condition_expression(part, schema) for part in condition.parts]
        if condition.joined_by == "not":
            return parts[0].not_()
        return pl.all_horizontal(parts) if condition.joined_by == "and" else pl.any_horizontal(parts)
    dtype = require_column(schema, condition.column)
    column = pl.col(condition.column)
    if isinstance(condition, Nullity):
        return column.is_null() if condition.is_null else column.is_not_null()
    if isinstance(condition, Alignment):
        other = require_column(schema, condition.other)
        if not share_order(dtype, other):
            raise CannotEvaluateError(
                f"The row condition compares {words_for(dtype)} with {words_for(other)}: {condition.column}, "
                f"{condition.other}."
            )
        return _compared(ordered(column, dtype), condition.operator, ordered(pl.col(condition.other), other))
    return _comparison(condition, column, dtype)


def _compared(left: pl.Expr, operator: str, right: pl.Expr) -> pl.Expr:
    """Compare, a missing value being unequal to everything and in no order with it."""
    if operator == "!=":
        return (left == right).fill_null(value=False).not_()
    compared = {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right, "==": left == right}
    return compared[operator].fill_null(value=False)


def _comparison(condition: Comparison, column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    operator = condition.operator
    if operator in {"in", "not in", "==", "!="}:
        listed = operator in {"in", "not in"}
        found = members(condition.value if listed else [condition.value], dtype)
        is_member = column.is_in(found.implode()).fill_null(value=False)
        return is_member if operator in {"in", "=="} else is_member.not_()
    return _compared(ordered(column, dtype), operator, literal(condition.value, dtype))
