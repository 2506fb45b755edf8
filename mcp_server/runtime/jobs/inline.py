"""Short work runs in the server itself, without the queue's hand-over; what is long becomes a job."""

import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio
import anyio.to_thread

from mcp_server.runtime.clock import Clock
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.jobs.queue import JobDocument, JobQueue, ReportProgress

_AT_ONCE: Final = 2  # more than that are under way: the queue keeps the server free for others
_TELL_EVERY_S: Final = 0.5

Method = Callable[..., Any]


class WorkRunner:
    """Runs the work of a job tool: here when it is short, in a worker when not. Thread-safe."""

    def __init__(
        self,
        queue: JobQueue,
        methods: Mapping[str, Method],
        is_short: Callable[[str, Mapping[str, Any], float], bool],
        clock: Clock,
    ) -> None:
        """Take the parts.

        Args:
            methods: the service method of every kind of work that may run here.
            is_short: the one rule, given the kind, its arguments, and the seconds that the caller waits.
        """
        self._queue = queue
        self._methods = methods
        self._is_short = is_short
        self._clock = clock
        self._room = threading.BoundedSemaphore(_AT_ONCE)

    async def run(
        self,
        kind: str,
        arguments: Mapping[str, Any],
        *,
        caller: Caller,
        wait_seconds: float,
        report_progress: ReportProgress,
    ) -> JobDocument:
        """Do the work or submit it, wait up to `wait_seconds`, and return the job as it is then.

        Work that was done here has no `job_id`. A caller who goes away stops the waiting, never the work.

        Raises:
            LifecycleError: it failed in that time; `details` carries the job's id where there is one.
        """
        done = await self._here(kind, arguments, caller, wait_seconds, report_progress)
        if done is not None:
            return done
        return await self._queue.run(
            kind, arguments, caller=caller, wait_seconds=wait_seconds, report_progress=report_progress
        )

    async def _here(
        self,
        kind: str,
        arguments: Mapping[str, Any],
        caller: Caller,
        wait_seconds: float,
        report_progress: ReportProgress,
    ) -> JobDocument | None:
        progress = _Told()
        done: list[JobDocument | None] = []

        async def work() -> None:
            attempt = lambda: self._attempt(kind, arguments, caller, wait_seconds, progress)  # noqa: E731
            done.append(await anyio.to_thread.run_sync(attempt, abandon_on_cancel=True))

        await _while_telling(work, progress, report_progress)
        return done[0]

    def _attempt(
        self, kind: str, arguments: Mapping[str, Any], caller: Caller, wait_seconds: float, progress: "_Told"
    ) -> JobDocument | None:
        """Do the work on this thread; None when it is not short, or enough is under way."""
        if kind not in self._methods or not self._is_short(kind, arguments, wait_seconds):
            return None
        if not self._room.acquire(blocking=False):
            return None
        try:
            method = self._methods[kind]
            started = self._clock.now()
            call: dict[str, Any] = {**arguments, "progress": progress}
            if takes(method, "caller"):
                call["caller"] = caller
            result = method(**call)
        finally:
            self._room.release()
        return {
            "summary": result.summary,
            "job_id": None,
            "kind": kind,
            "state": "succeeded",
            "progress": 1.0,
            "message": "",
            "result": result,
            "error": None,
            "created_at": started,
            "started_at": started,
            "finished_at": self._clock.now(),
        }


def takes(method: Method, argument: str) -> bool:
    """Return True when a method has an argument of this name."""
    code = getattr(method, "__func__", method).__code__
    return argument in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


@dataclass(slots=True)
class _Told:
    """The last that work on a thread said of how far it is."""

    fraction: float = 0.0
    message: str = ""

    def __call__(self, fraction: float, message: str = "") -> None:
        self.fraction, self.message = fraction, message

    def cancelled(self) -> bool:
        return False  # nobody can name it: it has no job_id


async def _while_telling(work: Callable[[], Awaitable[None]], progress: _Told, report_progress: ReportProgress) -> None:
    """Wait for `work` and pass on what it says meanwhile."""
    told = (0.0, "")

    async def tell() -> None:
        nonlocal told
        news = (progress.fraction, progress.message)
        if news != told:
            told = news
            await report_progress(progress.fraction, 1.0, progress.message or None)

    async def tell_now_and_then() -> None:
        while True:
            await anyio.sleep(_TELL_EVERY_S)
            await tell()

    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell_now_and_then)
        try:
            await work()
        except Exception as caught:  # noqa: BLE001  # why: raised below, not wrapped in the task group's own
            failure = caught
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    await tell()
