"""What the rows of a training are like: classes or values of the target, and gaps, in its two parts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from mcp_server.engine.preprocessing import InputColumn
from mcp_server.engine.training import TrainingRows, TrainingSpec

_RANGES = 30


def training_facts(spec: TrainingSpec, rows: TrainingRows, inputs: Sequence[InputColumn]) -> dict[str, Any]:
    """Return `classes` (rows of each in both parts) or `target` (figures and a histogram), and `missing`, as JSON.

    `missing` gives the share of training rows without a value for each input that has gaps; 0 to 1.
    """
    train, test = rows.truth[rows.train], rows.truth[rows.test]
    facts: dict[str, Any] = {"missing": _missing(rows.frame[rows.train], inputs)}
    if spec.classes:
        n = len(spec.classes)
        parts = [np.bincount(part.astype(np.int64), minlength=n).tolist() for part in (train, test)]
        labels = [str(label) for label in spec.classes]
        names = zip(labels, *parts, strict=True)
        return facts | {"classes": [{"label": label, "train": a, "test": b} for label, a, b in names]}
    return facts | {"target": {"train": _values(train), "test": _values(test)}}


def _missing(frame: pl.DataFrame, inputs: Sequence[InputColumn]) -> dict[str, float]:
    gaps = {}
    for item in inputs:
        column = frame[item.name]
        n_missing = column.null_count() + (int(column.is_nan().sum()) if column.dtype.is_float() else 0)
        if n_missing:
            gaps[item.name] = n_missing / max(frame.height, 1)
    return gaps


def _values(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return figures of the values and, where their range is a number, how many fall in each of 30 parts of it."""
    low, high = float(values.min()), float(values.max())
    scale = max(abs(low), abs(high)) or 1.0
    middle = values / scale  # a mean of values near the largest number there is would pass it
    figures: dict[str, Any] = {
        "minimum": low,
        "median": float(np.median(middle) * scale),
        "mean": float(middle.mean() * scale),
        "deviation": _finite(float(middle.std()), scale),
        "maximum": high,
    }
    if scale < np.finfo(np.float64).max / 4:
        counts, edges = np.histogram(values, _RANGES)
        figures |= {"counts": counts.tolist(), "edges": edges.tolist()}
    return figures


def _finite(share: float, scale: float) -> float | None:
    value = share * scale
    return value if np.isfinite(value) else None
