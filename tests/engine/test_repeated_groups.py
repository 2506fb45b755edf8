"""Rows that repeat the same thing are told from rows that only share a name."""

import numpy as np
import polars as pl
import pytest

from mcp_server.engine.repeated_groups import find_shared_groups

RNG = np.random.default_rng(0)
N, N_GROUPS = 2000, 40
TRAIN, TEST = np.arange(1500), np.arange(1500, N)
WHO = np.arange(N) % N_GROUPS


def named(frame: pl.DataFrame) -> list[list[str]]:
    return [finding.columns for finding in find_shared_groups(frame, TRAIN, TEST)]


def test_many_measurements_of_each_of_a_few_patients_are_a_group() -> None:
    level = RNG.normal(size=N_GROUPS)[WHO]
    frame = pl.DataFrame({"who": [f"p{k}" for k in WHO], "pressure": level + 0.05 * RNG.normal(size=N)})
    assert named(frame) == [["who"]]


def test_a_name_that_many_different_rows_share_is_no_group() -> None:
    frame = pl.DataFrame(
        {
            "team": [f"t{k}" for k in WHO],
            "points": RNG.normal(size=N),
            "founded": (1900.0 + np.arange(N_GROUPS))[WHO],  # one value a team: an attribute, no measurement
        }
    )
    assert named(frame) == []


@pytest.mark.parametrize("n_groups", [40, 5_000])
def test_groups_of_a_large_table_are_told_from_some_of_its_rows(n_groups: int) -> None:
    rows = np.arange(150_000)
    who = rows % n_groups
    level = RNG.normal(size=n_groups)[who]
    frame = pl.DataFrame({"patient_id": who, "pressure": level + 0.05 * RNG.normal(size=len(rows))})
    train, test = rows[:100_000], rows[100_000:]
    assert [finding.columns for finding in find_shared_groups(frame, train, test)] == [["patient_id"]]
    unlike = frame.with_columns(pressure=pl.Series(RNG.normal(size=len(rows))))
    assert find_shared_groups(unlike, train, test) == []
