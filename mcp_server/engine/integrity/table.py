"""A table whose integrity is checked, and how its rows are grouped by keys without all keys in memory at once.

Rows are told apart by a hash of their key, and worked on in as many parts as keep each within a fixed room: equal keys
have equal hashes, so a part holds all rows of its keys, and counts over the parts add up exactly.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, Literal

import numpy as np
import polars as pl

from mcp_server.engine.expectations.evaluation import judgeable
from mcp_server.engine.expectations.literals import CannotEvaluateError, plain, unused_name, words_for
from mcp_server.errors import InvalidArgumentError, shown

MAX_EXAMPLES: Final = 20
MAX_EXAMPLE_ROWS: Final = 5
ROOM_BYTES: Final = 192 * 1024**2  # what one part of a pass may hold, about
_GROUP_BYTES: Final = 64  # a group's own, beside its key
_TEXT_BYTES: Final = 40
_HASH_BYTES: Final = 24  # a hash, its copy to sort, and room to sort it
_MAX_ROWS_SHOWN: Final = 4_000_000  # rows of example groups whose numbers are looked up
_SEED: Final = 20_150_616

Kind = Literal[
    "primary_key_missing",
    "primary_key_duplicate",
    "foreign_key",
    "rule",
    "sum",
    "functional_dependency",
    "ordered",
    "gaps",
    "near_duplicates",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one check.

    Attributes:
        violations: rows that break it; for gaps the number of gaps.
        checked: rows (for gaps: steps) that were judged; `not_judged` lack a value, which `message` explains.
        groups: distinct keys or groups among the violations, where there are such.
        examples: at most 20, with row numbers from 0.
    """

    kind: Kind
    target: str
    violations: int
    checked: int
    not_judged: int
    message: str
    examples: tuple[dict[str, Any], ...] = ()
    groups: int | None = None

    @property
    def success(self) -> bool:
        """True when nothing breaks it."""
        return self.violations == 0


def _nothing() -> None:
    """Do nothing: nobody wants to stop the work."""


