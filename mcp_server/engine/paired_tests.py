"""Which paired test fits a metric and the rows, and what it says of two outputs of the same rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import rankdata

from mcp_server.engine.comparison import PairedDifference, mcnemar, paired_bootstrap
from mcp_server.engine.metrics import Floats, Metric, Truth, labels

LEVEL = 0.05
_EXACT_BELOW = 25  # discordant pairs, below which the chi-square form of McNemar's test is not near enough
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """A paired difference, and the test its p-value is from; `p_adjusted` counts the other pairs asked at once."""

    found: PairedDifference
    test: str
    p_adjusted: float


def compare_outputs(
    metric: Metric, truth: Truth, a: Floats, b: Floats, seed: int, clusters: NDArray[np.int64] | None = None
) -> PairVerdict | None:
    """Compare two outputs: McNemar for accuracy, DeLong for a binary AUC, else the paired bootstrap.

    McNemar and DeLong take rows for independent: where `clusters` names groups or blocks of time, the bootstrap
    that draws whole clusters is asked whatever the metric. None where the metric is undefined on the rows.
    """
    drawn = paired_bootstrap(metric, truth, a, b, seed, clusters)
    if drawn is None:
        return None
    if clusters is not None:
        return PairVerdict(drawn, "paired block bootstrap", drawn.p_value)
    if metric.name == "accuracy":
        return _by_mcnemar(drawn, truth, a, b)
    if metric.name == "roc_auc" and a.ndim == 2 and a.shape[1] == 2:
        tested = delong(truth, a[:, 1], b[:, 1])
        if tested is not None:
            return _by_delong(drawn, *tested)
    return PairVerdict(drawn, "paired bootstrap", drawn.p_value)


def _by_mcnemar(drawn: PairedDifference, truth: Truth, a: Floats, b: Floats) -> PairVerdict:
    codes, of_a, of_b = truth.astype(np.int64), labels(a), labels(b)
    only_a = int(((of_a == codes) & (of_b != codes)).sum())
    only_b = int(((of_b == codes) & (of_a != codes)).sum())
    if only_a + only_b < _EXACT_BELOW:
        p_value, test = mcnemar(codes, of_a, of_b), "mcnemar exact"
    else:
        p_value, test = mcnemar_chi_square(only_a, only_b), "mcnemar chi-square"
    return _decided(replace(drawn, p_value=p_value), test, p_value)


def _by_delong(drawn: PairedDifference, difference: float, error: float, p_value: float) -> PairVerdict:
    low, high = difference - _Z * error, difference + _Z * error
    found = replace(drawn, difference=difference, ci_low=low, ci_high=high, p_value=p_value)
    return _decided(found, "delong", p_value)


def _decided(found: PairedDifference, test: str, p_adjusted: float) -> PairVerdict:
    """Return the difference with the verdict that its p-value allows."""
    if p_adjusted >= LEVEL or found.difference == 0:
        return PairVerdict(replace(found, verdict="not_distinguishable"), test, p_adjusted)
    ahead = (found.difference > 0) == found.higher_is_better
    return PairVerdict(replace(found, verdict="better" if ahead else "worse"), test, p_adjusted)


def mcnemar_chi_square(only_a: int, only_b: int) -> float:
    """Return the p-value of McNemar's test with Edwards' correction, of the two counts of discordant pairs.

    Source: McNemar, Psychometrika 12 (1947); Edwards, Psychometrika 13 (1948).
    """
    if only_a + only_b == 0:
        return 1.0
    statistic = max(0, abs(only_a - only_b) - 1) ** 2 / (only_a + only_b)
    return math.erfc(math.sqrt(statistic / 2))


def delong(truth: Truth, a: Floats, b: Floats) -> tuple[float, float, float] | None:
    """Return AUC of `a` minus AUC of `b`, its standard error and the two-sided p-value that they are equal.

    None where it is undefined: fewer than two rows of a class, or a difference without any variance.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); in ranks: Sun and Xu, IEEE Signal Processing
    Letters 21 (2014).
    """
    positive = truth.astype(np.int64) == 1
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if min(n_positive, n_negative) < 2:
        return None
    areas, of_positive, of_negative = [], [], []
    for scores in (a, b):
        everywhere = rankdata(scores)
        above = (everywhere[positive] - rankdata(scores[positive])) / n_negative
        below = 1 - (everywhere[~positive] - rankdata(scores[~positive])) / n_positive
        areas.append(float(above.mean()))
        of_positive.append(above)
        of_negative.append(below)
    difference = areas[0] - areas[1]
    variance = float(np.var(of_positive[0] - of_positive[1], ddof=1)) / n_positive
    variance += float(np.var(of_negative[0] - of_negative[1], ddof=1)) / n_negative
    if variance < 1e-24:
        return (0.0, 0.0, 1.0) if abs(difference) < 1e-12 else None
    error = math.sqrt(variance)
    return difference, error, math.erfc(abs(difference) / error / math.sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for all being asked at once. Source: Holm, Scandinavian J. of Statistics 6 (1979)."""
    adjusted, highest = [1.0] * len(p_values), 0.0
    for place, k in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[k]))
        adjusted[k] = highest
    return adjusted


def adjusted_for_many(tested: Sequence[PairVerdict]) -> list[PairVerdict]:
    """Return the pairs of one metric with Holm's p-values, and the verdicts that are left."""
    adjusted = holm([part.found.p_value for part in tested])
    kept = []
    for part, p_value in zip(tested, adjusted, strict=True):
        if part.found.verdict == "not_distinguishable":  # the interval of a bootstrap may hold zero where p is small
            kept.append(replace(part, p_adjusted=p_value))
        else:
            kept.append(_decided(part.found, part.test, p_value))
    return kept


def clusters_of(kind: str, column: pl.Series | None) -> NDArray[np.int64] | None:
    """Return which rows belong together under a split: the groups, or blocks of time; None where rows are their own.

    Args:
        kind: of the split.
        column: of the split, n values.
    """
    if column is None or kind not in ("group", "time"):
        return None
    order = column.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    return order if kind == "group" else time_blocks(order)


def time_blocks(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a block for each row: neighbours in time, the cube root of n rows each; rows of one moment stay together.

    Args:
        order: shape (n,), the dense rank of each row's moment.

    Source of the length: Hall, Horowitz and Jing, Biometrika 82 (1995).
    """
    length = max(1, math.ceil(len(order) ** (1 / 3)))
    before = np.searchsorted(np.sort(order), order, side="left")
    return np.asarray(before // length, dtype=np.int64)
