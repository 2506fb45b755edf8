"""From NBA.com's season and slate to the features of tonight's games, as an assistant does it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from mcp_server.errors import NotFoundError, UnavailableError
from mcp_server.nba.game_features import FEATURE_COLUMNS
from mcp_server.nba.simulator import simulate_seasons
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.settings import NbaSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from tests.nba.nba_com_server import game_rows, log_document, run_nba_com, scoreboard_document, scoreboard_game, send
from tests.services.data_world import make_world

CALLER = Caller("tester", "admin")
TONIGHT = datetime(2026, 11, 23).date()
UNION = "SELECT * FROM games UNION ALL SELECT * FROM tonight"


def test_a_season_and_tonights_slate_give_features_of_tonight(
    sqlite_database: Database, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    season = simulate_seasons(1, seed=3, first_season=2027).filter(pl.col("date") <= TONIGHT)
    columns = ["date", "home_team", "away_team", "home_points", "away_points"]
    log = []
    for n, (day, home, away, *score) in enumerate(season.select(columns).iter_rows(), 1):
        played = score if day < TONIGHT else (None, None)  # what was announced for tonight has no score yet
        log += game_rows(f"00226{n:05}", day.isoformat(), home, away, *played, SEASON_ID="22026")
    slate = [
        scoreboard_game(f"00226{n:05}", home, away, 1)
        for n, (day, home, away, *_) in enumerate(season.select(columns).iter_rows(), 1)
        if day == TONIGHT
    ]
    assert slate
    with run_nba_com() as nba_com:
        answers = {
            "/stats/leaguegamelog": log_document(log),
            "/stats/scoreboardv3": scoreboard_document(TONIGHT.isoformat(), *slate),
        }
        nba_com.answer = lambda handler: send(handler, json.dumps(answers[handler.path.partition("?")[0]]).encode())
        clock = ManualClock(datetime(2026, 11, 23, 20, tzinfo=UTC))
        world = make_world(sqlite_database, artifacts, clock, tmp_path, NbaSettings(base_url=nba_com.base_url))
        service = world.service
        regular = {"season_type": "regular"}
        games = service.import_dataset(caller=CALLER, name="games", source="nba://games/2026-27", options=regular)
        tonight = service.import_dataset(caller=CALLER, name="tonight", source="nba://schedule/2026-11-23")
        assert games.notes[0].startswith("NBA.com's answer is of 2026-11-23 20:00 UTC")
        assert games.rows == season.height
        assert tonight.rows == len(slate)
        again = service.import_dataset(caller=CALLER, name="games", source="nba://games/2026-27", options=regular)
        assert (again.created, len(nba_com.requests)) == (False, 2)
    service.transform_dataset(caller=CALLER, name="both", sql=UNION)
    made = service.transform_dataset(caller=CALLER, name="features", recipe="nba_game_features", inputs=["both"])
    features = world.datasets.read("features")
    assert tuple(features.columns) == FEATURE_COLUMNS
    assert made.rows == season.height
    assert f"{len(slate)} rows repeated a game" in made.notes
    open_games = features.filter(pl.col("home_win").is_null())
    assert open_games["date"].unique().to_list() == [TONIGHT]
    assert open_games.height == len(slate)
    assert open_games.select("elo_forecast", "home_win_rate_10", "away_rest_days").null_count().row(0) == (0, 0, 0)


def test_a_day_without_games_is_not_found(
    sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock, tmp_path: Path
) -> None:
    with run_nba_com() as nba_com:
        nba_com.serve(scoreboard_document("2026-02-15", scoreboard_game("0032500001", "EST", "WST", 1)))
        world = make_world(sqlite_database, artifacts, clock, tmp_path, NbaSettings(base_url=nba_com.base_url))
        with pytest.raises(NotFoundError, match="No slate of NBA games named '2026-02-15'") as refusal:
            world.service.import_dataset(caller=CALLER, name="tonight", source="nba://schedule/2026-02-15")
    assert "all-star weekend: 0032500001" in refusal.value.hint
    assert world.datasets.names() == []


def test_nothing_is_stored_of_an_import_that_failed(
    sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock, tmp_path: Path
) -> None:
    world = make_world(sqlite_database, artifacts, clock, tmp_path, NbaSettings(base_url="http://127.0.0.1:1"))
    with pytest.raises(UnavailableError, match="cannot be reached"):
        world.service.import_dataset(caller=CALLER, name="games", source="nba://games/2024-25")
    assert world.datasets.names() == []
