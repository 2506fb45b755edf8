"""Tables of games in every known layout become the one canonical table, and say what was found."""

from collections.abc import Callable
from contextlib import suppress
from datetime import time, timedelta
from pathlib import Path

import polars as pl
import pytest

from mcp_server.errors import InvalidArgumentError
from mcp_server.nba.layouts import CANONICAL, Layout, recognise, to_games
from mcp_server.nba.simulator import simulate_seasons
from tests.nba.tables import as_nba_elo, as_nba_log, as_nbaallelo, games_table

Layouts = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.fixture(scope="module")
def games() -> pl.DataFrame:
    """One simulated season, its last 30 games marked as play-offs."""
    season = simulate_seasons(1, seed=4)
    return season.with_columns(is_playoffs=pl.int_range(pl.len()) >= season.height - 30)


def test_each_layout_is_recognised(games: pl.DataFrame) -> None:
    assert recognise(games) is Layout.CANONICAL
    assert recognise(as_nbaallelo(games)) is Layout.NBAALLELO
    assert recognise(as_nba_elo(games)) is Layout.NBA_ELO
    assert recognise(games.select("date", "season")) is None


def test_the_canonical_table_comes_back_as_it_is(games: pl.DataFrame) -> None:
    table, report = to_games(games)
    assert table.equals(games)
    assert (report.rows, report.games, report.neutral, report.mirrored + report.repeated) == (1230, 1230, 2, 0)


def test_two_rows_a_game_become_one(games: pl.DataFrame) -> None:
    table, report = to_games(as_nbaallelo(games))
    assert table.select(list(CANONICAL)).equals(games)
    assert (report.rows, report.games, report.mirrored, report.repeated, report.contradictory) == (
        2460,
        1230,
        1230,
        0,
        0,
    )
    assert "1,230 rows told a game again from the other team's side" in report.notes


def test_two_rows_a_game_in_any_order_become_the_same_games(games: pl.DataFrame) -> None:
    shuffled = as_nbaallelo(games).sample(fraction=1, shuffle=True, seed=1)
    for rows in (shuffled, shuffled.drop("_iscopy")):
        assert to_games(rows)[0].select(list(CANONICAL)).equals(games)


def test_without_a_location_the_home_side_comes_from_the_game_id(games: pl.DataFrame) -> None:
    away_rows = as_nbaallelo(games).filter(pl.col("_iscopy") == 1).drop("_iscopy", "game_location")
    table, report = to_games(away_rows)
    assert table.select(list(CANONICAL)).equals(games.with_columns(neutral=pl.lit(value=False)))
    assert any("neutral sites cannot be told" in note for note in report.notes)


def test_a_former_name_in_the_row_matches_the_present_code_in_the_game_id() -> None:
    game = games_table(("1950-01-01", "PIT", "PHW", 70, 80, 1950)).with_columns(game_id=pl.lit("195001010GSW"))
    table, _ = to_games(as_nbaallelo(game, rows_a_game=1).drop("game_location"))
    assert table.select("home_team", "home_points").row(0) == ("PHW", 80)


def test_the_home_side_is_visible_in_the_forecast() -> None:
    game = as_nbaallelo(games_table(("2015-01-01", "BOS", "NYK", 70, 80)), rows_a_game=1).drop("game_location")
    sides = {0.640065: ("BOS", False), 0.5: ("BOS", True), 0.359935: ("NYK", False)}
    for forecast, (home, neutral) in sides.items():
        rated = game.with_columns(forecast=pl.lit(forecast), elo_i=pl.lit(1500.0), opp_elo_i=pl.lit(1500.0))
        assert to_games(rated)[0].select("home_team", "neutral").row(0) == (home, neutral)


def test_one_row_a_game_with_dates_and_scores_becomes_the_canonical_table(games: pl.DataFrame) -> None:
    table, _ = to_games(as_nba_elo(games))
    assert table.equals(games)


