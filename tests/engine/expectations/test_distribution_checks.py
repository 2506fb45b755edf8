from math import log
from typing import Any

import polars as pl
import pytest

from mcp_server.engine.expectations.suite import parse_expectations
from mcp_server.errors import InvalidArgumentError
from tests.engine.expectations.running import judge

KIND = "column_kl_divergence_to_be_less_than"
THIRDS = {"values": ["A", "B", "C"], "weights": [1 / 3, 1 / 3, 1 / 3]}
LETTERS = pl.DataFrame({"s": ["A"] * 5 + ["B"] * 3 + ["C"] * 2, "x": [0.5] * 5 + [1.5] * 4 + [9.0]})


def test_divergence_of_the_example_in_great_expectations_own_documentation():
    outcome = judge(LETTERS, KIND, column="s", partition_object=THIRDS, threshold=0.01)

    assert outcome.observed_value == pytest.approx(0.06895927460353621, abs=1e-15)
    assert not outcome.success
    assert outcome.details["observed_partition"] == {"values": ["A", "B", "C"], "weights": [0.5, 0.3, 0.2]}


def test_equal_distributions_have_no_distance():
    partition = {"values": ["A", "B", "C"], "weights": [0.5, 0.3, 0.2]}

    assert judge(LETTERS, KIND, column="s", partition_object=partition, threshold=0).observed_value == 0.0


def test_a_value_that_was_not_expected_is_infinitely_far_unless_held_out():
    partition = {"values": ["A", "B"], "weights": [0.5, 0.5]}

    strict = judge(LETTERS, KIND, column="s", partition_object=partition, threshold=10)
    lenient = judge(LETTERS, KIND, column="s", partition_object=partition, threshold=10, tail_weight_holdout=0.2)

    assert (strict.success, strict.observed_value) == (False, None)
    wanted = 0.5 * log(0.5 / 0.4) + 0.3 * log(0.3 / 0.4) + 0.2 * log(0.2 / 0.2)
    assert lenient.observed_value == pytest.approx(wanted)


def test_ranges_by_hand():  # observed 0.5, 0.4 and 0.1 above; expected 0.45, 0.45 and 0.1 in the tails
    partition = {"bins": [0, 1, 2], "weights": [0.45, 0.45], "tail_weights": [0.0, 0.1]}

    outcome = judge(LETTERS, KIND, column="x", partition_object=partition, threshold=0.1)

    assert outcome.observed_value == pytest.approx(0.5 * log(0.5 / 0.45) + 0.4 * log(0.4 / 0.45))
    assert outcome.details["observed_partition"]["tail_weights"] == [0.0, 0.1]


def test_empty_ranges_share_the_internal_holdout():
    partition = {"bins": [0, 1, 2, 10], "weights": [0.5, 0.5, 0.0]}

    outcome = judge(LETTERS, KIND, column="x", partition_object=partition, threshold=1, internal_weight_holdout=0.1)

    wanted = 0.5 * log(0.5 / 0.45) + 0.4 * log(0.4 / 0.45) + 0.1 * log(0.1 / 0.1)
    assert outcome.observed_value == pytest.approx(wanted)


@pytest.mark.parametrize(
    "partition",
    [
        [],
        {"values": ["A"], "weights": [0.4]},
        {"values": ["A", "B"], "weights": [1.0]},
        {"bins": [0, 1], "weights": [0.5, 0.5]},
        {"bins": [1, 0], "weights": [1.0]},
        {"bins": [0, 1], "values": ["A"], "weights": [1.0]},
        {"values": ["A"], "weights": ["1"]},
    ],
)
def test_a_malformed_distribution_is_refused(partition: object):
    with pytest.raises(InvalidArgumentError, match="partition_object"):
        parse_expectations([{"type": f"expect_{KIND}", "kwargs": {"column": "s", "partition_object": partition}}])


@pytest.mark.parametrize(
    ("partition", "holdout", "expected"),
    [
        ({"bins": ["-Infinity", 1, 2, "Infinity"], "weights": [0.4, 0.5, 0.1]}, 0, [0.4, 0.5, 0.1]),
        ({"bins": ["-Infinity", 1, 2], "weights": [0.5, 0.5]}, 0.2, [0.4, 0.4, 0.2]),
        ({"bins": [1, 2, "Infinity"], "weights": [0.5, 0.5]}, 0.2, [0.2, 0.4, 0.4]),
    ],
)
def test_infinite_bins_are_the_tails(partition: dict[str, Any], holdout: float, expected: list[float]):
    outcome = judge(
        LETTERS, KIND, column="x", partition_object=partition, threshold=10, tail_weight_holdout=holdout
    )  # observed 0.5 below 1, 0.4 up to 2, 0.1 above

    bins = {"bins": [1, 2]}
    assert outcome.details["observed_partition"] == bins | {"weights": [0.4], "tail_weights": [0.5, 0.1]}
    assert outcome.details["expected_partition"] == bins | {
        "weights": [expected[1]],
        "tail_weights": [expected[0], expected[2]],
    }
    terms = [seen * log(seen / wanted) for seen, wanted in zip([0.5, 0.4, 0.1], expected, strict=True)]
    assert outcome.observed_value == pytest.approx(sum(terms))


@pytest.mark.parametrize(
    "partition",
    [
        {"bins": [0, "Infinity", 2], "weights": [0.5, 0.5]},
        {"bins": ["-Infinity", 1], "weights": [0.5], "tail_weights": [0.25, 0.25]},
        {"bins": [0, float("inf")], "weights": [1.0]},
    ],
)
def test_infinite_bins_stand_at_the_ends_and_have_no_further_tails(partition: object):
    with pytest.raises(InvalidArgumentError, match="partition_object"):
        parse_expectations([{"type": f"expect_{KIND}", "kwargs": {"column": "x", "partition_object": partition}}])


def test_a_holdout_without_tails_and_ranges_without_buckets_cannot_be_judged():
    everywhere = {"bins": ["-Infinity", 1, "Infinity"], "weights": [0.5, 0.5]}

    held = judge(LETTERS, KIND, column="x", partition_object=everywhere, threshold=1, tail_weight_holdout=0.1)
    raw = judge(LETTERS, KIND, column="x", partition_object=everywhere, threshold=1, bucketize_data=False)

    assert (held.success, raw.success) == (False, False)
    assert "tails" in held.message
    assert "bucketize_data" in raw.message
