"""Every bad file and request of the shared manifest, through the service that answers for them."""

import contextlib
import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mcp_server.errors import InvalidArgumentError, LifecycleError
from mcp_server.results.data import DatasetResult
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.settings import LimitSettings, RemoteSettings, S3Settings, WebSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.s3 import Buckets
from mcp_server.stores.sources.connections import Connections
from mcp_server.stores.sources.parse import parse_file
from mcp_server.stores.sources.reader import SourceReader
from mcp_server.stores.sources.s3 import S3Sources
from mcp_server.stores.sources.sql import SqlSources
from mcp_server.stores.sources.web import WebSources
from tests.services.data_world import DataWorld, make_world
from tests.tls_server import run_counting_listener

ANNA = Caller("anna", "data_scientist")
MANIFEST = Path(__file__).parents[3] / "shared" / "bad_inputs" / "manifest.json"

# The manifest's classes of failure, and the contract's codes that they may have
CODES = {
    "EMPTY_DATASET": {"invalid_argument"},
    "MALFORMED_ROW": {"invalid_argument"},
    "NO_HEADER": {"invalid_argument"},
    "TOO_MANY_COLUMNS": {"resource_exhausted"},
    "FIELD_TOO_LARGE": {"resource_exhausted"},
    "INVALID_COLUMN_NAME": {"invalid_argument"},
    "DUPLICATE_COLUMN": {"invalid_argument"},
    "ENCODING": {"invalid_argument"},
    "TOO_LARGE": {"resource_exhausted"},
    "UNSUPPORTED_FORMAT": {"invalid_argument"},
    "SCHEMA": {"invalid_argument"},
    "MALFORMED_JSON": {"invalid_argument"},
    "CORRUPT_FILE": {"invalid_argument"},
    "NOT_TABULAR": {"invalid_argument"},
    "PATH_NOT_ALLOWED": {"permission_denied", "not_found", "invalid_argument"},
    "URL_NOT_ALLOWED": {"permission_denied"},
    "INVALID_QUERY": {"permission_denied"},
    "INVALID_IDENTIFIER": {"not_found"},
    "INVALID_FILTER": {"permission_denied", "invalid_argument", "resource_exhausted"},
    None: {"invalid_argument"},
}
# Readable as a table: what is wrong with the target, only training and its check can say
MODELLING = {"ml"}


# Columns whose values the manifest does not repeat
MASKED = {"Contact Phone Number"}


def _cases(part: str, *, json_suite: bool = False) -> list[dict[str, Any]]:
    cases = json.loads(MANIFEST.read_text())[part] if MANIFEST.is_file() else []
    return [case for case in cases if (case["kind"] == "JSONTestSuite") == json_suite]


def _requests(*kinds: str) -> list[str]:
    return [case["value"] for case in _cases("requests") if case["kind"] in kinds]


@pytest.fixture
def world(shared_data: Path, sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock) -> DataWorld:
    return make_world(sqlite_database, artifacts, clock, shared_data / "bad_inputs")


@pytest.mark.parametrize("case", _cases("files"), ids=lambda case: str(case["file"]))
def test_a_file_is_read_right_or_refused_clearly(world: DataWorld, case: dict[str, Any]) -> None:
    started = time.monotonic()
    result, refusal = _imported(world, case["file"])
    assert time.monotonic() - started < case.get("max_seconds", 20)
    if refusal is not None:
        assert case["outcome"] != "ok", refusal.message
        assert refusal.code in CODES[case.get("error_code")]
        assert len(json.dumps(refusal.to_document())) < 2_000
        assert str(world.root) not in json.dumps(refusal.to_document())
        assert world.datasets.names() == []
    if result is not None:
        assert case["outcome"] != "error" or case["kind"] in MODELLING
        assert result.rows == case.get("rows", result.rows)
        assert "columns" not in case or [column.name for column in result.columns] == case["columns"]
        _check_answers(world, case)


def _imported(world: DataWorld, source: str) -> tuple[DatasetResult | None, LifecycleError | None]:
    try:
        return world.service.import_dataset(caller=ANNA, name="case", source=source), None
    except LifecycleError as refusal:
        return None, refusal


def _check_answers(world: DataWorld, case: dict[str, Any]) -> None:
    """Look at everything that a caller reads about the dataset."""
    described = world.service.describe_dataset(dataset="case", detail="full").model_dump_json()
    answers = [described, world.service.query_data(sql='SELECT * FROM "case"').model_dump_json()]
    for answer in answers:
        assert len(answer) < 16_000
        assert "\x1b" not in answer
        assert "\\u001b" not in answer
        assert not any(0xE0000 <= ord(character) <= 0xE007F for character in answer)
    for text in case.get("must_not_in_text", []):
        assert text not in described
    if "want" in case:
        rows = case["want"] if isinstance(case["want"], list) else [case["want"]]
        read = world.datasets.read("case").to_dicts()
        assert len(read) == len(rows)
        for want, row in zip(rows, read, strict=True):
            cells = {name: text for name, text in want.items() if name not in MASKED}
            assert {name: _text(row[name]) for name in cells} == {name: _text(text) for name, text in cells.items()}


def _text(value: object) -> str:
    """Return a cell as the manifest can be compared with: its line ends are not those of the files."""
    return "" if value is None else str(value).replace("\r\n", "\n")


