"""Dates that are text: which formats a column holds, how many of each, and which could be read in two ways."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from mcp_server.engine.findings import Finding

if TYPE_CHECKING:
    from mcp_server.engine.profiling.text import Texts

_TIME = r"([T ,]+\d{1,2}:\d{2}.*)?$"
_WORD_MONTH = r"[A-Za-z]{3,9}\.?"
DATE_SHAPES = {
    "year-month-day": r"^\d{4}-\d{1,2}-\d{1,2}" + _TIME,
    "year/month/day": r"^\d{4}/\d{1,2}/\d{1,2}" + _TIME,
    "year.month.day": r"^\d{4}\.\d{1,2}\.\d{1,2}" + _TIME,
    "/": r"^\d{1,2}/\d{1,2}/(\d{4}|\d{2})" + _TIME,
    ".": r"^\d{1,2}\.\d{1,2}\.(\d{4}|\d{2})" + _TIME,
    "-": r"^\d{1,2}-\d{1,2}-(\d{4}|\d{2})" + _TIME,
    "day month-name year": rf"^({_WORD_MONTH},? )?\d{{1,2}}\.?[- ]{_WORD_MONTH}[-, ]+\d{{2,4}}" + _TIME,
    "month-name day year": rf"^({_WORD_MONTH},? )?{_WORD_MONTH} \d{{1,2}},? \d{{4}}" + _TIME,
}
_COMPACT = r"^(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$"
_SEPARATORS = ("/", ".", "-")


@dataclass(slots=True)
class Dates:
    """The dates of a column by format; formats of digits are told apart by their parts above 12."""

    formats: "dict[str, Texts]" = field(default_factory=dict)
    either: "dict[str, Texts]" = field(default_factory=dict)
    impossible: "list[Texts]" = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    cells: int = 0

    def add(self, shape: str, texts: "Texts") -> None:
        """Take in the dates of one shape."""
        if not len(texts.values):
            return
        self.cells += texts.cells()
        self.shapes.append(DATE_SHAPES.get(shape, _COMPACT))
        if shape not in _SEPARATORS:
            self._add_named(shape, texts)
            return
        parts = texts.values.str.extract_groups(r"^(\d{1,2})[/.-](\d{1,2})").struct
        first, second = (parts.field(str(i)).cast(pl.Int64) for i in (1, 2))
        self._keep(f"day{shape}month{shape}year", texts.where((first > 12) & (first <= 31) & (second <= 12)))
        self._keep(f"month{shape}day{shape}year", texts.where((first <= 12) & (second > 12) & (second <= 31)))
        unclear = texts.where((first <= 12) & (second <= 12))
        if len(unclear.values):
            self.either[shape] = unclear
        wrong = texts.where(((first > 12) & (second > 12)) | (first > 31) | (second > 31))
        if len(wrong.values):
            self.impossible.append(wrong)

    def add_compact(self, numbers: "Texts") -> "Texts":
        """Take in numbers such as 20240131, where a column holds other dates too; return the other numbers."""
        mask = numbers.values.str.contains(_COMPACT)
        compact = numbers.where(mask)
        if len(compact.values):
            self.add("yearmonthday", compact)
        return numbers.where(~mask)

    def _add_named(self, shape: str, texts: "Texts") -> None:
        self._keep(shape, texts)
        if shape.startswith("year") and shape != "yearmonthday":
            days = texts.values.str.extract(r"^(\d{4}.\d{1,2}.\d{1,2})").str.replace_all(r"[/.]", "-")
            wrong = texts.where(days.str.to_date("%Y-%m-%d", strict=False).is_null())
            if len(wrong.values):
                self.impossible.append(wrong)

    def _keep(self, name: str, texts: "Texts") -> None:
        if len(texts.values):
            self.formats[name] = texts

    def patterns(self) -> list[str]:
        """Return patterns that find these dates again."""
        return self.shapes

    def examples(self) -> str:
        """Return one date of each format."""
        return ", ".join(texts.examples(1) for texts in [*self.formats.values(), *self.either.values()])


def date_findings(name: str, dates: Dates, total: int) -> list[Finding]:
    """Return what there is to say about a column most of whose `total` values are dates."""
    settled = dict(dates.formats)
    unclear = {mark: texts for mark, texts in dates.either.items() if len(_readings(mark) & set(settled)) != 1}
    found = [_formats(name, dates, settled, unclear, total)]
    if unclear:
        found.append(_ambiguous(name, settled, unclear))
    if dates.impossible:
        n_wrong = sum(texts.cells() for texts in dates.impossible)
        text = f"{n_wrong:,} are days that no calendar has ({', '.join(t.examples(2) for t in dates.impossible)})."
        found.append(Finding(name, "invalid_dates", text))
    return found


def _formats(name: str, dates: Dates, settled: "dict[str, Texts]", unclear: "dict[str, Texts]", total: int) -> Finding:
    each = {key: (texts.cells(), texts.examples(1)) for key, texts in settled.items()}
    for separator, texts in dates.either.items():
        readings = sorted(_readings(separator) & set(each))
        if len(readings) == 1:  # the others settle what these are
            each[readings[0]] = (each[readings[0]][0] + texts.cells(), each[readings[0]][1])
        else:
            each[f"day{separator}month or month{separator}day"] = (texts.cells(), texts.examples(1))
    n_formats = len(settled) + sum(not _readings(separator) & set(settled) for separator in unclear)
    ordered = sorted(each.items(), key=lambda item: -item[1][0])
    listed = "; ".join(f"{count:,} {key} ({example})" for key, (count, example) in ordered[:6])
    n_dates = sum(count for count, _ in each.values())
    others = f"; {total - n_dates:,} other values" if total > n_dates else ""
    if n_formats > 1:
        text = f"Dates in {n_formats} formats: {listed}{others}. Kept as text: parse each format by itself."
        return Finding(name, "mixed_dates", text)
    text = f"Dates kept as text: {listed}{others}. clean_dataset casts them with options.format."
    return Finding(name, "date_format", text)


def _readings(separator: str) -> set[str]:
    return {f"day{separator}month{separator}year", f"month{separator}day{separator}year"}


def _ambiguous(name: str, settled: "dict[str, Texts]", unclear: "dict[str, Texts]") -> Finding:
    n_unclear = sum(texts.cells() for texts in unclear.values())
    examples = ", ".join(texts.examples(2) for texts in unclear.values())
    both = any(_readings(separator) <= set(settled) for separator in unclear)
    why = "both orders occur beside them" if both else "no part above 12 tells day from month"
    text = f"{n_unclear:,} dates such as {examples} could be day first or month first: {why}. None is guessed."
    return Finding(name, "ambiguous_dates", text)


def compact_dates(values: Sequence[int], tested: int) -> bool:
    """Return True when all of `tested` whole numbers, the distinct ones being `values`, are days such as 20240131."""
    if tested < 3 or not values:
        return False
    series = pl.Series(values).cast(pl.String)
    return bool(series.str.contains(_COMPACT).all()) and series.str.to_date("%Y%m%d", strict=False).null_count() == 0
