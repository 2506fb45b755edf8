"""Cells, or parts of text, that become others."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from mcp_server.engine.cleaning.steps import (
    CellEdit,
    Step,
    chosen,
    edit,
    flag,
    known_options,
    textual,
    type_word,
)
from mcp_server.engine.cleaning.table import Table
from mcp_server.errors import InvalidArgumentError, shown

_KINDS = ("values", "find", "pattern")
_LONGEST_PATTERN = 2_000
_MOST_VALUES = 10_000


def learn_replacement(step: Step, table: Table) -> dict[str, Any]:
    """Check what is to be replaced by what."""
    known_options(step, *_KINDS, "mapping", "with", "ignore_case")
    options = {("values" if name == "mapping" else name): value for name, value in step.options.items()}
    given = [kind for kind in _KINDS if options.get(kind) is not None]
    if len(given) != 1 or {"values", "mapping"} <= set(step.options):
        raise InvalidArgumentError(
            "replace takes either values or find or pattern.",
            hint='options {"values": {"NULL": null}}, {"find": "-", "with": ""} or {"pattern": "^x+$", "with": null}.',
        )
    if given == ["values"]:
        return _learn_values(step, options, table)
    text, new = options[given[0]], options.get("with", "")
    if not isinstance(text, str) or not text or not isinstance(new, str | None):
        raise InvalidArgumentError(f"{given[0]} and with are text.", hint='options {"find": ",", "with": "."}.')
    names = textual(table.schema, step)
    if given == ["pattern"]:
        _check_pattern(_pattern(step), new or "")
    return {"columns": names}


def replacement_edit(step: Step, fitted: Mapping[str, Any], table: Table) -> CellEdit:
    """Return the edit."""
    if "values" in fitted:
        mapping = {name: _typed(fitted["values"], table.schema[name]) for name in fitted["columns"]}
        folded = flag(step, "ignore_case")
        return edit({name: _replaced(name, *pair, folded) for name, pair in mapping.items() if pair is not None})
    new = step.options.get("with", "")
    if step.options.get("find") is not None:
        find, literal = step.options["find"], not flag(step, "ignore_case")
    else:
        find, literal = _pattern(step), False
    if not literal and step.options.get("find") is not None:
        find = f"(?i){pl.escape_regex(find)}"
        new = new.replace("$", "$$") if new is not None else None
    expressions: dict[str, pl.Expr] = {}
    for name in fitted["columns"]:
        column = pl.col(name)
        if new is None:  # a cell that has it becomes missing
            expressions[name] = pl.when(~column.str.contains(find, literal=literal)).then(column)
        else:
            expressions[name] = column.str.replace_all(find, new, literal=literal)
    return edit(expressions)


def _pattern(step: Step) -> str:
    pattern: str = step.options["pattern"]
    return f"(?i){pattern}" if flag(step, "ignore_case") else pattern


def _check_pattern(pattern: str, new: str) -> None:
    """Try a pattern; Rust's regular expressions take linear time whatever the text, and have a limit of size."""
    if len(pattern) > _LONGEST_PATTERN:
        raise InvalidArgumentError(f"pattern is longer than {_LONGEST_PATTERN:,} characters.", hint="Shorten it.")
    try:
        pl.Series(["x"]).str.replace_all(pattern, new)
    except pl.exceptions.ComputeError as refusal:
        lines = [line.removeprefix("error: ") for line in str(refusal).splitlines() if line.startswith("error: ")]
        why = lines[0] if lines else str(refusal).splitlines()[0].removeprefix("regex error: ")
        raise InvalidArgumentError(
            f"pattern {shown(pattern)} cannot be used: {shown(why, 150)}.",
            hint="Patterns are RE2's kind: no look-around, no back-references; groups in `with` are ${1}.",
        ) from None


def _learn_values(step: Step, options: Mapping[str, Any], table: Table) -> dict[str, Any]:
    values, new = options["values"], options.get("with")
    if isinstance(values, list) and values:
        pairs = [[old, new] for old in values]
    elif isinstance(values, Mapping) and values and "with" not in options:
        pairs = [list(pair) for pair in values.items()]
    else:
        raise InvalidArgumentError(
            "values is an object {cell: new}, or a list beside with.", hint='Such as {"NULL": null, "n": "no"}.'
        )
    if len(pairs) > _MOST_VALUES:
        text = f"values has {len(pairs):,} cells; the limit is {_MOST_VALUES:,}."
        raise InvalidArgumentError(text, hint="Join with a dataset of old and new values: transform_dataset.")
    odd = next((part for pair in pairs for part in pair if isinstance(part, list | dict)), None)
    if odd is not None or any(old is None for old, _ in pairs):
        raise InvalidArgumentError(
            f"a cell cannot be {shown(odd)}.",
            hint="Cells are text, numbers or truth values; impute fills missing ones.",
        )
    names = chosen(table.schema, step)
    fitting = [name for name in names if _typed(pairs, table.schema[name]) is not None]
    wrong = next((name for name in names if name not in fitting), None)
    if wrong is not None and (step.columns is not None or not fitting):
        raise InvalidArgumentError(
            f"The values do not fit column {shown(wrong)}, which is {type_word(table.schema[wrong])}.",
            hint="Replace by values of the column's type, or cast it first.",
        )
    if flag(step, "ignore_case"):
        textual(table.schema, Step(step.action, tuple(fitting)))
    return {"columns": fitting, "values": pairs}


def _typed(pairs: list[list[Any]], dtype: pl.DataType) -> tuple[pl.Series, pl.Series] | None:
    """Return the cells and what they become in the column's type; None where one does not fit it."""
    sides = [_side([pair[side] for pair in pairs], dtype) for side in (0, 1)]
    return (sides[0], sides[1]) if sides[0] is not None and sides[1] is not None else None


def _side(cells: list[Any], dtype: pl.DataType) -> pl.Series | None:
    texts = [("true" if cell else "false") if isinstance(cell, bool) else cell for cell in cells]
    texts = [None if cell is None else str(cell) for cell in texts]
    if dtype == pl.String:
        return pl.Series(texts, dtype=pl.String)
    column = pl.Series(texts, dtype=pl.String)
    try:
        if dtype == pl.Boolean:
            lower = column.str.to_lowercase()
            truths = (lower == "true").set(~lower.is_in(["true", "false"]), None)
            return truths if truths.null_count() == column.null_count() else None
        if dtype == pl.Date:
            return column.str.to_date("%Y-%m-%d")
        if isinstance(dtype, pl.Datetime):
            return column.str.to_datetime(time_unit="us", time_zone=dtype.time_zone)
        return column.cast(dtype)
    except pl.exceptions.PolarsError:
        return None


def _replaced(name: str, old: pl.Series, new: pl.Series, folded: bool) -> pl.Expr:
    column = pl.col(name)
    if not folded:
        return column.replace(old, new)
    unique = pl.DataFrame({"old": old.str.to_lowercase(), "new": new}).unique("old", keep="last", maintain_order=True)
    lower = column.str.to_lowercase()
    changed = lower.replace_strict(unique["old"], unique["new"], default=None, return_dtype=pl.String)
    return pl.when(lower.is_in(unique["old"].implode())).then(changed).otherwise(column)
