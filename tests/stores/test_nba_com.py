"""What NBA.com's server may do, right and wrong, on a real connection."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from nba_api.stats.endpoints.leaguegamelog import LeagueGameLog

from mcp_server.errors import LifecycleError, UnavailableError
from mcp_server.nba.layouts import CANONICAL
from mcp_server.stores.nba_com import bring_day, bring_season
from tests.nba.nba_com_server import (
    NbaComServer,
    game_rows,
    log_document,
    run_nba_com,
    scoreboard_document,
    scoreboard_game,
    send,
)
from tests.tls_server import run_tls_server

REGULAR = log_document(game_rows("0022400061", "2024-10-22", "BOS", "NYK", 132, 109))
PLAYOFFS = log_document(game_rows("0042400407", "2025-06-22", "OKC", "IND", 103, 91, SEASON_ID="42024"))


@pytest.fixture
def nba_com() -> Iterator[NbaComServer]:
    with run_nba_com() as server:
        server.serve_by("SeasonType", {"Regular Season": REGULAR, "Playoffs": PLAYOFFS})
        yield server


class Child:
    """Calls what a child is asked to do, here in the test's own process."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.output = folder / "out.parquet"
        self.cache = folder / "cache"
        self._incoming = folder / "incoming"
        self._incoming.mkdir()
        self.base_url = base_url
        self.patience_s = 20.0

    def arguments(self, now: str = "2025-07-01T12:00:00+00:00", **more: Any) -> dict[str, Any]:
        connection = {"base_url": self.base_url, "connect_timeout_s": 20.0, "read_timeout_s": self.patience_s}
        folders = {"cache": str(self.cache), "incoming": str(self._incoming), "output": str(self.output)}
        return {"connection": connection, **folders, "now": now, "refresh": False, **more}

    def season(self, *kinds: str, **more: Any) -> dict[str, Any]:
        chosen = list(kinds or ("regular", "playoffs"))
        return bring_season(self.arguments(season=2025, kinds=chosen, **more))

    def refusal(self) -> LifecycleError:
        with pytest.raises(UnavailableError) as refusal:
            self.season("regular")
        assert "CSV" in refusal.value.hint
        assert not self.output.exists()
        assert not list(self.cache.glob("*.json"))
        return refusal.value


@pytest.fixture
def child(tmp_path: Path, nba_com: NbaComServer) -> Child:
    return Child(tmp_path, nba_com.base_url)


def test_a_season_is_asked_for_as_the_package_does_and_becomes_our_layout(child: Child, nba_com: NbaComServer) -> None:
    told = child.season()
    games = pl.read_parquet(child.output)
    assert games.schema == CANONICAL
    assert games.select("home_team", "is_playoffs").rows() == [("BOS", False), ("OKC", True)]
    assert told["games"] == 2
    first, second = nba_com.requests
    expected = LeagueGameLog(season="2024-25", get_request=False).parameters
    assert first == {"path": "/stats/leaguegamelog"} | {k: str(v) for k, v in expected.items() if v != ""}
    assert second["SeasonType"] == "Playoffs"
    assert nba_com.headers[0]["referer"] == "https://www.nba.com/"


def test_the_play_in_is_asked_for_by_name(child: Child, nba_com: NbaComServer) -> None:
    play_in = log_document(game_rows("0052400101", "2025-04-15", "ORL", "ATL", 120, 95, SEASON_ID="52024"))
    nba_com.serve_by("SeasonType", {"PlayIn": play_in})
    child.season("play_in")
    assert pl.read_parquet(child.output).select("home_team", "is_playoffs").rows() == [("ORL", False)]


def test_a_running_season_is_kept_for_an_hour(child: Child, nba_com: NbaComServer) -> None:
    first = child.season(now="2025-03-01T12:00:00+00:00")
    again = child.season(now="2025-03-01T12:59:00+00:00")
    assert (
        again["fetched_at"]
        == first["fetched_at"]
        == dict.fromkeys(("regular", "playoffs"), "2025-03-01T12:00:00+00:00")
    )
    assert len(nba_com.requests) == 2
    assert child.season(now="2025-03-01T13:00:00+00:00")["fetched_at"]["regular"] == "2025-03-01T13:00:00+00:00"
    assert len(nba_com.requests) == 4


