"""One trainer in a process of its own: `python -m benchmarks.training_worker TRAINER PROBLEM BUDGET_S FOLDER`.

`ours` submits a job to a server's worker and writes which rows were held out (`rows.npz`); the others read it. Each
writes what it says of the held-out rows to `TRAINER.npy`, and one line of JSON with its seconds to standard output.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from benchmarks.training_data import PROBLEMS, Problem

WARM_UP = {"name": "warm_up", "estimators": ["dummy"], "search": "none", "time_budget_seconds": None}


def ours(problem: Problem, budget_s: float, folder: Path) -> dict[str, Any]:
    """Train through the job queue and a real worker on a database of its own."""
    from mcp_server.app import open_app
    from mcp_server.runtime.identity import Caller
    from mcp_server.services.model_rows import ModelRows
    from mcp_server.settings import Settings
    from mcp_server.tools.registry import JOB_KINDS, ROLES_BY_TOOL

    settings = Settings(data_dir=folder / "data", log_level="error")
    caller = Caller(name="benchmark", role="admin")
    app = open_app(settings, roles_by_tool=ROLES_BY_TOOL, job_kinds=JOB_KINDS, with_worker=True)
    try:
        numbered = problem.frame.with_row_index("row_number")
        data = app.datasets.write("table", numbered, source="benchmark", lineage={}, caller=caller)
        while app.jobs.workers_alive() == 0:
            time.sleep(0.1)
        features = [name for name in problem.frame.columns if name not in {"target", problem.split.get("column")}]
        arguments = {
            "name": "model",
            "dataset": data.ref,
            "target": "target",
            "task": problem.task,
            "features": features,
            "estimators": ["auto"],
            "trials": 500,
            "time_budget_seconds": budget_s,
            "metric": "rmse" if problem.task == "regression" else "log_loss",
            "split": dict(problem.split),
        }
        _succeeded(app, arguments | WARM_UP, caller)  # the worker of a server has long been running
        started = time.perf_counter()
        _succeeded(app, arguments, caller)
        seconds = time.perf_counter() - started
        version = app.models.resolve("model")
        rows = ModelRows(app.datasets, app.models)
        held = rows.labelled_rows(version, data.ref)
        np.save(folder / "ours.npy", rows.output(version, held.frame))
        test = held.frame["row_number"].to_numpy()
        train = np.setdiff1d(np.arange(problem.frame.height), test)
        np.savez(folder / "rows.npz", train=train, test=test, truth=held.truth)
        winner = version.result["leaderboard"][0]["estimator"]
        return {"seconds": seconds, "winner": winner, "warnings": len(version.result["warnings"])}
    finally:
        app.close()


def _succeeded(app: Any, arguments: dict[str, Any], caller: Any) -> None:
    async def silent(*_: Any) -> None:
        return None

    job = asyncio.run(app.jobs.wait(app.jobs.submit("train_model", arguments, caller), 3600.0, silent))
    if job["state"] != "succeeded":
        raise RuntimeError(f"the training ended as {job['state']}: {job}")


def _frames(problem: Problem, folder: Path) -> tuple[pd.DataFrame, Any, pd.DataFrame]:
    rows = np.load(folder / "rows.npz")
    left_out = ["target", *([problem.split["column"]] if "column" in problem.split else [])]
    texts = [name for name, kind in problem.frame.schema.items() if kind == pl.String and name not in left_out]
    matrix = problem.frame.drop(left_out).to_pandas()
    matrix[texts] = matrix[texts].astype("category")
    truth = problem.frame["target"].to_numpy()
    if problem.task != "regression":
        truth = np.unique(truth, return_inverse=True)[1]
    return matrix.iloc[rows["train"]], truth[rows["train"]], matrix.iloc[rows["test"]]


def flaml(problem: Problem, budget_s: float, folder: Path) -> dict[str, Any]:
    """Train with FLAML's own defaults; its output is kept from the screen."""
    from flaml.automl import AutoML

    matrix, truth, held = _frames(problem, folder)
    metric = "rmse" if problem.task == "regression" else "log_loss"
    task = "regression" if problem.task == "regression" else "classification"
    automl: Any = AutoML()  # type: ignore[no-untyped-call]
    started = time.perf_counter()
    automl.fit(matrix, truth, task=task, metric=metric, time_budget=budget_s, seed=0, verbose=0)
    seconds = time.perf_counter() - started
    output = automl.predict(held) if task == "regression" else automl.predict_proba(held)
    np.save(folder / "flaml.npy", np.asarray(output, dtype=float))
    return {"seconds": seconds, "winner": automl.best_estimator}


def sklearn_default(name: str, problem: Problem, folder: Path) -> dict[str, Any]:
    """Fit an estimator of scikit-learn with its defaults, behind what it needs to take the columns at all."""
    from sklearn import ensemble, linear_model
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    values = problem.task == "regression"
    kinds = {
        "linear": linear_model.Ridge if values else linear_model.LogisticRegression,
        "forest": ensemble.RandomForestRegressor if values else ensemble.RandomForestClassifier,
        "boosting": ensemble.HistGradientBoostingRegressor if values else ensemble.HistGradientBoostingClassifier,
    }
    model = kinds[name]() if name == "linear" else kinds[name](random_state=0)
    matrix, truth, held = _frames(problem, folder)
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), make_column_selector(dtype_include="category")),
        remainder=make_pipeline(SimpleImputer(), StandardScaler()),
    )
    started = time.perf_counter()
    pipeline = make_pipeline(columns, model).fit(matrix, truth)
    seconds = time.perf_counter() - started
    np.save(folder / f"{name}.npy", pipeline.predict(held) if values else pipeline.predict_proba(held))
    return {"seconds": seconds, "winner": type(model).__name__}


def main() -> None:
    """Train once and say how long it took."""
    trainer, name, budget_s, folder = sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4])
    problem = PROBLEMS[name]()
    if trainer in {"ours", "flaml"}:
        answer = (ours if trainer == "ours" else flaml)(problem, budget_s, folder)
    else:
        answer = sklearn_default(trainer, problem, folder)
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
