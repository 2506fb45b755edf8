"""Leaks that only all rows show: the target's mean in a group, and a neighbouring row's target."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from mcp_server.engine.leakage import Finding
from mcp_server.engine.metrics import Task, Truth
from mcp_server.errors import shown

_GROUP_COLUMNS = 8
_TRUTH = "__truth__"
_EQUAL_SHARE = 0.999
_GLANCE = 500
_MOVED_SHARE = 0.9
_ONE_VALUE_SHARE = 0.5
_MANY_VALUES = 100
_FEWEST_ROWS = 100


def find_target_statistics(
    frame: pl.DataFrame, truth: Truth, features: Sequence[str], task: Task, allowed: Sequence[str] = ()
) -> list[Finding]:
    """Return features that are the target's mean, sum or rate in a group, with the row's own target in it or left out.

    A mean in which a row's own target stands gives it away, the more the smaller the group; so does one from which
    just that is left out, beside the group.

    Args:
        frame: all labelled rows.
        truth: shape (n,), class codes or values.
        features: what the model is given.
        task: of more than two classes no mean is taken.
        allowed: features the caller lets through.
    """
    if task == "multiclass" or frame.height < _FEWEST_ROWS:
        return []
    numbers = [name for name in features if frame.schema[name].is_float() or frame.schema[name].is_integer()]
    groups = _group_columns(frame)
    if not numbers or not groups:
        return []
    values = pl.Series(_TRUTH, np.asarray(truth, dtype=np.float64))
    findings = []
    for group in groups:
        count, total = pl.len().over("g"), pl.col(_TRUTH).sum().over("g")
        told = pl.DataFrame({"g": frame[group], _TRUTH: values}).select(
            n=count,
            mean=total / count,
            sum=total,
            others=(total - pl.col(_TRUTH)) / (count - 1),
            others_sum=total - pl.col(_TRUTH),
        )
        several = (told["n"] > 1).to_numpy()
        if several.mean() < _ONE_VALUE_SHARE:
            continue
        words = [word for word in told.columns[1:] if told[word].n_unique() > 2]
        for name in [name for name in numbers if name != group]:
            word = next((word for word in words if _equal(frame[name], told[word], several)), None)
            if word is not None:
                findings.append(_of_group(name, group, word, name in allowed))
                numbers.remove(name)
    return findings


def _group_columns(frame: pl.DataFrame) -> list[str]:
    """Return columns that name groups of a few rows or more, those with most groups first."""
    found = {}
    for name, dtype in frame.schema.items():
        if dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum):
            n_distinct = frame[name].n_unique()
            if 2 < n_distinct <= frame.height * 0.6:
                found[name] = n_distinct
    return sorted(found, key=lambda name: -found[name])[:_GROUP_COLUMNS]


def _equal(column: pl.Series, told: pl.Series, several: Any) -> bool:
    """Return whether a column equals a statistic where a group has several rows; a glance tells most that do not."""
    if not _close(column.head(_GLANCE), told.head(_GLANCE), several[:_GLANCE]) > _MOVED_SHARE:
        return False
    return _close(column, told, several) >= _EQUAL_SHARE


def _close(column: pl.Series, told: pl.Series, several: Any) -> float:
    here, there = (part.cast(pl.Float64).to_numpy()[several] for part in (column, told))
    return float(np.isclose(here, there, rtol=1e-6, atol=1e-9).mean()) if len(here) else 1.0


def _of_group(name: str, group: str, word: str, allowed: bool) -> Finding:
    what = {"mean": "mean", "sum": "sum", "others": "mean of the other rows", "others_sum": "sum of the other rows"}
    let_through = " Let through by allow_features." if allowed else ""
    named = f"{shown(name)} is the target's {what[word]} for each {shown(group)}"
    return Finding(
        "leak",
        [name],
        f"{named}, the rows themselves included.{let_through}",
        "warning" if allowed else "blocking",
        f"Leave {shown(name)} out of features, or make it from earlier rows only (transform_dataset).",
        (name,),
    )


def judge_neighbours(frame: pl.DataFrame, target: str, findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings, with columns that hold earlier targets only warned of: what was known may be used.

    A target that moves slowly is all but told by its last value, which is honest. Columns whose values are those of
    the *next* row stay stopped.

    Args:
        frame: all labelled rows, in their order.
        target: the column that is predicted.
        findings: what was found.
    """
    return [_judged(frame, target, finding) for finding in findings]


def _judged(frame: pl.DataFrame, target: str, finding: Finding) -> Finding:
    if (
        finding.severity != "blocking"
        or finding.kind not in ("leak", "pair_leak", "target_copy")
        or not finding.suspects
    ):
        return finding
    moved = [_moved(frame[name], frame[target]) for name in finding.suspects]
    if not all(moved):
        return finding
    if "later" in moved:
        return replace(finding, message=f"{finding.message} It holds the target of the next row.")
    return replace(
        finding,
        severity="warning",
        message=f"{finding.message} It holds targets of other rows, as a value from before does.",
        fix="Use split kind time, and check that it is known before the outcome.",
    )


def _moved(column: pl.Series, target: pl.Series) -> str | None:
    """Return whether a column holds the target of another row: `later` for the next one, else `earlier`."""
    if not (column.dtype.is_numeric() and target.dtype.is_numeric()) or target.n_unique() < _MANY_VALUES:
        return None
    values, truth = column.cast(pl.Float64), target.cast(pl.Float64)
    if float((values == truth).fill_null(value=False).mean() or 0.0) > 1 - _MOVED_SHARE:  # type: ignore[arg-type]
        return None
    if float(values.is_in(truth.implode()).mean() or 0.0) < _MOVED_SHARE:  # type: ignore[arg-type]
        return None
    here, following = values.to_numpy()[:-1], truth.to_numpy()[1:]
    return "later" if float(np.mean(here == following)) >= _MOVED_SHARE else "earlier"
