"""The teams and players that the package `nba_api` carries with it: tables without a network.

Needs the extra `nba`. With `stores/nba_com.py` this is the only importer of that package; nothing here loads pandas or
opens a connection.
"""

import polars as pl
from nba_api.stats.library import data
from nba_api.stats.static import players, teams

TEAMS = {
    "id": pl.Int64,
    "abbreviation": pl.String,
    "full_name": pl.String,
    "nickname": pl.String,
    "city": pl.String,
    "state": pl.String,
    "year_founded": pl.Int64,
    "championships": pl.Int64,
    "championship_years": pl.String,
}
PLAYERS = {
    "id": pl.Int64,
    "full_name": pl.String,
    "first_name": pl.String,
    "last_name": pl.String,
    "is_active": pl.Boolean,
}


def teams_table() -> pl.DataFrame:
    """Return today's 30 teams with all that the package knows of them, in order of their number.

    `abbreviation` is the code that NBA.com's tables of games have. `championship_years` is text such as `1957 1959`,
    null where there is none.
    """
    won = {row[data.team_index_id]: row[data.team_index_championship_year] for row in data.teams}
    rows = [
        {
            **team,
            "championships": len(won[team["id"]]),
            "championship_years": " ".join(str(year) for year in sorted(won[team["id"]])) or None,
        }
        for team in teams.get_teams()
    ]
    return pl.DataFrame(rows, schema=TEAMS).sort("id")


def players_table() -> pl.DataFrame:
    """Return every player that the package knows, past ones included, in order of their number."""
    return pl.DataFrame(players.get_players(), schema=PLAYERS).sort("id")
