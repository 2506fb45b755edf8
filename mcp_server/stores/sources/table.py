"""What readers of all formats have in common: a table that is looked at first, and then read in batches of one type."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import polars as pl

from mcp_server.engine.findings import Finding


class PlannedColumn(Protocol):
    """A column as it is going to be read."""

    @property
    def name(self) -> str:
        """Its name in the dataset."""
        ...

    @property
    def dtype(self) -> pl.DataType:
        """Its type in the dataset."""
        ...

    @property
    def missing(self) -> int | None:
        """How many of its cells are going to be missing, None where nobody counted."""
        ...


class SeenColumn(Protocol):
    """All that the first look tells of a column, in bounded memory."""

    @property
    def is_empty(self) -> bool:
        """True when no cell has a value, so that it goes with every type."""
        ...

    def merge(self, other: Self) -> None:
        """Take in the same column of the rows that follow."""
        ...

    def plan(self, name: str) -> tuple[PlannedColumn, list[Finding]]:
        """Return how it is read, and what there is to say about it."""
        ...


@dataclass(slots=True)
class Look:
    """What the first look at a file tells.

    Attributes:
        columns: by name, in the file's order.
        details: how it was read, for the lineage.
    """

    columns: Mapping[str, SeenColumn]
    rows: int
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


class SourceTable(Protocol):
    """One opened file. It is read twice: its types depend on all of its rows."""

    def look(self) -> Look:
        """Read all of it, keep none of it.

        Raises:
            InvalidArgumentError: it is no table; says where.
            ResourceExhaustedError: it is beyond a limit.
        """
        ...

    def frames(self, columns: Sequence[PlannedColumn]) -> Iterator[pl.DataFrame]:
        """Yield its rows again, in batches, with just these columns in this order and of these types."""
        ...


@dataclass(frozen=True, slots=True)
class TypedPlan:
    """A column whose type the file says itself."""

    name: str
    dtype: pl.DataType
    missing: int | None = None
