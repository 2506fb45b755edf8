"""What is known about both teams before a game: ratings, form and rest.

Form is the mean over a team's last ten games with a result, home and away, within the season: rosters change over the
summer, and the rating carries what lasts. It belongs to the franchise, as the rating does: two spellings of one team's
code, where tables of two sources were joined, are one team. Before a team's first game of a season its form is
missing, after one to nine games it is over those. Days of rest are counted within the season too, and are missing at
its start.

Only results of earlier dates count. A game on the same date is not known before the game, whatever the order of rows.
"""

import polars as pl

from mcp_server.nba.elo import ELO_COLUMNS, add_elo, home_win
from mcp_server.nba.franchises import with_franchises

WINDOW = 10
RATINGS = ("elo_home", "elo_away", "elo_forecast")
SIDE_FEATURES = ("win_rate_10", "margin_10", "points_for_10", "points_against_10", "rest_days", "back_to_back")
FEATURE_COLUMNS = (
    "game_id",
    "date",
    "season",
    "is_playoffs",
    "neutral",
    "home_team",
    "away_team",
    "home_win",
    "elo_diff",
    "elo_forecast",
    *(f"{side}_{feature}" for side in ("home", "away") for feature in SIDE_FEATURES),
)


def add_game_features(games: pl.DataFrame) -> pl.DataFrame:
    """Return one row of features for each game, in the order of `games`, with the columns `FEATURE_COLUMNS`.

    Args:
        games: the canonical game table; with `elo_home, elo_away, elo_forecast` those ratings are used, else they
            are made.

    Returns:
        `home_win` is 1, 0 or null without a result. `elo_diff` is home less away in Elo points, without home
        advantage; `elo_forecast` the probability that the home team wins. For each side: `win_rate_10` (0 to 1),
        `margin_10`, `points_for_10` and `points_against_10` (points a game), `rest_days` (whole days since the last
        game of the season, 1 meaning yesterday) and `back_to_back` (true after a game yesterday or today).
    """
    rated = games if set(RATINGS) <= set(games.columns) else add_elo(games)
    rated = rated.drop(c for c in FEATURE_COLUMNS[8:] if c in rated.columns and c not in ELO_COLUMNS)
    rated = rated.with_row_index("_row")
    form = _form(rated)
    for side in ("home", "away"):
        named = form.filter(side=side).select("_row", pl.col(SIDE_FEATURES).name.prefix(f"{side}_"))
        rated = rated.join(named, on="_row", how="left", maintain_order="left")
    return rated.with_columns(home_win=home_win(), elo_diff=pl.col("elo_home") - pl.col("elo_away")).select(
        FEATURE_COLUMNS
    )


def _form(games: pl.DataFrame) -> pl.DataFrame:
    """Return form and rest for each side of each game, `_row` and `side` naming it."""
    named = with_franchises(games)
    sides = pl.concat(
        named.select(
            "_row", "date", "season", side=pl.lit(side), team=f"{side}_franchise",
            scored=f"{side}_points", allowed=f"{other}_points",
        )
        for side, other in (("home", "away"), ("away", "home"))
    ).sort("season", "team", "date", "_row")  # fmt: skip
    team = ["season", "team"]
    rest = (pl.col("date") - pl.col("date").shift(1).over(team)).dt.total_days()
    dated = sides.with_columns(rest_days=rest, back_to_back=(rest <= 1).fill_null(value=False))
    played = dated.filter(pl.col("scored") != pl.col("allowed")).select(*team, "date", *_means(team))
    # One row a date: where a team played twice on it, the later row includes both games.
    latest = played.unique([*team, "date"], keep="last", maintain_order=True).sort("date")
    return dated.sort("date").join_asof(
        latest, on="date", by=team, strategy="backward", allow_exact_matches=False, check_sortedness=False
    )


def _means(team: list[str]) -> list[pl.Expr]:
    margin = pl.col("scored") - pl.col("allowed")
    return [
        value.cast(pl.Float64).rolling_mean(WINDOW, min_samples=1).over(team).alias(name)
        for name, value in {
            "win_rate_10": margin > 0,
            "margin_10": margin,
            "points_for_10": pl.col("scored"),
            "points_against_10": pl.col("allowed"),
        }.items()
    ]
