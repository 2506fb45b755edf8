"""Asks NBA.com through the package nba_api. Runs in a child process with limits, called by its name.

nba_api knows the endpoints, their parameters and headers, and takes their answers apart; what is ours is the session
that it asks through: time-outs, no redirect, a bound on the size, the status judged. A server that drips its answer is
ended by the child's own deadline. A proxy is used only where nba_api's own NBA_API_PROXY names one.

Needs the extra `nba`. With `nba/static_tables.py` this is the only importer of that package.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from nba_api.stats.endpoints.leaguegamelog import LeagueGameLog
from nba_api.stats.endpoints.scoreboardv3 import ScoreboardV3
from nba_api.stats.library.http import NBAStatsHTTP
from nba_api.stats.library.parameters import PlayerOrTeamAbbreviation, SeasonTypePlayoffs
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from mcp_server.errors import UnavailableError, shown
from mcp_server.nba.game_log import season_games
from mcp_server.nba.nba_com_tables import CSV_HINT, Answer, FoundGames
from mcp_server.nba.slate import TABLES, day_games
from mcp_server.stores.nba_answers import KeptAnswer, KeptAnswers
from mcp_server.stores.parquet import write_parquet

_TRIES: Final = 2
_PAUSE_S: Final = 1.0  # before the second
_MAX_ANSWER_BYTES: Final = 16 * 1024**2  # a season's log has about 0.7 MB
_PART_BYTES: Final = 1 << 16
_RUNNING_SEASON_TTL: Final = timedelta(hours=1)
_SLATE_TTL: Final = timedelta(minutes=5)
_SEASON_IS_OVER: Final = (8, 1)  # month and day after which a season's answer is kept for good
_SEASON_TYPES: Final = {
    "regular": SeasonTypePlayoffs.regular,
    "playoffs": SeasonTypePlayoffs.playoffs,
    "play_in": SeasonTypePlayoffs.playin,
}
_REFUSED: Final = "NBA.com does not answer data centres: try from another network, or name a proxy in NBA_API_PROXY."
REFUSED_HINT: Final = f"{_REFUSED} {CSV_HINT}"


class _PassingError(UnavailableError):
    """A failure that a second try may mend."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Where NBA.com is and how long to wait for it: for a connection, for the next bytes."""

    base_url: str
    connect_timeout_s: float
    read_timeout_s: float

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).netloc


# Called in the child -------------------------------------------------------------------------------------------


