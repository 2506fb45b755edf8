"""Two versions compared on rows that both have scored and whose outcome is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from mcp_server.engine.comparison import PairedDifference, paired_bootstrap
from mcp_server.engine.metrics import METRICS, Task
from mcp_server.engine.performance import NEED_PROBABILITIES, judge

FEWEST_PAIRS = 20
_MOST_PAIRS = 5_000
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two versions answered the same rows.

    Attributes:
        n_pairs: rows that both scored.
        n_other: pairs with another label; for values, pairs that differ at all.
        n_labelled: pairs whose outcome is known.
        difference: second minus first in the metric, on the labelled pairs; None with too few of them.
    """

    n_pairs: int
    n_other: int
    n_labelled: int
    difference: PairedDifference | None


def compare_pairs(
    log: pl.DataFrame, first: str, second: str, task: Task, classes: Sequence[Any], metric: str, seed: int = 0
) -> Agreement:
    """Compare two versions on the rows of a prediction log that both scored, by row id; the last score of each counts.

    Args:
        log: columns row_id, model, prediction, outcome, error, time and `p_<class>`.
        first, second: references of the versions.
        metric: a name of `METRICS` that fits the task.
        seed: of the bootstrap.
    """
    usable = log.filter(pl.col("error").is_null() & pl.col("row_id").is_not_null())
    one, other = (
        usable.filter(pl.col("model") == model).unique("row_id", keep="last", maintain_order=True)
        for model in (first, second)
    )
    one = one.join(other.select("row_id"), on="row_id", how="semi").sort("row_id")
    other = other.join(one.select("row_id"), on="row_id", how="semi").sort("row_id")
    labelled = one["outcome"].is_not_null() & other["outcome"].is_not_null()
    n_other = int((one["prediction"] != other["prediction"]).sum())
    difference = _difference(one.filter(labelled), other.filter(labelled), task, classes, metric, seed)
    return Agreement(one.height, n_other, int(labelled.sum()), difference)


def _difference(
    one: pl.DataFrame, other: pl.DataFrame, task: Task, classes: Sequence[Any], metric: str, seed: int
) -> PairedDifference | None:
    if one.height < FEWEST_PAIRS:
        return None
    judged, judged_other = (judge(_in_step(frame), task, classes) for frame in (one, other))
    if len(judged) != len(judged_other) or len(judged) < FEWEST_PAIRS:
        return None
    if metric in NEED_PROBABILITIES and not (judged.has_probabilities and judged_other.has_probabilities):
        return None
    asked = METRICS[metric]
    return paired_bootstrap(asked, judged.truth, judged_other.shown_to(asked), judged.shown_to(asked), seed)


def _in_step(frame: pl.DataFrame) -> pl.DataFrame:
    """Keep the last pairs and give both sides the same times, so that their order cannot differ."""
    kept = frame.tail(_MOST_PAIRS)
    steps = pl.Series("time", range(kept.height), dtype=pl.Int64) * 1_000_000
    start = int(_EPOCH.timestamp() * 1_000_000)
    return kept.with_columns((steps + start).cast(pl.Datetime("us", "UTC")).alias("time"))
