"""Scores of predictions, each able to weigh the same rows many times at once.

A metric is one vectorised function of a weight matrix: with a row of ones it is the plain score, with rows of
bootstrap counts it is the whole bootstrap distribution. So a score and its interval can never disagree.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mcp_server.errors import InvalidArgumentError, shown

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Truth = NDArray[np.int64] | NDArray[np.float64]
Task = Literal["binary", "multiclass", "regression"]
Score = Callable[[Truth, Floats, Floats], Floats]

DEFAULT_THRESHOLD = 0.5
_TINY = 1e-15
_TIES = 1e-12


@dataclass(frozen=True, slots=True)
class Metric:
    """One score: for which tasks, which way is better, and its vectorised function.

    `function(truth, output, weights)` takes truth (n,), output (n, k) probabilities or (n,) values, and weights
    (b, n), and returns (b,), with NaN where the score is undefined (a single class, no positives). `of_labels`: it
    judges classes, so that of two classes the threshold decides (`decided`).
    """

    name: str
    tasks: frozenset[str]
    higher_is_better: bool
    function: Score
    of_labels: bool = False


def _mean(losses: Floats, weights: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = (weights @ losses) / weights.sum(axis=1)
    return mean


def labels(output: Floats, threshold: float = DEFAULT_THRESHOLD) -> Codes:
    """Return the most probable class; of two the positive one from `threshold` on."""
    if output.shape[1] == 2:
        return np.asarray(output[:, 1] >= threshold, dtype=np.int64)
    return np.asarray(output.argmax(axis=1), dtype=np.int64)


def decided(metric: Metric, output: Floats, threshold: float) -> Floats:
    """Return what `metric` judges: the output itself, or its classes as certainties where another threshold decides."""
    if not metric.of_labels or threshold == DEFAULT_THRESHOLD or output.ndim != 2 or output.shape[1] != 2:
        return output
    return np.eye(2)[labels(output, threshold)]


def _accuracy(truth: Truth, output: Floats, weights: Floats) -> Floats:
    return _mean((truth == labels(output)).astype(float), weights)


def _log_loss(truth: Truth, output: Floats, weights: Floats) -> Floats:
    """Source: Good, Rational Decisions (1952); natural logarithm, probabilities clipped to 1e-15."""
    of_truth = output[np.arange(len(truth)), truth.astype(np.int64)] / output.sum(axis=1)
    return _mean(-np.log(np.clip(of_truth, _TINY, 1.0)), weights)


def _brier(truth: Truth, output: Floats, weights: Floats) -> Floats:
    """Source: Brier (1950). Binary: of the positive class (0 to 1); more classes: summed over classes (0 to 2)."""
    if output.shape[1] == 2:
        return _mean((output[:, 1] - truth) ** 2, weights)
    hits = np.eye(output.shape[1])[truth.astype(np.int64)]
    return _mean(((output - hits) ** 2).sum(axis=1), weights)


def _tie_starts(ordered: Floats) -> NDArray[np.intp]:
    return np.flatnonzero(np.r_[True, np.diff(ordered) > 0])


def _auc_of(positive: Floats, score: Floats, weights: Floats) -> Floats:
    """Return the area under the ROC curve: the share of pairs ordered right, ties counting half.

    Source: Hanley and McNeil, Radiology 143 (1982).
    """
    order = np.argsort(score, kind="stable")
    starts = _tie_starts(score[order])
    ordered = weights[:, order]
    good = np.add.reduceat(ordered * positive[order], starts, axis=1)
    bad = np.add.reduceat(ordered, starts, axis=1) - good
    below = np.cumsum(bad, axis=1) - bad / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Floats = (good * below).sum(axis=1) / (good.sum(axis=1) * bad.sum(axis=1))
    return area


def _roc_auc(truth: Truth, output: Floats, weights: Floats) -> Floats:
    """Binary: of the positive class; more classes: the mean of one against the rest."""
    if output.shape[1] == 2:
        return _auc_of((truth == 1).astype(float), output[:, 1], weights)
    areas = [_auc_of((truth == k).astype(float), output[:, k], weights) for k in range(output.shape[1])]
    return np.asarray(np.mean(areas, axis=0), dtype=float)


def _average_precision(truth: Truth, output: Floats, weights: Floats) -> Floats:
    """Sum of precision times the step in recall, thresholds falling (scikit-learn's definition)."""
    score = -output[:, 1]
    order = np.argsort(score, kind="stable")
    starts = _tie_starts(score[order])
    ordered = weights[:, order]
    good = np.add.reduceat(ordered * (truth[order] == 1), starts, axis=1)
    seen = np.cumsum(np.add.reduceat(ordered, starts, axis=1), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(seen > 0, np.cumsum(good, axis=1) / seen, 0.0)
        result: Floats = (precision * good).sum(axis=1) / good.sum(axis=1)
    return result


def _confusion(truth: Truth, output: Floats, weights: Floats) -> Floats:
    """Return (b, k, k): weight of true class i predicted as j."""
    k = output.shape[1]
    cell = truth.astype(np.int64) * k + labels(output)
    counts = np.stack([weights[:, cell == c].sum(axis=1) for c in range(k * k)], axis=1)
    return np.asarray(counts.reshape(-1, k, k), dtype=float)


def _ratio(part: Floats, whole: Floats, empty: float = 0.0) -> Floats:
    return np.divide(part, whole, out=np.full_like(part, empty), where=whole > 0)


def _recalls(counts: Floats) -> Floats:
    return _ratio(np.einsum("bii->bi", counts), counts.sum(axis=2), np.nan)


def _balanced_accuracy(truth: Truth, output: Floats, weights: Floats) -> Floats:
    """Mean recall over the classes that occur."""
    recalls = _recalls(_confusion(truth, output, weights))
    occurring = ~np.isnan(recalls)
    return _ratio(np.where(occurring, recalls, 0.0).sum(axis=1), occurring.sum(axis=1).astype(float), np.nan)


def _class_mean(values: Floats) -> Floats:
    """Binary: of the positive class; more classes: the unweighted mean."""
    return values[:, 1] if values.shape[1] == 2 else np.asarray(values.mean(axis=1), dtype=float)


def _precision(truth: Truth, output: Floats, weights: Floats) -> Floats:
    counts = _confusion(truth, output, weights)
    return _class_mean(_ratio(np.einsum("bii->bi", counts), counts.sum(axis=1)))


def _recall(truth: Truth, output: Floats, weights: Floats) -> Floats:
    counts = _confusion(truth, output, weights)
    return _class_mean(_ratio(np.einsum("bii->bi", counts), counts.sum(axis=2)))


def _f1(truth: Truth, output: Floats, weights: Floats) -> Floats:
    counts = _confusion(truth, output, weights)
    hits = np.einsum("bii->bi", counts)
    return _class_mean(_ratio(2 * hits, counts.sum(axis=1) + counts.sum(axis=2)))


def _mcc(truth: Truth, output: Floats, weights: Floats) -> Floats:
    """Source: Gorodkin, Comput. Biol. Chem. 28 (2004): R_K, Matthews's coefficient for any number of classes."""
    counts = _confusion(truth, output, weights)
    total, hits = counts.sum(axis=(1, 2)), np.einsum("bii->b", counts)
    true, predicted = counts.sum(axis=2), counts.sum(axis=1)
    covariance = hits * total - (true * predicted).sum(axis=1)
    spread = (total**2 - (predicted**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1))
    return _ratio(covariance, np.sqrt(np.maximum(spread, 0.0)))


def _rmse(truth: Truth, output: Floats, weights: Floats) -> Floats:
    return np.sqrt(_mean((output - truth) ** 2, weights))


def _mae(truth: Truth, output: Floats, weights: Floats) -> Floats:
    return _mean(np.abs(output - truth), weights)


def _r2(truth: Truth, output: Floats, weights: Floats) -> Floats:
    centre = _mean(truth.astype(float), weights)
    square = _mean(truth.astype(float) ** 2, weights)
    spread = square - centre**2
    return 1 - _ratio(_mean((output - truth) ** 2, weights), np.where(spread > _TIES, spread, 0.0), np.nan)


def _median_absolute_error(truth: Truth, output: Floats, weights: Floats) -> Floats:
    """Weighted lower and upper medians, averaged: with weights of one the plain median."""
    errors = np.abs(output - truth)
    order = np.argsort(errors, kind="stable")
    running = np.cumsum(weights[:, order], axis=1)
    half = running[:, -1:] / 2
    low, high = (running < half - _TIES).sum(axis=1), (running < half + _TIES).sum(axis=1)
    last = len(errors) - 1
    middle: Floats = (errors[order][np.minimum(low, last)] + errors[order][np.minimum(high, last)]) / 2
    return middle


_BINARY = frozenset({"binary"})
_CLASSES = frozenset({"binary", "multiclass"})
_VALUES = frozenset({"regression"})

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", _CLASSES, True, _accuracy, of_labels=True),
        Metric("log_loss", _CLASSES, False, _log_loss),
        Metric("roc_auc", _CLASSES, True, _roc_auc),
        Metric("brier", _CLASSES, False, _brier),
        Metric("average_precision", _BINARY, True, _average_precision),
        Metric("balanced_accuracy", _CLASSES, True, _balanced_accuracy, of_labels=True),
        Metric("f1", _CLASSES, True, _f1, of_labels=True),
        Metric("precision", _CLASSES, True, _precision, of_labels=True),
        Metric("recall", _CLASSES, True, _recall, of_labels=True),
        Metric("mcc", _CLASSES, True, _mcc, of_labels=True),
        Metric("rmse", _VALUES, False, _rmse),
        Metric("mae", _VALUES, False, _mae),
        Metric("r2", _VALUES, True, _r2),
        Metric("median_absolute_error", _VALUES, False, _median_absolute_error),
    )
}