def test_two_games_of_one_day_and_pairing_are_both_kept() -> None:
    day = ("1983-04-13", "SAS", "LAL")
    elo = as_nba_elo(games_table((*day, 117, 114), (*day, 109, 99), (*day, 117, 114)))
    table, report = to_games(elo)
    assert table.height == 2
    assert table["game_id"].n_unique() == 2
    assert report.repeated == 1


def test_on_any_other_day_a_second_score_is_a_contradiction() -> None:
    day = ("1983-04-14", "SAS", "LAL")
    table, report = to_games(as_nba_elo(games_table((*day, 117, 114), (*day, 109, 99))))
    assert table["home_points"].to_list() == [117]
    assert report.contradictory == 1


def test_a_second_opponent_of_one_day_is_another_game() -> None:
    elo = as_nba_elo(games_table(("2015-03-01", "BOS", "LAL", 100, 90), ("2015-03-01", "BOS", "NYK", 100, 90)))
    table, report = to_games(elo)
    assert table["game_id"].to_list() == ["201503010BOS", "201503010BOS-NYK"]
    assert report.contradictory == 0


def test_exact_repeats_are_collapsed_and_counted(games: pl.DataFrame) -> None:
    table, report = to_games(pl.concat([games, games]))
    assert table.equals(games)
    assert report.repeated == 1230
    table, report = to_games(pl.concat([as_nbaallelo(games)] * 2))
    assert (table.height, report.mirrored, report.repeated) == (1230, 2460, 1230)


def test_a_result_supersedes_the_row_that_announced_the_game() -> None:
    coming = games_table(("2015-01-01", "BOS", "NYK", None, None))
    played = games_table(("2015-01-01", "BOS", "NYK", 100, 90))
    table, report = to_games(pl.concat([coming, played]))
    assert table["home_points"].to_list() == [100]
    assert (report.repeated, report.contradictory, report.without_result) == (1, 0, 0)


def test_contradictory_rows_are_left_out_and_counted() -> None:
    table, report = to_games(
        pl.concat(
            [games_table(("2015-01-01", "BOS", "NYK", 100, 90)), games_table(("2015-01-01", "BOS", "NYK", 101, 90))]
        )
    )
    assert table["home_points"].to_list() == [100]
    assert report.contradictory == 1
    assert any("contradicted" in note for note in report.notes)


def test_coming_games_are_kept_without_points() -> None:
    slate = games_table(("2015-01-01", "BOS", "NYK", 100, 90), ("2015-01-02", "LAL", "GSW", None, None))
    table, report = to_games(slate)
    assert table["home_points"].to_list() == [100, None]
    assert report.without_result == 1
    bare, report = to_games(slate.drop("home_points", "away_points", "neutral", "is_playoffs", "game_id"))
    assert bare.select("game_id", "neutral").row(0) == ("201501010BOS", False)
    assert report.without_result == 2


def test_messy_text_is_read() -> None:
    table, _ = to_games(
        pl.DataFrame(
            {
                " Date": ["2015-01-01", "1/2/2015", "2015-01-03T00:00:00", "20150104"],
                "Season": ["2014-15", "2015.0", "2015", "2015"],
                "is_playoffs": ["False", "0", "t", "NULL"],
                "neutral": ["", "1", "no", None],
                "home_team": [" BOS", "NYK", "LAL", "GSW"],
                "away_team": ["NYK", "BOS", "GSW", "LAL"],
                "home_points": ["100.0", "NULL", "99", ""],
                "away_points": ["90", "NULL", "98.0", None],
            }
        )
    )
    assert table["date"].dt.day().to_list() == [1, 2, 3, 4]
    assert table["season"].to_list() == [2015] * 4
    assert table["is_playoffs"].to_list() == [False, False, True, False]
    assert table["neutral"].to_list() == [False, True, False, False]
    assert table["home_points"].to_list() == [100, None, 99, None]


def test_an_unknown_layout_is_refused_with_what_is_missing() -> None:
    with pytest.raises(InvalidArgumentError, match="nearest is games, which lacks season, away_team") as refusal:
        to_games(pl.DataFrame({"date": ["2015-01-01"], "home_team": ["BOS"], "x\u202e\n": [1]}))
    assert "nbaallelo.csv" in refusal.value.hint
    assert "\u202e" not in refusal.value.message
    assert refusal.value.details["missing"] == ["season", "away_team"]


