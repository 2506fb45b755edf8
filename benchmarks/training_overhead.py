"""What a durable search costs beyond a bare `cross_val_score` loop of the same trials.

A search of one family on a table whose trial takes about 50 ms is a job of a real worker with one trial at a time; the
loop fits the same parameters on the same training part in one process. Beside it: the same parts without a queue, and
children that do nothing, which tell where the time goes. A trial of the durable search is the difference between a long
and a short one, over the trials between: plan and finish happen once, whatever the number of trials.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from sklearn.datasets import make_classification

from mcp_server.app import App, open_app
from mcp_server.runtime.child import run_in_child
from mcp_server.runtime.identity import Caller
from mcp_server.settings import Settings, WorkerSettings
from mcp_server.tools.registry import JOB_KINDS, ROLES_BY_TOOL

CALLER = Caller(name="benchmark", role="admin")
TRIALS, ROWS, CV = 40, 3000, 5
LIMIT = 0.15


def nothing(_arguments: dict[str, Any]) -> dict[str, Any]:
    """Be a child that has nothing to do."""
    return {}


def bare_loop(history: list[Mapping[str, Any]], frame: pl.DataFrame, plan: Mapping[str, Any]) -> float:
    """Return the seconds of `cross_val_score` over the same parameters, after one fit that is not counted."""
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
    started = 0.0
    with threadpool_limits(1):
        for position, past in enumerate([history[0], *history]):
            if position == 1:
                started = time.perf_counter()
            trial = Trial(past["number"], past["estimator"], past["params"], [])
            cross_val_score(build(trial, spec.inputs, building), matrix, truth, cv=splitter, scoring="neg_log_loss")
    return time.perf_counter() - started


def durable(app: App, arguments: Mapping[str, Any]) -> float:
    """Return the seconds of a whole search, from its submission to its registered model."""

    async def silent(*_: Any) -> None:
        return None

    started = time.perf_counter()
    job_id = app.jobs.submit("train_model", dict(arguments), CALLER)
    job = asyncio.run(app.jobs.wait(job_id, 600.0, silent))
    seconds = time.perf_counter() - started
    if job["state"] != "succeeded":
        raise RuntimeError(f"the search ended as {job['state']}: {job}")
    return seconds


def main() -> int:
    """Print the figures; 1 when the overhead is beyond the limit."""
    matrix, truth = make_classification(ROWS, 10, random_state=0, flip_y=0.1)
    frame = pl.DataFrame(matrix, schema=[f"x{n}" for n in range(10)]).with_columns(target=pl.Series(truth))
    arguments: dict[str, Any] = {
        "name": "model",
        "dataset": "table",
        "target": "target",
        "estimators": ["logistic_regression"],
    }
    arguments |= {"search": "random", "cv": CV, "metric": "log_loss"}
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as name:
        settings = Settings(data_dir=Path(name), log_level="error", worker=WorkerSettings(trial_concurrency=1))
        app = open_app(
            settings,
            roles_by_tool=ROLES_BY_TOOL,
            job_kinds=JOB_KINDS,
            child_modules=("mcp_server.engine.training",),
            with_worker=True,
        )
        try:
            return _measure(app, frame, arguments, console)
        finally:
            app.close()


def _measure(app: App, frame: pl.DataFrame, arguments: dict[str, Any], console: Console) -> int:
    app.datasets.write("table", frame, source="benchmark", lineage={}, caller=CALLER)
    while app.jobs.workers_alive() == 0:
        time.sleep(0.1)
    few, many = {"trials": 5, "name": "few"}, {"trials": 5 + TRIALS, "name": "many"}
    durable(app, arguments | {"trials": 5, "name": "first"})
    short_s = durable(app, arguments | few | {"seed": 1})
    long_s = durable(app, arguments | many | {"seed": 1})
    plan = app.training.plan_training(caller=CALLER, job_id="plan", **arguments, trials=TRIALS, seed=2)
    history: list[dict[str, Any]] = []
    inline_s = 0.0
    for index in range(plan["n_rounds"]):
        for trial in app.training.ask_trials(plan, index, list(history)):
            started = time.perf_counter()
            history.append(app.training.run_trial(plan, trial, lambda: False))
            inline_s += time.perf_counter() - started
    bare_s = bare_loop(history, frame, plan)
    started = time.perf_counter()
    for _ in range(TRIALS):
        run_in_child("benchmarks.training_overhead:nothing", {}, memory_bytes=2**32, timeout_s=60.0, threads=1)
    child_s = time.perf_counter() - started
    n = len(history)
    overhead = (long_s - short_s) / TRIALS / (bare_s / n) - 1
    console.print(f"Milliseconds a trial of {n}; load {os.getloadavg()[0]:.1f}:")
    console.print(f"bare loop                       {1000 * bare_s / n:7.1f}")
    console.print(f"inside the children             {1000 * statistics.fmean(t['duration_s'] for t in history):7.1f}")
    console.print(f"an empty child                  {1000 * child_s / TRIALS:7.1f}")
    console.print(f"children one by one, no queue   {1000 * inline_s / n:7.1f}")
    console.print(f"durable, on a worker            {1000 * (long_s - short_s) / TRIALS:7.1f}")
    console.print(f"Overhead {overhead:.0%}; limit {LIMIT:.0%}.")
    return int(overhead > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
