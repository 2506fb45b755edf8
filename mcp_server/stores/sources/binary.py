"""Parquet and Arrow as tables: their types are what the file says, made plain."""

import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final, Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mcp_server.engine.findings import Finding
from mcp_server.engine.type_evidence import Evidence
from mcp_server.engine.type_inference import decide_type
from mcp_server.errors import InvalidArgumentError, ResourceExhaustedError, shown
from mcp_server.stores.parquet import as_type, plain_schema
from mcp_server.stores.sources.columns import ParseLimits, checked_names
from mcp_server.stores.sources.table import Look, PlannedColumn, TypedPlan

_BATCH_ROWS: Final = 65_536
_BUFFER_BYTES: Final = 1 << 20
_MIB: Final = 1024**2
# What is said of text that becomes another type; text of these files never does
_OF_OTHER_TYPES: Final = ("missing_words", "infinite", "compact_dates")
# What the libraries raise on a damaged file: their own errors, and names that are no text
BROKEN: Final = (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError)
# From the first day of year 1 to the last of 9999: days and seconds from 1970; nanoseconds of a day
_TIMES: Final[dict[Any, tuple[int, int]]] = {
    pl.Date: (-719_162, 2_932_896),
    pl.Datetime: (-62_135_596_800, 253_402_300_799),
    pl.Time: (0, 86_400 * 10**9 - 1),
}


@dataclass(slots=True)
class TypedColumn:
    """A column whose type the file says; parts of several types take one that holds them all.

    Attributes:
        dtype: None where the column says itself that it has no values.
        texts: what text looks like that is reported and kept as it is; None where nobody looked.
    """

    dtype: pl.DataType | None
    decimal_digits: int | None = None
    texts: Evidence | None = None

    @property
    def is_empty(self) -> bool:
        """True when the file gives it no type."""
        return self.dtype is None

    def merge(self, other: Self) -> None:
        """Take in the type that the column has in the next part."""
        if self.dtype is None:
            self.dtype = other.dtype
        elif other.dtype is not None:
            self.dtype = widened(self.dtype, other.dtype) or pl.String()
        self.decimal_digits = self.decimal_digits or other.decimal_digits
        if self.texts is not None and other.texts is not None:
            self.texts.merge(other.texts)

    def plan(self, name: str) -> tuple[PlannedColumn, list[Finding]]:
        """Return the type that the file says."""
        column = TypedPlan(name, self.dtype or pl.String())
        if self.texts is not None and self.dtype == pl.String:
            findings = decide_type(name, self.texts)[1]
            return column, [finding for finding in findings if finding.code not in _OF_OTHER_TYPES]
        if self.decimal_digits is None:
            return column, []
        text = f"Decimal numbers ({self.decimal_digits} digits) are kept as Float64."
        return column, [Finding(name, "decimal_as_float", text)]


