"""How good logged predictions were, judged by the outcomes that are known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from mcp_server.engine.calibration import reliability
from mcp_server.engine.comparison import bootstrap_scores
from mcp_server.engine.metrics import METRICS, Codes, Floats, Metric, Task, Truth, metrics_of, score

PROBABILITY = "p_"
NEED_PROBABILITIES = frozenset({"log_loss", "roc_auc", "brier", "average_precision", "ece"})
MAIN_METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("log_loss", "accuracy"),
    "multiclass": ("log_loss", "accuracy"),
    "regression": ("rmse", "mae"),
}
_RESAMPLES = 400
_INTERVAL_ROWS = 20_000
_MOST_POINTS = 12
_ROWS_A_POINT = 25
_WORST_LEVEL, _BEST_LEVEL = 0.025, 0.975


@dataclass(frozen=True, slots=True)
class Judged:
    """Predictions with their known outcomes.

    Attributes:
        task: binary, multiclass or regression.
        truth: shape (n,), class codes or values.
        output: shape (n, k) probabilities, or (n,) values; certainty of the label where no probabilities are known.
        times: n times, ascending.
        models: n references.
        n_unlabelled: answered predictions without an outcome.
        n_unreadable: outcomes that are no class of the model, or no number.
        has_probabilities: False when `output` only says which label was given.
        said: codes of the labels that were given, shape (n,); None for regression. With another threshold than a half
            they are not the more probable classes.
    """

    task: Task
    truth: Truth
    output: Floats
    times: list[datetime]
    models: list[str]
    n_unlabelled: int
    n_unreadable: int
    has_probabilities: bool
    said: Codes | None = None

    def __len__(self) -> int:
        return len(self.truth)

    def rows(self, chosen: Sequence[int] | np.ndarray[Any, Any]) -> "Judged":
        """Return some of the labelled rows."""
        index = np.asarray(chosen, dtype=np.intp)
        return Judged(
            self.task,
            self.truth[index],
            self.output[index],
            [self.times[i] for i in index],
            [self.models[i] for i in index],
            0,
            0,
            self.has_probabilities,
            None if self.said is None else self.said[index],
        )

    def shown_to(self, metric: Metric) -> Floats:
        """Return what `metric` judges: the labels that were given, as certainties, or the probabilities."""
        if not metric.of_labels or self.said is None:
            return self.output
        return np.eye(self.output.shape[1])[self.said]


def judge(log: pl.DataFrame, task: Task, classes: Sequence[Any]) -> Judged:
    """Join predictions and outcomes as the metrics take them. Rows that failed are left out.

    Args:
        log: one row a prediction with `prediction`, `outcome`, `time`, `model`, `error` and, for classes, columns
            `p_<class>`.
        task: of the model.
        classes: labels in the order of the probabilities; empty for regression.
    """
    answered = log.filter(pl.col("error").is_null()).sort("time")
    labelled = answered.filter(pl.col("outcome").is_not_null())
    n_unlabelled = answered.height - labelled.height
    truth: Truth
    said: Codes | None = None
    if task == "regression":
        truth, output = numbers(labelled["outcome"].to_list()), numbers(labelled["prediction"].to_list())
        usable = np.isfinite(truth) & np.isfinite(output)
        has_probabilities = True
    else:
        truth = class_codes(labelled["outcome"].to_list(), classes)
        output, has_probabilities = _class_output(labelled, classes)
        said = class_codes(labelled["prediction"].to_list(), classes)
        said = np.where(said >= 0, said, np.nan_to_num(output).argmax(axis=1))
        usable = (truth >= 0) & np.isfinite(output).all(axis=1)
    kept = np.flatnonzero(usable)
    times, models = labelled["time"].to_list(), labelled["model"].to_list()
    return Judged(
        task,
        truth[kept],
        output[kept],
        [times[i] for i in kept],
        [models[i] for i in kept],
        n_unlabelled,
        labelled.height - len(kept),
        has_probabilities,
        None if said is None else said[kept],
    )


def numbers(values: Sequence[Any]) -> Floats:
    """Return `values` as numbers, NaN where one cannot be read as such."""
    return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def class_codes(values: Sequence[Any], classes: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the position of each value among `classes`, -1 where it is none; 1, 1.0, "1" and true are one label."""
    places = {_label(label): place for place, label in enumerate(classes)}
    return np.array([places.get(_label(value), -1) for value in values], dtype=np.int64)


