"""Codes of both sources lead to one franchise."""

import polars as pl
from nba_api.stats.static import teams

from mcp_server.nba.franchises import RENAMED, SPELLINGS, franchise
from mcp_server.nba.schedule import TEAMS


def _franchises(codes: list[str]) -> list[str]:
    return pl.DataFrame({"code": codes}).select(franchise(pl.col("code"))).to_series().to_list()


def test_nba_coms_codes_of_today_are_the_thirty_franchises() -> None:
    codes = [team["abbreviation"] for team in teams.get_teams()]
    assert sorted(_franchises(codes)) == sorted(TEAMS)


def test_a_franchise_is_its_own() -> None:
    lasting = sorted({*RENAMED.values(), *SPELLINGS.values()})
    assert _franchises(lasting) == lasting


def test_moved_teams_keep_their_franchise() -> None:
    assert _franchises(["NJN", "BKN", "CHA", "CHO", "NOH", "NOP", "SEA", "UTH", "PHL"]) == [
        "BRK", "BRK", "CHO", "CHO", "NOP", "NOP", "OKC", "UTA", "PHI",
    ]  # fmt: skip
