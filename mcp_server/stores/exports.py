"""Datasets written to files and objects of the caller's: whole or not at all, and harmless to open in a spreadsheet."""

import errno
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import polars as pl

from mcp_server.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    PermissionDeniedError,
    UnavailableError,
    shown,
)
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.parquet import full_disk_explained
from mcp_server.stores.s3 import Buckets, taken
from mcp_server.stores.sources.files import SourceFiles

ExportFormat = Literal["csv", "parquet", "jsonl"]

# A spreadsheet takes a cell with such a start for a formula; source: OWASP, CSV Injection
_FORMULA_START: Final = r"^[=+\-@\t\r\n]"
_S3: Final = re.compile(r"s3:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote; `n_guarded` cells got an apostrophe, so that no spreadsheet runs them."""

    n_bytes: int
    n_guarded: int


class Exports:
    """Writes datasets to files below the data roots, and to buckets. Thread-safe."""

    def __init__(self, files: SourceFiles, buckets: Buckets, artifacts: ArtifactStore) -> None:
        self._files = files
        self._buckets = buckets
        self._artifacts = artifacts

    def write(self, content: Path, target: str, format: ExportFormat, *, overwrite: bool) -> Exported:
        """Write a dataset's Parquet file to `target`, streamed.

        Raises:
            AlreadyExistsError: the target is there, and `overwrite` is false.
            PermissionDeniedError: it lies outside what is allowed, or may not be written.
            NotFoundError: its folder or bucket does not exist.
            ResourceExhaustedError: the disk is full.
            UnavailableError: the bucket's server cannot be reached.
        """
        if _S3.match(target):
            return self._upload(content, target, format, overwrite=overwrite)
        path = self._files.target(target)
        return export_file(content, path, format, overwrite=overwrite)

    def _upload(self, content: Path, target: str, format: ExportFormat, *, overwrite: bool) -> Exported:
        place = self._buckets.location(target, word="Target")
        if not place.key or place.key.endswith("/"):
            raise PermissionDeniedError(
                f"Target {shown(target)} is a folder.", hint="Name an object, such as s3://bucket/folder/games.csv."
            )
        if not overwrite and self._buckets.exists(place):  # before the work; the upload itself asks once more
            raise taken(place)
        with self._artifacts.temporary_path() as temporary:
            n_guarded = write_format(content, temporary, format)
            self._buckets.upload(temporary, place, overwrite=overwrite)
            return Exported(temporary.stat().st_size, n_guarded)


def export_file(content: Path, path: Path, format: ExportFormat, *, overwrite: bool) -> Exported:
    """Write the Parquet file `content` to `path` in another format.

    Raises:
        AlreadyExistsError: `path` is there, and `overwrite` is false.
        ResourceExhaustedError: the disk is full.
        PermissionDeniedError: the folder may not be written.
    """
    if path.exists() and not overwrite:
        raise _taken(path)
    try:
        handle, name = tempfile.mkstemp(prefix=".export-", dir=path.parent)
        temporary = Path(name)
        try:
            os.close(handle)
            n_guarded = write_format(content, temporary, format)
            _publish(temporary, path, overwrite=overwrite)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as refusal:
        raise _explained(refusal, path) from refusal
    return Exported(path.stat().st_size, n_guarded)


def write_format(content: Path, path: Path, format: ExportFormat) -> int:
    """Write the Parquet file `content` to `path`, streamed; return the cells that were guarded.

    In CSV a text (or a column name) that a spreadsheet would run as a formula gets a leading apostrophe.

    Raises:
        ResourceExhaustedError: the disk is full.
        FailedPreconditionError: `content` is damaged.
    """
    n_guarded = 0
    try:
        with full_disk_explained():
            if format == "parquet":
                shutil.copyfile(content, path)
            elif format == "csv":
                frame, n_guarded = guarded(pl.scan_parquet(content))
                frame.sink_csv(path)
            else:
                pl.scan_parquet(content).sink_ndjson(path)
    except pl.exceptions.ComputeError as refusal:
        raise FailedPreconditionError(
            "The dataset's file is damaged.", hint="Restore the data directory from a backup."
        ) from refusal
    return n_guarded


def guarded(frame: pl.LazyFrame) -> tuple[pl.LazyFrame, int]:
    """Return `frame` with an apostrophe before each text that starts like a formula, and how many there are."""
    schema = frame.collect_schema()
    texts = [name for name, dtype in schema.items() if dtype == pl.String]
    counts = frame.select(pl.col(name).str.contains(_FORMULA_START).sum() for name in texts)
    found = counts.collect(engine="streaming").row(0, named=True) if texts else {}
    quoted = [
        pl.when(pl.col(name).str.contains(_FORMULA_START)).then("'" + pl.col(name)).otherwise(pl.col(name)).alias(name)
        for name, count in found.items()
        if count
    ]
    names: dict[str, str] = {}
    for name in schema:
        if re.match(_FORMULA_START, name):
            names[name] = "'" + name
            while names[name] in schema:  # a column may be called that already
                names[name] = "'" + names[name]
    return frame.with_columns(quoted).rename(names), sum(found.values()) + len(names)


def _publish(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give the finished file its name, at once."""
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.chmod(0o644)
    if overwrite:
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)  # unlike a rename it never replaces a file that came meanwhile
    except FileExistsError:
        raise _taken(path) from None


def _taken(path: Path) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"There is a file {shown(path.name)} already; nothing was written.",
        hint="Choose another target, or pass overwrite=true.",
    )


def _explained(refusal: OSError, path: Path) -> Exception:
    if refusal.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDeniedError(
            f"The server may not write {shown(path.name)} there.", hint="Choose a folder that it may write."
        )
    return UnavailableError(f"{shown(path.name)} could not be written.", hint="Check the folder, then try again.")
