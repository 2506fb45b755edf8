"""What a server sees of jobs: submit, watch, list and cancel them, and schedules that start them. Thread-safe."""

import asyncio
import base64
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.to_thread
import sqlalchemy.exc
from dbos import DBOSClient, EnqueueOptions, PortableWorkflowError, WorkflowStatus
from dbos import error as dbos_errors

from mcp_server.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
    from_document,
)
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.jobs.storage import make_client, prepare_job_database
from mcp_server.settings import Settings
from mcp_server.stores.job_records import JobRecords, ProgressRecord

SHORT_QUEUE, TRAINING_QUEUE, TRIAL_QUEUE = "jobs", "training", "trials"
SCHEDULED_JOB = "scheduled_job"

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.25
_PROGRESS_EVERY_S = 0.5
_STATES = {
    "ENQUEUED": "queued",
    "DELAYED": "queued",
    "PENDING": "running",
    "SUCCESS": "succeeded",
    "ERROR": "failed",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "failed",
    "CANCELLED": "cancelled",
}
_UNFINISHED = ("queued", "running")

JobDocument = dict[str, Any]
ReportProgress = Callable[[float, float | None, str | None], Awaitable[None]]


class JobQueue:
    """The queue of jobs, shared by all servers and workers of one database."""

    def __init__(
        self,
        settings: Settings,
        records: JobRecords,
        kinds: frozenset[str],
        findings: Callable[[str], dict[str, Any] | None] = lambda _job_id: None,
    ) -> None:
        """Open the queue.

        Args:
            findings: what a cancelled training had found: `message`, `hint` and `details` of its error.
        """
        prepare_job_database(settings)
        self._client: DBOSClient = make_client(settings)
        self._records = records
        self._kinds = kinds
        self._findings = findings
        self._dead_after_s = settings.worker.grace_s

    def close(self) -> None:
        """Close the connections."""
        self._client.destroy()

    def submit(self, kind: str, arguments: Mapping[str, Any], caller: Caller, job_id: str | None = None) -> str:
        """Put a job on its queue and return its id; the same `job_id` twice makes one job."""
        options: EnqueueOptions = {
            "workflow_name": kind,
            "queue_name": TRAINING_QUEUE if kind == "train_model" else SHORT_QUEUE,
            "workflow_id": job_id or uuid.uuid4().hex,
            "authenticated_user": caller.name,
            "authenticated_roles": [caller.role],
        }
        with _explained():
            return str(self._client.enqueue(options, dict(arguments), caller.to_document()).get_workflow_id())

    async def run(
        self,
        kind: str,
        arguments: Mapping[str, Any],
        *,
        caller: Caller,
        wait_seconds: float,
        report_progress: ReportProgress,
    ) -> JobDocument:
        """Submit a job, wait up to `wait_seconds` for its end, and return it as it is then.

        Raises:
            LifecycleError: it failed in that time; `details` carries the job's id.
        """
        job_id = await anyio.to_thread.run_sync(lambda: self.submit(kind, arguments, caller))
        job = await self.wait(job_id, wait_seconds, report_progress)
        if job["state"] in ("failed", "cancelled") and job["error"]:
            raise from_document(job["error"])
        return job

    async def wait(self, job_id: str, wait_seconds: float, report_progress: ReportProgress) -> JobDocument:
        """Return the job once it has ended, or after `wait_seconds`; tells its progress meanwhile."""
        started = asyncio.get_running_loop().time()
        pause_s, told_s, told = _FIRST_PAUSE_S, started, (0.0, "")
        while True:
            job = await anyio.to_thread.run_sync(self.get, job_id)
            now = asyncio.get_running_loop().time()
            if job["state"] not in _UNFINISHED or now - started >= wait_seconds:
                return job
            news = (job["progress"], job["message"])
            if news != told and now - told_s >= _PROGRESS_EVERY_S:
                await report_progress(job["progress"], 1.0, job["message"] or None)
                told_s, told = now, news
            await anyio.sleep(min(pause_s, max(0.0, started + wait_seconds - now)))
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def get(self, job_id: str) -> JobDocument:
        """Return one job.

        Raises:
            NotFoundError: there is no such job.
        """
        with _explained():
            found = self._client.list_workflows(workflow_ids=[job_id], load_input=False)
        if not found or found[0].name not in self._kinds:
            raise NotFoundError("job", job_id, hint="List jobs with list_jobs.")
        said = self._records.read_progress([job_id]).get(job_id)
        cancelled_training = found[0].name == "train_model" and str(found[0].status) == "CANCELLED"
        return _document(found[0], said, self._findings(job_id) if cancelled_training else None)

    def page(
        self, state: str | None = None, kind: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[JobDocument], str | None]:
        """Return one page of jobs, the newest first, without their results; and the next cursor."""
        offset = _offset(cursor)
        with _explained():
            found = self._client.list_workflows(
                name=[kind] if kind else sorted(self._kinds),
                status=[status for status, ours in _STATES.items() if ours == state] if state else None,
                has_parent=False,
                limit=limit + 1,
                offset=offset,
                sort_desc=True,
                load_input=False,
                load_output=False,
            )
        progress = self._records.read_progress([workflow.workflow_id for workflow in found])
        jobs = [_document(workflow, progress.get(workflow.workflow_id)) for workflow in found[:limit]]
        return jobs, _cursor(offset + limit) if len(found) > limit else None

    def count_by_state(self) -> dict[str, int]:
        """Return how many jobs are queued and running."""
        with _explained():
            found = self._client.list_workflows(
                name=sorted(self._kinds),
                status=["ENQUEUED", "DELAYED", "PENDING"],
                has_parent=False,
                load_input=False,
                load_output=False,
            )
        states = [_STATES[str(workflow.status)] for workflow in found]
        return {state: states.count(state) for state in _UNFINISHED}

    def cancel(self, job_id: str, caller: Caller) -> JobDocument:
        """Cancel a job and the trials it started; one that has ended is left as it is.

        Raises:
            PermissionDeniedError: a data scientist may cancel their own jobs only.
        """
        self.get(job_id)
        with _explained():
            owner = self._client.list_workflows(workflow_ids=[job_id], load_input=False)[0].authenticated_user
            if owner != caller.name and not caller.may("ml_engineer"):
                raise PermissionDeniedError(
                    f"Job {job_id} belongs to {owner!r}; a {caller.role} may cancel their own jobs.",
                    hint="Ask an ml_engineer to cancel it.",
                )
            self._client.cancel_workflow(job_id, cancel_children=True)
        return self.get(job_id)

    def is_cancelled(self, job_id: str) -> bool:
        """Return True once a job, or a trial of one, was cancelled."""
        with _explained():
            found = self._client.list_workflows(workflow_ids=[job_id], load_input=False, load_output=False)
        return bool(found) and str(found[0].status) == "CANCELLED"

    def workers_alive(self) -> int:
        """Return how many workers have shown life recently, by the wall clock (for messages, not for leases)."""
        now = datetime.now(UTC)
        return sum((now - worker.seen_at).total_seconds() < self._dead_after_s for worker in self._records.workers())

    def save_schedule(self, name: str, cron: str, kind: str, arguments: Mapping[str, Any], caller: Caller) -> None:
        """Start a job of `kind` whenever `cron` (five or six fields, UTC) says so; replaces one of the same name."""
        if kind not in self._kinds:
            raise InvalidArgumentError(f"{kind} is not a job tool.", hint=f"One of {', '.join(sorted(self._kinds))}.")
        context = {"kind": kind, "arguments": dict(arguments), "caller": caller.to_document(), "cron": cron}
        with _explained():
            known = self._client.get_schedule(name)
            if known is not None and known["workflow_name"] != SCHEDULED_JOB:
                raise InvalidArgumentError(f"{name} is a schedule of the product.", hint="Choose another name.")
            if known is not None:
                self._client.delete_schedule(name)
            self._client.create_schedule(
                schedule_name=name,
                workflow_name=SCHEDULED_JOB,
                schedule=cron,
                context=context,
                queue_name=SHORT_QUEUE,
            )

    def list_schedules(self) -> list[dict[str, Any]]:
        """Return the schedules that callers saved: name, cron, kind, arguments, caller, last_fired_at."""
        with _explained():
            found = self._client.list_schedules()
        return [
            {"name": schedule["schedule_name"], "last_fired_at": schedule["last_fired_at"], **schedule["context"]}
            for schedule in found
            if schedule["workflow_name"] == SCHEDULED_JOB
        ]

    def delete_schedule(self, name: str) -> bool:
        """Remove a schedule; False when there was none."""
        with _explained():
            found = self._client.get_schedule(name) is not None
            self._client.delete_schedule(name)
        return found


