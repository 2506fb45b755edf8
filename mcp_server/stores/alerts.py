"""Alert rules, the alerts they raised, retraining policies, and pauses.

An alert changes its state by compare-and-set: of several evaluators that see the same change at once, one makes it and
is told so, which is why each change is notified once.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from mcp_server.errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, NotFoundError, shown
from mcp_server.runtime.clock import Clock
from mcp_server.runtime.identity import Caller
from mcp_server.stores.database import Database
from mcp_server.stores.notifications import queue
from mcp_server.stores.schema import alert_rules, alerts, monitoring_pauses, retraining_policies

OPEN_STATES = ("firing", "acknowledged")
_Document = dict[str, Any]
Change = Callable[[_Document], _Document | None]


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One alert rule; `rule` is what the caller asked for, `state` what the last evaluation found."""

    name: str
    endpoint: str
    rule: _Document
    state: _Document
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One alert."""

    alert_id: str
    rule: str
    endpoint: str
    severity: str
    state: str
    value: float | None
    message: str
    fired_at: datetime
    resolved_at: datetime | None
    acknowledgement: _Document | None
    actions: list[_Document]


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One endpoint's retraining policy; `state` is what it has done."""

    endpoint: str
    policy: _Document
    state: _Document
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class PauseRow:
    """Until when an endpoint's monitoring rests."""

    endpoint: str
    until: datetime
    reason: str | None


