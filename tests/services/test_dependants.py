from pathlib import Path
from typing import Any

import pytest

from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.services.dependants import DatasetUsers, named_in
from mcp_server.settings import MlflowSettings
from mcp_server.stores.alerts import AlertStore
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.models import ModelRegistry

ANNA = Caller("anna", "ml_engineer")
NIGHTLY = {"name": "nightly", "arguments": {"dataset": "games", "suite": "teams"}}
WEEKLY = {"name": "weekly", "arguments": {"name": "t", "sql": 'SELECT * FROM "games@2" JOIN Teams USING (team)'}}


@pytest.fixture
def users(sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock, tmp_path: Path) -> DatasetUsers:
    models = ModelRegistry(
        database=sqlite_database, artifacts=artifacts, clock=clock, settings=MlflowSettings(), data_dir=tmp_path
    )
    alerts = AlertStore(sqlite_database, clock)
    alerts.save_policy("upset", {"training": {"dataset": "history", "target": "win"}}, ANNA)
    alerts.save_policy("other", {"training": {}}, ANNA)
    return DatasetUsers(models, alerts.policies, lambda: [NIGHTLY, WEEKLY])


def test_a_schedule_that_names_the_latest_version_holds_the_last_one(users: DatasetUsers) -> None:
    assert users(["games@1"]) == []
    assert users(["games@1", "games"]) == ["schedule nightly"]


def test_a_version_named_in_sql_is_held(users: DatasetUsers) -> None:
    assert users(["games@2"]) == ["schedule weekly"]
    assert users(["teams@1", "teams"]) == ["schedule weekly"]


def test_a_policy_holds_what_it_trains_on(users: DatasetUsers) -> None:
    assert users(["history@3", "history"]) == ["retraining policy of endpoint upset"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"dataset": "games@3", "name": "clean"}, ["games@3"]),
        ({"inputs": ["a", "b@2"]}, ["a", "b@2"]),
        ({"reference": "a", "current": "b", "endpoint": "c"}, ["a", "b"]),
        ({"dataset": "a", "foreign_keys": [{"column": "x", "references": ["t.a", "t.b"]}]}, ["a", "t", "t"]),
        ({"dataset": None}, []),
    ],
)
def test_arguments_name_datasets(arguments: dict[str, Any], names: list[str]) -> None:
    assert list(named_in(arguments)) == names
