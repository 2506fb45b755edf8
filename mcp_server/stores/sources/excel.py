"""Workbooks as tables: one sheet of them, whose numbers and dates are what the workbook says."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from typing import IO, Any, Final, cast

import polars as pl

from mcp_server.engine.type_evidence import Evidence
from mcp_server.errors import InvalidArgumentError, ResourceExhaustedError, shown
from mcp_server.stores.sources.binary import BROKEN, columns_of, corrupt, planned
from mcp_server.stores.sources.columns import ParseLimits, checked_names
from mcp_server.stores.sources.table import Look, PlannedColumn

_MIB: Final = 1024**2
_MOST_WORKBOOK_BYTES: Final = 512 * _MIB  # it is held whole
_NAMED_SHEETS: Final = 20
_FLOAT_EXACT: Final = 2**53


class ExcelTable:
    """A sheet of a workbook on its way to a dataset; a sheet has a million rows at most, so it is held whole."""

    def __init__(self, stream: IO[bytes], options: dict[str, Any], limits: ParseLimits) -> None:
        self._stream = stream
        self._options = options
        self._limits = limits
        self._frame = pl.DataFrame()

    def look(self) -> Look:
        """Read the sheet.

        Raises:
            InvalidArgumentError: the workbook is damaged, or has no such sheet.
            ResourceExhaustedError: it is larger than the limit when decompressed.
        """
        import fastexcel

        self._stream.seek(0)
        data = self._stream.read()
        _check_archive(data, self._limits)
        try:
            book = fastexcel.read_excel(data)
            name = self._sheet(book.sheet_names)
            has_header = self._options.get("header", True)
            # All rows decide the types: what does not fit a type decided from some of them is lost
            frame = book.load_sheet(name, header_row=0 if has_header else None, schema_sample_rows=None).to_polars()
            given = [str(each) for each in frame.columns]
            if has_header:  # the reader renames repeated names in silence
                first = book.load_sheet(name, header_row=None, n_rows=1, dtypes="string").to_polars()
                given = [cell or "" for cell in first.row(0)] if first.width == frame.width and len(first) else given
            elif frame.width:
                given = [f"column_{i + 1}" for i in range(frame.width)]
        except (fastexcel.FastExcelError, *BROKEN) as refusal:
            raise corrupt("Excel", refusal) from None
        names, findings = checked_names(given, self._limits)
        self._frame = _plain(frame.rename(dict(zip(frame.columns, names, strict=True))))
        sheets = ", ".join(shown(each, 40) for each in book.sheet_names[:_NAMED_SHEETS])
        notes = [f"Sheet {shown(name)} of {len(book.sheet_names)} was read; the workbook's sheets: {sheets}."]
        details = {"sheet": name, "sheets": list(book.sheet_names[:_NAMED_SHEETS])}
        columns = columns_of(self._frame)
        for column in self._frame.select(pl.col(pl.String)).iter_columns():
            self._limits.check_field(int(cast(int, column.str.len_bytes().max() or 0)))
            columns[column.name].texts = texts = Evidence()
            texts.add(column)
        return Look(columns, self._frame.height, findings, notes, details)

    def frames(self, columns: Sequence[PlannedColumn]) -> Iterator[pl.DataFrame]:
        """Yield the rows in their types."""
        yield planned(self._frame, columns)

    def _sheet(self, names: list[str]) -> str:
        if not names:
            raise InvalidArgumentError("The workbook has no sheet.", hint="Check the source.")
        wanted = str(self._options.get("sheet", names[0]))
        if wanted not in names:
            raise InvalidArgumentError(
                f"The workbook has no sheet {shown(wanted)}.",
                hint=f"Its sheets: {', '.join(map(shown, names[:_NAMED_SHEETS]))}.",
            )
        return wanted


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a sheet's cells as other files have them: empty text is missing, whole numbers are no fractions.

    A workbook keeps every number as a float of 64 bits.
    """
    whole = [
        name
        for name, column in frame.select(pl.col(pl.Float64)).to_dict().items()
        if column.count() and bool(((column == column.round()) & (column.abs() <= _FLOAT_EXACT)).all())
    ]
    return frame.with_columns(pl.col(whole).cast(pl.Int64), pl.col(pl.String).replace("", None))


def _check_archive(data: bytes, limits: ParseLimits) -> None:
    if not data.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as refusal:
        raise corrupt("Excel", refusal) from None
    most = min(limits.max_decompressed_bytes, _MOST_WORKBOOK_BYTES)
    if size > most:
        raise ResourceExhaustedError(
            f"The workbook holds {size // _MIB:,} MiB when decompressed; the limit is {most // _MIB:,} MiB.",
            hint="Save it as Parquet or CSV, which are read piece by piece.",
        )
