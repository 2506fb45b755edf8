"""The table that a profile looks at: in memory, or read column by column where it is too large for that."""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

_BATCH_ROWS = 500_000
_NOT_PLAIN = (pl.Categorical, pl.Enum, pl.Null, pl.Decimal)

Indices = NDArray[np.int64]


class Table:
    """Columns and rows of a frame; of a lazy one no more than a column, or a batch of rows, is in memory at once."""

    def __init__(self, source: pl.DataFrame | pl.LazyFrame) -> None:
        self._frame = _plain_frame(source) if isinstance(source, pl.DataFrame) else None
        self._lazy = source.lazy() if self._frame is None else self._frame.lazy()
        self.schema = self._lazy.collect_schema()
        self.names = list(self.schema)
        self.n_rows = len(source) if isinstance(source, pl.DataFrame) else self._counted()

    @property
    def in_memory(self) -> bool:
        """True when the whole table is there anyway."""
        return self._frame is not None

    def column(self, name: str) -> pl.Series:
        """Return one column: categories as text, decimals as floats, NaN as missing."""
        if self._frame is not None:
            return self._frame[name]
        return _plain(self._lazy.select(pl.col(name)).collect().to_series())

    def columns(self, names: Sequence[str]) -> pl.DataFrame:
        """Return some columns, all rows."""
        return pl.DataFrame([self.column(name) for name in names])

    def head(self, n_rows: int) -> pl.DataFrame:
        """Return the first rows."""
        return _plain_frame(self._lazy.head(n_rows).collect())

    def rows(self, indices: Indices, names: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the rows at `indices`, in their order."""
        return pl.DataFrame([self.column(name).gather(indices) for name in names or self.names])

    def batches(self, names: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield all rows of some columns, in order."""
        chosen = self._lazy.select(names)
        for start in range(0, self.n_rows, _BATCH_ROWS):
            yield chosen.slice(start, _BATCH_ROWS).collect()

    def _counted(self) -> int:
        return int(self._lazy.select(pl.len()).collect().item())


def spread_sample(n_rows: int, size: int, seed: int = 0) -> Indices:
    """Return `size` row numbers spread evenly over `n_rows`, one at random from each stretch; all when they are few.

    Every n-th row would see one row of each pair only, where a table keeps two a game.
    """
    if n_rows <= size:
        return np.arange(n_rows)
    bounds = np.arange(size + 1) * n_rows // size
    within = np.random.default_rng(seed).random(size)
    return bounds[:-1] + (within * np.diff(bounds)).astype(np.int64)


def _plain_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame of columns as `Table.column` gives them; one that is so already is not copied."""
    floats = frame.select(cs.float().is_nan().any())
    with_nan = [column.name for column in floats.iter_columns() if column[0]]
    others = [name for name, dtype in frame.schema.items() if isinstance(dtype, _NOT_PLAIN)]
    return frame.with_columns(_plain(frame[name]) for name in (*with_nan, *others))


def _plain(column: pl.Series) -> pl.Series:
    dtype = column.dtype
    if isinstance(dtype, _NOT_PLAIN):
        return column.cast(pl.Float64 if isinstance(dtype, pl.Decimal) else pl.String)
    return column.fill_nan(None) if dtype.is_float() else column
