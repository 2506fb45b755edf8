import time
from datetime import date
from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats

from mcp_server.engine.profiling.columns import histogram
from mcp_server.engine.profiling.profile import profile
from mcp_server.engine.profiling.relations import cramers_v, pearson_matrix
from mcp_server.engine.type_inference import infer_types


def test_figures_of_a_column_by_hand() -> None:
    found = profile(pl.DataFrame({"x": [1.0, 2.0, 3.0, 10.0, None], "t": ["a", "b", "a", None, "a"]}))
    x, t = found.columns
    assert (x.missing, x.distinct, x.min, x.max, x.mean) == (1, 4, 1.0, 10.0, 4.0)
    assert x.std == pytest.approx(sqrt((9 + 4 + 1 + 36) / 3))
    assert x.quantiles["0.5"] == 2.5
    assert sum(x.counts) == 4
    assert (t.missing, t.distinct, t.min, t.max, t.mean) == (1, 2, "a", "b", None)
    assert t.top_values == [("a", 3), ("b", 1)]


def test_histogram_edges_span_the_values() -> None:
    edges, counts = histogram(pl.Series([0.0, 0.5, 5.0, 10.0, float("inf"), None]), n_bins=2)
    assert edges == [0.0, 5.0, 10.0]
    assert counts == [2, 2]
    assert histogram(pl.Series([1, 2, 2, 4]), n_bins=4) == ([1.0, 2.0, 3.0, 4.0, 5.0], [1, 2, 0, 1])
    assert histogram(pl.Series([3, 3])) == ([3.0, 3.0], [2])
    assert histogram(pl.Series([None], dtype=pl.Float64)) == ([], [])


def test_pearson_leaves_out_pairs_with_a_missing_value() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 3)) + 1e6
    values[:, 1] += values[:, 0]
    values[::7, 0] = np.nan
    values[::5, 2] = np.nan
    ours = pearson_matrix(values)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = ~np.isnan(values[:, i]) & ~np.isnan(values[:, j])
        assert ours[i, j] == pytest.approx(np.corrcoef(values[both, i], values[both, j])[0, 1], abs=1e-6)
    assert np.isnan(pearson_matrix(np.array([[1.0, 2.0], [1.0, 3.0]]))[0, 1])


def test_cramers_v_is_one_for_equal_columns_and_known_for_a_table() -> None:
    a = pl.Series(["x"] * 10 + ["y"] * 10)
    assert cramers_v(a, a) == pytest.approx(1.0)
    b = pl.Series((["u"] * 6 + ["v"] * 4) + (["u"] * 4 + ["v"] * 6))  # chi² = 0.8 of 20
    assert cramers_v(a, b) == pytest.approx(sqrt(0.8 / 20))
    assert cramers_v(a, pl.Series(["u"] * 20)) is None


def test_duplicates_and_keys_are_found() -> None:
    frame = pl.DataFrame({"game": [1, 1, 2, 2], "team": ["A", "B", "A", "B"], "pts": [3.5, 4.5, 3.5, 4.5]})
    found = profile(frame)
    assert found.duplicate_rows == 0
    assert found.candidate_keys == [["game", "team"]]
    assert profile(pl.concat([frame, frame[:1]])).duplicate_rows == 1


def test_rows_that_differ_in_one_column_are_near_duplicates() -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"id": range(100), "x": rng.normal(size=100), "note": ["n"] * 100})
    doubled = pl.concat([frame, frame[:7].with_columns(pl.lit("other").alias("note"))])
    near = profile(doubled).near_duplicates[0]
    assert (near.groups, near.n_rows, near.differing_columns) == (7, 7, ["note"])


def test_each_game_twice_is_told_with_the_column_that_tells_the_rows_apart() -> None:
    rng = np.random.default_rng(0)
    games = pl.DataFrame({"game_id": [f"g{i}" for i in range(50)], "pts": rng.integers(80, 120, 50)})
    both = pl.concat(
        [games.with_columns(pl.lit(0).alias("copy")), games.with_columns(pl.lit(1).alias("copy"), pl.col("pts") + 3)]
    )
    near = profile(both).near_duplicates[0]
    assert near.key == ["game_id"]
    assert (near.groups, near.differing_columns) == (50, ["pts", "copy"])
    assert "'copy'" in near.fix


