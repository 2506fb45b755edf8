"""Expectations that judge each value of a column."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import polars as pl

from mcp_server.engine.expectations.checks import (
    MAX_EXAMPLES,
    Check,
    Domain,
    Examples,
    Measured,
    Outcome,
    map_outcome,
)
from mcp_server.engine.expectations.columns import Source
from mcp_server.engine.expectations.dtypes import pandas_name, type_matches
from mcp_server.engine.expectations.literals import (
    CannotEvaluateError,
    as_text,
    family_of,
    literal,
    members,
    ordered,
    words_for,
)
from mcp_server.engine.expectations.patterns import has_format, is_date, is_json, judge_distinct, matches
from mcp_server.engine.expectations.sequences import Steps
from mcp_server.engine.expectations.sums import Deviation

Arguments = Mapping[str, Any]
Judge = Callable[[pl.Expr, pl.DataType, Arguments], pl.Expr]
"""From values, their type and the arguments: true where a value is unexpected, missing where it is missing."""


def value_check(name: str, arguments: Arguments, domain: Domain, position: int) -> Check:
    """Translate an expectation on each value of one column.

    Raises:
        CannotEvaluateError: the column is missing or of a type that cannot be judged.
    """
    column = arguments["column"]
    dtype = domain.dtype(column)
    if name in TYPE_CHECKS:
        return _type_check(dtype, arguments, has_gaps=column in domain.gaps)
    if name == "expect_column_values_to_not_be_null":
        return _missing_check(domain.within(pl.col(column).is_null()), arguments, domain, position)
    if name == "expect_column_values_to_be_null":
        return _missing_check(domain.within(pl.col(column).is_not_null()), arguments, domain, position)
    if name == "expect_column_values_to_be_unique":
        return _unique_check(arguments, domain)
    if name in _ORDERS:
        return _order_check(name, dtype, arguments, domain, position)
    if name == "expect_column_value_z_scores_to_be_less_than":
        return _z_score_check(dtype, arguments, domain, position)
    values = domain.values(column)
    if name in _TEXT_CHECKS and column in domain.gaps and dtype.is_integer():
        values, dtype = values.cast(pl.Float64), pl.Float64()  # pandas writes 1.0 where a whole number may be missing
    mask = _JUDGES[name](values, dtype, arguments)
    (elements, count_elements), (present, count_present) = domain.elements(), domain.present(column)
    unexpected = f"unexpected|{position}"

    def conclude(measured: Measured) -> Outcome:
        return map_outcome(measured[elements], measured[present], measured[unexpected] or 0, arguments["mostly"])

    return Check(
        {elements: count_elements, present: count_present, unexpected: mask.sum()},
        conclude,
        Examples.where(mask, (column,)),
    )


def _missing_check(mask: pl.Expr, arguments: Arguments, domain: Domain, position: int) -> Check:
    elements, count_elements = domain.elements()
    unexpected = f"unexpected|{position}"

    def conclude(measured: Measured) -> Outcome:
        return map_outcome(measured[elements], None, measured[unexpected], arguments["mostly"])

    return Check(
        {elements: count_elements, unexpected: mask.sum()},
        conclude,
        Examples.where(mask, (arguments["column"],)),
    )


def _unique_check(arguments: Arguments, domain: Domain) -> Check:
    column = arguments["column"]
    if family_of(domain.dtype(column)) == "other":
        raise CannotEvaluateError("Values of a nested or binary type cannot be checked for uniqueness.")
    elements, count_elements = domain.elements()
    tally, count_values = domain.tally(column)

    def conclude(measured: Measured) -> Outcome:
        found = measured[tally]
        return map_outcome(measured[elements], found.present, found.repeated, arguments["mostly"])

    return Check({elements: count_elements, tally: count_values}, conclude, Examples.repeats(tally, (column,)))


_ORDERS: Final[Mapping[str, Literal["up", "down"]]] = {
    "expect_column_values_to_be_increasing": "up",
    "expect_column_values_to_be_decreasing": "down",
}


def _order_check(name: str, dtype: pl.DataType, arguments: Arguments, domain: Domain, position: int) -> Check:
    if family_of(dtype) in {"text", "other"}:
        raise CannotEvaluateError(f"The column holds {words_for(dtype)}; an order is judged on numbers or dates.")
    column = arguments["column"]
    (elements, count_elements), (present, count_present) = domain.elements(), domain.present(column)
    key = f"steps|{position}"
    steps = Steps(domain.stream(column), _ORDERS[name], arguments["strictly"], MAX_EXAMPLES)

    def conclude(measured: Measured) -> Outcome:
        return map_outcome(measured[elements], measured[present], measured[key].count, arguments["mostly"])

    return Check(
        {elements: count_elements, present: count_present, key: steps},
        conclude,
        Examples((column,), "value", lambda measured, _source: measured[key].first),
    )


def _z_score_check(dtype: pl.DataType, arguments: Arguments, domain: Domain, position: int) -> Check:
    """Measure mean and deviation first, then count the values that lie too far out.

    A score that is no number passes: there is no spread to be far out of.

    Source: Great Expectations 1.24, `ColumnValuesZScore._pandas_condition`.
    """
    if family_of(dtype) not in {"number", "flag"}:
        raise CannotEvaluateError(f"The column holds {words_for(dtype)}; z-scores need numbers.")
    column, limit = arguments["column"], arguments["threshold"]
    (elements, count_elements), (present, count_present) = domain.elements(), domain.present(column)
    spread, unexpected = f"Deviation|{column}|{domain.key}", f"unexpected|{position}"

    def far(measured: Measured) -> pl.Expr:
        mean, deviation = measured[spread]
        if not deviation or not math.isfinite(deviation) or not math.isfinite(mean):
            return pl.lit(value=False)
        score = (ordered(pl.col(column), dtype) - mean) / deviation
        mask: pl.Expr = score.abs() >= abs(limit) if arguments["double_sided"] else score >= limit
        return domain.within(mask)

    def conclude(measured: Measured) -> Outcome:
        return map_outcome(measured[elements], measured[present], measured[unexpected] or 0, arguments["mostly"])

    def first(measured: Measured, source: Source) -> pl.LazyFrame:
        return source.first(far(measured), (column,), MAX_EXAMPLES)

    return Check(
        {elements: count_elements, present: count_present, spread: Deviation(domain.stream(column))},
        conclude,
        Examples((column,), "value", first),
        then=lambda measured: {unexpected: far(measured).sum()},
    )


TYPE_CHECKS: Final = {"expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list"}


_TEXT_CHECKS: Final = {
    "expect_column_values_to_match_regex",
    "expect_column_values_to_not_match_regex",
    "expect_column_values_to_match_regex_list",
    "expect_column_values_to_not_match_regex_list",
    "expect_column_value_lengths_to_be_between",
    "expect_column_value_lengths_to_equal",
}
SEES_GAPS: Final = TYPE_CHECKS | _TEXT_CHECKS
"""Expectations whose outcome depends on how pandas holds a column with missing values."""


def _type_check(dtype: pl.DataType, arguments: Arguments, *, has_gaps: bool) -> Check:
    listed = "type_list" in arguments
    wanted = arguments["type_list"] if listed else (arguments["type_"],)
    observed = pandas_name(dtype, has_gaps=has_gaps)
    success = any(type_matches(dtype, name, has_gaps=has_gaps, listed=listed) for name in wanted)
    unseen = listed and observed == "str" and "str" in wanted
    message = "Observed str, which Great Expectations finds in no type list; use be_of_type." if unseen else ""
    outcome = Outcome(success=success, observed_value=observed, message=message)
    return Check({}, lambda _measured: outcome)


def _between(values: pl.Expr, dtype: pl.DataType, arguments: Arguments) -> pl.Expr:
    if family_of(dtype) == "other":
        raise CannotEvaluateError(f"The column holds {words_for(dtype)}, which have no order.")
    return _outside(ordered(values, dtype), dtype, arguments)


def _outside(values: pl.Expr, dtype: pl.DataType, arguments: Arguments) -> pl.Expr:
    low, high = arguments["min_value"], arguments["max_value"]
    masks: list[pl.Expr] = []
    if low is not None:
        bound = literal(low, dtype)
        masks.append(values <= bound if arguments["strict_min"] else values < bound)
    if high is not None:
        bound = literal(high, dtype)
        masks.append(values >= bound if arguments["strict_max"] else values > bound)
    return pl.any_horizontal(masks)


def _not_in_set(values: pl.Expr, dtype: pl.DataType, arguments: Arguments) -> pl.Expr:
    return _in_set(values, dtype, arguments).not_()


def _in_set(values: pl.Expr, dtype: pl.DataType, arguments: Arguments) -> pl.Expr:
    return values.is_in(members(arguments["value_set"], dtype).implode())


def _no_match(values: pl.Expr, dtype: pl.DataType, arguments: Arguments) -> pl.Expr:
    return _match(values, dtype, arguments).not_()


def _match(values: pl.Expr, dtype: pl.DataType, arguments: Arguments) -> pl.Expr:
    return matches(as_text(values, dtype), arguments["regex"])


def _no_match_in_list(values: pl.Expr, dtype: pl.DataType, arguments: Arguments) -> pl.Expr:
    text = as_text(values, dtype)
    found = [matches(text, pattern) for pattern in arguments["regex_list"]]
    every = arguments.get("match_on") == "all"
    return (pl.all_horizontal(found) if every else pl.any_horizontal(found)).not_()


def _match_in_list(values: pl.Expr, dtype: pl.DataType, arguments: Arguments) -> pl.Expr:
    text = as_text(values, dtype)
    return pl.any_horizontal([matches(text, pattern) for pattern in arguments["regex_list"]])


def _length_outside(values: pl.Expr, dtype: pl.DataType, arguments: Arguments) -> pl.Expr:
    return _outside(as_text(values, dtype).str.len_chars(), pl.Int64(), arguments)


def _length_differs(values: pl.Expr, dtype: pl.DataType, arguments: Arguments) -> pl.Expr:
    return as_text(values, dtype).str.len_chars().ne(arguments["value"])


def _by_predicate(values: pl.Expr, predicate: Callable[[str], bool]) -> pl.Expr:
    judge = judge_distinct(predicate)
    return values.map_batches(judge, return_dtype=pl.Boolean, is_elementwise=True).not_()


def _no_date(values: pl.Expr, dtype: pl.DataType, _arguments: Arguments) -> pl.Expr:
    return _by_predicate(_text_only(values, dtype), is_date)


def _no_json(values: pl.Expr, dtype: pl.DataType, _arguments: Arguments) -> pl.Expr:
    if family_of(dtype) == "text":
        return _by_predicate(as_text(values, dtype), is_json)
    if family_of(dtype) == "other":
        raise CannotEvaluateError(f"The column holds {words_for(dtype)}, which are not judged as text.")
    return values.is_not_null()


def _text_only(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if family_of(dtype) not in {"text", "date", "moment"} and dtype != pl.Null:
        raise CannotEvaluateError(f"The column holds {words_for(dtype)}; dates and formats are judged on text.")
    return as_text(values, dtype)


def _other_format(values: pl.Expr, dtype: pl.DataType, arguments: Arguments) -> pl.Expr:
    return _by_predicate(_text_only(values, dtype), has_format(arguments["strftime_format"]))


_JUDGES: Final[Mapping[str, Judge]] = {
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _not_in_set,
    "expect_column_values_to_not_be_in_set": _in_set,
    "expect_column_values_to_match_regex": _no_match,
    "expect_column_values_to_not_match_regex": _match,
    "expect_column_values_to_match_regex_list": _no_match_in_list,
    "expect_column_values_to_not_match_regex_list": _match_in_list,
    "expect_column_values_to_match_strftime_format": _other_format,
    "expect_column_values_to_be_dateutil_parseable": _no_date,
    "expect_column_values_to_be_json_parseable": _no_json,
    "expect_column_value_lengths_to_be_between": _length_outside,
    "expect_column_value_lengths_to_equal": _length_differs,
}
