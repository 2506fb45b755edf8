"""Seasons that never happened, for trying things out: made from a seed, with the NBA's own statistics.

Every parameter was estimated on FiveThirtyEight's nbaallelo.csv, regular seasons 2001 to 2015 (18,045 games), unless
it says otherwise:

- The season level of a team correlates 0.66 with the season before and has standard deviation 4.8 points a game
  (observed season margins: 0.60 and 4.5; without their sampling error 0.66 and 4.1). 4.8 is a calibration: it gives
  Elo its accuracy of 0.67, and margins the wider spread of the seasons after the file.
- Around it a team's strength moves with standard deviation 1.8 and halves its distance in 30 days (injuries, trades,
  form): an assumption, small beside what a single game varies.
- One game's margin has standard deviation 11.5 around the teams' strengths (residual of team effects: 11.5).
- A home team has 3.2 points (mean margin 3.1 with 17 % more back-to-backs for visitors; with 3.2 home wins are 0.597).
- The second game in two days costs 1.7 points (regression on Elo difference: home −1.35, away −2.02).
- Both teams' points together are 200 on average, the league's level moving by 3.0 from season to season (187 to 202
  over the 15 seasons), teams by 7.1 and games by 17.4 points.
- Two games a season are played at neutral sites (the file has 19 from 1990 on, two in season 2015).

What comes out over twenty seasons, beside the file's 15 (mean of ten seeds, ± the deviation from seed to seed):

- home wins 0.597 ± 0.003 (file: 0.599);
- Elo accuracy 0.671 ± 0.004 (file: 0.668, from 0.64 to 0.69 in one season);
- margins' standard deviation 13.7 ± 0.06 points (file: 12.9 over all, 13.5 in its last season and growing);
- shares of games won of one team in one season: standard deviation 0.151 (file: 0.151);
- back-to-backs: 20 % of the home teams' games, 30 % of the visitors' (file: 16 % and 34 %).

There are no play-offs and no level games.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_server.errors import InvalidArgumentError
from mcp_server.nba.layouts import CANONICAL
from mcp_server.nba.schedule import N_TEAMS, TEAMS, Fixture, season_fixtures

MAX_SEASONS = 100
FIRST_SEASON = 2006

LEVEL_SD = 4.8  # points a game
LEVEL_CORRELATION = 0.66  # from season to season
FORM_SD = 1.8  # points a game
FORM_HALF_LIFE_DAYS = 30.0
HOME_MARGIN = 3.2  # points
BACK_TO_BACK_COST = 1.7  # points
MARGIN_SD = 11.5  # points
TOTAL_MEAN = 200.0  # both teams' points
TOTAL_SEASON_SD = 3.0
TOTAL_TEAM_SD = 7.1
TOTAL_GAME_SD = 17.4
OVERTIME_TOTAL = 20.0
NEUTRAL_GAMES = 2  # a season

Floats = NDArray[np.float64]


def simulate_seasons(seasons: int, seed: int, first_season: int = FIRST_SEASON) -> pl.DataFrame:
    """Return simulated regular seasons in the canonical game table, 1,230 games each, in order of play.

    The same arguments give the same table, and more seasons begin with the same ones.

    Args:
        seasons: how many, 1 to 100.
        seed: not negative.
        first_season: year in which the first of them ends.

    Raises:
        InvalidArgumentError: an argument is out of its range.
    """
    if not 1 <= seasons <= MAX_SEASONS:
        raise InvalidArgumentError(f"seasons must be 1 to {MAX_SEASONS}, not {seasons}.", hint="Ask for 10 seasons.")
    if seed < 0:
        raise InvalidArgumentError(f"seed must not be negative, not {seed}.", hint="Use 0 or a positive whole number.")
    if not 1947 <= first_season <= 2200:
        raise InvalidArgumentError(f"first_season must be 1947 to 2200, not {first_season}.", hint="Use 2006.")
    rng = np.random.default_rng(seed)
    level = rng.normal(0, LEVEL_SD, N_TEAMS)
    pace = rng.normal(0, TOTAL_TEAM_SD, N_TEAMS)
    scoring = TOTAL_MEAN
    tables = []
    for season in range(first_season, first_season + seasons):
        # The spread of a league is steadier than 30 independent draws: every season has just this one.
        level = (level - level.mean()) * (LEVEL_SD / level.std())
        tables.append(_season(season, level, scoring + pace, rng))
        level = _moved(level, LEVEL_SD, rng)
        pace = _moved(pace, TOTAL_TEAM_SD, rng)
        scoring = TOTAL_MEAN + 0.9 * (scoring - TOTAL_MEAN) + rng.normal(0, TOTAL_SEASON_SD)
    return pl.concat(tables)


def _moved(value: Floats, deviation: float, rng: np.random.Generator) -> Floats:
    """Return next season's values: correlated with these, of the same deviation."""
    noise = rng.normal(0, deviation * np.sqrt(1 - LEVEL_CORRELATION**2), value.shape)
    return np.asarray(LEVEL_CORRELATION * value + noise, dtype=np.float64)


