"""How long the checks before a training take on a table of 50 columns, and in how much memory.

The clock runs from before the Parquet file is opened to the findings: reading, dividing the rows, looking for leaks and
for rows in both parts. Five columns are words; one column is the target with a trace of noise, which must be found.
Each run is a process of its own, so that its peak memory is its own; imports are done before.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

SIZES = (100_000, 1_000_000)
COLUMNS = 50
RUNS = 3
LIMIT_S = 30.0
_MEGABYTE_OF_KB = 1024


def write_games(path: Path, rows: int) -> None:
    """Write a table with a yes-or-no target, honest features and one leak."""
    rng = np.random.default_rng(0)
    data: dict[str, object] = {f"x{k}": rng.normal(size=rows) for k in range(COLUMNS - 8)}
    won = (data["x0"] + rng.normal(size=rows) > 0).astype(np.int64)  # type: ignore[operator]
    data |= {f"word{k}": pl.Series(rng.integers(0, 40, rows)).cast(pl.String) for k in range(5)}
    data |= {"team_id": rng.integers(0, rows // 10, rows), "late": won + 0.05 * rng.normal(size=rows), "won": won}
    pl.DataFrame(data).write_parquet(path)


def one(path: str) -> None:
    """Check one table and print what it took."""
    from mcp_server.services import training_planning as planning

    before, processor = time.perf_counter(), time.process_time()
    frame = pl.read_parquet(path)
    request = planning.parse_request({"name": "check", "dataset": "t@1", "target": "won", "split": {}})
    spec, rows, _, _ = planning.settle(request, frame)
    found, _ = planning.find(spec, rows, [])
    seconds, processor = time.perf_counter() - before, time.process_time() - processor
    stopped = sorted({name for finding in found if finding.severity == "blocking" for name in finding.suspects})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MEGABYTE_OF_KB
    print(json.dumps({"seconds": seconds, "processor": processor, "peak": peak, "stopped": stopped}))  # noqa: T201


def main() -> int:
    """Measure each size and print a table; 1 if the leak is missed or the time is beyond the limit."""
    good = True
    print("| rows | s | processor s | peak MB | stopped |\n|---|---:|---:|---:|---|")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        for rows in SIZES:
            path = Path(folder) / f"{rows}.parquet"
            write_games(path, rows)
            command = [sys.executable, "-m", "benchmarks.leakage", str(path)]
            runs = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(RUNS)]
            seconds = statistics.median(run["seconds"] for run in runs)
            processor = statistics.median(run["processor"] for run in runs)
            peak = max(run["peak"] for run in runs)
            print(f"| {rows:,} | {seconds:.1f} | {processor:.1f} | {peak:,.0f} | {', '.join(runs[0]['stopped'])} |")  # noqa: T201
            good &= processor <= LIMIT_S and runs[0]["stopped"] == ["late"]
    return 0 if good else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one(sys.argv[1])
    else:
        sys.exit(main())
