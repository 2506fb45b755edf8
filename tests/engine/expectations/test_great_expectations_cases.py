"""The native engine against results that Great Expectations itself gave."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from mcp_server.engine.expectations.evaluation import evaluate
from mcp_server.engine.expectations.suite import parse_expectations

_CASES = [
    "notnull", "null", "between_incl", "between_mostly", "between_allnull_mostly", "between_basic", "inset", "notinset",
    "notregex", "len_between", "unique_str", "dateutil", "stdev", "max", "uniqcount", "distinct_in", "mostcommon",
    "pair_gt", "pair_inset", "within_rec", "rowcount_b", "colset", "type", "incr_strict", "json",
]  # fmt: skip


@pytest.fixture(scope="module")
def truth(shared_data: Path) -> dict[str, Any]:
    path = shared_data / "truth" / "gx_cases.json"
    if not path.is_file():
        pytest.skip("the results of Great Expectations are not here")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _frame(csv: str) -> pl.DataFrame:
    """Read as pandas does, which the reference results come from: integers with gaps become floats."""
    read = pd.read_csv(io.StringIO(csv))
    columns: dict[str, pl.Series] = {}
    for name in read.columns:
        if read[name].dtype.kind in "fib":
            columns[name] = pl.Series(name, read[name].to_numpy())
        else:
            columns[name] = pl.Series(name, [None if pd.isna(value) else value for value in read[name]], pl.String)
    return pl.DataFrame(columns)


def test_every_reference_case_is_run(truth: dict[str, Any]) -> None:
    assert {case["name"] for case in truth["cases"]} <= set(_CASES)


@pytest.mark.parametrize("name", _CASES)
def test_native_result_equals_great_expectations(truth: dict[str, Any], name: str) -> None:
    case = next(each for each in truth["cases"] if each["name"] == name)
    expectations = parse_expectations([{"type": case["type"], "kwargs": case["kwargs"]}])

    _, judged = evaluate(_frame(truth["csv"][case["csv"]]).lazy(), expectations)

    outcome = judged[0].outcome
    found = {
        "success": outcome.success,
        "element_count": outcome.element_count,
        "unexpected_count": outcome.unexpected_count,
        "unexpected_percent": outcome.unexpected_percent,
        "unexpected_percent_nonmissing": outcome.unexpected_percent,
        "unexpected_percent_total": outcome.unexpected_percent_total,
        "missing_count": outcome.missing_count,
        "missing_percent": outcome.missing_percent,
        "observed_value": outcome.observed_value,
        "partial_unexpected_list": list(outcome.partial_unexpected_list or ()),
        "partial_unexpected_index_list": list(outcome.partial_unexpected_index_list or ()),
        "partial_unexpected_counts": outcome.partial_unexpected_counts,
        "details": dict(outcome.details),
    }
    wanted = {"success": case["success"], **case["result"]}
    assert {key: found[key] for key in wanted} == wanted
