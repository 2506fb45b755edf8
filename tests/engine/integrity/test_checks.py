"""Integrity checks on small tables, worked by hand."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import polars as pl
import pytest

from mcp_server.engine.integrity.checks import TableRule, check_integrity
from mcp_server.engine.integrity.copies import NearDuplicates
from mcp_server.engine.integrity.keys import Dependency, Reference
from mcp_server.engine.integrity.rows import Comparison, RowRule
from mcp_server.engine.integrity.sequences import Gaps, Order
from mcp_server.engine.integrity.table import Finding, Table
from mcp_server.errors import InvalidArgumentError

GAMES = pl.DataFrame(
    {
        "id": [1, 2, 2, None, 5],
        "home": ["LAL", "BOS", "XYZ", "XYZ", None],
        "home_points": [100, 90, 80, 70, None],
        "away_points": [99, 95, 80, 60, 50],
    }
)
TEAMS = pl.DataFrame({"team": ["LAL", "BOS"], "season": [2015, 2015], "number": [1, 2]})


def _table(frame: pl.DataFrame, name: str = "Dataset games@1") -> Table:
    return Table.of(name, frame.lazy())


def _check(
    key: Sequence[str] = (),
    references: Sequence[Reference] = (),
    rules: Sequence[RowRule | tuple[str, TableRule]] = (),
    frame: pl.DataFrame = GAMES,
) -> list[Finding]:
    return list(check_integrity(_table(frame), key, references, rules))


def _one(rule: TableRule, **columns: Sequence[object]) -> Finding:
    (finding,) = _check(rules=[("rules[0]", rule)], frame=pl.DataFrame(columns, strict=False))
    return finding


def _rule(column: str, operator: Any, value: Any = None, other: str | None = None, **more: Any) -> RowRule:
    return RowRule("rules[0]", Comparison(column, operator, value, other), **more)


def _reference(column: str, parent_column: str, parent: pl.DataFrame = TEAMS) -> Reference:
    return Reference((column,), _table(parent, "teams"), (parent_column,))


def test_missing_and_duplicate_keys_are_told_apart():
    missing, duplicate = _check(["id"])

    assert (missing.violations, missing.examples) == (1, ({"row": 3, "id": None},))
    assert (duplicate.violations, duplicate.groups, duplicate.not_judged) == (2, 1, 1)
    assert duplicate.examples == ({"id": 2, "rows": 2, "row_numbers": [1, 2]},)


def test_a_compound_key_may_tell_rows_apart_where_its_parts_do_not():
    missing, duplicate = _check(["id", "home"])

    assert duplicate.success
    assert (missing.violations, duplicate.checked) == (2, 3)


def test_a_key_column_may_be_called_as_the_figures_are():
    frame = pl.DataFrame({"rows": [1, 1, 2], "row_numbers": ["a", "a", "b"], "hash": [0, 0, 0]})

    _, duplicate = _check(["rows", "row_numbers", "hash"], frame=frame)

    assert duplicate.examples == ({"rows": 1, "row_numbers": "a", "hash": 0, "rows_": 2, "row_numbers_": [0, 1]},)


def test_orphans_are_counted_by_value_and_missing_ones_left_out():
    (orphans,) = _check(references=[_reference("home", "team")])

    assert (orphans.violations, orphans.groups, orphans.not_judged) == (2, 1, 1)
    assert orphans.examples == ({"home": "XYZ", "rows": 2, "row_numbers": [2, 3]},)
    assert orphans.target == "home → teams.team"
    assert "1 row with a missing value not judged" in orphans.message


def test_a_compound_reference_is_looked_for_as_a_whole():
    frame = pl.DataFrame({"team": ["LAL", "BOS", "LAL"], "year": [2015, 2016, None]})
    reference = Reference(("team", "year"), _table(TEAMS, "teams"), ("team", "season"))

    (orphans,) = _check(references=[reference], frame=frame)

    assert orphans.examples == ({"team": "BOS", "year": 2016, "rows": 1, "row_numbers": [1]},)


def test_a_referenced_value_that_repeats_is_told():
    (orphans,) = _check(references=[_reference("home", "team", pl.concat([TEAMS, TEAMS.head(1)]))])

    assert "1 referenced value not unique" in orphans.message


def test_numbers_of_different_types_still_match():
    parent = TEAMS.with_columns(number=pl.Series([1.0, 2.0]))

    (orphans,) = _check(references=[_reference("id", "number", parent)])

    assert orphans.examples == ({"id": 5.0, "rows": 1, "row_numbers": [4]},)


def test_whole_numbers_of_all_sizes_match_exactly():
    parent = pl.DataFrame({"number": pl.Series([2**64 - 1, 2**53], dtype=pl.UInt64)})
    frame = pl.DataFrame({"id": [-1, 2**53, 2**53 + 1]})

    (orphans,) = _check(references=[_reference("id", "number", parent)], frame=frame)

    assert [each["id"] for each in orphans.examples] == [-1, 2**53 + 1]


def test_text_cannot_reference_numbers():
    with pytest.raises(InvalidArgumentError, match=r"foreign_keys\[0\].*String against Int64"):
        _check(references=[_reference("home", "number")])


def test_a_dependency_shows_groups_with_their_values():
    finding = _one(
        Dependency(("zip",), "city"),
        zip=["10", "10", "10", "20", "20", None, None],
        city=["Ny", "NY", "NY", "LA", None, "A", "B"],
    )

    assert (finding.violations, finding.groups, finding.checked, finding.not_judged) == (3, 1, 5, 2)
    values = [{"value": "NY", "rows": 2, "first_row": 1}, {"value": "Ny", "rows": 1, "first_row": 0}]
    assert finding.examples == ({"zip": "10", "rows": 3, "values": values},)


def test_a_rule_between_columns_judges_rows_that_have_both():
    (broken,) = _check(rules=[_rule("home_points", ">", other="away_points")])

    assert broken.target == "home_points > away_points"
    assert broken.examples == (
        {"row": 1, "home_points": 90, "away_points": 95},
        {"row": 2, "home_points": 80, "away_points": 80},
    )
    assert (broken.checked, broken.not_judged) == (4, 1)


@pytest.mark.parametrize(
    ("rule", "violations"),
    [
        (_rule("home_points", ">=", 80), 1),
        (_rule("home_points", "!=", 100), 1),
        (_rule("home", "in", ["LAL", "BOS"]), 2),
        (_rule("home", "not in", ["XYZ"]), 2),
        (_rule("home", "matches", "^[A-W]+$"), 2),
        (_rule("home", "not null"), 1),
        (_rule("home", "is null"), 4),
    ],
)
def test_a_rule_against_a_value(rule: RowRule, violations: int):
    assert _check(rules=[rule])[0].violations == violations


def test_a_condition_picks_the_rows_that_a_rule_is_for():
    rule = _rule("home_points", "<=", 85, when=Comparison("home", "==", "XYZ"))
    other = _rule("home_points", "not null", when=Comparison("away_points", "<", 60))

    fine, broken = _check(rules=[rule, other])

    assert (fine.violations, fine.checked, fine.not_judged) == (0, 2, 3)
    assert broken.examples == ({"row": 4, "home_points": None, "away_points": 50},)
    assert fine.target == "home_points <= 85 where home == 'XYZ'"


def test_sums_are_compared_with_a_column_and_rounding_is_told():
    frame = pl.DataFrame({"a": [0.1, 1.0, None], "b": [0.2, 1.0, 1.0], "total": [0.3, 3.0, 1.0]})
    strict = RowRule("rules[0]", Comparison("a", "==", other_column="total"), summed=("a", "b"))
    lenient = RowRule("rules[1]", Comparison("a", "==", other_column="total"), summed=("a", "b"), tolerance=1e-6)

    exact, rounded = _check(rules=[strict, lenient], frame=frame)

    assert (exact.violations, exact.checked, exact.target) == (2, 2, "a + b == total")
    assert "1 of them miss by rounding alone" in exact.message
    assert rounded.examples == ({"row": 1, "a": 1.0, "b": 1.0, "total": 3.0},)


def test_sums_of_whole_numbers_do_not_overflow():
    frame = pl.DataFrame({"a": [2**62, 1], "b": [2**62, 2]})

    (finding,) = _check(rules=[RowRule("rules[0]", Comparison("a", "<", 100), summed=("a", "b"))], frame=frame)

    assert [each["row"] for each in finding.examples] == [0]


@pytest.mark.parametrize(
    ("order", "rows"),
    [
        (Order("day"), [2, 5]),
        (Order("day", strict=True), [2, 4, 5]),
        (Order("day", ("team",)), [5]),
        (Order("day", descending=True), [1, 3]),
    ],
)
def test_rows_out_of_order_are_shown_with_what_is_before_them(order: Order, rows: list[int]):
    finding = _one(order, team=["a", "a", "b", "a", "b", "b"], day=[1, 3, 2, 4, 4, 3])

    assert [each["row"] for each in finding.examples] == rows
    assert finding.violations == len(rows)


def test_a_missing_value_is_passed_over_in_an_order():
    finding = _one(Order("day"), day=[1, None, 0])

    assert finding.examples == ({"row": 2, "day": 0, "previous": 1},)
    assert finding.not_judged == 1


def test_gaps_of_days_say_where_they_are():
    days = [date(2024, 1, day) for day in (1, 2, 2, 3, 6, 7)]

    finding = _one(Gaps("day"), day=days)

    assert finding.target == "day, every 1d (the most common step)"
    assert finding.examples == ({"from": "2024-01-03", "to": "2024-01-06", "gap": "3d", "row": 4},)
    assert (finding.violations, finding.checked) == (1, 4)
    assert "about 2 values absent" in finding.message


def test_gaps_are_looked_for_in_each_group():
    finding = _one(Gaps("n", ("team",), every=1), team=["a", "b", "a", "b"], n=[1, 1, 2, 5])

    assert finding.examples == ({"team": "b", "from": 1, "to": 5, "gap": 4, "row": 3},)
    assert (finding.violations, finding.groups) == (1, 1)


def test_columns_may_be_called_as_the_figures_of_a_gap_are():
    finding = _one(Gaps("gap", ("from",), every=1), **{"from": ["a", "a"], "gap": [1, 3]})

    assert finding.examples == ({"from": "a", "from_": 1, "to": 3, "gap_": 2, "row": 1},)


def test_steps_of_floats_may_differ_by_rounding():
    assert _one(Gaps("x", every=0.1), x=[0.1, 0.2, 0.30000000000000004, 0.4]).success


def test_months_are_steps_of_the_calendar():
    months = [date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1), date(2024, 6, 1), date(2024, 7, 1)]

    assert _one(Gaps("m"), m=months).target == "m, every 1mo (the most common step)"
    finding = _one(Gaps("m", every="1mo"), m=months)
    assert (finding.violations, finding.examples[0]["from"]) == (1, "2024-03-01")
    assert "about 2 values absent" in finding.message
    assert _one(Gaps("m", every="1mo", max_gap="1q"), m=months).success


def test_a_day_of_25_hours_is_no_gap():
    zone = "America/New_York"
    hours = [datetime(2024, 11, day, 12) for day in (1, 2, 3, 4)]
    frame = pl.DataFrame({"t": hours}).with_columns(pl.col("t").dt.replace_time_zone(zone))

    (finding,) = _check(rules=[("rules[0]", Gaps("t", every="1d"))], frame=frame)

    assert (finding.success, finding.checked) == (True, 3)


@pytest.mark.parametrize("every", ["1", "0d", "day", 1, "1x"])
def test_a_step_of_times_that_is_none_is_refused(every: object):
    with pytest.raises(InvalidArgumentError, match=r"rules\[0\]: every"):
        _one(Gaps("day", every=every), day=[date(2024, 1, 1)])  # type: ignore[arg-type]


def test_rows_equal_but_for_named_columns():
    finding = _one(
        NearDuplicates(("seen",)),
        name=["a", "b", "a", None, None],
        price=[1.0, 2.0, 1.0, 3.0, 3.0],
        seen=[1, 2, 3, 4, 4],
    )

    assert (finding.violations, finding.groups) == (4, 2)
    assert finding.examples[0] == {
        "rows": 2,
        "row_numbers": [3, 4],
        "differing": {},
        "shared": {"name": None, "price": 3.0},
    }
    assert finding.examples[1]["differing"] == {"seen": [1, 3]}


def test_the_column_that_near_duplicates_differ_in_is_found():
    finding = _one(
        NearDuplicates(),
        name=["a", "b", "a", "c", "c", "d"],
        city=["x", "y", "x", "z", "Z", None],
        price=[1, 2, 9, 4, 4, 5],
    )

    assert (finding.violations, finding.groups) == (4, 2)
    assert [each["differing"] for each in finding.examples] == [{"city": ["z", "Z"]}, {"price": [1, 9]}]
    assert "city" in finding.message


def test_whole_copies_are_no_near_duplicates_that_differ():
    assert _one(NearDuplicates(), a=[1, 1], b=[2, 2]).success


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (_rule("home", ">", 3), "cannot be checked"),
        (_rule("home", ">", other="home_points"), "String.*Int64"),
        (_rule("home", "in", ["LAL", 3]), "cannot be checked"),
        (_rule("home", "matches", "("), "no pattern"),
        (_rule("home", "matches", "(?=a)"), "no pattern"),
        (_rule("home_points", "matches", "a"), "cannot be checked"),
        (_rule("id", "==", 1, when=Comparison("home", "<", 1)), r"rules\[0\]\.when"),
        (RowRule("rules[0]", Comparison("home", "==", 1), summed=("home", "id")), "have no sum"),
        (("rules[0]", Order("id", ("id",))), "named twice"),
        (("rules[0]", Gaps("id", ("id",))), "named twice"),
        (("rules[0]", Gaps("home")), "String values"),
    ],
)
def test_a_rule_that_cannot_be_checked_is_named(rule: RowRule | tuple[str, TableRule], words: str):
    with pytest.raises(InvalidArgumentError, match=r"rules\[0\]") as refusal:
        _check(rules=[rule])
    refusal.match(words)


@pytest.mark.parametrize(
    ("key", "references", "rules"),
    [
        (["idd"], [], []),
        ([], [_reference("hom", "team")], []),
        ([], [_reference("home", "tean")], []),
        ([], [], [_rule("home_point", ">", 1)]),
        ([], [], [_rule("id", "==", 1, when=Comparison("hom", "==", "a"))]),
        ([], [], [("rules[0]", Dependency(("home",), "away_point"))]),
        ([], [], [("rules[0]", Order("home_point"))]),
        ([], [], [("rules[0]", Gaps("home_points", ("hom",)))]),
        ([], [], [("rules[0]", NearDuplicates(("hom",)))]),
    ],
)
def test_an_unknown_column_is_refused_with_near_names(key: list[str], references: list[Reference], rules: list[Any]):
    with pytest.raises(InvalidArgumentError) as caught:
        _check(key, references, rules)

    assert "Close names" in caught.value.hint
