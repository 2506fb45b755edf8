"""How long a search takes that two workers share and one of which is killed, beside what one worker needs for it.

Two `nba-mcp worker` processes on one PostgreSQL, one trial at a time each. First one of them makes the whole search
alone; then both share one, and the second is killed by SIGKILL at half of the trials. The time from there to the
registered model is divided by what one worker would need for what was left: the trials without a record, at the pace of
the same trials when one worker made them alone, and the last fit.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from sklearn.datasets import make_classification

from mcp_server.app import App, open_app
from mcp_server.runtime.identity import Caller
from mcp_server.settings import DatabaseSettings, Settings, WorkerSettings
from mcp_server.tools.registry import JOB_KINDS, ROLES_BY_TOOL
from tests.postgres import run_postgres

CALLER = Caller(name="benchmark", role="admin")
TRIALS, KILL_AT, ROWS, REPEATS = 40, 20, 10_000, 3
LIMIT = 1.3
ARGUMENTS: dict[str, Any] = {
    "dataset": "table",
    "target": "target",
    "estimators": ["hist_gradient_boosting", "logistic_regression"],
    "trials": TRIALS,
    "cv": 3,
}


def start_worker(folder: Path, url: str) -> "subprocess.Popen[bytes]":
    """Start a worker with the usual signs of life, one trial at a time."""
    environment = os.environ | {
        "NBA_MCP_DATA_DIR": str(folder),
        "NBA_MCP_DATABASE__URL": url,
        "NBA_MCP_LOG_LEVEL": "error",
        "NBA_MCP_WORKER__TRIAL_CONCURRENCY": "1",
    }
    return subprocess.Popen([sys.executable, "-m", "mcp_server", "worker"], env=environment, stdin=subprocess.DEVNULL)


def ended(app: App, job_id: str) -> float:
    """Wait for a search and return when it ended, in seconds of `time.time`."""

    async def silent(*_: Any) -> None:
        return None

    job = asyncio.run(app.jobs.wait(job_id, 900.0, silent))
    if job["state"] != "succeeded":
        raise RuntimeError(f"the search ended as {job['state']}: {job}")
    return time.time()


def until(app: App, job_id: str, n_trials: int) -> float:
    """Wait until so many trials are recorded and return when that was."""
    while len(app.training.found(job_id)) < n_trials:
        time.sleep(0.02)
    return time.time()


def measure(app: App, folder: Path, url: str, seed: int) -> dict[str, float]:
    """Return the seconds of one search alone and of one that lost a worker."""
    workers = [start_worker(folder, url)]
    try:
        while len(app.job_records.workers()) != 1:
            time.sleep(0.1)
        ended(app, app.jobs.submit("train_model", ARGUMENTS | {"name": "warm", "trials": 4, "seed": 99}, CALLER))
        alone = app.jobs.submit("train_model", ARGUMENTS | {"name": "alone", "seed": seed}, CALLER)
        half, all_trials = until(app, alone, KILL_AT), until(app, alone, TRIALS)
        finish_s = ended(app, alone) - all_trials
        trial_s = (all_trials - half) / (TRIALS - KILL_AT)
        workers.append(start_worker(folder, url))  # the first stays, as it has its libraries loaded
        while len(app.job_records.workers()) != len(workers):
            time.sleep(0.1)
        shared = app.jobs.submit("train_model", ARGUMENTS | {"name": "shared", "seed": seed}, CALLER)
        until(app, shared, KILL_AT)
        workers[1].kill()
        killed = time.time()
        left = TRIALS - len(app.training.found(shared))
        rest_s = ended(app, shared) - killed
        return {"left": left, "trial_s": trial_s, "rest_s": rest_s, "alone_s": left * trial_s + finish_s}
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        while app.job_records.workers():
            for record in app.job_records.workers():
                app.job_records.remove_worker(record.worker_id, lambda _worker_id: None)


def main() -> int:
    """Print the figures; 1 when the middle ratio is beyond the limit."""
    matrix, truth = make_classification(ROWS, 20, random_state=0, flip_y=0.1)
    frame = pl.DataFrame(matrix, schema=[f"x{n}" for n in range(20)]).with_columns(target=pl.Series(truth))
    console, ratios = Console(width=120), []
    with run_postgres() as cluster, cluster.new_database() as url, tempfile.TemporaryDirectory() as name:
        settings = Settings(
            data_dir=Path(name),
            log_level="error",
            database=DatabaseSettings(url=url),
            worker=WorkerSettings(embedded=False),
        )
        app = open_app(settings, roles_by_tool=ROLES_BY_TOOL, job_kinds=JOB_KINDS, with_worker=False)
        try:
            app.datasets.write("table", frame, source="benchmark", lineage={}, caller=CALLER)
            for seed in range(REPEATS):
                found = measure(app, Path(name), url, seed)
                ratios.append(found["rest_s"] / found["alone_s"])
                console.print(
                    f"{found['left']:.0f} of {TRIALS} trials left, {found['trial_s']:.2f} s each: "
                    f"{found['rest_s']:.1f} s after the kill, {found['alone_s']:.1f} s by one worker alone: "
                    f"ratio {ratios[-1]:.2f}"
                )
        finally:
            app.close()
    middle = sorted(ratios)[len(ratios) // 2]
    console.print(f"Middle ratio {middle:.2f}; limit {LIMIT}; load {os.getloadavg()[0]:.1f}.")
    return int(middle > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
