"""Runs expectations with Great Expectations itself: its pandas engine, in a child process that can be killed.

The only importer of `great_expectations`. It is never imported by the server: `run` is called through
`runtime.child.run_in_child`, as its import takes seconds and its expectations run callers' patterns unguarded.

The frame is what `pandas.read_csv` would have made of the same values, so that results equal those of the same suite
run on the CSV file:

- whole numbers are int64, with gaps float64; other numbers float64, a gap is NaN;
- flags are bool, with gaps objects; texts are pandas' `str`; dates are their ISO text;
- times keep their type (read_csv would leave text, whose spelling is not kept); decimals are float64;
- a column without any value is float64.

Row conditions are read by our own grammar and applied before: Great Expectations would hand them to
`DataFrame.query`, which evaluates code.
"""

import contextlib
import json
import logging
import math
import os
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, Final

import polars as pl

from mcp_server.engine.expectations.checks import MAX_EXAMPLES, Outcome
from mcp_server.engine.expectations.conditions import parse_condition
from mcp_server.engine.expectations.evaluation import judgeable
from mcp_server.engine.expectations.literals import CannotEvaluateError, condition_expression, unused_name
from mcp_server.errors import InvalidArgumentError

_CONDITION: Final = ("row_condition", "condition_parser")
_COLUMN_ARGUMENTS: Final = ("column", "column_A", "column_B", "column_list")
_RESULT_FORMAT: Final = {"result_format": "SUMMARY", "partial_unexpected_count": MAX_EXAMPLES}
# Of two in one suite on one column, Great Expectations 1.24 gives the second the figures of the first.
_ALONE: Final = {"expect_column_quantile_values_to_be_between", "expect_column_kl_divergence_to_be_less_than"}
_LONGEST_MESSAGE: Final = 300
_FRESH_SETTINGS: Final = {"GX_ANALYTICS_ENABLED": "false", "GX_CLOUD_MODE": "false"}

Document = Mapping[str, Any]


def run(arguments: dict[str, Any]) -> dict[str, Any]:
    """Judge a Parquet file; called in a child process.

    Args:
        arguments: `path` of the file, `expectations` as `[{"type", "kwargs"}]`, and `temporary`, a folder for the
            files that Great Expectations writes; the caller removes it.

    Returns:
        `{"rows": number of rows, "outcomes": [the fields of Outcome, in the order of the expectations]}`.
    """
    os.environ.update(_FRESH_SETTINGS)
    tempfile.tempdir = arguments["temporary"]
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(sys.stderr):
        outcomes = judge(pl.scan_parquet(Path(arguments["path"])), arguments["expectations"])
    rows = pl.scan_parquet(Path(arguments["path"])).select(pl.len()).collect().item()
    return {"rows": rows, "outcomes": [asdict(outcome) for outcome in outcomes]}


def judge(frame: pl.LazyFrame, documents: Sequence[Document]) -> list[Outcome]:
    """Return the outcome of each expectation; one that Great Expectations cannot run fails with its message.

    Args:
        frame: any number of rows, held in memory as pandas holds them.
        documents: `{"type", "kwargs"}` each.
    """
    table = judgeable(frame)
    outcomes: dict[int, Outcome] = {}
    for condition, places in _by_condition(documents).items():
        try:
            held = _pandas_frame(table, json.loads(condition), [documents[place] for place in places])
        except (CannotEvaluateError, InvalidArgumentError) as reason:
            outcomes |= {place: Outcome(success=False, message=str(reason)) for place in places}
            continue
        found = _validated(held, [documents[place] for place in places])
        outcomes |= dict(zip(places, found, strict=True))
    return [outcomes[place] for place in range(len(documents))]


