import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from mcp_server.engine.cleaning.outliers import bounds
from mcp_server.engine.cleaning.plan import clean
from mcp_server.engine.cleaning.steps import Change, Step
from mcp_server.errors import InvalidArgumentError, ResourceExhaustedError

FRAME = pl.DataFrame(
    {
        "id": [1, 2, 3, 4, 4],
        "team": [" BOS", "LAL", "NULL", "BOS", "BOS"],
        "points": [100.0, None, 90.0, 110.0, 110.0],
    }
)


def run(
    frame: pl.DataFrame, action: str, *columns: str, options: Mapping[str, Any] | None = None
) -> tuple[pl.DataFrame, list[Change]]:
    return clean(frame, [Step(action, columns or None, options or {})])


def test_repeated_rows_are_dropped_and_counted() -> None:
    after, changes = run(FRAME, "drop_duplicates")
    assert after["id"].to_list() == [1, 2, 3, 4]
    assert changes == [Change(0, None, 0, 1)]
    last, _ = run(FRAME.with_row_index(), "drop_duplicates", "id", options={"keep": "last"})
    assert last["index"].to_list() == [0, 1, 2, 4]


def test_rows_with_missing_cells_are_dropped() -> None:
    after, changes = run(FRAME, "drop_missing", "points")
    assert after["id"].to_list() == [1, 3, 4, 4]
    assert changes[0].rows_removed == 1
    assert len(run(FRAME, "drop_missing", options={"how": "all"})[0]) == 5


@pytest.mark.parametrize(
    ("method", "options", "value"),
    [("mean", {}, 102.5), ("median", {}, 105.0), ("most_frequent", {}, 110.0), ("constant", {"value": 0}, 0.0)],
)
def test_a_missing_number_is_filled(method: str, options: dict[str, Any], value: float) -> None:
    after, changes = run(FRAME, "impute", "points", options={"method": method, **options})
    assert after["points"][1] == value
    assert [(c.column, c.cells_changed) for c in changes] == [("points", 1)]


def test_whole_numbers_stay_whole_when_what_they_get_is_whole() -> None:
    frame = pl.DataFrame({"n": [1, 3, None]})
    assert run(frame, "impute", "n", options={"method": "mean"})[0]["n"].dtype == pl.Int64
    frame = pl.DataFrame({"n": [1, 2, None]})
    after, changes = run(frame, "impute", "n", options={"method": "mean"})
    assert after["n"].to_list() == [1.0, 2.0, 1.5]
    assert changes[0].cells_changed >= 1


def test_text_is_filled_by_its_most_frequent_value_and_has_no_mean() -> None:
    frame = pl.DataFrame({"team": ["BOS", "LAL", "BOS", None]})
    assert run(frame, "impute", "team", options={"method": "most_frequent"})[0]["team"][3] == "BOS"
    with pytest.raises(InvalidArgumentError, match="needs numbers"):
        run(frame, "impute", "team", options={"method": "mean"})
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        run(pl.DataFrame({"n": [1, None]}), "impute", "n", options={"method": "constant", "value": "x"})


@pytest.mark.parametrize("method", ["knn", "iterative"])
def test_models_fill_from_the_other_columns(method: str) -> None:
    x = np.linspace(0, 10, 200)
    frame = pl.DataFrame({"x": x, "y": [None if i % 20 == 7 else 3 * v + 1 for i, v in enumerate(x)]})
    after, changes = run(frame, "impute", "y", options={"method": method})
    assert np.abs(after["y"].to_numpy() - (3 * x + 1)).max() < 0.4
    assert changes[0].cells_changed == 10
    assert after["x"].to_list() == frame["x"].to_list()


def test_knn_refuses_more_pairs_than_it_can_compare() -> None:
    frame = pl.DataFrame({"x": [None, 1.0] * 1_000_001})
    with pytest.raises(ResourceExhaustedError, match="pairs"):
        run(frame, "impute", "x", options={"method": "knn"})


def test_bounds_by_hand() -> None:
    column = pl.Series([1.0, 2.0, 3.0, 4.0, 100.0])
    assert bounds(column, "iqr") == (2 - 3, 4 + 3)  # quartiles 2 and 4
    assert bounds(column, "mad") == pytest.approx((3 - 3.5 * 1.4826, 3 + 3.5 * 1.4826))  # deviations 2 1 0 1 97
    low, high = bounds(column, "zscore", 1.0)
    assert (low + high) / 2 == pytest.approx(22.0)
    assert bounds(pl.Series([5.0, 5.0]), "iqr") == (-np.inf, np.inf)


