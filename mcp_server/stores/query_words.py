"""What a caller's SQL may not call or read, found in its words before it runs.

DuckDB's locks keep files, the network and extensions out. Beside these it has functions that run text as SQL, read
memory by address, or tell where its own files lie; none of them is analytics, so they are refused by name.
"""

import re
from collections.abc import Collection, Iterator
from typing import Final

import duckdb

from mcp_server.errors import PermissionDeniedError, shown

_CALLS: Final = re.compile(
    r"read_\w+|parquet_\w+|duckdb_\w+|pragma_\w+|\w+_scan|pg_get_\w+|sqlite_\w+|postgres_\w+|mysql_\w+|test_\w+"
    r"|\w*external_resource\w*|(en|dis)able_\w+|(force_)?checkpoint|load_\w+|st_read\w*|iceberg_\w+|delta_\w+|http\w*"
    r"|arrow_scan_dumb|query|query_table|json_execute_serialized_sql|python_map_function|glob|sniff_csv|getenv"
    r"|current_setting|which_secret|write_log|truncate_duckdb_logs|add_parquet_key|copy_database|(pg_)?sleep\w*"
)
_RELATIONS: Final = re.compile(
    r"duckdb_\w+|pragma_database_list|sqlite_(temp_)?(master|schema)"
    r"|pg_(am|attrdef|attribute|class|constraint|database|depend|description|enum|index|indexes|namespace|prepared_statements"
    r"|proc|sequence|sequences|settings|tables|tablespace|type|views)"
)
_QUERIES: Final = {"select", "with", "from", "pivot", "pivot_wider", "unpivot", "values", "table"}
_SCHEMAS: Final = {"information_schema", "pg_catalog", "system", "temp"}
_TEXT: Final = (duckdb.token_type.string_const, duckdb.token_type.comment, duckdb.token_type.numeric_const)


def require_plain_words(sql: str, own_names: Collection[str]) -> None:
    """Refuse functions and relations that reach beyond the datasets.

    Args:
        sql: any text; what does not parse is refused later, by the engine.
        own_names: names of datasets and columns, in lower case, which may be called as system relations are.

    Raises:
        PermissionDeniedError: names the word.
    """
    words = list(_words(sql))
    for (word, is_name), (following, _) in zip(words, [*words[1:], ("", False)], strict=True):
        if not is_name:
            continue
        called = following.startswith("(") and _CALLS.fullmatch(word)
        if (
            called
            or (word in _SCHEMAS and following.startswith("."))
            or (_RELATIONS.fullmatch(word) and word not in own_names)
        ):
            raise PermissionDeniedError(
                f"SQL sees datasets only; {shown(word)} is not allowed: no files, no settings, no system tables.",
                hint="list_datasets names the tables; DESCRIBE name lists the columns of one.",
            )


def is_pivot(sql: str) -> bool:
    """Return True for a query with PIVOT in it, which DuckDB turns into several statements."""
    words = [word for word, is_name in _words(sql) if is_name and word != "("]
    return bool(words) and words[0] in _QUERIES and bool({"pivot", "pivot_wider"} & {*words})


def _words(sql: str) -> Iterator[tuple[str, bool]]:
    """Yield the words of a statement in lower case, comments left out, and whether each can be a name."""
    text = sql.encode()
    tokens = duckdb.tokenize(sql)
    for (start, kind), (end, _) in zip(tokens, [*tokens[1:], (len(text), None)], strict=True):
        word = text[start:end].decode(errors="replace").strip().lower()
        if kind == duckdb.token_type.comment:
            continue
        if word.startswith('"') and word.endswith('"'):
            word = word[1:-1].replace('""', '"')
        yield word, kind not in _TEXT
