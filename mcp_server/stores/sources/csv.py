"""CSV and TSV: the structure is checked byte by byte before Polars reads it, so no row is shifted in silence.

Polars pads short rows with missing values and takes what lies between quotes on trust. So the records are found first
(`csv_records`), in pieces that each are read once to see the types and once more to write them. A file whose
quotes are odd is read by Python's own strict reader instead: slower, and exact about the row.
"""

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Self, cast

import polars as pl

from mcp_server.engine.findings import Finding
from mcp_server.engine.type_evidence import Evidence
from mcp_server.engine.type_inference import TypedColumn, decide_type
from mcp_server.errors import ConflictError, InvalidArgumentError
from mcp_server.stores.sources.columns import ParseLimits, checked_names
from mcp_server.stores.sources.csv_header import delimiter_of, header_of
from mcp_server.stores.sources.csv_records import OddQuotesError, Records, field_too_large, uneven
from mcp_server.stores.sources.table import Look, PlannedColumn
from mcp_server.stores.sources.text import Text

_STRICT_BATCH_CELLS: Final = 500_000
_LONGEST_LINE: Final = 64 * 1024**2
_THREADS: Final = min(4, os.cpu_count() or 1)


@dataclass(slots=True)
class TextColumn:
    """A column of text as the first look saw it."""

    evidence: Evidence

    @property
    def is_empty(self) -> bool:
        """True when no cell has text."""
        return self.evidence.rows == self.evidence.empty

    def merge(self, other: Self) -> None:
        """Take in the same column of the rows that follow."""
        self.evidence.merge(other.evidence)

    def plan(self, name: str) -> tuple[PlannedColumn, list[Finding]]:
        """Return the type that its text has."""
        return decide_type(name, self.evidence)


