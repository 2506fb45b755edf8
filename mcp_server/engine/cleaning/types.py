"""Columns from one type to another: how values are written is said, never guessed; what cannot be read is counted."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from mcp_server.engine.cleaning.steps import CellEdit, Schema, Step, choice, edit, flag, known_options, named, type_word
from mcp_server.engine.cleaning.table import Table
from mcp_server.errors import InvalidArgumentError, shown

DTYPES = ("integer", "float", "text", "boolean", "date", "datetime")
_ALIASES = {
    "int": "integer", "int64": "integer", "double": "float", "float64": "float", "number": "float", "string": "text",
    "str": "text", "bool": "boolean", "timestamp": "datetime",
}  # fmt: skip
_ERRORS = {"strict": "refuse", "raise": "refuse", "null": "missing", "coerce": "missing"}
_POLARS: dict[str, pl.DataType] = {
    "integer": pl.Int64(), "float": pl.Float64(), "text": pl.String(), "boolean": pl.Boolean(), "date": pl.Date(),
    "datetime": pl.Datetime("us"),
}  # fmt: skip
_TRUE = ("true", "t", "yes", "y", "on", "1")
_FALSE = ("false", "f", "no", "n", "off", "0")
_OF_NUMBERS = ("decimal", "thousands", "percent", "currency", "parentheses", "round")
_OF_TRUTHS = ("true_values", "false_values")
_THOUSANDS = (",", ".", " ", "'", "_", "’")
_SPACES = "[ \\x{00A0}\\x{202F}]"
_ZONED = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})$"
# What each kind of column can become; numbers become dates only by a format
_BECOMES = {
    "text": DTYPES,
    "number": ("integer", "float", "text", "boolean", "date", "datetime"),
    "boolean": ("integer", "float", "text", "boolean"),
    "time": ("date", "datetime", "text"),
}


def learn_cast(step: Step, table: Table) -> dict[str, Any]:
    """Check a cast's options, and tell which columns of text hold times with a zone."""
    known_options(step, "dtype", "errors", "format", *_OF_NUMBERS, *_OF_TRUTHS)
    dtype, formats = _target(step), _formats(step)
    names = named(table.schema, step)
    _check_options(step, dtype, formats)
    for name in names:
        kind = _kind(table.schema[name])
        needs_format = kind == "number" and dtype in ("date", "datetime") and not formats
        if dtype not in _BECOMES.get(kind, ()) or needs_format:
            hint = "Say options.format, such as %Y%m%d." if needs_format else "Choose another type."
            text = f"column {shown(name)} is {type_word(table.schema[name])}, which cannot become {dtype}."
            raise InvalidArgumentError(text, hint=hint)
    zoned = []
    if dtype == "datetime" and not formats:
        texts = [name for name in names if table.schema[name] == pl.String]
        found = table.figures([_stripped(name).str.contains(_ZONED).any().alias(name) for name in texts] or [pl.len()])
        zoned = [name for name in texts if found[name]]
    return {"columns": names, "zoned": zoned}


def cast_edit(step: Step, fitted: Mapping[str, Any], table: Table) -> CellEdit:
    """Return the edit, after a look at what cannot be read.

    Raises:
        InvalidArgumentError: values cannot be read and options.errors is `refuse`; names the first.
    """
    dtype, names = _target(step), fitted["columns"]
    expressions = {name: _typed(name, table.schema, step, dtype, name in fitted["zoned"]) for name in names}
    lost = [(expressions[name].is_null() & _present(name, table.schema)).alias(f"lost {name}") for name in names]
    figures = table.figures(
        [pl.col(f"lost {name}").sum().alias(f"n {name}") for name in names]
        + [pl.col(name).filter(pl.col(f"lost {name}")).first().cast(pl.String).alias(f"x {name}") for name in names],
        [pl.col(name) for name in names] + lost,
    )
    details = {}
    for name in names:
        n_lost = int(str(figures[f"n {name}"]))
        if n_lost and _on_errors(step) == "refuse":
            raise InvalidArgumentError(
                f"{n_lost:,} value{'s' if n_lost > 1 else ''} of column {shown(name)} cannot be read as {dtype}, "
                f"such as {shown(figures[f'x {name}'], 40)}.",
                hint='Replace them first, say how they are written in options, or pass errors="missing".',
                details={"column": name[:100], "values": n_lost},
            )
        unread = f", {n_lost:,} unreadable cells made missing" if n_lost else ""
        details[name] = f"{type_word(table.schema[name])} to {type_word(_result(dtype, name, fitted, step))}{unread}"
    return edit(expressions, details, retypes=True)


