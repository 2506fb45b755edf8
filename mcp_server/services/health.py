"""Health and operations: what the probes found, how busy the server is, what runs, and who did what."""

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import psutil

from mcp_server import __version__
from mcp_server.results.health import (
    AuditItem,
    AuditPage,
    CacheFigures,
    ComponentHealth,
    DashboardLink,
    HealthReport,
    Identity,
    JobFigures,
    JobItem,
    JobPage,
    PoolFigures,
    ServerStats,
    ToolFigureRecord,
)
from mcp_server.results.wording import counted
from mcp_server.runtime.clock import Clock
from mcp_server.runtime.figures import ToolFigure
from mcp_server.runtime.health import HealthChecker, worst
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.jobs.queue import JobQueue
from mcp_server.services.paging import fitting
from mcp_server.settings import Role
from mcp_server.stores.audit import AuditLog
from mcp_server.stores.database import Database

_MOST_JOBS = 40  # as many as an answer has room for


class HealthService:
    """Reads the probes, the figures, the queue and the audit. Thread-safe."""

    def __init__(
        self,
        *,
        checker: HealthChecker,
        database: Database,
        jobs: JobQueue,
        audit: AuditLog,
        clock: Clock,
        caches: Callable[[], list[CacheFigures]],
        roles_by_tool: dict[str, Role],
    ) -> None:
        self._checker = checker
        self._database = database
        self._jobs = jobs
        self._audit = audit
        self._clock = clock
        self._caches = caches
        self._roles_by_tool = roles_by_tool
        self._started_s = time.monotonic()

    def check_health(self, components: Iterable[str] | None = None) -> HealthReport:
        """Probe the components named, all by default; the whole is as bad as its worst."""
        probed = self._checker.check(components)
        found = [
            ComponentHealth(
                name=result.name,
                status=result.finding.status,
                latency_ms=result.latency_ms,
                message=result.finding.message,
                details=result.finding.details,
            )
            for result in probed
        ]
        status = worst(component.status for component in found)
        return HealthReport(
            summary=_health_sentence(status, found),
            status=status,
            components=found,
            checked_at=self._clock.now(),
            version=__version__,
        )

    def get_server_stats(self, figures: list[ToolFigure]) -> ServerStats:
        """Return calls and latencies by tool, caches, the pool, the queue, and memory in bytes."""
        counts = self._jobs.count_by_state()
        uptime_s = time.monotonic() - self._started_s
        calls, errors = sum(figure.calls for figure in figures), sum(figure.errors for figure in figures)
        return ServerStats(
            summary=f"Up {uptime_s:.0f} s: {calls} calls, {errors} errors; "
            f"{counts['running']} jobs running, {counts['queued']} queued.",
            uptime_seconds=round(uptime_s, 3),
            tools=[ToolFigureRecord(**_fields(figure)) for figure in figures],
            caches=self._caches(),
            pool=PoolFigures(**self._database.pool_figures()),
            jobs=JobFigures(**counts, workers=self._jobs.workers_alive()),
            memory_bytes=psutil.Process().memory_info().rss,
        )

    def list_jobs(self, state: str | None, kind: str | None, limit: int, cursor: str | None) -> JobPage:
        """Return one page of jobs, the newest first."""
        jobs, next_cursor = self._jobs.page(state=state, kind=kind, limit=min(limit, _MOST_JOBS), cursor=cursor)
        kept = ("job_id", "kind", "state", "progress", "message", "created_at", "started_at", "finished_at")
        items = [JobItem.model_validate({name: job[name] for name in kept}) for job in jobs]
        alive = self._jobs.workers_alive()
        note = "" if alive or not any(item.state == "queued" for item in items) else " No worker lives to run them."
        return JobPage(summary=f"{counted(len(items), 'job')}.{note}", items=items, next_cursor=next_cursor)

    def list_audit_events(
        self, actor: str | None, tool: str | None, since: datetime | None, limit: int, cursor: str | None
    ) -> AuditPage:
        """Return one page of the audit, the newest first."""
        events, next_cursor = self._audit.page(actor=actor, tool=tool, since=since, limit=limit, cursor=cursor)
        items = fitting(
            [
                AuditItem(
                    sequence=event.sequence,
                    time=event.time,
                    actor=event.actor,
                    role=event.role,
                    tool=event.tool,
                    arguments=event.arguments,
                    outcome=event.outcome,
                    message=event.message,
                )
                for event in events
            ]
        )
        if len(items) < len(events):
            next_cursor = str(items[-1].sequence)
        return AuditPage(summary=f"{counted(len(items), 'event')}.", items=items, next_cursor=next_cursor)

    def get_identity(self, caller: Caller) -> Identity:
        """Return who calls, and the tools that their role may call."""
        allowed = sorted(tool for tool, role in self._roles_by_tool.items() if caller.may(role))
        return Identity(
            summary=f"{caller.name} has the role {caller.role} and may call {len(allowed)} tools.",
            name=caller.name,
            role=caller.role,
            permissions=allowed,
        )

    def show_dashboard(self, view: str | None) -> DashboardLink:
        """Return the health; the page itself is not part of this version."""
        health = self.check_health()
        return DashboardLink(
            summary=f"There is no dashboard page yet; {health.summary}", url=None, status=health.status
        )


def _fields(figure: ToolFigure) -> dict[str, Any]:
    return {name: getattr(figure, name) for name in ToolFigure.__slots__}


def _health_sentence(status: str, components: list[ComponentHealth]) -> str:
    bad = [component for component in components if component.status != "healthy"]
    if not bad:
        return f"All {len(components)} components are healthy."
    named = "; ".join(f"{component.name} is {component.status}: {component.message}" for component in bad[:3])
    return f"The server is {status}: {named}"
