"""NBA.com on this machine: a real server that answers as the endpoints do, or misbehaves."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from nba_api.stats.endpoints.leaguegamelog import LeagueGameLog

LOG_HEADERS: list[str] = LeagueGameLog.expected_data["LeagueGameLog"]
STRANGE_JSON: list[Any] = [
    None,
    True,
    -1,
    0,
    10**30,
    1.5,
    float("nan"),
    float("inf"),
    "",
    " ",
    "x",
    "\u202e",
    [],
    [1],
    {},
]
"""Values that JSON can hold anywhere, Python's own NaN and Infinity included."""

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class NbaComServer:
    """A running server. `answer` is what it does with a request; `requests` are the parameters it was asked with."""

    base_url: str
    answer: Answer
    requests: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def serve(self, document: object) -> None:
        """Answer everything with `document` as JSON."""
        self.answer = lambda handler: send(handler, json.dumps(document).encode())

    def serve_by(self, parameter: str, documents: dict[str, object]) -> None:
        """Answer by the value of one parameter."""
        self.answer = lambda handler: send(handler, json.dumps(documents[_parameters(handler)[parameter]]).encode())

    def drip(self, *, head: bool) -> None:
        """Send one byte every 0.05 s for ever: of the headers, or of the body."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            if not head:
                handler.send_response(200)
                handler.end_headers()
            else:
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.stopping.wait(0.05):
                handler.wfile.write(b" ")
                handler.wfile.flush()

        self.answer = answer

    def hang(self) -> None:
        """Accept and say nothing."""
        self.answer = lambda handler: (self.stopping.wait(), None)[1]


def _parameters(handler: BaseHTTPRequestHandler) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(handler.path).query).items()}


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    """Answer with `body`, compressed as NBA.com does."""
    compressed = gzip.compress(body)
    handler.send_response(status)
    for name, value in {"Content-Encoding": "gzip", "Content-Length": str(len(compressed)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(compressed)


@contextmanager
def run_nba_com() -> Iterator[NbaComServer]:
    """Serve on a free port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            running.requests.append({"path": urlsplit(self.path).path, **_parameters(self)})
            running.headers.append({name.lower(): value for name, value in self.headers.items()})
            running.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            return  # a client that goes away is what some tests are about

    server = Server(("127.0.0.1", 0), Handler)
    running = NbaComServer(f"http://127.0.0.1:{server.server_address[1]}", lambda handler: send(handler, b"{}"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def log_row(
    number: str, day: str, team: str, matchup: str, points: object, margin: object, **changes: object
) -> list[object]:
    """Return one row of a season's log, in the form of the endpoint."""
    result = None if margin is None else "W" if isinstance(margin, int) and margin > 0 else "L"
    row = dict.fromkeys(LOG_HEADERS) | {
        "SEASON_ID": "22024", "TEAM_ID": 1610612737 + sum(map(ord, team)), "TEAM_ABBREVIATION": team,
        "TEAM_NAME": team, "GAME_ID": number, "GAME_DATE": day, "MATCHUP": matchup, "WL": result, "MIN": 240,
        "PTS": points, "PLUS_MINUS": margin, "VIDEO_AVAILABLE": 1,
    }  # fmt: skip
    return list((row | changes).values())


def game_rows(
    number: str, day: str, home: str, away: str, home_points: int | None, away_points: int | None, **changes: object
) -> list[list[object]]:
    """Return a game's two rows."""
    margin = None if home_points is None or away_points is None else home_points - away_points
    return [
        log_row(number, day, home, f"{home} vs. {away}", home_points, margin, **changes),
        log_row(number, day, away, f"{away} @ {home}", away_points, None if margin is None else -margin, **changes),
    ]


def log_document(rows: list[list[object]], headers: list[str] | None = None) -> dict[str, object]:
    """Return the endpoint's answer."""
    result = {"name": "LeagueGameLog", "headers": headers or LOG_HEADERS, "rowSet": rows}
    return {"resource": "leaguegamelog", "parameters": {"LeagueID": "00"}, "resultSets": [result]}


def scoreboard_game(
    number: str, home: str | None, away: str | None, status: int, score: tuple[int, int] = (0, 0), **changes: object
) -> dict[str, object]:
    """Return one game of the scoreboard, as much of it as matters."""
    sides = {
        name: {"teamId": 1 if code else 0, "teamTricode": code, "score": points, "wins": 1, "losses": 2}
        for name, code, points in (("homeTeam", home, score[0]), ("awayTeam", away, score[1]))
    }
    words = {1: "7:00 pm ET", 2: "Q2 3:14", 3: "Final"}.get(status, "")
    return {"gameId": number, "gameStatus": status, "gameStatusText": words, "isNeutral": False, **sides, **changes}


def scoreboard_document(day: str, *games: dict[str, object]) -> dict[str, object]:
    """Return the scoreboard's answer."""
    board = {"gameDate": day, "leagueId": "00", "leagueName": "National Basketball Association", "games": list(games)}
    return {"meta": {"version": 1}, "scoreboard": board}
