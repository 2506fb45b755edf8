"""The studies of searches, in Optuna's own tables: each trial with its state, parameters, scores and what it said.

They have an SQLite file of their own beside the others, or a schema of their own in our PostgreSQL database, so that
Optuna's migrations meet nobody else's. Optuna is imported by the first call.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock

from mcp_server.errors import UnavailableError
from mcp_server.stores.database import Database

FILE_NAME = "studies.db"
_SCHEMA = "optuna"
_OPENING_LOCK = 6013770018
_OPENING_PATIENCE_S = 60.0
_BUSY_TIMEOUT_S = 20.0
_FACTS, _FINISHED, _NUMBER, _RESULT = "facts", "finished", "number", "result"

_LOCK_STUDY = sa.text("UPDATE studies SET study_name = study_name WHERE study_id = :study")
_FIND_TRIAL = sa.text("SELECT 1 FROM trials WHERE study_id = :study AND number = :number")
_OLDEST = sa.text("SELECT study_id FROM studies ORDER BY study_id DESC LIMIT 1000000 OFFSET :keep")
_FIND_STUDIES = sa.text("SELECT study_id, study_name FROM studies WHERE study_name LIKE :name ORDER BY study_id DESC")


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """What is known of one search.

    Attributes:
        facts: what the search was started with.
        results: its trials that ended, by number; each as it was recorded.
        finished: True once a model came of it.
    """

    facts: dict[str, Any]
    results: list[dict[str, Any]]
    finished: bool


class StudyStore:
    """Writes and reads studies; each belongs to a job and has the key of its recipe. Thread-safe."""

    def __init__(self, database: Database, data_dir: Path, keep: int = 1000) -> None:
        """Take the place.

        Args:
            data_dir: where the file is made while our own tables are in SQLite.
            keep: studies kept; when another one starts, the oldest go.
        """
        self._database = database
        self._keep = keep
        self._path = data_dir.resolve() / FILE_NAME
        self._lock = threading.Lock()
        self._opened: Any = None
        self._newest: tuple[str, int] | None = None

    def start(self, job_id: str, recipe_key: str, facts: Mapping[str, Any], *, higher_is_better: bool) -> None:
        """Make the study of a job; the same job again finds it made."""
        from optuna.exceptions import DuplicatedStudyError
        from optuna.study import StudyDirection

        with self._storage() as storage:
            name = f"{job_id}/{recipe_key}"
            direction = StudyDirection.MAXIMIZE if higher_is_better else StudyDirection.MINIMIZE
            try:
                study = storage.create_new_study([direction], name)
            except DuplicatedStudyError:
                study = storage.get_study_id_from_name(name)
            storage.set_study_user_attr(study, _FACTS, dict(facts))
            with storage.engine.begin() as connection:
                _delete(connection, [int(row.study_id) for row in connection.execute(_OLDEST, {"keep": self._keep})])

    def record(self, job_id: str, trial: Any, result: Mapping[str, Any]) -> None:
        """Record a trial that ended, in one transaction; the same trial again changes nothing.

        The rows are those of Optuna's `create_new_trial`, written by one statement a table: its own way takes half as
        long as a short trial. Ours gives the trial its number in the search, in whatever order trials end.

        Args:
            trial: Optuna's frozen trial: state, parameters, score, intermediate scores.
            result: the same as we pass it on, with its `number`.
        """
        number = int(result["number"])
        with self._storage() as storage:
            study = self._study_of(storage, job_id)
            if study is None:
                return
            with storage.engine.begin() as connection:
                connection.execute(_LOCK_STUDY, {"study": study})  # first: two workers may have made the same trial
                if connection.execute(_FIND_TRIAL, {"study": study, "number": number}).first() is None:
                    _insert(connection, study, number, trial, {_NUMBER: number, _RESULT: dict(result)})

    def finish(self, job_id: str) -> None:
        """Mark that a model came of the study."""
        with self._storage() as storage:
            study = self._study_of(storage, job_id)
            if study is not None:
                storage.set_study_user_attr(study, _FINISHED, True)

    def read(self, job_id: str) -> StudyRecord | None:
        """Return the study of a job; None when it has none."""
        with self._storage() as storage:
            study = self._study_of(storage, job_id)
            return None if study is None else _record(storage, study)

    def unfinished(self, recipe_key: str, *, other_than: str) -> StudyRecord | None:
        """Return the newest study of a recipe of which no model came; None when there is none."""
        with self._storage() as storage:
            for study, name in _found(storage, f"%/{recipe_key}"):
                if name.rpartition("/")[0] == other_than:
                    continue
                record = _record(storage, study)
                return None if record.finished else record
        return None

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._opened is not None:
                self._opened.engine.dispose()
                self._opened = None

    def _study_of(self, storage: Any, job_id: str) -> int | None:
        newest = self._newest
        if newest is not None and newest[0] == job_id:
            return newest[1]
        found = _found(storage, f"{job_id}/%")
        if not found:
            return None
        self._newest = (job_id, found[0][0])
        return found[0][0]

    @contextmanager
    def _storage(self) -> Iterator[Any]:
        from optuna.exceptions import StorageInternalError

        try:
            storage = self._open()
            try:
                yield storage
            finally:
                storage.remove_session()
        except (StorageInternalError, sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as refusal:
            raise UnavailableError(
                "The database of searches does not answer.", hint="Try again; see check_health."
            ) from refusal

    def _open(self) -> Any:
        with self._lock:
            if self._opened is None:
                self._opened = _open_file(self._path) if self._database.is_sqlite else _open_schema(self._database)
            return self._opened


def _insert(connection: sa.Connection, study: int, number: int, trial: Any, said: Mapping[str, Any]) -> None:
    """Write a trial that ended as rows of Optuna's tables; scores are finite."""
    from optuna.distributions import distribution_to_json
    from optuna.storages._rdb import models

    started, ended = (_utc(at) for at in (trial.datetime_start, trial.datetime_complete))
    row = {"study_id": study, "number": number, "state": trial.state.name}
    row |= {"datetime_start": started, "datetime_complete": ended}
    tables = models.BaseModel.metadata.tables
    trials = tables["trials"]
    trial_id = connection.execute(trials.insert().values(row).returning(trials.c.trial_id)).scalar_one()
    rows = {
        "trial_values": [{"objective": 0, "value": trial.value, "value_type": "FINITE"}] if trial.values else [],
        "trial_params": [
            {
                "param_name": name,
                "param_value": trial.distributions[name].to_internal_repr(value),
                "distribution_json": distribution_to_json(trial.distributions[name]),
            }
            for name, value in trial.params.items()
        ],
        "trial_intermediate_values": [
            {"step": step, "intermediate_value": value, "intermediate_value_type": "FINITE"}
            for step, value in trial.intermediate_values.items()
        ],
        "trial_user_attributes": [{"key": key, "value_json": json.dumps(value)} for key, value in said.items()],
    }
    for name, of_table in rows.items():
        if of_table:
            connection.execute(tables[name].insert(), [{"trial_id": trial_id, **part} for part in of_table])