def _result(dtype: str, name: str, fitted: Mapping[str, Any], step: Step) -> pl.DataType:
    zoned = name in fitted["zoned"] or any("%z" in f for f in _formats(step))
    return pl.Datetime("us", "UTC") if dtype == "datetime" and zoned else _POLARS[dtype]


def _kind(dtype: pl.DataType) -> str:
    if dtype == pl.String:
        return "text"
    if dtype.is_numeric():
        return "number"
    if dtype in (pl.Date, pl.Datetime):
        return "time"
    return "boolean" if dtype == pl.Boolean else "other"


# Options -------------------------------------------------------------------------------------------------------


def _target(step: Step) -> str:
    given = step.options.get("dtype")
    word = _ALIASES.get(given.lower(), given) if isinstance(given, str) else given
    return choice(Step(step.action, options={"dtype": word}), "dtype", DTYPES, None)


def _on_errors(step: Step) -> str:
    given = step.options.get("errors", "refuse")
    word = _ERRORS.get(given, given) if isinstance(given, str) else given
    return choice(Step(step.action, options={"errors": word}), "errors", ("refuse", "missing"), "refuse")


def _formats(step: Step) -> list[str]:
    given = step.options.get("format")
    formats = [given] if isinstance(given, str) else given if given is not None else []
    if not isinstance(formats, Sequence) or not all(isinstance(f, str) and "%" in f for f in formats):
        raise InvalidArgumentError(
            f"format {shown(given)} is no format of times.", hint='Such as "%d.%m.%Y"; a list is tried in its order.'
        )
    return list(formats)


def _check_options(step: Step, dtype: str, formats: list[str]) -> None:
    _on_errors(step)
    misplaced = next((o for o in _OF_NUMBERS if o in step.options and dtype not in ("integer", "float")), None)
    misplaced = misplaced or next((o for o in _OF_TRUTHS if o in step.options and dtype != "boolean"), None)
    if formats and dtype not in ("date", "datetime", "text"):
        misplaced = "format"
    if misplaced:
        raise InvalidArgumentError(f"option {misplaced} has no meaning for {dtype}.", hint="Leave it out.")
    _check_words(step)
    for format in formats:
        _check_format(format, dtype)
    if 0 < sum("%z" in f for f in formats) < len(formats):
        raise InvalidArgumentError("formats with and without %z do not go together.", hint="Cast in two steps.")


def _check_words(step: Step) -> None:
    for name in ("percent", "parentheses", "round"):
        flag(step, name)
    decimal, thousands = step.options.get("decimal", "."), step.options.get("thousands")
    if decimal not in (".", ","):
        raise InvalidArgumentError(f"option decimal is '.' or ',', not {shown(decimal)}.", hint="Leave it out for '.'.")
    if thousands is not None and (thousands not in _THOUSANDS or thousands == decimal):
        hint = f"It is one of {' '.join(map(repr, _THOUSANDS))}, and not the decimal sign."
        raise InvalidArgumentError(f"option thousands cannot be {shown(thousands)}.", hint=hint)
    currency = step.options.get("currency", False)
    if not isinstance(currency, bool | str) or currency == "":
        raise InvalidArgumentError("option currency is true, or the sign as text.", hint='Such as "€" or "EUR".')
    for name in _OF_TRUTHS:
        words = step.options.get(name, [""])
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise InvalidArgumentError(f"option {name} is a list of texts.", hint='Such as ["ja", "j"].')


def _check_format(format: str, dtype: str) -> None:
    probe = pl.DataFrame({"x": ["2024-01-02"]})
    try:
        probe.select(_parsed(pl.col("x"), dtype if dtype != "text" else "date", format))
    except pl.exceptions.PolarsError:
        raise InvalidArgumentError(
            f"format {shown(format)} is no format of times.", hint="Such as %d.%m.%Y or %Y-%m-%d %H:%M:%S."
        ) from None


# Expressions ---------------------------------------------------------------------------------------------------


def _stripped(name: str) -> pl.Expr:
    return pl.col(name).str.strip_chars()


def _present(name: str, schema: Schema) -> pl.Expr:
    present = pl.col(name).is_not_null()
    return present & (_stripped(name) != "") if schema[name] == pl.String else present