def _season(season: int, level: Floats, totals: Floats, rng: np.random.Generator) -> pl.DataFrame:
    """Play one season: `level` and `totals` are each team's strength and usual points of both teams."""
    fixtures = season_fixtures(season, rng)
    home = np.array([fixture.home for fixture in fixtures])
    away = np.array([fixture.away for fixture in fixtures])
    day = np.array([fixture.day.toordinal() for fixture in fixtures])
    neutral = np.zeros(len(fixtures), dtype=bool)
    neutral[rng.choice(len(fixtures), NEUTRAL_GAMES, replace=False)] = True
    form = _form(int(day[-1] - day[0]) + 1, rng)
    strength = level[None, :] + form
    tired_home, tired_away = _second_nights(fixtures)
    expected = (
        strength[day - day[0], home]
        - strength[day - day[0], away]
        + np.where(neutral, 0.0, HOME_MARGIN)
        + BACK_TO_BACK_COST * (tired_away.astype(float) - tired_home)
    )
    home_points, away_points = _scores(expected, (totals[home] + totals[away]) / 2, rng)
    dates = pl.Series([fixture.day for fixture in fixtures], dtype=pl.Date)
    names = np.array(TEAMS)
    return pl.DataFrame(
        {
            "game_id": [f"{fixture.day:%Y%m%d}0{TEAMS[fixture.home]}" for fixture in fixtures],
            "date": dates,
            "season": np.full(len(fixtures), season),
            "is_playoffs": np.zeros(len(fixtures), dtype=bool),
            "neutral": neutral,
            "home_team": names[home],
            "away_team": names[away],
            "home_points": home_points,
            "away_points": away_points,
        },
        schema=CANONICAL,
    )


def _form(n_days: int, rng: np.random.Generator) -> Floats:
    """Return each team's distance from its season level, day by day: shape (days, teams), points a game."""
    keep = 0.5 ** (1 / FORM_HALF_LIFE_DAYS)
    steps = rng.normal(0, FORM_SD * np.sqrt(1 - keep**2), (n_days, N_TEAMS))
    form = np.empty((n_days, N_TEAMS))
    form[0] = rng.normal(0, FORM_SD, N_TEAMS)
    for i in range(1, n_days):
        form[i] = keep * form[i - 1] + steps[i]
    return form


def _second_nights(fixtures: list[Fixture]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell for each game whether the home team and the visitor played the day before."""
    last: dict[int, int] = {}
    tired = np.zeros((2, len(fixtures)), dtype=bool)
    for i, fixture in enumerate(fixtures):
        day = fixture.day.toordinal()
        for side, team in enumerate((fixture.home, fixture.away)):
            tired[side, i] = last.get(team) == day - 1
            last[team] = day
    return tired[0], tired[1]


def _scores(expected: Floats, totals: Floats, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return both teams' points; a level game goes to overtime and ends with a winner."""
    margin = rng.normal(expected, MARGIN_SD)
    total = rng.normal(totals, TOTAL_GAME_SD)
    whole = np.rint(margin).astype(np.int64)
    level = whole == 0
    overtime = (1 + rng.poisson(4.0, len(margin))) * np.where(margin > 0, 1, -1)
    whole = np.where(level, overtime, whole)
    total = np.maximum(total + np.where(level, OVERTIME_TOTAL, 0.0), 120 + np.abs(whole))
    away = np.rint((total - whole) / 2).astype(np.int64)
    return away + whole, away
