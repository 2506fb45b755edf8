"""What our database keeps of a model version: its number, hash, recipe, signature, lineage and result.

Stages, runs and metrics are MLflow's. A row appears when all else is in place: who reads rows sees whole versions only.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from mcp_server.errors import InvalidArgumentError, NotFoundError, shown
from mcp_server.results.training import ModelSignature, Stage
from mcp_server.stores.database import Database
from mcp_server.stores.schema import model_versions as table
from mcp_server.stores.schema import registrations

STAGES: tuple[Stage, ...] = ("staging", "production")  # the ones that name a version
FIRST_VERSION = "1.0.0"
_REFERENCE = re.compile(r"([a-z][a-z0-9_-]{0,62})(?:@([0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}|[a-z]+))?")


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model; it never changes. Its stage is not here: stages move (`ModelRegistry.stage_of`).

    Attributes:
        position: 1, 2, 3 … in order of registration.
        job_id: the job that made it.
        mlflow_version, run_id: its names in MLflow.
        sha256, size_bytes: of its skops file, which lies under `model_artifact`.
        reference_artifact: training rows kept for drift and for proofs, Parquet; None if there are none.
        card: artifact keys of the model card, by `markdown`, `html` and `image`.
        recipe: all that the training was given; None for a file that the user registered.
        signature: what it takes and gives.
        lineage: where it comes from.
        result: the training result.
    """

    name: str
    version: str
    position: int
    job_id: str
    task: str
    mlflow_version: str
    run_id: str
    sha256: str
    size_bytes: int
    model_artifact: str
    reference_artifact: str | None
    card: Mapping[str, str]
    recipe: Mapping[str, Any] | None
    signature: ModelSignature
    lineage: Mapping[str, Any]
    result: Mapping[str, Any]
    created_at: datetime
    created_by: str

    @property
    def ref(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Identity:
    """What decides the number of the next version."""

    task: str
    target: str
    features: frozenset[str]
    recipe: Mapping[str, Any] | None
    source: str | None

    @classmethod
    def of(cls, signature: ModelSignature, recipe: Mapping[str, Any] | None, lineage: Mapping[str, Any]) -> "Identity":
        """Gather it from a version's documents."""
        settings = None if recipe is None else {k: v for k, v in recipe.items() if k != "dataset"}
        names = frozenset(column.name for column in signature.inputs)
        source = lineage.get("file_sha256") or lineage.get("dataset_hash")
        return cls(signature.task, signature.target, names, settings, source)


def next_version(latest: tuple[str, Identity] | None, new: Identity) -> str:
    """Return the semantic version that follows `latest`.

    Major when features, target or task change; minor when data, estimators or parameters change; patch when the same
    recipe is trained on the same data again.
    """
    if latest is None:
        return FIRST_VERSION
    version, old = latest
    major, minor, patch = (int(part) for part in version.split("."))
    if (old.task, old.target, old.features) != (new.task, new.target, new.features):
        return f"{major + 1}.0.0"
    if (old.recipe, old.source) != (new.recipe, new.source):
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}"


def parse_reference(ref: str) -> tuple[str, str | None]:
    """Split `name`, `name@1.2.0` or `name@stage`; the second is None for the latest version.

    Raises:
        InvalidArgumentError: it is none of these.
    """
    match = _REFERENCE.fullmatch(ref)
    if match is None:
        raise InvalidArgumentError(
            f"{shown(ref)} is not a model reference.",
            hint="Use name (its latest version), name@1.2.0, name@production or name@staging.",
        )
    return match[1], match[2]


