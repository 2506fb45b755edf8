"""Datasets as Parquet files with one spelling: equal content gives equal bytes, however it was chunked before.

A value that is missing is null and never NaN: Polars, DuckDB and pandas each treat NaN in a way of their own.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from mcp_server.errors import InvalidArgumentError, ResourceExhaustedError, shown

# The spelling of a file. A change makes files of new bytes, so equal content would count as a new version once.
_ROWS_PER_GROUP = 122_880
_COMPRESSION_LEVEL = 3
_FULL_DISK = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


@dataclass(frozen=True, slots=True)
class Column:
    """One column as a dataset's record keeps it: `dtype` in Polars' words, `nullable` when a value is missing."""

    name: str
    dtype: str
    nullable: bool

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"name": self.name, "dtype": self.dtype, "nullable": self.nullable}


def write_parquet(frame: pl.DataFrame | pl.LazyFrame, path: Path) -> None:
    """Write `frame` to `path` in the one spelling; a lazy frame is streamed.

    Raises:
        InvalidArgumentError: a column holds lists, structs, bytes or objects (datasets are plain tables), or whole
            numbers beyond 64 bits.
        ResourceExhaustedError: the disk is full.
    """
    lazy = frame.lazy()
    plain = lazy.select(_plain(name, dtype) for name, dtype in lazy.collect_schema().items())
    with full_disk_explained():
        try:
            plain.sink_parquet(
                path,
                compression="zstd",
                compression_level=_COMPRESSION_LEVEL,
                row_group_size=_ROWS_PER_GROUP,
                statistics=True,
                maintain_order=True,
            )
        except pl.exceptions.InvalidOperationError as refusal:
            raise _not_fitting(refusal) from refusal


def plain_schema(schema: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    """Return the types that a dataset keeps columns of these types in.

    Raises:
        InvalidArgumentError: a column holds what no plain table has.
    """
    lazy = pl.LazyFrame(schema=dict(schema))
    return dict(lazy.select(_plain(name, dtype) for name, dtype in schema.items()).collect_schema())


def as_type(frame: pl.DataFrame, wanted: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return the columns `wanted` of a frame, in that order and of those types, missing values spelled as null.

    Raises:
        InvalidArgumentError: a value does not fit its type.
    """
    plain = [_plain(name, frame.schema[name]) for name in wanted]
    try:
        return frame.select(plain).cast(pl.Schema(wanted))
    except pl.exceptions.InvalidOperationError as refusal:
        raise _not_fitting(refusal) from refusal


def _not_fitting(refusal: Exception) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"A value does not fit a dataset's types: {shown(str(refusal), 200)}.",
        hint="Whole numbers reach 64 bits; keep longer ones as text.",
    )


def write_batches(frames: Iterable[pl.DataFrame], schema: Mapping[str, pl.DataType], path: Path) -> None:
    """Write frames of one schema to `path`, one after the other, in the one spelling; only a few are held at once.

    Raises:
        As `write_parquet`; what `frames` itself raises comes out as it is.
    """
    from polars.io.plugins import register_io_source

    failures: list[Exception] = []

    def batches(
        _columns: list[str] | None, _predicate: pl.Expr | None, _n_rows: int | None, _batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        try:
            yield from frames
        except Exception as failure:  # why: the engine would wrap it; it is raised again below
            failures.append(failure)
            raise

    try:
        write_parquet(register_io_source(batches, schema=dict(schema)), path)
    except Exception as failure:  # why: whatever the engine makes of a failure of `frames`
        if failures and failures[0] is not failure:
            raise failures[0] from None
        raise


@contextmanager
def full_disk_explained() -> Iterator[None]:
    """Turn what Polars says of a full disk (in words only, without the error's number) into our error."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as refusal:
        if any(words in str(refusal) for words in _FULL_DISK):
            raise ResourceExhaustedError(
                "The disk is full; nothing was stored.", hint="Free space, then call again."
            ) from refusal
        raise


def _plain(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return the column in a type that every part of the product reads: Polars, DuckDB, pandas."""
    column = pl.col(name)
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise InvalidArgumentError(
            f"Column {shown(name)} holds {dtype_name(dtype)} values; a dataset is a plain table.",
            hint="Split or serialise the column first, one plain value a cell.",
        )
    if isinstance(dtype, pl.Categorical | pl.Enum | pl.Null):
        return column.cast(pl.String)
    if isinstance(dtype, pl.Decimal):
        return column.cast(pl.Float64 if dtype.scale else pl.Int64)
    if dtype in (pl.Int128, pl.UInt128):
        return column.cast(pl.Int64)
    if dtype.is_float():
        return column.fill_nan(None)
    if isinstance(dtype, pl.Datetime):
        return column.dt.cast_time_unit("us")
    return column


def describe_parquet(path: Path) -> tuple[int, tuple[Column, ...]]:
    """Return the number of rows and the columns of a file that `write_parquet` wrote, from its footer alone."""
    footer = pq.read_metadata(path)
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    columns = tuple(
        Column(name, dtype_name(dtype), any(_has_nulls(group.column(i)) for group in groups))
        for i, (name, dtype) in enumerate(pl.read_parquet_schema(path).items())
    )
    return footer.num_rows, columns


def missing_cells(path: Path) -> tuple[int, dict[str, int]]:
    """Return the number of rows, and of missing cells by column, of a file that `write_parquet` wrote."""
    footer = pq.read_metadata(path)
    missing: dict[str, int] = {}
    for group in (footer.row_group(i) for i in range(footer.num_row_groups)):
        for chunk in (group.column(i) for i in range(footer.num_columns)):
            missing[chunk.path_in_schema] = missing.get(chunk.path_in_schema, 0) + chunk.statistics.null_count
    return footer.num_rows, missing


def _has_nulls(chunk: Any) -> bool:
    statistics = chunk.statistics
    return statistics is None or not statistics.has_null_count or statistics.null_count > 0


def dtype_name(dtype: pl.DataType) -> str:
    """Return a type as the contract's results name it: `Int64`, `String`, `Date`, `Datetime`, `Datetime[UTC]`."""
    if isinstance(dtype, pl.Datetime):
        return f"Datetime[{dtype.time_zone}]" if dtype.time_zone else "Datetime"
    return str(dtype.base_type())
