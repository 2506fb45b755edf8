"""Mean and standard deviation to the last digit of Great Expectations, whatever the number of rows.

Floating-point sums depend on the order of their additions. NumPy adds a whole column in a fixed tree of halves, and
pandas adds missing values as zeros; here the same tree is walked over frames of any size, so that a streamed column
has the very sum of a held one.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_server.engine.expectations.columns import Source, Stream

Floats = NDArray[np.float64]

_LEAF: Final = 1 << 20  # values that are added in one call; any number of at least 128 gives the same sum


class Spread(NamedTuple):
    """Mean and sample standard deviation, None where they do not exist; their unit is the column's."""

    mean: float | None
    deviation: float | None


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of a column, 0 without a value."""

    stream: Stream

    def measure(self, source: Source) -> float:
        """Return the sum."""
        return _total(source, self.stream)[0]


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of a column, None without a value."""

    stream: Stream

    def measure(self, source: Source) -> float | None:
        """Return the mean."""
        total, present = _total(source, self.stream)
        return _ratio(total, present) if present else None


@dataclass(frozen=True, slots=True)
class Deviation:
    """Mean and standard deviation of a column, in two passes.

    Source: pandas, `nanops.nanvar` with ddof 1.
    """

    stream: Stream

    def measure(self, source: Source) -> Spread:
        """Return both."""
        total, present = _total(source, self.stream)
        if not present:
            return Spread(None, None)
        mean = _ratio(total, present)
        if present < 2:
            return Spread(mean, None)
        with np.errstate(invalid="ignore", over="ignore"):
            squares = tree_sum(_squares(source, self.stream, mean), _elements(source, self.stream))
        return Spread(mean, math.sqrt(_ratio(squares, present - 1)))


def _ratio(total: float, count: int) -> float:
    with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
        return float(np.float64(total) / count)


def _elements(source: Source, stream: Stream) -> int:
    return source.n_rows if stream.rows is None else int(source.scan({"elements": stream.rows.sum()})["elements"])


def _total(source: Source, stream: Stream) -> tuple[float, int]:
    """Return the sum of a column and how many values it has."""
    present = 0

    def filled() -> Iterator[Floats]:
        nonlocal present
        for values in _values(source, stream):
            present += len(values) - values.null_count()
            yield values.fill_null(0.0).to_numpy()

    return tree_sum(filled(), _elements(source, stream)), present


def _squares(source: Source, stream: Stream, mean: float) -> Iterator[Floats]:
    for values in _values(source, stream):
        squares = mean - values.fill_null(0.0).to_numpy()
        squares *= squares
        if values.null_count():
            squares[values.is_null().to_numpy()] = 0.0
        yield squares


def _values(source: Source, stream: Stream) -> Iterator[pl.Series]:
    """Yield one column as floats, in row order."""
    return source.values(stream.rows, stream.columns[0], pl.Float64)


def tree_sum(parts: Iterable[Floats], count: int, leaf: int = _LEAF) -> float:
    """Return what `numpy.sum` gives for the concatenation of `parts`, bit for bit, holding `leaf` values at most.

    Args:
        parts: each of shape (n,), contiguous; `count` values in all.
        count: how many values there are.
        leaf: how many are added by NumPy in one call, at least 128.

    Source: NumPy, pairwise summation of contiguous arrays: halves, the first a multiple of 8 long, down to 128 values.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        return _added(_taker(parts), count, leaf)


def _added(take: Callable[[int], Floats], count: int, leaf: int) -> float:
    if count <= leaf:
        return float(np.sum(take(count)))
    half = count // 2
    half -= half % 8
    first = _added(take, half, leaf)
    return float(np.float64(first) + np.float64(_added(take, count - half, leaf)))


def _taker(parts: Iterable[Floats]) -> Callable[[int], Floats]:
    """Return a function that gives the next values, any number of them, as one contiguous array."""
    source = iter(parts)
    held = np.empty(0)

    def take(length: int) -> Floats:
        nonlocal held
        pieces = [held[:length]]
        held, missing = held[length:], length - len(pieces[0])
        while missing:
            part = next(source)
            pieces.append(part[:missing])
            held, missing = part[len(pieces[-1]) :], missing - len(pieces[-1])
        return pieces[-1] if len(pieces) == 2 and not len(pieces[0]) else np.concatenate(pieces)

    return take
