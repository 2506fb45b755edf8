"""Objects in buckets of a real S3 server: read as sources, written as exports."""

import gzip
import json
import time
import zlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mcp_server.errors import (
    AlreadyExistsError,
    CancelledError,
    FailedPreconditionError,
    InvalidArgumentError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from mcp_server.runtime.progress import NoProgress
from mcp_server.settings import LimitSettings, RemoteSettings, S3Settings
from mcp_server.stores import s3
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.exports import Exports
from mcp_server.stores.s3 import Buckets
from mcp_server.stores.sources.files import SourceFiles
from mcp_server.stores.sources.reader import Brought
from mcp_server.stores.sources.s3 import S3Sources
from tests.s3_server import ACCESS_KEY, BUCKET, READ_ONLY_KEY, SECRET_KEY, S3Server
from tests.tls_server import run_counting_listener

CSV = b"team,points\nBOS,101\nLAL,99\n"
REMOTE = RemoteSettings(connect_timeout_s=1, read_timeout_s=2)


class World:
    """A reader and a writer of one server's buckets."""

    def __init__(self, server: S3Server, folder: Path, prefix: str) -> None:
        self.server = server
        self.folder = folder
        self.prefix = prefix  # of the keys of one test
        self.settings: dict[str, Any] = {
            "buckets": (BUCKET, "nowhere"),
            "endpoint_url": server.endpoint_url,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
        }
        self.limits = LimitSettings()

    @property
    def output(self) -> Path:
        return self.folder / "out.parquet"

    def put(self, key: str, body: bytes) -> str:
        self.server.client.put_object(Bucket=BUCKET, Key=self.prefix + key, Body=body)
        return self.address(key)

    def get(self, key: str) -> bytes:
        body: bytes = self.server.client.get_object(Bucket=BUCKET, Key=self.prefix + key)["Body"].read()
        return body

    def keys(self) -> list[str]:
        answer = self.server.client.list_objects_v2(Bucket=BUCKET, Prefix=self.prefix)
        return [entry["Key"].removeprefix(self.prefix) for entry in answer.get("Contents", ())]

    def address(self, key: str) -> str:
        return f"s3://{BUCKET}/{self.prefix}{key}"

    def buckets(self) -> Buckets:
        return Buckets(S3Settings(**self.settings), REMOTE)

    def bring(self, source: str, format: str | None = None, progress: Any = None, **options: Any) -> Brought:
        reader = S3Sources(self.buckets(), REMOTE, self.limits)
        return reader.bring(source, format, options, self.output, progress or NoProgress())

    def rows(self) -> list[dict[str, Any]]:
        return pl.read_parquet(self.output).to_dicts()

    def refused(self, source: str) -> LifecycleError:
        with pytest.raises(LifecycleError) as refusal:
            self.bring(source)
        assert SECRET_KEY not in json.dumps(refusal.value.to_document())
        assert list(self.folder.iterdir()) == []
        return refusal.value

    def exports(self, folder: Path) -> Exports:
        files = SourceFiles([folder.resolve()], self.limits)
        return Exports(files, self.buckets(), ArtifactStore(folder / "artifacts"))


@pytest.fixture
def world(s3_server: S3Server, tmp_path: Path, request: pytest.FixtureRequest) -> World:
    (tmp_path / "incoming").mkdir()
    return World(s3_server, tmp_path / "incoming", f"{zlib.crc32(request.node.nodeid.encode())}/")


# Reading -------------------------------------------------------------------------------------------------------


def test_an_object_is_read(world: World) -> None:
    source = world.put("games.csv", CSV)
    brought = world.bring(source)
    assert world.rows() == [{"team": "BOS", "points": 101}, {"team": "LAL", "points": 99}]
    assert brought.source == source
    assert brought.details["etag"] == world.server.client.head_object(Bucket=BUCKET, Key=world.prefix + "games.csv")[
        "ETag"
    ].strip('"')
    assert SECRET_KEY not in repr(brought)


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("a.csv.gz", gzip.compress(CSV, mtime=0)),
        ("odd name+%20?#ä.csv", CSV),
        ("literal[1]*.csv", CSV),
        (".hidden.csv", CSV),
    ],
)
def test_a_key_is_taken_as_it_stands(world: World, key: str, body: bytes) -> None:
    world.bring(world.put(key, body))
    assert len(world.rows()) == 2


def test_the_argument_says_the_format_where_the_key_does_not(world: World) -> None:
    world.bring(world.put("games", CSV), format="csv")
    assert len(world.rows()) == 2


def test_an_object_that_is_no_table_is_refused_as_a_file_is(world: World) -> None:
    assert isinstance(world.refused(world.put("games.csv", b"<html><body>")), InvalidArgumentError)


@pytest.mark.parametrize("key", ["gmes.csv", "Games.csv", "games.csv.gz"])
def test_a_key_that_is_not_there_carries_near_ones(world: World, key: str) -> None:
    near = world.put("games.csv", CSV)
    refusal = world.refused(world.address(key))
    assert isinstance(refusal, NotFoundError)
    assert near in refusal.hint


