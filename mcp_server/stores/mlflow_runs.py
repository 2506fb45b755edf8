"""Runs and model versions in MLflow.

Only its client is used, never its fluent functions (they keep global state) and never its model loaders (they run what
a file says). Its tables have an SQLite file of their own, or a schema of their own in our PostgreSQL database.
"""

import math
import re
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from mcp_server.errors import UnavailableError
from mcp_server.stores.mlflow_errors import MISSING, TAKEN, explained, passing_over
from mcp_server.stores.mlflow_opening import TrackingPlace, experiment_of, make_client

T = TypeVar("T")

_JOB_TAG = "nba_mcp.job_id"
_NAME_TAG = "nba_mcp.model"
_PARAM_LENGTH = 5000
_BATCH = 100


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call tries again while MLflow does not answer.

    Attributes:
        seconds: from the call's start; the try that is under way then is let end.
        waiting: told before each further try; what it raises, such as CancelledError, ends the wait.
    """

    seconds: float
    waiting: Callable[[str], None]


IMPATIENT = Patience(0.0, lambda _: None)


class Tracking:
    """Runs and versions in MLflow; opened by the first call. Thread-safe.

    What writes takes a `Patience`, and may be done twice: a run and its version are found again by the job's tag.
    """

    def __init__(self, place: TrackingPlace) -> None:
        """Hold the place."""
        self._place = place
        self._lock = threading.Lock()
        self._client: Any = None
        self._experiment_id = ""

    def open(self) -> Any:
        """Return the client, made and its tables migrated the first time.

        Raises:
            UnavailableError: MLflow does not answer.
            FailedPreconditionError: it refuses us.
        """
        with self._lock:
            if self._client is None:
                with explained():
                    client = make_client(self._place)
                    self._experiment_id = experiment_of(client, self._place)
                self._client = client
            return self._client

    def ping(self) -> None:
        """Make one round trip."""
        self.once(lambda client: client.get_experiment(self._experiment_id))

    def start_run(self, name: str, job_id: str, patience: Patience = IMPATIENT) -> str:
        """Return the id of the run of a job, made now or in an earlier attempt of it.

        It counts as failed until `finish`: whatever dies when, no run is left that seems to be at work.
        """

        def find_or_make(client: Any) -> str:
            experiment = self._experiment_id = experiment_of(client, self._place)  # somebody may have deleted it
            runs = _runs_of(client, experiment, name, job_id)
            if runs:
                return str(runs[0].info.run_id)
            tags = {_JOB_TAG: _quotable(job_id), _NAME_TAG: name, "mlflow.runName": name}
            run_id = str(client.create_run(experiment, tags=tags, run_name=name).info.run_id)
            client.set_terminated(run_id, "FAILED")
            return run_id

        return self._patiently(find_or_make, patience)

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any],
        metrics: Mapping[str, float | None],
        series: Mapping[str, Sequence[float | None]],
        patience: Patience = IMPATIENT,
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

        self._patiently(write, patience)

    def log_files(self, run_id: str, files: Mapping[str, bytes], patience: Patience = IMPATIENT) -> None:
        """Write files to a run, by their paths in it."""

        def write(client: Any) -> None:
            with tempfile.TemporaryDirectory(prefix="nba-mcp-") as folder:
                for path, content in files.items():
                    target = Path(folder) / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
                client.log_artifacts(run_id, folder)

        self._patiently(write, patience)

    def create_version(self, name: str, run_id: str, patience: Patience = IMPATIENT) -> str:
        """Return MLflow's version of a run's model, made now or in an earlier attempt."""

        def find_or_make(client: Any) -> str:
            with passing_over(TAKEN):
                client.create_registered_model(name)
            for version in _versions_of(client, name, run_id):
                return str(version.version)
            source = client.get_run(run_id).info.artifact_uri.rstrip("/") + "/model"
            return str(client.create_model_version(name, source=source, run_id=run_id).version)

        return self._patiently(find_or_make, patience)

    def finish(
        self,
        run_id: str,
        name: str,
        mlflow_version: str,
        *,
        tags: Mapping[str, str],
        files: Mapping[str, bytes],
        patience: Patience = IMPATIENT,
    ) -> None:
        """Tag the run and its model version, add last files, and end the run as finished."""
        self.log_files(run_id, files, patience)

        def end(client: Any) -> None:
            self._drop_doubles(client, run_id, name, mlflow_version)
            for key, value in tags.items():
                client.set_tag(run_id, key, value)
                client.set_model_version_tag(name, mlflow_version, key, value)
            client.set_tag(run_id, "mlflow.runName", f"{name}@{tags.get('nba_mcp.version', mlflow_version)}")
            client.set_terminated(run_id, "FINISHED")

        self._patiently(end, patience)

    def _drop_doubles(self, client: Any, run_id: str, name: str, mlflow_version: str) -> None:
        """Delete what a request made that was repeated, as its answer had not come in time."""
        for version in _versions_of(client, name, run_id):
            if str(version.version) != mlflow_version:
                client.delete_model_version(name, version.version)
        job_id = client.get_run(run_id).data.tags[_JOB_TAG]
        for run in _runs_of(client, self._experiment_id, name, job_id):
            if run.info.run_id != run_id:
                client.delete_run(run.info.run_id)

    def abandon(self, name: str, job_id: str) -> None:
        """Take back what a registration that failed has left: its model version goes, its run is marked as failed.

        Raises:
            UnavailableError: MLflow does not answer.
        """

        def take_back(client: Any) -> None:
            for run in _runs_of(client, self._experiment_id, name, job_id):
                for version in _versions_of(client, name, run.info.run_id):
                    client.delete_model_version(name, version.version)
                client.set_terminated(run.info.run_id, "FAILED")

        self.once(take_back)

    def delete_version(self, name: str, mlflow_version: str, run_id: str) -> None:
        """Delete a model version with its aliases, and its run; what is gone already is fine."""

        def delete(client: Any) -> None:
            with passing_over(MISSING):
                client.delete_model_version(name, mlflow_version)
            with passing_over(MISSING):
                client.delete_run(run_id)

        self.once(delete)

    def once(self, work: Callable[[Any], T]) -> T:
        """Return what `work` makes of the client.

        Raises:
            UnavailableError: MLflow does not answer.
            FailedPreconditionError: it refuses us.
        """
        client = self.open()
        with explained():
            return work(client)

    def _patiently(self, work: Callable[[Any], T], patience: Patience) -> T:
        """Do what may be done twice, again and again while MLflow does not answer."""

        def tell(state: RetryCallState) -> None:
            left_s = max(0.0, patience.seconds - (state.seconds_since_start or 0.0))
            patience.waiting(f"MLflow does not answer; trying again for {left_s:.0f} s")

        retrying = Retrying(
            retry=retry_if_exception_type(UnavailableError),
            stop=stop_after_delay(patience.seconds),
            wait=wait_exponential(multiplier=0.1, max=3.0),
            before_sleep=tell,
            reraise=True,
        )
        answer: T = retrying(self.once, work)
        return answer


def _runs_of(client: Any, experiment_id: str, name: str, job_id: str) -> list[Any]:
    """Return the runs of a job, the oldest first: one, but where a request was repeated."""
    wanted = f"tags.`{_JOB_TAG}` = '{_quotable(job_id)}' and tags.`{_NAME_TAG}` = '{name}'"
    return list(client.search_runs([experiment_id], filter_string=wanted, order_by=["attributes.start_time ASC"]))


def _versions_of(client: Any, name: str, run_id: str) -> list[Any]:
    """Return MLflow's versions of a run's model, the oldest first."""
    found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return sorted(found, key=lambda version: int(version.version))


def _finite(metrics: Mapping[str, float | None]) -> list[tuple[str, float]]:
    return [(_name(key), float(value)) for key, value in metrics.items() if value is not None and _ok(value)]


def _ok(value: float) -> bool:
    return math.isfinite(value)


def _name(key: str) -> str:
    """Return `key` with only the characters that MLflow takes in names of parameters and metrics."""
    return re.sub(r"[^\w. /-]", "_", key)[:200]


def _quotable(job_id: str) -> str:
    return re.sub(r"[^\w.:-]", "_", job_id)
