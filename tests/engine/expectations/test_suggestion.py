from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_server.engine.expectations.evaluation import evaluate
from mcp_server.engine.expectations.shapes import pattern_of, shape_of
from mcp_server.engine.expectations.suggestion import MAX_SUGGESTED, suggest
from tests.engine.expectations.random_suites import random_frame


def _games(n: int = 400) -> pl.DataFrame:
    random = np.random.default_rng(7)
    return pl.DataFrame(
        {
            "game_id": [f"2015{i:05d}LAL" for i in range(n)],
            "day": [str(date(2015, 1, 1) + timedelta(days=i // 4)) for i in range(n)],
            "position": list(range(n)),
            "points": random.normal(100, 12, n).round(),
            "forecast": random.uniform(0.1, 0.9, n),
            "result": random.choice(["W", "L"], n),
            "notes": [None if i % 10 else "at neutral site" for i in range(n)],
            "attendance": [None if i % 20 == 0 else 15_000 + i for i in range(n)],
            "empty": pl.Series([None] * n, dtype=pl.String),
        }
    )


def _by_column(frame: pl.DataFrame) -> dict[tuple[str, str], Any]:
    return {(each.kwargs.get("column", ""), each.type): each for each in suggest(frame.lazy())}


def test_a_suggested_suite_holds_on_the_data_it_came_from():
    frame = _games()

    _, judged = evaluate(frame.lazy(), suggest(frame.lazy()))

    assert judged
    assert all(each.outcome.success for each in judged)


def test_suggestions_describe_keys_ranges_sets_dates_codes_and_order():
    found = _by_column(_games())

    assert ("game_id", "expect_column_values_to_be_unique") in found
    assert found["game_id", "expect_column_values_to_match_regex"].kwargs["regex"] == r"^\d{9}[A-Z]{3}$"
    assert found["day", "expect_column_values_to_match_strftime_format"].kwargs["strftime_format"] == "%Y-%m-%d"
    assert found["result", "expect_column_values_to_be_in_set"].kwargs["value_set"] == ["L", "W"]
    assert found["position", "expect_column_values_to_be_increasing"].kwargs["strictly"]
    forecast = found["forecast", "expect_column_values_to_be_between"].kwargs
    assert (forecast["min_value"], forecast["max_value"]) == (0.0, 1.0)
    assert found["attendance", "expect_column_values_to_not_be_null"].kwargs["mostly"] == 0.91
    assert ("empty", "expect_column_values_to_not_be_null") not in found


def test_what_grows_with_the_rows_may_go_on_growing():
    frame = pl.DataFrame({"season": [2010] * 30 + [2011] * 30 + [2012] * 30})

    found = _by_column(frame)

    assert found["season", "expect_column_values_to_be_between"].kwargs == {
        "column": "season",
        "min_value": 2010,
        "max_value": 2032,
    }
    assert ("season", "expect_column_values_to_be_in_set") not in found


def test_every_suggestion_carries_its_evidence():
    assert all(each.meta["evidence"] for each in suggest(_games().lazy()))


def test_a_few_outliers_are_allowed_for_and_named():
    frame = pl.DataFrame({"x": [10**6, *range(1000)]})

    found = _by_column(frame)["x", "expect_column_values_to_be_between"]

    assert found.kwargs["max_value"] < 2000
    assert found.kwargs["mostly"] == 0.9985
    assert "1 of 1,001" in found.meta["evidence"]


def test_a_suggested_suite_catches_what_changes():
    frame = _games()
    suite = suggest(frame.lazy())
    worse = pl.concat([frame, frame.head(3)]).with_columns(points=pl.col("points") * 10, result=pl.lit("D"))

    _, judged = evaluate(worse.lazy(), suite)

    failed = {
        (each.expectation.kwargs.get("column"), each.expectation.type) for each in judged if not each.outcome.success
    }
    assert ("game_id", "expect_column_values_to_be_unique") in failed
    assert ("points", "expect_column_values_to_be_between") in failed
    assert ("result", "expect_column_values_to_be_in_set") in failed


def test_two_columns_together_are_found_to_be_the_key():
    frame = pl.DataFrame({"day": [i // 2 for i in range(100)], "side": ["home", "away"] * 50, "x": [0.5] * 100})

    found = {each.type: each for each in suggest(frame.lazy())}

    assert found["expect_compound_columns_to_be_unique"].kwargs["column_list"] == ["day", "side"]


def test_a_wide_table_gets_a_useful_number():
    frame = pl.DataFrame({f"c{i}": np.random.default_rng(i).normal(size=50) for i in range(200)})

    assert len(suggest(frame.lazy())) <= MAX_SUGGESTED


def test_one_row_and_odd_types_are_no_trouble():
    frame = pl.DataFrame({"l": [[1]], "n": [None], "b": [True], "x": [float("nan")]})

    _, judged = evaluate(frame.lazy(), suggest(frame.lazy()))

    assert all(each.outcome.success for each in judged)


def test_texts_without_a_shape_have_no_pattern():
    assert pattern_of(["abc", "12"]) is None
    assert pattern_of(["AB-1", "CD-22"]) == r"^[A-Z]{2}\-\d{1,2}$"


def test_a_table_of_a_thousand_columns_is_looked_at_in_seconds():
    frame = pl.DataFrame({f"c{i}": [float(i), 2.0, 3.0] for i in range(1000)})

    assert len(suggest(frame.lazy())) == MAX_SUGGESTED


def _rows(n: int = 600) -> pl.DataFrame:
    random = np.random.default_rng(3)
    teams = np.array(["LAL", "BOS", "CHI", "NYK", "MIA", "DAL"])
    home = random.integers(0, 6, n)
    away = (home + random.integers(1, 6, n)) % 6
    points, others = random.integers(80, 130, n), random.integers(80, 130, n)
    others = np.where(points == others, others + 1, others)
    chance = random.integers(1, 100, n) / 128
    start = np.datetime64("2024-01-01") + random.integers(0, 300, n)
    return pl.DataFrame(
        {
            "home": teams[home],
            "away": teams[away],
            "points": points,
            "other_points": others,
            "result": np.where(points > others, "W", "L"),
            "win_chance": chance,
            "loss_chance": 1 - chance,
            "start": start,
            "end": start + random.integers(0, 4, n),
            "mail": [f"fan{i}@nba.example.com" for i in random.integers(0, 99999, n)],
            "uuid": [f"{i:08x}-0000-4000-8000-{i:012x}" for i in random.permutation(n) + 10**6],
            "month": [
                f"{m}/{d}/2024" for m, d in zip(random.integers(1, 12, n), random.integers(13, 28, n), strict=True)
            ],
            "copy": points,
        }
    )


def _said(frame: pl.DataFrame) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the suggestions' arguments by type and columns."""
    said = {}
    for each in suggest(frame.lazy()):
        columns = [each.kwargs.get(name, "") for name in ("column", "column_A", "column_B", "row_condition")]
        columns += each.kwargs.get("column_list", [])
        said[(each.type.removeprefix("expect_"), *[name for name in columns if name])] = dict(each.kwargs)
    return said


def test_relations_between_columns_are_found():
    said = _said(_rows())

    above = "column_pair_values_a_to_be_greater_than_b"
    assert ("select_column_values_to_be_unique_within_record", "home", "away") in said
    assert (above, "points", "other_points", 'col("result") == "W"') in said
    assert (above, "other_points", "points", 'col("result") == "L"') in said
    assert said[above, "end", "start"]["or_equal"]
    assert said["multicolumn_sum_to_equal", "win_chance", "loss_chance"]["sum_total"] == 1
    assert ("column_pair_values_to_be_equal", "points", "copy") in said
    assert not any(key[0] == above and "win_chance" in key for key in said)


def test_shapes_of_texts_are_told():
    said = _said(_rows())

    assert "@" in said["column_values_to_match_regex", "mail"]["regex"]
    assert said["column_values_to_match_regex", "uuid"]["regex"].startswith("^[0-9a-fA-F]{8}-")
    assert said["column_values_to_match_strftime_format", "month"]["strftime_format"] == "%m/%d/%Y"
    assert ("column_values_to_be_unique", "uuid") in said


@pytest.mark.parametrize("texts", [["01/02/2024", "03/04/2024"], ["x"], ["a", "B1"], ["", "a"]])
def test_nothing_is_said_of_texts_that_could_be_read_two_ways_or_share_nothing(texts: list[str]):
    shape = shape_of(texts)

    assert shape is None or shape.format is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), copies=st.integers(1, 5))
@example(seed=1960297, copies=1)  # infinite, and never falling
def test_what_is_suggested_holds_on_the_data_it_came_from(seed: int, copies: int):
    frame = pl.concat([random_frame(Random(seed), most_rows=60)] * copies)

    expectations = suggest(frame.lazy())
    _, judged = evaluate(frame.lazy(), expectations)

    assert [each.expectation for each in judged if not each.outcome.success] == []
    assert len(expectations) <= MAX_SUGGESTED
    assert all(each.meta["evidence"] for each in expectations)


@pytest.fixture(scope="module")
def games(shared_data: Path) -> pl.DataFrame:
    """The real games, a row for each."""
    return pl.read_csv(shared_data / "data" / "nba_games_1947_2015.csv", try_parse_dates=True)


def _some(frame: pl.DataFrame, column: str, value: Any, n: int = 80) -> pl.DataFrame:
    """Return the games with `value` in some rows of a column."""
    hit = pl.Series(np.isin(np.arange(frame.height), np.random.default_rng(1).permutation(frame.height)[:n]))
    return frame.with_columns(pl.when(hit).then(value).otherwise(pl.col(column)).alias(column))


_FAULTS: dict[str, Any] = {
    "games twice": lambda games: pl.concat([games, games.head(200)]),
    "half of the rows gone": lambda games: games.head(games.height // 3),
    "a column gone": lambda games: games.drop("elo_i"),
    "a column renamed": lambda games: games.rename({"pts": "points"}),
    "missing keys": lambda games: _some(games, "game_id", None),
    "missing points": lambda games: _some(games, "pts", None),
    "negative points": lambda games: _some(games, "pts", -3.0),
    "points ten times": lambda games: _some(games, "pts", pl.col("pts") * 10),
    "points of another unit": lambda games: games.with_columns(pl.col("pts") * 0.9, pl.col("opp_pts") * 0.9),
    "an unknown team": lambda games: _some(games, "team_id", pl.lit("XYZ")),
    "team codes in small letters": lambda games: _some(games, "team_id", pl.col("team_id").str.to_lowercase()),
    "teams against themselves": lambda games: _some(games, "opp_id", pl.col("team_id")),
    "results turned round": lambda games: _some(games, "game_result", pl.lit("W")),
    "an unknown result": lambda games: _some(games, "game_result", pl.lit("D")),
    "forecasts in percent": lambda games: _some(games, "forecast", pl.col("forecast") * 100),
    "dates far away": lambda games: _some(games, "date_game", pl.lit(date(2914, 1, 1))),
    "dates of another format": lambda games: games.with_columns(pl.col("date_game").dt.strftime("%d.%m.%Y")),
    "rows out of order": lambda games: games.sample(fraction=1, shuffle=True, seed=1),
    "points swapped with the opponent's": lambda games: games.rename({"pts": "opp_pts", "opp_pts": "pts"}),
    "a season too large": lambda games: _some(games, "year_id", 20150),
    "numbers as text": lambda games: games.with_columns(pl.col("pts").cast(pl.String) + " points"),
    "malformed ids": lambda games: _some(games, "game_id", pl.col("game_id").str.head(7)),
    "equal scores": lambda games: _some(games, "pts", pl.col("opp_pts")),
    "elo lost": lambda games: _some(games, "elo_i", 0.0),
}


def test_the_suite_of_the_real_games_catches_realistic_faults(games: pl.DataFrame):
    suite = suggest(games.lazy())

    caught = {
        name: sum(not each.outcome.success for each in evaluate(fault(games).lazy(), suite)[1])
        for name, fault in _FAULTS.items()
    }

    assert all(each.outcome.success for each in evaluate(games.lazy(), suite)[1])
    assert [name for name, n_failed in caught.items() if not n_failed] == []