def test_a_table_without_columns_or_rows_is_handled(games: pl.DataFrame) -> None:
    with pytest.raises(InvalidArgumentError):
        to_games(pl.DataFrame())
    for empty in (games.clear(), as_nbaallelo(games).clear(), as_nba_elo(games).clear()):
        table, report = to_games(empty)
        assert table.select(list(CANONICAL)).schema == CANONICAL
        assert (table.height, report.games) == (0, 0)


def _changed(name: str) -> str:
    return name.replace("_", " ").title() if not name.startswith("_") else name.upper()


def _camel(name: str) -> str:
    first, *rest = name.strip("_").split("_")
    return first + "".join(word.title() for word in rest)


@pytest.mark.parametrize("spelling", [str.upper, _changed, _camel, lambda name: name.replace("_", "-") + " "])
@pytest.mark.parametrize("layout", [lambda games: games, as_nbaallelo, as_nba_elo, as_nba_log])
def test_a_table_with_names_of_another_spelling_and_further_columns_is_the_same(
    games: pl.DataFrame, layout: Layouts, spelling: Callable[[str], str]
) -> None:
    plain = layout(games)
    table, report = to_games(plain.rename({name: spelling(name) for name in plain.columns}).with_columns(zone=1))
    assert table.equals(to_games(plain)[0])
    assert report.mirrored == to_games(plain)[1].mirrored


def test_columns_under_usual_other_names_are_found_and_told(games: pl.DataFrame) -> None:
    names = {"date": "game_date", "home_points": "HOME_SCORE", "away_points": "visitor_score", "away_team": "Visitor"}
    table, report = to_games(games.rename(names))
    assert table.equals(games)
    assert report.notes[1].startswith(
        "columns read under another name: date from 'game_date', away_team from 'Visitor'"
    )


@pytest.mark.parametrize(
    "pattern", ["%Y-%m-%d", "%m/%d/%Y", "%Y%m%d", "%Y/%m/%d", "%b %d, %Y", "%a, %b %d, %Y", "%B %d, %Y", "%F %T"]
)
def test_dates_written_as_text_in_any_unmistakable_way_are_the_same(games: pl.DataFrame, pattern: str) -> None:
    written = games.with_columns(pl.col("date").cast(pl.Datetime).dt.strftime(pattern))
    assert to_games(written)[0].equals(games)


def test_dates_as_numbers_are_the_same(games: pl.DataFrame) -> None:
    for dtype in (pl.Int64, pl.Float64):
        written = games.with_columns(pl.col("date").dt.strftime("%Y%m%d").cast(dtype))
        assert to_games(written)[0].equals(games)


def _mirror(games: pl.DataFrame, *sides: str) -> pl.DataFrame:
    """Return games with the named pairs of columns swapped."""
    return games.rename({sides[0]: sides[1], sides[1]: sides[0], sides[2]: sides[3], sides[3]: sides[2]}).select(
        games.columns
    )


def test_games_told_twice_in_the_layout_of_one_row_are_collapsed_however_they_are_turned(games: pl.DataFrame) -> None:
    elo = as_nba_elo(games)
    turned = _mirror(elo, "team1", "team2", "score1", "score2")
    table, report = to_games(pl.concat([elo, turned]).sort("date", maintain_order=True))
    assert table.height == 1230
    assert (report.mirrored, report.repeated, report.contradictory) == (1230, 0, 0)
    half = pl.concat([elo, elo.head(400)])
    table, report = to_games(half)
    assert table.equals(games)
    assert (report.mirrored, report.repeated) == (0, 400)


def test_games_told_twice_under_different_ids_are_collapsed(games: pl.DataFrame) -> None:
    again = games.with_columns(game_id=pl.col("game_id") + "-copy")
    table, report = to_games(pl.concat([games, again]))
    assert table.equals(games)
    assert (report.repeated, report.contradictory) == (1230, 0)


