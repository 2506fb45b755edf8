"""Reads JSON arrays and JSON Lines piece by piece, as strictly as at once: no NaN, no comments, no trailing commas.

A long array is cut at the commas between its elements, found in one vectorised pass over the bytes, and each piece is
parsed as an array of its own.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from pydantic_core import from_json

from mcp_server.errors import InvalidArgumentError, ResourceExhaustedError, shown
from mcp_server.stores.sources.text import Text

PIECE_BYTES: Final = 4 * 1024**2
_MAX_ELEMENT_BYTES: Final = 64 * 1024**2
_OPENING, _CLOSING, _COMMA, _QUOTE, _BACKSLASH = (0x5B, 0x7B), (0x5D, 0x7D), 0x2C, 0x22, 0x5C


def array_pieces(text: Text, piece_bytes: int | None = None) -> Iterator[list[Any]]:
    """Yield the elements of the one array that the text is.

    Raises:
        InvalidArgumentError: it is no valid JSON (says where), or no array (says what it is).
        ResourceExhaustedError: an element is larger than can be held.
    """
    size = piece_bytes or PIECE_BYTES
    chunks = text.chunks(size)
    data = next(chunks, b"")
    following = next(chunks, b"")
    if not following or data.lstrip()[:1] != b"[":
        yield _whole(data, following, chunks)
        return
    data = data[data.index(b"[") + 1 :]
    n_elements = 0
    while True:
        cut, end = _cut(data)
        if end is not None:
            if data[end : end + 1] != b"]":
                raise _invalid("", "the array ends with }, not with ]")
            elements = _elements(data[:end], n_elements, is_last=True)
            _check_the_end(data[end + 1 :] + following, chunks)
            yield elements
            return
        if cut is not None:
            elements = _elements(data[:cut], n_elements, is_last=False)
            n_elements += len(elements)
            yield elements
            data = data[cut + 1 :]
        if not following:
            raise _invalid(f"After element {n_elements}: ", "the array has no end")
        if len(data) > _MAX_ELEMENT_BYTES:
            raise ResourceExhaustedError(
                f"Element {n_elements + 1} of the array is larger than {_MAX_ELEMENT_BYTES // 1024**2} MiB.",
                hint="Check the quotes and brackets; large tables are better kept as JSON Lines or Parquet.",
            )
        data += following
        following = next(chunks, b"")


def _whole(data: bytes, following: bytes, chunks: Iterator[bytes]) -> list[Any]:
    """Parse a short document, or refuse a long one that is no array."""
    if following and data.strip():
        kind = {b"{": "object", b'"': "string"}.get(data.lstrip()[:1])
        if kind is None:
            raise _invalid("", "it starts with neither [ nor {")
        raise _no_array(kind)
    document = parsed(b"".join([data, following, *chunks]), "")
    if not isinstance(document, list):
        raise _no_array(kind_of_value(document))
    return document


def _no_array(kind: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The file holds one {kind}, not an array of objects.",
        hint="A table is [{...}, {...}]; for one object a line use JSON Lines (format='jsonl').",
    )


def _cut(data: bytes) -> tuple[int | None, int | None]:
    """Return the last comma between elements of `data`, which starts with one, and the end of the array if there."""
    octets = np.frombuffer(data, np.uint8)
    marks = np.flatnonzero(np.isin(octets, np.array([*_OPENING, *_CLOSING, _COMMA], np.uint8)))
    quotes = np.flatnonzero(octets == _QUOTE)
    if b"\\" in data and len(quotes):
        quotes = quotes[~_escaped(octets, quotes)]
    marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    found = octets[marks]
    steps = np.isin(found, _OPENING).astype(np.int64) - np.isin(found, _CLOSING)
    depths = 1 + np.cumsum(steps)
    ends = np.flatnonzero(depths == 0)
    if len(ends):
        return None, int(marks[ends[0]])
    commas = np.flatnonzero((found == _COMMA) & (depths == 1))
    return (int(marks[commas[-1]]) if len(commas) else None), None


def _escaped(octets: "np.typing.NDArray[np.uint8]", quotes: "np.typing.NDArray[np.int64]") -> "np.typing.NDArray[Any]":
    """Return which quotes follow an odd number of backslashes."""
    places = np.where(octets != _BACKSLASH, np.arange(len(octets), dtype=np.int32), np.int32(-1))
    others = np.maximum.accumulate(places)
    before = np.where(quotes > 0, others[quotes - 1], quotes - 1)
    odd: np.typing.NDArray[Any] = (quotes - 1 - before) % 2 == 1
    return odd


def _elements(data: bytes, n_before: int, *, is_last: bool) -> list[Any]:
    elements = parsed(b"[" + data + b"]", f"After element {n_before}: " if n_before else "")
    assert isinstance(elements, list)
    if not elements and (n_before or not is_last):
        raise _invalid(f"After element {n_before}: ", "a comma without an element")
    return elements


def _check_the_end(rest: bytes, chunks: Iterator[bytes]) -> None:
    while not rest.strip():
        rest = next(chunks, b"")
        if not rest:
            return
    raise _invalid("", "there is more text after the end of the array")


def line_pieces(text: Text, piece_bytes: int | None = None) -> Iterator[list[Any]]:
    """Yield the objects of JSON Lines; blank lines are skipped.

    Raises:
        InvalidArgumentError: a line is no valid JSON or no object; says which.
        ResourceExhaustedError: a line is larger than can be held.
    """
    n_lines, rest = 0, b""
    for chunk in text.chunks(piece_bytes or PIECE_BYTES):
        data = rest + chunk
        cut = data.rfind(b"\n") + 1
        rest = data[cut:]
        if len(rest) > _MAX_ELEMENT_BYTES:
            raise ResourceExhaustedError(
                f"Line {n_lines + data.count(10, 0, cut) + 1} is larger than {_MAX_ELEMENT_BYTES // 1024**2} MiB.",
                hint="JSON Lines has one {...} a line.",
            )
        if cut:
            lines = data[: cut - 1].split(b"\n")
            yield _objects(lines, n_lines)
            n_lines += len(lines)
    if rest:
        yield _objects([rest], n_lines)


def _objects(lines: list[bytes], n_before: int) -> list[Any]:
    rows: list[Any] = []
    for number, line in enumerate(lines, n_before + 1):
        if not line.strip():
            continue
        row = parsed(line, f"Line {number}: ")
        if type(row) is not dict:
            raise InvalidArgumentError(
                f"Line {number} holds one {kind_of_value(row)}, not an object.", hint="JSON Lines has one {...} a line."
            )
        rows.append(row)
    return rows


def parsed(text: bytes, where: str) -> Any:
    """Return a JSON document.

    Raises:
        InvalidArgumentError: it is none; `where` and the parser say where.
    """
    try:
        return from_json(text, allow_inf_nan=False, cache_strings="keys")
    except ValueError as refusal:
        raise _invalid(where, shown(str(refusal), 150)) from None


def _invalid(where: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{where}The file is no valid JSON: {why}.", hint="Mend the file and import it again.")


def kind_of_value(value: Any) -> str:
    """Return what JSON calls a value."""
    names = {dict: "object", list: "array", str: "string", bool: "truth value", int: "number", float: "number"}
    return names.get(type(value), "null")
