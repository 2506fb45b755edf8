"""A training that ends in a real MLflow tracking server, by a setting alone, and what happens when that goes away."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_server.errors import CancelledError, UnavailableError
from mcp_server.runtime.clock import ManualClock
from mcp_server.settings import MlflowSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from tests.mlflow_server import MlflowServer, run_mlflow
from tests.services.training_world import Stand, games

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mlflow_server")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, _mlflow_template: Path) -> Iterator[MlflowServer]:
    with run_mlflow(tmp_path_factory.mktemp("tracking"), _mlflow_template) as running:
        yield running


def client_of(server: MlflowServer) -> Any:
    """Return a client as any user of the server has one: over HTTP, with nothing of ours."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=server.url, registry_uri=server.url)


def stand_at(server: MlflowServer, folder: Path, database: Database, **settings: Any) -> Stand:
    """Return a training service whose registry has been told of the server, and of nothing else."""
    artifacts, clock = ArtifactStore(folder / "artifacts"), ManualClock()
    told = MlflowSettings(tracking_uri=server.url, experiment=folder.name, **settings)
    stand = Stand(folder, database, artifacts, clock, told)
    stand.write("games", games())
    return stand


def test_a_training_ends_in_the_server_whole(server: MlflowServer, tmp_path: Path, sqlite_database: Database) -> None:
    stand = stand_at(server, tmp_path, sqlite_database)
    result = stand.train(name="remote", search="random", trials=3, baseline="forecast")
    version = stand.models.resolve("remote")
    client = client_of(server)

    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.runName"] == "remote@1.0.0"
    assert run.data.params["estimator"] == result.estimator == "logistic_regression"
    assert run.data.params["dataset"] == "games@1"
    assert run.data.params["seed"] == "0"
    assert run.data.metrics["test_log_loss"] == pytest.approx(result.test_metrics["log_loss"], abs=1e-12)
    assert run.data.metrics["cv_log_loss"] == pytest.approx(result.cv_score, abs=1e-12)
    assert run.data.metrics["baseline_forecast_log_loss"] == pytest.approx(result.baseline_metrics["log_loss"])

    curve = sorted((point.step, point.value) for point in client.get_metric_history(result.run_id, "trial_score"))
    best = [point.value for point in client.get_metric_history(result.run_id, "best_score")]
    assert [step for step, _ in curve] == [0, 1, 2]
    assert best == [min(score for _, score in curve[: step + 1]) for step in range(3)]

    def fetched(path: str) -> bytes:
        return Path(client.download_artifacts(result.run_id, path, str(tmp_path))).read_bytes()

    card = stand.models.card(version)
    assert fetched("card.md").decode() == card.markdown
    assert fetched("card.html").decode() == card.html
    assert "remote\\@1.0.0" in card.markdown
    plots = {item.path for item in client.list_artifacts(result.run_id, "plots")}
    assert {"plots/roc-curve.png", "plots/calibration.png", "plots/importance.png"} <= plots
    assert all(fetched(plot).startswith(b"\x89PNG\r\n\x1a\n") for plot in plots)
    assert [trial["number"] for trial in json.loads(fetched("training/trials.json"))] == [0, 1, 2]
    assert fetched("model/model.skops") == stand.artifacts.read_bytes(version.model_artifact)


def test_versions_and_stages_are_seen_in_the_server(
    server: MlflowServer, tmp_path: Path, sqlite_database: Database
) -> None:
    stand = stand_at(server, tmp_path, sqlite_database)
    stand.train(name="staged")
    stand.train(name="staged", features=["rating"])
    stand.models.set_stage(stand.models.resolve("staged@1.0.0"), "production")
    stand.models.set_stage(stand.models.resolve("staged@2.0.0"), "staging")
    client = client_of(server)

    held = {alias: client.get_model_version_by_alias("staged", alias) for alias in ("production", "staging")}
    assert held["production"].tags["nba_mcp.version"] == "1.0.0"
    assert held["staging"].tags["nba_mcp.version"] == "2.0.0"
    assert held["production"].tags["nba_mcp.sha256"] == stand.models.resolve("staged@1.0.0").sha256
    assert held["production"].run_id == stand.models.resolve("staged@1.0.0").run_id
    assert [version.version for version in client.search_model_versions("name = 'staged'")] == ["2", "1"]


def test_the_embedded_store_opens_in_the_ui(tmp_path: Path, sqlite_database: Database, mlflow_uri: str) -> None:
    """The same file and folder that are used where nothing is set, seen through what the UI's pages ask."""
    stand = Stand(tmp_path, sqlite_database, ArtifactStore(tmp_path / "artifacts"), ManualClock())
    stand.write("games", games())
    result = stand.train()
    stand.models.set_stage(stand.models.resolve("winner"), "production")
    with run_mlflow(tmp_path, tmp_path / "mlflow.db", "ui") as ui:
        experiment = asked(ui, "experiments/get-by-name?experiment_name=nba-mcp")["experiment"]
        runs = asked(ui, "runs/search", {"experiment_ids": [experiment["experiment_id"]]})["runs"]
        assert [run["info"]["run_id"] for run in runs] == [result.run_id]
        assert {metric["key"] for metric in runs[0]["data"]["metrics"]} >= {"test_log_loss", "best_score"}
        models = asked(ui, "registered-models/search")["registered_models"]
        assert [model["name"] for model in models] == ["winner"]
        assert models[0]["aliases"] == [{"alias": "production", "version": "1"}]
        files = asked(ui, f"artifacts/list?run_id={result.run_id}")["files"]
        assert [file["path"] for file in files] == ["card.html", "card.md", "model", "plots", "training"]
        page = fetched_page(f"{ui.url}/get-artifact?path=card.html&run_uuid={result.run_id}")
        assert page.decode() == stand.models.card(stand.models.resolve("winner")).html


