"""Opens an untrusted file, and undoes its compression under a limit. Runs in the child process that reads it.

The child opens the file itself, without following links or waiting on pipes, and checks that it is the very file that
the parent allowed.
"""

import bz2
import gzip
import os
import stat
import tempfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final, Self, cast

import pyarrow as pa

from mcp_server.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    shown,
)
from mcp_server.stores.parquet import full_disk_explained

_CHUNK_BYTES: Final = 1 << 20
_KEPT_IN_MEMORY: Final = 32 * 1024**2
_FILES_IN_MEMORY: Final = 4
_SIGNATURES: Final = {
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xd0\xcf\x11\xe0": "excel",
    b"%PDF": "pdf",
    b"SQLite format 3": "sqlite",
}
_TEXT_FORMATS: Final = ("csv", "tsv", "json", "jsonl")
# Tables of text shrink to a tenth, repetitive ones to a fiftieth; what is this much larger was made to fill a disk.
_MOST_TIMES_LARGER: Final = 200
_ALWAYS_ALLOWED: Final = 64 * 1024**2


class Room:
    """Where unfinished data may lie: in memory while it is small, then in unnamed files of one folder."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Take the folder, and the most bytes that compressed files may hold together."""
        self._folder = folder
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._n_files = 0
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def file(self) -> IO[bytes]:
        """Return an empty file that goes when the room is left."""
        self._n_files += 1
        in_memory = _KEPT_IN_MEMORY if self._n_files <= _FILES_IN_MEMORY else 1
        file = tempfile.SpooledTemporaryFile(max_size=in_memory, dir=str(self._folder))  # noqa: SIM115  # by __exit__
        return cast(IO[bytes], self._open.enter_context(file))


def opened(path: str, device: int, inode: int) -> IO[bytes]:
    """Open the very file that was allowed.

    Raises:
        NotFoundError: it is gone.
        PermissionDeniedError: it may not be read, or is another file by now.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError("source", Path(path).name, hint="list_sources shows what can be imported.") from None
    except OSError as refusal:
        raise PermissionDeniedError(
            f"{shown(Path(path).name)} may not be read ({os.strerror(refusal.errno or 0)}).",
            hint="Check the file's permissions.",
        ) from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) != (device, inode):
        os.close(handle)
        raise PermissionDeniedError("The source changed while it was being opened.", hint="Call again.")
    return os.fdopen(handle, "rb")


def plain_stream(stream: IO[bytes], format: str, compression: str | None, room: Room) -> IO[bytes]:
    """Return what `stream` holds, decompressed, as a stream that can be read again.

    Raises:
        InvalidArgumentError: it is empty, damaged, or its first bytes say another format.
        ResourceExhaustedError: it is larger than the limit when decompressed.
    """
    if compression is not None:
        packed = stream
        stream = room.file()
        with full_disk_explained():
            _decompress(packed, compression, stream, room)
    stream.seek(0)
    head = stream.read(512)
    stream.seek(0)
    if not head:
        raise InvalidArgumentError("The file is empty: 0 data rows.", hint="Check the source.")
    _check_signature(head, format)
    return stream


def _decompress(packed: IO[bytes], compression: str, plain: IO[bytes], room: Room) -> None:
    readers: dict[str, Callable[[], Any]] = {
        "gzip": lambda: gzip.GzipFile(fileobj=packed),
        "bz2": lambda: bz2.BZ2File(packed),
        "zstd": lambda: pa.CompressedInputStream(pa.PythonFile(packed, "r"), "zstd"),
    }
    allowed = max(_ALWAYS_ALLOWED, _MOST_TIMES_LARGER * os.fstat(packed.fileno()).st_size)
    n_bytes = 0
    try:
        reader = readers[compression]()
        while part := reader.read(_CHUNK_BYTES):
            n_bytes += len(part)
            room.n_bytes += len(part)
            if n_bytes > allowed or room.n_bytes > room.max_bytes:
                raise _too_large(n_bytes > allowed, room)
            _write(plain, part)
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile, OSError) as refusal:
        if isinstance(refusal, _DiskError):
            raise refusal.reason from None
        raise InvalidArgumentError(
            f"The file cannot be decompressed as {compression}: {shown(str(refusal), 100)}.",
            hint="It is damaged or cut off, or its ending is wrong.",
        ) from None


class _DiskError(OSError):
    """Writing failed, which says nothing about the file that is read."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _write(plain: IO[bytes], part: bytes) -> None:
    try:
        plain.write(part)
    except OSError as refusal:
        raise _DiskError(refusal) from refusal


def _too_large(is_bomb: bool, room: Room) -> ResourceExhaustedError:
    if is_bomb:
        return ResourceExhaustedError(
            f"The file is more than {_MOST_TIMES_LARGER} times larger when decompressed (the rule from "
            f"{_ALWAYS_ALLOWED // 1024**2} MiB on); it was not read on.",
            hint="Tables shrink to a tenth or so. If this one is real, decompress it, or save it as Parquet.",
        )
    return ResourceExhaustedError(
        f"The source is larger than {room.max_bytes // 1024**2:,} MiB when decompressed; it was not read on.",
        hint="Import a smaller one, or raise NBA_MCP_LIMITS__MAX_DECOMPRESSED_BYTES.",
    )


def _check_signature(head: bytes, format: str) -> None:
    """Refuse a file whose first bytes say that it is something else than its format."""
    found = next((kind for mark, kind in _SIGNATURES.items() if head.startswith(mark)), None)
    fits = found is None or found == format or (found == "zip" and format == "excel")
    if not fits:
        raise InvalidArgumentError(
            f"The file is not {format}: its first bytes say {found}.",
            hint="Import one plain file; archives are not opened." if found == "zip" else "Say the right format.",
        )
    start = head[:200].lstrip().lower()
    if format in _TEXT_FORMATS and start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InvalidArgumentError(
            f"The file is not {format}: it is a web page or XML.", hint="Download the data file itself."
        )
