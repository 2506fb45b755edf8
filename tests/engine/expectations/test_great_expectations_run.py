"""Great Expectations in a child process: what comes back, and what stays behind."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mcp_server.engine.expectations.checks import outcome_of
from mcp_server.errors import ResourceExhaustedError
from mcp_server.runtime.child import run_in_child

pytest.importorskip("great_expectations")
_RUN = "mcp_server.engine.expectations.great_expectations_run:run"
_FORMAT = "expect_column_values_to_match_strftime_format"
_TABLE = pl.DataFrame(
    {
        "n": [1, 2, None],
        "text": ["a", None, "b"],
        "flag": [True, None, False],
        "day": [date(2024, 1, 1), None, date(2024, 1, 3)],
        "moment": [datetime(2024, 1, 1), None, datetime(2024, 1, 3)],
        "payload": ['{"id": 1}', '{"id": "x"}', None],
        "listed": [[1], None, [2]],
    }
)


def _run(path: Path, folder: Path, expectations: list[dict[str, Any]], timeout_s: float = 120) -> dict[str, Any]:
    arguments = {"path": str(path), "expectations": expectations, "temporary": str(folder)}
    answer: dict[str, Any] = run_in_child(_RUN, arguments, memory_bytes=4 << 30, timeout_s=timeout_s)
    return answer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    _TABLE.write_parquet(tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


@pytest.mark.slow
def test_each_expectation_has_an_outcome_of_its_own(path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    folder = tmp_path / "temporary"
    folder.mkdir()
    schema = {"properties": {"id": {"type": "integer"}}}
    elsewhere = {"$ref": "http://127.0.0.1:9/schema.json"}
    json_schema = "expect_column_values_to_match_json_schema"

    answer = _run(
        path,
        folder,
        [
            {"type": "expect_column_values_to_be_of_type", "kwargs": {"column": "n", "type_": "float64"}},
            {"type": json_schema, "kwargs": {"column": "payload", "json_schema": schema}},
            {"type": json_schema, "kwargs": {"column": "payload", "json_schema": elsewhere}},
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "moment"}},
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "absent"}},
            {"type": _FORMAT, "kwargs": {"column": "day", "strftime_format": "%Y-%m-%d"}},
            {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "n", "min_valu": 1}},
            {
                "type": "expect_table_row_count_to_equal",
                "kwargs": {"value": 1, "row_condition": "__import__('os').getpid()", "condition_parser": "pandas"},
            },
            {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 1, "row_condition": 'col("n") > 1'}},
            {"type": "unexpected_rows_expectation", "kwargs": {"unexpected_rows_query": "SELECT 1"}},
        ],
    )  # fmt: skip

    outcomes = [outcome_of(each) for each in answer["outcomes"]]
    kind, held, fetched, missing, absent, formatted, misspelt, code, counted, query = outcomes
    assert answer["rows"] == 3
    assert (kind.success, kind.observed_value) == (True, "float64")
    assert (held.unexpected_count, held.partial_unexpected_list, held.missing_count) == (1, ('{"id": "x"}',), 1)
    assert "refer only to itself" in fetched.message
    assert (missing.unexpected_count, missing.partial_unexpected_list) == (1, (None,))
    assert "absent" in absent.message
    assert formatted.success
    assert "min_valu" in misspelt.message
    assert "row condition" in code.message
    assert (counted.success, counted.observed_value) == (True, 1)
    assert not query.success
    assert query.message
    assert all("Traceback" not in each.message for each in outcomes)
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_it_is_stopped_when_it_takes_too_long(path: Path, tmp_path: Path):
    expectation = {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "text", "regex": "a"}}

    with pytest.raises(ResourceExhaustedError):
        _run(path, tmp_path, [expectation], timeout_s=0.2)
