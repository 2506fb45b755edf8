from datetime import date, datetime

import polars as pl
import pytest

from tests.engine.expectations.running import judge

FRAME = pl.DataFrame(
    {
        "n": [1, 2, 2, None, 5],
        "x": [1.5, float("nan"), None, 2.5, 100.0],
        "s": ["x", "y", "x", None, "zz\n"],
        "d": [date(2020, 1, day) for day in range(1, 6)],
        "t": [datetime(2020, 1, day) for day in range(1, 6)],
        "b": [True, False, None, True, True],
        "l": [[1], [2], None, [1], [3]],
    }
)


def test_nan_counts_as_missing():
    outcome = judge(FRAME, "column_values_to_not_be_null", column="x")

    assert (outcome.unexpected_count, outcome.unexpected_percent) == (2, 40.0)
    assert outcome.partial_unexpected_index_list == (1, 2)


def test_percentages_are_over_the_values_that_are_present():
    outcome = judge(FRAME, "column_values_to_be_between", column="x", max_value=50)

    assert (outcome.element_count, outcome.missing_count, outcome.unexpected_count) == (5, 2, 1)
    assert outcome.unexpected_percent == 1 / 3 * 100
    assert outcome.unexpected_percent_total == 20.0


@pytest.mark.parametrize(
    ("strict", "unexpected"),
    [({}, (1,)), ({"strict_min": True}, (1, 2, 2)), ({"strict_max": True}, (1, 5))],
)
def test_between_keeps_or_leaves_out_its_ends(strict: dict[str, bool], unexpected: tuple[int, ...]):
    outcome = judge(FRAME, "column_values_to_be_between", column="n", min_value=2, max_value=5, **strict)

    assert outcome.partial_unexpected_list == unexpected


def test_dates_compare_with_dates_in_text():
    assert judge(FRAME, "column_values_to_be_between", column="d", min_value="2020-01-02").unexpected_count == 1
    outcome = judge(FRAME, "column_values_to_be_between", column="t", min_value="2020-01-02", strict_min=True)
    assert outcome.partial_unexpected_list == ("2020-01-01T00:00:00", "2020-01-02T00:00:00")


def test_text_against_numbers_fails_with_a_message():
    outcome = judge(FRAME, "column_values_to_be_between", column="s", min_value=0)

    assert not outcome.success
    assert "holds text" in outcome.message


def test_a_column_that_is_not_there_fails_with_a_message():
    assert "no column 'nope'" in judge(FRAME, "column_values_to_be_unique", column="nope").message


def test_set_members_of_another_type_never_match():
    outcome = judge(FRAME, "column_values_to_be_in_set", column="n", value_set=[1, 2.0, "5", None])

    assert outcome.partial_unexpected_list == (5,)


def test_an_empty_set_lets_nothing_through():
    assert judge(FRAME, "column_values_to_be_in_set", column="n", value_set=[]).unexpected_count == 4


def test_dollar_matches_before_a_newline_at_the_end_as_in_python():
    outcome = judge(FRAME, "column_values_to_match_regex", column="s", regex="z$")

    assert outcome.partial_unexpected_list == ("x", "y", "x")


def test_numbers_are_matched_as_python_writes_them():
    assert judge(FRAME, "column_values_to_match_regex", column="x", regex=r"^\d+\.\d$").success
    large = pl.DataFrame({"x": [1e20]})
    assert judge(large, "column_values_to_match_regex", column="x", regex=r"^1e\+20$").success


def test_a_hostile_pattern_ends_at_once():
    frame = pl.DataFrame({"s": ["a" * 28 + "!"] * 1000})

    assert judge(frame, "column_values_to_match_regex", column="s", regex="^(a+)+$").unexpected_count == 1000


@pytest.mark.parametrize(("match_on", "unexpected"), [("any", ("y",)), ("all", ("x", "y", "x", "zz\n"))])
def test_pattern_lists_match_any_or_all(match_on: str, unexpected: tuple[str, ...]):
    outcome = judge(FRAME, "column_values_to_match_regex_list", column="s", regex_list=["x", "z"], match_on=match_on)

    assert outcome.partial_unexpected_list == unexpected


def test_no_pattern_of_a_forbidden_list_may_match():
    outcome = judge(FRAME, "column_values_to_not_match_regex_list", column="s", regex_list=["x", "z"])

    assert outcome.partial_unexpected_list == ("x", "x", "zz\n")


def test_formats_are_judged_on_text():
    frame = pl.DataFrame({"s": ["2020-01-31", "2020-02-30", None]})

    outcome = judge(frame, "column_values_to_match_strftime_format", column="s", strftime_format="%Y-%m-%d")

    assert outcome.partial_unexpected_list == ("2020-02-30",)


