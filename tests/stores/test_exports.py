"""Exports: formats, cells that a spreadsheet would run, and files that are whole or not there."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mcp_server.errors import AlreadyExistsError, FailedPreconditionError, PermissionDeniedError
from mcp_server.settings import LimitSettings, RemoteSettings, S3Settings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.exports import Exports, export_file, write_format
from mcp_server.stores.s3 import Buckets
from mcp_server.stores.sources.files import SourceFiles


def _content(folder: Path, columns: dict[str, Any]) -> Path:
    path = folder / "content.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe(tmp_path: Path) -> None:
    texts = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "x=1", " =1", "", None]
    content = _content(tmp_path, {"t": texts, "n": [-1] * len(texts)})
    assert write_format(content, tmp_path / "out", "csv") == 7
    back = pl.read_csv(tmp_path / "out")
    assert [(text or "")[:1] for text in back["t"]] == ["'"] * 7 + ["x", " ", "", ""]
    assert back["n"].to_list() == [-1] * len(texts)


def test_a_guarded_name_never_meets_another_column(tmp_path: Path) -> None:
    content = _content(tmp_path, {"=a": [1], "'=a": [2], "b": [3]})
    assert write_format(content, tmp_path / "out", "csv") == 1
    assert (tmp_path / "out").read_text() == "''=a,'=a,b\n1,2,3\n"


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_formats_that_no_spreadsheet_opens_are_not_changed(tmp_path: Path, format: Any) -> None:
    content = _content(tmp_path, {"=a": ["=1"]})
    assert write_format(content, tmp_path / "out", format) == 0
    assert b"'" not in (tmp_path / "out").read_bytes()


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_damaged_dataset_leaves_nothing(tmp_path: Path, format: Any) -> None:
    content = _content(tmp_path, {"a": [1]})
    content.write_bytes(content.read_bytes()[:-20])
    with pytest.raises(FailedPreconditionError):
        export_file(content, tmp_path / f"out.{format}", format, overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["content.parquet"]


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    content = _content(tmp_path, {"a": [1]})
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(AlreadyExistsError):
        export_file(content, tmp_path / "out.csv", "csv", overwrite=False)
    assert (tmp_path / "out.csv").read_text() == "mine"


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../out.csv", "sql://db/t", "https://example.org/x", "S3://lake/x.csv"]
)
def test_a_target_elsewhere_is_denied(tmp_path: Path, target: str) -> None:
    (tmp_path / "root").mkdir()
    files = SourceFiles([(tmp_path / "root").resolve()], LimitSettings())
    exports = Exports(files, Buckets(S3Settings(), RemoteSettings()), ArtifactStore(tmp_path / "artifacts"))
    with pytest.raises(PermissionDeniedError):
        exports.write(_content(tmp_path, {"a": [1]}), target, "csv", overwrite=True)
