"""No expectation breaks on any type of column: it holds, or fails with counts or a message."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from mcp_server.engine.expectations.catalogue import NATIVE
from mcp_server.engine.expectations.evaluation import evaluate
from mcp_server.engine.expectations.suggestion import suggest
from tests.engine.expectations.running import judge

COLUMNS = pl.DataFrame(
    {
        "int8": pl.Series([1, None, 3], dtype=pl.Int8),
        "uint64": pl.Series([2**63, None, 3], dtype=pl.UInt64),
        "int128": pl.Series([2**100, None, -3], dtype=pl.Int128),
        "float32": pl.Series([0.5, float("nan"), None], dtype=pl.Float32),
        "infinite": [float("inf"), -float("inf"), 1.0],
        "flag": [True, None, False],
        "text": ["a", None, "é\n"],
        "category": pl.Series(["a", None, "b"], dtype=pl.Categorical),
        "enum": pl.Series(["a", None, "b"], dtype=pl.Enum(["a", "b"])),
        "day": [date(2020, 1, 1), None, date(2020, 1, 2)],
        "moment": [datetime(2020, 1, 1), None, datetime(2020, 1, 2)],
        "zoned": pl.Series([datetime(2020, 1, 1), None, datetime(2020, 1, 2)]).dt.replace_time_zone("UTC"),
        "clock": [time(1), None, time(2)],
        "span": [timedelta(1), None, timedelta(2)],
        "decimal": pl.Series([Decimal("1.5"), None, Decimal("2.5")]),
        "binary": [b"a", None, b"b"],
        "list": [[1], None, [2]],
        "struct": [{"a": 1}, None, {"a": 2}],
        "nothing": [None, None, None],
    }
)
ARGUMENTS: dict[str, Any] = {
    "min_value": 1,
    "max_value": 2,
    "value_set": [1, "a", None, 2.5, True, "2020-01-01", -(10**30)],
    "regex": "a",
    "regex_list": ["a", "b"],
    "strftime_format": "%Y",
    "value": 1,
    "threshold": 1,
    "double_sided": True,
    "type_": "int64",
    "type_list": ["float", "str"],
    "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, None]]},
    "partition_object": {"values": ["a", "b"], "weights": [0.5, 0.5]},
    "value_pairs_set": [["a", 1], [1, None]],
    "sum_total": 3,
    "column_set": ["int8"],
    "mostly": 0.5,
}


def _kwargs(name: str, column: str) -> dict[str, Any]:
    kind = NATIVE[name]
    named = {"column": column, "column_A": column, "column_B": "int8", "column_list": [column, "text"]}
    if column == "text":
        named["column_list"] = [column, "flag"]
    return {argument: value for argument, value in (named | ARGUMENTS).items() if argument in kind.arguments}


@pytest.mark.parametrize("name", NATIVE)
def test_every_type_answers_for_every_column(name: str):
    for column in COLUMNS.columns:
        for frame in (COLUMNS, COLUMNS.clear()):
            outcome = judge(frame, name.removeprefix("expect_"), **_kwargs(name, column))
            assert isinstance(outcome.success, bool), (name, column)


@pytest.mark.parametrize("condition", ["int8 == 1", "zoned > '2020-01-01'", "decimal > 1", "day == '2020-01-01'"])
def test_row_conditions_answer_for_their_columns(condition: str):
    for name in ("column_values_to_be_unique", "column_mean_to_be_between", "column_values_to_not_be_null"):
        kwargs = {"min_value": 0} if "mean" in name else {}
        assert judge(COLUMNS, name, column="int8", row_condition=condition, **kwargs).message == ""


def test_dates_as_values_of_a_zoned_column():
    outcome = judge(COLUMNS, "column_values_to_be_between", column="zoned", min_value="2020-01-02")

    assert outcome.partial_unexpected_list == ("2020-01-01T00:00:00+00:00",)


@pytest.mark.parametrize("times", [1, 30])
def test_a_suite_can_be_suggested_for_every_type_of_column(times: int):
    frame = pl.concat([COLUMNS] * times).lazy()

    _, judged = evaluate(frame, suggest(frame))

    assert judged
    assert all(each.outcome.success for each in judged)
