"""The studies of searches, in Optuna's own tables: each trial with its state, parameters, scores and what it said.

They have an SQLite file of their own beside the others, or a schema of their own in our PostgreSQL database, so that
Optuna's migrations meet nobody else's. Optuna is imported by the first call.
"""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
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

_FIND_TRIAL = sa.text(
    "SELECT 1 FROM trials JOIN trial_user_attributes AS said ON said.trial_id = trials.trial_id "
    "WHERE trials.study_id = :study AND said.key = :key AND said.value_json = :value"
)
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

    def __init__(self, database: Database, data_dir: Path) -> None:
        """Take the place.

        Args:
            data_dir: where the file is made while our own tables are in SQLite.
        """
        self._database = database
        self._path = data_dir.resolve() / FILE_NAME
        self._lock = threading.Lock()
        self._opened: Any = None

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

    def record(self, job_id: str, trial: Any, result: Mapping[str, Any]) -> None:
        """Record a trial that ended, in one transaction; the same trial again changes nothing.

        Args:
            trial: Optuna's frozen trial: state, parameters, score, intermediate scores.
            result: the same as we pass it on, with its `number`.
        """
        with self._storage() as storage:
            study = self._study_of(storage, job_id)
            if study is None or self._has(storage, study, int(result["number"])):
                return
            for key, value in ((_NUMBER, int(result["number"])), (_RESULT, dict(result))):
                trial.set_user_attr(key, value)
            storage.create_new_trial(study, template_trial=trial)

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
        found = _found(storage, f"{job_id}/%")
        return found[0][0] if found else None

    def _has(self, storage: Any, study: int, number: int) -> bool:
        with storage.engine.connect() as connection:
            row = connection.execute(_FIND_TRIAL, {"study": study, "key": _NUMBER, "value": str(number)}).first()
        return row is not None

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
        settings = {"poolclass": sa.pool.NullPool, "connect_args": {"timeout": _BUSY_TIMEOUT_S}}
        return _connect(f"sqlite:///{path}", settings)


def _open_schema(database: Database) -> Any:
    """Open our schema; servers that start at once make it one after the other."""
    wait_s = str(max(1, int(database.settings.connect_timeout_s)))
    patience_ms = int(database.settings.statement_timeout_s * 1000)
    options = f"-csearch_path={_SCHEMA} -cstatement_timeout={patience_ms}"
    url = database.url.update_query_dict({"options": options, "connect_timeout": wait_s})
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"SELECT pg_advisory_lock({_OPENING_LOCK})"))
        try:
            connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}"))
            return _connect(
                url.render_as_string(hide_password=False), {"pool_size": 2, "max_overflow": 6, "pool_pre_ping": True}
            )
        finally:
            connection.execute(sa.text(f"SELECT pg_advisory_unlock({_OPENING_LOCK})"))


def _connect(url: str, engine_settings: dict[str, Any]) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.storages.RDBStorage(url, engine_kwargs=engine_settings)
