"""Training: from data to a registered model, and what is to be known of models."""

from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from pydantic import Field

from mcp_server.results.base import Job
from mcp_server.results.training import (
    DataCheckResult,
    EvaluationResult,
    ExplanationResult,
    ModelComparison,
    ModelDeletion,
    ModelDescription,
    ModelPage,
    PromotionResult,
    Stage,
    TrainingResult,
)
from mcp_server.tools.calling import DESTROY, READ, WRITE, ToolSpec, app_of, caller_of, run_job
from mcp_server.tools.confirmation import Confirmed
from mcp_server.tools.parameters import (
    Confirm,
    Cursor,
    DatasetRef,
    ExpectedRevision,
    Limit,
    ModelRef,
    Name,
    Plot,
    Reason,
    RequestKey,
    SuiteRef,
    WaitSeconds,
)

Split = Annotated[
    dict[str, Any],
    Field(description="kind random, stratified, group, time; column, test_size, test_from, train_from"),
]
_DEFAULT_SPLIT: dict[str, Any] = {"kind": "random", "test_size": 0.2}
_AUTO = ["auto"]
_NONE: list[str] = []


async def train_model(
    ctx: Context,
    name: Name,
    dataset: DatasetRef,
    target: str,
    task: Literal["auto", "binary", "multiclass", "regression"] = "auto",
    features: Annotated[list[str] | None, Field(description="all usable columns if left out")] = None,
    estimators: Annotated[list[str], Field(description="auto, or families such as ridge, knn, column:NAME")] = _AUTO,
    search: Literal["none", "grid", "random", "bayesian"] = "bayesian",
    trials: Annotated[int, Field(ge=1, le=10_000)] = 20,
    time_budget_seconds: float | None = None,
    metric: Annotated[str, Field(description="auto: log_loss for classes, rmse for values")] = "auto",
    split: Split = _DEFAULT_SPLIT,
    cv: Annotated[int, Field(description="folds; rolling origins for a time split")] = 5,
    class_weight: Literal["balanced"] | None = None,
    baseline: Annotated[str | list[str] | None, Field(description="columns with a forecast to beat")] = None,
    allow_features: Annotated[list[str], Field(description="let through the leakage check")] = _NONE,
    suite: SuiteRef | None = None,
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
    missing_target: Literal["error", "drop"] = "error",
    search_space: Annotated[
        dict[str, Any] | None, Field(description="{estimator: {parameter: [values] or {low, high, log}}}")
    ] = None,
    plot: Plot = False,
    wait_seconds: WaitSeconds = 25,
) -> Job[TrainingResult]:
    """Use it to make a model: checks for leaks, searches, refits the best, scores held-out rows against a baseline,
    registers a version with its card. To look at the data first use check_training_data.
    """
    return await run_job(
        ctx,
        "train_model",
        TrainingResult,
        wait_seconds,
        name=name,
        dataset=dataset,
        target=target,
        task=task,
        features=features,
        estimators=estimators,
        search=search,
        trials=trials,
        time_budget_seconds=time_budget_seconds,
        metric=metric,
        split=split,
        cv=cv,
        class_weight=class_weight,
        baseline=baseline,
        allow_features=allow_features,
        suite=suite,
        seed=seed,
        missing_target=missing_target,
        search_space=search_space,
    )


async def check_training_data(
    ctx: Context,
    dataset: DatasetRef,
    target: str,
    split: Split | None = None,
    features: list[str] | None = None,
    model: ModelRef | None = None,
    wait_seconds: WaitSeconds = 25,
) -> Job[DataCheckResult]:
    """Use it before train_model: finds leaks, identifiers, shared rows and rare classes, and says how to mend them.
    With a model, counts rows it was trained on.
    """
    return await run_job(
        ctx,
        "check_training_data",
        DataCheckResult,
        wait_seconds,
        dataset=dataset,
        target=target,
        split=split,
        features=features,
        model=model,
    )


def register_model(ctx: Context, name: Name, path: str, dataset: DatasetRef, target: str) -> ModelDescription:
    """Use it to bring your own fitted scikit-learn pipeline, a skops file in a data root; it is checked and scored.
    To have one trained use train_model.
    """
    return app_of(ctx).registry.register_model(
        caller=caller_of(ctx), name=name, path=path, dataset=dataset, target=target
    )


