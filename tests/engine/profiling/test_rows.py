"""Rows that repeat, nearly repeat, or stand out of the order of their time."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.engine.profiling.profile import Profile, profile

N = 1000


def table(seed: int = 0) -> pl.DataFrame:
    """A league's games by hand: no column is a key, most rows differ in several columns."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "season": rng.integers(2000, 2010, N),
            "team": rng.choice(list("ABCDEFGH"), N),
            "opponent": rng.choice(list("ABCDEFGH"), N),
            "day": rng.integers(1, 200, N),
            "pts": rng.integers(80, 130, N),
            "elo": rng.normal(1500, 100, N),
        }
    )


def codes(found: Profile) -> set[str]:
    return {finding.code for finding in found.warnings}


@pytest.mark.parametrize("column", ["season", "team", "opponent", "day", "pts", "elo"])
def test_duplicates_that_differ_in_one_column_are_found_whichever_it_is(column: str) -> None:
    games = table()
    other = pl.lit("Z") if column in ("team", "opponent") else pl.col(column) + 7
    found = profile(pl.concat([games, games[100:115].with_columns(other.alias(column))]))
    near = found.near_duplicates[0]
    assert (near.groups, near.n_rows, near.differing_columns) == (15, 15, [column])
    assert sorted(near.key) == sorted(set(games.columns) - {column})
    assert near.example.startswith("rows 100 and 1,000 (from 0)")
    assert found.duplicate_rows == 0
    assert "near_duplicate_rows" in codes(found)


def test_rows_equal_in_all_columns_are_duplicates_and_no_near_duplicates() -> None:
    games = table()
    found = profile(pl.concat([games, games[:30], games[:5]]))
    assert found.duplicate_rows == 35
    assert found.near_duplicates == []
    assert "duplicate_rows" in codes(found)


def test_both_kinds_at_once_are_counted_apart() -> None:
    games = table()
    found = profile(pl.concat([games, games[:30], games[50:60].with_columns(pl.col("pts") + 1)]))
    assert (found.duplicate_rows, found.near_duplicates[0].n_rows) == (30, 10)


def test_a_table_of_two_columns_tells_keys_with_two_values() -> None:
    pairs = pl.DataFrame({"id": range(N), "score": np.random.default_rng(0).integers(0, 50, N)})
    near = profile(pl.concat([pairs, pairs[:10].with_columns(pl.col("score") + 1)])).near_duplicates[0]
    assert (near.key, near.groups, near.differing_columns) == (["id"], 10, ["score"])


def test_rows_that_differ_in_what_numbers_them_only_are_found() -> None:
    games = table().with_row_index("id").with_columns((pl.col("id") * 7).alias("entry"))
    again = games[:12].with_columns(pl.col("id") + 5000, pl.col("entry") + 90_001)
    near = profile(pl.concat([games, again])).near_duplicates[0]
    assert (near.groups, near.differing_columns) == (12, ["id", "entry"])


def test_a_missing_value_and_another_spelling_are_recognised_in_the_advice() -> None:
    games = table()
    lower = profile(pl.concat([games, games[:5].with_columns(pl.col("team").str.to_lowercase())]))
    assert "capitals or spaces only" in lower.near_duplicates[0].fix
    empty = profile(pl.concat([games, games[:5].with_columns(pl.lit(None, dtype=pl.Int64).alias("pts"))]))
    assert "lack the value" in empty.near_duplicates[0].fix


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_rows_that_agree_by_chance_are_not_called_near_duplicates(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {"a": 3, "b": 30, "c": 10, "d": 50, "e": 5}
    found = profile(pl.DataFrame({name: rng.integers(0, size, 400) for name, size in sizes.items()}))
    assert found.near_duplicates == []


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 60))
def test_duplicates_are_those_of_polars(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "a": rng.integers(0, 4, n),
            "b": [["x", "y", None][i] for i in rng.integers(0, 3, n)],
            "c": rng.integers(0, 2, n) / 2,
        }
    )
    assert profile(frame).duplicate_rows == n - frame.n_unique()


def test_an_almost_unique_column_is_named_with_what_repeats() -> None:
    frame = table().with_columns(pl.Series("code", [f"G{i}" for i in range(N - 1)] + ["G5"]))
    warning = next(each for each in profile(frame).warnings if each.code == "almost_unique")
    assert (warning.column, "'G5' 2 times" in warning.message) == ("code", True)


def test_rows_out_of_time_order_are_told_with_the_first_place() -> None:
    days = pl.date_range(pl.date(2020, 1, 1), pl.date(2022, 9, 26), eager=True).alias("day").head(N).to_list()
    days[10], days[700] = days[700], days[10]
    found = profile(pl.DataFrame({"day": days, "x": np.random.default_rng(0).normal(size=N)}))
    message = next(each.message for each in found.warnings if each.code == "rows_out_of_order")
    assert "2 places" in message
    assert "first at row 11 from 0: 2021-12-01, then 2020-01-12" in message


def test_a_table_sorted_within_groups_or_not_at_all_is_not_out_of_order() -> None:
    days = pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 4, 9), eager=True).head(100).to_list()
    grouped = pl.DataFrame({"team": [t for t in "ABCDEFGHIJ" for _ in range(100)], "day": days * 10})
    assert "rows_out_of_order" not in codes(profile(grouped))
    assert "rows_out_of_order" not in codes(profile(grouped.sample(fraction=1.0, shuffle=True, seed=0)))
