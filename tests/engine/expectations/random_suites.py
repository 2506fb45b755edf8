"""Random tables and random expectations on them, from a seeded source of chance."""

import math
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

import polars as pl

from mcp_server.engine.expectations.catalogue import NATIVE, ExpectationType

TEXTS = (
    "",
    "a",
    "b",
    "apple",
    "Apple",
    "é",
    "a1",
    "b22",
    "12",
    "-3",
    "1.5",
    "x\n",
    "two words",
    "٣",
    "A_b-c",
    "None",
    "nan",
)
MOMENTS = (
    "2024-01-01",
    "2024-02-30",
    "2024-13-01",
    "01/02/2024",
    "2024-01-01 10:00:00",
    "yesterday",
    "5",
    "Jan 3 2020",
)
JSONS = ("1", '"a"', "{}", '{"a": 1}', "[1, 2", "null", "NaN", "tru", " 3 ", "[]")
PATTERNS = (
    "a",
    "^a",
    "e$",
    r"\d",
    r"^\d+$",
    r"^[A-Z]",
    r"\w+\s\w+",
    "(?i)APPLE",
    "^$",
    ".",
    r"\.",
    "a|b",
    r"^\w$",
    r"\bb",
)
FORMATS = ("%Y-%m-%d", "%d/%m/%Y", "%Y", "%Y-%m-%d %H:%M:%S", "%b %d %Y")
TYPES = ("int64", "float64", "int", "float", "str", "object", "bool", "datetime64", "string", "O", "INTEGER", "f8")
INTERPOLATIONS = ("lower", "higher", "midpoint", "nearest", "linear")
NUMBERS = (-7, -1, 0, 1, 2, 3, 0.5, 2.5, 10, 100, 1e6)


def random_frame(chance: Random, most_rows: int = 12) -> pl.DataFrame:
    """Return a table with a column of each kind; a seed gives one and the same."""
    rows = chance.choice([0, 1, 2, *range(3, most_rows + 1), *range(3, most_rows + 1)])
    gaps = chance.choice([0.0, 0.2, 0.6])

    def filled(make: Any, *, gap: float = gaps) -> list[Any]:
        return [None if chance.random() < gap else make() for _ in range(rows)]

    small = chance.choice([2, 4, 50])
    start = date(2023, 12, 28)
    columns = {
        "whole": pl.Series([chance.randint(-small, small) for _ in range(rows)], dtype=pl.Int64),
        "gappy": pl.Series(filled(lambda: chance.randint(-small, small)), dtype=pl.Int64),
        "real": pl.Series(filled(lambda: _real(chance, small)), dtype=pl.Float64),
        "other": pl.Series(filled(lambda: round(chance.uniform(-small, small), 1)), dtype=pl.Float64),
        "text": pl.Series(filled(lambda: chance.choice(TEXTS)), dtype=pl.String),
        "code": pl.Series(filled(lambda: chance.choice(TEXTS[1:5])), dtype=pl.String),
        "when": pl.Series(filled(lambda: chance.choice(MOMENTS)), dtype=pl.String),
        "json": pl.Series(filled(lambda: chance.choice(JSONS)), dtype=pl.String),
        "flag": pl.Series([chance.random() < 0.5 for _ in range(rows)], dtype=pl.Boolean),
        "day": pl.Series(filled(lambda: start + timedelta(chance.randint(0, 9))), dtype=pl.Date),
        "day2": pl.Series(filled(lambda: start + timedelta(chance.randint(0, 9))), dtype=pl.Date),
        "flag2": pl.Series(filled(lambda: chance.random() < 0.5), dtype=pl.Boolean),
        "moment": pl.Series(
            filled(lambda: datetime(2024, 1, chance.randint(1, 9), chance.choice([0, 12]))), dtype=pl.Datetime
        ),
        "same": pl.Series([chance.choice([3])] * rows, dtype=pl.Int64),
        "nothing": pl.Series([None] * rows, dtype=pl.Float64),
    }
    if chance.random() < 0.3:
        columns["whole"] = columns["whole"].sort(descending=chance.random() < 0.5)
        columns["real"] = columns["real"].sort(nulls_last=chance.random() < 0.5)
    return pl.DataFrame(columns)


