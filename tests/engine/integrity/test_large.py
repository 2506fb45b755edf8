"""Keys of ten million rows, in a process of its own whose memory is looked at."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

N_ROWS = 10_000_000
MOST_MEMORY_KB = 600 * 1024  # Python and the libraries included, about 120 MB
PROGRAM = """
import json, re, sys
import polars as pl
from pathlib import Path
from mcp_server.engine.integrity.checks import check_integrity
from mcp_server.engine.integrity.keys import Reference
from mcp_server.engine.integrity.table import Table

orders = Table.of("orders", pl.scan_parquet(sys.argv[1]))
customers = Table.of("customers", pl.scan_parquet(sys.argv[2]))
references = [Reference(("customer",), customers, ("customer",)), Reference(("code",), orders, ("code",))]
found = list(check_integrity(orders, ["code", "customer"], references, []))
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
print(json.dumps({"violations": [each.violations for each in found], "peak_kb": peak}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_keys_of_ten_million_rows_need_little_memory(tmp_path: Path):
    number = pl.int_range(N_ROWS, eager=False)
    orders = pl.LazyFrame().select(
        code=pl.format("ORD-{}", pl.when(number == 9_000_000).then(1_000).otherwise(number)),
        customer=pl.when(number == 9_000_000).then(1_000).otherwise(number % 2_000_010),
    )
    orders.sink_parquet(tmp_path / "orders.parquet", row_group_size=122_880)
    pl.LazyFrame().select(customer=pl.int_range(2_000_000)).sink_parquet(tmp_path / "customers.parquet")

    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path / "orders.parquet"), str(tmp_path / "customers.parquet")]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=300)

    found = json.loads(answer.stdout)
    orphans = sum(each % 2_000_010 >= 2_000_000 for each in range(N_ROWS))
    assert found["violations"] == [0, 2, orphans, 0]
    assert found["peak_kb"] < MOST_MEMORY_KB