def _document(
    workflow: WorkflowStatus, said: ProgressRecord | None, findings: Mapping[str, Any] | None = None
) -> JobDocument:
    state = _STATES[str(workflow.status)]
    ended = state not in _UNFINISHED
    result = workflow.output if state == "succeeded" else None
    error = _error(workflow) if state in ("failed", "cancelled") else None
    if error is not None and findings is not None:
        error = {**error, **findings}
    if error is not None:  # the call that waits for a job and get_job show the same object
        error = {**error, "details": {**error.get("details", {}), "job_id": workflow.workflow_id}}
    progress = 1.0 if state == "succeeded" else (said.progress if said else 0.0)
    message = said.message if said and not ended else ""
    return {
        "summary": _summary(workflow.name, state, progress, message, result, error),
        "job_id": workflow.workflow_id,
        "kind": workflow.name,
        "state": state,
        "progress": round(progress, 4),
        "message": message,
        "result": result,
        "error": error,
        "created_at": _time(workflow.created_at),
        "started_at": _time(workflow.dequeued_at),
        "finished_at": _time(workflow.completed_at) if ended else None,
    }


def _summary(kind: str, state: str, progress: float, message: str, result: Any, error: Mapping[str, Any] | None) -> str:
    if isinstance(result, dict) and "summary" in result:
        return str(result["summary"])
    if error:
        return f"{kind} {state}: {error['message']}"
    return f"{kind} is {state}" + (f", {progress:.0%}: {message}." if message else ".")


def _error(workflow: WorkflowStatus) -> dict[str, Any] | None:
    if str(workflow.status) == "CANCELLED":
        hint = "Call the tool again to start anew."
        return {"code": "cancelled", "message": "The job was cancelled.", "hint": hint, "details": {}}
    failure = workflow.error
    data = failure.data if isinstance(failure, PortableWorkflowError) else None
    if isinstance(data, dict) and "code" in data:
        return data
    text = "The job was given up after its worker died too often." if failure is None else str(failure)[:300]
    return {"code": "internal", "message": text, "hint": "The worker's log explains it.", "details": {}}


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


def _cursor(offset: int) -> str:
    return base64.urlsafe_b64encode(str(offset).encode()).decode()


def _offset(cursor: str | None) -> int:
    try:
        return 0 if cursor is None else int(base64.urlsafe_b64decode(cursor.encode()))
    except ValueError:
        raise InvalidArgumentError("cursor is not one of ours.", hint="Pass next_cursor of the page before.") from None


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.TimeoutError) as refusal:
        raise UnavailableError("The job database does not answer.", hint="Try again; see check_health.") from refusal
    except dbos_errors.DBOSException as refusal:
        raise InvalidArgumentError(f"The job queue refused: {refusal}"[:300]) from refusal
