import bz2
import contextlib
import gzip
import io
import random
import zipfile
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.feather
import pytest

from mcp_server.errors import InvalidArgumentError, LifecycleError, NotFoundError, PermissionDeniedError
from mcp_server.stores.sources.parse import kind_of, parse_file

FRAME = pl.DataFrame({"id": [1, 2], "team": ["BOS", None], "day": [date(2024, 1, 2), date(2024, 1, 3)]})


def parse(path: Path, format: str | None = None, **options: Any) -> tuple[pl.DataFrame, dict[str, Any]]:
    kind = kind_of(path.name, format)
    output = path.with_name("out.parquet.tmp")
    answer = parse_file(
        {
            "path": str(path),
            "device": path.stat().st_dev,
            "inode": path.stat().st_ino,
            "format": kind.format,
            "compression": kind.compression,
            "options": options,
            "output": str(output),
            "limits": {
                "max_columns": 100,
                "max_field_bytes": 1000,
                "max_column_name_length": 100,
                "max_decompressed_bytes": 100_000,
            },
        }
    )
    return pl.read_parquet(output), answer


def refusal_of(path: Path, format: str | None = None, **options: Any) -> LifecycleError:
    with pytest.raises(LifecycleError) as refusal:
        parse(path, format, **options)
    return refusal.value


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(("ending", "squeeze"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".zst", zstd)])
def test_compressed_files_are_read_up_to_the_limit(tmp_path: Path, ending: str, squeeze: Any) -> None:
    path = tmp_path / f"games.csv{ending}"
    path.write_bytes(squeeze(b"a,b\n1,2\n"))
    assert parse(path)[0].rows() == [(1, 2)]
    path.write_bytes(squeeze(b"a\n" + b"1\n" * 60_000))
    assert refusal_of(path).code == "resource_exhausted"
    path.write_bytes(squeeze(b"a,b\n1,2\n" * 1000)[:-9])
    assert refusal_of(path).code == "invalid_argument"
    path.write_bytes(b"a,b\n1,2\n")
    assert "cannot be decompressed" in refusal_of(path).message