class CsvTable:
    """A CSV file on its way to a dataset."""

    def __init__(
        self,
        text: Text,
        options: dict[str, Any],
        limits: ParseLimits,
        default_delimiter: str | None,
        report: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Find out how the file is written.

        Args:
            text: the file's text.
            options: `delimiter` and `header` (true or false); each is found out when not given.
            limits: columns, bytes a field, characters a name.
            default_delimiter: what the file's ending says, None to look.
            report: told the byte of the text that reading has come to.

        Raises:
            InvalidArgumentError: the delimiter cannot be one.
        """
        self._text = text
        self._limits = limits
        self._report = report
        self._delimiter, self._delimiter_found = delimiter_of(text, options.get("delimiter"), default_delimiter)
        self._asked_header = options.get("header")
        self._is_strict = False
        self._has_header = True
        self._names: list[str] = []
        self._n_blank = 0
        self._records: Records | None = None  # once they were all checked
        self._only: pl.DataFrame | None = None  # the one batch of a small file is kept, not read again

    def look(self) -> Look:
        """See the types of all columns.

        Raises:
            InvalidArgumentError: a row, a quote or a column name is wrong, or there are no rows; says where.
            ResourceExhaustedError: too many columns, or a field too large.
        """
        try:
            return self._look()
        except OddQuotesError:
            self._is_strict = True
            return self._look()

    def frames(self, columns: Sequence[PlannedColumn]) -> Iterator[pl.DataFrame]:
        """Yield the rows in their types.

        Raises:
            ConflictError: they are no longer what the look saw.
        """
        readings = [cast(TypedColumn, column).reading() for column in columns]
        try:
            for batch in self._batches():
                yield batch.select(readings)
        except OddQuotesError:
            raise ConflictError("The source changed while it was being read.", hint="Call again.") from None

    def _look(self) -> Look:
        findings: list[Finding] = []
        seen: list[Evidence] = []
        n_rows, n_batches = 0, 0
        self._names, self._n_blank, self._only = [], 0, None
        with ThreadPoolExecutor(_THREADS) as threads:
            for cells in self._cells():
                if not self._names:
                    findings = self._read_header(cells)
                    seen = [Evidence() for _ in self._names]
                    cells = cells.slice(1) if self._has_header else cells
                list(threads.map(Evidence.add, seen, cells.iter_columns()))
                n_rows += cells.height
                n_batches += 1
                self._only = (
                    cells.rename(dict(zip(cells.columns, self._names, strict=True))) if n_batches == 1 else None
                )
        if not n_rows:
            text = "The file has a header and 0 data rows." if self._names else "The file is empty: 0 data rows."
            raise InvalidArgumentError(text, hint="Check the source.")
        columns = {name: TextColumn(evidence) for name, evidence in zip(self._names, seen, strict=True)}
        return Look(columns, n_rows, findings, self._notes(), self._details())

    def _read_header(self, cells: pl.DataFrame) -> list[Finding]:
        first = [cell or "" for cell in cells.row(0)]
        self._has_header, findings = header_of(first, self._asked_header)
        given = first if self._has_header else [f"column_{i + 1}" for i in range(cells.width)]
        self._names, named = checked_names(given, self._limits)
        return findings + named

    def _notes(self) -> list[str]:
        notes = [f"{self._n_blank} blank lines were skipped."] if self._n_blank else []
        if self._delimiter != ",":
            notes.append(f"The delimiter is {self._delimiter!r}{' (found out)' if self._delimiter_found else ''}.")
        if not self._has_header:
            notes.append("The first row was read as data, not as names.")
        return notes

    def _details(self) -> dict[str, Any]:
        return {"delimiter": self._delimiter, "header": self._has_header}

    # Cells -------------------------------------------------------------------------------------------------------

    def _batches(self) -> Iterator[pl.DataFrame]:
        """Yield the data rows as text, under their names."""
        if self._only is not None:
            yield self._only
            return
        skip = int(self._has_header)
        for cells in self._cells():
            yield cells.slice(skip).rename(dict(zip(cells.columns, self._names, strict=True)))
            skip = 0

    def _cells(self) -> Iterator[pl.DataFrame]:
        """Yield all records, the header among them, as columns of text."""
        self._n_blank = 0
        return self._strict_cells() if self._is_strict else self._plain_cells()

    def _plain_cells(self) -> Iterator[pl.DataFrame]:
        records = self._records or Records(self._text, self._delimiter, self._limits)
        for piece in records.again() if self._records else records.pieces():
            self._n_blank += piece.n_blank
            if not piece.n_records:
                continue
            try:
                frame = pl.read_csv(piece.data, has_header=False, infer_schema=False, separator=self._delimiter)
            except pl.exceptions.PolarsError:
                raise OddQuotesError from None
            if frame.height != piece.n_records:
                raise OddQuotesError
            self._report(piece.end)
            yield frame
        self._records = records

    def _strict_cells(self) -> Iterator[pl.DataFrame]:
        """Read with Python's strict reader: for files whose quotes need it."""
        csv.field_size_limit(self._limits.max_field_bytes + 1)
        width, rows = 0, []
        for number, row in enumerate(self._strict_rows(), 1):
            if not row:
                self._n_blank += 1
                continue
            if not width:
                width = len(row)
                self._limits.check_columns(width)
            if len(row) != width:
                raise uneven(number, len(row), width)
            rows.append(row)
            if len(rows) * width >= _STRICT_BATCH_CELLS:
                yield _frame(rows, width)
                rows = []
        if rows:
            yield _frame(rows, width)

    def _strict_rows(self) -> Iterator[list[str]]:
        reader = csv.reader(self._lines(), delimiter=self._delimiter, strict=True)
        try:
            yield from reader
        except csv.Error as refusal:
            if "field larger" in str(refusal):
                raise field_too_large(reader.line_num) from None
            raise InvalidArgumentError(
                f"The quotes are wrong up to line {reader.line_num}: {refusal}.",
                hint='A field with the delimiter, a quote or a line end is quoted; a quote inside it is doubled ("").',
                details={"line": reader.line_num},
            ) from None

    def _lines(self) -> Iterator[str]:
        stream, is_start = self._text.stream, True
        stream.seek(self._text.start)
        number = 0
        while line := stream.readline(_LONGEST_LINE):
            number += 1
            if len(line) == _LONGEST_LINE:
                raise field_too_large(number)
            if is_start and not (line := line.lstrip(b"\r\n")):
                continue
            is_start = False
            yield from io.StringIO(line.decode(), newline="")


def _frame(rows: list[list[str]], width: int) -> pl.DataFrame:
    columns = {f"column_{i + 1}": [row[i] or None for row in rows] for i in range(width)}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
