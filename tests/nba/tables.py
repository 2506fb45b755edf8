"""Small tables of games, and the same games in other layouts."""

from datetime import date

import polars as pl

from mcp_server.nba.layouts import CANONICAL


def games_table(*games: tuple[object, ...]) -> pl.DataFrame:
    """Return the canonical table of `(date, home, away, home points, away points[, season])`."""
    rows = [
        {
            "game_id": f"{str(day).replace('-', '')}0{home}",
            "date": date.fromisoformat(str(day)),
            "season": season[0] if season else 2015,
            "is_playoffs": False,
            "neutral": False,
            "home_team": home,
            "away_team": away,
            "home_points": home_points,
            "away_points": away_points,
        }
        for day, home, away, home_points, away_points, *season in games
    ]
    return pl.DataFrame(rows, schema=CANONICAL)


def as_nbaallelo(games: pl.DataFrame, *, rows_a_game: int = 2) -> pl.DataFrame:
    """Return games as FiveThirtyEight's nbaallelo.csv has them: US dates, whole numbers as floats, two rows a game."""
    numbered = games.with_row_index("gameorder", offset=1)
    sides = []
    for copy, (side, other) in enumerate((("home", "away"), ("away", "home"))[:rows_a_game]):
        place = pl.lit("H" if side == "home" else "A")
        sides.append(
            numbered.select(
                "gameorder",
                "game_id",
                lg_id=pl.lit("NBA"),
                _iscopy=pl.lit(copy),
                year_id=pl.col("season").cast(pl.Float64),
                date_game=pl.col("date").dt.strftime("%-m/%-d/%Y"),
                is_playoffs=pl.col("is_playoffs").cast(pl.Int64),
                team_id=f"{side}_team",
                fran_id=pl.col(f"{side}_team"),
                pts=pl.col(f"{side}_points").cast(pl.Float64),
                opp_id=f"{other}_team",
                opp_fran=pl.col(f"{other}_team"),
                opp_pts=pl.col(f"{other}_points").cast(pl.Float64),
                game_location=pl.when("neutral").then(pl.lit("N")).otherwise(place),
            )
        )
    return pl.concat(sides).sort("gameorder", "_iscopy")


def as_nba_elo(games: pl.DataFrame) -> pl.DataFrame:
    """Return games as FiveThirtyEight's nba_elo.csv has them."""
    return games.select(
        date=pl.col("date").cast(pl.String),
        season="season",
        neutral=pl.col("neutral").cast(pl.Int64),
        playoff=pl.when("is_playoffs").then(pl.lit("f")),
        team1="home_team",
        team2="away_team",
        elo1_pre=pl.lit(1500.0),
        elo2_pre=pl.lit(1500.0),
        elo_prob1=pl.lit(0.64),
        score1="home_points",
        score2="away_points",
    )


def as_nba_log(games: pl.DataFrame) -> pl.DataFrame:
    """Return games as NBA.com's log has them: two rows a game, neutral sites as two visitors."""
    numbered = games.with_row_index("_n", offset=1)
    season = pl.col("season").cast(pl.String).str.slice(-2).cast(pl.Int64) - 1
    kind = pl.when("is_playoffs").then(pl.lit("4")).otherwise(pl.lit("2"))
    number = pl.concat_str(
        pl.lit("00"), kind, season.cast(pl.String).str.zfill(2), pl.col("_n").cast(pl.String).str.zfill(5)
    )
    sides = []
    for side, other in (("home", "away"), ("away", "home")):
        word = pl.lit(" vs. ") if side == "home" else pl.lit(" @ ")
        sides.append(
            numbered.select(
                SEASON_ID=pl.concat_str(kind, pl.col("season") - 1),
                TEAM_ABBREVIATION=f"{side}_team",
                GAME_ID=number,
                GAME_DATE=pl.col("date").cast(pl.String),
                MATCHUP=pl.concat_str(
                    f"{side}_team", pl.when("neutral").then(pl.lit(" @ ")).otherwise(word), f"{other}_team"
                ),
                PTS=f"{side}_points",
            )
        )
    return pl.concat(sides).sort("GAME_ID", "MATCHUP")
