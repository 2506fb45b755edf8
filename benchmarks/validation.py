"""How long 22 expectations take on a table of 20 columns, beside Great Expectations, and in how much memory.

Each engine runs in a process of its own and loads the same Parquet file for each run; that time is counted for both,
the time of their imports is not (it is told apart). Great Expectations runs on pandas. Engines take turns, so that both
meet the same machine, and what each expectation found is compared. The table is made from a seed, in the cache folder.
"""

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.validation_data import suite_of, write_table

PATIENCE_S = 110.0
LIMIT_COLD_S = 1.0
LIMIT_PEAK_MB = 1200.0
LIMIT_RATIO = 12.0


@dataclass(frozen=True, slots=True)
class Size:
    """One row of the result.

    Attributes:
        limit_s: what our median run may take.
        runs: how often our engine runs.
        gx_runs: how often Great Expectations runs.
        times_faster: how many times quicker than Great Expectations ours has to be.
        warm_ups: runs of both before any is counted: a server and a notebook have long been running.
    """

    rows: int
    engine: str
    limit_s: float
    runs: int
    gx_runs: int
    suffix: str = ".parquet"
    times_faster: float = 0.0
    warm_ups: int = 2

    @property
    def name(self) -> str:
        """What the table calls it."""
        what = {".parquet": "Parquet", ".csv": "CSV"}[self.suffix]
        mode = ", low-memory mode" if self.engine == "native-low-memory" else ""
        return f"{self.rows:,} rows, {what}{mode}"


SIZES = (
    Size(100_000, "native", 0.05, 21, 21, times_faster=LIMIT_RATIO),
    Size(1_000_000, "native", 0.5, 9, 9, times_faster=LIMIT_RATIO),
    Size(1_000_000, "native", 2.0, 3, 3, ".csv"),
    Size(10_000_000, "native-low-memory", 10.0, 3, 1, warm_ups=0),
)


class TooSlowError(Exception):
    """An engine did not answer in time."""


class Worker:
    """An engine in a process of its own."""

    def __init__(self, engine: str, path: Path, rows: int) -> None:
        command = [sys.executable, "-m", "benchmarks.validation_worker", engine, str(path), str(rows)]
        quiet = os.environ | {"GX_ANALYTICS_ENABLED": "false"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=quiet
        )
        self.import_s: float = self._answer(PATIENCE_S)["import_s"]

    def run(self) -> dict[str, Any]:
        """Return seconds, peak memory and what was found.

        Raises:
            TooSlowError: the run takes longer than anybody wants to wait.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return self._answer(PATIENCE_S)

    def _answer(self, patience_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], patience_s)[0]:
            raise TooSlowError
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def open_worker(engine: str, path: Path, rows: int) -> Iterator[Worker]:
    """Yield an engine that has loaded its libraries."""
    worker = Worker(engine, path, rows)
    try:
        yield worker
    finally:
        worker.close()


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians of a size's runs; those of Great Expectations are None where it took too long."""

    ours_s: float
    ours_cpu_s: float
    peak_mb: float
    gx_s: float | None
    gx_cpu_s: float | None
    gx_peak_mb: float | None
    agreed: int | None
    gx_import_s: float


def measure(size: Size, folder: Path) -> Measured:
    """Run both engines by turns."""
    path = table_of(size, folder)
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    with open_worker(size.engine, path, size.rows) as native, open_worker("gx", path, size.rows) as gx:
        for _ in range(size.warm_ups):
            native.run()
            gx.run()
        patient = True
        for turn in range(size.runs):
            ours.append(native.run())
            try:
                if patient and turn < size.gx_runs:
                    theirs.append(gx.run())
            except TooSlowError:
                patient = False
        import_s = gx.import_s
    return Measured(
        ours_s=statistics.median(each["seconds"] for each in ours),
        ours_cpu_s=statistics.median(each["cpu_s"] for each in ours),
        peak_mb=ours[-1]["peak_mb"],
        gx_s=statistics.median(each["seconds"] for each in theirs) if theirs else None,
        gx_cpu_s=statistics.median(each["cpu_s"] for each in theirs) if theirs else None,
        gx_peak_mb=theirs[-1]["peak_mb"] if theirs else None,
        agreed=sum(a == b for a, b in zip(ours[-1]["found"], theirs[-1]["found"], strict=True)) if theirs else None,
        gx_import_s=import_s,
    )


def table_of(size: Size, folder: Path) -> Path:
    """Return the file of the table, made when it is not there."""
    parquet = folder / f"validation-{size.rows}.parquet"
    if not parquet.exists():
        write_table(parquet, size.rows)
    if size.suffix == ".parquet":
        return parquet
    csv = parquet.with_suffix(".csv")
    if not csv.exists():
        pl.scan_parquet(parquet).sink_csv(csv)
    return csv


def cold_s(folder: Path, runs: int = 5) -> float:
    """Return the median seconds of a process that imports the engine, validates 100,000 rows and ends."""
    size = SIZES[0]
    command = [sys.executable, "-m", "benchmarks.validation_worker", "native", str(table_of(size, folder))]
    seconds: list[float] = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run([*command, str(size.rows)], input=b"\n", capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main(sizes: Sequence[Size] = SIZES) -> int:
    """Print the figures; 1 when a limit is missed."""
    folder = Path(tempfile.gettempdir()) / "nba-mcp-benchmarks"
    folder.mkdir(exist_ok=True)
    console = Console(width=140)
    table = Table(title=f"{len(suite_of(1))} expectations on 20 columns, load included, medians of runs by turns")
    for heading in ("table", "ours s", "CPU s", "limit s", "peak MB", "GX s", "CPU s", "peak MB", "faster", "agree on"):
        table.add_column(heading, justify="left" if heading == "table" else "right")
    missed, imports = False, 0.0
    for size in sizes:
        found = measure(size, folder)
        imports = found.gx_import_s
        missed |= found.ours_s > size.limit_s or (found.gx_s or PATIENCE_S) < size.times_faster * found.ours_s
        missed |= size.engine == "native-low-memory" and found.peak_mb > LIMIT_PEAK_MB
        table.add_row(size.name, *_cells(size, found))
    console.print(table)
    cold = cold_s(folder)
    missed |= cold > LIMIT_COLD_S
    console.print(
        f"A cold process on {SIZES[0].rows:,} rows, imports included: {cold:.2f} s; limit {LIMIT_COLD_S:.0f} s."
    )
    console.print(f"Great Expectations takes {imports:.1f} s to import, which no figure above holds.")
    return int(missed)


def _cells(size: Size, found: Measured) -> list[str]:
    ours = [f"{found.ours_s:.3f}", f"{found.ours_cpu_s:.3f}", f"{size.limit_s:g}", f"{found.peak_mb:.0f}"]
    if found.gx_s is None:
        return [*ours, f"over {PATIENCE_S:.0f}", "-", "-", f"over {PATIENCE_S / found.ours_s:.0f} times", "-"]
    theirs = [f"{found.gx_s:.2f}", f"{found.gx_cpu_s:.2f}", f"{found.gx_peak_mb:.0f}"]
    return [*ours, *theirs, f"{found.gx_s / found.ours_s:.1f} times", f"{found.agreed} of {len(suite_of(1))}"]


if __name__ == "__main__":
    raise SystemExit(main())
