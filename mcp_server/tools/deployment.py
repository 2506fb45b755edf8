"""Deployment: endpoints, rollouts, predictions, outcomes."""

from functools import partial
from typing import Annotated, Any

import anyio.to_thread
from mcp.server.mcpserver import Context
from pydantic import AwareDatetime, Field

from mcp_server.results.base import Job
from mcp_server.results.deployment import (
    EndpointDeletion,
    EndpointDescription,
    EndpointPage,
    EndpointResult,
    OutcomeResult,
    PredictionPage,
    PredictionResult,
    ScoredDataset,
    Strategy,
)
from mcp_server.tools.calling import (
    DESTROY,
    READ,
    WRITE,
    WRITE_IDEMPOTENT,
    ToolSpec,
    app_of,
    caller_of,
    opened,
    run_job,
)
from mcp_server.tools.confirmation import Confirmed
from mcp_server.tools.parameters import (
    Confirm,
    Cursor,
    DatasetRef,
    ExpectedRevision,
    Limit,
    ModelRef,
    Name,
    Reason,
    RequestKey,
    WaitSeconds,
)

Rows = Annotated[list[dict[str, Any]], Field(min_length=1, description="[{column: value}]")]
Where = Annotated[
    dict[str, Any] | list[dict[str, Any]] | None,
    Field(description="{column, op, value}, one or several; op: == != < <= > >= in"),
]
_NO_OPTIONS: dict[str, Any] = {}


def deploy_model(
    ctx: Context,
    endpoint: Name,
    model: ModelRef,
    reason: Reason = None,
    expected_revision: ExpectedRevision = None,
    request_key: RequestKey = None,
) -> EndpointResult:
    """Use it to put a model in service on a new endpoint. On one that exists use start_rollout."""
    return app_of(ctx).deployment.deploy_model(
        caller=caller_of(ctx),
        endpoint=endpoint,
        model=model,
        reason=reason,
        expected_revision=expected_revision,
        request_key=request_key,
    )


def start_rollout(
    ctx: Context,
    endpoint: Name,
    model: ModelRef,
    strategy: Strategy,
    confirmed: Confirmed,
    options: Annotated[
        dict[str, Any],
        Field(
            description="steps [5,25,50,100], mirror, gates {max_error_rate, max_latency_ratio, metric, "
            "max_metric_loss, min_requests, min_labelled}"
        ),
    ] = _NO_OPTIONS,
    reason: Reason = None,
    expected_revision: ExpectedRevision = None,
    request_key: RequestKey = None,
    confirm: Confirm = False,
) -> EndpointResult:
    """Use it to bring another version in beside the live one: in steps (canary), in one switch (blue_green), or unseen,
    scored beside every answer (shadow). A gate that fails rolls back by itself. Go on with advance_rollout.
    """
    return app_of(ctx).deployment.start_rollout(
        caller=caller_of(ctx),
        endpoint=endpoint,
        model=model,
        strategy=strategy,
        options=options,
        reason=reason,
        expected_revision=expected_revision,
        request_key=request_key,
    )


def advance_rollout(
    ctx: Context,
    endpoint: Name,
    confirmed: Confirmed,
    force: Annotated[bool, Field(description="true passes over the gates")] = False,
    reason: Reason = None,
    expected_revision: ExpectedRevision = None,
    request_key: RequestKey = None,
    confirm: Confirm = False,
) -> EndpointResult:
    """Use it to take the next step of a rollout once its gates hold; the last step completes it."""
    return app_of(ctx).deployment.advance_rollout(
        caller=caller_of(ctx),
        endpoint=endpoint,
        force=force,
        reason=reason,
        expected_revision=expected_revision,
        request_key=request_key,
    )


def rollback_endpoint(
    ctx: Context,
    endpoint: Name,
    confirmed: Confirmed,
    to_revision: Annotated[int | None, Field(ge=1, description="default: the last one before the rollout")] = None,
    reason: Reason = None,
    expected_revision: ExpectedRevision = None,
    request_key: RequestKey = None,
    confirm: Confirm = False,
) -> EndpointResult:
    """Use it to go back at once to the versions that served before. Stages of models are not moved."""
    return app_of(ctx).deployment.rollback_endpoint(
        caller=caller_of(ctx),
        endpoint=endpoint,
        to_revision=to_revision,
        reason=reason,
        expected_revision=expected_revision,
        request_key=request_key,
    )


def describe_endpoint(ctx: Context, endpoint: Name) -> EndpointDescription:
    """Use it to see what serves on an endpoint: traffic, errors, latency, the rollout's gates, and history."""
    return app_of(ctx).deployment.describe_endpoint(endpoint=endpoint)


def list_endpoints(ctx: Context, limit: Limit = 50, cursor: Cursor = None) -> EndpointPage:
    """Use it to find an endpoint and what it serves."""
    return app_of(ctx).deployment.list_endpoints(limit=limit, cursor=cursor)


