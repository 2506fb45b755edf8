"""What keeps a caller's SQL from doing more than read tables, beside the read-only transaction."""

import re
import sqlite3
from typing import Any, Final

import psycopg

from mcp_server.errors import PermissionDeniedError, shown

_READS: Final = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, 33}  # 33: SQLITE_RECURSIVE
# printf and format may count to a billion without hearing that they were interrupted
_SQLITE_DENIED: Final = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "printf", "format"}
# What reaches out of the database, holds it up, runs text as SQL, or holds passwords: a superuser may use all of it
_POSTGRESQL_DENIED: Final = re.compile(
    r"\b(pg_read_(binary_)?file|pg_ls_\w+|pg_stat_file|pg_file_\w+|pg_current_logfile|lo_(import|export|get|put|creat\w*|"
    r"unlink|open|from_bytea)|loread|lowrite|dblink\w*|pg_sleep\w*|(query|cursor|table)_to_xml\w*|"
    r"(database|schema)_to_xml\w*|ts_stat|ts_rewrite|set_config|pg_(terminate|cancel)_backend|pg_reload_conf|"
    r"pg_rotate_logfile|pg_(try_)?advisory\w*|pg_notify|pg_logical\w*|pg_(create|drop|switch|promote|export|log)_\w+|"
    r"pg_execute\w*|pg_authid|pg_shadow|pg_user_mappings?|pg_largeobject|pg_subscription)\b|\bu&['\"]",
    re.IGNORECASE,
)
_SEARCH_PATH: Final = "SELECT array_to_string(ARRAY(SELECT quote_ident(s) FROM unnest(current_schemas(false)) s), ', ')"


def quoted(name: str) -> str:
    """Return an identifier as standard SQL quotes it."""
    return '"' + name.replace('"', '""') + '"'


def require_select(statement: str) -> None:
    """Raise PermissionDeniedError for what cannot be a single SELECT; the database itself judges the rest."""
    word = re.match(r"[A-Za-z]*", _without_comments(statement))
    if word is None or word[0].upper() not in ("SELECT", "WITH", "VALUES", "TABLE"):
        raise PermissionDeniedError(
            f"The query starts with {shown(statement.strip()[:20])}; only one SELECT is run.",
            hint="Write sql://CONNECTION?query=SELECT …",
        )
    denied = _POSTGRESQL_DENIED.search(statement)
    if denied is not None:
        raise PermissionDeniedError(
            f"The query may not use {shown(denied[0])}.",
            hint="It reaches out of the database, holds it up, or hides what runs; read tables and views.",
        )


def _without_comments(statement: str) -> str:
    """Return the statement from its first word on."""
    rest = statement.lstrip(" \t\r\n(")
    while rest.startswith(("--", "/*")):
        rest = rest.partition("\n" if rest.startswith("--") else "*/")[2].lstrip(" \t\r\n(")
    return rest


def authorize(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
    """Let SQLite read and nothing else."""
    denied = action not in _READS or (action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _SQLITE_DENIED)
    return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK


def drop_rights(raw: "psycopg.Connection[Any]") -> None:
    """Give a superuser's connection the rights of a reader of tables, no more, for this transaction.

    Row security, which a superuser passes by, then raises an error rather than leave rows out.
    """
    is_superuser = raw.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    can_drop = raw.execute("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = 'pg_read_all_data'").fetchone()
    if is_superuser and is_superuser[0] and can_drop:
        schemas = raw.execute(_SEARCH_PATH).fetchone()
        raw.execute("SELECT set_config('search_path', %s, true), set_config('row_security', 'off', true)", schemas)
        raw.execute("SET LOCAL ROLE pg_read_all_data")
