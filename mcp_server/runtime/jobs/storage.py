"""Where DBOS keeps its tables: a file of their own beside our SQLite, a schema of their own in our PostgreSQL."""

import logging
from pathlib import Path

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, PortableWorkflowError
from dbos import error as dbos_errors
from filelock import FileLock

from mcp_server.settings import Settings

APPLICATION = "nba-mcp"
APPLICATION_VERSION = "2"  # of the workflows' shape: raise it when recorded steps can no longer be continued
SCHEMA = "dbos"

_EXPECTED = (
    PortableWorkflowError,
    dbos_errors.DBOSWorkflowCancelledError,
    dbos_errors.DBOSAwaitedWorkflowCancelledError,
)


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out what DBOS says of a job that was refused or cancelled as it should be: that is the job's answer."""
    return not (record.exc_info and isinstance(record.exc_info[1], _EXPECTED))


def quieten_logs() -> None:
    """Let DBOS speak of trouble only."""
    logger = logging.getLogger("dbos")
    logger.setLevel(logging.WARNING)
    logger.addFilter(_is_news)


def job_database_url(settings: Settings) -> str:
    """Return the SQLAlchemy URL of DBOS's tables."""
    if settings.is_sqlite:
        return f"sqlite:///{settings.data_dir / 'jobs.db'}"
    return settings.database_url


def prepare_job_database(settings: Settings) -> None:
    """Create or upgrade DBOS's tables; processes that start at once take turns.

    SQLite is set to write-ahead logging, so that the queue's polling never waits for a writer.
    """
    quieten_logs()
    url = job_database_url(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(Path(settings.data_dir) / "jobs.migration.lock", timeout=60):
        if settings.is_sqlite:
            engine = sa.create_engine(url)
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            engine.dispose()
        DBOS.migrate(url, schema=SCHEMA)


def make_client(settings: Settings) -> DBOSClient:
    """Return a client that can submit, watch and cancel workflows."""
    return DBOSClient(
        system_database_url=job_database_url(settings),
        dbos_system_schema=SCHEMA,
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
        retry_connection_errors=False,
    )