def test_games_told_twice_with_codes_of_two_sources_are_collapsed() -> None:
    theirs = games_table(("2015-01-01", "BRK", "CHO", 100, 90), ("2015-01-02", "PHO", "NYK", 99, 98))
    nbas = games_table(("2015-01-01", "BKN", "CHA", 100, 90), ("2015-01-02", "PHX", "NYK", None, None)).with_columns(
        game_id=pl.Series(["0021400481", "0021400490"])
    )
    table, report = to_games(pl.concat([nbas, theirs]))
    assert table.select("home_team", "home_points").rows() == [("BKN", 100), ("PHO", 99)]
    assert report.repeated == 2


def test_a_contradiction_in_the_layout_of_one_row_is_told_with_what_was_kept() -> None:
    day = "2015-01-01"
    elo = as_nba_elo(
        games_table((day, "BOS", "NYK", 100, 90), (day, "LAL", "GSW", 80, 81), (day, "BOS", "NYK", 101, 90))
    )
    table, report = to_games(elo)
    assert table.select("home_team", "home_points").rows() == [("BOS", 100), ("LAL", 80)]
    assert report.contradictory == 1
    told = "201501010BOS: BOS 100-90 NYK in row 1 was kept, BOS 101-90 NYK in row 3 left out"
    assert any(told in note for note in report.notes)


def test_a_contradiction_in_two_rows_a_game_is_told_and_the_first_row_kept(games: pl.DataFrame) -> None:
    rows = as_nbaallelo(games)
    wrong = rows.with_columns(
        pts=pl.when((pl.col("_iscopy") == 1) & (pl.col("gameorder") <= 5)).then(1.0).otherwise("pts")
    )
    table, report = to_games(wrong)
    assert table.select(list(CANONICAL)).equals(games)
    assert (report.mirrored, report.contradictory) == (1225, 5)
    assert any(note.startswith("5 rows contradicted") for note in report.notes)
    assert sum(note.startswith("contradiction: ") for note in report.notes) == 3


def test_a_forfeit_counts_with_its_score_and_is_told() -> None:
    table, report = to_games(games_table(("1972-10-26", "VIR", "DNR", 2, 0)))
    assert table["home_points"].to_list() == [2]
    assert any("1 games ended 2-0" in note for note in report.notes)


def test_coming_games_without_a_number_join_played_ones_that_have_one() -> None:
    played = games_table(("2015-01-01", "BOS", "NYK", 100, 90)).with_columns(game_id=pl.lit("0021400481"))
    coming = games_table(("2015-01-03", "BOS", "LAL", None, None)).with_columns(game_id=pl.lit(None, dtype=pl.String))
    table, report = to_games(pl.concat([played, coming]))
    assert table["game_id"].to_list() == ["0021400481", "201501030BOS"]
    assert any("1 row without game_id" in note for note in report.notes)


def test_nba_coms_log_becomes_the_canonical_table(games: pl.DataFrame) -> None:
    table, report = to_games(as_nba_log(games))
    expected = games.drop("game_id")
    # At a neutral site NBA.com's log names two visitors: the home team is then the first by alphabet.
    neutral = pl.col("neutral")
    assert table.filter(~neutral).drop("game_id").equals(expected.filter(~neutral))
    assert table.filter(neutral)["home_team"].to_list() == [
        min(pair) for pair in games.filter(neutral).select("home_team", "away_team").rows()
    ]
    assert (report.games, report.mirrored, report.neutral) == (1230, 1230, 2)


