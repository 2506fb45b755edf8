"""The intermediate form: what one expectation asks of the fused scan, and how its result follows."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import polars as pl

from mcp_server.engine.expectations.columns import Figure, Source, Stream
from mcp_server.engine.expectations.conditions import Condition
from mcp_server.engine.expectations.literals import condition_expression, require_column
from mcp_server.engine.expectations.tallies import Tally

MAX_EXAMPLES: Final = 20
Measured = Mapping[str, Any]
Measure = pl.Expr | Figure
"""An aggregate that the fused scan computes in little memory, or a figure that takes passes of its own."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A result in Great Expectations' terms; what a type does not have is None.

    Attributes:
        element_count: rows looked at, those with a missing value included.
        unexpected_percent: of the rows that have a value, 0 to 100.
        missing_count: rows without a value; for set comparisons, members that the column lacks.
        partial_unexpected_list: the first unexpected values in row order, at most 20.
        partial_unexpected_index_list: their row numbers, from 0.
        details: what else a type tells.
    """

    success: bool
    element_count: int | None = None
    unexpected_count: int | None = None
    unexpected_percent: float | None = None
    unexpected_percent_total: float | None = None
    missing_count: int | None = None
    missing_percent: float | None = None
    observed_value: Any = None
    partial_unexpected_list: tuple[Any, ...] | None = None
    partial_unexpected_index_list: tuple[int, ...] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""

    @property
    def partial_unexpected_counts(self) -> list[dict[str, Any]] | None:
        """How often each of the first unexpected values is among them, the most frequent first, then by value."""
        if self.partial_unexpected_list is None:
            return None
        values = [list(each.values()) if isinstance(each, dict) else each for each in self.partial_unexpected_list]
        shown = {json.dumps(each): each for each in values}
        common = Counter(map(json.dumps, values)).most_common()
        try:
            ranked = sorted(common, key=lambda each: (-each[1], _as_missing(shown[each[0]])))
        except TypeError:  # texts among numbers
            ranked = sorted(common, key=lambda each: (-each[1], each[0]))
        return [{"value": shown[key], "count": count} for key, count in ranked]


def _as_missing(value: Any) -> Any:
    """Return a value as pandas sorts it: what is missing is no number, which is neither less nor more than others."""
    if isinstance(value, list):
        return tuple(_as_missing(each) for each in value)
    return math.nan if value is None else value


def outcome_of(document: Mapping[str, Any]) -> Outcome:
    """Return the outcome that `dataclasses.asdict` wrote, once it came back from JSON."""
    listed = {
        name: tuple(document[name])
        for name in ("partial_unexpected_list", "partial_unexpected_index_list")
        if document[name] is not None
    }
    return Outcome(**{**document, **listed})


@dataclass(frozen=True, slots=True)
class Examples:
    """Where the second pass finds the unexpected values.

    Attributes:
        columns: what to show of them.
        shape: one value, a list of two, or an object by column.
        first: the first unexpected rows, at most 20: their numbers, then the columns.
    """

    columns: tuple[str, ...]
    shape: Literal["value", "pair", "record"]
    first: Callable[[Measured, Source], pl.LazyFrame | pl.DataFrame]

    @classmethod
    def where(
        cls, mask: pl.Expr, columns: tuple[str, ...], shape: Literal["value", "pair", "record"] = "value"
    ) -> "Examples":
        """Return the examples that are the rows where `mask` is true."""
        return cls(columns, shape, lambda _measured, source: source.first(mask, columns, MAX_EXAMPLES))

    @classmethod
    def repeats(
        cls, tally: str, columns: tuple[str, ...], shape: Literal["value", "pair", "record"] = "value"
    ) -> "Examples":
        """Return the examples that are the rows whose value occurs more than once, by the tally of key `tally`."""
        return cls(columns, shape, lambda measured, source: measured[tally].first(source, columns, MAX_EXAMPLES))


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation, translated.

    Attributes:
        measures: by key; checks that name the same key share one.
        conclude: makes the outcome from all measures.
        examples: what is fetched when values were unexpected.
        then: what is measured next, given the first measures.
    """

    measures: Mapping[str, Measure]
    conclude: Callable[[Measured], Outcome]
    examples: Examples | None = None
    then: Callable[[Measured], Mapping[str, Measure]] | None = None


@dataclass(frozen=True, slots=True)
class Domain:
    """The rows an expectation looks at.

    Attributes:
        rows: true for them; None means all.
        key: tells domains apart.
        schema: the frame's columns and types.
        gaps: columns of whole numbers and flags with a missing value, where expectations ask for types or text.
    """

    rows: pl.Expr | None
    key: str
    schema: pl.Schema
    gaps: frozenset[str] = frozenset()

    @classmethod
    def of(cls, condition: Condition | None, schema: pl.Schema, gaps: frozenset[str] = frozenset()) -> "Domain":
        """Return the domain of a row condition."""
        if condition is None:
            return cls(None, "", schema, gaps)
        return cls(condition_expression(condition, schema), repr(condition), schema, gaps)

    def dtype(self, column: str) -> pl.DataType:
        """Return a column's type, or raise CannotEvaluateError."""
        return require_column(self.schema, column)

    def values(self, column: str) -> pl.Expr:
        """Return the column, missing outside of the domain."""
        found = pl.col(column)
        return found if self.rows is None else pl.when(self.rows).then(found)

    def within(self, mask: pl.Expr) -> pl.Expr:
        """Return `mask`, false outside of the domain."""
        return mask if self.rows is None else self.rows & mask

    def elements(self) -> tuple[str, pl.Expr]:
        """Return key and aggregate for the number of rows."""
        return f"elements|{self.key}", pl.len() if self.rows is None else self.rows.sum()

    def present(self, column: str) -> tuple[str, pl.Expr]:
        """Return key and aggregate for the number of rows that have a value."""
        return f"present|{column}|{self.key}", self.values(column).count()

    def stream(self, *columns: str, where: pl.Expr | None = None) -> Stream:
        """Return the values of `columns` in the domain's rows, or in those of them where `where` is true."""
        rows = self.rows if where is None else self.within(where)
        return Stream(columns, tuple(self.dtype(column) for column in columns), rows)

    def tally(self, column: str) -> tuple[str, Tally]:
        """Return key and figure for how often values occur, missing ones left out."""
        return f"tally|{column}|{self.key}", Tally(self.stream(column))


def map_outcome(
    elements: int, judged: int | None, unexpected: int, mostly: float, details: Mapping[str, Any] | None = None
) -> Outcome:
    """Return the outcome of a row-by-row expectation.

    Args:
        elements: rows looked at.
        judged: rows with a value; None where missing values are themselves the question.
        unexpected: rows that failed.
        mostly: the share that must pass, 0 to 1.
        details: passed on.

    Source: Great Expectations 1.24, `_format_map_output` (count / n * 100, in this order).
    """
    base = elements if judged is None else judged
    percent = unexpected / base * 100 if base else None
    return Outcome(
        success=(base - unexpected) / base >= mostly if base else True,
        element_count=elements,
        unexpected_count=unexpected,
        unexpected_percent=percent,
        unexpected_percent_total=unexpected / elements * 100 if elements and judged is not None else None,
        missing_count=None if judged is None else elements - judged,
        missing_percent=None if judged is None or not elements else (elements - judged) / elements * 100,
        partial_unexpected_list=(),
        partial_unexpected_index_list=(),
        details=details or {},
    )