async def evaluate_model(
    ctx: Context, model: ModelRef, dataset: DatasetRef, plot: Plot = False, wait_seconds: WaitSeconds = 25
) -> Job[EvaluationResult]:
    """Use it to score one model on rows with known outcomes, beside its baselines. For several use compare_models;
    for a live endpoint check_performance.
    """
    return await run_job(ctx, "evaluate_model", EvaluationResult, wait_seconds, model=model, dataset=dataset)


async def explain_model(
    ctx: Context,
    model: ModelRef,
    dataset: DatasetRef | None = None,
    rows: Annotated[list[int | dict[str, Any]] | None, Field(description="row numbers of the dataset, or rows")] = None,
    method: Literal["shap", "permutation"] = "shap",
    plot: Plot = False,
    wait_seconds: WaitSeconds = 25,
) -> Job[ExplanationResult]:
    """Use it to see which features a model weighs, over all rows and for single ones. shap is exact for trees and
    linear models; others get permutation importance.
    """
    return await run_job(
        ctx, "explain_model", ExplanationResult, wait_seconds, model=model, dataset=dataset, rows=rows, method=method
    )


async def compare_models(
    ctx: Context,
    models: Annotated[list[str], Field(description="model references; column:NAME is a forecast column")],
    dataset: DatasetRef | None = None,
    wait_seconds: WaitSeconds = 25,
) -> Job[ModelComparison]:
    """Use it to rank models on the same rows and learn which differences are more than chance; without a dataset
    their records are compared.
    """
    return await run_job(ctx, "compare_models", ModelComparison, wait_seconds, models=models, dataset=dataset)


def list_models(
    ctx: Context, name: Name | None = None, stage: Stage | None = None, limit: Limit = 50, cursor: Cursor = None
) -> ModelPage:
    """Use it to find model versions, newest first, with stage and score; one in full: describe_model."""
    return app_of(ctx).registry.list_models(name=name, stage=stage, limit=limit, cursor=cursor)


def describe_model(ctx: Context, model: ModelRef) -> ModelDescription:
    """Use it to see one version in full: result, recipe, lineage, and the columns that predict must be given."""
    return app_of(ctx).registry.describe_model(model=model)


def promote_model(
    ctx: Context,
    model: ModelRef,
    stage: Stage,
    confirmed: Confirmed,
    confirm: Confirm = False,
    reason: Reason = None,
    expected_revision: ExpectedRevision = None,
    request_key: RequestKey = None,
) -> PromotionResult:
    """Use it to give a version a stage, such as production; its holder loses it. Endpoints do not move: that is
    deploy_model or start_rollout.
    """
    return app_of(ctx).registry.promote_model(
        caller=caller_of(ctx),
        model=model,
        stage=stage,
        reason=reason,
        expected_revision=expected_revision,
        request_key=request_key,
    )


def delete_model(ctx: Context, model: ModelRef, confirmed: Confirmed, confirm: Confirm = False) -> ModelDeletion:
    """Use it to delete one version, or all of a name, for good; what an endpoint serves is refused."""
    return app_of(ctx).registry.delete_model(caller=caller_of(ctx), model=model)


TOOLS = (
    ToolSpec(train_model, "Train a model", role="data_scientist", hints=WRITE, job=True),
    ToolSpec(check_training_data, "Check training data", role="viewer", hints=READ, job=True),
    ToolSpec(register_model, "Register a model file", role="data_scientist", hints=WRITE),
    ToolSpec(evaluate_model, "Evaluate a model", role="viewer", hints=READ, job=True),
    ToolSpec(explain_model, "Explain a model", role="viewer", hints=READ, job=True),
    ToolSpec(compare_models, "Compare models", role="viewer", hints=READ, job=True),
    ToolSpec(list_models, "List models", role="viewer", hints=READ),
    ToolSpec(describe_model, "Describe a model", role="viewer", hints=READ),
    ToolSpec(promote_model, "Promote a model", role="ml_engineer", hints=DESTROY),
    ToolSpec(delete_model, "Delete a model", role="admin", hints=DESTROY),
)