def test_outliers_are_clipped_or_dropped() -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0, 100.0, None]})
    clipped, changes = run(frame, "clip_outliers", "x")
    assert clipped["x"].to_list() == [1.0, 2.0, 3.0, 4.0, 7.0, None]
    assert (changes[0].column, changes[0].cells_changed) == ("x", 1)
    dropped, changes = run(frame, "drop_outliers", "x", options={"method": "mad"})
    assert dropped["x"].to_list() == [1.0, 2.0, 3.0, 4.0, None]
    assert changes[0].rows_removed == 1
    rng = np.random.default_rng(0)
    cloud = pl.DataFrame({"a": [*rng.normal(size=300), 50.0], "b": [*rng.normal(size=300), 50.0]})
    kept, _ = run(cloud, "drop_outliers", options={"method": "isolation_forest", "contamination": 0.01})
    assert kept["a"].max() < 50.0  # type: ignore[operator]


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        (["1", " 2 ", None], {"dtype": "integer"}, [1, 2, None]),
        (["1.5", "2"], {"dtype": "float"}, [1.5, 2.0]),
        (["Yes", "no", "1"], {"dtype": "boolean"}, [True, False, True]),
        ([1.0, 2.0], {"dtype": "integer"}, [1, 2]),
        ([1, 2], {"dtype": "text"}, ["1", "2"]),
        (["x", "2"], {"dtype": "integer", "errors": "missing"}, [None, 2]),
    ],
)
def test_columns_are_cast(values: list[Any], options: dict[str, Any], expected: list[Any]) -> None:
    after, _ = run(pl.DataFrame({"x": values}), "cast", "x", options=options)
    assert after["x"].to_list() == expected


def test_dates_are_cast_by_their_format() -> None:
    frame = pl.DataFrame({"d": ["02.01.2024", "03.01.2024"]})
    after, changes = run(frame, "cast", "d", options={"dtype": "date", "format": "%d.%m.%Y"})
    assert str(after["d"][0]) == "2024-01-02"
    assert changes[0].detail == "String to Date"
    with pytest.raises(
        InvalidArgumentError, match=r"2 values of column 'd' cannot be read as date, such as '02\.01\.2024'"
    ):
        run(frame, "cast", "d", options={"dtype": "date"})


@pytest.mark.parametrize(("values", "dtype"), [(["x"], "integer"), ([1.5], "integer"), (["maybe"], "boolean")])
def test_a_cell_that_would_be_lost_is_refused(values: list[Any], dtype: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"Step 0 \(cast\): 1 value of column 'x'"):
        run(pl.DataFrame({"x": values}), "cast", "x", options={"dtype": dtype})


def test_text_is_trimmed_and_replaced() -> None:
    steps = [
        Step("trim"),
        Step("replace", ("team",), {"values": {"NULL": None}}),
        Step("replace", ("team",), {"find": "L", "with": "l"}),
    ]
    after, changes = clean(FRAME, steps)
    assert after["team"].to_list() == ["BOS", "lAl", None, "BOS", "BOS"]
    assert [(c.step, c.column, c.cells_changed) for c in changes] == [(0, "team", 1), (1, "team", 1), (2, "team", 1)]
    numbers, _ = run(FRAME, "replace", "id", options={"values": {"4": 40}})
    assert numbers["id"].to_list() == [1, 2, 3, 40, 40]


