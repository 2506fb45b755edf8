"""What the training tools return."""

from typing import Literal

from pydantic import AwareDatetime, Field, JsonValue

from mcp_server.results.base import Page, Record, Result

Task = Literal["binary", "multiclass", "regression"]
Stage = Literal["none", "staging", "production", "archived"]
Verdict = Literal["better", "worse", "not_distinguishable"]
ColumnKind = Literal["numeric", "boolean", "category", "date"]
Metrics = dict[str, float | None]


class SplitRecipe(Record):
    """How rows are divided: a recipe, from which the rows follow for the same data and seed.

    `time` compares the column's values: rows from `train_from` on and before `test_from` train, later ones
    test.
    """

    kind: Literal["random", "stratified", "group", "time"] = "random"
    test_size: float | None = Field(default=None, gt=0, lt=1)
    column: str | None = None
    test_from: float | str | None = None
    train_from: float | str | None = None


class InputColumn(Record):
    """One column a model takes, as rows for prediction must give it."""

    name: str
    kind: ColumnKind
    dtype: str = Field(description="The Polars type in the training data.")
    nullable: bool = Field(description="True when missing values were seen in training.")
    minimum: float | None = None
    maximum: float | None = None
    categories: list[str] = Field(default_factory=list, description="The most frequent first, at most 20.")


class ModelSignature(Record):
    """What goes into a model and what comes out."""

    inputs: list[InputColumn]
    target: str
    task: Task
    threshold: float = Field(default=0.5, description="Of two classes, from which probability on the second is said.")
    classes: list[str | int | float | bool] = Field(
        default_factory=list, description="In the order of the probabilities; empty for regression."
    )


class Interval(Record):
    """A bootstrap interval."""

    low: float
    high: float


class Comparison(Record):
    """A paired comparison on the same rows; `difference` is model minus baseline, in the metric's unit."""

    metric: str
    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    verdict: Verdict
    higher_is_better: bool
    test: str = Field(default="paired bootstrap", description="What the p-value is from.")


class BaselineScore(Record):
    """A baseline scored on the rows the model was scored on."""

    baseline: str = Field(description="A column, or majority, prior or mean of the training part.")
    metrics: Metrics
    comparison: Comparison


class LeaderboardEntry(Record):
    """The best cross-validated score of a family of estimators."""

    estimator: str
    score: float | None
    trials: int
    failed: int = 0
    pruned: int = Field(default=0, description="Stopped after some folds: worse than the median.")
    cut: int = Field(default=0, description="Stopped by the time budget.")
    params: dict[str, JsonValue] = Field(default_factory=dict)


class CalibrationBin(Record):
    """One bin of the reliability curve."""

    mean_predicted: float
    observed_rate: float
    count: int


class CalibrationCorrection(Record):
    """The curve laid over the probabilities, judged on training rows that neither a fit nor a curve had seen."""

    method: Literal["none", "sigmoid", "isotonic", "temperature"]
    log_loss_before: float
    log_loss_after: float
    ece_before: float
    ece_after: float


class Calibration(Record):
    """How far probabilities can be taken at their word."""

    brier: float
    ece: float = Field(description="Expected calibration error, 0 (best) to 1.")
    bins: list[CalibrationBin]


class TrainingRecipe(Record):
    """All that a training was given, resolved: the same recipe on the same data gives the same model."""

    dataset: str
    target: str
    task: Task
    features: list[str]
    estimators: list[str]
    search: Literal["none", "grid", "random", "bayesian"]
    trials: int
    time_budget_seconds: float | None = None
    metric: str
    split: SplitRecipe
    cv: int
    class_weight: JsonValue = None
    baseline: list[str] = Field(default_factory=list)
    allow_features: list[str] = Field(default_factory=list)
    suite: str | None = None
    seed: int = 0
    missing_target: Literal["error", "drop"] = "error"
    search_space: dict[str, JsonValue] | None = None


class Lineage(Record):
    """Where a model comes from."""

    dataset: str
    dataset_version: int
    dataset_hash: str
    suite: str | None = None
    code_version: str
    seed: int = 0
    libraries: dict[str, str] = Field(default_factory=dict)
    file_sha256: str | None = Field(default=None, description="Of the file a user registered; null after a training.")


class TrainingResult(Result):
    """A model version as its training left it. Scores that a registered file does not bring are null."""

    model: str
    version: str
    stage: Stage = "none"
    run_id: str | None
    task: Task
    estimator: str
    params: dict[str, JsonValue]
    metric: str
    higher_is_better: bool
    cv_score: float | None
    cv_std: float | None
    test_metrics: Metrics
    test_intervals: dict[str, Interval] = Field(
        default_factory=dict, description="95 % bootstrap intervals of the held-out metrics."
    )
    baseline: str | None = Field(description="What baseline_metrics and baseline_comparison speak of.")
    baseline_metrics: Metrics
    baseline_comparison: Comparison | None
    baselines: list[BaselineScore] = Field(default_factory=list, description="All baselines, the main one first.")
    leaderboard: list[LeaderboardEntry]
    calibration: Calibration | None = None
    correction: CalibrationCorrection | None = Field(
        default=None, description="Whether the probabilities were corrected; none where there were too few rows to say."
    )
    threshold: float | None = Field(default=None, description="From which probability on the second class is said.")
    threshold_metric: str | None = Field(default=None, description="What the threshold was chosen for.")
    features: list[str] = Field(description="At most 200 are listed; the signature has all.")
    rows_train: int
    rows_test: int
    rows_unlabelled: int = 0
    trials: int = 0
    duration_seconds: float
    warnings: list[str]
    card_uri: str | None
    card_report_uri: str | None = Field(default=None, description="The same card as a report.")


