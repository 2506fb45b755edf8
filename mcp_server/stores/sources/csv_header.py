"""How a CSV file is written: its delimiter, and whether its first row holds names."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from mcp_server.engine.findings import Finding
from mcp_server.errors import InvalidArgumentError, shown
from mcp_server.stores.sources.text import Text

DELIMITERS: Final = (",", "\t", ";", "|")
_SNIFFED_BYTES: Final = 64 * 1024
_SNIFFED_LINES: Final = 20
_NUMBER: Final = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
_DATE: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]+)?"
_DATA: Final = re.compile(rf"\s*({_NUMBER}|{_DATE}|(?i:nan|true|false))\s*")
_YEARS: Final = range(1800, 2200)


def delimiter_of(text: Text, asked: Any, default: str | None) -> tuple[str, bool]:
    """Return the delimiter, and True when it was found out from the text.

    Raises:
        InvalidArgumentError: what was asked for cannot be one.
    """
    delimiter = asked if asked is not None else default
    if delimiter is None:
        return _sniffed(text), True
    if not (isinstance(delimiter, str) and len(delimiter) == 1 and delimiter.isascii() and delimiter not in '"\r\n'):
        raise InvalidArgumentError(
            f"{shown(delimiter)} cannot be a delimiter.", hint="options.delimiter is one character."
        )
    return delimiter, False


def _sniffed(text: Text) -> str:
    """Return the delimiter that splits the first lines into the same number of fields, most fields first."""
    head = next(text.chunks(_SNIFFED_BYTES), b"")
    lines = head.decode(errors="ignore").splitlines(keepends=True)
    if len(head) == _SNIFFED_BYTES and len(lines) > 1:
        lines = lines[:-1]
    best, most = ",", 1
    for delimiter in DELIMITERS:
        try:
            rows = [row for row in csv.reader(lines[:_SNIFFED_LINES], delimiter=delimiter) if row]
        except csv.Error:
            continue
        widths = Counter(map(len, rows))
        if len(widths) == 1 and (width := next(iter(widths))) > most:
            best, most = delimiter, width
    return best


def header_of(first: Sequence[str], asked: bool | None) -> tuple[bool, list[Finding]]:
    """Return whether the first row holds names, and what there is to say about it.

    Nobody names columns by plain numbers or dates: where all cells of the first row are such, it is data. Rows of
    years, which do name columns, are left as names.
    """
    if asked is not None:
        return asked, []
    like_data = [cell for cell in first if _DATA.fullmatch(cell)]
    if not like_data:
        return True, []
    shown_cells = ", ".join(shown(cell, 20) for cell in like_data[:3])
    if len(like_data) == len(first) and not _are_years(first):
        text = (
            f"The first row looks like data ({shown_cells}), so it was read as such and the columns are called by "
            "their place; pass options.header=true if it holds names."
        )
        return False, [Finding(None, "header_looks_like_data", text)]
    text = (
        f"The first row was read as the header but looks like data ({shown_cells}); pass options.header=false if it is."
    )
    return True, [Finding(None, "header_looks_like_data", text)]


def _are_years(cells: Sequence[str]) -> bool:
    return len(set(cells)) == len(cells) > 1 and all(cell.isdecimal() and int(cell) in _YEARS for cell in cells)