def test_warnings_name_real_trouble() -> None:
    n = 200
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    frame = pl.DataFrame(
        {
            "id": range(n),
            "nothing": [None] * n,
            "same": ["x"] * n,
            "null_word": ["NULL" if i % 2 else "b" for i in range(n)],
            "dates": ["2024-01-02" if i % 2 else "02/01/2024" for i in range(n)],
            "texts": [f"text {i % 150}" for i in range(n)],
            "skew": np.exp(rng.normal(size=n) * 3),
            "number_text": [str(i % 40) for i in range(n)],
            "mostly": [float(i) if i % 10 == 0 else None for i in range(n)],
            "leak": y * 10 + rng.random(n),
            "y": y,
        },
        schema_overrides={"nothing": pl.String},
    ).with_columns((pl.col("skew") * 2).alias("twin"))
    found = {(finding.column, finding.code) for finding in profile(frame).warnings}
    assert found >= {
        ("id", "identifier"),
        ("nothing", "all_null"),
        ("same", "constant"),
        ("null_word", "null_as_text"),
        ("dates", "mixed_dates"),
        ("texts", "high_cardinality"),
        ("skew", "skewed"),
        ("number_text", "typed_text"),
        ("mostly", "mostly_missing"),
        ("leak", "possible_leak"),
        ("twin", "near_duplicate_column"),
    }
    assert ("skew", "possible_leak") not in found


def test_columns_of_every_type_are_profiled() -> None:
    frame = pl.DataFrame(
        {
            "b": [True, False, None],
            "d": pl.Series(["2024-01-01", "2024-01-02", None]).str.to_date(),
            "e": pl.Series([None, None, None], dtype=pl.String),
            "i": [2**62, 1, -5],
            "f": [float("inf"), 1.0, None],
        }
    )
    by_name = {column.name: column for column in profile(frame).columns}
    assert by_name["b"].mean == 0.5
    assert str(by_name["d"].max) == "2024-01-02"
    assert (by_name["e"].missing, by_name["e"].distinct) == (3, 0)
    assert by_name["f"].mean == 1.0


@pytest.mark.parametrize("values", [[1e308, -1e308, 3.0], [5e-324, 0.0, 1.0], [1e300, 1e300, 1e300], [0.0, -0.0, 0.0]])
def test_numbers_at_the_ends_of_their_range_break_nothing(values: list[float]) -> None:
    found = profile(pl.DataFrame({"x": values, "y": [1.0, 2.0, 3.0]}))
    assert found.columns[0].min == min(values)
    assert sum(found.columns[0].counts) == 3


def test_only_the_chosen_columns_are_described() -> None:
    found = profile(pl.DataFrame({"a": [1, 2], "b": [1, 1]}), ["b"])
    assert [column.name for column in found.columns] == ["b"]
    assert found.candidate_keys == [["a"]]


def test_the_real_games_are_profiled_within_seconds(shared_data: Path) -> None:
    games, _ = infer_types(pl.read_csv(shared_data / "data" / "nba_games_1947_2015.csv", infer_schema=False))
    started = time.monotonic()
    found = profile(games)
    assert time.monotonic() - started < 5
    assert ("notes", "null_as_text") in {(finding.column, finding.code) for finding in found.warnings}
    assert ["game_id"] in found.candidate_keys


def test_what_looks_at_a_sample_or_at_some_columns_only_is_said() -> None:
    rng = np.random.default_rng(0)
    long = profile(pl.DataFrame({"x": rng.normal(size=120_000), "y": rng.normal(size=120_000)}))
    assert "look at 100,000 of 120,000 rows" in long.notes[0]
    wide = profile(pl.DataFrame({f"c{i}": rng.normal(size=50) for i in range(70)}))
    assert wide.notes == ["Of 70 columns of numbers the first 60 are correlated; name others in columns."]
    assert profile(pl.DataFrame({"x": [1, 2, 3]})).notes == []