def test_lengths_count_characters():
    frame = pl.DataFrame({"s": ["ä", "ab", "abc"], "n": [1, 22, 333]})

    assert judge(frame, "column_value_lengths_to_equal", column="s", value=1).partial_unexpected_list == ("ab", "abc")
    assert judge(frame, "column_value_lengths_to_be_between", column="n", max_value=2).unexpected_count == 1


def test_all_copies_of_a_repeated_value_are_unexpected():
    outcome = judge(FRAME, "column_values_to_be_unique", column="n")

    assert (outcome.unexpected_count, outcome.partial_unexpected_list) == (2, (2, 2))


def test_order_is_judged_across_missing_values():
    frame = pl.DataFrame({"n": [1, None, 3, 2, None, 2]})

    assert judge(frame, "column_values_to_be_increasing", column="n").partial_unexpected_list == (2,)
    strict = judge(frame, "column_values_to_be_increasing", column="n", strictly=True)
    assert strict.partial_unexpected_index_list == (3, 5)
    assert judge(frame, "column_values_to_be_decreasing", column="n").partial_unexpected_list == (3,)


def test_z_scores_by_hand():  # mean 2, deviation 2: scores -0.5 (4 times) and 2
    frame = pl.DataFrame({"x": [1.0, 1.0, 1.0, 1.0, 6.0]})

    outcome = judge(frame, "column_value_z_scores_to_be_less_than", column="x", threshold=1.7)

    assert outcome.partial_unexpected_list == (6.0,)


@pytest.mark.parametrize(
    ("column", "name"),
    [("n", "int64"), ("n", "int"), ("x", "float"), ("x", "float64"), ("b", "bool"), ("d", "date")],
)
def test_types_go_by_the_names_of_great_expectations(column: str, name: str):
    frame = FRAME.drop_nulls(column)

    assert judge(frame, "column_values_to_be_of_type", column=column, type_=name).success
    assert judge(frame, "column_values_to_be_in_type_list", column=column, type_list=["int8", name]).success


def test_another_type_fails_and_is_named():
    outcome = judge(FRAME.drop_nulls("n"), "column_values_to_be_of_type", column="n", type_="float64")

    assert (outcome.success, outcome.observed_value) == (False, "int64")


def test_whole_numbers_and_flags_with_gaps_are_what_pandas_holds_them_as():
    gappy = pl.DataFrame({"n": [1, None], "b": [True, None]})

    assert judge(gappy, "column_values_to_be_of_type", column="n", type_="float64").success
    assert judge(gappy, "column_values_to_match_regex", column="n", regex=r"^1\.0$").success
    assert judge(gappy, "column_values_to_be_of_type", column="b", type_="object").observed_value == "object_"


def test_text_is_str_and_in_no_type_list_as_great_expectations_has_it():
    frame = pl.DataFrame({"s": ["a"], "d": [date(2024, 1, 31)]})

    for column in ("s", "d"):
        assert judge(frame, "column_values_to_be_of_type", column=column, type_="str").success
        listed = judge(frame, "column_values_to_be_in_type_list", column=column, type_list=["str"])
        assert (listed.success, listed.observed_value) == (False, "str")
        assert "of_type" in listed.message


def test_dates_are_judged_as_the_text_they_came_from():
    frame = pl.DataFrame({"d": [date(2024, 1, 31), None]})

    assert judge(frame, "column_values_to_match_strftime_format", column="d", strftime_format="%Y-%m-%d").success
    assert judge(frame, "column_values_to_be_dateutil_parseable", column="d").success
    assert judge(frame, "column_value_lengths_to_equal", column="d", value=10).success


def test_examples_are_the_first_twenty_in_row_order():
    frame = pl.DataFrame({"n": list(range(100, 0, -1))})

    outcome = judge(frame, "column_values_to_be_between", column="n", max_value=50)

    assert outcome.unexpected_count == 50
    assert outcome.partial_unexpected_list == tuple(range(100, 80, -1))


def test_mostly_lets_a_share_through():
    assert judge(FRAME, "column_values_to_be_between", column="n", min_value=2, mostly=0.75).success
    assert not judge(FRAME, "column_values_to_be_between", column="n", min_value=2, mostly=0.76).success


@pytest.mark.parametrize("kind", ["column_values_to_be_unique", "column_values_to_be_json_parseable"])
def test_nested_values_are_refused_with_a_message(kind: str):
    assert "nested" in judge(FRAME, kind, column="l").message


def test_an_empty_frame_meets_expectations_on_its_values():
    outcome = judge(FRAME.clear(), "column_values_to_be_between", column="n", min_value=3)

    assert (outcome.success, outcome.element_count, outcome.unexpected_percent) == (True, 0, None)
