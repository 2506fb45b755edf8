"""A worker with small jobs, run as a process of its own by the tests: `python -m tests.runtime.jobs.worker_program`.

Its training writes a line for every trial it runs, so that a test can count them.
"""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from mcp_server.errors import InvalidArgumentError
from mcp_server.runtime.clock import SystemClock
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.jobs.queue import JobQueue
from mcp_server.runtime.jobs.worker import Worker
from mcp_server.runtime.jobs.workflows import JobWorkflows
from mcp_server.runtime.progress import Progress
from mcp_server.settings import load_settings
from mcp_server.stores.database import Database
from mcp_server.stores.job_records import JobRecords

KINDS = frozenset({"add", "refuse", "crash", "count", "train_model"})
TRIAL_S = 0.15
ROUND = 4


def add(*, left: int, right: int, caller: Caller, progress: Progress) -> dict[str, Any]:
    progress(0.5, "half way")
    return {"summary": f"{left} + {right} = {left + right}", "total": left + right, "for": caller.name}


def refuse(*, value: str, progress: Progress) -> None:
    raise InvalidArgumentError(f"{value} cannot be used.", hint="Pass another one.", details={"value": value})


def crash(*, progress: Progress) -> None:
    raise ZeroDivisionError("a bug")


def count(*, seconds: float, progress: Progress) -> dict[str, Any]:
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        progress(min(1.0, (time.monotonic() - started) / seconds), "counting")
        time.sleep(0.02)
    return {"summary": "counted"}


class LoggedTraining:
    """A training whose trials take a moment and leave a line each."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def plan_training(self, *, caller: Caller, job_id: str, **arguments: Any) -> dict[str, Any]:
        self._write("plan")
        return {
            "n_trials": arguments["trials"],
            "n_rounds": -(-arguments["trials"] // ROUND),
            "time_budget_seconds": None,
            "search_from": time.time(),
        }

    def ask_trials(self, plan: dict[str, Any], round_index: int, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self._write(f"ask {round_index}")
        first = round_index * ROUND
        return [{"number": number} for number in range(first, min(first + ROUND, plan["n_trials"]))]

    def run_trial(self, plan: dict[str, Any], trial: dict[str, Any], cancelled: Any) -> dict[str, Any]:
        time.sleep(TRIAL_S)
        self._write(f"trial {trial['number']}")
        return {"number": trial["number"], "estimator": "none", "score": 0.5}

    def record_trial(self, plan: dict[str, Any], result: dict[str, Any]) -> None:
        pass

    def finish_training(self, *, caller: Caller, job_id: str, plan: Any, history: Any, progress: Any) -> dict[str, Any]:
        self._write("finish")
        return {"summary": "trained", "numbers": [trial["number"] for trial in history]}

    def _write(self, line: str) -> None:
        with self._log.open("a") as log:
            log.write(f"{line} {os.getpid()}\n")


def main() -> None:
    settings = load_settings()
    database = Database(settings.database_url, settings.database)
    database.migrate()
    records = JobRecords(database, SystemClock())
    queue = JobQueue(settings, records, KINDS)
    methods = {"add": add, "refuse": refuse, "crash": crash, "count": count}
    worker = Worker(settings, records, SystemClock())
    workflows = JobWorkflows(methods, LoggedTraining(Path(sys.argv[1])), lambda: None, queue, records)
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    worker.run(workflows, stop)
    os._exit(0)


if __name__ == "__main__":
    main()
