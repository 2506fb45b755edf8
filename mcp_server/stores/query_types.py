"""DuckDB's types: how a column of an answer is read, and how it becomes a column of a dataset."""

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import duckdb

from mcp_server.errors import InvalidArgumentError, shown
from mcp_server.stores.query_values import plain_value

_NAMES: Final = {
    "boolean": "Boolean", "tinyint": "Int8", "smallint": "Int16", "integer": "Int32", "bigint": "Int64",
    "hugeint": "Int128", "bignum": "Int128", "utinyint": "UInt8", "usmallint": "UInt16", "uinteger": "UInt32",
    "ubigint": "UInt64", "uhugeint": "UInt128", "float": "Float32", "double": "Float64", "decimal": "Decimal",
    "varchar": "String", "date": "Date", "time": "Time", "time with time zone": "Time", "time_ns": "Time",
    "timestamp": "Datetime", "timestamp_s": "Datetime", "timestamp_ms": "Datetime", "timestamp_ns": "Datetime",
    "timestamp with time zone": "Datetime[UTC]", "interval": "Interval", "blob": "Binary", "uuid": "UUID",
    "enum": "Enum", "bit": "Bit", "list": "List", "array": "Array", "struct": "Struct", "tuple": "Struct",
    "map": "Map", "union": "Union", "variant": "Variant", "null": "Null", "sqlnull": "Null",
}  # fmt: skip
_MOMENTS: Final = {"timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone"}
_AS_TEXT: Final = _MOMENTS | {"date", "time", "time with time zone", "time_ns", "interval", "bit", "bignum"}
_NATIVE: Final = {
    "boolean", "tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint", "uinteger", "ubigint",
    "uhugeint", "float", "double", "decimal", "blob", "uuid", "enum", "null", "sqlnull",
}  # fmt: skip
_NO_CELLS: Final = {"list", "array", "struct", "tuple", "map", "union", "variant", "blob", "interval", "geometry"}
_KEPT: Final = {
    "boolean", "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint", "float",
    "double", "time",
}  # fmt: skip
_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d(?::\d\d)?)?")
BEYOND_YEARS: Final = "holds a date beyond the years 1 to 9999"
_MOST_TEXT: Final = 1_000  # characters fetched of a text, which is then cut further


def type_name(kind: str) -> str:
    """Return a type as results name it: `Int64`, `String`, `Datetime[UTC]`, `List`."""
    return _NAMES.get(kind, kind.capitalize())


def shown_column(place: int, kind: str) -> str:
    """Return the SQL that fetches the column at `place` (from 1) in a form that loses nothing."""
    if kind in _NATIVE:
        return f"#{place}"
    if kind in _AS_TEXT:
        return f"CAST(#{place} AS VARCHAR)"
    if kind == "varchar":
        return f"left(#{place}, {_MOST_TEXT})"
    return f"CAST(to_json(#{place}) AS VARCHAR)" if kind in _NAMES else f"left(CAST(#{place} AS VARCHAR), {_MOST_TEXT})"


def shown_cell(value: Any, kind: str) -> Any:
    """Return a cell that `shown_column` fetched as plain JSON."""
    if value is None:
        return None
    if kind in _MOMENTS:
        return _iso(value)
    if kind in _NATIVE or kind in _AS_TEXT or kind == "varchar" or kind not in _NAMES:
        return plain_value(value)
    return plain_value(json.loads(value))


def _iso(text: str) -> str:
    """Return a time in ISO form; one that has none (`infinity`, before Christ) as the engine writes it."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return text
    zone = match[3] or ""
    return f"{match[1]}T{match[2]}{zone + ':00' if len(zone) == 3 else zone}"


def stored_columns(names: Sequence[str], types: Sequence["duckdb.sqltypes.DuckDBPyType"]) -> str:
    """Return the SQL of a projection that brings all columns to the types of datasets.

    Raises:
        InvalidArgumentError: a column's values are no plain cells; names it, and how to make them plain.
    """
    return ", ".join(
        f"{_stored(place, name, dtype)} AS {quoted(name)}"
        for place, (name, dtype) in enumerate(zip(names, types, strict=True), start=1)
    )


def _stored(place: int, name: str, dtype: "duckdb.sqltypes.DuckDBPyType") -> str:
    kind, column = dtype.id, f"#{place}"
    if kind in _NO_CELLS:
        advice = {
            "interval": f"Use epoch({quoted(name)}) for seconds, or CAST it to VARCHAR.",
            "blob": "Use hex(…) or base64(…) for text.",
            "list": "UNNEST gives a row for each item, array_to_string(…, ',') one text.",
            "struct": "Name its fields one by one, or UNNEST it.",
        }.get(kind, "Pick its parts, or CAST it to VARCHAR.")
        raise InvalidArgumentError(
            f"Column {shown(name)} holds {shown(str(dtype), 60)} values; a dataset is a table of plain cells.",
            hint=advice,
            details={"column": name[:200]},
        )
    if kind in _KEPT:
        return column
    if kind in ("hugeint", "uhugeint", "bignum"):
        return f"CAST({column} AS BIGINT)"
    if kind == "decimal":
        return f"CAST({column} AS {'DOUBLE' if dict(dtype.children)['scale'] else 'BIGINT'})"
    if kind == "date" or kind in _MOMENTS:
        return _within_years(column, name, kind)
    return f"CAST({column} AS VARCHAR)"


def _within_years(column: str, name: str, kind: str) -> str:
    """Refuse dates that no other part of the product can hold, when a row has one."""
    stored = "DATE" if kind == "date" else "TIMESTAMPTZ" if kind == "timestamp with time zone" else "TIMESTAMP"
    words = f"Column {shown(name)} {BEYOND_YEARS}".replace("'", "''")
    cast = f"CAST({column} AS {stored})"
    return (
        f"CASE WHEN {cast} < {stored} '0001-01-01' OR {cast} >= {stored} '10000-01-01' "
        f"THEN CAST(error('{words}') AS {stored}) ELSE {cast} END"
    )


def quoted(name: str) -> str:
    """Return a name as SQL quotes it."""
    return '"' + name.replace('"', '""') + '"'
