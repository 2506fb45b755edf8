"""Runs a suite on a table: one fused scan for all expectations, a second pass for examples where some failed."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from mcp_server.engine.expectations.aggregate_checks import aggregate_check, table_check
from mcp_server.engine.expectations.catalogue import NATIVE
from mcp_server.engine.expectations.checks import Check, Domain, Examples, Measure, Measured, Outcome
from mcp_server.engine.expectations.columns import Source
from mcp_server.engine.expectations.conditions import columns_of
from mcp_server.engine.expectations.literals import CannotEvaluateError, plain
from mcp_server.engine.expectations.record_checks import pair_check, record_check
from mcp_server.engine.expectations.suite import Expectation
from mcp_server.engine.expectations.value_checks import SEES_GAPS, TYPE_CHECKS, value_check
from mcp_server.errors import FailedPreconditionError

_TRANSLATORS: Final = {
    "value": value_check,
    "pair": pair_check,
    "record": record_check,
    "aggregate": aggregate_check,
    "table": table_check,
}


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An expectation with its outcome."""

    expectation: Expectation
    outcome: Outcome


def evaluate(
    frame: pl.LazyFrame,
    expectations: Sequence[Expectation],
    *,
    low_memory: bool | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[int, tuple[Evaluated, ...]]:
    """Judge all expectations on `frame`.

    NaN counts as missing, as in pandas. An expectation that the table cannot answer (no such column, text where
    numbers are needed) fails with a message.

    Args:
        frame: any number of rows.
        expectations: of native types only, with their arguments resolved.
        low_memory: stream the table instead of holding the columns that are needed; None chooses by their size. The
            outcomes are the same.
        progress: told now and then which share of the work is done, 0 to 1, while the table is streamed; what it
            raises ends the work.

    Returns:
        The number of rows, and one outcome for each expectation, in their order.

    Raises:
        FailedPreconditionError: a type is not covered; the hint lists those that are.
    """
    refuse_foreign(expectations)
    table = judgeable(frame)
    schema = table.collect_schema()
    n_rows = int(frame.select(pl.len()).collect().item())
    columns = _columns_of(expectations, schema)
    streamed = low_memory if low_memory is not None else n_rows * _row_bytes(columns, schema) > _MAX_BYTES_HELD
    source = Source(table, n_rows, streamed=streamed or not columns, columns=columns, progress=progress)
    return n_rows, _with_empty_columns(source, judge(source, expectations))


def _with_empty_columns(source: Source, judged: tuple[Evaluated, ...]) -> tuple[Evaluated, ...]:
    """Judge again what a column's type did not allow, where the column has no values: no value is of no type.

    A file's column without values comes as text here and as numbers in pandas, where every expectation can look at it.
    Checks of the type itself know that already (see `_gaps`).
    """
    refused = [
        index for index, each in enumerate(judged) if each.outcome.message and each.expectation.type not in TYPE_CHECKS
    ]
    named = {name for index in refused for name in _named(judged[index].expectation) if name in source.schema}
    empty = [
        name for name in sorted(named) if source.table.select(pl.col(name).drop_nulls().head(1)).collect().is_empty()
    ]
    if not empty:
        return judged
    table = source.table.with_columns(pl.lit(None, pl.Null).alias(name) for name in empty)
    # A stream, as the columns that are held lack those that a condition alone names.
    again = judge(Source(table, source.n_rows, streamed=True), [judged[index].expectation for index in refused])
    replaced = dict(zip(refused, again, strict=True))
    return tuple(replaced.get(index, each) for index, each in enumerate(judged))


def judge(source: Source, expectations: Sequence[Expectation]) -> tuple[Evaluated, ...]:
    """Judge expectations of native types on the rows of `source`; see `evaluate`."""
    gaps = _gaps(source, expectations)
    checks = [_translate(each, source.schema, gaps, index) for index, each in enumerate(expectations)]
    measured = _measure(source, [check for check in checks if isinstance(check, Check)])
    outcomes = [check.conclude(measured) if isinstance(check, Check) else check for check in checks]
    wanted = {
        index: check.examples
        for index, (check, outcome) in enumerate(zip(checks, outcomes, strict=True))
        if isinstance(check, Check) and check.examples and outcome.unexpected_count
    }
    for index, found in _fetch(source, measured, wanted).items():
        values, rows = found
        outcomes[index] = replace(outcomes[index], partial_unexpected_list=values, partial_unexpected_index_list=rows)
    return tuple(Evaluated(each, outcome) for each, outcome in zip(expectations, outcomes, strict=True))


def judgeable(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Return `frame` with NaN missing, decimals as floats, and categories as text."""
    changed: list[pl.Expr] = []
    for name, dtype in frame.collect_schema().items():
        if dtype.is_float():
            changed.append(pl.col(name).fill_nan(None))
        elif dtype.is_decimal():
            changed.append(pl.col(name).cast(pl.Float64))
        elif dtype in (pl.Categorical, pl.Enum):
            changed.append(pl.col(name).cast(pl.String))
    return frame.with_columns(changed) if changed else frame


def refuse_foreign(expectations: Sequence[Expectation]) -> None:
    """Refuse types that the native engine does not run.

    Raises:
        FailedPreconditionError: names them, and the types that are covered.
    """
    foreign = sorted({each.type for each in expectations if not each.is_native})
    if foreign:
        raise FailedPreconditionError(
            f"The native engine does not run {', '.join(foreign)}.",
            hint=f"Leave these out of the suite, or pass engine='gx'. Covered types: {', '.join(NATIVE)}.",
            details={"unsupported": foreign, "supported": list(NATIVE)},
        )


_MAX_BYTES_HELD: Final = 512 << 20
_THREADS: Final = 2
_TEXT_BYTES: Final = 32  # a guess: a view and a short text
_COLUMN_ARGUMENTS: Final = ("column", "column_A", "column_B", "column_list")


def _columns_of(expectations: Sequence[Expectation], schema: pl.Schema) -> list[str]:
    """Return the table's columns that the expectations look at, those of row conditions included."""
    named: set[str] = set()
    for each in expectations:
        named.update(_named(each))
        condition = each.arguments.get("row_condition")
        named.update(columns_of(condition) if condition is not None else ())
    return [name for name in schema if name in named]


def _named(expectation: Expectation) -> list[str]:
    given = [expectation.arguments.get(argument) for argument in _COLUMN_ARGUMENTS]
    return [name for value in given for name in ([value] if isinstance(value, str) else value or ())]


def _row_bytes(columns: Sequence[str], schema: pl.Schema) -> int:
    return sum(8 if schema[name].is_numeric() or schema[name].is_temporal() else _TEXT_BYTES for name in columns)


def _gaps(source: Source, expectations: Sequence[Expectation]) -> frozenset[str]:
    """Return the columns that pandas would hold as another type, as values are missing.

    Whole numbers and flags with a missing value are such, and text without any value.
    """
    asked = {each.arguments["column"] for each in expectations if each.type in SEES_GAPS}
    if not source.n_rows:
        return frozenset()
    missing = source.missing(
        [
            name
            for name, dtype in source.schema.items()
            if name in asked and (dtype.is_integer() or dtype in (pl.Boolean, pl.String))
        ]
    )
    return frozenset(
        name
        for name, count in missing.items()
        if count == source.n_rows or (count and source.schema[name] != pl.String)
    )


def _translate(expectation: Expectation, schema: pl.Schema, gaps: frozenset[str], index: int) -> Check | Outcome:
    kind = NATIVE[expectation.type]
    try:
        domain = Domain.of(expectation.arguments.get("row_condition"), schema, gaps)
        return _TRANSLATORS[kind.scope](expectation.type, expectation.arguments, domain, index)
    except CannotEvaluateError as reason:
        return Outcome(success=False, message=str(reason))


def _measure(source: Source, checks: Sequence[Check]) -> dict[str, Any]:
    """Take every measure once, then those that follow from them."""
    measured: dict[str, Any] = {}
    wanted = {key: each for check in checks for key, each in check.measures.items()}
    _take(source, wanted, measured)
    further = {key: each for check in checks if check.then for key, each in check.then(measured).items()}
    _take(source, further, measured)
    return measured


def _take(source: Source, wanted: Mapping[str, Measure], measured: dict[str, Any]) -> None:
    scanned = {key: each for key, each in wanted.items() if isinstance(each, pl.Expr)}
    figures = {key: each for key, each in wanted.items() if not isinstance(each, pl.Expr)}
    if source.streamed or not figures:  # one after the other: each holds a column
        measured.update(source.scan(scanned))
        for index, (key, figure) in enumerate(figures.items()):
            source.tell(index / len(figures))
            measured[key] = figure.measure(source)
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        scanning = pool.submit(source.scan, scanned)
        found = pool.map(lambda figure: figure.measure(source), figures.values())
        measured.update(zip(figures, found, strict=True))
        measured.update(scanning.result())


def _fetch(
    source: Source, measured: Measured, wanted: Mapping[int, Examples]
) -> dict[int, tuple[tuple[Any, ...], tuple[int, ...]]]:
    """Return, by position, the first unexpected values and their row numbers."""
    found = {index: examples.first(measured, source) for index, examples in wanted.items()}
    queries = {index: each for index, each in found.items() if isinstance(each, pl.LazyFrame)}
    frames = {index: each for index, each in found.items() if isinstance(each, pl.DataFrame)}
    frames.update(zip(queries, source.collect(list(queries.values())), strict=True))
    return {
        index: (_shaped(frame, wanted[index]), tuple(frame[source.row].to_list())) for index, frame in frames.items()
    }


def _shaped(found: pl.DataFrame, examples: Examples) -> tuple[Any, ...]:
    records = list(zip(*(found[column].to_list() for column in examples.columns), strict=True))
    if examples.shape == "value":
        return tuple(plain(record[0]) for record in records)
    if examples.shape == "pair":
        return tuple([plain(value) for value in record] for record in records)
    return tuple(dict(zip(examples.columns, map(plain, record), strict=True)) for record in records)
