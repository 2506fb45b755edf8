"""Checks without a fit: the verdict, and findings with a step that mends them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mcp_server.errors import FailedPreconditionError, InvalidArgumentError
from mcp_server.results.training import DataCheckResult
from mcp_server.runtime.progress import NoProgress
from tests.services.training_world import Stand

N = 1200


def table(**columns: Any) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(N, 2))
    won = (x[:, 0] + rng.normal(size=N) > 0).astype(int)
    frame = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "won": won})
    return frame.with_columns(pl.Series(name, values, strict=False) for name, values in columns.items())


def check(stand: Stand, frame: pl.DataFrame, **rest: Any) -> DataCheckResult:
    stand.write("checked", frame)
    return stand.service.check_training_data(progress=NoProgress(), dataset="checked", target="won", **rest)


def test_honest_data_is_ready_and_its_base_rate_is_told(stand: Stand) -> None:
    found = check(stand, table())
    assert found.verdict == "ready"
    assert found.base_rate == pytest.approx(table()["won"].mean())
    assert found.shared_rows == 0


@pytest.mark.parametrize(
    ("kind", "change", "fix"),
    [
        ("target_copy", lambda f: f.with_columns(copy=pl.col("won") * 2), "features"),
        (
            "leak",
            lambda f: f.with_columns(rate=pl.col("won").mean().over(pl.int_range(N) // 4), g=pl.int_range(N) // 4),
            "features",
        ),
        ("imbalance", lambda f: f.with_columns(won=(pl.int_range(N) % 200 == 0).cast(pl.Int8)), "class_weight"),
        ("similar_names", lambda f: f.with_columns(A=pl.col("b") ** 2), "clean_dataset"),
        ("shared_rows", lambda f: pl.concat([f[:800], f[:400]]), "drop_duplicates"),
        ("shared_groups", lambda f: f.with_columns(patient_id=pl.int_range(N) // 5), "split kind group"),
        ("too_few_rows", lambda f: f[:40], "rows"),
        ("missing_target", lambda f: f.with_columns(won=pl.when(pl.int_range(N) > 50).then("won")), "missing_target"),
    ],
)
def test_what_can_be_mended_is_fixable_and_says_how(
    stand: Stand, kind: str, change: Callable[[pl.DataFrame], pl.DataFrame], fix: str
) -> None:
    found = check(stand, change(table()))
    assert found.verdict == "fixable"
    assert fix in next(finding for finding in found.findings if finding.kind == kind).fix


def test_a_class_of_one_row_and_features_that_all_leak_are_blocked(stand: Stand) -> None:
    lonely = table().with_columns(won=pl.when(pl.int_range(N) == 7).then(2).otherwise("won"))
    assert check(stand, lonely).verdict == "blocked"
    copied = check(stand, table().with_columns(copy=pl.col("won") + 1), features=["copy"])
    assert copied.verdict == "blocked"
    assert copied.findings[0].score_alone == pytest.approx(1.0)


def test_what_the_features_reach_without_a_leak_is_told(stand: Stand) -> None:
    leak = check(stand, table().with_columns(copy=pl.col("won") * 3)).findings[0]
    assert leak.columns == ["copy"]
    assert leak.score_without is not None
    assert 0.6 < leak.score_without < 0.9


def test_a_leak_stops_a_training_and_is_let_through_by_name(stand: Stand) -> None:
    stand.write("checked", table().with_columns(copy=pl.col("won") * 3))
    with pytest.raises(FailedPreconditionError, match="'copy'") as refusal:
        stand.train(name="m", dataset="checked", target="won", features=None)
    assert "allow_features" in refusal.value.hint
    assert stand.train(name="m", dataset="checked", target="won", features=None, allow_features=["copy"]).warnings


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 1e308])
def test_values_no_model_can_take_are_refused_by_column(stand: Stand, value: float) -> None:
    with pytest.raises(InvalidArgumentError, match="'c'") as refusal:
        check(stand, table(c=[value] + [1.0, 2.0] * ((N - 1) // 2) + [0.0]))
    assert "clean_dataset" in refusal.value.hint


def test_an_empty_column_is_left_out_and_named(stand: Stand) -> None:
    found = check(stand, table().with_columns(empty=pl.lit(None, dtype=pl.Float64), same=pl.lit(1)))
    assert found.features == ["a", "b"]
    assert "'empty'" in " ".join(found.notes)
    assert "'same'" in " ".join(found.notes)


@pytest.mark.parametrize(
    ("file", "words"),
    [("target_all_missing", "missing in every row"), ("target_unique_per_row", "60 different values in 60 rows")],
)
def test_bad_files_are_refused(stand: Stand, shared_data: Path, file: str, words: str) -> None:
    stand.write("bad", pl.read_csv(shared_data / "bad_inputs" / "ml" / f"{file}.csv"))
    with pytest.raises(InvalidArgumentError, match=words):
        stand.service.check_training_data(progress=NoProgress(), dataset="bad", target="y")


def test_a_bad_file_with_a_copy_of_the_target_names_it(stand: Stand, shared_data: Path) -> None:
    stand.write("bad", pl.read_csv(shared_data / "bad_inputs" / "ml" / "leak_copy_of_target.csv"))
    found = stand.service.check_training_data(progress=NoProgress(), dataset="bad", target="y")
    assert found.findings[0].kind == "target_copy"
    assert found.findings[0].columns == ["copy"]
