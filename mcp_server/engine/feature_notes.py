"""What of the features a model will not see."""

from collections.abc import Sequence

import polars as pl

from mcp_server.engine.preprocessing import MANY_WORDS, MAX_CATEGORIES, kind_of
from mcp_server.errors import shown

_LISTED = 8


def notes_on(frame: pl.DataFrame, names: Sequence[str]) -> list[str]:
    """Return sentences on features that a model sees less of than there is: moments, and very many words."""
    notes = []
    timed = [name for name in names if frame.schema[name] == pl.Datetime and _has_hours(frame[name])]
    if timed:
        notes.append(f"Only the day of {_named(timed)} is used; derive the hour with transform_dataset if it matters.")
    wordy = [name for name in names if kind_of(frame[name]) == "category" and frame[name].n_unique() > MANY_WORDS]
    if wordy:
        notes.append(
            f"Of the words of {_named(wordy)} the {MAX_CATEGORIES} most frequent have a place of their own; all others "
            "share one."
        )
    return notes


def _has_hours(column: pl.Series) -> bool:
    return bool((column.dt.hour() != column.dt.hour().first()).any())


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(shown(name) for name in names[:_LISTED]) + more
