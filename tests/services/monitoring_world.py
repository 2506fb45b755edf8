"""A small world to watch: a real trained model, a log of its predictions, and a queue that runs when told to."""

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mcp_server.engine.pipelines import predict_output
from mcp_server.engine.preprocessing import InputColumn, model_input
from mcp_server.errors import LifecycleError, NotFoundError
from mcp_server.results.base import Result
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.progress import NoProgress
from mcp_server.services.monitoring import MonitoringService
from mcp_server.services.monitoring_parts import MonitoringParts
from mcp_server.services.notifying import Notifier
from mcp_server.services.training import TrainingService
from mcp_server.settings import AlertSettings, LimitSettings, MlflowSettings, MonitoringSettings
from mcp_server.stores.alerts import AlertStore
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.audit import AuditLog
from mcp_server.stores.database import Database
from mcp_server.stores.datasets import DatasetStore
from mcp_server.stores.models import ModelRegistry
from mcp_server.stores.notifications import NotificationStore
from mcp_server.stores.prediction_writer import LoggedPrediction
from mcp_server.stores.predictions import PredictionStore
from mcp_server.stores.reports import ReportStore
from mcp_server.stores.studies import StudyStore

ANA = Caller("ana", "ml_engineer")
RECIPE: dict[str, Any] = {
    "name": "winner",
    "dataset": "games",
    "target": "home_win",
    "features": ["elo_diff", "rest", "home_team"],
    "estimators": ["logistic_regression"],
    "search": "none",
    "cv": 2,
    "split": {"kind": "time", "column": "season", "test_from": 2004},
}


def games(n_rows: int, seed: int, *, shift: float = 0.0, flip: bool = False, first_season: int = 2000) -> pl.DataFrame:
    """Draw games: the home side wins the more often the larger `elo_diff`, or the less often when `flip`."""
    rng = np.random.default_rng(seed)
    elo = rng.normal(50 + shift, 100, n_rows)
    chance = 1 / (1 + np.exp(-elo / 80))
    return pl.DataFrame(
        {
            "season": np.sort(rng.integers(first_season, first_season + 6, n_rows)),
            "elo_diff": elo,
            "rest": rng.integers(0, 4, n_rows),
            "home_team": rng.choice(["BOS", "CHI", "LAL", "NYK"], n_rows),
            "home_win": (rng.random(n_rows) < (1 - chance if flip else chance)).astype(np.int64),
        }
    )


@dataclass
class WaitingJobs:
    """A queue whose jobs end when a test says so."""

    submitted: list[tuple[str, str, dict[str, Any], Caller]] = field(default_factory=list)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    workers: int = 1

    def submit(self, kind: str, arguments: Mapping[str, Any], caller: Caller, job_id: str | None = None) -> str:
        name = job_id or f"job-{len(self.submitted)}"
        if name not in self.states:
            self.submitted.append((name, kind, dict(arguments), caller))
            self.states[name] = {"state": "queued", "result": None, "error": None}
        return name

    def get(self, job_id: str) -> dict[str, Any]:
        if job_id not in self.states:
            raise NotFoundError("job", job_id)
        return self.states[job_id]

    def workers_alive(self) -> int:
        return self.workers

    def save_schedule(self, name: str, cron: str, kind: str, arguments: Mapping[str, Any], caller: Caller) -> None:
        row = {"name": name, "cron": cron, "kind": kind, "arguments": dict(arguments), "last_fired_at": None}
        self.schedules[name] = row | {"caller": caller.to_document()}

    def list_schedules(self) -> list[dict[str, Any]]:
        return list(self.schedules.values())


