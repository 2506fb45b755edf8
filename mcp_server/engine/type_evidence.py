"""What the text of one column looks like, counted batch by batch: the facts that its type is decided from.

A column's evidence does not depend on how its rows were cut into batches, and takes bounded memory: it keeps counts
and the first few values of every shape, never the values themselves.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import polars as pl

MISSING_WORDS: Final = ("", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", "?", ".")
SPOKEN_MISSING_WORDS: Final = ("na", "n/a", "#n/a", "nan", "null", "none", "nil")
_INFINITE_WORDS: Final = ("inf", "+inf", "-inf", "infinity", "+infinity", "-infinity")
_FLOAT_EXACT: Final = 2**53
_N_EXAMPLES: Final = 3
_N_LOOKED_AT: Final = 50
# Days from 1970: the first day of year 1 and the last of 9999
_CALENDAR: Final = (-719_162, 2_932_896)

_WHOLE: Final = r"^[+-]?[0-9]+$"
_SIGN: Final = r"[$€£¥¢₹₽₩₪₺₴₫฿]"
_CODE: Final = r"(?:USD|EUR|GBP|JPY|CHF|CAD|AUD)"
_GAP: Final = r"[ '’\x{a0}\x{202f}]"
_TIME: Final = r"([T ,]+[0-9]{1,2}:[0-9]{2}.*)?$"
_ISO_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
# Hours, minutes or seconds that may be beyond what a day has
_LATE_HOURS: Final = r"^.{11}(2[4-9]|[3-9])|^.{13}:[6-9]|^.{16}:[6-9]"
# What a value looks like, spaces around it gone; the first pattern that fits decides.
_SHAPES: Final[Mapping[str, str]] = {
    "zero_led": r"^[+-]?0[0-9]+(\.[0-9]*)?$",
    "number": r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$",
    "iso_date": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    "iso_time": rf"{_ISO_TIME}$",
    "iso_zoned": rf"{_ISO_TIME}(Z|[+-][0-9]{{2}}:?[0-9]{{2}})$",
    "year-month-day": r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}" + _TIME,
    "year/month/day": r"^[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}" + _TIME,
    "year.month.day": r"^[0-9]{4}\.[0-9]{1,2}\.[0-9]{1,2}" + _TIME,
    "/": r"^[0-9]{1,2}/[0-9]{1,2}/([0-9]{4}|[0-9]{2})" + _TIME,
    ".": r"^[0-9]{1,2}\.[0-9]{1,2}\.([0-9]{4}|[0-9]{2})" + _TIME,
    "-": r"^[0-9]{1,2}-[0-9]{1,2}-([0-9]{4}|[0-9]{2})" + _TIME,
    "day month-name year": r"^([A-Za-z]{3,9},? )?[0-9]{1,2}\.?[- ][A-Za-z]{3,9}\.?[-, ]+([0-9]{4}|[0-9]{2})" + _TIME,
    "month-name day year": r"^([A-Za-z]{3,9},? )?[A-Za-z]{3,9}\.? [0-9]{1,2},? [0-9]{4}" + _TIME,
    "truth": r"^(?i:true|false)$",
    "yes_no": r"^(?i:yes|no|y|n|t|f|on|off)$",
    "thousands": rf"^[+-]?[0-9]{{1,3}}(((,[0-9]{{3}})+|({_GAP}[0-9]{{3}})+)(\.[0-9]+)?|(\.[0-9]{{3}}){{2,}})$",
    "decimal_comma": rf"^[+-]?([0-9]+|[0-9]{{1,3}}((\.|{_GAP})[0-9]{{3}})+),[0-9]+$",
    "percent": r"^[+-]?[0-9]+([.,][0-9]+)*\s*%$",
    "currency": rf"^[(+-]*({_SIGN}|{_CODE})\s*[+-]?[0-9][0-9.,' ]*\)?$|^[+-]?[0-9][0-9.,' ]*\s*({_SIGN}|{_CODE})$",
}
_SEPARATED: Final = ("/", ".", "-")
_ISO: Final = ("iso_date", "iso_time", "iso_zoned")
# A value that this does not fit is text and nothing else: no shape, no word with a meaning.
_MAYBE_MORE: Final = (
    r"^\s*([-+.(?0-9$€£¥¢₹₽₩₪₺₴₫฿]|$|[A-Za-z]{3,9}[., ].*[0-9]|" + _CODE + r"\s*[-+0-9]"
    r"|(#?(?i:n/?a|nan|null|none|nil|inf|infinity|true|false|yes|no|y|n|t|f|on|off)\s*$))"
)
DATE_FORMATS: Final[Mapping[str, str]] = {
    "iso_date": "year-month-day",
    "iso_time": "year-month-day time",
    "iso_zoned": "year-month-day time offset",
}


class Example(NamedTuple):
    """A value that stands for its shape; `row` counts the data rows from 1."""

    row: int
    text: str


@dataclass(slots=True)
class Evidence:
    """What is known of one column of text so far.

    Attributes:
        rows: cells seen, the empty ones among them.
        empty: cells without any text.
        totals: cells by shape: those of `_SHAPES` (dates of digits by the order of their parts), `missing` and
            `infinite` words, `text`.
        examples: of each shape the first three different values.
        spellings: of truth values in lower case, with their counts.
        missing_words: words for missing as they are written, with their counts.
        unreadable: cells of a shape that its type cannot keep: days that no calendar has, infinite numbers.
        not_whole: numbers that are no 64-bit whole numbers.
        compact_dates: numbers that read as year, month and day.
        long_whole: True when a whole number is one that a float would round.
        padded: True when a cell other than text has spaces around it.
    """

    rows: int = 0
    empty: int = 0
    totals: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[Example]] = field(default_factory=dict)
    spellings: dict[str, int] = field(default_factory=dict)
    missing_words: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, int] = field(default_factory=dict)
    not_whole: int = 0
    compact_dates: int = 0
    long_whole: bool = False
    padded: bool = False

    def add(self, values: pl.Series) -> None:
        """Take in the next rows of the column."""
        first_row = self.rows + 1
        self.rows += len(values)
        filled = values.is_not_null() & (values != "")
        n_filled = int(filled.sum())
        self.empty += len(values) - n_filled
        if not n_filled:
            return
        cells = pl.DataFrame({"value": values, "row": pl.int_range(first_row, first_row + len(values), eager=True)})
        if n_filled < len(values):
            cells = cells.filter(filled)
        rest = self._without_the_expected(cells)
        if len(rest):
            self._add_by_value(rest)

    def merge(self, other: "Evidence") -> None:
        """Take in the evidence of the rows that follow, gathered on their own."""
        for shape, examples in other.examples.items():
            self._keep_examples(shape, (Example(each.row + self.rows, each.text) for each in examples))
        for mine, theirs in (
            (self.totals, other.totals),
            (self.spellings, other.spellings),
            (self.missing_words, other.missing_words),
            (self.unreadable, other.unreadable),
        ):
            for key, count in theirs.items():
                mine[key] = mine.get(key, 0) + count
        self.rows += other.rows
        self.empty += other.empty
        self.not_whole += other.not_whole
        self.compact_dates += other.compact_dates
        self.long_whole |= other.long_whole
        self.padded |= other.padded

    # The shape that most cells have, taken in all at once -------------------------------------------------------

    def _without_the_expected(self, cells: pl.DataFrame) -> pl.DataFrame:
        """Count the cells that look like those before them; return the others."""
        shape = self._expected(cells["value"])
        if shape == "number":
            fits = self._numbers(cells["value"])
        elif shape == "text":
            fits = ~cells["value"].str.contains(_MAYBE_MORE)
        elif shape in _ISO or shape == "truth":
            fits = cells["value"].str.contains(_SHAPES[shape])
        else:
            return cells
        n_fits = int(fits.sum())
        if not n_fits:
            return cells
        chosen = cells if n_fits == len(cells) else cells.filter(fits)
        self._count(shape, n_fits)
        self._keep_first(shape, chosen)
        if shape in _ISO:
            self._check_dates(shape, chosen["value"], None)
        elif shape == "truth":
            spelled = chosen["value"].str.to_lowercase().value_counts(name="count")
            for text, count in spelled.iter_rows():
                self.spellings[text] = self.spellings.get(text, 0) + count
        return cells.clear() if n_fits == len(cells) else cells.filter(~fits)

    def _expected(self, values: pl.Series) -> str:
        known = [shape for shape in self.totals if shape not in ("missing", "infinite", "zero_led")]
        if known:
            return max(known, key=self.totals.__getitem__)
        counted = _by_value(values.head(_N_LOOKED_AT).to_frame("value").with_columns(row=pl.lit(0)))
        shapes = counted.group_by("shape").agg(pl.col("count").sum()).sort("count", "shape", descending=True)
        return next((shape for shape in shapes["shape"] if shape not in ("missing", "infinite", "zero_led")), "")

    def _numbers(self, values: pl.Series) -> pl.Series:
        """Note what there is to know of the plain numbers among `values`; return where they are."""
        whole = values.cast(pl.Int64, strict=False)
        fits = whole.is_not_null()
        if fits.all():
            fits = _without_codes(values, fits)
            self._note_whole(whole if fits.all() else whole.filter(fits))
            return fits
        numbers = values.cast(pl.Float64, strict=False)
        fits = _without_codes(values, numbers.is_finite().fill_null(False))
        self.not_whole += int((fits & whole.is_null()).sum())
        self._note_whole(whole.filter(fits).drop_nulls())
        large = fits & (numbers.abs() >= _FLOAT_EXACT) & whole.is_null()
        self.long_whole |= bool(large.any()) and bool(values.filter(large).str.contains(_WHOLE).any())
        return fits

    def _note_whole(self, numbers: pl.Series) -> None:
        if numbers.is_empty():
            return
        low, high = numbers.min(), numbers.max()
        assert isinstance(low, int)
        assert isinstance(high, int)
        self.long_whole |= low <= -_FLOAT_EXACT or high >= _FLOAT_EXACT
        if high >= 19_000_101 and low <= 20_991_231:
            month, day = numbers // 100 % 100, numbers % 100
            years = numbers.is_between(19_000_101, 20_991_231)
            self.compact_dates += int((years & month.is_between(1, 12) & day.is_between(1, 31)).sum())

    def _check_dates(self, shape: str, texts: pl.Series, counts: pl.Series | None) -> None:
        """Count what no calendar has; the time of day needs a look only where it is not plainly right."""
        if shape == "iso_time" and counts is None and not texts.str.contains(_LATE_HOURS).any():
            days = texts.str.head(10).str.to_date("%Y-%m-%d", strict=False).to_physical()
        else:
            days = as_type(shape, texts).dt.date().to_physical()
        wrong = ~days.is_between(*_CALENDAR).fill_null(False)
        if wrong.any():
            n_wrong = int(wrong.sum() if counts is None else counts.filter(wrong).sum())
            self.unreadable[shape] = self.unreadable.get(shape, 0) + n_wrong

    def _keep_first(self, shape: str, cells: pl.DataFrame) -> None:
        """Keep the first different values of cells that all have the shape, in their order."""
        for part in (cells.head(_N_LOOKED_AT), cells):
            if len(self.examples.get(shape, ())) >= _N_EXAMPLES:
                return
            first = part.group_by("value", maintain_order=True).agg(pl.col("row").first()).head(2 * _N_EXAMPLES)
            self._keep_examples(shape, (Example(row, text.strip()) for text, row in first.iter_rows()))

    # The others, by their different values ---------------------------------------------------------------------

    def _add_by_value(self, cells: pl.DataFrame) -> None:
        counted = _by_value(cells)
        for shape, texts in _by_shape(counted):
            self._count(shape, int(texts["count"].sum()))
            first = texts.sort("row").unique("text", keep="first", maintain_order=True).head(2 * _N_EXAMPLES)
            self._keep_examples(shape, (Example(row, text) for row, text in first.select("row", "text").iter_rows()))
            if shape != "text":
                self.padded |= bool((texts["value"] != texts["text"]).any())
            if shape == "number":
                self._note_numbers(texts)
            elif shape in _ISO:
                self._check_dates(shape, texts["text"], texts["count"])
            elif shape in ("truth", "yes_no"):
                for text, count in texts.select(pl.col("text").str.to_lowercase(), "count").iter_rows():
                    self.spellings[text] = self.spellings.get(text, 0) + count
        spoken = counted.filter(pl.col("text").str.to_lowercase().is_in(SPOKEN_MISSING_WORDS))
        for text, count in spoken.sort("row").select("text", "count").iter_rows():
            self.missing_words[text] = self.missing_words.get(text, 0) + count

    def _note_numbers(self, texts: pl.DataFrame) -> None:
        whole = texts["text"].cast(pl.Int64, strict=False)
        numbers = texts["text"].cast(pl.Float64, strict=False)
        lost = ~numbers.is_finite().fill_null(False)
        if lost.any():
            self.unreadable["number"] = self.unreadable.get("number", 0) + int(texts["count"].filter(lost).sum())
        self.not_whole += int(texts["count"].filter(whole.is_null()).sum())
        if whole.is_not_null().any():
            self._note_whole(whole.repeat_by(texts["count"]).explode().drop_nulls())
        large = (numbers.abs() >= _FLOAT_EXACT).fill_null(False)
        self.long_whole |= bool(large.any()) and bool(texts["text"].filter(large).str.contains(_WHOLE).any())

    def _count(self, shape: str, n_cells: int) -> None:
        self.totals[shape] = self.totals.get(shape, 0) + n_cells

    def _keep_examples(self, shape: str, found: Iterator[Example]) -> None:
        kept = {each.text: each for each in self.examples.get(shape, ())}
        for each in found:
            if each.text not in kept or each.row < kept[each.text].row:
                kept[each.text] = each
        self.examples[shape] = sorted(kept.values())[:_N_EXAMPLES]


def _without_codes(values: pl.Series, fits: pl.Series) -> pl.Series:
    """Return `fits` without the numbers with leading zeros; few columns have one, which is quick to see."""
    zeros = values.str.starts_with("0") | values.str.starts_with("-0") | values.str.starts_with("+0")
    return fits & ~values.str.contains(_SHAPES["zero_led"]) if zeros.any() else fits


def _by_value(cells: pl.DataFrame) -> pl.DataFrame:
    """Return the different values of `value` with `count`, first `row`, stripped `text` and `shape`."""
    text = pl.col("text")
    missing = pl.when(text.str.to_lowercase().is_in(MISSING_WORDS)).then(pl.lit("missing"))
    shape = missing.when(text.str.to_lowercase().is_in(_INFINITE_WORDS)).then(pl.lit("infinite"))
    for name, pattern in _SHAPES.items():
        shape = shape.when(text.str.contains(pattern)).then(pl.lit(name))
    return (
        cells.lazy()
        .group_by("value")
        .agg(pl.len().alias("count"), pl.col("row").min())
        .with_columns(pl.col("value").str.strip_chars().alias("text"))
        .with_columns(shape.otherwise(pl.lit("text")).alias("shape"))
        .collect()
    )


def _by_shape(counted: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the values of each shape; dates of digits by the order of their parts, where it shows."""
    for (shape,), texts in counted.group_by("shape"):
        if shape not in _SEPARATED:
            yield str(shape), texts
            continue
        parts = texts["text"].str.extract_groups(r"^(\d{1,2})[/.-](\d{1,2})").struct
        first, second = (parts.field(part).cast(pl.Int64) for part in ("1", "2"))
        day_first, month_first = f"day{shape}month{shape}year", f"month{shape}day{shape}year"
        orders = texts.with_columns(
            pl.when((first > 12) & (first <= 31) & (second <= 12))
            .then(pl.lit(day_first))
            .when((first <= 12) & (second > 12) & (second <= 31))
            .then(pl.lit(month_first))
            .when((first <= 12) & (second <= 12))
            .then(pl.lit(f"{day_first} or {month_first}"))
            .otherwise(pl.lit("no calendar's date"))
            .alias("shape")
        )
        for (order,), chosen in orders.group_by("shape"):
            yield str(order), chosen


def is_date(shape: str) -> bool:
    """Return True for the shapes of dates."""
    return shape in DATE_FORMATS or "year" in shape or shape == "no calendar's date"


def as_type(shape: str, texts: pl.Series) -> pl.Series:
    """Return ISO dates or times of one shape as what they are; null where no calendar has them."""
    return texts.to_frame("value").select(reading(shape, pl.col("value"))).to_series()


def reading(shape: str, text: pl.Expr) -> pl.Expr:
    """Return how stripped text of a shape becomes its type; what does not fit becomes null."""
    if shape == "iso_date":
        return text.str.to_date("%Y-%m-%d", strict=False)
    if shape == "iso_time":
        padded = (
            pl.when(text.str.len_bytes() == 10)
            .then(text + "T00:00:00")
            .when(text.str.len_bytes() == 16)
            .then(text + ":00")
            .otherwise(text)
        )
        return padded.str.replace(" ", "T", literal=True).str.to_datetime(
            "%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False
        )
    text = text.str.replace(" ", "T", literal=True).str.replace(r"Z$", "+0000").str.replace(r":(\d{2})$", "$1")
    text = text.str.replace(r"(T\d{2}:\d{2})([+-])", "${1}:00$2")
    return text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", time_zone="UTC", strict=False)