class AlertStore:
    """Reads and writes all of them. Thread-safe, and safe between processes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # Rules ---------------------------------------------------------------------------------------------------------

    def save_rule(self, name: str, endpoint: str, rule: Mapping[str, Any], caller: Caller) -> RuleRow:
        """Write a rule, over an older one of the same name and endpoint; what was pending begins anew.

        Raises:
            AlreadyExistsError: another endpoint has a rule of this name.
        """
        row = {"endpoint": endpoint, "rule": dict(rule), "state": None, "created_by": caller.name}
        with self._database.begin() as connection:
            known = connection.execute(_locked(alert_rules, alert_rules.c.name == name)).first()
            if known is not None and known.endpoint != endpoint:
                raise AlreadyExistsError(
                    f"A rule named {shown(name)} watches endpoint {shown(known.endpoint)}.",
                    hint="Choose another name, or remove that rule with delete_alert_rule.",
                )
            if known is None:
                connection.execute(sa.insert(alert_rules).values(name=name, created_at=self._clock.now(), **row))
            else:
                connection.execute(sa.update(alert_rules).where(alert_rules.c.name == name).values(row))
            saved = connection.execute(sa.select(alert_rules).where(alert_rules.c.name == name)).one()
        return _rule(saved)

    def rules(self, endpoint: str | None = None) -> list[RuleRow]:
        """Return the rules of one endpoint, or all, by name."""
        statement = sa.select(alert_rules).order_by(alert_rules.c.name)
        if endpoint is not None:
            statement = statement.where(alert_rules.c.endpoint == endpoint)
        with self._database.read() as connection:
            return [_rule(row) for row in connection.execute(statement)]

    def delete_rule(self, name: str) -> RuleRow:
        """Remove a rule; its open alerts are resolved.

        Raises:
            NotFoundError: no rule has this name.
        """
        with self._database.begin() as connection:
            row = connection.execute(_locked(alert_rules, alert_rules.c.name == name)).first()
            if row is None:
                known = connection.execute(sa.select(alert_rules.c.name)).scalars().all()
                raise NotFoundError("alert_rule", name, known, hint="list_monitoring lists the rules.")
            connection.execute(sa.delete(alert_rules).where(alert_rules.c.name == name))
            mine = (alerts.c.rule == name) & (alerts.c.endpoint == row.endpoint)
            self._resolve(connection, mine, [each for each in row.rule.get("channels", ()) if each != "log"])
        return _rule(row)

    def change_rule_state(self, name: str, change: Change) -> _Document | None:
        """Replace a rule's state by what `change` makes of it, one caller at a time; None leaves it as it is."""
        return self._change(alert_rules, alert_rules.c.name == name, change)

    # Alerts --------------------------------------------------------------------------------------------------------

    def open_alert(self, rule: str, endpoint: str) -> AlertRow | None:
        """Return the alert of a rule that is not resolved yet."""
        statement = sa.select(alerts).where(
            alerts.c.rule == rule, alerts.c.endpoint == endpoint, alerts.c.state.in_(OPEN_STATES)
        )
        with self._database.read() as connection:
            row = connection.execute(statement).first()
        return None if row is None else _alert(row)

    def alert(self, alert_id: str) -> AlertRow | None:
        """Return an alert by its id."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(alerts).where(alerts.c.alert_id == alert_id)).first()
        return None if row is None else _alert(row)

    def fire(
        self,
        *,
        rule: str,
        endpoint: str,
        severity: str,
        value: float | None,
        message: str,
        channels: Sequence[str] = (),
    ) -> tuple[AlertRow, bool]:
        """Return the open alert of a rule, made now unless there is one; and whether this call made it.

        Its id follows from how many alerts the rule has had, so two that fire at once make the same one.

        Args:
            channels: where messages are queued when this call makes it.
        """
        mine = (alerts.c.rule == rule) & (alerts.c.endpoint == endpoint)
        try:
            with self._database.begin() as connection:
                n_before, open_id = connection.execute(_counted(mine)).one()
                if open_id is not None:
                    known = connection.execute(sa.select(alerts).where(alerts.c.alert_id == open_id)).one()
                    return _alert(known), False
                alert_id = hashlib.sha256(f"{endpoint}/{rule}/{n_before}".encode()).hexdigest()[:16]
                record: _Document = {
                    "alert_id": alert_id,
                    "rule": rule,
                    "endpoint": endpoint,
                    "severity": severity,
                    "state": "firing",
                    "value": value,
                    "message": message,
                    "fired_at": self._clock.now(),
                    "actions": [],
                }
                connection.execute(sa.insert(alerts).values(record))
                queue(connection, record, "firing", channels, record["fired_at"])
                made = connection.execute(sa.select(alerts).where(alerts.c.alert_id == alert_id)).one()
        except IntegrityError:  # another evaluator fired it between our look and our write
            with self._database.read() as connection:
                row = connection.execute(sa.select(alerts).where(mine).order_by(alerts.c.fired_at.desc())).first()
            assert row is not None  # the insert met it
            return _alert(row), False
        return _alert(made), True

    def resolve(self, alert_id: str, channels: Sequence[str] = ()) -> bool:
        """Resolve an open alert, and queue messages to `channels`; False when somebody else has."""
        with self._database.begin() as connection:
            return self._resolve(connection, alerts.c.alert_id == alert_id, channels) > 0

    def _resolve(self, connection: sa.Connection, mine: sa.ColumnElement[bool], channels: Sequence[str]) -> int:
        now, n_resolved = self._clock.now(), 0
        for row in connection.execute(_locked(alerts, mine & alerts.c.state.in_(OPEN_STATES))).all():
            statement = (
                sa.update(alerts)
                .where(alerts.c.alert_id == row.alert_id, alerts.c.state.in_(OPEN_STATES))
                .values(state="resolved", resolved_at=now)
            )
            if connection.execute(statement).rowcount:
                queue(connection, dict(row._mapping), "resolved", channels, now)
                n_resolved += 1
        return n_resolved

    def acknowledge(
        self, alert_id: str, note: str | None, caller: Caller, channels: Sequence[str] = ()
    ) -> tuple[AlertRow, bool]:
        """Mark a firing alert as seen, and queue messages to `channels`; False when it was acknowledged before.

        Raises:
            NotFoundError: no alert has this id.
            FailedPreconditionError: it is resolved.
        """
        seen = {"by": caller.name, "at": self._clock.now().isoformat(), "note": note}
        with self._database.begin() as connection:
            row = connection.execute(_locked(alerts, alerts.c.alert_id == alert_id)).first()
            if row is None:
                recent = sa.select(alerts.c.alert_id).order_by(alerts.c.fired_at.desc()).limit(100)
                known = connection.execute(recent).scalars().all()
                raise NotFoundError("alert", alert_id, known, hint="list_alerts lists the alerts with their ids.")
            if row.state == "resolved":
                raise FailedPreconditionError(
                    f"Alert {alert_id} is resolved already.", hint="list_alerts with state=firing lists what is open."
                )
            if row.state == "acknowledged":
                return _alert(row), False
            mine = alerts.c.alert_id == alert_id
            connection.execute(sa.update(alerts).where(mine).values(state="acknowledged", acknowledgement=seen))
            seen_row = connection.execute(sa.select(alerts).where(mine)).one()
            queue(connection, dict(seen_row._mapping), "acknowledged", channels, self._clock.now())
            return _alert(seen_row), True

    def add_action(self, alert_id: str, action: Mapping[str, Any]) -> None:
        """Record what an alert started."""
        with self._database.begin() as connection:
            row = connection.execute(_locked(alerts, alerts.c.alert_id == alert_id)).first()
            if row is not None:
                taken = [*(row.actions or []), dict(action)]
                connection.execute(sa.update(alerts).where(alerts.c.alert_id == alert_id).values(actions=taken))

    def page(
        self, *, endpoint: str | None, state: str | None, limit: int, cursor: str | None
    ) -> tuple[list[AlertRow], str | None]:
        """Return one page of alerts, the newest first, and the next cursor."""
        statement = sa.select(alerts).order_by(alerts.c.fired_at.desc(), alerts.c.alert_id).limit(limit + 1)
        if endpoint is not None:
            statement = statement.where(alerts.c.endpoint == endpoint)
        if state is not None:
            statement = statement.where(alerts.c.state == state)
        if cursor is not None:
            fired_at, alert_id = _read_cursor(cursor)
            same = sa.and_(alerts.c.fired_at == fired_at, alerts.c.alert_id > alert_id)
            statement = statement.where(sa.or_(alerts.c.fired_at < fired_at, same))
        with self._database.read() as connection:
            found = [_alert(row) for row in connection.execute(statement)]
        more = len(found) > limit
        return found[:limit], cursor_of(found[limit - 1]) if more else None

    # Policies ------------------------------------------------------------------------------------------------------

    def save_policy(
        self, endpoint: str, policy: Mapping[str, Any], caller: Caller, *, replace: bool = True
    ) -> PolicyRow:
        """Write an endpoint's policy; what an older one has done stays known. `replace=False` keeps an older one."""
        mine = retraining_policies.c.endpoint == endpoint
        with self._database.begin() as connection:
            known = connection.execute(_locked(retraining_policies, mine)).first()
            row = {"policy": dict(policy), "created_at": self._clock.now(), "created_by": caller.name}
            if known is None:
                connection.execute(sa.insert(retraining_policies).values(endpoint=endpoint, state=None, **row))
            elif replace:
                connection.execute(sa.update(retraining_policies).where(mine).values(row))
            saved = connection.execute(sa.select(retraining_policies).where(mine)).one()
        return _policy(saved)

    def policies(self, endpoint: str | None = None) -> list[PolicyRow]:
        """Return the policy of one endpoint, if any, or all, by endpoint."""
        statement = sa.select(retraining_policies).order_by(retraining_policies.c.endpoint)
        if endpoint is not None:
            statement = statement.where(retraining_policies.c.endpoint == endpoint)
        with self._database.read() as connection:
            return [_policy(row) for row in connection.execute(statement)]

    def change_policy_state(self, endpoint: str, change: Change) -> _Document | None:
        """Replace a policy's state by what `change` makes of it, one caller at a time; None leaves it as it is."""
        return self._change(retraining_policies, retraining_policies.c.endpoint == endpoint, change)

    # Pauses --------------------------------------------------------------------------------------------------------

    def pause(self, endpoint: str, until: datetime, reason: str | None, caller: Caller) -> None:
        """Let an endpoint's monitoring rest until then; a time that is not ahead ends a pause."""
        mine = monitoring_pauses.c.endpoint == endpoint
        with self._database.begin() as connection:
            connection.execute(sa.delete(monitoring_pauses).where(mine))
            if until > self._clock.now():
                row = {"endpoint": endpoint, "until": until, "reason": reason, "created_by": caller.name}
                connection.execute(sa.insert(monitoring_pauses).values(row))

    def pauses(self, endpoint: str | None = None) -> list[PauseRow]:
        """Return the pauses that last, of one endpoint or all."""
        pauses = monitoring_pauses
        statement = sa.select(pauses.c.endpoint, pauses.c.until, pauses.c.reason).where(
            pauses.c.until > self._clock.now()
        )
        if endpoint is not None:
            statement = statement.where(pauses.c.endpoint == endpoint)
        with self._database.read() as connection:
            return [PauseRow(*row) for row in connection.execute(statement.order_by(pauses.c.endpoint))]

    def forget_endpoint(self, endpoint: str) -> list[str]:
        """Remove the rules, the policy and the pause of an endpoint that is gone; returns the names of the rules."""
        with self._database.begin() as connection:
            mine = alert_rules.c.endpoint == endpoint
            names = list(connection.execute(sa.select(alert_rules.c.name).where(mine)).scalars())
            for table in (alert_rules, retraining_policies, monitoring_pauses):
                connection.execute(sa.delete(table).where(table.c.endpoint == endpoint))
            connection.execute(
                sa.update(alerts)
                .where(alerts.c.endpoint == endpoint, alerts.c.state.in_(OPEN_STATES))
                .values(state="resolved", resolved_at=self._clock.now())
            )
        return names

    def _change(self, table: sa.Table, mine: sa.ColumnElement[bool], change: Change) -> _Document | None:
        with self._database.begin() as connection:
            row = connection.execute(_locked(table, mine)).first()
            state = None if row is None else change(dict(row.state or {}))
            if state is not None:
                connection.execute(sa.update(table).where(mine).values(state=state))
        return state


