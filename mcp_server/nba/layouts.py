"""Which table of games a file holds, and the one canonical table they are all brought to.

Four layouts are known:

- ours: `game_id, date, season, is_playoffs, neutral, home_team, away_team, home_points, away_points`;
- FiveThirtyEight's nbaallelo.csv, two rows a game (one for each team) or one;
- FiveThirtyEight's nba_elo.csv and nba_elo_latest.csv, one row a game, coming games included;
- NBA.com's log of games, two rows a game, as the package nba_api gives it.

Columns are found under their own names, in another spelling of them (`Home Team`, `HOME_TEAM`, `homeTeam`), or under a
usual other name (`home_score`); what was found under another name is told.

In nbaallelo.csv the home side is told, in this order, by `game_location` (H, A, N), by the home advantage that is
visible in `forecast` beside `elo_i` and `opp_elo_i`, and by the home team's code at the end of `game_id` (which holds
the present code of a franchise that had another: GSW for PHW). A game at a neutral site keeps as its nominal home
team the one that its row is written for.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from mcp_server.errors import InvalidArgumentError, shown
from mcp_server.nba.elo import HOME_ADVANTAGE
from mcp_server.nba.elo import forecast as win_probability
from mcp_server.nba.franchises import franchise
from mcp_server.nba.layout_values import dates, number, season, text, truth, whole
from mcp_server.nba.one_row_a_game import Duplicates, one_row_a_game
from mcp_server.results.wording import counted

CANONICAL = {
    "game_id": pl.String,
    "date": pl.Date,
    "season": pl.Int64,
    "is_playoffs": pl.Boolean,
    "neutral": pl.Boolean,
    "home_team": pl.String,
    "away_team": pl.String,
    "home_points": pl.Int64,
    "away_points": pl.Int64,
}
FRANCHISES = ("home_franchise", "away_franchise")


class Layout(StrEnum):
    """A known layout of game tables."""

    CANONICAL = "games"
    NBAALLELO = "nbaallelo"
    NBA_ELO = "nba_elo"
    NBA_LOG = "nba_log"


REQUIRED = {
    Layout.CANONICAL: ("date", "season", "home_team", "away_team"),
    Layout.NBAALLELO: ("game_id", "date_game", "year_id", "team_id", "opp_id", "pts", "opp_pts"),
    Layout.NBA_ELO: ("date", "season", "team1", "team2", "score1", "score2"),
    Layout.NBA_LOG: ("season_id", "team_abbreviation", "game_id", "game_date", "matchup", "pts"),
}
_OPTIONAL = {
    Layout.CANONICAL: ("game_id", "is_playoffs", "neutral", "home_points", "away_points", *FRANCHISES),
    Layout.NBAALLELO: (
        "gameorder", "_iscopy", "is_playoffs", "fran_id", "opp_fran", "game_location", "forecast", "elo_i", "opp_elo_i",
    ),
    Layout.NBA_ELO: ("neutral", "playoff"),
    Layout.NBA_LOG: (),
}  # fmt: skip
_OTHER_NAMES = {
    Layout.CANONICAL: {
        "date": ("game_date", "date_game"),
        "season": ("year_id", "season_end", "season_year"),
        "is_playoffs": ("playoffs", "playoff", "is_playoff", "postseason"),
        "neutral": ("is_neutral", "neutral_site"),
        "home_team": ("home", "team_home", "home_team_abbreviation"),
        "away_team": ("away", "team_away", "away_team_abbreviation", "visitor", "visitor_team"),
        "home_points": ("home_score", "home_pts", "pts_home", "score_home"),
        "away_points": ("away_score", "away_pts", "pts_away", "score_away", "visitor_points", "visitor_score"),
    },
    Layout.NBAALLELO: {"team_id": ("team",), "opp_id": ("opp", "opponent"), "year_id": ("season",)},
    Layout.NBA_ELO: {},
    Layout.NBA_LOG: {},
}
_UNREADABLE = (pl.List, pl.Array, pl.Struct, pl.Object, pl.Duration, pl.Binary)
_DESCRIBED = {
    Layout.CANONICAL: "game_id, date, season, is_playoffs, neutral, home_team, away_team, home_points, away_points",
    Layout.NBAALLELO: "FiveThirtyEight's nbaallelo.csv (game_id, date_game, year_id, team_id, pts, opp_id, opp_pts, …)",
    Layout.NBA_ELO: "FiveThirtyEight's nba_elo.csv (date, season, neutral, playoff, team1, team2, score1, score2, …)",
    Layout.NBA_LOG: "NBA.com's log of games (SEASON_ID, TEAM_ABBREVIATION, GAME_ID, GAME_DATE, MATCHUP, PTS, …)",
}


@dataclass(frozen=True, slots=True)
class LayoutReport:
    """What was found on the way to the canonical table; all counts are rows, `games` the rows that came out."""

    layout: Layout
    rows: int
    games: int
    mirrored: int
    repeated: int
    contradictory: int
    without_result: int
    neutral: int
    notes: tuple[str, ...]


def recognise(frame: pl.DataFrame) -> Layout | None:
    """Return the layout that `frame` has by its column names, or None."""
    found = _recognised(frame)
    return found[0] if found else None


def to_games(frame: pl.DataFrame) -> tuple[pl.DataFrame, LayoutReport]:
    """Return the canonical game table of `frame`, in order of play, one row a game, and what was found on the way.

    `home_franchise` and `away_franchise` are added where the source names franchises. Games without points are kept.

    Raises:
        InvalidArgumentError: the layout is not known, or a date, season, team or score cannot be read.
    """
    found = _recognised(frame)
    if found is None:
        raise _unrecognised(frame)
    layout, names = found
    table = _read_columns(frame, names).with_row_index("_row")
    read = {
        Layout.CANONICAL: _canonical, Layout.NBAALLELO: _nbaallelo, Layout.NBA_ELO: _nba_elo, Layout.NBA_LOG: _nba_log,
    }[layout]  # fmt: skip
    games, notes = read(table)
    _refuse_unusable(games)
    unique, duplicates = one_row_a_game(games)
    columns = [*CANONICAL, *(name for name in FRANCHISES if name in unique.columns)]
    result = unique.sort("date", "_order").select(columns)
    renamed = ", ".join(f"{name} from {shown(column)}" for name, column in names.items() if _plain(column) != name)
    notes = [f"columns read under another name: {renamed}", *notes] if renamed else notes
    return result, _report(layout, frame.height, result, duplicates, notes)


# Recognising ---------------------------------------------------------------------------------------------------


def _plain(name: str) -> str:
    return name.strip().lower()


def _squeezed(name: str) -> str:
    """Return a name without all that tells `Home Team`, `home_team` and `homeTeam` apart."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _recognised(frame: pl.DataFrame) -> tuple[Layout, dict[str, str]] | None:
    """Return the layout of `frame` and the column of `frame` for each name of it; the plainer reading first."""
    for others in (False, True):
        for layout, required in REQUIRED.items():
            names = _names(frame, layout, others=others)
            if names.keys() >= set(required):
                return layout, _names(frame, layout, others=True)
    return None


