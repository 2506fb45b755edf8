"""Reads the columns of a table of games, however they were written: as text, numbers or dates.

What cannot be read is refused by its column, with an example; nothing is guessed. Text is read by its distinct values,
which are few.
"""

from collections.abc import Callable

import polars as pl

from mcp_server.errors import InvalidArgumentError, shown

_NULL_WORDS = ("", "null", "none", "nan", "na", "n/a", "<na>", "nat")
_DATE_FORMATS = (
    "%Y-%m-%d", "%m/%d/%Y", "%Y%m%d", "%Y/%m/%d", "%b %d, %Y", "%B %d, %Y", "%a, %b %d, %Y", "%a %b %d %Y", "%d %b %Y",
)  # fmt: skip
_LARGEST = 1e9


def text(name: str) -> pl.Expr:
    """Return a column as stripped text, null where it is empty or says NULL."""
    stripped = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(~stripped.str.to_lowercase().is_in(_NULL_WORDS)).then(stripped).alias(name)


def number(name: str, table: pl.DataFrame) -> pl.Series:
    """Return a column as floats, null where it is not a finite number."""
    column = table[name]
    if not column.dtype.is_numeric():
        column = table.select(text(name).cast(pl.Float64, strict=False)).to_series()
    floats = column.cast(pl.Float64)
    return pl.select(pl.when(floats.is_finite()).then(floats).alias(name)).to_series()


def whole(name: str, table: pl.DataFrame) -> pl.Series:
    """Return a column as whole numbers, written as integers or floats; missing stays missing.

    Raises:
        InvalidArgumentError: a value is no whole number.
    """
    column = table[name]
    numbers = number(name, table)
    if column.dtype.is_integer():
        wrong = numbers.abs() > _LARGEST
    else:
        missing = column.is_null() | column.is_nan() if column.dtype.is_float() else _texts(name, table).is_null()
        wrong = (numbers.is_null() & ~missing) | (numbers != numbers.round()) | (numbers.abs() > _LARGEST)
    refuse(name, column, wrong, "a whole number")
    return numbers.cast(pl.Int64)


def season(name: str, table: pl.DataFrame) -> pl.Series:
    """Return seasons by the year they end in; 2014-15 is 2015.

    Raises:
        InvalidArgumentError: a value is no season.
    """

    def read(values: pl.Series) -> pl.Series:
        found = (
            values.str.replace(r"\.0+$", "").str.extract_groups(r"^(\d{4})(?:[-/](?:\d{2}|\d{4}))?$").struct.unnest()
        )
        spans = values.str.contains(r"[-/]").fill_null(value=False)
        return found["1"].cast(pl.Int64) + spans.cast(pl.Int64)

    texts = _texts(name, table)
    years = _by_distinct(texts, read, pl.Int64)
    refuse(name, texts, years.is_null() & texts.is_not_null(), "a season such as 2015 or 2014-15")
    return years


def dates(name: str, table: pl.DataFrame) -> pl.Series:
    """Return a column as dates; times of day are left out.

    Raises:
        InvalidArgumentError: a value is no date, or one far from basketball.
    """
    column = table[name]
    if column.dtype == pl.Date:
        return column
    if isinstance(column.dtype, pl.Datetime):
        return column.dt.date()

    def read(values: pl.Series) -> pl.Series:
        bare = values.str.replace(r"\.0+$", "").str.replace(r"[T ]\d{1,2}:\d{2}.*$", "")
        formats = [bare.str.to_date(pattern, strict=False) for pattern in _DATE_FORMATS]
        parsed = pl.select(pl.coalesce(formats)).to_series()
        return pl.select(pl.when(parsed.dt.year().is_between(1890, 2200)).then(parsed)).to_series()

    texts = _texts(name, table)
    parsed = _by_distinct(texts, read, pl.Date)
    refuse(name, texts, texts.is_not_null() & parsed.is_null(), "a date such as 2015-06-16 or 6/16/2015 (month first)")
    return parsed


def truth(name: str, table: pl.DataFrame, *, names_rounds: bool = False) -> pl.Series:
    """Return a column as truth values; missing is false.

    Args:
        names_rounds: a column that names the round of the play-offs, such as `q` or `f`, is true wherever it does.

    Raises:
        InvalidArgumentError: a value is neither.
    """
    if table.schema[name] == pl.Boolean:
        return table[name].fill_null(value=False)
    texts = _texts(name, table).str.to_lowercase().str.replace(r"\.0+$", "")
    false = texts.is_null() | texts.is_in(["0", "false", "no", "n"])
    if names_rounds:
        return (~false).alias(name)
    false |= texts == "f"
    true = texts.is_in(["1", "true", "t", "yes", "y"])
    refuse(name, texts, ~(false | true).fill_null(value=True), "true or false")
    return true.fill_null(value=False).alias(name)


def refuse(name: str, values: pl.Series, wrong: pl.Series, expected: str) -> None:
    """Raise InvalidArgumentError where `wrong` is true, with the first such value."""
    rows = wrong.fill_null(value=False).arg_true()
    if rows.len():
        example, row = values[int(rows[0])], int(rows[0]) + 1
        raise InvalidArgumentError(
            f"Column {name} holds {shown(str(example))} in row {row}, which is not {expected}; "
            f"{rows.len():,} of {values.len():,} values are like that.",
            hint="Mend the column with clean_dataset (replace, cast) or transform_dataset(sql=…), then repeat.",
            details={"column": name, "rows": rows.len()},
        )


def _texts(name: str, table: pl.DataFrame) -> pl.Series:
    return table.select(text(name)).to_series()


def _by_distinct(texts: pl.Series, read: Callable[[pl.Series], pl.Series], dtype: type[pl.DataType]) -> pl.Series:
    distinct = texts.drop_nulls().unique()
    if distinct.is_empty():
        return pl.Series(texts.name, [None] * texts.len(), dtype=dtype)
    return texts.replace_strict(distinct, read(distinct), default=None, return_dtype=dtype)
