"""What NBA.com's answers have in common: named tables, kept in a form of ours, with a judgement on every value.

An answer is data of somebody else's making. Whatever is not as it should be is refused by the name of its table and
column; nothing is guessed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple, NoReturn

import polars as pl

from mcp_server.errors import UnavailableError, shown

CSV_HINT = "A CSV file with the columns of nba://sample serves as well."
MAX_POINTS = 400  # one team's, in one game
_TEAM = re.compile(r"[A-Z]{2,4}")
_GAME_ID = re.compile(r"00(\d)(\d\d)\d{5}")

PLAYOFFS = "4"
UNRATED = {"1": "pre-season", "3": "all-star weekend"}
"""The third digit of NBA.com's game_id is the kind of game: 1 pre-season, 2 regular season, 3 all-star, 4 play-offs,
5 play-in, 6 the final of the NBA Cup, which counts for no table of the season."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Tables of one answer: each has `headers` and `data`, a list of rows, as nba_api gives them."""

    tables: Mapping[str, Mapping[str, Any]]

    def rows(self, name: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the values of `columns` from each row of a table.

        Raises:
            UnavailableError: the table is not there, lacks a column, or is no table.
        """
        table = self.tables.get(name)
        if not isinstance(table, Mapping):
            unlike(f"has no table {name}")
        headers, data = table.get("headers"), table.get("data")
        if not isinstance(headers, list | tuple) or not isinstance(data, list | tuple):
            unlike(f"has a table {name} that is none")
        missing = [column for column in columns if column not in headers]
        if missing:
            unlike(f"lacks {', '.join(missing)} in table {name}")
        places = [headers.index(column) for column in columns]
        for number, row in enumerate(data, 1):
            if not isinstance(row, list | tuple) or len(row) != len(headers):
                unlike(f"has a row {number} in table {name} that does not fit its columns")
            yield tuple(row[place] for place in places)


class Trouble(NamedTuple):
    """Something in an answer that a caller is to see. `code` is for programs, `message` for people."""

    code: str
    message: str


@dataclass(slots=True)
class FoundGames:
    """Games of our layout, with what was found on the way.

    Attributes:
        notes: figures, for the lineage.
        trouble: for the caller to see.
    """

    games: pl.DataFrame
    notes: list[str] = field(default_factory=list)
    trouble: list[Trouble] = field(default_factory=list)


def unlike(what: str) -> NoReturn:
    """Refuse an answer that is not what the endpoint is known to give."""
    raise UnavailableError(
        f"NBA.com's answer {what}.",
        hint=f"Try again; if it stays, NBA.com has changed: a newer nba_api may know it. {CSV_HINT}",
    )


def text(value: object, column: str) -> str:
    """Return `value` if it is text that is not empty."""
    if isinstance(value, str) and value.strip():
        return value.strip()
    unlike(f"holds {shown(value)} as {column}, which is not text")


def team_code(value: object, column: str) -> str:
    """Return a team's code."""
    code = text(value, column).upper()
    return code if _TEAM.fullmatch(code) else unlike(f"holds {shown(code)} as {column}, which is no team's code")


def game_id(value: object, column: str) -> str:
    """Return NBA.com's number of a game: ten digits, kept as text."""
    code = text(value, column)
    return code if _GAME_ID.fullmatch(code) else unlike(f"holds {shown(code)} as {column}, which is no game's number")


def day(value: object, column: str) -> date:
    """Return a date; a time after it is left out."""
    written = text(value, column)
    try:
        return date.fromisoformat(written[:10])
    except ValueError:
        unlike(f"holds {shown(written)} as {column}, which is no date")


def points(value: object, column: str) -> int | None:
    """Return a score: a whole number from 0 to 400, or None where there is none yet."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_POINTS:
        whole = int(value)
        if whole == value:
            return whole
    unlike(f"holds {shown(value)} as {column}, which is no score")


def kind_of_game(number: str) -> str:
    """Return the digit of a game's number that tells its kind (see `UNRATED`)."""
    return number[2]


def season_of(number: str, played: date) -> int:
    """Return the year in which the season of a game ends, by the two digits of its number: 24 is 2024-25, so 2025."""
    start = int(number[3:5])
    century = played.year - played.year % 100
    return min((century + start + shift for shift in (-100, 0, 100)), key=lambda year: abs(year - played.year)) + 1


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return some names of many in words: `a, b, c and 2 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