def _real(chance: Random, small: int) -> float:
    if chance.random() < 0.04:
        return chance.choice([math.inf, -math.inf, math.nan])
    return chance.choice([chance.uniform(-small, small), float(chance.randint(-3, 3)), 0.1 * chance.randint(-9, 9)])


NUMERIC = ("whole", "gappy", "real", "other", "same", "nothing")
TEXTUAL = ("text", "code", "when", "json")
ANY = (*NUMERIC, *TEXTUAL, "flag", "flag2", "day", "moment")


def random_expectation(chance: Random, kind: ExpectationType, frame: pl.DataFrame) -> dict[str, Any]:
    """Return a random expectation of a type, about columns that it is meant for, most of the time."""
    column = chance.choice(_columns_for(kind.name))
    kwargs: dict[str, Any] = {}
    for name, argument in kind.arguments.items():
        if name == "condition_parser" or (name.startswith("strict_") and "column_count" in kind.name):
            continue
        if name != "double_sided" and (
            not argument.required and name not in ("min_value", "max_value") and chance.random() < 0.5
        ):
            continue
        value = _ARGUMENTS[name](chance, column, frame, kind.name)
        if value is not None:
            kwargs[name] = value
    _mend(kwargs, kind, chance)
    return {"type": kind.name, "kwargs": kwargs, "severity": chance.choice(["critical", "warning", "info"])}


def random_suite(chance: Random, frame: pl.DataFrame, n: int) -> list[dict[str, Any]]:
    """Return `n` expectations, each type as likely as the others."""
    found: list[dict[str, Any]] = []
    while len(found) < n:
        kind = chance.choice(list(NATIVE.values()))
        each = random_expectation(chance, kind, frame)
        bounds = {"min_value", "max_value"} & set(each["kwargs"])
        if bounds or not kind.needs_bound:
            found.append(each)
    return found


def _columns_for(name: str) -> tuple[str, ...]:
    if "to_be_between" in name and ("values" in name or "_min_" in name or "_max_" in name):
        return (*NUMERIC, "flag") if "quantile" not in name else NUMERIC
    if "set" in name or "common" in name:
        return (*NUMERIC, *TEXTUAL, "flag", "flag2", "day")
    if "_type" in name:
        return (*NUMERIC, *TEXTUAL, "flag")
    if any(
        word in name
        for word in ("mean", "median", "stdev", "sum", "quantile", "z_score", "increasing", "decreasing", "kl_")
    ):
        return NUMERIC
    if any(word in name for word in ("regex", "length")):
        return (*TEXTUAL, *TEXTUAL, "gappy", "whole", "day")
    if "strftime" in name or "dateutil" in name:
        return ("when", "when", "when", "day", "code")
    return (*TEXTUAL, "json", "json") if "json" in name else ANY


def _some_values(chance: Random, column: str, frame: pl.DataFrame) -> list[Any]:
    held = [value for value in frame[column].unique(maintain_order=True).to_list() if value is not None]
    values = [value.isoformat() if isinstance(value, date) else value for value in held]
    values = [value for value in values if not isinstance(value, float) or math.isfinite(value)]
    chance.shuffle(values)
    values = values[: chance.randint(0, 6)]
    extra = {
        "text": ("zz", ""),
        "day": ("2024-01-03",),
        "moment": ("2024-01-03T00:00:00",),
        "flag": (True,),
        "flag2": (False,),
    }.get(column, NUMBERS if column in NUMERIC else ("zz",))
    return [*values, chance.choice(extra)]


