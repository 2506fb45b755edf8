"""What a column of text seems to be: words for missing, numbers as people write them, dates of one format.

Something is proposed only when every value agrees, and when there is no second way to read it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from mcp_server.engine.type_inference import infer_column
from mcp_server.errors import shown

# Words that stand for "missing" in any column of text. "NA" is none of them: it can be a value (Namibia), so it counts
# only where all else is numbers, dates or truth values
_WORDS = ("", "null", "(null)", "<null>", "none", "n/a", "#n/a", "n.a.", "nan", "<na>")
_SIGNS = ("-", "--", "?", ".")  # only where no other value is a mere sign, or they are values themselves
_ELSEWHERE_NUMBERS = ("na", "nil")
_TYPES = {pl.Int64: "integer", pl.Float64: "float", pl.Boolean: "boolean", pl.Date: "date", pl.Datetime: "datetime"}
_HEAD = 500

_PLAIN = r"[+-]?\d+(?:\.\d+)?"
_POINT = r"[+-]?(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d+)?"
_COMMA = r"[+-]?(?:[1-9]\d{0,2}(?:\.\d{3})+|\d+)(?:,\d+)?"
_SPACED = r"[+-]?(?:[1-9]\d{0,2}(?:[ \x{00A0}\x{202F}]\d{3})+|\d+)(?:[.,]\d+)?"
_MARKED = r"[+-]?(?:[1-9]\d{0,2}(?:'\d{3})+|\d+)(?:\.\d+)?"
_SIGNED = r"^([+-]?\s*\p{Sc}.*|.*\p{Sc})$"
_DIGITS = re.compile(r"\d")
_LONGEST_DATE = 60

_TIMES = {"": "", r" \d{1,2}:\d{2}": " %H:%M", r" \d{1,2}:\d{2}:\d{2}": " %H:%M:%S"} | {
    r" \d{1,2}:\d{2} ?[AaPp][Mm]": " %I:%M %p",
    r" \d{1,2}:\d{2}:\d{2} ?[AaPp][Mm]": " %I:%M:%S %p",
}
_D, _Y, _y, _B = r"\d{1,2}", r"\d{4}", r"\d{2}", r"[A-Za-z]{3,9}"
_NAMED = {
    rf"{_D} {_B} {_Y}": ("%d %b %Y", "%d %B %Y"),
    rf"{_D}-{_B}-{_Y}": ("%d-%b-%Y", "%d-%B-%Y"),
    rf"{_D}-{_B}-{_y}": ("%d-%b-%y",),
    rf"{_B} {_D}, {_Y}": ("%b %d, %Y", "%B %d, %Y"),
    rf"{_B} {_D} {_Y}": ("%b %d %Y", "%B %d %Y"),
    rf"{_B},? {_B} {_D},? {_Y}": ("%a, %b %d, %Y", "%A, %B %d, %Y", "%a, %b %d %Y", "%a %b %d %Y"),
    rf"{_B}, {_D} {_B} {_Y}": ("%a, %d %b %Y", "%A, %d %B %Y"),
}


@dataclass(frozen=True, slots=True)
class TextColumn:
    """What could be done about one column of text.

    Attributes:
        padded: cells with spaces around them, with examples.
        words: words for missing, as they stand after trimming, with their cells.
        cast: the options of a cast that reads every other value, and in words what they are; None: it stays text.
        values: what is left after trimming and without those words, with `count`.
    """

    padded: int
    padded_examples: str
    words: Mapping[str, int]
    cast: tuple[dict[str, Any], str] | None
    values: pl.DataFrame = field(repr=False)

    @property
    def is_empty(self) -> bool:
        """True when no value is left."""
        return self.values.is_empty()


def look_at(counts: pl.DataFrame) -> TextColumn:
    """Return what could be done about a column.

    Args:
        counts: its different values as `value`, none of them missing, with `count`.
    """
    trimmed = counts.with_columns(pl.col("value").str.strip_chars().alias("text"))
    around = trimmed.filter(pl.col("value") != pl.col("text")).sort("count", "value", descending=[True, False])
    examples = ", ".join(repr(value[:20]) for value in around["value"].head(2))
    values = trimmed.group_by(pl.col("text").alias("value")).agg(pl.sum("count"))
    words = _words(values)
    values = values.filter(~pl.col("value").is_in(list(words)))
    cast = _cast(values["value"])
    if cast is None:
        spoken = values.filter(pl.col("value").str.to_lowercase().is_in(_ELSEWHERE_NUMBERS))
        others = values.filter(~pl.col("value").is_in(spoken["value"].implode()))
        cast = _cast(others["value"]) if len(spoken) and len(others) else None
        if cast is not None:
            words, values = {**words, **dict(spoken.sort("value").rows())}, others
    return TextColumn(int(around["count"].sum()), examples, words, cast, values)


def _words(values: pl.DataFrame) -> dict[str, int]:
    lower = pl.col("value").str.to_lowercase()
    found = values.filter(lower.is_in(_WORDS))
    signs = values.filter(pl.col("value").is_in(_SIGNS))
    others = values.filter(~lower.is_in(_WORDS) & ~pl.col("value").is_in(_SIGNS))["value"]
    if len(signs) and others.str.contains(r"[\p{L}\p{N}]").all() and len(others):
        found = pl.concat([found, signs])
    return dict(found.sort("value").rows())


def _cast(values: pl.Series) -> tuple[dict[str, Any], str] | None:
    if values.is_empty():
        return None
    typed = infer_column(values.rename("value"))[0]
    word = next((name for kind, name in _TYPES.items() if typed.dtype == kind), None)
    if word is not None:
        return ({"dtype": word}, f"read as {word}") if typed.null_count() == 0 else None
    return _number(values) or _date(values)


# Numbers -------------------------------------------------------------------------------------------------------


def _number(values: pl.Series) -> tuple[dict[str, Any], str] | None:
    """Return how the numbers are written, when they are written in one way."""
    if not values.head(_HEAD).str.contains(r"\d").all():
        return None
    options: dict[str, Any] = {}
    said = []
    core = values
    signs = values.str.extract(r"^[+-]?\s*(\p{Sc})").fill_null(values.str.extract(r"(\p{Sc})$"))
    if signs.null_count() < len(values):
        if signs.null_count() or signs.n_unique() > 1:
            return None
        options["currency"] = signs[0]
        said.append(f"all with {signs[0]}")
        sign = re.escape(signs[0])
        core = core.str.replace(rf"^([+-]?)\s*{sign}\s*", "$1").str.replace(rf"\s*{sign}$", "")
    if core.str.ends_with("%").any():
        if not core.str.ends_with("%").all():
            return None
        options["percent"] = True
        said.append("all in percent (divided by 100)")
        core = core.str.strip_suffix("%").str.strip_chars_end()
    written = _written(core)
    if written is None or (not options and not written[0]):
        return None
    fraction = "percent" in options or bool(core.str.contains(written[2]).any())
    options = {"dtype": "float" if fraction else "integer", **options, **written[0]}
    return options, f"numbers, {', '.join([*said, *written[1]]) or 'plain'}"


def _written(core: pl.Series) -> tuple[dict[str, str], list[str], str] | None:
    """Return the options for thousands and decimals, in words too, and the pattern of a fraction."""
    if not core.str.contains(r"[ \x{00A0}\x{202F}',]").any():
        dotted = core.filter(core.str.contains(".", literal=True))
        groups = len(dotted) and dotted.str.contains(r"^[+-]?[1-9]\d{0,2}\.\d{3}$").all()
        # 1.234 may be a number of thousands as well as a fraction; 1.234.567 is none of the plain
        return ({}, [], r"\.") if not groups and core.str.contains(f"^{_PLAIN}$").all() else None
    if core.str.contains(f"^{_POINT}$").all():
        said = "thousands separated by commas"
        return {"thousands": ","}, [said], r"\."
    if core.str.contains(f"^{_COMMA}$").all():
        thousands = core.str.contains(".", literal=True).any()
        options = {"decimal": ","} | ({"thousands": "."} if thousands else {})
        return options, ["decimal commas", *(["thousands separated by points"] if thousands else [])], ","
    if core.str.contains(f"^{_MARKED}$").all():
        return {"thousands": "'"}, ["thousands separated by apostrophes"], r"\."
    commas = core.str.contains(",", literal=True).any()
    points = core.str.contains(".", literal=True).any()
    if core.str.contains(f"^{_SPACED}$").all() and not (commas and points):
        options = {"thousands": " "} | ({"decimal": ","} if commas else {})
        return options, ["thousands separated by spaces", *(["decimal commas"] if commas else [])], r"[.,]"
    return None


# Dates ---------------------------------------------------------------------------------------------------------


def _date(values: pl.Series) -> tuple[dict[str, Any], str] | None:
    """Return the one format that reads all values; None when none does, or when two do."""
    first = values[0]
    if len(first) > _LONGEST_DATE or not _DIGITS.search(first):
        return None
    may = [(pattern, format, kind) for pattern, format, kind in _FORMATS if pattern.match(first)]
    fitting = [(format, kind) for pattern, format, kind in may if _reads(values, pattern.pattern, format, kind)]
    orders = {_order(format) for format, _ in fitting}
    if len(orders) != 1:
        return None  # no format, or one that leaves day and month open
    format, kind = fitting[0]
    years = " (two-digit years: 69 to 99 are 1969 to 1999)" if "%y" in format else ""
    return {"dtype": kind, "format": format}, f"dates in the one format {format}{years}"


def _order(format: str) -> str:
    """Return the order of day, month and year; a month's name is a month in whatever length."""
    parts = re.findall("%([dmyYbB])", format)
    return "".join({"B": "b"}.get(part, part) for part in parts)


