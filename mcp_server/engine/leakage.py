"""Features that know the answer: the target itself, a transform of it, or columns that together give it away."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from mcp_server.engine.leak_interactions import (
    cell_strengths,
    coarse_target,
    logarithms,
    made_from_target,
    parts_of_sum,
    with_days,
    with_numbers_read,
)
from mcp_server.engine.leak_scores import (
    NOTHING,
    Sample,
    Strength,
    alone,
    draw,
    forest,
    pair_strengths,
    rank_correlation,
)
from mcp_server.engine.metrics import Floats
from mcp_server.engine.preprocessing import describe_input, kind_of, matrix_columns, model_input
from mcp_server.errors import shown

__all__ = ["Finding", "Sample", "draw", "find_leaks", "score_of"]

Severity = Literal["blocking", "warning", "info"]

_LEAST_ROWS = 100  # below, two columns separate the classes by chance
_COLUMNS_LOOKED_AT = 300  # one takes about 4 ms
_PAIR_COLUMNS = 60
_PAIR_GAIN = 0.01
_CELL_GAIN = 0.15
_CELLS_SHOWN = 5
_NEAR_COPIES = 10
_NEAR_COPY = 0.9  # rank correlation from which the difference of two columns is worth a look
_NEAR_LEAK = 0.8
_NEAR_LEAK_GAIN = 0.08
_MORE_GUILTY = 0.015  # of a pair, the one that alone knows more by so much is the one known too late


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that would spoil a training.

    Attributes:
        kind: a word of the contract.
        columns: the columns it is about.
        suspects: those of them among the features that should go.
        message: what is wrong, with figures.
        severity: `blocking` stops a training.
        fix: what to do.
        score_alone: what `columns` alone reach.
        score_without: what the other features reach.
    """

    kind: str
    columns: list[str]
    message: str
    severity: Severity
    fix: str
    suspects: tuple[str, ...] = ()
    score_alone: float | None = None
    score_without: float | None = None


def find_leaks(sample: Sample, features: Sequence[str], target: str, allowed: Sequence[str] = ()) -> list[Finding]:
    """Return copies, leaks, pairs and near-leaks among `features`, blocking ones first.

    Columns of the sample that are no features help to convict: `pts` is stopped where the data also holds
    `opp_pts`, and `elo_n` where it holds `elo_i`.

    Args:
        sample: training rows with all columns of the dataset.
        features: what the model is to be given.
        target: the column that is predicted.
        allowed: features the caller lets through.
    """
    if len(sample.truth) < 10:
        return []
    sample = replace(sample, frame=with_numbers_read(sample.frame))
    names = [name for name in sample.frame.columns if name != target and kind_of(sample.frame[name]) is not None]
    known = {name: alone(sample, name) for name in _promising(sample, names)}
    findings = _copies_and_leaks(sample, features, known, target)
    decided = {name for name, found in known.items() if found.decides}
    decided |= {name for finding in findings if finding.severity == "blocking" for name in finding.columns}
    if len(sample.truth) >= _LEAST_ROWS:
        findings += _pairs(sample, features, known, decided)
    findings = [_let_through(finding, allowed) for finding in findings]
    order = {"blocking": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda finding: (order[finding.severity], -(finding.score_alone or 0.0)))


def _promising(sample: Sample, names: list[str]) -> list[str]:
    """Return at most `_COLUMNS_LOOKED_AT` columns: all words, and the numbers that go most with the target."""
    numbers = [name for name in names if sample.frame[name].dtype.is_numeric()]
    rest = _COLUMNS_LOOKED_AT - (len(names) - len(numbers))
    if len(numbers) <= max(rest, 0):
        return names
    wanted = pl.Series(sample.truth).rank().to_numpy()
    likeness = [abs(rank_correlation(sample.frame[name].to_numpy(), wanted)) for name in numbers]
    kept = {numbers[k] for k in np.argsort(likeness)[::-1][: max(rest, 0)]}
    return [name for name in names if name in kept or name not in numbers][:_COLUMNS_LOOKED_AT]


def _let_through(finding: Finding, allowed: Sequence[str]) -> Finding:
    if finding.severity != "blocking" or not set(finding.suspects) <= set(allowed):
        return finding
    return Finding(
        finding.kind,
        finding.columns,
        f"{finding.message} Let through by allow_features.",
        "warning",
        finding.fix,
        finding.suspects,
        finding.score_alone,
    )