def _names(frame: pl.DataFrame, layout: Layout, *, others: bool) -> dict[str, str]:
    """Return the column that each name of `layout` is found in: by its own name, its spelling, or another name."""
    spelt: list[dict[str, str]] = [{}, {}, {}]
    for column in reversed(frame.columns):  # of several in one spelling the first counts
        for known, key in zip(spelt, (column, _plain(column), _squeezed(column)), strict=True):
            known[key] = column
    found: dict[str, str] = {}
    for name in (*REQUIRED[layout], *_OPTIONAL[layout]):
        candidates = [(spelt[0], name), (spelt[1], name), (spelt[2], _squeezed(name))]
        if others:
            candidates += [(spelt[2], _squeezed(other)) for other in _OTHER_NAMES[layout].get(name, ())]
        place = next((known[key] for known, key in candidates if key in known), None)
        if place is not None and place not in found.values():
            found[name] = place
    return found


def _read_columns(frame: pl.DataFrame, names: dict[str, str]) -> pl.DataFrame:
    """Return the columns that the layout is read from, under its names; refuse those that hold no plain values."""
    for name, column in names.items():
        if isinstance(frame.schema[column], _UNREADABLE):
            raise InvalidArgumentError(
                f"Column {name} holds {frame.schema[column]} values, which no table of games has.",
                hint="Make it text or numbers with transform_dataset(sql=…), then repeat.",
                details={"column": column},
            )
    return frame.select(pl.col(column).alias(name) for name, column in names.items())