@pytest.mark.parametrize("ending", ["parquet", "arrow", "feather", "jsonl", "json", "csv", "tsv"])
def test_every_format_gives_the_same_rows(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"games.{ending}"
    if ending == "parquet":
        FRAME.write_parquet(path)
    elif ending == "arrow":
        FRAME.write_ipc_stream(path)
    elif ending == "feather":
        pyarrow.feather.write_feather(FRAME.to_arrow(), path)
    elif ending == "jsonl":
        FRAME.write_ndjson(path)
    elif ending == "json":
        path.write_text(FRAME.write_json())
    else:
        FRAME.write_csv(path, separator="\t" if ending == "tsv" else ",")
    assert parse(path)[0].equals(FRAME)


def test_a_workbook_is_read_by_sheet(tmp_path: Path) -> None:
    path = tmp_path / "games.xlsx"
    path.write_bytes(workbook({"first": [["id", "team"], [1, "BOS"], [2, "LAL"]], "second": [["x"], [7]]}))
    frame, answer = parse(path)
    assert frame.columns == ["id", "team"]
    assert frame["team"].to_list() == ["BOS", "LAL"]
    assert answer["notes"] == ["Sheet 'first' of 2 was read; the workbook's sheets: 'first', 'second'."]
    assert parse(path, sheet="second")[0].height == 1
    assert "'first', 'second'" in refusal_of(path, sheet="third").hint
    path.write_bytes(b"PK\x03\x04 nonsense")
    assert refusal_of(path).code == "invalid_argument"


def test_cells_of_a_workbook_are_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "games.xlsx"
    rows = [[i, i] for i in range(1100)]
    path.write_bytes(workbook({"s": [["id", "late"], *rows, [1100, "x"], [1101, ""]]}))
    frame, answer = parse(path)
    assert frame.schema == {"id": pl.Int64, "late": pl.String}
    assert frame["late"].to_list()[-3:] == ["1099", "x", None]
    assert [finding[:2] for finding in answer["findings"]] == [["late", "mixed_types"]]
    assert answer["details"]["sheets"] == ["s"]
    path.write_bytes(workbook({"s": [["id", "v"], [0.5, "1,234"], [1, "2,345"]]}))
    frame, answer = parse(path)
    assert frame.rows() == [(0.5, "1,234"), (1.0, "2,345")]
    assert [finding[:2] for finding in answer["findings"]] == [["v", "thousands"]]
    path.write_bytes(workbook({"s": [["a", "a"], [1, 2]]}))
    assert "'a' occurs 2 times" in refusal_of(path).message
    assert parse(path, header=False)[0].columns == ["column_1", "column_2"]
    path.write_bytes(workbook({"s": [["a", "b"]]}))
    assert "0 data rows" in refusal_of(path).message


def workbook(sheets: dict[str, list[list[object]]]) -> bytes:
    """Return an .xlsx file with inline texts: the fewest parts that readers ask for."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    rels = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    numbered = list(enumerate(sheets.items(), 1))
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}"><Relationship Id="r1" Type="{rels}/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{rels}"><sheets>'
        + "".join(f'<sheet name="{name}" sheetId="{i}" r:id="r{i}"/>' for i, (name, _) in numbered)
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}">'
        + "".join(
            f'<Relationship Id="r{i}" Type="{rels}/worksheet" Target="worksheets/sheet{i}.xml"/>' for i, _ in numbered
        )
        + "</Relationships>",
    }
    for i, (_, rows) in numbered:
        cells = "".join(f'<row r="{r}">{"".join(map(cell, row, "AB", [r] * 2))}</row>' for r, row in enumerate(rows, 1))
        parts[f"xl/worksheets/sheet{i}.xml"] = f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>'
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, '<?xml version="1.0" encoding="UTF-8"?>' + text)
    return packed.getvalue()


def cell(value: object, column: str, row: int) -> str:
    if isinstance(value, str):
        return f'<c r="{column}{row}" t="inlineStr"><is><t>{value}</t></is></c>'
    return f'<c r="{column}{row}"><v>{value}</v></c>'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", b'[{"a": 1}, {"a": NaN}]', "no valid JSON"),
        ("x.json", b'{"a": 1}', "one object, not an array"),
        ("x.json", b'[{"a": 1}, 2]', "Element 2 is a number"),
        ("x.json", b'[{"a": {"b": 1}}]', "nested object"),
        ("x.json", b"[{}]", "0 columns"),
        ("x.json", b'[{"a": 1e999}]', "beyond the range"),
        ("x.jsonl", b'{"a": 1}\n{"a": }\n', "Line 2"),
        ("x.jsonl", b'{"a": 1}\n[1]\n', "Line 2 holds one array"),
        ("x.csv", b"PAR1abc", "first bytes say parquet"),
        ("x.csv", b"<!DOCTYPE html><html>", "web page"),
        ("x.csv", b"\x1f\x8b\x08abc", "first bytes say gzip"),
        ("x.parquet", b"PAR1 nonsense PAR1", "no readable Parquet"),
        ("x.arrow", b"ARROW1 nonsense", "no readable Arrow"),
        ("x.csv", b"", "0 data rows"),
    ],
)
def test_what_is_not_what_it_says_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    refusal = refusal_of(path)
    assert refusal.code == "invalid_argument"
    assert message in refusal.message


def test_json_values_keep_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(
        '[{"i": 1, "f": 1.5, "b": true, "t": "007", "d": "2024-01-02", "m": 1, "big": 9007199254740993},'
        ' {"i": 2, "f": 2, "b": null, "t": "x", "d": null, "m": "x", "big": 1, "late": 3}]'
    )
    frame, answer = parse(path)
    assert frame.schema == {
        "i": pl.Int64, "f": pl.Float64, "b": pl.Boolean, "t": pl.String, "d": pl.Date, "m": pl.String,
        "big": pl.Int64, "late": pl.Int64,
    }  # fmt: skip
    assert frame["big"][0] == 9007199254740993
    assert frame["m"].to_list() == ["1", "x"]
    assert ("m", "mixed_types") in [(finding[0], finding[1]) for finding in answer["findings"]]
    assert answer["notes"] == ["1 objects lack some of the keys; those cells are missing."]


def test_parquet_types_become_plain_ones_and_say_so(tmp_path: Path) -> None:
    table = pa.table(
        {
            "d": pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)),
            "c": pa.array(["a", "b"]).dictionary_encode(),
            "n": pa.array([float("nan"), 1.0]),
        }
    )
    path = tmp_path / "x.parquet"
    pa.parquet.write_table(table, path)
    frame, answer = parse(path)
    assert frame.schema == {"d": pl.Float64, "c": pl.String, "n": pl.Float64}
    assert frame["n"].to_list() == [None, 1.0]
    assert answer["findings"][0][:2] == ["d", "decimal_as_float"]


@pytest.mark.parametrize(
    "column", [pa.array([[1]]), pa.array([{"a": 1}]), pa.array([b"x"]), pa.array([10**18], pa.timestamp("us"))]
)
def test_columns_that_no_table_holds_are_refused(tmp_path: Path, column: pa.Array) -> None:
    path = tmp_path / "x.parquet"
    pa.parquet.write_table(pa.table({"c": column}), path)
    refusal = refusal_of(path)
    assert refusal.code == "invalid_argument"
    assert "'c'" in refusal.message


def good_files() -> dict[str, bytes]:
    parquet, arrow = io.BytesIO(), io.BytesIO()
    FRAME.write_parquet(parquet)
    FRAME.write_ipc(arrow)
    text = FRAME.write_csv().encode()
    return {
        "x.parquet": parquet.getvalue(),
        "x.arrow": arrow.getvalue(),
        "x.csv": text,
        "x.csv.gz": gzip.compress(text),
        "x.csv.zst": zstd(text),
        "x.json": FRAME.write_json().encode(),
        "x.jsonl": FRAME.write_ndjson().encode(),
        "x.xlsx": workbook({"s": [["id", "team"], [1, "BOS"]]}),
    }


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with a few bytes changed, cut out or put in."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(changed) or 1)
        kind = rng.random()
        if kind < 0.5 and changed:
            changed[place] = rng.randrange(256)
        elif kind < 0.75:
            del changed[place : place + rng.randint(1, 20)]
        else:
            changed[place:place] = rng.choice([b'"', b"\n", b",", b"\0", b"\xff", b"[", b"9" * 30, b"NaN"])
    return bytes(changed)


@pytest.mark.parametrize("name", good_files())
def test_a_damaged_file_is_read_or_refused_and_never_breaks_the_reader(tmp_path: Path, name: str) -> None:
    rng = random.Random(f"seed {name}")
    path = tmp_path / name
    good = good_files()[name]
    for _ in range(80):
        path.write_bytes(damaged(good, rng))
        with contextlib.suppress(LifecycleError):
            parse(path)[0].rows()


def test_a_file_that_was_swapped_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a\n1\n")
    arguments = {"path": str(path), "device": path.stat().st_dev, "inode": path.stat().st_ino + 1, "format": "csv"}
    rest = {"compression": None, "options": {}, "output": "", "limits": dict.fromkeys(
        ("max_columns", "max_field_bytes", "max_column_name_length", "max_decompressed_bytes"), 1000)}  # fmt: skip
    with pytest.raises(PermissionDeniedError):
        parse_file(arguments | rest)
    path.unlink()
    with pytest.raises(NotFoundError):
        parse_file(arguments | rest)


def test_an_ending_that_says_nothing_is_refused_unless_the_format_is_given(tmp_path: Path) -> None:
    path = tmp_path / "games.data"
    path.write_text("a\n1\n")
    with pytest.raises(InvalidArgumentError, match="says no format"):
        parse(path)
    assert parse(path, "csv")[0].rows() == [(1,)]
    assert kind_of("GAMES.CSV.GZ").compression == "gzip"