def metrics_of(task: Task) -> list[Metric]:
    """Return the metrics that fit `task`, the most telling first."""
    return [metric for metric in METRICS.values() if task in metric.tasks]


def resolve_metric(name: str, task: Task) -> Metric:
    """Return the metric called `name`, or the task's own for `auto`.

    `auto` is `log_loss` for classes (a proper score: it judges the probabilities that the model will be asked for,
    and prefers no class balance) and `rmse` for values.

    Raises:
        InvalidArgumentError: there is no such metric, or it does not fit the task.
    """
    wanted = ("rmse" if task == "regression" else "log_loss") if name == "auto" else name
    fitting = ", ".join(metric.name for metric in metrics_of(task))
    if wanted not in METRICS:
        raise InvalidArgumentError(f"metric {shown(name)} is unknown.", hint=f"Use auto or one of: {fitting}.")
    if task not in METRICS[wanted].tasks:
        raise InvalidArgumentError(
            f"metric {shown(name)} does not fit a {task} task.", hint=f"Use auto or one of: {fitting}."
        )
    return METRICS[wanted]


def score(metric: Metric, truth: Truth, output: Floats) -> float | None:
    """Return the plain score of `output` (n, k) or (n,) on `truth` (n,); None where it is undefined."""
    value = float(metric.function(truth, output, np.ones((1, len(truth))))[0])
    return value if np.isfinite(value) else None


def score_all(
    task: Task, truth: Truth, output: Floats, threshold: float = DEFAULT_THRESHOLD
) -> dict[str, float | None]:
    """Return every metric that fits `task`, by name; `threshold` divides two classes."""
    return {metric.name: score(metric, truth, decided(metric, output, threshold)) for metric in metrics_of(task)}


def confusion_counts(truth: Codes, output: Floats, threshold: float = DEFAULT_THRESHOLD) -> list[list[int]]:
    """Return counts (k, k): rows are true classes, columns predicted ones."""
    counts = _confusion(truth, decided(METRICS["accuracy"], output, threshold), np.ones((1, len(truth))))[0]
    return [[int(cell) for cell in row] for row in counts]