class ModelVersions:
    """The rows. Thread-safe, and safe between processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def latest(self, name: str) -> ModelVersion:
        """Return the version of `name` that was registered last.

        Raises:
            NotFoundError: no such model; carries near names.
        """
        with self._database.read() as connection:
            row = connection.execute(_ready().where(table.c.name == name).order_by(table.c.position.desc())).first()
            if row is None:
                raise NotFoundError("model", name, _names(connection))
        return _version(row)

    def exact(self, name: str, version: str) -> ModelVersion:
        """Return `name@version`.

        Raises:
            NotFoundError: no such model or no such version; carries near names.
        """
        with self._database.read() as connection:
            row = connection.execute(_ready().where(table.c.name == name, table.c.version == version)).first()
            if row is None:
                raise _unknown(connection, name, version)
        return _version(row)

    def by_mlflow_version(self, name: str, mlflow_version: str) -> ModelVersion | None:
        """Return the version that MLflow calls `mlflow_version`."""
        where = (table.c.name == name, table.c.mlflow_version == mlflow_version)
        with self._database.read() as connection:
            row = connection.execute(_ready().where(*where)).first()
        return None if row is None else _version(row)

    def numbers(self, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Return the versions behind MLflow's (name, version) pairs; unknown ones are left out."""
        query = sa.select(table.c.name, table.c.mlflow_version, table.c.version).where(
            table.c.state == "ready", table.c.name.in_(sorted({name for name, _ in names}))
        )
        with self._database.read() as connection:
            found = {(row.name, row.mlflow_version): row.version for row in connection.execute(query)}
        return {pair: found[pair] for pair in names if pair in found}

    def of_job(self, name: str, job_id: str) -> ModelVersion | None:
        """Return the version of `name` that a job has registered already."""
        with self._database.read() as connection:
            row = connection.execute(_ready().where(table.c.name == name, table.c.job_id == job_id)).first()
        return None if row is None else _version(row)

    def named(self, name: str) -> list[ModelVersion]:
        """Return all versions of `name`, the latest first."""
        with self._database.read() as connection:
            query = _ready().where(table.c.name == name).order_by(table.c.position.desc())
            return [_version(row) for row in connection.execute(query)]

    def trained_on(self, datasets: Collection[str]) -> list[str]:
        """Return the versions that are there and were trained on any of the dataset versions (`name@3`)."""
        query = _ready().order_by(table.c.name, table.c.position)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [f"{row.name}@{row.version}" for row in rows if _origin(row.lineage or {}) in datasets]

    def names(self) -> list[str]:
        """Return the names of all models, in order."""
        with self._database.read() as connection:
            return _names(connection)

    def page(
        self,
        limit: int,
        name: str | None = None,
        among: set[tuple[str, str]] | None = None,
        after: tuple[datetime, str, int] | None = None,
    ) -> list[ModelVersion]:
        """Return up to `limit` versions, the newest first.

        Args:
            limit: how many.
            name: of this model only.
            among: only these (name, version) pairs.
            after: `(created_at, name, position)` of the last one of the page before.
        """
        query = _ready()
        if name is not None:
            query = query.where(table.c.name == name)
        if among is not None:
            query = query.where(sa.tuple_(table.c.name, table.c.version).in_(sorted(among)))
        if after is not None:
            query = query.where(_older_than(*after))
        query = query.order_by(table.c.created_at.desc(), table.c.name, table.c.position.desc()).limit(limit)
        with self._database.read() as connection:
            return [_version(row) for row in connection.execute(query)]

    def upcoming(self, name: str, identity: Identity) -> str:
        """Return the version that a registration now would get."""
        with self._database.read() as connection:
            return _next(_last(connection, name), identity)[1]

    def insert(self, version: ModelVersion, identity: Identity) -> ModelVersion | None:
        """Write a version if its number is still the next one; None when another registration took it meanwhile."""
        record = {column.name: getattr(version, column.name, None) for column in table.columns}
        record |= {
            "state": "ready",
            "signature": version.signature.model_dump(mode="json"),
            "recipe": dict(version.recipe or {}),
            "lineage": dict(version.lineage),
            "result": dict(version.result),
            "card": dict(version.card),
        }
        try:
            with self._database.begin() as connection:
                record["position"], number = _next(_last(connection, version.name), identity)
                if number != version.version:
                    return None
                connection.execute(sa.insert(table).values(record))
                connection.execute(sa.delete(registrations).where(*_under_way(version)))
        except IntegrityError:  # PostgreSQL lets two look at once; the key decides
            return None
        return self.exact(version.name, version.version)

    def mark_deleted(self, version: ModelVersion) -> None:
        """Hide a version for good; its number is not given again."""
        where = (table.c.name == version.name, table.c.version == version.version)
        with self._database.begin() as connection:
            connection.execute(sa.update(table).where(*where).values(state="deleted"))

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Let one process at a time change what is shared about a model outside our tables."""
        with self._database.begin() as connection:  # on SQLite the transaction itself is the lock
            if not self._database.is_sqlite:
                key = sa.func.hashtextextended(f"model:{name}", 0)
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
            yield

    def uses_artifact(self, key: str) -> bool:
        """Return True when a version that is there holds `key`."""
        holds = sa.or_(table.c.model_artifact == key, table.c.reference_artifact == key)
        with self._database.read() as connection:
            return connection.execute(_ready().where(holds)).first() is not None


def _under_way(version: ModelVersion) -> tuple[sa.ColumnElement[bool], ...]:
    return registrations.c.name == version.name, registrations.c.job_id == version.job_id


def _origin(lineage: Mapping[str, Any]) -> str:
    name = str(lineage.get("dataset", "")).partition("@")[0]
    return f"{name}@{lineage.get('dataset_version')}"


def _ready() -> sa.Select[Any]:
    return sa.select(table).where(table.c.state == "ready")


def _names(connection: sa.Connection) -> list[str]:
    query = sa.select(table.c.name).where(table.c.state == "ready").distinct().order_by(table.c.name)
    return list(connection.execute(query).scalars())


def _unknown(connection: sa.Connection, name: str, version: str) -> NotFoundError:
    known = _names(connection)
    if name not in known:
        return NotFoundError("model", name, known)
    query = _ready().where(table.c.name == name).order_by(table.c.position.desc()).limit(10)
    versions = [row.version for row in connection.execute(query)]
    return NotFoundError(
        "model",
        f"{name}@{version}",
        [f"{name}@{known_version}" for known_version in versions],
        hint=f"The latest versions of {name} are {', '.join(versions)}.",
    )


def _last(connection: sa.Connection, name: str) -> sa.Row[Any] | None:
    """Return the row registered last, a deleted one too."""
    query = sa.select(table).where(table.c.name == name).order_by(table.c.position.desc()).limit(1)
    return connection.execute(query).first()


def _next(last: sa.Row[Any] | None, identity: Identity) -> tuple[int, str]:
    """Return the position and the number that follow a row.

    Both from one row: were the position read once more, another registration could come between the two reads, and
    numbers would no longer rise with positions.
    """
    if last is None:
        return 1, next_version(None, identity)
    signature = ModelSignature.model_validate(last.signature)
    then = Identity.of(signature, last.recipe or None, last.lineage or {})
    return last.position + 1, next_version((last.version, then), identity)


def _older_than(created_at: datetime, name: str, position: int) -> sa.ColumnElement[bool]:
    same_time = table.c.created_at == created_at
    return sa.or_(
        table.c.created_at < created_at,
        sa.and_(same_time, table.c.name > name),
        sa.and_(same_time, table.c.name == name, table.c.position < position),
    )


def _version(row: sa.Row[Any]) -> ModelVersion:
    return ModelVersion(
        name=row.name,
        version=row.version,
        position=row.position,
        job_id=row.job_id,
        task=row.task,
        mlflow_version=row.mlflow_version,
        run_id=row.run_id,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        model_artifact=row.model_artifact,
        reference_artifact=row.reference_artifact,
        card=row.card or {},
        recipe=row.recipe or None,
        signature=ModelSignature.model_validate(row.signature),
        lineage=row.lineage or {},
        result=row.result or {},
        created_at=row.created_at,
        created_by=row.created_by,
    )
