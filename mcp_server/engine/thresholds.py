"""From which probability on a row is called positive: chosen for the metric asked, on rows no fit had seen."""

import numpy as np
from numpy.typing import NDArray

from mcp_server.engine.metrics import DEFAULT_THRESHOLD, METRICS, Codes, Floats, Metric

Answers = NDArray[np.bool_]

# Alone these are best where everything, or almost nothing, is called positive: f1 weighs one against the other.
_CHOSEN_BY = {"recall": "f1", "precision": "f1"}
_CELLS = np.array([1, 1, 0, 0])  # true positives, false negatives, false positives, true negatives
_ANSWERS = np.eye(2)[[1, 0, 1, 0]]
_PER_ROW = frozenset({"accuracy"})
_RESAMPLES = 200
_MARGIN = 2.0


def chooses_threshold(metric: Metric, n_classes: int) -> bool:
    """Return True when the score depends on where the line between two classes is drawn."""
    return n_classes == 2 and metric.of_labels


def chosen_by(metric: Metric) -> Metric:
    """Return the metric that the threshold is chosen by: the one asked, or f1 for recall and precision alone."""
    return METRICS[_CHOSEN_BY.get(metric.name, metric.name)]


def choose_threshold(metric: Metric, truth: Codes, output: Floats) -> float:
    """Return the threshold with the best score among all that divide the rows differently; 0.5 unless one is better.

    For accuracy, which of true probabilities is best at 0.5, the best of many is often chance: there it must be better
    by two standard errors, drawn anew from the counts of what each says. Between two neighbouring probabilities it lies
    in the middle.

    Source: Lipton, Elkan and Naryanaswamy, ECML (2014): for f1 the best threshold lies below one half.

    Args:
        metric: for which `chooses_threshold` is true.
        truth: class codes, shape (n,).
        output: probabilities out of fold, shape (n, 2).
    """
    judge, positive = chosen_by(metric), truth == 1
    if not len(truth):
        return DEFAULT_THRESHOLD
    order = np.argsort(-output[:, 1], kind="stable")
    said = output[order, 1]
    last = np.flatnonzero(np.append(said[1:] < said[:-1], True))  # the last row above each line
    hits = np.cumsum(positive[order])[last]
    counts = _counts(hits, last + 1 - hits, int(positive.sum()), len(truth))
    scores = np.nan_to_num(judge.function(_CELLS, _ANSWERS, counts), nan=0.0)
    best = int(np.argmax(scores))
    below = said[min(last[best] + 1, len(said) - 1)]
    chosen = float(np.clip((said[last[best]] + below) / 2, 1e-9, 1 - 1e-9))
    usual = output[:, 1] >= DEFAULT_THRESHOLD
    if not _is_better(judge, positive, output[:, 1] >= chosen, usual, _MARGIN if judge.name in _PER_ROW else 0.0):
        return DEFAULT_THRESHOLD
    return chosen


def _counts(hits: Codes, alarms: Codes, n_positive: int, n_rows: int) -> Floats:
    """Return how many rows stand in each of `_CELLS`, shape (b, 4)."""
    counts = np.stack([hits, n_positive - hits, alarms, n_rows - n_positive - alarms], axis=1)
    return np.asarray(counts, dtype=np.float64)


def _is_better(judge: Metric, positive: Answers, here: Answers, usual: Answers, margin: float) -> bool:
    """Return True when the answers `here` score better than the `usual` ones by more than `margin` standard errors.

    A bootstrap of rows only counts how many stand in each of eight cells, so those counts are drawn.
    """
    cells = np.bincount(4 * positive.astype(np.int64) + 2 * here + usual, minlength=8).astype(np.float64)
    drawn = np.random.default_rng(0).multinomial(int(cells.sum()), cells / cells.sum(), size=_RESAMPLES)
    weights = np.vstack([cells, drawn]).astype(np.float64)
    truth = np.arange(8) // 4
    mine, other = (
        np.nan_to_num(judge.function(truth, np.eye(2)[(np.arange(8) // bit) % 2], weights), nan=0.0) for bit in (2, 1)
    )
    gain = mine - other
    return bool(gain[0] > margin * gain[1:].std(ddof=1))
