"""Run one function in a child process that can be killed: untrusted files to parse, models to fit.

The child is forked from a clean server process that has the heavy libraries loaded already, so it starts in
milliseconds. Arguments and answer cross as JSON, never as pickled objects: what comes out of a child that read a
hostile file is data. The child is killed when it takes too much memory or time, when the job is cancelled, and it
ends itself when its parent is gone.
"""

import importlib
import json
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

import psutil
import structlog

from mcp_server.errors import CancelledError, InternalError, LifecycleError, ResourceExhaustedError, from_document

logger = structlog.get_logger(__name__)

_POLL_S = 0.05
_ORPHAN_CHECK_S = 1.0
_MAX_ANSWER_BYTES = 256 * 1024**2


def never_cancelled() -> bool:
    """Return False: the work is not part of a job that somebody could cancel."""
    return False


def prepare_children(modules: Sequence[str]) -> None:
    """Start the process that children are forked from, so that the first one does not wait for its libraries.

    Args:
        modules: what it loads, and so every child has from the beginning.
    """
    context = multiprocessing.get_context("forkserver")
    # What each child imports first is its parent's main module.
    context.set_forkserver_preload(["mcp_server.cli", "mcp_server.runtime.child", *modules])
    forkserver.ensure_running()


def run_in_child(
    function: str,
    arguments: dict[str, Any],
    *,
    memory_bytes: int,
    timeout_s: float,
    threads: int | None = None,
    cancelled: Callable[[], bool] = never_cancelled,
) -> Any:
    """Call `function` with `arguments` in a child process and return its answer.

    Args:
        function: `"package.module:name"` of a function that takes one dict of plain JSON values and returns one.
        arguments: plain JSON values.
        memory_bytes: resident memory at which the child is killed.
        timeout_s: wall time after which the child is killed.
        threads: threads that BLAS and OpenMP may use; None leaves their defaults.
        cancelled: asked now and then; True kills the child.

    Raises:
        LifecycleError: what the function itself raised.
        ResourceExhaustedError: it took too much memory or time.
        CancelledError: `cancelled` said so.
        InternalError: it crashed; the log has the trace.
    """
    child = Child(threads)
    try:
        document = child.call(function, arguments, memory_bytes, timeout_s, cancelled)
    finally:
        exit_code = child.end()
    return unpacked(document, function, exit_code)


class Child:
    """A child process that makes one call after another, in the order in which it is asked. Not thread-safe."""

    def __init__(self, threads: int | None, idle_s: float | None = None) -> None:
        """Start it.

        Args:
            idle_s: it ends itself when it is not asked for so long.
        """
        context = multiprocessing.get_context("forkserver")
        self._connection, theirs = context.Pipe()
        self._process: ForkServerProcess = context.Process(
            target=_serve, args=(theirs, threads, os.getpid(), idle_s), daemon=True
        )
        self._process.start()
        theirs.close()

    def call(
        self,
        function: str,
        arguments: dict[str, Any],
        memory_bytes: int,
        timeout_s: float,
        cancelled: Callable[[], bool],
    ) -> dict[str, Any] | None:
        """Return the answer of one call, or None when the process has ended without one; arguments as `run_in_child`.

        Raises:
            ResourceExhaustedError: it takes too much memory or time; it is still running then.
            CancelledError: `cancelled` said so; it is still running then.
        """
        try:
            self._connection.send_bytes(json.dumps([function, arguments]).encode())
            self._await_answer(memory_bytes, timeout_s, cancelled)
            answer: dict[str, Any] = json.loads(self._connection.recv_bytes(_MAX_ANSWER_BYTES))
        except (EOFError, ConnectionError):  # it ended without a word
            self._process.join()
            return None
        return answer

    def _await_answer(self, memory_bytes: int, timeout_s: float, cancelled: Callable[[], bool]) -> None:
        deadline = time.monotonic() + timeout_s
        while not self._connection.poll(_POLL_S):
            if cancelled():
                raise CancelledError("The job was cancelled.")
            if time.monotonic() > deadline:
                raise ResourceExhaustedError(
                    f"The work took longer than its limit of {timeout_s:g} s and was stopped; nothing was written.",
                    hint="Use less data or a simpler model, or raise the limit in the settings.",
                    details={"limit": "time", "seconds": timeout_s},
                )
            if self.resident_bytes() > memory_bytes:
                raise ResourceExhaustedError(
                    f"The work took more than its limit of {memory_bytes // 1024**2} MiB of memory and was stopped; "
                    "nothing was written.",
                    hint="Use fewer rows or columns, or raise NBA_MCP_LIMITS__CHILD_MEMORY_BYTES.",
                    details={"limit": "memory", "bytes": memory_bytes},
                )

    def resident_bytes(self) -> int:
        """Return the memory that it has; 0 once it has ended."""
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0

    def end(self) -> int | None:
        """Kill it when it is still there, and return its exit code."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._connection.close()
        exit_code = self._process.exitcode
        self._process.close()
        return exit_code


def unpacked(document: dict[str, Any] | None, function: str, exit_code: int | None) -> Any:
    """Return what a call answered, or raise what it raised."""
    if document is None:
        if exit_code == -signal.SIGKILL:
            raise ResourceExhaustedError(
                "The system killed the work, most likely for memory; nothing was written.",
                hint="Use fewer rows or columns, or free memory on the machine.",
            )
        raise InternalError(f"The child process that ran {function} ended with code {exit_code}.")
    if "error" in document:
        raise from_document(document["error"])
    if "trace" in document:
        logger.error("child_failed", function=function, trace=document["trace"])
        raise InternalError(f"The child process that ran {function} failed: {document['trace'][-1][:200]}")
    return document["answer"]


def _serve(connection: "Connection[Any, Any]", threads: int | None, parent: int, idle_s: float | None) -> None:
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    if threads is not None:
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads)
    with connection:
        while connection.poll(idle_s):
            try:
                function, arguments = json.loads(connection.recv_bytes())
                connection.send_bytes(json.dumps(_document(function, arguments)).encode())
            except (EOFError, ConnectionError):  # the one that asked is gone
                return


def _document(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        module, name = function.split(":")
        return {"answer": getattr(importlib.import_module(module), name)(arguments)}
    except LifecycleError as refusal:
        return {"error": refusal.to_document()}
    except MemoryError:
        exhausted = ResourceExhaustedError("The work ran out of memory.", hint="Use fewer rows or columns.")
        return {"error": exhausted.to_document()}
    except Exception as failure:  # noqa: BLE001  # why: the parent logs it and answers `internal`
        return {"trace": traceback.format_exception(failure)}


def _end_with_parent(parent: int) -> None:
    """End this process when the one that asked for the work is gone; nobody is left to read the answer."""
    while psutil.pid_exists(parent):
        time.sleep(_ORPHAN_CHECK_S)
    os._exit(1)
