"""Where the line between two classes is drawn."""

import numpy as np
import pytest

from mcp_server.engine.metrics import METRICS, Codes, Floats, confusion_counts, decided, labels, score
from mcp_server.engine.thresholds import choose_threshold, chooses_threshold, chosen_by


def rare(seed: int, n_rows: int = 6000) -> tuple[Codes, Floats]:
    """One row in 200 is positive; the probabilities are the true ones, and seldom reach one half."""
    rng = np.random.default_rng(seed)
    truth = (rng.uniform(size=n_rows) < 0.005).astype(np.int64)
    signal = rng.normal(size=n_rows) + 2 * truth
    odds = 0.005 / 0.995 * np.exp(2 * signal - 2)
    said = odds / (1 + odds)
    return truth, np.column_stack([1 - said, said])


def at(metric: str, truth: Codes, output: Floats, threshold: float) -> float:
    return score(METRICS[metric], truth, decided(METRICS[metric], output, threshold)) or 0.0


@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy", "mcc"])
def test_no_other_line_scores_better_on_the_rows_it_was_chosen_on(metric: str) -> None:
    truth, output = rare(1)
    chosen = choose_threshold(METRICS[metric], truth, output)
    best = max(at(metric, truth, output, float(line)) for line in np.unique(output[:, 1]))
    assert at(metric, truth, output, chosen) == pytest.approx(best)
    assert best > at(metric, truth, output, 0.5)


def test_a_line_chosen_for_f1_finds_a_rare_class_in_rows_it_has_not_seen() -> None:
    truth, output = rare(1)
    chosen = choose_threshold(METRICS["f1"], truth, output)
    scores = [at("f1", *rare(seed), chosen) for seed in range(10, 20)]
    assert np.mean(scores) > 1.5 * np.mean([at("f1", *rare(seed), 0.5) for seed in range(10, 20)])


@pytest.mark.parametrize("metric", ["recall", "precision"])
def test_recall_and_precision_alone_do_not_call_everything_or_nothing_positive(metric: str) -> None:
    truth, output = rare(1)
    assert chosen_by(METRICS[metric]).name == "f1"
    said = labels(output, choose_threshold(METRICS[metric], truth, output))
    assert 0 < said.mean() < 0.1


def test_one_half_stays_where_another_line_is_better_by_chance_only() -> None:
    kept = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        said = rng.uniform(size=500)
        truth = (rng.uniform(size=500) < said).astype(np.int64)
        kept += choose_threshold(METRICS["accuracy"], truth, np.column_stack([1 - said, said])) == 0.5
    assert kept >= 20


def test_one_half_stays_where_nothing_divides_the_rows() -> None:
    output = np.tile([0.7, 0.3], (100, 1))
    assert choose_threshold(METRICS["accuracy"], np.repeat([0, 0, 0, 1], 25), output) == 0.5


@pytest.mark.parametrize(
    ("metric", "n_classes", "chooses"), [("f1", 2, True), ("f1", 3, False), ("log_loss", 2, False)]
)
def test_only_classes_of_two_have_a_line(metric: str, n_classes: int, chooses: bool) -> None:
    assert chooses_threshold(METRICS[metric], n_classes) is chooses


def test_the_confusion_counts_what_the_line_says() -> None:
    output = np.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    assert confusion_counts(np.array([0, 1, 1]), output) == [[1, 0], [1, 1]]
    assert confusion_counts(np.array([0, 1, 1]), output, 0.3) == [[1, 0], [0, 2]]