def _bound(chance: Random, column: str, frame: pl.DataFrame, name: str) -> Any:
    if "length" in name or "count" in name:
        return chance.randint(0, 8)
    if "proportion" in name:
        return round(chance.random(), 2)
    if any(word in name for word in ("mean", "median", "stdev", "sum", "quantile")) or column in NUMERIC:
        return chance.choice(NUMBERS)
    if column in ("flag", "flag2"):
        return chance.choice([0, 1])
    if column in TEXTUAL:
        return None  # Great Expectations takes no text as a bound
    return chance.choice(_some_values(chance, column, frame))


def _quantiles(chance: Random, *_: Any) -> dict[str, Any]:
    quantiles = [chance.choice([0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 1]) for _ in range(chance.randint(1, 4))]
    ranges: list[list[Any]] = []
    for _each in quantiles:
        low, high = sorted([chance.choice(NUMBERS), chance.choice(NUMBERS)])
        ranges.append([chance.choice([low, None]), chance.choice([high, high, None])])
    return {"quantiles": sorted(quantiles), "value_ranges": ranges}


def _partition(chance: Random, column: str, frame: pl.DataFrame, _name: str) -> dict[str, Any]:
    n = chance.randint(1, 5)
    raw = [chance.choice([0, 1, 2, 3]) for _ in range(n)] or [1]
    raw[0] += 1
    if column in ("real", "other", "gappy", "nothing") and chance.random() < 0.8:
        edges = sorted(chance.sample(range(-6, 8), n + 1))
        if chance.random() < 0.3:
            tails = [chance.choice([1, 2]), chance.choice([1, 2])]
            total = sum(raw) + sum(tails)
            return {
                "bins": edges,
                "weights": [each / total for each in raw],
                "tail_weights": [each / total for each in tails],
            }
        return {"bins": edges, "weights": [each / sum(raw) for each in raw]}
    values = list(dict.fromkeys(_some_values(chance, column, frame)))[:n]
    raw = raw[: len(values)]
    return {"values": values, "weights": [each / sum(raw) for each in raw]}


def _columns(chance: Random, _column: str, frame: pl.DataFrame, name: str) -> list[str]:
    if "sum" in name:
        return chance.sample(NUMERIC, chance.randint(2, 3))
    if name == "expect_table_columns_to_match_ordered_list":
        names = list(frame.columns)
        if chance.random() < 0.5:
            names[0], names[1] = names[1], names[0]
        return names[: len(names) - chance.choice([0, 0, 1])] + chance.choice([[], ["absent"]])
    if name == "expect_table_columns_to_match_set":
        return chance.sample(frame.columns, chance.choice([3, len(frame.columns)])) + chance.choice([[], ["absent"]])
    groups = (NUMERIC, TEXTUAL, ("whole", "code"), ("gappy", "real"))
    return chance.sample(groups[chance.randint(0, 3)], 2)


def _condition(chance: Random, _column: str, _frame: pl.DataFrame, _name: str) -> Any:
    if chance.random() < 0.5:
        return None
    conditions = [
        'col("whole") > 0', 'col("real") <= 1', 'col("code") == "apple"', 'col("code") != "apple"',
        'col("gappy").notNull()',
        'col("text") == "a"', 'col("whole") >= -1', 'col("gappy") != 1', 'col("whole") > 1000',
    ]  # fmt: skip
    return chance.choice(conditions)


def _pair(chance: Random, column: str, frame: pl.DataFrame, _name: str) -> Any:
    return chance.choice(_columns_for("pair"))


