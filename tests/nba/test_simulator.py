"""Simulated seasons look like the NBA's and depend on nothing but their arguments."""

from math import sqrt
from pathlib import Path

import polars as pl
import pytest

from mcp_server.errors import InvalidArgumentError
from mcp_server.nba.elo import add_elo
from mcp_server.nba.layouts import CANONICAL, to_games
from mcp_server.nba.schedule import DIVISIONS, TEAMS
from mcp_server.nba.simulator import simulate_seasons

SEASONS = 20


@pytest.fixture(scope="module")
def seasons() -> pl.DataFrame:
    return simulate_seasons(SEASONS, seed=0)


@pytest.fixture(scope="module")
def sides(seasons: pl.DataFrame) -> pl.DataFrame:
    """One row for each team and game, with the days since its last one."""
    rows = pl.concat(seasons.select("season", "date", team=f"{side}_team") for side in ("home", "away"))
    rest = pl.col("date").diff().dt.total_days().over("season", "team")
    return rows.sort("season", "team", "date").with_columns(rest=rest)


def test_the_same_seed_gives_the_same_seasons_and_another_does_not() -> None:
    assert simulate_seasons(2, seed=5).equals(simulate_seasons(2, seed=5))
    assert simulate_seasons(2, seed=5).head(1230).equals(simulate_seasons(1, seed=5))
    assert not simulate_seasons(1, seed=5).equals(simulate_seasons(1, seed=6))


def test_the_table_is_canonical_and_complete(seasons: pl.DataFrame) -> None:
    assert seasons.schema == CANONICAL
    assert not sum(seasons.null_count().row(0))
    assert seasons["game_id"].n_unique() == seasons.height == SEASONS * 1230
    assert seasons.filter(pl.col("home_points") == pl.col("away_points")).is_empty()
    assert to_games(seasons)[0].equals(seasons)


def test_thirty_teams_play_82_games_41_of_them_at_home(seasons: pl.DataFrame, sides: pl.DataFrame) -> None:
    assert len(set(TEAMS)) == 30
    assert sides.group_by("season", "team").len()["len"].unique().to_list() == [82]
    assert seasons.group_by("season", "home_team").len()["len"].unique().to_list() == [41]


def test_pairings_follow_the_formula(seasons: pl.DataFrame) -> None:
    pairs = seasons.filter(pl.col("season") == 2006).select(pair=pl.concat_list("home_team", "away_team").list.sort())
    counts = {tuple(pair): n for pair, n in pairs.group_by("pair").len().iter_rows()}
    division = {team: i for i, teams in enumerate(DIVISIONS) for team in teams}
    for (a, b), n in counts.items():
        if division[a] == division[b]:
            assert n == 4
        elif division[a] // 3 == division[b] // 3:
            assert n in (3, 4)
        else:
            assert n == 2
    assert sum(n == 3 for n in counts.values()) == 60


def test_nobody_plays_twice_a_day_and_rest_is_shared_out_as_it_is_in_the_league(sides: pl.DataFrame) -> None:
    rest = sides["rest"].drop_nulls()
    assert rest.min() == 1
    shares = [rest.eq(days).mean() for days in (1, 2, 3)]
    assert shares == pytest.approx([0.25, 0.53, 0.15], abs=0.04)
    three_in_a_row = sides.filter((pl.col("rest") == 1) & (pl.col("rest").shift(1).over("season", "team") == 1))
    assert three_in_a_row.height < 0.001 * sides.height


def test_a_season_runs_from_october_to_april(seasons: pl.DataFrame) -> None:
    ends = seasons.group_by("season").agg(first=pl.col("date").min(), last=pl.col("date").max())
    assert ends["first"].dt.month().is_in([10]).all()
    assert ends["last"].dt.month().is_in([4]).all()
    assert (ends["last"].dt.year() == ends["season"]).all()


def test_results_have_the_leagues_statistics_within_their_sampling_error(seasons: pl.DataFrame) -> None:
    n = seasons.height
    margin = seasons["home_points"] - seasons["away_points"]
    assert (margin > 0).mean() == pytest.approx(0.597, abs=4 * sqrt(0.597 * 0.403 / n))
    assert margin.std() == pytest.approx(13.7, abs=4 * 13.7 / sqrt(2 * n))
    rated = add_elo(seasons)
    hits = (rated["elo_forecast"] > 0.5) == (rated["home_win"] == 1)
    assert hits.mean() == pytest.approx(0.67, abs=4 * sqrt(0.67 * 0.33 / n))
    total = seasons["home_points"] + seasons["away_points"]
    assert 190 < total.to_numpy().mean() < 210
    assert seasons.select(pl.min_horizontal("home_points", "away_points").min()).item() >= 50


def test_the_league_is_as_uneven_as_the_real_one(seasons: pl.DataFrame) -> None:
    won = pl.col("home_points") > pl.col("away_points")
    sides = [seasons.select("season", team=f"{side}_team", won=won == (side == "home")) for side in ("home", "away")]
    shares = pl.concat(sides).group_by("season", "team").agg(pl.col("won").mean())["won"]
    assert shares.std() == pytest.approx(0.151, abs=4 * 0.151 / sqrt(2 * shares.len()))


def test_the_real_seasons_have_these_statistics(shared_data: Path) -> None:
    file = pl.read_csv(shared_data / "data" / "nba_games_1947_2015.csv", infer_schema_length=None)
    games = add_elo(to_games(file)[0]).filter(pl.col("season") >= 2001, ~pl.col("is_playoffs"))
    hits = (games["elo_forecast"] > 0.5) == (games["home_win"] == 1)
    margin = games["home_points"] - games["away_points"]
    assert (games["home_win"].mean(), hits.mean()) == pytest.approx((0.599, 0.668), abs=0.001)
    assert margin.std() == pytest.approx(12.9, abs=0.05)
    last = margin.filter(games["season"] == 2015)
    assert last.std() == pytest.approx(13.5, abs=0.05)


def test_the_same_seed_gives_equal_bytes_and_the_visitor_plays_more_second_nights(
    tmp_path: Path, sides: pl.DataFrame, seasons: pl.DataFrame
) -> None:
    for name in ("one", "two"):
        simulate_seasons(2, seed=3).write_parquet(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    tired = sides.filter(pl.col("rest") == 1).select("date", "team")
    home = seasons.join(tired, left_on=["date", "home_team"], right_on=["date", "team"]).height
    away = seasons.join(tired, left_on=["date", "away_team"], right_on=["date", "team"]).height
    assert 0.15 < home / seasons.height < away / seasons.height < 0.36


@pytest.mark.parametrize("arguments", [(0, 1), (101, 1), (1, -1), (1, 1, 1900)])
def test_arguments_out_of_range_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgumentError):
        simulate_seasons(*arguments)