def test_a_season_that_was_over_when_asked_for_is_kept_for_good_unless_told_otherwise(
    child: Child, nba_com: NbaComServer
) -> None:
    child.season(now="2025-08-02T00:00:00+00:00")
    assert child.season(now="2030-01-01T00:00:00+00:00")["fetched_at"]["playoffs"] == "2025-08-02T00:00:00+00:00"
    assert len(nba_com.requests) == 2
    child.season(now="2030-01-01T00:00:00+00:00", refresh=True)
    assert len(nba_com.requests) == 4


def test_an_empty_answer_is_never_kept_for_good(child: Child, nba_com: NbaComServer) -> None:
    nba_com.serve(log_document([]))
    child.season("regular", now="2025-08-02T00:00:00+00:00")
    child.season("regular", now="2025-08-03T00:00:00+00:00")
    assert len(nba_com.requests) == 2


def test_after_the_clock_was_set_back_nothing_kept_is_fresh(child: Child, nba_com: NbaComServer) -> None:
    child.season("regular", now="2026-01-01T00:00:00+00:00")
    child.season("regular", now="2025-12-01T00:00:00+00:00")
    assert len(nba_com.requests) == 2


@pytest.mark.parametrize("damage", [b"", b"{}\n{}", b"rubbish", b'{"sha256": "0", "fetched_at": "x"}\n{}'])
def test_a_damaged_file_counts_as_not_there(child: Child, nba_com: NbaComServer, damage: bytes) -> None:
    child.season("regular")
    (kept,) = child.cache.glob("*.json")
    kept.write_bytes(damage)
    child.season("regular")
    assert len(nba_com.requests) == 2
    assert kept.read_bytes() != damage


def test_the_slate_of_a_day_is_kept_for_minutes(child: Child, nba_com: NbaComServer) -> None:
    nba_com.serve(scoreboard_document("2026-11-23", scoreboard_game("0022600212", "LAL", "BOS", 1)))
    for minute, asked in (("00", 1), ("04", 1), ("05", 2)):
        bring_day(child.arguments(day="2026-11-23", now=f"2026-11-23T12:{minute}:00+00:00"))
        assert len(nba_com.requests) == asked
    assert nba_com.requests[0] == {"path": "/stats/scoreboardv3", "GameDate": "2026-11-23", "LeagueID": "00"}
    assert pl.read_parquet(child.output).select("home_team", "home_points").rows() == [("LAL", None)]


@pytest.mark.parametrize(
    ("status", "message", "tries"),
    [(403, "403: it refuses us", 1), (429, "too many requests", 1), (302, "status 302", 1), (503, "status 503", 2)],
)
def test_a_status_other_than_200_is_told_and_only_a_fault_is_tried_twice(
    child: Child, nba_com: NbaComServer, status: int, message: str, tries: int
) -> None:
    nba_com.answer = lambda handler: send(handler, b"<html>", status, Location="http://127.0.0.1:1/")
    assert message in child.refusal().message
    assert len(nba_com.requests) == tries


def test_too_many_requests_tells_how_long_to_wait(child: Child, nba_com: NbaComServer) -> None:
    nba_com.answer = lambda handler: send(handler, b"", 429, Retry_After="120")
    assert "asks to wait 120 s" in child.refusal().message


def test_a_fault_that_passes_is_not_noticed(child: Child, nba_com: NbaComServer) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, json.dumps(REGULAR).encode(), 500 if len(nba_com.requests) == 1 else 200)

    nba_com.answer = answer
    assert child.season("regular")["games"] == 1


