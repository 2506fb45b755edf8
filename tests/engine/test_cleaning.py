from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest

from mcp_server.engine.cleaning import clean
from mcp_server.engine.cleaning_outliers import bounds
from mcp_server.engine.cleaning_proposal import propose_steps
from mcp_server.engine.cleaning_steps import Change, Step
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


def test_auto_proposes_what_nobody_would_argue_with_and_says_why() -> None:
    frame = FRAME.with_columns(pl.lit(None, pl.String).alias("empty"), pl.Series("when", ["2024-01-02"] * 5))
    steps = propose_steps(frame)
    assert [step.action for step in steps] == ["trim", "replace", "cast", "drop_columns", "drop_duplicates"]
    assert all(step.reason for step in steps)
    after, _ = clean(frame, steps)
    assert after.columns == ["id", "team", "points", "when"]
    assert after["team"].to_list() == ["BOS", "LAL", None, "BOS"]
    assert after["when"].dtype == pl.Date
    assert propose_steps(after) == []


def test_auto_leaves_a_country_called_na_alone() -> None:
    assert propose_steps(pl.DataFrame({"country": ["NA", "DE", "NA"], "n": [1, 2, 3]})) == []
