"""From rows that tell games, perhaps more than once, to one row a game; what repeats or contradicts is counted.

Rows tell one game when they have its `game_id`. Rows without one tell the same game when two teams meet on one day,
whoever is called the home team; so do rows with different ids and the same score. Two scores are two games only under
two ids, or on the five days of the league's history on which two teams met twice.
"""

from dataclasses import dataclass, field
from datetime import date

import polars as pl

from mcp_server.nba.franchises import franchise

_EXAMPLES = 3
_PAIR = ("_low", "_high")
_SCORE = ("_low_points", "_high_points")
_DOUBLE_HEADERS = [
    {"date": day, "_low": low, "_high": high}
    for day, low, high in (
        (date(1954, 3, 8), "ATL", "BLB"),
        (date(1970, 2, 8), "ATL", "CHI"),
        (date(1976, 1, 24), "BRK", "VIR"),
        (date(1979, 3, 23), "BRK", "PHI"),
        (date(1983, 4, 13), "LAL", "SAS"),
    )
]
"""When two teams met twice on a day, by their lasting codes. Source: FiveThirtyEight's nbaallelo.csv, 1946 to 2015."""


@dataclass(slots=True)
class Duplicates:
    """What the rows were that did not become a game of their own.

    Attributes:
        mirrored: they told a game again from the other team's side.
        repeated: they told it again in the same way, or had announced it before it was played.
        contradictory: they had another score, day or opponent for a game that an earlier row had told.
        examples: of the contradictory ones, in words.
    """

    mirrored: int = 0
    repeated: int = 0
    contradictory: int = 0
    examples: list[str] = field(default_factory=list)


def one_row_a_game(games: pl.DataFrame) -> tuple[pl.DataFrame, Duplicates]:
    """Return one row of each game: one with a result, not a copy, the first; and what the others were.

    Args:
        games: rows with the canonical columns (`game_id` may be null), and `_row` (number in the source), `_copy` (how
            late a row's turn is beside others of its game) and `_written` (the team that it was written for).
    """
    keyed = _with_ids(_with_pairs(games))
    duplicates = Duplicates()
    if keyed["game_id"].n_unique() < keyed.height:
        keyed = _kept(keyed, ["game_id"], duplicates)
    meeting = ["date", *_PAIR]
    if keyed.select(pl.struct(meeting).n_unique()).item() < keyed.height:
        keyed = _without_second_ids(keyed, meeting, duplicates)
    return keyed.drop(*_PAIR, *_SCORE), duplicates


def _with_pairs(games: pl.DataFrame) -> pl.DataFrame:
    """Add both teams' lasting codes and points in order of the codes: the same whoever is called the home team."""
    home, away = franchise(pl.col("home_team")), franchise(pl.col("away_team"))
    turned = home > away
    home_points, away_points = pl.col("home_points"), pl.col("away_points")
    return games.with_columns(
        franchise(pl.col("_written")),
        pl.min_horizontal(home, away).alias("_low"),
        pl.max_horizontal(home, away).alias("_high"),
        pl.when(turned).then(away_points).otherwise(home_points).alias("_low_points"),
        pl.when(turned).then(home_points).otherwise(away_points).alias("_high_points"),
    )


def _with_ids(games: pl.DataFrame) -> pl.DataFrame:
    """Make the ids that are missing of date and home team; what they would share is told apart.

    A second opponent's name is appended; a second game of one pairing, known by its other score, is numbered.
    """
    if not games["game_id"].null_count():
        return games
    meeting = ["date", *_PAIR]
    first_told = pl.col("_row").min().over(*meeting, *_SCORE)
    played_twice = pl.struct("date", *_PAIR).is_in(_DOUBLE_HEADERS) & pl.col(_SCORE[0]).is_not_null()
    number = pl.when(played_twice).then(first_told.rank("dense").over(meeting)).otherwise(1)
    hosts = games.with_columns(
        _home=pl.col("home_team").first().over(meeting), _away=pl.col("away_team").first().over(meeting), _number=number
    )
    opponent = pl.col("_away").rank("dense").over("date", "_home")
    base = pl.concat_str(pl.col("date").dt.strftime("%Y%m%d"), pl.lit("0"), pl.col("_home"))
    base = pl.when(opponent > 1).then(pl.concat_str(base, pl.lit("-"), pl.col("_away"))).otherwise(base)
    made = pl.when(pl.col("_number") > 1).then(pl.concat_str(base, pl.lit("-"), pl.col("_number"))).otherwise(base)
    return hosts.with_columns(pl.col("game_id").fill_null(made)).drop("_home", "_away", "_number")