def _unrecognised(frame: pl.DataFrame) -> InvalidArgumentError:
    known = {layout: set(_names(frame, layout, others=True)) for layout in REQUIRED}
    near = max(REQUIRED, key=lambda layout: len(known[layout] & set(REQUIRED[layout])) / len(REQUIRED[layout]))
    missing = [name for name in REQUIRED[near] if name not in known[near]]
    found = shown(", ".join(frame.columns[:12]), 200)
    return InvalidArgumentError(
        f"The table has no known layout of games: nearest is {near.value}, which lacks {', '.join(missing)}; "
        f"its columns are {found}.",
        hint=f"Expected are {'; or '.join(_DESCRIBED.values())}. Rename columns with transform_dataset(sql=…).",
        details={"nearest": near.value, "missing": missing},
    )


# The layouts ---------------------------------------------------------------------------------------------------


def _canonical(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    notes = []
    present = set(table.columns)
    for name, value in {"is_playoffs": False, "neutral": False, "home_points": None, "away_points": None}.items():
        if name not in present:
            table = table.with_columns(pl.lit(value).alias(name))
            notes.append(f"column {name} is missing and was taken as {'without points' if value is None else 'false'}")
    ids = table.select(text("game_id")).to_series() if "game_id" in present else None
    if ids is None:
        notes.append("column game_id is missing and was made of date and home team")
    elif ids.null_count():
        notes.append(f"{counted(ids.null_count(), 'row')} without game_id, which was made of date and home team")
    games = table.select(
        "_row",
        dates("date", table),
        season("season", table),
        truth("is_playoffs", table),
        truth("neutral", table),
        *(text(name) for name in ("home_team", "away_team", *FRANCHISES) if name in present),
        *(whole(name, table) for name in ("home_points", "away_points")),
        game_id=pl.lit(None, dtype=pl.String) if ids is None else ids,
        _order=pl.col("_row").cast(pl.Float64),
        _copy=pl.lit(0),
        _written=text("home_team"),
    )
    return games, notes


def _nba_elo(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    present = set(table.columns)
    games = table.select(
        "_row",
        dates("date", table),
        season("season", table),
        game_id=pl.lit(None, dtype=pl.String),
        is_playoffs=truth("playoff", table, names_rounds=True) if "playoff" in present else pl.lit(value=False),
        neutral=truth("neutral", table) if "neutral" in present else pl.lit(value=False),
        home_team=text("team1"),
        away_team=text("team2"),
        home_points=whole("score1", table),
        away_points=whole("score2", table),
        _order=pl.col("_row").cast(pl.Float64),
        _copy=pl.lit(0),
        _written=text("team1"),
    )
    return games, []


def _nbaallelo(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    present = set(table.columns)
    order = number("gameorder", table) if "gameorder" in present else pl.Series([None] * table.height, dtype=pl.Float64)
    of_host = franchise(_code_in_id()) == franchise(text("team_id"))
    copy = number("_iscopy", table) if "_iscopy" in present else table.select((~of_host).cast(pl.Float64)).to_series()
    sides = table.select(
        "_row",
        text("game_id"),
        dates("date_game", table).alias("date"),
        season("year_id", table).alias("season"),
        (truth("is_playoffs", table) if "is_playoffs" in present else pl.lit(value=False)).alias("is_playoffs"),
        _place(table).alias("_place"),
        team=text("team_id"),
        other=text("opp_id"),
        team_franchise=text("fran_id" if "fran_id" in present else "team_id"),
        other_franchise=text("opp_fran" if "opp_fran" in present else "opp_id"),
        team_points=whole("pts", table),
        other_points=whole("opp_pts", table),
        _copy=copy.fill_null(0).cast(pl.Int64),
        _order=order.fill_null(table["_row"].cast(pl.Float64)),
    )
    _refuse(sides, {"no game_id": pl.col("game_id").is_null()})
    games = _by_sides(
        sides, at_home=pl.col("_place") != "A", neutral=pl.col("_place") == "N", parts=("", "_points", "_franchise")
    )
    if not {"fran_id", "opp_fran"} <= present:
        games = games.drop(FRANCHISES)
    told = "game_location" in present or {"forecast", "elo_i", "opp_elo_i"} <= present
    return games, [] if told else ["neutral sites cannot be told from this file: all games count as played at home"]


def _nba_log(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    codes = table.select(text("season_id").str.replace(r"\.0+$", "")).to_series()
    matchup = text("matchup").str.to_uppercase().str.extract_groups(r"^\w+\s+(VS\.?|@)\s+(\w+)$")
    sides = table.select(
        "_row",
        text("game_id").str.replace(r"\.0+$", "").str.zfill(10),  # a table of numbers has lost the leading zeros
        dates("game_date", table).alias("date"),
        season=codes.str.extract(r"^\d(\d{4})$").cast(pl.Int64) + 1,
        is_playoffs=codes.str.starts_with("4"),
        team=text("team_abbreviation"),
        other=matchup.struct.field("2"),
        team_points=whole("pts", table),
        _home=matchup.struct.field("1") != "@",
        _copy=pl.lit(0),
        _order=pl.col("_row").cast(pl.Float64),
    )
    _refuse(
        sides,
        {
            "no game_id": pl.col("game_id").is_null(),
            "a SEASON_ID other than one such as 22024": pl.col("season").is_null(),
            "a MATCHUP other than 'BOS vs. LAL' or 'LAL @ BOS'": pl.col("other").is_null(),
        },
    )
    hosts = sides.group_by("game_id").agg(
        _hosts=pl.col("team").filter("_home").n_unique(), _teams=pl.col("team").n_unique()
    )
    points = sides.sort(pl.col("team_points").is_null(), "_row").unique(["game_id", "team"], keep="first")
    opponents = points.select("game_id", other="team", other_points="team_points")
    both = sides.join(hosts, on="game_id", how="left").join(
        opponents, on=["game_id", "other"], how="left", maintain_order="left"
    )
    neutral = (pl.col("_teams") == 2) & (pl.col("_hosts") != 1)
    first = pl.col("team") < pl.col("other")
    at_home = pl.when(neutral).then(first).otherwise(pl.col("_home"))
    games = _by_sides(both.sort("_row"), at_home=at_home, neutral=neutral, parts=("", "_points"))
    alone = int((hosts["_teams"] == 1).sum())
    return games, [f"{counted(alone, 'game')} with one team's row only, taken as without a result"] if alone else []


def _by_sides(sides: pl.DataFrame, *, at_home: pl.Expr, neutral: pl.Expr, parts: Sequence[str]) -> pl.DataFrame:
    """Turn rows of a team and its opponent into rows of a home team and a visitor."""
    return sides.select(
        "_row", "_order", "_copy", "game_id", "date", "season", "is_playoffs",
        _written="team",
        neutral=neutral,
        **{
            f"{side}_{part.lstrip('_') or 'team'}": pl.when(at_home if side == "home" else ~at_home)
            .then(pl.col(f"team{part}"))
            .otherwise(pl.col(f"other{part}"))
            for side in ("home", "away")
            for part in parts
        },
    )  # fmt: skip


def _code_in_id() -> pl.Expr:
    """Return the home team's code at the end of `game_id`."""
    return text("game_id").str.extract(r"([A-Za-z]{2,3})$").str.to_uppercase()


def _place(table: pl.DataFrame) -> pl.Series:
    """Return H, A or N: where the team that a row is written for played (see the module)."""
    present = set(table.columns)
    place = pl.lit(None, dtype=pl.String)
    if "game_location" in present:
        location = text("game_location").str.to_uppercase()
        place = pl.when(location.is_in(["H", "A", "N"])).then(location)
    if {"forecast", "elo_i", "opp_elo_i"} <= present:
        forecast, lead = number("forecast", table), number("elo_i", table) - number("opp_elo_i", table)
        for letter, advantage in {"H": HOME_ADVANTAGE, "N": 0.0, "A": -HOME_ADVANTAGE}.items():
            expected = win_probability(lead.to_numpy() + advantage, 0.0, neutral=True)
            visible = pl.Series(abs(expected - forecast.to_numpy()) < 1e-4)
            place = place.fill_null(pl.when(visible).then(pl.lit(letter)))
    code = _code_in_id()
    team, other = text("team_id"), text("opp_id")
    by_id = (
        pl.when(code == team).then(pl.lit("H")).when(code == other).then(pl.lit("A"))
        .when(franchise(code) == franchise(team)).then(pl.lit("H"))
        .when(franchise(code) == franchise(other)).then(pl.lit("A"))
        .otherwise(pl.lit("H"))
    )  # fmt: skip
    return table.select(place.fill_null(by_id).alias("_place")).to_series()


# What is said and refused --------------------------------------------------------------------------------------


def _report(
    layout: Layout, rows: int, games: pl.DataFrame, duplicates: Duplicates, notes: Sequence[str]
) -> LayoutReport:
    decided = pl.col("home_points") != pl.col("away_points")
    open_games = games.height - games.filter(decided).height
    forfeits = games.filter(pl.max_horizontal("home_points", "away_points") <= 2, decided).height
    neutral = int(games["neutral"].sum())
    words = [f"layout {layout.value}: {rows:,} rows became {games.height:,} games", *notes]
    for n, said in (
        (duplicates.mirrored, "rows told a game again from the other team's side"),
        (duplicates.repeated, "rows repeated a game"),
        (duplicates.contradictory, "rows contradicted another row of the same game and were left out"),
        (open_games, "games have no result (points missing or level)"),
        (neutral, "games were played at neutral sites"),
        (forfeits, "games ended 2-0 or lower, as forfeits do, and count with that score"),
    ):
        if n:
            words.append(f"{n:,} {said}")
    words += [f"contradiction: {example}" for example in duplicates.examples]
    return LayoutReport(
        layout=layout,
        rows=rows,
        games=games.height,
        mirrored=duplicates.mirrored,
        repeated=duplicates.repeated,
        contradictory=duplicates.contradictory,
        without_result=open_games,
        neutral=neutral,
        notes=tuple(words),
    )


def _refuse_unusable(games: pl.DataFrame) -> None:
    _refuse(
        games,
        {
            "no date": pl.col("date").is_null(),
            "no season": pl.col("season").is_null(),
            "no home or away team": pl.col("home_team").is_null() | pl.col("away_team").is_null(),
            "a team that plays itself": pl.col("home_team") == pl.col("away_team"),
            "negative points": pl.min_horizontal("home_points", "away_points") < 0,
        },
    )


def _refuse(games: pl.DataFrame, problems: dict[str, pl.Expr]) -> None:
    for problem, condition in problems.items():
        rows = games.filter(condition)["_row"]
        if rows.len():
            raise InvalidArgumentError(
                f"{rows.len():,} of {games.height:,} rows have {problem}; the first is row {sorted(rows)[0] + 1}.",
                hint="Remove or mend these rows with clean_dataset or transform_dataset(sql=…), then repeat.",
                details={"rows": rows.len()},
            )
