"""Paired tests against brute force, and how often they are wrong where nothing differs."""

import numpy as np
import pytest
from scipy.stats import binomtest, chi2, norm

from mcp_server.engine.metrics import METRICS, Floats
from mcp_server.engine.paired_tests import (
    adjusted_for_many,
    compare_outputs,
    delong,
    holm,
    mcnemar_chi_square,
    time_blocks,
)


def two(chance: Floats) -> Floats:
    return np.column_stack([1 - chance, chance])


def brute_force(truth: np.ndarray, a: Floats, b: Floats) -> tuple[float, float]:
    """The difference of two AUCs and its variance by every pair of a positive and a negative row."""
    placements = []
    for scores in (a, b):
        gap = scores[truth == 1][:, None] - scores[truth == 0][None, :]
        placements.append((gap > 0) + 0.5 * (gap == 0))
    by_row = [[kernel.mean(axis=axis) for kernel in placements] for axis in (1, 0)]
    covariances = [np.cov(np.stack(parts)) / len(parts[0]) for parts in by_row]
    total = covariances[0] + covariances[1]
    return float(placements[0].mean() - placements[1].mean()), float(total[0, 0] + total[1, 1] - 2 * total[0, 1])


@pytest.mark.parametrize("decimals", [1, 8])
def test_delong_equals_brute_force_with_and_without_ties(decimals: int) -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 150)
    a, b = (np.round(truth * 0.5 + rng.normal(size=150), decimals) for _ in range(2))
    found = delong(truth, a, b)
    difference, variance = brute_force(truth, a, b)
    assert found is not None
    assert found[0] == pytest.approx(difference)
    assert found[1] ** 2 == pytest.approx(variance)
    assert found[2] == pytest.approx(2 * norm.sf(abs(difference) / variance**0.5))


def test_delong_of_equal_scores_is_one_and_needs_two_rows_of_each_class() -> None:
    truth, scores = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8, 0.2])
    assert delong(truth, scores, scores) == (0.0, 0.0, 1.0)
    assert delong(np.array([0, 0, 0, 1]), scores[:4], scores[:4][::-1]) is None


def test_mcnemar_in_its_two_forms() -> None:
    assert mcnemar_chi_square(40, 20) == pytest.approx(chi2.sf(19**2 / 60, 1))
    assert mcnemar_chi_square(0, 0) == 1.0
    truth = np.zeros(200, dtype=np.int64)
    right, wrong = np.full(200, 0.1), np.full(200, 0.1)
    wrong[:6], right[6:8] = 0.9, 0.9
    few = compare_outputs(METRICS["accuracy"], truth, two(right), two(wrong), 0)
    assert few is not None
    assert (few.test, few.found.verdict) == ("mcnemar exact", "not_distinguishable")
    assert few.found.p_value == pytest.approx(binomtest(6, 8).pvalue)
    wrong[10:60] = 0.9
    many = compare_outputs(METRICS["accuracy"], truth, two(right), two(wrong), 0)
    assert many is not None
    assert (many.test, many.found.verdict) == ("mcnemar chi-square", "better")


def test_holm_by_hand_takes_back_verdicts() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    rng = np.random.default_rng(4)
    chance = rng.uniform(0.05, 0.95, 400)
    truth = (rng.uniform(size=400) < chance).astype(np.int64)
    noisy = np.clip(chance + rng.normal(size=400) * 0.5, 0.01, 0.99)
    one = compare_outputs(METRICS["roc_auc"], truth, two(chance), two(noisy), 0)
    assert one is not None
    assert (one.test, one.found.verdict) == ("delong", "better")
    alone = adjusted_for_many([one])[0]
    assert (alone.p_adjusted, alone.found.verdict) == (one.found.p_value, "better")
    crowd = adjusted_for_many([one] * 10)
    assert crowd[0].p_adjusted == pytest.approx(min(1.0, 10 * one.found.p_value))


@pytest.mark.parametrize(("metric", "most"), [("roc_auc", 0.1), ("accuracy", 0.1), ("brier", 0.1)])
def test_of_equally_good_models_about_one_in_twenty_is_called_different(metric: str, most: float) -> None:
    called, real, rounds = 0, 0, 120
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 2, 200)
        a, b = (1 / (1 + np.exp(-(truth - 0.5 + rng.normal(size=200)))) for _ in range(2))
        worse = 1 / (1 + np.exp(-(0.1 * (truth - 0.5) + rng.normal(size=200))))
        null = compare_outputs(METRICS[metric], truth, two(a), two(b), seed)
        power = compare_outputs(METRICS[metric], truth, two(a), two(worse), seed)
        assert null is not None
        assert power is not None
        called += null.found.verdict != "not_distinguishable"
        real += power.found.verdict == "better"
    assert called / rounds <= most
    assert real / rounds >= 0.8


def test_rows_that_repeat_in_groups_prove_less_than_independent_ones() -> None:
    by_row = by_group = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(40), 10)
        truth = np.zeros(400)
        a, b = (np.repeat(rng.normal(size=40), 10) + 0.1 * rng.normal(size=400) for _ in range(2))
        rows = compare_outputs(METRICS["rmse"], truth, a, b, seed)
        blocks = compare_outputs(METRICS["rmse"], truth, a, b, seed, groups)
        assert rows is not None
        assert blocks is not None
        assert (rows.test, blocks.test) == ("paired bootstrap", "paired block bootstrap")
        by_row += rows.found.verdict != "not_distinguishable"
        by_group += blocks.found.verdict != "not_distinguishable"
    assert by_row >= 20  # rows taken for independent are wrong in a third of the rounds or more
    assert by_group <= 9


def test_blocks_of_time_are_neighbours_and_keep_a_moment_together() -> None:
    blocks = time_blocks(np.arange(1000)[::-1])
    assert len(np.unique(blocks)) == 100
    assert blocks[0] == 99
    assert len(np.unique(time_blocks(np.repeat([1, 2], 50)))) == 2
