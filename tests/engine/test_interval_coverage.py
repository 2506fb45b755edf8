"""Do 95 % intervals hold the true value about 95 times in 100? Counted on data whose true scores are known."""

from collections.abc import Callable

import numpy as np
import pytest

from mcp_server.engine.comparison import bootstrap_intervals, paired_bootstrap
from mcp_server.engine.metrics import METRICS, Codes, Floats, Task, Truth, score_all

SEEDS = 200
N_ROWS = 300
N_GROUPS = 40
MANY = 1_000_000
Made = tuple[Truth, Floats, Codes | None]

pytestmark = pytest.mark.slow


def yes_or_no(rng: np.random.Generator, n_rows: int) -> Made:
    """Rows with a known chance, and a forecast that is too sure of itself."""
    signal = rng.normal(size=n_rows)
    truth = (rng.uniform(size=n_rows) < 1 / (1 + np.exp(-signal))).astype(np.int64)
    said = 1 / (1 + np.exp(-1.5 * signal))
    return truth, np.column_stack([1 - said, said]), None


def three_classes(rng: np.random.Generator, n_rows: int) -> Made:
    signal = rng.normal(size=(n_rows, 3))
    truth = (signal + rng.gumbel(size=(n_rows, 3))).argmax(axis=1)
    shares = np.exp(1.5 * signal)
    return truth, shares / shares.sum(axis=1, keepdims=True), None


def values(rng: np.random.Generator, n_rows: int) -> Made:
    signal = rng.normal(size=n_rows)
    return signal + rng.normal(size=n_rows), 0.8 * signal, None


def values_in_groups(rng: np.random.Generator, n_rows: int) -> Made:
    """Rows of one group share a large part of what the forecast does not know."""
    n_groups = max(1, n_rows * N_GROUPS // N_ROWS)
    group = np.arange(n_rows) % n_groups
    signal = rng.normal(size=n_rows)
    truth = signal + rng.normal(size=n_groups)[group] + 0.5 * rng.normal(size=n_rows)
    return truth, signal, group


CASES: list[tuple[Task, Callable[[np.random.Generator, int], Made], tuple[str, ...]]] = [
    ("binary", yes_or_no, ("log_loss", "accuracy", "roc_auc", "brier", "f1", "mcc")),
    ("multiclass", three_classes, ("log_loss", "accuracy", "roc_auc", "balanced_accuracy")),
    ("regression", values, ("rmse", "mae", "r2")),
    ("regression", values_in_groups, ("rmse", "mae")),
]


def coverage(
    task: Task, make: Callable[[np.random.Generator, int], Made], names: tuple[str, ...], *, grouped: bool = True
) -> dict[str, float]:
    """Return, by metric, how often the interval of a small sample holds the value of a very large one."""
    truth, output, _ = make(np.random.default_rng(10_000), MANY)
    true = score_all(task, truth, output)
    held = dict.fromkeys(names, 0)
    for seed in range(SEEDS):
        truth, output, clusters = make(np.random.default_rng(seed), N_ROWS)
        found = bootstrap_intervals(task, truth, output, seed, clusters=clusters if grouped else None)
        for name in names:
            value = true[name]
            assert value is not None
            held[name] += found[name][0] <= value <= found[name][1]
    return {name: count / SEEDS for name, count in held.items()}


@pytest.mark.parametrize(("task", "make", "names"), CASES, ids=[case[1].__name__ for case in CASES])
def test_intervals_of_held_out_scores_hold_the_true_score_about_95_times_in_100(
    task: Task, make: Callable[[np.random.Generator, int], Made], names: tuple[str, ...]
) -> None:
    for name, share in coverage(task, make, names).items():
        assert 0.90 <= share <= 0.99, f"{name}: {share:.1%}"


def test_rows_of_a_group_taken_for_independent_would_give_intervals_that_are_too_narrow() -> None:
    assert coverage("regression", values_in_groups, ("rmse",), grouped=False)["rmse"] < 0.9


def test_two_forecasts_that_are_equally_good_are_told_apart_about_5_times_in_100() -> None:
    metric = METRICS["log_loss"]
    told_apart = 0
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        truth, output, _ = yes_or_no(rng, N_ROWS)
        noise = rng.normal(scale=0.5, size=(2, N_ROWS))
        odds = np.log(output[:, 1] / output[:, 0])
        said = 1 / (1 + np.exp(-(odds + noise)))
        first, second = (np.column_stack([1 - part, part]) for part in said)
        found = paired_bootstrap(metric, truth, first, second, seed)
        assert found is not None
        told_apart += found.verdict != "not_distinguishable"
    assert 0.01 <= told_apart / SEEDS <= 0.10
