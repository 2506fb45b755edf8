"""Shapes what the validation found: results that stay small, sentences, and the report."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from mcp_server.engine.expectations.checks import Outcome
from mcp_server.engine.expectations.suite import SEVERITIES, Expectation
from mcp_server.engine.expectations.wording import found
from mcp_server.results.validation import (
    ExpectationRecord,
    ExpectationResult,
    FailuresBySeverity,
    ValidationResult,
)

Judged = Sequence[tuple[Expectation, Outcome]]
Engine = Literal["native", "gx"]

_TOP: Final = 20
_TOP_FULL: Final = 300
_ROOM: Final = 13_000
_ROOM_FULL: Final = 100_000
_HIDDEN: Final = {"Cc", "Cf", "Cs", "Co", "Cn"}
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
        records = [_record(*each, engine, full, n_examples, n_characters) for each in top]
        if _length(records) <= room:
            break
    while len(records) > 1 and _length(records) > room:
        records.pop()
    failures = [expectation for expectation, outcome in judged if not outcome.success]
    passed = len(judged) - len(failures)
    return ValidationResult(
        summary=validation_sentence(dataset, suite, rows, judged),
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
    expectation: Expectation, outcome: Outcome, engine: Engine, full: bool, n_examples: int, n_characters: int
) -> ExpectationResult:
    examples, rows = outcome.partial_unexpected_list, outcome.partial_unexpected_index_list
    counts = outcome.partial_unexpected_counts if full else None
    return ExpectationResult(
        type=expectation.type,
        kwargs=_cut(dict(expectation.kwargs), n_examples, n_characters),
        success=outcome.success,
        severity=expectation.severity,
        observed_value=_cut(outcome.observed_value, n_examples, n_characters),
        element_count=outcome.element_count,
        unexpected_count=outcome.unexpected_count,
        unexpected_percent=outcome.unexpected_percent,
        unexpected_percent_total=outcome.unexpected_percent_total,
        missing_count=outcome.missing_count,
        missing_percent=outcome.missing_percent,
        partial_unexpected_list=None
        if examples is None
        else [_cut(value, n_examples, n_characters) for value in examples[:n_examples]],
        partial_unexpected_counts=None
        if counts is None
        else [_cut(each, n_examples, n_characters) for each in counts[:n_examples]],
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


def validation_sentence(dataset: str, suite: str, rows: int, judged: Judged) -> str:
    """Return what a validation came to, in a sentence."""
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