class OnMessage:
    """A progress that does something the first time that a message has certain words."""

    def __init__(self, words: str, action: Callable[[], None]) -> None:
        self.words, self.action, self.heard = words, action, 0

    def __call__(self, fraction: float, message: str) -> None:
        if self.words in message:
            self.heard += 1
            if self.heard == 1:
                self.action()

    def cancelled(self) -> bool:
        return False


def lost_before(stand: Stand, step: str, lose: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server be lost when a registration comes to `step`, once."""
    tracking = stand.models._tracking
    work = getattr(tracking, step)

    def after_the_loss(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(tracking, step, work)
        lose()
        return work(*arguments, **named)

    monkeypatch.setattr(tracking, step, after_the_loss)


@pytest.mark.parametrize("step", ["log", "finish"])
def test_a_server_that_stays_away_fails_the_training_and_nothing_of_it_is_registered(
    server: MlflowServer, tmp_path: Path, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stand = stand_at(server, tmp_path, sqlite_database, patience_s=1.0, timeout_s=2.0)
    stand.models.ping()
    lost_before(stand, step, server.kill, monkeypatch)
    with pytest.raises(UnavailableError, match="MLflow") as refusal:
        stand.train()
    assert "check_health" in refusal.value.hint
    assert stand.models.names() == []

    server.start()
    client = client_of(server)
    assert {run.info.status for run in runs_of(client, tmp_path)} <= {"FAILED"}
    stand.models.ping()  # as check_health and the next registration do
    assert versions_of(client, tmp_path) == []
    result = stand.train()
    assert "taken over" in " ".join(result.warnings)
    assert stand.models.resolve("winner").version == "1.0.0"
    assert sorted(run.info.status for run in runs_of(client, tmp_path))[-1] == "FINISHED"
    assert [version.tags["nba_mcp.version"] for version in versions_of(client, tmp_path)] == ["1.0.0"]


@pytest.mark.parametrize(("step", "how"), [("start_run", "freeze"), ("create_version", "freeze"), ("finish", "kill")])
def test_a_server_that_comes_back_within_the_wait_lets_the_training_succeed(
    server: MlflowServer,
    tmp_path: Path,
    sqlite_database: Database,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    how: str,
) -> None:
    stand = stand_at(server, tmp_path, sqlite_database, patience_s=100.0, timeout_s=2.0)
    stand.models.ping()
    lost_before(stand, step, getattr(server, how), monkeypatch)
    progress = OnMessage("MLflow does not answer", server.thaw if how == "freeze" else server.start)
    stand.train(progress=progress)
    assert progress.heard >= 1
    client = client_of(server)
    version = stand.models.resolve("winner@1.0.0")
    assert [(run.info.run_id, run.info.status) for run in runs_of(client, tmp_path)] == [(version.run_id, "FINISHED")]
    assert [found.version for found in versions_of(client, tmp_path)] == [version.mlflow_version]


def test_a_server_that_holds_its_connections_and_says_nothing_is_given_up_in_time(
    server: MlflowServer, tmp_path: Path, sqlite_database: Database
) -> None:
    stand = stand_at(server, tmp_path, sqlite_database, patience_s=5.0, timeout_s=1.0)
    server.freeze()
    started = time.monotonic()
    with pytest.raises(UnavailableError):
        stand.models.ping()
    assert time.monotonic() - started < 10
    waits = OnMessage("MLflow does not answer", lambda: None)
    with pytest.raises(UnavailableError):
        stand.train(progress=waits)
    assert waits.heard >= 1
    server.thaw()
    assert stand.models.names() == []
    assert stand.train().version == "1.0.0"


def test_a_training_that_waits_for_the_server_can_be_cancelled(
    server: MlflowServer, tmp_path: Path, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = stand_at(server, tmp_path, sqlite_database, patience_s=600.0, timeout_s=1.0)
    stand.models.ping()
    lost_before(stand, "create_version", server.kill, monkeypatch)

    def cancel() -> None:
        raise CancelledError("The job was cancelled.")

    with pytest.raises(CancelledError):
        stand.train(progress=OnMessage("MLflow does not answer", cancel))
    server.start()
    client = client_of(server)
    stand.models.ping()
    assert [run.info.status for run in runs_of(client, tmp_path)] == ["FAILED"]
    assert versions_of(client, tmp_path) == []


def runs_of(client: Any, folder: Path) -> list[Any]:
    """Return the runs of a stand, which has an experiment of its own on the server that the tests share."""
    found = client.get_experiment_by_name(folder.name)
    return [] if found is None else list(client.search_runs([found.experiment_id]))


def versions_of(client: Any, folder: Path) -> list[Any]:
    """Return the model versions whose runs are a stand's."""
    runs = {run.info.run_id for run in runs_of(client, folder)}
    return [version for version in client.search_model_versions("") if version.run_id in runs]


def asked(server: MlflowServer, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the answer to what the pages of MLflow's UI ask."""
    data = None if body is None else json.dumps(body).encode()
    answer: dict[str, Any] = json.loads(fetched_page(f"{server.url}/ajax-api/2.0/mlflow/{path}", data))
    return answer


def fetched_page(url: str, data: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        content: bytes = answer.read()
        return content
