"""Reads untrusted files into one Parquet file of ours. Runs in a child process with limits, called by its name.

Every file is read twice: once to see its types, which depend on all of its rows, and once to write them. Neither
holds more than a piece of it, so memory is bounded whatever the size.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from mcp_server.errors import ConflictError, InvalidArgumentError, LifecycleError, ResourceExhaustedError, shown
from mcp_server.stores.parquet import missing_cells, write_batches
from mcp_server.stores.sources.binary import ArrowTable
from mcp_server.stores.sources.columns import ParseLimits
from mcp_server.stores.sources.csv import CsvTable
from mcp_server.stores.sources.excel import ExcelTable
from mcp_server.stores.sources.json import JsonTable
from mcp_server.stores.sources.open import Room, opened, plain_stream
from mcp_server.stores.sources.parts import Part, Parts
from mcp_server.stores.sources.progress import Told
from mcp_server.stores.sources.table import SourceTable
from mcp_server.stores.sources.text import read_text

FORMATS: Final = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".xlsx": "excel",
    ".xls": "excel",
    ".xlsb": "excel",
    ".ods": "excel",
}
COMPRESSIONS: Final = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file's name says: its format, and what it is compressed with."""

    format: str
    compression: str | None


def kind_of(name: str, declared: str | None = None) -> FileKind:
    """Return what a file named `name` is; `declared` overrides the format that its ending says.

    Raises:
        InvalidArgumentError: neither says a format that can be read.
    """
    path = Path(name.lower())
    compression = COMPRESSIONS.get(path.suffix)
    ending = Path(path.stem).suffix if compression else path.suffix
    found = declared or FORMATS.get(ending)
    if found is None:
        known = ", ".join(FORMATS)
        raise InvalidArgumentError(
            f"The ending of {shown(name)} says no format that can be imported.",
            hint=f"Known: {known}, also with .gz, .bz2 or .zst; or say the format in the argument format.",
        )
    return FileKind(found, compression)


def parse_file(arguments: dict[str, Any]) -> dict[str, Any]:
    """Read `path`, or all `parts`, and write `output`. The entry point of the child process.

    Args:
        arguments: `format`, `options`, `limits` (the fields of `ParseLimits`), `output` (a path to write Parquet to),
            and either `path`, `device`, `inode` and `compression` of the one allowed file, or `parts`: a list of
            objects of those, each with its `name`. `progress` is a path to tell the progress to, if there is one.

    Returns:
        `findings` (`[column, code, message]`), `notes`, and `details` such as the encoding.
    """
    limits = ParseLimits(**arguments["limits"])
    output = Path(arguments["output"])
    files = arguments.get("parts") or [{key: arguments[key] for key in ("path", "device", "inode", "compression")}]
    options = dict(arguments["options"])
    source_column = options.pop("add_source_column", None)
    with ExitStack() as stack:
        room = stack.enter_context(Room(output.parent, limits.max_decompressed_bytes))
        reading = _Reading(arguments["format"], options, limits, room, Told(arguments.get("progress")), len(files))
        parts = Parts([reading.part(number, file, stack) for number, file in enumerate(files)], source_column)
        if not parts.rows:
            raise InvalidArgumentError("The file has 0 data rows.", hint="Check the source.")
        write_batches(parts.frames(), parts.schema, output)
    _check_unchanged(parts, output)
    compressions = sorted({file["compression"] or "none" for file in files})
    details = parts.details | {
        "format": arguments["format"],
        "compression": None if compressions == ["none"] else ", ".join(compressions),
    }
    return {"findings": [list(finding) for finding in parts.findings], "notes": parts.notes, "details": details}


class _Reading:
    """Opens files of one format, and tells how far it is: each is read twice."""

    def __init__(
        self, format: str, options: dict[str, Any], limits: ParseLimits, room: Room, told: Told, n_files: int
    ) -> None:
        self._format = format
        self._options = options
        self._limits = limits
        self._room = room
        self._told = told
        self._n_files = n_files
        self._n_done = [0.0] * n_files

    def part(self, number: int, file: dict[str, Any], stack: ExitStack) -> Part:
        """Open a file, which `stack` closes, and look at it."""
        name = file.get("name") or Path(file["path"]).name
        try:
            stream = stack.enter_context(opened(file["path"], file["device"], file["inode"]))
            plain = plain_stream(stream, self._format, file["compression"], self._room)
            table, details, notes = self._table(number, plain)
            look = table.look()
        except LifecycleError as refusal:
            raise _in_part(refusal, name) if self._n_files > 1 else refusal from None
        look.details = details | look.details
        look.notes = [*look.notes, *notes]
        return Part(name, table, look)

    def _table(self, number: int, stream: IO[bytes]) -> tuple[SourceTable, dict[str, Any], list[str]]:
        kind = self._format
        if kind in ("parquet", "arrow"):
            report = self._reports(number, 1)
            return ArrowTable(stream, self._limits, is_parquet=kind == "parquet", report=report), {}, []
        if kind == "excel":
            return ExcelTable(stream, self._options, self._limits), {}, []
        text = read_text(stream, self._options.get("encoding"), self._room)
        report = self._reports(number, text.size)
        notes = []
        if text.encoding != "utf-8":
            notes.append(f"The encoding is {text.encoding}{' (found out)' if text.detected else ''}.")
        if kind in ("csv", "tsv"):
            default = "\t" if kind == "tsv" else None
            return CsvTable(text, self._options, self._limits, default, report), {"encoding": text.encoding}, notes
        table = JsonTable(text, self._limits, is_lines=kind == "jsonl", report=report)
        return table, {"encoding": text.encoding}, notes

    def _reports(self, number: int, size: int) -> Callable[[float], None]:
        """Return what a table tells its progress to; it starts again from 0 when it is read the second time."""
        rounds, last = 0, 0.0

        def report(done: float) -> None:
            nonlocal rounds, last
            rounds += done < last
            last = done
            self._n_done[number] = min(2.0, rounds + done / max(size, 1))
            self._told(sum(self._n_done) / (2 * self._n_files))

        return report


def _in_part(refusal: LifecycleError, name: str) -> LifecycleError:
    if type(refusal) not in (InvalidArgumentError, ResourceExhaustedError):
        return refusal
    return type(refusal)(f"In part {shown(name)}: {refusal.message}", hint=refusal.hint, details=refusal.details)


def _check_unchanged(parts: Parts, output: Path) -> None:
    """Refuse what was written of a file that another program changed between the two readings."""
    rows, missing = missing_cells(output)
    planned = {column.name: column.missing for column in parts.columns if column.missing is not None}
    if rows != parts.rows or any(missing[name] != n_missing for name, n_missing in planned.items()):
        raise ConflictError("The source changed while it was being read; nothing was stored.", hint="Call again.")