def test_a_folder_that_is_asked_for_as_an_object_is_called_one(world: World) -> None:
    world.put("day/part-1.csv", CSV)
    assert f"'{world.address('day/')}'" in world.refused(world.address("day")).hint


@pytest.mark.parametrize("source", ["s3://other/games.csv", "s3://GAMES/x.csv", f"s3://{BUCKET}.evil/x.csv"])
def test_a_bucket_that_is_not_named_in_the_settings_is_denied(world: World, source: str) -> None:
    refusal = world.refused(source)
    assert isinstance(refusal, PermissionDeniedError)
    assert BUCKET in refusal.hint


@pytest.mark.parametrize("source", ["s3://", "s3:games/x", "s3:///x.csv", f"s3://{BUCKET}/a\nb.csv"])
def test_what_is_no_address_is_refused(world: World, source: str) -> None:
    assert isinstance(world.refused(source), InvalidArgumentError)


def test_no_bucket_may_be_used_by_default(tmp_path: Path) -> None:
    reader = S3Sources(Buckets(S3Settings(), REMOTE), REMOTE, LimitSettings())
    with pytest.raises(PermissionDeniedError, match="may not be used"):
        reader.bring(f"s3://{BUCKET}/x.csv", None, {}, tmp_path / "out", NoProgress())
    assert reader.listed() == []


def test_a_bucket_that_is_not_there_is_not_found(world: World) -> None:
    assert isinstance(world.refused("s3://nowhere/x.csv"), NotFoundError)


@pytest.mark.parametrize(("key", "secret"), [(ACCESS_KEY, "wrong"), ("nobody", SECRET_KEY)])
def test_wrong_credentials_are_denied(world: World, key: str, secret: str) -> None:
    source = world.put("games.csv", CSV)
    world.settings |= {"access_key_id": key, "secret_access_key": secret}
    refusal = world.refused(source)
    assert isinstance(refusal, PermissionDeniedError)
    assert "NBA_MCP_S3__ACCESS_KEY_ID" in refusal.hint


def test_a_server_that_is_down_is_unavailable_within_seconds(world: World) -> None:
    world.settings["endpoint_url"] = "http://127.0.0.1:1"
    started = time.monotonic()
    assert isinstance(world.refused(f"s3://{BUCKET}/x.csv"), UnavailableError)
    assert time.monotonic() - started < 4


@pytest.mark.slow
def test_a_server_that_is_silent_is_unavailable_within_seconds(world: World) -> None:
    with run_counting_listener(hold=True) as listener:
        world.settings["endpoint_url"] = f"http://127.0.0.1:{listener.port}"
        started = time.monotonic()
        assert isinstance(world.refused(f"s3://{BUCKET}/x.csv"), UnavailableError)
        assert time.monotonic() - started < 8
    assert listener.n_connections >= 1


def test_an_endpoint_that_is_no_address_is_named(world: World) -> None:
    world.settings["endpoint_url"] = "not an address"
    refusal = world.refused(f"s3://{BUCKET}/x.csv")
    assert isinstance(refusal, FailedPreconditionError)
    assert "NBA_MCP_S3__ENDPOINT_URL" in refusal.message


def test_an_object_that_is_too_large_is_not_fetched(world: World) -> None:
    world.limits = LimitSettings(max_file_bytes=10)
    assert isinstance(world.refused(world.put("games.csv", CSV)), ResourceExhaustedError)


def test_a_fetch_ends_when_the_job_is_cancelled(world: World) -> None:
    source = world.put("games.csv", CSV * 100_000)

    class Cancelled(NoProgress):
        def __call__(self, fraction: float, message: str = "") -> None:
            if fraction > 0.1:
                raise CancelledError("The job was cancelled.")

    with pytest.raises(CancelledError):
        world.bring(source, progress=Cancelled())
    assert list(world.folder.iterdir()) == []


# Parts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["day/", "day/*.csv", "day/part-?.csv", "d*/part-[12].csv"])
def test_the_parts_of_a_folder_or_pattern_are_read_as_one(world: World, pattern: str) -> None:
    for number in (1, 2):
        world.put(f"day/part-{number}.csv", f"team,points\nBOS,{number}\n".encode())
    world.put("day/_SUCCESS", b"")
    world.put("day/deeper/part-3.csv", b"team,points\nBOS,3\n")
    world.put("day/empty/", b"")
    brought = world.bring(world.address(pattern))
    assert [row["points"] for row in world.rows()] == [1, 2]
    assert brought.details["keys"] == [f"{world.prefix}day/part-1.csv", f"{world.prefix}day/part-2.csv"]


def test_parts_of_several_folders_are_read_and_others_left_out(world: World) -> None:
    for day in (1, 2):
        world.put(f"days/day={day}/part.csv.gz", gzip.compress(f"team,points\nBOS,{day}\n".encode()))
    world.put("days/day=2/read.me", b"words")
    world.put("days/_old/part.csv", CSV)
    brought = world.bring(world.address("days/*/*"))
    assert [row["points"] for row in world.rows()] == [1, 2]
    assert brought.details["n_objects"] == 2
    assert "1 other objects were left out ('read.me')." in brought.notes


