from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.engine.type_evidence import Evidence
from mcp_server.engine.type_inference import decide_type, infer_column, infer_types


def infer(*values: str | None) -> tuple[pl.Series, list[str]]:
    series, findings = infer_column(pl.Series("c", values, dtype=pl.String))
    return series, [finding.code for finding in findings]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("1", "-2", None), [1, -2, None]),
        (("9007199254740993", "1"), [9007199254740993, 1]),  # beyond 2^53: a float would round it
        (("1.5", "2", "1e3", ".5"), [1.5, 2.0, 1000.0, 0.5]),
        ((" 1", "2 "), [1, 2]),
        (("True", "false", None), [True, False, None]),
        (("2024-02-29", None), [date(2024, 2, 29), None]),
        (("2024-01-02 10:11", "2024-01-03"), [datetime(2024, 1, 2, 10, 11), datetime(2024, 1, 3)]),
        (("2024-01-02T10:00:00Z", "2024-01-02T10:00+02:00"),
         [datetime(2024, 1, 2, 10, tzinfo=UTC), datetime(2024, 1, 2, 8, tzinfo=UTC)]),
        (("", "x"), [None, "x"]),
    ],
)  # fmt: skip
def test_plain_values_get_their_type(values: tuple[str | None, ...], expected: list[object]) -> None:
    series, codes = infer(*values)
    assert series.to_list() == expected
    assert codes == []


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (("007", "12"), "leading_zeros"),
        (("NA", "DE"), "null_as_text"),
        (("NA", "null", "None"), "null_as_text"),
        (("1,5", "2,5"), "decimal_comma"),
        (("1,234", "5,678"), "thousands"),
        (("10%", "20%"), "percent"),
        (("$5.00", "€3"), "currency"),
        (("2024-01-02", "01/02/2024", "13.02.2024"), "mixed_dates"),
        (("01/02/2024", "03/04/2024"), "date_format"),
        (("2024-02-30",), "invalid_dates"),
        (("True", "FALSE", "yes", "0"), "bool_variants"),
        (("99999999999999999999", "1"), "long_numbers"),
        (("9007199254740993", "1.5"), "long_numbers"),
        (("1", "2", "x"), "mixed_types"),
    ],
)
def test_what_would_be_a_guess_stays_text_and_is_reported(values: tuple[str, ...], code: str) -> None:
    series, codes = infer(*values)
    assert series.to_list() == list(values)
    assert codes == [code]


def test_words_for_missing_are_read_among_numbers_and_counted() -> None:
    series, findings = infer_column(pl.Series("c", ["1", "NA", "n/a", "3", "inf"]))
    assert series.to_list() == [1, None, None, 3, None]
    assert [(f.code, f.message[:8]) for f in findings] == [("missing_words", "2 cells "), ("infinite", "1 infini")]


def test_a_column_without_values_stays_empty_text() -> None:
    series, codes = infer(None, None)
    assert series.dtype == pl.String
    assert (series.null_count(), codes) == (2, [])


def test_a_table_is_typed_column_by_column() -> None:
    frame, findings = infer_types(pl.DataFrame({"a": ["1", "2"], "b": ["x", "NULL"]}))
    assert frame.schema == {"a": pl.Int64, "b": pl.String}
    assert [(finding.column, finding.code) for finding in findings] == [("b", "null_as_text")]


_VALUES = [
    None, "", " ", "1", "0", "-7", " 8 ", "007", "00", "9007199254740993", "99999999999999999999", "1.5", "1e400",
    "1e5",
    "20240131", "NA", "n/a", "null", "-", "inf", "-Infinity", "true", "FALSE", "Yes", "n", "2024-01-02", "2024-02-30",
    "0000-01-01", "2024-01-02 10:11", "2024-01-02T10:00Z", "2024-1-2", "01/02/2024", "13/02/2024", "02/13/2024",
    "1.2.24", "5 Jan 2024", "Jan 5, 2024", "1,234", "1.234,5", "1,5", "10%", "$5", "5 EUR", "BOS", "x1", "Game 7 b",
]  # fmt: skip


@settings(deadline=None)
@given(
    values=st.lists(st.sampled_from(_VALUES), min_size=1, max_size=40),
    palette=st.sets(st.sampled_from(_VALUES), min_size=1, max_size=4),
    size=st.integers(1, 7),
    by_merging=st.booleans(),
)
def test_a_type_does_not_depend_on_how_the_rows_were_cut(
    values: list[str | None], palette: set[str | None], size: int, by_merging: bool
) -> None:
    values = [value for value in values if value in palette] or values
    column = pl.Series("c", values, dtype=pl.String)
    whole, streamed = Evidence(), Evidence()
    whole.add(column)
    for start in range(0, len(column), size):
        part = Evidence() if by_merging else streamed
        part.add(column[start : start + size])
        if by_merging:
            streamed.merge(part)
    assert decide_type("c", streamed) == decide_type("c", whole)
    typed, _ = decide_type("c", whole)
    read = column.to_frame().select(typed.reading()).to_series()
    assert read.dtype == typed.dtype
    assert read.null_count() == typed.missing


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["2024-01-15", "2024-01-16", "01/15/2024"], ["2 as year-month-day", "1 as month/day/year", "in row 3"]),
        (["15/01/2024", "01/15/2024"], ["1 as day/month/year", "1 as month/day/year"]),
        (["15/01/24", "15.01.2024", "2024-01-15T10:00"], ["day/month/year", "day.month.year", "year-month-day time"]),
        (["20240115", "2024-01-15", "2024-01-16"], ["1 as yearmonthday", "2 as year-month-day"]),
        (["Jan 5, 2024", "5 Jan 2024"], ["month-name day year", "day month-name year"]),
    ],
)
def test_two_date_formats_are_named_with_their_counts_and_first_rows(values: list[str], words: list[str]) -> None:
    series, findings = infer_column(pl.Series("c", values))
    assert series.dtype == pl.String
    assert [finding.code for finding in findings] == ["mixed_dates"]
    assert all(word in findings[0].message for word in words), findings[0].message


def test_dates_of_one_order_are_one_format() -> None:
    _, findings = infer_column(pl.Series("c", ["01/02/2024", "25/02/2024"]))
    assert [(finding.code, "day/month/year" in finding.message) for finding in findings] == [("date_format", True)]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (["1,234", "567", "12"], "thousands"),
        (["1.234,56", "7,5"], "decimal_comma"),
        (["1 234", "5 678"], "thousands"),
        (["1.234.567", "5.678.901"], "thousands"),
        (["12%", "13", "14"], "percent"),
        (["USD 5", "5 EUR", "₹7"], "currency"),
        (["1,234", "5,5"], "formatted_numbers"),
        (["99999999999999999999", "1e400"], "long_numbers"),
        (["0000-01-01", "2024-01-01"], "invalid_dates"),
        (["1", "inf", "x", "2", "3"], "mixed_types"),
    ],
)
def test_numbers_in_other_spellings_stay_text_and_are_reported(values: list[str], code: str) -> None:
    series, findings = infer_column(pl.Series("c", values))
    assert series.to_list() == values
    assert [finding.code for finding in findings] == [code]


def test_numbers_that_read_as_dates_are_reported_and_stay_numbers() -> None:
    series, codes = infer("20240131", "20231201")
    assert (series.to_list(), codes) == ([20240131, 20231201], ["compact_dates"])
