"""How often values occur: distinct values, repeats, the most common; exact, in bounded memory.

Values of one column of numbers or times are 64-bit keys as they are; several columns of whole numbers are packed into
one where their ranges allow. Other values are keyed by a hash, and the keys are proved to tell apart what they stand
for: keys that occur once do, and those that repeat must be as many as the distinct values behind them. Else another
hash is tried.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_server.engine.expectations.columns import WIDE, Source, Stream
from mcp_server.errors import ResourceExhaustedError

Keys = NDArray[np.int64]

_MOST_SEEDS: Final = 16
_DISTINCT_PER_PART: Final = 1_000_000
_PENDING: Final = 200_000  # distinct values of frames that are gathered before they are compared
_FEW_KEYS: Final = 10_000
_FEW_REPEATS: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Coding:
    """How a stream's values become keys.

    Attributes:
        expression: a number for each row.
        is_exact: different values surely have different keys.
    """

    expression: pl.Expr
    is_exact: bool

    def keys(self, frame: pl.DataFrame, column: str) -> Keys:
        """Return the keys of rows for which `expression` was selected as `column`."""
        values = frame[column].to_numpy()
        if values.dtype.kind == "f":
            return (values.astype(np.float64, copy=False) + 0.0).view(np.int64)  # -0.0 becomes 0.0
        return values.view(np.int64) if values.dtype.itemsize == 8 else values.astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Tallied:
    """What a tally found.

    Attributes:
        present: rows that count.
        distinct: different values among them.
        repeated: rows whose value occurs more than once.
        repeats: the keys of those values, ascending.
        coding: what the keys were made by.
        places: of a held table and keys that are hashes, where those values are among the rows that count.
    """

    present: int
    distinct: int
    repeated: int
    repeats: Keys
    coding: Coding
    stream: Stream
    places: NDArray[np.intp] | None = None

    def first(self, source: Source, columns: tuple[str, ...], count: int) -> pl.DataFrame:
        """Return number and `columns` of the first rows whose value occurs more than once."""
        shown = (source.row, *dict.fromkeys(columns))
        if self.places is not None:
            return next(source.frames(source.counted(self.stream), *shown, indexed=True))[self.places[:count]]
        found: list[pl.DataFrame] = []
        key = self.coding.expression.alias(_key_name(source))
        for frame in source.frames(source.counted(self.stream), *shown, key, indexed=True):
            rows = np.flatnonzero(_among(self.repeats, self.coding.keys(frame, _key_name(source))))[:count]
            found.append(frame.select(shown)[rows])
            if sum(len(each) for each in found) >= count:
                break
        return pl.concat(found).head(count)


@dataclass(frozen=True, slots=True)
class Tally:
    """Distinct and repeated values of a stream; of records, missing values are equal to each other."""

    stream: Stream

    def measure(self, source: Source) -> Tallied:
        """Return the counts.

        Raises:
            ResourceExhaustedError: no hash told the values apart.
        """
        for coding in _codings(self.stream, source):
            found = _tallied(self.stream, coding, source)
            if coding.is_exact or not len(found.repeats) or _tells_apart(found, source):
                return found
        raise ResourceExhaustedError(
            f"The values of {', '.join(self.stream.columns)} cannot be told apart by hashing.",
            hint="Leave this column's uniqueness out of the suite.",
        )


@dataclass(frozen=True, slots=True)
class Counted:
    """How often each value of one column occurs."""

    stream: Stream

    def measure(self, source: Source) -> list[tuple[Any, int]]:
        """Return (value, count) of all values, in no particular order."""
        return [row for part in _value_counts(self.stream, source) for row in part.iter_rows()]


@dataclass(frozen=True, slots=True)
class Modes:
    """The most common values of one column.

    Attributes:
        wanted: values to look for among them.
        shown: how many to return.
    """

    stream: Stream
    wanted: pl.Series
    shown: int

    def measure(self, source: Source) -> tuple[int, list[Any], int]:
        """Return how many values are the most common ones, the least of these, and how many of them are wanted."""
        most, ties, hits = 0, 0, 0
        least = pl.Series([], dtype=self.stream.dtypes[0])
        for part in _value_counts(self.stream, source):
            here = part[_COUNT].max()
            if not isinstance(here, int) or here < most:
                continue
            if here > most:
                most, ties, hits, least = here, 0, 0, least.clear()
            modes = part.filter(pl.col(_COUNT) == here)[_VALUE]
            ties += len(modes)
            hits += int(modes.is_in(self.wanted.implode()).sum())
            least = pl.concat([least, modes]).sort().head(self.shown)
        return ties, least.to_list(), hits


@dataclass(frozen=True, slots=True)
class Members:
    """The distinct values of one column.

    Attributes:
        shown: how many to return.
        is_rare: that any row counts is unlikely; a streamed table is then asked for that first.
    """

    stream: Stream
    shown: int
    is_rare: bool = False

    def measure(self, source: Source) -> tuple[int, list[Any]]:
        """Return how many there are, and the least of them in ascending order."""
        rows = source.counted(self.stream)
        if self.is_rare and source.streamed and rows is not None and not source.scan({"any": rows.any()})["any"]:
            return 0, []
        known = pl.Series(_VALUE, [], dtype=self.stream.dtypes[0])
        few, found = True, [known]
        for frame in source.frames(rows, self.stream.value.alias(_VALUE)):
            found.append(frame[_VALUE].unique())
            if sum(map(len, found)) < 2 * len(known) + _PENDING:
                continue
            known = pl.concat(found).unique()
            few = few and len(known) <= _DISTINCT_PER_PART
            known = known if few else known.sort().head(self.shown)
            found = [known]
        known = pl.concat(found).unique()
        n_distinct = len(known) if few else Tally(self.stream).measure(source).distinct
        return n_distinct, known.sort().head(self.shown).to_list()


_VALUE: Final = "value"
_COUNT: Final = "count"


def _key_name(source: Source) -> str:
    return f"{source.row}_key"


def _codings(stream: Stream, source: Source) -> Iterator[Coding]:
    exact = _packed(stream, source) if stream.as_records else _plain(stream)
    if exact is not None:
        yield Coding(exact, is_exact=True)
        return
    kept = (1 << source.hash_bits) - 1
    for seed in range(_MOST_SEEDS):
        hashed = stream.value.hash(seed)
        yield Coding(hashed if source.hash_bits == 64 else hashed & kept, is_exact=False)


def _plain(stream: Stream) -> pl.Expr | None:
    dtype, column = stream.dtypes[0], pl.col(stream.columns[0])
    if dtype in WIDE:
        return None
    if dtype.is_float():
        return column.cast(pl.Float64)
    if dtype == pl.UInt64:
        return column
    return column.to_physical().cast(pl.Int64) if _is_whole(dtype) else None


def _is_whole(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype.is_temporal() or dtype in (pl.Boolean, pl.Null)


def _packed(stream: Stream, source: Source) -> pl.Expr | None:
    """Return one number for a row's whole numbers, None where their ranges are too wide together; missing is 0."""
    if any(not _is_whole(dtype) or dtype in (pl.UInt64, *WIDE) for dtype in stream.dtypes):
        return None
    whole = {column: pl.col(column).to_physical().cast(pl.Int64) for column in stream.columns}
    ends = source.scan({f"{end} {c}": getattr(v, end)() for c, v in whole.items() for end in ("min", "max")})
    packed, size = pl.lit(0, dtype=pl.Int64), 1
    for column, value in whole.items():
        low, high = ends[f"min {column}"] or 0, ends[f"max {column}"] or 0
        size *= high - low + 2
        if size >= 1 << 62 or low <= -(1 << 62):
            return None
        packed = packed * (high - low + 2) + (value - low + 1).fill_null(0)
    return packed


