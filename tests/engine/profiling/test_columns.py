"""The figures of a column are those of pandas and scipy, on whatever numbers."""

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.engine.profiling.columns import QUANTILES, describe_column, text_counts
from mcp_server.engine.profiling.profile import profile

FLOATS = st.one_of(st.none(), st.floats(-1e6, 1e6, allow_nan=False), st.sampled_from([0.0, -0.0, 1.0, 2.5]))
WHOLES = st.one_of(st.none(), st.integers(-(2**40), 2**40), st.integers(-3, 3))


@settings(deadline=None, max_examples=150)
@given(values=st.one_of(st.lists(FLOATS, min_size=1, max_size=80), st.lists(WHOLES, min_size=1, max_size=80)))
def test_figures_of_numbers_are_those_of_pandas_and_scipy(values: list[float | None]) -> None:
    whole = all(value is None or isinstance(value, int) for value in values)
    column = pl.Series("x", values, dtype=pl.Int64 if whole else pl.Float64)
    found = describe_column(column)
    known = pd.Series([value for value in values if value is not None], dtype="int64" if whole else "float64")
    assert found.missing == len(values) - len(known)
    assert found.distinct == known.nunique()
    if known.empty:
        return
    assert (found.min, found.max) == (known.min(), known.max())
    assert found.mean == pytest.approx(known.mean(), rel=1e-9, abs=1e-9)
    if len(known) > 1:
        assert found.std == pytest.approx(known.std(), rel=1e-7, abs=1e-7)
    for q in QUANTILES:
        assert found.quantiles[f"{q:g}"] == pytest.approx(known.quantile(q), rel=1e-9, abs=1e-9)
    assert sum(found.counts) == len(known)
    assert all(a < b for a, b in zip(found.edges, found.edges[1:], strict=False)) or known.nunique() == 1
    assert (found.zeros, found.negative) == (int((known == 0).sum()), int((known < 0).sum()))
    counts = known.value_counts()
    assert [n for _, n in found.top_values] == sorted((n for n in counts if n > 1 or len(counts) <= 10), reverse=True)[
        :10
    ]
    assert all(counts[value] == n for value, n in found.top_values)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), size=st.integers(3, 300))
def test_skewness_and_kurtosis_are_those_of_scipy(seed: int, size: int) -> None:
    values = np.random.default_rng(seed).gamma(2.0, 3.0, size)
    found = describe_column(pl.Series("x", values))
    assert found.skew == pytest.approx(scipy.stats.skew(values), rel=1e-6)
    assert found.kurtosis == pytest.approx(scipy.stats.kurtosis(values), rel=1e-6, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.one_of(st.none(), st.text(max_size=4)), min_size=1, max_size=60))
def test_figures_of_text_are_those_of_pandas(values: list[str | None]) -> None:
    found = describe_column(pl.Series("x", values, dtype=pl.String))
    known = pd.Series([value for value in values if value is not None], dtype=object)
    assert (found.missing, found.distinct) == (len(values) - len(known), known.nunique())
    if known.empty:
        return
    lengths = known.str.len()
    assert found.lengths == (lengths.min(), pytest.approx(lengths.mean()), lengths.max())
    counts = known.value_counts()
    assert all(counts[value] == n for value, n in found.top_values)


def test_text_with_more_values_than_are_counted_one_by_one_has_the_same_figures() -> None:
    values = [f"game {i}" for i in range(100_500)] + ["twice", "thrice", "thrice", "twice", "thrice", None]
    column = pl.Series("x", values)
    assert text_counts(column) is None
    found = describe_column(column)
    assert (found.distinct, found.missing) == (100_502, 1)
    assert found.top_values == [("thrice", 3), ("twice", 2)]
    assert (found.min, found.max) == ("game 0", "twice")