def test_columns_are_renamed_and_dropped() -> None:
    after, changes = run(FRAME, "rename", options={"names": {"points": "pts"}})
    assert after.columns == ["id", "team", "pts"]
    assert changes == [Change(0, "points", 0, 0, "renamed to pts")]
    after, changes = run(FRAME, "drop_columns", "team")
    assert after.columns == ["id", "points"]
    assert changes == [Change(0, "team", 5, 0, "dropped")]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Step("explode"), "no action 'explode'"),
        (Step("trim", ("temas",)), "no column 'temas'"),
        (Step("trim", None, {"x": 1}), "no option 'x'"),
        (Step("impute", ("points",)), "option method is missing"),
        (Step("impute", ("points",), {"method": "magic"}), "cannot be 'magic'"),
        (Step("clip_outliers", ("team",)), "not a number"),
        (Step("clip_outliers", ("points",), {"threshold": -1}), "positive number"),
        (Step("cast", None, {"dtype": "text"}), "columns are missing"),
        (Step("rename", None, {"names": {"id": "team"}}), "Two columns"),
        (Step("replace", ("id",), {"values": {"x": 1}}), "do not fit"),
        (Step("replace", ("id",), {}), "either values or find"),
        (Step("drop_columns", ("id", "team", "points")), "0 columns"),
    ],
)
def test_a_wrong_step_is_named(step: Step, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as refusal:
        clean(FRAME, [step])
    assert "tep 0" in refusal.value.message


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        (["1,234", "1,234,567", "12"], {"dtype": "integer", "thousands": ","}, [1234, 1234567, 12]),
        (["1.234,5", "0,25"], {"dtype": "float", "decimal": ",", "thousands": "."}, [1234.5, 0.25]),
        (["1 234", "1\u00a0234\u202f567"], {"dtype": "integer", "thousands": " "}, [1234, 1234567]),
        (["12.5%", "3 %"], {"dtype": "float", "percent": True}, [0.125, 0.03]),
        (["$1,000.50", "-$2", "3 USD"], {"dtype": "float", "currency": True, "thousands": ","}, [1000.5, -2.0, 3.0]),
        (["($5)", "5"], {"dtype": "integer", "currency": "$", "parentheses": True}, [-5, 5]),
        (["66.0", "-7", "", None], {"dtype": "integer"}, [66, -7, None, None]),
        (["1.6", "2.5e1"], {"dtype": "integer", "round": True}, [2, 25]),
        (["1e3", ".5", "-5."], {"dtype": "float"}, [1000.0, 0.5, -5.0]),
        (["ja", "Nein"], {"dtype": "boolean", "true_values": ["ja"], "false_values": ["nein"]}, [True, False]),
        ([1, 0, None], {"dtype": "bool"}, [True, False, None]),
        ([20240131, 20240201], {"dtype": "date", "format": "%Y%m%d"}, [date(2024, 1, 31), date(2024, 2, 1)]),
        (
            ["2024-01-31", "01/02/2024"],
            {"dtype": "date", "format": ["%Y-%m-%d", "%d/%m/%Y"]},
            [date(2024, 1, 31), date(2024, 2, 1)],
        ),
        (
            ["2024-01-31", "2024-01-31 10:30"],
            {"dtype": "datetime"},
            [datetime(2024, 1, 31), datetime(2024, 1, 31, 10, 30)],
        ),
        (["2024-01-31T10:30:00+02:00"], {"dtype": "datetime"}, [datetime(2024, 1, 31, 8, 30, tzinfo=UTC)]),
        ([date(2024, 1, 31)], {"dtype": "text", "format": "%d.%m.%Y"}, ["31.01.2024"]),
    ],
)
def test_how_values_are_written_is_said(values: list[Any], options: dict[str, Any], expected: list[Any]) -> None:
    after, _ = run(pl.DataFrame({"x": values}), "cast", "x", options=options)
    assert after["x"].to_list() == expected


@pytest.mark.parametrize(
    ("value", "options"),
    [
        ("1,5", {"dtype": "integer", "thousands": ","}),  # a decimal comma is no group of three
        ("1.5", {"dtype": "float", "decimal": ","}),
        ("12", {"dtype": "float", "percent": True}),
        ("inf", {"dtype": "float"}),
        ("24/01/02", {"dtype": "date", "format": "%Y/%m/%d"}),
        ("31/02/2024", {"dtype": "date", "format": "%d/%m/%Y"}),
        ("5 EUR", {"dtype": "float", "currency": "$"}),
        ("9223372036854775808", {"dtype": "integer"}),
    ],
)
def test_a_value_that_is_written_otherwise_is_refused_or_counted(value: str, options: dict[str, Any]) -> None:
    frame = pl.DataFrame({"x": [value]})
    with pytest.raises(InvalidArgumentError, match="cannot be read as"):
        run(frame, "cast", "x", options=options)
    after, changes = run(frame, "cast", "x", options={**options, "errors": "missing"})
    assert after["x"].to_list() == [None]
    assert changes[0].cells_changed == 1
    assert "1 unreadable cells made missing" in changes[0].detail


@pytest.mark.parametrize(("keep", "rows"), [("first", [0, 2]), ("last", [1, 2]), ("none", [2])])
def test_equal_rows_are_kept_as_told(keep: str, rows: list[int]) -> None:
    frame = pl.DataFrame({"row": [0, 1, 2], "a": [None, None, 1], "b": ["x", "x", "x"]})
    for step in (
        Step("drop_duplicates", ("a", "b"), {"keep": keep}),
        Step("drop_duplicates", None, {"keep": keep, "subset": ["a", "b"]}),
    ):
        assert clean(frame, [step])[0]["row"].to_list() == rows


