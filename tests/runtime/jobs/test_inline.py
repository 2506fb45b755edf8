"""Short work in the server: what is done here, what goes to the queue, and what a caller hears meanwhile."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from mcp_server.errors import NotFoundError
from mcp_server.results.base import Result
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.jobs.inline import WorkRunner
from mcp_server.runtime.jobs.queue import JobQueue
from mcp_server.runtime.progress import Progress
from mcp_server.settings import Settings
from mcp_server.stores.database import Database
from mcp_server.stores.job_records import JobRecords

ANN = Caller("ann", "data_scientist")

pytestmark = pytest.mark.anyio


class Work:
    """Methods as services have them."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.started = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)

    def greet(self, *, caller: Caller, name: str, progress: Progress) -> Result:
        progress(0.5, "half way")
        return Result(summary=f"{caller.name} greets {name}.")

    def refuse(self, *, progress: Progress) -> Result:
        raise NotFoundError("thing", "x")

    def wait(self, *, progress: Progress) -> Result:
        self.started.release()
        self.gate.wait(30)
        self.ended.release()
        return Result(summary="waited")


def short_when_asked(kind: str, arguments: Mapping[str, Any], wait_seconds: float) -> bool:
    return wait_seconds >= 1


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def runner(tmp_path: Path, sqlite_database: Database, clock: ManualClock, work: Work) -> Iterator[WorkRunner]:
    kinds = frozenset({"greet", "refuse", "wait"})
    queue = JobQueue(Settings(data_dir=tmp_path), JobRecords(sqlite_database, clock), kinds)
    yield WorkRunner(queue, {kind: getattr(work, kind) for kind in kinds}, short_when_asked, clock)
    queue.close()


async def run(runner: WorkRunner, kind: str, wait_seconds: float = 5, **arguments: object) -> dict[str, Any]:
    return await runner.run(kind, arguments, caller=ANN, wait_seconds=wait_seconds, report_progress=_deaf)


async def _deaf(_progress: float, _total: float | None, _message: str | None) -> None:
    return None


async def test_short_work_is_done_here_and_has_no_job_id(runner: WorkRunner) -> None:
    job = await run(runner, "greet", name="bob")

    assert (job["job_id"], job["state"], job["progress"]) == (None, "succeeded", 1.0)
    assert job["summary"] == job["result"].summary == "ann greets bob."


async def test_what_is_not_short_is_queued(runner: WorkRunner) -> None:
    job = await run(runner, "greet", wait_seconds=0, name="bob")

    assert job["state"] == "queued"
    assert job["job_id"]


async def test_a_refusal_reaches_the_caller_as_it_is(runner: WorkRunner) -> None:
    with pytest.raises(NotFoundError, match="thing"):
        await run(runner, "refuse")


async def test_what_work_last_said_is_passed_on(runner: WorkRunner) -> None:
    heard: list[tuple[float, str | None]] = []

    async def hear(progress: float, _total: float | None, message: str | None) -> None:
        heard.append((progress, message))

    await runner.run("greet", {"name": "bob"}, caller=ANN, wait_seconds=5, report_progress=hear)

    assert heard == [(0.5, "half way")]


async def test_a_third_call_at_once_is_queued(runner: WorkRunner, work: Work) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(run, runner, "wait")
        for _ in range(2):
            assert await anyio.to_thread.run_sync(work.started.acquire, True, 30)
        third = await run(runner, "greet", wait_seconds=1, name="bob")
        work.gate.set()

    assert third["job_id"]


async def test_a_caller_who_leaves_does_not_stop_the_work(runner: WorkRunner, work: Work) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, runner, "wait")
        assert await anyio.to_thread.run_sync(work.started.acquire, True, 30)
        tasks.cancel_scope.cancel()
    work.gate.set()

    assert await anyio.to_thread.run_sync(work.ended.acquire, True, 30)
