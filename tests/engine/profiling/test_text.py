"""Trouble in text is named with counts and examples."""

import polars as pl
import pytest

from mcp_server.engine.profiling.columns import text_counts
from mcp_server.engine.profiling.text import text_findings


def findings_of(values: list[str | None]) -> dict[str, str]:
    """Return code and message of what is found, the same whether values are counted or looked at row by row."""
    column = pl.Series("x", values, dtype=pl.String)
    counted = {each.code: each.message for each in text_findings(column, text_counts(column))}
    by_row = {each.code: each.message for each in text_findings(column, None)}
    assert set(by_row) == set(counted) - {"case_variants", "bool_variants"} | (
        {"mixed_types"} & set(by_row) if "bool_variants" in counted else set()
    )
    return counted


def test_two_date_formats_are_named_with_counts() -> None:
    found = findings_of(["2024-01-31"] * 300 + ["01/31/2024"] * 200 + [None])
    assert found["mixed_dates"].startswith("Dates in 2 formats: 300 year-month-day ('2024-01-31'); 200 month/day/year")
    assert "ambiguous_dates" not in found


def test_dates_that_could_be_day_or_month_first_are_said_to_be_ambiguous() -> None:
    found = findings_of(["01/02/2024", "03/04/2024", "05/06/2024"])
    assert "3 dates" in found["ambiguous_dates"]
    assert "no part above 12" in found["ambiguous_dates"]
    assert "date_format" in found


def test_a_part_above_twelve_settles_the_others() -> None:
    found = findings_of(["01/02/2024"] * 5 + ["31/01/2024"])
    assert "6 day/month/year" in found["date_format"]
    assert "ambiguous_dates" not in found


def test_both_orders_in_one_column_leave_the_rest_ambiguous() -> None:
    found = findings_of(["01/02/2024"] * 5 + ["31/01/2024"] * 2 + ["01/31/2024"] * 3)
    assert "Dates in 2 formats" in found["mixed_dates"]
    assert "3 month/day/year ('01/31/2024'); 2 day/month/year" in found["mixed_dates"]
    assert "5 dates" in found["ambiguous_dates"]


def test_days_that_no_calendar_has_are_counted() -> None:
    found = findings_of(["2024-02-28", "2024-02-30", "2024-13-01", "2024-03-01", "2024-03-02"])
    assert found["invalid_dates"].startswith("2 are days that no calendar has")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["Jan 5, 2024", "Feb 6, 2024", "2024-01-07"], "month-name day year"),
        (["5 Jan 2024", "6 Feb 2024", "07.01.2024"], "day month-name year"),
        (["20240105", "20240106", "2024-01-07"], "yearmonthday"),
        (["2024-01-05T10:00:00Z", "2024/01/06 11:00", "2024-01-07"], "year/month/day"),
    ],
)
def test_formats_of_all_kinds_are_told_apart(values: list[str], words: str) -> None:
    assert words in findings_of(values)["mixed_dates"]


def test_numbers_among_text_are_counted_with_examples() -> None:
    found = findings_of(["12", "7.5", "-3", "abc", "def"] * 20)
    assert found["mixed_types"].startswith("Mixed: 60 numbers (")
    assert "40 other texts ('abc', 'def') among 100 values" in found["mixed_types"]


def test_a_single_number_among_many_texts_is_seen() -> None:
    found = findings_of([f"team {chr(97 + i % 26)}" for i in range(500)] + ["42"])
    assert "1 numbers ('42')" in found["mixed_types"]


def test_words_for_missing_are_counted_by_word() -> None:
    found = findings_of(["NULL"] * 4 + ["n/a"] * 2 + ["red", "blue"] * 10)
    assert "6 cells ('NULL' 4, 'n/a' 2)" in found["null_as_text"]


def test_spellings_of_one_category_are_put_side_by_side() -> None:
    found = findings_of(["Bos"] * 5 + ["BOS"] * 3 + ["bos "] + ["LAL"] * 9)
    assert "'Bos' 5/'BOS' 3/'bos' 1" in found["case_variants"]
    assert "1 cell ('bos ')" in found["spaces"]


def test_hidden_characters_and_blanks_are_found() -> None:
    found = findings_of(["a\u200bb", "ab", "", "  ", "c\x1bd"])
    assert found["hidden_characters"].startswith("Control or invisible characters in 2 cells")
    assert not set(found["hidden_characters"]) & {"\u200b", "\x1b"}
    assert "2 cells" in found["empty_text"]


def test_truth_values_in_several_spellings_are_listed() -> None:
    assert "'yes' 2, 'N' 1" in findings_of(["yes", "yes", "no", "Y", "N"])["bool_variants"]
    assert "bool_variants" not in findings_of(["yes", "no"] * 10)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (["1", "2", "30"], "typed_text"),
        (["007", "012"], "leading_zeros"),
        (["12345678901234567890", "22345678901234567890"], "long_numbers"),
        (["1,234", "2,345,678"], "thousands"),
        (["1,5", "2,25"], "decimal_comma"),
        (["5%", "12 %"], "percent"),
        (["$5.00", "$1,200.50"], "currency"),
        (["$5.00", "7%", "3"], "formatted_numbers"),
    ],
)
def test_numbers_kept_as_text_are_told_by_their_form(values: list[str], code: str) -> None:
    assert code in findings_of(values)


@pytest.mark.parametrize(
    "values", [["red", "blue"], ["Boston Celtics", "LA Lakers"], ["A1", "B22"], ["final/OT", "final"]]
)
def test_plain_text_raises_no_warning(values: list[str]) -> None:
    assert findings_of(values * 10) == {}


def test_values_that_are_hostile_are_shown_cut_and_clean() -> None:
    found = findings_of(["<script>alert(1)</script>\x1b[31m" + "x" * 500, "5"])
    assert "\x1b" not in str(found)
    assert all(len(message) < 400 for message in found.values())