def widened(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """Return the type that holds the values of both, None where only text does."""
    if one == other:
        return one
    if one.is_integer() and other.is_integer():
        return pl.Int64()
    if one.is_numeric() and other.is_numeric():
        return pl.Float64()
    pair = {one.base_type(), other.base_type()}
    if pair <= {pl.Date, pl.Datetime}:
        zones = {each.time_zone for each in (one, other) if isinstance(each, pl.Datetime)}
        return pl.Datetime("us", zones.pop()) if len(zones) == 1 and (zones == {None} or len(pair) == 1) else None
    return None


def columns_of(frame: pl.DataFrame) -> dict[str, TypedColumn]:
    """Return the columns of a frame that has the file's own types."""
    plain = plain_schema(frame.schema)
    return {
        name: TypedColumn(
            None if dtype == pl.Null else plain[name],
            dtype.precision if isinstance(dtype, pl.Decimal) and dtype.scale else None,
        )
        for name, dtype in frame.schema.items()
    }


def planned(frame: pl.DataFrame, columns: Sequence[PlannedColumn]) -> pl.DataFrame:
    """Return the rows of a file in the types that they are to have.

    Raises:
        InvalidArgumentError: a time lies outside the calendar, or a value does not fit its type.
    """
    for column in frame.iter_columns():
        _check_times(column)
    return as_type(frame, {column.name: column.dtype for column in columns})


def _check_times(column: pl.Series) -> None:
    """Refuse times that no calendar of four-digit years has: Python cannot show them, and they stand for "none"."""
    allowed = _TIMES.get(column.dtype.base_type())
    if allowed is None or column.null_count() == len(column):
        return
    per_second = {"ms": 10**3, "us": 10**6, "ns": 10**9}
    unit = per_second[column.dtype.time_unit or "us"] if isinstance(column.dtype, pl.Datetime) else 1
    physical = column.to_physical()
    outside = (physical < allowed[0] * unit) | (physical > allowed[1] * unit)
    if outside.any():
        raise InvalidArgumentError(
            f"Column {shown(column.name)} holds {int(outside.sum()):,} times outside the years 1 to 9999.",
            hint="Such times mostly stand for a missing one; mend the column and import it again.",
        )


def corrupt(word: str, refusal: BaseException) -> InvalidArgumentError:
    """Return the refusal of a damaged file."""
    return InvalidArgumentError(
        f"The file is no readable {word} file: {shown(str(refusal), 150)}.",
        hint="It is damaged, cut off, or of another format.",
    )


# Parquet and Arrow ---------------------------------------------------------------------------------------------


class ArrowTable:
    """A Parquet or Arrow file on its way to a dataset; one row group, or one batch, is held at a time."""

    def __init__(
        self,
        stream: IO[bytes],
        limits: ParseLimits,
        *,
        is_parquet: bool,
        report: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._stream = stream
        self._limits = limits
        self._word = "Parquet" if is_parquet else "Arrow"
        self._is_parquet = is_parquet
        self._report = report
        self._names: list[str] = []
        self._n_rows = 0

    def look(self) -> Look:
        """Read the types, and of an Arrow file the sizes of its batches.

        Raises:
            InvalidArgumentError: it is damaged, or holds what no plain table has.
            ResourceExhaustedError: it has too many columns.
        """
        try:
            schema, self._n_rows = self._parquet_head() if self._is_parquet else self._arrow_head()
            self._names, findings = checked_names(schema.names, self._limits)
            for name, column in zip(self._names, schema, strict=True):
                _check_flat(name, column.type)
            frame = self._frame(schema.empty_table())
        except BROKEN as refusal:
            raise corrupt(self._word, refusal) from None
        return Look(columns_of(frame), self._n_rows, findings)

    def frames(self, columns: Sequence[PlannedColumn]) -> Iterator[pl.DataFrame]:
        """Yield the rows in their types."""
        n_done = 0
        batches = self._parquet_batches() if self._is_parquet else self._arrow_batches()
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    return
                frame = self._frame(batch)
            except BROKEN as refusal:
                raise corrupt(self._word, refusal) from None
            n_done += len(frame)
            self._report(n_done / max(self._n_rows, 1))
            if len(frame):
                yield planned(frame, columns)

    def _frame(self, table: Any) -> pl.DataFrame:
        frame = pl.from_arrow(table.rename_columns(self._names))
        assert isinstance(frame, pl.DataFrame)
        return frame

    def _parquet(self) -> Any:
        self._stream.seek(0)
        return pq.ParquetFile(pa.PythonFile(self._stream, "r"), pre_buffer=False, buffer_size=_BUFFER_BYTES)

    def _parquet_head(self) -> tuple[Any, int]:
        file = self._parquet()
        groups = range(file.num_row_groups)
        size = sum(file.metadata.row_group(i).total_byte_size for i in groups)
        most = 8 * self._limits.max_decompressed_bytes  # typed columns in pages: the child's memory is the other limit
        if size > most:
            raise ResourceExhaustedError(
                f"The file holds {size // _MIB:,} MiB when decompressed; the limit is {most // _MIB:,} MiB.",
                hint="Import a smaller file, or raise NBA_MCP_LIMITS__MAX_DECOMPRESSED_BYTES.",
            )
        return file.schema_arrow, file.metadata.num_rows

    def _parquet_batches(self) -> Iterator[Any]:
        yield from self._parquet().iter_batches(batch_size=_BATCH_ROWS)

    def _arrow_head(self) -> tuple[Any, int]:
        n_rows = 0
        with _mapped(self._stream) as mapped:
            reader = _arrow_reader(mapped)
            schema = reader.schema
            for batch in _record_batches(reader):
                n_rows += batch.num_rows
                del batch
                mapped.release_pages()
            del reader
        return schema, n_rows

    def _arrow_batches(self) -> Iterator[Any]:
        with _mapped(self._stream) as mapped:
            for batch in _record_batches(_arrow_reader(mapped)):
                for start in range(0, batch.num_rows, _BATCH_ROWS):
                    part = batch.slice(start, _BATCH_ROWS)
                    part.validate(full=True)
                    yield part
                    mapped.release_pages()


class _mapped:  # noqa: N801  # a context manager, called as one
    """An open file as memory that is read when touched, and given back when told so."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._pages = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None  # buffers of batches may live on; the pages go with the last of them

    def buffer(self) -> Any:
        return pa.py_buffer(self._pages)

    def release_pages(self) -> None:
        """Let go of the pages that were read: they count as the process's memory."""
        self._pages.madvise(mmap.MADV_DONTNEED)


def _arrow_reader(mapped: _mapped) -> Any:
    try:
        return pa.ipc.open_file(mapped.buffer())
    except pa.ArrowInvalid:
        return pa.ipc.open_stream(mapped.buffer())


def _record_batches(reader: Any) -> Iterator[Any]:
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)
    else:
        yield from reader


def _check_flat(name: str, dtype: Any) -> None:
    is_bytes = pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype) or pa.types.is_fixed_size_binary(dtype)
    if pa.types.is_nested(dtype) or is_bytes:
        raise InvalidArgumentError(
            f"Column {shown(name)} holds {dtype} values; a dataset is a plain table.",
            hint="Flatten the column first, one plain value a cell.",
        )