def delete_endpoint(
    ctx: Context,
    endpoint: Name,
    confirmed: Confirmed,
    reason: Reason = None,
    expected_revision: ExpectedRevision = None,
    request_key: RequestKey = None,
    confirm: Confirm = False,
) -> EndpointDeletion:
    """Use it to take an endpoint out of service for good; its history and log are kept."""
    return app_of(ctx).deployment.delete_endpoint(
        caller=caller_of(ctx),
        endpoint=endpoint,
        reason=reason,
        expected_revision=expected_revision,
        request_key=request_key,
    )


async def predict(
    ctx: Context,
    endpoint: Name,
    rows: Rows,
    row_ids: Annotated[list[str | int] | None, Field(description="your own ids, to record outcomes by")] = None,
    key: Annotated[str | None, Field(max_length=200, description="pins a caller to one version")] = None,
    explain: bool = False,
) -> PredictionResult:
    """Use it to get predictions for rows from a deployed model. For a whole dataset use predict_dataset."""
    app = await opened(ctx)
    work = partial(
        app.prediction.predict,
        caller=caller_of(ctx),
        endpoint=endpoint,
        rows=rows,
        row_ids=None if row_ids is None else [str(row_id) for row_id in row_ids],
        key=key,
        explain=explain,
    )
    if not explain and app.prediction.answers_at_once(endpoint, len(rows)):
        return work()  # quicker than to change threads
    return await anyio.to_thread.run_sync(work)


async def predict_dataset(
    ctx: Context,
    dataset: DatasetRef,
    name: Name,
    model: ModelRef | None = None,
    endpoint: Name | None = None,
    where: Where = None,
    row_id_column: str | None = None,
    wait_seconds: WaitSeconds = 25,
) -> Job[ScoredDataset]:
    """Use it to score a dataset into a new one: by model, or by endpoint, then routed and logged as predict is."""
    return await run_job(
        ctx,
        "predict_dataset",
        ScoredDataset,
        wait_seconds,
        dataset=dataset,
        name=name,
        model=model,
        endpoint=endpoint,
        where=where,
        row_id_column=row_id_column,
    )


def list_predictions(
    ctx: Context,
    endpoint: Name,
    labelled: bool | None = None,
    since: AwareDatetime | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> PredictionPage:
    """Use it to look into an endpoint's prediction log, the newest first; labelled=false shows what waits."""
    return app_of(ctx).prediction.list_predictions(
        endpoint=endpoint, labelled=labelled, since=since, limit=limit, cursor=cursor
    )


def set_traffic(
    ctx: Context,
    endpoint: Name,
    weights: Annotated[dict[str, float], Field(description="{model@version: percent}, summing to 100")],
    confirmed: Confirmed,
    expected_revision: ExpectedRevision = None,
    reason: Reason = None,
    request_key: RequestKey = None,
    confirm: Confirm = False,
) -> EndpointResult:
    """Use it to balance traffic across versions for good. To try a new version use start_rollout."""
    return app_of(ctx).deployment.set_traffic(
        caller=caller_of(ctx),
        endpoint=endpoint,
        weights=weights,
        expected_revision=expected_revision,
        reason=reason,
        request_key=request_key,
    )


def record_outcomes(
    ctx: Context,
    endpoint: Name,
    outcomes: Annotated[
        list[dict[str, Any]] | None, Field(description="[{prediction_id or row_id, outcome}]; null = pending")
    ] = None,
    dataset: DatasetRef | None = None,
    row_id_column: str | None = None,
    outcome_column: str | None = None,
) -> OutcomeResult:
    """Use it when the truth is known: joins outcomes to predictions, from a list or from a dataset's columns."""
    return app_of(ctx).prediction.record_outcomes(
        caller=caller_of(ctx),
        endpoint=endpoint,
        outcomes=outcomes,
        dataset=dataset,
        row_id_column=row_id_column,
        outcome_column=outcome_column,
    )


TOOLS = (
    ToolSpec(deploy_model, "Deploy a model", role="ml_engineer", hints=WRITE),
    ToolSpec(start_rollout, "Start a rollout", role="ml_engineer", hints=DESTROY),
    ToolSpec(advance_rollout, "Advance a rollout", role="ml_engineer", hints=DESTROY),
    ToolSpec(rollback_endpoint, "Roll an endpoint back", role="ml_engineer", hints=DESTROY),
    ToolSpec(describe_endpoint, "Describe an endpoint", role="viewer", hints=READ),
    ToolSpec(list_endpoints, "List endpoints", role="viewer", hints=READ),
    ToolSpec(delete_endpoint, "Delete an endpoint", role="admin", hints=DESTROY),
    ToolSpec(predict, "Predict", role="data_scientist", hints=WRITE, audited=False),
    ToolSpec(predict_dataset, "Predict a dataset", role="data_scientist", hints=WRITE, job=True),
    ToolSpec(list_predictions, "List predictions", role="viewer", hints=READ),
    ToolSpec(set_traffic, "Set traffic weights", role="ml_engineer", hints=DESTROY),
    ToolSpec(record_outcomes, "Record outcomes", role="ml_engineer", hints=WRITE_IDEMPOTENT, audited=False),
)
