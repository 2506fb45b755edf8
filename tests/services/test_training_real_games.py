"""On the real games: the figures the product stands for, and honesty about what rolling form adds to Elo."""

from pathlib import Path

import polars as pl
import pytest

from mcp_server.nba.recipes import apply_recipe
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.progress import NoProgress
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from tests.services.training_world import CALLER, Stand

BY_SEASON = {"kind": "time", "column": "season", "train_from": 1980, "test_from": 2011}


@pytest.mark.slow
def test_a_search_over_three_families_reaches_the_figures_and_says_that_elo_is_as_good(
    shared_data: Path, tmp_path: Path, sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock
) -> None:
    raw = pl.read_csv(shared_data / "data" / "nba_games_1947_2015.csv", infer_schema_length=None)
    games, _ = apply_recipe("nba_game_features", raw)
    stand = Stand(tmp_path, sqlite_database, artifacts, clock)
    stand.write("features", games)
    result = stand.service.train_model(
        caller=CALLER,
        progress=NoProgress(),
        name="home",
        dataset="features",
        target="home_win",
        split=BY_SEASON,
        trials=8,
        baseline="elo_forecast",
    )
    metrics = {name: value or 0.0 for name, value in result.test_metrics.items()}
    assert len(result.leaderboard) >= 3
    assert metrics["accuracy"] >= 0.665
    assert metrics["log_loss"] <= 0.603
    assert metrics["roc_auc"] >= 0.715
    assert metrics["brier"] <= 0.209
    assert result.baseline_comparison is not None
    assert result.baseline_comparison.verdict == "not_distinguishable"
    assert "not distinguishable from elo_forecast" in result.summary
    always_home = next(part for part in result.baselines if part.baseline == "majority")
    assert always_home.comparison.verdict == "better"
    assert len(result.model_dump_json()) < 16_000


@pytest.mark.slow
def test_rolling_form_beside_elo_is_not_distinguishable_from_elo_alone(
    shared_data: Path, tmp_path: Path, sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock
) -> None:
    raw = pl.read_csv(shared_data / "data" / "nba_games_1947_2015.csv", infer_schema_length=None)
    games, _ = apply_recipe("nba_game_features", raw)
    stand = Stand(tmp_path, sqlite_database, artifacts, clock)
    stand.write("features", games)
    form = [name for name in games.columns if name.endswith("_10")]
    assert len(form) == 8
    for name, features in (("elo", ["elo_diff"]), ("elo-and-form", ["elo_diff", *form])):
        stand.service.train_model(
            caller=CALLER,
            progress=NoProgress(),
            name=name,
            dataset="features",
            target="home_win",
            features=features,
            estimators=["logistic_regression"],
            search="none",
            split=BY_SEASON,
        )
    found = stand.service.compare_models(progress=NoProgress(), models=["elo-and-form", "elo"], dataset="features")
    assert {part.metric for part in found.differences} == {"log_loss", "accuracy"}
    assert {part.verdict for part in found.differences} == {"not_distinguishable"}
    assert "not distinguishable from" in found.summary
