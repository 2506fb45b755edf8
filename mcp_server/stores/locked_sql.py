"""DuckDB, locked before it sees a word of a caller's SQL. Runs in a child process, called by its name.

The connection holds nothing but views of the datasets that the SQL names. Before the SQL runs, everything outside is
switched off and the configuration is locked, in the order that DuckDB needs. It all happens in a child because
DuckDB's own limits do not bound everything: a long string function ignores the memory limit and the interrupt
(`repeat`, or `range` inside a list), and a killed process does not.
"""

import json
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mcp_server.errors import InvalidArgumentError, PermissionDeniedError, ResourceExhaustedError, shown
from mcp_server.stores.parquet import full_disk_explained, write_parquet
from mcp_server.stores.query_errors import explained
from mcp_server.stores.query_types import quoted, shown_cell, shown_column, stored_columns, type_name
from mcp_server.stores.query_values import visible_text
from mcp_server.stores.query_words import is_pivot, require_plain_words

_BATCH_ROWS = 50_000
_MAX_NAME_LENGTH = 200
_THREADS = 2
_ENGINE_SPEAKS = re.compile(r"\b\w+ Error: ")  # an error of DuckDB that came through Arrow's stream


def run_query(arguments: dict[str, Any]) -> dict[str, Any]:
    """Run one SELECT and return its first rows, or write all of them. The entry point of the child process.

    Args:
        arguments: `sql`, `tables` (name to Parquet path), `columns` (name to columns), `known` (all dataset names, for
            near ones), `memory_bytes`, `timeout_s`, `spill` (a folder for what does not fit in memory), `max_rows`, and
            `output` to write to.
    """
    sql = arguments["sql"]
    connection = _locked_connection(arguments)
    deadline = threading.Timer(arguments["timeout_s"], connection.interrupt)
    deadline.daemon = True
    deadline.start()
    try:
        _require_select(connection, sql)
        own_names = {name.lower() for names in arguments["columns"].values() for name in names} | {*arguments["known"]}
        require_plain_words(sql, own_names)
        answer = connection.sql(sql)
        if answer is None:
            raise InvalidArgumentError("The SQL gives no rows.", hint="Send a SELECT.")
        if "output" in arguments:
            return _written(answer, arguments) | _told_by_tree(connection, arguments)
        return _first_rows(answer, arguments["max_rows"])
    except (duckdb.Error, pa.ArrowException, OSError) as refusal:
        if isinstance(refusal, OSError) and not _ENGINE_SPEAKS.search(str(refusal)):
            raise
        raise explained(_located(connection, sql, refusal), arguments) from None
    finally:
        deadline.cancel()
        connection.close()