def _by_condition(documents: Sequence[Document]) -> dict[str, list[int]]:
    """Group expectations by row condition: each group is one frame."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for place, document in enumerate(documents):
        groups[json.dumps(document["kwargs"].get("row_condition"), sort_keys=True)].append(place)
    return dict(groups)


def _pandas_frame(table: pl.LazyFrame, condition: Any, documents: Sequence[Document]) -> Any:
    """Return the rows that a condition lets through, under the row numbers they have in the whole table."""
    import pandas as pd

    schema = table.collect_schema()
    names = _needed(schema.names(), documents)
    row = unused_name("row", schema)
    chosen = table.with_row_index(row)
    if condition is not None:
        chosen = chosen.filter(condition_expression(parse_condition(condition), schema))
    # Types follow from the whole column, as they do where pandas reads it before the condition is applied.
    found = table.select(pl.len().alias(row), pl.col(names).null_count()).collect().row(0, named=True)
    held = chosen.select(row, *names).collect(engine="streaming")
    columns = {name: _pandas_column(held[name], gaps=found[name], rows=found[row]) for name in names}
    return pd.DataFrame(columns, index=pd.Index(held[row].to_numpy().astype("int64")), columns=names)


def _needed(names: Sequence[str], documents: Sequence[Document]) -> list[str]:
    """Return the columns that expectations name; all where one of them names none, as it is about the table."""
    wanted: set[str] = set()
    for document in documents:
        given = [document["kwargs"].get(argument) for argument in _COLUMN_ARGUMENTS]
        if document["type"].startswith(("expect_table_", "expect_column_to_exist")) or not any(given):
            return list(names)
        for value in given:
            wanted.update(value if isinstance(value, list) else [value])
    return [name for name in names if name in wanted]


def _pandas_column(values: pl.Series, *, gaps: int, rows: int) -> Any:
    """Return values as pandas holds those of a whole column of `rows`, `gaps` of which are missing."""
    import numpy as np
    import pandas as pd

    dtype = values.dtype
    has_gaps, has_values = gaps > 0, gaps < rows or not rows
    if dtype == pl.Null or (dtype == pl.String and not has_values):
        return np.full(len(values), np.nan)
    if dtype == pl.Date:
        values, dtype = values.dt.to_string("iso"), pl.String()
    if dtype == pl.String:
        return pd.array(values.to_list(), dtype="str")
    if dtype == pl.Boolean and has_gaps:
        return np.array([math.nan if value is None else value for value in values.to_list()], dtype=object)
    if dtype.is_integer() and has_gaps:
        values = values.cast(pl.Float64)
    if dtype.is_nested() or dtype == pl.Binary:
        return pd.Series(values.to_list(), dtype=object).to_numpy()
    return values.to_pandas().to_numpy() if not isinstance(dtype, pl.Datetime) else values.to_pandas().array


def _validated(frame: Any, documents: Sequence[Document]) -> list[Outcome]:
    from great_expectations import get_context
    from great_expectations.core.expectation_suite import ExpectationSuite
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    context = get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("frame").add_dataframe_asset("frame")
    batch = asset.add_batch_definition_whole_dataframe("frame").get_batch({"dataframe": frame})
    outcomes: dict[int, Outcome] = {}
    configurations: list[Any] = []
    for place, document in enumerate(documents):
        kwargs = {name: value for name, value in document["kwargs"].items() if name not in _CONDITION}
        configuration = ExpectationConfiguration(type=document["type"], kwargs=kwargs, meta={"place": place})
        if _points_outside(kwargs):
            message = "A JSON schema may refer only to itself: $ref must start with #."
            outcomes[place] = Outcome(success=False, message=message)
            continue
        try:
            configurations.append(configuration.to_domain_obj())
        except Exception as refusal:  # noqa: BLE001  # why: whatever it refuses is that expectation's own result
            outcomes[place] = Outcome(success=False, message=_message(str(refusal)))
    together = [each for each in configurations if each.expectation_type not in _ALONE]
    suites = [together, *([each] for each in configurations if each.expectation_type in _ALONE)]
    for members in suites:
        suite = ExpectationSuite(name="suite", expectations=members)
        for result in batch.validate(suite, result_format=_RESULT_FORMAT).results:
            found: Any = result.to_json_dict()
            outcomes[found["expectation_config"]["meta"]["place"]] = _outcome(found)
    return [outcomes[place] for place in range(len(documents))]


def _points_outside(value: Any) -> bool:
    """True where a JSON schema would be fetched from elsewhere: no network is used on a caller's word."""
    if isinstance(value, Mapping):
        target = value.get("$ref", value.get("$dynamicRef", "#"))
        return not str(target).startswith("#") or any(_points_outside(each) for each in value.values())
    return isinstance(value, list) and any(_points_outside(each) for each in value)


def _outcome(result: Mapping[str, Any]) -> Outcome:
    """Bring Great Expectations' result to ours."""
    raised = next(_raised(result.get("exception_info") or {}), None)
    if raised is not None:
        return Outcome(success=False, message=_message(raised))
    found = {name: _plain(value) for name, value in (result.get("result") or {}).items()}
    if result["expectation_config"]["type"] == "expect_column_values_to_not_be_null":
        # It writes a missing time as text.
        found["partial_unexpected_list"] = [None for _ in found.get("partial_unexpected_list") or ()]
    details = found.get("details")
    return Outcome(
        success=bool(result["success"]),
        element_count=found.get("element_count"),
        unexpected_count=found.get("unexpected_count"),
        unexpected_percent=found.get("unexpected_percent"),
        unexpected_percent_total=found.get("unexpected_percent_total"),
        missing_count=found.get("missing_count"),
        missing_percent=found.get("missing_percent"),
        observed_value=found.get("observed_value"),
        partial_unexpected_list=_listed(found.get("partial_unexpected_list")),
        partial_unexpected_index_list=_listed(found.get("partial_unexpected_index_list")),
        details=details if isinstance(details, dict) else {},
    )


def _listed(values: Any) -> tuple[Any, ...] | None:
    return tuple(values[:MAX_EXAMPLES]) if isinstance(values, list) else None


def _raised(info: Mapping[str, Any]) -> Iterator[str]:
    """Yield the messages of exceptions; Great Expectations gives one, or one for each metric."""
    for each in [info, *(value for value in info.values() if isinstance(value, Mapping))]:
        if each.get("raised_exception"):
            yield str(each.get("exception_message") or "Great Expectations could not judge this.")


def _message(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = " ".join(lines[:3]).removeprefix("Error: ") or "Great Expectations could not judge this."
    return said if len(said) <= _LONGEST_MESSAGE else said[: _LONGEST_MESSAGE - 1] + "…"


def _plain(value: Any) -> Any:
    """Return a JSON value without NaN and infinities."""
    if isinstance(value, float):  # NumPy's are too
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int):
        return value
    return value.isoformat() if isinstance(value, date) else str(value)
