"""The process that runs jobs: it shows signs of life, and takes over the jobs of workers that died."""

import os
import socket
import threading
import uuid
from collections.abc import Mapping
from typing import Any

import psutil
import structlog
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer

from mcp_server import __version__
from mcp_server.errors import LifecycleError
from mcp_server.runtime.clock import Clock
from mcp_server.runtime.jobs.queue import SHORT_QUEUE, TRAINING_QUEUE, TRIAL_QUEUE
from mcp_server.runtime.jobs.storage import (
    APPLICATION,
    APPLICATION_VERSION,
    SCHEMA,
    job_database_url,
    make_client,
    prepare_job_database,
)
from mcp_server.runtime.jobs.workflows import TRIAL, JobWorkflows
from mcp_server.settings import Settings
from mcp_server.stores.job_records import JobRecords, WorkerRecord

logger = structlog.get_logger(__name__)

_SHORT_JOBS_AT_ONCE = 4
_LONE_POLL_S = 0.5
_MAX_RECOVERIES = 5  # a job that kills its worker every time is given up
_MONITORING_SCHEDULE = "evaluate-monitoring"


class Worker:
    """One worker. Made in the worker process only: DBOS is one per process."""

    def __init__(self, settings: Settings, records: JobRecords, clock: Clock) -> None:
        self._settings = settings
        self._records = records
        self._clock = clock
        self.worker_id = f"{socket.gethostname()[:40]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._watched: dict[str, tuple[int, float]] = {}
        prepare_job_database(settings)
        self._client: DBOSClient = make_client(settings)
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": job_database_url(settings),
                "dbos_system_schema": SCHEMA,
                "serializer": DBOSPortableJSONSerializer(),
                "application_version": APPLICATION_VERSION,
                "executor_id": self.worker_id,
                "log_level": "WARNING",
                "console_log_level": "WARNING",
                "notification_listener_polling_interval_sec": 0.1,
                "scheduler_polling_interval_sec": 2.0,
                "enable_otlp": False,
            }
        )

    def run(self, workflows: JobWorkflows, stop: threading.Event) -> None:
        """Run jobs until `stop` is set, or until another worker has declared this one dead."""
        self._records.register_worker(self.worker_id, socket.gethostname(), os.getpid(), __version__)
        DBOS.launch()
        self._register_queues()
        self._schedule_monitoring(workflows)
        logger.info("worker_started", worker_id=self.worker_id)
        self._recover_neighbours()
        while not stop.wait(self._settings.worker.heartbeat_s):
            try:
                if not self._records.beat(self.worker_id):
                    logger.error("worker_declared_dead", worker_id=self.worker_id)
                    break
                self._recover_neighbours()
                self._recover_silent()
            except LifecycleError as failure:  # the database is away: go on, and beat again when it is back
                logger.warning("heartbeat_failed", code=failure.code, message=failure.message)
        DBOS.destroy(workflow_completion_timeout_sec=0)
        self._hand_over_own_jobs()

    def _register_queues(self) -> None:
        worker = self._settings.worker
        lone = self._settings.is_sqlite  # its trials do not go through the queue, but for those of a dead one
        for queue, at_once in (
            (SHORT_QUEUE, _SHORT_JOBS_AT_ONCE),
            (TRAINING_QUEUE, worker.concurrency),
            (TRIAL_QUEUE, worker.trial_concurrency),
        ):
            DBOS.register_queue(
                queue,
                worker_concurrency=at_once,
                polling_interval_sec=_LONE_POLL_S if queue == TRIAL_QUEUE and lone else worker.queue_poll_s,
                on_conflict="always_update",
            )

    def _schedule_monitoring(self, workflows: JobWorkflows) -> None:
        seconds = int(self._settings.monitoring.evaluation_s)
        cron = f"*/{seconds} * * * * *" if 1 <= seconds < 60 else f"0 */{min(59, max(1, seconds // 60))} * * * *"
        DBOS.apply_schedules(
            [
                {
                    "schedule_name": _MONITORING_SCHEDULE,
                    "workflow_fn": workflows.monitoring_workflow,
                    "schedule": cron,
                    "queue_name": SHORT_QUEUE,
                }
            ]
        )

    def _recover_neighbours(self) -> None:
        """Take over at once from workers of this machine whose process is gone."""
        for worker in self._others():
            if worker.host == socket.gethostname() and not _is_running(worker):
                self._records.remove_worker(worker.worker_id, self._hand_over)

    def _recover_silent(self) -> None:
        """Take over from workers whose beat has not moved for the grace time, by our own monotonic clock."""
        now = self._clock.monotonic()
        for worker in self._others():
            beat, since = self._watched.get(worker.worker_id, (-1, now))
            if beat != worker.beat:
                self._watched[worker.worker_id] = (worker.beat, now)
            elif now - since > self._settings.worker.grace_s:
                logger.warning("worker_is_dead", worker_id=worker.worker_id)
                self._records.remove_worker(worker.worker_id, self._hand_over)
                self._watched.pop(worker.worker_id, None)

    def _others(self) -> list[WorkerRecord]:
        return [worker for worker in self._records.workers() if worker.worker_id != self.worker_id]

    def _hand_over_own_jobs(self) -> None:
        try:
            self._records.remove_worker(self.worker_id, self._hand_over)
        except LifecycleError as failure:  # the next worker finds our process gone and does the same
            logger.warning("hand_over_failed", code=failure.code, message=failure.message)
        self._client.destroy()

    def _hand_over(self, worker_id: str) -> None:
        """Put the unfinished workflows of a dead worker back on their queues."""
        for workflow in self._client.list_workflows(status="PENDING", executor_id=worker_id, load_output=False):
            attributes: Mapping[str, Any] = workflow.attributes or {}
            recoveries = int(attributes.get("recoveries", 0)) + 1
            if recoveries > _MAX_RECOVERIES:
                logger.error("job_given_up", job_id=workflow.workflow_id, recoveries=recoveries)
                self._client.cancel_workflow(workflow.workflow_id, cancel_children=True)
                continue
            self._client.update_workflow_attributes(workflow.workflow_id, {"recoveries": recoveries}, merge=True)
            queue = TRIAL_QUEUE if workflow.name == TRIAL else workflow.queue_name  # a trial was perhaps never queued
            self._client.resume_workflow(workflow.workflow_id, queue_name=queue)
            logger.info("job_recovered", job_id=workflow.workflow_id, kind=workflow.name)


def _is_running(worker: WorkerRecord) -> bool:
    """Return True while the process that entered this record runs; a reused process id is told by its start."""
    try:
        process = psutil.Process(worker.process_id)
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and bool(process.create_time() <= worker.started_at.timestamp() + 1)
    except psutil.NoSuchProcess:
        return False
