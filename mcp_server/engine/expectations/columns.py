"""A table as the checks read it: held in memory, or streamed a few columns at a time when it is large.

Both ways give the same frames in the same row order, so a figure does not depend on which one was chosen.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Final, Literal, Protocol, TypeVar

import polars as pl

from mcp_server.engine.expectations.literals import unused_name

T = TypeVar("T")

MAX_VALUES_HELD: Final = 24_000_000
"""Values of 8 bytes that a streamed table's figures hold at once; beyond it they take several passes."""
WIDE: Final = (pl.Int128, pl.UInt128)
"""Types that no key of 64 bits holds."""
_HASH_BITS: Final = 64
_SECONDS_BETWEEN_WORDS: Final = 0.25
_MEASURES_PER_SCAN: Final = 120
_PARTS_READ: Final = 4
_PARQUET: Final = re.compile(r"\A(?:\s*WITH_COLUMNS:\s*\[.*\]\s*)?\s*Parquet SCAN", re.DOTALL)


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """The values that one figure is taken from, in row order.

    Attributes:
        columns: one, or several whose values belong together.
        dtypes: their types.
        rows: true for the rows that count; None means all.
        as_records: a row is looked at even where values are missing.
    """

    columns: tuple[str, ...]
    dtypes: tuple[pl.DataType, ...]
    rows: pl.Expr | None = None
    as_records: bool = False

    @property
    def value(self) -> pl.Expr:
        """What is compared from row to row."""
        return pl.struct(self.columns) if self.as_records else pl.col(self.columns[0])

    @property
    def counted(self) -> pl.Expr | None:
        """True for the rows whose values are looked at; None means all."""
        if self.as_records:
            return self.rows
        present = pl.col(self.columns[0]).is_not_null()
        return present if self.rows is None else self.rows & present


