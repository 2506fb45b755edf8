"""Shapes what the validation found: results that stay small, sentences, and the report."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from mcp_server.engine.expectations.checks import Outcome
from mcp_server.engine.expectations.suite import SEVERITIES, Expectation
from mcp_server.engine.expectations.wording import found, limits_of, short_type, subject_of
from mcp_server.results.validation import (
    ExpectationRecord,
    ExpectationResult,
    FailuresBySeverity,
    ValidationResult,
)

if TYPE_CHECKING:
    from mcp_server.engine.reports import Report

Judged = Sequence[tuple[Expectation, Outcome]]
Engine = Literal["native", "gx"]

_TOP: Final = 20
_TOP_FULL: Final = 300
_ROOM: Final = 13_000
_ROOM_FULL: Final = 100_000
_HIDDEN: Final = {"Cc", "Cf", "Cs", "Co", "Cn"}
_REPORT_ROWS: Final = 500
# Examples and characters a value keeps, from generous to terse, until a result fits its room.
_CUTS: Final = ((20, 200), (20, 60), (10, 60), (5, 40), (3, 30), (1, 30))


def validation_result(
    *, dataset: str, suite: str, engine: Engine, rows: int, judged: Judged, report_uri: str, full: bool
) -> ValidationResult:
    """Return the result, failures first by severity, cut to the room that an answer has."""
    ordered = sorted(judged, key=lambda each: (each[1].success, SEVERITIES.index(each[0].severity)))
    top, room = (ordered[:_TOP_FULL], _ROOM_FULL) if full else (ordered[:_TOP], _ROOM)
    records: list[ExpectationResult] = []
    for n_examples, n_characters in _CUTS:
        records = [_record(*each, engine, n_examples, n_characters) for each in top]
        if _length(records) <= room:
            break
    while len(records) > 1 and _length(records) > room:
        records.pop()
    failures = [expectation for expectation, outcome in judged if not outcome.success]
    passed = len(judged) - len(failures)
    return ValidationResult(
        summary=_sentence(dataset, suite, rows, judged),
        success=not failures,
        dataset=dataset,
        suite=suite,
        engine=engine,
        rows=rows,
        evaluated=len(judged),
        successful=passed,
        failed=len(failures),
        failed_by_severity=FailuresBySeverity(
            **{severity: sum(each.severity == severity for each in failures) for severity in SEVERITIES}
        ),
        success_percent=passed / len(judged) * 100 if judged else None,
        results=records,
        results_left_out=len(judged) - len(records),
        report_uri=report_uri,
    )


def _length(records: Sequence[ExpectationResult | ExpectationRecord]) -> int:
    return sum(len(record.model_dump_json()) for record in records)


def _record(
    expectation: Expectation, outcome: Outcome, engine: Engine, n_examples: int, n_characters: int
) -> ExpectationResult:
    examples, rows = outcome.partial_unexpected_list, outcome.partial_unexpected_index_list
    return ExpectationResult(
        type=expectation.type,
        kwargs=_cut(dict(expectation.kwargs), n_examples, n_characters),
        success=outcome.success,
        severity=expectation.severity,
        observed_value=_cut(outcome.observed_value, n_examples, n_characters),
        element_count=outcome.element_count,
        unexpected_count=outcome.unexpected_count,
        unexpected_percent=outcome.unexpected_percent,
        missing_count=outcome.missing_count,
        partial_unexpected_list=None
        if examples is None
        else [_cut(value, n_examples, n_characters) for value in examples[:n_examples]],
        partial_unexpected_index_list=None if rows is None else list(rows[:n_examples]),
        details=_cut(dict(outcome.details), n_examples, n_characters),
        engine=engine if engine == "gx" or expectation.is_native else "gx",
        message=_clean(found(expectation, outcome), 300),
    )


def expectation_records(expectations: Sequence[Expectation]) -> list[ExpectationRecord]:
    """Return as many expectations as an answer has room for."""
    records: list[ExpectationRecord] = []
    used = 0
    for expectation in expectations:
        record = ExpectationRecord(
            type=expectation.type,
            kwargs=_cut(dict(expectation.kwargs), 100, 200),
            severity=expectation.severity,
            meta=_cut(dict(expectation.meta), 20, 200),
        )
        used += len(record.model_dump_json())
        if used > _ROOM and records:
            break
        records.append(record)
    return records


def _sentence(dataset: str, suite: str, rows: int, judged: Judged) -> str:
    failures = [each for each in judged if not each[1].success]
    if not judged:
        return f"Suite {suite} holds no expectations; {dataset} has {rows:,} rows."
    if not failures:
        return f"{dataset} meets all {len(judged)} expectations of {suite} on {rows:,} rows."
    by_severity = ", ".join(
        f"{count} {severity}"
        for severity in SEVERITIES
        if (count := sum(expectation.severity == severity for expectation, _ in failures))
    )
    return (
        f"{dataset} meets {len(judged) - len(failures)} of {len(judged)} expectations of {suite} on {rows:,} rows "
        f"({len(failures) / len(judged):.0%} fail: {by_severity})."
    )


def validation_report(*, dataset: str, suite: str, rows: int, judged: Judged) -> "Report":
    """Return the report: failures with examples, then every expectation."""
    from mcp_server.engine.plots import bar_chart
    from mcp_server.engine.reports import Report, Section, Table

    failures = [each for each in judged if not each[1].success]
    failures.sort(key=lambda each: (SEVERITIES.index(each[0].severity), -(each[1].unexpected_percent or 0)))
    shown_as = [(f"{subject_of(each.kwargs)}: {short_type(each.type)}", outcome) for each, outcome in failures]
    with_share = [(label, outcome.unexpected_percent) for label, outcome in shown_as if outcome.unexpected_percent]
    if with_share:
        labels, shares = zip(*with_share, strict=True)
        picture = bar_chart(labels, shares, title="Unexpected values", value_label="% of values that are not missing")
    else:
        counts = [len(judged) - len(failures), len(failures)]
        picture = bar_chart(["hold", "fail"], counts, title="Expectations", value_label="expectations")
    columns = ["severity", "column", "expectation", "expected", "found", "examples"]
    failed_rows = [[*_cells(expectation, outcome), _examples(outcome)] for expectation, outcome in failures]
    all_rows = [["holds" if outcome.success else "fails", *_cells(each, outcome)] for each, outcome in judged]
    return Report(
        title=f"Validation of {dataset} against suite {suite}",
        summary=_sentence(dataset, suite, rows, judged),
        sections=[
            Section(
                "Failures", image_png=picture, table=Table(columns, failed_rows[:_REPORT_ROWS], _note(failed_rows))
            ),
            Section(
                "All expectations", table=Table(["result", *columns[:-1]], all_rows[:_REPORT_ROWS], _note(all_rows))
            ),
        ],
    )


def _note(rows: Sequence[object]) -> str:
    if not rows:
        return "None."
    return f"The first {_REPORT_ROWS} of {len(rows)}." if len(rows) > _REPORT_ROWS else ""


def _cells(expectation: Expectation, outcome: Outcome) -> list[str]:
    return [
        expectation.severity,
        subject_of(expectation.kwargs),
        short_type(expectation.type),
        limits_of(expectation.kwargs),
        found(expectation, outcome),
    ]


def _examples(outcome: Outcome) -> str:
    listed = outcome.partial_unexpected_list or ()
    return ", ".join(_clean(str(value), 40) for value in listed[:8]) + (" …" if len(listed) > 8 else "")


def _cut(value: Any, n_items: int, n_characters: int) -> Any:
    """Return a JSON value with hidden characters taken out, and long texts and lists cut."""
    if isinstance(value, str):
        return _clean(value, n_characters)
    if isinstance(value, Mapping):
        return {_clean(str(key), 200): _cut(each, n_items, n_characters) for key, each in value.items()}
    if isinstance(value, list | tuple):
        kept = [_cut(each, n_items, n_characters) for each in value[:n_items]]
        return [*kept, f"… {len(value) - n_items} more"] if len(value) > n_items else kept
    return value


def _clean(text: str, n_characters: int) -> str:
    clean = "".join(" " if unicodedata.category(c) in _HIDDEN else c for c in text[: n_characters + 1])
    return clean if len(clean) <= n_characters else clean[: n_characters - 1] + "…"
