"""What DuckDB says of a caller's SQL, told in the product's words: with line and caret, without paths."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import duckdb

from mcp_server.errors import (
    InvalidArgumentError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    shown,
)
from mcp_server.stores.query_types import BEYOND_YEARS, quoted

_MAX_MESSAGE_LENGTH: Final = 700
_PATH: Final = re.compile(r"""(?<![\w%.])(?:/[^\s'"`/:;,()]+){2,}""")
_MISSING_TABLE: Final = re.compile(r"Table with name (.+?) does not exist")
_MISSING_COLUMN: Final = re.compile(r'column "(.+?)" not found|does not have a column named "(.+?)"', re.DOTALL)
_EXTENSION: Final = re.compile(r"exists in the \w+ extension|[Ee]xtension \"?\w+\"? (is|has) not|autoload")
_OTHER_NAMES: Final = re.compile(r"\n(Did you mean|Candidate (bindings|tables|functions):)[^\n]*(\n\t[^\n]*)*")
_SETTINGS: Final = re.compile(r" Use \"?SET [^\n]*")
_LINE: Final = re.compile(r"\n\nLINE (\d+): ([^\n]*)")
_FOREIGN_WORDS: Final = re.compile(r"pg_|duckdb_|sqlite_|information_schema|pragma_")


def explained(refusal: Exception, arguments: Mapping[str, Any]) -> LifecycleError:
    """Return the error that a caller sees.

    Args:
        arguments: those of `run_query`: the limits, the tables with their columns, and the names that exist.
    """
    raw = str(refusal)
    if isinstance(refusal, duckdb.InterruptException) or "INTERRUPT Error" in raw:
        return ResourceExhaustedError(
            f"The query took longer than its limit of {arguments['timeout_s']:g} s and was stopped.",
            hint=f"Filter or aggregate, or raise {arguments['timeout_setting']}.",
        )
    if isinstance(refusal, duckdb.OutOfMemoryException) or "Out of Memory Error" in raw:
        return ResourceExhaustedError(
            f"The query needs more than its limit of {arguments['memory_bytes'] // 1024**2} MiB of memory.",
            hint="Filter or aggregate, or raise NBA_MCP_LIMITS__QUERY_MEMORY_BYTES.",
        )
    missing = _MISSING_TABLE.search(raw)
    if isinstance(refusal, duckdb.PermissionException) or (missing and re.search(r"[/\\.:*]", missing[1])):
        return PermissionDeniedError(
            "SQL sees datasets only: no files, no network, no extensions, no settings.",
            hint="Import a file with import_dataset first; list_datasets names the tables.",
        )
    if _EXTENSION.search(raw):
        return PermissionDeniedError(
            "SQL sees datasets only: what needs a DuckDB extension is not there.",
            hint="Import the data with import_dataset, then query the dataset.",
        )
    text = _without_paths(_at_its_line(raw, arguments["sql"]), list(arguments["tables"].values()))
    if missing:
        return NotFoundError(
            "dataset",
            missing[1],
            arguments["known"],
            hint=_quoting(arguments) or "In SQL each dataset is a table of its name; list_datasets names them.",
            details={"engine_message": text},
        )
    if BEYOND_YEARS in text:
        return InvalidArgumentError(
            text.removeprefix("Invalid Input Error: ") + ".",
            hint="Leave those rows out, or CAST the column to VARCHAR.",
        )
    return InvalidArgumentError(text, hint=_hint(raw, arguments))


def _hint(message: str, arguments: Mapping[str, Any]) -> str:
    if near := _near_columns(message, arguments):
        return near
    if quoting := _quoting(arguments):
        return quoting
    if "INT128" in message and "out of range" in message:
        return "Whole numbers of a dataset reach 64 bits: CAST longer ones to DOUBLE or VARCHAR."
    return "Mend the SQL; describe_dataset lists columns. Names other than lower case need double quotes."


def _near_columns(message: str, arguments: Mapping[str, Any]) -> str:
    match = _MISSING_COLUMN.search(message)
    if match is None:
        return ""
    wanted = (match[1] or match[2]).lower()
    columns: dict[str, str] = {name.lower(): name for names in arguments["columns"].values() for name in names}
    near = [columns[name] for name in get_close_matches(wanted, columns, n=3, cutoff=0.5)]
    if near:
        return f"Close columns: {', '.join(shown(name) for name in near)}."
    tables = ", ".join(arguments["columns"])
    return f"DESCRIBE lists the columns of {tables}; text stands in single quotes." if tables else ""


def _quoting(arguments: Mapping[str, Any]) -> str:
    """Say which names need quotes, where the SQL has such a name without."""
    bare = [
        name
        for name in arguments["tables"]
        if re.search(r"[^a-z0-9_]", name)
        and re.search(rf'(?<!["\w]){re.escape(name)}(?!["\w])', arguments["sql"], re.I)
    ]
    return f"Put the name in double quotes: {', '.join(quoted(name) for name in bare[:3])}." if bare else ""


def _at_its_line(message: str, sql: str) -> str:
    """Return the message with the number of the line in the caller's SQL, which DuckDB counts in its own wrapping."""
    match = _LINE.search(message)
    if match is None:
        return message
    lines, quoted_line = sql.split("\n"), match[2].strip(". ")
    number = int(match[1])
    if number <= len(lines) and quoted_line in lines[number - 1]:
        return message
    found = next((at for at, line in enumerate(lines, start=1) if quoted_line in line), number)
    return message[: match.start(1)] + str(found) + message[match.end(1) :]


def _without_paths(message: str, paths: Sequence[str]) -> str:
    """Return the engine's message, line and caret included, without advice on settings, and without paths."""
    for path in paths:
        message = message.replace(path, "(dataset)")
    head, line, caret = message.partition("\n\nLINE ")
    head = head.split("\n\nPossible solutions")[0]
    head = _SETTINGS.sub("", head)
    head = _OTHER_NAMES.sub(lambda match: "" if _FOREIGN_WORDS.search(match[0]) else match[0], head)
    if not line:
        head = _PATH.sub("(path)", head)
    text = head + line + caret
    text = "".join(c if c == "\n" or c.isprintable() else " " for c in text)
    return text if len(text) <= _MAX_MESSAGE_LENGTH else text[: _MAX_MESSAGE_LENGTH - 1] + "…"
