"""One engine in a process of its own: validates the same table again on each line it reads, and answers in JSON.

`python -m benchmarks.validation_worker ENGINE FILE ROWS`; ENGINE is `native`, `native-low-memory` or `gx`. The first
line it writes says how long its imports took; then one line a run: seconds and processor seconds with the table's load
included, and what each expectation found.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.validation_data import suite_of

Found = list[list[Any]]


def _native(path: Path, rows: int, *, low_memory: bool | None) -> Callable[[], Found]:
    import polars as pl

    from mcp_server.engine.expectations.evaluation import evaluate
    from mcp_server.engine.expectations.suite import parse_expectations

    expectations = parse_expectations(suite_of(rows))

    def run() -> Found:
        frame = pl.scan_csv(path) if path.suffix == ".csv" else pl.scan_parquet(path)
        _, judged = evaluate(frame, expectations, low_memory=low_memory)
        return [[each.outcome.success, each.outcome.unexpected_count] for each in judged]

    return run


def _great_expectations(path: Path, rows: int) -> Callable[[], Found]:
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("table")
    definition = asset.add_batch_definition_whole_dataframe("all rows")
    asked = [each | {"meta": {"position": position}} for position, each in enumerate(suite_of(rows))]

    def run() -> Found:
        frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        batch = definition.get_batch({"dataframe": frame})
        results = batch.validate(gx.ExpectationSuite(name="suite", expectations=asked)).results
        found = {_position(each): each for each in results}
        return [[bool(found[n].success), found[n].result.get("unexpected_count")] for n in range(len(asked))]

    return run


def _position(result: Any) -> int:
    return int(result.expectation_config.meta["position"])


def main() -> None:
    """Answer runs until standard input ends."""
    engine, path, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    started = time.perf_counter()
    run = (
        _great_expectations(path, rows)
        if engine == "gx"
        else _native(path, rows, low_memory=True if engine == "native-low-memory" else None)
    )
    _answer({"import_s": time.perf_counter() - started})
    for _ in sys.stdin:
        started, worked = time.perf_counter(), time.process_time()
        found = run()
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - worked
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        _answer({"seconds": seconds, "cpu_s": cpu_s, "peak_mb": peak_mb, "found": found})


def _answer(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
