"""The distance of a column's distribution from an expected one, by values or by ranges."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeGuard

import polars as pl

from mcp_server.engine.expectations.checks import Check, Domain, Measured, Outcome
from mcp_server.engine.expectations.columns import Stream
from mcp_server.engine.expectations.literals import CannotEvaluateError, comparable, family_of, plain, words_for
from mcp_server.engine.expectations.tallies import Counted

Arguments = Mapping[str, Any]
_MOST_PARTS: Final = 1000
_INFINITE: Final = {"-Infinity": -math.inf, "-inf": -math.inf, "Infinity": math.inf, "inf": math.inf}
_TOLERANCE: Final = 1e-8  # what NumPy calls close, as Great Expectations checks the weights


def partition_fault(partition: Any) -> str | None:
    """Return what keeps `partition` from being an expected distribution; None when nothing does.

    It is `{"values": […], "weights": […]}`, or `{"bins": […], "weights": […]}` with one bin edge more than
    weights and, for what lies outside, `"tail_weights": [below, above]`; all weights sum to 1. The first edge may be
    "-Infinity" and the last "Infinity", as texts: JSON has no infinite numbers.
    """
    if not isinstance(partition, Mapping) or set(partition) - {"values", "bins", "weights", "tail_weights"}:
        return 'an object {"values" or "bins", "weights"}'
    weights, tails = partition.get("weights"), partition.get("tail_weights", [])
    if not _are_numbers(weights) or not _are_numbers(tails) or any(each < 0 for each in [*weights, *tails]):
        return "given weights that are numbers, 0 or more"
    if abs(math.fsum([*weights, *tails]) - 1) > 1e-5 + _TOLERANCE:
        return "given weights that sum to 1"
    values, bins = partition.get("values"), partition.get("bins")
    if (values is None) == (bins is None):
        return "given either values or bins"
    if values is not None:
        listed = isinstance(values, Sequence) and all(isinstance(each, str | int | float) for each in values)
        return None if listed and len(values) == len(weights) and not tails else "given one weight a value"
    if not isinstance(bins, Sequence) or isinstance(bins, str) or len(bins) != len(weights) + 1:
        return "given one bin edge more than weights"
    edges = edges_of(bins)
    inner = [each for each in edges if each not in _INFINITE.values()]
    if (
        not _are_numbers(inner)
        or len(tails) not in {0, 2}
        or any(type(each) is float and math.isinf(each) for each in bins)
    ):
        return 'given bins that are numbers, "-Infinity" first or "Infinity" last'
    if tails and len(inner) < len(edges):
        return "given no tail_weights where a bin is infinite"
    return None if edges == sorted(set(edges)) else "given bins that increase"


def edges_of(bins: Sequence[Any]) -> list[Any]:
    """Return the edges of bins as numbers, infinite ones included."""
    return [_INFINITE.get(each, each) if isinstance(each, str) else each for each in bins]


def _are_numbers(values: Any) -> TypeGuard[Sequence[float]]:
    return (
        isinstance(values, Sequence)
        and len(values) <= _MOST_PARTS
        and all(isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each) for each in values)
    )


def divergence_check(arguments: Arguments, domain: Domain, position: int) -> Check:
    """Translate an expectation on the Kullback-Leibler divergence from `partition_object`.

    Raises:
        CannotEvaluateError: the column is missing, or holds no numbers where ranges are given.
    """
    column, partition = arguments["column"], arguments["partition_object"]
    dtype = domain.dtype(column)
    if family_of(dtype) == "other":
        raise CannotEvaluateError(f"The column holds {words_for(dtype)}, whose distribution is not judged.")
    if "values" in partition:
        return _by_value(domain.stream(column), dtype, partition, arguments, position)
    if family_of(dtype) != "number":
        raise CannotEvaluateError(f"The column holds {words_for(dtype)}; ranges need numbers.")
    if not arguments["bucketize_data"]:
        raise CannotEvaluateError("Ranges need bucketize_data; without it, give values and their weights.")
    return _by_range(domain.values(column), partition, arguments, position)


def _by_value(
    stream: Stream, dtype: pl.DataType, partition: Mapping[str, Any], arguments: Arguments, position: int
) -> Check:
    key = f"value_counts|{position}"
    expected = {_held(value, dtype): weight for value, weight in zip(*_columns(partition), strict=True)}
    holdout = arguments["tail_weight_holdout"]

    def conclude(measured: Measured) -> Outcome:
        counts = dict(measured[key])
        total = sum(counts.values())
        known = [*expected, *(value for value in sorted(counts) if value not in expected)]
        n_strange = len(known) - len(expected)
        kept = 1 - holdout if n_strange else 1.0
        observed = [counts.get(value, 0) / total if total else 0.0 for value in known]
        wanted = [expected[value] * kept if value in expected else holdout / n_strange for value in known]
        named = [plain(value) for value in known]
        return _outcome(
            observed,
            wanted,
            arguments["threshold"],
            {"values": named, "weights": observed},
            {"values": named, "weights": wanted},
        )

    return Check({key: Counted(stream)}, conclude)


def _held(value: Any, dtype: pl.DataType) -> Any:
    """Return a value as the column holds it; one of another type stays as it is, and never occurs."""
    try:
        return comparable(value, dtype)
    except CannotEvaluateError:
        return value


def _columns(partition: Mapping[str, Any]) -> tuple[Sequence[Any], Sequence[float]]:
    return partition["values"], partition["weights"]


def _by_range(values: pl.Expr, partition: Mapping[str, Any], arguments: Arguments, position: int) -> Check:
    bins = edges_of(partition["bins"])
    last = len(bins) - 2
    measures = {
        f"bin|{position}|{index}": ((values >= low) & ((values <= high) if index == last else (values < high))).sum()
        for index, (low, high) in enumerate(pairwise(bins))
    }
    inside_keys = list(measures)
    below, above, present = (f"{what}|{position}" for what in ("below", "above", "count"))
    measures |= {below: (values < bins[0]).sum(), above: (values > bins[-1]).sum(), present: values.count()}
    wanted = _expected_ranges(bins, partition, arguments)
    named = [each for each in bins if math.isfinite(each)]

    def conclude(measured: Measured) -> Outcome:
        total = measured[present]
        counts = _Ranges.split(bins, [measured[key] for key in (below, *inside_keys, above)])
        found = counts.divided_by(total) if total else None
        return _outcome(
            found.all if found else [0.0] * len(counts.all),
            wanted.all,
            arguments["threshold"],
            {"bins": named} | (found or counts.divided_by(None)).named(),
            {"bins": named} | wanted.named(),
        )

    return Check(measures, conclude)


class _Ranges(NamedTuple):
    """Figures of the ranges between finite edges and of the two tails, where there are tails."""

    below: tuple[Any, ...]
    inside: tuple[Any, ...]
    above: tuple[Any, ...]

    @classmethod
    def split(cls, bins: Sequence[float], figures: Sequence[Any]) -> "_Ranges":
        """Return `figures` of what lies below the bins, in each of them and above; an infinite bin is itself a tail."""
        start = 1 if math.isinf(bins[0]) else 0
        end = len(figures) - (1 if math.isinf(bins[-1]) else 0)
        kept = figures[start:end]
        return cls((kept[0],), tuple(kept[1:-1]), (kept[-1],))

    @property
    def all(self) -> list[Any]:
        """All of them in order."""
        return [*self.below, *self.inside, *self.above]

    def divided_by(self, total: int | None) -> "_Ranges":
        """Return each as a share of `total`; None as a share of nothing."""
        return _Ranges(*(tuple(each / total if total else None for each in part) for part in self))

    def named(self) -> dict[str, list[Any]]:
        """Return them as Great Expectations names them."""
        return {"weights": list(self.inside), "tail_weights": [*self.below, *self.above]}


def _expected_ranges(bins: Sequence[float], partition: Mapping[str, Any], arguments: Arguments) -> _Ranges:
    """Return the expected weights of the ranges and of the two tails, the holdouts taken out and given away.

    Raises:
        CannotEvaluateError: a share is held out for tails that do not exist.
    """
    tail, internal = arguments["tail_weight_holdout"], arguments["internal_weight_holdout"]
    n_infinite = math.isinf(bins[0]) + math.isinf(bins[-1])
    if n_infinite == 2 and tail:
        raise CannotEvaluateError("tail_weight_holdout has no tails to go to: both end bins are infinite.")
    weights = [weight * (1 - tail - internal) for weight in partition["weights"]]
    n_empty = sum(weight == 0 for weight in weights)
    if internal > 0 and n_empty:
        weights = [internal / n_empty if weight == 0 else weight for weight in weights]
    tails = list(partition.get("tail_weights") or [tail / (2 - n_infinite) if n_infinite < 2 else 0.0] * 2)
    return _Ranges.split(bins, [tails[0], *weights, tails[1]])


def _outcome(
    observed: Sequence[float],
    expected: Sequence[float],
    threshold: float | None,
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
) -> Outcome:
    distance = _relative_entropy(observed, expected)
    return Outcome(
        success=threshold is None or distance <= threshold,
        observed_value=distance if math.isfinite(distance) else None,
        details={"observed_partition": dict(found), "expected_partition": dict(wanted)},
    )


def _relative_entropy(observed: Sequence[float], expected: Sequence[float]) -> float:
    """Return the Kullback-Leibler divergence of `observed` from `expected`, both scaled to sum to 1, in nats.

    Infinite where something observed was not expected at all; NaN when one of them is empty.

    Source: Kullback and Leibler (1951), as in `scipy.stats.entropy`.
    """
    import numpy as np
    from scipy.special import rel_entr

    p, q = np.asarray(observed, dtype=float), np.asarray(expected, dtype=float)
    if not p.sum() or not q.sum():
        return math.nan
    return float(np.sum(rel_entr(p / p.sum(), q / q.sum())))
