"""Cleaning through the data service: what is stored beside the outcome, and what a plan does to other datasets."""

import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mcp_server.engine.cleaning import table as cleaning_table
from mcp_server.engine.cleaning.journal import JOURNAL_SCHEMA
from mcp_server.engine.cleaning.plan import apply_plan
from mcp_server.errors import (
    CancelledError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from tests.services.data_world import DataWorld, make_world

ANNA = Caller("anna", "data_scientist")
TRAIN = pl.DataFrame(
    {
        "team": [" BOS", "LAL", "NULL", "LAL", "LAL"],
        "points": [100.0, None, 90.0, 110.0, 110.0],
        "id": [1, 2, 3, 4, 4],
    }
)
TEST = pl.DataFrame({"team": ["MIA ", None], "points": [None, 7.0], "id": [9, 9]})
STEPS: list[dict[str, Any]] = [
    {"action": "trim"},
    {"action": "impute", "columns": ["points"], "options": {"method": "mean"}},
    {"action": "drop_duplicates"},
]


def stored_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def world(sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock, tmp_path: Path) -> DataWorld:
    (tmp_path / "root").mkdir()
    world = make_world(sqlite_database, artifacts, clock, tmp_path / "root")
    world.datasets.write("train", TRAIN, source="a test", lineage={}, caller=ANNA)
    world.datasets.write("test", TEST, source="a test", lineage={}, caller=ANNA)
    return world


def files_of(world: DataWorld, ref: str) -> list[Path]:
    """Where the journal and the plan of a version lie."""
    version = world.datasets.resolve(ref)
    folder = version.path.parents[1]
    return [folder / key[:2] / key for key in version.lineage["files"].values()]


def test_the_result_counts_and_the_journal_names_each_cell_and_row(world: DataWorld) -> None:
    result = world.cleaning.clean_dataset(caller=ANNA, dataset="train", name="clean", steps=STEPS)
    found = [(c.step, c.column, c.cells_changed, c.rows_removed) for c in result.changes]
    assert found == [(0, "team", 1, 0), (1, "points", 1, 0), (2, None, 0, 1)]
    assert result.changes[1].detail == "mean: 102.5"
    assert (result.journal_uri, result.journal_entries) == ("dataset://clean@1/journal", 3)
    assert not result.journal_truncated
    head = json.loads(world.cleaning.journal_head("clean"))
    assert (head["dataset"], head["input"], head["changes"], head["entries"]) == ("clean@1", "train@1", 3, 3)
    assert (head["columns"], head["cut"]) == (list(JOURNAL_SCHEMA), False)
    assert head["rows"] == [
        [0, "trim", 0, "team", " BOS", "BOS"],
        [1, "impute", 1, "points", None, "102.5"],
        [2, "drop_duplicates", 4, None, "equals row 3", None],
    ]
    whole = pl.read_parquet(io.BytesIO(world.cleaning.journal_file("clean@1")))
    assert [list(row) for row in whole.rows()] == head["rows"]


def test_a_plan_gives_another_dataset_the_first_ones_values(world: DataWorld) -> None:
    world.cleaning.clean_dataset(caller=ANNA, dataset="train", name="clean", steps=STEPS)
    options = {"apply_plan": "clean"}
    result = world.cleaning.clean_dataset(caller=ANNA, dataset="test", name="clean-test", options=options)
    assert world.datasets.read("clean-test").rows() == [("MIA", 102.5, 9), (None, 7.0, 9)]
    assert result.lineage.parents == ["test@1"]
    assert result.lineage.plan_of == "clean@1"
    assert [step.action for step in result.steps] == ["trim", "impute", "drop_duplicates"]
    auto = world.cleaning.clean_dataset(caller=ANNA, dataset="train", name="auto")
    assert all(step.reason for step in auto.steps)
    by_auto = world.cleaning.clean_dataset(caller=ANNA, dataset="test", name="by-auto", options={"apply_plan": "auto"})
    assert [step.action for step in by_auto.steps] == [step.action for step in auto.steps]
    assert not any(step.reason for step in by_auto.steps)  # they quote figures of the first table
    again, _ = apply_plan(TEST, world.cleaning.plan("clean-test"))
    assert again.rows() == world.datasets.read("clean-test").rows()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"steps": STEPS, "options": {"apply_plan": "clean"}}, InvalidArgumentError, "do not go together"),
        ({"options": {"aply_plan": "clean"}}, InvalidArgumentError, "no option 'aply_plan'"),
        ({"options": {"apply_plan": 1}}, InvalidArgumentError, "apply_plan is name or name@version"),
        ({"options": {"apply_plan": "claen"}}, NotFoundError, "claen"),
        ({"options": {"apply_plan": "train"}}, FailedPreconditionError, "train@1 has no plan"),
        ({"options": {"apply_plan": "clean"}, "dataset": "odd"}, InvalidArgumentError, "no column 'team'"),
        ({"steps": [{"action": "trimm"}]}, InvalidArgumentError, "Step 0 has no action 'trimm'"),
        ({"steps": [{"action": "trim", "options": {"sied": "left"}}]}, InvalidArgumentError, "no option 'sied'"),
        (
            {"steps": [{"action": "trim"}, {"action": "trim", "columns": ["points"]}]},
            InvalidArgumentError,
            r"Step 1 \(trim\): column 'points' is Float64, not text",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    world: DataWorld, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    world.cleaning.clean_dataset(caller=ANNA, dataset="train", name="clean", steps=STEPS)
    odd = pl.DataFrame({"points": [1.0], "id": [1]})
    folder = world.datasets.write("odd", odd, source="a test", lineage={}, caller=ANNA).path.parents[1]
    before = stored_in(folder)
    with pytest.raises(error, match=message):
        world.cleaning.clean_dataset(caller=ANNA, **{"dataset": "test", "name": "new"} | arguments)
    assert "new" not in world.datasets.names()
    assert stored_in(folder) == before


def test_journal_and_plan_go_with_their_dataset_unless_another_has_the_same(world: DataWorld) -> None:
    for name in ("clean", "twin"):
        world.cleaning.clean_dataset(caller=ANNA, dataset="train", name=name, steps=STEPS)
    files = files_of(world, "clean")
    assert files == files_of(world, "twin")
    world.service.delete_dataset(caller=ANNA, dataset="clean")
    assert all(path.is_file() for path in files)
    world.service.delete_dataset(caller=ANNA, dataset="twin")
    assert not any(path.exists() for path in files)


def test_equal_content_makes_no_version_and_leaves_no_file(world: DataWorld) -> None:
    first = world.cleaning.clean_dataset(caller=ANNA, dataset="train", name="clean", steps=STEPS)
    folder = world.datasets.resolve("clean").path.parents[1]
    before = stored_in(folder)
    again = world.cleaning.clean_dataset(caller=ANNA, dataset="train", name="clean", steps=STEPS)
    assert (again.created, again.version, again.journal_uri) == (False, 1, first.journal_uri)
    other = [*STEPS, {"action": "trim"}]
    third = world.cleaning.clean_dataset(caller=ANNA, dataset="train", name="clean", steps=other)
    assert (third.created, [w.code for w in third.warnings]) == (False, ["nothing_stored"])
    assert stored_in(folder) == before


def test_a_dataset_that_was_not_cleaned_has_no_journal(world: DataWorld) -> None:
    with pytest.raises(FailedPreconditionError, match="train@1 has no journal"):
        world.cleaning.journal_head("train")


def test_many_batches_store_what_one_does(world: DataWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = world.cleaning.clean_dataset(caller=ANNA, dataset="train", name="whole", steps=STEPS)
    monkeypatch.setattr(cleaning_table, "_CELLS_IN_MEMORY", 0)
    monkeypatch.setattr(cleaning_table, "_FEWEST_ROWS", 2)
    monkeypatch.setattr(cleaning_table, "_CELLS_IN_BATCH", 6)
    parts = world.cleaning.clean_dataset(caller=ANNA, dataset="train", name="parts", steps=STEPS)
    assert parts.content_hash == whole.content_hash
    assert parts.changes == whole.changes


class Cancelled:
    """Somebody cancels after a few ticks."""

    def __init__(self) -> None:
        self.left = 3

    def __call__(self, fraction: float, message: str = "") -> None:
        self.left -= 1
        if not self.left:
            raise CancelledError("The job was cancelled.")

    def cancelled(self) -> bool:
        return self.left <= 0


def test_a_cancelled_cleaning_leaves_nothing(world: DataWorld) -> None:
    folder = world.datasets.resolve("train").path.parents[1]
    before = stored_in(folder)
    with pytest.raises(CancelledError):
        world.cleaning.clean_dataset(caller=ANNA, dataset="train", name="new", steps=STEPS, progress=Cancelled())
    assert world.datasets.names() == ["test", "train"]
    assert stored_in(folder) == before


def test_a_wide_dataset_gives_a_result_that_stays_small(world: DataWorld) -> None:
    wide = pl.DataFrame({f"column_with_a_long_name_{i}": [f" value {i}", None, "NULL"] for i in range(150)})
    world.datasets.write("wide", wide, source="a test", lineage={}, caller=ANNA)
    result = world.cleaning.clean_dataset(caller=ANNA, dataset="wide", name="clean-wide")
    assert len(result.model_dump_json()) < 16_000
    assert result.total_changes >= 300
    assert sum(change.cells_changed for change in result.changes) <= 450
    assert len(world.cleaning.journal_head("clean-wide")) < 16_000
