"""The plan of a training: everything is checked and settled before the first fit."""

import math
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version as library_version
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcp_server import __version__
from mcp_server.engine import leak_rows, leakage, readiness
from mcp_server.engine.boosting import import_booster
from mcp_server.engine.estimators import (
    COLUMN_PREFIX,
    OPTIONAL_PACKAGES,
    resolve_class_weight,
    resolve_estimators,
)
from mcp_server.engine.leakage import Finding
from mcp_server.engine.metrics import METRICS, resolve_metric
from mcp_server.engine.pipelines import column_output
from mcp_server.engine.preprocessing import describe_input, describe_inputs, encode_target, unknown_column
from mcp_server.engine.search import MAX_TRIALS, Search, available_trials, plan_search
from mcp_server.engine.splits import Split, resolve_split
from mcp_server.engine.training import TrainingRows, TrainingSpec, divide, labelled
from mcp_server.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    shown,
)
from mcp_server.results.training import Lineage, SplitRecipe, TrainingRecipe
from mcp_server.stores.datasets import DatasetVersion

LIBRARIES = ("scikit-learn", "numpy", "scipy", "pandas", "polars", "optuna", "skops")
_MAX_FOLDS = 20
_SHOWN_WARNINGS = 20
_USUAL_TRIALS = 20


