from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from mcp_server.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, ResourceExhaustedError
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.datasets import DatasetStore
from mcp_server.stores.parquet import write_parquet

ANNA = Caller("anna", "data_scientist")
GAMES = pl.DataFrame({"team": ["BOS", "LAL", None], "points": [101, 99, 87]})


@pytest.fixture
def store(database: Database, artifacts: ArtifactStore, clock: ManualClock) -> DatasetStore:
    return DatasetStore(database, artifacts, clock)


def put(store: DatasetStore, name: str, content: pl.DataFrame | pl.LazyFrame | Path, **lineage: object) -> str:
    return store.write(name, content, source="a test", lineage=lineage, caller=ANNA).ref


def test_a_written_dataset_is_read_back_with_its_record(store: DatasetStore, clock: ManualClock) -> None:
    version = store.write("games", GAMES, source="a test", lineage={"parents": []}, caller=ANNA)

    assert (version.ref, version.rows, version.schema) == ("games@1", 3, {"team": "String", "points": "Int64"})
    assert [column.nullable for column in version.columns] == [True, False]
    assert (version.created_at, version.created_by) == (clock.now(), "anna")
    assert store.resolve("games") == version
    assert store.read("games@1").equals(GAMES)
    assert store.scan("games").select("points").sum().collect().item() == 287
    assert store.read("games", columns=["points"]).columns == ["points"]


def test_equal_content_makes_no_new_version(store: DatasetStore, tmp_path: Path) -> None:
    put(store, "games", GAMES)
    in_pieces = pl.concat([GAMES[:1], GAMES[1:]], rechunk=False)
    write_parquet(GAMES, tmp_path / "games.parquet")

    assert put(store, "games", in_pieces.lazy()) == "games@1"
    assert put(store, "games", tmp_path / "games.parquet") == "games@1"
    assert put(store, "games", GAMES.reverse()) == "games@2"
    assert put(store, "games", GAMES) == "games@3"
    assert store.resolve("games@1").content_hash == store.resolve("games@3").content_hash


def test_an_unknown_dataset_is_refused_with_near_names(store: DatasetStore) -> None:
    put(store, "games", GAMES)

    with pytest.raises(NotFoundError, match="No dataset named 'gmaes'") as refusal:
        store.resolve("gmaes")
    assert "Close names: games" in refusal.value.hint
    with pytest.raises(NotFoundError) as refusal:
        store.read("games@7")
    assert "latest version of games is 1" in refusal.value.hint


@pytest.mark.parametrize("name", ["Games", "", "a b", "../x", "a@1", "1a", "a" * 64, "é", "a\n"])
def test_a_name_outside_the_pattern_is_refused(store: DatasetStore, name: str) -> None:
    with pytest.raises(InvalidArgumentError):
        put(store, name, GAMES)


def test_a_frame_without_rows_is_refused_and_leaves_nothing(store: DatasetStore) -> None:
    with pytest.raises(InvalidArgumentError, match="0 data rows"):
        put(store, "games", GAMES.clear())
    assert store.names() == []


def test_a_column_of_lists_is_refused(store: DatasetStore) -> None:
    with pytest.raises(InvalidArgumentError, match="'a' holds List"):
        put(store, "games", pl.DataFrame({"a": [[1, 2]]}))


def test_an_unknown_column_is_refused_with_near_names(store: DatasetStore) -> None:
    put(store, "games", GAMES)
    with pytest.raises(InvalidArgumentError) as refusal:
        store.read("games", columns=["pionts"])
    assert "points" in refusal.value.hint


def test_writers_at_once_make_versions_without_gaps(store: DatasetStore) -> None:
    frames = [GAMES.with_columns(pl.lit(i).alias("i")) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        refs = list(pool.map(lambda frame: put(store, "games", frame), frames))
    assert sorted(refs) == ["games@1", "games@2", "games@3", "games@4"]


def test_latest_lists_the_newest_version_of_each_by_name(store: DatasetStore, clock: ManualClock) -> None:
    put(store, "b", GAMES)
    clock.advance(60)
    put(store, "b", GAMES.reverse())
    put(store, "a", GAMES)

    assert [version.ref for version in store.latest(limit=10)] == ["a@1", "b@2"]
    assert [version.ref for version in store.latest(limit=10, after="a")] == ["b@2"]
    assert [version.ref for version in store.latest(limit=1)] == ["a@1"]
    first, second = store.versions("b")
    assert second.created_at - first.created_at == timedelta(seconds=60)


def test_delete_keeps_files_that_another_version_uses(store: DatasetStore) -> None:
    put(store, "games", GAMES)
    put(store, "copy", GAMES)
    put(store, "games", GAMES.reverse())
    only_ours = store.resolve("games@2").path

    assert store.delete("games") == ["games@1", "games@2"]
    assert not only_ours.exists()
    assert store.read("copy").equals(GAMES)
    with pytest.raises(NotFoundError):
        store.delete("games")


def test_the_number_of_a_deleted_version_is_never_given_again(store: DatasetStore) -> None:
    for last in (1, 2, 3):
        put(store, "games", GAMES.head(last))
    store.delete("games@3")
    store.delete("games@1")
    assert put(store, "games", GAMES.head(2)) == "games@2"
    assert put(store, "games", GAMES) == "games@4"
    store.delete("games")
    assert put(store, "games", GAMES) == "games@5"


def test_equal_rows_in_another_order_are_equal_where_order_says_nothing(store: DatasetStore) -> None:
    put(store, "games", GAMES)
    other = pl.DataFrame({"team": ["LAL", "BOS", None], "points": [101, 99, 87]})

    def unordered(frame: pl.DataFrame) -> str:
        return store.write("games", frame, source="a test", lineage={}, caller=ANNA, ordered=False).ref

    assert unordered(GAMES.reverse()) == "games@1"
    assert unordered(other) == "games@2"
    assert unordered(pl.concat([other, other.head(1)])) == "games@3"
    assert put(store, "games", pl.concat([other, other.head(1)]).reverse()) == "games@4"


def test_descendants_are_the_versions_made_from_a_reference(store: DatasetStore) -> None:
    put(store, "games", GAMES)
    put(store, "elo", GAMES, parents=["games@1"])
    assert store.descendants(["games@1"]) == ["elo@1"]
    assert store.descendants(["elo@1"]) == []


def test_a_full_disk_is_said_to_be_one() -> None:
    with pytest.raises(ResourceExhaustedError, match="disk is full"):
        write_parquet(GAMES, Path("/dev/full"))


def test_missing_is_null_and_never_nan(store: DatasetStore) -> None:
    put(store, "x", pl.DataFrame({"x": [1.0, float("nan"), None]}))
    assert store.read("x")["x"].to_list() == [1.0, None, None]


def test_a_damaged_file_is_an_error_that_names_the_dataset(store: DatasetStore) -> None:
    put(store, "games", GAMES)
    store.resolve("games").path.write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(FailedPreconditionError, match="games@1 is damaged"):
        store.read("games")