def _label(value: Any) -> str:
    text = str(value).strip()
    if text.lower() in ("true", "false"):
        return str(int(text.lower() == "true"))
    number = _number(value)
    return str(int(number)) if math.isfinite(number) and number.is_integer() else text


def _class_output(labelled: pl.DataFrame, classes: Sequence[Any]) -> tuple[Floats, bool]:
    columns = [probability_column(label) for label in classes]
    present = [column for column in columns if column in labelled.columns]
    if len(present) == len(columns) and labelled.select(present).null_count().sum_horizontal().sum() == 0:
        return labelled.select(present).cast(pl.Float64).to_numpy(), True
    codes = class_codes(labelled["prediction"].to_list(), classes)
    output = np.full((labelled.height, len(classes)), np.nan)
    known = np.flatnonzero(codes >= 0)
    output[known] = np.eye(len(classes))[codes[known]]
    return output, False


def probability_column(label: Any) -> str:
    """Return the name of the logged column that holds the probability of `label`."""
    return f"{PROBABILITY}{label}"


def measured(judged: Judged) -> dict[str, float | None]:
    """Return every metric that fits, None where it is not defined; nothing when no row is labelled."""
    if len(judged) == 0:
        return {}
    found = {metric.name: score(metric, judged.truth, judged.shown_to(metric)) for metric in metrics_of(judged.task)}
    if judged.task != "regression":
        found["ece"] = reliability(judged.truth, judged.output).ece
    if not judged.has_probabilities:
        return {name: value for name, value in found.items() if name not in NEED_PROBABILITIES}
    return found


def intervals(judged: Judged, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return 95 % bootstrap intervals of the main metrics; on more than 20,000 rows none, they are narrow.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    if not 2 <= len(judged) <= _INTERVAL_ROWS:
        return {}
    chosen = _main(judged)
    found = {}
    for metric in chosen:
        drawn = bootstrap_scores([metric], judged.truth, [judged.shown_to(metric)], seed, _RESAMPLES)[:, 0, 0]
        values = drawn[np.isfinite(drawn)]
        if len(values) * 2 >= _RESAMPLES:
            low, high = np.quantile(values, [_WORST_LEVEL, _BEST_LEVEL])
            found[metric.name] = (float(low), float(high))
    return found


def _main(judged: Judged) -> list[Metric]:
    names = MAIN_METRICS[judged.task]
    return [METRICS[name] for name in names if judged.has_probabilities or name not in NEED_PROBABILITIES]


@dataclass(frozen=True, slots=True)
class Point:
    """A stretch of labelled predictions."""

    start: datetime
    end: datetime
    n_rows: int
    metrics: dict[str, float | None]


def series(judged: Judged) -> list[Point]:
    """Return the main metrics over at most 12 stretches of about equal numbers of rows, in order of time."""
    n_points = min(_MOST_POINTS, len(judged) // _ROWS_A_POINT)
    points = []
    for rows in np.array_split(np.arange(len(judged)), n_points) if n_points else []:
        part = judged.rows(rows)
        found = measured(part)
        kept = {metric.name: found[metric.name] for metric in _main(judged)}
        points.append(Point(part.times[0], part.times[-1], len(part), kept))
    return points


def known_metrics(task: Task) -> list[str]:
    """Return the names of the metrics that predictions of `task` can be judged by."""
    names = [metric.name for metric in metrics_of(task)]
    return names if task == "regression" else [*names, "ece"]


def higher_is_better(metric: str) -> bool:
    """Return True when more of `metric` is better."""
    return METRICS[metric].higher_is_better if metric in METRICS else False
