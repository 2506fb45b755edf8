"""The files that a folder or a pattern such as `games/part-*.csv` names."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from mcp_server.errors import InvalidArgumentError, PermissionDeniedError, ResourceExhaustedError, shown

PATTERN: Final = re.compile(r"[*?\[]")
_MAX_PARTS: Final = 10_000


@dataclass(slots=True)
class FoundParts:
    """Files of one format by name; notes say what was left out."""

    paths: list[Path]
    notes: list[str] = field(default_factory=list)


def parts_of(root: Path, path: Path, format: str | None, *, is_pattern: bool) -> FoundParts:
    """Return the files in the folder `path`, or those that `path` fits as a pattern.

    Hidden files, and those whose names begin with `_` (what writers of parts leave beside them), are no parts.

    Args:
        format: what the caller says that all files are; None to go by their endings.

    Raises:
        PermissionDeniedError: a file is a link.
        InvalidArgumentError: they have several formats, or a folder has none.
        ResourceExhaustedError: there are too many.
    """
    from mcp_server.stores.sources.parse import kind_of

    found: list[Path] = []
    pattern = path.relative_to(root).parts if is_pattern else (*path.relative_to(root).parts, "*")
    for each in _matching(root, pattern):
        if len(found) == _MAX_PARTS:
            raise ResourceExhaustedError(
                f"{shown(path.name)} names more than {_MAX_PARTS:,} files.", hint="Name fewer with a narrower pattern."
            )
        found.append(each)
    formats: dict[Path, str] = {}
    for each in found:
        try:
            formats[each] = kind_of(each.name, format).format
        except InvalidArgumentError:
            continue
    counts = Counter(formats.values())
    if len(counts) > 1:
        words = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        raise InvalidArgumentError(
            f"{shown(path.name)} names files of several formats: {words}.",
            hint="Parts have one format; name them with a pattern such as games/*.csv.",
        )
    if not counts and not is_pattern:
        raise InvalidArgumentError(
            f"The folder {shown(path.name)} holds no file that can be imported.",
            hint="Only the files in it count, not those in folders below; a pattern such as games/*/*.csv names those.",
        )
    others = [each.name for each in found if each not in formats]
    names = ", ".join(shown(name, 40) for name in others[:5])
    notes = [f"{len(others)} other files were left out ({names})."] if others else []
    return FoundParts(sorted(formats), notes)


def _matching(folder: Path, pattern: tuple[str, ...]) -> Iterator[Path]:
    """Yield the regular files below `folder` whose parts fit those of the pattern, one by one."""
    if not pattern:
        return
    with os.scandir(folder) as entries:
        chosen = sorted((entry for entry in entries if _fits(entry.name, pattern[0])), key=lambda entry: entry.name)
    for entry in chosen:
        if entry.is_symlink():
            raise PermissionDeniedError(
                f"Source {shown(entry.name)} is a link.", hint="Links are never followed; copy the file, or remove it."
            )
        if len(pattern) == 1 and entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
        elif len(pattern) > 1 and entry.is_dir(follow_symlinks=False):
            yield from _matching(Path(entry.path), pattern[1:])


def _fits(name: str, wanted: str) -> bool:
    return name == wanted if not PATTERN.search(wanted) else name[:1] not in "._" and fnmatchcase(name, wanted)