def _delete(connection: sa.Connection, studies: Sequence[int]) -> None:
    """Remove studies with all their rows; Optuna's own way loads every trial first."""
    from optuna.storages._rdb import models

    if not studies:
        return
    tables = models.BaseModel.metadata
    trials = sa.select(tables.tables["trials"].c.trial_id).where(tables.tables["trials"].c.study_id.in_(studies))
    for table in reversed(tables.sorted_tables):
        if "study_id" in table.c:
            connection.execute(table.delete().where(table.c.study_id.in_(studies)))
        elif "trial_id" in table.c:
            connection.execute(table.delete().where(table.c.trial_id.in_(trials)))


def _utc(at: datetime) -> datetime:
    """Return a local time without a zone as Optuna's tables have it: UTC without a zone."""
    return at.astimezone(UTC).replace(tzinfo=None)


def _found(storage: Any, pattern: str) -> Sequence[tuple[int, str]]:
    with storage.engine.connect() as connection:
        return [
            (int(row.study_id), str(row.study_name)) for row in connection.execute(_FIND_STUDIES, {"name": pattern})
        ]


def _record(storage: Any, study: int) -> StudyRecord:
    said = storage.get_study_user_attrs(study)
    results = {trial.user_attrs[_NUMBER]: trial.user_attrs[_RESULT] for trial in storage.get_all_trials(study)}
    return StudyRecord(said.get(_FACTS, {}), [results[number] for number in sorted(results)], _FINISHED in said)


def _open_file(path: Path) -> Any:
    """Open the SQLite file; the first to come makes it, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=_OPENING_PATIENCE_S):
        if not path.exists():
            unfinished = path.with_name(f"{path.name}.unfinished")
            unfinished.unlink(missing_ok=True)
            _connect(f"sqlite:///{unfinished}", {"poolclass": sa.pool.NullPool}).engine.dispose()
            with closing(sqlite3.connect(unfinished)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
            unfinished.replace(path)
        return _connect(f"sqlite:///{path}", {"connect_args": {"timeout": _BUSY_TIMEOUT_S}})


def _open_schema(database: Database) -> Any:
    """Open our schema; servers that start at once make it one after the other."""
    wait_s = str(max(1, int(database.settings.connect_timeout_s)))
    patience_ms = int(database.settings.statement_timeout_s * 1000)
    options = f"-csearch_path={_SCHEMA} -cstatement_timeout={patience_ms}"
    url = database.url.update_query_dict({"options": options, "connect_timeout": wait_s})
    with database.turn(_OPENING_LOCK, _SCHEMA):
        return _connect(
            url.render_as_string(hide_password=False), {"pool_size": 2, "max_overflow": 6, "pool_pre_ping": True}
        )


def _connect(url: str, engine_settings: dict[str, Any]) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.storages.RDBStorage(url, engine_kwargs=engine_settings)
