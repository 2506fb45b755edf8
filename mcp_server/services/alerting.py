"""Alert rules: saved, evaluated, and what follows when one fires."""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import structlog

from mcp_server.errors import LifecycleError
from mcp_server.results.monitoring import (
    ActionTaken,
    Alert,
    AlertCondition,
    AlertPage,
    AlertResult,
    AlertRule,
    AlertRuleResult,
    Deleted,
    PauseResult,
)
from mcp_server.results.wording import counted
from mcp_server.runtime.identity import Caller
from mcp_server.services.monitoring_parts import MonitoringParts, duration
from mcp_server.services.paging import n_that_fit
from mcp_server.services.signals import EndpointWindow, Reading, require_signal
from mcp_server.settings import Role
from mcp_server.stores.alerts import AlertRow, RuleRow, cursor_of

logger = structlog.get_logger(__name__)

RULE_ROLE: Role = "ml_engineer"
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_NEXT_TOOL = {
    "drift": "check_drift",
    "psi": "check_drift",
    "missing_rate": "check_drift",
    "error_rate": "describe_endpoint",
    "latency_p95": "describe_endpoint",
    "breaker_open": "describe_endpoint",
}


class Alerting:
    """Evaluates rules and keeps alerts. Thread-safe, and safe between processes."""

    def __init__(self, parts: MonitoringParts, start_retraining: Callable[..., ActionTaken]) -> None:
        self._parts = parts
        self._start_retraining = start_retraining

    # Rules ---------------------------------------------------------------------------------------------------------

    def save_rule(
        self,
        *,
        caller: Caller,
        name: str,
        endpoint: str,
        condition: AlertCondition | Mapping[str, Any],
        severity: str,
        channels: list[str],
        action: str,
    ) -> AlertRuleResult:
        """Save a rule; one of the same name is replaced."""
        wanted = AlertCondition.model_validate(condition)
        model = self._parts.models.resolve(self._parts.live_model(endpoint))
        require_signal(wanted.signal, model.task)
        duration(wanted.for_, "for")
        self._parts.bounds(wanted.window)
        self._parts.notifier.require(channels)
        document = {
            "condition": wanted.model_dump(mode="json", by_alias=True),
            "severity": severity,
            "channels": list(dict.fromkeys(channels)),
            "action": action,
        }
        rule = rule_record(self._parts.alerts.save_rule(name, endpoint, document, caller))
        return AlertRuleResult(
            summary=f"Rule {name} watches {endpoint}: {_wording(wanted)}"
            + ("" if action == "none" else f"; then {action}")
            + ".",
            name=name,
            rule=rule,
            warnings=self._parts.worker_warnings(),
        )

    def delete_rule(self, *, name: str) -> Deleted:
        """Remove a rule; its open alert is resolved."""
        row = self._parts.alerts.delete_rule(name)
        return Deleted(summary=f"Rule {name} of endpoint {row.endpoint} is removed.", deleted=[name])

    # Alerts --------------------------------------------------------------------------------------------------------

    def list_alerts(self, *, endpoint: str | None, state: str | None, limit: int, cursor: str | None) -> AlertPage:
        """Return one page of alerts, the newest first."""
        rows, next_cursor = self._parts.alerts.page(endpoint=endpoint, state=state, limit=limit, cursor=cursor)
        items = self._with_notifications(rows)
        n_items = n_that_fit(items)
        if n_items < len(items):
            items, next_cursor = items[:n_items], cursor_of(rows[n_items - 1])
        firing = sum(item.state == "firing" for item in items)
        more = ", and more on the next page" if next_cursor else ""
        return AlertPage(
            summary=f"{counted(len(items), 'alert')}, {firing} firing{more}.",
            items=items,
            next_cursor=next_cursor,
            warnings=self._parts.worker_warnings(),
        )

    def acknowledge(self, *, caller: Caller, alert_id: str, note: str | None) -> AlertResult:
        """Mark a firing alert as seen; it is resolved when its condition is."""
        known = self._parts.alerts.alert(alert_id)
        channels = [] if known is None else self._channels_of(known)
        row, changed = self._parts.alerts.acknowledge(alert_id, note, caller, _sent(channels))
        if changed:
            self._log(row, channels, "acknowledged")
        said = "is acknowledged" if changed else "was acknowledged before"
        if self._rule_of(row) is None and self._parts.alerts.resolve(alert_id, _sent(channels)):
            # Nothing else would ever end it.
            said += ", and with that resolved: no rule watches what it tells of"
            row = replace(row, state="resolved", resolved_at=self._parts.clock.now())
        (record,) = self._with_notifications([row])
        return AlertResult(summary=f"Alert {alert_id} of {row.rule} {said}.", alert=record)

    def raise_alert(
        self, *, endpoint: str, severity: str, message: str, value: float | None, rule: str, action: str | None = None
    ) -> Alert:
        """Fire an alert that no rule evaluates, such as a failed gate of a rollout; it takes the place of an older one.

        The same message again, while it is open, is no new alert.

        Args:
            rule: what it is called in list_alerts.
            action: what was done about it already, in words.
        """
        channels = list(self._parts.notifier.default_channels)
        older = self._parts.alerts.open_alert(rule, endpoint)
        if older is not None and older.message != message:
            self._parts.alerts.resolve(older.alert_id, _sent(channels))
        row, made = self._parts.alerts.fire(
            rule=rule, endpoint=endpoint, severity=severity, value=value, message=message, channels=_sent(channels)
        )
        if made and action is not None:
            self._record(row, ActionTaken(action=action, state="done", message=message, at=self._parts.clock.now()))
        if made:
            self._log(row, channels, "firing")
        return alert_record(row)

    def pause(self, *, caller: Caller, endpoint: str, span: str, reason: str | None) -> PauseResult:
        """Let an endpoint's alerts, policies and schedules rest; `0s` ends it."""
        self._parts.live_model(endpoint)
        now = self._parts.clock.now()
        until = now + duration(span, "for")
        self._parts.alerts.pause(endpoint, until, reason, caller)
        if until <= now:
            return PauseResult(summary=f"Monitoring of {endpoint} goes on.", endpoint=endpoint, paused_until=None)
        return PauseResult(
            summary=f"Alerts, policies and schedules of {endpoint} rest until {until:%Y-%m-%d %H:%M:%S} UTC.",
            endpoint=endpoint,
            paused_until=until,
        )

    def is_paused(self, endpoint: str) -> bool:
        """Return True while an endpoint's monitoring rests."""
        return bool(self._parts.alerts.pauses(endpoint))

    # Evaluation ----------------------------------------------------------------------------------------------------

    def evaluate(self, endpoint: str | None = None) -> list[Alert]:
        """Evaluate the rules of one endpoint, or all; return the alerts that changed their state."""
        windows: dict[tuple[str, str | int | None], EndpointWindow] = {}
        paused = {pause.endpoint for pause in self._parts.alerts.pauses()}
        changed: list[Alert] = []
        for row in self._parts.alerts.rules(endpoint):
            if row.endpoint in paused:
                continue
            try:
                condition = AlertCondition.model_validate(row.rule["condition"])
                window = windows.get((row.endpoint, condition.window)) or EndpointWindow(
                    self._parts, row.endpoint, condition.window
                )
                windows[row.endpoint, condition.window] = window
                reading = window.read(condition.signal, condition.min_rows)
            except LifecycleError as failure:  # one rule that cannot be read must not keep the others from it
                self._note(row, failure.message)
                logger.warning("rule_not_evaluated", rule=row.name, endpoint=row.endpoint, message=failure.message)
                continue
            changed += self._settle(row, condition, reading)
        return changed

    def _note(self, row: RuleRow, note: str) -> None:
        now = self._parts.clock.now().isoformat()
        self._parts.alerts.change_rule_state(row.name, lambda state: state | {"note": note, "evaluated_at": now})

    def _settle(self, row: RuleRow, condition: AlertCondition, reading: Reading) -> list[Alert]:
        """Bring a rule's state, and its alert, in line with what was read."""
        now = self._parts.clock.now()
        holds = reading.value is not None and _COMPARE[condition.operator](reading.value, condition.threshold)

        def change(state: dict[str, Any]) -> dict[str, Any]:
            if reading.value is None:  # nothing to judge by: what was pending stays pending
                return state | {"note": reading.note, "evaluated_at": now.isoformat(), "last_value": None}
            since = state.get("pending_since") or now.isoformat() if holds else None
            seen = {"last_value": reading.value, "evaluated_at": now.isoformat(), "note": reading.note}
            return state | seen | {"pending_since": since}

        state = self._parts.alerts.change_rule_state(row.name, change)
        if state is None or reading.value is None:
            return []
        if not holds:
            return self._resolve(row)
        held = now - datetime.fromisoformat(state["pending_since"])
        if held < duration(condition.for_, "for"):
            return []
        return self._fire(row, condition, reading, state["pending_since"])

    def _fire(self, row: RuleRow, condition: AlertCondition, reading: Reading, since: str) -> list[Alert]:
        alert, made = self._parts.alerts.fire(
            rule=row.name,
            endpoint=row.endpoint,
            severity=row.rule["severity"],
            value=reading.value,
            message=_message(row, condition, reading, since),
            channels=_sent(row.rule["channels"]),
        )
        if made:
            self._log(alert, row.rule["channels"], "firing")
        if row.rule["action"] != "none" and not alert.actions:  # also when the evaluator that fired it died before
            self._act(row, alert)
            alert = self._parts.alerts.open_alert(row.name, row.endpoint) or alert
        return [alert_record(alert)] if made else []

    def _resolve(self, row: RuleRow) -> list[Alert]:
        alert = self._parts.alerts.open_alert(row.name, row.endpoint)
        if alert is None or not self._parts.alerts.resolve(alert.alert_id, _sent(row.rule["channels"])):
            return []
        self._log(alert, row.rule["channels"], "resolved")
        return [alert_record(alert).model_copy(update={"state": "resolved", "resolved_at": self._parts.clock.now()})]

    # Actions -------------------------------------------------------------------------------------------------------

    def _act(self, row: RuleRow, alert: AlertRow) -> None:
        """Do what the rule asks for. Both actions are done once for an alert, however often they are asked for."""
        if row.rule["action"] == "rollback":
            taken = self._roll_back(row, alert)
        else:
            taken = self._start_retraining(
                endpoint=row.endpoint, reason=f"alert {alert.alert_id}: {alert.message}", key=f"alert-{alert.alert_id}"
            )
        self._record(alert, taken)

    def _roll_back(self, row: RuleRow, alert: AlertRow) -> ActionTaken:
        caller = Caller(name=f"alert-rule:{row.name}", role=RULE_ROLE)
        arguments = {
            "endpoint": row.endpoint,
            "reason": f"Alert {alert.alert_id}: {alert.message}"[:500],
            "request_key": f"alert-{alert.alert_id}",
        }
        error: LifecycleError | None = None
        try:
            done = self._parts.rollback(caller=caller, **arguments)
            state, message = "done", str(done.summary)
        except LifecycleError as refusal:
            error, state, message = refusal, "refused", refusal.message
        self._parts.audit.record(caller=caller, tool="rollback_endpoint", arguments=arguments, error=error)
        return ActionTaken.model_validate(
            {"action": "rollback", "state": state, "message": message, "at": self._parts.clock.now()}
        )

    def _record(self, alert: AlertRow, taken: ActionTaken) -> None:
        self._parts.alerts.add_action(alert.alert_id, taken.model_dump(mode="json"))

    def _rule_of(self, alert: AlertRow) -> RuleRow | None:
        return next((row for row in self._parts.alerts.rules(alert.endpoint) if row.name == alert.rule), None)

    def _channels_of(self, alert: AlertRow) -> list[str]:
        rule = self._rule_of(alert)
        return list(self._parts.notifier.default_channels) if rule is None else list(rule.rule["channels"])

    def _with_notifications(self, rows: Sequence[AlertRow]) -> list[Alert]:
        told = self._parts.notifier.told([row.alert_id for row in rows])
        return [alert_record(row).model_copy(update={"notifications": told.get(row.alert_id, [])}) for row in rows]

    def _log(self, alert: AlertRow, channels: Sequence[str], state: str) -> None:
        if "log" not in channels:
            return
        logger.warning(
            "alert",
            alert_id=alert.alert_id,
            rule=alert.rule,
            endpoint=alert.endpoint,
            severity=alert.severity,
            state=state,
            value=alert.value,
            message=alert.message,
        )


