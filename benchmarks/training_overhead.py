"""What a durable search costs beyond a bare `cross_val_score` loop of the same trials.

A search of one family on a table whose trial takes about 50 ms is a job of a real worker on SQLite; the loop fits the
same parameters in the same order on the same training part in one process. Both take one thread a fit. A trial of the
durable search is the difference between a long and a short one, over the trials between: plan and finish happen once,
whatever the number of trials. Searches and loops run by turns. Seconds on the clock are what a caller waits; processor
seconds of the worker and its children say the same of a machine that others keep busy.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import psutil
from rich.console import Console
from rich.table import Table
from sklearn.datasets import make_classification

from mcp_server.app import App, open_app
from mcp_server.runtime.identity import Caller
from mcp_server.settings import Settings
from mcp_server.tools.registry import JOB_KINDS, ROLES_BY_TOOL

CALLER = Caller(name="benchmark", role="admin")
TRIALS, FEW, ROWS, CV, REPEATS = 200, 12, 10_000, 2, 3
LIMIT = 0.15
AT_ONCE = "NBA_MCP_WORKER__TRIAL_CONCURRENCY"  # the worker is a process of its own and reads the environment
ARGUMENTS: dict[str, Any] = {
    "dataset": "table",
    "target": "target",
    "estimators": ["logistic_regression"],
    "search": "random",
    "cv": CV,  # two folds: none of the trials is pruned, so the loop and the search fit the same
    "metric": "log_loss",
}


def bare_loop(
    history: Sequence[Mapping[str, Any]], frame: pl.DataFrame, plan: Mapping[str, Any]
) -> tuple[float, float]:
    """Return seconds and processor seconds of `cross_val_score` over the same parameters."""
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from threadpoolctl import threadpool_limits

    from mcp_server.engine.estimators import Building
    from mcp_server.engine.pipelines import Trial, build
    from mcp_server.engine.preprocessing import model_input
    from mcp_server.engine.training import TrainingSpec, divide

    spec = TrainingSpec.from_document(plan["spec"])
    rows = divide(frame, spec)
    matrix, truth = model_input(rows.frame[rows.train], spec.inputs), rows.truth[rows.train]
    building = Building(spec.task, spec.seed, len(truth), spec.class_weight, matrix.shape[1])
    splitter = StratifiedKFold(CV, shuffle=True, random_state=spec.seed)
    with threadpool_limits(1):
        started, started_cpu = time.perf_counter(), time.process_time()
        for past in history:
            trial = Trial(past["number"], past["estimator"], past["params"], [])
            cross_val_score(build(trial, spec.inputs, building), matrix, truth, cv=splitter, scoring="neg_log_loss")
        return time.perf_counter() - started, time.process_time() - started_cpu


def durable(app: App, trials: int, seed: int) -> tuple[str, float, float]:
    """Return the job of a whole search, its seconds until the model is registered, and processor seconds."""

    async def silent(*_: Any) -> None:
        return None

    started, started_cpu = time.perf_counter(), worker_cpu_s(app)
    arguments = ARGUMENTS | {"name": f"model_{trials}_{seed}", "trials": trials, "seed": seed}
    job_id = app.jobs.submit("train_model", arguments, CALLER)
    job = asyncio.run(app.jobs.wait(job_id, 600.0, silent))
    seconds = time.perf_counter() - started
    if job["state"] != "succeeded":
        raise RuntimeError(f"the search ended as {job['state']}: {job}")
    return job_id, seconds, worker_cpu_s(app) - started_cpu


def worker_cpu_s(app: App) -> float:
    """Return the processor seconds of the worker and of those of its children that live."""
    (record,) = app.job_records.workers()
    worker = psutil.Process(record.process_id)
    spent = [process.cpu_times() for process in (worker, *worker.children(recursive=True))]
    return sum(part.user + part.system for part in spent)


def measure(at_once: int, frame: pl.DataFrame) -> list[dict[str, float]]:
    """Return, for each repeat, the milliseconds a trial of the loop and of the search, also of the processor."""
    os.environ[AT_ONCE] = str(at_once)
    figures = []
    with tempfile.TemporaryDirectory() as name:
        settings = Settings(data_dir=Path(name), log_level="error")
        app = open_app(settings, roles_by_tool=ROLES_BY_TOOL, job_kinds=JOB_KINDS, with_worker=True)
        try:
            app.datasets.write("table", frame, source="benchmark", lineage={}, caller=CALLER)
            while app.jobs.workers_alive() == 0:
                time.sleep(0.1)
            durable(app, FEW, 100)  # the first search of a worker loads libraries
            for seed in range(REPEATS):
                _, few_s, few_cpu_s = durable(app, FEW, seed)
                job_id, many_s, many_cpu_s = durable(app, TRIALS, seed)
                past = app.training.found(job_id)
                plan = app.training.plan_training(
                    caller=CALLER, job_id=f"plan{seed}", name="plan", **ARGUMENTS | {"seed": seed}
                )
                bare_s, bare_cpu_s = bare_loop(past, frame, plan)
                between = TRIALS - FEW
                figures.append(
                    {
                        "bare": 1000 * bare_s / TRIALS,
                        "durable": 1000 * (many_s - few_s) / between,
                        "bare_cpu": 1000 * bare_cpu_s / TRIALS,
                        "durable_cpu": 1000 * (many_cpu_s - few_cpu_s) / between,
                        "inside": 1000 * statistics.fmean(trial["duration_s"] for trial in past),
                    }
                )
        finally:
            app.close()
    return figures


def main() -> int:
    """Print the figures; 1 when the overhead of a worker with its usual settings is beyond the limit."""
    matrix, truth = make_classification(ROWS, 10, random_state=0, flip_y=0.1)
    frame = pl.DataFrame(matrix, schema=[f"x{n}" for n in range(10)]).with_columns(target=pl.Series(truth))
    console = Console(width=130)
    table = Table(title=f"Milliseconds a trial, medians of {REPEATS} searches of {TRIALS} trials")
    for heading in (
        "trials at once",
        "bare loop",
        "durable",
        "overhead",
        "in the child",
        "bare, processor",
        "durable, processor",
    ):
        table.add_column(heading, justify="right")
    overheads = {}
    for at_once in (1, 2):
        figures = measure(at_once, frame)
        middle = {name: statistics.median(part[name] for part in figures) for name in figures[0]}
        overheads[at_once] = statistics.median(part["durable"] / part["bare"] - 1 for part in figures)
        table.add_row(
            str(at_once),
            f"{middle['bare']:.1f}",
            f"{middle['durable']:.1f}",
            f"{overheads[at_once]:+.0%}",
            f"{middle['inside']:.1f}",
            f"{middle['bare_cpu']:.1f}",
            f"{middle['durable_cpu']:.1f}",
        )
    console.print(table)
    console.print(
        f"A worker runs two trials at once unless told otherwise. Limit {LIMIT:.0%}; load {os.getloadavg()[0]:.1f}."
    )
    return int(overheads[2] > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