def test_nba_coms_log_read_as_numbers_with_a_row_missing() -> None:
    rows = as_nba_log(games_table(("2015-01-01", "BOS", "NYK", 100, 90), ("2015-01-02", "LAL", "GSW", 99, 98)))
    lossy = rows.with_columns(pl.col("GAME_ID").cast(pl.Int64), pl.col("SEASON_ID").cast(pl.Float64)).head(3)
    table, report = to_games(lossy)
    assert table["game_id"].str.len_chars().to_list() == [10, 10]
    assert table.select("home_team", "away_team", "home_points").rows() == [("BOS", "NYK", 100), ("LAL", "GSW", None)]
    assert table["away_points"].to_list() == [90, 98]
    assert any("1 game with one team's row only" in note for note in report.notes)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("MATCHUP", "BOS-NYK", "a MATCHUP other than"), ("SEASON_ID", "2015", "a SEASON_ID other than")],
)
def test_nba_coms_log_with_unreadable_values_is_refused(column: str, value: str, message: str) -> None:
    rows = as_nba_log(games_table(("2015-01-01", "BOS", "NYK", 100, 90)))
    with pytest.raises(InvalidArgumentError, match=message):
        to_games(rows.with_columns(pl.lit(value).alias(column)))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("date", "16/06/2015", "Column date holds '16/06/2015' in row 1, which is not a date"),
        ("date", None, "1 of 1 rows have no date"),
        ("season", "soon", "not a season"),
        ("home_points", "98.5", "not a whole number"),
        ("home_points", "many", "not a whole number"),
        ("home_points", "-3", "negative points"),
        ("home_team", "NYK", "a team that plays itself"),
        ("away_team", "NULL", "no home or away team"),
        ("neutral", "perhaps", "not true or false"),
    ],
)
def test_an_unreadable_value_is_refused_by_column(column: str, value: str | None, message: str) -> None:
    row = games_table(("2015-01-01", "BOS", "NYK", 100, 90)).cast(pl.String)
    with pytest.raises(InvalidArgumentError, match=message):
        to_games(row.with_columns(pl.lit(value, dtype=pl.String).alias(column)))


STRANGE_VALUES: list[object] = [[1], {"a": 1}, b"x", timedelta(1), time(1), True, float("inf"), 2**62]


@pytest.mark.parametrize("value", STRANGE_VALUES)
def test_values_of_a_strange_kind_are_refused_or_read_but_never_crash(value: object) -> None:
    row = games_table(("2015-01-01", "BOS", "NYK", 100, 90))
    rated = as_nbaallelo(row).drop("game_location").with_columns(forecast=0.64, elo_i=1500.0, opp_elo_i=1500.0)
    for layout in (row, as_nbaallelo(row), as_nba_elo(row), as_nba_log(row), rated):
        for column in [*layout.columns, "_row", "_order", "_written"]:
            with suppress(InvalidArgumentError):
                to_games(layout.with_columns(pl.Series(column, [value] * layout.height)))


def test_the_real_file_becomes_its_games(shared_data: Path) -> None:
    file = pl.read_csv(shared_data / "data" / "nba_games_1947_2015.csv", infer_schema_length=None)
    table, report = to_games(file)
    assert (report.games, report.neutral, report.mirrored, report.repeated, report.contradictory) == (
        63157,
        19,
        0,
        0,
        0,
    )
    assert table["date"].is_sorted()
    assert table.filter(pl.col("home_points") > pl.col("away_points")).height == 39311
    assert table["home_franchise"].n_unique() == 53


def test_the_real_games_in_the_layout_of_one_row_without_numbers_are_all_there(shared_data: Path) -> None:
    games, _ = to_games(pl.read_csv(shared_data / "data" / "nba_games_1947_2015.csv", infer_schema_length=None))
    elo = as_nba_elo(games)
    table, report = to_games(elo)
    assert table.drop("game_id").equals(games.select(list(CANONICAL)).drop("game_id"))
    assert (table["game_id"].n_unique(), report.repeated + report.mirrored + report.contradictory) == (63157, 0)
    table, report = to_games(
        pl.concat([elo, elo.head(1000), elo.gather_every(1000).with_columns(pl.col("score1") + 1)])
    )
    assert (table.height, report.repeated, report.contradictory) == (63157, 1000, 64)


def test_the_real_file_read_as_text_gives_the_same_games(shared_data: Path) -> None:
    path = shared_data / "data" / "nba_games_1947_2015.csv"
    typed, _ = to_games(pl.read_csv(path, infer_schema_length=None))
    text, _ = to_games(pl.read_csv(path, infer_schema=False))
    assert text.equals(typed)
