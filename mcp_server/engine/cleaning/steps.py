"""What a cleaning step is: what a caller asks for, what its options may be, and what it does to a table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeVar

import polars as pl

from mcp_server.errors import InvalidArgumentError, shown

T = TypeVar("T")
Schema = Mapping[str, pl.DataType]


@dataclass(frozen=True, slots=True)
class Step:
    """One step; `columns` None means all that the action fits."""

    action: str
    columns: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What step number `step` (from 0) did to `column` (None: to whole rows)."""

    step: int
    column: str | None
    cells_changed: int
    rows_removed: int
    detail: str = ""


# What a step does, once it has all its figures ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CellEdit:
    """New values for the cells of `columns`; `details` says by column with what; `retypes` when all get a new type."""

    columns: tuple[str, ...]
    apply: Callable[[pl.LazyFrame], pl.LazyFrame]
    details: Mapping[str, str] = field(default_factory=dict)
    retypes: bool = False


@dataclass(frozen=True, slots=True)
class Removal:
    """Rows for which `keep` is false go; `why` is a text about such a row, `details` by column ("": the rows)."""

    keep: pl.Expr
    why: pl.Expr
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Renaming:
    """Columns get new names."""

    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Dropping:
    """Columns go."""

    columns: tuple[str, ...]


Operation = CellEdit | Removal | Renaming | Dropping


def applied(operation: Operation, frame: pl.LazyFrame) -> pl.LazyFrame:
    """Return `frame` after `operation`."""
    match operation:
        case CellEdit():
            return operation.apply(frame) if operation.columns else frame
        case Removal():
            return frame.filter(operation.keep)
        case Renaming():
            return frame.rename(dict(operation.names))
        case Dropping():
            return frame.drop(operation.columns)


def edit(
    expressions: Mapping[str, pl.Expr], details: Mapping[str, str] | None = None, *, retypes: bool = False
) -> CellEdit:
    """Return the edit that gives each column named the value of its expression."""
    named = [expression.alias(name) for name, expression in expressions.items()]
    return CellEdit(tuple(expressions), lambda frame: frame.with_columns(named), details or {}, retypes)


# Arguments of a step -------------------------------------------------------------------------------------------


def chosen(schema: Schema, step: Step, fits: Callable[[pl.DataType], bool] = lambda _: True) -> list[str]:
    """Return the step's columns; without any, all whose type fits.

    Raises:
        InvalidArgumentError: a column is not there, or is named twice.
    """
    if step.columns is None:
        return [name for name, dtype in schema.items() if fits(dtype)]
    if not step.columns:
        raise InvalidArgumentError("columns is empty.", hint="Name columns, or leave it out for all that fit.")
    require(schema, step.columns)
    twice = next((name for name in step.columns if step.columns.count(name) > 1), None)
    if twice is not None:
        raise InvalidArgumentError(f"column {shown(twice)} is named twice.", hint="Name each column once.")
    return list(step.columns)


def named(schema: Schema, step: Step) -> list[str]:
    """Return the step's columns, which it has to name."""
    if not step.columns:
        raise InvalidArgumentError("columns are missing.", hint="Name the columns that the step is for.")
    return chosen(schema, step)


def numeric(schema: Schema, step: Step) -> list[str]:
    """Return the step's columns, all numbers; without any, all columns of numbers."""
    names = chosen(schema, step, lambda dtype: dtype.is_numeric())
    wrong = next((name for name in names if not schema[name].is_numeric()), None)
    if wrong is not None:
        raise InvalidArgumentError(
            f"column {shown(wrong)} is {type_word(schema[wrong])}, not a number.", hint="Cast it first."
        )
    if not names:
        raise InvalidArgumentError("there is no column of numbers.", hint="Cast columns first, or leave the step out.")
    return names


def textual(schema: Schema, step: Step) -> list[str]:
    """Return the step's columns, all text; without any, all columns of text."""
    names = chosen(schema, step, lambda dtype: dtype == pl.String)
    wrong = next((name for name in names if schema[name] != pl.String), None)
    if wrong is not None:
        raise InvalidArgumentError(
            f"column {shown(wrong)} is {type_word(schema[wrong])}, not text.", hint="Leave it out, or cast it first."
        )
    return names


def require(schema: Schema, names: Iterable[str]) -> None:
    """Raise InvalidArgumentError, with near names, unless all columns are there."""
    for name in names:
        if name not in schema:
            near = ", ".join(shown(n) for n in get_close_matches(name, schema, n=3, cutoff=0.5))
            raise InvalidArgumentError(
                f"there is no column {shown(name)}.",
                hint=f"Close names: {near}." if near else "describe_dataset lists the columns.",
                details={"column": name[:200]},
            )


def choice(step: Step, name: str, known: Sequence[str], default: str | None) -> str:
    """Return an option that is one of `known`."""
    value = step.options.get(name, default)
    if value is None:
        raise InvalidArgumentError(f"option {name} is missing.", hint=f"It is one of {', '.join(known)}.")
    if not isinstance(value, str) or value not in known:
        near = get_close_matches(str(value), known, n=1)
        hint = f"Close: {near[0]}." if near else f"It is one of {', '.join(known)}."
        raise InvalidArgumentError(f"option {name} cannot be {shown(value)}.", hint=hint)
    return value


def flag(step: Step, name: str) -> bool:
    """Return an option that is true or false; false without it."""
    value = step.options.get(name, False)
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"option {name} is true or false, not {shown(value)}.", hint="Leave it out.")
    return value


def whole(step: Step, name: str, default: int, least: int = 0, most: int = 2**31 - 1) -> int:
    """Return an option that is a whole number in a range."""
    value = step.options.get(name, default)
    if type(value) is not int or not least <= value <= most:
        hint = f"Leave it out for {default}."
        raise InvalidArgumentError(f"option {name} is a whole number from {least}, not {shown(value)}.", hint=hint)
    return value


def known_options(step: Step, *known: str) -> None:
    """Raise InvalidArgumentError, with near names, when the step has an option that there is not."""
    unknown = next((name for name in step.options if name not in known), None)
    if unknown is not None:
        near = get_close_matches(unknown, known, n=1)
        words = f"Its options: {', '.join(sorted(known))}." if known else "It takes no options."
        hint = f"Close: {near[0]}. {words}" if near else words
        raise InvalidArgumentError(f"there is no option {shown(unknown)}.", hint=hint)


def type_word(dtype: pl.DataType) -> str:
    """Return a type in one word."""
    return str(dtype.base_type())
