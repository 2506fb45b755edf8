"""Children that stay for the next call: many short fits on the same data need not start a process for each.

What one call leaves behind in a child (data it has read, libraries it has loaded) is there for the next; limits of
memory and time are those of `runtime.child`, and a child that met one is killed.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcp_server.errors import ResourceExhaustedError
from mcp_server.runtime.child import Child, never_cancelled, unpacked


@dataclass(slots=True)
class _Idle:
    child: Child
    subject: str


class WarmChildren:
    """Children of one process that wait for their next call. Thread-safe; as many run as there are calls."""

    def __init__(self, *, threads: int | None, keep: int, idle_s: float) -> None:
        """Start none yet.

        Args:
            threads: that BLAS and OpenMP may use in a child; None leaves their defaults.
            keep: children that wait at most.
            idle_s: a child that has waited so long ends itself.
        """
        self._threads = threads
        self._keep = keep
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []

    def run(
        self,
        function: str,
        arguments: dict[str, Any],
        *,
        subject: str,
        memory_bytes: int,
        timeout_s: float,
        cancelled: Callable[[], bool] = never_cancelled,
    ) -> Any:
        """Call `function` in a child and return its answer, as `run_in_child` does; raises what that raises.

        A child that has served before and then ends, or has too much memory, may have got it from earlier calls: the
        call is made once more in a fresh one.

        Args:
            subject: what the call is about; a child that has served the same is preferred.
        """
        call = (function, arguments, memory_bytes, timeout_s, cancelled)
        waiting = self._take(subject)
        if waiting is not None:
            try:
                document, _ = self._call(waiting, subject, *call)
            except ResourceExhaustedError as refusal:
                if refusal.details.get("limit") != "memory":
                    raise
                document = None
            if document is not None:
                return unpacked(document, function, None)
        document, exit_code = self._call(Child(self._threads, self._idle_s), subject, *call)
        return unpacked(document, function, exit_code)

    def _call(
        self,
        child: Child,
        subject: str,
        function: str,
        arguments: dict[str, Any],
        memory_bytes: int,
        timeout_s: float,
        cancelled: Callable[[], bool],
    ) -> tuple[dict[str, Any] | None, int | None]:
        """Return what the child said, and its exit code when it has ended; a child that is fit for more is kept."""
        kept, exit_code = False, None
        try:
            document = child.call(function, arguments, memory_bytes, timeout_s, cancelled)
            kept = document is not None and child.resident_bytes() < memory_bytes / 2
        finally:
            if not kept:
                exit_code = child.end()
        if kept:
            self._put(child, subject)
        return document, exit_code

    def _take(self, subject: str) -> Child | None:
        with self._lock:
            same = [place for place, part in enumerate(self._idle) if part.subject == subject]
            if not self._idle:
                return None
            return self._idle.pop(same[-1] if same else -1).child

    def _put(self, child: Child, subject: str) -> None:
        with self._lock:
            self._idle.append(_Idle(child, subject))
            surplus = self._idle.pop(0) if len(self._idle) > self._keep else None
        if surplus is not None:
            surplus.child.end()

    def close(self) -> None:
        """End the children that wait."""
        with self._lock:
            waiting, self._idle = self._idle, []
        for part in waiting:
            part.child.end()