def _locked_connection(arguments: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    """Return a connection that sees the views of the given tables and nothing else."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": str(_THREADS),
            "python_enable_replacements": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_persistent_secrets": "false",
            "secret_directory": arguments["spill"],
            "temp_directory": arguments["spill"],
            "max_temp_directory_size": f"{arguments['memory_bytes'] * 4}B",
            "memory_limit": f"{arguments['memory_bytes']}B",
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")  # it would be drawn on the server's own output
    connection.execute(f"SET allowed_paths = [{', '.join(map(_literal, arguments['tables'].values()))}]")
    for name, path in arguments["tables"].items():
        connection.execute(f"CREATE VIEW {quoted(name)} AS SELECT * FROM read_parquet({_literal(path)})")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _require_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise InvalidArgumentError(
            f"The SQL holds {len(statements)} statements; one SELECT is needed.", hint="Send one statement a call."
        )
    try:
        kind = statements[0].type
    except ValueError:  # a kind of statement that the library has no name for
        kind = None
    pivots = kind == duckdb.StatementType.MULTI and is_pivot(sql)
    if kind != duckdb.StatementType.SELECT and not pivots:
        raise PermissionDeniedError(
            f"{kind.name if kind is not None else 'Such'} statements are not allowed; SQL here only reads.",
            hint="Use SELECT (WITH, PIVOT and DESCRIBE work too); transform_dataset stores what a SELECT gives.",
        )


def _told_by_tree(connection: duckdb.DuckDBPyConnection, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables that the SQL reads, and whether it puts its rows in order.

    Where DuckDB gives no tree (PIVOT, table functions) it is all tables that the SQL names, and their order counts.
    """
    row = connection.execute("SELECT json_serialize_sql(?)", [arguments["sql"]]).fetchone()
    tree = json.loads(row[0]) if row is not None else {}
    found = _base_tables(tree)
    read = [name for name in arguments["tables"] if name in found] or list(arguments["tables"])
    statements = tree.get("statements") or []
    modifiers = [each.get("type") for each in statements[0]["node"].get("modifiers", [])] if statements else []
    return {"read": read, "ordered": not statements or "ORDER_MODIFIER" in modifiers}


def _base_tables(node: Any) -> set[str]:
    """Return the names of the tables in a statement's tree; those of its own WITH among them."""
    if isinstance(node, list):
        return set().union(*map(_base_tables, node))
    if not isinstance(node, dict):
        return set()
    own = {str(node.get("table_name")).lower()} if node.get("type") == "BASE_TABLE" else set()
    return own.union(*map(_base_tables, node.values()))


def _first_rows(answer: duckdb.DuckDBPyRelation, max_rows: int) -> dict[str, Any]:
    kinds = [dtype.id for dtype in answer.types]
    projection = ", ".join(f"{shown_column(at, kind)} AS c{at}" for at, kind in enumerate(kinds, start=1))
    rows = answer.project(projection).limit(max_rows + 1).fetchall()
    return {
        "columns": _unique([visible_text(name, _MAX_NAME_LENGTH) for name in answer.columns]),
        "dtypes": [type_name(kind) for kind in kinds],
        "rows": [[shown_cell(cell, kind) for cell, kind in zip(row, kinds, strict=True)] for row in rows[:max_rows]],
        "truncated": len(rows) > max_rows,
    }


def _written(answer: duckdb.DuckDBPyRelation, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Write all rows in the one spelling of datasets; they pass through a file, so that they need not fit in memory."""
    names = answer.columns
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgumentError(
            f"The SQL gives two columns named {shown(twice)}.", hint="Name each column once, with AS."
        )
    reader: Any = answer.project(stored_columns(names, answer.types)).to_arrow_reader(_BATCH_ROWS)
    passed = Path(arguments["spill"]) / "passed.parquet"
    n_rows = 0
    with full_disk_explained(), pq.ParquetWriter(passed, reader.schema, compression="lz4") as writer:
        for batch in reader:
            n_rows += batch.num_rows
            if n_rows > arguments["max_rows"]:
                raise ResourceExhaustedError(
                    f"The SQL gives more than {arguments['max_rows']:,} rows, the limit; nothing was stored.",
                    hint="Filter or aggregate, or raise NBA_MCP_LIMITS__TRANSFORM_MAX_ROWS.",
                )
            writer.write_batch(batch)
    write_parquet(pl.scan_parquet(passed), Path(arguments["output"]))
    return {"rows": n_rows}


def _located(connection: duckdb.DuckDBPyConnection, sql: str, refusal: Exception) -> Exception:
    """Return the same refusal with line and caret, which DuckDB leaves out for relations."""
    if not isinstance(refusal, duckdb.BinderException | duckdb.CatalogException):
        return refusal
    try:
        connection.execute(sql)  # it cannot run: its names do not bind
    except duckdb.Error as located:
        return located
    return refusal


def _unique(names: Sequence[str]) -> list[str]:
    taken: list[str] = []
    for name in names:
        number, free = 1, name
        while free in taken:
            number += 1
            free = f"{name}_{number}"
        taken.append(free)
    return taken
