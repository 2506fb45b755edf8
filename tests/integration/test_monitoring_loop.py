"""The loop of the product on a real server's parts: predict, drift, alert, retrain, by a real worker process."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mcp_server.app import App, open_app
from mcp_server.runtime.identity import Caller
from mcp_server.settings import Settings
from mcp_server.tools.registry import JOB_KINDS, ROLES_BY_TOOL
from tests.services.monitoring_world import RECIPE, games
from tests.webhook_receiver import Receiver, run_receiver

pytestmark = pytest.mark.slow

ANA = Caller("ana", "ml_engineer")
PATIENCE_S = 120.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


@pytest.fixture
def app(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    monkeypatch.setenv("NBA_MCP_ALERTS__WEBHOOK_URL", receiver.url)  # the worker has its settings from there
    app = open_app(Settings(data_dir=tmp_path), roles_by_tool=ROLES_BY_TOOL, job_kinds=JOB_KINDS, with_worker=True)
    yield app
    app.close()


def until(found: Callable[[], Any]) -> Any:
    """Return what `found` gives once it gives something."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)  # another process is at work: there is nothing to wait on but the database
    return value


def finished(app: App, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = until(
        lambda: next((j for j in [app.jobs.get(job_id)] if j["state"] not in ("queued", "running")), None)
    )
    assert job["state"] == "succeeded", job["error"]
    return job


def predict(app: App, frame: pl.DataFrame) -> None:
    rows = frame.select("elo_diff", "rest", "home_team").to_dicts()
    ids = [f"game-{i}" for i in range(frame.height)]
    app.prediction.predict(caller=ANA, endpoint="live", rows=rows, row_ids=ids)
    outcomes = [{"row_id": row_id, "outcome": won} for row_id, won in zip(ids, frame["home_win"], strict=True)]
    app.prediction.record_outcomes(caller=ANA, endpoint="live", outcomes=outcomes)


def last_fired(app: App) -> Any:
    return app.monitoring.list_monitoring().schedules[0].last_at


def fired_since(app: App, moment: Any) -> bool:
    return bool(last_fired(app) != moment)


def test_drift_raises_an_alert_that_is_told_and_trains_the_model_again(app: App, receiver: Receiver) -> None:
    app.datasets.write("games", games(1500, seed=1), source="test", lineage={"parents": []}, caller=ANA)
    finished(app, app.jobs.submit("train_model", RECIPE, ANA))
    app.deployment.deploy_model(caller=ANA, endpoint="live", model="winner")
    condition = {"signal": "drift", "operator": ">", "threshold": 0.2}
    app.monitoring.save_alert_rule(
        caller=ANA, name="drifted", endpoint="live", condition=condition, channels=["log", "webhook"], action="retrain"
    )
    predict(app, games(300, seed=5, shift=150))
    drift = finished(app, app.jobs.submit("check_drift", {"endpoint": "live"}, ANA))["result"]
    assert drift["drifted"]
    assert finished(app, app.jobs.submit("check_performance", {"endpoint": "live"}, ANA))["result"]["labelled"] == 300
    (alert,) = app.monitoring.list_alerts(endpoint="live").items
    assert [(action.action, action.state) for action in alert.actions] == [("retrain", "started")]
    until(receiver.told)
    assert receiver.told() == ["alert.firing"]
    finished(app, str(alert.actions[0].job_id))
    app.monitoring.evaluate_alert_rules()
    state = app.monitoring.list_monitoring(endpoint="live").policies[0].state
    assert (state.phase, state.model) == ("done", "winner@1.0.1")
    assert "is registered but not started" in (state.outcome or "")  # the same data make the same model


def test_a_schedule_runs_in_the_worker_and_rests_with_its_endpoint(app: App) -> None:
    app.datasets.write("games", games(1500, seed=1), source="test", lineage={"parents": []}, caller=ANA)
    finished(app, app.jobs.submit("train_model", RECIPE, ANA))
    app.deployment.deploy_model(caller=ANA, endpoint="live", model="winner")
    predict(app, games(100, seed=5))
    app.monitoring.save_schedule(
        caller=ANA, name="often", cron="*/2 * * * * *", tool="check_drift", arguments={"endpoint": "live"}
    )
    first = until(lambda: app.jobs.page(kind="check_drift")[0])
    finished(app, first[-1]["job_id"])
    app.monitoring.pause_monitoring(caller=ANA, endpoint="live", for_="1h")
    before = len(app.jobs.page(kind="check_drift")[0])
    for _ in range(2):
        until(partial(fired_since, app, last_fired(app)))
    assert len(app.jobs.page(kind="check_drift")[0]) <= before + 1  # one may have been under way
