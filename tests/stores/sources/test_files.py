import gzip
import os
import socket
from pathlib import Path

import polars as pl
import pytest

from mcp_server.errors import InvalidArgumentError, LifecycleError, PermissionDeniedError, ResourceExhaustedError
from mcp_server.runtime.progress import NoProgress
from mcp_server.settings import LimitSettings
from mcp_server.stores.sources.files import SourceFiles
from mcp_server.stores.sources.progress import Told, heard
from mcp_server.stores.sources.reader import Brought

GOOD = "id,x\n1,2.5\n2,3.5\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "parts").mkdir(parents=True)
    (folder / "good.csv").write_text(GOOD)
    (folder / "parts" / "one.csv.gz").write_bytes(gzip.compress(GOOD.encode()))
    (folder / "notes.md").write_text("no data")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "secret.csv").write_text(GOOD)
    (tmp_path / "outside.csv").write_text(GOOD)
    return folder


@pytest.fixture
def sources(root: Path) -> SourceFiles:
    return SourceFiles([root.resolve()], LimitSettings())


def code_of(sources: SourceFiles, source: str) -> str:
    with pytest.raises(LifecycleError) as refusal:
        sources.find(source)
    assert "root:" not in refusal.value.message
    return refusal.value.code


@pytest.mark.parametrize("source", ["good.csv", "./good.csv", "parts/../good.csv"])
def test_a_file_in_a_root_is_found(sources: SourceFiles, root: Path, source: str) -> None:
    assert sources.find(source).source == "good.csv"
    assert sources.find(str(root.resolve() / "good.csv")).source == "good.csv"


@pytest.mark.parametrize(
    "source",
    [
        "/etc/passwd", "../outside.csv", "parts/../../outside.csv", "file:///etc/passwd", "/dev/zero", "~/.ssh/id_rsa",
        "good.csv\0.png", "good.csv\n", "http://169.254.169.254/", "http://[::1]/", "https://127.0.0.1:1/",
        "http://127。0。0。1/", "dict://127.0.0.1/", "jar:http://x!/", "https://example.com/x.csv", "ftp://x/y.csv",
    ],
)  # fmt: skip
def test_what_lies_elsewhere_is_denied(sources: SourceFiles, source: str) -> None:
    assert code_of(sources, source) == "permission_denied"


@pytest.mark.parametrize("source", ["CON", "good.csv;touch x", "|touch x", "gone.csv", "good.csv/x.csv"])
def test_what_is_not_there_is_not_found(sources: SourceFiles, source: str) -> None:
    assert code_of(sources, source) == "not_found"


@pytest.mark.parametrize("target", ["s3://bucket/x.csv", "sql://db/t", "https://me:hunter2@example.org/x.csv"])
def test_an_address_is_no_file_to_read_or_write(sources: SourceFiles, target: str) -> None:
    assert code_of(sources, target) == "permission_denied"
    with pytest.raises(PermissionDeniedError) as refusal:
        sources.target(target)
    assert "s3://bucket/key" in refusal.value.hint
    assert "hunter2" not in refusal.value.message


@pytest.mark.parametrize("source", ["", "a" * 5000, "parts"])
def test_what_can_be_no_source_is_invalid(sources: SourceFiles, source: str) -> None:
    assert code_of(sources, source) == "invalid_argument"


def test_links_pipes_and_sockets_are_denied(sources: SourceFiles, root: Path, tmp_path: Path) -> None:
    (root / "link.csv").symlink_to(root / "good.csv")
    (root / "out.csv").symlink_to(tmp_path / "outside.csv")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)
        try:
            server.bind("socket.csv")
        finally:
            os.chdir(here)
        for source in ("link.csv", "out.csv", "folder/outside.csv", "pipe.csv", "socket.csv"):
            assert code_of(sources, source) == "permission_denied"