def _locked(table: sa.Table, mine: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(table).where(mine).with_for_update()


def _counted(mine: sa.ColumnElement[bool]) -> sa.Select[int, str | None]:
    """Select how many alerts there were and which is open: in one statement, so that both are of one moment."""
    is_open = sa.case((alerts.c.state.in_(OPEN_STATES), alerts.c.alert_id))
    return sa.select(sa.func.count(), sa.func.max(is_open)).where(mine)


def _rule(row: sa.Row[Any]) -> RuleRow:
    return RuleRow(row.name, row.endpoint, row.rule, row.state or {}, row.created_at, row.created_by)


def _policy(row: sa.Row[Any]) -> PolicyRow:
    return PolicyRow(row.endpoint, row.policy, row.state or {}, row.created_at, row.created_by)


def _alert(row: sa.Row[Any]) -> AlertRow:
    return AlertRow(**(dict(row._mapping) | {"actions": row.actions or []}))


def cursor_of(alert: AlertRow) -> str:
    """Return the cursor of the page that begins after `alert`."""
    return base64.urlsafe_b64encode(f"{alert.fired_at.isoformat()}|{alert.alert_id}".encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        fired_at, alert_id = base64.urlsafe_b64decode(cursor.encode()).decode().split("|")
        moment = datetime.fromisoformat(fired_at)
    except (ValueError, binascii.Error, UnicodeError):
        raise InvalidArgumentError("cursor is not one of ours.", hint="Pass next_cursor of the page before.") from None
    if moment.tzinfo is None:
        raise InvalidArgumentError("cursor is not one of ours.", hint="Pass next_cursor of the page before.")
    return moment, alert_id
