"""NBA.com's log of a season: two rows a game, one for each team, become one game of our layout.

Who plays at home stands in `MATCHUP`: `BOS vs. LAL` in the home team's row, `LAL @ BOS` in the visitor's. A game at a
neutral site is told only where both rows name visitors (or both hosts); its nominal home team is then the first by
alphabet. Where NBA.com names a host abroad, as for games in Paris or Mexico City, the game counts as played at home.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import polars as pl

from mcp_server.nba import nba_com_tables as checked
from mcp_server.nba.layouts import CANONICAL
from mcp_server.nba.nba_com_tables import Answer, FoundGames, Trouble, listed, unlike
from mcp_server.results.wording import counted

TABLE = "LeagueGameLog"
COLUMNS = (
    "SEASON_ID", "TEAM_ABBREVIATION", "GAME_ID", "GAME_DATE", "MATCHUP", "WL", "PTS", "PLUS_MINUS",
)  # fmt: skip
_MATCHUP = re.compile(r"([A-Z]{2,4})\s+(vs\.?|@)\s+([A-Z]{2,4})", re.IGNORECASE)
_STILL_RUNNING = timedelta(days=2)  # no game takes longer: an older one without a winner has its final score


@dataclass(frozen=True, slots=True)
class Side:
    """One row of the log: a game as one of its teams has it."""

    game_id: str
    day: date
    team: str
    other: str
    at_home: bool
    points: int | None
    decided: bool
    margin: int | None
    playoffs: bool


def season_games(
    answers: Mapping[str, Answer], season: int, fetched: Mapping[str, date], playoffs: Iterable[str]
) -> FoundGames:
    """Return the games of a season, in order of play, one row a game.

    Args:
        answers: the log's answer for each kind of season asked for.
        season: the year in which it ends.
        fetched: when each was asked for.
        playoffs: which of the kinds are play-offs.

    Raises:
        UnavailableError: an answer is not what the log is known to give; says where.
    """
    sides = [
        side
        for kind, answer in answers.items()
        for side in _sides(answer, season, fetched[kind], kind in set(playoffs))
    ]
    unique, found = _without_duplicates(sides)
    by_game: dict[str, list[Side]] = defaultdict(list)
    for side in unique:
        by_game[side.game_id].append(side)
    rows, alone, unfit = [], [], []
    for number, played in by_game.items():
        if len(played) > 2 or (len(played) == 2 and played[0].team == played[1].team):
            unfit.append(number)
            continue
        if len(played) == 1:
            alone.append(number)
        rows.append(_game(played, season))
    games = pl.DataFrame(rows, schema=CANONICAL, orient="row").sort("date", "game_id")
    found.games = games
    _tell(found, len(sides), games, alone, unfit)
    return found


def _sides(answer: Answer, season: int, fetched: date, playoffs: bool) -> list[Side]:
    return [_side(row, season, fetched, playoffs) for row in answer.rows(TABLE, COLUMNS)]


def _side(row: Sequence[Any], season: int, fetched: date, playoffs: bool) -> Side:
    season_id, team, number, played, matchup, result, points, margin = row
    code = checked.text(season_id, "SEASON_ID")
    if code[1:] != str(season - 1):
        unlike(f"is about season {code}, not about {season - 1}-{season % 100:02}")
    match = _MATCHUP.fullmatch(checked.text(matchup, "MATCHUP"))
    if match is None:
        unlike(f"holds {matchup!r} as MATCHUP, which is neither 'BOS vs. LAL' nor 'LAL @ BOS'"[:300])
    if result is not None and result not in ("W", "L"):
        unlike(f"holds {str(result)[:20]!r} as WL, which is neither W nor L")
    day = checked.day(played, "GAME_DATE")
    running = result is None and day > fetched - _STILL_RUNNING
    return Side(
        game_id=checked.game_id(number, "GAME_ID"),
        day=day,
        team=checked.team_code(team, "TEAM_ABBREVIATION"),
        other=match[3].upper(),
        at_home=match[2] != "@",
        points=None if running else checked.points(points, "PTS"),
        decided=result is not None,
        margin=_margin(margin),
        playoffs=playoffs,
    )


def _margin(value: object) -> int | None:
    """Return a row's PLUS_MINUS, the margin of the final score, where it is one."""
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    return int(value) if whole and abs(value) <= checked.MAX_POINTS else None  # type: ignore[arg-type, call-overload]


def _without_duplicates(sides: Sequence[Side]) -> tuple[list[Side], FoundGames]:
    """Keep one row for each team of each game: one with a score, else the first; report the others."""
    kept: dict[tuple[str, str], Side] = {}
    repeated = 0
    differing: dict[str, str] = {}
    for side in sides:
        key = (side.game_id, side.team)
        before = kept.setdefault(key, side)
        if before is side:
            continue
        if before == side or side.points is None:
            repeated += 1
        elif before.points is None:
            repeated += 1
            kept[key] = side
        else:
            differing[side.game_id] = f"{side.game_id} ({side.team} {before.points} kept, {side.points} left out)"
    found = FoundGames(pl.DataFrame(schema=CANONICAL))
    if repeated:
        found.notes.append(f"{counted(repeated, 'row')} left out that repeated another")
    if differing:
        words = f"{counted(len(differing), 'game')} told twice with different scores; the first was kept: "
        found.trouble.append(Trouble("contradictory_games", words + listed(list(differing.values())) + "."))
    return list(kept.values()), found


def _game(played: Sequence[Side], season: int) -> tuple[Any, ...]:
    """Return one row of our layout from the one or two rows of a game."""
    first = played[0]
    hosts = [side for side in played if side.at_home]
    if len(played) == 2:
        neutral = len(hosts) != 1
        home = hosts[0] if not neutral else min(played, key=lambda side: side.team)
        away = next(side for side in played if side is not home)
        names, score = (home.team, away.team), (home.points, away.points)
    else:
        neutral = False
        known = first.decided and first.points is not None and first.margin is not None
        others = first.points - first.margin if known else None  # type: ignore[operator]
        names, score = (first.team, first.other), (first.points if others is not None else None, others)
        if not first.at_home:
            names, score = names[::-1], score[::-1]
    if None in score:
        score = (None, None)
    return (first.game_id, first.day, season, first.playoffs, neutral, *names, *score)


def _tell(found: FoundGames, n_rows: int, games: pl.DataFrame, alone: Sequence[str], unfit: Sequence[str]) -> None:
    """Add what there is to say to `found`."""
    found.notes.insert(
        0, f"{counted(n_rows, 'row')} of NBA.com's log, two a game, became {counted(games.height, 'game')}"
    )
    open_games = games["home_points"].null_count()
    neutral = int(games["neutral"].sum())
    if open_games:
        found.notes.append(f"{counted(open_games, 'game')} without a result yet")
    found.notes.append(
        f"{counted(neutral, 'game')} at neutral sites, which the log tells only by naming two visitors or two hosts"
    )
    if alone:
        words = f"{counted(len(alone), 'game')} with one team's row only: {listed(alone)}. The other side comes from "
        words += "MATCHUP, its points from PLUS_MINUS where the game has ended."
        found.trouble.append(Trouble("one_sided_games", words))
    if unfit:
        words = (
            f"{counted(len(unfit), 'game')} left out, as rows of more than two teams have its number: {listed(unfit)}."
        )
        found.trouble.append(Trouble("unfit_games", words))