def _formats() -> Iterator[tuple[str, str, str]]:
    """Yield patterns of dates with what they are read by, and as what."""
    dates: list[tuple[str, str]] = []
    for mark in ("/", r"\.", "-"):
        sign = mark[-1]
        for first, second in ("dm", "md"):
            dates.append((f"{_D}{mark}{_D}{mark}{_Y}", f"%{first}{sign}%{second}{sign}%Y"))
            dates.append((f"{_D}{mark}{_D}{mark}{_y}", f"%{first}{sign}%{second}{sign}%y"))
        dates.append((f"{_Y}{mark}{_D}{mark}{_D}", f"%Y{sign}%m{sign}%d"))
        dates.append((f"{_y}{mark}{_D}{mark}{_D}", f"%y{sign}%m{sign}%d"))
    dates += [(pattern, format) for pattern, formats in _NAMED.items() for format in formats]
    for pattern, format in dates:
        for time, clock in _TIMES.items():
            yield f"^{pattern}{time}$", format + clock, "datetime" if clock else "date"


_FORMATS = tuple((re.compile(pattern), format, kind) for pattern, format, kind in _formats())


def _reads(values: pl.Series, pattern: str, format: str, kind: str) -> bool:
    if not values.str.contains(pattern).all():
        return False
    if kind == "date":
        return values.str.to_date(format, strict=False).null_count() == 0
    return values.str.to_datetime(format, time_unit="us", strict=False).null_count() == 0


def listed(words: Mapping[str, int]) -> str:
    """Return words with their cells: `'NULL' 12, '-' 3`."""
    ordered = sorted(words.items(), key=lambda item: -item[1])
    return ", ".join(f"{shown(word, 20)} {count:,}" for word, count in ordered[:6])