def _typed(name: str, schema: Schema, step: Step, dtype: str, zoned: bool) -> pl.Expr:
    kind, column, formats = _kind(schema[name]), pl.col(name), _formats(step)
    if kind == "text":
        return _from_text(name, step, dtype, zoned)
    if dtype == "text":
        return column.dt.strftime(formats[0]) if formats and kind == "time" else column.cast(pl.String)
    if kind == "number":
        return _from_number(column, schema[name], step, dtype)
    return column.cast(_POLARS[dtype], strict=False)


def _from_number(column: pl.Expr, source: pl.DataType, step: Step, dtype: str) -> pl.Expr:
    if dtype in ("date", "datetime"):
        text = column.cast(pl.Int64, strict=False).cast(pl.String)
        return pl.coalesce(_parsed(text, dtype, format) for format in _formats(step))
    if dtype == "boolean":
        return pl.when(column.is_in([0, 1])).then(column == 1)
    if dtype == "integer" and source.is_float():
        return _whole(column, step)
    return column.cast(_POLARS[dtype], strict=False)


def _whole(column: pl.Expr, step: Step) -> pl.Expr:
    rounded = column.round(0) if flag(step, "round") else pl.when(column.floor() == column).then(column)
    return rounded.cast(pl.Int64, strict=False)


def _from_text(name: str, step: Step, dtype: str, zoned: bool) -> pl.Expr:
    text = _stripped(name)
    if dtype == "text":
        return pl.col(name)
    if dtype == "boolean":
        words = {word.lower(): True for word in step.options.get("true_values", _TRUE)}
        words |= {word.lower(): False for word in step.options.get("false_values", _FALSE)}
        return text.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)
    if dtype in ("integer", "float"):
        return _number(text, step, dtype)
    formats = _formats(step)
    if formats:
        return pl.coalesce(_parsed(text, dtype, format) for format in formats)
    return _parsed(text, "date", "%Y-%m-%d") if dtype == "date" else _iso_time(text, zoned)


# Each of these names its text once: an expression that stands twice in another is worked out twice


def _parsed(text: pl.Expr, dtype: str, format: str) -> pl.Expr:
    if "%Y" in format:
        text = text.str.extract(r"^(.*\d{4}.*)$")  # "24" is no year of four digits
    if dtype == "date":
        return text.str.to_date(format, strict=False)
    zone = "UTC" if "%z" in format else None
    return text.str.to_datetime(format, time_unit="us", time_zone=zone, strict=False)


def _iso_time(text: pl.Expr, zoned: bool) -> pl.Expr:
    padded = text.str.replace(r"^(\d{4}-\d{2}-\d{2})$", "${1}T00:00:00").str.replace(" ", "T", literal=True)
    padded = padded.str.replace(r"(T\d{2}:\d{2})($|[Z+-])", "${1}:00$2")
    if not zoned:
        return padded.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    zone = padded.str.replace(r"Z$", "+0000").str.replace(r"([+-]\d{2}):(\d{2})$", "$1$2")
    return zone.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", time_zone="UTC", strict=False)


def _number(text: pl.Expr, step: Step, dtype: str) -> pl.Expr:
    options = step.options
    if flag(step, "parentheses"):
        text = text.str.replace(r"^\((.*)\)$", "-$1")
    if options.get("currency"):
        sign = r"(?:\p{Sc}|[A-Z]{3})" if options["currency"] is True else re.escape(options["currency"])
        text = text.str.replace(rf"^([+-]?)\s*{sign}\s*", "$1").str.replace(rf"\s*{sign}$", "")
    percent = flag(step, "percent")
    if percent:
        text = text.str.extract(r"^(.*?)\s*%$")
    decimal, thousands = options.get("decimal", "."), options.get("thousands")
    whole = "[0-9]*"
    if thousands is not None:
        mark = _SPACES if thousands == " " else re.escape(thousands)
        whole = rf"(?:[0-9]{{1,3}}(?:{mark}[0-9]{{3}})+|[0-9]*)"
    exponent = "(?:[eE][+-]?[0-9]+)?" if thousands is None else ""
    text = text.str.extract(rf"^([+-]?{whole}(?:{re.escape(decimal)}[0-9]*)?{exponent})$")  # no words such as inf
    if thousands is not None:
        text = text.str.replace_all(_SPACES if thousands == " " else thousands, "", literal=thousands != " ")
    if decimal == ",":
        text = text.str.replace(",", ".", literal=True)
    if dtype == "integer" and not percent and not flag(step, "round"):
        return text.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False)
    number = text.cast(pl.Float64, strict=False)
    number = number / 100 if percent else number
    return number if dtype == "float" else _whole(number, step)
