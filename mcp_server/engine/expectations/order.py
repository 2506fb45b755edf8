"""Order statistics (median, quantiles) without sorting: values are counted by ranges that narrow around each rank.

Exact, and in memory that does not grow with the table: each pass counts 65,536 ranges and keeps only those that hold a
rank that is asked for.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_server.engine.expectations.columns import WIDE, Source, Stream

Codes = NDArray[np.uint64]

_RANGE_BITS: Final = 16
_SIGN: Final = np.uint64(1 << 63)
_SHORT: Final = 1 << 18  # codes in one array that are partitioned at once
_HELD: Final = 1 << 16  # codes of one range that are sorted rather than narrowed further
Method = str
_MEANS: Final = {"linear", "midpoint", "median"}


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of a column of numbers; None for each without a value.

    Attributes:
        stream: one column of numbers, or of true and false.
        shares: 0 to 1.
        method: how to choose between two neighbours: nearest, linear, lower, higher, midpoint, or median (their mean).
    """

    stream: Stream
    shares: tuple[float, ...]
    method: Method = "linear"

    def measure(self, source: Source) -> list[Any]:
        """Return one value for each share, in their order.

        Source: NumPy, `quantile`: rank (n - 1) * share; of two equally near values the one at the even rank.
        """
        column = _HeldFloats if self.stream.dtypes[0].is_float() and not source.streamed else _Codes
        values = column(source, self.stream)
        count = values.count
        if not count:
            return [None] * len(self.shares)
        places = [(count - 1) * share for share in self.shares]
        ranks = sorted({rank for place in places for rank in _neighbours(place, self.method, count)})
        found = dict(zip(ranks, values.at(ranks), strict=True))
        return [_between(place, self.method, count, found) for place in places]


def _neighbours(place: float, method: Method, count: int) -> tuple[int, ...]:
    low = min(int(place), count - 1)
    high = min(low + 1, count - 1) if place > low else low
    if method == "nearest":
        return (min(round(place), count - 1),)
    return {"lower": (low,), "higher": (high,)}.get(method, (low, high))


def _between(place: float, method: Method, count: int, found: dict[int, Any]) -> Any:
    values = [found[rank] for rank in _neighbours(place, method, count)]
    low, high = values[0], values[-1]
    if len(values) == 1 or low == high:
        return float(low) if method in _MEANS else low
    if method == "median":
        return (float(low) + float(high)) / 2
    share = 0.5 if method == "midpoint" else place - int(place)
    step = high - low
    return float(low + step * share if share < 0.5 else high - step * (1 - share))


class _HeldFloats:
    """A column of floats in memory."""

    def __init__(self, source: Source, stream: Stream) -> None:
        values = next(source.values(source.counted(stream), stream.columns[0], pl.Float64))
        self._values = values.rechunk()  # a selection needs one chunk
        self.count = len(self._values)

    def at(self, ranks: list[int]) -> list[float]:
        """Return the values at `ranks`, counted from 0 in ascending order."""
        last = self.count - 1
        # The rank is the whole part of share * last; half a rank more keeps it safe from rounding.
        shares = [(rank + 0.5) / last if rank < last else 1.0 for rank in ranks]
        found = [self._values.quantile(share, interpolation="lower") for share in shares]
        return [math.nan if value is None else value + 0.0 for value in found]  # -0.0 becomes 0.0


class _Codes:
    """A column's values as whole numbers of the same order."""

    def __init__(self, source: Source, stream: Stream) -> None:
        self._source = source
        self._stream = stream
        self._is_float = stream.dtypes[0].is_float() or stream.dtypes[0] in WIDE
        self._is_unsigned = stream.dtypes[0] == pl.UInt64
        self.passes: Callable[[], Iterator[Codes]] = self._read
        if source.parts == 1:
            held = list(self._read())
            self.passes = lambda: iter(held)
            self.count = sum(len(part) for part in held)
        else:
            self.count = sum(len(part) for part in self._read())

    def _read(self) -> Iterator[Codes]:
        kind = pl.Float64 if self._is_float else pl.UInt64 if self._is_unsigned else pl.Int64
        rows = self._source.counted(self._stream)
        for values in self._source.values(rows, self._stream.columns[0], kind):
            yield self._encode(values.to_numpy())

    def _encode(self, values: NDArray[Any]) -> Codes:
        if self._is_unsigned:
            return values.astype(np.uint64, copy=False)
        if not self._is_float:
            return values.view(np.uint64) ^ _SIGN
        bits = values.view(np.int64)
        flipped = bits >> 63  # of negative numbers all bits, of others the sign
        flipped |= np.int64(-(2**63))
        flipped ^= bits
        return flipped.view(np.uint64)

    def at(self, ranks: list[int]) -> list[int] | list[float]:
        """Return the values at `ranks`, counted from 0 in ascending order."""
        return self._decode(ranked(self.passes, ranks))

    def _decode(self, codes: Sequence[int]) -> list[int] | list[float]:
        if self._is_unsigned:
            return list(codes)
        signed = [code - (1 << 63) for code in codes]
        if not self._is_float:
            return signed
        bits = np.array(signed, dtype=np.int64)
        values = (bits ^ ((bits >> 63) & np.int64(2**63 - 1))).view(np.float64)
        return [float(value) for value in values + 0.0]  # -0.0 becomes 0.0