@dataclass
class World:
    """All of it."""

    clock: ManualClock
    parts: MonitoringParts
    service: MonitoringService
    training: TrainingService
    log: PredictionStore
    jobs: WaitingJobs
    live: dict[str, str]
    calls: list[tuple[str, dict[str, Any]]]
    refusal: list[LifecycleError]

    def train(self, job_id: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Run a training as the worker does and return its result."""
        plan = self.training.plan_training(caller=ANA, job_id=job_id, **arguments)
        history: list[dict[str, Any]] = []
        for round_index in range(plan["n_rounds"]):
            trials = self.training.ask_trials(plan, round_index, history)
            history += [self.training.run_trial(plan, trial, lambda: False) for trial in trials]
        finished = self.training.finish_training(
            caller=ANA, job_id=job_id, plan=plan, history=history, progress=NoProgress()
        )
        return finished.model_dump(mode="json")

    def run_jobs(self) -> None:
        """Run every training that waits."""
        for name, _kind, arguments, _caller in self.jobs.submitted:
            if self.jobs.states[name]["state"] == "queued":
                result = self.train(name, arguments)
                self.jobs.states[name] = {"state": "succeeded", "result": result, "error": None}

    def predict(
        self,
        frame: pl.DataFrame,
        *,
        endpoint: str = "live",
        labelled: bool = True,
        seconds: float = 60.0,
        **columns: Any,
    ) -> None:
        """Let the live model answer `frame`, one row every `seconds`, and log it."""
        model = self.parts.models.resolve(self.live[endpoint])
        inputs = [InputColumn(**column.model_dump()) for column in model.signature.inputs]
        output = predict_output(self.parts.models.load(model), model_input(frame, inputs), 2)
        rows, outcomes = [], {}
        for i, features in enumerate(frame.select([column.name for column in inputs]).iter_rows(named=True)):
            logged: dict[str, Any] = {
                "prediction_id": uuid.uuid4().hex,
                "endpoint": endpoint,
                "revision": 1,
                "model": model.ref,
                "route": "live",
                "row_id": None,
                "key": None,
                "features": features | {name: columns[name] for name in columns if name in features},
                "prediction": int(output[i].argmax()),
                "probabilities": {"0": float(output[i, 0]), "1": float(output[i, 1])},
                "error": None,
                "latency_ms": 1.5,
                "time": self.clock.now() + timedelta(seconds=seconds * i),
            }
            row = LoggedPrediction(**logged | {name: columns[name] for name in columns if name in logged})
            rows.append(row)
            outcomes[row.prediction_id] = frame["home_win"][i]
        self.clock.advance(seconds * frame.height)
        self.log.append(rows)
        self.log.flush()
        if labelled:
            self.log.record_outcomes(endpoint, outcomes)

    def called(self, tool: str) -> list[dict[str, Any]]:
        return [arguments for name, arguments in self.calls if name == tool]


def open_world(folder: Path, clock: ManualClock) -> World:
    """Open the stores in `folder`; the caller closes `log`."""
    database = Database(f"sqlite:///{folder / 'test.db'}")
    database.migrate()
    artifacts = ArtifactStore(folder / "artifacts")
    datasets = DatasetStore(database, artifacts, clock)
    models = ModelRegistry(
        database=database,
        artifacts=artifacts,
        clock=clock,
        settings=MlflowSettings(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}"),
        data_dir=folder,
    )
    reports = ReportStore(database, artifacts, clock)
    log, jobs = PredictionStore(database, clock), WaitingJobs()
    live = {"live": "winner@1.0.0"}
    calls: list[tuple[str, dict[str, Any]]] = []
    refusal: list[LifecycleError] = []

    def recorded(tool: str) -> Any:
        def call(**arguments: Any) -> Result:
            calls.append((tool, arguments))
            if refusal:
                raise refusal[0]
            return Result(summary=f"{tool} done.")

        return call

    def live_model(endpoint: str) -> str:
        if endpoint not in live:
            raise NotFoundError("endpoint", endpoint, live)
        return live[endpoint]

    parts = MonitoringParts(
        datasets=datasets,
        models=models,
        predictions=log,
        reports=reports,
        alerts=AlertStore(database, clock),
        notifier=Notifier(NotificationStore(database, clock), AlertSettings(), clock),
        audit=AuditLog(database, clock),
        jobs=jobs,
        clock=clock,
        settings=MonitoringSettings(),
        live_model=live_model,
        breaker_open=lambda _endpoint: False,
        rollback=recorded("rollback_endpoint"),
        start_rollout=recorded("start_rollout"),
        job_roles={"check_drift": "viewer", "train_model": "data_scientist"},
    )
    training = TrainingService(
        datasets=datasets,
        models=models,
        reports=reports,
        artifacts=artifacts,
        studies=StudyStore(database, folder),
        clock=clock,
        limits=LimitSettings(),
        check_suite=lambda _dataset, suite: (True, "", suite),
    )
    return World(clock, parts, MonitoringService(parts), training, log, jobs, live, calls, refusal)


def write_games(world: World, name: str, frame: pl.DataFrame) -> str:
    """Store a dataset and return its reference."""
    return world.parts.datasets.write(name, frame, source="test", lineage={"parents": []}, caller=ANA).ref


def make_trained(folder: Path) -> None:
    """Fill `folder` with a dataset and the model winner@1.0.0 trained on it."""
    world = open_world(folder, ManualClock())
    write_games(world, "games", games(1500, seed=1))
    world.train("first", RECIPE)


def copy_world(trained: Path, folder: Path, clock: ManualClock) -> World:
    """Open a copy of what `make_trained` made."""
    shutil.copytree(trained, folder)
    return open_world(folder, clock)
