"""Trouble in columns of text: numbers and dates that are text, words for missing, spellings that fall apart.

Every count is over all rows: patterns look at each different text once, weighted by how often it occurs, and at each
row where there are too many different ones to count.
"""

from collections.abc import Sequence

import polars as pl

from mcp_server.engine.findings import Finding
from mcp_server.engine.profiling.dates import DATE_SHAPES, Dates, date_findings
from mcp_server.errors import shown

_MISSING_WORDS = (
    "null", "(null)", "<null>", "none", "nil", "nan", "<na>", "na", "n/a", "#n/a", "n.a.", "not available", "missing",
    "undefined", "unknown", "tbd", "-", "--", "?", ".",
)  # fmt: skip
_TRUTHS = ("true", "false", "yes", "no", "y", "n", "t", "f", "on", "off", "0", "1")
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_ZERO_LED = r"^[+-]?0\d+(\.\d*)?$"
_FORMATTED = {
    "thousands": (r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$", "thousands separators"),
    "decimal_comma": (r"^[+-]?\d+(\.\d{3})*,\d+$", "decimal commas"),
    "percent": (r"^[+-]?\d+([.,]\d+)?\s*%$", "percent signs"),
    "currency": (r"^[+-]?[$€£¥]\s*[+-]?\d[\d.,]*$|^[+-]?\d[\d.,]*\s*[$€£¥]$", "currency signs"),
}
_BEGINS_LIKE_A_FIGURE = r"^[+\-$€£¥.]{0,2}\s*\d"
_BEGINS_LIKE_A_DATE = r"^[A-Za-z]{3,9}\.?,? \d|^[A-Za-z]{3,9},? [A-Za-z]{3,9}\.? \d"
_HIDDEN = r"[\p{Cc}\p{Cf}\p{Co}]"
_N_EXAMPLES = 3
_MAX_SPELLINGS = 100_000


class Texts:
    """The values of a text column, each with how many cells hold it, most frequent first."""

    def __init__(self, name: str, values: pl.Series, counts: pl.Series | None) -> None:
        self.name = name
        self.values = values
        self.counts = counts

    @classmethod
    def of(cls, column: pl.Series, counted: pl.DataFrame | None) -> "Texts":
        """Return the texts of a column, by its counts where its different values are few."""
        if counted is None:
            return cls(column.name, column.drop_nulls(), None)
        return cls(column.name, counted["value"], counted["count"])

    def cells(self) -> int:
        """Return how many cells these are."""
        return len(self.values) if self.counts is None else int(self.counts.sum())

    def where(self, mask: pl.Series) -> "Texts":
        """Return those that `mask` marks."""
        return Texts(self.name, self.values.filter(mask), None if self.counts is None else self.counts.filter(mask))

    def matching(self, pattern: str) -> "Texts":
        """Return those that a pattern is found in."""
        return self.where(self.values.str.contains(pattern))

    def changed(self, values: pl.Series) -> "Texts":
        """Return the same cells with other spellings."""
        return Texts(self.name, values, self.counts)

    def examples(self, n: int = _N_EXAMPLES) -> str:
        """Return the first few different ones as they may stand in a message."""
        return ", ".join(shown(value, 30) for value in self.values.head(1000).unique(maintain_order=True).head(n))


def text_findings(column: pl.Series, counted: pl.DataFrame | None) -> list[Finding]:
    """Return what is wrong or odd about the values of a text column.

    Args:
        column: text.
        counted: its different values as `value` with `count`, most frequent first; None where they are too many.
    """
    texts = Texts.of(column, counted)
    if not len(texts.values):
        return []
    stripped = texts.changed(texts.values.str.strip_chars())
    found = [_spaces(texts, stripped), _hidden(texts), _empty(stripped), _missing_words(stripped)]
    if counted is not None:
        found += [_spellings(texts, stripped)]
    judged = stripped.where(~_is_missing_word(stripped.values) & (stripped.values.str.len_bytes() > 0))
    return [finding for finding in found if finding is not None] + _kinds(judged, counted)


def _spaces(texts: Texts, stripped: Texts) -> Finding | None:
    around = texts.where(texts.values.str.len_bytes() != stripped.values.str.len_bytes())
    if not len(around.values):
        return None
    examples = ", ".join(repr(value[:30]) for value in around.values.head(_N_EXAMPLES))
    text = f"Spaces around the value in {_cells(around)} ({shown(examples, 120)[1:-1]}); clean_dataset trims them."
    return Finding(texts.name, "spaces", text)


def _hidden(texts: Texts) -> Finding | None:
    hidden = texts.matching(_HIDDEN)
    if not len(hidden.values):
        return None
    text = f"Control or invisible characters in {_cells(hidden)} (shown without them: {hidden.examples()})."
    return Finding(texts.name, "hidden_characters", text)


def _empty(stripped: Texts) -> Finding | None:
    empty = stripped.where(stripped.values.str.len_bytes() == 0)
    if not len(empty.values):
        return None
    text = f"Empty text that does not count as missing in {_cells(empty)}; clean_dataset replaces it."
    return Finding(stripped.name, "empty_text", text)


def _is_missing_word(values: pl.Series) -> pl.Series:
    short = values.str.len_bytes() <= max(map(len, _MISSING_WORDS))
    words = pl.Series(_MISSING_WORDS).implode()
    return short & pl.select(pl.when(short).then(values).otherwise(pl.lit("x"))).to_series().str.to_lowercase().is_in(
        words
    )


def _missing_words(stripped: Texts) -> Finding | None:
    spoken = stripped.where(_is_missing_word(stripped.values))
    if not len(spoken.values):
        return None
    counts = spoken.counts if spoken.counts is not None else pl.repeat(1, len(spoken.values), eager=True)
    each = pl.DataFrame({"word": spoken.values, "n": counts}).group_by("word", maintain_order=True).agg(pl.sum("n"))
    words = ", ".join(f"{shown(word, 20)} {n:,}" for word, n in each.sort("n", descending=True).head(5).rows())
    text = f"Words that may stand for missing in {_cells(spoken)} ({words}); they count as text here."
    return Finding(stripped.name, "null_as_text", text + " Where they mean missing, clean_dataset replaces them.")


def _spellings(texts: Texts, stripped: Texts) -> Finding | None:
    """Tell values that are one but for capitals and inner spaces."""
    if len(texts.values) < 2 or len(texts.values) > _MAX_SPELLINGS or texts.counts is None:
        return None
    plain = stripped.values.str.to_lowercase().str.replace_all(r"\s+", " ")
    table = pl.DataFrame({"plain": plain, "text": stripped.values, "n": texts.counts})
    table = table.group_by("plain", "text", maintain_order=True).agg(pl.sum("n")).filter(pl.col("plain") != "")
    groups = table.group_by("plain", maintain_order=True).agg("text", "n", pl.sum("n").alias("all"))
    groups = groups.filter(pl.col("text").list.len() > 1).sort("all", descending=True, maintain_order=True)
    if groups.is_empty():
        return None
    first = ", ".join(
        "/".join(f"{shown(text, 20)} {n:,}" for text, n in zip(row["text"][:4], row["n"][:4], strict=True))
        for row in groups.head(_N_EXAMPLES).iter_rows(named=True)
    )
    values = "1 value is" if len(groups) == 1 else f"{len(groups):,} values are"
    return Finding(texts.name, "case_variants", f"{values} written in several ways ({first}); replace makes them one.")


def _kinds(texts: Texts, counted: pl.DataFrame | None) -> list[Finding]:
    """Tell numbers, dates and truth values that are kept as text."""
    total = texts.cells()
    if not total:
        return []
    truth = _truths(texts)
    if truth is not None:
        return [truth] if truth.code else []
    figures = texts.matching(_BEGINS_LIKE_A_FIGURE)
    numbers, figures = _split(figures, _NUMBER)
    dates = Dates()
    rest = [figures, texts.matching(_BEGINS_LIKE_A_DATE)]
    for shape, pattern in DATE_SHAPES.items():
        for i, part in enumerate(rest):
            matching, rest[i] = _split(part, pattern)
            dates.add(shape, matching)
    if dates.cells:
        numbers = dates.add_compact(numbers)
    if 2 * dates.cells > total:
        return date_findings(texts.name, dates, total)
    formatted: dict[str, Texts] = {}
    for name, (pattern, _) in _FORMATTED.items():
        formatted[name], rest[0] = _split(rest[0], pattern)
    return _number_findings(texts, numbers, {n: t for n, t in formatted.items() if len(t.values)}, dates, total)


def _split(texts: Texts, pattern: str) -> tuple[Texts, Texts]:
    if not len(texts.values):
        return texts, texts
    mask = texts.values.str.contains(pattern)
    return texts.where(mask), texts.where(~mask)


def _truths(texts: Texts) -> Finding | None:
    """Tell truth values: a finding without a code where there is nothing to say but that they are."""
    if texts.counts is None or len(texts.values) > 50:
        return None
    spellings = texts.values.str.to_lowercase().unique()
    digits_only = bool(spellings.is_in(["0", "1"]).all())
    if digits_only or not spellings.is_in(list(_TRUTHS)).all() or len(spellings) < 2:
        return None
    if len(spellings) == 2 and len(texts.values) == 2:
        return Finding(texts.name, "", "")
    each = ", ".join(f"{shown(t, 10)} {n:,}" for t, n in zip(texts.values[:8], texts.counts[:8], strict=True))
    return Finding(texts.name, "bool_variants", f"Truth values in several spellings ({each}) kept as text.")


def _number_findings(
    texts: Texts, numbers: Texts, formatted: dict[str, Texts], dates: Dates, total: int
) -> list[Finding]:
    n_plain, n_formatted = numbers.cells(), sum(part.cells() for part in formatted.values())
    if n_plain == total:
        return [_all_numbers(numbers)]
    if n_formatted and n_plain + n_formatted == total:
        words = " and ".join(_FORMATTED[name][1] for name in formatted)
        examples = ", ".join(part.examples(2) for part in formatted.values())
        text = f"{n_formatted:,} of {total:,} are numbers with {words} ({examples}), kept as text; clean_dataset casts."
        return [Finding(texts.name, next(iter(formatted)) if len(formatted) == 1 else "formatted_numbers", text)]
    parts = [
        f"{count:,} {kind} ({examples})"
        for count, kind, examples in (
            (n_plain, "numbers", numbers.examples()),
            (n_formatted, "formatted numbers", ", ".join(part.examples(1) for part in formatted.values())),
            (dates.cells, "dates", dates.examples()),
        )
        if count
    ]
    if not parts:
        return []
    others = _others(texts, [_NUMBER, *(_FORMATTED[name][0] for name in formatted), *dates.patterns()])
    text = f"Mixed: {', '.join(parts)} and {_count_of(others)} ({others.examples()}) among {total:,} values."
    return [Finding(texts.name, "mixed_types", text)]


def _count_of(others: Texts) -> str:
    n = others.cells()
    return f"{n:,} other text" if n == 1 else f"{n:,} other texts"


def _others(texts: Texts, patterns: Sequence[str]) -> Texts:
    left = texts
    for pattern in patterns:
        left = _split(left, pattern)[1]
    return left


def _all_numbers(numbers: Texts) -> Finding:
    zero_led = numbers.matching(_ZERO_LED)
    if len(zero_led.values):
        text = f"Numbers, {zero_led.cells():,} with leading zeros ({zero_led.examples()}): codes, rightly kept as text."
        return Finding(numbers.name, "leading_zeros", text)
    if len(numbers.matching(r"^[+-]?\d{19,}$").values):
        text = f"Numbers of more digits than 64 bits keep exactly ({numbers.examples(1)}), kept as text."
        return Finding(numbers.name, "long_numbers", text)
    text = f"Text, all of it numbers ({numbers.examples()}); clean_dataset casts it."
    return Finding(numbers.name, "typed_text", text)


def _cells(texts: Texts) -> str:
    n = texts.cells()
    return f"{n:,} cell{'' if n == 1 else 's'}"
