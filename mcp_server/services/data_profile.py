"""Profiles a stored dataset: in memory where it is small, column by column where it is not."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

from mcp_server.errors import FailedPreconditionError
from mcp_server.runtime.progress import Progress
from mcp_server.stores.datasets import DatasetVersion

if TYPE_CHECKING:
    from mcp_server.engine.profiling.profile import Profile

_CELLS_IN_MEMORY: Final = 25_000_000  # about half a gigabyte
_SHARE: Final = 0.9  # of the progress; the report is the rest


def profile_of(version: DatasetVersion, columns: Sequence[str] | None, progress: Progress) -> "Profile":
    """Return the profile of a dataset, or of some of its columns.

    Raises:
        FailedPreconditionError: its file is damaged.
        CancelledError: the job was cancelled.
    """
    from mcp_server.engine.profiling.profile import profile

    lazy = pl.scan_parquet(version.path)
    small = version.rows * len(version.columns) <= _CELLS_IN_MEMORY
    chosen = list(dict.fromkeys(columns)) if columns is not None else None
    try:
        source = lazy.collect() if small else lazy
        return profile(source, chosen, lambda share, words: progress(_SHARE * share, words))
    except pl.exceptions.ComputeError as refusal:
        raise FailedPreconditionError(
            f"The file of dataset {version.ref} is damaged.", hint="Restore the data directory from a backup."
        ) from refusal
