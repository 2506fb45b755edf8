"""What can be imported, in pages."""

import sqlite3
from pathlib import Path

import pytest
from pydantic import SecretStr

from mcp_server.errors import InvalidArgumentError
from mcp_server.runtime.clock import ManualClock
from mcp_server.services.paging import cursor_of
from mcp_server.settings import LimitSettings, RemoteSettings, S3Settings, WebSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.s3 import Buckets
from mcp_server.stores.sources.connections import Connections
from mcp_server.stores.sources.reader import SourceReader
from mcp_server.stores.sources.s3 import S3Sources
from mcp_server.stores.sources.sql import SqlSources
from mcp_server.stores.sources.web import WebSources
from tests.services.data_world import DataWorld, make_world

REMOTE, LIMITS = RemoteSettings(), LimitSettings()


@pytest.fixture
def world(sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock, tmp_path: Path) -> DataWorld:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("a.csv", "b.csv", "c.csv"):
        (root / name).write_text("x\n1\n")
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("CREATE TABLE games (x int)")
    connection.close()
    urls = {
        "store": SecretStr(f"sqlite:///{tmp_path / 'store.db'}"),
        "down": SecretStr("postgresql://me:hunter2@127.0.0.1:1/x"),
    }
    readers: dict[str, SourceReader] = {
        "s3": S3Sources(Buckets(S3Settings(buckets=("lake",)), REMOTE), REMOTE, LIMITS),
        "sql": SqlSources(Connections(urls, REMOTE), REMOTE, LIMITS),
        "https": WebSources(WebSettings(allowed_hosts=("data.example.org",)), REMOTE, LIMITS),
    }
    return make_world(sqlite_database, artifacts, clock, root, remote=readers)


REMOTE_SOURCES = [
    "s3://lake/…", "sql://down", "sql://store?query=SELECT …", "sql://store/games", "https://data.example.org/…",
]  # fmt: skip


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 50])
def test_every_source_is_listed_once_files_first(world: DataWorld, limit: int) -> None:
    found: list[str] = []
    cursor = None
    while True:
        page = world.service.list_sources(limit=limit, cursor=cursor)
        assert 1 <= len(page.items) <= limit
        found += [item.source for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found[:3] == ["a.csv", "b.csv", "c.csv"]
    others = found[3:]
    assert [source for source in others if not source.startswith("nba://")] == REMOTE_SOURCES
    assert len(set(found)) == len(found)
    assert "hunter2" not in repr(page)


def test_a_page_says_what_is_on_it(world: DataWorld) -> None:
    page = world.service.list_sources(limit=2)
    assert page.summary == "2 files on this page; more follow."
    kinds = {item.source: item.kind for item in world.service.list_sources().items}
    assert kinds["a.csv"] == "file"
    assert kinds["sql://down"] == "sql (unavailable)"


@pytest.mark.parametrize("key", ["x", "other:", "other:x", "other:-1", "other:99999999999"])
def test_a_cursor_of_another_list_is_refused(world: DataWorld, key: str) -> None:
    with pytest.raises(InvalidArgumentError, match="no cursor"):
        world.service.list_sources(cursor=cursor_of(key))


def test_many_sources_do_not_make_an_answer_too_long(world: DataWorld) -> None:
    for number in range(200):
        (world.root / f"{number:03d}-{'long' * 40}.csv").write_text("x\n1\n")
    page = world.service.list_sources(limit=500)
    assert len(page.model_dump_json()) < 16_000
    assert page.next_cursor is not None
