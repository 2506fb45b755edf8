"""Versions of one model that several processes register at once."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.settings import MlflowSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.model_versions import Identity, next_version
from mcp_server.stores.models import ModelCard, ModelRegistry

PROCESSES, THREADS, EACH = 3, 2, 2  # 12 registrations, 6 at a time

REGISTERING = """
import json, sys, threading
from pathlib import Path
from mcp_server.runtime.clock import SystemClock
from mcp_server.runtime.identity import Caller
from mcp_server.settings import MlflowSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.models import ModelCard, ModelRegistry

url, folder, process, threads, each, recipes = json.loads(sys.argv[1])
database = Database(url)
registry = ModelRegistry(
    database=database, artifacts=ArtifactStore(Path(folder) / "artifacts"), clock=SystemClock(),
    settings=MlflowSettings(patience_s=60.0), data_dir=Path(folder),
)
registry.open()
print("ready", flush=True)
sys.stdin.readline()
column = {"name": "elo", "kind": "numeric", "dtype": "Float64", "nullable": False}
made, faults = [], []

def work(thread):
    for number in range(each):
        job = f"{process}-{thread}-{number}"
        try:
            made.append(registry.register(
                job_id=job, name="winner", task="binary",
                recipe={"estimators": [recipes[number % len(recipes)]], "seed": 0},
                training_result={"summary": job, "metric": "log_loss"},
                signature={"inputs": [column], "target": "won", "task": "binary", "classes": [0, 1]},
                model_bytes=job.encode(), reference_parquet=None,
                lineage={"dataset": "games", "dataset_version": 1, "dataset_hash": "a" * 64},
                card=ModelCard("# Card", "<h1>Card</h1>"), metrics={"log_loss": 0.6}, params={"C": 1.0},
                caller=Caller("ana", "data_scientist"),
            ).version)
        except Exception as fault:
            faults.append(repr(fault))

workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
database.close()
print(json.dumps([made, faults]))
"""


def at_once(database: Database, folder: Path, recipes: list[str]) -> list[str]:
    """Let all processes register at the same moment, and return the versions they were given."""
    url = database.url.render_as_string(hide_password=False)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", REGISTERING, json.dumps([url, str(folder), process, THREADS, EACH, recipes])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for process in range(PROCESSES)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [json.loads(process.communicate(timeout=240)[0]) for process in started]
    assert [fault for _, faults in answers for fault in faults] == []
    return [version for made, _ in answers for version in made]


@pytest.fixture
def registry(database: Database, tmp_path: Path, mlflow_uri: str) -> ModelRegistry:
    """A registry where nothing is set: MLflow has the file beside our SQLite file, or a schema in our PostgreSQL."""
    made = ModelRegistry(
        database=database,
        artifacts=ArtifactStore(tmp_path / "artifacts"),
        clock=ManualClock(),
        settings=MlflowSettings(),
        data_dir=tmp_path,
    )
    made.open()
    return made


@pytest.mark.slow
def test_a_registration_that_comes_between_two_statements_of_another_leaves_numbers_that_rise(
    registry: ModelRegistry, database: Database
) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite lets no other write between the look and the write")
    state = {"statement": 0, "cut": -1}

    @sa.event.listens_for(database.engine, "before_cursor_execute")
    def another(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "model_versions" in statement:
            state["statement"] += 1
            if state["statement"] == state["cut"]:
                register(registry, f"between-{state['cut']}", "random_forest")

    register(registry, "first", "ridge")
    cuts = state["statement"]
    for state["cut"] in range(1, cuts + 1):
        state["statement"] = 0
        register(registry, f"around-{state['cut']}", "ridge")
    kept = sorted(registry.versions("winner"), key=lambda version: version.position)
    assert len(kept) == 1 + 2 * cuts
    assert [each.version for each in kept] == sorted((each.version for each in kept), key=_key)


@pytest.mark.slow
def test_the_same_recipe_registered_at_once_gives_every_patch_version_once(
    registry: ModelRegistry, database: Database, tmp_path: Path
) -> None:
    count = PROCESSES * THREADS * EACH
    given = at_once(database, tmp_path, ["ridge"])
    assert sorted(given, key=_key) == [f"1.0.{number}" for number in range(count)]
    kept = sorted(registry.versions("winner"), key=lambda version: version.position)
    assert [(version.position, version.version) for version in kept] == [(n + 1, f"1.0.{n}") for n in range(count)]
    assert len({version.mlflow_version for version in kept}) == count
    assert all(registry.resolve(version.ref).result["summary"] == version.job_id for version in kept)
    client = registry._tracking.open()
    numbered = {str(found.version): found.tags["nba_mcp.version"] for found in client.search_model_versions("")}
    assert numbered == {version.mlflow_version: version.version for version in kept}


@pytest.mark.slow
def test_different_recipes_registered_at_once_are_numbered_by_what_came_before_each(
    registry: ModelRegistry, database: Database, tmp_path: Path
) -> None:
    given = at_once(database, tmp_path, ["ridge", "random_forest"])
    kept = sorted(registry.versions("winner"), key=lambda version: version.position)
    assert sorted(given) == sorted(version.version for version in kept)
    latest = None
    for version in kept:
        identity = Identity.of(version.signature, version.recipe, version.lineage)
        assert version.version == next_version(latest, identity)
        latest = (version.version, identity)
    assert len(kept) == PROCESSES * THREADS * EACH


def register(registry: ModelRegistry, job: str, family: str) -> None:
    column = {"name": "elo", "kind": "numeric", "dtype": "Float64", "nullable": False}
    registry.register(
        job_id=job,
        name="winner",
        task="binary",
        recipe={"estimators": [family], "seed": 0},
        training_result={"summary": job, "metric": "log_loss"},
        signature={"inputs": [column], "target": "won", "task": "binary", "classes": [0, 1]},
        model_bytes=job.encode(),
        reference_parquet=None,
        lineage={"dataset": "games", "dataset_version": 1, "dataset_hash": "a" * 64},
        card=ModelCard("# Card", "<h1>Card</h1>"),
        metrics={"log_loss": 0.6},
        params={"C": 1.0},
        caller=Caller("ana", "data_scientist"),
    )


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
