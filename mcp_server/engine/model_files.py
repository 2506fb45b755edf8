"""Model files: scikit-learn objects in the skops format. A file is data: what is not known is not built.

A file is looked at in this order, each step before the next may touch it: its hash, the sizes the archive
declares, the size and depth of its schema, the types and loaders the schema names (against our own lists, not
against what the file or the library would trust), and, once built, the indices inside its trees.
"""

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import sklearn
import skops.io
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_array
from skops.io._protocol import PROTOCOL
from skops.io.exceptions import UnsupportedTypeException, UntrustedTypesFoundException

from mcp_server.engine.canonical_files import canonical_file
from mcp_server.engine.model_bounds import check_bounds, parts_of
from mcp_server.engine.trusted_types import TRUSTED_LOADERS, TRUSTED_TYPES
from mcp_server.errors import FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError, shown

MIB = 1024**2
_SCHEMA = "schema.json"
_UNREADABLE = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, NotImplementedError, RecursionError, EOFError)
_STRUCTURAL = re.compile(rb"[\[{,]")


@dataclass(frozen=True, slots=True)
class FileLimits:
    """How large a model file may be, before anything of it is built.

    Attributes:
        file_bytes: the file as stored.
        unpacked_bytes: all its members, decompressed.
        schema_bytes: its schema, decompressed.
        schema_values: values in the schema; one takes about 100 bytes while it is read.
        nodes: objects the schema describes; one takes up to 3 kB while it is built (a tree of a forest has 58).
        depth: how deep the schema nests.
    """

    file_bytes: int = 1024 * MIB
    unpacked_bytes: int = 2048 * MIB
    schema_bytes: int = 64 * MIB
    schema_values: int = 2_000_000
    nodes: int = 100_000
    depth: int = 250


DEFAULT_LIMITS = FileLimits()


def dump_model(model: Any) -> bytes:
    """Return `model` as a skops file that `load_model` takes; equal models give equal bytes.

    Raises:
        FailedPreconditionError: the model holds something that would not be loaded again; names it.
    """
    try:
        with _without_functions(model):
            data = canonical_file(skops.io.dumps(model))
        _read_schema(data, DEFAULT_LIMITS)
    except (UnsupportedTypeException, InvalidArgumentError, ResourceExhaustedError) as refusal:
        raise FailedPreconditionError(
            f"The model cannot be saved: {getattr(refusal, 'message', refusal)}",
            hint="Use estimators and transformers of scikit-learn without functions as parameters.",
        ) from refusal
    return data


@contextmanager
def _without_functions(model: Any) -> Iterator[None]:
    """Take the one function out that scikit-learn itself puts into a fitted model, while it is saved.

    Boosting with categorical columns passes the others through `check_array`, which changes nothing in the
    numbers that a pipeline hands it.
    """
    replaced = [
        (part, part.func)
        for part, _ in parts_of(model)
        if isinstance(part, FunctionTransformer)
        and isinstance(part.func, partial)
        and part.func.func is check_array
        and not part.func.args
    ]
    for part, _ in replaced:
        part.func = None
    try:
        yield
    finally:
        for part, function in replaced:
            part.func = function


def load_model(data: bytes, sha256: str, limits: FileLimits = DEFAULT_LIMITS) -> Any:
    """Return the model that `data` holds.

    Args:
        data: a skops file.
        sha256: the hash it must have, from our own records.
        limits: how large it may be.

    Raises:
        FailedPreconditionError: the hash is another, or the file belongs to another version of scikit-learn.
        InvalidArgumentError: it is no skops file, or holds a type that is not trusted; names the type.
        ResourceExhaustedError: it is larger than `limits`.
    """
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise FailedPreconditionError(
            f"The model file is not the one that was registered: its SHA-256 is {actual[:12]}…, not {sha256[:12]}….",
            hint="Restore the data directory from a backup; what was loaded before goes on serving.",
        )
    types = _read_schema(data, limits)
    try:
        # Only those of our trusted types that occur are passed: skops copies the list into every node.
        model = skops.io.loads(data, trusted=sorted(types))
    except UntrustedTypesFoundException as refusal:
        raise InvalidArgumentError(f"The model file holds untrusted types: {shown(str(refusal), 300)}.") from refusal
    except MemoryError as refusal:
        raise ResourceExhaustedError("The model file needs more memory than there is.") from refusal
    except Exception as refusal:  # why: a malformed file fails anywhere inside the library
        raise InvalidArgumentError(
            f"The model file cannot be read: {type(refusal).__name__}: {shown(str(refusal), 200)}.",
            hint="Save the fitted model again with skops.io.dump.",
        ) from refusal
    check_bounds(model)
    return model


