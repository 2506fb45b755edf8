"""Several files of one format as one table: the same columns in any order, of types that go together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from mcp_server.engine.findings import Finding
from mcp_server.errors import InvalidArgumentError, shown
from mcp_server.stores.sources.binary import widened
from mcp_server.stores.sources.table import Look, PlannedColumn, SourceTable

_TOLD_PARTS: Final = 100
_TOLD_NOTES: Final = 5
# Numbers that are codes in one part are plain numbers in another: all of them are text, and none is lost
_CODES: Final = {"leading_zeros", "long_numbers"}


@dataclass(frozen=True, slots=True)
class Part:
    """One file, looked at."""

    name: str
    table: SourceTable
    look: Look


class Parts:
    """All files of a source, in the order of their rows."""

    def __init__(self, parts: Sequence[Part], source_column: str | None = None) -> None:
        """Decide the types of all columns.

        Args:
            parts: at least one.
            source_column: a further column that names the part of each row.

        Raises:
            InvalidArgumentError: a part lacks a column, has another one, or one of a type that does not go with the
                others; names both.
        """
        self._parts = parts
        self._source_column = source_column
        first = parts[0]
        if source_column is not None and source_column in first.look.columns:
            raise InvalidArgumentError(
                f"The source has a column {shown(source_column)} already.", hint="Name another add_source_column."
            )
        for part in parts[1:]:
            _check_columns(first, part)
        self.rows = sum(part.look.rows for part in parts)
        self.columns: list[PlannedColumn] = []
        self.findings: list[Finding] = list(first.look.findings)
        for name in first.look.columns:
            planned, findings = self._planned(name)
            self.columns.append(planned)
            self.findings += findings

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """The types of the dataset's columns, in order."""
        schema = {column.name: column.dtype for column in self.columns}
        return schema if self._source_column is None else schema | {self._source_column: pl.String()}

    @property
    def notes(self) -> list[str]:
        """What there is to say about how the parts were read."""
        if len(self._parts) == 1:
            return list(self._parts[0].look.notes)
        said = [f"{shown(part.name)}: {note}" for part in self._parts for note in part.look.notes]
        more = [f"{len(said) - _TOLD_NOTES} more notes on parts."] if len(said) > _TOLD_NOTES else []
        return [f"{len(self._parts)} parts were read in the order of their names.", *said[:_TOLD_NOTES], *more]

    @property
    def details(self) -> dict[str, Any]:
        """How the parts were read: what they have in common, and the rows of each."""
        details = dict(self._parts[0].look.details)
        if len(self._parts) == 1:
            return details
        common = {
            key: value
            for key, value in details.items()
            if all(part.look.details.get(key) == value for part in self._parts)
        }
        parts = [
            {"file": part.name, "rows": part.look.rows}
            | {key: value for key, value in part.look.details.items() if key not in common}
            for part in self._parts[:_TOLD_PARTS]
        ]
        return common | {"n_parts": len(self._parts), "parts": parts}

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield all rows in the dataset's types."""
        for part in self._parts:
            for frame in part.table.frames(self.columns):
                if self._source_column is None:
                    yield frame
                else:
                    yield frame.with_columns(pl.lit(part.name).alias(self._source_column))

    def _planned(self, name: str) -> tuple[PlannedColumn, list[Finding]]:
        if len(self._parts) == 1:
            return self._parts[0].look.columns[name].plan(name)
        seen = [part.look.columns[name] for part in self._parts]
        alone = {
            part.name: column.plan(name)[0].dtype
            for part, column in zip(self._parts, seen, strict=True)
            if not column.is_empty
        }
        for column in seen[1:]:
            seen[0].merge(column)
        planned, findings = seen[0].plan(name)
        is_text = planned.dtype == pl.String and any(dtype != pl.String for dtype in alone.values())
        if is_text and not _CODES & {finding.code for finding in findings}:
            raise _conflict(name, alone)
        return planned, findings


def _check_columns(first: Part, part: Part) -> None:
    missing = [name for name in first.look.columns if name not in part.look.columns]
    extra = [name for name in part.look.columns if name not in first.look.columns]
    if missing:
        words = f"lacks column {shown(missing[0])}, which {shown(first.name)} has"
    elif extra:
        words = f"has column {shown(extra[0])}, which {shown(first.name)} lacks"
    else:
        return
    raise InvalidArgumentError(
        f"Part {shown(part.name)} {words}.",
        hint="All parts of a source have the same columns, in any order; import those that differ on their own.",
        details={"part": part.name[:200], "missing": missing[:10], "extra": extra[:10]},
    )


def _conflict(name: str, alone: dict[str, pl.DataType]) -> InvalidArgumentError:
    one = next(part for part, dtype in alone.items() if dtype != pl.String)
    other = next((part for part, dtype in alone.items() if widened(alone[one], dtype) is None), one)
    first, second = sorted((one, other), key=list(alone).index)
    return InvalidArgumentError(
        f"Column {shown(name)} is {alone[first].base_type()} in {shown(first)} but {alone[second].base_type()} in "
        f"{shown(second)}.",
        hint="Mend the part that is wrong, or import the parts one by one and join them with transform_dataset.",
        details={"column": name[:200], "parts": [first[:200], second[:200]]},
    )