def bring_season(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Write a season's games to `output`: `season` (the year it ends in), `kinds` of it, and `_Desk`'s arguments.

    Raises:
        UnavailableError: NBA.com does not answer, or not with the log.
    """
    desk = _Desk.of(arguments)
    season = int(arguments["season"])
    kept = {kind: desk.season_log(season, kind) for kind in arguments["kinds"]}
    found = season_games(
        {kind: each.answer for kind, each in kept.items()},
        season,
        {kind: each.fetched_at.date() for kind, each in kept.items()},
        playoffs=["playoffs"],
    )
    return _written(found, arguments["output"], kept)


def bring_day(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Write the games of the day `day` to `output`.

    Raises:
        UnavailableError: NBA.com does not answer, or not with the scoreboard.
    """
    day = date.fromisoformat(arguments["day"])
    kept = _Desk.of(arguments).scoreboard(day)
    return _written(day_games(kept.answer, day), arguments["output"], {"scoreboard": kept})


def _written(found: FoundGames, output: str, kept: Mapping[str, KeptAnswer]) -> dict[str, Any]:
    write_parquet(found.games, Path(output))
    return {
        "games": found.games.height,
        "notes": found.notes,
        "trouble": [list(trouble) for trouble in found.trouble],
        "fetched_at": {kind: each.fetched_at.isoformat() for kind, each in kept.items()},
    }


@dataclass(frozen=True, slots=True)
class _Desk:
    """Gives answers, kept ones where they are fresh enough."""

    connection: Connection
    kept: KeptAnswers
    now: datetime
    refresh: bool

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "_Desk":
        return cls(
            connection=Connection(**arguments["connection"]),
            kept=KeptAnswers(Path(arguments["cache"]), Path(arguments["incoming"])),
            now=datetime.fromisoformat(arguments["now"]).astimezone(UTC),
            refresh=bool(arguments["refresh"]),
        )

    def season_log(self, season: int, kind: str) -> KeptAnswer:
        name = f"{season - 1}-{season % 100:02}"

        def ask() -> Answer:
            endpoint = LeagueGameLog(
                season=name,
                season_type_all_star=_SEASON_TYPES[kind],
                player_or_team_abbreviation=PlayerOrTeamAbbreviation.team,
                get_request=False,
            )
            answer = asked(endpoint, self.connection, {"LeagueGameLog": "league_game_log"})
            season_games({kind: answer}, season, {kind: self.now.date()}, playoffs=[])  # rubbish is never kept
            return answer

        def is_settled(kept: KeptAnswer) -> bool:
            over = datetime(season, *_SEASON_IS_OVER, tzinfo=UTC)
            return kept.fetched_at >= over and bool(kept.answer.tables["LeagueGameLog"]["data"])

        return self._answer(f"games-{name}-{kind}", _RUNNING_SEASON_TTL, ask, is_settled)

    def scoreboard(self, day: date) -> KeptAnswer:
        def ask() -> Answer:
            endpoint = ScoreboardV3(game_date=day.isoformat(), get_request=False)
            names = ("scoreboard_info", "game_header", "line_score")
            answer = asked(endpoint, self.connection, dict(zip(TABLES, names, strict=True)))
            day_games(answer, day)
            return answer

        return self._answer(f"schedule-{day.isoformat()}", _SLATE_TTL, ask, lambda _: False)

    def _answer(
        self, key: str, life: timedelta, ask: Callable[[], Answer], is_settled: Callable[[KeptAnswer], bool]
    ) -> KeptAnswer:
        known = None if self.refresh else self.kept.get(key)
        if known is not None:
            age = self.now - known.fetched_at  # below zero after the clock was set back: nothing is fresh then
            if timedelta(0) <= age < life or (age >= timedelta(0) and is_settled(known)):
                return known
        fetched = KeptAnswer(ask(), self.now)
        self.kept.put(key, fetched)
        return fetched


# Asking --------------------------------------------------------------------------------------------------------


def asked(endpoint: Any, connection: Connection, tables: Mapping[str, str]) -> Answer:
    """Ask NBA.com what `endpoint`, an endpoint object of nba_api, is about.

    Args:
        tables: names of the tables wanted, each with the endpoint's attribute that holds it afterwards.

    Raises:
        UnavailableError: it cannot be reached, refuses, or answers with something else.
    """
    retrying = Retrying(
        stop=stop_after_attempt(_TRIES),
        wait=wait_fixed(_PAUSE_S),
        retry=retry_if_exception_type(_PassingError),
        reraise=True,
    )
    response = retrying(_send, endpoint, connection)
    start = shown(response.get_response(), 60)
    try:
        if not isinstance(response.get_dict(), dict):
            raise _not_json(connection, start)
    except (ValueError, RecursionError):
        raise _not_json(connection, start) from None
    endpoint.nba_response = response
    try:
        endpoint.load_response()
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):  # how nba_api says that it is another form
        raise UnavailableError(
            f"{connection.host} answers with JSON that is not {endpoint.endpoint}; it begins with {start}.",
            hint=f"Try again; if it stays, NBA.com has changed: a newer nba_api may know it. {CSV_HINT}",
        ) from None
    return Answer({name: getattr(endpoint, attribute).get_dict() for name, attribute in tables.items()})


def _send(endpoint: Any, connection: Connection) -> Any:
    headers = {
        **NBAStatsHTTP.headers,
        "Accept-Encoding": "gzip, deflate",
    }  # what requests undoes without a further package
    return _Client(connection).send_api_request(
        endpoint=endpoint.endpoint,
        parameters=endpoint.parameters,
        headers=headers,
        timeout=(connection.connect_timeout_s, connection.read_timeout_s),
    )


def _not_json(connection: Connection, start: str) -> UnavailableError:
    if start.startswith("'{"):
        return UnavailableError(
            f"{connection.host} answers with JSON that is cut off or damaged; it begins with {start}.",
            hint=f"Try again. {CSV_HINT}",
        )
    return UnavailableError(
        f"{connection.host} answers with something that is no JSON object; it begins with {start}.", hint=REFUSED_HINT
    )


