"""MLflow: runs, model versions, stages. The only file that imports it, and only once something needs it.

Only its client is used, never its fluent functions (they keep global state) and never its model loaders (they run what
a file says). Its tables have an SQLite file of their own, or a schema of their own in our PostgreSQL database.
"""

import logging
import math
import os
import re
import sqlite3
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from filelock import FileLock
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from mcp_server.errors import ConflictError, UnavailableError
from mcp_server.results.training import Stage
from mcp_server.settings import MlflowSettings
from mcp_server.stores.database import Database
from mcp_server.stores.model_versions import STAGES

T = TypeVar("T")

_JOB_TAG = "nba_mcp.job_id"
_ARCHIVED_TAG = "nba_mcp.archived"
_REVISION_TAG = "nba_mcp.stage_revision"
_REASON_TAG = "nba_mcp.stage_reason"
_SCHEMA = "mlflow"
_PARAM_LENGTH = 5000
_BATCH = 100
_OPENING_PATIENCE_S = 60.0
_OPENING_LOCK = 6013770017
_STATUS_MISSING = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
_STATUS_TAKEN = {"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"}
_CLIENT_ERRORS = {"INVALID_PARAMETER_VALUE", "INVALID_STATE", "FEATURE_DISABLED", "NOT_IMPLEMENTED"}


@dataclass(frozen=True, slots=True)
class TrackingPlace:
    """Where MLflow keeps its state.

    Attributes:
        uri: of its database or server.
        artifact_root: the folder for its artifacts; None where a server decides.
        database: our PostgreSQL database, if MLflow has a schema in it.
        experiment: what runs are filed under.
        timeout_s: longest wait for a server's answer.
    """

    uri: str
    artifact_root: Path | None
    database: Database | None
    experiment: str
    timeout_s: float


def tracking_place(settings: MlflowSettings, database: Database, data_dir: Path) -> TrackingPlace:
    """Return the place that the settings mean: a server, a schema beside our tables, or a file in `data_dir`."""
    artifacts = data_dir.resolve() / "mlflow-artifacts"
    if settings.tracking_uri:
        remote = settings.tracking_uri.startswith(("http://", "https://"))
        return TrackingPlace(
            settings.tracking_uri, None if remote else artifacts, None, settings.experiment, settings.timeout_s
        )
    if database.is_sqlite:
        uri = f"sqlite:///{data_dir.resolve() / 'mlflow.db'}"
        return TrackingPlace(uri, artifacts, None, settings.experiment, settings.timeout_s)
    wait_s = str(max(1, int(database.settings.connect_timeout_s)))
    patience_ms = int(database.settings.statement_timeout_s * 1000)
    options = f"-csearch_path={_SCHEMA} -cstatement_timeout={patience_ms}"
    query = {"options": options, "connect_timeout": wait_s}
    uri = database.url.update_query_dict(query).render_as_string(hide_password=False)
    return TrackingPlace(uri, artifacts, database, settings.experiment, settings.timeout_s)


