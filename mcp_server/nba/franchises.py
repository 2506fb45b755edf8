"""Which team codes name one franchise, so that ratings survive a move, a new name or another source's spelling."""

import polars as pl

RENAMED = {
    "BUF": "LAC", "SDC": "LAC", "VAN": "MEM", "TRI": "ATL", "MLH": "ATL", "STL": "ATL", "CHA": "CHO",
    "NOJ": "UTA", "ROC": "SAC", "CIN": "SAC", "KCO": "SAC", "KCK": "SAC", "MNL": "LAL", "NJA": "BRK",
    "NYA": "BRK", "NYN": "BRK", "NJN": "BRK", "DNR": "DEN", "DNA": "DEN", "INA": "IND", "CHH": "NOP",
    "NOH": "NOP", "NOK": "NOP", "FTW": "DET", "SDR": "HOU", "SYR": "PHI", "DLC": "SAS", "TEX": "SAS",
    "SAA": "SAS", "SEA": "OKC", "PHW": "GSW", "SFW": "GSW", "CHP": "WAS", "CHZ": "WAS", "BAL": "WAS",
    "CAP": "WAS", "WSB": "WAS",
    # ABA teams that ended with the league or before it
    "PTP": "PTC", "MNP": "PTC", "MNM": "FLO", "MMF": "FLO", "SDA": "SDS", "NOB": "MMS", "MMP": "MMS",
    "MMT": "MMS", "HSM": "SSL", "CAR": "SSL", "OAK": "VIR", "WSA": "VIR", "ANA": "UTS", "LAS": "UTS",
}  # fmt: skip
"""Former code to the code the franchise has, or last had.

Source: `team_id` beside `fran_id` in FiveThirtyEight's nbaallelo.csv (seasons 1947 to 2015), whose codes are
Basketball-Reference's. No code in it has ever named two franchises.
"""

SPELLINGS = {"BKN": "BRK", "PHX": "PHO", "CHA": "CHO", "GOS": "GSW", "PHL": "PHI", "SAN": "SAS", "UTH": "UTA"}
"""NBA.com's code to Basketball-Reference's for the same team at the same time.

Source: `abbreviation` in the package nba_api for today's teams; the older four stand in NBA.com's logs of the 1980s and
1990s. Both sources use CHA for Charlotte, Basketball-Reference until 2014.
"""

_LASTING = RENAMED | SPELLINGS


def franchise(code: pl.Expr) -> pl.Expr:
    """Return the lasting code of the franchise for each team code; codes not renamed stay."""
    return code.replace(_LASTING)


def with_franchises(games: pl.DataFrame) -> pl.DataFrame:
    """Return `games` with `home_franchise` and `away_franchise` filled: as the source says, else from the codes.

    A row without a franchise in a table that has them, such as a coming game added to FiveThirtyEight's, gets the
    one that its team has elsewhere in the table. Codes are translated unless a former code plays in the same season
    as the code it became: such a table uses codes of its own. Two spellings of one code may stand side by side, where
    tables of two sources were joined, as long as they never meet.
    """
    if not {"home_franchise", "away_franchise"} <= set(games.columns):
        known = _codes_are_known(games)
        return games.with_columns(
            (franchise(pl.col(f"{side}_team")) if known else pl.col(f"{side}_team")).alias(f"{side}_franchise")
            for side in ("home", "away")
        )
    sides = (games.select("date", code=f"{side}_team", name=f"{side}_franchise") for side in ("home", "away"))
    named_codes = pl.concat(sides).drop_nulls().sort("date").unique("code", keep="last", maintain_order=True)
    lasting = dict(zip(named_codes.select(franchise(pl.col("code"))).to_series(), named_codes["name"], strict=True))
    return games.with_columns(
        pl.col(f"{side}_franchise").fill_null(franchise(pl.col(f"{side}_team")).replace(lasting))
        for side in ("home", "away")
    )


def _codes_are_known(games: pl.DataFrame) -> bool:
    meets_itself = franchise(pl.col("home_team")) == franchise(pl.col("away_team"))
    if games.select(meets_itself.any()).item():
        return False
    sides = (
        games.select("season", code=pl.col(f"{side}_team").replace(SPELLINGS)).unique() for side in ("home", "away")
    )
    codes = pl.concat(sides).unique()
    return codes.group_by("season", franchise(pl.col("code"))).len().filter(pl.col("len") > 1).is_empty()
