"""Fixtures that every test may use."""

import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests run side by side, one a core: threads that wait for each other inside a fit only cost.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from mcp_server.runtime.clock import ManualClock
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from tests.postgres import PostgresCluster, run_postgres
from tests.s3_server import S3Server, run_s3


def pytest_configure() -> None:
    """Let children find scikit-learn loaded, as a worker's do; without this each takes seconds to import it."""
    multiprocessing.set_forkserver_preload(["mcp_server.runtime.child", "mcp_server.engine.training"])


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run one worker more than there are cores: many tests wait for a server or a database to start."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real games, reference results and bad files that lies beside the project in CI."""
    folder = Path(__file__).parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("the folder ../shared with real games and reference results is not here")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    with run_postgres() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with run_s3() as server:
        yield server


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our tables, made once."""
    path = tmp_path_factory.mktemp("tables") / "test.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def _postgres_template(postgres: PostgresCluster) -> Iterator[str]:
    """The name of a database with our tables, made once."""
    with postgres.new_database() as url:
        _migrate(_of_psycopg(url))
        yield url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated, empty database; each test runs on both engines."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_database")
        return
    cluster: PostgresCluster = request.getfixturevalue("postgres")
    with cluster.new_database(request.getfixturevalue("_postgres_template")) as url:
        yield from _opened(_of_psycopg(url))


@pytest.fixture
def sqlite_database(tmp_path: Path, _sqlite_template: Path) -> Iterator[Database]:
    """A migrated, empty SQLite database, for tests whose subject is not the store."""
    shutil.copyfile(_sqlite_template, tmp_path / "test.db")
    yield from _opened(f"sqlite:///{tmp_path / 'test.db'}")


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture(scope="session")
def _mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, made once: its migrations take seconds."""
    from mcp_server.stores.mlflow_opening import TrackingPlace, make_client

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    make_client(TrackingPlace(f"sqlite:///{path}", None, None, "template", 10.0))
    return path


@pytest.fixture
def mlflow_uri(tmp_path: Path, _mlflow_template: Path) -> str:
    """The URI of an empty MLflow database, `mlflow.db` in `tmp_path`, where a registry expects its own by default."""
    shutil.copyfile(_mlflow_template, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def _of_psycopg(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


def _migrate(url: str) -> None:
    database = Database(url)
    database.migrate()
    database.close()


def _opened(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