def _among(repeats: Keys, keys: Keys) -> NDArray[np.bool_]:
    """Return which of `keys` are among `repeats`, which ascend."""
    if len(repeats) <= _FEW_REPEATS:
        return np.isin(keys, repeats)
    nearest = np.minimum(np.searchsorted(repeats, keys), len(repeats) - 1)
    among: NDArray[np.bool_] = repeats[nearest] == keys
    return among


def _tallied(stream: Stream, coding: Coding, source: Source) -> Tallied:
    total = Tallied(0, 0, 0, np.empty(0, dtype=np.int64), coding, stream)
    repeats: list[Keys] = []
    for part in range(source.parts):
        rows = _part_of(source.counted(stream), coding.expression, part, source.parts)
        key = coding.expression.alias(_key_name(source))
        frames = [coding.keys(frame, _key_name(source)) for frame in source.frames(rows, key)]
        keys = frames[0] if len(frames) == 1 else np.concatenate([total.repeats[:0], *frames])
        del frames
        distinct, repeated, values = _repeats(keys)
        if not source.streamed and not coding.is_exact and len(values):
            total = replace(total, places=np.flatnonzero(_among(values, keys)))
        repeats.append(values)
        total = replace(
            total,
            present=total.present + len(keys),
            distinct=total.distinct + distinct,
            repeated=total.repeated + repeated,
        )
    return replace(total, repeats=np.sort(np.concatenate(repeats)) if len(repeats) > 1 else repeats[0])