def test_times_have_quantiles_ranges_and_extremes_of_their_own_type() -> None:
    days = [date(2024, 1, 1) + timedelta(days=i) for i in range(101)]
    found = describe_column(pl.Series("day", days))
    assert (found.min, found.max) == (days[0], days[-1])
    assert found.quantiles["0.5"] == date(2024, 2, 20)
    assert found.edges[0] == days[0]
    assert found.edges[-1] == days[-1]
    assert sum(found.counts) == 101
    assert found.order == "strictly increasing"
    times = describe_column(pl.Series("at", [datetime(2024, 1, 1, 12), datetime(2024, 1, 1, 12), datetime(2024, 1, 2)]))
    assert times.top_values == [(datetime(2024, 1, 1, 12), 2), (datetime(2024, 1, 2), 1)]


def test_infinite_values_are_counted_and_left_out() -> None:
    found = describe_column(pl.Series("x", [1.0, 2.0, float("inf"), float("-inf"), None]))
    assert (found.infinite, found.missing, found.distinct, found.min, found.max) == (2, 1, 4, 1.0, 2.0)
    assert found.mean == 1.5


def test_far_values_are_counted_and_a_histogram_without_them_is_there() -> None:
    values = [*np.random.default_rng(0).normal(size=1000).tolist(), 1e6, -1e6]
    found = describe_column(pl.Series("x", values))
    assert found.outliers == 2
    edges, counts = found.trimmed
    assert sum(counts) == 1000
    assert -5 < edges[0] < edges[-1] < 5
    assert sum(found.counts) == 1002


@pytest.mark.parametrize(
    ("values", "order"),
    [
        ([1, 2, 3], "strictly increasing"),
        ([1, 1, 3], "increasing"),
        ([3, None, 1], "strictly decreasing"),
        ([3, 1, 1], "decreasing"),
        ([1, 3, 2], None),
        ([2, 2, 2], None),
    ],
)
def test_order_down_the_rows_is_told(values: list[int | None], order: str | None) -> None:
    assert describe_column(pl.Series("x", values)).order == order


def test_a_table_read_column_by_column_has_the_profile_of_one_in_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frame = pl.DataFrame(
        {
            "id": range(3000),
            "x": rng.normal(size=3000),
            "team": rng.choice(["BOS", "LAL", "NYK"], 3000),
            "when": pl.Series(rng.integers(0, 10**9, 3000)).cast(pl.Datetime("ms")),
            "won": rng.random(3000) < 0.5,
        }
    )
    frame = pl.concat([frame, frame[:4].with_columns(pl.lit("GSW").alias("team")), frame[7:9]])
    frame.write_parquet(tmp_path / "t.parquet", row_group_size=500)
    heard: list[float] = []
    lazy = profile(pl.scan_parquet(tmp_path / "t.parquet"), tell=lambda share, words: heard.append(share))
    whole = profile(frame)
    assert lazy.columns == whole.columns
    assert lazy.warnings == whole.warnings
    assert lazy.near_duplicates == whole.near_duplicates
    assert (lazy.duplicate_rows, lazy.candidate_keys) == (whole.duplicate_rows, whole.candidate_keys)
    assert [c.value for c in lazy.correlations] == pytest.approx([c.value for c in whole.correlations])
    assert heard == sorted(heard)
    assert len(heard) == 7


def test_nan_is_missing_and_categories_and_decimals_are_read() -> None:
    frame = pl.DataFrame(
        {
            "x": [1.0, float("nan"), None],
            "team": pl.Series(["BOS", "LAL", "BOS"], dtype=pl.Categorical),
            "fee": pl.Series(["1.50", "2.50", None]).cast(pl.Decimal(10, 2)),
            "nothing": [None, None, None],
        }
    )
    x, team, fee, nothing = profile(frame).columns
    assert (x.missing, x.distinct, x.infinite) == (2, 1, 0)
    assert (team.distinct, team.top_values[0]) == (2, ("BOS", 2))
    assert (fee.mean, fee.missing) == (2.0, 1)
    assert (nothing.missing, nothing.distinct) == (3, 0)


def test_what_the_listener_raises_ends_the_profile() -> None:
    def stop(share: float, words: str) -> None:
        raise InterruptedError(words)

    with pytest.raises(InterruptedError, match="1 of 2 columns"):
        profile(pl.DataFrame({"a": [1, 2], "b": [3, 4]}), tell=stop)
