"""Cuts CSV text into pieces of whole records, and checks their structure in one vectorised pass over the bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mcp_server.errors import InvalidArgumentError, ResourceExhaustedError
from mcp_server.stores.sources.columns import ParseLimits
from mcp_server.stores.sources.text import Text

PIECE_BYTES: Final = 24 * 1024**2
_MAX_RECORD_BYTES: Final = 256 * 1024**2
_QUOTE, _NEWLINE, _RETURN = 0x22, 0x0A, 0x0D


class OddQuotesError(Exception):
    """The quotes are not what Polars reads on trust; only a strict reader can tell what is meant."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole records, blank lines taken out.

    Attributes:
        start, end: its place in the text's stream, blank lines included.
    """

    data: bytes
    n_records: int
    n_blank: int
    start: int
    end: int


class Records:
    """The records of one text, piece by piece."""

    def __init__(self, text: Text, delimiter: str, limits: ParseLimits, piece_bytes: int | None = None) -> None:
        self._text = text
        self._delimiter = ord(delimiter)
        self._limits = limits
        self._piece_bytes = piece_bytes or PIECE_BYTES
        self._n_before = 0  # records in the pieces before, blank lines among them
        self._places: list[tuple[int, int, int]] = []  # start, end and records of each, in order
        self.width = 0

    def pieces(self) -> Iterator[Piece]:
        """Yield the records, their structure checked.

        Raises:
            OddQuotesError: a quote opens or closes within a field, or is never closed.
            InvalidArgumentError: a record has more or fewer fields than the first; says which.
            ResourceExhaustedError: too many columns, or a field too large.
        """
        rest, end, started = b"", self._text.start, False
        for chunk in self._text.chunks(self._piece_bytes):
            end += len(chunk)
            data = rest + chunk
            if not started:
                data = data.lstrip(b"\r\n")
                started = bool(data)
            cut, piece = self._checked(data, end, is_last=False)
            rest = data[cut:]
            if len(rest) > _MAX_RECORD_BYTES:
                if b'"' in rest:
                    raise OddQuotesError
                self._limits.check_field(len(rest))
            if piece is not None:
                yield self._remembered(piece)
        if rest:
            _, piece = self._checked(rest, end, is_last=True)
            if piece is not None:
                yield self._remembered(piece)

    def again(self) -> Iterator[Piece]:
        """Yield the pieces once more, after `pieces` gave all of them; what was checked is not checked again."""
        for start, end, n_records in self._places:
            self._text.stream.seek(start)
            data = self._text.stream.read(end - start)
            piece = Piece(data, n_records, 0, start, end)
            if n_records < 0:
                _, found = self._checked(data, end, is_last=True)
                piece = found or piece
            yield piece

    def _remembered(self, piece: Piece) -> Piece:
        self._places.append((piece.start, piece.end, -1 if piece.n_blank else piece.n_records))
        return piece

    def _checked(self, data: bytes, end: int, *, is_last: bool) -> tuple[int, Piece | None]:
        """Check the whole records at the start of `data`; return where they end, and them."""
        octets = np.frombuffer(data, np.uint8)
        separators = np.flatnonzero((octets == self._delimiter) | (octets == _NEWLINE))
        quotes = np.flatnonzero(octets == _QUOTE) if b'"' in data else np.empty(0, np.int64)
        if len(quotes):
            separators = separators[np.searchsorted(quotes, separators) % 2 == 0]
        closes = octets[separators] == _NEWLINE
        if is_last and (not len(closes) or separators[-1] != len(data) - 1 or not closes[-1]):
            separators, closes = np.append(separators, len(data)), np.append(closes, True)
        last = np.flatnonzero(closes)
        if not len(last):
            return 0, None
        separators = separators[: last[-1] + 1]
        cut = min(int(separators[-1]) + 1, len(data))
        self._check_quotes(octets[:cut], quotes[quotes < cut], is_last)
        ends, widths = separators[last], np.diff(last, prepend=-1)
        starts = np.append(0, ends[:-1] + 1)
        kept = _filled(octets, starts, ends, widths)
        self._check_widths(widths, kept)
        self._limits.check_field(int(np.diff(separators, prepend=-1).max()) - 1)
        self._n_before += len(widths)
        n_kept = int(kept.sum())
        plain = data[:cut] if n_kept == len(widths) else _without(octets[:cut], starts[~kept], ends[~kept])
        start = end - len(data)
        piece = Piece(plain, n_kept, len(widths) - n_kept, start, start + cut)
        return cut, piece if n_kept or piece.n_blank else None

    def _check_quotes(self, octets: NDArray[np.uint8], quotes: NDArray[np.int64], is_last: bool) -> None:
        """Refuse a quote that opens after, or closes before, anything but the edge of a field or another quote."""
        if not len(quotes):
            return
        if len(quotes) % 2:
            raise OddQuotesError
        opening, closing = quotes[::2], quotes[1::2]
        before = octets[opening[opening > 0] - 1]
        after = octets[closing[closing < len(octets) - 1] + 1]
        edges = np.array([self._delimiter, _NEWLINE, _QUOTE], np.uint8)
        if not (np.isin(before, edges).all() and np.isin(after, np.append(edges, np.uint8(_RETURN))).all()):
            raise OddQuotesError

    def _check_widths(self, widths: NDArray[np.int64], kept: NDArray[np.bool_]) -> None:
        if self.width == 0 and kept.any():
            self.width = int(widths[kept][0])
            self._limits.check_columns(self.width)
        wrong = np.flatnonzero(kept & (widths != self.width))
        if len(wrong):
            raise uneven(self._n_before + int(wrong[0]) + 1, int(widths[wrong[0]]), self.width)


def _filled(
    octets: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], widths: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which records are more than an empty line."""
    lengths = ends - starts
    blank: NDArray[np.bool_] = (widths == 1) & (lengths == 0)
    single = np.flatnonzero((widths == 1) & (lengths == 1))
    blank[single] = octets[starts[single]] == _RETURN
    return ~blank


def _without(octets: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> bytes:
    """Return the bytes without the lines from `starts` to `ends`, their ends included."""
    kept = np.ones(len(octets), bool)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        kept[start : end + 1] = False
    return octets[kept].tobytes()


def uneven(record: int, n_fields: int, width: int) -> InvalidArgumentError:
    """Return the refusal of a record that has more or fewer fields than the first."""
    return InvalidArgumentError(
        f"Row {record} (the header is row 1) has {n_fields} fields where the first has {width}.",
        hint="Mend the row, or say the right options.delimiter.",
        details={"row": record, "fields": n_fields, "expected": width},
    )


def field_too_large(line: int) -> ResourceExhaustedError:
    """Return the refusal of a field beyond the limit that a strict reader met."""
    return ResourceExhaustedError(
        f"A field that ends in line {line} is larger than the limit; most likely a quote is open.",
        hint="Close the quote, or raise NBA_MCP_LIMITS__MAX_FIELD_BYTES.",
    )