def _part_of(rows: pl.Expr | None, value: pl.Expr, part: int, parts: int) -> pl.Expr | None:
    """Return a mask for one of `parts` parts of the rows, equal values in the same part."""
    if parts == 1:
        return rows
    here = value.hash(_MOST_SEEDS) % parts == part
    return here if rows is None else rows & here


def _repeats(keys: Keys) -> tuple[int, int, Keys]:
    """Return distinct keys, how many keys occur more than once with their repetitions, and these, ascending."""
    if len(keys) < 2 or bool((keys[1:] > keys[:-1]).all()):
        return len(keys), 0, keys[:0]
    low, high = int(keys.min()), int(keys.max())
    if high - low < 2 * len(keys) + 65_536:
        counts = np.bincount(keys - low)
        again = np.flatnonzero(counts > 1)
        return int(np.count_nonzero(counts)), int(counts[again].sum()), again + low
    ordered = pl.Series(keys).sort().to_numpy()
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    n_same = len(again)
    if n_same:
        again = again[np.concatenate([[True], again[1:] != again[:-1]])]
    return len(keys) - n_same, n_same + len(again), again


def _tells_apart(found: Tallied, source: Source) -> bool:
    """Return True when each key stands for one value: those that repeat are as many as the values behind them."""
    stream, key = found.stream, found.coding.expression
    if found.places is not None:
        held = next(source.frames(source.counted(stream), stream.value.alias(_VALUE)))[found.places]
        return held.group_by(_VALUE).agg().height == len(found.repeats)
    if len(found.repeats) <= _FEW_KEYS:
        again = pl.Series(found.repeats.view(np.uint64))
        rows = key.is_in(again.implode()) if stream.counted is None else stream.counted & key.is_in(again.implode())
        return _distinct(source, rows, stream.value) == len(found.repeats)
    parts = max(1, -(-found.distinct // _DISTINCT_PER_PART))
    masks = (_part_of(source.counted(stream), key, part, parts) for part in range(parts))
    return sum(_distinct(source, rows, stream.value) for rows in masks) == found.distinct


def _distinct(source: Source, rows: pl.Expr | None, value: pl.Expr) -> int:
    table = source.table if rows is None else source.table.filter(rows)
    counted = table.select(value.alias(_VALUE)).group_by(_VALUE).agg().select(pl.len())
    return int(counted.collect(engine="streaming").item())


def _value_counts(stream: Stream, source: Source) -> Iterator[pl.DataFrame]:
    """Yield values and their counts; each value is in one frame only."""
    value, parts = stream.value, 1
    if source.streamed:
        parts += source.scan({"about": value.approx_n_unique()})["about"] // _DISTINCT_PER_PART
    for part in range(parts):
        rows = _part_of(source.counted(stream), value, part, parts)
        table = source.table if rows is None else source.table.filter(rows)
        counted = table.group_by(value.alias(_VALUE)).agg(pl.len().cast(pl.Int64).alias(_COUNT))
        yield counted.collect(engine="streaming")