def test_a_pattern_that_fits_nothing_carries_near_keys(world: World) -> None:
    near = world.put("day/part-1.csv", CSV)
    refusal = world.refused(world.address("day/parts-*.csv"))
    assert isinstance(refusal, NotFoundError)
    assert near not in refusal.message
    assert "0 keys" in refusal.hint or near in refusal.hint


def test_parts_of_several_kinds_are_refused(world: World) -> None:
    world.put("day/a.csv", CSV)
    world.put("day/b.json", b"[]")
    assert "csv, json" in world.refused(world.address("day/")).message


# Writing -------------------------------------------------------------------------------------------------------


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "content.parquet"
    pl.DataFrame({"t": ["=1+1", "plain"], "n": [1, 2]}).write_parquet(path)
    return path


@pytest.mark.parametrize("format", ["csv", "parquet", "jsonl"])
def test_an_export_is_one_object(world: World, content: Path, tmp_path: Path, format: Any) -> None:
    written = world.exports(tmp_path).write(content, world.address(f"out.{format}"), format, overwrite=False)
    body = world.get(f"out.{format}")
    assert written.n_bytes == len(body)
    assert written.n_guarded == (1 if format == "csv" else 0)
    expected = {
        "csv": b"t,n\n'=1+1,1\nplain,2\n",
        "parquet": content.read_bytes(),
        "jsonl": b'{"t":"=1+1","n":1}\n{"t":"plain","n":2}\n',
    }
    assert body == expected[format]
    assert list((tmp_path / "artifacts" / "incoming").iterdir()) == []


def test_an_export_replaces_an_object_only_when_told_to(world: World, content: Path, tmp_path: Path) -> None:
    target = world.put("out.csv", b"mine")
    with pytest.raises(AlreadyExistsError):
        world.exports(tmp_path).write(content, target, "csv", overwrite=False)
    assert world.get("out.csv") == b"mine"
    world.exports(tmp_path).write(content, target, "csv", overwrite=True)
    assert world.get("out.csv").startswith(b"t,n")


@pytest.mark.parametrize("part_bytes", [5 * 1024**2, 64 * 1024**2])
def test_an_object_that_came_meanwhile_is_kept(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int
) -> None:
    monkeypatch.setattr(s3, "_PART_BYTES", part_bytes)
    file = tmp_path / "file"
    file.write_bytes(bytes(6 * 1024**2))
    target = world.put("out.csv", b"mine")
    buckets = world.buckets()
    with pytest.raises(AlreadyExistsError):
        buckets.upload(file, buckets.location(target), overwrite=False)
    assert world.get("out.csv") == b"mine"
    assert "Uploads" not in world.server.client.list_multipart_uploads(Bucket=BUCKET)


def test_a_large_export_goes_up_in_parts(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_PART_BYTES", 5 * 1024**2)
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 50_000)
    buckets = world.buckets()
    buckets.upload(file, buckets.location(world.address("large")), overwrite=False)
    assert world.get("large") == file.read_bytes()
    assert world.server.client.head_object(Bucket=BUCKET, Key=world.prefix + "large")["ETag"].endswith('-3"')


def test_an_upload_that_fails_in_the_middle_leaves_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_PART_BYTES", 5 * 1024**2)
    file = tmp_path / "file"
    file.write_bytes(bytes(11 * 1024**2))
    remote = REMOTE.model_copy(update={"transfer_timeout_s": 1e-9})
    buckets = Buckets(S3Settings(**world.settings), remote)
    with pytest.raises(ResourceExhaustedError):
        buckets.upload(file, buckets.location(world.address("large")), overwrite=True)
    assert world.keys() == []
    assert "Uploads" not in world.server.client.list_multipart_uploads(Bucket=BUCKET)


def test_credentials_that_only_read_may_not_write(world: World, content: Path, tmp_path: Path) -> None:
    world.settings["access_key_id"] = READ_ONLY_KEY
    with pytest.raises(PermissionDeniedError):
        world.exports(tmp_path).write(content, world.address("out.csv"), "csv", overwrite=True)
    assert world.keys() == []


@pytest.mark.parametrize("target", ["s3://other/x.csv", f"s3://{BUCKET}/", f"s3://{BUCKET}/folder/", f"s3://{BUCKET}"])
def test_a_target_that_may_not_be_is_denied(world: World, content: Path, tmp_path: Path, target: str) -> None:
    with pytest.raises(PermissionDeniedError):
        world.exports(tmp_path).write(content, target, "csv", overwrite=True)


def test_buckets_are_listed(world: World) -> None:
    reader = S3Sources(world.buckets(), REMOTE, world.limits)
    assert [each.source for each in reader.listed()] == [f"s3://{BUCKET}/…", "s3://nowhere/…"]
