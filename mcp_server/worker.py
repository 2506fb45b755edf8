"""The worker's own composition root: an app, DBOS around it, and one lock that makes it the only one of its folder."""

import os
import signal
import sys
import threading

import structlog
from filelock import FileLock, Timeout

from mcp_server.app import App, open_app
from mcp_server.errors import LifecycleError
from mcp_server.logs import configure_logs
from mcp_server.runtime.jobs.supervisor import worker_lock
from mcp_server.runtime.jobs.worker import Worker
from mcp_server.runtime.jobs.workflows import JobWorkflows
from mcp_server.settings import Settings
from mcp_server.tools.registry import JOB_KINDS, ROLES_BY_TOOL

logger = structlog.get_logger(__name__)

_WAIT_FOR_LOCK_S = 0.2
_CHILD_MODULES = (
    "mcp_server.stores.sources.parse",
    "mcp_server.stores.locked_sql",
    "mcp_server.engine.expectations.backtracking_run",
    "mcp_server.engine.training",
)


def run_worker(settings: Settings, *, embedded: bool) -> None:
    """Run jobs until a signal, or until the server that started us is gone; then end the process.

    On SQLite one worker serves a data directory: an embedded one that finds another ends at once, one started by
    hand waits for its turn. On PostgreSQL any number may be started by hand.
    """
    configure_logs(settings.log_level)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    _stop_on_signal(stop)
    if embedded:
        threading.Thread(target=_stop_at_end_of_input, args=(stop,), daemon=True).start()
    lock = worker_lock(settings.data_dir)
    if not _take(lock, stop, waits=not embedded, alone=embedded or settings.is_sqlite):
        return
    app = open_app(
        settings, roles_by_tool=ROLES_BY_TOOL, job_kinds=JOB_KINDS, child_modules=_CHILD_MODULES, with_worker=False
    )
    _run(app, settings, stop)
    app.close()
    lock.release(force=True)
    sys.stderr.flush()
    os._exit(0)  # a thread may still be inside a job: its recorded steps are safe, the rest is handed over


def _run(app: App, settings: Settings, stop: threading.Event) -> None:
    worker = Worker(settings, app.job_records, app.clock)

    def evaluate_monitoring() -> None:
        try:
            app.deployment.evaluate_rollouts()
        finally:  # a rollout that cannot be judged must not silence the alert rules
            app.monitoring.evaluate_alert_rules()

    workflows = JobWorkflows(
        app.job_methods(),
        app.training,
        evaluate_monitoring,
        app.jobs,
        app.job_records,
        is_paused=app.monitoring.is_paused,
        trials_at_once=settings.worker.trial_concurrency,
    )
    sender = threading.Thread(target=_send_notifications, args=(app, settings, stop), name="notifications", daemon=True)
    sender.start()
    worker.run(workflows, stop)
    sender.join(timeout=settings.alerts.timeout_s)


def _send_notifications(app: App, settings: Settings, stop: threading.Event) -> None:
    while not stop.wait(settings.alerts.poll_s):
        try:
            app.monitoring.deliver_notifications()
        except LifecycleError as failure:  # the messages wait in the database, which comes back
            logger.warning("notifications_not_sent", message=failure.message)
        except Exception:  # why: a message that cannot be sent for a bug must not end the sending of all others
            logger.exception("notification_failed")


def _take(lock: FileLock, stop: threading.Event, *, waits: bool, alone: bool) -> bool:
    said = False
    while alone:
        try:
            lock.acquire()
            return True
        except Timeout:
            if not waits:
                return False
        if not said:
            logger.info("waiting_for_other_worker", data_dir_lock=lock.lock_file)
            said = True
        if stop.wait(_WAIT_FOR_LOCK_S):
            return False
    return True


def _stop_on_signal(stop: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())


def _stop_at_end_of_input(stop: threading.Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    stop.set()