def ranked(passes: Callable[[], Iterator[Codes]], ranks: list[int], held: int = _HELD) -> list[int]:
    """Return the codes at `ranks`, counted from 0, of all codes in ascending order.

    Args:
        passes: gives all codes again on each call, in parts.
        ranks: ascending, each below the number of codes.
        held: how many codes of one range are sorted rather than narrowed further.
    """
    short = [part for part in islice(passes(), 2) if len(part)]
    if len(short) == 1 and len(short[0]) <= _SHORT:
        return [int(code) for code in np.partition(short[0], ranks)[ranks]]
    ends = [(int(part.min()), int(part.max())) for part in passes() if len(part)]
    whole = _Range(min(low for low, _ in ends), max(high for _, high in ends), 0, tuple(ranks))
    found: dict[int, int] = {}
    ranges, first = [whole], True
    while ranges:
        parts = [part for each in _counted(passes, ranges, whole=first) for part in each]
        first = False
        found.update({rank: each.low for each, _ in parts for rank in each.ranks if each.low == each.high})
        open_parts = [(each, count) for each, count in parts if each.low < each.high]
        found.update(_sorted(passes, [each for each, count in open_parts if count <= held]))
        ranges = [each for each, count in open_parts if count > held]
    return [found[rank] for rank in ranks]


class _Range(NamedTuple):
    """Codes from `low` to `high`, `below` codes less than them, and the ranks that lie among them."""

    low: int
    high: int
    below: int
    ranks: tuple[int, ...]

    def inside(self, codes: Codes) -> Codes:
        """Return those of `codes` that lie in the range."""
        return codes[(codes >= self.low) & (codes <= self.high)]


def _sorted(passes: Callable[[], Iterator[Codes]], ranges: Sequence[_Range]) -> dict[int, int]:
    """Return the codes at the ranks of small ranges, from one pass."""
    if not ranges:
        return {}
    held: list[list[Codes]] = [[] for _ in ranges]
    for part in passes():
        for codes, each in zip(held, ranges, strict=True):
            codes.append(each.inside(part))
    found: dict[int, int] = {}
    for codes, each in zip(held, ranges, strict=True):
        ascending = np.sort(np.concatenate(codes))
        found.update({rank: int(ascending[rank - each.below]) for rank in each.ranks})
    return found


def _counted(
    passes: Callable[[], Iterator[Codes]], ranges: Sequence[_Range], *, whole: bool
) -> Iterator[list[tuple[_Range, int]]]:
    """Yield, for each range, those of its equal parts that hold a rank, with their counts; from one pass."""
    widths = [max((each.high - each.low).bit_length() - _RANGE_BITS, 0) for each in ranges]
    sizes = [((each.high - each.low) >> width) + 1 for each, width in zip(ranges, widths, strict=True)]
    counts = [np.zeros(size, dtype=np.int64) for size in sizes]
    for part in passes():
        for index, (each, width) in enumerate(zip(ranges, widths, strict=True)):
            places = (part if whole else each.inside(part)) - np.uint64(each.low)
            places >>= np.uint64(width)
            counts[index] += np.bincount(places.view(np.int64), minlength=sizes[index])
    for each, count, width in zip(ranges, counts, widths, strict=True):
        yield _parts(each, count, width)


def _parts(whole: _Range, counts: NDArray[np.int64], width: int) -> list[tuple[_Range, int]]:
    edges = whole.below + np.concatenate([[0], np.cumsum(counts)])
    found: list[tuple[_Range, int]] = []
    for place, group in groupby(whole.ranks, key=lambda rank: int(np.searchsorted(edges, rank, side="right")) - 1):
        low = whole.low + (place << width)
        high = min(whole.high, low + (1 << width) - 1)
        found.append((_Range(low, high, int(edges[place]), tuple(group)), int(counts[place])))
    return found
