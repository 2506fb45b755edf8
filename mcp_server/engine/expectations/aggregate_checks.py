"""Expectations on one figure of a column, and on the table itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import polars as pl

from mcp_server.engine.expectations.checks import MAX_EXAMPLES, Check, Domain, Measure, Measured, Outcome
from mcp_server.engine.expectations.columns import Figure, Stream
from mcp_server.engine.expectations.distribution_checks import divergence_check
from mcp_server.engine.expectations.literals import (
    CannotEvaluateError,
    comparable,
    family_of,
    members,
    plain,
    words_for,
)
from mcp_server.engine.expectations.order import Quantiles
from mcp_server.engine.expectations.sums import Deviation, Mean, Spread, Total
from mcp_server.engine.expectations.tallies import Members, Modes

Arguments = Mapping[str, Any]


def aggregate_check(name: str, arguments: Arguments, domain: Domain, position: int) -> Check:
    """Translate an expectation on one figure of a column.

    Raises:
        CannotEvaluateError: the column is missing or of a type that has no such figure.
    """
    column = arguments["column"]
    dtype = domain.dtype(column)
    if name in _EXTREMES:
        return _extreme_check(name, column, dtype, arguments, domain)
    if name in _FIGURES:
        return _figure_check(name, column, dtype, arguments, domain)
    if name == "expect_column_unique_value_count_to_be_between":
        key, tally = domain.tally(column)
        return Check({key: tally}, lambda measured: _judge_range(measured[key].distinct, arguments))
    if name.startswith("expect_column_proportion_of"):
        return _proportion_check(name, column, arguments, domain)
    if name == "expect_column_quantile_values_to_be_between":
        return _quantile_check(column, dtype, arguments, domain, position)
    if name == "expect_column_kl_divergence_to_be_less_than":
        return divergence_check(arguments, domain, position)
    if name == "expect_column_most_common_value_to_be_in_set":
        return _mode_check(column, dtype, arguments, domain, position)
    return _set_check(name, column, dtype, arguments, domain, position)


_FIGURES: Final[Mapping[str, Callable[[Stream], Figure]]] = {
    "expect_column_mean_to_be_between": Mean,
    "expect_column_median_to_be_between": lambda stream: Quantiles(stream, (0.5,), "median"),
    "expect_column_stdev_to_be_between": Deviation,
    "expect_column_sum_to_be_between": Total,
}
_EXTREMES: Final = {"expect_column_min_to_be_between", "expect_column_max_to_be_between"}


def _extreme_check(name: str, column: str, dtype: pl.DataType, arguments: Arguments, domain: Domain) -> Check:
    if family_of(dtype) == "other":
        raise CannotEvaluateError(f"The column holds {words_for(dtype)}, which have no order.")
    bounds = dict(arguments)
    bounds |= {
        end: comparable(arguments[end], dtype) for end in ("min_value", "max_value") if arguments[end] is not None
    }
    key, values = f"{name}|{column}|{domain.key}", domain.values(column)
    figure = values.min() if name == "expect_column_min_to_be_between" else values.max()
    return Check({key: figure}, lambda measured: _judge_range(measured[key], bounds))


def _figure_check(name: str, column: str, dtype: pl.DataType, arguments: Arguments, domain: Domain) -> Check:
    if family_of(dtype) not in {"number", "flag"}:
        raise CannotEvaluateError(f"The column holds {words_for(dtype)}, which have no such figure.")
    if name == "expect_column_sum_to_be_between" and not dtype.is_float():
        whole = domain.values(column) if dtype.is_integer() else domain.values(column).cast(pl.Int64)
        key, total = f"sum|{column}|{domain.key}", whole.sum()
        return Check({key: total}, lambda measured: _judge_range(measured[key], arguments))
    figure = _FIGURES[name](domain.stream(column))
    key = f"{type(figure).__name__}|{column}|{domain.key}"

    def conclude(measured: Measured) -> Outcome:
        found = measured[key]
        if isinstance(found, Spread):
            return _judge_range(found.deviation, arguments)
        return _judge_range(found[0] if isinstance(found, list) else found, arguments)

    return Check({key: figure}, conclude)


def _judge_range(figure: Any, bounds: Arguments) -> Outcome:
    """Compare a figure with its bounds; a figure that does not exist fails."""
    if figure is None or figure != figure:  # only NaN differs from itself
        return Outcome(success=False, message="The column has no values to compute this from.")
    low, high = bounds["min_value"], bounds["max_value"]
    above = low is None or (figure > low if bounds["strict_min"] else figure >= low)
    below = high is None or (figure < high if bounds["strict_max"] else figure <= high)
    return Outcome(success=bool(above and below), observed_value=plain(figure))


def _proportion_check(name: str, column: str, arguments: Arguments, domain: Domain) -> Check:
    if name.endswith("unique_values_to_be_between"):
        key, tally = domain.tally(column)

        def conclude_unique(measured: Measured) -> Outcome:
            found = measured[key]
            return _judge_range(found.distinct / found.present if found.present else 0.0, arguments)

        return Check({key: tally}, conclude_unique)
    (part, count_part), (whole, count_whole) = domain.present(column), domain.elements()

    def conclude(measured: Measured) -> Outcome:
        share = measured[part] / measured[whole] if measured[whole] else 0.0
        return _judge_range(share, arguments)

    return Check({part: count_part, whole: count_whole}, conclude)


def _quantile_check(column: str, dtype: pl.DataType, arguments: Arguments, domain: Domain, position: int) -> Check:
    if family_of(dtype) != "number":
        raise CannotEvaluateError(f"The column holds {words_for(dtype)}; quantiles need numbers.")
    quantiles, ranges = (arguments["quantile_ranges"][part] for part in ("quantiles", "value_ranges"))
    method = arguments["allow_relative_error"] or "nearest"
    if method not in _INTERPOLATIONS:
        raise CannotEvaluateError(f"allow_relative_error must be false or one of {', '.join(_INTERPOLATIONS)}.")
    key = f"quantiles|{position}"

    def conclude(measured: Measured) -> Outcome:
        found = measured[key]
        details = [
            value is not None and (low is None or value >= low) and (high is None or value <= high)
            for value, (low, high) in zip(found, ranges, strict=True)
        ]
        return Outcome(
            success=all(details),
            observed_value={"quantiles": quantiles, "values": [plain(value) for value in found]},
            details={"success_details": details},
        )

    return Check({key: Quantiles(domain.stream(column), tuple(quantiles), str(method))}, conclude)


_INTERPOLATIONS: Final = ("linear", "lower", "higher", "midpoint", "nearest")


def _mode_check(column: str, dtype: pl.DataType, arguments: Arguments, domain: Domain, position: int) -> Check:
    key = f"modes|{position}"
    modes = Modes(domain.stream(column), members(arguments["value_set"], dtype), _MAX_OBSERVED)

    def conclude(measured: Measured) -> Outcome:
        ties, some, hits = measured[key]
        success = hits > 0 if arguments["ties_okay"] else ties == 1 and hits == 1
        return Outcome(success=success, observed_value=[plain(value) for value in some])

    return Check({key: modes}, conclude)


_MAX_OBSERVED: Final = 200


def _set_check(
    name: str, column: str, dtype: pl.DataType, arguments: Arguments, domain: Domain, position: int
) -> Check:
    """Compare the distinct values with a set; and name the values outside of it."""
    wanted = members(arguments["value_set"], dtype)
    forbids, requires = not name.endswith("contain_set"), not name.endswith("be_in_set")
    inside = pl.col(column).is_in(wanted.implode())
    strangers, hits = f"strangers|{position}", f"hits|{position}"
    measures: dict[str, Measure] = {}
    if forbids:
        measures[strangers] = Members(domain.stream(column, where=inside.not_()), MAX_EXAMPLES, is_rare=True)
    if requires:
        measures[hits] = Members(domain.stream(column, where=inside), len(wanted))

    def conclude(measured: Measured) -> Outcome:
        unexpected, shown = measured[strangers] if forbids else (0, ())
        absent: list[Any] = []
        if requires:
            absent = _absent(arguments["value_set"], dtype, set(measured[hits][1]))
        return Outcome(
            success=not unexpected and not absent,
            unexpected_count=unexpected if forbids else None,
            partial_unexpected_list=tuple(plain(value) for value in shown) if forbids else None,
            missing_count=len(absent) if requires else None,
            details={"partial_missing_list": absent[:MAX_EXAMPLES]} if requires else {},
        )

    return Check(measures, conclude)


def _absent(wanted: Sequence[Any], dtype: pl.DataType, found: set[Any]) -> list[Any]:
    """Return the members, as given, that are not among `found`; one that the type cannot hold is absent."""
    absent: list[Any] = []
    for value in dict.fromkeys(wanted):
        held = members([value], dtype).to_list()
        if not held or held[0] not in found:
            absent.append(value)
    return absent


def table_check(name: str, arguments: Arguments, domain: Domain, _position: int) -> Check:
    """Translate an expectation on the table's shape."""
    names = domain.schema.names()
    if name.startswith("expect_table_row_count"):
        key, expression = domain.elements()
        return Check({key: expression}, lambda measured: _judge_count(measured[key], arguments))
    if name.startswith("expect_table_column_count"):
        outcome = _judge_count(len(names), arguments)
    elif name == "expect_column_to_exist":
        index = arguments["column_index"]
        exists = arguments["column"] in names
        outcome = Outcome(success=exists and (index is None or names.index(arguments["column"]) == index))
    elif name == "expect_table_columns_to_match_set":
        outcome = _match_columns(names, arguments["column_set"], exact=arguments["exact_match"])
    else:
        outcome = _match_order(names, list(arguments["column_list"]))
    return Check({}, lambda _measured: outcome)


def _judge_count(count: int, arguments: Arguments) -> Outcome:
    if "value" in arguments:
        return Outcome(success=count == arguments["value"], observed_value=count)
    return _judge_range(count, arguments)


def _match_columns(names: list[str], wanted: Sequence[str], *, exact: bool) -> Outcome:
    unexpected, missing = sorted(set(names) - set(wanted)), sorted(set(wanted) - set(names))
    mismatched = {what: found for what, found in (("unexpected", unexpected), ("missing", missing)) if found}
    return Outcome(
        success=not missing and not (exact and unexpected),
        observed_value=sorted(names),
        details={"mismatched": mismatched} if mismatched else {},
    )


def _match_order(names: list[str], wanted: list[str]) -> Outcome:
    if names == wanted:
        return Outcome(success=True, observed_value=names)
    longest = max(len(names), len(wanted))
    mismatched = [
        {"Expected Column Position": index, "Expected": expected, "Found": found}
        for index in range(longest)
        if (expected := _at(wanted, index)) != (found := _at(names, index))
    ]
    return Outcome(success=False, observed_value=names, details={"mismatched": mismatched[:MAX_EXAMPLES]})


def _at(values: list[str], index: int) -> str | None:
    return values[index] if index < len(values) else None