@dataclass(frozen=True, slots=True)
class _Received:
    """What nba_api takes from a session's answer."""

    url: str
    status_code: int
    text: str


class _Client(NBAStatsHTTP):  # type: ignore[misc]  # the package has no types
    """nba_api's client, with the address and the session given."""

    def __init__(self, connection: Connection) -> None:
        self.base_url = f"{connection.base_url.rstrip('/')}/stats/{{endpoint}}"
        self._connection = connection

    def get_session(self) -> "_Session":
        return _Session(self._connection)


class _Session:
    """What nba_api needs of a session: one bounded GET, refusals explained."""

    def __init__(self, connection: Connection) -> None:
        self._host = connection.host
        self._silence_s = connection.read_timeout_s

    def get(
        self,
        *,
        url: str,
        params: Sequence[tuple[str, Any]],
        headers: Mapping[str, str],
        proxies: Mapping[str, str] | None,
        timeout: tuple[float, float],
    ) -> _Received:
        with requests.Session() as session:
            session.trust_env = False  # no proxy and no password of the environment's
            try:
                with session.get(
                    url, params=list(params), headers=dict(headers), proxies=dict(proxies or {}), timeout=timeout,
                    stream=True, allow_redirects=False,
                ) as answer:  # fmt: skip
                    self._check_status(answer)
                    body = self._body(answer)
                    return _Received(str(answer.url), int(answer.status_code), body.decode("utf-8", "replace"))
            except requests.RequestException as refusal:
                raise self._explained(refusal) from None  # its words may hold a proxy's password

    def _body(self, answer: Any) -> bytes:
        body = bytearray()
        for part in answer.iter_content(_PART_BYTES):
            body += part
            if len(body) > _MAX_ANSWER_BYTES:
                raise UnavailableError(
                    f"{self._host} sends more than {_MAX_ANSWER_BYTES // 1024**2} MiB, which is no answer to this.",
                    hint=CSV_HINT,
                )
        return bytes(body)

    def _check_status(self, answer: Any) -> None:
        status = int(answer.status_code)
        if status == 200:
            return
        if status == 429:
            wait = str(answer.headers.get("Retry-After") or "").strip()
            told = f", and asks to wait {wait} s" if wait.isdecimal() and len(wait) < 6 else ""
            raise UnavailableError(
                f"{self._host} answers with status 429: too many requests{told}.", hint=f"Try again later. {CSV_HINT}"
            )
        message = f"{self._host} answers with status {status}."
        if status in (401, 403, 451):
            raise UnavailableError(f"{message[:-1]}: it refuses us.", hint=REFUSED_HINT)
        if status >= 500:
            raise _PassingError(message, hint=f"Try again later. {CSV_HINT}")
        raise UnavailableError(message, hint=f"A newer nba_api may know where this is now. {CSV_HINT}")

    def _explained(self, refusal: requests.RequestException) -> UnavailableError:
        if isinstance(refusal, requests.exceptions.SSLError):
            return UnavailableError(f"{self._host} shows a certificate that is not trusted for it.", hint=REFUSED_HINT)
        if isinstance(refusal, requests.exceptions.ConnectTimeout):
            return UnavailableError(f"{self._host} does not accept a connection in time.", hint=REFUSED_HINT)
        silent = isinstance(refusal, requests.exceptions.Timeout) or "Read timed out" in str(refusal)
        if silent:
            return UnavailableError(f"{self._host} was silent for {self._silence_s:g} s.", hint=REFUSED_HINT)
        if isinstance(refusal, requests.exceptions.ContentDecodingError):
            return UnavailableError(f"{self._host} sends a compressed answer that is damaged.", hint=CSV_HINT)
        if isinstance(refusal, requests.exceptions.ChunkedEncodingError):
            return _PassingError(f"{self._host} broke off in the middle of its answer.", hint=f"Try again. {CSV_HINT}")
        return _PassingError(f"{self._host} cannot be reached.", hint=f"Check the network. {REFUSED_HINT}")
