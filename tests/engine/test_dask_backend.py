"""Fits on a Dask cluster: the same bytes as without one, and a clear answer when there is none."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

from mcp_server.engine.dask_backend import LARGE_CELLS, SETTING, dask_cluster, is_large
from mcp_server.errors import UnavailableError


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real scheduler with two worker processes."""
    folder: Path = tmp_path_factory.mktemp("dask")
    address = f"tcp://127.0.0.1:{_free_port()}"
    port = address.rsplit(":", 1)[1]
    quiet = ["--no-dashboard"]
    commands = [
        ["scheduler", "--host", "127.0.0.1", "--port", port, *quiet],
        *[["worker", address, "--nthreads", "1", "--local-directory", str(folder), "--no-nanny", *quiet]] * 2,
    ]
    with ExitStack() as stack, (folder / "log").open("wb") as log:
        for command in commands:
            process = subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_" + command[0], *command[1:]], stdout=log, stderr=log
            )
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        yield address


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
def test_the_tasks_run_in_the_workers_processes(scheduler: str):
    import os

    from joblib import Parallel, delayed

    with dask_cluster(scheduler, 30):
        pids = set(Parallel(n_jobs=-1)(delayed(os.getpid)() for _ in range(20)))

    assert os.getpid() not in pids


def test_a_scheduler_that_is_not_there_is_unavailable_and_its_password_is_not_told():
    with (
        pytest.raises(UnavailableError) as refusal,
        dask_cluster(f"tcp://ada:secret@127.0.0.1:{_free_port()}", 0.5),
    ):
        pass

    document = str(refusal.value.to_document())
    assert SETTING in document
    assert "secret" not in document


@pytest.mark.parametrize(("rows", "expected"), [(LARGE_CELLS // 10, True), (LARGE_CELLS // 10 - 1, False)])
def test_only_large_fits_go_to_the_cluster(rows: int, expected: bool):
    assert is_large(rows, 10) is np.bool_(expected).item()
