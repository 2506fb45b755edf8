"""The databases that the settings name for sql://: opened for reading only, one statement at a time, with a watch.

PostgreSQL reads in a READ ONLY transaction, through a server-side cursor (which takes a single SELECT and nothing
else). SQLite opens the file read-only and lets an authorizer refuse all but reading.
"""

import math
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg.types.string import TextLoader
from pydantic import SecretStr
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from mcp_server.errors import (
    CancelledError,
    FailedPreconditionError,
    LifecycleError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
    shown,
)
from mcp_server.settings import RemoteSettings
from mcp_server.stores.fetching import Deadline
from mcp_server.stores.sources.sql_failures import CURSOR_NAME, explain, unreachable
from mcp_server.stores.sources.sql_guard import authorize, drop_rights, quoted, require_select

_WATCH_S: Final = 0.1
_GRACE_S: Final = 3.0  # for a statement that was cancelled to end, before its connection is cut
# Types whose values psycopg gives exactly; all others come as the text that PostgreSQL prints
_NATIVE: Final = frozenset((16, 20, 21, 23, 700, 701, 1082, 1083, 1114, 1184))


@dataclass(slots=True)
class Watch:
    """Stops a running statement when its time is up or its job is cancelled."""

    deadline: Deadline
    cancelled: Callable[[], bool]
    statement_s: float
    interrupt: Callable[[], None]
    cut: Callable[[], None]
    reason: LifecycleError | None = None
    _began_s: float | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch until the block ends."""
        thread = threading.Thread(target=self._run, name="sql-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    @contextmanager
    def statement(self) -> Iterator[None]:
        """Time one statement, or one fetch of its rows."""
        if self.reason is not None:  # the time was up between two statements
            raise self.reason
        self._began_s = time.monotonic()
        try:
            yield
        finally:
            self._began_s = None

    def _run(self) -> None:
        while not self._done.wait(_WATCH_S):
            self.reason = self._reason_to_stop()
            if self.reason is not None:
                self.interrupt()
                if not self._done.wait(_GRACE_S):
                    self.cut()
                return

    def _reason_to_stop(self) -> LifecycleError | None:
        began_s = self._began_s
        if not self.deadline.left_s:
            return self.deadline.exceeded()
        if began_s is not None and time.monotonic() - began_s > self.statement_s:
            return ResourceExhaustedError(
                f"The statement took longer than its limit of {self.statement_s:g} s and was stopped; "
                "nothing was written.",
                hint="Ask for less, or raise NBA_MCP_REMOTE__STATEMENT_TIMEOUT_S.",
            )
        try:
            return CancelledError("The job was cancelled.") if self.cancelled() else None
        except LifecycleError:  # whom to ask cannot be asked now; the job itself meets that too
            return None


@dataclass(frozen=True, slots=True)
class Reading:
    """A connection that only reads."""

    name: str
    is_sqlite: bool
    connection: sa.Connection
    watch: Watch

    @property
    def _raw(self) -> Any:
        return self.connection.connection.dbapi_connection

    def tables(self) -> dict[str, tuple[str | None, str]]:
        """Return schema and name of every table and view that may be read, by how a source names it."""
        inspector = sa.inspect(self.connection)
        found: dict[str, tuple[str | None, str]] = {}
        if self.is_sqlite:
            found = {name: (None, name) for name in _relations(inspector, None, True)}
        else:
            default = inspector.default_schema_name
            for schema in inspector.get_schema_names():
                if schema != "information_schema" and not schema.startswith("pg_"):
                    names = _relations(inspector, schema, False)
                    found |= {f"{schema}.{name}": (schema, name) for name in names}
                    found |= {name: (schema, name) for name in names if schema == default}
        return found

    def declared_types(self, table: str) -> dict[str, str]:
        """Return the declared type of each column of an SQLite table, in upper case."""
        columns = self.connection.exec_driver_sql(f"PRAGMA table_xinfo({quoted(table)})").all()
        return {str(row[1]): str(row[2]).upper() for row in columns}

    @contextmanager
    def rows(self, statement: str, *, callers_own: bool, max_value_bytes: int) -> Iterator[Any]:
        """Yield a DBAPI cursor over the rows of one SELECT, to be read in batches within `watch.statement()`.

        Args:
            callers_own: the caller wrote it; else we did, over names that were checked.
            max_value_bytes: the largest value that SQLite makes.
        """
        if callers_own:
            require_select(statement)
        make = self._sqlite_cursor if self.is_sqlite else self._postgresql_cursor
        with self.failures_explained(), closing(make(callers_own, max_value_bytes)) as cursor:
            with self.watch.statement():
                cursor.execute(statement)
            yield cursor

    @contextmanager
    def failures_explained(self) -> Iterator[None]:
        """Turn what the driver raises into our errors; a statement that was stopped is told by the reason why."""
        try:
            yield
        except (psycopg.Error, sqlite3.Error, sqlite3.Warning, DBAPIError) as failure:
            if self.watch.reason is not None:
                raise self.watch.reason from failure
            inner = failure.orig if isinstance(failure, DBAPIError) else failure
            raise explain(inner if isinstance(inner, Exception) else failure, self.name) from failure

    def _sqlite_cursor(self, callers_own: bool, max_value_bytes: int) -> Any:
        raw: sqlite3.Connection = self._raw
        raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max_value_bytes)
        raw.set_authorizer(authorize)
        return raw.cursor()

    def _postgresql_cursor(self, callers_own: bool, max_value_bytes: int) -> Any:
        raw: psycopg.Connection[Any] = self._raw
        for kind in raw.adapters.types:
            for oid in (kind.oid, kind.array_oid):
                if oid and oid not in _NATIVE:
                    raw.adapters.register_loader(oid, TextLoader)
        if callers_own:
            drop_rights(raw)
        return raw.cursor(CURSOR_NAME)


class Connections:
    """Opens the databases that the settings name. Thread-safe: it holds nothing that changes."""

    def __init__(self, urls: Mapping[str, SecretStr], remote: RemoteSettings) -> None:
        """Take the URLs by name; names are compared in lower case."""
        self._urls = {name.lower(): url for name, url in urls.items()}
        self._remote = remote

    def names(self) -> list[str]:
        """Return the names of the connections."""
        return sorted(self._urls)

    @contextmanager
    def reading(self, name: str, deadline: Deadline, cancelled: Callable[[], bool]) -> Iterator[Reading]:
        """Open the connection `name` in a transaction that only reads, and close it at the end.

        Raises:
            NotFoundError: there is no such connection; carries near names.
            FailedPreconditionError: its URL is none, or of a database that is not supported.
            PermissionDeniedError: the database refuses its user.
            UnavailableError: it cannot be reached.
        """
        url = self._url(name)
        is_sqlite = url.get_backend_name() == "sqlite"
        engine = _sqlite_engine(url, self._remote) if is_sqlite else _postgresql_engine(url, self._remote)
        with _closed(engine):
            try:
                connection = engine.connect()
            except DBAPIError as failure:
                raise unreachable(failure.orig, name) from None
            except UnicodeError:
                raise UnavailableError(f"The host of connection {shown(name)} is none.", hint="Mend its URL.") from None
            with connection:
                raw: Any = connection.connection.dbapi_connection
                watch = Watch(
                    deadline,
                    cancelled,
                    self._remote.statement_timeout_s,
                    raw.interrupt if is_sqlite else lambda: _cancel(raw),
                    raw.interrupt if is_sqlite else lambda: _cut(raw),
                )
                reading = Reading(name, is_sqlite, connection, watch)
                with watch.watching(), reading.failures_explained():
                    if not is_sqlite:
                        limit = f"{math.ceil(self._remote.statement_timeout_s * 1000)}"
                        raw.execute("SELECT set_config('statement_timeout', %s, true)", [limit])
                    yield reading

    def _url(self, name: str) -> sa.URL:
        secret = self._urls.get(name)
        if secret is None:
            raise NotFoundError(
                "connection", name, self._urls, hint="NBA_MCP_CONNECTIONS__NAME=URL in the settings names one."
            )
        try:
            url = sa.make_url(secret.get_secret_value())
            backend = url.get_backend_name()
        except (ArgumentError, ValueError):
            backend = ""
        if backend not in ("sqlite", "postgresql", "postgres"):
            raise FailedPreconditionError(
                f"Connection {shown(name)} has no URL of a database that can be read.",
                hint="Write it as postgresql://user:password@host/database or sqlite:///path/of/file.db.",
            )
        return url


# Opening -------------------------------------------------------------------------------------------------------


@contextmanager
def _closed(engine: sa.Engine) -> Iterator[None]:
    try:
        yield
    finally:
        engine.dispose()


def _sqlite_engine(url: sa.URL, remote: RemoteSettings) -> sa.Engine:
    path = Path(url.database or "").expanduser().absolute()

    def connect() -> sqlite3.Connection:
        raw = sqlite3.connect(
            f"{path.as_uri()}?mode=ro", uri=True, timeout=remote.connect_timeout_s, check_same_thread=False
        )
        raw.execute("PRAGMA query_only=ON")
        raw.execute("PRAGMA trusted_schema=OFF")
        return raw

    return sa.create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)


def _postgresql_engine(url: sa.URL, remote: RemoteSettings) -> sa.Engine:
    milliseconds = math.ceil(remote.read_timeout_s * 1000)
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        hide_parameters=True,
        execution_options={"postgresql_readonly": True},
        connect_args={
            "connect_timeout": max(2, math.ceil(remote.connect_timeout_s)),  # libpq takes no less
            "tcp_user_timeout": milliseconds,
            "keepalives_idle": max(1, milliseconds // 1000),
        },
    )


def _relations(inspector: Any, schema: str | None, is_sqlite: bool) -> list[str]:
    found = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
    if not is_sqlite:
        found += [*inspector.get_materialized_view_names(schema), *inspector.get_foreign_table_names(schema)]
    return found


# Stopping ------------------------------------------------------------------------------------------------------


def _cancel(raw: "psycopg.Connection[Any]") -> None:
    with suppress(psycopg.Error):  # the connection is cut soon, should it not have heard
        raw.cancel_safe(timeout=2.0)


def _cut(raw: "psycopg.Connection[Any]") -> None:
    """Break the connection under a statement that does not end, so that whoever waits for it wakes."""
    with (
        suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(raw.fileno())) as handle,
    ):  # or it is gone already
        handle.shutdown(socket.SHUT_RDWR)