class ModelDescription(TrainingResult):
    """A model version with all that is kept beside it."""

    recipe: TrainingRecipe | None
    lineage: Lineage
    signature: ModelSignature
    size_bytes: int
    sha256: str
    format: Literal["skops"] = "skops"
    created_at: AwareDatetime


class ModelSummary(Record):
    """One line of the list of models."""

    model: str
    version: str
    stage: Stage
    task: Task
    metric: str
    score: float | None = Field(description="Held-out value of `metric`.")
    created_at: AwareDatetime


class ModelPage(Page[ModelSummary]):
    """One page of model versions, newest first."""


class PromotionResult(Result):
    """A stage has a new holder."""

    model: str
    stage: Stage
    previous: str | None = Field(description="Who held the stage before, as name@version.")
    revision: int | None = Field(default=None, description="Counts this model's stage changes; for expected_revision.")


class ModelDeletion(Result):
    """What was deleted."""

    deleted: list[str]


class Finding(Record):
    """Something in the data that would spoil a training."""

    kind: Literal[
        "target_copy",
        "leak",
        "pair_leak",
        "near_leak",
        "identifier",
        "constant",
        "all_missing",
        "duplicates",
        "shared_rows",
        "shared_groups",
        "few_groups",
        "rare_class",
        "imbalance",
        "missing_target",
        "infinite_values",
        "too_few_rows",
        "similar_names",
        "after_split_time",
        "empty_split",
    ]
    columns: list[str]
    message: str
    score_alone: float | None = Field(
        default=None, description="AUC (R² for regression) of these columns alone, cross-validated."
    )
    score_without: float | None = Field(default=None, description="The same for the features without them.")
    severity: Literal["blocking", "warning", "info"]
    fix: str


class DataCheckResult(Result):
    """Whether a training on this data would be worth its result."""

    verdict: Literal["ready", "fixable", "blocked"]
    task: Task
    rows: int
    features: list[str]
    base_rate: float | None = Field(
        description="Share of the positive (binary) or largest (multiclass) class; null for regression."
    )
    shared_rows: int = Field(description="Held-out rows whose features and target also occur in training.")
    findings: list[Finding]
    notes: list[str] = Field(default_factory=list, description="Which columns were left out, and why.")


class ConfusionMatrix(Record):
    """Rows are true classes, columns predicted ones, in the order of `labels`; rare ones are one beyond 20."""

    labels: list[str]
    counts: list[list[int]]


class EvaluationResult(Result):
    """A model scored on a dataset."""

    model: str
    dataset: str
    rows: int
    rows_unlabelled: int = 0
    metric: str
    metrics: Metrics
    intervals: dict[str, Interval] = Field(default_factory=dict)
    baseline: str | None
    baseline_metrics: Metrics
    baseline_comparison: Comparison | None
    baselines: list[BaselineScore] = Field(default_factory=list)
    confusion_matrix: ConfusionMatrix | None
    calibration: Calibration | None
    warnings: list[str] = Field(default_factory=list)
    report_uri: str | None


class Importance(Record):
    """How much a feature weighs over all rows."""

    feature: str
    value: float
    std: float | None = None


class Contribution(Record):
    """What one feature adds to one prediction."""

    feature: str
    value: JsonValue
    contribution: float


class RowExplanation(Record):
    """`base_value` plus all contributions is `output`."""

    row: int
    prediction: JsonValue
    output: float
    base_value: float
    contributions: list[Contribution] = Field(description="Largest first; the rest is summed in `others`.")
    others: float = 0.0
    fit: float | None = Field(default=None, description="LIME: R² of the linear model near the row.")


class ExplanationResult(Result):
    """What a model looks at."""

    model: str
    method: Literal["shap", "permutation", "lime"] = Field(description="Of the importances.")
    exact: bool = Field(default=True, description="False where rows are explained by samples.")
    rows: int
    unit: str = Field(description="What values are measured in: log-odds, probability, target, or loss of a metric.")
    importances: list[Importance]
    rows_unit: str | None = Field(default=None, description="What the rows' contributions are measured in.")
    explanations: list[RowExplanation]
    report_uri: str | None


class RankedModel(Record):
    """One place of a ranking."""

    model: str
    metrics: Metrics


class ModelDifference(Record):
    """`a` minus `b` on the same rows."""

    a: str
    b: str
    metric: str
    difference: float
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    verdict: Verdict
    higher_is_better: bool
    test: str = Field(description="paired bootstrap, mcnemar or delong; records when only stored scores were compared.")
    p_adjusted: float | None = Field(default=None, description="By Holm, for all pairs of a metric; decides `verdict`.")


class RecipeDifference(Record):
    """A field in which two trainings differ; of lists, what only one of them has."""

    field: str
    a: JsonValue
    b: JsonValue


class ModelComparison(Result):
    """Models ranked on the same rows, best first."""

    metric: str
    higher_is_better: bool
    dataset: str | None
    rows: int | None
    ranking: list[RankedModel]
    differences: list[ModelDifference]
    recipe_differences: list[RecipeDifference]
    warnings: list[str] = Field(default_factory=list)
