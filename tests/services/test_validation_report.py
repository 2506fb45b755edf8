"""The report of a validation: a verdict first, failures with examples, and a page that fetches nothing."""

import polars as pl
import pytest

from mcp_server.engine.charts import Bars
from mcp_server.engine.expectations.checks import Outcome
from mcp_server.engine.expectations.suite import Expectation, parse_expectations
from mcp_server.engine.reports import Report, to_html, to_markdown
from mcp_server.services.validation_report import validation_report
from tests.pages import check_page, live_markdown

HOSTILE = '<script>alert(1)</script> ![x](https://evil.example/a.png) "><img src=x onerror=1> \u202e\x1b[31m'


def failed(examples: tuple[object, ...], severity: str = "critical", **kwargs: object) -> tuple[Expectation, Outcome]:
    document = {
        "type": "expect_column_values_to_be_in_set",
        "kwargs": {"column": "team", "value_set": ["BOS"]} | kwargs,
        "severity": severity,
    }
    count = len(examples)
    outcome = Outcome(
        False, 100, count, float(count), float(count), 0, 0.0, None, tuple(examples), tuple(range(count)), {}
    )
    return parse_expectations([document])[0], outcome


def held() -> tuple[Expectation, Outcome]:
    document = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "points"}}
    return parse_expectations([document])[0], Outcome(True, 100, 0, 0.0, 0.0, 0, 0.0)


def report_of(*judged: tuple[Expectation, Outcome]) -> Report:
    return validation_report(dataset="games@1", suite="basic@2", rows=100, judged=judged, summary="It was judged.")


def test_failures_come_first_the_worst_on_top() -> None:
    report = report_of(held(), failed(("X",), "info"), failed(("Y", "Z"), "critical"), failed(("W",), "warning"))
    assert [mark.words for mark in report.marks][:4] == ["failed", "1 critical", "1 warning", "1 info"]
    first = report.sections[0]
    assert (first.heading, first.status) == ("Failures", "bad")
    assert first.table is not None
    assert [str(row[1]) for row in first.table.rows] == ["critical", "warning", "info"]
    details = [section for section in report.sections if section.group]
    assert [section.status for section in details] == ["bad", "warning", "note"]
    assert details[0].table is not None
    assert list(details[0].table.rows) == [[0, "Y"], [1, "Z"]]


def test_where_all_is_met_the_report_says_so() -> None:
    report = report_of(held(), held())
    assert report.marks[0].words == "passed"
    assert "Every expectation is met." in check_page(to_html(report)).text
    assert report.picture == Bars(["met", "failed"], [2.0, 0.0], "games@1: expectations", "expectations")


def test_an_empty_suite_makes_a_report() -> None:
    assert "The suite is empty." in check_page(to_html(report_of())).text


@pytest.mark.parametrize("value", [HOSTILE, [HOSTILE, 1], {HOSTILE: HOSTILE}, None, " padded ", float("nan"), 2**70])
def test_examples_of_every_kind_stay_text(value: object) -> None:
    report = report_of(failed((value,)), failed((value,), column=HOSTILE))
    page = check_page(to_html(report))
    assert page.named("table")
    assert not live_markdown(to_markdown(report))


def test_a_hundred_failures_are_all_listed_and_the_worst_told_one_by_one() -> None:
    report = report_of(*(failed((f"value {i}",), column=f"column {i}") for i in range(100)))
    page = check_page(to_html(report))
    assert "column 99" in page.text
    assert len([section for section in report.sections if section.group]) == 60


def test_padded_values_and_missing_ones_can_be_told_from_others() -> None:
    text = to_markdown(report_of(failed((" padded ", None, ""))))
    assert "“ padded ”" in text
    assert "missing" in text
    assert "“”" in text


def test_numbers_of_polars_are_shown_as_numbers() -> None:
    value = pl.Series([1.5]).to_list()[0]
    assert "| 0 | 1.5 |" in to_markdown(report_of(failed((value,))))
