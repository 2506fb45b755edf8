"""How long the profile of a table of 20 columns takes, and in how much memory; beside what pandas tells of it.

The clock runs from before the Parquet file is opened to after the report's page is written; imports are done before.
Each run is a process of its own, so that its peak memory is its own. pandas loads the same file and does `describe` of
all columns, `nunique`, `corr` and `duplicated`: a part of what a profile is, and no judgement of it.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.validation_data import write_table

SIZES = (100_000, 1_000_000, 10_000_000)
RUNS = 3
PANDAS_UP_TO = 1_000_000
LIMIT_S = 5.0
LIMIT_S_ROWS = 1_000_000
LIMIT_PEAK_MB = 2048.0
_MEGABYTE_OF_KB = 1024


def profile_once(path: Path) -> None:
    """Load, profile, word and write the report's page, as `describe_dataset` does."""
    from mcp_server.engine.reports import to_html
    from mcp_server.runtime.progress import NoProgress
    from mcp_server.services.data_profile import profile_of
    from mcp_server.services.data_report import profile_report
    from mcp_server.services.data_wording import profile_result
    from mcp_server.stores.datasets import DatasetVersion
    from mcp_server.stores.parquet import describe_parquet

    rows, columns = describe_parquet(path)
    made_at = datetime(2026, 1, 1, tzinfo=UTC)
    version = DatasetVersion("table", 1, rows, columns, "0" * 64, path, "a benchmark", {}, made_at, "benchmark")
    found = profile_of(version, None, NoProgress())
    result = profile_result(version, found, "report://0", "summary")
    to_html(profile_report(version, found, result.summary))


def pandas_once(path: Path) -> None:
    """Load and do the part of it that pandas has."""
    import pandas as pd

    table = pd.read_parquet(path)
    table.describe(include="all")
    table.nunique()
    table.corr(numeric_only=True)
    table.duplicated().sum()


def run_here(engine: str, path: Path) -> None:
    """Run once here, after a small table that loads the libraries; print seconds, the processor's too, and peak MB."""
    once = profile_once if engine == "ours" else pandas_once
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.parquet"
        write_table(small, 1000)
        once(small)
    started, worked = time.perf_counter(), time.process_time()
    once(path)
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MEGABYTE_OF_KB
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak}))  # noqa: T201


def measure(engine: str, path: Path, runs: int) -> tuple[float, float, float]:
    """Return the median seconds, of the clock and of the processor, and the greatest peak of several processes."""
    answers = []
    for _ in range(runs):
        command = [sys.executable, "-m", "benchmarks.profile", engine, str(path)]
        answers.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    seconds, cpu = (statistics.median(a[name] for a in answers) for name in ("seconds", "cpu"))
    return seconds, cpu, max(a["peak_mb"] for a in answers)


def main() -> int:
    """Print the figures; 1 when a limit is missed."""
    folder = Path(tempfile.gettempdir()) / "nba-mcp-benchmarks"
    folder.mkdir(exist_ok=True)
    table = Table(title="A profile of 20 columns with its report, loading counted")
    for heading in ("rows", "nba-mcp s", "processor s", "peak MB", "pandas s", "processor s", "peak MB"):
        table.add_column(heading, justify="right")
    missed = False
    for rows in SIZES:
        path = folder / f"validation-{rows}.parquet"  # the table that the validation is measured on
        if not path.exists():
            write_table(path, rows)
        runs = RUNS if rows <= PANDAS_UP_TO else 1
        seconds, cpu, peak = measure("ours", path, runs)
        missed |= peak > LIMIT_PEAK_MB or (rows <= LIMIT_S_ROWS and seconds > LIMIT_S)
        theirs = ["–", "–", "–"]
        if rows <= PANDAS_UP_TO:
            theirs = [f"{figure:,.{n}f}" for figure, n in zip(measure("pandas", path, 1), (2, 2, 0), strict=True)]
        table.add_row(f"{rows:,}", f"{seconds:.2f}", f"{cpu:.2f}", f"{peak:,.0f}", *theirs)
    console = Console()
    console.print(table)
    console.print(f"The limits: {LIMIT_S:.0f} s for {LIMIT_S_ROWS:,} rows, {LIMIT_PEAK_MB:,.0f} MB for all.")
    return int(missed)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        run_here(sys.argv[1], Path(sys.argv[2]))
        raise SystemExit(0)
    raise SystemExit(main())
