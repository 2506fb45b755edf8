"""Rows of a database as Parquet, batch by batch: a column has one type, whatever comes late.

A batch is written as it comes. PostgreSQL says the type of each column beforehand; SQLite, where every value has a
type of its own, does not: there a column's type widens as values come, a new file begins whenever one does, and at the
end all files are read in the types that the columns came to have.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mcp_server.engine.findings import Finding
from mcp_server.errors import InvalidArgumentError, ResourceExhaustedError, shown
from mcp_server.settings import LimitSettings

_FIRST_BATCH: Final = 500
_BATCH_BYTES: Final = 32 * 1024**2
_MAX_BATCH: Final = 100_000
_EXACT_DIGITS: Final = 15  # decimal digits that a Float64 always keeps; source: IEEE 754-2019, DBL_DIG


class Kind(StrEnum):
    """What a column holds."""

    NOTHING = "nothing"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    DECIMAL = "decimal"
    FLOAT = "float"
    DATE = "date"
    TIMESTAMP = "timestamp"
    INSTANT = "instant"  # a timestamp with its time zone
    TIME = "time"
    TEXT = "text"


# PostgreSQL's type numbers; source: pg_type.dat
_BY_OID: Final = {
    16: Kind.BOOLEAN, 20: Kind.INTEGER, 21: Kind.INTEGER, 23: Kind.INTEGER, 700: Kind.FLOAT, 701: Kind.FLOAT,
    1700: Kind.DECIMAL, 1082: Kind.DATE, 1083: Kind.TIME, 1114: Kind.TIMESTAMP, 1184: Kind.INSTANT,
}  # fmt: skip
_TEXT_OIDS: Final = frozenset((18, 19, 25, 705, 1042, 1043, 2950))
_BYTES_OID: Final = 17
_BY_TYPE: Final[dict[type, Kind]] = {int: Kind.INTEGER, float: Kind.FLOAT, str: Kind.TEXT}
_ARROW: Final = {
    Kind.NOTHING: pa.string(), Kind.BOOLEAN: pa.bool_(), Kind.INTEGER: pa.int64(), Kind.DECIMAL: pa.string(),
    Kind.FLOAT: pa.float64(), Kind.DATE: pa.date32(), Kind.TIMESTAMP: pa.timestamp("us"),
    Kind.INSTANT: pa.timestamp("us", "UTC"), Kind.TIME: pa.time64("us"), Kind.TEXT: pa.string(),
}  # fmt: skip
_POLARS: Final[dict[Kind, Any]] = {
    Kind.NOTHING: pl.String, Kind.BOOLEAN: pl.Boolean, Kind.INTEGER: pl.Int64, Kind.DECIMAL: pl.String,
    Kind.FLOAT: pl.Float64, Kind.DATE: pl.Date, Kind.TIMESTAMP: pl.Datetime("us"),
    Kind.INSTANT: pl.Datetime("us", "UTC"), Kind.TIME: pl.Time, Kind.TEXT: pl.String,
}  # fmt: skip


@dataclass(slots=True)
class StagedRows:
    """Writes batches of rows below `folder`, and reads them back as one frame.

    Attributes:
        names: of the columns, checked.
        kinds: what each holds so far.
        are_fixed: the database said the kinds; else they widen.
    """

    folder: Path
    names: Sequence[str]
    kinds: list[Kind]
    are_fixed: bool
    limits: LimitSettings
    n_rows: int = 0
    batch_size: int = _FIRST_BATCH
    _files: list[tuple[Path, list[Kind]]] = field(default_factory=list)
    _writer: Any = None
    _seen: list[set[type]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._seen = [set() for _ in self.names]

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write a batch; afterwards `batch_size` says how many rows the next one may have.

        Raises:
            InvalidArgumentError: a value is bytes, or of a type that no column of a dataset has.
            ResourceExhaustedError: a cell, or all rows together, are too large.
        """
        columns = list(zip(*rows, strict=True))
        kinds = self.kinds
        if not self.are_fixed:
            kinds = [self._kind_of(i, column) for i, column in enumerate(columns)]
        if self._writer is None or kinds != self.kinds:
            self._begin(kinds)
        arrays = [self._encoded(i, column) for i, column in enumerate(columns)]
        table = pa.table(arrays, schema=self._writer.schema)
        self._writer.write_table(table)
        self.n_rows += len(rows)
        row_bytes = max(1, table.nbytes // len(rows))
        self.batch_size = max(1, min(_MAX_BATCH, 4 * self.batch_size, _BATCH_BYTES // row_bytes))
        self._check_size()

    def close(self) -> None:
        """End the last file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def findings(self) -> list[Finding]:
        """Return what there is to say about columns whose values had several types."""
        text = "Holds values of several types; kept as text."
        mixed = [name for name, seen in zip(self.names, self._seen, strict=False) if str in seen and len(seen) > 1]
        return [Finding(name, "mixed_types", text) for name in mixed]

    def frame(self) -> pl.LazyFrame:
        """Return all rows, in the kinds that the columns came to have; decimals are still text."""
        parts = [
            pl.scan_parquet(path).select(
                _cast(f"c{i}", was, now).alias(self.names[i])
                for i, (was, now) in enumerate(zip(kinds, self.kinds, strict=True))
            )
            for path, kinds in self._files
        ]
        return pl.concat(parts, how="vertical")

    def _begin(self, kinds: list[Kind]) -> None:
        self.close()
        self.kinds = kinds
        path = self.folder / f"rows-{len(self._files):05d}.parquet"
        schema = pa.schema([(f"c{i}", _ARROW[kind]) for i, kind in enumerate(kinds)])
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", compression_level=1)
        self._files.append((path, kinds))

    def _kind_of(self, position: int, column: Sequence[Any]) -> Kind:
        """Return the kind that holds the values of a column so far."""
        seen = self._seen[position]
        seen |= set(map(type, column)) - {type(None)}
        unknown = seen - _BY_TYPE.keys()
        if unknown:
            raise InvalidArgumentError(
                f"Column {shown(self.names[position])} holds {unknown.pop().__name__}; a dataset is a plain table.",
                hint="Leave it out, or turn it into text, in a query: sql://CONNECTION?query=SELECT ….",
            )
        if len(seen) < 2:
            return _BY_TYPE[seen.copy().pop()] if seen else Kind.NOTHING
        return Kind.FLOAT if seen == {int, float} else Kind.TEXT

    def _encoded(self, position: int, column: Sequence[Any]) -> Any:
        kind = self.kinds[position]
        values: Sequence[Any] = column
        if kind in (Kind.TEXT, Kind.DECIMAL) and not self.are_fixed:
            values = [value if value is None or isinstance(value, str) else str(value) for value in column]
        elif kind is Kind.FLOAT and not self.are_fixed:
            values = [None if value is None else float(value) for value in column]
        try:
            array = pa.array(values, _ARROW[kind])
        except (pa.ArrowException, TypeError, OverflowError) as refusal:
            raise InvalidArgumentError(
                f"Column {shown(self.names[position])} holds a value that is no {kind}: {shown(str(refusal), 100)}.",
                hint="Cast it in a query: sql://CONNECTION?query=SELECT CAST(… AS text) ….",
            ) from None
        if _ARROW[kind] == pa.string():
            longest = pc.max(pc.binary_length(array)).as_py() or 0
            if longest > self.limits.max_field_bytes:
                raise ResourceExhaustedError(
                    f"A value of column {shown(self.names[position])} has {longest:,} bytes; "
                    f"the limit is {self.limits.max_field_bytes:,}.",
                    hint="Shorten it in a query, or raise NBA_MCP_LIMITS__MAX_FIELD_BYTES.",
                )
        return array

    def _check_size(self) -> None:
        size = sum(path.stat().st_size for path, _ in self._files)
        if size > self.limits.max_file_bytes:
            raise ResourceExhaustedError(
                f"The rows take more than {self.limits.max_file_bytes:,} bytes.",
                hint="Ask for less, or raise NBA_MCP_LIMITS__MAX_FILE_BYTES.",
            )


def declared_kinds(description: Sequence[Any], names: Sequence[str]) -> tuple[list[Kind], list[Finding]]:
    """Return the kinds that PostgreSQL says, and what there is to say about those that datasets do not have.

    Raises:
        InvalidArgumentError: a column holds bytes.
    """
    kinds, findings = [], []
    for name, column in zip(names, description, strict=True):
        oid = column.type_code
        if oid == _BYTES_OID:
            raise InvalidArgumentError(
                f"Column {shown(name)} holds bytes; a dataset is a plain table.",
                hint="Leave it out in a query: sql://CONNECTION?query=SELECT ….",
            )
        kinds.append(_BY_OID.get(oid, Kind.TEXT))
        if oid not in _BY_OID and oid not in _TEXT_OIDS:
            text = f"The database's type {shown(column.type_display)} is kept as the text that it prints."
            findings.append(Finding(name, "kept_as_text", text))
    return kinds, findings


def with_decimals(frame: pl.LazyFrame, names: Sequence[str], *, as_text: bool) -> tuple[pl.LazyFrame, list[Finding]]:
    """Return `frame` with the text of its decimal columns as whole numbers or floats, and what was lost.

    Args:
        names: the decimal columns.
        as_text: leave them as they are.
    """
    if as_text or not names:
        return frame, []
    value = pl.col
    looks = frame.select(
        *(value(name).str.contains(r"[.NI]").sum().alias(f"fractions {name}") for name in names),
        *(value(name).cast(pl.Int64, strict=False).null_count().alias(f"long {name}") for name in names),
        *(value(name).null_count().alias(f"missing {name}") for name in names),
        *((_digits(name) > _EXACT_DIGITS).sum().alias(f"inexact {name}") for name in names),
    ).collect(engine="streaming").row(0, named=True)  # fmt: skip
    casts, findings = [], []
    for name in names:
        if looks[f"fractions {name}"]:
            casts.append(value(name).cast(pl.Float64))
            n_rounded = looks[f"inexact {name}"]
            rounded = f"; {n_rounded:,} have more than {_EXACT_DIGITS} digits and are rounded" if n_rounded else ""
            text = f"Decimal numbers are kept as Float64{rounded}. options.decimals='text' keeps every digit."
            findings.append(Finding(name, "decimal_as_float", text))
        elif looks[f"long {name}"] == looks[f"missing {name}"]:
            casts.append(value(name).cast(pl.Int64))
        else:
            text = "Holds whole numbers beyond 64 bits; kept as text."
            findings.append(Finding(name, "long_numbers", text))
    return frame.with_columns(casts), findings


def with_declared(frame: pl.LazyFrame, declared: dict[str, str]) -> pl.LazyFrame:
    """Return `frame` with SQLite's columns in the types that their table declares, where every value fits."""
    schema = frame.collect_schema()
    wishes: dict[str, list[pl.Expr]] = {}
    for name, words in declared.items():
        if name in schema:
            wishes[name] = _declared(name, schema[name], words)
    if not any(wishes.values()):
        return frame
    tests = [
        (wish.null_count() == pl.col(name).null_count()).alias(f"{name} {i}")
        for name, options in wishes.items()
        for i, wish in enumerate(options)
    ]
    fits = frame.select(tests).collect(engine="streaming").row(0, named=True)
    chosen = {
        name: next((wish for i, wish in enumerate(options) if fits[f"{name} {i}"]), None)
        for name, options in wishes.items()
    }
    return frame.with_columns(wish.alias(name) for name, wish in chosen.items() if wish is not None)


def _declared(name: str, dtype: pl.DataType, words: str) -> list[pl.Expr]:
    """Return what to try for a column, null where a value does not fit."""
    value = pl.col(name)
    if "BOOL" in words and dtype == pl.Int64:
        return [pl.when(value.is_in([0, 1])).then(value == 1)]
    if dtype != pl.String:
        return []
    if words == "DATE":
        return [value.str.to_date("%Y-%m-%d", strict=False)]
    if words.startswith(("DATETIME", "TIMESTAMP")):
        formats = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f")
        return [value.str.to_datetime(form, time_unit="us", strict=False) for form in formats]
    return []


def _digits(name: str) -> pl.Expr:
    """Return how many significant digits each text has."""
    bare = pl.col(name).str.replace(r"^-?0*(?:\.0*)?", "").str.replace_all(".", "", literal=True)
    return bare.str.strip_chars_end("0").str.len_bytes()


def _cast(name: str, was: Kind, now: Kind) -> pl.Expr:
    return pl.col(name) if was == now else pl.col(name).cast(_POLARS[now])