def _kept(games: pl.DataFrame, key: list[str], duplicates: Duplicates) -> pl.DataFrame:
    """Keep one row of each `key`, count the others in `duplicates`."""
    several = pl.len().over(key) > 1
    marked = games.with_columns(_several=several)
    ordered = (
        marked.filter("_several")
        .with_columns(_open=pl.col("home_points").is_null() | pl.col("away_points").is_null())
        .sort(*key, "_open", "_copy", "_row")
    )
    kept = {name: pl.col(name).first().over(key) for name in ordered.columns}
    same = pl.all_horizontal(pl.col(name).eq_missing(kept[name]) for name in ("date", *_PAIR, *_SCORE))
    superseded = pl.col("_open") & ~kept["_open"]
    extra = ordered.with_columns(
        _nth=pl.int_range(pl.len()).over(key),
        _same=same,
        _superseded=superseded,
        _other_side=pl.col("_written") != kept["_written"],
        **{f"_kept_{name}": kept[name] for name in ("_row", "home_team", "away_team", "home_points", "away_points")},
    ).filter(pl.col("_nth") > 0)
    wrong = extra.filter(~pl.col("_same") & ~pl.col("_superseded")).sort("_row")
    mirrored = extra.select((pl.col("_same") & pl.col("_other_side")).sum()).item()
    duplicates.mirrored += mirrored
    duplicates.contradictory += wrong.height
    duplicates.repeated += extra.height - mirrored - wrong.height
    room = _EXAMPLES - len(duplicates.examples)
    duplicates.examples += [_example(row) for row in wrong.head(room).iter_rows(named=True)]
    firsts = ordered.unique(key, keep="first", maintain_order=True).drop("_open")
    return pl.concat([marked.filter(~pl.col("_several")), firsts]).drop("_several").sort("_row")


def _example(row: dict[str, object]) -> str:
    def words(prefix: str) -> str:
        names = ("home_team", "home_points", "away_points", "away_team")
        home, home_points, away_points, away = (row[f"{prefix}{name}"] for name in names)
        return f"{home} {home_points}-{away_points} {away}"

    kept, left_out = f"row {int(str(row['_kept__row'])) + 1}", f"row {int(str(row['_row'])) + 1}"
    return f"{row['game_id']}: {words('_kept_')} in {kept} was kept, {words('')} in {left_out} left out"


def _without_second_ids(games: pl.DataFrame, meeting: list[str], duplicates: Duplicates) -> pl.DataFrame:
    """Take rows of one meeting for one game where they have the same score under different ids, or no score yet."""
    again = pl.len().over(meeting) > 1
    marked = games.with_columns(_again=again)
    single, several = marked.filter(~pl.col("_again")), marked.filter("_again")
    scored = pl.all_horizontal(pl.col(name).is_not_null() for name in _SCORE)
    score = pl.when(scored).then(pl.concat_str(*_SCORE, separator="-"))
    # A game that was announced under another id takes the score of the (first) one that was played.
    known = score.drop_nulls().first().over(meeting)
    several = several.with_columns(_known=score.fill_null(known).fill_null("open"))
    kept = _kept(several, [*meeting, "_known"], duplicates).drop("_known")
    return pl.concat([single, kept]).drop("_again").sort("_row")
