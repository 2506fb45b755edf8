"""What the validation tools return, and the rules that check_integrity takes."""

from typing import Literal

from pydantic import ConfigDict, Field, JsonValue

from mcp_server.results.base import Page, Record, Result

Severity = Literal["critical", "warning", "info"]
IntegrityOperator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in", "matches", "is null", "not null"]


class ExpectationRecord(Record):
    """One expectation in Great Expectations' form."""

    type: str
    kwargs: dict[str, JsonValue]
    severity: Severity
    meta: dict[str, JsonValue] = Field(default_factory=dict, description="For a suggestion: its evidence.")


class SuiteResult(Result):
    """A suite as it was saved."""

    name: str
    version: int
    expectations: list[ExpectationRecord]
    count: int = Field(description="All expectations of the suite; the list is cut where it would grow too long.")


class SuiteSuggestion(Result):
    """A suite derived from a dataset, each expectation with its evidence."""

    dataset: str
    name: str | None = Field(description="Null when it was not saved.")
    version: int | None
    expectations: list[ExpectationRecord]
    count: int = Field(description="All expectations of the suite; the list is cut where it would grow too long.")


class SuiteItem(Record):
    """A suite in a list: its latest version."""

    name: str
    version: int
    expectations: int = Field(description="How many it holds.")
    description: str | None = None


class SuitePage(Page[SuiteItem]):
    """A page of suites, by name."""


class ExpectationResult(Record):
    """What came of one expectation, in Great Expectations' terms."""

    type: str
    kwargs: dict[str, JsonValue]
    success: bool
    severity: Severity
    observed_value: JsonValue = None
    element_count: int | None = None
    unexpected_count: int | None = None
    unexpected_percent: float | None = Field(default=None, description="Of the values that are not missing, 0 to 100.")
    unexpected_percent_total: float | None = Field(default=None, description="Of all values, 0 to 100.")
    missing_count: int | None = None
    missing_percent: float | None = None
    partial_unexpected_list: list[JsonValue] | None = Field(
        default=None, description="The first unexpected values in row order, at most 20."
    )
    partial_unexpected_counts: list[dict[str, JsonValue]] | None = Field(
        default=None, description="How often each of them is among them; with detail=full."
    )
    partial_unexpected_index_list: list[int] | None = Field(default=None, description="Their row numbers, from 0.")
    details: dict[str, JsonValue] = Field(default_factory=dict)
    engine: Literal["native", "gx"] = Field(default="native", description="Which engine judged it.")
    message: str


class FailuresBySeverity(Record):
    """How many expectations failed."""

    critical: int = 0
    warning: int = 0
    info: int = 0


class ValidationResult(Result):
    """A dataset judged by a suite; failures first."""

    success: bool
    dataset: str
    suite: str
    engine: Literal["native", "gx"]
    rows: int
    evaluated: int
    successful: int
    failed: int
    failed_by_severity: FailuresBySeverity
    success_percent: float | None = Field(description="0 to 100; null for a suite without expectations.")
    results: list[ExpectationResult]
    results_left_out: int = Field(default=0, description="Further results, which the report has.")
    report_uri: str


class ForeignKey(Record):
    """A column whose values must exist in another dataset."""

    column: str | list[str]
    references: str | list[str] = Field(description="dataset.column; a list of these for a list of columns")


class IntegrityCondition(Record):
    """A comparison that picks the rows which a rule is for."""

    column: str
    op: IntegrityOperator
    value: JsonValue = None
    other_column: str | None = None


class IntegrityRule(Record):
    """A rule; rows that lack a value it needs are not judged.

    compare: column op value|other_column; sum: columns added, op, value|other_column; both where `when` holds.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    kind: Literal["compare", "sum", "functional_dependency", "ordered", "gaps", "near_duplicates"] = "compare"
    column: str | None = None
    op: IntegrityOperator | None = None
    value: JsonValue = Field(default=None, description="a list for in, a pattern for matches")
    other_column: str | None = Field(default=None, description="instead of value")
    when: IntegrityCondition | None = None
    columns: list[str] | None = Field(default=None, description="sum")
    tolerance: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    determinant: str | list[str] | None = None
    dependent: str | None = None
    by: str | list[str] | None = Field(default=None, description="ordered, gaps: within these groups")
    strict: bool = False
    descending: bool = False
    every: str | float | None = Field(default=None, description='gaps: "1d", "1mo", a number; the usual step')
    max_gap: str | float | None = None
    except_: str | list[str] | None = Field(
        default=None, alias="except", description="near_duplicates: may differ; default: any one"
    )


class IntegrityCheck(Record):
    """What came of one check."""

    kind: Literal[
        "primary_key_missing",
        "primary_key_duplicate",
        "foreign_key",
        "rule",
        "sum",
        "functional_dependency",
        "ordered",
        "gaps",
        "near_duplicates",
    ]
    target: str
    success: bool
    violations: int = Field(description="Rows that break it; for gaps the gaps.")
    checked: int = Field(description="Rows that were judged; for gaps the steps between neighbours.")
    not_judged: int = Field(description="Rows that lack a value, or that the condition leaves out.")
    groups: int | None = Field(default=None, description="Distinct keys or groups among the violations.")
    message: str
    examples: list[dict[str, JsonValue]] = Field(description="At most 20, with row numbers from 0.")


class IntegrityResult(Result):
    """Keys and rules of a dataset checked; failures first."""

    success: bool
    dataset: str
    rows: int
    failed: int = Field(description="Checks that fail.")
    checks: list[IntegrityCheck]
    checks_left_out: int = Field(default=0, description="Further checks, for which there is no room.")
