"""Equal models as equal files: without the memory addresses and the time that skops writes into one."""

import io
import json
import zipfile
from typing import Any

_SCHEMA = "schema.json"
_MADE_AT = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip archive can say
_LEVEL = 1


def canonical_file(data: bytes) -> bytes:
    """Return a skops file with the same objects, whose bytes depend on nothing but them.

    Objects get the numbers 1, 2, 3 … in the order in which the schema names them first, instead of their addresses;
    members of the archive are named after them, stand in that order, and are compressed.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        files = {name: archive.read(name) for name in archive.namelist() if name != _SCHEMA}
    names = _renumber(schema, files)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for old, new in names.items():
            _add(archive, new, _repacked(files[old]) if old.endswith(".npz") else files[old])
        _add(archive, _SCHEMA, json.dumps(schema).encode())
    return packed.getvalue()


def _renumber(schema: dict[str, Any], files: dict[str, bytes]) -> dict[str, str]:
    """Renumber objects and members in place; return the members' new names by their old ones, in order.

    A dictionary of the model may itself have keys with these names; then their values are nodes, no text or number.
    """
    numbers: dict[int, int] = {}
    names: dict[str, str] = {}
    pending: list[Any] = [schema]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if isinstance(address := value.get("__id__"), int):
                value["__id__"] = numbers.setdefault(address, len(numbers) + 1)
            if isinstance(name := value.get("file"), str) and name in files:
                ending = name.rpartition(".")[2]
                value["file"] = names.setdefault(name, f"{len(names) + 1}.{ending}")
            pending.extend(reversed([part for part in value.values() if isinstance(part, dict | list)]))
        else:
            pending.extend(reversed([part for part in value if isinstance(part, dict | list)]))
    return names


def _repacked(data: bytes) -> bytes:
    """Return an archive inside the archive (a sparse matrix) without the time it was made at."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w") as new:
        for name in old.namelist():
            _add(new, name, old.read(name))
    return packed.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name, _MADE_AT)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = 0o600 << 16
    archive.writestr(member, content, compresslevel=_LEVEL)
