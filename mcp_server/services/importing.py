"""Brings sources in: each kind has a reader, chosen by the scheme of the source's name."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mcp_server.errors import PermissionDeniedError, shown
from mcp_server.runtime.progress import Progress
from mcp_server.stores.sources.files import SourceFiles
from mcp_server.stores.sources.reader import Brought, Listed, SourceReader

_USER_INFO: Final = re.compile(r"(?<=//)[^/?#]*@")  # of an address, with its password
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


class Importing:
    """Hands a source to the reader of its kind. Thread-safe."""

    def __init__(self, files: SourceFiles, readers: Mapping[str, SourceReader]) -> None:
        """Take the reader of paths, and the others by their scheme in lower case."""
        self._files = files
        self._readers = dict(readers)

    def bring(
        self, source: str, format: str | None, options: Mapping[str, Any], output: Path, progress: Progress
    ) -> Brought:
        """Write the rows of `source` to `output`.

        Raises:
            PermissionDeniedError: no reader has its scheme.
            LifecycleError: as the reader of its kind.
        """
        match = _SCHEME.match(source)
        if match is None:
            return self._files.bring(source, format, options, output, progress)
        reader = self._readers.get(match[1].lower())
        if reader is None:
            known = ", ".join(f"{scheme}://" for scheme in self._readers)
            raise PermissionDeniedError(
                f"Source {shown(_USER_INFO.sub('', source))} is not allowed: "
                f"{shown(match[0])} starts no kind of source here.",
                hint=f"A source is a path in a data root, or starts with one of {known}; list_sources shows them.",
            )
        return reader.bring(source, format, options, output, progress)

    def listed(self) -> Sequence[Listed]:
        """Return what can be imported beside files."""
        return [each for reader in self._readers.values() for each in reader.listed()]
