"""The expectation types there are, with the arguments each takes.

Names, arguments and defaults are Great Expectations' own (1.x), so that its suites can be read and written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal[
    "column", "columns", "bound", "number", "count", "fraction", "flag", "value", "values", "pairs",
    "text", "texts", "format", "regex", "regexes", "choice", "quantiles", "partition", "condition",
]  # fmt: skip
Scope = Literal["value", "pair", "record", "aggregate", "table"]


@dataclass(frozen=True, slots=True)
class Argument:
    """One keyword argument of an expectation type.

    Attributes:
        kind: what its value must be.
        required: whether it must be given.
        default: what it is when left out.
        choices: the values a `choice` may have.
    """

    kind: Kind
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExpectationType:
    """A type of expectation.

    Attributes:
        name: as suites write it.
        scope: what it judges: each value, pair or record, a column's aggregate, or the table.
        arguments: by name.
    """

    name: str
    scope: Scope
    arguments: Mapping[str, Argument]

    @property
    def needs_bound(self) -> bool:
        """True when at least one of `min_value` and `max_value` must be given."""
        return self.scope == "value" and "min_value" in self.arguments


_NAME: Final = Argument("column", required=True)
_CONDITION: Final = {
    "row_condition": Argument("condition"),
    "condition_parser": Argument(
        "choice", choices=("great_expectations", "great_expectations__experimental__", "pandas", "spark")
    ),
}
_MOSTLY: Final = {"mostly": Argument("fraction", default=1.0)}
_STRICT: Final = {"strict_min": Argument("flag", default=False), "strict_max": Argument("flag", default=False)}
_BOUNDS: Final = {"min_value": Argument("bound"), "max_value": Argument("bound")} | _STRICT
_COUNT_BOUNDS: Final = {"min_value": Argument("count"), "max_value": Argument("count")} | _STRICT
_NUMBER_BOUNDS: Final = {"min_value": Argument("number"), "max_value": Argument("number")} | _STRICT
_SET: Final = {"value_set": Argument("values", required=True)}
_MONOTONE: Final = {"strictly": Argument("flag", default=False)}
_PAIR_IGNORE: Final = {
    "ignore_row_if": Argument(
        "choice",
        default="both_values_are_missing",
        choices=("both_values_are_missing", "either_value_is_missing", "neither"),
    )
}
_RECORD_IGNORE: Final = {
    "ignore_row_if": Argument(
        "choice",
        default="all_values_are_missing",
        choices=("all_values_are_missing", "any_value_is_missing", "never"),
    )
}


def _value(name: str, **arguments: Argument) -> ExpectationType:
    return ExpectationType(name, "value", {"column": _NAME, **arguments, **_MOSTLY, **_CONDITION})


def _aggregate(name: str, **arguments: Argument) -> ExpectationType:
    return ExpectationType(name, "aggregate", {"column": _NAME, **arguments, **_CONDITION})


def _pair(name: str, **arguments: Argument) -> ExpectationType:
    columns = {"column_A": _NAME, "column_B": _NAME}
    return ExpectationType(name, "pair", columns | arguments | _PAIR_IGNORE | _MOSTLY | _CONDITION)


def _record(name: str, **arguments: Argument) -> ExpectationType:
    columns = {"column_list": Argument("columns", required=True)}
    return ExpectationType(name, "record", columns | arguments | _RECORD_IGNORE | _MOSTLY | _CONDITION)


def _table(name: str, **arguments: Argument) -> ExpectationType:
    return ExpectationType(name, "table", arguments)


_REGEX: Final = {"regex": Argument("regex", required=True)}
_REGEXES: Final = Argument("regexes", required=True)
_TYPE: Final = Argument("text", required=True)

_TYPES: Final = (
    _value("expect_column_values_to_not_be_null"),
    _value("expect_column_values_to_be_null"),
    _value("expect_column_values_to_be_between", **_BOUNDS),
    _value("expect_column_values_to_be_in_set", **_SET),
    _value("expect_column_values_to_not_be_in_set", **_SET),
    _value("expect_column_values_to_match_regex", **_REGEX),
    _value("expect_column_values_to_not_match_regex", **_REGEX),
    _value(
        "expect_column_values_to_match_regex_list",
        regex_list=_REGEXES,
        match_on=Argument("choice", default="any", choices=("any", "all")),
    ),
    _value("expect_column_values_to_not_match_regex_list", regex_list=_REGEXES),
    _value("expect_column_values_to_match_strftime_format", strftime_format=Argument("format", required=True)),
    _value("expect_column_values_to_be_dateutil_parseable"),
    _value("expect_column_values_to_be_json_parseable"),
    _value("expect_column_value_lengths_to_be_between", **_COUNT_BOUNDS),
    _value("expect_column_value_lengths_to_equal", value=Argument("count", required=True)),
    _value("expect_column_values_to_be_unique"),
    _value("expect_column_values_to_be_increasing", **_MONOTONE),
    _value("expect_column_values_to_be_decreasing", **_MONOTONE),
    _value(
        "expect_column_value_z_scores_to_be_less_than",
        threshold=Argument("number", required=True),
        double_sided=Argument("flag", default=True),
    ),
    _value("expect_column_values_to_be_of_type", type_=_TYPE),
    _value("expect_column_values_to_be_in_type_list", type_list=Argument("texts", required=True)),
    _aggregate("expect_column_mean_to_be_between", **_NUMBER_BOUNDS),
    _aggregate("expect_column_median_to_be_between", **_NUMBER_BOUNDS),
    _aggregate("expect_column_stdev_to_be_between", **_NUMBER_BOUNDS),
    _aggregate("expect_column_sum_to_be_between", **_NUMBER_BOUNDS),
    _aggregate("expect_column_min_to_be_between", **_BOUNDS),
    _aggregate("expect_column_max_to_be_between", **_BOUNDS),
    _aggregate(
        "expect_column_quantile_values_to_be_between",
        quantile_ranges=Argument("quantiles", required=True),
        allow_relative_error=Argument("value", default=False),
    ),
    _aggregate("expect_column_unique_value_count_to_be_between", **_COUNT_BOUNDS),
    _aggregate("expect_column_proportion_of_unique_values_to_be_between", **_NUMBER_BOUNDS),
    _aggregate("expect_column_proportion_of_non_null_values_to_be_between", **_NUMBER_BOUNDS),
    _aggregate("expect_column_distinct_values_to_be_in_set", **_SET),
    _aggregate("expect_column_distinct_values_to_equal_set", **_SET),
    _aggregate("expect_column_distinct_values_to_contain_set", **_SET),
    _aggregate("expect_column_most_common_value_to_be_in_set", **_SET, ties_okay=Argument("flag", default=False)),
    _aggregate(
        "expect_column_kl_divergence_to_be_less_than",
        partition_object=Argument("partition", required=True),
        min_value=Argument("number"),  # like Great Expectations, which takes the bounds and does not look at them
        max_value=Argument("number"),
        threshold=Argument("number"),
        tail_weight_holdout=Argument("fraction", default=0.0),
        internal_weight_holdout=Argument("fraction", default=0.0),
        bucketize_data=Argument("flag", default=True),
    ),
    _pair("expect_column_pair_values_a_to_be_greater_than_b", or_equal=Argument("flag", default=False)),
    _pair("expect_column_pair_values_to_be_equal"),
    _pair("expect_column_pair_values_to_be_in_set", value_pairs_set=Argument("pairs", required=True)),
    _record("expect_compound_columns_to_be_unique"),
    _record("expect_select_column_values_to_be_unique_within_record"),
    _record("expect_multicolumn_sum_to_equal", sum_total=Argument("number", required=True)),
    _table("expect_table_row_count_to_be_between", **_COUNT_BOUNDS, **_CONDITION),
    _table("expect_table_row_count_to_equal", value=Argument("count", required=True), **_CONDITION),
    _table("expect_table_column_count_to_be_between", **_COUNT_BOUNDS),
    _table("expect_table_column_count_to_equal", value=Argument("count", required=True)),
    _table(
        "expect_table_columns_to_match_set",
        column_set=Argument("columns", required=True),
        exact_match=Argument("flag", default=True),
    ),
    _table("expect_table_columns_to_match_ordered_list", column_list=Argument("columns", required=True)),
    _table("expect_column_to_exist", column=_NAME, column_index=Argument("count")),
)

NATIVE: Final[Mapping[str, ExpectationType]] = {kind.name: kind for kind in _TYPES}
"""The types the native engine runs."""

FOREIGN: Final = frozenset(
    {
        "expect_column_type_to_be",
        "expect_column_values_to_not_be_outliers",
        "expect_column_values_to_match_like_pattern",
        "expect_column_values_to_match_like_pattern_list",
        "expect_column_values_to_not_match_like_pattern",
        "expect_column_values_to_not_match_like_pattern_list",
        "expect_column_values_to_match_json_schema",
        "expect_multicolumn_values_to_be_equal",
        "expect_query_results_to_match_comparison",
        "expect_table_row_count_to_equal_other_table",
        "unexpected_rows_expectation",
    }
)
"""The further types of Great Expectations 1.24, which it runs itself."""
