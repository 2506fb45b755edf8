"""Columns of every kind become the pipeline's matrix, and targets become codes."""

from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from mcp_server.engine.estimators import Building
from mcp_server.engine.feature_notes import notes_on
from mcp_server.engine.model_files import dump_model
from mcp_server.engine.pipelines import Trial, fit_trial, predict_output
from mcp_server.engine.preprocessing import (
    MANY_WORDS,
    MISSING,
    describe_input,
    describe_inputs,
    encode_target,
    kind_of,
    model_input,
)
from mcp_server.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pl.Series([1, 2]), "numeric"),
        (pl.Series([1.5, None]), "numeric"),
        (pl.Series([True, None]), "boolean"),
        (pl.Series(["a", None]), "category"),
        (pl.Series(["2015-06-16", None, "2015-06-17"]), "date"),
        (pl.Series(["2015-06-16", "2015-13-99"]), "category"),
        (pl.Series([date(2015, 6, 16)]), "date"),
        (pl.Series([datetime(2015, 6, 16, 20)]), "date"),
        (pl.Series([[1]]), None),
        (pl.Series([{"a": 1}]), None),
    ],
)
def test_the_kind_of_a_column_is_found(column: pl.Series, kind: str | None) -> None:
    assert kind_of(column) == kind


def test_the_matrix_holds_numbers_calendar_and_words_with_their_gaps() -> None:
    frame = pl.DataFrame(
        {
            "points": [100, None],
            "home": [True, None],
            "day": [date(2015, 6, 16), None],
            "team": ["GSW", None],
        }
    )
    matrix = model_input(frame, describe_inputs(frame, frame.columns))
    expected = ["points", "home", "day_year", "day_month", "day_weekday", "day_day_of_year", "team"]
    assert list(matrix.columns) == expected
    assert matrix.iloc[0].tolist() == [100.0, 1.0, 2015.0, 6.0, 2.0, 167.0, "GSW"]
    assert matrix.iloc[1, :6].isna().all()
    assert matrix.iloc[1, 6] == MISSING


def test_dates_written_as_text_give_the_same_matrix_as_dates() -> None:
    days = [date(2015, 6, 16), date(2014, 12, 25)]
    real, written = pl.DataFrame({"day": days}), pl.DataFrame({"day": [str(day) for day in days]})
    first = model_input(real, describe_inputs(real, ["day"]))
    second = model_input(written, describe_inputs(written, ["day"]))
    assert first.equals(second)


def test_an_input_is_described_from_what_training_saw() -> None:
    found = describe_input(pl.Series("rest", [3, None, 1]))
    assert (found.kind, found.nullable, found.minimum, found.maximum) == ("numeric", True, 1.0, 3.0)
    words = describe_input(pl.Series("team", ["b", "a", "b"]))
    assert words.categories == ["b", "a"]


def test_a_missing_feature_is_named() -> None:
    frame = pl.DataFrame({"a": [1]})
    with pytest.raises(InvalidArgumentError, match="'b'"):
        model_input(frame, describe_inputs(pl.DataFrame({"a": [1], "b": [2]}), ["a", "b"]))


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["W", "L", "W"], ["L", "W"]),
        ([1.0, 0.0, 1.0], [0, 1]),
        ([True, False, True], [False, True]),
        ([2, 10, 2], [2, 10]),
    ],
)
def test_classes_are_coded_in_order(values: list[Any], classes: list[Any]) -> None:
    codes, found = encode_target(pl.Series("y", values), "binary")
    assert found == classes
    assert [classes[code] for code in codes] == values


def test_a_label_written_as_another_number_type_is_the_same_class() -> None:
    codes, _ = encode_target(pl.Series("y", [True, False]), "binary", [0, 1])
    assert codes.tolist() == [1, 0]


def test_a_label_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="'X'"):
        encode_target(pl.Series("y", ["W", "X"]), "binary", ["L", "W"])


def test_a_numeric_target_stays_as_it_is() -> None:
    values, classes = encode_target(pl.Series("y", [1, 2]), "regression")
    assert values.dtype == np.float64
    assert classes == []


def test_a_feature_with_the_name_of_a_part_of_a_date_is_refused_and_not_overwritten() -> None:
    frame = pl.DataFrame({"day": [date(2015, 6, 16)], "day_year": [7]})
    with pytest.raises(InvalidArgumentError, match="'day_year' is there"):
        describe_inputs(frame, ["day", "day_year"])


def test_of_very_many_words_the_frequent_ones_have_a_place_and_the_model_stays_small() -> None:
    rng = np.random.default_rng(0)
    n_rows = 3 * MANY_WORDS
    frequent = rng.choice(["red", "green"], n_rows)
    words = np.where(np.arange(n_rows) % 3 == 0, frequent, [f"u{i}" for i in range(n_rows)])
    frame = pl.DataFrame({"word": words, "team": rng.choice(["a", "b"], n_rows), "x": rng.normal(size=n_rows)})
    truth = ((words == "red") | (frame["x"].to_numpy() > 1)).astype(int)
    inputs = describe_inputs(frame, frame.columns)
    matrix = model_input(frame, inputs)

    for name in ("logistic_regression", "hist_gradient_boosting", "voting"):
        members = [{"estimator": "logistic_regression", "params": {}}] if name == "voting" else []
        pipeline, _ = fit_trial(Trial(0, name, {}, members), inputs, matrix, truth, Building("binary", 0, n_rows))
        strange = model_input(frame.head(2).with_columns(word=pl.lit("never seen")), inputs)
        assert len(dump_model(pipeline)) < 500_000
        assert predict_output(pipeline, matrix, 2)[words == "red", 1].mean() > 0.8
        assert predict_output(pipeline, strange, 2).shape == (2, 2)
    assert notes_on(frame, ["word", "team", "x"]) == [
        "Of the words of 'word' the 50 most frequent have a place of their own; all others share one."
    ]


def test_hours_that_a_model_will_not_see_are_named() -> None:
    hours = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 3), "1h", eager=True)
    days = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 2, 18), "1d", eager=True)
    frame = pl.DataFrame({"when": hours, "day": days})
    assert notes_on(frame, ["when", "day"]) == [
        "Only the day of 'when' is used; derive the hour with transform_dataset if it matters."
    ]
