"""Where MLflow keeps its state, and how a client of it is made. Nothing here imports it before a client is wanted."""

import logging
import math
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock

from mcp_server.settings import MlflowSettings
from mcp_server.stores.database import Database
from mcp_server.stores.mlflow_errors import TAKEN, passing_over

_SCHEMA = "mlflow"
_OPENING_PATIENCE_S = 60.0
_OPENING_LOCK = 6013770017


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
        database = place.database
        with _turn_at_file(place.uri, MlflowClient) if database is None else database.turn(_OPENING_LOCK, _SCHEMA):
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


def _keep_quiet(timeout_s: float) -> None:
    """Set what MLflow reads from the environment: it has no other way to be told.

    Nothing is sent to anyone, and nothing is written to stdout (it carries the protocol). Where the user has said
    otherwise, that stays. How long a silent server is waited for is a setting of ours, and whoever calls tries again.
    """
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_CONFIGURE_LOGGING": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }.items():
        os.environ.setdefault(name, value)
    os.environ |= {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, math.ceil(timeout_s))),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a kept connection that the server has closed
        "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # it may say an hour
    }


def experiment_of(client: Any, place: TrackingPlace) -> str:
    """Return the id of the experiment that runs are filed under: found, made, or taken out of the bin."""
    found = client.get_experiment_by_name(place.experiment)
    if found is None:
        location = None if place.artifact_root is None else place.artifact_root.as_uri()
        with passing_over(TAKEN):  # another process was quicker
            return str(client.create_experiment(place.experiment, artifact_location=location))
        found = client.get_experiment_by_name(place.experiment)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)
