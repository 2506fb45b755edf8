"""Jobs end to end: a real queue, a real worker process, on both databases."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcp_server.errors import InternalError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from mcp_server.runtime.clock import SystemClock
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.jobs.queue import JobQueue
from mcp_server.runtime.jobs.storage import make_client
from mcp_server.settings import DatabaseSettings, Settings, WorkerSettings
from mcp_server.stores.database import Database
from mcp_server.stores.job_records import JobRecords
from tests.runtime.jobs.worker_program import KINDS

ANN = Caller("ann", "data_scientist")
BOB = Caller("bob", "data_scientist")
EVE = Caller("eve", "ml_engineer")
PATIENCE_S = 30.0


class Workshop:
    """A queue, and workers that a test starts and kills."""

    def __init__(self, settings: Settings, folder: Path, url: str | None) -> None:
        self.settings = settings
        self.log = folder / "log.txt"
        self._url = url
        self._database = Database(settings.database_url, settings.database)
        self._database.migrate()
        self.records = JobRecords(self._database, SystemClock())
        self.queue = JobQueue(settings, self.records, KINDS)
        self._workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self) -> "subprocess.Popen[bytes]":
        environment = os.environ | {
            "NBA_MCP_DATA_DIR": str(self.settings.data_dir),
            "NBA_MCP_WORKER__HEARTBEAT_S": "0.1",
            "NBA_MCP_WORKER__GRACE_S": "2",
        }
        if self._url:
            environment["NBA_MCP_DATABASE__URL"] = self._url
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.runtime.jobs.worker_program", str(self.log)],
            stdin=subprocess.PIPE,
            env=environment,
            cwd=Path(__file__).parents[3],
        )
        self._workers.append(worker)
        return worker

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def ended(self, job_id: str) -> dict[str, object]:
        return eventually(lambda: (job := self.queue.get(job_id))["state"] not in ("queued", "running") and job)

    def recorded_trials(self, job_id: str) -> list[str]:
        """Return the numbers of the trials whose result the job database holds by now."""
        client = make_client(self.settings)
        found = client.list_workflows(name="run_trial", status="SUCCESS", workflow_id_prefix=f"{job_id}-trial-")
        client.destroy()
        return [workflow.workflow_id.rpartition("-")[2] for workflow in found]

    def close(self) -> None:
        for worker in self._workers:
            if worker.stdin:
                worker.stdin.close()
            worker.kill()
            worker.wait()
        self.queue.close()
        self._database.close()


def eventually(condition: Callable[[], object]) -> object:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


@pytest.fixture(params=["sqlite", "postgresql"])
def workshop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workshop]:
    with contextlib.ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            url = stack.enter_context(request.getfixturevalue("postgres").new_database())
        settings = Settings(
            _env_file=None,
            data_dir=tmp_path / "data",
            database=DatabaseSettings(url=url),
            worker=WorkerSettings(grace_s=2.0),
        )
        workshop = Workshop(settings, tmp_path, url)
        stack.callback(workshop.close)
        yield workshop


async def _silent(progress: float, total: float | None, message: str | None) -> None:
    return None


async def test_jobs_end_with_their_result_their_error_or_an_id_for_the_log(workshop):
    workshop.start_worker()

    async def run(kind: str, **arguments: object) -> dict[str, object]:
        return await workshop.queue.run(kind, arguments, caller=ANN, wait_seconds=PATIENCE_S, report_progress=_silent)

    job = await run("add", left=2, right=3)
    assert (job["state"], job["result"]["total"], job["result"]["for"]) == ("succeeded", 5, "ann")
    assert job["summary"] == "2 + 3 = 5"
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]

    with pytest.raises(InvalidArgumentError, match="x cannot be used") as refusal:
        await run("refuse", value="x")
    assert refusal.value.hint == "Pass another one."
    failed = workshop.queue.get(refusal.value.details["job_id"])
    assert failed["state"] == "failed"
    assert failed["error"] == refusal.value.to_document()

    with pytest.raises(InternalError, match="bug, recorded as"):
        await run("crash")

    jobs, cursor = workshop.queue.page(limit=2)
    assert [job["kind"] for job in jobs] == ["crash", "refuse"]
    rest, end = workshop.queue.page(limit=2, cursor=cursor)
    assert [job["kind"] for job in rest] == ["add"]
    assert end is None
    assert [job["kind"] for job in workshop.queue.page(state="failed")[0]] == ["crash", "refuse"]


def test_a_cancelled_job_stops_and_only_its_owner_or_an_engineer_may_cancel(workshop):
    workshop.start_worker()
    job_id = workshop.queue.submit("count", {"seconds": 300}, ANN)
    eventually(lambda: workshop.queue.get(job_id)["progress"] > 0)

    with pytest.raises(PermissionDeniedError, match="belongs to 'ann'"):
        workshop.queue.cancel(job_id, BOB)
    job = workshop.queue.cancel(job_id, EVE)

    assert job["state"] == "cancelled"
    moved_at = workshop.queue.get(job_id)["progress"]
    other = workshop.queue.submit("add", {"left": 1, "right": 1}, ANN)
    workshop.ended(other)
    assert workshop.queue.get(job_id)["progress"] - moved_at < 0.02


def test_an_unknown_job_is_not_found(workshop):
    with pytest.raises(NotFoundError, match="No job named 'nothing'"):
        workshop.queue.get("nothing")


def test_a_killed_worker_costs_only_the_trials_it_was_in(workshop):
    first = workshop.start_worker()
    job_id = workshop.queue.submit("train_model", {"trials": 20}, ANN)
    eventually(lambda: sum(line.startswith("trial") for line in workshop.lines()) >= 6)

    first.send_signal(signal.SIGKILL)
    first.wait()
    recorded = workshop.recorded_trials(job_id)
    workshop.start_worker()
    job = workshop.ended(job_id)

    assert job["state"] == "succeeded"
    assert job["result"]["numbers"] == list(range(20))
    runs = Counter(line.split()[1] for line in workshop.lines() if line.startswith("trial"))
    assert set(runs) == {str(number) for number in range(20)}
    assert 4 <= len(recorded) < 20
    assert {number: runs[number] for number in recorded} == dict.fromkeys(recorded, 1)
    # A trial whose line was written but whose record was not may run again: at most those that were in flight.
    assert sum(runs.values()) - 20 <= 2
    assert Counter(line.split()[0] for line in workshop.lines())["plan"] == 1


@pytest.mark.slow
def test_two_workers_share_one_search_and_it_ends_complete_when_one_is_killed(workshop):
    workers = [workshop.start_worker(), workshop.start_worker()]
    eventually(lambda: len(workshop.records.workers()) == 2)
    job_id = workshop.queue.submit("train_model", {"trials": 40}, ANN)

    def trial_runs() -> list[list[str]]:
        return [line.split()[1:] for line in workshop.lines() if line.startswith("trial")]

    eventually(lambda: len({process for _, process in trial_runs()}) == 2 and len(trial_runs()) >= 12)
    workers[0].send_signal(signal.SIGKILL)
    workers[0].wait()
    recorded = workshop.recorded_trials(job_id)
    job = workshop.ended(job_id)

    assert job["state"] == "succeeded"
    assert job["result"]["numbers"] == list(range(40))
    runs = Counter(number for number, _ in trial_runs())
    assert {number: runs[number] for number in recorded} == dict.fromkeys(recorded, 1)
    assert sum(runs.values()) - 40 <= 2  # those the killed worker had in hand


def test_a_living_worker_takes_over_from_one_that_fell_silent(workshop):
    victim = workshop.start_worker()
    job_id = workshop.queue.submit("train_model", {"trials": 12}, ANN)
    eventually(lambda: sum(line.startswith("trial") for line in workshop.lines()) >= 2)
    workshop.start_worker()
    eventually(lambda: len(workshop.records.workers()) == 2)

    victim.send_signal(signal.SIGKILL)
    victim.wait()
    job = workshop.ended(job_id)

    assert job["result"]["numbers"] == list(range(12))
    assert [worker.process_id for worker in workshop.records.workers()] != [victim.pid]


def test_a_worker_that_stops_in_order_leaves_its_job_to_the_next(workshop):
    first = workshop.start_worker()
    job_id = workshop.queue.submit("train_model", {"trials": 8}, ANN)
    eventually(lambda: sum(line.startswith("trial") for line in workshop.lines()) >= 2)

    first.stdin.close()
    first.wait(PATIENCE_S)
    assert workshop.records.workers() == []
    workshop.start_worker()

    assert workshop.ended(job_id)["result"]["numbers"] == list(range(8))


def test_schedules_are_saved_listed_replaced_and_deleted(workshop):
    workshop.queue.save_schedule("nightly", "0 3 * * *", "add", {"left": 1, "right": 2}, ANN)
    workshop.queue.save_schedule("nightly", "0 4 * * *", "add", {"left": 1, "right": 2}, ANN)

    (schedule,) = workshop.queue.list_schedules()

    assert (schedule["name"], schedule["cron"], schedule["kind"]) == ("nightly", "0 4 * * *", "add")
    with pytest.raises(InvalidArgumentError, match="not a job tool"):
        workshop.queue.save_schedule("other", "* * * * *", "nothing", {}, ANN)
    assert workshop.queue.delete_schedule("nightly")
    assert workshop.queue.list_schedules() == []


def test_a_schedule_starts_its_job(workshop):
    workshop.queue.save_schedule("often", "* * * * * *", "add", {"left": 1, "right": 2}, ANN)
    workshop.start_worker()

    job = eventually(lambda: (found := workshop.queue.page(kind="add", state="succeeded")[0]) and found[0])

    assert job["kind"] == "add"
