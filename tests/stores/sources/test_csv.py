import csv
import io
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mcp_server.engine.findings import Finding
from mcp_server.errors import InvalidArgumentError, ResourceExhaustedError
from mcp_server.stores.sources import csv_records
from mcp_server.stores.sources.columns import ParseLimits
from mcp_server.stores.sources.csv import CsvTable
from mcp_server.stores.sources.csv_records import OddQuotesError
from mcp_server.stores.sources.open import Room
from mcp_server.stores.sources.table import Look
from mcp_server.stores.sources.text import read_text

LIMITS = ParseLimits(max_columns=50, max_field_bytes=1000, max_column_name_length=40, max_decompressed_bytes=10**8)


class Read(NamedTuple):
    frame: pl.DataFrame
    look: Look
    findings: list[Finding]


def read(text: str | bytes, **options: object) -> Read:
    with Room(Path(), 10**8) as room:
        stream = room.file()
        stream.write(text if isinstance(text, bytes) else text.encode())
        found = read_text(stream, str(options["encoding"]) if "encoding" in options else None, room)
        table = CsvTable(found, options, LIMITS, None)
        look = table.look()
        plans, findings = [], look.findings
        for name, column in look.columns.items():
            plan, said = column.plan(name)
            plans.append(plan)
            findings = [*findings, *said]
        return Read(pl.concat(table.frames(plans)), look, findings)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('a,b\n"x\ny",2\n3,4\n', [("x\ny", 2), ("3", 4)]),
        ('a,b\r\n1,2\r\n\r\n"x\r\ny",4\r\n', [("1", 2), ("x\r\ny", 4)]),
        ('a,b\n5" pipe,2\n3,4\n', [('5" pipe', 2), ("3", 4)]),
        ("a,b\n,\n1,2\n\n", [(None, None), (1, 2)]),
        ("\n\na,b\n1,2", [(1, 2)]),
        ("a,b\r1,2\r3,4\r", [(1, 2), (3, 4)]),
        ("a;b\n1;2\n", [(1, 2)]),
        ("a\tb\n1\t2\n", [(1, 2)]),
        ("a|b\n1|2\n", [(1, 2)]),
        ('a\n"x,y"\n', [("x,y",)]),
        ('a,b\n1,"x""y"', [(1, 'x"y')]),
        ("a\n1\n\n3\n", [(1,), (3,)]),
    ],
)
def test_files_in_their_many_spellings_are_read(text: str, rows: list[tuple[object, ...]]) -> None:
    assert read(text).frame.rows() == rows


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("é,b\nä,2\n".encode(), None),
        ("\ufeffé,b\nä,2\n".encode(), None),
        ("é,b\nä,2\n".encode("utf-16"), None),
        ("é,b\nä,2\n".encode("utf-16-be"), "utf-16-be"),
        ("é,b\nä,2\n".encode("latin-1"), "latin-1"),
    ],
)
def test_encodings_are_read_when_they_say_what_they_are(data: bytes, encoding: str | None) -> None:
    frame = read(data, **({"encoding": encoding} if encoding else {})).frame
    assert frame.columns == ["é", "b"]
    assert frame.rows() == [("ä", 2)]


def test_names_come_from_the_header_or_are_made() -> None:
    assert read('"a ""q""", b \n1,2\n').frame.columns == ['a "q"', "b"]
    unnamed = read(",b\n1,2\n")
    assert unnamed.frame.columns == ["column_1", "b"]
    assert [finding.code for finding in unnamed.findings] == ["unnamed_column"]
    assert read("1,2\n3,4\n", header=False).frame.rows() == [(1, 2), (3, 4)]
    for text, rows in (("1,2\n3,4\n", [(1, 2), (3, 4)]), ("a,2\n3,4\n", [(3, 4)]), ("2019,2020\n3,4\n", [(3, 4)])):
        found = read(text)
        assert [finding.code for finding in found.findings] == ["header_looks_like_data"]
        assert found.frame.rows() == rows
    assert read("1,2\n3,4\n", header=True).frame.columns == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 data rows"),
        ("a,b\n", "0 data rows"),
        ("a,b\n1,2\n3\n", r"Row 3 .* has 1 fields where the first has 2"),
        ("a,b\n1,2,3\n", r"Row 2 .* has 3 fields"),
        ('a,b\n"x"y,2\n', "quotes are wrong up to line 2"),
        ('a,b\n"x,2\n3,4\n', "quotes are wrong"),
        ("a,a\n1,2\n", "'a' occurs 2 times"),
        ("a\x01,b\n1,2\n", r"invisible character \(U\+0001\)"),
        ("a\u202eb,c\n1,2\n", r"U\+202E"),
        (f"{'n' * 41},b\n1,2\n", "41 characters"),
        (b"a\n\xff\xff\xff\n", "byte 2"),
        (b"a\n1\0\n", "NUL character"),
    ],
)
def test_what_cannot_be_read_right_is_refused_with_its_place(text: str | bytes, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        read(text)


@pytest.mark.parametrize("text", ["a,b\n" + "x" * 1001 + ",2\n", '"a"x,b\n"' + "x" * 1100 + '",2\n'])
def test_a_field_beyond_the_limit_is_refused(text: str) -> None:
    with pytest.raises((ResourceExhaustedError, InvalidArgumentError)):
        read(text)
    with pytest.raises(ResourceExhaustedError, match="51 columns"):
        read(",".join(f"c{i}" for i in range(51)) + "\n" + "," * 50)


_CELLS = st.text(st.sampled_from('ab1 ,;"\n\r\té|'), max_size=6)


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(_CELLS, min_size=2, max_size=2), min_size=1, max_size=8),
    ending=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    chunk=st.integers(1, 40),
)
def test_what_python_writes_is_read_back(rows: list[list[str]], ending: str, quoting: int, chunk: int) -> None:
    assume(quoting == csv.QUOTE_ALL or not any("\r" in cell for row in rows for cell in row))  # else a line end
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=ending, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([["one", "two"], *rows])
    before, csv_records.PIECE_BYTES = csv_records.PIECE_BYTES, chunk
    try:
        with Room(Path(), 10**8) as room:
            stream = room.file()
            stream.write(text.getvalue().encode())
            table = CsvTable(read_text(stream, None, room), {}, LIMITS, ",")
            try:
                cells = pl.concat(table._plain_cells())
            except OddQuotesError:
                cells = pl.concat(table._strict_cells())
    finally:
        csv_records.PIECE_BYTES = before
    assert [[cell or "" for cell in row] for row in cells.rows()] == [["one", "two"], *rows]


def test_a_long_file_is_read_as_python_reads_it() -> None:
    rows = [[f"team {i}", f'says "{i}"\nand, goes', str(i)] for i in range(5000)]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["team", "note", "n"], *rows])
    frame = read(text.getvalue()).frame
    assert frame["note"].to_list() == [row[1] for row in rows]
    assert frame["n"].to_list() == list(range(5000))
    assert frame.schema == {"team": pl.String, "note": pl.String, "n": pl.Int64}
