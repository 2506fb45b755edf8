"""The report of a validation: a verdict, what fails with examples, what holds, and what to do next."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mcp_server.engine.charts import Bars
from mcp_server.engine.expectations.checks import Outcome
from mcp_server.engine.expectations.suite import SEVERITIES, Expectation
from mcp_server.engine.expectations.wording import found, limits_of, short_type, subject_of
from mcp_server.engine.reports import Mark, Reference, Report, Section, Share, Status, Table
from mcp_server.results.wording import counted
from mcp_server.stores.query_values import plain_value, visible_text

Judged = Sequence[tuple[Expectation, Outcome]]

_STATUS: Final[Mapping[str, Status]] = {"critical": "bad", "warning": "warning", "info": "note"}
_GROUP: Final = "Failures one by one"
_MAX_SECTIONS: Final = 60
_MAX_ROWS: Final = 1000
_MAX_EXAMPLES: Final = 10
_TOLD_EXAMPLES: Final = 5


def validation_report(*, dataset: str, suite: str, rows: int, judged: Judged, summary: str) -> Report:
    """Return the report; its picture is the share of unexpected values, drawn when somebody asks for it."""
    failures = [each for each in judged if not each[1].success]
    failures.sort(key=lambda each: (SEVERITIES.index(each[0].severity), -(each[1].unexpected_percent or 0)))
    numbered = [(f"{i}. {_name(each[0])}", *each) for i, each in enumerate(failures, 1)]
    sections = [
        _failures(numbered),
        _columns(judged),
        _next_steps(dataset, suite, failures),
        _all(judged),
        *(_failure(heading, expectation, outcome) for heading, expectation, outcome in numbered[:_MAX_SECTIONS]),
    ]
    title = f"Validation of {dataset} against suite {suite}"
    kept = [section for section in sections if section is not None]
    return Report(title, summary, kept, _picture(dataset, judged, failures), _marks(judged, failures, rows))


def _name(expectation: Expectation) -> str:
    return f"{visible_text(subject_of(expectation.kwargs), 80)}: {short_type(expectation.type)}"


def _marks(judged: Judged, failures: Judged, rows: int) -> list[Mark]:
    held = Mark("good", f"{counted(len(judged) - len(failures), 'expectation')} met")
    size = Mark("note", counted(rows, "row"))
    if not failures:
        return [Mark("good", "passed"), held, size]
    counts = Counter(expectation.severity for expectation, _ in failures)
    failed = [Mark(_STATUS[name], f"{counts[name]} {name}") for name in SEVERITIES if counts[name]]
    return [Mark(_STATUS[failures[0][0].severity], "failed"), *failed, held, size]


def _failures(numbered: Sequence[tuple[str, Expectation, Outcome]]) -> Section:
    if not numbered:
        return Section("Failures", "Every expectation is met.", status="good")
    rows = [
        [
            Reference(heading, heading), Mark(_STATUS[expectation.severity], expectation.severity),
            _share(outcome), found(expectation, outcome), _examples(outcome),
        ]
        for heading, expectation, outcome in numbered[:_MAX_ROWS]
    ]  # fmt: skip
    note = f"The first {_MAX_ROWS} of {len(numbered)}." if len(numbered) > _MAX_ROWS else ""
    headings = ["expectation", "severity", "unexpected", "found", "examples"]
    return Section("Failures", table=Table(headings, rows, note), status=_STATUS[numbered[0][1].severity])


def _share(outcome: Outcome) -> Share | None:
    return Share(outcome.unexpected_percent) if outcome.unexpected_percent is not None else None


def _examples(outcome: Outcome) -> str:
    listed = outcome.partial_unexpected_list or ()
    told = ", ".join(_shown(value, 40) for value in listed[:_TOLD_EXAMPLES])
    return told + (" …" if len(listed) > _TOLD_EXAMPLES else "")


def _shown(value: Any, length: int) -> str:
    """Return an example as text: a pair side by side, a row by its columns, blanks at the ends in quotes."""
    if isinstance(value, Mapping):
        return ", ".join(f"{visible_text(str(name), 40)} {_shown(each, length)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return " | ".join(_shown(each, length) for each in value)
    if value is None:
        return "missing"
    plain = plain_value(value)
    text = visible_text(str(value if plain is None else plain), length)
    return f"“{text}”" if text != text.strip() or not text else text


def _columns(judged: Judged) -> Section | None:
    """Return how each column does, worst first; nothing where all is well."""
    by_column: dict[str, list[tuple[Expectation, Outcome]]] = {}
    for each in judged:
        by_column.setdefault(subject_of(each[0].kwargs), []).append(each)
    if len(by_column) < 2:
        return None
    rows: list[list[object]] = []
    for name, each_of in by_column.items():
        failed = [expectation.severity for expectation, outcome in each_of if not outcome.success]
        worst = min((SEVERITIES.index(severity) for severity in failed), default=len(SEVERITIES))
        verdict = Mark(_STATUS[SEVERITIES[worst]], "fails") if failed else Mark("good", "holds")
        rows.append([visible_text(name, 120), verdict, len(each_of) - len(failed), len(failed)])
    rows.sort(key=lambda row: -int(str(row[3])))
    return Section("Columns", table=Table(["column", "result", "met", "failed"], rows[:_MAX_ROWS]))


def _next_steps(dataset: str, suite: str, failures: Judged) -> Section:
    if not failures:
        text = f"- Nothing is to be mended. `validate_dataset` on the next version of `{dataset}` keeps watch."
        return Section("What to do next", text)
    columns = list(dict.fromkeys(subject_of(expectation.kwargs) for expectation, _ in failures))
    steps = [
        f"Look at the rows: `query_data` on `{dataset.partition('@')[0]}` with the examples below.",
        f"Where the data is wrong, mend the source, or a copy with `clean_dataset`: {counted(len(columns), 'column')}.",
        f"Where the expectation is wrong, save a new version of `{suite.partition('@')[0]}` with `save_suite`.",
    ]
    if any(expectation.severity == "critical" for expectation, _ in failures):
        steps.insert(0, "Do not train or predict on this version: critical expectations fail.")
    return Section("What to do next", "\n".join(f"- {step}" for step in steps))


def _all(judged: Judged) -> Section:
    rows = [
        [
            visible_text(subject_of(expectation.kwargs), 120), short_type(expectation.type),
            Mark("good", "holds") if outcome.success else Mark(_STATUS[expectation.severity], "fails"),
            limits_of(expectation.kwargs), found(expectation, outcome),
        ]
        for expectation, outcome in judged[:_MAX_ROWS]
    ]  # fmt: skip
    note = f"The first {_MAX_ROWS} of {len(judged)}." if len(judged) > _MAX_ROWS else ""
    table = Table(["column", "expectation", "result", "expected", "found"], rows, note)
    return Section("All expectations", table=table if rows else None, markdown="" if rows else "The suite is empty.")


def _failure(heading: str, expectation: Expectation, outcome: Outcome) -> Section:
    facts: list[tuple[str, object]] = [
        ("severity", Mark(_STATUS[expectation.severity], expectation.severity)),
        ("expected", limits_of(expectation.kwargs) or short_type(expectation.type)),
    ]
    if outcome.observed_value is not None:
        facts.append(("observed", _shown(outcome.observed_value, 120)))
    counts = (("rows looked at", outcome.element_count), ("unexpected", outcome.unexpected_count))
    facts += [(name, count) for name, count in (*counts, ("missing", outcome.missing_count)) if count is not None]
    if outcome.unexpected_percent is not None:
        facts.append(("share", Share(outcome.unexpected_percent)))
    return Section(
        heading,
        found(expectation, outcome),
        table=_example_table(outcome),
        facts=facts,
        status=_STATUS[expectation.severity],
        group=_GROUP,
    )


def _example_table(outcome: Outcome) -> Table | None:
    listed = list(outcome.partial_unexpected_list or ())[:_MAX_EXAMPLES]
    if not listed:
        return None
    places = list(outcome.partial_unexpected_index_list or ())
    total = outcome.unexpected_count or len(listed)
    note = f"The first {len(listed)} of {total:,} in the order of rows." if total > len(listed) else ""
    if len(places) < len(listed):
        return Table(["unexpected value"], [[_shown(value, 200)] for value in listed], note)
    rows = [[place, _shown(value, 200)] for place, value in zip(places, listed, strict=False)]
    return Table(["row (from 0)", "unexpected value"], rows, note)


def _picture(dataset: str, judged: Judged, failures: Judged) -> Bars:
    shares = [(_name(each), outcome.unexpected_percent) for each, outcome in failures if outcome.unexpected_percent]
    if shares:
        labels, values = [name for name, _ in shares], [float(share) for _, share in shares]
        return Bars(labels, values, f"{dataset}: unexpected values", "% of values that are not missing", percent=True)
    counts = [float(len(judged) - len(failures)), float(len(failures))]
    return Bars(["met", "failed"], counts, f"{dataset}: expectations", "expectations")