def test_a_link_above_the_root_is_only_another_spelling(sources: SourceFiles, root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(tmp_path)
    (root / "inner").symlink_to(root)
    assert sources.find(str(tmp_path / "other" / "root" / "good.csv")).path == root.resolve() / "good.csv"
    assert code_of(sources, str(root / "inner" / "good.csv")) == "permission_denied"
    assert code_of(sources, str(tmp_path / "other" / "outside.csv")) == "permission_denied"


def test_a_missing_file_is_refused_with_near_names(sources: SourceFiles) -> None:
    with pytest.raises(LifecycleError) as refusal:
        sources.find("godo.csv")
    assert "good.csv" in refusal.value.hint


def test_without_roots_paths_are_refused_with_a_hint() -> None:
    with pytest.raises(LifecycleError) as refusal:
        SourceFiles([], LimitSettings()).find("good.csv")
    assert refusal.value.code == "permission_denied"
    assert "NBA_MCP_DATA_ROOTS" in refusal.value.hint


def test_a_file_beyond_the_size_limit_is_refused(root: Path) -> None:
    with pytest.raises(LifecycleError) as refusal:
        SourceFiles([root.resolve()], LimitSettings(max_file_bytes=10)).find("good.csv")
    assert refusal.value.code == "resource_exhausted"


def test_files_that_can_be_imported_are_listed_by_name(sources: SourceFiles) -> None:
    assert [file.source for file in sources.listed(10)] == ["good.csv", "parts/one.csv.gz"]
    assert [file.source for file in sources.listed(10, after="good.csv")] == ["parts/one.csv.gz"]
    assert [file.source for file in sources.listed(1)] == ["good.csv"]


@pytest.mark.parametrize("source", ["good.csv", "parts/one.csv.gz"])
def test_a_file_is_parsed_in_a_child(sources: SourceFiles, tmp_path: Path, source: str) -> None:
    sources.parse(sources.find(source), None, {}, tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out").rows() == [(1, 2.5), (2, 3.5)]


@pytest.mark.parametrize(
    ("format", "options", "code"),
    [
        (None, {"delimeter": ","}, "invalid_argument"),
        (None, {"header": "yes"}, "invalid_argument"),
        (None, {"encoding": "rot13"}, "invalid_argument"),
        (None, {"delimiter": "ab"}, "invalid_argument"),
        ("parquet", {}, "invalid_argument"),
        ("json", {}, "invalid_argument"),
    ],
)
def test_wrong_options_and_formats_are_refused(
    sources: SourceFiles, tmp_path: Path, format: str | None, options: dict[str, object], code: str
) -> None:
    with pytest.raises(LifecycleError) as refusal:
        sources.parse(sources.find("good.csv"), format, options, tmp_path / "out")
    assert refusal.value.code == code


def test_a_target_lies_in_a_folder_of_a_root(sources: SourceFiles, root: Path) -> None:
    assert sources.target("parts/new.csv") == root.resolve() / "parts" / "new.csv"
    (root / "way.csv").symlink_to("/etc/passwd")
    for target, code in (
        ("../new.csv", "permission_denied"),
        ("gone/new.csv", "not_found"),
        ("way.csv", "permission_denied"),
        ("parts", "permission_denied"),
        ("s3://b/k", "permission_denied"),
        ("nba://sample", "permission_denied"),
    ):
        with pytest.raises(LifecycleError) as refusal:
            sources.target(target)
        assert refusal.value.code == code, target


# Folders and patterns -------------------------------------------------------------------------------------------


def brought(sources: SourceFiles, source: str, output: Path, **options: object) -> tuple[pl.DataFrame, Brought]:
    found = sources.bring(source, None, options, output, NoProgress())
    return pl.read_parquet(output), found


@pytest.fixture
def parts(root: Path) -> Path:
    folder = root / "games"
    folder.mkdir()
    (folder / "b.csv").write_text("x,id\n3.5,3\n")
    (folder / "a.csv").write_text("id,x\n1,1\n2,2\n")
    (folder / "c.csv.gz").write_bytes(gzip.compress(b"id,x\n4,\n"))
    (folder / "_SUCCESS").write_text("")
    (folder / ".hidden.csv").write_text("id,x\n9,9\n")
    (folder / "README.md").write_text("words")
    return folder


@pytest.mark.parametrize("source", ["games", "games/", "games/*.csv*", "g*/[abc].csv*"])
def test_the_parts_of_a_folder_or_pattern_are_one_table(
    sources: SourceFiles, parts: Path, tmp_path: Path, source: str
) -> None:
    frame, found = brought(sources, source, tmp_path / "out")
    assert frame.rows() == [(1, 1.0), (2, 2.0), (3, 3.5), (4, None)]
    assert frame.schema == {"id": pl.Int64, "x": pl.Float64}
    rows = {"games/a.csv": 2, "games/b.csv": 1, "games/c.csv.gz": 1}
    assert {part["file"]: part["rows"] for part in found.details["parts"]} == rows
    assert found.details["n_parts"] == 3
    assert found.source == source.rstrip("/")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "outside.csv", "root"]


def test_a_column_can_name_the_part_of_each_row(sources: SourceFiles, parts: Path, tmp_path: Path) -> None:
    frame, _ = brought(sources, "games/[ab].csv", tmp_path / "out", add_source_column="part")
    assert frame["part"].to_list() == ["games/a.csv", "games/a.csv", "games/b.csv"]
    with pytest.raises(InvalidArgumentError, match="has a column 'id' already"):
        brought(sources, "games/a.csv", tmp_path / "out", add_source_column="id")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\n1\n", "'games/d.csv' lacks column 'x', which 'games/a.csv' has"),
        ("id,x,y\n1,2,3\n", "'games/d.csv' has column 'y', which 'games/a.csv' lacks"),
        ("id,x\n1,high\n", "Column 'x' is Int64 in 'games/a.csv' but String in 'games/d.csv'"),
        ("id,x\n2024-01-02,1\n", "Column 'id' is Int64 in 'games/a.csv' but Date in 'games/d.csv'"),
        ("id,x\n1\n", "In part 'games/d.csv': Row 2"),
        ("", "In part 'games/d.csv': The file is empty"),
    ],
)
def test_a_part_that_does_not_go_with_the_others_is_named(
    sources: SourceFiles, parts: Path, tmp_path: Path, text: str, message: str
) -> None:
    (parts / "d.csv").write_text(text)
    with pytest.raises(InvalidArgumentError, match=message):
        brought(sources, "games", tmp_path / "out")


