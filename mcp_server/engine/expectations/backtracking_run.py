"""Judges an expectation whose pattern may take for ever, in a child process that is killed when it does."""

import resource
import time
from dataclasses import asdict
from typing import Any, Final

import polars as pl

from mcp_server.engine.expectations.evaluation import evaluate
from mcp_server.engine.expectations.suite import parse_expectations

_ROWS_A_SECOND: Final = 100_000


def run(arguments: dict[str, Any]) -> dict[str, Any]:
    """Judge a Parquet file; called in a child process.

    Args:
        arguments: `path` of the file, its `rows`, and `expectation` as `{"type", "kwargs"}`.

    Returns:
        The fields of its `Outcome`.
    """
    _limit_processor_time(arguments["rows"])
    _, judged = evaluate(pl.scan_parquet(arguments["path"]), parse_expectations([arguments["expectation"]]))
    return asdict(judged[0].outcome)


def _limit_processor_time(rows: int) -> None:
    """Let the system kill this process after half a second to one and a half of work, and more for many rows.

    Processor time, as a busy machine must not refuse an honest pattern; a thread in a pattern hears no signal, so it is
    the system that has to end it.
    """
    seconds = int(time.process_time() + 0.5) + 1 + rows // _ROWS_A_SECOND
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
