"""Functions that the tests of `runtime.child` run in a child process."""

import os
import signal
import time
from typing import Any

from mcp_server.errors import NotFoundError


def double(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"doubled": arguments["number"] * 2, "process": os.getpid()}


def refuse(arguments: dict[str, Any]) -> None:
    raise NotFoundError("dataset", "gamse", ["games"])


def crash(arguments: dict[str, Any]) -> None:
    raise ZeroDivisionError("a bug")


def abort(arguments: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def spin(arguments: dict[str, Any]) -> None:
    while True:
        time.sleep(0.01)


def hoard(arguments: dict[str, Any]) -> None:
    kept = []
    while True:
        kept.append(b"x" * 10_000_000)


def frame_sum(arguments: dict[str, Any]) -> int:
    import polars as pl

    return int(pl.DataFrame({"a": range(100_000)}).select(pl.col("a").sort(descending=True).sum()).item())


LEFT: list[bytes] = []


def leave_behind(arguments: dict[str, Any]) -> dict[str, Any]:
    LEFT.append(b"x" * 500_000_000)
    return {"process": os.getpid()}


def rest(arguments: dict[str, Any]) -> dict[str, Any]:
    time.sleep(1.0)
    return {"process": os.getpid()}
