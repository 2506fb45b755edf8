"""Answers of NBA.com that were kept: one file each in the data directory's cache folder, whole or not there.

A file is two lines: what it is (when it was asked for, the hash of the rest), then the tables. One that is damaged
counts as not there.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from mcp_server.nba.nba_com_tables import Answer
from mcp_server.stores.parquet import full_disk_explained

MAX_BYTES: Final = 64 * 1024**2
_KEY: Final = re.compile(r"[a-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer, and when it was asked for (aware, UTC)."""

    answer: Answer
    fetched_at: datetime


class KeptAnswers:
    """A folder of answers by key. Safe between processes."""

    def __init__(self, folder: Path, incoming: Path) -> None:
        """Take the folder, and one on the same disk for unfinished files."""
        self._folder = folder
        self._incoming = incoming

    def get(self, key: str) -> KeptAnswer | None:
        """Return what is kept under `key`, or None where that is nothing or not readable."""
        path = self._path(key)
        try:
            if path.stat().st_size > MAX_BYTES:
                return None
            head, _, body = path.read_bytes().partition(b"\n")
            about = json.loads(head)
            if about["sha256"] != hashlib.sha256(body).hexdigest():
                return None
            return KeptAnswer(Answer(json.loads(body)), datetime.fromisoformat(about["fetched_at"]))
        except (OSError, ValueError, KeyError, TypeError):  # not there, damaged, or of another time's making
            return None

    def put(self, key: str, kept: KeptAnswer) -> None:
        """Keep an answer under `key` in place of the one before.

        Raises:
            ResourceExhaustedError: the disk is full.
        """
        body = json.dumps(_plain(kept.answer.tables), separators=(",", ":")).encode()
        about = {"fetched_at": kept.fetched_at.isoformat(), "sha256": hashlib.sha256(body).hexdigest()}
        with full_disk_explained():
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._incoming, delete=False) as file:
                file.write(json.dumps(about).encode() + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(self._path(key))

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key")
        return self._folder / f"{key}.json"


def _plain(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: dict(table) for name, table in tables.items()}
