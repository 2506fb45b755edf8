"""What the monitoring services need of other parts, and the words they share: windows, durations, time."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import polars as pl

from mcp_server.errors import InvalidArgumentError, shown
from mcp_server.runtime.clock import Clock
from mcp_server.runtime.identity import Caller
from mcp_server.services.notifying import Notifier
from mcp_server.settings import MonitoringSettings, Role
from mcp_server.stores.alerts import AlertStore
from mcp_server.stores.audit import AuditLog
from mcp_server.stores.datasets import DatasetStore
from mcp_server.stores.models import ModelRegistry
from mcp_server.stores.reports import ReportStore

DEFAULT_ROWS = 10_000  # of the log, where no window is named
LONGEST_DURATION = timedelta(days=3650)
ANSWERED_ROUTES_LEFT_OUT = ("shadow", "mirror")  # scored beside the answer, so nobody was given them
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Predictions(Protocol):
    """The prediction log."""

    def frame(self, endpoint: str, since: datetime | None = None, last_n: int | None = None) -> pl.DataFrame:
        """Return logged rows with their outcomes and features, one column each."""
        ...

    def count_outcomes(self, endpoint: str, since: datetime | None = None) -> int:
        """Return how many outcomes were recorded after `since`."""
        ...


class Jobs(Protocol):
    """The queue of jobs."""

    def submit(self, kind: str, arguments: Mapping[str, Any], caller: Caller, job_id: str | None = None) -> str: ...
    def get(self, job_id: str) -> dict[str, Any]: ...
    def workers_alive(self) -> int: ...
    def save_schedule(self, name: str, cron: str, kind: str, arguments: Mapping[str, Any], caller: Caller) -> None: ...
    def list_schedules(self) -> list[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class MonitoringParts:
    """All that monitoring reaches.

    Attributes:
        live_model: gives the reference (`name@version`) of the model that answers on an endpoint; raises
            NotFoundError for an unknown endpoint.
        breaker_open: tells whether the live model's circuit breaker is open.
        rollback: `rollback_endpoint` of the deployment service.
        start_rollout: `start_rollout` of the deployment service.
        job_roles: the least role for each job tool.
    """

    datasets: DatasetStore
    models: ModelRegistry
    predictions: Predictions
    reports: ReportStore
    alerts: AlertStore
    notifier: Notifier
    audit: AuditLog
    jobs: Jobs
    clock: Clock
    settings: MonitoringSettings
    live_model: Callable[[str], str]
    breaker_open: Callable[[str], bool]
    rollback: Callable[..., Any]
    start_rollout: Callable[..., Any]
    job_roles: Mapping[str, Role]

    def window(self, endpoint: str, window: str | int | None) -> pl.DataFrame:
        """Return the logged predictions of a window; without one the last 10,000."""
        since, last_n = self.bounds(window)
        return self.predictions.frame(endpoint, since=since, last_n=last_n)

    def bounds(self, window: str | int | None) -> tuple[datetime | None, int | None]:
        """Return a window as the time it begins and a number of rows, one of them None."""
        if window is None:
            return None, DEFAULT_ROWS
        if isinstance(window, int) and not isinstance(window, bool):
            if window < 1:
                raise InvalidArgumentError("window must be at least 1 row.", hint="Give rows, or a duration like 7d.")
            return None, window
        return self.clock.now() - duration(str(window), "window"), None

    def worker_warnings(self) -> list[str]:
        """Return the sentence that a result which depends on a worker needs while none lives."""
        if self.jobs.workers_alive():
            return []
        return ["No worker lives: schedules, alert rules and retraining wait. Start one with `nba-mcp worker`."]


def duration(text: str, argument: str) -> timedelta:
    """Read `90s`, `15m`, `12h` or `7d`.

    Raises:
        InvalidArgumentError: it is none of these, or longer than ten years.
    """
    match = _DURATION.fullmatch(text)
    span = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match and len(match[1]) < 10 else None
    if span is None or span > LONGEST_DURATION:
        raise InvalidArgumentError(
            f"{argument} {shown(text)} is not a duration.", hint="Use 90s, 15m, 12h or 7d; at most 3650d."
        )
    return span


def answered(log: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that a caller was answered with: shadow and mirrored ones are not."""
    if "route" not in log.columns:
        return log
    return log.filter(~pl.col("route").is_in(ANSWERED_ROUTES_LEFT_OUT))
