"""What the databases behind sql:// say when something fails, in our words: never with an address or a password."""

import re
import sqlite3
from typing import Any, Final

import psycopg

from mcp_server.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    LifecycleError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
    shown,
)

CURSOR_NAME: Final = "nba_mcp_rows"
CURSOR_PREFIX: Final = f'DECLARE "{CURSOR_NAME}" CURSOR FOR '  # what psycopg puts before a statement
_WRITES: Final = ("25006", "0A000", "42501", "25P02")  # a write, a feature, a right, a transaction that ended
_ONLY_READS: Final = (
    "Only one SELECT is run, in a transaction that only reads, with the rights of the connection's user."
)


def explain(failure: Exception, connection: str) -> LifecycleError:
    """Return our error for what a driver raised on the connection of this name."""
    if isinstance(failure, psycopg.Error):
        return _postgresql(failure, connection)
    return _sqlite(failure, connection)


def unreachable(failure: Any, connection: str) -> LifecycleError:
    """Return our error for a connection that was not made."""
    text = str(failure).lower()
    if "authentication failed" in text or "no pg_hba" in text or "password" in text:
        return PermissionDeniedError(
            f"The database of connection {shown(connection)} refuses its user or password.",
            hint=f"Check NBA_MCP_CONNECTIONS__{connection.upper()}.",
        )
    if "does not exist" in text or "unable to open" in text:
        return UnavailableError(
            f"Connection {shown(connection)} names a database, or a user, that is not there.",
            hint=f"Check NBA_MCP_CONNECTIONS__{connection.upper()}, then try again.",
        )
    return UnavailableError(
        f"The database of connection {shown(connection)} cannot be reached.",
        hint="Check that it runs, then try again.",
    )


def _postgresql(failure: psycopg.Error, connection: str) -> LifecycleError:
    state = failure.sqlstate or ""
    said = shown(failure.diag.message_primary or str(failure).partition("\n")[0], 300)
    if state == "42601" and "multiple commands" in said:
        return PermissionDeniedError("The query holds several statements.", hint=_ONLY_READS)
    if state in _WRITES:
        return PermissionDeniedError(f"The database refuses the query: {said}.", hint=_ONLY_READS)
    if state == "57014":
        return ResourceExhaustedError(
            "The statement took longer than its limit and was stopped; nothing was written.",
            hint="Ask for less, or raise NBA_MCP_REMOTE__STATEMENT_TIMEOUT_S.",
        )
    if state.startswith(("53", "54")) and state != "53300":
        return ResourceExhaustedError(f"The database lacks room for the query: {said}.", hint="Ask for less.")
    if state.startswith(("42", "22", "21", "2F", "3F", "P0")) or isinstance(failure, psycopg.DataError):
        position = int(failure.diag.statement_position or 0) - len(CURSOR_PREFIX)
        where = f" at character {position}" if position > 0 else ""
        hint = failure.diag.message_hint
        return InvalidArgumentError(
            f"The database cannot run the query: {said}{where}.",
            hint=shown(hint, 200) if hint else "Mend the query; a value that has no type here can be cast to text.",
        )
    return UnavailableError(
        f"Connection {shown(connection)} broke off or has no room ({state or type(failure).__name__}).",
        hint="Check that the database runs, then try again.",
    )


def _sqlite(failure: Exception, connection: str) -> LifecycleError:
    text = str(failure)
    said = shown(text, 300)
    if "one statement at a time" in text:
        return PermissionDeniedError("The query holds several statements.", hint=_ONLY_READS)
    if re.search(r"not authorized|prohibited|readonly|read-only|unsafe use", text):
        return PermissionDeniedError(f"The database refuses the query: {said}.", hint=_ONLY_READS)
    if re.search(r"too big|too large|out of memory|full", text):
        return ResourceExhaustedError(f"The database lacks room for the query: {said}.", hint="Ask for less.")
    if re.search(r"not a database|malformed", text):
        return FailedPreconditionError(
            f"The file of connection {shown(connection)} is no SQLite database, or damaged.", hint="Check the file."
        )
    if isinstance(failure, sqlite3.OperationalError) and re.search(r"locked|busy|unable|I/O", text):
        return UnavailableError(f"Connection {shown(connection)} cannot be read: {said}.", hint="Try again.")
    return InvalidArgumentError(f"The database cannot run the query: {said}.", hint="Mend the query.")
