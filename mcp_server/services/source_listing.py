"""What can be imported, in pages: the files of the data roots by name, then the sources that are no files."""

import re
from collections.abc import Iterable
from typing import Final

from mcp_server.errors import InvalidArgumentError, shown
from mcp_server.results.data import SourceItem, SourcePage
from mcp_server.results.wording import counted
from mcp_server.services.importing import Importing
from mcp_server.services.paging import after_of, cursor_of, n_that_fit
from mcp_server.stores.query_values import visible_text
from mcp_server.stores.sources.files import SourceFile, SourceFiles
from mcp_server.stores.sources.reader import Listed

# What a cursor's key begins with: the name of the last file, or the number of the others that were shown
_FILE: Final = "file:"
_OTHER: Final = "other:"
_MAX_SHOWN: Final = 500


def source_page(files: SourceFiles, importing: Importing, *, limit: int, cursor: str | None) -> SourcePage:
    """Return up to `limit` sources after `cursor`; connections are asked for their tables once all files were shown.

    Raises:
        InvalidArgumentError: no list of sources gave this cursor.
    """
    after = after_of(cursor)
    if after and not re.fullmatch(f"{_FILE}.*|{_OTHER}[0-9]{{1,9}}", after, re.DOTALL):
        raise InvalidArgumentError(
            f"{shown(cursor)} is no cursor of this list.", hint="Pass next_cursor of the page before, or nothing."
        )
    found: list[SourceFile] = []
    if not after.startswith(_OTHER):
        found = files.listed(limit + 1, after.removeprefix(_FILE))
    keyed = [(f"{_FILE}{file.source}", _file_item(file)) for file in found]
    if len(found) <= limit:  # so these were the last files
        n_shown = int(after.removeprefix(_OTHER)) if after.startswith(_OTHER) else 0
        keyed += _others(importing.listed(), n_shown)
    page = keyed[: min(limit, n_that_fit([item for _, item in keyed]))]
    more = len(page) < len(keyed)
    items = [item for _, item in page]
    n_files = sum(key.startswith(_FILE) for key, _ in page)
    others = f" and {counted(len(page) - n_files, 'other source')}" if len(page) > n_files else ""
    return SourcePage(
        summary=f"{counted(n_files, 'file')}{others} on this page{'; more follow' if more else ''}.",
        items=items,
        next_cursor=cursor_of(page[-1][0]) if more else None,
    )


def _others(listed: Iterable[Listed], n_shown: int) -> list[tuple[str, SourceItem]]:
    return [
        (f"{_OTHER}{number}", _other_item(other)) for number, other in enumerate(listed, start=1) if number > n_shown
    ]


def _file_item(file: SourceFile) -> SourceItem:
    return SourceItem(
        source=visible_text(file.source, _MAX_SHOWN), kind="file", bytes=file.size_bytes, modified=file.modified
    )


def _other_item(other: Listed) -> SourceItem:
    return SourceItem(
        source=visible_text(other.source, _MAX_SHOWN), kind=other.kind, bytes=other.size_bytes, modified=other.modified
    )
