"""Where data may come from: files below the allowed roots, by their real place; everything else is refused here."""

import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mcp_server.engine.findings import Finding
from mcp_server.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    shown,
)
from mcp_server.runtime.child import never_cancelled, run_in_child
from mcp_server.runtime.progress import Progress
from mcp_server.settings import LimitSettings
from mcp_server.stores.sources.folders import PATTERN, parts_of
from mcp_server.stores.sources.progress import heard
from mcp_server.stores.sources.reader import Brought, require_options

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_USER_INFO = re.compile(r"(?<=//)[^/?#]*@")  # of an address, with its password
_MAX_LISTED = 10_000
_OPTIONS: Mapping[str, Mapping[str, type]] = {
    "csv": {"delimiter": str, "header": bool, "encoding": str, "add_source_column": str},
    "tsv": {"delimiter": str, "header": bool, "encoding": str, "add_source_column": str},
    "json": {"encoding": str, "add_source_column": str},
    "jsonl": {"encoding": str, "add_source_column": str},
    "excel": {"sheet": str, "header": bool, "add_source_column": str},
    "parquet": {"add_source_column": str},
    "arrow": {"add_source_column": str},
}
_TOLD_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A regular file below an allowed root; `source` is how a caller names it."""

    source: str
    path: Path
    device: int
    inode: int
    size_bytes: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class ParsedSource:
    """What a file held, beside the rows that were written as Parquet."""

    findings: Sequence[Finding]
    notes: Sequence[str]
    details: Mapping[str, Any]


class SourceFiles:
    """Finds, lists and parses files below the allowed roots. Thread-safe."""

    def __init__(self, roots: Sequence[Path], limits: LimitSettings) -> None:
        self._roots = tuple(roots)
        self._limits = limits

    def find(self, source: str) -> SourceFile:
        """Return the file that `source` names: a path in a root, or relative to one.

        Raises:
            PermissionDeniedError: it lies elsewhere, is reached by a link, or is no regular file.
            NotFoundError: there is none; carries near names.
            ResourceExhaustedError: it is larger than the limit.
        """
        refuse_schemes(source)
        place = self._place(source)
        if place is None:
            raise self._missing(source)
        root, path = place
        if path.is_dir():
            raise InvalidArgumentError(
                f"Source {shown(source)} is a folder; one file is needed here.", hint="Name a file in it."
            )
        return self._file(source, root, path)

    def find_parts(self, source: str, format: str | None = None) -> tuple[list[SourceFile], list[str]]:
        """Return the files that `source` names, by name: one, those of a folder, or those that a pattern fits.

        Returns:
            The files, all of one format, and notes on what was left out.

        Raises:
            As `find`, of every file; InvalidArgumentError: they have several formats.
        """
        refuse_schemes(source)
        place = self._place(source)
        if place is not None and not place[1].is_dir():
            return [self._file(source, *place)], []
        if place is None and not PATTERN.search(source):
            raise self._missing(source)
        places = [place] if place is not None else self._candidates(source)
        for root, path in places:
            found = parts_of(root, path, format, is_pattern=place is None)
            if found.paths:
                files = [self._file(path.relative_to(root).as_posix(), root, path) for path in found.paths]
                self._check_size(source, sum(file.size_bytes for file in files))
                return files, found.notes
        raise self._missing(source)

    def _place(self, source: str) -> tuple[Path, Path] | None:
        """Return the root in which `source` is, and its path; None when it is in none."""
        return next(((root, path) for root, path in self._candidates(source) if _exists(root, path)), None)

    def _file(self, source: str, root: Path, path: Path) -> SourceFile:
        found = path.lstat()
        if not _exists(root, path) or not stat.S_ISREG(found.st_mode):
            raise PermissionDeniedError(
                f"Source {shown(source)} is no regular file.", hint="Links, pipes and devices are never read."
            )
        self._check_size(source, found.st_size)
        return _source_file(path.relative_to(root).as_posix(), path, found)

    def _check_size(self, source: str, size_bytes: int) -> None:
        if size_bytes > self._limits.max_file_bytes:
            raise ResourceExhaustedError(
                f"Source {shown(source)} has {size_bytes:,} bytes; the limit is {self._limits.max_file_bytes:,}.",
                hint="Import a smaller file, or raise NBA_MCP_LIMITS__MAX_FILE_BYTES.",
            )

    def target(self, target: str) -> Path:
        """Return the path that an export to `target` writes; its folder exists and lies in a root.

        Raises:
            PermissionDeniedError: it lies elsewhere or is reached by a link.
            NotFoundError: its folder does not exist.
        """
        refuse_schemes(target, word="Target")
        candidates = self._candidates(target, word="Target")
        place = next(((r, p) for r, p in candidates if p != r and _exists(r, p.parent) and p.parent.is_dir()), None)
        if place is None:
            raise NotFoundError("folder", target, hint="An export goes into a folder that exists, in a data root.")
        root, path = place
        if _exists(root, path) and not stat.S_ISREG(path.lstat().st_mode):
            raise PermissionDeniedError(
                f"Target {shown(target)} is no regular file.", hint="Name a file that does not exist yet."
            )
        return path

    def listed(self, limit: int, after: str = "") -> list[SourceFile]:
        """Return up to `limit` files that can be imported, by name, those after the name `after`."""
        from mcp_server.stores.sources.parse import COMPRESSIONS, FORMATS

        files: dict[str, SourceFile] = {}
        for root in self._roots:
            for path, found in _walk(root):
                stem = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
                name = path.relative_to(root).as_posix()
                if stem.suffix.lower() in FORMATS and name > after:
                    files.setdefault(name, _source_file(name, path, found))
        return [files[name] for name in sorted(files)[:limit]]

    def bring(
        self, source: str, format: str | None, options: Mapping[str, Any], output: Path, progress: Progress
    ) -> Brought:
        """Write the rows of the file, or of all files, that `source` names to `output`.

        Raises:
            LifecycleError: as `find_parts` and `parse`.
        """
        files, notes = self.find_parts(source, format)
        progress(0.05, f"reading {sum(file.size_bytes for file in files):,} bytes")
        told = output.with_name(f"{output.name}.told")
        try:
            parsed = self.parse(files, format, options, output, _watched(progress, told), told)
        finally:
            told.unlink(missing_ok=True)
        return Brought(
            source=files[0].source if len(files) == 1 else os.path.normpath(source),
            findings=parsed.findings,
            notes=[*parsed.notes, *notes],
            details=parsed.details,
            options=options,
        )

    def parse(
        self,
        file: SourceFile | Sequence[SourceFile],
        format: str | None,
        options: Mapping[str, Any],
        output: Path,
        cancelled: Callable[[], bool] = never_cancelled,
        told: Path | None = None,
    ) -> ParsedSource:
        """Parse a file, or files of one format as one table, in a child process and write the rows to `output`.

        Args:
            told: a path at which the child says how far it is.

        Raises:
            InvalidArgumentError: it cannot be read as a table, or an option is wrong; says where.
            ResourceExhaustedError: it takes more memory, time or space than its limits.
            CancelledError: `cancelled` said so.
        """
        from mcp_server.stores.sources.parse import kind_of

        files = [file] if isinstance(file, SourceFile) else list(file)
        kind = kind_of(files[0].path.name, format)
        require_options(kind.format, _OPTIONS[kind.format], options)
        limits = self._limits
        answer = run_in_child(
            "mcp_server.stores.sources.parse:parse_file",
            {
                "parts": [
                    {
                        "name": each.source,
                        "path": str(each.path),
                        "device": each.device,
                        "inode": each.inode,
                        "compression": kind_of(each.path.name, format).compression,
                    }
                    for each in files
                ],
                "format": kind.format,
                "options": dict(options),
                "limits": {
                    "max_columns": limits.max_columns,
                    "max_field_bytes": limits.max_field_bytes,
                    "max_column_name_length": limits.max_column_name_length,
                    "max_decompressed_bytes": limits.max_decompressed_bytes,
                },
                "output": str(output),
                "progress": None if told is None else str(told),
            },
            memory_bytes=limits.child_memory_bytes,
            timeout_s=limits.parse_timeout_s,
            cancelled=cancelled,
        )
        findings = tuple(Finding(*finding) for finding in answer["findings"])
        return ParsedSource(findings, tuple(answer["notes"]), answer["details"])

    def _candidates(self, name: str, word: str = "Source") -> list[tuple[Path, Path]]:
        """Return `(root, path)` for each root in which `name` lies, by its spelling alone."""
        if any(ord(character) < 32 or ord(character) == 127 for character in name) or name.startswith("~"):
            raise PermissionDeniedError(
                f"{word} {shown(name)} is no path in an allowed folder.", hint="list_sources shows what can be read."
            )
        if not name or len(os.fsencode(name)) > 4096 or any(len(os.fsencode(p)) > 255 for p in Path(name).parts):
            raise InvalidArgumentError(
                f"{word} {shown(name)} is empty or too long for a path.", hint="list_sources shows what can be read."
            )
        if not self._roots:
            raise PermissionDeniedError(
                "No folder may be read: the server was started in a home or root folder.",
                hint="Set NBA_MCP_DATA_ROOTS to a JSON list of folders; `nba-mcp install` can write it.",
            )
        spelled = [(root, _from_root(root, Path(os.path.normpath(root / name)))) for root in self._roots]
        inside = [(root, path) for root, path in spelled if path.is_relative_to(root)]
        if not inside:
            raise PermissionDeniedError(
                f"{word} {shown(name)} lies outside the allowed folders.",
                hint="list_sources shows what can be read; NBA_MCP_DATA_ROOTS says from where.",
            )
        return inside

    def _missing(self, source: str) -> NotFoundError:
        known = [file.source for file in self.listed(limit=_MAX_LISTED)]
        near = get_close_matches(source, known, n=3, cutoff=0.5)
        near = near or [name for name in known if Path(name).name == Path(source).name][:3]
        return NotFoundError("source", source, near, hint="list_sources shows what can be imported.")


def _watched(progress: Progress, told: Path) -> Callable[[], bool]:
    """Return what a child's parent asks now and then: it passes the child's progress on, and hears a cancellation."""
    next_s = 0.0

    def cancelled() -> bool:
        nonlocal next_s
        if time.monotonic() >= next_s and (fraction := heard(told)) is not None:
            next_s = time.monotonic() + _TOLD_EVERY_S
            progress(0.05 + 0.85 * fraction, f"read {fraction:.0%}")
        return progress.cancelled()

    return cancelled


def refuse_schemes(source: str, word: str = "Source") -> None:
    """Raise PermissionDeniedError for every `scheme:`, which names no file."""
    match = _SCHEME.match(source)
    if match is None:
        return
    also = " or an object, s3://bucket/key" if word == "Target" else ""
    raise PermissionDeniedError(
        f"{word} {shown(_USER_INFO.sub('', source))} is not allowed: it is no path in a data root.",
        hint=f"Name a file in a data root{also}.",
    )


def _from_root(root: Path, path: Path) -> Path:
    """Return `path` as the root spells it, when a link above the root (macOS's /tmp) spells it otherwise."""
    if path.is_relative_to(root):
        return path
    above = next((parent for parent in path.parents if os.path.realpath(parent) == str(root)), None)
    return root / path.relative_to(above) if above is not None else path


def _exists(root: Path, path: Path) -> bool:
    """Return True when `path` is there and no part of it below `root` is a link.

    Raises:
        PermissionDeniedError: a part is a link.
    """
    place = root
    for part in path.relative_to(root).parts:
        place = place / part
        try:
            found = place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            raise PermissionDeniedError(
                f"Source {shown(path.name)} may not be read.", hint="Check the file's permissions."
            ) from None
        if stat.S_ISLNK(found.st_mode):
            raise PermissionDeniedError(
                f"Source {shown(path.name)} is reached by a link.", hint="Links are never followed; copy the file."
            )
    return True


def _walk(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the regular files below `root`, hidden folders left out, at most so many."""
    n_seen = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            try:
                found = path.lstat()
            except OSError:  # gone since it was listed
                continue
            if stat.S_ISREG(found.st_mode) and not name.startswith("."):
                yield path, found
            n_seen += 1
            if n_seen >= _MAX_LISTED:
                return


def _source_file(source: str, path: Path, found: os.stat_result) -> SourceFile:
    return SourceFile(
        source=source,
        path=path,
        device=found.st_dev,
        inode=found.st_ino,
        size_bytes=found.st_size,
        modified=datetime.fromtimestamp(found.st_mtime, UTC),
    )