def _read_schema(data: bytes, limits: FileLimits) -> set[str]:
    """Return the types a file names, all of them trusted; nothing of it is built."""
    if len(data) > limits.file_bytes:
        raise _too_large("file", len(data), limits.file_bytes, "bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            text = _schema_text(archive, limits)
        schema = json.loads(text)
    except _UNREADABLE as refusal:
        raise InvalidArgumentError(
            "The model file is not a skops file: it has no readable archive with a schema.",
            hint="Save the fitted model with skops.io.dump.",
        ) from refusal
    found = schema.get("protocol") if isinstance(schema, dict) else None
    if found != PROTOCOL:
        raise InvalidArgumentError(
            f"The model file has skops protocol {shown(found)}; {PROTOCOL} is supported.",
            hint="Save the fitted model again with skops 0.16.",
        )
    survey = _survey(schema, limits)
    _refuse_untrusted(survey)
    _refuse_other_version(survey.sklearn_versions)
    return survey.types


def _schema_text(archive: zipfile.ZipFile, limits: FileLimits) -> bytes:
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    if unpacked > limits.unpacked_bytes:
        raise _too_large("unpacked content", unpacked, limits.unpacked_bytes, "bytes")
    schema = archive.getinfo(_SCHEMA)
    if schema.file_size > limits.schema_bytes:
        raise _too_large("schema", schema.file_size, limits.schema_bytes, "bytes")
    with archive.open(schema) as stream:
        text = stream.read(limits.schema_bytes + 1)
    values = sum(1 for _ in _STRUCTURAL.finditer(text)) if len(text) > limits.schema_values else 0
    if values > limits.schema_values:
        raise _too_large("schema", values, limits.schema_values, "values")
    return text


@dataclass(slots=True)
class _Survey:
    types: set[str]
    loaders: set[str]
    sklearn_versions: set[str]
    nodes: int = 0


def _survey(schema: dict[str, Any], limits: FileLimits) -> _Survey:
    """Walk the schema without recursion and note every type and loader it names."""
    survey = _Survey(set(), set(), set())
    pending: list[tuple[Any, int]] = [(schema, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > limits.depth:
            raise _too_large("schema's nesting", depth, limits.depth, "levels")
        if isinstance(value, list):
            pending.extend((item, depth + 1) for item in value if isinstance(item, dict | list))
        elif isinstance(value, dict):
            _note(value, survey)
            if survey.nodes > limits.nodes:
                raise _too_large("schema", survey.nodes, limits.nodes, "objects")
            pending.extend((item, depth + 1) for item in value.values() if isinstance(item, dict | list))
    return survey


def _note(value: dict[str, Any], survey: _Survey) -> None:
    # A dictionary of the model may itself have keys with these names; then their values are nodes, not text.
    loader = value.get("__loader__")
    if isinstance(loader, str):
        survey.nodes += 1
        survey.loaders.add(loader)
        survey.types.add(f"{value.get('__module__')}.{value.get('__class__')}")
    version = value.get("_sklearn_version")
    if isinstance(version, dict) and isinstance(content := version.get("content"), str):
        survey.sklearn_versions.add(content.strip('"'))


def _refuse_untrusted(survey: _Survey) -> None:
    strangers = sorted(survey.types - TRUSTED_TYPES)
    if strangers or not survey.loaders <= TRUSTED_LOADERS:
        named = ", ".join(
            shown(name).strip("'") for name in (strangers or sorted(survey.loaders - TRUSTED_LOADERS))[:5]
        )
        raise InvalidArgumentError(
            f"The model file holds what is not trusted: {named}.",
            hint="Use estimators and transformers of scikit-learn without functions as parameters.",
            details={"untrusted": [shown(name).strip("'") for name in strangers[:20]]},
        )


def _refuse_other_version(versions: set[str]) -> None:
    ours = sklearn.__version__.split(".")[:2]
    others = sorted(version for version in versions if version.split(".")[:2] != ours)
    if others:
        raise FailedPreconditionError(
            f"The model file was made with scikit-learn {shown(others[0]).strip(chr(39))}; "
            f"{sklearn.__version__} is installed.",
            hint="Train the model again, or install the version it was made with.",
        )


def _too_large(what: str, found: int, limit: int, unit: str) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"The model file's {what} has {found:,} {unit}; the limit is {limit:,}.",
        hint="Train a smaller model: fewer trees, or less deep ones.",
        details={"found": found, "limit": limit, "unit": unit},
    )
