"""Values as one line of text for reading: rounded, cut, and without characters that hide or steer."""

import math
import unicodedata
from datetime import datetime
from numbers import Integral, Real

CELL_LENGTH = 200
HEADING_LENGTH = 200
PROSE_LENGTH = 20_000
NO_VALUE = "–"

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def plain_text(value: object, length: int = CELL_LENGTH) -> str:
    """Return `value` as one line of text: numbers rounded for reading, hidden characters gone, cut to `length`."""
    if value is None or (isinstance(value, Real) and not math.isfinite(value)):
        return NO_VALUE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return whole(int(value))
    if isinstance(value, Real):
        return _number(float(value))
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    text = " ".join(visible(str(value)[: length * 4]).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def percent_words(percent: float) -> str:
    """Return a share of 100 with one decimal; hardly any is not none, and nearly all is not all."""
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return "> 99.9 %" if 99.9 < percent < 100 else f"{percent:.1f} %"


def whole(value: int) -> str:
    """Return `value` with separators from 10,000 on: a season is not written 2,015."""
    return f"{value:,}" if abs(value) >= 10_000 else str(value)


def _number(value: float) -> str:
    """Return `value` with at most four decimals, more only where it is smaller than they can show."""
    if value == 0 or 1e-4 <= abs(value) < 1e12:
        text = f"{value:,.4f}" if abs(value) >= 10_000 else f"{value:.4f}"
        text = text.rstrip("0").rstrip(".")
        return "0" if text == "-0" else text
    return f"{value:.3g}"


def visible(text: str, keep: str = "") -> str:
    """Return `text` without hidden characters, those in `keep` excepted."""
    return "".join(
        c if c in keep or not _is_hidden(c) else " " if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else ""
        for c in text
    )


def _is_hidden(character: str) -> bool:
    code = ord(character)
    # Variation selectors print nothing and can carry a hidden message
    return (
        unicodedata.category(character) in _HIDDEN_CATEGORIES or 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF
    )


def prose_text(text: str) -> str:
    """Return lines of prose without hidden characters, cut to a length."""
    shown = visible(text[:PROSE_LENGTH].replace("\r\n", "\n"), keep="\n").replace("\t", " ")
    return shown.strip() + ("…" if len(text) > PROSE_LENGTH else "")