def test_codes_of_one_part_keep_all_of_the_column_text(sources: SourceFiles, parts: Path, tmp_path: Path) -> None:
    (parts / "d.csv").write_text("id,x\n007,1\n")
    frame, found = brought(sources, "games", tmp_path / "out")
    assert frame["id"].to_list() == ["1", "2", "3", "4", "007"]
    assert [finding.code for finding in found.findings] == ["leading_zeros"]


def test_parquet_parts_widen_their_types(sources: SourceFiles, root: Path, tmp_path: Path) -> None:
    (root / "wide").mkdir()
    pl.DataFrame({"a": pl.Series([1], dtype=pl.Int8), "b": [1]}).write_parquet(root / "wide" / "1.parquet")
    pl.DataFrame({"b": [2.5], "a": pl.Series([300], dtype=pl.Int16)}).write_parquet(root / "wide" / "2.parquet")
    frame, _ = brought(sources, "wide/*.parquet", tmp_path / "out")
    assert frame.rows() == [(1, 1.0), (300, 2.5)]
    assert frame.schema == {"a": pl.Int64, "b": pl.Float64}
    pl.DataFrame({"b": ["x"], "a": [1]}).write_parquet(root / "wide" / "3.parquet")
    with pytest.raises(InvalidArgumentError, match=r"Column 'b' is .* in 'wide/1.parquet' but String in"):
        brought(sources, "wide", tmp_path / "out")


def test_a_folder_of_several_formats_or_of_links_is_refused(sources: SourceFiles, parts: Path, tmp_path: Path) -> None:
    (parts / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidArgumentError, match="several formats: 3 csv, 1 parquet"):
        sources.find_parts("games")
    assert [file.source for file in sources.find_parts("games/?.csv")[0]] == ["games/a.csv", "games/b.csv"]
    (parts / "link.csv").symlink_to(tmp_path / "outside.csv")
    for source in ("games", "games/l*.csv", "games/*"):
        with pytest.raises(PermissionDeniedError):
            sources.find_parts(source)
    (parts.parent / "way").symlink_to(tmp_path)
    denied = dict.fromkeys(("way/*.csv", "w*/*.csv", "../*", "/etc/*"), "permission_denied")
    for source, code in (denied | {"z*.csv": "not_found"}).items():
        with pytest.raises(LifecycleError) as refusal:
            sources.find_parts(source)
        assert refusal.value.code == code, source


def test_the_parts_together_are_below_the_size_limit(root: Path, parts: Path) -> None:
    with pytest.raises(ResourceExhaustedError):
        SourceFiles([root.resolve()], LimitSettings(max_file_bytes=40)).find_parts("games")


def test_a_child_tells_how_far_it_is(tmp_path: Path) -> None:
    told = Told(str(tmp_path / "told"))
    assert heard(tmp_path / "told") is None
    told(0.25)
    assert heard(tmp_path / "told") == 0.25
