"""Expectations that judge pairs of columns and whole records."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any, Final

import polars as pl

from mcp_server.engine.expectations.checks import Check, Domain, Examples, Measured, Outcome, map_outcome
from mcp_server.engine.expectations.literals import (
    CannotEvaluateError,
    family_of,
    members,
    ordered,
    share_order,
    words_for,
)
from mcp_server.engine.expectations.tallies import Tally

Arguments = Mapping[str, Any]

_IGNORES_NONE: Final = {"neither", "never"}
_IGNORES_ANY: Final = {"either_value_is_missing", "any_value_is_missing"}


def pair_check(name: str, arguments: Arguments, domain: Domain, position: int) -> Check:
    """Translate an expectation on pairs of values.

    Raises:
        CannotEvaluateError: a column is missing, or the two cannot be compared.
    """
    columns = (arguments["column_A"], arguments["column_B"])
    first, second = (domain.dtype(column) for column in columns)
    if name == "expect_column_pair_values_to_be_in_set":
        good = _pair_in_set(columns, (first, second), arguments)
    else:
        if not share_order(first, second):
            raise CannotEvaluateError(
                f"The first column holds {words_for(first)}, the second {words_for(second)}: not comparable."
            )
        left, right = ordered(pl.col(columns[0]), first), ordered(pl.col(columns[1]), second)
        if name == "expect_column_pair_values_to_be_equal":
            good = left == right
        else:
            good = left >= right if arguments["or_equal"] else left > right
    bad = good.fill_null(value=False).not_()
    return _included_check(bad, columns, arguments, domain, position, shape="pair")


def record_check(name: str, arguments: Arguments, domain: Domain, position: int) -> Check:
    """Translate an expectation on the values of several columns in one row.

    Raises:
        CannotEvaluateError: a column is missing or of a type that does not fit.
    """
    columns = arguments["column_list"]
    dtypes = [domain.dtype(column) for column in columns]
    if name == "expect_compound_columns_to_be_unique":
        return _compound_check(columns, arguments, domain, position)
    if name == "expect_multicolumn_sum_to_equal":
        if any(family_of(dtype) not in {"number", "flag"} for dtype in dtypes):
            raise CannotEvaluateError("Not all of the columns hold numbers.")
        total = pl.sum_horizontal(list(columns), ignore_nulls=False)
        bad = (total == arguments["sum_total"]).fill_null(value=False).not_()
    else:
        bad = pl.any_horizontal([_same(pair, domain) for pair in combinations(columns, 2)] or [pl.lit(value=False)])
    return _included_check(bad, columns, arguments, domain, position, shape="record")


def _included_check(
    bad: pl.Expr, columns: tuple[str, ...], arguments: Arguments, domain: Domain, position: int, *, shape: Any
) -> Check:
    included = _included(columns, arguments, domain)
    mask = bad if included is None else included & bad
    (elements, count_elements), (judged, count_judged) = domain.elements(), _judged(included, position)
    unexpected = f"unexpected|{position}"

    def conclude(measured: Measured) -> Outcome:
        return map_outcome(measured[elements], measured[judged], measured[unexpected], arguments["mostly"])

    return Check(
        {elements: count_elements, judged: count_judged, unexpected: mask.sum()},
        conclude,
        Examples.where(mask, columns, shape),
    )


def _compound_check(columns: tuple[str, ...], arguments: Arguments, domain: Domain, position: int) -> Check:
    elements, count_elements = domain.elements()
    tally = f"tally|{position}"
    stream = replace(domain.stream(*columns), rows=_included(columns, arguments, domain), as_records=True)

    def conclude(measured: Measured) -> Outcome:
        found = measured[tally]
        return map_outcome(measured[elements], found.present, found.repeated, arguments["mostly"])

    return Check({elements: count_elements, tally: Tally(stream)}, conclude, Examples.repeats(tally, columns, "record"))


def _included(columns: tuple[str, ...], arguments: Arguments, domain: Domain) -> pl.Expr | None:
    """True for the rows that are judged; None means all."""
    ignored = arguments["ignore_row_if"]
    if ignored in _IGNORES_NONE:
        return domain.rows
    present = [pl.col(column).is_not_null() for column in columns]
    return domain.within(pl.all_horizontal(present) if ignored in _IGNORES_ANY else pl.any_horizontal(present))


def _judged(included: pl.Expr | None, position: int) -> tuple[str, pl.Expr]:
    return f"judged|{position}", pl.len() if included is None else included.sum()


def _same(pair: tuple[str, str], domain: Domain) -> pl.Expr:
    left, right = pl.col(pair[0]), pl.col(pair[1])
    first, second = domain.dtype(pair[0]), domain.dtype(pair[1])
    if share_order(first, second):
        return ordered(left, first).eq_missing(ordered(right, second))
    return left.is_null() & right.is_null()


def _pair_in_set(columns: tuple[str, str], dtypes: tuple[pl.DataType, pl.DataType], arguments: Arguments) -> pl.Expr:
    """A missing value matches null in the set, as in Great Expectations."""
    partners: dict[Any, list[Any]] = {}
    for first, second in arguments["value_pairs_set"]:
        partners.setdefault(first, []).append(second)
    left, right = pl.col(columns[0]), pl.col(columns[1])
    matches = [
        _equals(left, dtypes[0], [first]) & _equals(right, dtypes[1], seconds) for first, seconds in partners.items()
    ]
    return pl.any_horizontal(matches or [pl.lit(value=False)])


def _equals(values: pl.Expr, dtype: pl.DataType, wanted: list[Any]) -> pl.Expr:
    found = values.is_in(members(wanted, dtype).implode()).fill_null(value=False)
    return found | values.is_null() if None in wanted else found
