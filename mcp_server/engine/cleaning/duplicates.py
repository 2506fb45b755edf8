"""Rows that repeat others, found exactly and in bounded memory."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_server.engine.cleaning.steps import Removal
from mcp_server.engine.cleaning.table import ROW, Table, positions, row_mask

_CELLS_AT_ONCE = 40_000_000


def duplicate_removal(table: Table, names: Sequence[str], keep: str) -> Removal:
    """Return the removal of rows that repeat another in the columns `names`; missing cells are equal to each other.

    Args:
        keep: `first` or `last` of equal rows, or `none` of them.
    """
    dropped, kept = find_duplicates(table, names, keep)

    def stays(numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        return positions(dropped, numbers) < 0

    def other(numbers: pl.Series) -> pl.Series:
        return pl.Series(kept[positions(dropped, numbers.to_numpy().astype(np.int64))])

    same = pl.col(ROW).map_batches(other, return_dtype=pl.Int64, is_elementwise=True)
    where = "" if len(names) == len(table.schema) else f" in {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
    return Removal(row_mask(stays), pl.concat_str(pl.lit("equals row "), same, pl.lit(where)))


def find_duplicates(table: Table, names: Sequence[str], keep: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows to be dropped, ascending, and for each a row that equals it.

    A hash of each row says which may have an equal; those alone are compared, in as many parts as memory asks for.
    """
    numbers, hashes = [], []
    for batch in table.batches(names):
        numbers.append(batch[ROW].to_numpy())
        hashes.append(batch.select(pl.struct(names).hash(0)).to_series())
    rows, hashed = np.concatenate(numbers), pl.concat(hashes, rechunk=True)
    may = hashed.is_duplicated().to_numpy()
    n_parts = 1 + int(may.sum()) * (len(names) + 1) // _CELLS_AT_ONCE
    part = (hashed % n_parts).to_numpy()
    found = [_compared(table, names, keep, rows[may & (part == i)]) for i in range(n_parts) if may.any()]
    if not found:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    dropped, kept = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.argsort(dropped)
    return dropped[order], kept[order]


def _compared(
    table: Table, names: Sequence[str], keep: str, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Compare the rows `rows` with each other."""
    of_interest = rows.astype(np.int64)
    keep_these = row_mask(lambda numbers: positions(of_interest, numbers) >= 0)
    chosen = pl.concat([batch.lazy().filter(keep_these).collect() for batch in table.batches(names)])
    row = pl.col(ROW).cast(pl.Int64)
    first, last, size = row.min().over(names), row.max().over(names), pl.len().over(names)
    groups = chosen.select(row.alias("row"), first.alias("first"), last.alias("last"), size.alias("n"))
    groups = groups.filter(pl.col("n") > 1)
    if keep == "first":
        other = pl.col("first")
    elif keep == "last":
        other = pl.col("last")
    else:
        other = pl.when(pl.col("row") == pl.col("first")).then("last").otherwise("first")
    found = groups.select("row", other.alias("other")).filter(pl.col("row") != pl.col("other"))
    return found["row"].to_numpy(), found["other"].to_numpy()
