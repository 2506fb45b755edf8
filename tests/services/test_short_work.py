"""What counts as short work."""

import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import SYSTEM
from mcp_server.services.short_work import ShortWork
from mcp_server.settings import LimitSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.datasets import DatasetStore
from mcp_server.stores.predictions import PredictionStore
from mcp_server.stores.sources.files import SourceFiles


@pytest.fixture
def known() -> set[str]:
    return set()


@pytest.fixture
def wide(sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock) -> str:
    frame = pl.DataFrame({f"x{i}": [1, 2] for i in range(400)})
    return (
        DatasetStore(sqlite_database, artifacts, clock)
        .write("wide", frame, source="test", lineage={}, caller=SYSTEM)
        .ref
    )


@pytest.fixture
def work(
    sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock, tmp_path: Path, known: set[str]
) -> ShortWork:
    datasets = DatasetStore(sqlite_database, artifacts, clock)
    for name, rows in (("small", 1000), ("large", 1_000_000)):
        frame = pl.DataFrame({f"x{i}": pl.int_range(rows, eager=True) for i in range(12)})
        datasets.write(name, frame, source="test", lineage={}, caller=SYSTEM)
    (tmp_path / "small.csv").write_text("a\n1\n")
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(10**9)
    with (tmp_path / "packed.csv.gz").open("wb") as file:
        file.truncate(5 * 10**6)
    return ShortWork(
        limit_s=1.0,
        datasets=datasets,
        sources=SourceFiles([tmp_path.resolve()], LimitSettings()),
        predictions=PredictionStore(sqlite_database, clock),
        is_known=lambda kind, arguments: kind in known,
        takes_long=lambda kind, arguments: arguments.get("suite") == "foreign",
    )


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("describe_dataset", {"dataset": "small"}),
        ("validate_dataset", {"dataset": "small", "suite": "s", "engine": "native"}),
        ("validate_dataset", {"dataset": "no_such", "suite": "s"}),
        ("check_integrity", {"dataset": "small@1", "foreign_keys": [{"column": "a", "references": "small.x0"}]}),
        ("transform_dataset", {"name": "x", "sql": "select * from small"}),
        ("clean_dataset", {"dataset": "small", "name": "x", "steps": "auto"}),
        ("check_drift", {"reference": "small", "current": "small"}),
        ("check_performance", {"endpoint": "without_predictions"}),
        ("import_dataset", {"source": "small.csv"}),
        ("import_dataset", {"source": "nba://sample", "options": {"seasons": 3}}),
        ("import_dataset", {"source": "nba://teams"}),
        ("import_dataset", {"source": "../outside.csv"}),
    ],
)
def test_little_work_is_short(work: ShortWork, kind: str, arguments: dict[str, Any]) -> None:
    assert work.is_short(kind, arguments, wait_seconds=25)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("describe_dataset", {"dataset": "large"}),
        ("validate_dataset", {"dataset": "small", "suite": "s", "engine": "gx"}),
        ("validate_dataset", {"dataset": "small", "suite": "foreign"}),
        ("check_integrity", {"dataset": "small", "foreign_keys": [{"column": "a", "references": ["large.x0"]}]}),
        ("transform_dataset", {"name": "x", "sql": "select * from small join large using (x0)"}),
        ("transform_dataset", {"name": "x", "recipe": "nba_elo", "inputs": ["large"]}),
        ("clean_dataset", {"dataset": "small", "steps": [{"action": "impute", "options": {"method": "knn"}}]}),
        ("import_dataset", {"source": "large.csv"}),
        ("import_dataset", {"source": "packed.csv.gz"}),
        ("import_dataset", {"source": "s3://bucket/key.csv"}),
        ("import_dataset", {"source": "nba://games/2024-25"}),
        ("import_dataset", {"source": "nba://sample", "options": {"seasons": 1000}}),
        ("explain_model", {"model": "m", "dataset": "small"}),
        ("train_model", {"dataset": "small"}),
    ],
)  # fmt: skip
def test_much_or_unknown_work_is_not(work: ShortWork, kind: str, arguments: dict[str, Any]) -> None:
    assert not work.is_short(kind, arguments, wait_seconds=25)


def test_many_columns_of_few_rows_are_not_short_to_describe(work: ShortWork, wide: str) -> None:
    assert not work.is_short("describe_dataset", {"dataset": wide}, wait_seconds=25)
    assert work.is_short("validate_dataset", {"dataset": wide, "suite": "s"}, wait_seconds=25)


def test_who_does_not_wait_gets_a_job(work: ShortWork) -> None:
    assert not work.is_short("describe_dataset", {"dataset": "small"}, wait_seconds=0)


def test_an_answer_that_is_kept_takes_no_time(work: ShortWork, known: set[str]) -> None:
    arguments = {"dataset": "large", "suite": "s", "engine": "gx"}
    assert work.estimate_s("validate_dataset", arguments) == math.inf
    known.add("validate_dataset")
    assert work.estimate_s("validate_dataset", arguments) == 0
