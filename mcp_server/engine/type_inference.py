"""Types for columns that came as text: exact where the text is plain, text where it is not, and always said.

The rules, column by column:

- An empty cell is missing. Words such as ``NA`` or ``null`` are missing only where every other value is a number,
  a date or a truth value; in a column of text they stay what they are (Namibia's code is NA).
- Whole numbers of 64 bits are Int64, others Float64. Numbers with leading zeros are codes and stay text; so do whole
  numbers that a float would round. ``NaN`` and ``inf`` in a column of numbers are missing.
- ISO 8601 dates are Date or Datetime. Other dates stay text: the order of day and month is not guessed.
- ``true`` and ``false`` in any case are Boolean. Other spellings stay text.
- Decimal commas, thousands separators, percents and currencies stay text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from mcp_server.engine.findings import Finding
from mcp_server.engine.type_evidence import (
    DATE_FORMATS,
    Evidence,
    Example,
    is_date,
    reading,
)
from mcp_server.errors import shown

__all__ = ["Evidence", "TypedColumn", "decide_type", "infer_column", "infer_types"]

Kind = Literal["text", "whole", "number", "iso_date", "iso_time", "iso_zoned", "truth"]
_DTYPES: Final[Mapping[Kind, pl.DataType]] = {
    "text": pl.String(),
    "whole": pl.Int64(),
    "number": pl.Float64(),
    "iso_date": pl.Date(),
    "iso_time": pl.Datetime("us"),
    "iso_zoned": pl.Datetime("us", "UTC"),
    "truth": pl.Boolean(),
}
_WORDS: Final = {"whole": "numbers", "number": "numbers", "iso_date": "dates", "truth": "truth values"}
_FORMATTED: Final = {
    "thousands": "thousands separators",
    "decimal_comma": "decimal commas",
    "percent": "percent signs",
    "currency": "currency signs",
}
_N_EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """The type that a column of text gets.

    Attributes:
        kind: how its text is read.
        missing: cells that are missing once it is read so.
        padded: True when cells have spaces around them.
    """

    name: str
    kind: Kind
    missing: int
    padded: bool

    @property
    def dtype(self) -> pl.DataType:
        """The type of the column once it is read."""
        return _DTYPES[self.kind]

    def reading(self) -> pl.Expr:
        """Return the expression that reads the column; words for missing and infinity become null."""
        column = pl.col(self.name)
        if self.kind == "text":
            return pl.when(column != "").then(column).alias(self.name)
        text = column.str.strip_chars() if self.padded else column
        if self.kind == "whole":
            read = text.cast(pl.Int64, strict=False)
        elif self.kind == "number":
            number = text.cast(pl.Float64, strict=False)
            read = pl.when(number.is_finite()).then(number)
        elif self.kind == "truth":
            lower = text.str.to_lowercase()
            read = pl.when(lower.is_in(["true", "false"])).then(lower == "true")
        else:
            read = reading(self.kind, text)
        return read.alias(self.name)


def infer_types(table: pl.DataFrame) -> tuple[pl.DataFrame, list[Finding]]:
    """Return `table`, all of whose columns are text, with the types its text has, and what there is to say about it."""
    typed, findings = [], []
    for column in table.iter_columns():
        decided, said = decide_type(column.name, _evidence(column))
        typed.append(decided)
        findings += said
    return table.select(column.reading() for column in typed), findings


def infer_column(values: pl.Series) -> tuple[pl.Series, list[Finding]]:
    """Return one text column with the type its text has, and what there is to say about it."""
    decided, findings = decide_type(values.name, _evidence(values))
    return values.to_frame().select(decided.reading()).to_series(), findings


def _evidence(values: pl.Series) -> Evidence:
    evidence = Evidence()
    evidence.add(values)
    return evidence


def decide_type(name: str, evidence: Evidence) -> tuple[TypedColumn, list[Finding]]:
    """Return the type of a column of which all rows were seen, and what there is to say about it."""
    return _Decision(name, evidence).made()


class _Decision:
    """One column on its way from text to its type."""

    def __init__(self, name: str, evidence: Evidence) -> None:
        self._name = name
        self._seen = evidence
        self._totals = evidence.totals
        self._shapes = set(evidence.totals) - {"missing", "infinite"}
        self._n_filled = evidence.rows - evidence.empty
        self._n_values = self._n_filled - self._totals.get("missing", 0)

    def made(self) -> tuple[TypedColumn, list[Finding]]:
        kind = self._kind()
        words = self._totals.get("missing", 0) + self._totals.get("infinite", 0)
        missing = self._seen.empty + (words if kind != "text" else 0)
        column = TypedColumn(self._name, kind, missing, self._seen.padded)
        return column, self._reasons_for_text() if kind == "text" else self._words_read_as_missing(kind)

    def _kind(self) -> Kind:
        if self._shapes == {"number"}:
            return self._kind_of_number()
        if not self._shapes or "infinite" in self._totals or any(map(self._seen.unreadable.get, self._shapes)):
            return "text"
        if self._shapes == {"iso_date"}:
            return "iso_date"
        if self._shapes <= {"iso_date", "iso_time"}:
            return "iso_time"
        if self._shapes == {"iso_zoned"}:
            return "iso_zoned"
        return "truth" if self._shapes == {"truth"} else "text"

    def _kind_of_number(self) -> Kind:
        if not self._seen.not_whole:
            return "whole"
        return "text" if self._seen.long_whole or self._seen.unreadable.get("number") else "number"

    def _words_read_as_missing(self, kind: Kind) -> list[Finding]:
        findings = []
        if n_words := self._totals.get("missing"):
            others = _WORDS.get(kind, "times")
            text = (
                f"{n_words} cells ({self._examples('missing')}) are read as missing, as all other values are {others}."
            )
            findings.append(Finding(self._name, "missing_words", text))
        if n_infinite := self._totals.get("infinite"):
            text = f"{n_infinite} infinite values ({self._examples('infinite')}) are read as missing."
            findings.append(Finding(self._name, "infinite", text))
        if kind == "whole" and self._seen.compact_dates == self._totals["number"]:
            text = f"Whole numbers that read as dates, year, month, day ({self._examples('number')}); kept as numbers."
            findings.append(Finding(self._name, "compact_dates", text + " clean_dataset casts them with a format."))
        return findings

    def _reasons_for_text(self) -> list[Finding]:
        reasons = [self._date_reason(), self._number_reason(), self._format_reason(), self._truth_reason()]
        return [*(reason for reason in reasons if reason is not None), *self._missing_word_reason()]

    def _date_reason(self) -> Finding | None:
        dates = {shape: count for shape, count in self._totals.items() if is_date(shape)}
        n_numbers = self._totals.get("number", 0)
        if dates and n_numbers and self._seen.compact_dates == n_numbers:
            dates["number"] = n_numbers
        if 2 * sum(dates.values()) <= self._n_values:
            return None
        formats = {shape: count for shape, count in dates.items() if shape != "no calendar's date"}
        if len(formats) > 1 and not _one_order(formats):
            parts = [
                f"{count} as {_format_name(shape)} (first {shown(first.text, 30)} in row {first.row})"
                for shape, count in sorted(formats.items(), key=lambda item: (-item[1], item[0]))
                for first in [self._seen.examples[shape][0]]
            ]
            text = f"Holds dates in {len(formats)} formats: {', '.join(parts)}; kept as text, none is guessed."
            return Finding(self._name, "mixed_dates", text)
        if self._shapes <= {"iso_date", "iso_time", "iso_zoned", "no calendar's date"}:
            return Finding(self._name, "invalid_dates", "Holds days that no calendar has; kept as text.")
        name = min(formats, key=lambda shape: " or " in shape, default="no calendar's date")
        reason = f"as {_format_name(name)} fits all of them" if " or " not in name and len(formats) > 1 else ""
        reason = reason or (
            "as the order of day and month is not guessed" if " or " in name else "as it is not ISO 8601"
        )
        text = f"Looks like dates, {_format_name(name)} ({self._examples(*dates)}); kept as text, {reason}."
        return Finding(self._name, "date_format", text + " clean_dataset casts it with options.format.")

    def _number_reason(self) -> Finding | None:
        n_numbers = self._totals.get("number", 0) + self._totals.get("zero_led", 0)
        if self._shapes <= {"number", "zero_led"} and self._shapes:
            if "zero_led" in self._totals:
                text = f"Numbers with leading zeros ({self._examples('zero_led')}) are codes; kept as text."
                return Finding(self._name, "leading_zeros", text)
            text = "Holds numbers beyond what 64 bits keep exactly; kept as text."
            return Finding(self._name, "long_numbers", text)
        if self._shapes & {"yes_no", "truth"} or 2 * n_numbers <= self._n_values or self._is_formatted():
            return None
        others = sorted(self._shapes - {"number", "zero_led"})
        if not others:
            others = ["infinite"]
        first = min(example for shape in others for example in self._seen.examples[shape])
        text = (
            f"{n_numbers} of {self._n_values} values are numbers, the rest not ({self._examples(*others)}; the "
            f"first in row {first.row}); kept as text."
        )
        return Finding(self._name, "mixed_types", text)

    def _is_formatted(self) -> bool:
        """Return True when numbers are written in some spelling, or plainly where that needs no sign."""
        return bool(self._shapes & set(_FORMATTED)) and self._shapes <= {"number", "zero_led", *_FORMATTED}

    def _format_reason(self) -> Finding | None:
        found = {shape: self._totals[shape] for shape in _FORMATTED if shape in self._totals}
        if not found or not (self._is_formatted() or 2 * sum(found.values()) > self._n_filled):
            return None
        words = " and ".join(f"{_FORMATTED[shape]} in {count}" for shape, count in found.items())
        text = (
            f"Numbers are written with {words} of {self._n_values} values ({self._examples(*found)}); kept as text. "
            "clean_dataset can replace and cast."
        )
        return Finding(self._name, next(iter(found)) if len(found) == 1 else "formatted_numbers", text)

    def _truth_reason(self) -> Finding | None:
        truths = self._shapes & {"truth", "yes_no"}
        if not truths or not self._shapes <= {"truth", "yes_no", "number", "zero_led"}:
            return None
        digits = {each.text: 0 for shape in ("number", "zero_led") for each in self._seen.examples.get(shape, ())}
        spellings = self._seen.spellings | digits
        if not set(digits) <= {"0", "1"} or len(spellings) <= 2:
            return None
        text = f"Truth values in several spellings ({self._examples(*sorted(self._shapes))}) are kept as text."
        return Finding(self._name, "bool_variants", text)

    def _missing_word_reason(self) -> list[Finding]:
        spoken = sorted(self._seen.missing_words.items(), key=lambda item: -item[1])
        if not spoken:
            return []
        words = ", ".join(f"{shown(text, 20)} {count}" for text, count in spoken[:5])
        total = sum(count for _, count in spoken)
        text = f"{total} cells hold words for missing ({words}); kept, as the column is text."
        return [Finding(self._name, "null_as_text", text + " clean_dataset can replace them.")]

    def _examples(self, *shapes: str) -> str:
        """Return up to three values: the first of each shape, or more of them where there are few shapes."""
        found: Sequence[Sequence[Example]] = [self._seen.examples[shape] for shape in shapes]
        chosen: Iterable[Example] = (each[0] for each in found)
        if len(found) < _N_EXAMPLES:
            chosen = sorted(example for each in found for example in each)
        texts = [shown(example.text, 30) for example in chosen]
        return ", ".join(texts[:_N_EXAMPLES])


def _one_order(formats: Mapping[str, int]) -> bool:
    """Return True when all dates fit one format: those that fit two orders take the one that the others show."""
    clear = [shape for shape in formats if " or " not in shape]
    return len(clear) == 1 and all(clear[0] in shape.split(" or ") for shape in formats)


def _format_name(shape: str) -> str:
    return "yearmonthday" if shape == "number" else DATE_FORMATS.get(shape, shape)
