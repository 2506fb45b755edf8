"""How the texts of a column are built: known kinds, dates of one format, or a pattern they share."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final

import polars as pl

from mcp_server.engine.expectations.patterns import to_rust

_MAX_PARTS: Final = 12
_MAX_CHARACTERS: Final = 200
_USUAL: Final = 0.995
_TRIED_AS_DATES: Final = 400
_KNOWN: Final = (
    ("UUIDs", r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"),
    ("e-mail addresses", r"^[^@\s]+@[^@\s]+\.[^@\s.]+$"),
    ("web addresses", r"^https?://\S+$"),
    ("IPv4 addresses", r"^(?:\d{1,3}\.){3}\d{1,3}$"),
    ("hexadecimal digests", r"^(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})$"),
)
_FORMATS: Final = (
    "%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y%m%d", "%d %b %Y",
    "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%H:%M:%S", "%H:%M",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """What all texts have in common.

    Attributes:
        words: what they are, a plural noun.
        regex: a pattern that they match.
        format: the `strftime` format they follow, where they are dates.
    """

    words: str
    regex: str | None = None
    format: str | None = None


def shape_of(values: Sequence[str]) -> Shape | None:
    """Return what `values` have in common, but for one in two hundred of them at most.

    None when they are too long, share no shape, or could be read as dates of several formats only.
    """
    if not values:
        return None
    texts = _usual(values)
    if any(len(text) > _MAX_CHARACTERS for text in texts):
        return None
    form = _date_format(texts)
    if form is not None:
        return Shape("dates or times", format=form)
    series = pl.Series(texts)
    for words, pattern in _KNOWN:
        if series.str.contains(to_rust(pattern)).all():
            return Shape(words, regex=pattern)
    pattern_found = pattern_of(texts)
    return Shape("texts of one build", regex=pattern_found) if pattern_found is not None else None


def _usual(values: Sequence[str]) -> list[str]:
    """Return the different values, without those of rare builds where the others are of one build."""
    counts = Counter(values)
    builds: Counter[str] = Counter()
    for text, count in counts.items():
        builds[_build(text)] += count
    build, most = builds.most_common(1)[0]
    if most < len(values) * _USUAL:
        return list(counts)
    return [text for text in counts if _build(text) == build]


def _build(text: str) -> str:
    return "".join(kind for kind, _ in _runs(text[: _MAX_CHARACTERS + 1]))


def _date_format(texts: Sequence[str]) -> str | None:
    """Return the one format that all texts follow; None when none does, or day and month could be exchanged."""
    if not texts[0][:1].isalnum() or not any(character.isdigit() for character in texts[0]):
        return None
    fitting = [form for form in _FORMATS if all(_follows(text, form) for text in texts[:_TRIED_AS_DATES])]
    return fitting[0] if len(fitting) == 1 else None


def _follows(text: str, form: str) -> bool:
    try:
        read = datetime.strptime(text, form)
    except ValueError:
        return False
    return form != "%Y%m%d" or (len(text) == 8 and 1800 <= read.year <= 2200)


def pattern_of(texts: Sequence[str]) -> str | None:
    r"""Return a regular expression that describes how all `texts` are built, None when they share no shape.

    Runs of digits, capitals and small letters are told apart; other characters stand for themselves:
    `["201004300SAC", "194611010TRH"]` gives `^\d{9}[A-Z]{3}$`.
    """
    shapes = [_runs(text) for text in texts]
    first = [kind for kind, _ in shapes[0]]
    if not first or len(first) > _MAX_PARTS or any([kind for kind, _ in runs] != first for runs in shapes):
        return None
    if not any(kind == r"\d" or len(first) > 1 for kind in first) and not _same_length(shapes):
        return None
    parts: list[str] = []
    for position, kind in enumerate(first):
        lengths = [runs[position][1] for runs in shapes]
        low, high = min(lengths), max(lengths)
        count = "" if low == high == 1 else f"{{{low}}}" if low == high else f"{{{low},{high}}}"
        parts.append(kind + count)
    return "^" + "".join(parts) + "$"


def _same_length(shapes: Sequence[Sequence[tuple[str, int]]]) -> bool:
    return len({runs[0][1] for runs in shapes if runs}) == 1


def _runs(text: str) -> list[tuple[str, int]]:
    return [(kind, len(list(run))) for kind, run in groupby(text, _kind)]


def _kind(character: str) -> str:
    if character.isascii() and character.isdigit():
        return r"\d"
    if character.isascii() and character.isalpha():
        return "[A-Z]" if character.isupper() else "[a-z]"
    return re.escape(character)
