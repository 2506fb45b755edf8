"""Datasets: Parquet files named by their content, with versions and lineage in the database."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from mcp_server.errors import ConflictError, FailedPreconditionError, InvalidArgumentError, NotFoundError, shown
from mcp_server.runtime.clock import Clock
from mcp_server.runtime.identity import Caller
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.parquet import Column, describe_parquet, write_parquet
from mcp_server.stores.schema import dataset_numbers, datasets

_REFERENCE = re.compile(r"([a-z][a-z0-9_-]{0,62})(?:@([0-9]{1,9}))?")
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """One version of a dataset; it never changes.

    Attributes:
        content_hash: SHA-256 of the content in its one Parquet spelling; equal content has an equal hash.
        lineage: `parents` (references), and what made it: `sql`, `recipe` or `steps`, with `options` and `notes`;
            `files`: keys of artifacts that live as long as the version.
    """

    name: str
    version: int
    rows: int
    columns: tuple[Column, ...]
    content_hash: str
    path: Path
    source: str
    lineage: Mapping[str, Any]
    created_at: datetime
    created_by: str

    @property
    def ref(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def schema(self) -> dict[str, str]:
        """Column names with their types, in order."""
        return {column.name: column.dtype for column in self.columns}


class DatasetStore:
    """Writes versions, finds and reads them. Thread-safe, and safe between processes."""

    def __init__(self, database: Database, artifacts: ArtifactStore, clock: Clock) -> None:
        self._database = database
        self._artifacts = artifacts
        self._clock = clock

    def resolve(self, ref: str) -> DatasetVersion:
        """Return the version that `name` (the latest) or `name@version` means.

        Raises:
            InvalidArgumentError: `ref` is no such reference.
            NotFoundError: no such dataset, or no such version of it; carries near names.
        """
        name, version = parse_reference(ref)
        with self._database.read() as connection:
            row = _find(connection, name, version)
            if row is None:
                raise _unknown(connection, name, version)
        return self._version(row)

    def scan(self, ref: str) -> pl.LazyFrame:
        """Return the dataset as a lazy frame."""
        return pl.scan_parquet(self.resolve(ref).path)

    def read(self, ref: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the dataset in memory, all columns or those named.

        Raises:
            InvalidArgumentError: a column is not in it; the hint carries near names.
            FailedPreconditionError: its file is damaged.
        """
        version = self.resolve(ref)
        if columns is not None:
            require_columns(version, columns)
        try:
            return pl.read_parquet(version.path, columns=list(columns) if columns is not None else None)
        except pl.exceptions.ComputeError as refusal:
            raise FailedPreconditionError(
                f"The file of dataset {version.ref} is damaged.", hint="Restore the data directory from a backup."
            ) from refusal

    def write(
        self,
        name: str,
        content: pl.DataFrame | pl.LazyFrame | Path,
        *,
        source: str,
        lineage: Mapping[str, Any],
        caller: Caller,
        ordered: bool = True,
    ) -> DatasetVersion:
        """Store `content` as the next version of `name`; content equal to the latest version's is that version.

        Args:
            content: a frame, or a file that `write_parquet` wrote.
            source: where it came from, in words.
            lineage: plain JSON, see `DatasetVersion`.
            ordered: False where the order of rows says nothing, so that equal rows in another order are equal content.

        Raises:
            InvalidArgumentError: the name cannot be one, or the frame has no row or no column, or is no plain table.
            ConflictError: others write versions of it faster than this call can.
            ResourceExhaustedError: the disk is full.
        """
        require_name(name)
        with self._artifacts.temporary_path(".parquet") as temporary:
            if not isinstance(content, Path):
                write_parquet(content, temporary)
            path = content if isinstance(content, Path) else temporary
            rows, columns = describe_parquet(path)
            if not rows or not columns:
                raise InvalidArgumentError(
                    f"Dataset {shown(name)} would be empty: {rows} data rows, {len(columns)} columns.",
                    hint="Check the source, the query or the steps that made it.",
                )
            if not ordered and (same := self._same_rows(name, path, rows, columns)) is not None:
                return same
            key = self._artifacts.put_file(path, ".parquet")
        record = {
            "name": name,
            "rows": rows,
            "columns": [column.to_document() for column in columns],
            "content_hash": key.removesuffix(".parquet"),
            "artifact": key,
            "source": source,
            "lineage": dict(lineage),
            "created_at": self._clock.now(),
            "created_by": caller.name,
        }
        return self._version(self._record(record))

    def _same_rows(self, name: str, path: Path, rows: int, columns: Sequence[Column]) -> DatasetVersion | None:
        """Return the latest version when it has the same rows as the file, in whatever order."""
        with self._database.read() as connection:
            latest = _find(connection, name, None)
        if latest is None or (latest.rows, latest.columns) != (rows, [column.to_document() for column in columns]):
            return None
        version = self._version(latest)
        return version if _rows_sum(version.path) == _rows_sum(path) else None

    def names(self) -> list[str]:
        """Return the names of all datasets, in order."""
        with self._database.read() as connection:
            return _names(connection)

    def latest(self, limit: int, after: str = "") -> list[DatasetVersion]:
        """Return the latest version of up to `limit` datasets whose names come after `after`, by name."""
        newest = (
            sa.select(datasets.c.name, sa.func.max(datasets.c.version).label("version"))
            .where(datasets.c.name > after)
            .group_by(datasets.c.name)
            .order_by(datasets.c.name)
            .limit(limit)
            .subquery()
        )
        same = (datasets.c.name == newest.c.name) & (datasets.c.version == newest.c.version)
        with self._database.read() as connection:
            rows = connection.execute(sa.select(datasets).join(newest, same).order_by(datasets.c.name)).all()
        return [self._version(row, check=False) for row in rows]

    def versions(self, name: str) -> list[DatasetVersion]:
        """Return all versions of `name`, oldest first; empty when there are none."""
        statement = sa.select(datasets).where(datasets.c.name == name).order_by(datasets.c.version)
        with self._database.read() as connection:
            return [self._version(row, check=False) for row in connection.execute(statement)]

    def descendants(self, refs: Iterable[str]) -> list[str]:
        """Return the references of the dataset versions made directly from any of `refs`."""
        wanted = set(refs)
        with self._database.read() as connection:
            rows = connection.execute(sa.select(datasets.c.name, datasets.c.version, datasets.c.lineage)).all()
        return [f"{row.name}@{row.version}" for row in rows if wanted & set((row.lineage or {}).get("parents", []))]

    def delete(self, ref: str) -> list[str]:
        """Remove one version, or every version when `ref` names none; files that nothing else uses go too.

        Returns:
            The references that were removed.
        """
        name, version = parse_reference(ref)
        chosen = datasets.c.name == name
        if version is not None:
            chosen &= datasets.c.version == version
        with self._database.begin() as connection:
            what = sa.select(datasets.c.version, datasets.c.artifact, datasets.c.lineage).where(chosen)
            rows = connection.execute(what).all()
            if not rows:
                raise _unknown(connection, name, version)
            connection.execute(sa.delete(datasets).where(chosen))
            _remember_deleted(connection, name, max(row.version for row in rows))
            unused = _unused(connection, {key for row in rows for key in (row.artifact, *_files(row.lineage))})
        for key in unused:
            self._artifacts.delete(key)
        return [f"{name}@{row.version}" for row in rows]

    def discard_files(self, keys: Iterable[str]) -> None:
        """Remove files that were stored beside a dataset, unless one uses them."""
        with self._database.read() as connection:
            unused = _unused(connection, set(keys))
        for key in unused:
            self._artifacts.delete(key)

    def _record(self, record: dict[str, Any]) -> sa.Row[Any]:
        """Insert the next version, unless the latest has the same content; another writer makes it try again."""
        for _ in range(_ATTEMPTS):
            try:
                with self._database.begin() as connection:
                    latest = _find(connection, record["name"], None)
                    if latest is not None and latest.content_hash == record["content_hash"]:
                        return latest
                    number = _next_number(connection, record["name"], latest)
                    connection.execute(sa.insert(datasets).values(record | {"version": number}))
                    inserted = (datasets.c.name == record["name"]) & (datasets.c.version == number)
                    return connection.execute(sa.select(datasets).where(inserted)).one()
            except IntegrityError:
                continue
        raise ConflictError(
            f"Dataset {shown(record['name'])} is being written by others; this version was not stored.",
            hint="Call again.",
        )

    def _version(self, row: sa.Row[Any], *, check: bool = True) -> DatasetVersion:
        return DatasetVersion(
            name=row.name,
            version=row.version,
            rows=row.rows,
            columns=tuple(Column(**column) for column in row.columns),
            content_hash=row.content_hash,
            path=self._artifacts.path(row.artifact) if check else self._artifacts.where(row.artifact),
            source=row.source,
            lineage=row.lineage or {},
            created_at=row.created_at,
            created_by=row.created_by,
        )


