"""Brings text to UTF-8, piece by piece: what it is in is found out, said, and never guessed where it is doubtful."""

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

import polars as pl

from mcp_server.engine.western_text import WORDS, WesternWords, likely_encodings
from mcp_server.errors import InvalidArgumentError, shown
from mcp_server.stores.parquet import full_disk_explained
from mcp_server.stores.sources.open import Room

ENCODINGS: Final = (
    "utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "cp1250", "cp1251", "shift_jis",
    "iso-8859-2", "iso-8859-5", "iso-8859-7", "iso-8859-15", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp437",
    "cp850", "cp866", "cp874", "koi8-r", "mac-roman", "mac-cyrillic", "euc-jp", "euc-kr", "gb18030", "big5",
)  # fmt: skip
_CHUNK_BYTES: Final = 8 * 1024**2
_SAMPLE_BYTES: Final = 16 * 1024
_LONGEST_LINE: Final = 64 * 1024**2
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WINDOWS: Final = re.compile(rb"[\x80-\x9f]")
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")


@dataclass(slots=True)
class Text:
    """UTF-8 text without NUL characters.

    Attributes:
        stream: holds it from the byte `start` on; can be read again.
        encoding: what it was in.
        detected: True when nobody said so and there is no mark.
    """

    stream: IO[bytes]
    start: int
    encoding: str
    detected: bool = False

    @property
    def size(self) -> int:
        """Where it ends, in bytes of the stream."""
        return self.stream.seek(0, io.SEEK_END)

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the whole text in pieces of `size` bytes."""
        self.stream.seek(self.start)
        while chunk := self.stream.read(size):
            yield chunk


def read_text(stream: IO[bytes], encoding: str | None, room: Room) -> Text:
    """Return what `stream` holds as UTF-8.

    Raises:
        InvalidArgumentError: it is not in that encoding, in none that is sure, or holds NUL characters; says where.
    """
    if encoding is not None and encoding not in ENCODINGS:
        raise InvalidArgumentError(
            f"Encoding {shown(encoding)} is not supported.", hint=f"Supported: {', '.join(ENCODINGS)}."
        )
    stream.seek(0)
    head = stream.read(4)
    found = encoding or next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if found not in (None, "utf-8"):
        return _without_carriage_returns(_converted(stream, found, False, room), room)
    text = Text(stream, len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0, "utf-8")
    refusal = _invalid_utf8(text)
    if refusal is None:
        return _without_carriage_returns(text, room)
    if found is None and text.start == 0 and (western := _western(stream)):
        return _without_carriage_returns(_converted(stream, western, True, room), room)
    raise refusal


# UTF-8 ---------------------------------------------------------------------------------------------------------


def _invalid_utf8(text: Text) -> InvalidArgumentError | None:
    """Return why the text is no UTF-8, None when it is; raise for NUL characters, whatever it is.

    Raises:
        InvalidArgumentError: it holds NUL characters.
    """
    place, carried = text.start, b""
    bad: int | None = None
    for chunk in text.chunks(_CHUNK_BYTES):
        if (nul := chunk.find(b"\0")) >= 0:
            raise _nul_refused(text, place + nul)
        if bad is None and not (chunk.isascii() and not carried):
            whole = carried + chunk
            cut = _character_end(whole)
            if not _is_utf8(whole[:cut]):
                bad = place - len(carried) + _first_bad_byte(whole[:cut])
            carried = whole[cut:]
        place += len(chunk)
    if bad is None and carried and not _is_utf8(carried):
        bad = place - len(carried) + _first_bad_byte(carried)
    return None if bad is None else _not_utf8(text.stream, bad)


def _character_end(data: bytes) -> int:
    """Return where the last character that is surely whole ends."""
    end = len(data)
    for i in range(1, min(4, end) + 1):
        if data[-i] < 0x80:
            return end - i + 1
        if data[-i] >= 0xC0:
            return end - i
    return end


def _is_utf8(data: bytes) -> bool:
    try:
        pl.Series([data], dtype=pl.Binary).cast(pl.String)
    except pl.exceptions.PolarsError:
        return False
    return True


def _first_bad_byte(data: bytes) -> int:
    try:
        data.decode()
    except UnicodeDecodeError as refusal:
        return refusal.start
    return 0


def _line_of(stream: IO[bytes], place: int) -> int:
    """Return the line, from 1, that the byte at `place` stands in."""
    stream.seek(0)
    n_lines = 1
    while place > 0 and (part := stream.read(min(place, _CHUNK_BYTES))):
        n_lines += part.count(b"\n")
        place -= len(part)
    return n_lines


def _not_utf8(stream: IO[bytes], place: int) -> InvalidArgumentError:
    line = _line_of(stream, place)
    names = likely_encodings(_sample(stream))
    likely = f"It may be {', '.join(names)}: " if names else ""
    return InvalidArgumentError(
        f"The file is not utf-8: byte {place} (line {line}) cannot be read, and no other encoding is sure.",
        hint=f"{likely}say what it is in options.encoding, one of {', '.join(ENCODINGS)}.",
        details={"byte": place, "line": line, "likely": names},
    )


def _nul_refused(text: Text, place: int) -> InvalidArgumentError:
    line = _line_of(text.stream, place)
    text.stream.seek(0)
    head = text.stream.read(4096)
    even, odd = head[::2].count(0), head[1::2].count(0)
    wide = "utf-16-be" if even > 4 * odd else "utf-16-le" if odd > 4 * even else None
    many = wide is not None and 2 * max(even, odd) > len(head[::2])
    hint = f"It looks like {wide} without a mark; if so, say that in options.encoding." if many else None
    return InvalidArgumentError(
        f"The file holds a NUL character (byte {place}, line {line}).",
        hint=hint or "A text file has none; if it is UTF-16, say so in options.encoding (utf-16-le or utf-16-be).",
        details={"byte": place, "line": line},
    )


# Others --------------------------------------------------------------------------------------------------------


def _western(stream: IO[bytes]) -> str | None:
    """Return `latin-1` or `cp1252` when the bytes are safely read as Western European text."""
    words, windows, rest = WesternWords(), False, b""
    stream.seek(0)
    while chunk := stream.read(_CHUNK_BYTES):
        data = rest + chunk
        cut = data.rfind(b"\n") + 1 or (len(data) if len(data) > _LONGEST_LINE else 0)
        if _CONTROLS.search(chunk) or not words.add(WORDS.findall(data[:cut])):
            return None
        windows = windows or _WINDOWS.search(chunk) is not None
        rest = data[cut:]
    words.add(WORDS.findall(rest))
    return ("cp1252" if windows else "latin-1") if words.are_western else None


def _sample(stream: IO[bytes]) -> bytes:
    """Return the first lines that hold bytes beyond ASCII."""
    stream.seek(0)
    kept: list[bytes] = []
    size = 0
    while size < _SAMPLE_BYTES and (line := stream.readline(_SAMPLE_BYTES)):
        if not line.isascii():
            kept.append(line)
            size += len(line)
    return b"".join(kept)


def _converted(stream: IO[bytes], encoding: str | None, detected: bool, room: Room) -> Text:
    assert encoding is not None
    decoder = codecs.getincrementaldecoder(encoding)()
    plain = room.file()
    place, n_written, is_last = 0, 0, False
    stream.seek(0)
    while not is_last:
        chunk = stream.read(_CHUNK_BYTES)
        is_last = not chunk
        try:
            text = decoder.decode(chunk, is_last)
            data = (text if n_written else text.removeprefix("\ufeff")).encode()
        except UnicodeError as refusal:
            raise _undecodable(stream, encoding, place, refusal) from None
        if (nul := data.find(b"\0")) >= 0:
            plain.write(data)
            raise _nul_refused(Text(plain, 0, encoding), n_written + nul)
        with full_disk_explained():
            plain.write(data)
        n_written += len(data)
        place += len(chunk)
    return Text(plain, 0, encoding, detected)


def _undecodable(stream: IO[bytes], encoding: str, chunk_start: int, refusal: UnicodeError) -> InvalidArgumentError:
    place = chunk_start + (refusal.start if isinstance(refusal, UnicodeDecodeError) else 0)
    line = _line_of(stream, place)
    return InvalidArgumentError(
        f"The file is not {encoding}: byte {place} (line {line}) cannot be read.",
        hint=f"Say what it is in options.encoding, one of {', '.join(ENCODINGS)}.",
        details={"byte": place, "line": line},
    )


def _without_carriage_returns(text: Text, room: Room) -> Text:
    """Return the text with the line ends of today, where it has those of old Macs: returns, and no other."""
    has_returns = False
    for chunk in text.chunks(_CHUNK_BYTES):
        if b"\n" in chunk:
            return text
        has_returns = has_returns or b"\r" in chunk
    if not has_returns:
        return text
    plain = room.file()
    with full_disk_explained():
        for chunk in text.chunks(_CHUNK_BYTES):
            plain.write(chunk.replace(b"\r", b"\n"))
    return Text(plain, 0, text.encoding, text.detected)
