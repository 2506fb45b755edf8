"""What a training result has to admit: that features say nothing, or that a figure looks better than it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from mcp_server.results.training import BaselineScore

SAYS_NOTHING = "As far as these rows tell, the features say nothing about the target."
MISLEADING = 0.8  # from this share of the largest class on, accuracy says little
_SIMPLEST = ("majority", "mean")
_CHANCE = {"binary": ("roc_auc", 0.5), "multiclass": ("roc_auc", 0.5), "regression": ("r2", 0.0)}
# Metrics in which no forecast without knowledge beats the simplest one: calling every row positive has a good f1.
_TELLING = frozenset({"log_loss", "brier", "accuracy", "balanced_accuracy", "mcc", "roc_auc", "rmse", "mae", "r2"})
_TO_99 = 1.3142  # how much wider a normal interval of 99 % is than one of 95 %


def is_noise(task: str, scores: Mapping[str, Any], baselines: Sequence[BaselineScore]) -> bool:
    """Return True when nothing on the held-out rows speaks for the features.

    Two things would: a better score than the simplest forecast, in a metric that this forecast cannot lose without
    knowledge; or an order of the rows (values: a share of the variance) better than chance, beyond the 99 % interval.
    Either is looked for, as a model may know something and yet change no answer, where one class is rare.
    """
    simplest = _simplest(baselines)
    if simplest is None or _beats(simplest):
        return False
    return not _beyond_chance(task, scores)


def admissions(
    task: str,
    scores: Mapping[str, Any],
    baselines: Sequence[BaselineScore],
    n_trials: int,
    cv_score: float | None,
) -> list[str]:
    """Return warnings, the gravest first.

    Args:
        task: binary, multiclass or regression.
        scores: of the last fit: `metrics`, `intervals`, `threshold`, `threshold_metric`.
        baselines: beside the model on the held-out rows.
        n_trials: how many were tried.
        cv_score: of the best of them.
    """
    simplest = _simplest(baselines)
    texts = []
    if is_noise(task, scores, baselines) and simplest is not None:
        texts.append(
            f"The model is not better than {simplest.baseline}. {SAYS_NOTHING}{_luck(simplest, n_trials, cv_score)}"
        )
    elif simplest is not None and simplest.comparison.verdict != "better":
        name = _CHANCE[task][0]
        texts.append(
            f"By {simplest.comparison.metric} the model is not shown to be better than {simplest.baseline}, though its "
            f"{name} of {scores['metrics'][name]:.4f} is beyond chance: the features say something about the target."
        )
    largest = largest_share(baselines)
    if task != "regression" and largest is not None and largest >= MISLEADING:
        texts.append(_on_accuracy(task, scores, largest))
        if task == "binary" and not scores["metrics"].get("recall") and scores.get("threshold_metric") is None:
            texts.append(
                f"At the threshold of {scores.get('threshold') or 0.5:g} it finds no row of the second class. With "
                "metric f1, mcc or balanced_accuracy the threshold is chosen for that metric."
            )
    return texts


def headline(task: str, names: Sequence[str], baselines: Sequence[BaselineScore]) -> list[str]:
    """Return the metrics that a summary opens with: where one class is rare, those that see it are among them."""
    largest = largest_share(baselines)
    if task != "binary" or largest is None or largest < MISLEADING:
        return list(dict.fromkeys(names))
    return list(dict.fromkeys([*names, "average_precision", "f1"]))


def misleads(task: str, baselines: Sequence[BaselineScore]) -> str:
    """Return the sentence for a summary that says when accuracy misleads; empty where it does not."""
    largest = largest_share(baselines)
    if task == "regression" or largest is None or largest < MISLEADING:
        return ""
    return f" Accuracy misleads here: always saying the largest class is right on {largest:.1%} of these rows."


def largest_share(baselines: Sequence[BaselineScore]) -> float | None:
    """Return the share of the held-out rows that always saying the largest class is right on."""
    majority = next((part for part in baselines if part.baseline == "majority"), None)
    return None if majority is None else majority.metrics.get("accuracy")


def _on_accuracy(task: str, scores: Mapping[str, Any], largest: float) -> str:
    judges = ("average_precision", "f1", "mcc") if task == "binary" else ("balanced_accuracy", "f1", "mcc")
    found = [(name, scores["metrics"].get(name)) for name in judges]
    told = ", ".join(f"{name} {value:.4f}" for name, value in found if value is not None)
    return (
        f"Accuracy misleads here: always saying the largest class is right on {largest:.1%} of the held-out rows, the "
        f"model on {scores['metrics']['accuracy']:.1%}. Judge by {told}."
    )


def _simplest(baselines: Sequence[BaselineScore]) -> BaselineScore | None:
    return next((part for part in baselines if part.baseline in _SIMPLEST), None)


def _beats(simplest: BaselineScore) -> bool:
    return simplest.comparison.metric in _TELLING and simplest.comparison.verdict == "better"


def _beyond_chance(task: str, scores: Mapping[str, Any]) -> bool:
    name, chance = _CHANCE[task]
    value, ends = scores["metrics"].get(name), scores["intervals"].get(name)
    return value is not None and ends is not None and value - _TO_99 * (value - ends[0]) > chance


def _luck(simplest: BaselineScore, n_trials: int, cv_score: float | None) -> str:
    if n_trials < 2 or cv_score is None:
        return ""
    return (
        f" The cross-validated {simplest.comparison.metric} of {cv_score:.4f} is the best of {n_trials} trials on the "
        "same folds: what is good in it is luck of the search."
    )