def parse_reference(ref: str) -> tuple[str, int | None]:
    """Split `name` or `name@version`.

    Raises:
        InvalidArgumentError: it is neither.
    """
    match = _REFERENCE.fullmatch(ref)
    if match is None:
        raise InvalidArgumentError(
            f"{shown(ref)} is no dataset reference.",
            hint="A dataset is name or name@version, such as games or games@3: lower case, digits, _ and -.",
        )
    return match[1], int(match[2]) if match[2] else None


def require_name(name: str) -> None:
    """Raise InvalidArgumentError unless a dataset can be called `name`."""
    if "@" in name or _REFERENCE.fullmatch(name) is None:
        raise InvalidArgumentError(
            f"{shown(name)} cannot name a dataset.",
            hint="Names start with a lower-case letter; then lower case, digits, _ and -; at most 63 characters.",
        )


def require_columns(version: DatasetVersion, columns: Iterable[str]) -> None:
    """Raise InvalidArgumentError, with near names, unless `version` has all of `columns`."""
    from difflib import get_close_matches

    known = version.schema
    for column in columns:
        if column not in known:
            near = ", ".join(shown(name) for name in get_close_matches(column, known, n=3, cutoff=0.5))
            raise InvalidArgumentError(
                f"Dataset {version.ref} has no column {shown(column)}.",
                hint=f"Close names: {near}." if near else "describe_dataset lists its columns.",
                details={"dataset": version.ref, "column": column[:200]},
            )


