"""The whole life of a model through one server: the main case of every group, and what bad input gets."""

import json
import os
import signal
from pathlib import Path

import anyio
import psutil
import pytest

from tests.integration.client import Assistant, serving

pytestmark = [pytest.mark.xdist_group("lifecycle")]

ROLLING = ["win_rate_10", "margin_10", "points_for_10", "points_against_10", "rest_days", "back_to_back"]
FEATURES = ["elo_diff", *(f"{side}_{name}" for side in ("home", "away") for name in ROLLING)]


def worker_processes(data_dir: Path) -> list[psutil.Process]:
    """Return the worker processes of a data directory."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            if "worker" in (process.info["cmdline"] or []) and process.environ().get("NBA_MCP_DATA_DIR") == str(
                data_dir
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


async def prepared(assistant: Assistant, seasons: int = 4) -> None:
    """Bring simulated seasons in and make features of them."""
    await assistant.do("import_dataset", name="games", source="nba://sample", options={"seasons": seasons, "seed": 3})
    await assistant.do("transform_dataset", name="features", recipe="nba_game_features", inputs=["games"])


async def trained(assistant: Assistant, name: str = "home_win", **changes: object) -> dict[str, object]:
    """Train a small model on the features."""
    arguments = {
        "name": name,
        "dataset": "features",
        "target": "home_win",
        "features": FEATURES,
        "estimators": ["logistic_regression"],
        "search": "none",
        "trials": 1,
        "split": {"kind": "time", "column": "season", "test_from": 2009},
        "baseline": "elo_forecast",
        "cv": 3,
    }
    return await assistant.do("train_model", **(arguments | changes))


@pytest.mark.slow
async def test_a_model_lives_from_a_file_to_a_rollback(tmp_path):
    async with serving(tmp_path / "data", tmp_path) as assistant:
        await prepared(assistant)
        await assistant.do("suggest_suite", dataset="games", name="games-suite")
        assert (await assistant.do("validate_dataset", dataset="games", suite="games-suite"))["success"]

        first = await trained(assistant, estimators=["logistic_regression", "random_forest", "hist_gradient_boosting"],
                              search="bayesian", trials=6)  # fmt: skip
        assert first["version"] == "1.0.0"
        assert sum(entry["trials"] for entry in first["leaderboard"]) == 6
        assert first["baseline_comparison"]["verdict"] in ("better", "worse", "not_distinguishable")
        second = await trained(assistant)
        assert second["version"] == "1.1.0"

        await assistant.call("promote_model", model="home_win@1.0.0", stage="production", confirm=True)
        deployed = await assistant.call("deploy_model", endpoint="home-win", model="home_win@production")
        assert deployed["routes"] == [{"model": "home_win@1.0.0", "weight": 100.0, "role": "live"}]
        rows = await assistant.call("query_data", sql=f"SELECT game_id, {', '.join(FEATURES)} FROM features "
                                    "WHERE season = 2009 LIMIT 3")  # fmt: skip
        named = [dict(zip(rows["columns"], row, strict=True)) for row in rows["rows"]]
        ids = [row.pop("game_id") for row in named]
        answer = await assistant.call("predict", endpoint="home-win", rows=named, row_ids=ids)
        assert [found["row_id"] for found in answer["predictions"]] == ids
        assert all(abs(sum(found["probabilities"].values()) - 1) < 1e-9 for found in answer["predictions"])

        gates = {"steps": [30, 100], "gates": {"min_requests": 30}}
        started = await assistant.call(
            "start_rollout",
            endpoint="home-win",
            model="home_win@1.1.0",
            strategy="canary",
            options=gates,
            confirm=True,
        )
        assert started["rollout"]["state"] == "running"
        pending = await assistant.refusal("advance_rollout", endpoint="home-win", confirm=True)
        assert pending.code == "failed_precondition"
        await assistant.do(
            "predict_dataset",
            dataset="features",
            name="scored",
            endpoint="home-win",
            row_id_column="game_id",
            where=[{"column": "season", "op": "==", "value": 2009}],
        )
        advanced = await assistant.call("advance_rollout", endpoint="home-win", confirm=True)
        assert advanced["rollout"]["state"] == "completed"
        assert advanced["routes"][0]["model"] == "home_win@1.1.0"

        await assistant.call("save_alert_rule", name="accuracy", endpoint="home-win", action="retrain", condition={
            "signal": "accuracy", "operator": "<", "threshold": 0.99, "window": "7d", "for": "0s"})  # fmt: skip
        outcomes = await assistant.call("record_outcomes", endpoint="home-win", dataset="features",
                                        row_id_column="game_id", outcome_column="home_win")  # fmt: skip
        assert outcomes["recorded"] >= 1000
        performance = await assistant.do("check_performance", endpoint="home-win")
        assert 0.55 < performance["metrics"]["accuracy"] < 0.8
        drift = await assistant.do("check_drift", endpoint="home-win")
        assert drift["rows_current"] >= 1000
        alerts = await assistant.call("list_alerts", endpoint="home-win")
        assert [alert["rule"] for alert in alerts["items"]] == ["accuracy"]
        jobs = await assistant.call("list_jobs", kind="train_model")
        retraining = jobs["items"][0]["job_id"]
        assert (await assistant.call("get_job", job_id=retraining, wait_seconds=200))["state"] == "succeeded"
        assert (await assistant.call("list_models", name="home_win"))["items"][0]["version"] not in ("1.0.0", "1.1.0")

        back = await assistant.call("rollback_endpoint", endpoint="home-win", confirm=True)
        assert [route["model"] for route in back["routes"]] == ["home_win@1.0.0"]
        health = await assistant.call("check_health")
        assert {part["name"]: part["status"] for part in health["components"]} == dict.fromkeys(
            ["data_validation", "model_training", "model_deployment", "model_monitoring", "database", "storage",
             "mlflow", "cache", "worker"], "healthy")  # fmt: skip
        audit = await assistant.call("list_audit_events")
        assert {"promote_model", "deploy_model", "start_rollout", "rollback_endpoint"} <= {
            event["tool"] for event in audit["items"]
        }


@pytest.mark.slow
async def test_a_killed_worker_is_restarted_and_the_search_ends_with_every_trial_once(tmp_path):
    data_dir = tmp_path / "data"
    async with serving(data_dir, tmp_path) as assistant:
        await prepared(assistant)
        job = await assistant.call(
            "train_model", name="home_win", dataset="features", target="home_win", features=FEATURES,
            estimators=["logistic_regression", "random_forest"], search="random", trials=20, cv=3,
            split={"kind": "time", "column": "season", "test_from": 2009}, wait_seconds=0,
        )  # fmt: skip
        with anyio.fail_after(120):
            while (await assistant.call("get_job", job_id=job["job_id"]))["progress"] < 0.25:
                await anyio.sleep(0.05)

        (worker,) = worker_processes(data_dir)
        os.kill(worker.pid, signal.SIGKILL)
        ended = await assistant.call("get_job", job_id=job["job_id"], wait_seconds=240)

        assert ended["state"] == "succeeded"
        assert ended["result"]["trials"] == 20
        assert sum(entry["trials"] for entry in ended["result"]["leaderboard"]) == 20
        (replacement,) = worker_processes(data_dir)
        assert replacement.pid != worker.pid
        assert [item["version"] for item in (await assistant.call("list_models"))["items"]] == ["1.0.0"]
    with anyio.fail_after(20):
        while worker_processes(data_dir):
            await anyio.sleep(0.05)


@pytest.mark.slow
async def test_two_servers_on_one_data_directory_share_one_worker(tmp_path):
    data_dir = tmp_path / "data"
    settings = {"NBA_MCP_WORKER__INLINE_LIMIT_S": "0"}
    async with serving(data_dir, tmp_path, settings) as first, serving(data_dir, tmp_path, settings) as second:
        await first.do("import_dataset", name="games", source="nba://sample", options={"seasons": 1})
        await second.do("import_dataset", name="others", source="nba://sample", options={"seasons": 1, "seed": 9})
        names = {item["name"] for item in (await first.call("list_datasets"))["items"]}

        assert names == {"games", "others"}
        with anyio.fail_after(30):  # the one that came second sees the lock once it has started, and leaves
            while len(worker_processes(data_dir)) != 1:
                await anyio.sleep(0.05)
        await first.do("import_dataset", name="more", source="nba://sample", options={"seasons": 1, "seed": 8})


async def test_bad_input_gets_the_contracts_error_and_the_next_call_works(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("a,b\n")
    rows = ["x,label,same,gaps"] + [f"{n % 7},{n % 2},1,{'' if n % 5 == 0 else n % 2}" for n in range(60)]
    (tmp_path / "small.csv").write_text("\n".join(rows) + "\n")
    cases = [
        ("import_dataset", {"name": "d", "source": "nothing.csv"}, "not_found", ""),
        ("import_dataset", {"name": "d", "source": "/etc/passwd"}, "permission_denied", ""),
        ("import_dataset", {"name": "d", "source": "empty.csv"}, "invalid_argument", ""),
        ("import_dataset", {"name": "d", "source": "header.csv"}, "invalid_argument", ""),
        ("import_dataset", {"name": "Bad Name", "source": "small.csv"}, "invalid_argument", ""),
        ("describe_dataset", {"dataset": "smal"}, "not_found", "small"),
        ("describe_model", {"model": "nothing"}, "not_found", ""),
        ("describe_endpoint", {"endpoint": "nothing"}, "not_found", ""),
        ("predict", {"endpoint": "nothing", "rows": [{"x": 1}]}, "not_found", ""),
        ("train_model", {"name": "m", "dataset": "small", "target": "lable"}, "invalid_argument", "label"),
        ("train_model", {"name": "m", "dataset": "small", "target": "same"}, "invalid_argument", ""),
        ("train_model", {"name": "m", "dataset": "small", "target": "gaps"}, "invalid_argument", "missing_target"),
        ("train_model", {"name": "m", "dataset": "small", "target": "label", "trials": 0}, "invalid_argument", ""),
        ("query_data", {"sql": "SELECT * FROM '/etc/passwd'"}, None, ""),
        ("list_datasets", {"limt": 3}, "invalid_argument", "limit"),
        ("get_job", {"job_id": "nothing"}, "not_found", "list_jobs"),
        ("promote_model", {"model": "m", "stage": "production"}, "failed_precondition", "confirm=true"),
    ]
    async with serving(tmp_path / "data", tmp_path) as assistant:
        await assistant.do("import_dataset", name="small", source="small.csv")
        for tool, arguments, code, hint in cases:
            refusal = await assistant.refusal(tool, **arguments)
            told = f"{refusal.message} {refusal.hint} {json.dumps(refusal.details)}"

            assert refusal.code == code or (code is None and refusal.code in ("permission_denied", "invalid_argument"))
            assert hint in told, (tool, arguments, told)
            assert str(tmp_path / "data") not in told
            assert "root:" not in told
        assert [item["name"] for item in (await assistant.call("list_datasets"))["items"]] == ["small"]