CUT_OFF = json.dumps(REGULAR).encode()[:-20]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<!DOCTYPE html><title>Access denied</title>", "no JSON object; it begins with '<!DOCTYPE html>"),
        (b"", "no JSON object"),
        (b"\xff\xfe\x00", "no JSON object"),
        (CUT_OFF, "cut off or damaged"),
        (b"[" * 100_000, "no JSON object"),
        (b"[]", "no JSON object"),
        (b"{}", "not leaguegamelog"),
        (b'{"resultSets": 3}', "not leaguegamelog"),
        (b'{"resultSets": [{"name": "Other", "headers": [], "rowSet": []}]}', "not leaguegamelog"),
        (b'{"resultSets": [{"name": "LeagueGameLog", "headers": ["A"], "rowSet": []}]}', "lacks SEASON_ID"),
        (b'{"resultSets": [{"name": "LeagueGameLog", "headers": 1, "rowSet": 2}]}', "that is none"),
        (b'{"Message":"An error has occurred."}', "no JSON object"),
    ],
)
def test_rubbish_is_told_and_never_kept(child: Child, nba_com: NbaComServer, body: bytes, message: str) -> None:
    nba_com.answer = lambda handler: send(handler, body)
    assert message in child.refusal().message
    assert len(nba_com.requests) == 1


def _places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    children = (
        document.items() if isinstance(document, dict) else enumerate(document) if path[-1:] == ("games",) else ()
    )
    for key, child in children:
        yield from _places(child, (*path, key))


def _with(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = dict(document) if isinstance(document, dict) else list(document)
    changed[path[0]] = _with(document[path[0]], path[1:], value)
    return changed


def test_whatever_stands_where_in_a_scoreboard_it_is_read_or_refused(child: Child, nba_com: NbaComServer) -> None:
    slate = scoreboard_document("2026-11-23", scoreboard_game("0022600212", "LAL", "BOS", 3, (99, 98)))
    places = list(_places(slate))
    assert ("scoreboard", "games", 0, "homeTeam", "teamTricode") in places
    for place in places:
        values: list[Any] = [None, True, [], [1], {}, "x", 1.5]
        for value in values:
            nba_com.serve(_with(slate, place, value))
            with suppress(UnavailableError):
                bring_day(child.arguments(day="2026-11-23", refresh=True))
                assert pl.read_parquet(child.output).schema == CANONICAL


def test_an_answer_without_end_is_cut_at_its_limit(child: Child, nba_com: NbaComServer) -> None:
    nba_com.answer = lambda handler: send(handler, b"[" + b" " * (17 * 1024**2))
    assert "more than 16 MiB" in child.refusal().message


def test_a_compressed_answer_that_is_damaged_is_told(child: Child, nba_com: NbaComServer) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(b"this is no gzip")

    nba_com.answer = answer
    assert "compressed answer that is damaged" in child.refusal().message


def test_a_silent_host_is_told_after_the_time_out_and_not_asked_again(child: Child, nba_com: NbaComServer) -> None:
    nba_com.hang()
    child.patience_s = 0.3
    assert "was silent for 0.3 s" in child.refusal().message
    assert len(nba_com.requests) == 1


def test_an_answer_that_stops_in_the_middle_is_told(child: Child, nba_com: NbaComServer) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"resultSets":')

    nba_com.answer = answer
    assert "broke off" in child.refusal().message
    assert len(nba_com.requests) == 2


def test_a_closed_port_is_told(child: Child) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    child.base_url = f"http://127.0.0.1:{port}"
    assert child.refusal().message == f"127.0.0.1:{port} cannot be reached."


def test_a_certificate_that_nobody_vouches_for_is_told(child: Child, tmp_path: Path) -> None:
    with run_tls_server(tmp_path, "127.0.0.1") as server:
        child.base_url = f"https://127.0.0.1:{server.port}"
        assert "certificate that is not trusted" in child.refusal().message


def test_no_proxy_of_the_environment_is_used_and_the_packages_own_is(
    child: Child, nba_com: NbaComServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:hunter2@127.0.0.1:1")
    child.season("regular")
    assert "proxy-authorization" not in nba_com.headers[0]
    monkeypatch.setenv("NBA_API_PROXY", "http://user:hunter2@127.0.0.1:1")
    with pytest.raises(UnavailableError) as refusal:
        child.season("regular", refresh=True)
    assert "hunter2" not in str(refusal.value.to_document())
