"""What a worker runs: one durable workflow a kind of job.

Most jobs are one step. Training is many: its plan, each round of trials asked for, and its finish are steps of the
parent, and each trial is a child workflow on a queue of its own, so that any worker takes it and a killed worker
costs only the trials it was in. A step that was recorded is never run again. A worker that is alone starts the trials
itself, which saves the queue's hand-over; a trial is one step and so needs no record but its own end.
"""

import hashlib
import math
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import structlog
from dbos import DBOS, PortableWorkflowError, SetWorkflowID

from mcp_server.errors import CancelledError, InternalError, LifecycleError
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.jobs.inline import takes
from mcp_server.runtime.jobs.queue import SCHEDULED_JOB, TRIAL_QUEUE, JobQueue
from mcp_server.runtime.search_progress import search_progress
from mcp_server.stores.job_records import JobRecords

logger = structlog.get_logger(__name__)

TRAINING = "train_model"
TRIAL = "run_trial"
_WRITE_EVERY_S = 0.25
_ASK_EVERY_S = 0.5
_TRIAL_POLL_S = 0.05
_LOOK_FOR_WORKERS_S = 1.0

JobMethod = Callable[..., Any]


class TrainingSteps(Protocol):
    """The parts of a training, in the order in which they run. All values are plain JSON; all may run twice."""

    def plan_training(self, *, caller: Caller, job_id: str, **arguments: Any) -> dict[str, Any]:
        """Check everything and return the plan; `n_rounds` says how many rounds of trials it has at most."""
        ...

    def ask_trials(self, plan: dict[str, Any], round_index: int, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the trials of one round, each with its `number`; empty ends the search."""
        ...

    def run_trial(self, plan: dict[str, Any], trial: dict[str, Any], cancelled: Callable[[], bool]) -> dict[str, Any]:
        """Fit and score one trial."""
        ...

    def record_trial(self, plan: dict[str, Any], result: dict[str, Any]) -> None:
        """Keep what `run_trial` returned for those who ask before the search has ended."""
        ...

    def finish_training(
        self, *, caller: Caller, job_id: str, plan: dict[str, Any], history: list[dict[str, Any]], progress: Any
    ) -> Any:
        """Refit the winner, score it on the held-out part, register it, and return the result."""
        ...


class JobProgress:
    """Writes a job's progress, and hears that it was cancelled."""

    def __init__(self, job_id: str, queue: JobQueue, records: JobRecords) -> None:
        self._job_id = job_id
        self._queue = queue
        self._records = records
        self._written_s = 0.0
        self._asked_s = time.monotonic()
        self._is_cancelled = False

    def __call__(self, fraction: float, message: str = "") -> None:
        now = time.monotonic()
        if now - self._written_s >= _WRITE_EVERY_S or fraction >= 1:
            self._records.write_progress(self._job_id, min(1.0, max(0.0, fraction)), message)
            self._written_s = now
        if self.cancelled():
            raise CancelledError("The job was cancelled.")

    def cancelled(self) -> bool:
        now = time.monotonic()
        if not self._is_cancelled and now - self._asked_s >= _ASK_EVERY_S:
            self._asked_s = now
            self._is_cancelled = self._queue.is_cancelled(self._job_id)
        return self._is_cancelled


class JobWorkflows:
    """Registers the workflows with DBOS; made once in a worker, before DBOS is launched."""

    def __init__(
        self,
        methods: Mapping[str, JobMethod],
        training: TrainingSteps,
        evaluate_monitoring: Callable[[], Any],
        queue: JobQueue,
        records: JobRecords,
        is_paused: Callable[[str], bool] = lambda _endpoint: False,
        trials_at_once: int = 2,
    ) -> None:
        """Register them.

        Args:
            trials_at_once: trials that this worker runs at a time, of all its jobs.
            is_paused: tells whether an endpoint's schedules rest.
        """
        self._methods = methods
        self._training = training
        self._evaluate_monitoring = evaluate_monitoring
        self._queue = queue
        self._records = records
        self._is_paused = is_paused
        self._slots = threading.BoundedSemaphore(trials_at_once)
        self._alone_s: tuple[float, bool] = (-math.inf, False)
        for kind in methods:
            _register(kind, self._one_step_workflow(kind))
        _register(TRAINING, self._train)
        self._trial_workflow = _register(TRIAL, self._run_trial)
        _register(SCHEDULED_JOB, self._scheduled_job)
        self.monitoring_workflow = _register("evaluate_monitoring", self._scheduled_monitoring)

    def _one_step_workflow(self, kind: str) -> Callable[[dict[str, Any], dict[str, Any]], Any]:
        method = self._methods[kind]

        def workflow(arguments: dict[str, Any], caller: dict[str, Any]) -> Any:
            job_id = str(DBOS.workflow_id)
            progress = JobProgress(job_id, self._queue, self._records)
            call: dict[str, Any] = {**arguments, "progress": progress}
            if takes(method, "caller"):
                call["caller"] = Caller.from_document(caller)
            return _step(kind, lambda: method(**call))

        return workflow

    def _train(self, arguments: dict[str, Any], caller: dict[str, Any]) -> Any:
        job_id, who = str(DBOS.workflow_id), Caller.from_document(caller)
        progress = JobProgress(job_id, self._queue, self._records)
        training = self._training
        plan = _step("plan", lambda: training.plan_training(caller=who, job_id=job_id, **arguments))
        history: list[dict[str, Any]] = []
        for round_index in range(plan["n_rounds"]):
            trials = _step("ask", partial(training.ask_trials, plan, round_index, history))
            if not trials:
                break
            history = self._run_trials(job_id, plan, trials, history, progress)
        return _step(
            "finish",
            lambda: training.finish_training(caller=who, job_id=job_id, plan=plan, history=history, progress=progress),
        )

    def _run_trials(
        self,
        job_id: str,
        plan: dict[str, Any],
        trials: list[dict[str, Any]],
        history: list[dict[str, Any]],
        progress: JobProgress,
    ) -> list[dict[str, Any]]:
        """Return the history with a round of trials added; what is known already is not run again."""
        handles: list[Any] = []
        given = {name: plan[name] for name in plan if name != "found_before"}
        for trial in trials:
            if "known" in trial:
                handles.append(None)
                continue
            with SetWorkflowID(f"{job_id}-trial-{trial['number']}"):
                if self._is_alone():
                    handles.append(DBOS.start_workflow(self._trial_workflow, given, trial))
                else:
                    handles.append(DBOS.enqueue_workflow(TRIAL_QUEUE, self._trial_workflow, given, trial))
        for trial, handle in zip(trials, handles, strict=True):
            known = handle is None
            result = trial["known"] if known else handle.get_result(polling_interval_sec=_TRIAL_POLL_S)
            history = [*history, result]
            progress(*search_progress(plan, history, time.time()))
        return history

    def _run_trial(self, plan: dict[str, Any], trial: dict[str, Any]) -> Any:
        progress = JobProgress(str(DBOS.workflow_id), self._queue, self._records)

        def work() -> Any:
            while not self._slots.acquire(timeout=_ASK_EVERY_S):
                if progress.cancelled():
                    raise CancelledError("The job was cancelled.")
            try:
                result = self._training.run_trial(plan, trial, progress.cancelled)
            finally:
                self._slots.release()  # the next trial fits while this one is recorded
            self._training.record_trial(plan, result)
            return result

        return _opened(_enveloped(TRIAL, work))

    def _is_alone(self) -> bool:
        """Return True while no other worker could take a trial from the queue."""
        looked_s, alone = self._alone_s
        if time.monotonic() - looked_s >= _LOOK_FOR_WORKERS_S:
            alone = len(self._records.workers()) <= 1
            self._alone_s = (time.monotonic(), alone)
        return alone

    def _scheduled_job(self, _due_at: Any, context: dict[str, Any]) -> str:
        """Submit what a schedule names; the id makes a run that is repeated after a crash the same job."""
        endpoint = context["arguments"].get("endpoint")
        if endpoint is not None and _step("is_paused", lambda: self._is_paused(endpoint)):
            return ""
        caller = Caller.from_document(context["caller"])
        job_id = f"scheduled-{hashlib.sha256(str(DBOS.workflow_id).encode()).hexdigest()[:24]}"
        return str(_step("submit", lambda: self._queue.submit(context["kind"], context["arguments"], caller, job_id)))

    def _scheduled_monitoring(self, _due_at: Any, _context: Any) -> None:
        _step("evaluate", self._evaluate_monitoring)


def _register(name: str, work: JobMethod) -> JobMethod:
    """Register `work` with DBOS, which marks the function it is given: a method cannot be marked."""

    def workflow(*arguments: Any) -> Any:
        return work(*arguments)

    workflow.__qualname__ = workflow.__name__ = name
    registered: JobMethod = DBOS.workflow(name=name)(workflow)
    return registered


def _step(name: str, work: Callable[[], Any]) -> Any:
    """Run `work` as a recorded step. An expected failure is recorded too, and raised in the workflow as JSON."""
    return _opened(DBOS.run_step({"name": name}, lambda: _enveloped(name, work)))


def _opened(envelope: dict[str, Any]) -> Any:
    if "error" in envelope:
        error = envelope["error"]
        raise PortableWorkflowError(message=error["message"], name=error["code"], code=error["code"], data=error)
    return envelope["value"]


def _enveloped(name: str, work: Callable[[], Any]) -> dict[str, Any]:
    try:
        value = work()
        return {"value": value.model_dump(mode="json") if hasattr(value, "model_dump") else value}
    except LifecycleError as refusal:
        return {"error": refusal.to_document()}
    except Exception as failure:  # noqa: BLE001  # why: a job that fails by a bug ends as failed, with an id for the log
        error_id = uuid.uuid4().hex[:12]
        logger.error("job_failed", step=name, error_id=error_id, trace=traceback.format_exception(failure))
        bug = InternalError(
            f"{name} failed because of a bug, recorded as {error_id}.",
            hint="The worker's log explains it under this id.",
            details={"error_id": error_id},
        )
        return {"error": bug.to_document()}
