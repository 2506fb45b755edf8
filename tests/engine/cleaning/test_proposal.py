"""What "auto" proposes, and what it says and leaves."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mcp_server.engine.cleaning.plan import clean
from mcp_server.engine.cleaning.proposal import propose
from mcp_server.engine.type_inference import infer_types

DAYS = [date(2020, 1, 1) + timedelta(days=i) for i in range(300)]


def column(values: list[Any]) -> pl.DataFrame:
    """A column of text beside one that tells the rows apart."""
    return pl.DataFrame({"k": [f"row {i}" for i in range(len(values))], "x": values})


def test_everyday_trouble_is_mended_with_figures_for_reasons() -> None:
    frame = pl.DataFrame(
        {
            "id": [1, 2, 3, 4, 4],
            "team": [" BOS", "LAL", "NULL", "BOS", "BOS"],
            "points": [100.0, None, 90.0, 110.0, 110.0],
            "empty": pl.Series([None] * 5, dtype=pl.String),
            "when": ["2024-01-02"] * 5,
        }
    )
    found = propose(frame)
    assert [(step.action, step.columns) for step in found.steps] == [
        ("trim", ("team",)),
        ("replace", ("team",)),
        ("cast", ("when",)),
        ("drop_columns", ("empty",)),
        ("drop_duplicates", None),
    ]
    assert [step.reason for step in found.steps] == [
        "Spaces around the value in 1 cell of 1 column, such as ' BOS'.",
        "1 of 5 values are words for missing: 'NULL' 1.",
        "All 5 values of 1 column of text read as date.",
        "No value in any of 5 rows.",
        "1 of 5 rows repeat an earlier one in every column.",
    ]
    assert [(each.column, each.code) for each in found.findings] == [("when", "constant"), (None, "missing_left")]
    after, _ = clean(frame, found.steps)
    assert after.columns == ["id", "team", "points", "when"]
    assert after["team"].to_list() == ["BOS", "LAL", None, "BOS"]
    assert after["when"].dtype == pl.Date
    assert propose(after).steps == []


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (["1,234", "12", "1,234,567"], {"dtype": "integer", "thousands": ","}),
        (["18,624", "20,562"], {"dtype": "integer", "thousands": ","}),
        (["0,5", "12,25"], {"dtype": "float", "decimal": ","}),
        (["0,123", "1,500"], {"dtype": "float", "decimal": ","}),  # no thousands begin with 0
        (["1.234,5", "7"], {"dtype": "float", "decimal": ",", "thousands": "."}),
        (["1 234", "999"], {"dtype": "integer", "thousands": " "}),
        (["1'234.5", "7"], {"dtype": "float", "thousands": "'"}),
        (["12.5%", "3%"], {"dtype": "float", "percent": True}),
        (["$5", "-$7"], {"dtype": "integer", "currency": "$"}),
        (["5,50 €", "1.000,00 €"], {"dtype": "float", "currency": "€", "decimal": ",", "thousands": "."}),
        (["1", "2", "NA", "-"], {"dtype": "integer"}),
        (["true", "False"], {"dtype": "boolean"}),
        ([day.strftime("%d/%m/%Y") for day in DAYS], {"dtype": "date", "format": "%d/%m/%Y"}),
        ([day.strftime("%m-%d-%y") for day in DAYS], {"dtype": "date", "format": "%m-%d-%y"}),
        ([day.strftime("%b %d, %Y") for day in DAYS], {"dtype": "date", "format": "%b %d, %Y"}),
        ([day.strftime("%d.%m.%Y 10:30") for day in DAYS], {"dtype": "datetime", "format": "%d.%m.%Y %H:%M"}),
    ],
)
def test_text_that_reads_in_one_way_throughout_is_cast(values: list[str], options: dict[str, Any]) -> None:
    frame = column(values)
    steps = propose(frame).steps
    assert dict(steps[-1].options) == options
    assert steps[-1].reason is not None
    assert f"{len([v for v in values if v not in ('NA', '-')]):,} values" in steps[-1].reason
    after, _ = clean(frame, steps)
    assert after["x"].dtype != pl.String


@pytest.mark.parametrize(
    "values",
    [
        ["1,234", "abc"],
        ["1.5", "1,5", "2"],  # two signs for decimals
        ["$5", "€7"],
        ["$5", "7"],
        ["5%", "7"],
        ["007", "010"],
        ["1", "inf"],
        ["NA", "DE"],
        ["+", "-"],
        ["01/02/2020", "03/04/2020"],  # day or month first: nobody knows
        ["20/01/15", "21/02/16"],  # year or day first
    ],
)
def test_what_reads_in_two_ways_or_none_stays(values: list[str]) -> None:
    assert propose(column(values)).steps == []


def test_dates_in_two_formats_are_counted_and_not_guessed() -> None:
    mixed = [day.isoformat() if i % 3 else day.strftime("%d/%m/%Y") for i, day in enumerate(DAYS)]
    found = propose(column(mixed))
    assert found.steps == []
    said = next(each for each in found.findings if each.code == "mixed_dates")
    assert said.column == "x"
    assert "200 year-month-day" in said.message
    assert "100 day/month/year" in said.message
    assert "options.format" in said.message


def test_both_orders_of_day_and_month_are_counted_and_no_step_is_advised() -> None:
    mixed = [day.strftime("%m/%d/%Y" if i % 2 else "%d/%m/%Y") for i, day in enumerate(DAYS)]
    found = propose(column(mixed))
    assert found.steps == []
    codes = [each.code for each in found.findings]
    assert {"mixed_dates", "ambiguous_dates"} <= set(codes)
    assert not any("options.format" in each.message for each in found.findings)


def test_rows_that_differ_in_one_column_are_told_with_the_column_and_left() -> None:
    n = 400
    frame = pl.DataFrame(
        {"game": [f"g{i}" for i in range(n)], "points": [i * 7 % 113 for i in range(n)], "at": [1] * n}
    )
    copies = frame.head(25).with_columns(pl.lit(2, pl.Int64).alias("at"))
    found = propose(pl.concat([frame, copies, frame.tail(5)]))
    assert [(step.action, step.reason) for step in found.steps] == [
        ("drop_duplicates", "5 of 430 rows repeat an earlier one in every column.")
    ]
    near = [each.message for each in found.findings if each.code == "near_duplicate_rows"]
    assert len(near) == 1
    assert near[0].startswith("Differing from another row in 'at' alone: 25 rows in 25 groups; left as is.")


def test_values_far_out_are_counted_and_left() -> None:
    frame = column([*range(500), 10**6, -(10**6)])
    found = propose(frame)
    assert found.steps == []
    said = next(each for each in found.findings if each.code == "outliers")
    assert said.message.startswith("2 of 502 values lie more than three interquartile ranges beyond the quartiles")


def test_the_real_games_need_one_replacement(shared_data: Path) -> None:
    text = pl.read_csv(shared_data / "data" / "nba_games_1947_2015.csv", infer_schema=False)
    games, _ = infer_types(text)
    found = propose(games)
    assert [(step.action, step.columns) for step in found.steps] == [("replace", ("notes",))]
    n_words = int((text["notes"] == "NULL").sum())
    assert found.steps[0].reason is not None
    assert f"'NULL' {n_words:,}" in found.steps[0].reason
    after, changes = clean(games, found.steps)
    assert [(c.column, c.cells_changed, c.rows_removed) for c in changes] == [("notes", n_words, 0)]
    assert len(after) == len(games)
