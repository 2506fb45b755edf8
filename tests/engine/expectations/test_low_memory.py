"""A streamed table is judged exactly as a held one, and figures taken in parts are those of the whole."""

import gc
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_server.engine.expectations.columns import Source, Stream
from mcp_server.engine.expectations.evaluation import evaluate, judge, judgeable
from mcp_server.engine.expectations.order import Quantiles, ranked
from mcp_server.engine.expectations.suite import parse_expectations
from mcp_server.engine.expectations.sums import tree_sum
from mcp_server.engine.expectations.tallies import Tally
from mcp_server.errors import CancelledError, ResourceExhaustedError

_COLUMNS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "x": (pl.Float64, st.one_of(st.sampled_from([0.0, -0.0, 1.5, float("nan")]), st.floats(width=32))),
    "i": (pl.Int64, st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))),
    "u": (pl.UInt64, st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1))),
    "small": (pl.Int8, st.integers(-2, 2)),
    "s": (pl.String, st.text("abé\n", max_size=2)),
    "flag": (pl.Boolean, st.booleans()),
    "day": (pl.Date, st.dates(date(2020, 1, 1), date(2020, 1, 9))),
    "moment": (pl.Datetime("us", "UTC"), st.integers(0, 9).map(lambda n: datetime(2020, 1, 1, n, tzinfo=UTC))),
}
_ROWS = st.lists(st.tuples(*(st.one_of(st.none(), values) for _, values in _COLUMNS.values())), max_size=40)
_ANY_RANGE = {"quantiles": [0.0, 0.3, 0.5, 1.0], "value_ranges": [[None, None]] * 4}
_PARTS = {"bins": [-1, 0, 1], "weights": [0.5, 0.5]}
_CONDITION = {"row_condition": 'col("small") >= 0', "condition_parser": "great_expectations"}


def _suite() -> list[dict[str, Any]]:
    """Every way of measuring, on every type of column, without a condition and with one."""
    asked: list[tuple[str, dict[str, Any]]] = []
    for column in _COLUMNS:
        one = {"column": column}
        asked += [("values_to_be_unique", one), ("unique_value_count_to_be_between", one | {"min_value": 1})]
        asked += [("proportion_of_unique_values_to_be_between", one), ("values_to_not_be_null", one)]
        asked += [("max_to_be_between", one), ("distinct_values_to_be_in_set", one | {"value_set": [1, "a", 0]})]
        asked += [("distinct_values_to_equal_set", one | {"value_set": [1, "a", True]})]
        asked += [("most_common_value_to_be_in_set", one | {"value_set": [1, "a"], "ties_okay": True})]
    for column in ("x", "i", "u", "small", "flag"):
        one = {"column": column}
        asked += [(f"{figure}_to_be_between", one) for figure in ("mean", "median", "stdev", "sum")]
    for column in ("x", "i", "u", "small"):
        one = {"column": column}
        asked += [("quantile_values_to_be_between", one | {"quantile_ranges": _ANY_RANGE})]
        asked += [("value_z_scores_to_be_less_than", one | {"threshold": 1, "double_sided": True})]
        asked += [("kl_divergence_to_be_less_than", one | {"partition_object": _PARTS, "threshold": 1})]
    for column in ("x", "i", "u", "small", "flag", "day", "moment"):
        asked += [(f"values_to_be_{way}", {"column": column, "strictly": True}) for way in ("increasing", "decreasing")]
        asked += [("values_to_be_increasing", {"column": column})]
    suite = [{"type": f"expect_column_{name}", "kwargs": kwargs} for name, kwargs in asked]
    suite += [
        {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": columns} | ignored}
        for columns in (["small", "flag"], ["day", "small"], ["s", "flag"], ["x", "s"], ["i", "u"], ["x"])
        for ignored in ({}, {"ignore_row_if": "any_value_is_missing"}, {"ignore_row_if": "never"})
    ]
    return suite + [{**each, "kwargs": each["kwargs"] | _CONDITION} for each in suite]


_SUITE = parse_expectations(_suite())
_TURNS = 16


def _frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={name: dtype for name, (dtype, _) in _COLUMNS.items()}, orient="row")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_ROWS, most_values=st.sampled_from([3, 10, 1000]), turn=st.integers(0, _TURNS - 1))
def test_streamed_and_held_tables_have_the_same_outcomes(
    tmp_path: Path, rows: list[Any], most_values: int, turn: int
) -> None:
    suite = _SUITE[turn::_TURNS]
    frame = _frame(rows)
    frame.write_parquet(tmp_path / "rows.parquet", row_group_size=7)
    table = judgeable(pl.scan_parquet(tmp_path / "rows.parquet"))
    streamed = Source(table, frame.height, streamed=True, most_values=most_values)

    _, held = evaluate(frame.lazy(), suite, low_memory=False)

    for mine, other in zip(judge(streamed, suite), held, strict=True):
        assert mine == other, mine.expectation


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.one_of(st.none(), st.text("abc", max_size=3)), max_size=40), bits=st.sampled_from([6, 8, 64]))
def test_hashes_that_do_not_tell_values_apart_never_change_a_count(texts: list[str | None], bits: int) -> None:
    column = pl.Series("s", texts, dtype=pl.String)
    source = Source(column.to_frame().lazy(), len(texts), streamed=True, hash_bits=bits, most_values=15)
    present = column.drop_nulls()

    try:
        found = Tally(Stream(("s",), (pl.String(),))).measure(source)
    except ResourceExhaustedError:
        assert present.n_unique() > bits  # too many values for that few bits: refused, and no wrong count given
        return

    repeated = column.is_duplicated() & column.is_not_null()
    assert (found.present, found.distinct, found.repeated) == (len(present), present.n_unique(), repeated.sum())
    if found.repeated:
        assert found.first(source, ("s",), 20)["row"].to_list() == repeated.arg_true().head(20).to_list()


