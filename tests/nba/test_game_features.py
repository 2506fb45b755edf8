"""Features hold what was known before each game, and nothing else."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.nba.elo import add_elo
from mcp_server.nba.game_features import FEATURE_COLUMNS, add_game_features
from mcp_server.nba.simulator import simulate_seasons
from tests.nba.tables import games_table

SEASONS = simulate_seasons(2, seed=6).filter(pl.col("date").dt.month().is_in([10, 11, 4]))
FEATURES = add_game_features(SEASONS)


def test_columns_are_the_contract() -> None:
    assert FEATURES.columns == [
        "game_id", "date", "season", "is_playoffs", "neutral", "home_team", "away_team", "home_win", "elo_diff",
        "elo_forecast", "home_win_rate_10", "home_margin_10", "home_points_for_10", "home_points_against_10",
        "home_rest_days", "home_back_to_back", "away_win_rate_10", "away_margin_10", "away_points_for_10",
        "away_points_against_10", "away_rest_days", "away_back_to_back",
    ]  # fmt: skip
    assert tuple(FEATURES.columns) == FEATURE_COLUMNS
    assert FEATURES["game_id"].equals(SEASONS["game_id"])


def test_form_and_rest_by_hand() -> None:
    features = add_game_features(
        games_table(
            ("2015-01-01", "BOS", "NYK", 100, 90),
            ("2015-01-02", "LAL", "BOS", 95, 90),
            ("2015-01-05", "BOS", "LAL", None, None),
        )
    )
    first, second, third = features.rows(named=True)
    assert first["home_win_rate_10"] is first["home_margin_10"] is first["home_rest_days"] is None
    assert first["home_back_to_back"] is False
    assert (second["away_win_rate_10"], second["away_margin_10"], second["away_points_for_10"]) == (1.0, 10.0, 100.0)
    assert (second["away_rest_days"], second["away_back_to_back"]) == (1, True)
    assert (third["home_win"], third["home_win_rate_10"], third["home_margin_10"]) == (None, 0.5, 2.5)
    assert (third["home_points_for_10"], third["home_points_against_10"]) == (95.0, 92.5)
    assert (third["home_rest_days"], third["home_back_to_back"]) == (3, False)


def test_form_covers_ten_games_of_the_season() -> None:
    days = [f"2015-01-{day:02}" for day in range(1, 29, 2)]
    games = [(day, "BOS", f"T{i}", 100 + i, 90) for i, day in enumerate(days)]
    features = add_game_features(games_table(*games, ("2015-11-01", "BOS", "NYK", 100, 90, 2016)))
    assert features["home_margin_10"].to_list()[11] == sum(range(11, 21)) / 10
    assert features["home_margin_10"].to_list()[-1] is None
    assert features["home_rest_days"].to_list()[-1] is None


def test_games_without_a_result_count_for_rest_but_not_for_form() -> None:
    features = add_game_features(
        games_table(
            ("2015-01-01", "BOS", "NYK", 100, 90),
            ("2015-01-03", "BOS", "NYK", None, None),
            ("2015-01-04", "BOS", "NYK", None, None),
        )
    )
    assert features["home_margin_10"].to_list() == [None, 10.0, 10.0]
    assert features["home_rest_days"].to_list() == [None, 2, 1]


def test_a_second_game_on_the_same_day_knows_nothing_of_the_first() -> None:
    features = add_game_features(
        games_table(
            ("2015-01-01", "BOS", "NYK", 100, 90),
            ("2015-01-02", "BOS", "NYK", 100, 70),
            ("2015-01-02", "BOS", "LAL", 100, 90),
            ("2015-01-04", "BOS", "LAL", 100, 90),
        )
    )
    assert features["home_margin_10"].to_list() == [None, 10.0, 10.0, pytest.approx(50 / 3)]


def test_the_order_of_rows_is_kept_and_does_not_matter() -> None:
    shuffled = SEASONS.sample(fraction=1, shuffle=True, seed=2)
    features = add_game_features(shuffled)
    assert features["game_id"].equals(shuffled["game_id"])
    assert features.sort("date", "game_id").equals(FEATURES.sort("date", "game_id"))


def test_given_ratings_are_kept() -> None:
    rated = add_elo(SEASONS).with_columns(elo_home=pl.lit(1600.0), elo_away=pl.lit(1500.0), elo_forecast=pl.lit(0.7))
    features = add_game_features(rated)
    assert features["elo_diff"].unique().to_list() == [100.0]
    assert features["elo_forecast"].unique().to_list() == [0.7]


@settings(max_examples=25, deadline=None)
@given(
    row=st.integers(0, SEASONS.height - 1),
    home=st.integers(60, 160) | st.none(),
    away=st.integers(60, 160) | st.none(),
)
def test_a_result_changes_no_feature_of_its_game_or_an_earlier_one(
    row: int, home: int | None, away: int | None
) -> None:
    there = pl.int_range(pl.len()) == row
    changed = SEASONS.with_columns(
        home_points=pl.when(there).then(pl.lit(home, dtype=pl.Int64)).otherwise("home_points"),
        away_points=pl.when(there).then(pl.lit(away, dtype=pl.Int64)).otherwise("away_points"),
    )
    known = FEATURES.head(row + 1).drop("home_win")
    assert add_game_features(changed).head(row + 1).drop("home_win").equals(known)


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(0, SEASONS.height))
def test_later_games_change_nothing_earlier(rows: int) -> None:
    assert add_game_features(SEASONS.head(rows)).equals(FEATURES.head(rows))


def test_two_spellings_of_a_teams_code_are_one_team_in_form_and_rating() -> None:
    games = [
        ("2015-01-01", "BRK", "CHO", 100, 90),
        ("2015-01-02", "PHO", "BRK", 95, 90),
        ("2015-01-05", "BRK", "PHO", None, None),
    ]
    theirs = add_game_features(games_table(*games))
    nbas = games_table(*games[:2], ("2015-01-05", "BKN", "PHX", None, None))
    told = ["home_team", "away_team", "game_id"]
    assert add_game_features(nbas).drop(told).equals(theirs.drop(told))


def test_codes_that_meet_each_other_are_two_teams() -> None:
    games = games_table(("2015-01-01", "CHA", "CHO", 100, 90), ("2015-01-02", "CHO", "NYK", None, None))
    assert add_game_features(games)["home_win_rate_10"].to_list() == [None, 0.0]
