from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from benchmarks.validation_data import suite_of, write_table
from mcp_server.engine.expectations.evaluation import evaluate
from mcp_server.engine.expectations.suite import parse_expectations

ROWS = 130_000  # two row groups


def test_the_table_is_the_same_each_time_it_is_made(tmp_path: Path):
    for name in ("one", "two"):
        write_table(tmp_path / f"{name}.parquet", ROWS)

    first, second = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("one", "two"))

    assert first.shape == (ROWS, 20)
    assert_frame_equal(first, second)


def test_the_suite_finds_the_planted_faults_and_nothing_else(tmp_path: Path):
    write_table(tmp_path / "table.parquet", ROWS)
    expectations = parse_expectations(suite_of(ROWS))

    rows, judged = evaluate(pl.scan_parquet(tmp_path / "table.parquet"), expectations)

    failed = {each.expectation.kwargs["column"]: each.outcome for each in judged if not each.outcome.success}
    assert (rows, len(judged)) == (ROWS, 22)
    assert set(failed) == {"game_code", "attendance", "pace", "away_team"}
    assert failed["game_code"].partial_unexpected_index_list == (0, ROWS - 1)
    assert failed["attendance"].partial_unexpected_list == (-1.0, -1.0)  # one in each row group
    assert failed["away_team"].partial_unexpected_list == ("???",)
    assert failed["pace"].unexpected_count
