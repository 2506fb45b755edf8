"""The package's own tables of teams and players, without a network."""

import polars as pl

from mcp_server.nba.static_tables import PLAYERS, TEAMS, players_table, teams_table


def test_thirty_teams_with_every_column_and_its_type() -> None:
    teams = teams_table()
    assert teams.schema == TEAMS
    assert teams.height == teams["id"].n_unique() == teams["abbreviation"].n_unique() == 30
    boston = teams.row(by_predicate=pl.col("abbreviation") == "BOS", named=True)
    assert (boston["city"], boston["nickname"], boston["year_founded"]) == ("Boston", "Celtics", 1946)
    assert boston["championship_years"].startswith("1957 1959 1960")
    assert boston["championships"] == len(boston["championship_years"].split())


def test_thousands_of_players_past_and_present() -> None:
    players = players_table()
    assert players.schema == PLAYERS
    assert players.height == players["id"].n_unique() > 4500
    james = players.row(by_predicate=pl.col("id") == 2544, named=True)
    assert (james["full_name"], james["first_name"], james["last_name"]) == ("LeBron James", "LeBron", "James")
    assert 300 < players["is_active"].sum() < 1000
    assert not sum(players.select("id", "full_name", "is_active").null_count().row(0))
