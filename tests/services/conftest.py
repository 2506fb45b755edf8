"""Fixtures of the service tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server.runtime.clock import ManualClock
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from tests.services.deployment_world import Deployed, fill, open_registry
from tests.services.monitoring_world import World, copy_world, make_trained
from tests.services.training_world import Stand, games


@pytest.fixture(scope="session")
def _trained_folder(tmp_path_factory: pytest.TempPathFactory, _mlflow_template: Path) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    shutil.copyfile(_mlflow_template, folder / "mlflow.db")
    make_trained(folder)
    return folder


@pytest.fixture
def world(_trained_folder: Path, tmp_path: Path, clock: ManualClock) -> Iterator[World]:
    """An endpoint `live` that serves winner@1.0.0, with an empty log."""
    world = copy_world(_trained_folder, tmp_path / "world", clock)
    yield world
    world.log.close()


@pytest.fixture(scope="session")
def _deployable_folder(tmp_path_factory: pytest.TempPathFactory, _mlflow_template: Path) -> Path:
    folder = tmp_path_factory.mktemp("deployable")
    shutil.copyfile(_mlflow_template, folder / "mlflow.db")
    fill(folder)
    return folder


@pytest.fixture
def deployable(_deployable_folder: Path, tmp_path: Path, clock: ManualClock) -> Iterator[Deployed]:
    """A server that may deploy winner@1.0.0, winner@1.1.0 and margin@1.0.0, and has no endpoint yet."""
    folder = tmp_path / "deployable"
    shutil.copytree(_deployable_folder, folder)
    database = Database(f"sqlite:///{folder / 'test.db'}")
    models = open_registry(folder, database, clock, f"sqlite:///{folder / 'mlflow.db'}")
    deployed = Deployed(folder, database, clock, models)
    yield deployed
    deployed.close()
    database.close()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, _mlflow_template: Path) -> Iterator[Stand]:
    """A stand with `winner` 1.0.0 and 2.0.0 trained, for tests that only look at them."""
    folder = tmp_path_factory.mktemp("winners")
    shutil.copyfile(_mlflow_template, folder / "mlflow.db")
    database = Database(f"sqlite:///{folder / 'test.db'}")
    database.migrate()
    made = Stand(folder, database, ArtifactStore(folder / "artifacts"), ManualClock())
    made.write("games", games())
    made.first = made.train(baseline="forecast")
    made.train(features=["rating"])
    yield made
    database.close()


@pytest.fixture
def stand(
    tmp_path: Path, sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock, mlflow_uri: str
) -> Stand:
    """A stand with the games, and no model yet."""
    made = Stand(tmp_path, sqlite_database, artifacts, clock)
    made.write("games", games())
    return made
