"""What the monitoring tools return, and the documents that callers hand in: conditions, triggers."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field, JsonValue, PositiveInt
from pydantic.config import JsonDict

from mcp_server.results.base import Page, Record, Result

Severity = Literal["info", "warning", "critical"]
AlertState = Literal["firing", "acknowledged", "resolved"]
Operator = Literal[">", ">=", "<", "<="]
Channel = Literal["log", "webhook", "email"]
AlertAction = Literal["none", "rollback", "retrain"]
Promotion = Literal["champion_challenger", "canary", "none"]
DriftMethod = Literal["ks", "psi", "kl", "js", "wasserstein", "chi2"]
ColumnKind = Literal["numeric", "categorical", "boolean", "date", "text"]
Metrics = dict[str, float | None]
DurationText = Annotated[str, Field(pattern=r"^[0-9]+[smhd]$")]
WindowText = str | int


def _untold(schema: JsonDict) -> None:
    """Leave the docstring out of a tool's arguments: their names say it."""
    schema.pop("description", None)


class ColumnDrift(Record):
    """One column by one method."""

    column: str
    kind: ColumnKind
    method: DriftMethod
    statistic: float | None = Field(description="The method's own number; null where there is none.")
    p_value: float | None
    threshold: float
    drifted: bool
    psi: float | None
    kl_divergence: float | None
    missing_reference: float | None = Field(description="Share of rows without a usable value.")
    missing_current: float | None
    new_categories: list[str] = Field(default_factory=list)
    reason: str = ""


class DriftResult(Result):
    """How far current rows have moved from a reference, drifted columns first."""

    drifted: bool = Field(description="True when a column or the predictions drifted.")
    share_drifted: float = Field(ge=0, le=1, description="Drifted columns / columns compared.")
    columns: list[ColumnDrift]
    columns_compared: int
    entries_left_out: int = Field(default=0, description="Entries of the report that are not repeated here.")
    prediction_drift: ColumnDrift | None
    reference: str
    current: str
    rows_reference: int
    rows_current: int
    warnings: list[str] = Field(default_factory=list)
    report_uri: str


class ScoreInterval(Record):
    """A 95 % bootstrap interval."""

    low: float
    high: float


class ModelPerformance(Record):
    """One model behind the endpoint."""

    model: str
    labelled: int
    unlabelled: int
    metrics: Metrics


class PerformancePoint(Record):
    """A stretch of labelled predictions, in order of time."""

    start: AwareDatetime
    end: AwareDatetime
    labelled: int
    metrics: Metrics


class PerformanceResult(Result):
    """How good the answers of an endpoint were, as far as outcomes are known."""

    endpoint: str
    model: str = Field(description="The live model, which the baseline belongs to.")
    metrics: Metrics
    intervals: dict[str, ScoreInterval] = Field(default_factory=dict)
    baseline_metrics: Metrics = Field(description="The model version's held-out metrics at training.")
    difference: Metrics = Field(description="metrics minus baseline_metrics.")
    labelled: int
    unlabelled: int
    per_model: list[ModelPerformance]
    series: list[PerformancePoint]
    warnings: list[str] = Field(default_factory=list)
    report_uri: str


class AlertCondition(Record):
    """When a rule fires: the signal, over the window, compared with the threshold, true for so long."""

    model_config = ConfigDict(
        validate_by_name=True, validate_by_alias=True, serialize_by_alias=True, json_schema_extra=_untold
    )

    signal: str = Field(
        max_length=40, description="drift psi error_rate latency_p95 missing_rate breaker_open or a metric"
    )
    operator: Operator
    threshold: float = Field(allow_inf_nan=False)
    window: WindowText | None = Field(default=None, description="duration or number of rows")
    for_: DurationText = Field(default="0s", alias="for")
    min_rows: PositiveInt | None = Field(default=None, description="fewer rows: not judged")


class AlertRule(Record):
    """A rule as it is saved."""

    name: str
    endpoint: str
    condition: AlertCondition
    severity: Severity
    channels: list[Channel]
    action: AlertAction
    created_at: AwareDatetime
    created_by: str
    last_value: float | None = None
    evaluated_at: AwareDatetime | None = None
    pending_since: AwareDatetime | None = Field(default=None, description="Since when the condition has held.")
    note: str = ""


