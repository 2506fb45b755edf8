"""FiveThirtyEight's Elo ratings for NBA teams.

Source: Nate Silver and Reuben Fischer-Baum, "How We Calculate NBA Elo Ratings", FiveThirtyEight, 2015; K = 20,
home advantage 100, between seasons 0.75·R + 0.25·1505, new team 1300.

What a comparison with their published file (63,157 games, 1946 to 2015) shows, beyond the article:

- `forecast` is 1 / (1 + 10^(-(difference + home advantage) / 400)); the home advantage is 0 in the 19 games at
  neutral sites abroad and 100 in all others, "home" games in another city and play-offs included.
- The rating belongs to the franchise: it moves with a team to another city or name, and from the ABA to the NBA.
- A franchise regresses once, at the first game of its next season; a season that it missed does not count twice.
- The 23 teams of 1947 to 1950 partly start from ratings of older leagues (1295 to 1562) which results cannot give.
  Starting them all at 1300 is forgotten by a quarter a season: the mean error after 1990 is below 0.001.
- A forfeit counts with its official score (2-0), and a game has no level score.
- One published rating differs from the formula, by 1.28 points: after game 201506140GSW.
"""

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from mcp_server.nba.franchises import with_franchises

K = 20.0
HOME_ADVANTAGE = 100.0  # Elo points
NEW_TEAM = 1300.0
MEAN_RATING = 1505.0
CARRY_OVER = 0.75

ELO_COLUMNS = ("elo_home", "elo_away", "elo_forecast", "home_win")


def forecast(elo_home: ArrayLike, elo_away: ArrayLike, neutral: ArrayLike = False) -> NDArray[np.float64]:
    """Return the probability that the home team wins.

    Args:
        elo_home: ratings of the home teams before the game, Elo points.
        elo_away: ratings of the visitors, of a shape that broadcasts with `elo_home`.
        neutral: true where nobody plays at home.

    Returns:
        Probabilities between 0 and 1, of the broadcast shape (a scalar gives shape ()).

    Source: FiveThirtyEight, "How We Calculate NBA Elo Ratings" (2015).
    """
    with np.errstate(over="ignore"):  # a lead beyond all measure gives 0 or 1
        return 1.0 / (1.0 + 10.0 ** (-_advantage(elo_home, elo_away, neutral) / 400.0))


def update(
    elo_home: ArrayLike, elo_away: ArrayLike, home_points: ArrayLike, away_points: ArrayLike, neutral: ArrayLike = False
) -> NDArray[np.float64]:
    """Return the points that the home team wins and the visitor loses, negative after a home defeat.

    The shift is K · m · (result − forecast) with m = (margin + 3)^0.8 / (7.5 + 0.006 · d), where d is the winner's
    rating less the loser's, home advantage included: a favourite's big win says less than an outsider's.

    Args:
        elo_home: ratings of the home teams before the game, Elo points.
        elo_away: ratings of the visitors.
        home_points: points of the home teams.
        away_points: points of the visitors; a level score is no result and shifts nothing.
        neutral: true where nobody plays at home.

    Returns:
        Shifts in Elo points, of the broadcast shape.

    Source: FiveThirtyEight, "How We Calculate NBA Elo Ratings" (2015).
    """
    margin = np.asarray(home_points, dtype=np.float64) - np.asarray(away_points, dtype=np.float64)
    winner = np.sign(margin)
    advantage = _advantage(elo_home, elo_away, neutral)
    multiplier = (np.abs(margin) + 3.0) ** 0.8 / (7.5 + 0.006 * advantage * winner)
    expected = 1.0 / (1.0 + 10.0 ** (-advantage / 400.0))
    return np.asarray(np.where(winner == 0, 0.0, K * multiplier * ((winner > 0) - expected)), dtype=np.float64)


def carry_over(rating: ArrayLike) -> NDArray[np.float64]:
    """Return the ratings at the start of the next season: a quarter of the way back to 1505."""
    return CARRY_OVER * np.asarray(rating, dtype=np.float64) + (1 - CARRY_OVER) * MEAN_RATING


def add_elo(games: pl.DataFrame) -> pl.DataFrame:
    """Return `games` with the ratings and the forecast that were known before each game, and its result.

    Games count in the order of their dates, and within a date in the order of the table. A game without a result
    (points missing or level) gets ratings and a forecast and moves nothing.

    Args:
        games: the canonical game table. Ratings go by `home_franchise` and `away_franchise` where it has them, else
            by team code with known renamings.

    Returns:
        The same rows in the same order with `elo_home`, `elo_away` (Elo points before the game), `elo_forecast`
        (probability that the home team wins) and `home_win` (1, 0, or null without a result).
    """
    bare = games.drop(column for column in ELO_COLUMNS if column in games.columns)
    ordered = with_franchises(bare).with_row_index("_row").sort("date", "_row")
    home, away = _pre_game_ratings(ordered)
    rated = ordered.select("_row").with_columns(elo_home=pl.Series(home), elo_away=pl.Series(away)).sort("_row")
    probability = forecast(rated["elo_home"], rated["elo_away"], games["neutral"])
    return bare.with_columns(
        rated["elo_home"],
        rated["elo_away"],
        elo_forecast=pl.Series(probability, dtype=pl.Float64),
        home_win=home_win(),
    )


def home_win() -> pl.Expr:
    """Return 1 where the home team won, 0 where it lost, null where the points are missing or level."""
    home, away = pl.col("home_points"), pl.col("away_points")
    return pl.when(home != away).then((home > away).cast(pl.Int64))


def _pre_game_ratings(ordered: pl.DataFrame) -> tuple[list[float], list[float]]:
    """Return both sides' ratings before each game of a table in order of play.

    The loop is plain Python on floats, many times faster than arrays of one game; it repeats `update`, and a test
    holds the two together.
    """
    rating: dict[str, float] = {}
    last_season: dict[str, int] = {}

    def current(team: str, season: int) -> float:
        before = rating.get(team)
        now = NEW_TEAM if before is None else before
        if before is not None and last_season[team] != season:
            now = CARRY_OVER * before + (1 - CARRY_OVER) * MEAN_RATING
        rating[team], last_season[team] = now, season
        return now

    columns = ["home_franchise", "away_franchise", "season", "neutral", "home_points", "away_points"]
    home_ratings, away_ratings = [], []
    for home, away, season, neutral, home_points, away_points in ordered.select(columns).iter_rows():
        elo_home, elo_away = current(home, season), current(away, season)
        home_ratings.append(elo_home)
        away_ratings.append(elo_away)
        if home_points is None or away_points is None or home_points == away_points:
            continue
        advantage = elo_home - elo_away + (0.0 if neutral else HOME_ADVANTAGE)
        won = home_points > away_points
        multiplier = (abs(home_points - away_points) + 3.0) ** 0.8 / (7.5 + 0.006 * (advantage if won else -advantage))
        shift = K * multiplier * (won - 1.0 / (1.0 + 10.0 ** (-advantage / 400.0)))
        rating[home], rating[away] = elo_home + shift, elo_away - shift
    return home_ratings, away_ratings


def _advantage(elo_home: ArrayLike, elo_away: ArrayLike, neutral: ArrayLike) -> NDArray[np.float64]:
    home = np.asarray(elo_home, dtype=np.float64)
    away = np.asarray(elo_away, dtype=np.float64)
    return home - away + np.where(np.asarray(neutral, dtype=bool), 0.0, HOME_ADVANTAGE)
