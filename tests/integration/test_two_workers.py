"""Real workers on one PostgreSQL share the trials of a search: the same winner as one finds, even if one is killed."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mcp_server.app import App, open_app
from mcp_server.runtime.jobs.storage import make_client
from mcp_server.settings import DatabaseSettings, Settings, WorkerSettings
from mcp_server.tools.registry import JOB_KINDS, ROLES_BY_TOOL
from tests.postgres import PostgresCluster
from tests.services.training_world import CALLER, games

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("two_workers")]

PATIENCE_S = 180.0
TRIALS = 24
ARGUMENTS: dict[str, Any] = {
    "dataset": "games",
    "target": "won",
    "features": ["rating", "rest", "venue"],
    "estimators": ["logistic_regression", "extra_trees"],
    "trials": TRIALS,
    "cv": 3,
    "seed": 7,
}


class Workshop:
    """An app without a worker of its own, and workers that a test starts and kills."""

    def __init__(self, folder: Path, url: str) -> None:
        worker = WorkerSettings(embedded=False, heartbeat_s=0.3, grace_s=3.0, trial_concurrency=1)
        settings = Settings(
            _env_file=None, data_dir=folder, log_level="error", database=DatabaseSettings(url=url), worker=worker
        )
        self._environment = os.environ | {
            "NBA_MCP_DATA_DIR": str(folder),
            "NBA_MCP_DATABASE__URL": url,
            "NBA_MCP_LOG_LEVEL": "error",
            "NBA_MCP_WORKER__HEARTBEAT_S": "0.3",
            "NBA_MCP_WORKER__GRACE_S": "3",
            "NBA_MCP_WORKER__TRIAL_CONCURRENCY": "1",
        }
        self.app: App = open_app(settings, roles_by_tool=ROLES_BY_TOOL, job_kinds=JOB_KINDS, with_worker=False)
        self.app.datasets.write("games", games(n_rows=2000), source="test", lineage={}, caller=CALLER)
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self) -> None:
        count = len(self.workers)
        command = [sys.executable, "-m", "mcp_server", "worker"]
        self.workers.append(subprocess.Popen(command, env=self._environment, stdin=subprocess.DEVNULL))
        eventually(lambda: len(self.app.job_records.workers()) > count)

    def submit(self, name: str) -> str:
        return self.app.jobs.submit("train_model", ARGUMENTS | {"name": name}, CALLER)

    def result(self, job_id: str) -> dict[str, Any]:
        async def silent(*_: Any) -> None:
            return None

        job = asyncio.run(self.app.jobs.wait(job_id, PATIENCE_S, silent))
        assert job["state"] == "succeeded", job["error"]
        found: dict[str, Any] = job["result"]
        return found

    def scores(self, job_id: str) -> list[tuple[int, str, float | None]]:
        return [(part["number"], part["estimator"], part["score"]) for part in self.app.training.found(job_id)]

    def takers(self, job_id: str) -> set[str]:
        """Return the workers that ran trials of a job."""
        client = make_client(self.app.settings)
        found = client.list_workflows(name="run_trial", workflow_id_prefix=f"{job_id}-trial-", load_output=False)
        client.destroy()
        return {str(workflow.executor_id) for workflow in found}

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.app.close()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def workshop(postgres: PostgresCluster, tmp_path: Path) -> Iterator[Workshop]:
    with ExitStack() as stack:
        made = Workshop(tmp_path / "data", stack.enter_context(postgres.new_database()))
        stack.callback(made.close)
        yield made


def test_two_workers_find_what_one_finds_and_the_survivor_of_two_finds_it_too(workshop: Workshop) -> None:
    workshop.start_worker()
    alone = workshop.submit("alone")
    first = workshop.result(alone)
    assert len(workshop.takers(alone)) == 1

    workshop.start_worker()
    shared = workshop.submit("shared")
    second = workshop.result(shared)
    assert len(workshop.takers(shared)) == 2

    survived = workshop.submit("survived")
    eventually(lambda: len(workshop.scores(survived)) >= TRIALS // 3)
    workshop.workers[0].kill()
    workshop.workers[0].wait()
    third = workshop.result(survived)

    assert workshop.scores(alone) == workshop.scores(shared) == workshop.scores(survived)
    assert len(workshop.scores(survived)) == TRIALS
    for name in ("estimator", "params", "cv_score", "test_metrics"):
        assert first[name] == second[name] == third[name]