@pytest.mark.parametrize("seed", range(3))
def test_correlations_are_those_of_pandas_and_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=500)
    frame = pl.DataFrame({"x": x, "y": x + rng.gamma(1, 1, 500), "z": rng.integers(0, 9, 500)})
    frame = frame.with_columns(pl.when(pl.Series(rng.random(500) < 0.1)).then(None).otherwise(pl.col("y")).alias("y"))
    found = {(c.a, c.b, c.method): c.value for c in profile(frame).correlations}
    known = frame.to_pandas().corr("pearson")
    for a, b in (("x", "y"), ("x", "z"), ("y", "z")):
        assert found[a, b, "pearson"] == pytest.approx(known.loc[a, b], abs=1e-9)
    spearman = scipy.stats.spearmanr(frame["x"], frame["z"]).statistic
    assert found["x", "z", "spearman"] == pytest.approx(spearman, abs=1e-9)
    groups = pl.DataFrame({"a": rng.choice(list("abc"), 500), "b": rng.choice(list("uv"), 500)})
    table = groups.to_pandas().pipe(lambda t: pd.crosstab(t["a"], t["b"])).to_numpy()
    v = scipy.stats.contingency.association(table, method="cramer")
    assert profile(groups).correlations[0].value == pytest.approx(v, abs=1e-9)


def test_columns_that_say_the_same_are_told_in_which_way() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    team = rng.choice(["Boston", "Lakers", "Knicks"], 300)
    frame = pl.DataFrame(
        {
            "x": x,
            "copy": x,
            "celsius": (x - 32) / 1.8,
            "rest": 100 - x,
            "cube": np.exp(x),
            "team": team,
            "shout": [each.upper() + " " for each in team],
            "code": [each[:3] for each in team],
        }
    )
    said = {each.column: each.message for each in profile(frame).warnings if each.code == "near_duplicate_column"}
    assert said["copy"] == "Equal to 'x' in every row."
    assert said["celsius"].startswith("Equal to 0.5555555556 × 'x' − 17.77777778 in every row")
    assert said["rest"] == "Equal to 100 − 'x' in every row."
    assert said["cube"].startswith("A transform of 'x' that keeps its order")
    assert said["shout"] == "Equal to 'team' but for capitals and spaces."
    assert said["code"].startswith("Goes one-to-one with 'team'")
    assert set(said) == {"copy", "celsius", "rest", "cube", "shout", "code"}


def test_pairs_of_numbers_and_gaps_that_tell_an_outcome_are_hinted_at() -> None:
    rng = np.random.default_rng(0)
    home, away = rng.integers(80, 130, 600), rng.integers(80, 130, 600)
    won = (home > away).astype(int)
    fees = pl.Series([3.0 if w else None for w in won])
    frame = pl.DataFrame({"home": home, "away": away, "fee": fees, "noise": rng.normal(size=600), "home_win": won})
    found = {each.column: each.message for each in profile(frame).warnings if each.code == "possible_leak"}
    assert "difference from 'away'" in found["home"]
    assert "Whether it is missing" in found["fee"]
    assert set(found) == {"home", "fee"}


@pytest.mark.parametrize(
    ("column", "values", "code"),
    [
        ("x", [*range(100), -999, -999], "filler_value"),
        ("day", [date(2024, 1, 1 + i % 28) for i in range(100)] + [date(1900, 1, 1)], "filler_value"),
        ("fee", [10.5 + i % 7 for i in range(400)] + [-3.25], "negative"),
        ("fee", [0.0] * 60 + [1.5 + i for i in range(40)], "zeros"),
        ("state", ["ok"] * 99 + ["broken"], "imbalance"),
        ("day", [20240101 + i for i in range(28)], "date_as_number"),
        ("x", [i / 7 for i in range(100)] + [500.0], "outliers"),
        ("x", [float("inf"), *range(30)], "infinite"),
        ("x", [i * 1.5 for i in range(50)], "monotone"),
        ("x", [None if i % 10 == 0 else i % 7 for i in range(100)], "missing"),
    ],
)
def test_trouble_in_numbers_and_times_is_named(column: str, values: list[object], code: str) -> None:
    found = profile(pl.DataFrame({column: pl.Series(values, strict=False)})).warnings
    assert code in {each.code for each in found}, found


def test_names_that_look_alike_are_told() -> None:
    frame = pl.DataFrame(
        {"pace": [1, 2, 3], "p\u0430ce": [4, 7, 5], "Team": ["a", "b", "c"], "te am": ["b", "a", "c"], "x": [1, 4, 2]}
    )
    found = {each.column: each.message for each in profile(frame).warnings if each.code == "similar_name"}
    assert "another alphabet (U+0430)" in found["p\u0430ce"]
    assert "'Team'" in found["te am"]
    assert set(found) == {"p\u0430ce", "te am"}
