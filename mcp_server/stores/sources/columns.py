"""Limits on a table's shape, and names that columns may have: for files that nobody has looked at yet."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mcp_server.engine.findings import Finding
from mcp_server.errors import InvalidArgumentError, ResourceExhaustedError, shown

_HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Letters of other scripts that are drawn like Latin ones; source: Unicode TR 39, confusables.txt (single letters).
_LOOKALIKES = str.maketrans(
    "аеорсухіјѕһԁԛԝАВЕКМНОРСТУХІЈЅαορνικΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aeopcyxijshdqwABEKMHOPCTYXIJSaopvikABEZHIKMNOPTYX"
)


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """What one file may hold."""

    max_columns: int
    max_field_bytes: int
    max_column_name_length: int
    max_decompressed_bytes: int

    def check_columns(self, n_columns: int) -> None:
        """Raise ResourceExhaustedError beyond the limit of columns."""
        if n_columns > self.max_columns:
            raise ResourceExhaustedError(
                f"The file has {n_columns:,} columns; the limit is {self.max_columns:,}.",
                hint="Import fewer columns, or raise NBA_MCP_LIMITS__MAX_COLUMNS.",
            )

    def check_field(self, n_bytes: int) -> None:
        """Raise ResourceExhaustedError beyond the limit of bytes in a field."""
        if n_bytes > self.max_field_bytes:
            raise ResourceExhaustedError(
                f"A field of the file has {n_bytes:,} bytes; the limit is {self.max_field_bytes:,}.",
                hint="Shorten the field, or raise NBA_MCP_LIMITS__MAX_FIELD_BYTES.",
            )


def checked_names(given: Sequence[str], limits: ParseLimits) -> tuple[list[str], list[Finding]]:
    """Return the names that a table's columns get, and what there is to say about them.

    Spaces around a name go, and a column without a name is called by its place.

    Raises:
        InvalidArgumentError: a name is too long, holds invisible characters, or occurs twice.
        ResourceExhaustedError: there are too many.
    """
    limits.check_columns(len(given))
    names = [name.strip() or f"column_{i + 1}" for i, name in enumerate(given)]
    for name in names:
        _check_name(name, limits.max_column_name_length)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InvalidArgumentError(
            f"Column name {shown(repeated[0])} occurs {names.count(repeated[0])} times.",
            hint="Every column needs a name of its own; rename it in the file.",
            details={"columns": [name[:100] for name in repeated[:10]]},
        )
    findings = [
        Finding(name, "unnamed_column", f"The column had no name and is called {name}.")
        for name, before in zip(names, given, strict=True)
        if not before.strip()
    ]
    return names, findings + _lookalikes(names)


def _check_name(name: str, max_length: int) -> None:
    if len(name) > max_length:
        raise InvalidArgumentError(
            f"A column name has {len(name):,} characters ({shown(name, 40)}); the limit is {max_length}.",
            hint="Check the delimiter and the header, or raise NBA_MCP_LIMITS__MAX_COLUMN_NAME_LENGTH.",
        )
    hidden = next((c for c in name if unicodedata.category(c) in _HIDDEN_CATEGORIES), None)
    if hidden is not None:
        raise InvalidArgumentError(
            f"Column name {shown(name)} holds an invisible character (U+{ord(hidden):04X}).",
            hint="Control, direction and other invisible characters are refused in names; rename the column.",
        )


def _lookalikes(names: Sequence[str]) -> list[Finding]:
    by_shape: dict[str, list[str]] = {}
    for name in names:
        shape = unicodedata.normalize("NFKC", name).translate(_LOOKALIKES).casefold()
        by_shape.setdefault(shape, []).append(name)
    return [
        Finding(same[-1], "lookalike_names", f"Columns {', '.join(map(shown, same[:4]))} look or read alike.")
        for same in by_shape.values()
        if len(same) > 1
    ]