def _copies_and_leaks(
    sample: Sample, features: Sequence[str], known: dict[str, Strength], target: str
) -> list[Finding]:
    findings = []
    for name in features:
        found = known.get(name, NOTHING)
        if _is_copy(sample, name):
            findings.append(
                Finding(
                    "target_copy",
                    [name],
                    f"{shown(name)} is the target {shown(target)} in other words.",
                    "blocking",
                    f"Leave {shown(name)} out of features.",
                    (name,),
                    found.score,
                )
            )
        elif found.decides and len(sample.truth) >= _LEAST_ROWS:
            findings.append(
                Finding(
                    "leak",
                    [name],
                    f"{shown(name)} alone decides {shown(target)}: {sample.measure} {found.score:.4f}.",
                    "blocking",
                    f"Leave {shown(name)} out of features unless it is known before the outcome.",
                    (name,),
                    found.score,
                )
            )
        elif found.nearly or coarse_target(sample, sample.frame[name]) == "apart":
            reason = f"alone nearly decides {shown(target)}" if found.nearly else f"follows from {shown(target)}"
            findings.append(
                Finding(
                    "near_leak",
                    [name],
                    f"{shown(name)} {reason}: {sample.measure} {found.score:.4f}.",
                    "warning",
                    f"Check that {shown(name)} is known before the outcome; else leave it out.",
                    (name,),
                    found.score,
                )
            )
    return findings


def _is_copy(sample: Sample, name: str) -> bool:
    """Return True when every value of the column belongs to one class, or the column orders the rows as the target."""
    column = sample.frame[name]
    known = column.is_not_null().to_numpy()
    if known.sum() < 10:
        return False
    truth, values = sample.truth[known], column.filter(pl.Series(known))
    if sample.task == "regression":
        if coarse_target(sample, column) == "touching":
            return True
        if not values.dtype.is_numeric() or values.n_unique() < 10:
            return False
        same_order = abs(rank_correlation(values.cast(pl.Float64).to_numpy(), truth)) > 1 - 1e-9
        return same_order or made_from_target(sample, column)
    pairs = pl.DataFrame({"value": values.cast(pl.String), "code": truth}).unique()
    n_values = pairs["value"].n_unique()
    many = n_values > max(20, 2 * sample.n_classes)
    return not many and n_values >= sample.n_classes and len(pairs) == n_values and len(np.unique(truth)) > 1


