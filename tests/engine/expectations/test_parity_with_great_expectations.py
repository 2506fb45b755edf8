"""The native engine against Great Expectations itself, on random tables and random suites of every type.

What is left out, each for its reason:

- texts as bounds, and dates against bounds or in order: Great Expectations refuses them, the native engine judges them;
- sets and most common values of times: it compares their text, the native engine the times they mean;
- order, quantiles and type lists of flags: pandas subtracts them by exclusive or, or refuses;
- `column_index` 0, which it takes for none; a z-score without `double_sided`, which it does not default;
- a column paired with itself, which it shows twice.
"""

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_server.engine.expectations.checks import Outcome
from mcp_server.engine.expectations.evaluation import evaluate
from mcp_server.engine.expectations.great_expectations_run import judge
from mcp_server.engine.expectations.suite import parse_expectations, parse_suite
from tests.engine.expectations.random_suites import random_frame, random_suite

pytest.importorskip("great_expectations")
pytestmark = pytest.mark.filterwarnings("ignore")
_SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module")
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Great Expectations writes the beginnings of a site for each context."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("gx")))
        yield


_NOTHING_TO_COMPARE = "Invalid comparison between dtype=str and ndarray"


def _same(native: Outcome, theirs: Outcome) -> None:
    """Compare all that both give; the native engine also names what a set lacks."""
    if theirs.message == _NOTHING_TO_COMPARE and native.element_count == native.missing_count:
        return  # pandas cannot compare text with a column that has no value at all; there is nothing to judge
    if theirs.message:
        assert not native.success, theirs.message
        return
    details = {key: value for key, value in native.details.items() if key != "partial_missing_list"}
    assert replace(native, message="", details=details) == replace(theirs, message="", details=theirs.details)


def _compare(seed: int, n_expectations: int) -> None:
    chance = Random(seed)
    frame = random_frame(chance)
    suite = random_suite(chance, frame, n_expectations)
    _, ours = evaluate(frame.lazy(), parse_expectations(suite))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = judge(frame.lazy(), suite)
    for document, native, other in zip(suite, ours, theirs, strict=True):
        try:
            _same(native.outcome, other)
        except AssertionError as difference:
            raise AssertionError(f"{document} on\n{frame}") from difference


def test_random_suites_give_the_same_results_as_great_expectations():
    for seed in range(8):
        _compare(seed, 25)
    _compare(206, 12)  # a table without rows, whose text columns are asked for their type


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=_SEEDS)
def test_hundreds_of_random_tables_give_the_same_results_as_great_expectations(seed: int):
    _compare(seed, 12)


def _condition_rows(condition: Any) -> tuple[int | None, int | None]:
    """Return how many rows a condition leaves, here and by Great Expectations' own reading of it."""
    import great_expectations as gx

    frame = random_frame(Random(11), most_rows=40)
    [count] = evaluate(
        frame.lazy(),
        parse_expectations(
            [{"type": "expect_table_row_count_to_equal", "kwargs": {"value": 0, "row_condition": condition}}]
        ),
    )[1]
    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("frame").add_dataframe_asset("frame")
    batch = asset.add_batch_definition_whole_dataframe("frame").get_batch({"dataframe": frame.to_pandas()})
    expectation = gx.expectations.ExpectTableRowCountToEqual(
        value=0, row_condition=condition, condition_parser="great_expectations"
    )
    return count.outcome.observed_value, batch.validate(expectation).result["observed_value"]


@pytest.mark.parametrize(
    "condition",
    [
        'col("whole") > 0',
        'col("gappy") != 1',
        'col("code") == "apple"',
        'col("code") != "apple"',
        'col("gappy").notNull()',
    ],
)
def test_row_conditions_leave_the_rows_that_great_expectations_leaves(condition: str):
    native, theirs = _condition_rows(condition)

    assert native == theirs


def _exported(chance: Random) -> dict[str, Any]:
    """Return a random suite as Great Expectations writes it."""
    import great_expectations as gx
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    frame = random_frame(chance)
    members = [
        ExpectationConfiguration(**each, meta={"owner": "ana"}, notes="why", description="what").to_domain_obj()
        for each in random_suite(chance, frame, 20)
    ]
    suite = gx.ExpectationSuite(name="games", expectations=members, meta={"k": 1}, notes=["a", "b"])
    gx.get_context(mode="ephemeral").suites.add(suite)  # gives it and its expectations ids
    suite.render()
    exported: dict[str, Any] = json.loads(json.dumps(suite.to_json_dict()))
    return exported


def test_suites_of_great_expectations_come_back_as_they_were():
    for seed in range(10):
        exported = _exported(Random(seed))

        assert "rendered_content" in exported["expectations"][0]
        assert parse_suite(exported).to_document() == exported


def test_suites_of_ours_are_read_by_great_expectations():
    import great_expectations as gx

    chance = Random(5)
    ours = parse_suite({"name": "games", "expectations": random_suite(chance, random_frame(chance), 40)}).to_document()

    suite = gx.ExpectationSuite(**ours)

    assert [each["type"] for each in suite.to_json_dict()["expectations"]] == [
        each["type"] for each in ours["expectations"]
    ]
