"""Validation: suites of expectations, and what a dataset makes of them."""

from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from pydantic import Field

from mcp_server.results.base import Job
from mcp_server.results.validation import (
    ForeignKey,
    IntegrityResult,
    IntegrityRule,
    SuitePage,
    SuiteResult,
    SuiteSuggestion,
    ValidationResult,
)
from mcp_server.tools.calling import READ, WRITE_IDEMPOTENT, ToolSpec, app_of, caller_of, run_job
from mcp_server.tools.parameters import Cursor, DatasetRef, Detail, Limit, Name, Plot, SuiteRef, WaitSeconds


def save_suite(
    ctx: Context,
    name: Name,
    expectations: Annotated[list[dict[str, Any]] | None, Field(description="[{type, kwargs, severity}]")] = None,
    gx_suite: Annotated[dict[str, Any] | None, Field(description="a whole suite as Great Expectations JSON")] = None,
    description: str | None = None,
) -> SuiteResult:
    """Use it to keep expectations you wrote, or a Great Expectations suite, as a new version.

    To have them derived from data use suggest_suite.
    """
    return app_of(ctx).validation.save_suite(
        caller=caller_of(ctx), name=name, expectations=expectations, gx_suite=gx_suite, description=description
    )


async def suggest_suite(
    ctx: Context, dataset: DatasetRef, name: Name | None = None, wait_seconds: WaitSeconds = 25
) -> Job[SuiteSuggestion]:
    """Use it to get a first suite from good data, each expectation with its evidence; a name saves it.

    To store your own use save_suite.
    """
    return await run_job(ctx, "suggest_suite", SuiteSuggestion, wait_seconds, dataset=dataset, name=name)


def list_suites(ctx: Context, limit: Limit = 50, cursor: Cursor = None) -> SuitePage:
    """Use it to find a suite's name and latest version; the resource suite://name has its expectations."""
    return app_of(ctx).validation.list_suites(limit=limit, cursor=cursor)


async def validate_dataset(
    ctx: Context,
    dataset: DatasetRef,
    suite: SuiteRef,
    engine: Literal["native", "gx"] = "native",
    detail: Detail = "summary",
    plot: Plot = False,
    wait_seconds: WaitSeconds = 25,
) -> Job[ValidationResult]:
    """Use it to judge a dataset by a suite: failures first, with examples, and a report.

    For keys and cross-column rules without a suite use check_integrity.
    """
    return await run_job(
        ctx, "validate_dataset", ValidationResult, wait_seconds,
        dataset=dataset, suite=suite, engine=engine, detail=detail,
    )  # fmt: skip


async def check_integrity(
    ctx: Context,
    dataset: DatasetRef,
    primary_key: Annotated[str | list[str] | None, Field(description="column, or columns of a compound key")] = None,
    foreign_keys: list[ForeignKey] = [],  # noqa: B006  # never changed; the schema shows the default
    rules: list[IntegrityRule] = [],  # noqa: B006
    wait_seconds: WaitSeconds = 25,
) -> Job[IntegrityResult]:
    """Use it for keys, orphans across datasets, rules between columns, order, gaps and near-duplicate rows.

    All counts are exact. For a kept suite use validate_dataset.
    """
    return await run_job(
        ctx, "check_integrity", IntegrityResult, wait_seconds,
        dataset=dataset, primary_key=primary_key, foreign_keys=foreign_keys, rules=rules,
    )  # fmt: skip


TOOLS = (
    ToolSpec(save_suite, "Save a suite", role="data_scientist", hints=WRITE_IDEMPOTENT),
    ToolSpec(suggest_suite, "Suggest a suite", role="data_scientist", hints=WRITE_IDEMPOTENT, job=True),
    ToolSpec(list_suites, "List suites", role="viewer", hints=READ),
    ToolSpec(validate_dataset, "Validate a dataset", role="viewer", hints=READ, job=True),
    ToolSpec(check_integrity, "Check keys and rules", role="viewer", hints=READ, job=True),
)
