"""Derives a suite from data: tight, explainable expectations, each with the evidence that it came from."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import polars as pl

from mcp_server.engine.expectations.checks import Outcome
from mcp_server.engine.expectations.column_ideas import FEW_ROWS, column_ideas
from mcp_server.engine.expectations.evaluation import evaluate, judgeable
from mcp_server.engine.expectations.ideas import Idea
from mcp_server.engine.expectations.profile import ColumnFigures, compound_key, figures_of, sample_of
from mcp_server.engine.expectations.relations import relation_ideas
from mcp_server.engine.expectations.suite import Expectation, parse_expectations

MAX_SUGGESTED: Final = 80
_MOST_TRIED: Final = 160
_MOST_NAMED: Final = 200
_LONGEST_NAME: Final = 500
_MOST_OUTSIDE: Final = {"expect_column_values_": 0.05, "expect_column_value_": 0.05}
_MOST_OUTSIDE_BETWEEN_COLUMNS: Final = 0.005
_UNIQUE: Final = {"expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique"}
_ALMOST_UNIQUE: Final = 0.999


def suggest(frame: pl.LazyFrame) -> tuple[Expectation, ...]:
    """Return expectations that `frame` meets, at most 80, the most telling first.

    Ranges come from the 1 % and 99 % quantiles widened by half their distance; values beyond are allowed for with
    `mostly`, and said so in the evidence. Patterns and relations between columns are found on a sample of rows; each
    suggestion is checked on all of them.

    Args:
        frame: any number of rows; NaN counts as missing.
    """
    table = judgeable(frame)
    rows = int(table.select(pl.len()).collect().item())
    sample = sample_of(table, rows)
    columns = [each for each in figures_of(table, sample) if len(each.name) <= _LONGEST_NAME]
    ideas = [*_table_ideas(columns, rows), *_key_ideas(table, columns), *relation_ideas(sample, columns)]
    for column in columns:
        ideas.extend(column_ideas(column))
    kept = _most_telling(_holding(table, _most_telling(ideas, _MOST_TRIED)), MAX_SUGGESTED)
    return parse_expectations([idea.document() for idea in kept])


def _most_telling(ideas: Sequence[Idea], n: int) -> list[Idea]:
    """Return the `n` ideas of the lowest rank, those first."""
    return sorted(ideas, key=lambda idea: idea.rank)[:n]


def _table_ideas(columns: Sequence[ColumnFigures], rows: int) -> Iterator[Idea]:
    if rows:
        kwargs = {"min_value": max(1, rows // 2), "max_value": rows * 2}
        evidence = f"{rows:,} rows now; half to double of it is allowed."
        yield Idea(0, "expect_table_row_count_to_be_between", kwargs, "warning", evidence)
    filled = [column.name for column in columns if column.present]
    if 0 < len(filled) <= _MOST_NAMED:
        evidence = f"{len(filled)} columns hold values now; further columns are allowed."
        kind = "expect_table_columns_to_match_set"
        yield Idea(0, kind, {"column_set": filled, "exact_match": False}, "critical", evidence)


def _key_ideas(table: pl.LazyFrame, columns: Sequence[ColumnFigures]) -> Iterator[Idea]:
    if not columns or columns[0].rows < FEW_ROWS:
        return
    unique = [column for column in columns if _may_be_key(column)]
    almost = [column for column in columns if column not in unique and _may_be_key(column, _ALMOST_UNIQUE)]
    for column in [*unique, *almost]:
        evidence = f"All {column.present:,} values differ."
        yield Idea(1, "expect_column_values_to_be_unique", {"column": column.name}, "critical", evidence)
    key = None if unique or almost else compound_key(table, columns)
    if key is not None:
        evidence = f"No column alone, but these {len(key)} together tell all {columns[0].rows:,} rows apart."
        yield Idea(1, "expect_compound_columns_to_be_unique", {"column_list": list(key)}, "critical", evidence)


def _may_be_key(column: ColumnFigures, least: float = 1.0) -> bool:
    fits = column.dtype.is_integer() or column.family == "text"
    return fits and not column.missing and column.distinct >= column.present * least


def _holding(table: pl.LazyFrame, ideas: Sequence[Idea]) -> list[Idea]:
    """Return the ideas that hold on all rows; those that few values break get a `mostly` that lets them through."""
    fitted: list[Idea] = []
    changed: list[int] = []
    for idea, outcome in zip(ideas, _judged(table, ideas), strict=True):
        if outcome.success:
            fitted.append(idea)
            continue
        allowing = _allowing(idea, outcome)
        if allowing is not None:
            changed.append(len(fitted))
            fitted.append(allowing)
    again = _judged(table, [fitted[index] for index in changed])
    failed = {index for index, outcome in zip(changed, again, strict=True) if not outcome.success}
    return [idea for index, idea in enumerate(fitted) if index not in failed]


def _judged(table: pl.LazyFrame, ideas: Sequence[Idea]) -> list[Outcome]:
    if not ideas:
        return []
    return [each.outcome for each in evaluate(table, parse_expectations([idea.document() for idea in ideas]))[1]]


def _allowing(idea: Idea, outcome: Outcome) -> Idea | None:
    """Return an idea with a `mostly` for the few values that break it; None where they are many, or it takes none."""
    if outcome.unexpected_percent is None or outcome.element_count is None or "mostly" in idea.kwargs:
        return None
    share = outcome.unexpected_percent / 100
    most = next((most for start, most in _MOST_OUTSIDE.items() if idea.type.startswith(start)), None)
    if idea.type in _UNIQUE:
        most = 2 * (1 - _ALMOST_UNIQUE)
    if share > (most if most is not None else _MOST_OUTSIDE_BETWEEN_COLUMNS):
        return None
    judged = outcome.element_count - (outcome.missing_count or 0)
    digits = 10.0 ** max(4, math.ceil(-math.log10(share)) + 1) if share else 1e4
    mostly = math.floor((1 - share * 1.5) * digits) / digits
    count = f"{outcome.unexpected_count:,}"
    all_values = f"All {judged:,} values"
    evidence = (
        idea.evidence.replace(all_values, f"All but {count} of {judged:,} values", 1)
        if idea.evidence.startswith(all_values) and idea.type != "expect_column_values_to_be_between"
        else f"{idea.evidence} {count} of {judged:,} ({share:.2%}) lie outside."
    )
    severity = "warning" if idea.severity == "critical" else idea.severity
    return replace(idea, kwargs=idea.kwargs | {"mostly": mostly}, evidence=evidence, severity=severity)
