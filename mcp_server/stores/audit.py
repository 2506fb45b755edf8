"""Who changed what, when, and how it ended: one row an event, never changed."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mcp_server.errors import InvalidArgumentError, LifecycleError
from mcp_server.runtime.clock import Clock
from mcp_server.runtime.identity import Caller
from mcp_server.stores.database import Database
from mcp_server.stores.schema import audit_events

_SECRET_WORDS = ("password", "secret", "token", "api_key", "apikey", "credential", "authorization")
# Of an address: who asks, with the password, and of https the values of its query, which often are keys and signatures
_USER_INFO = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY_VALUE = re.compile(r"(?<==)[^&#]+")
_LONGEST_TEXT = 500
_LONGEST_LIST = 20
_DEEPEST = 6


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One event."""

    sequence: int
    event_id: str
    time: datetime
    actor: str
    role: str
    tool: str
    arguments: dict[str, Any]
    outcome: str
    message: str


class AuditLog:
    """Appends and reads events. Thread-safe."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def record(
        self, *, caller: Caller, tool: str, arguments: Mapping[str, Any], error: LifecycleError | None = None
    ) -> None:
        """Append one event: secrets masked, long values cut."""
        row = {
            "event_id": uuid.uuid4().hex,
            "time": self._clock.now(),
            "actor": caller.name,
            "role": caller.role,
            "tool": tool,
            "arguments": masked(dict(arguments)),
            "outcome": "ok" if error is None else error.code,
            "message": "" if error is None else error.message[:_LONGEST_TEXT],
        }
        with self._database.begin() as connection:
            connection.execute(sa.insert(audit_events).values(row))

    def page(
        self, *, actor: str | None, tool: str | None, since: datetime | None, limit: int, cursor: str | None
    ) -> tuple[list[AuditEvent], str | None]:
        """Return one page of events, the newest first, and the next cursor."""
        statement = sa.select(audit_events).order_by(audit_events.c.sequence.desc()).limit(limit + 1)
        if actor is not None:
            statement = statement.where(audit_events.c.actor == actor)
        if tool is not None:
            statement = statement.where(audit_events.c.tool == tool)
        if since is not None:
            statement = statement.where(audit_events.c.time >= since)
        if cursor is not None:
            if not cursor.isdigit():
                raise InvalidArgumentError("cursor is not one of ours.", hint="Pass next_cursor of the page before.")
            statement = statement.where(audit_events.c.sequence < int(cursor))
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        events = [AuditEvent(**row._mapping) for row in rows[:limit]]
        return events, str(events[-1].sequence) if len(rows) > limit else None


def masked(value: Any, depth: int = 0) -> Any:
    """Return `value` fit for a log: secrets masked by their name, long text and lists cut."""
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {
            str(name)[:100]: "***" if _is_secret(str(name)) else masked(inner, depth + 1)
            for name, inner in list(value.items())[:100]
        }
    if isinstance(value, list | tuple):
        kept = [masked(item, depth + 1) for item in value[:_LONGEST_LIST]]
        return kept if len(value) <= _LONGEST_LIST else [*kept, f"… {len(value) - _LONGEST_LIST} more"]
    if isinstance(value, str):
        text = _without_secrets(value)
        return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"
    if isinstance(value, float) and value != value:
        return "NaN"
    return value if value is None or isinstance(value, bool | int | float) else str(value)[:_LONGEST_TEXT]


def _without_secrets(text: str) -> str:
    plain = _USER_INFO.sub("***@", text)
    if not plain.lower().startswith(("http://", "https://")):
        return plain
    address, mark, query = plain.partition("?")
    return address + mark + _QUERY_VALUE.sub("***", query)


def _is_secret(name: str) -> bool:
    plain = name.lower().replace("-", "_")
    return any(word in plain for word in _SECRET_WORDS)
