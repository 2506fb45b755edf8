"""How long `explain_model` takes on 1,000 rows of a forest of 200 trees, as a job of a real worker.

Beside it the calculation alone: ours, and shap's `TreeExplainer` on the same rows. `python -m benchmarks explanation`.
"""

import asyncio
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from mcp_server.app import open_app
from mcp_server.engine.recalibration import uncorrected
from mcp_server.runtime.identity import Caller
from mcp_server.settings import Settings
from mcp_server.tools.registry import JOB_KINDS, ROLES_BY_TOOL

N_TRAIN, N_ROWS, N_TREES, N_FEATURES = 5000, 1000, 200, 10
REPEATS = 5
LIMIT_S = 3.0
CALLER = Caller(name="benchmark", role="admin")


def table() -> pl.DataFrame:
    """Return made-up rows: two features decide together, one alone."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(N_TRAIN, N_FEATURES))
    target = values[:, 0] + values[:, 1] * values[:, 2] + rng.normal(size=N_TRAIN) > 0
    return pl.DataFrame({f"x{k}": values[:, k] for k in range(N_FEATURES)} | {"y": target.astype(int)})


def job(app: Any, kind: str, arguments: dict[str, Any]) -> float:
    """Run a job to its end and return its seconds.

    Raises:
        RuntimeError: it did not succeed.
    """

    async def silent(*_: Any) -> None:
        return None

    started = time.perf_counter()
    done = asyncio.run(app.jobs.wait(app.jobs.submit(kind, arguments, CALLER), 600.0, silent))
    if done["state"] != "succeeded":
        raise RuntimeError(f"{kind} ended as {done['state']}: {done['error']}")
    return time.perf_counter() - started


def alone(model: Any, rows: Any) -> dict[str, float]:
    """Return the seconds of the calculation by itself, once each is warm."""
    from mcp_server.engine.forest_shapley import forest_shapley

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from shap import TreeExplainer
    forest_shapley(model, rows[:10])
    explainer = TreeExplainer(model, feature_perturbation="tree_path_dependent")
    started = time.perf_counter()
    forest_shapley(model, rows)
    ours = time.perf_counter() - started
    started = time.perf_counter()
    explainer.shap_values(rows, check_additivity=False)
    return {"ours": ours, "shap's TreeExplainer": time.perf_counter() - started}


def main() -> int:
    """Print the figures; 1 when the job takes longer than the limit."""
    frame = table()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), log_level="error")
        app = open_app(settings, roles_by_tool=ROLES_BY_TOOL, job_kinds=JOB_KINDS, with_worker=True)
        try:
            app.datasets.write("table", frame, source="benchmark", lineage={}, caller=CALLER)
            app.datasets.write("rows", frame.head(N_ROWS), source="benchmark", lineage={}, caller=CALLER)
            space = {"random_forest": {"n_estimators": [N_TREES], "max_depth": [10], "min_samples_leaf": [5]}}
            training = {"name": "forest", "dataset": "table", "target": "y", "estimators": ["random_forest"]}
            job(app, "train_model", training | {"search": "grid", "trials": 1, "search_space": space, "cv": 2})
            asked = {"model": "forest", "dataset": "rows"}
            first = job(app, "explain_model", asked)
            seconds = [job(app, "explain_model", asked) for _ in range(REPEATS)]
            pipeline = app.models.load(app.models.resolve("forest"))
            matrix = frame.head(N_ROWS).drop("y").to_numpy()
            forest = uncorrected(pipeline[-1])
            figures = alone(forest, matrix)
            n_trees = len(forest.estimators_)
        finally:
            app.close()
    shown = Table(title=f"{N_ROWS} rows, {n_trees} trees, {N_FEATURES} features; load {os.getloadavg()[0]:.1f}")
    shown.add_column("what")
    shown.add_column("s", justify="right")
    shown.add_row("explain_model in the worker, first", f"{first:.2f}")
    shown.add_row(f"explain_model in the worker, median of {REPEATS}", f"{statistics.median(seconds):.2f}")
    for name, value in figures.items():
        shown.add_row(f"the values alone: {name}", f"{value:.2f}")
    Console(width=120).print(shown)
    return int(statistics.median(seconds) > LIMIT_S or n_trees != N_TREES)


if __name__ == "__main__":
    raise SystemExit(main())
