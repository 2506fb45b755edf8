"""The SQL database: one engine with its pool, SQLite or PostgreSQL, and its migrations."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mcp_server.errors import FailedPreconditionError, ResourceExhaustedError, UnavailableError
from mcp_server.settings import DatabaseSettings

_LONGEST_TURN_S = 60  # whoever is first makes all tables, which takes longer than a statement may
_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """Holds the connection pool. Thread-safe."""

    def __init__(self, url: str, settings: DatabaseSettings | None = None) -> None:
        self.settings = settings or DatabaseSettings()
        self.url = sa.make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = self._make_engine()

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """Yield a connection in a transaction: committed at the end, rolled back on an error.

        On SQLite the transaction takes the write lock at once, so that what it read stays true until it commits.

        Raises:
            UnavailableError: the database is down, or did not answer in time.
            ResourceExhaustedError: its disk is full.
        """
        with _explained(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Yield a connection for reading only; on SQLite it never waits for a writer."""
        with _explained(), self.engine.connect().execution_options(reads_only=True) as connection:
            yield connection

    @contextmanager
    def turn(self, key: int, schema: str) -> Iterator[None]:
        """Let processes that start at once fill a PostgreSQL schema, made if it is missing, one after the other.

        Args:
            key: of the lock; each schema has its own.
            schema: its name.
        """
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(f"SET statement_timeout = '{_LONGEST_TURN_S}s'"))
            connection.execute(sa.text(f"SELECT pg_advisory_lock({key})"))
            connection.execute(sa.text("RESET statement_timeout"))
            try:
                connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
                yield
            finally:
                connection.execute(sa.text(f"SELECT pg_advisory_unlock({key})"))

    def ping(self) -> None:
        """Make one round trip."""
        with self.read() as connection:
            connection.execute(sa.text("SELECT 1"))

    def pool_figures(self) -> dict[str, int]:
        """Return the pool's size, connections in use, and overflow."""
        pool = self.engine.pool
        if not isinstance(pool, sa.QueuePool):
            return {"size": 0, "in_use": 0, "overflow": 0, "waited": 0}
        return {
            "size": pool.size(),
            "in_use": pool.checkedout(),
            "overflow": max(0, pool.overflow()),
            "waited": 0,
        }

    def migrate(self) -> None:
        """Bring the tables to this version's schema; processes that start at once take turns.

        Raises:
            FailedPreconditionError: a newer version of the product made these tables.
        """
        with _explained():
            _upgrade(self)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _make_engine(self) -> sa.Engine:
        if self.is_sqlite:
            return self._make_sqlite_engine()
        milliseconds = int(self.settings.statement_timeout_s * 1000)
        return sa.create_engine(
            self.url,
            pool_pre_ping=True,
            pool_size=self.settings.pool_size,
            pool_timeout=self.settings.connect_timeout_s,
            json_serializer=_to_json,
            connect_args={
                "connect_timeout": max(1, int(self.settings.connect_timeout_s)),
                "options": f"-c statement_timeout={milliseconds}",
            },
        )

    def _make_sqlite_engine(self) -> sa.Engine:
        if self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(
            self.url,
            poolclass=sa.QueuePool,
            pool_size=self.settings.pool_size,
            pool_timeout=self.settings.connect_timeout_s,
            json_serializer=_to_json,
            connect_args={"timeout": self.settings.busy_timeout_s, "check_same_thread": False},
        )

        @event.listens_for(engine, "connect")
        def _configure(connection: sqlite3.Connection, _record: Any) -> None:
            connection.isolation_level = None  # we emit BEGIN ourselves, below
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            reads_only = connection.get_execution_options().get("reads_only", False)
            connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

        return engine


def _to_json(value: Any) -> str:
    import json

    return json.dumps(value, allow_nan=False, separators=(",", ":"), sort_keys=False)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn the driver's errors into ours; what is a bug (a wrong statement) stays what it is."""
    try:
        yield
    except PoolTimeoutError as refusal:
        raise UnavailableError(
            "The database has no free connection.", hint="Try again; see check_health for the pool."
        ) from refusal
    except (OperationalError, InterfaceError) as refusal:
        raise _operational(refusal) from refusal
    except DBAPIError as refusal:
        if refusal.connection_invalidated:
            raise UnavailableError("The database connection broke.", hint="Try again.") from refusal
        raise


def _operational(refusal: DBAPIError) -> UnavailableError | ResourceExhaustedError:
    text = str(refusal.orig).lower()
    if "disk is full" in text or "disk full" in text or "no space left" in text:
        return ResourceExhaustedError(
            "The disk that holds the database is full; nothing was written.", hint="Free space and call again."
        )
    if "locked" in text:
        return UnavailableError("Another process holds the database's lock.", hint="Try again.")
    return UnavailableError(
        "The database does not answer.", hint="Check that it runs (`nba-mcp doctor`), then try again."
    )


def _upgrade(database: Database) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    head = script.get_current_head()
    with database.engine.connect() as connection:
        if MigrationContext.configure(connection).get_current_revision() == head:
            return
    # One transaction holds the lock and makes all the changes: a second process waits, then finds them made.
    with database.engine.begin() as connection:
        if not database.is_sqlite:
            connection.execute(sa.text(f"SET LOCAL statement_timeout = '{_LONGEST_TURN_S}s'"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(6013770013)"))
        current = MigrationContext.configure(connection).get_current_revision()
        known = {revision.revision for revision in script.walk_revisions()}
        if current is not None and current not in known:
            raise FailedPreconditionError(
                f"The database has schema {current}, made by a newer version; this version knows up to {head}.",
                hint="Start the newer version of nba-mcp, or restore a backup made before the upgrade.",
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