class TrainingRequest(BaseModel):
    """What `train_model` is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    dataset: str
    target: str
    task: str = "auto"
    features: list[str] | None = None
    estimators: list[str] = Field(default_factory=lambda: ["auto"])
    search: str = "bayesian"
    trials: int = _USUAL_TRIALS
    time_budget_seconds: float | None = None
    metric: str = "auto"
    split: dict[str, Any] = Field(default_factory=dict)
    cv: int = 5
    class_weight: Any = None
    baseline: str | list[str] | None = None
    allow_features: list[str] = Field(default_factory=list)
    suite: str | None = None
    seed: int = 0
    missing_target: str = "error"
    search_space: dict[str, Any] | None = None

    @property
    def baselines(self) -> list[str]:
        """The baseline columns, each once."""
        named = [self.baseline] if isinstance(self.baseline, str) else self.baseline or []
        return list(dict.fromkeys(named))


def parse_request(arguments: dict[str, Any]) -> TrainingRequest:
    """Return the request; arguments from a job are JSON.

    Raises:
        InvalidArgumentError: an argument is unknown or of a wrong type.
    """
    try:
        request = TrainingRequest.model_validate(arguments)
    except ValidationError as refusal:
        fault = refusal.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise InvalidArgumentError(f"train_model cannot use {where}: {fault['msg']}.") from None
    _check_numbers(request)
    return request


def _check_numbers(request: TrainingRequest) -> None:
    if not 2 <= request.cv <= _MAX_FOLDS:
        raise InvalidArgumentError(f"cv must be 2 to {_MAX_FOLDS}, not {request.cv}.", hint="5 folds are usual.")
    budget = request.time_budget_seconds
    if budget is not None and not (math.isfinite(budget) and budget > 0):
        raise InvalidArgumentError(
            f"time_budget_seconds must be above 0, not {budget}.", hint="Leave it out for no budget."
        )
    if not 0 <= request.seed < 2**32:
        raise InvalidArgumentError(f"seed must be 0 to {2**32 - 1}, not {request.seed}.", hint="Use 0.")
    if request.missing_target not in ("error", "drop"):
        raise InvalidArgumentError(
            f"missing_target {shown(request.missing_target)} is unknown.", hint="Use error or drop."
        )


def read_labelled(
    read: Callable[[], pl.DataFrame], version: DatasetVersion, target: str, missing_target: str, max_cells: int
) -> tuple[pl.DataFrame, int]:
    """Return the rows that have a target, and how many have none.

    Raises:
        InvalidArgumentError: the target is no column, or has gaps and `missing_target` is `error`.
        ResourceExhaustedError: rows × columns are beyond the limit.
    """
    if target not in version.schema:
        raise unknown_column("target", target, list(version.schema))
    cells = version.rows * len(version.columns)
    if cells > max_cells:
        raise ResourceExhaustedError(
            f"{version.rows} rows × {len(version.columns)} columns are more than the {max_cells} values that a "
            "training takes.",
            hint="Select rows or columns with transform_dataset, or raise NBA_MCP_LIMITS__MAX_TRAINING_CELLS.",
        )
    frame = read()
    known = labelled(frame, target)
    n_missing = frame.height - known.height
    if n_missing and known.height and missing_target == "error":
        raise InvalidArgumentError(
            f"target {shown(target)} is missing in {n_missing} of {frame.height} rows.",
            hint='Pass missing_target="drop" to train on the rows that have one.',
            details={"rows_unlabelled": n_missing},
        )
    return known, n_missing


def settle(request: TrainingRequest, frame: pl.DataFrame) -> tuple[TrainingSpec, TrainingRows, list[str], list[str]]:
    """Return specification, divided rows, estimators and notes for labelled rows.

    Raises:
        InvalidArgumentError: something asked for does not fit the data.
    """
    for name in [*request.baselines, *request.allow_features]:
        if name not in frame.columns:
            raise unknown_column(
                "allow_features" if name in request.allow_features else "baseline", name, frame.columns
            )
    task = readiness.resolve_task(frame[request.target], request.task)
    metric = resolve_metric(request.metric, task)
    split = resolve_split(request.split, frame.columns)
    left_out = [*request.baselines, *([split.column] if split.column else [])]
    features = readiness.resolve_features(frame, request.target, request.features, left_out, request.allow_features)
    readiness.refuse_infinite(frame, features.names)
    estimators = resolve_estimators(request.estimators, task, frame.height, frame.columns)
    own = [name.removeprefix(COLUMN_PREFIX) for name in estimators if name.startswith(COLUMN_PREFIX)]
    _, classes = encode_target(frame[request.target], task)
    spec = TrainingSpec(
        task=task,
        target=request.target,
        features=features.names,
        inputs=[],
        column_inputs=[describe_input(frame[name]) for name in own],
        classes=classes,
        metric=metric.name,
        split=split,
        cv=request.cv,
        class_weight=resolve_class_weight(request.class_weight, estimators, task),
        baselines=request.baselines,
        seed=request.seed,
    )
    rows = divide(frame, spec)
    _check_forecasts(rows, spec, [*request.baselines, *own])
    inputs = describe_inputs(frame[rows.train], features.names)
    spec = TrainingSpec.from_document(spec.to_document() | {"inputs": [_document(column) for column in inputs]})
    return spec, rows, estimators, features.notes


def _document(column: Any) -> dict[str, Any]:
    return {name: getattr(column, name) for name in type(column).__dataclass_fields__}


def _check_forecasts(rows: TrainingRows, spec: TrainingSpec, names: Sequence[str]) -> None:
    """Refuse baseline columns that are no forecast of this target."""
    for name in names:
        column = rows.frame[name]
        if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
            raise InvalidArgumentError(
                f"Column {shown(name)} has type {column.dtype}; a baseline is a number.",
                hint="Name a column with a forecast: a probability for yes-or-no targets, else a value.",
            )
        if name == spec.target:
            raise InvalidArgumentError(f"The target {shown(name)} is no baseline for itself.", hint="Leave it out.")
        if spec.task == "multiclass":
            raise InvalidArgumentError(
                f"Baseline {shown(name)} is one number a row, which cannot forecast {len(spec.classes)} classes.",
                hint="Leave baseline out: the majority class is scored anyway.",
            )
        values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        column_output(name, values, len(spec.classes), 0.5)


def find(spec: TrainingSpec, rows: TrainingRows, allowed: Sequence[str]) -> tuple[list[Finding], int]:
    """Return all findings, blocking ones first, and how many held-out rows also occur in training."""
    sample = leakage.draw(rows.frame[rows.train], rows.truth[rows.train], spec.task, len(spec.classes), spec.seed)
    leaks = leakage.find_leaks(sample, spec.features, spec.target, allowed)
    leaks = leak_rows.judge_neighbours(rows.frame, spec.target, leaks)
    stopped = {name for finding in leaks if finding.severity == "blocking" for name in finding.suspects}
    unsuspected = [name for name in spec.features if name not in stopped]
    leaks += leak_rows.find_target_statistics(rows.frame, rows.truth, unsuspected, spec.task, allowed)
    others, shared = readiness.check_rows(
        rows.frame, rows.truth, spec.features, spec.split, (rows.train, rows.test), spec.classes
    )
    findings = [*leaks, *others]
    order = {"blocking": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda finding: order[finding.severity]), shared


def refuse_blocking(findings: Sequence[Finding]) -> None:
    """Stop a training that is certain to mislead.

    Raises:
        FailedPreconditionError: names the columns and how to let them through.
    """
    blocking = [finding for finding in findings if finding.severity == "blocking"]
    if not blocking:
        return
    suspects = list(dict.fromkeys(name for finding in blocking for name in finding.suspects))
    texts = " ".join(finding.message for finding in blocking[:5])
    if suspects:
        named = ", ".join(shown(name) for name in suspects[:10])
        raise FailedPreconditionError(
            f"Leakage: {named} {'gives' if len(suspects) == 1 else 'give'} the target away. {texts}",
            hint=f"Leave {named} out of features; what is known before the outcome, name in allow_features.",
            details={"columns": suspects[:50], "kinds": sorted({finding.kind for finding in blocking})},
        )
    raise FailedPreconditionError(
        f"The data is not fit for training. {texts}", hint=" ".join(finding.fix for finding in blocking[:3])
    )


def make_search(request: TrainingRequest, spec: TrainingSpec, estimators: Sequence[str]) -> Search:
    """Return the search; with a time budget families compete for it, and `auto` takes as many trials as fit in."""
    budgeted = request.time_budget_seconds is not None
    unbounded = budgeted and request.estimators == ["auto"] and request.trials == _USUAL_TRIALS
    return plan_search(
        request.search,
        estimators,
        MAX_TRIALS if unbounded else request.trials,
        request.search_space,
        task=spec.task,
        seed=request.seed,
        higher_is_better=METRICS[spec.metric].higher_is_better,
        budgeted=budgeted,
    )


def make_recipe(
    request: TrainingRequest, spec: TrainingSpec, search: Search, version: DatasetVersion, suite: str | None
) -> TrainingRecipe:
    """Return all that the training was given, resolved."""
    return TrainingRecipe(
        dataset=version.ref,
        target=spec.target,
        task=spec.task,
        features=spec.features,
        estimators=[*search.families, *search.ensembles],
        search=search.method,
        trials=search.trials,
        time_budget_seconds=request.time_budget_seconds,
        metric=spec.metric,
        split=SplitRecipe(**spec.split.to_document()),
        cv=spec.cv,
        class_weight=spec.class_weight,
        baseline=spec.baselines,
        allow_features=request.allow_features,
        suite=suite,
        seed=spec.seed,
        missing_target="drop" if request.missing_target == "drop" else "error",
        search_space=request.search_space,
    )


def make_lineage(version: DatasetVersion, suite: str | None, seed: int, families: Sequence[str] = ()) -> Lineage:
    """Return where a model comes from: data, suite, seed, code, Python, and libraries with those of `families`."""
    boosters = {name: str(import_booster(name).__version__) for name in families if name in OPTIONAL_PACKAGES}
    return Lineage(
        dataset=version.name,
        dataset_version=version.version,
        dataset_hash=version.content_hash,
        suite=suite,
        code_version=__version__,
        seed=seed,
        libraries={"python": platform.python_version()}
        | {name: library_version(name) for name in LIBRARIES}
        | boosters,
    )


def warnings_of(findings: Sequence[Finding], notes: Sequence[str]) -> list[str]:
    """Return what a person should hear of a training that was not stopped."""
    texts = [finding.message for finding in findings if finding.severity == "warning"]
    return list(dict.fromkeys([*texts, *notes]))[:_SHOWN_WARNINGS]


def spec_of_recipe(recipe: TrainingRecipe, classes: Sequence[Any]) -> TrainingSpec:
    """Return the specification that divides rows as a recorded training did (features are not described)."""
    return TrainingSpec(
        task=recipe.task,
        target=recipe.target,
        features=recipe.features,
        inputs=[],
        column_inputs=[],
        classes=list(classes),
        metric=recipe.metric,
        split=Split(**recipe.split.model_dump(exclude_none=True)),
        cv=recipe.cv,
        class_weight=None,
        baselines=recipe.baseline,
        seed=recipe.seed,
    )


def refuse_other_task(name: str, taken_by: str | None, task: str) -> None:
    """Keep one name for one kind of model: classes, or values.

    Raises:
        AlreadyExistsError: the name belongs to the other kind.
    """
    if taken_by is not None and (taken_by == "regression") != (task == "regression"):
        raise AlreadyExistsError(
            f"Model {shown(name)} is a {taken_by} model; a {task} model needs another name.",
            hint=f"Use a name such as {name[:50]}_{task}.",
        )


def search_notes(request: TrainingRequest, search: Search) -> list[str]:
    """Return what differs from what was asked for."""
    notes = []
    if search.trials < request.trials and search.method != "none":
        notes.append(f"{search.trials} trials instead of {request.trials}: there is no more to try.")
    if search.method == "grid" and search.trials < available_trials(search):
        notes.append(f"The grid has {available_trials(search)} points, of which {search.trials} were tried.")
    n_kinds = len(search.families) + len(search.ensembles)
    if search.trials < n_kinds:
        notes.append(f"{search.trials} trials cannot try all {n_kinds} estimators.")
    return notes
