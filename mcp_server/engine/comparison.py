"""Are two sets of predictions of the same rows different, or is it chance?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from mcp_server.engine.metrics import Codes, Floats, Metric, Task, Truth, decided, metrics_of, score

RESAMPLES = 1000
_CELLS_AT_ONCE = 4_000_000  # a block of weights of 32 MB
_LEVEL = 0.95

Verdict = Literal["better", "worse", "not_distinguishable"]


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """`a` minus `b` in one metric on the same rows, with its 95 % interval and two-sided p-value."""

    metric: str
    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    verdict: Verdict
    higher_is_better: bool


def _weights(n_rows: int, resamples: int, seed: int, clusters: Codes | None = None) -> Iterator[Floats]:
    """Yield blocks (b, n) of bootstrap counts; the same seed gives the same rows to every metric and model.

    With `clusters` (n,), rows of one cluster are drawn together.
    """
    if clusters is not None:
        _, codes = np.unique(clusters, return_inverse=True)
        at_once = max(1, _CELLS_AT_ONCE // max(n_rows, 1))  # so that a block of rows is no larger than without clusters
        for of_clusters in _weights(int(codes.max()) + 1, resamples, seed):
            for start in range(0, len(of_clusters), at_once):
                yield of_clusters[start : start + at_once][:, codes]
        return
    rng = np.random.default_rng(seed)
    block = max(1, min(resamples, _CELLS_AT_ONCE // max(n_rows, 1)))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(0, n_rows, size=(size, n_rows))
        drawn += (np.arange(size) * n_rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n_rows).reshape(size, n_rows)
        yield counts.astype(np.float64)


def bootstrap_scores(
    metrics: list[Metric],
    truth: Truth,
    outputs: list[Floats],
    seed: int,
    resamples: int = RESAMPLES,
    clusters: Codes | None = None,
    threshold: float = 0.5,
) -> NDArray[np.float64]:
    """Return scores (resamples, metrics, outputs) on rows drawn with replacement, the same rows for all.

    `threshold` divides two classes.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    judged = [(metric, [decided(metric, out, threshold) for out in outputs]) for metric in metrics]
    blocks = [
        np.stack(
            [np.stack([metric.function(truth, out, block) for out in shown], axis=1) for metric, shown in judged],
            axis=1,
        )
        for block in _weights(len(truth), resamples, seed, clusters)
    ]
    return np.concatenate(blocks)


def interval_levels(n_units: int) -> tuple[float, float]:
    """Return the levels between which 95 % lie of a bootstrap of `n_units` rows, or clusters drawn whole.

    Percentiles of a bootstrap are too narrow where little is drawn: as the normal quantile is for Student's t, and by
    the n that its variance divides by instead of n - 1. Both are made up for.

    Source: Hesterberg, The American Statistician 69 (2015): expanded percentile intervals.
    """
    spare = max(1, n_units - 1)
    low = float(ndtr(-math.sqrt((spare + 1) / spare) * stdtrit(spare, (1 + _LEVEL) / 2)))
    return low, 1 - low


def bootstrap_intervals(
    task: Task,
    truth: Truth,
    output: Floats,
    seed: int,
    *,
    threshold: float = 0.5,
    clusters: Codes | None = None,
) -> dict[str, tuple[float, float]]:
    """Return the 95 % percentile interval of every metric that is defined on at least half of the resamples.

    Rows that are not independent share a number in `clusters` (n,) and are drawn together; `threshold` divides two
    classes.
    """
    metrics = metrics_of(task)
    drawn = bootstrap_scores(metrics, truth, [output], seed, clusters=clusters, threshold=threshold)[:, :, 0]
    levels = interval_levels(len(truth) if clusters is None else len(np.unique(clusters)))
    intervals: dict[str, tuple[float, float]] = {}
    for position, metric in enumerate(metrics):
        values = drawn[:, position][np.isfinite(drawn[:, position])]
        if len(values) * 2 >= len(drawn):
            low, high = np.quantile(values, levels)
            intervals[metric.name] = (float(low), float(high))
    return intervals


def paired_bootstrap(
    metric: Metric, truth: Truth, a: Floats, b: Floats, seed: int, clusters: Codes | None = None
) -> PairedDifference | None:
    """Compare outputs `a` and `b` on the same rows; None where the metric is undefined on them.

    Rows that are not independent share a number in `clusters` (n,) and are drawn together.

    The verdict is about `a`: `better` or `worse` only if the 95 % interval leaves zero out. The p-value is twice
    the smaller tail beyond zero, with one added to both counts so that it is never zero.

    Source: Efron and Tibshirani (1993), sections 13.3 and 16.4; Davison and Hinkley (1997), section 4.2.
    """
    plain_a, plain_b = score(metric, truth, a), score(metric, truth, b)
    if plain_a is None or plain_b is None:
        return None
    drawn = bootstrap_scores([metric], truth, [a, b], seed, clusters=clusters)[:, 0, :]
    differences = drawn[:, 0] - drawn[:, 1]
    differences = differences[np.isfinite(differences)]
    if len(differences) == 0:
        return None
    levels = interval_levels(len(truth) if clusters is None else len(np.unique(clusters)))
    low, high = (float(x) for x in np.quantile(differences, levels))
    tail = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return PairedDifference(
        metric=metric.name,
        difference=plain_a - plain_b,
        ci_low=low,
        ci_high=high,
        p_value=min(1.0, 2 * (tail + 1) / (len(differences) + 1)),
        verdict=_verdict(low, high, metric.higher_is_better),
        higher_is_better=metric.higher_is_better,
    )


def _verdict(low: float, high: float, higher_is_better: bool) -> Verdict:
    if low <= 0 <= high:
        return "not_distinguishable"
    return "better" if (low > 0) == higher_is_better else "worse"


def mcnemar(truth: Codes, a: Codes, b: Codes) -> float:
    """Return the exact two-sided p-value that labels `a` and `b` are right equally often.

    Source: McNemar, Psychometrika 12 (1947); exact form: a binomial test of the discordant pairs.
    """
    only_a = int(((a == truth) & (b != truth)).sum())
    only_b = int(((b == truth) & (a != truth)).sum())
    n = only_a + only_b
    if n == 0:
        return 1.0
    tail = _binomial_half_cdf(min(only_a, only_b), n)
    return min(1.0, 2 * tail)


def _binomial_half_cdf(k: int, n: int) -> float:
    """Return P(X <= k) for X ~ Binomial(n, 1/2), summed in logarithms."""
    terms = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(k + 1)]
    top = max(terms)
    return math.exp(top - n * math.log(2)) * math.fsum(math.exp(term - top) for term in terms)