def rule_record(row: RuleRow) -> AlertRule:
    """Return a rule as callers see it."""
    return AlertRule.model_validate(
        {
            "name": row.name,
            "endpoint": row.endpoint,
            "created_at": row.created_at,
            "created_by": row.created_by,
            **row.rule,
            **row.state,
        }
    )


def alert_record(row: AlertRow) -> Alert:
    """Return an alert as callers see it."""
    return Alert.model_validate(asdict(row))


def _sent(channels: Iterable[str]) -> list[str]:
    """Return the channels whose messages are sent; the log is written at once."""
    return [channel for channel in channels if channel != "log"]


def _wording(condition: AlertCondition) -> str:
    over = "" if condition.window is None else f" over {_window(condition.window)}"
    held = "" if condition.for_ in ("0s", "0m", "0h", "0d") else f" for {condition.for_}"
    return f"{condition.signal} {condition.operator} {condition.threshold:g}{over}{held}"


def _window(window: str | int) -> str:
    return f"the last {window} rows" if isinstance(window, int) else f"the last {window}"


def _message(row: RuleRow, condition: AlertCondition, reading: Reading, since: str) -> str:
    tool = _NEXT_TOOL.get(condition.signal, "check_performance")
    return (
        f"{condition.signal} of {row.endpoint} is {reading.value:.4g} on {reading.n_rows} rows "
        f"({_wording(condition)}), since {since[:19]}Z. Look closer with {tool}(endpoint={row.endpoint!r})."
    )
