"""What a cleaning leaves beside the dataset that it made: the journal (Parquet) and the fitted plan (JSON)."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from mcp_server.errors import FailedPreconditionError
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.datasets import DatasetVersion
from mcp_server.stores.parquet import full_disk_explained

_ROWS_PER_GROUP = 500_000


class JournalWriter:
    """Writes a journal part by part."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def add(self, entries: pl.DataFrame) -> None:
        """Write entries behind those before; a part of none only gives the columns."""
        if self._writer is not None and entries.is_empty():
            return
        with full_disk_explained():
            table = entries.to_arrow(compat_level=pl.CompatLevel.oldest())
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
            self._writer.write_table(table, row_group_size=_ROWS_PER_GROUP)

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            with full_disk_explained():
                self._writer.close()


class CleaningRecords:
    """Stores and reads journals and plans, by the lineage of the version that they belong to. Thread-safe."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts

    @contextmanager
    def writing(self) -> Iterator[tuple[JournalWriter, Path]]:
        """Yield a journal to write and the path it is written to, which `keep` then stores."""
        with self._artifacts.temporary_path(".parquet") as path:
            journal = JournalWriter(path)
            try:
                yield journal, path
            finally:
                journal.close()

    def keep(self, journal: Path, plan: Mapping[str, Any]) -> dict[str, str]:
        """Store a journal that is closed, and a plan; return their keys, for the lineage's `files`."""
        text = json.dumps(plan, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return {
            "journal": self._artifacts.put_file(journal, ".parquet"),
            "plan": self._artifacts.put_bytes(text.encode(), ".json"),
        }

    def plan(self, version: DatasetVersion) -> dict[str, Any]:
        """Return the plan that made `version`.

        Raises:
            FailedPreconditionError: cleaning did not make it, or the file is damaged.
        """
        document: dict[str, Any] = json.loads(self._artifacts.read_bytes(_key(version, "plan")))
        return document

    def journal(self, version: DatasetVersion) -> Path:
        """Return where the journal of `version` lies.

        Raises:
            FailedPreconditionError: cleaning did not make it, or the file is missing.
        """
        return self._artifacts.path(_key(version, "journal"))


def _key(version: DatasetVersion, kind: str) -> str:
    key = (version.lineage.get("files") or {}).get(kind)
    if not isinstance(key, str):
        raise FailedPreconditionError(
            f"Dataset {version.ref} has no {kind} of a cleaning: {version.source[:100]}.",
            hint="Name a version that clean_dataset made; describe_dataset shows a version's lineage.",
        )
    return key
