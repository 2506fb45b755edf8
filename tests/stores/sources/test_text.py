from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server.errors import InvalidArgumentError
from mcp_server.stores.sources import text as text_source
from mcp_server.stores.sources.open import Room
from mcp_server.stores.sources.text import Text, read_text

TABLE = "id,name\n1,José\n2,Zoë Müller\n3,Benoît\n"


@pytest.fixture(params=[8 * 1024**2, 1, 3], ids=["one chunk", "bytes", "threes"])
def room(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """Room for files; text is read in chunks of several sizes."""
    monkeypatch.setattr(text_source, "_CHUNK_BYTES", request.param)
    with Room(tmp_path, 10**8) as room:
        yield room


def text_of(data: bytes, room: Room, encoding: str | None = None) -> Text:
    stream = room.file()
    stream.write(data)
    return read_text(stream, encoding, room)


@pytest.mark.parametrize(
    ("data", "encoding", "detected"),
    [
        (TABLE.encode(), "utf-8", False),
        (b"\xef\xbb\xbf" + TABLE.encode(), "utf-8", False),
        (TABLE.encode("utf-16"), "utf-16", False),
        (b"\xfe\xff" + TABLE.encode("utf-16-be"), "utf-16", False),
        (TABLE.encode("utf-32"), "utf-32", False),
        (TABLE.encode("latin-1"), "latin-1", True),
        ((TABLE + "4,“€5”\n").encode("cp1252"), "cp1252", True),
    ],
)
def test_encodings_are_found_out_and_reported(data: bytes, encoding: str, detected: bool, room: Room) -> None:
    text = text_of(data, room)
    assert (text.encoding, text.detected) == (encoding, detected)
    assert b"".join(text.chunks(7)).decode().startswith(TABLE)


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        ("id,имя\n1,Иван\n".encode("cp1251"), r"byte 3 \(line 1\)", "cp1251"),
        (TABLE.encode("utf-16-be"), "NUL character", "utf-16-be"),
        (TABLE.encode("utf-16-le"), "NUL character", "utf-16-le"),
        (b"id,t\n1,\xff\xfe\xfa\n", r"byte 7 \(line 2\)", "options.encoding"),
        (b"id,t\n1,\xc0\xaf\n", r"byte 7 \(line 2\)", "options.encoding"),
        (b"id\n1\0\n", r"NUL character \(byte 4, line 2\)", "UTF-16"),
        (TABLE.encode() + b"4,Jos\xe9\n", r"\(line 5\)", "options.encoding"),
        (TABLE.encode("latin-1") + b"4,\x07\n", "line 2", "options.encoding"),
        (TABLE.encode()[:-1] + "é".encode()[:1], "cannot be read", "options.encoding"),
    ],
)
def test_what_is_doubtful_is_refused_with_its_place(data: bytes, message: str, hint: str, room: Room) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as refusal:
        text_of(data, room)
    assert hint in refusal.value.hint


@pytest.mark.parametrize("encoding", ["cp1250", "cp1251", "koi8-r", "shift_jis", "utf-16-le", "gb18030", "cp1253"])
def test_an_encoding_that_is_said_is_used(encoding: str, room: Room) -> None:
    words = {"cp1250": "Dončić", "shift_jis": "田中", "gb18030": "王", "cp1253": "Νίκος"}.get(encoding, "Иван")
    text = text_of(f"a\n{words}\n".encode(encoding), room, encoding)
    assert b"".join(text.chunks(100)).decode() == f"a\n{words}\n"


def test_a_wrong_encoding_is_refused_with_its_place(room: Room) -> None:
    with pytest.raises(InvalidArgumentError, match=r"not shift_jis: byte \d+ \(line 2\)"):
        text_of(b"a\n\xff\xff\n", room, "shift_jis")
    with pytest.raises(InvalidArgumentError, match="not supported"):
        text_of(b"a\n", room, "rot13")


def test_the_line_ends_of_old_macs_are_read(room: Room) -> None:
    assert b"".join(text_of(b"a,b\r1,2\r", room).chunks(100)) == b"a,b\n1,2\n"
    assert b"".join(text_of(b"a,b\r\n1,2\r\n", room).chunks(100)) == b"a,b\r\n1,2\r\n"
