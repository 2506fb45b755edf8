"""NBA.com's log, two rows a game, becomes one game of our layout; what is odd in it is told."""

from contextlib import suppress
from datetime import date

import polars as pl
import pytest

from mcp_server.errors import UnavailableError
from mcp_server.nba.game_log import COLUMNS, season_games
from mcp_server.nba.layouts import CANONICAL
from mcp_server.nba.nba_com_tables import Answer, FoundGames
from tests.nba.nba_com_server import LOG_HEADERS, STRANGE_JSON, game_rows, log_row

OPENING = game_rows("0022400061", "2024-10-22", "BOS", "NYK", 132, 109)


def _answer(rows: list[list[object]], headers: list[str] | None = None) -> Answer:
    return Answer({"LeagueGameLog": {"headers": headers or LOG_HEADERS, "data": rows}})


def _read(rows: list[list[object]], *, fetched: date = date(2025, 7, 1)) -> FoundGames:
    return season_games({"regular": _answer(rows)}, 2025, {"regular": fetched}, ["playoffs"])


def _codes(found: FoundGames) -> list[str]:
    return [trouble.code for trouble in found.trouble]


def test_two_rows_in_any_order_become_one_game() -> None:
    for rows in (OPENING, OPENING[::-1]):
        found = _read(rows)
        assert found.games.schema == CANONICAL
        assert found.games.rows() == [
            ("0022400061", date(2024, 10, 22), 2025, False, False, "BOS", "NYK", 132, 109),
        ]
        assert not found.trouble
        assert found.notes[0] == "2 rows of NBA.com's log, two a game, became 1 game"


def test_the_play_offs_are_marked_and_follow_in_order_of_play() -> None:
    final = game_rows("0042400407", "2025-06-22T00:00:00", "OKC", "IND", 103, 91, SEASON_ID="42024")
    days = {"playoffs": date(2025, 7, 1), "regular": date(2025, 7, 1)}
    found = season_games({"playoffs": _answer(final), "regular": _answer(OPENING)}, 2025, days, ["playoffs"])
    assert found.games.select("game_id", "is_playoffs").rows() == [("0022400061", False), ("0042400407", True)]


@pytest.mark.parametrize("word", ["@", "vs."])
def test_two_visitors_or_two_hosts_met_at_a_neutral_site(word: str) -> None:
    cup = [
        log_row("0022401229", "2024-12-14", "MIL", f"MIL {word} ATL", 110, 8),
        log_row("0022401229", "2024-12-14", "ATL", f"ATL {word} MIL", 102, -8),
    ]
    found = _read(cup)
    assert found.games.select("neutral", "home_team", "home_points").row(0) == (True, "ATL", 102)
    assert _read(cup[::-1]).games.equals(found.games)


def test_the_other_side_of_a_game_with_one_row_comes_from_its_matchup_and_margin() -> None:
    for row in OPENING:
        found = _read([row])
        assert found.games.select("home_team", "away_team", "home_points", "away_points").row(0) == (
            "BOS",
            "NYK",
            132,
            109,
        )
        assert _codes(found) == ["one_sided_games"]
    without_margin = log_row("0022400061", "2024-10-22", "NYK", "NYK @ BOS", 109, None)
    assert _read([without_margin]).games.select("home_points", "away_points").row(0) == (None, None)


def test_a_running_game_has_no_score_and_an_old_one_keeps_its_own() -> None:
    running = [
        log_row("0022400061", "2024-10-22", "BOS", "BOS vs. NYK", 61, 4, WL=None),
        log_row("0022400061", "2024-10-22", "NYK", "NYK @ BOS", 57, -4, WL=None),
    ]
    found = _read(running, fetched=date(2024, 10, 23))
    assert found.games.select("home_points", "away_points").row(0) == (None, None)
    assert "1 game without a result yet" in found.notes
    assert _read(running, fetched=date(2024, 10, 30)).games["home_points"].to_list() == [61]
    assert _read([*game_rows("0022400061", "2024-10-22", "BOS", "NYK", None, 10)]).games["away_points"].to_list() == [
        None
    ]


