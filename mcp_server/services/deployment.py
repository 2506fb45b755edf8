"""Deployment: endpoints and their rollouts; predictions are answered by `services/prediction.py`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from mcp_server.engine.gates import Verdict
from mcp_server.errors import (
    ConflictError,
    FailedPreconditionError,
    LifecycleError,
    NotFoundError,
)
from mcp_server.results.deployment import (
    BreakerRecord,
    EndpointDeletion,
    EndpointDescription,
    EndpointItem,
    EndpointPage,
    EndpointResult,
    GateRecord,
    HistoryRecord,
    Latency,
    ModelFigures,
    RolloutRecord,
    RouteRecord,
)
from mcp_server.results.wording import counted
from mcp_server.runtime.identity import SYSTEM, Caller
from mcp_server.services.paging import after_of, cursor_of
from mcp_server.services.prediction import PredictionService
from mcp_server.services.rollout_figures import experiment
from mcp_server.services.rollouts import UNDER_WAY, Move, Rollouts, check_revision, write
from mcp_server.services.routes import RouteTable
from mcp_server.stores.endpoints import Endpoint, EndpointStore, Route, conflict
from mcp_server.stores.models import ModelRegistry
from mcp_server.stores.predictions import BESIDE_THE_ANSWER, ModelLogFigures, PredictionStore
from mcp_server.stores.request_keys import RequestKeys

logger = structlog.get_logger(__name__)

_WHOLE = 100.0
_SHOWN_HISTORY = 10


class DeploymentService:
    """Answers the deployment tools. Thread-safe."""

    def __init__(
        self,
        *,
        endpoints: EndpointStore,
        models: ModelRegistry,
        predictions: PredictionStore,
        prediction: PredictionService,
        routes: RouteTable,
        rollouts: Rollouts,
        request_keys: RequestKeys,
        raise_alert: Callable[..., Any],
        forget_endpoint: Callable[[str], Any],
    ) -> None:
        """Hold the parts.

        Args:
            raise_alert: fires an alert that no rule evaluates (`MonitoringService.raise_alert`).
            forget_endpoint: removes what watched an endpoint that is gone (`MonitoringService.forget_endpoint`).
        """
        self._endpoints = endpoints
        self._models = models
        self._predictions = predictions
        self._prediction = prediction
        self._routes = routes
        self._rollouts = rollouts
        self._request_keys = request_keys
        self._raise_alert = raise_alert
        self._forget_endpoint = forget_endpoint

    # Endpoints -------------------------------------------------------------------------------------------------------

    def deploy_model(
        self,
        *,
        caller: Caller,
        endpoint: str,
        model: str,
        reason: str | None = None,
        expected_revision: int | None = None,
        request_key: str | None = None,
    ) -> EndpointResult:
        """Make a new endpoint that answers with `model`, loaded and tried before it is there.

        Raises:
            AlreadyExistsError: the endpoint exists.
            NotFoundError: no such model.
            ConflictError: `expected_revision` is not 0, the revision of what does not exist yet.
        """

        def work(request: str | None) -> EndpointResult:
            if expected_revision:
                raise conflict(endpoint, expected_revision, self._endpoints.revisions().get(endpoint, 0))
            ref = self._models.resolve(model).ref
            routes = (Route(ref, _WHOLE, "live"),)
            self._routes.warm(ref)
            made = self._endpoints.create(endpoint, routes, {}, reason=reason, caller=caller, request=request)
            self._routes.refresh(endpoint)
            return self._result(made, f"Endpoint {endpoint} serves {ref} from revision {made.revision} on.")

        arguments = {"endpoint": endpoint, "model": model, "expected_revision": expected_revision}
        return self._once("deploy_model", endpoint, request_key, arguments, work)

    def describe_endpoint(self, *, endpoint: str) -> EndpointDescription:
        """Return an endpoint with its figures from the log, its rollout, and its last revisions."""
        found = self._endpoints.get(endpoint)
        self._predictions.flush()
        figures = self._predictions.figures(endpoint)
        answers = [each for each in figures if each.route not in BESIDE_THE_ANSWER]
        requests, errors = sum(each.requests for each in answers), sum(each.errors for each in answers)
        overall = self._predictions.latency(endpoint)
        base = self._result(found, f"{_sentence(found)} {requests} predictions, {errors} failed.")
        return EndpointDescription(
            **base.model_dump(),
            breaker=[
                BreakerRecord(
                    model=route.model,
                    state=self._prediction.breaker(route.model),
                    message=self._prediction.breaker_reason(route.model),
                )
                for route in found.routes
            ],
            requests=requests,
            errors=errors,
            latency_ms=Latency(p50=overall.p50_ms, p95=overall.p95_ms, p99=overall.p99_ms),
            per_model=[self._model_figures(route, figures) for route in found.routes],
            experiment=experiment(self._predictions, self._models, found),
            history=[
                HistoryRecord(
                    revision=entry.revision,
                    action=entry.action,
                    by=entry.created_by,
                    reason=entry.reason,
                    at=entry.created_at,
                    routes=_route_records(entry.endpoint),
                )
                for entry in self._endpoints.history(endpoint, _SHOWN_HISTORY)
            ],
        )

    def list_endpoints(self, *, limit: int = 50, cursor: str | None = None) -> EndpointPage:
        """Return one page of endpoints, by name."""
        found = self._endpoints.page(limit + 1, after=after_of(cursor))
        items = [
            EndpointItem(
                endpoint=each.name,
                revision=each.revision,
                state=each.state,
                routes=_route_records(each),
                rollout=each.rollout["state"] if each.rollout else None,
            )
            for each in found[:limit]
        ]
        next_cursor = cursor_of(items[-1].endpoint) if len(found) > limit else None
        return EndpointPage(summary=f"{counted(len(items), 'endpoint')}.", items=items, next_cursor=next_cursor)

    def delete_endpoint(
        self,
        *,
        caller: Caller,
        endpoint: str,
        reason: str | None = None,
        expected_revision: int | None = None,
        request_key: str | None = None,
    ) -> EndpointDeletion:
        """Stop an endpoint and remove it; its history and its prediction log stay."""

        def work() -> EndpointDeletion:
            current = self._endpoints.get(endpoint)
            check_revision(current, expected_revision)
            self._endpoints.delete(endpoint, current.revision, reason=reason, caller=caller)
            self._routes.refresh(endpoint)
            self._forget_endpoint(endpoint)
            return EndpointDeletion(
                summary=f"Endpoint {endpoint} no longer answers; its history and log are kept.", deleted=[endpoint]
            )

        arguments = {"endpoint": endpoint, "expected_revision": expected_revision}
        return self._request_keys.once("delete_endpoint", request_key, arguments, EndpointDeletion, work)

    def set_traffic(
        self,
        *,
        caller: Caller,
        endpoint: str,
        weights: Mapping[str, float],
        expected_revision: int | None = None,
        reason: str | None = None,
        request_key: str | None = None,
    ) -> EndpointResult:
        """Balance the traffic of an endpoint across versions.

        Raises:
            InvalidArgumentError: the weights are not of 0 to 100, or do not sum to 100.
            FailedPreconditionError: a rollout is under way, or a version does not fit.
        """

        def work(request: str | None) -> EndpointResult:
            current = self._endpoints.get(endpoint)
            check_revision(current, expected_revision)
            move = self._rollouts.divide(current, weights)
            for route in move.endpoint.routes:
                self._routes.warm(route.model)
            return self._written(move, reason, caller, request)

        arguments = {"endpoint": endpoint, "weights": dict(weights), "expected_revision": expected_revision}
        return self._once("set_traffic", endpoint, request_key, arguments, work)

    # Rollouts --------------------------------------------------------------------------------------------------------

    def start_rollout(
        self,
        *,
        caller: Caller,
        endpoint: str,
        model: str,
        strategy: str,
        options: Mapping[str, Any] | None = None,
        reason: str | None = None,
        expected_revision: int | None = None,
        request_key: str | None = None,
    ) -> EndpointResult:
        """Bring another version in behind `endpoint`; see `services/rollouts.py` for the states."""

        def work(request: str | None) -> EndpointResult:
            current = self._endpoints.get(endpoint)
            check_revision(current, expected_revision)
            candidate = self._models.resolve(model).ref
            move = self._rollouts.start(current, candidate, strategy, options or {})
            self._routes.warm(candidate)
            return self._written(move, reason, caller, request)

        arguments = {"endpoint": endpoint, "model": model, "strategy": strategy, "options": dict(options or {})}
        return self._once("start_rollout", endpoint, request_key, arguments, work)

    def advance_rollout(
        self,
        *,
        caller: Caller,
        endpoint: str,
        force: bool = False,
        reason: str | None = None,
        expected_revision: int | None = None,
        request_key: str | None = None,
    ) -> EndpointResult:
        """Take the next step when the gates hold.

        Raises:
            FailedPreconditionError: a gate is pending; or one failed, and the endpoint was rolled back.
        """

        def work(request: str | None) -> EndpointResult:
            self._prediction.wait_for_mirrors()
            self._predictions.flush()
            current = self._endpoints.get(endpoint)
            check_revision(current, expected_revision)
            move = self._rollouts.advance(current, force=force)
            if not move.undone_by:
                return self._written(move, reason, caller, request)
            self._roll_back(move, caller)
            raise FailedPreconditionError(
                f"The rollout was not advanced. {move.sentence}",
                hint="Look at describe_endpoint and list_alerts, then train or choose another version.",
                details={"gates": [_gate(verdict).model_dump() for verdict in move.undone_by]},
            )

        arguments = {"endpoint": endpoint, "force": force, "expected_revision": expected_revision}
        return self._once("advance_rollout", endpoint, request_key, arguments, work)

    def rollback_endpoint(
        self,
        *,
        caller: Caller,
        endpoint: str,
        to_revision: int | None = None,
        reason: str | None = None,
        expected_revision: int | None = None,
        request_key: str | None = None,
    ) -> EndpointResult:
        """Go back to an earlier revision's routes. Stages of models are not moved.

        Raises:
            NotFoundError: the endpoint never had `to_revision`.
            FailedPreconditionError: there is nothing to go back to.
        """

        def work(request: str | None) -> EndpointResult:
            current = self._endpoints.get(endpoint)
            check_revision(current, expected_revision)
            move = self._rollouts.back_to(current, to_revision)
            for route in move.endpoint.routes:
                self._routes.warm(route.model)
            return self._written(move, reason, caller, request, note=" Stages of models were not moved.")

        arguments = {"endpoint": endpoint, "to_revision": to_revision, "expected_revision": expected_revision}
        return self._once("rollback_endpoint", endpoint, request_key, arguments, work)

    def evaluate_rollouts(self) -> list[str]:
        """Judge the gates of every rollout under way, roll back where one failed; return those endpoints' names."""
        undone = []
        for endpoint in self._endpoints.all():
            if endpoint.rollout is None or endpoint.rollout["state"] != "running":
                continue
            try:
                failed = tuple(each for each in self._rollouts.verdicts(endpoint) if each.state == "failed")
                if failed:
                    self._roll_back(self._rollouts.undo(endpoint, failed), SYSTEM)
                    undone.append(endpoint.name)
            except (ConflictError, NotFoundError) as moved:  # somebody else changed it meanwhile: look again next time
                logger.info("rollout_not_judged", endpoint=endpoint.name, reason=moved.message)
        return undone

    def _roll_back(self, move: Move, caller: Caller) -> None:
        written = write(self._endpoints, move, None, caller)
        self._routes.refresh(written.name)
        logger.warning("rollout_rolled_back", endpoint=written.name, reason=move.sentence)
        self._raise_alert(
            endpoint=written.name,
            severity="critical",
            message=move.sentence,
            value=move.undone_by[0].value,
            rule="rollout-gate",
            action="rolled back",
        )

    # What others ask -------------------------------------------------------------------------------------------------

    def live_model(self, endpoint: str) -> str:
        """Return the reference of the version that answers.

        Raises:
            NotFoundError: no such endpoint.
        """
        return self._endpoints.get(endpoint).live.model

    def breaker_open(self, endpoint: str) -> bool:
        """Return True while the live version's circuit breaker is open."""
        return self._prediction.breaker(self.live_model(endpoint)) == "open"

    def states(self) -> dict[str, str]:
        """Return each endpoint's state, for health."""
        return {endpoint.name: self._state(endpoint) for endpoint in self._endpoints.all()}

    # Shaping ---------------------------------------------------------------------------------------------------------

    def _once(
        self,
        tool: str,
        endpoint: str,
        key: str | None,
        arguments: Mapping[str, Any],
        work: Callable[[str | None], EndpointResult],
    ) -> EndpointResult:
        """Do the work of a call once a key, also where the call was cut off between its change and its answer."""
        request = None if key is None else f"{tool}:{key}"

        def resumed() -> EndpointResult:
            made = None if request is None else self._endpoints.made_by(endpoint, request)
            if made is None:
                return work(request)
            self._routes.refresh(endpoint)
            return self._result(made.endpoint, f"This call made revision {made.revision} of {endpoint} before.")

        return self._request_keys.once(tool, key, arguments, EndpointResult, resumed)

    def _written(
        self, move: Move, reason: str | None, caller: Caller, request: str | None, note: str = ""
    ) -> EndpointResult:
        written = write(self._endpoints, move, reason, caller, request)
        self._routes.refresh(written.name)
        return self._result(written, move.sentence + note)

    def _state(self, endpoint: Endpoint) -> str:
        broken = any(self._prediction.breaker(route.model) == "open" for route in endpoint.routes)
        return "degraded" if broken and endpoint.state == "serving" else endpoint.state

    def _result(self, endpoint: Endpoint, summary: str) -> EndpointResult:
        return EndpointResult(
            summary=summary,
            endpoint=endpoint.name,
            revision=endpoint.revision,
            state=self._state(endpoint),
            routes=_route_records(endpoint),
            rollout=self._rollout(endpoint),
        )

    def _rollout(self, endpoint: Endpoint) -> RolloutRecord | None:
        rollout = endpoint.rollout
        if rollout is None:
            return None
        verdicts = self._rollouts.verdicts(endpoint) if rollout["state"] in UNDER_WAY else []
        return RolloutRecord(
            strategy=rollout["strategy"],
            candidate=rollout["candidate"],
            step=rollout["step"],
            steps=rollout["steps"],
            gates=[_gate(verdict) for verdict in verdicts],
            state=rollout["state"],
            started_at=datetime.fromisoformat(rollout["started_at"]),
        )

    def _model_figures(self, route: Route, figures: Sequence[ModelLogFigures]) -> ModelFigures:
        own = [each for each in figures if each.model == route.model]
        slowest = max(own, key=lambda each: each.requests, default=None)
        return ModelFigures(
            model=route.model,
            role=route.role,
            weight=route.weight,
            requests=sum(each.requests for each in own),
            errors=sum(each.errors for each in own),
            labelled=sum(each.labelled for each in own),
            latency_ms=Latency(
                p50=slowest.p50_ms if slowest else None,
                p95=slowest.p95_ms if slowest else None,
                p99=slowest.p99_ms if slowest else None,
            ),
            scorer=self._scorer(route.model),
        )

    def _scorer(self, model: str) -> str:
        try:
            return self._routes.scorer_sentence(model)
        except LifecycleError as failure:  # a damaged file is worth a line here, and must not hide the rest
            return failure.message


def _gate(verdict: Verdict) -> GateRecord:
    return GateRecord(**{name: getattr(verdict, name) for name in Verdict.__slots__})


def _route_records(endpoint: Endpoint) -> list[RouteRecord]:
    return [RouteRecord(model=route.model, weight=route.weight, role=route.role) for route in endpoint.routes]


def _sentence(endpoint: Endpoint) -> str:
    parts = ", ".join(f"{route.model} {route.weight:g} %" for route in endpoint.routes)
    return f"{endpoint.name} is at revision {endpoint.revision}: {parts}."
