"""Cells as a caller may read them: plain JSON, text cut and without characters that hide or steer."""

import math
import unicodedata
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

MAX_TEXT_LENGTH = 200
_MAX_ITEMS = 20
_MAX_BYTES = 16
_HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn"}
_EXACT_IN_JSON = 2**53


def plain_values(frame: pl.DataFrame) -> list[list[Any]]:
    """Return the rows of `frame` as plain JSON values."""
    return [[plain_value(value) for value in row] for row in frame.iter_rows()]


def plain_value(value: Any) -> Any:
    """Return one cell: NaN and infinities as None, times as ISO text, all else as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT_IN_JSON else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, list | tuple):
        kept = [plain_value(item) for item in value[:_MAX_ITEMS]]
        return [*kept, f"… {len(value) - _MAX_ITEMS:,} more"] if len(value) > _MAX_ITEMS else kept
    if isinstance(value, dict):
        return {visible_text(str(key)): plain_value(item) for key, item in list(value.items())[:_MAX_ITEMS]}
    if isinstance(value, bytes):
        return f"{len(value)} bytes" + (
            f": {value[:_MAX_BYTES].hex()}" + "…" * (len(value) > _MAX_BYTES) if value else ""
        )
    return visible_text(str(value))


def _number(value: Decimal) -> float | str | None:
    """Return a decimal as a number where that is the same value, else as text."""
    if not value.is_finite():
        return None
    number = float(value)
    return number if math.isfinite(number) and Decimal(repr(number)) == value else str(value)


def cut_json(value: Any, length: int, n_items: int) -> Any:
    """Return a JSON value with hidden characters taken out, and long texts, lists and objects cut."""
    if isinstance(value, str):
        return visible_text(value, length)
    if isinstance(value, dict):
        return {visible_text(key): cut_json(each, length, n_items) for key, each in list(value.items())[:n_items]}
    if isinstance(value, list | tuple):
        return [cut_json(each, length, n_items) for each in value[:n_items]]
    return value


def visible_text(text: str, length: int = MAX_TEXT_LENGTH) -> str:
    """Return `text` cut to `length`; control and line characters become spaces, invisible ones are dropped."""
    kept = []
    for character in text[: length * 4]:
        category = unicodedata.category(character)
        if category in ("Zl", "Zp") or category == "Cc":
            kept.append(character if character in "\n\t" else " ")
        elif category not in _HIDDEN_CATEGORIES:
            kept.append(character)
    clean = "".join(kept)
    return clean if len(clean) <= length and len(text) <= length * 4 else clean[: length - 1] + "…"