def test_rows_told_twice_are_counted_and_a_score_supersedes_none() -> None:
    coming = game_rows("0022400061", "2024-10-22", "BOS", "NYK", None, None)
    found = _read([*coming, *OPENING, *OPENING])
    assert found.games.select("home_points", "away_points").rows() == [(132, 109)]
    assert "4 rows left out that repeated another" in found.notes


def test_a_second_score_is_left_out_and_told_with_an_example() -> None:
    found = _read([*OPENING, log_row("0022400061", "2024-10-22", "NYK", "NYK @ BOS", 110, -22)])
    assert found.games["away_points"].to_list() == [109]
    (trouble,) = found.trouble
    assert trouble.code == "contradictory_games"
    assert "0022400061 (NYK 109 kept, 110 left out)" in trouble.message


def test_a_number_with_rows_of_three_teams_is_left_out_and_told() -> None:
    found = _read([*OPENING, log_row("0022400061", "2024-10-22", "LAL", "LAL @ BOS", 99, -5)])
    assert found.games.is_empty()
    assert _codes(found) == ["unfit_games"]


def test_an_empty_log_is_an_empty_table() -> None:
    assert _read([]).games.schema == pl.DataFrame(schema=CANONICAL).schema


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SEASON_ID": "22023"}, "about season 22023, not about 2024-25"),
        ({"SEASON_ID": None}, "None as SEASON_ID"),
        ({"GAME_ID": 22400061}, "22400061 as GAME_ID"),
        ({"GAME_ID": "22400061"}, "no game's number"),
        ({"GAME_DATE": "OCT 22, 2024"}, "no date"),
        ({"GAME_DATE": 20241022}, "GAME_DATE"),
        ({"MATCHUP": "BOS - NYK"}, "neither 'BOS vs. LAL' nor"),
        ({"WL": "T"}, "neither W nor L"),
        ({"PTS": "132"}, "'132' as PTS"),
        ({"PTS": 132.5}, "no score"),
        ({"PTS": float("nan")}, "no score"),
        ({"PTS": True}, "no score"),
        ({"PTS": -1}, "no score"),
        ({"PTS": 10**30}, "no score"),
        ({"TEAM_ABBREVIATION": "<b>"}, "no team's code"),
        ({"TEAM_ABBREVIATION": ["BOS"]}, "not text"),
    ],
)
def test_a_value_that_the_log_never_has_is_refused_by_its_column(changes: dict[str, object], message: str) -> None:
    row = log_row("0022400061", "2024-10-22", "BOS", "BOS vs. NYK", 132, 23, **changes)
    with pytest.raises(UnavailableError) as refusal:
        _read([row])
    assert message in refusal.value.message
    assert "CSV" in refusal.value.hint


@pytest.mark.parametrize("margin", ["23", float("inf"), float("nan"), True, 10**30, {}])
def test_a_strange_margin_counts_as_none(margin: object) -> None:
    row = log_row("0022400061", "2024-10-22", "BOS", "BOS vs. NYK", 132, 23, PLUS_MINUS=margin)
    assert _read([row]).games["home_points"].to_list() == [None]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer({}), "no table LeagueGameLog"),
        (Answer({"LeagueGameLog": {"headers": "x", "data": []}}), "that is none"),
        (_answer(OPENING, [name for name in LOG_HEADERS if name != "PTS"]), "lacks PTS in table LeagueGameLog"),
        (_answer([OPENING[0][:-1]]), "does not fit"),
        (Answer({"LeagueGameLog": {"headers": LOG_HEADERS, "data": [{}]}}), "does not fit"),
    ],
)
def test_a_table_of_another_form_is_refused(answer: Answer, message: str) -> None:
    with pytest.raises(UnavailableError, match=message):
        season_games({"regular": answer}, 2025, {"regular": date(2025, 7, 1)}, [])


@pytest.mark.parametrize("column", COLUMNS)
def test_whatever_a_cell_holds_it_is_read_or_refused(column: str) -> None:
    for value in STRANGE_JSON:
        row = log_row("0022400061", "2024-10-22", "BOS", "BOS vs. NYK", 132, 23, **{column: value})
        with suppress(UnavailableError):
            assert _read([row, OPENING[1]]).games.schema == CANONICAL