class Source:
    """The rows of one table.

    Args:
        table: any number of rows; NaN already missing.
        n_rows: how many.
        streamed: read it again for each figure instead of holding it; memory then does not grow with the table.
        columns: those to hold when it is not streamed.
        progress: told now and then which share of the figures is taken, 0 to 1, while the table is streamed; what it
            raises ends the work.
        most_values: how many values of 8 bytes one figure may hold when it is streamed.
        hash_bits: how much of a hash is used to tell values apart; fewer make collisions likely, for tests.
    """

    def __init__(
        self,
        table: pl.LazyFrame,
        n_rows: int,
        *,
        streamed: bool,
        columns: Sequence[str] = (),
        progress: Callable[[float], None] | None = None,
        most_values: int = MAX_VALUES_HELD,
        hash_bits: int = _HASH_BITS,
    ) -> None:
        self.schema = table.collect_schema()
        self.n_rows = n_rows
        self.streamed = streamed
        self.row = unused_name("row", self.schema)
        self.hash_bits = hash_bits
        self._scanned = table
        self._reading = None if streamed else _reading(table, columns)
        self._most_values = most_values
        self._progress = progress
        self._share, self._told = 0.0, 0.0

    @property
    def parts(self) -> int:
        """Into how many parts a whole column has to be cut to be held."""
        return max(1, -(-self.n_rows // self._most_values)) if self.streamed else 1

    @property
    def table(self) -> pl.LazyFrame:
        """All rows."""
        return self._scanned if self._frame is None else self._frame.lazy()

    @cached_property
    def _frame(self) -> pl.DataFrame | None:
        """The columns that are held, once they are read."""
        return self._reading and self._reading()

    @property
    def indexed(self) -> pl.LazyFrame:
        """All rows with their numbers, from 0, in the column `row`."""
        return self.table.with_row_index(self.row)

    def frames(self, rows: pl.Expr | None, *select: pl.Expr | str, indexed: bool = False) -> Iterator[pl.DataFrame]:
        """Yield the rows in order, in few frames; a caller may stop early.

        Args:
            rows: true for the rows to yield; None means all.
            select: what to show of them.
            indexed: the row's number is there to select.
        """
        table = self.indexed if indexed else self.table
        query = (table if rows is None else table.filter(rows)).select(select)
        if self.streamed:
            for frame in query.collect_batches(maintain_order=True):
                self.tell(self._share)
                yield frame
        else:
            yield query.collect()

    def values(self, rows: pl.Expr | None, column: str, dtype: pl.DataType | type[pl.DataType]) -> Iterator[pl.Series]:
        """Yield one column as `dtype`, in row order, in few pieces; `rows` as for `frames`."""
        if self._frame is not None and rows is None:  # a query of its own would take longer than the cast
            yield self._frame.get_column(column).cast(dtype)
            return
        for frame in self.frames(rows, pl.col(column).cast(dtype)):
            yield frame.to_series()

    def counted(self, stream: Stream) -> pl.Expr | None:
        """Return what `stream.counted` is, None also where a held column has no gap."""
        whole = stream.rows is None and self._frame is not None and not self._frame[stream.columns[0]].null_count()
        return None if whole else stream.counted

    def missing(self, columns: Sequence[str]) -> dict[str, int]:
        """Return how many values each of `columns` lacks."""
        if self._frame is not None and columns:
            return {name: self._frame[name].null_count() for name in columns}
        return self.scan({name: pl.col(name).null_count() for name in columns})

    def tell(self, share: float) -> None:
        """Pass on which share of the figures is taken, at most a few times a second."""
        self._share = share
        if self._progress is not None and time.monotonic() - self._told > _SECONDS_BETWEEN_WORDS:
            self._told = time.monotonic()
            self._progress(share)

    def first(self, rows: pl.Expr, columns: Iterable[str], count: int) -> pl.LazyFrame:
        """Return a query for the first rows that fulfil `rows`: their numbers and `columns`."""
        return self.indexed.filter(rows).select(self.row, *dict.fromkeys(columns)).head(count)

    def scan(self, measures: Mapping[str, pl.Expr]) -> dict[str, Any]:
        """Return the value of every aggregate, from one fused scan."""
        # In memory the aggregates share the threads; a stream gives a frame of few rows to one thread whole.
        return scan(self.table, measures, engine="streaming" if self.streamed else "in-memory")

    def collect(self, queries: Sequence[pl.LazyFrame]) -> list[pl.DataFrame]:
        """Return the results of queries on `table`, which may not be larger than a few columns."""
        return pl.collect_all(queries, engine="streaming" if self.streamed else "in-memory")


def _reading(table: pl.LazyFrame, columns: Sequence[str]) -> Callable[[], pl.DataFrame]:
    """Start to read `columns`, and return what waits for them.

    Those of a Parquet file are read in parts, two at once, as one thread reads a row group.
    """
    n_parts = min(_PARTS_READ, len(columns)) if _is_parquet(table) else 1
    parts = [table.select(columns[start::n_parts]) for start in range(n_parts)]
    pool = ThreadPoolExecutor(2)
    frames = [pool.submit(part.collect, engine="in-memory" if n_parts > 1 else "streaming") for part in parts]
    pool.shutdown(wait=False)
    return lambda: pl.concat([frame.result() for frame in frames], how="horizontal")


def _is_parquet(table: pl.LazyFrame) -> bool:
    """Return True when reading the table twice costs no more than reading its columns once."""
    return _PARQUET.search(table.explain(optimized=False)) is not None


class Figure(Protocol):
    """A figure that takes passes of its own over a few columns."""

    def measure(self, source: Source) -> Any:
        """Return the figure."""
        ...


def scan(
    table: pl.LazyFrame, measures: Mapping[str, pl.Expr], *, engine: Literal["streaming", "in-memory"] = "streaming"
) -> dict[str, Any]:
    """Return the value of every measure, from one fused scan.

    Beyond some hundred measures it takes several scans, each of which reads only the columns it needs: the time to
    plan a scan grows with the square of its expressions.
    """
    measured: dict[str, Any] = {}
    for batch in batched(measures.items(), _MEASURES_PER_SCAN):
        row = table.select(**dict(batch)).collect(engine=engine)
        measured.update(row.row(0, named=True))
    return measured


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Yield `items` in tuples of `size`, the last one shorter."""
    source = iter(items)
    while batch := tuple(islice(source, size)):
        yield batch
