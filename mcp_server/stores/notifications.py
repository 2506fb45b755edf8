"""Messages that wait to be sent: written in the transaction that changed an alert, so that none is lost or made twice.

A message's id follows from the alert, the state and the channel. Whoever sends takes it for a while; one that died
with it is followed by another when that time is over.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from mcp_server.runtime.clock import Clock
from mcp_server.stores.database import Database
from mcp_server.stores.schema import notifications

_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class NotificationRow:
    """One message to one channel.

    Attributes:
        state: of the alert, which it tells.
        document: what is told.
        due_at: not to be sent before.
        attempts: how often it was taken to be sent.
        ended_at: when it was delivered or given up; None while it waits.
        error: why the last attempt failed; None where none did.
    """

    notification_id: str
    alert_id: str
    state: str
    channel: str
    document: dict[str, Any]
    queued_at: datetime
    due_at: datetime
    attempts: int
    ended_at: datetime | None
    delivered: bool
    error: str | None


def queue(
    connection: sa.Connection, alert: Mapping[str, Any], state: str, channels: Iterable[str], now: datetime
) -> None:
    """Write a message to each of `channels`, as part of the transaction that brought `alert` to `state`."""
    for channel in dict.fromkeys(channels):
        key = f"{alert['alert_id']}/{state}/{channel}"
        told = {
            "alert_id": alert["alert_id"],
            "rule": alert["rule"],
            "endpoint": alert["endpoint"],
            "severity": alert["severity"],
            "state": state,
            "value": alert["value"],
            "message": alert["message"],
            "fired_at": alert["fired_at"].isoformat(),
        }
        connection.execute(
            sa.insert(notifications).values(
                notification_id=hashlib.sha256(key.encode()).hexdigest()[:24],
                alert_id=alert["alert_id"],
                state=state,
                channel=channel,
                document={"type": f"alert.{state}", "timestamp": now.isoformat(), "data": told},
                queued_at=now,
                due_at=now,
                attempts=0,
                delivered=False,
            )
        )


class NotificationStore:
    """Hands out what is due. Thread-safe, and safe between processes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def take_due(self, lease: timedelta) -> list[NotificationRow]:
        """Return messages to send now; nobody else gets them before `lease` is over.

        Of one alert and channel they come in the order of its states: a message waits while an older one does.
        """
        now = self._clock.now()
        older = notifications.alias("older")
        waits = sa.exists().where(
            older.c.alert_id == notifications.c.alert_id,
            older.c.channel == notifications.c.channel,
            older.c.queued_at < notifications.c.queued_at,
            older.c.ended_at.is_(None),
        )
        due = (
            sa.select(notifications)
            .where(notifications.c.ended_at.is_(None), notifications.c.due_at <= now, ~waits)
            .order_by(notifications.c.due_at)
            .limit(_AT_ONCE)
        )
        with self._database.read() as connection:
            found = [NotificationRow(*row) for row in connection.execute(due)]
        return [row for row in found if self._take(row, now + lease)]

    def _take(self, row: NotificationRow, until: datetime) -> bool:
        mine = (notifications.c.notification_id == row.notification_id) & (notifications.c.attempts == row.attempts)
        statement = (
            sa.update(notifications)
            .where(mine, notifications.c.ended_at.is_(None))
            .values(due_at=until, attempts=row.attempts + 1)
        )
        with self._database.begin() as connection:
            return bool(connection.execute(statement).rowcount)

    def end(self, notification_id: str, *, error: str | None = None) -> None:
        """Mark a message as delivered, or as given up for `error`."""
        self._write(notification_id, ended_at=self._clock.now(), delivered=error is None, error=error)

    def postpone(self, notification_id: str, *, error: str, by: timedelta) -> None:
        """Let a message that could not be sent wait."""
        self._write(notification_id, due_at=self._clock.now() + by, error=error)

    def _write(self, notification_id: str, **values: Any) -> None:
        mine = notifications.c.notification_id == notification_id
        with self._database.begin() as connection:
            connection.execute(sa.update(notifications).where(mine).values(values))

    def of_alerts(self, alert_ids: Sequence[str]) -> dict[str, list[NotificationRow]]:
        """Return the messages of alerts, by alert, in the order in which they were queued."""
        statement = (
            sa.select(notifications)
            .where(notifications.c.alert_id.in_(alert_ids))
            .order_by(notifications.c.queued_at, notifications.c.channel)
        )
        found: dict[str, list[NotificationRow]] = {}
        with self._database.read() as connection:
            for row in connection.execute(statement):
                found.setdefault(row.alert_id, []).append(NotificationRow(*row))
        return found