_PAIRS = (NUMERIC, NUMERIC, ("text", "code"), ("when", "json"), ("day", "day2"), ("flag", "flag2"))
_ARGUMENTS: dict[str, Any] = {
    "column": lambda chance, column, frame, name: column,
    "column_A": lambda chance, column, frame, name: column,
    "column_B": lambda chance, column, frame, name: column,
    "column_list": _columns,
    "column_set": _columns,
    "column_index": lambda chance, column, frame, name: chance.randint(1, 14),
    "min_value": lambda chance, column, frame, name: chance.choice([None, _bound(chance, column, frame, name)]),
    "max_value": lambda chance, column, frame, name: chance.choice([_bound(chance, column, frame, name)] * 3),
    "strict_min": lambda chance, *_: chance.random() < 0.5,
    "strict_max": lambda chance, *_: chance.random() < 0.5,
    "strictly": lambda chance, *_: chance.random() < 0.5,
    "mostly": lambda chance, *_: chance.choice([0, 0.25, 0.5, 2 / 3, 0.75, 0.9, 1]),
    "row_condition": _condition,
    "value_set": lambda chance, column, frame, name: _some_values(chance, column, frame),
    "regex": lambda chance, *_: chance.choice(PATTERNS),
    "regex_list": lambda chance, *_: chance.sample(PATTERNS, chance.randint(1, 3)),
    "match_on": lambda chance, *_: chance.choice(["any", "all"]),
    "strftime_format": lambda chance, *_: chance.choice(FORMATS),
    "value": lambda chance, *_: chance.randint(0, 14),
    "threshold": lambda chance, *_: chance.choice([0.01, 0.1, 0.5, 1, 1.5, 3]),
    "double_sided": lambda chance, *_: chance.random() < 0.5,
    "type_": lambda chance, *_: chance.choice(TYPES),
    "type_list": lambda chance, *_: chance.sample(TYPES, chance.randint(1, 4)),
    "quantile_ranges": _quantiles,
    "allow_relative_error": lambda chance, *_: chance.choice([False, *INTERPOLATIONS]),
    "ties_okay": lambda chance, *_: chance.random() < 0.5,
    "partition_object": _partition,
    "tail_weight_holdout": lambda chance, *_: chance.choice([0, 0.01, 0.1]),
    "internal_weight_holdout": lambda chance, *_: chance.choice([0, 0.01, 0.1]),
    "bucketize_data": lambda chance, *_: chance.random() < 0.8,
    "or_equal": lambda chance, *_: chance.random() < 0.5,
    "sum_total": lambda chance, *_: chance.choice([0, 1, 3, 4, 6]),
    "exact_match": lambda chance, *_: chance.random() < 0.5,
    "ignore_row_if": lambda chance, column, frame, name: chance.choice(
        ["both_values_are_missing", "either_value_is_missing", "neither"]
        if "pair" in name
        else ["all_values_are_missing", "any_value_is_missing", "never"]
    ),
}  # fmt: skip
_ARGUMENTS["value_pairs_set"] = lambda chance, column, frame, name: [
    [chance.choice(_some_values(chance, column, frame)), None] for _ in range(3)
]


def _mend(kwargs: dict[str, Any], kind: ExpectationType, chance: Random) -> None:
    """Make arguments agree that were drawn apart."""
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if low is not None and high is not None and low > high:
        kwargs["min_value"], kwargs["max_value"] = high, low
    if "column_A" in kwargs:
        kwargs["column_A"], kwargs["column_B"] = chance.sample(chance.choice(_PAIRS), 2)
    if "value_pairs_set" in kwargs:
        kwargs["column_A"], kwargs["column_B"] = chance.choice(
            [("code", "whole"), ("whole", "gappy"), ("code", "text")]
        )
        first, second = kwargs["column_A"], kwargs["column_B"]
        draw = {"code": TEXTS[1:5], "text": TEXTS[:6], "whole": (-1, 0, 1, 2), "gappy": (-1, 0, 1, 2)}
        kwargs["value_pairs_set"] = [[chance.choice(draw[first]), chance.choice(draw[second])] for _ in range(6)]
    partition = kwargs.get("partition_object", {})
    if "tail_weights" in partition:
        kwargs.pop("tail_weight_holdout", None)
    if "values" in partition:
        kwargs.pop("internal_weight_holdout", None)
        kwargs["bucketize_data"] = False
    elif "bins" in partition:
        kwargs["bucketize_data"] = True