class AlertRuleResult(Result):
    """A saved rule."""

    name: str
    rule: AlertRule
    warnings: list[str] = Field(default_factory=list)


class DriftTrigger(Record):
    """Retrain when at least this share of the columns drifted."""

    model_config = ConfigDict(json_schema_extra=_untold)

    share: float = Field(gt=0, le=1)
    window: WindowText | None = None


class PerformanceTrigger(Record):
    """Retrain when a metric is worse than at training by more than `drop`."""

    model_config = ConfigDict(json_schema_extra=_untold)

    metric: str = Field(max_length=40)
    drop: float = Field(gt=0)
    window: WindowText | None = None


class RetrainingTrigger(Record):
    """Any of these starts a retraining."""

    model_config = ConfigDict(json_schema_extra=_untold)

    drift: DriftTrigger | None = None
    performance: PerformanceTrigger | None = None
    schedule: str | None = Field(default=None, max_length=100, description="cron, UTC")
    new_rows: PositiveInt | None = Field(default=None, description="outcomes since the last training")


class RetrainingState(Record):
    """What a policy has done."""

    phase: Literal["idle", "training", "done", "failed"] = "idle"
    count: int = 0
    job_id: str | None = None
    reason: str | None = None
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    model: str | None = Field(default=None, description="The model version that the last retraining made.")
    outcome: str | None = Field(default=None, description="What became of it.")
    note: str = Field(default="", description="Why the last trigger started nothing.")


class RetrainingPolicy(Record):
    """When and how an endpoint's model is trained again."""

    endpoint: str
    trigger: RetrainingTrigger
    training: dict[str, JsonValue] = Field(description="Arguments of train_model that differ from the live recipe.")
    promote: Promotion
    cooldown: str
    created_at: AwareDatetime
    created_by: str
    state: RetrainingState = RetrainingState()


class RetrainingPolicyResult(Result):
    """A saved policy."""

    policy: RetrainingPolicy
    warnings: list[str] = Field(default_factory=list)


class Schedule(Record):
    """A job tool that is called whenever the cron expression says so."""

    name: str
    cron: str
    tool: str
    arguments: dict[str, JsonValue]
    caller: str
    role: str
    next_at: AwareDatetime | None = None
    last_at: AwareDatetime | None = None


class ScheduleResult(Result):
    """A saved schedule."""

    schedule: Schedule
    warnings: list[str] = Field(default_factory=list)


class Pause(Record):
    """Until when an endpoint's alerts, policies and schedules rest."""

    endpoint: str
    until: AwareDatetime
    reason: str | None = None


class MonitoringList(Result):
    """All that watches."""

    rules: list[AlertRule]
    policies: list[RetrainingPolicy]
    schedules: list[Schedule]
    pauses: list[Pause] = Field(default_factory=list)
    workers_alive: int
    warnings: list[str] = Field(default_factory=list)


class PauseResult(Result):
    """How long an endpoint's monitoring rests."""

    endpoint: str
    paused_until: AwareDatetime | None = Field(description="Null: not paused.")


class Acknowledgement(Record):
    """Who took notice of an alert."""

    by: str
    at: AwareDatetime
    note: str | None = None


class ActionTaken(Record):
    """What an alert started."""

    action: str
    state: Literal["done", "started", "refused"]
    message: str
    at: AwareDatetime
    job_id: str | None = None


class Notification(Record):
    """One message about an alert's change of state; the log is not told of here."""

    channel: str
    state: str
    status: Literal["waiting", "delivered", "given_up"]
    attempts: int
    error: str | None = None


class Alert(Record):
    """One alert: it fires once and is resolved once."""

    alert_id: str
    rule: str
    endpoint: str
    severity: Severity
    state: AlertState
    value: float | None
    message: str
    fired_at: AwareDatetime
    resolved_at: AwareDatetime | None = None
    acknowledgement: Acknowledgement | None = None
    actions: list[ActionTaken] = Field(default_factory=list)
    notifications: list[Notification] = Field(default_factory=list)


class AlertPage(Page[Alert]):
    """One page of alerts, the newest first."""

    warnings: list[str] = Field(default_factory=list)


class AlertResult(Result):
    """One alert."""

    alert: Alert


class Deleted(Result):
    """What was removed."""

    deleted: list[str]