@dataclass(frozen=True, slots=True)
class Table:
    """A frame with its types and size.

    Attributes:
        name: what messages call it.
        frame: NaN missing, decimals as floats, categories as text.
        tick: called between passes; raises to stop the work.
        room_bytes: memory that one part of a pass may hold, about.
    """

    name: str
    frame: pl.LazyFrame
    schema: pl.Schema
    n_rows: int
    tick: Callable[[], None] = field(default=_nothing)
    room_bytes: int = ROOM_BYTES

    @classmethod
    def of(
        cls, name: str, frame: pl.LazyFrame, tick: Callable[[], None] = _nothing, room_bytes: int = ROOM_BYTES
    ) -> "Table":
        """Return the table of a frame."""
        changed = judgeable(frame)
        n_rows = int(frame.select(pl.len()).collect().item())
        return cls(name, changed, changed.collect_schema(), n_rows, tick, room_bytes)

    def require(self, columns: Iterable[str]) -> None:
        """Raise InvalidArgumentError, with near names, unless all of `columns` exist."""
        for column in columns:
            if column not in self.schema:
                near = ", ".join(
                    shown(name) for name in get_close_matches(column, self.schema.names(), n=3, cutoff=0.5)
                )
                raise InvalidArgumentError(
                    f"{self.name} has no column {shown(column)}.",
                    hint=f"Close names: {near}." if near else "describe_dataset lists the columns.",
                    details={"column": column[:200]},
                )

    def require_key(self, columns: Sequence[str]) -> None:
        """Raise InvalidArgumentError unless `columns` exist, are distinct, and hold values that can be grouped by."""
        self.require(columns)
        if not columns:
            raise InvalidArgumentError("A list of columns is empty.", hint="Name at least one column.")
        if len(set(columns)) < len(columns):
            raise InvalidArgumentError(f"A column is named twice in {shown(list(columns))}.", hint="Name each once.")
        for column in columns:
            dtype = self.schema[column]
            if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
                raise InvalidArgumentError(
                    f"Column {shown(column)} of {self.name} holds {words_for(dtype)} and cannot be compared.",
                    hint="Choose columns of numbers, text or dates.",
                )

    def width(self, key: Sequence[str]) -> int:
        """Return the bytes that a group of `key` takes in memory, about."""
        return sum(_TEXT_BYTES if self.schema[name] == pl.String else 8 for name in key) + _GROUP_BYTES

    def n_parts(self, key: Sequence[str], n_rows: int | None = None) -> int:
        """Return into how many parts a pass over `key` is split, so that each keeps within the room."""
        return max(1, -(-(self.n_rows if n_rows is None else n_rows) * self.width(key) // self.room_bytes))


@contextmanager
def argument(place: str) -> Iterator[None]:
    """Put the place of an argument, such as `rules[2]`, before what is wrong with it."""
    try:
        yield
    except InvalidArgumentError as refusal:
        raise InvalidArgumentError(
            f"{place}: {refusal.message}", hint=refusal.hint, details={**refusal.details, "argument": place}
        ) from None
    except CannotEvaluateError as reason:
        raise InvalidArgumentError(
            f"{place} cannot be checked: {reason}",
            hint="Compare numbers with numbers, text with text, and dates with dates such as 2024-01-31.",
            details={"argument": place},
        ) from None


def key_hash(columns: Sequence[str]) -> pl.Expr:
    """Return 64 bits for each row, equal where the columns are equal; missing values equal each other."""
    whole = pl.col(columns[0]) if len(columns) == 1 else pl.struct(columns)
    return whole.hash(_SEED)


def part_of(frame: pl.LazyFrame, columns: Sequence[str], part: int, n_parts: int) -> pl.LazyFrame:
    """Return the rows of `frame` whose key falls into one of `n_parts` parts."""
    return frame if n_parts == 1 else frame.filter(key_hash(columns) % n_parts == part)


@dataclass(slots=True)
class Groups:
    """Groups of rows gathered part by part: how many there are, how many rows they have, and the largest."""

    key: tuple[str, ...]
    count: str
    n_rows: int = 0
    n_groups: int = 0
    top: pl.DataFrame | None = None

    def add(self, found: pl.DataFrame) -> None:
        """Add the groups of one part: the key's columns, the count, and whatever else examples need."""
        self.n_rows += int(found[self.count].sum())
        self.n_groups += found.height
        best = found if self.top is None else pl.concat([self.top, found])
        self.top = best.sort([self.count, *self.key], descending=[True, *[False] * len(self.key)]).head(MAX_EXAMPLES)


def repeated(table: Table, key: Sequence[str], *, missing_equal: bool) -> Groups:
    """Return the groups of rows that agree in `key`, those with a missing part left out unless `missing_equal`.

    Two steps: hashes that occur twice (8 bytes a row, whatever the key), then the rows that have them, exactly.
    """
    rows = table.frame.select(key)
    rows = rows if missing_equal else rows.drop_nulls()
    hashed, count = unused_name("hash", key), unused_name("rows", key)
    found = Groups(tuple(key), count)
    at_a_time = max(1, table.room_bytes // table.width(key))
    n_parts = max(1, -(-table.n_rows * _HASH_BYTES // table.room_bytes))
    for part in range(n_parts):
        table.tick()
        hashes = rows.select(key_hash(key).alias(hashed))
        if n_parts > 1:
            hashes = hashes.filter(pl.col(hashed) % n_parts == part)
        twice = occurring_twice(hashes.collect(engine="streaming").to_series())
        for start in range(0, len(twice), at_a_time):
            table.tick()
            chosen = pl.LazyFrame({hashed: twice[start : start + at_a_time]})
            groups = (
                rows.with_columns(key_hash(key).alias(hashed))
                .join(chosen, on=hashed, how="semi")
                .group_by(list(key))
                .agg(pl.len().alias(count))
                .filter(pl.col(count) > 1)
            )
            found.add(groups.collect(engine="streaming"))
    return found


def occurring_twice(hashes: pl.Series) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    """Return the values that occur more than once, each once, in order."""
    values = hashes.to_numpy().copy()
    del hashes
    values.sort()
    return np.unique(values[1:][values[1:] == values[:-1]])


def rows_of(table: Table, top: pl.DataFrame, key: Sequence[str], *, missing_equal: bool) -> list[list[int]]:
    """Return the first row numbers of each group of `top`, at most 5 a group."""
    group, row = unused_name("group", key), unused_name("row", table.schema)
    chosen = top.select(key).with_row_index(group)
    found = (
        table.frame.with_row_index(row)
        .select(row, *key)
        .join(chosen.lazy(), on=list(key), how="inner", nulls_equal=missing_equal)
        .select(group, row)
        .head(_MAX_ROWS_SHOWN)
        .collect(engine="streaming")
        .sort(group, row)
    )
    firsts = dict(found.group_by(group).agg(pl.col(row).head(MAX_EXAMPLE_ROWS)).iter_rows())
    return [firsts.get(index, []) for index in range(top.height)]


def records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain JSON objects."""
    return [{name: plain(value) for name, value in record.items()} for record in frame.to_dicts()]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, plural where it is not one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
