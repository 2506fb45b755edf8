"""Files are read in pieces: what comes out does not depend on where they are cut."""

import gzip
import io
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.errors import InvalidArgumentError, ResourceExhaustedError
from mcp_server.settings import LimitSettings
from mcp_server.stores.sources import binary, csv_records, json_pieces
from mcp_server.stores.sources import text as text_source
from mcp_server.stores.sources.files import SourceFiles
from mcp_server.stores.sources.json_pieces import array_pieces, line_pieces
from mcp_server.stores.sources.parse import kind_of, parse_file
from mcp_server.stores.sources.text import Text

GIB = 1024**3


def parse(path: Path, output: Path, **options: Any) -> dict[str, Any]:
    kind, found = kind_of(path.name), path.stat()
    limits = {
        "max_columns": 100, "max_field_bytes": 2**20, "max_column_name_length": 100, "max_decompressed_bytes": GIB,
    }  # fmt: skip
    return parse_file(
        {
            "path": str(path), "device": found.st_dev, "inode": found.st_ino, "format": kind.format, "limits": limits,
            "compression": kind.compression, "options": options, "output": str(output),
        }
    )  # fmt: skip


def games(n_rows: int) -> pl.DataFrame:
    """A table with something of everything that types are decided from."""
    numbers = range(n_rows)
    return pl.DataFrame(
        {
            "id": numbers,
            "big": [9_007_199_254_740_993 + i for i in numbers],
            "elo": [1500 + i / 7 if i % 11 else None for i in numbers],
            "code": [f"{i % 90:03d}" for i in numbers],
            "day": [date(2020, 1, 1) + timedelta(days=i) for i in numbers],
            "mixed": [f"{i % 12 + 1:02d}/20/2024" if i % 3 else "2024-01-02" for i in numbers],
            "note": [f'said "{i}",\nand č went' if i % 5 == 0 else "NA" for i in numbers],
            "late": ["x" if i == n_rows - 1 else str(i) for i in numbers],
            "home": [i % 2 == 0 for i in numbers],
        }
    )


def write(frame: pl.DataFrame, path: Path) -> None:
    if ".csv" in path.name:
        text = frame.write_csv().replace("\n2,", "\n\n2,", 1).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    elif path.suffix == ".jsonl":
        frame.write_ndjson(path)
    elif path.suffix == ".json":
        path.write_text(frame.write_json())
    elif path.suffix == ".parquet":
        frame.write_parquet(path, row_group_size=100)
    else:
        frame.write_ipc(path)


@pytest.mark.parametrize("name", ["g.csv", "g.csv.gz", "g.jsonl", "g.json", "g.parquet", "g.arrow"])
def test_the_same_rows_types_words_and_bytes_come_out_however_a_file_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write(games(500), tmp_path / name)
    at_once = parse(tmp_path / name, tmp_path / "once", add_source_column="part")
    monkeypatch.setattr(csv_records, "PIECE_BYTES", 700)
    monkeypatch.setattr(json_pieces, "PIECE_BYTES", 900)
    monkeypatch.setattr(text_source, "_CHUNK_BYTES", 97)
    monkeypatch.setattr(binary, "_BATCH_ROWS", 7)
    in_pieces = parse(tmp_path / name, tmp_path / "pieces", add_source_column="part")
    assert in_pieces == at_once
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "once").read_bytes()
    assert pl.read_parquet(tmp_path / "once").height == 500


def test_late_rows_decide_types_as_early_ones_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_records, "PIECE_BYTES", 64)
    rows = "".join(f"{i},{i},{i}\n" for i in range(200))
    (tmp_path / "x.csv").write_text(f"a,b,c\n{rows}1.5,007,x\n")
    answer = parse(tmp_path / "x.csv", tmp_path / "out")
    assert pl.read_parquet_schema(tmp_path / "out") == {"a": pl.Float64, "b": pl.String, "c": pl.String}
    assert [(column, code) for column, code, _ in answer["findings"]] == [("b", "leading_zeros"), ("c", "mixed_types")]
    assert "row 201" in answer["findings"][1][2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n" + "1,2\n" * 50 + "3\n", r"Row 52 .* has 1 fields"),
        ("a,b\n" + "1,2\n" * 50 + '"x"y,2\n', "quotes are wrong up to line 52"),
        ("a,b\n" + "1,2\n" * 50 + '"x,2\n' + "1,2\n" * 50, "quotes are wrong"),
        ("a,b\n" + "1,2\n" * 50 + "1,\0\n", r"NUL character \(byte 206, line 52\)"),
    ],
)
def test_what_is_wrong_late_in_a_file_is_named_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.setattr(csv_records, "PIECE_BYTES", 64)
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InvalidArgumentError, match=message):
        parse(tmp_path / "x.csv", tmp_path / "out")


# JSON ----------------------------------------------------------------------------------------------------------

_TEXTS = st.text(st.sampled_from('a"\\[]{},: é\n'), max_size=6)
_VALUES = st.one_of(st.integers(), _TEXTS, st.none(), st.booleans(), st.lists(st.integers(), max_size=2))
_ROWS = st.lists(st.dictionaries(_TEXTS, _VALUES, max_size=3), max_size=6)


