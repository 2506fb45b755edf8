"""The sources `nba://…` as an import meets them: a child asks, a deadline holds, what is missing is told."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mcp_server.errors import (
    CancelledError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from mcp_server.nba.layouts import CANONICAL
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.progress import NoProgress
from mcp_server.services.nba_sources import NbaSources
from mcp_server.settings import LimitSettings, NbaSettings
from mcp_server.stores.sources.reader import Brought
from tests.nba.nba_com_server import (
    NbaComServer,
    game_rows,
    log_document,
    run_nba_com,
    scoreboard_document,
    scoreboard_game,
)

TIMEOUT_S = 2.0


@pytest.fixture
def nba_com() -> Iterator[NbaComServer]:
    with run_nba_com() as server:
        yield server


class Importer:
    """The reader with its folders."""

    def __init__(self, folder: Path, base_url: str, timeout_s: float = 60.0) -> None:
        self.clock = ManualClock(datetime(2026, 11, 23, 23, tzinfo=UTC))
        self.output = folder / "out.parquet"
        self.cache = folder / "cache"
        settings = NbaSettings(base_url=base_url, connect_timeout_s=1, read_timeout_s=30, timeout_s=timeout_s)
        self.sources = NbaSources(settings=settings, limits=LimitSettings(), clock=self.clock, cache=self.cache)

    def bring(self, source: str, progress: Any = None, **options: Any) -> Brought:
        return self.sources.bring(source, None, options, self.output, progress or NoProgress())


@pytest.fixture
def importer(tmp_path: Path, nba_com: NbaComServer) -> Importer:
    return Importer(tmp_path, nba_com.base_url)


def test_a_season_is_brought_in_and_says_from_when_it_is(importer: Importer, nba_com: NbaComServer) -> None:
    nba_com.serve(log_document(game_rows("0022400061", "2024-10-22", "BOS", "NYK", 132, 109)))
    brought = importer.bring("NBA://games/2024-25/", season_type="regular")
    assert pl.read_parquet(importer.output).schema == CANONICAL
    assert brought.source == "nba://games/2024-25"
    assert brought.options == {"season_type": "regular"}
    assert brought.notes[0].startswith("NBA.com's answer is of 2026-11-23 23:00 UTC")
    assert [path.name for path in importer.cache.iterdir()] == ["games-2024-25-regular.json"]


def test_todays_slate_is_that_of_new_york(importer: Importer, nba_com: NbaComServer) -> None:
    importer.clock.set(datetime(2026, 11, 24, 3, tzinfo=UTC))
    nba_com.serve(scoreboard_document("2026-11-23", scoreboard_game("0022600212", "LAL", "BOS", 1)))
    assert importer.bring("nba://schedule/today").source == "nba://schedule/2026-11-23"
    assert pl.read_parquet(importer.output)["away_points"].to_list() == [None]


@pytest.mark.parametrize("head", [True, False])
def test_the_deadline_holds_against_a_host_that_drips(tmp_path: Path, nba_com: NbaComServer, head: bool) -> None:
    importer = Importer(tmp_path, nba_com.base_url, TIMEOUT_S)
    nba_com.drip(head=head)
    start_s = time.monotonic()
    with pytest.raises(UnavailableError, match="did not answer in full within 2 s"):
        importer.bring("nba://games/2024-25")
    assert TIMEOUT_S <= time.monotonic() - start_s < TIMEOUT_S + 5
    assert not importer.output.exists()
    assert not list(importer.cache.iterdir())


def test_a_cancelled_job_waits_for_nobody(importer: Importer, nba_com: NbaComServer) -> None:
    nba_com.hang()

    class Cancelled(NoProgress):
        def cancelled(self) -> bool:
            return bool(nba_com.requests)

    with pytest.raises(CancelledError):
        importer.bring("nba://schedule/2026-11-23", Cancelled())


def test_a_season_without_games_is_not_found(importer: Importer, nba_com: NbaComServer) -> None:
    nba_com.serve(log_document([]))
    with pytest.raises(NotFoundError) as refusal:
        importer.bring("nba://games/2026-27")
    assert "nba://games/2025-26" in refusal.value.hint


@pytest.mark.parametrize("source", ["nba://teams", "nba://players", "nba://games/2024-25", "nba://schedule/today"])
def test_without_the_package_the_extra_is_named(
    importer: Importer, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nba_api", None)  # what an import finds where it is not installed
    with pytest.raises(FailedPreconditionError) as refusal:
        importer.bring(source)
    assert "pip install 'nba-mcp[nba]'" in refusal.value.hint


@pytest.mark.parametrize("source", ["nba://teams", "nba://players"])
def test_teams_and_players_come_without_a_network(importer: Importer, nba_com: NbaComServer, source: str) -> None:
    brought = importer.bring(source)
    assert pl.read_parquet(importer.output).height >= 30
    assert "no network was used" in brought.notes[0]
    assert not nba_com.requests


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("nba://nonsense", {}, "no source"),
        ("nba://games", {}, "no source"),
        ("nba://games/2024", {}, "no season"),
        ("nba://games/2024-26", {}, "no season"),
        ("nba://games/../../etc", {}, "no season"),
        ("nba://games/1945-46", {}, "first is 1946-47"),
        ("nba://games/2027-28", {}, "first is 1946-47"),
        ("nba://schedule/tonight", {}, "no day"),
        ("nba://schedule/2026-13-01", {}, "no day"),
        ("nba://games/2024-25", {"season_type": "summer"}, "season_type is one of all, regular, playoffs"),
        ("nba://games/2024-25", {"season_type": 3}, "season_type is text"),
        ("nba://games/2024-25", {"seasons": 3}, "no option"),
        ("nba://schedule/today", {"refresh": "yes"}, "true or false"),
        ("nba://teams", {"seed": 1}, "no option"),
        ("nba://sample", {"seasons": 0}, "seasons must be"),
    ],
)
def test_what_is_written_wrong_is_refused_before_anybody_is_asked(
    importer: Importer, nba_com: NbaComServer, source: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        importer.bring(source, **options)
    assert not nba_com.requests


def test_a_source_has_no_format(importer: Importer) -> None:
    with pytest.raises(InvalidArgumentError, match="no format"):
        importer.sources.bring("nba://sample", "csv", {}, importer.output, NoProgress())


def test_what_is_listed_is_of_today(importer: Importer) -> None:
    listed = {each.source: each.kind for each in importer.sources.listed()}
    assert listed["nba://games/2026-27"] == listed["nba://schedule/2026-11-23"] == "nba.com"
    assert {"nba://sample", "nba://teams", "nba://players"} < set(listed)