def _files(lineage: Mapping[str, Any] | None) -> list[str]:
    """Return the keys of the files that a version has beside its rows: a cleaning's journal and plan."""
    return list(((lineage or {}).get("files") or {}).values())


def _unused(connection: sa.Connection, keys: set[str]) -> set[str]:
    """Return those of `keys` that no dataset version uses."""
    rows = connection.execute(sa.select(datasets.c.artifact, datasets.c.lineage))
    return keys - {key for row in rows for key in (row.artifact, *_files(row.lineage))}


def _rows_sum(path: Path) -> tuple[Any, ...]:
    """Return 128 bits that are the same for equal rows in any order."""
    row = pl.struct(pl.all())
    sums = [row.hash(seed).cast(pl.Int128).sum().alias(str(seed)) for seed in (1, 2)]
    return pl.scan_parquet(path).select(sums).collect(engine="streaming").row(0)


def _remember_deleted(connection: sa.Connection, name: str, version: int) -> None:
    """Note the highest number that was deleted, in the transaction that deletes."""
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    insert = make(dataset_numbers).values(name=name, last_deleted=version)
    lower = dataset_numbers.c.last_deleted < version
    connection.execute(
        insert.on_conflict_do_update(index_elements=["name"], set_={"last_deleted": version}, where=lower)
    )


def _next_number(connection: sa.Connection, name: str, latest: sa.Row[Any] | None) -> int:
    """Return a number that no version has or had. The deleted ones are read after the latest: none slips between."""
    statement = sa.select(dataset_numbers.c.last_deleted).where(dataset_numbers.c.name == name)
    deleted = connection.execute(statement).scalar_one_or_none() or 0
    return max(latest.version if latest is not None else 0, deleted) + 1


def _find(connection: sa.Connection, name: str, version: int | None) -> sa.Row[Any] | None:
    statement = sa.select(datasets).where(datasets.c.name == name)
    if version is not None:
        statement = statement.where(datasets.c.version == version)
    return connection.execute(statement.order_by(datasets.c.version.desc()).limit(1)).first()


def _names(connection: sa.Connection) -> list[str]:
    statement = sa.select(datasets.c.name).distinct().order_by(datasets.c.name)
    return list(connection.execute(statement).scalars())


def _unknown(connection: sa.Connection, name: str, version: int | None) -> NotFoundError:
    latest = _find(connection, name, None)
    if version is not None and latest is not None:
        return NotFoundError("dataset", f"{name}@{version}", hint=f"The latest version of {name} is {latest.version}.")
    ref = name if version is None else f"{name}@{version}"
    return NotFoundError("dataset", ref, _names(connection), hint="List what exists with list_datasets.")
