"""From which probability on a row is called positive: chosen for the metric asked, on rows no fit had seen."""

import numpy as np

from mcp_server.engine.metrics import DEFAULT_THRESHOLD, METRICS, Codes, Floats, Metric, decided, score

_TRIED = 200
# Alone these are best where everything, or almost nothing, is called positive: f1 weighs one against the other.
_CHOSEN_BY = {"recall": "f1", "precision": "f1"}
_PER_ROW = frozenset({"accuracy"})


def chooses_threshold(metric: Metric, n_classes: int) -> bool:
    """Return True when the score depends on where the line between two classes is drawn."""
    return n_classes == 2 and metric.of_labels


def chosen_by(metric: Metric) -> Metric:
    """Return the metric that the threshold is chosen by: the one asked, or f1 for recall and precision alone."""
    return METRICS[_CHOSEN_BY.get(metric.name, metric.name)]


def choose_threshold(metric: Metric, truth: Codes, output: Floats) -> float:
    """Return the threshold with the best score among the quantiles of what was said; 0.5 where none is better.

    For accuracy, where the best of many is often chance, it must be right on more rows by a standard error.

    Args:
        metric: for which `chooses_threshold` is true.
        truth: class codes, shape (n,).
        output: probabilities out of fold, shape (n, 2).
    """
    judge = chosen_by(metric)
    said = output[:, 1]
    edges = np.unique(np.quantile(said, np.linspace(0, 1, _TRIED + 1)))
    tried = np.clip((edges[:-1] + edges[1:]) / 2, 1e-9, 1 - 1e-9)
    plain = score(judge, truth, decided(judge, output, DEFAULT_THRESHOLD)) or 0.0
    found = np.array([score(judge, truth, decided(judge, output, float(at))) or 0.0 for at in tried])
    if not len(found) or found.max() <= plain:
        return DEFAULT_THRESHOLD
    near = np.flatnonzero(found >= found.max() - 1e-12)
    best = float(tried[near[len(near) // 2]])
    if judge.name in _PER_ROW:
        right = [((said >= at).astype(np.int64) == truth).astype(np.float64) for at in (best, DEFAULT_THRESHOLD)]
        gain = right[0] - right[1]
        if gain.mean() <= gain.std() / np.sqrt(len(gain)):
            return DEFAULT_THRESHOLD
    return best
