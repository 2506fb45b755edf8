"""What the deployment tools return."""

from typing import Any, Literal

from pydantic import AwareDatetime, Field, JsonValue

from mcp_server.results.base import Page, Record, Result

EndpointState = Literal["starting", "serving", "degraded", "stopped"]
RolloutState = Literal["running", "waiting", "rolled_back", "completed"]
Strategy = Literal["blue_green", "canary", "shadow", "ab_test", "champion_challenger", "ensemble"]
GateState = Literal["passed", "failed", "pending"]


class RouteRecord(Record):
    """One model version behind an endpoint."""

    model: str
    weight: float = Field(description="Percent of the traffic.")
    role: Literal["live", "candidate", "shadow"]


class GateRecord(Record):
    """What a gate says about the candidate."""

    gate: str
    state: GateState
    value: float | None = None
    limit: float
    labelled: int | None = None
    needed: int | None = Field(default=None, description="Requests or outcomes that a pending gate waits for.")
    message: str = ""


class RolloutRecord(Record):
    """A rollout as it stands."""

    strategy: Strategy
    candidate: str
    step: int = Field(description="From 0: the index in steps.")
    steps: list[float] = Field(description="Percent of the traffic at each step.")
    gates: list[GateRecord]
    state: RolloutState
    started_at: AwareDatetime | None = None


class EndpointResult(Result):
    """An endpoint after a change."""

    endpoint: str
    revision: int
    state: EndpointState
    routes: list[RouteRecord]
    rollout: RolloutRecord | None = None
    warnings: list[str] = Field(default_factory=list)


class Latency(Record):
    """Milliseconds, over the predictions counted."""

    p50: float | None
    p95: float | None
    p99: float | None


class ModelFigures(Record):
    """One model version behind an endpoint, from the prediction log."""

    model: str
    role: str
    weight: float
    requests: int
    errors: int
    labelled: int
    latency_ms: Latency
    scorer: str = Field(description="How it is scored, and why.")


class BreakerRecord(Record):
    """The circuit breaker of one model version."""

    model: str
    state: Literal["closed", "open", "half_open"]
    message: str = ""


class ExperimentRecord(Record):
    """A comparison of two versions on outcomes."""

    metric: str
    a: str
    b: str
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    decision: str


class HistoryRecord(Record):
    """One revision."""

    revision: int
    action: str
    by: str
    reason: str | None
    at: AwareDatetime
    routes: list[RouteRecord]


class EndpointDescription(EndpointResult):
    """An endpoint with its figures and history."""

    breaker: list[BreakerRecord]
    requests: int
    errors: int
    latency_ms: Latency
    per_model: list[ModelFigures]
    experiment: ExperimentRecord | None = None
    history: list[HistoryRecord]


class EndpointItem(Record):
    """One line of the list of endpoints."""

    endpoint: str
    revision: int
    state: EndpointState
    routes: list[RouteRecord]
    rollout: RolloutState | None = None


class EndpointPage(Page[EndpointItem]):
    """One page of endpoints, by name."""


class EndpointDeletion(Result):
    """What was deleted."""

    deleted: list[str]


class Prediction(Record):
    """One answered row."""

    prediction_id: str
    row_id: str | None
    prediction: JsonValue
    probabilities: dict[str, float] | None
    model: str
    explanation: dict[str, float] | None = Field(
        default=None, description="What each feature adds; with explanation_base it is the probability or value said."
    )
    explanation_base: float | None = None


class PredictionResult(Result):
    """The answers, in the order of the rows."""

    endpoint: str
    predictions: list[Prediction]
    latency_ms: float
    revision: int
    warnings: list[str] = Field(default_factory=list, description="Extra columns, a fallback, a full log.")


class PredictionItem(Record):
    """One line of the prediction log."""

    prediction_id: str
    row_id: str | None
    prediction: JsonValue
    outcome: JsonValue
    model: str
    time: AwareDatetime


class PredictionPage(Page[PredictionItem]):
    """One page of the prediction log, the newest first."""


class OutcomeResult(Result):
    """What became of the outcomes that were handed in."""

    endpoint: str
    recorded: int
    unknown: int
    duplicates: int
    updated: int
    pending: int = Field(default=0, description="Rows whose outcome is still null.")
    unknown_examples: list[str] = Field(default_factory=list)


class ScoredDataset(Result):
    """The dataset that predict_dataset wrote: the rows with `prediction` and `probability_*` added."""

    name: str
    version: int
    rows: int
    columns: list[dict[str, Any]]
    content_hash: str
    source: str
