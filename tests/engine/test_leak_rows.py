"""Leaks that only all rows show: statistics of the target in groups, and the targets of neighbouring rows."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from mcp_server.engine.leak_rows import find_target_statistics, judge_neighbours
from tests.engine.test_leakage import findings, stopped, warned

N_ROWS = 1500


def grouped(task: str, group_size: int, statistic: pl.Expr) -> tuple[pl.DataFrame, Any]:
    rng = np.random.default_rng(0)
    y = rng.normal(size=N_ROWS) if task == "regression" else rng.integers(0, 2, N_ROWS).astype(float)
    team = rng.integers(0, N_ROWS // group_size, N_ROWS)
    frame = pl.DataFrame({"team": [f"t{k}" for k in team], "x": rng.normal(size=N_ROWS), "y": y})
    return frame.with_columns(rate=statistic), y


@pytest.mark.parametrize("group_size", [4, 50])
@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize(
    "statistic",
    [
        pl.col("y").mean().over("team"),
        pl.col("y").sum().over("team"),
        (pl.col("y").sum().over("team") - pl.col("y")) / (pl.len().over("team") - 1),
    ],
)
def test_a_statistic_of_the_target_by_group_is_stopped(statistic: pl.Expr, task: Any, group_size: int) -> None:
    frame, y = grouped(task, group_size, statistic)
    assert stopped(find_target_statistics(frame, y, ["team", "x", "rate"], task)) == {"rate"}
    assert warned(find_target_statistics(frame, y, ["x", "rate"], task, allowed=["rate"])) == {"rate"}


def test_the_mean_of_earlier_rows_of_a_group_is_honest() -> None:
    before = (pl.col("y").cum_sum().over("team") - pl.col("y")) / (pl.col("y").cum_count().over("team") - 1)
    frame, y = grouped("binary", 20, before)
    assert find_target_statistics(frame, y, ["team", "x", "rate"], "binary") == []


def slow(moved_by: int) -> pl.DataFrame:
    rng = np.random.default_rng(1)
    walk = rng.normal(size=3000).cumsum().cumsum()
    frame = pl.DataFrame({"y": walk, "x": rng.normal(size=3000)})
    return frame.with_columns(moved=pl.col("y").shift(moved_by)).drop_nulls()


def test_the_last_value_of_a_slow_series_is_honest_and_the_next_one_is_not() -> None:
    past, future = slow(1), slow(-1)
    found = findings(past, "y", task="regression")
    assert stopped(found) == {"moved"}
    assert stopped(judge_neighbours(past, "y", found)) == set()
    assert warned(judge_neighbours(past, "y", found)) == {"moved"}
    told = judge_neighbours(future, "y", findings(future, "y", task="regression"))
    assert stopped(told) == {"moved"}
    assert "next row" in told[0].message