class Tracking:
    """Runs, versions and stages in MLflow; opened by the first call. Thread-safe."""

    def __init__(self, place: TrackingPlace, patience_s: float) -> None:
        """Hold the place.

        Args:
            patience_s: how long what writes a registration tries again while MLflow does not answer.
        """
        self._place = place
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._client: Any = None
        self._experiment_id = ""

    def open(self) -> Any:
        """Return the client, made and its tables migrated the first time.

        Raises:
            UnavailableError: MLflow does not answer.
        """
        with self._lock:
            if self._client is None:
                with _explained():
                    client = make_client(self._place)
                    self._experiment_id = _experiment(client, self._place)
                self._client = client
            return self._client

    def ping(self) -> None:
        """Make one round trip."""
        self._once(lambda client: client.get_experiment(self._experiment_id))

    def start_run(self, name: str, job_id: str) -> str:
        """Return the id of the run of a job, made now or in an earlier attempt of it."""

        def find_or_make(client: Any) -> str:
            wanted = f"tags.`{_JOB_TAG}` = '{_quotable(job_id)}' and tags.`nba_mcp.model` = '{name}'"
            runs = client.search_runs([self._experiment_id], filter_string=wanted, max_results=1)
            if runs:
                return str(runs[0].info.run_id)
            tags = {_JOB_TAG: _quotable(job_id), "nba_mcp.model": name, "mlflow.runName": name}
            return str(client.create_run(self._experiment_id, tags=tags, run_name=name).info.run_id)

        return self._patiently(find_or_make)

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any],
        metrics: Mapping[str, float | None],
        series: Mapping[str, Sequence[float | None]],
    ) -> None:
        """Write parameters, metrics and curves; values that are not finite are left out."""

        def write(client: Any) -> None:
            from mlflow.entities import Metric, Param

            now_ms = int(time.time() * 1000)
            values = [Metric(name, value, now_ms, 0) for name, value in _finite(metrics)]
            for name, points in series.items():
                values += [
                    Metric(name, float(v), now_ms, step) for step, v in enumerate(points) if v is not None and _ok(v)
                ]
            texts = [Param(_name(key), str(value)[:_PARAM_LENGTH]) for key, value in params.items()]
            for start in range(0, max(len(values), len(texts)), _BATCH):
                stop = start + _BATCH
                client.log_batch(run_id, metrics=values[start:stop], params=texts[start:stop])

        self._patiently(write)

    def log_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Write files to a run, by their paths in it."""

        def write(client: Any) -> None:
            with tempfile.TemporaryDirectory(prefix="nba-mcp-") as folder:
                for path, content in files.items():
                    target = Path(folder) / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
                client.log_artifacts(run_id, folder)

        self._patiently(write)

    def create_version(self, name: str, run_id: str) -> str:
        """Return MLflow's version of a run's model, made now or in an earlier attempt."""

        def find_or_make(client: Any) -> str:
            with _unless(_STATUS_TAKEN):
                client.create_registered_model(name)
            for version in client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
                return str(version.version)
            source = client.get_run(run_id).info.artifact_uri.rstrip("/") + "/model"
            return str(client.create_model_version(name, source=source, run_id=run_id).version)

        return self._patiently(find_or_make)

    def finish(
        self, run_id: str, name: str, mlflow_version: str, *, tags: Mapping[str, str], files: Mapping[str, bytes]
    ) -> None:
        """Tag the run and its model version, add last files, and end the run."""
        self.log_files(run_id, files)

        def end(client: Any) -> None:
            for key, value in tags.items():
                client.set_tag(run_id, key, value)
                client.set_model_version_tag(name, mlflow_version, key, value)
            client.set_tag(run_id, "mlflow.runName", f"{name}@{tags.get('nba_mcp.version', mlflow_version)}")
            client.set_terminated(run_id)

        self._patiently(end)

    def aliases(self, name: str) -> dict[str, str]:
        """Return which MLflow version of `name` holds which stage."""

        def read(client: Any) -> dict[str, str]:
            with _unless(_STATUS_MISSING):
                return {alias: str(v) for alias, v in client.get_registered_model(name).aliases.items()}
            return {}

        return self._once(read)

    def stages(self, name: str | None = None) -> list[tuple[str, str, Stage]]:
        """Return (model, MLflow version, stage) of every version that has a stage."""

        def read(client: Any) -> list[tuple[str, str, Stage]]:
            of_model = f"name = '{name}'" if name else ""
            archived = " and ".join(part for part in (of_model, f"tags.`{_ARCHIVED_TAG}` = 'true'") if part)
            found: list[tuple[str, str, Stage]] = [
                (version.name, str(version.version), "archived")
                for version in _all_pages(client.search_model_versions, archived)
            ]
            for model in _all_pages(client.search_registered_models, of_model):
                held = model.aliases
                found += [(model.name, str(held[stage]), stage) for stage in STAGES if stage in held]
            return found

        return self._once(read)

    def set_stage(
        self, name: str, mlflow_version: str, stage: Stage, reason: str | None, expected_revision: int | None
    ) -> tuple[int, bool]:
        """Let a version hold `stage` and no other; cut off anywhere, the same call again brings it to its end.

        Returns:
            How often this model's stages have changed, and whether they did now.

        Raises:
            ConflictError: they have changed another number of times than `expected_revision`.
        """

        def move(client: Any) -> tuple[int, bool]:
            model = client.get_registered_model(name)
            tags = client.get_model_version(name, mlflow_version).tags
            revision = int(model.tags.get(_REVISION_TAG, "0"))
            if expected_revision not in (None, revision):
                raise ConflictError(
                    f"The stages of {name} have changed: revision {revision}, not {expected_revision}.",
                    hint="Look at list_models again, then repeat the call with the current revision.",
                    details={"revision": revision},
                )
            held = {alias for alias in STAGES if str(model.aliases.get(alias)) == mlflow_version}
            held |= {"archived"} if _ARCHIVED_TAG in tags else set()
            if held == ({stage} if stage != "none" else set()):
                return revision, False
            if stage in STAGES:  # first the new holder, in one step: the stage is never without one
                client.set_registered_model_alias(name, stage, mlflow_version)
            for other in held - {stage, "archived"}:
                client.delete_registered_model_alias(name, other)
            if stage == "archived":
                client.set_model_version_tag(name, mlflow_version, _ARCHIVED_TAG, "true")
            elif "archived" in held:
                client.delete_model_version_tag(name, mlflow_version, _ARCHIVED_TAG)
            client.set_model_version_tag(name, mlflow_version, _REASON_TAG, f"{stage}: {reason or ''}"[:500])
            client.set_registered_model_tag(name, _REVISION_TAG, str(revision + 1))
            return revision + 1, True

        return self._once(move)

    def delete_version(self, name: str, mlflow_version: str, run_id: str) -> None:
        """Delete a model version with its aliases, and its run; what is gone already is fine."""

        def delete(client: Any) -> None:
            with _unless(_STATUS_MISSING):
                client.delete_model_version(name, mlflow_version)
            with _unless(_STATUS_MISSING):
                client.delete_run(run_id)

        self._once(delete)

    def _once(self, work: Callable[[Any], T]) -> T:
        client = self.open()
        with _explained():
            return work(client)

    def _patiently(self, work: Callable[[Any], T]) -> T:
        """Do what may be done twice, again and again while MLflow does not answer."""
        retrying = Retrying(
            retry=retry_if_exception_type(UnavailableError),
            stop=stop_after_delay(self._patience_s),
            wait=wait_exponential(multiplier=0.1, max=3.0),
            reraise=True,
        )
        answer: T = retrying(self._once, work)
        return answer


def make_client(place: TrackingPlace) -> Any:
    """Return a client of MLflow at `place`, its tables made or migrated."""
    _keep_quiet(place.timeout_s)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow's own use of other libraries
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        if place.artifact_root is not None:
            place.artifact_root.mkdir(parents=True, exist_ok=True)
        with _turn(place.database) if place.database is not None else _turn_at_file(place.uri, MlflowClient):
            return MlflowClient(tracking_uri=place.uri, registry_uri=place.uri)


@contextmanager
def _turn_at_file(uri: str, connect: Callable[..., Any]) -> Iterator[None]:
    """Let processes that start at once open an SQLite file one after the other: of two that migrate it both fail."""
    url = sa.make_url(uri) if uri.startswith("sqlite:") else None
    if url is None or not url.database:
        yield
        return
    with FileLock(f"{url.database}.lock", timeout=_OPENING_PATIENCE_S):
        _make_file(Path(url.database), connect)
        yield


def _make_file(path: Path, connect: Callable[..., Any]) -> None:
    """Make MLflow's SQLite file, whole or not at all: migrations that were cut off can never be finished.

    It is set to write-ahead logging, and stays so: then writers and readers do not wait for each other.
    """
    if path.exists():
        return
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    connect(tracking_uri=f"sqlite:///{unfinished}", registry_uri=f"sqlite:///{unfinished}")
    unfinished.replace(path)
    with closing(sqlite3.connect(path, timeout=20)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


@contextmanager
def _turn(database: Database) -> Iterator[None]:
    """Let servers that start at once make MLflow's schema and its tables one after the other."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"SELECT pg_advisory_lock({_OPENING_LOCK})"))
        try:
            connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}"))
            yield
        finally:
            connection.execute(sa.text(f"SELECT pg_advisory_unlock({_OPENING_LOCK})"))


