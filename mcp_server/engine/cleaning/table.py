"""The table that a cleaning step meets: lazy, with the number that each row has in the input beside it.

A small table is held in memory between steps. A large one stays a plan over its file, so that a step that needs a few
figures reads a few columns, and what needs rows reads them in batches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_server.errors import InvalidArgumentError

ROW = "\x00row"  # no name that a person or a program would give
_CELLS_IN_MEMORY = 40_000_000
_CELLS_IN_BATCH = 4_000_000
_FEWEST_ROWS = 50_000

Frames = Callable[[pl.LazyFrame], pl.LazyFrame]


def _no_pulse() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Table:
    """A table on its way through the steps.

    Attributes:
        source: the input, as it was.
        done: what was done to it so far, in order; rows are numbered before the first.
        lazy: the outcome of that, with the column `ROW`.
        schema: its columns without `ROW`.
        n_source: rows of the input.
        n_rows: rows that are left.
        pulse: to be called every second or so by what takes long; it raises when the work is to end.
    """

    source: pl.LazyFrame
    done: tuple[Frames, ...]
    lazy: pl.LazyFrame
    schema: Mapping[str, pl.DataType]
    n_source: int
    n_rows: int
    pulse: Callable[[], None]

    @property
    def is_small(self) -> bool:
        """True when it is held in memory."""
        return self.n_source * (len(self.schema) + 1) <= _CELLS_IN_MEMORY

    def after(self, step: Frames, *, removes_rows: bool) -> "Table":
        """Return the table after one more step."""
        lazy = step(self.lazy)
        if self.is_small:
            lazy = lazy.collect().lazy()
        schema = {name: dtype for name, dtype in lazy.collect_schema().items() if name != ROW}
        n_rows = int(lazy.select(pl.len()).collect().item()) if removes_rows else self.n_rows
        return replace(self, done=(*self.done, step), lazy=lazy, schema=schema, n_rows=n_rows)

    def column(self, name: str) -> pl.Series:
        """Return one column in memory."""
        return self.lazy.select(name).collect(engine="streaming").to_series()

    def figures(self, expressions: Sequence[pl.Expr], of: Sequence[pl.Expr] = ()) -> Mapping[str, object]:
        """Return figures that one pass finds, by their names; `of`, where given, are worked out before, once each."""
        lazy = self.lazy.select(of) if of else self.lazy
        return lazy.select(expressions).collect(engine="streaming").row(0, named=True)

    def sample(self, names: Sequence[str], most: int, seed: int) -> pl.DataFrame:
        """Return the columns `names` of all rows, or of about `most` random ones, in their order."""
        lazy = self.lazy.select(ROW, *names)
        if self.n_rows > most:
            chosen = chosen_rows(self.n_source, int(most * self.n_source / self.n_rows), seed)
            lazy = lazy.filter(_is_among(chosen))
        return lazy.drop(ROW).collect(engine="streaming")

    def batches(self, names: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield `ROW` and the columns `names`, a batch of rows at a time."""
        if self.is_small:
            yield self.lazy.select(ROW, *names).collect()
            return
        for batch in batches_of(self.source, self.n_source, len(self.schema)):
            lazy = batch.lazy()
            for step in self.done:
                lazy = step(lazy)
            yield lazy.select(ROW, *names).collect()


def open_table(frame: pl.DataFrame | pl.LazyFrame, pulse: Callable[[], None] = _no_pulse) -> Table:
    """Return the table that the first step meets; its rows are numbered from 0.

    Raises:
        InvalidArgumentError: it has no rows or no columns.
    """
    source = frame.lazy()
    schema = dict(source.collect_schema())
    n_rows = int(source.select(pl.len()).collect().item()) if schema else 0
    if not n_rows or ROW in schema:
        raise InvalidArgumentError(
            "There is nothing to clean: no rows, or no columns of plain names.", hint="Import data first."
        )
    table = Table(source, (), source.with_row_index(ROW), schema, n_rows, n_rows, pulse)
    if not table.is_small:
        return table
    held = source.collect().lazy()
    return replace(table, source=held, lazy=held.with_row_index(ROW))


def batches_of(source: pl.LazyFrame, n_rows: int, n_columns: int) -> Iterator[pl.DataFrame]:
    """Yield the rows of `source` with their numbers, as many at a time as a few hundred megabytes hold."""
    size = n_rows if n_rows * n_columns <= _CELLS_IN_BATCH else max(_FEWEST_ROWS, _CELLS_IN_BATCH // n_columns)
    for start in range(0, n_rows, size):
        yield source.slice(start, size).collect().with_row_index(ROW, offset=start)


def chosen_rows(n_rows: int, n_chosen: int, seed: int) -> NDArray[np.int64]:
    """Return `n_chosen` random row numbers below `n_rows`, in order."""
    chosen = np.random.default_rng(seed).choice(n_rows, min(n_chosen, n_rows), replace=False)
    return np.sort(chosen).astype(np.int64)


def _is_among(rows: NDArray[np.int64]) -> pl.Expr:
    return row_mask(lambda numbers: positions(rows, numbers) >= 0)


def row_mask(judge: Callable[[NDArray[np.int64]], NDArray[np.bool_]]) -> pl.Expr:
    """Return a truth value for each row, told from its number."""
    return pl.col(ROW).map_batches(
        lambda numbers: pl.Series(judge(numbers.to_numpy().astype(np.int64))),
        return_dtype=pl.Boolean,
        is_elementwise=True,
    )


def positions(rows: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each of `wanted` stands in the ascending `rows`; −1 where it is not among them."""
    if not len(rows):
        return np.full(len(wanted), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    found: NDArray[np.int64] = np.where(rows[at] == wanted, at, -1).astype(np.int64)
    return found