def test_records_whose_zeros_differ_in_sign_are_equal() -> None:
    frame = pl.DataFrame({"x": [0.0, -0.0, 1.0], "s": ["a", "a", "a"]})
    source = Source(frame.lazy(), 3, streamed=False, columns=["x", "s"])

    found = Tally(Stream(("x", "s"), (pl.Float64(), pl.String()), as_records=True)).measure(source)

    assert (found.distinct, found.repeated) == (2, 2)


@settings(max_examples=100, deadline=None)
@given(
    codes=st.lists(st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1)), min_size=1, max_size=60),
    data=st.data(),
)
def test_ranks_are_those_of_the_sorted_codes(codes: list[int], data: st.DataObject) -> None:
    ranks = sorted(data.draw(st.sets(st.integers(0, len(codes) - 1), min_size=1)))
    parts = [np.array(codes[start : start + 7], dtype=np.uint64) for start in range(0, len(codes), 7)]

    assert ranked(lambda: iter(parts), ranks, held=2) == [sorted(codes)[rank] for rank in ranks]


@pytest.mark.parametrize("method", ["linear", "lower", "higher", "midpoint", "nearest"])
@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), share=st.floats(0, 1))
def test_quantiles_are_those_of_numpy(method: Any, values: list[float], share: float) -> None:
    source = Source(pl.LazyFrame({"x": values}), len(values), streamed=False, columns=["x"])

    found = Quantiles(Stream(("x",), (pl.Float64(),)), (share,), method).measure(source)

    assert found == [np.quantile(values, share, method=method)]


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 1000, 4097, 100_003])
def test_a_sum_in_parts_has_the_last_digit_of_the_whole(count: int) -> None:
    random = np.random.default_rng(count)
    values = random.normal(size=count) * 10.0 ** random.integers(-8, 8, count)
    parts = np.split(values, np.sort(random.integers(0, count + 1, 9)))

    assert tree_sum(parts, count, leaf=128) == np.sum(values)


def test_a_long_column_has_the_same_figures_both_ways() -> None:
    random = np.random.default_rng(7)
    size = 300_000
    frame = pl.DataFrame(
        {
            "x": random.normal(size=size),
            "code": [f"code-{number:09d}" for number in random.integers(0, size * 20, size)],
            "moment": [datetime(2020, 1, 1) + timedelta(seconds=number) for number in range(size)],
        }
    )
    asked = [
        {"type": f"expect_column_{name}", "kwargs": kwargs}
        for name, kwargs in [
            ("mean_to_be_between", {"column": "x"}),
            ("stdev_to_be_between", {"column": "x"}),
            ("median_to_be_between", {"column": "x"}),
            ("values_to_be_unique", {"column": "code"}),
            ("values_to_be_unique", {"column": "x"}),
            ("values_to_be_increasing", {"column": "moment", "strictly": True}),
            ("value_z_scores_to_be_less_than", {"column": "x", "threshold": 3, "double_sided": True}),
        ]
    ]
    expectations = parse_expectations(asked)
    source = Source(judgeable(frame.lazy()), size, streamed=True, most_values=70_000)

    _, held = evaluate(frame.lazy(), expectations, low_memory=False)

    assert judge(source, expectations) == held
    assert held[0].outcome.observed_value == frame["x"].to_numpy().mean()
    assert held[1].outcome.observed_value == pytest.approx(frame["x"].to_numpy().std(ddof=1), rel=1e-14)
    assert held[3].outcome.unexpected_count == frame["code"].is_duplicated().sum()


def test_a_streamed_table_stops_being_read_when_the_work_is_cancelled() -> None:
    frame = pl.LazyFrame({"s": ["a", "b", "b"]})
    suite = parse_expectations([{"type": "expect_column_values_to_be_unique", "kwargs": {"column": "s"}}])
    shares: list[float] = []

    def cancelled(share: float) -> None:
        shares.append(share)
        raise CancelledError("Somebody cancelled the job.")

    with pytest.raises(CancelledError):
        evaluate(frame, suite, low_memory=True, progress=cancelled)

    assert shares == [0.0]


def test_a_judged_table_is_let_go_at_once() -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0, 2.0], "s": ["a", "b", "b"]})
    suite = parse_expectations(
        [
            {"type": f"expect_column_{name}", "kwargs": {"column": column} | kwargs}
            for column in ("x", "s")
            for name, kwargs in [
                ("values_to_be_unique", {}),
                ("mean_to_be_between", {"min_value": 0}),
                ("stdev_to_be_between", {"min_value": 0}),
                ("median_to_be_between", {"min_value": 0}),
                ("most_common_value_to_be_in_set", {"value_set": ["a"]}),
                ("distinct_values_to_equal_set", {"value_set": ["a"]}),
            ]
        ]
    )
    evaluate(frame.lazy(), suite)
    gc.collect()
    gc.disable()  # a cycle of references would hold the table until the collector happens to run
    try:
        before = _held_frames()
        evaluate(frame.lazy(), suite)
        assert _held_frames() == before
    finally:
        gc.enable()


def _held_frames() -> int:
    return sum(isinstance(each, pl.DataFrame | pl.Series) for each in gc.get_objects())