def _keep_quiet(timeout_s: float) -> None:
    """Set what MLflow reads from the environment when it is imported; what the user has set stays.

    Nothing is sent to anyone, nothing is written to stdout (it carries the protocol), and a server that does not answer
    is given up soon.
    """
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_CONFIGURE_LOGGING": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, int(timeout_s))),
    }.items():
        os.environ.setdefault(name, value)


def _experiment(client: Any, place: TrackingPlace) -> str:
    found = client.get_experiment_by_name(place.experiment)
    if found is None:
        location = None if place.artifact_root is None else place.artifact_root.as_uri()
        with _unless(_STATUS_TAKEN):  # another process was quicker
            return str(client.create_experiment(place.experiment, artifact_location=location))
        found = client.get_experiment_by_name(place.experiment)
    return str(found.experiment_id)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what MLflow raises when it does not answer into our error; what is a bug stays what it is."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as refusal:
        if refusal.error_code in _CLIENT_ERRORS | _STATUS_MISSING | _STATUS_TAKEN:
            raise
        raise _unavailable() from refusal
    except (OSError, sa.exc.OperationalError, sa.exc.InterfaceError) as refusal:
        raise _unavailable() from refusal


def _unavailable() -> UnavailableError:
    return UnavailableError(
        "MLflow, which keeps runs, versions and stages, does not answer.",
        hint="See check_health, component mlflow; then try again.",
    )


@contextmanager
def _unless(codes: set[str]) -> Iterator[None]:
    """Pass over MLflow's errors that have one of `codes`."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as refusal:
        if refusal.error_code not in codes:
            raise


def _all_pages(search: Callable[..., Any], wanted: str) -> Iterator[Any]:
    token = None
    while True:
        page = search(filter_string=wanted, max_results=200, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _finite(metrics: Mapping[str, float | None]) -> list[tuple[str, float]]:
    return [(_name(key), float(value)) for key, value in metrics.items() if value is not None and _ok(value)]


def _ok(value: float) -> bool:
    return math.isfinite(value)


def _name(key: str) -> str:
    """Return `key` with only the characters that MLflow takes in names of parameters and metrics."""
    return re.sub(r"[^\w. /-]", "_", key)[:200]


def _quotable(job_id: str) -> str:
    return re.sub(r"[^\w.:-]", "_", job_id)