def text_of(document: str) -> Text:
    return Text(io.BytesIO(document.encode()), 0, "utf-8")


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS, size=st.integers(1, 30), indent=st.sampled_from([None, 1]), as_ascii=st.booleans())
def test_an_array_is_the_same_in_pieces(rows: list[Any], size: int, indent: int | None, as_ascii: bool) -> None:
    document = f" {json.dumps(rows, indent=indent, ensure_ascii=as_ascii)}\n"
    pieces = list(array_pieces(text_of(document), size))
    assert [row for piece in pieces for row in piece] == rows


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS, size=st.integers(1, 30))
def test_lines_are_the_same_in_pieces(rows: list[Any], size: int) -> None:
    document = "".join(f"{json.dumps(row)}\r\n\n" for row in rows)
    assert [row for piece in line_pieces(text_of(document), size) for row in piece] == rows


@pytest.mark.parametrize(
    "document",
    [
        '[{"a": 1},]', '[{"a": 1}', '[{"a": 1}, {"a": 2}] x', '[{"a": 1},, {"a": 2}]', '[,{"a": 1}]', '[{"a": 1}}',
        '[{"a": 1}, {"a": NaN}]', '[{"a": "x]', "[1 2]", '{"a": 1}{"a": 2}', '[{"a": [1}]', "x" * 40,
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 4, 13, 1000])
def test_json_is_as_strict_in_pieces(document: str, size: int) -> None:
    with pytest.raises(InvalidArgumentError):
        list(array_pieces(text_of(document), size))


def test_json_lines_that_only_go_together_are_refused() -> None:
    for document in ('{"a": 1\n"b": 2}\n', '{"a": 1}, {"a": 2}\n', '{"a": 1}\n{"a": [{}\n{}]}\n{"x": 1},{"y": 2}\n'):
        with pytest.raises(InvalidArgumentError, match="Line"):
            list(line_pieces(text_of(document)))


# Bombs, and memory ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_bomb_is_told_by_its_ratio_and_a_repetitive_table_is_not(tmp_path: Path, ending: str) -> None:
    def pack(path: Path, parts: list[bytes]) -> None:
        codec = "gzip" if ending == ".gz" else "zstd"
        with pa.CompressedOutputStream(str(path), codec) as stream:
            for part in parts:
                stream.write(part)

    pack(tmp_path / f"bomb.csv{ending}", [b"a,b\n", *[b"0,0\n" * 2**18] * 80])
    with pytest.raises(ResourceExhaustedError, match="200 times larger"):
        parse(tmp_path / f"bomb.csv{ending}", tmp_path / "out")
    pack(tmp_path / f"real.csv{ending}", [b"a,b\n", *[b"0,0\n" * 2**18] * 4])
    parse(tmp_path / f"real.csv{ending}", tmp_path / "out")
    assert pl.scan_parquet(tmp_path / "out").select(pl.len()).collect().item() == 2**20


@pytest.mark.slow
@pytest.mark.parametrize("name", ["g.csv", "g.csv.gz", "g.jsonl", "g.json", "g.parquet", "g.arrow"])
def test_a_large_file_is_read_in_bounded_memory(tmp_path: Path, name: str) -> None:
    """Two million rows of 20 columns, 350 MB of CSV, in a child that is killed at 900 MiB."""
    n_rows = 2_000_000
    columns = {f"n{i}": pl.int_range(n_rows, eager=True) * (i + 1) for i in range(10)}
    floats = {f"f{i}": pl.int_range(n_rows, eager=True) / (i + 3) for i in range(6)}
    teams = pl.Series(["BOS", "LAL", "NYK", "Česká"]).gather(pl.int_range(n_rows, eager=True) % 4)
    frame = pl.DataFrame(columns | floats | {f"t{i}": teams for i in range(4)})
    root = tmp_path / "root"
    root.mkdir()
    if name == "g.json":
        (root / name).write_bytes(b"[" + frame.head(n_rows // 4).write_ndjson().replace("\n", ",")[:-1].encode() + b"]")
    elif name == "g.csv.gz":
        frame.write_csv(root / "g.csv")
        with (root / "g.csv").open("rb") as plain, gzip.open(root / name, "wb", compresslevel=1) as packed:
            while part := plain.read(2**20):
                packed.write(part)
    elif name == "g.parquet":
        frame.write_parquet(root / name, row_group_size=n_rows)
    else:
        write(frame, root / name) if name == "g.arrow" else getattr(
            frame, {"g.csv": "write_csv", "g.jsonl": "write_ndjson"}[name]
        )(root / name)
    limits = LimitSettings(child_memory_bytes=900 * 1024**2)
    files = SourceFiles([root.resolve()], limits)
    files.parse(files.find(name), None, {}, tmp_path / "out")
    assert pl.read_parquet_schema(tmp_path / "out") == frame.schema
    assert pl.scan_parquet(tmp_path / "out").select(pl.col("n9").max()).collect().item() > 0
