"""NBA.com's scoreboard of a day becomes that day's games; those to come have no points."""

from datetime import date, timedelta

import polars as pl
import pytest
from nba_api.stats.library.http import NBAStatsResponse

from mcp_server.errors import UnavailableError
from mcp_server.nba.layouts import CANONICAL
from mcp_server.nba.nba_com_tables import Answer, season_of
from mcp_server.nba.recipes import apply_recipe
from mcp_server.nba.simulator import simulate_seasons
from mcp_server.nba.slate import day_games
from tests.nba.nba_com_server import scoreboard_document, scoreboard_game

DAY = date(2026, 11, 23)


def _answer(*games: dict[str, object], day: str = "2026-11-23") -> Answer:
    import json

    document = json.dumps(scoreboard_document(day, *games))
    return Answer(NBAStatsResponse(document, 200, "").get_data_sets("scoreboardv3"))


def test_coming_running_and_finished_games() -> None:
    found = day_games(
        _answer(
            scoreboard_game("0022600212", "LAL", "BOS", 1),
            scoreboard_game("0022600210", "NYK", "PHI", 3, (110, 99)),
            scoreboard_game("0022600211", "MIA", "ORL", 2, (51, 49), isNeutral=True),
        ),
        DAY,
    )
    assert found.games.schema == CANONICAL
    assert found.games.rows() == [
        ("0022600210", DAY, 2027, False, False, "NYK", "PHI", 110, 99),
        ("0022600211", DAY, 2027, False, True, "MIA", "ORL", None, None),
        ("0022600212", DAY, 2027, False, False, "LAL", "BOS", None, None),
    ]
    assert found.notes == ["NBA.com lists 3 games on 2026-11-23, 2 of them without a result yet"]


def test_what_is_no_game_of_the_slate_is_left_out_and_told() -> None:
    found = day_games(
        _answer(
            scoreboard_game("0012600001", "LAL", "BOS", 1),
            scoreboard_game("0032600001", "EST", "WST", 1),
            scoreboard_game("0022600211", "MIA", "ORL", 1, gameStatusText="PPD"),
            scoreboard_game("0042600101", None, None, 1),
            scoreboard_game("0042600102", "MIA", "ORL", 1),
            scoreboard_game("0042600102", "MIA", "ORL", 1),
        ),
        DAY,
    )
    assert found.games.select("game_id", "is_playoffs").rows() == [("0042600102", True)]
    told = " ".join(trouble.message for trouble in found.trouble)
    for words in ("pre-season: 0012600001", "all-star weekend: 0032600001", "put off: 0022600211", "0042600101"):
        assert words in told
    assert "1 game listed twice; the first row was kept" in found.notes


def test_a_day_without_games_is_a_table_without_rows() -> None:
    found = day_games(_answer(), DAY)
    assert found.games.is_empty()
    assert found.notes == ["NBA.com lists 0 games on 2026-11-23, 0 of them without a result yet"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (_answer(day="2026-11-22"), "about 2026-11-22, not about 2026-11-23"),
        (_answer(scoreboard_game("0022600212", "LAL", "BOS", 9)), "gameStatus"),
        (_answer(scoreboard_game("0022600212", "LAL", "BOS", 3, ("x", 1))), "'x' as score"),  # type: ignore[arg-type]
        (_answer(scoreboard_game("212", "LAL", "BOS", 1)), "no game's number"),
        (_answer(scoreboard_game("0022600212", "<script>", "BOS", 1)), "no team's code"),
        (Answer({"ScoreboardInfo": {"headers": ["gameDate"], "data": [[None]]}}), "None as gameDate"),
        (Answer({}), "no table ScoreboardInfo"),
    ],
)
def test_an_answer_that_the_scoreboard_never_gives_is_refused(answer: Answer, message: str) -> None:
    with pytest.raises(UnavailableError, match=message):
        day_games(answer, DAY)


@pytest.mark.parametrize(
    ("number", "played", "season"),
    [
        ("0022400001", date(2024, 10, 22), 2025),
        ("0042300407", date(2024, 6, 17), 2024),
        ("0021900001", date(2020, 8, 1), 2020),
        ("0029900001", date(1999, 11, 2), 2000),
        ("0029900001", date(2000, 4, 2), 2000),
        ("0024600001", date(1946, 11, 1), 1947),
    ],
)
def test_the_season_is_in_the_number_of_the_game(number: str, played: date, season: int) -> None:
    assert season_of(number, played) == season


def test_features_of_games_and_slate_together_know_only_what_came_before() -> None:
    games = simulate_seasons(1, seed=3, first_season=2027).filter(pl.col("date") < DAY)
    home, away = games["home_team"][0], games["away_team"][0]
    slate = day_games(_answer(scoreboard_game("0022600212", home, away, 1)), DAY).games
    features, _ = apply_recipe("nba_game_features", pl.concat([games, slate]))
    tonight = features.filter(pl.col("date") == DAY).row(0, named=True)
    assert tonight["home_win"] is None
    assert 0 < tonight["elo_forecast"] < 1
    assert tonight["home_win_rate_10"] is not None
    last = games.filter((pl.col("home_team") == home) | (pl.col("away_team") == home))["date"].to_list()[-1]
    assert tonight["home_rest_days"] == (DAY - last) // timedelta(days=1)
