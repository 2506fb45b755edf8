"""Fits on a Dask cluster: the same bytes as without one, and a clear answer when there is none."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from joblib import Parallel, delayed
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

from mcp_server.engine import dask_backend
from mcp_server.engine.dask_backend import LARGE_CELLS, SETTING, cluster_for, dask_cluster, is_large
from mcp_server.engine.estimators import Building
from mcp_server.engine.pipelines import Trial, fit_trial, predict_output
from mcp_server.engine.preprocessing import describe_inputs, model_input
from mcp_server.errors import UnavailableError
from tests.postgres import free_port


class Cluster:
    """A real scheduler, and as many worker processes as are asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._folder, self._stack = folder, stack
        self._run("scheduler", "--host", "127.0.0.1", "--port", self.address.rsplit(":", 1)[1])

    def add_worker(self) -> None:
        self._run("worker", self.address, "--nthreads", "1", "--local-directory", str(self._folder), "--no-nanny")

    def _run(self, what: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments, "--no-dashboard"]
        log = self._stack.enter_context((self._folder / what).open("ab"))
        process = subprocess.Popen(command, stdout=log, stderr=log)
        self._stack.callback(process.wait, 20)
        self._stack.callback(process.terminate)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real scheduler with two worker processes."""
    with ExitStack() as stack:
        cluster = Cluster(tmp_path_factory.mktemp("dask"), stack)
        cluster.add_worker()
        cluster.add_worker()
        yield cluster.address


@pytest.mark.slow
def test_a_fit_on_the_cluster_gives_the_bytes_of_one_process(scheduler: str):
    matrix, truth = make_classification(1000, 12, random_state=0)
    forest = RandomForestClassifier(24, random_state=3)
    alone = forest.set_params(n_jobs=1).fit(matrix, truth).predict_proba(matrix)
    scores = cross_val_score(forest, matrix, truth, cv=4, n_jobs=1)

    with dask_cluster(scheduler, 30):
        there = forest.set_params(n_jobs=-1).fit(matrix, truth)
        scores_there = cross_val_score(forest.set_params(n_jobs=1), matrix, truth, cv=4, n_jobs=-1)

    assert there.predict_proba(matrix).tobytes() == alone.tobytes()
    assert scores_there.tobytes() == scores.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["random_forest", "voting"])
def test_a_model_fitted_on_the_cluster_predicts_the_same(
    scheduler: str, estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_backend, "LARGE_CELLS", 1)
    rng = np.random.default_rng(4)
    frame = pl.DataFrame({"x": rng.normal(size=400), "word": rng.choice(["a", "b", "c"], 400)})
    truth = (frame["x"].to_numpy() + rng.normal(size=400) > 0).astype(np.int64)
    inputs = describe_inputs(frame, ["x", "word"])
    members = [{"estimator": name, "params": {}} for name in ("logistic_regression", "extra_trees")]
    trial = Trial(0, estimator, {}, members if estimator == "voting" else [])
    matrix, building = model_input(frame, inputs), Building("binary", 7, 400, None, 2)

    alone, _ = fit_trial(trial, inputs, matrix, truth, building)
    with cluster_for({"scheduler": scheduler, "timeout_s": 30}, *matrix.shape):
        there, _ = fit_trial(trial, inputs, matrix, truth, building)

    assert predict_output(there, matrix, 2).tobytes() == predict_output(alone, matrix, 2).tobytes()


@pytest.mark.slow
def test_a_scheduler_without_workers_is_unavailable(tmp_path: Path) -> None:
    with ExitStack() as stack:
        cluster = Cluster(tmp_path, stack)
        with pytest.raises(UnavailableError, match="has no workers"), dask_cluster(cluster.address, 8):
            pass


@pytest.mark.slow
def test_the_tasks_run_in_the_workers_processes(scheduler: str):
    import os

    with dask_cluster(scheduler, 30):
        pids = set(Parallel(n_jobs=-1)(delayed(os.getpid)() for _ in range(20)))

    assert os.getpid() not in pids


def test_a_scheduler_that_is_not_there_is_unavailable_and_its_password_is_not_told():
    with (
        pytest.raises(UnavailableError) as refusal,
        dask_cluster(f"tcp://ada:secret@127.0.0.1:{free_port()}", 0.5),
    ):
        pass

    document = str(refusal.value.to_document())
    assert SETTING in document
    assert "secret" not in document


@pytest.mark.parametrize(("rows", "expected"), [(LARGE_CELLS // 10, True), (LARGE_CELLS // 10 - 1, False)])
def test_only_large_fits_go_to_the_cluster(rows: int, expected: bool):
    assert is_large(rows, 10) is np.bool_(expected).item()
