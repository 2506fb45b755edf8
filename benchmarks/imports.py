"""Imports of files of 1M and 10M rows of 20 columns: seconds and peak memory of the process, beside other readers.

Ours is what the child process of an import does: it checks the structure of every record, sees the types of all rows,
and writes Parquet. The others read and write with their own defaults, which look at the types of some rows only.
`python -m benchmarks.imports READER FILE` is one measurement, in a process of its own.
"""

import gzip
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.validation_data import write_table

ROWS: Final = (1_000_000, 10_000_000)
FORMATS: Final = ("csv", "csv.gz", "csv.zst", "jsonl", "parquet", "arrow")
LEFT_OUT: Final = {(10_000_000, "pandas")}  # holds more than small machines have
_LIMITS: Final = {
    "max_columns": 2000,
    "max_field_bytes": 2**20,
    "max_column_name_length": 200,
    "max_decompressed_bytes": 16 * 2**30,
}
_MIB: Final = 2**20


def _ours(path: Path, output: Path) -> None:
    from mcp_server.stores.sources.parse import kind_of, parse_file

    kind, found = kind_of(path.name), path.stat()
    parse_file(
        {
            "path": str(path), "device": found.st_dev, "inode": found.st_ino, "format": kind.format,
            "compression": kind.compression, "options": {}, "output": str(output), "limits": _LIMITS,
        }
    )  # fmt: skip


def _polars(path: Path, output: Path) -> None:
    import polars as pl

    pl.read_csv(path, try_parse_dates=True).write_parquet(output)


def _polars_streaming(path: Path, output: Path) -> None:
    import polars as pl

    pl.scan_csv(path, try_parse_dates=True).sink_parquet(output)


def _duckdb(path: Path, output: Path) -> None:
    import duckdb

    duckdb.execute(f"COPY (FROM read_csv('{path}')) TO '{output}' (FORMAT parquet, COMPRESSION zstd)")


def _pandas(path: Path, output: Path) -> None:
    import pandas as pd

    pd.read_csv(path).to_parquet(output)


READERS: Final[dict[str, Callable[[Path, Path], None]]] = {
    "ours": _ours,
    "polars": _polars,
    "polars streaming": _polars_streaming,
    "duckdb": _duckdb,
    "pandas": _pandas,
}


def measure(reader: str, path: Path) -> dict[str, Any]:
    """Return `seconds`, `cpu_seconds` and `peak_mib` of one import in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.imports", reader, str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{reader} failed on {path.name}: {done.stderr[-500:]}")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _measured(reader: str, path: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        started = time.perf_counter()
        READERS[reader](path, Path(folder, "out.parquet"))
        seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_mib": _peak_mib(used.ru_maxrss)}


def _peak_mib(maxrss: int) -> float:
    """Return the peak of this process alone: what the kernel counts at `wait` includes the parent it came from."""
    status = Path("/proc/self/status")
    if not status.exists():
        return maxrss / _MIB
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def make_files(folder: Path, rows: int, formats: tuple[str, ...] = FORMATS) -> dict[str, Path]:
    """Write the table of `rows` rows in each of the formats and return the files."""
    import polars as pl

    table, files = folder / f"{rows}.parquet", {each: folder / f"{rows}.{each}" for each in formats}
    write_table(table, rows)
    scan = pl.scan_parquet(table)
    for each, path in files.items():
        if each.startswith("csv"):
            plain = folder / f"{rows}.csv"
            if not plain.exists():
                scan.sink_csv(plain)
            _pack(plain, path)
        elif each == "jsonl":
            scan.sink_ndjson(path)
        elif each == "arrow":
            scan.sink_ipc(path)
    return files


def _pack(plain: Path, path: Path) -> None:
    import pyarrow as pa

    if path.suffix == ".gz":
        with plain.open("rb") as source, gzip.open(path, "wb", compresslevel=1) as target:
            shutil.copyfileobj(source, target, 1 << 20)
    elif path.suffix == ".zst":
        with plain.open("rb") as source, pa.CompressedOutputStream(str(path), "zstd") as target:
            while part := source.read(1 << 20):
                target.write(part)


def main() -> int:
    """Print a table for each number of rows."""
    with tempfile.TemporaryDirectory() as folder:
        for rows in ROWS:
            files = make_files(Path(folder), rows)
            cases = [("csv", reader) for reader in READERS if (rows, reader) not in LEFT_OUT]
            cases += [(each, "ours") for each in FORMATS if each != "csv" and (rows, each) not in LEFT_OUT]
            print(f"\n{rows:,} rows\n\n| file | MB | reader | s | CPU s | peak MiB |\n|---|---:|---|---:|---:|---:|")  # noqa: T201
            for each, reader in cases:
                path = files[each]
                found = measure(reader, path)
                size = path.stat().st_size / 1e6
                print(  # noqa: T201
                    f"| {each} | {size:,.0f} | {reader} | {found['seconds']:.1f} | {found['cpu_seconds']:.1f} "
                    f"| {found['peak_mib']:,.0f} |",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    print(json.dumps(_measured(sys.argv[1], Path(sys.argv[2]))))  # noqa: T201
