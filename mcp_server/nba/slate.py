"""NBA.com's scoreboard of one day becomes that day's games in our layout; those to come have no points.

Games of the pre-season and all-star games are left out: they say little about the teams. Left out are also games that
were put off and play-off games whose teams are not known yet.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from typing import Any

import polars as pl

from mcp_server.nba import nba_com_tables as checked
from mcp_server.nba.layouts import CANONICAL
from mcp_server.nba.nba_com_tables import PLAYOFFS, UNRATED, Answer, FoundGames, Trouble, listed, unlike
from mcp_server.results.wording import counted

TABLES = ("ScoreboardInfo", "GameHeader", "LineScore")
_SCHEDULED, _RUNNING, _FINAL = 1, 2, 3
_PUT_OFF = ("PPD", "POSTPONED", "CANCEL")


def day_games(answer: Answer, asked: date) -> FoundGames:
    """Return the games of the day `asked`, in order of their number.

    Raises:
        UnavailableError: the answer is not what the scoreboard is known to give, or is about another day.
    """
    for (told,) in answer.rows("ScoreboardInfo", ["gameDate"]):
        if checked.day(told, "gameDate") != asked:
            unlike(f"is about {told}, not about {asked}"[:200])
    teams = _teams(answer)
    rows, left_out = [], defaultdict(list)
    for number, status, words, neutral in answer.rows(
        "GameHeader", ["gameId", "gameStatus", "gameStatusText", "isNeutral"]
    ):
        game = checked.game_id(number, "gameId")
        if status not in (_SCHEDULED, _RUNNING, _FINAL):
            unlike(f"holds {str(status)[:20]!r} as gameStatus, which is not 1, 2 or 3")
        reason = _left_out(game, str(words or ""), teams.get(game))
        if reason:
            left_out[reason].append(game)
            continue
        sides = teams[game][:2]
        names = [checked.team_code(code, "teamTricode") for code, _ in sides]
        score = [checked.points(value, "score") if status == _FINAL else None for _, value in sides]
        if None in score:
            score = [None, None]
        playoffs = checked.kind_of_game(game) == PLAYOFFS
        rows.append((game, asked, checked.season_of(game, asked), playoffs, neutral is True, *names, *score))
    games = pl.DataFrame(rows, schema=CANONICAL, orient="row")
    found = FoundGames(games.unique("game_id", keep="first", maintain_order=True).sort("game_id"))
    _tell(found, len(rows), asked, left_out)
    return found


def _teams(answer: Answer) -> dict[str, list[tuple[Any, Any]]]:
    """Return code and score of home team and visitor for each game; the home team's row comes first."""
    teams: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
    for number, code, score in answer.rows("LineScore", ["gameId", "teamTricode", "score"]):
        teams[checked.game_id(number, "gameId")].append((code, score))
    return teams


def _left_out(game: str, words: str, teams: Sequence[tuple[Any, Any]] | None) -> str | None:
    """Return why a game is no part of the slate, or None."""
    kind = UNRATED.get(checked.kind_of_game(game))
    if kind:
        return f"belonged to the {kind}"
    if words.strip().upper().startswith(_PUT_OFF):
        return "were put off"
    if teams is None or len(teams) < 2 or not all(code for code, _ in teams[:2]):
        return "had no teams yet"
    return None


def _tell(found: FoundGames, n_rows: int, asked: date, left_out: dict[str, list[str]]) -> None:
    games = found.games
    open_games = games["home_points"].null_count()
    found.notes.append(
        f"NBA.com lists {counted(games.height, 'game')} on {asked}, {open_games} of them without a result yet"
    )
    if n_rows > games.height:
        found.notes.append(f"{counted(n_rows - games.height, 'game')} listed twice; the first row was kept")
    for reason, numbers in left_out.items():
        found.trouble.append(
            Trouble("games_left_out", f"{counted(len(numbers), 'game')} left out that {reason}: {listed(numbers)}.")
        )
