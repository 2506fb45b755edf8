"""Monitoring: drift and performance checks, alert rules, retraining policies, schedules, pauses."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from mcp_server.errors import AlreadyExistsError, InvalidArgumentError, PermissionDeniedError, shown
from mcp_server.results.monitoring import (
    Alert,
    AlertCondition,
    AlertPage,
    AlertResult,
    AlertRuleResult,
    Deleted,
    DriftResult,
    MonitoringList,
    Pause,
    PauseResult,
    PerformanceResult,
    RetrainingPolicyResult,
    RetrainingTrigger,
    Schedule,
    ScheduleResult,
)
from mcp_server.results.wording import counted
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.progress import Progress
from mcp_server.services.alerting import Alerting, rule_record
from mcp_server.services.monitoring_parts import MonitoringParts
from mcp_server.services.paging import RESULT_BUDGET, n_that_fit
from mcp_server.services.retraining import DEFAULT_COOLDOWN, Retraining, policy_record
from mcp_server.services.retraining_triggers import next_time

_SHOWN_PAUSES = 10
_SHARE = RESULT_BUDGET // 3


class MonitoringService:
    """What the monitoring tools do. Thread-safe."""

    def __init__(self, parts: MonitoringParts) -> None:
        self._parts = parts
        self._retraining = Retraining(parts)
        self._alerting = Alerting(parts, self._retraining.start)

    # Checks --------------------------------------------------------------------------------------------------------

    def check_drift(
        self,
        *,
        progress: Progress,
        endpoint: str | None = None,
        reference: str | None = None,
        current: str | None = None,
        columns: Sequence[str] | None = None,
        methods: Sequence[str] = ("auto",),
        thresholds: Mapping[str, float] | None = None,
        window: str | int | None = None,
        detail: str = "summary",
    ) -> DriftResult:
        """Compare current rows with a reference, then look at the endpoint's rules and policy.

        Raises:
            InvalidArgumentError: the arguments do not say what to compare with what, or name what is not there.
            NotFoundError: no such endpoint or dataset.
            FailedPreconditionError: too few logged predictions, or no reference is kept with the model.
        """
        from mcp_server.services.drift_check import run_drift_check

        result = run_drift_check(
            self._parts,
            progress,
            endpoint=endpoint,
            reference=reference,
            current=current,
            columns=columns,
            methods=methods,
            thresholds=thresholds or {},
            window=window,
            detail=detail,
        )
        if endpoint is not None:
            progress(0.9, "evaluating the alert rules")
            self.evaluate_alert_rules(endpoint)
        return result

    def check_performance(
        self, *, progress: Progress, endpoint: str, window: str | int | None = None
    ) -> PerformanceResult:
        """Score an endpoint's answers by their outcomes, then look at its rules and policy.

        Raises:
            NotFoundError: no such endpoint.
            FailedPreconditionError: nothing was predicted in the window.
        """
        from mcp_server.services.performance_check import run_performance_check

        result = run_performance_check(self._parts, progress, endpoint=endpoint, window=window)
        progress(0.9, "evaluating the alert rules")
        self.evaluate_alert_rules(endpoint)
        return result

    # Rules and alerts ----------------------------------------------------------------------------------------------

    def save_alert_rule(
        self,
        *,
        caller: Caller,
        name: str,
        endpoint: str,
        condition: AlertCondition | Mapping[str, Any],
        severity: str = "warning",
        channels: Sequence[str] = (),
        action: str = "none",
    ) -> AlertRuleResult:
        """Save a rule; one of the same name is replaced.

        Raises:
            InvalidArgumentError: a signal, window or duration that is none.
            NotFoundError: no such endpoint.
            AlreadyExistsError: a rule of another endpoint has this name.
            FailedPreconditionError: a channel that is not set up.
        """
        return self._alerting.save_rule(
            caller=caller,
            name=name,
            endpoint=endpoint,
            condition=condition,
            severity=severity,
            channels=list(channels),
            action=action,
        )

    def delete_alert_rule(self, *, caller: Caller, name: str) -> Deleted:
        """Remove a rule; its open alert is resolved. Raises NotFoundError for an unknown name."""
        return self._alerting.delete_rule(name=name)

    def list_alerts(
        self, *, endpoint: str | None = None, state: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> AlertPage:
        """Return one page of alerts, the newest first."""
        return self._alerting.list_alerts(endpoint=endpoint, state=state, limit=limit, cursor=cursor)

    def acknowledge_alert(self, *, caller: Caller, alert_id: str, note: str | None = None) -> AlertResult:
        """Mark a firing alert as seen.

        Raises:
            NotFoundError: no such alert.
            FailedPreconditionError: it is resolved.
        """
        return self._alerting.acknowledge(caller=caller, alert_id=alert_id, note=note)

    def deliver_notifications(self) -> int:
        """Send the messages about alerts that are due; return how many arrived.

        Raises:
            UnavailableError: the database does not answer.
        """
        return self._parts.notifier.deliver_due()

    def raise_alert(
        self,
        *,
        endpoint: str,
        severity: str,
        message: str,
        value: float | None = None,
        rule: str = "rollout",
        action: str | None = None,
    ) -> Alert:
        """Fire an alert that no rule evaluates, such as a failed gate; while one is open under this name it is kept."""
        return self._alerting.raise_alert(
            endpoint=endpoint, severity=severity, message=message, value=value, rule=rule, action=action
        )

    def pause_monitoring(self, *, caller: Caller, endpoint: str, for_: str, reason: str | None = None) -> PauseResult:
        """Let an endpoint's alerts, policies and schedules rest for a duration; `0s` ends it."""
        return self._alerting.pause(caller=caller, endpoint=endpoint, span=for_, reason=reason)

    def is_paused(self, endpoint: str) -> bool:
        """Return True while an endpoint's monitoring rests."""
        return self._alerting.is_paused(endpoint)

    def evaluate_alert_rules(self, endpoint: str | None = None) -> list[Alert]:
        """Evaluate alert rules and follow retraining policies, of one endpoint or all; return the alerts that changed.

        Run at fixed times by a worker, and after whatever brings news of an endpoint.
        """
        changed = self._alerting.evaluate(endpoint)
        self._retraining.follow(endpoint)
        return changed

    def forget_endpoint(self, endpoint: str) -> list[str]:
        """Remove what watched an endpoint that is gone; its alerts stay, resolved. Returns the names of its rules."""
        return self._parts.alerts.forget_endpoint(endpoint)

    # Policies and schedules ----------------------------------------------------------------------------------------

    def save_retraining_policy(
        self,
        *,
        caller: Caller,
        endpoint: str,
        trigger: RetrainingTrigger | Mapping[str, Any],
        training: Mapping[str, Any] | None = None,
        promote: str = "champion_challenger",
        cooldown: str = DEFAULT_COOLDOWN,
    ) -> RetrainingPolicyResult:
        """Save when and how an endpoint's model is trained again.

        Raises:
            InvalidArgumentError: a trigger that could never start anything, or an unknown training argument.
            NotFoundError: no such endpoint or dataset.
            FailedPreconditionError: the live model has no recipe, and `training` does not give one.
        """
        return self._retraining.save_policy(
            caller=caller,
            endpoint=endpoint,
            trigger=trigger,
            training=training or {},
            promote=promote,
            cooldown=cooldown,
        )

    def save_schedule(
        self, *, caller: Caller, name: str, cron: str, tool: str, arguments: Mapping[str, Any]
    ) -> ScheduleResult:
        """Call a job tool whenever `cron` says so, as `caller`; one of the same name and owner is replaced.

        Raises:
            InvalidArgumentError: no cron expression, or no job tool.
            PermissionDeniedError: the caller's role may not call the tool.
            AlreadyExistsError: somebody else has a schedule of this name.
        """
        next_at = next_time(cron, self._parts.clock.now())
        roles = self._parts.job_roles
        if tool not in roles:
            raise InvalidArgumentError(f"{shown(tool)} is not a job tool.", hint=f"One of {', '.join(sorted(roles))}.")
        if not caller.may(roles[tool]):
            raise PermissionDeniedError(
                f"{tool} needs the role {roles[tool]}; {shown(caller.name)} has {caller.role}.",
                hint="A schedule runs under the role of who saves it.",
            )
        theirs = [row for row in self._parts.jobs.list_schedules() if row["name"] == name]
        if theirs and theirs[0]["caller"]["name"] != caller.name and not caller.may("admin"):
            raise AlreadyExistsError(
                f"{shown(theirs[0]['caller']['name'])} has a schedule named {shown(name)}.", hint="Choose another name."
            )
        self._parts.jobs.save_schedule(name, cron, tool, arguments, caller)
        schedule = Schedule(
            name=name,
            cron=cron,
            tool=tool,
            arguments=dict(arguments),
            caller=caller.name,
            role=caller.role,
            next_at=next_at,
        )
        return ScheduleResult(
            summary=f"Schedule {name} calls {tool} next at {next_at:%Y-%m-%d %H:%M:%S} UTC.",
            schedule=schedule,
            warnings=self._parts.worker_warnings(),
        )

    def list_monitoring(self, *, endpoint: str | None = None) -> MonitoringList:
        """Return the rules, policies, schedules and pauses, of one endpoint or all."""
        if endpoint is not None:
            self._parts.live_model(endpoint)
        rules = [rule_record(row) for row in self._parts.alerts.rules(endpoint)]
        policies = [policy_record(row) for row in self._parts.alerts.policies(endpoint)]
        schedules = [
            _schedule(row, self._parts.clock.now())
            for row in self._parts.jobs.list_schedules()
            if endpoint is None or row["arguments"].get("endpoint") == endpoint
        ]
        pauses = self._parts.alerts.pauses(endpoint)[:_SHOWN_PAUSES]
        warnings = self._parts.worker_warnings()
        figures = f"{counted(len(rules), 'rule')}, {counted(len(policies), 'policy')}, "
        figures += counted(len(schedules), "schedule")
        n_found = len(rules) + len(policies) + len(schedules)
        rules.sort(key=lambda rule: rule.pending_since is None)
        rules = rules[: n_that_fit(rules, _SHARE)]
        policies = policies[: n_that_fit(policies, _SHARE)]
        schedules = schedules[: n_that_fit(schedules, _SHARE)]
        left_out = n_found - len(rules) - len(policies) - len(schedules)
        if left_out:
            warnings.append(f"{left_out} more are not shown; name an endpoint to see those of one.")
        paused = f"; paused: {', '.join(pause.endpoint for pause in pauses[:3])}" if pauses else ""
        return MonitoringList(
            summary=f"{figures}{paused}." + "".join(f" {warning}" for warning in warnings),
            rules=rules,
            policies=policies,
            schedules=schedules,
            pauses=[Pause(endpoint=row.endpoint, until=row.until, reason=row.reason) for row in pauses],
            workers_alive=self._parts.jobs.workers_alive(),
            warnings=warnings,
        )


def _schedule(row: Mapping[str, Any], now: datetime) -> Schedule:
    return Schedule(
        name=row["name"],
        cron=row["cron"],
        tool=row["kind"],
        arguments=row["arguments"],
        caller=row["caller"]["name"],
        role=row["caller"]["role"],
        next_at=next_time(row["cron"], now),
        last_at=row.get("last_fired_at"),
    )
