"""What sources that are fetched have in common: a stream is saved under limits, then read as a file is."""

import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mcp_server.errors import ResourceExhaustedError
from mcp_server.runtime.progress import Progress
from mcp_server.settings import LimitSettings
from mcp_server.stores.parquet import full_disk_explained
from mcp_server.stores.sources.files import SourceFiles
from mcp_server.stores.sources.reader import Brought

_FETCHED_SHARE: Final = 0.5  # of the progress of an import; the rest is reading


@dataclass(slots=True)
class Share:
    """The part of a job's progress from `start` to `end`."""

    progress: Progress
    start: float
    end: float

    def __call__(self, fraction: float, message: str = "") -> None:
        self.progress(self.start + fraction * (self.end - self.start), message)

    def cancelled(self) -> bool:
        return self.progress.cancelled()


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock, and the words for having passed it."""

    at_s: float
    limit_s: float

    @classmethod
    def after(cls, limit_s: float) -> "Deadline":
        return cls(time.monotonic() + limit_s, limit_s)

    @property
    def left_s(self) -> float:
        """Seconds until then, 0 once it has passed."""
        return max(0.0, self.at_s - time.monotonic())

    def check(self) -> None:
        """Raise ResourceExhaustedError once it has passed."""
        if not self.left_s:
            raise self.exceeded()

    def exceeded(self) -> ResourceExhaustedError:
        return ResourceExhaustedError(
            f"The transfer took longer than its limit of {self.limit_s:g} s and was stopped; nothing was written.",
            hint="Ask for less, or raise NBA_MCP_REMOTE__TRANSFER_TIMEOUT_S.",
        )


class Saving:
    """Saves streams into files, within a number of bytes for all of them together."""

    def __init__(self, limits: LimitSettings, deadline: Deadline, progress: Progress, expected: int | None) -> None:
        """Take the limits.

        Args:
            expected: bytes of all streams together, None where nobody said.

        Raises:
            ResourceExhaustedError: more are expected than may be.
        """
        self._max_bytes = limits.max_file_bytes
        self._deadline = deadline
        self._progress = progress
        self._expected = expected
        self.n_bytes = 0
        if expected is not None and expected > self._max_bytes:
            raise self._too_large(f"has {expected:,} bytes")

    def save(self, stream: Iterable[bytes], path: Path) -> None:
        """Write `stream` to `path`.

        Raises:
            ResourceExhaustedError: it is too large, too slow, or the disk is full.
            CancelledError: the job was cancelled.
        """
        with full_disk_explained(), path.open("wb") as file:
            for part in stream:
                self.n_bytes += len(part)
                if self.n_bytes > self._max_bytes:
                    raise self._too_large("is larger")
                self._deadline.check()
                file.write(part)
                share = self.n_bytes / self._expected if self._expected else 0.5
                self._progress(_FETCHED_SHARE * min(1.0, share), f"fetched {self.n_bytes:,} bytes")

    def _too_large(self, words: str) -> ResourceExhaustedError:
        return ResourceExhaustedError(
            f"The source {words}; the limit is {self._max_bytes:,} bytes.",
            hint="Import a smaller source, or raise NBA_MCP_LIMITS__MAX_FILE_BYTES.",
        )


@contextmanager
def room_beside(output: Path) -> Iterator[Path]:
    """Yield a fresh folder in the same place as `output`; it is removed with all that is in it."""
    with tempfile.TemporaryDirectory(prefix="fetched-", dir=output.parent) as name:
        yield Path(name).resolve()


def safe_name(name: str) -> str:
    """Return a file name of ours for one that a server chose; its endings stay."""
    plain = re.sub(r"[^A-Za-z0-9._=-]+", "_", name.rpartition("/")[2]).lstrip(".-") or "data"
    return plain[-100:].lstrip(".-") or "data"


def read_fetched(
    folder: Path,
    name: str,
    limits: LimitSettings,
    format: str | None,
    options: Mapping[str, Any],
    output: Path,
    progress: Progress,
) -> Brought:
    """Read the file or files that `name` names in `folder`, as files of the data roots are read.

    Raises:
        LifecycleError: as `SourceFiles.bring`.
    """
    files = SourceFiles([folder], limits)
    return files.bring(name, format, options, output, Share(progress, _FETCHED_SHARE, 0.9))


def with_origin(brought: Brought, source: str, details: Mapping[str, Any]) -> Brought:
    """Return `brought` under the name that the caller knows, with what the server said about the data."""
    kept = {name: value for name, value in details.items() if value is not None}
    return replace(brought, source=source, details={**brought.details, **kept})
