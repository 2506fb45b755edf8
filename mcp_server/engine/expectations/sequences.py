"""Whether a column rises or falls from row to row."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_server.engine.expectations.columns import WIDE, Source, Stream


@dataclass(frozen=True, slots=True, eq=False)
class Broken:
    """The rows at which an order breaks.

    Attributes:
        count: how many.
        first: number and value of the first of them.
    """

    count: int
    first: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Steps:
    """The rows of one column whose value does not follow the one before it; missing values are passed over.

    Attributes:
        direction: how the values should go.
        strictly: equal values break the order too.
        shown: how many of the rows to return.
    """

    stream: Stream
    direction: Literal["up", "down"]
    strictly: bool
    shown: int

    def measure(self, source: Source) -> Broken:
        """Return the rows that break the order."""
        column = self.stream.columns[0]
        count, before = 0, None
        found: list[pl.DataFrame] = []
        for frame in source.frames(source.counted(self.stream), source.row, column, indexed=True):
            if not frame.height:
                continue
            physical = frame[column].to_physical()
            kind = pl.Int8 if physical.dtype == pl.Boolean else pl.Float64 if physical.dtype in WIDE else physical.dtype
            values = physical.cast(kind).to_numpy()
            breaks = self._breaks(values if before is None else np.concatenate([before, values]))
            if before is None:
                breaks = np.concatenate([[False], breaks])
            before = values[-1:]
            count += int(np.count_nonzero(breaks))
            found.append(frame[np.flatnonzero(breaks)[: self.shown]])
        empty = pl.DataFrame(schema={source.row: pl.get_index_type(), column: self.stream.dtypes[0]})
        return Broken(count, pl.concat([empty, *(each for each in found if each.height)]).head(self.shown))

    def _breaks(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        now, before = values[1:], values[:-1]
        wrong: NDArray[np.bool_] = now < before if self.direction == "up" else now > before
        if self.strictly:
            wrong |= (now == before) & np.isfinite(now)  # infinity less infinity is no number, and passes
        return wrong