@pytest.mark.parametrize(
    ("options", "rows"),
    [({}, [0]), ({"how": "all"}, [0, 1, 2]), ({"threshold": 2}, [0, 1]), ({"threshold": 0.5}, [0, 1])],
)
def test_rows_are_dropped_by_how_much_is_missing(options: dict[str, Any], rows: list[int]) -> None:
    frame = pl.DataFrame(
        {"row": [0, 1, 2, 3], "a": [1, 1, 1, None], "b": [1, 2, None, None], "c": [1, None, None, None]}
    )
    assert run(frame, "drop_missing", "a", "b", "c", options=options)[0]["row"].to_list() == rows


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"values": ["null", "n/a"], "with": None, "ignore_case": True}, ["a.b", None, None, "$1"]),
        ({"mapping": {"NULL": "none"}}, ["a.b", "none", "n/a", "$1"]),
        ({"pattern": r"^(\w)\.(\w)$", "with": "${2}${1}"}, ["ba", "NULL", "n/a", "$1"]),
        ({"pattern": "^n", "with": None, "ignore_case": True}, ["a.b", None, None, "$1"]),
        ({"find": ".", "with": "$1"}, ["a$1b", "NULL", "n/a", "$1"]),
        ({"find": "NuLl", "with": "$0", "ignore_case": True}, ["a.b", "$0", "n/a", "$1"]),
    ],
)
def test_text_is_replaced_as_told(options: dict[str, Any], expected: list[Any]) -> None:
    frame = pl.DataFrame({"s": ["a.b", "NULL", "n/a", "$1"]})
    assert run(frame, "replace", "s", options=options)[0]["s"].to_list() == expected


def test_cells_of_any_type_are_replaced_by_cells_of_that_type() -> None:
    frame = pl.DataFrame(
        {"n": [1, 2], "b": [True, False], "d": [date(1900, 1, 1), date(2024, 1, 1)], "x": [-999.0, 0.5]}
    )
    assert run(frame, "replace", "d", options={"values": {"1900-01-01": None}})[0]["d"][0] is None
    assert run(frame, "replace", "b", options={"values": {"true": False}})[0]["b"].to_list() == [False, False]
    after, changes = run(frame, "replace", options={"values": [-999], "with": None})
    assert after["x"].to_list() == [None, 0.5]
    assert [(c.column, c.cells_changed) for c in changes] == [("x", 1)]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Step("drop_duplicates", None, {"keep": "frist"}), "keep cannot be 'frist'"),
        (Step("drop_missing", None, {"threshold": 9}), "threshold is a number of values from 1 to 3"),
        (Step("trim", ("points",)), "'points' is Float64, not text"),
        (Step("trim", ("team", "team")), "named twice"),
        (Step("replace", ("team",), {"pattern": "(?=x)"}), "look-around"),
        (Step("replace", ("team",), {"pattern": "(a"}), "unclosed group"),
        (Step("replace", ("team",), {"values": {"a": [1]}}), "a cell cannot be"),
        (Step("cast", ("id",), {"dtype": "date"}), "'id' is Int64, which cannot become date"),
        (Step("cast", ("team",), {"dtype": "intger"}), "dtype cannot be 'intger'"),
        (Step("cast", ("team",), {"dtype": "float", "decimal": ";"}), "decimal is '.' or ','"),
        (Step("cast", ("team",), {"dtype": "float", "decimal": ",", "thousands": ","}), "thousands cannot be ','"),
        (Step("cast", ("team",), {"dtype": "text", "percent": True}), "percent has no meaning for text"),
        (Step("cast", ("team",), {"dtype": "date", "format": "dd.mm"}), "no format of times"),
        (Step("impute", ("points",), {"method": "mean", "neighbors": 3}), "no option 'neighbors'"),
        (Step("impute", ("points",), {"method": "knn", "neighbors": 0}), "whole number from 1"),
        (Step("impute", ("points",), {"method": "constant"}), "option value is missing"),
        (Step("clip_outliers", None, {"threshold": 1, "factor": 1}), "one and the same"),
        (Step("clip_outliers", None, {"method": "isolation_forest"}), "method cannot be"),
        (Step("drop_outliers", None, {"method": "isolation_forest", "contamination": 2}), "contamination"),
        (Step("rename", None, {"names": {}}), "names, an object"),
        (Step("rename", None, {"names": {"id": " "}}), "cannot be named"),
    ],
)
def test_a_wrong_option_is_named_with_what_fits(step: Step, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(message)) as refusal:
        clean(FRAME, [step])
    assert refusal.value.hint
    assert refusal.value.message.startswith(f"Step 0 ({step.action}): ")
