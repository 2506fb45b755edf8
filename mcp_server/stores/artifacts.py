"""Files that outlive the process, named by what is in them: datasets, model bytes, reports.

A file appears under its name only when it is whole: it is written beside, forced to disk, and renamed.
"""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from mcp_server.errors import FailedPreconditionError, ResourceExhaustedError, UnavailableError

_CHUNK_BYTES = 1 << 20
_LEFT_AFTER_S = 24 * 3600.0  # no work in hand takes that long


def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as refusal:
        if refusal.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ResourceExhaustedError(
                "The disk that holds the artifacts is full; nothing was written.",
                hint="Free space in the data directory and call again.",
            ) from refusal
        raise UnavailableError(
            f"The artifact folder cannot be used ({os.strerror(refusal.errno or 0)}); nothing was written.",
            hint="Check the data directory with `nba-mcp doctor`.",
        ) from refusal


class ArtifactStore:
    """A folder of files named by their SHA-256. Thread-safe and safe between processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        with _explained():
            self._incoming.mkdir(parents=True, exist_ok=True)

    def put_bytes(self, data: bytes, suffix: str = "") -> str:
        """Store `data` and return its key, `sha256` + `suffix`.

        Raises:
            ResourceExhaustedError: the disk is full.
            UnavailableError: the folder cannot be written.
        """
        key = hashlib.sha256(data).hexdigest() + suffix
        if not self.exists(key):
            with self.temporary_path(suffix) as path, _explained():
                path.write_bytes(data)
                self._publish(path, key)
        return key

    def put_file(self, path: Path, suffix: str | None = None) -> str:
        """Store the file at `path` (moved when it lies in our own incoming folder) and return its key."""
        with _explained():
            key = file_sha256(path) + (path.suffix if suffix is None else suffix)
            if self.exists(key):
                return key
            if path.parent == self._incoming:
                self._publish(path, key)
            else:
                with self.temporary_path() as copy:
                    shutil.copyfile(path, copy)
                    self._publish(copy, key)
        return key

    def read_bytes(self, key: str) -> bytes:
        """Return what is stored under `key`, its hash checked.

        Raises:
            FailedPreconditionError: the file is missing, or is not what was stored.
        """
        path = self.path(key)
        with _explained():
            data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != key[:64]:
            raise FailedPreconditionError(
                f"Stored file {key[:12]}… is damaged: its content does not have its hash.",
                hint="Restore the data directory from a backup; what was loaded before goes on serving.",
            )
        return data

    def path(self, key: str) -> Path:
        """Return where `key` lies.

        Raises:
            FailedPreconditionError: nothing is stored under it.
        """
        path = self.where(key)
        if not path.is_file():
            raise FailedPreconditionError(
                f"Stored file {key[:12]}… is missing.", hint="Restore the data directory from a backup."
            )
        return path

    def exists(self, key: str) -> bool:
        """Return True when `key` is stored."""
        return self.where(key).is_file()

    def delete(self, key: str) -> None:
        """Remove `key`; a key that is not there is fine."""
        with _explained():
            self.where(key).unlink(missing_ok=True)

    @contextmanager
    def temporary_path(self, suffix: str = "") -> Iterator[Path]:
        """Yield a fresh path to write to and then `put_file`; what is left of it is removed."""
        with _explained():
            handle, name = tempfile.mkstemp(suffix=suffix, dir=self._incoming)
            os.close(handle)
        path = Path(name)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def temporary_folder(self) -> Iterator[Path]:
        """Yield a fresh folder for what a query spills; it is removed with all that is in it."""
        with _explained():
            name = tempfile.mkdtemp(dir=self._incoming)
        try:
            yield Path(name)
        finally:
            shutil.rmtree(name, ignore_errors=True)

    def sweep(self, now: datetime) -> int:
        """Remove what processes that were killed left in the incoming folder more than a day ago; return how much."""
        removed = 0
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError):  # another process may sweep, or end its work, at the same time
                if path.lstat().st_mtime > now.timestamp() - _LEFT_AFTER_S:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
                removed += 1
        return removed

    def where(self, key: str) -> Path:
        """Return where `key` lies or would lie, without a look at the disk."""
        return self._folder / key[:2] / key

    def _publish(self, path: Path, key: str) -> None:
        target = self.where(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
        path.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
