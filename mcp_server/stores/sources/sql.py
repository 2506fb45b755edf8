"""The sources `sql://CONNECTION/TABLE` and `sql://CONNECTION?query=SELECT …`: rows of a database, read in batches."""

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, unquote_plus

from mcp_server.engine.findings import Finding
from mcp_server.errors import InvalidArgumentError, LifecycleError, NotFoundError, shown
from mcp_server.runtime.child import never_cancelled
from mcp_server.runtime.progress import Progress
from mcp_server.settings import LimitSettings, RemoteSettings
from mcp_server.stores.fetching import Deadline, room_beside
from mcp_server.stores.parquet import full_disk_explained, write_parquet
from mcp_server.stores.sources.columns import ParseLimits, checked_names
from mcp_server.stores.sources.connections import Connections, Reading
from mcp_server.stores.sources.reader import Brought, Listed, require_options
from mcp_server.stores.sources.sql_guard import quoted
from mcp_server.stores.sources.sql_rows import Kind, StagedRows, declared_kinds, with_decimals, with_declared

_ADDRESS: Final = re.compile(r"(?is)sql://(?P<name>[^/?]+)(?:/(?P<table>.+)|\?query=(?P<query>.+))")
_FORM: Final = "Write sql://CONNECTION/TABLE, sql://CONNECTION/SCHEMA.TABLE or sql://CONNECTION?query=SELECT …."
_MAX_LISTED: Final = 20  # tables of one connection
_VALUES_A_ROW: Final = 16  # of the largest size, which SQLite's limit counts together
_DECIMALS: Final = ("float", "text")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a source names: a table, or a query; the other is None."""

    connection: str
    table: str | None
    query: str | None

    def __str__(self) -> str:
        rest = f"/{self.table}" if self.table is not None else f"?query={self.query}"
        return f"sql://{self.connection}{rest}"


class SqlSources:
    """Reads `sql://…`. Thread-safe."""

    def __init__(self, connections: Connections, remote: RemoteSettings, limits: LimitSettings) -> None:
        self._connections = connections
        self._remote = remote
        self._limits = limits

    def bring(
        self, source: str, format: str | None, options: Mapping[str, Any], output: Path, progress: Progress
    ) -> Brought:
        """Write the rows of the table or query that `source` names to `output`.

        Raises:
            NotFoundError: there is no such connection or table; carries near names.
            InvalidArgumentError: the address or query is wrong, or a column is no plain one.
            PermissionDeniedError: the query is no single SELECT, or the database refuses it.
            ResourceExhaustedError: it takes too long or is too large.
            UnavailableError: the database cannot be reached, or broke off.
            CancelledError: the job was cancelled.
        """
        asked = _asked(source)
        require_options("sql", {"decimals": str}, options)
        decimals = options.get("decimals", "float")
        if format is not None or decimals not in _DECIMALS:
            raise InvalidArgumentError(
                f"A source sql:// has no format, and decimals float or text, not {shown(decimals)}.",
                hint="Leave format out.",
            )
        progress(0.0, f"connecting to {asked.connection}")
        deadline = Deadline.after(self._remote.transfer_timeout_s)
        with room_beside(output) as folder, full_disk_explained():
            with self._connections.reading(asked.connection, deadline, progress.cancelled) as reading:
                statement, table = _statement(reading, asked)
                declared = reading.declared_types(table) if reading.is_sqlite and table is not None else {}
                staged, findings = self._stage(reading, statement, asked, folder, progress)
            progress(0.7, f"writing {staged.n_rows:,} rows")
            frame = with_declared(staged.frame(), declared)
            exact = [name for name, kind in zip(staged.names, staged.kinds, strict=True) if kind is Kind.DECIMAL]
            frame, more = with_decimals(frame, exact, as_text=decimals == "text")
            write_parquet(frame, output)
        kind = "sqlite" if reading.is_sqlite else "postgresql"
        details = {"connection": asked.connection, "database": kind, "query": asked.query}
        return Brought(
            source=str(asked),
            findings=[*findings, *more],
            details={name: value for name, value in details.items() if value is not None},
            options={**options, "decimals": decimals} if exact else options,
        )

    def listed(self) -> Sequence[Listed]:
        """Return the connections with their tables, the first ones of each; all are asked at once."""
        names = self._connections.names()
        if not names:
            return []
        with ThreadPoolExecutor(min(16, len(names)), "list-sql") as pool:
            return [each for found in pool.map(self._listed, names) for each in found]

    def _listed(self, name: str) -> list[Listed]:
        deadline = Deadline.after(2 * self._remote.connect_timeout_s)
        try:
            with self._connections.reading(name, deadline, never_cancelled) as reading:
                shortest: dict[tuple[str | None, str], str] = {}
                for table, place in sorted(reading.tables().items(), key=lambda item: len(item[0])):
                    shortest.setdefault(place, table)
        except LifecycleError as refusal:  # one that is down is shown, and does not hide the others
            return [Listed(f"sql://{name}", f"sql ({refusal.code})")]
        tables = sorted(shortest.values())
        more = f" of {len(tables)}" if len(tables) > _MAX_LISTED else ""
        shown_tables = [Listed(f"sql://{name}/{table}", f"sql table{more}") for table in tables[:_MAX_LISTED]]
        return [Listed(f"sql://{name}?query=SELECT …", "sql query"), *shown_tables]

    def _stage(
        self, reading: Reading, statement: str, asked: _Asked, folder: Path, progress: Progress
    ) -> tuple[StagedRows, list[Finding]]:
        """Write all rows below `folder` as they come."""
        limits = self._limits
        largest = _VALUES_A_ROW * limits.max_field_bytes
        with reading.rows(statement, callers_own=asked.query is not None, max_value_bytes=largest) as cursor:
            names, findings = _names(cursor.description, limits)
            kinds = [Kind.NOTHING] * len(names)
            if not reading.is_sqlite:
                kinds, more = declared_kinds(cursor.description, names)
                findings = [*findings, *more]
            staged = StagedRows(folder, names, kinds, not reading.is_sqlite, limits)
            with closing(staged):
                for rows in _batches(reading, cursor, staged):
                    staged.add(rows)
                    progress(0.05 + 0.6 * staged.n_rows / (staged.n_rows + 1e6), f"read {staged.n_rows:,} rows")
        findings = [*findings, *staged.findings()]
        if not staged.n_rows:
            raise InvalidArgumentError(f"{shown(str(asked))} has 0 rows.", hint="Check the table or the query.")
        return staged, findings


def _batches(reading: Reading, cursor: Any, staged: StagedRows) -> Iterator[list[Any]]:
    while True:
        with reading.watch.statement():
            rows = cursor.fetchmany(staged.batch_size)
        if not rows:
            return
        yield rows


def _asked(source: str) -> _Asked:
    match = _ADDRESS.fullmatch(source)
    if match is None or "\0" in source:
        raise InvalidArgumentError(f"{shown(source)} names no table and no query.", hint=_FORM)
    query = match["query"]
    if query is not None and not re.search(r"\s", query):  # percent-encoded, as no SELECT is without a space
        query = unquote_plus(query)
    return _Asked(match["name"].lower(), match["table"], query)


def _statement(reading: Reading, asked: _Asked) -> tuple[str, str | None]:
    """Return the SELECT to run, and the name of the table where it reads all of one."""
    if asked.query is not None:
        return asked.query, None
    known = reading.tables()
    wanted = asked.table or ""
    found = next((name for name in (wanted, unquote(wanted)) if name in known), None)
    if found is None:
        near = [f"sql://{asked.connection}/{name}" for name in known]
        raise NotFoundError("source", str(asked), near, hint="list_sources shows the tables of each connection.")
    schema, table = known[found]
    prefix = f"{quoted(schema)}." if schema is not None else ""
    return f"SELECT * FROM {prefix}{quoted(table)}", table


def _names(description: Sequence[Any], limits: LimitSettings) -> tuple[list[str], list[Finding]]:
    """Return the names of the columns, checked as those of a file are."""
    parse_limits = ParseLimits(
        max_columns=limits.max_columns,
        max_field_bytes=limits.max_field_bytes,
        max_column_name_length=limits.max_column_name_length,
        max_decompressed_bytes=limits.max_decompressed_bytes,
    )
    try:
        return checked_names([str(column[0]) for column in description], parse_limits)
    except InvalidArgumentError as refusal:
        raise InvalidArgumentError(
            refusal.message, hint="Name the columns in a query: SELECT a.id AS a_id, …", details=refusal.details
        ) from None
