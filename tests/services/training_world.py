"""A training service on real stores, and made-up games to train on."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mcp_server.results.training import TrainingResult
from mcp_server.runtime.clock import Clock, ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.progress import NoProgress, Progress
from mcp_server.services.training import TrainingService
from mcp_server.settings import LimitSettings, MlflowSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.datasets import DatasetStore
from mcp_server.stores.models import ModelRegistry
from mcp_server.stores.reports import ReportStore
from mcp_server.stores.studies import StudyStore

CALLER = Caller(name="ada", role="data_scientist")
N_ROWS = 400
QUICK: dict[str, Any] = {"estimators": ["logistic_regression"], "search": "none", "cv": 2}


def games(seed: int = 0, n_rows: int = N_ROWS) -> pl.DataFrame:
    """A made-up season table: a rating decides who wins, a forecast knows it, points are scored afterwards."""
    rng = np.random.default_rng(seed)
    rating = rng.normal(size=n_rows)
    chance = 1 / (1 + np.exp(-rating))
    won = (rng.uniform(size=n_rows) < chance).astype(int)
    points = rng.integers(80, 120, n_rows)
    return pl.DataFrame(
        {
            "game": [f"g{i:05d}" for i in range(n_rows)],
            "season": np.repeat(np.arange(2000, 2010), n_rows // 10),
            "rating": rating,
            "rest": [None if x < 0.1 else int(x * 5) for x in rng.uniform(size=n_rows)],
            "venue": rng.choice(["north", "south", "east"], n_rows),
            "forecast": chance,
            "points": points,
            "points_against": points - np.where(won == 1, 1, -1) * rng.integers(1, 20, n_rows),
            "won": won,
        }
    )


class Stand:
    """The service with what stands behind it."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        artifacts: ArtifactStore,
        clock: ManualClock,
        mlflow: MlflowSettings | None = None,
    ) -> None:
        self.database = database
        self.datasets = DatasetStore(database, artifacts, clock)
        self.reports = ReportStore(database, artifacts, clock)
        self.models = ModelRegistry(
            database=database, artifacts=artifacts, clock=clock, settings=mlflow or MlflowSettings(), data_dir=folder
        )
        self.studies = StudyStore(database, folder)
        self.suites: dict[str, bool] = {}
        self.artifacts, self.clock = artifacts, clock
        self.service = self.make(LimitSettings())
        self.first: TrainingResult | None = None

    def make(self, limits: LimitSettings, clock: Clock | None = None) -> TrainingService:
        return TrainingService(
            datasets=self.datasets,
            models=self.models,
            reports=self.reports,
            artifacts=self.artifacts,
            studies=self.studies,
            clock=clock or self.clock,
            limits=limits,
            check_suite=self.check_suite,
        )

    def check_suite(self, dataset: str, suite: str) -> tuple[bool, str, str]:
        name = suite.partition("@")[0]
        return self.suites[name], f"{dataset} against {suite}", f"{name}@1"

    def write(self, name: str, frame: pl.DataFrame) -> None:
        self.datasets.write(name, frame, source="test", lineage={}, caller=CALLER)

    def plan(self, **arguments: Any) -> dict[str, Any]:
        given = {"name": "winner", "dataset": "games", "target": "won", "features": ["rating", "rest", "venue"]}
        return self.service.plan_training(caller=CALLER, job_id="job", **given | QUICK | arguments)

    def train(self, *, progress: Progress | None = None, **arguments: Any) -> TrainingResult:
        given = {"name": "winner", "dataset": "games", "target": "won", "features": ["rating", "rest", "venue"]}
        return self.service.train_model(caller=CALLER, progress=progress or NoProgress(), **given | QUICK | arguments)