@pytest.mark.parametrize("case", _cases("files", json_suite=True), ids=lambda case: str(case["file"]))
def test_json_is_read_strictly(shared_data: Path, tmp_path: Path, case: dict[str, Any]) -> None:
    path = shared_data / "bad_inputs" / case["file"]
    arguments = {
        "path": str(path), "device": path.stat().st_dev, "inode": path.stat().st_ino, "format": "json",
        "compression": None, "options": {}, "output": str(tmp_path / "out"),
        "limits": {"max_columns": 2000, "max_field_bytes": 2**20, "max_column_name_length": 200,
                   "max_decompressed_bytes": 2**29},
    }  # fmt: skip
    if case["outcome"] == "error":
        with pytest.raises(InvalidArgumentError) as refusal:
            parse_file(arguments)
        assert len(refusal.value.message) < 500
        return
    with contextlib.suppress(InvalidArgumentError):  # valid JSON that is no table
        parse_file(arguments)


@pytest.mark.parametrize("source", _requests("path", "ssrf"), ids=lambda value: repr(value)[:40])
def test_a_path_or_address_outside_is_refused(world: DataWorld, source: str) -> None:
    with pytest.raises(LifecycleError) as refusal:
        world.service.import_dataset(caller=ANNA, name="case", source=source)
    kind = "URL_NOT_ALLOWED" if "://" in source and not source.startswith("file:") else "PATH_NOT_ALLOWED"
    assert refusal.value.code in CODES[kind]
    assert "root:x" not in json.dumps(refusal.value.to_document())


@pytest.fixture
def remote_world(sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock, tmp_path: Path) -> DataWorld:
    """A service that may reach a database, a bucket and a host; the manifest's requests ask for others."""
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("CREATE TABLE models (id INTEGER)")
        connection.execute("INSERT INTO models VALUES (1)")
    connection.close()
    remote, limits = RemoteSettings(connect_timeout_s=1, statement_timeout_s=2), LimitSettings()
    urls = {"store": SecretStr(f"sqlite:///{tmp_path / 'store.db'}")}
    readers: dict[str, SourceReader] = {
        "s3": S3Sources(Buckets(S3Settings(buckets=("lake",)), remote), remote, limits),
        "sql": SqlSources(Connections(urls, remote), remote, limits),
        "https": WebSources(WebSettings(allowed_hosts=("data.example.org",)), remote, limits),
    }
    return make_world(sqlite_database, artifacts, clock, tmp_path, remote=readers)


@pytest.mark.parametrize("address", _requests("ssrf"), ids=repr)
def test_an_address_that_is_not_allowed_is_not_even_connected_to(remote_world: DataWorld, address: str) -> None:
    with run_counting_listener() as listener:
        scheme, separator, rest = address.partition("://")
        host, slash, path = rest.partition("/")
        here = re.sub(r"(?<=[^:]):\d+$", "", host) + f":{listener.port}"
        spellings = [
            address,
            f"{scheme}{separator}{here}{slash}{path}",
            f"https://{rest}",
            f"https://{here}{slash}{path}",
        ]
        for source in spellings:
            with pytest.raises(LifecycleError) as refusal:
                remote_world.service.import_dataset(caller=ANNA, name="case", source=source)
            assert refusal.value.code in CODES["URL_NOT_ALLOWED"]
            assert "user:pass" not in json.dumps(refusal.value.to_document())
    assert listener.n_connections == 0


@pytest.mark.parametrize("table", _requests("sql_identifier"), ids=repr)
def test_only_a_table_that_is_there_is_one(remote_world: DataWorld, table: str) -> None:
    with pytest.raises(LifecycleError) as refusal:
        remote_world.service.import_dataset(caller=ANNA, name="case", source=f"sql://store/{table}")
    assert refusal.value.code in CODES["INVALID_IDENTIFIER"]
    result = remote_world.service.import_dataset(caller=ANNA, name="case", source="sql://store/models")
    assert result.rows == 1


@pytest.mark.parametrize("condition", _requests("sql_where"), ids=repr)
def test_a_condition_that_does_more_than_filter_is_refused_or_stopped(remote_world: DataWorld, condition: str) -> None:
    started = time.monotonic()
    source = f"sql://store?query=SELECT * FROM models WHERE {condition}"
    with pytest.raises(LifecycleError) as refusal:
        remote_world.service.import_dataset(caller=ANNA, name="case", source=source)
    assert refusal.value.code in CODES["INVALID_FILTER"]
    assert "root:x" not in json.dumps(refusal.value.to_document())
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("sql", _requests("duckdb"))
def test_sql_that_reaches_outside_is_refused(world: DataWorld, sql: str) -> None:
    with pytest.raises(LifecycleError) as refusal:
        world.service.query_data(sql=sql)
    assert refusal.value.code in CODES["INVALID_QUERY"]
    assert "root:x" not in json.dumps(refusal.value.to_document())


@pytest.mark.parametrize("name", _requests("name"), ids=repr)
def test_a_name_that_is_none_is_refused(world: DataWorld, name: str) -> None:
    with pytest.raises(LifecycleError) as refusal:
        world.service.import_dataset(caller=ANNA, name=name, source="csv/good.csv")
    assert refusal.value.code == "invalid_argument"