def _pairs(sample: Sample, features: Sequence[str], known: dict[str, Strength], decided: set[str]) -> list[Finding]:
    """Return pairs that decide the target together, and near-copies whose difference knows too much."""
    ordered = sorted(known, key=lambda name: -known[name].score)
    sample = replace(sample, frame=with_days(sample.frame))
    names = [name for name in ordered if name not in decided and sample.frame[name].dtype.is_numeric()]
    if len(names) < 2:
        return []
    numeric, _ = matrix_columns([describe_input(sample.frame[name]) for name in names])
    matrix = model_input(sample.frame, [describe_input(sample.frame[name]) for name in names])[numeric]
    values = matrix.to_numpy(dtype=np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    filled = ~np.isnan(values).all(axis=0)
    names, values = [name for name, some in zip(names, filled, strict=True) if some], values[:, filled]
    values = np.where(np.isnan(values), np.nanmedian(values, axis=0) if values.shape[1] else values, values)
    varying = np.flatnonzero(values.std(axis=0) > 0)[:_PAIR_COLUMNS]
    names, values = [names[i] for i in varying], values[:, varying]
    if len(names) < 2:
        return []
    pairs = _Pairs(sample, names, values, known, features)
    findings: list[Finding] = []
    convicted: set[str] = set()
    for (i, j), (found, single) in _lines_and_ratios(sample, values).items():
        if found.decides and found.score - max(single, pairs.best_alone(i, j)) >= _PAIR_GAIN:
            findings += pairs.finding(i, j, found.score, "pair_leak")
            convicted |= set(pairs.guilty(i, j))
    findings += _sums(pairs, convicted)
    return findings + _cells(pairs, convicted) + _near_pairs(pairs, convicted)


def _lines_and_ratios(sample: Sample, values: Floats) -> dict[tuple[int, int], tuple[Strength, float]]:
    """Return what lines through two columns reach, and through the logarithms of two: their ratio or product."""
    found = pair_strengths(sample, values)
    positive, logs = logarithms(values)
    if len(positive) >= 2:
        for (i, j), other in pair_strengths(sample, logs).items():
            pair = (positive[i], positive[j])
            if pair not in found or other[0].score > found[pair][0].score:
                found[pair] = other
    return found


def _sums(pairs: "_Pairs", convicted: set[str]) -> list[Finding]:
    """Return the columns that add up to the target, if there are such."""
    names = [pairs.names[k] for k in parts_of_sum(pairs.sample, pairs.values)]
    suspects = tuple(name for name in names if name in pairs.features)
    if not suspects or set(names) <= convicted:
        return []
    convicted |= set(names)
    named = ", ".join(shown(name) for name in names)
    return [
        Finding(
            "leak",
            names,
            f"{named} add up to the target: they seem to be its parts, known only with it.",
            "blocking",
            f"Leave {', '.join(shown(name) for name in suspects)} out of features.",
            suspects,
            1.0,
        )
    ]


def _cells(pairs: "_Pairs", convicted: set[str]) -> list[Finding]:
    """Return warnings about pairs of which neither column says much and both together nearly all, on no line."""
    findings = []
    for (i, j), found in cell_strengths(pairs.sample, pairs.values).items():
        suspects = [name for name in (pairs.names[i], pairs.names[j]) if name in pairs.features]
        if not found.nearly or found.score - pairs.best_alone(i, j) < _CELL_GAIN or convicted & set(suspects):
            continue
        if suspects:
            named = " and ".join(shown(pairs.names[k]) for k in (i, j))
            findings.append(
                Finding(
                    "near_leak",
                    [pairs.names[i], pairs.names[j]],
                    f"{named} decide the target only together ({pairs.sample.measure} {found.score:.4f}; alone "
                    f"{pairs.best_alone(i, j):.3f} at best).",
                    "warning",
                    "Check that both are known before the outcome; else leave them out.",
                    tuple(suspects),
                    found.score,
                )
            )
    return findings[:_CELLS_SHOWN]


class _Pairs:
    """What is known of the columns that are looked at two by two."""

    def __init__(
        self, sample: Sample, names: list[str], values: Floats, known: dict[str, Strength], features: Sequence[str]
    ) -> None:
        self.sample, self.names, self.values, self.features = sample, names, values, features
        self._alone = [known[name].score for name in names]
        ranks = np.stack([pl.Series(column).rank().to_numpy() for column in values.T])
        self.likeness = np.abs(np.nan_to_num(np.corrcoef(ranks)))

    def best_alone(self, i: int, j: int) -> float:
        """Return what the better of two columns reaches alone."""
        return max(self._alone[i], self._alone[j])

    def guilty(self, i: int, j: int) -> list[str]:
        """Return which of a pair is known too late.

        Of two near-copies, one is the other brought up to date with the outcome: the one that alone knows more.
        Two columns that differ (points scored and points allowed) are both known too late.
        """
        first, second = self._alone[i], self._alone[j]
        if self.likeness[i, j] < _NEAR_COPY or abs(first - second) <= _MORE_GUILTY:
            return [self.names[i], self.names[j]]
        return [self.names[i if first > second else j]]

    def finding(self, i: int, j: int, value: float, kind: Literal["pair_leak", "near_leak"]) -> list[Finding]:
        """Return the finding about a pair, or none if no guilty column is among the features."""
        suspects = tuple(name for name in self.guilty(i, j) if name in self.features)
        if not suspects:
            return []
        pair = (self.names[i], self.names[j])
        words = "decide" if kind == "pair_leak" else "know too much of"
        named, verb = " and ".join(shown(name) for name in suspects), "seems" if len(suspects) == 1 else "seem"
        message = (
            f"{shown(pair[0])} and {shown(pair[1])} together {words} the target ({self.sample.measure} {value:.4f}; "
            f"alone {self._alone[i]:.3f} and {self._alone[j]:.3f}): {named} {verb} to be known only after the outcome."
        )
        severity: Severity = "blocking" if kind == "pair_leak" else "warning"
        return [Finding(kind, list(pair), message, severity, f"Leave {named} out of features.", suspects, value)]


def _near_pairs(pairs: _Pairs, convicted: set[str]) -> list[Finding]:
    """Return near-copies whose joint knowledge is far above what each has: one was updated by the outcome."""
    names, likeness = pairs.names, pairs.likeness
    near = [
        (likeness[i, j], i, j)
        for i, j in itertools.combinations(range(len(names)), 2)
        if likeness[i, j] >= _NEAR_COPY
        and any(names[k] in pairs.features and names[k] not in convicted for k in (i, j))
        and not all(names[k] in convicted for k in (i, j))
    ]
    findings = []
    for _, i, j in sorted(near, reverse=True)[:_NEAR_COPIES]:
        value = forest(pairs.sample, pairs.values[:, [i, j]]).score
        if value >= _NEAR_LEAK and value - pairs.best_alone(i, j) >= _NEAR_LEAK_GAIN:
            findings += [
                found for found in pairs.finding(i, j, value, "near_leak") if not set(found.suspects) <= convicted
            ]
    return findings


def score_of(sample: Sample, features: Sequence[str]) -> float | None:
    """Return what a small forest on `features` reaches on the held half; None without a feature."""
    inputs = [describe_input(sample.frame[name]) for name in features]
    numeric, words = matrix_columns(inputs)
    if not numeric and not words:
        return None
    matrix = model_input(sample.frame, inputs)
    for name in words:
        matrix[name] = matrix[name].astype("category").cat.codes.astype(np.float64)
    return forest(sample, matrix.to_numpy(dtype=np.float64)).score
