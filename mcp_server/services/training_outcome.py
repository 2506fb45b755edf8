"""What a search came to: the winner, its result in figures and words, and what MLflow is told."""

from collections.abc import Mapping, Sequence
from typing import Any

from mcp_server.engine.metrics import DEFAULT_THRESHOLD, METRICS
from mcp_server.engine.search import Search, best_first, leaderboard
from mcp_server.engine.training import TrainingSpec
from mcp_server.errors import FailedPreconditionError
from mcp_server.results.training import (
    BaselineScore,
    Calibration,
    CalibrationCorrection,
    Comparison,
    InputColumn,
    Interval,
    LeaderboardEntry,
    ModelSignature,
    TrainingResult,
)
from mcp_server.services.training_honesty import SAYS_NOTHING, admissions, headline, is_noise, misleads
from mcp_server.stores.models import UNREGISTERED

_HEADLINE = {
    "binary": ("log_loss", "accuracy", "roc_auc", "brier"),
    "multiclass": ("log_loss", "accuracy", "f1"),
    "regression": ("rmse", "mae", "r2"),
}
_MAX_WARNINGS = 12
_WARNING_LENGTH = 400
_MAX_FEATURES = 200
_TOO_GOOD = 0.995


def choose(plan: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the trial with the best cross-validated score.

    Raises:
        FailedPreconditionError: no trial succeeded; carries the first error.
    """
    ranked = best_first(Search.from_document(plan["search"]), history)
    if ranked:
        return ranked[0]
    failed = [trial for trial in history if trial["error"] and not trial.get("cut")]
    errors = list(dict.fromkeys(f"{trial['estimator']}: {trial['error']}" for trial in failed))
    raise FailedPreconditionError(
        " ".join([f"None of the {len(history)} trials could be fitted.", *errors[:1]]),
        hint="Look at the data with check_training_data, or choose other estimators.",
        details={"errors": errors[:10]},
    )


def make_result(
    plan: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    winner: Mapping[str, Any],
    scores: Mapping[str, Any],
    seconds: float,
) -> TrainingResult:
    """Return the result; its version is filled in by the registry."""
    spec = TrainingSpec.from_document(plan["spec"])
    baselines = [
        BaselineScore(baseline=part["baseline"], metrics=part["metrics"], comparison=Comparison(**part["comparison"]))
        for part in scores["baselines"]
        if part["comparison"] is not None
    ]
    main = baselines[0] if baselines else None
    calibration, correction = scores["calibration"], scores["correction"]
    return TrainingResult(
        summary=_summary(plan, history, winner, scores, baselines),
        model=plan["name"],
        version=UNREGISTERED,
        run_id=None,
        task=spec.task,
        estimator=winner["estimator"],
        params=dict(winner["params"]),
        metric=spec.metric,
        higher_is_better=METRICS[spec.metric].higher_is_better,
        cv_score=winner["score"],
        cv_std=winner["score_std"],
        test_metrics=scores["metrics"],
        test_intervals={name: Interval(low=ends[0], high=ends[1]) for name, ends in scores["intervals"].items()},
        baseline=None if main is None else main.baseline,
        baseline_metrics={} if main is None else main.metrics,
        baseline_comparison=None if main is None else main.comparison,
        baselines=baselines,
        leaderboard=[LeaderboardEntry(**row) for row in leaderboard(Search.from_document(plan["search"]), history)],
        calibration=None if calibration is None else Calibration.model_validate(calibration),
        correction=None if correction is None else CalibrationCorrection.model_validate(correction),
        threshold=scores["threshold"],
        threshold_metric=scores["threshold_metric"],
        features=[column.name for column in spec.inputs_of(winner["estimator"])][:_MAX_FEATURES],
        rows_train=scores["rows_train"],
        rows_test=scores["rows_test"],
        rows_unlabelled=plan["rows_unlabelled"],
        trials=len(history),
        duration_seconds=max(0.0, seconds),
        warnings=_warnings(plan, history, scores, baselines),
        card_uri=None,
    )


def _summary(
    plan: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    winner: Mapping[str, Any],
    scores: Mapping[str, Any],
    baselines: Sequence[BaselineScore],
) -> str:
    spec = plan["spec"]
    names = headline(spec["task"], [spec["metric"], *_HEADLINE[spec["task"]]], baselines)
    figures = ", ".join(
        f"{name} {value:.4f}{_interval(scores, name) if name == spec['metric'] else ''}"
        for name in names
        if (value := scores["metrics"].get(name)) is not None
    )
    verdicts = "; ".join(sentence(part) for part in baselines)
    tried = "the only trial" if len(history) == 1 else f"the best of {len(history)} trials"
    return (
        f"{plan['name']}@{UNREGISTERED} ({spec['task']}): {winner['estimator']}, {tried}, "
        f"has {figures} on {scores['rows_test']:,} held-out rows; it is {verdicts or 'compared with no baseline'}."
        f"{' ' + SAYS_NOTHING if is_noise(spec['task'], scores, baselines) else ''}"
        f"{misleads(spec['task'], baselines)}{_corrected(scores)}"
    )


def _corrected(scores: Mapping[str, Any]) -> str:
    """Return what was done to the probabilities and where the line between two classes is, in words."""
    correction, text = scores["correction"], ""
    if correction is not None and correction["method"] != "none":
        text = (
            f" Its probabilities are corrected ({correction['method']}: log loss {correction['log_loss_before']:.4f} "
            f"to {correction['log_loss_after']:.4f} on training rows kept out of each fit)."
        )
    if scores["threshold"] not in (None, DEFAULT_THRESHOLD):
        text += f" From {scores['threshold']:.3f} on it says the second class, chosen for {scores['threshold_metric']}."
    return text


def _interval(scores: Mapping[str, Any], name: str) -> str:
    ends = scores["intervals"].get(name)
    return "" if ends is None else f" (95 % {ends[0]:.4f} to {ends[1]:.4f})"


def sentence(part: BaselineScore) -> str:
    """Return the verdict against one baseline in words."""
    found = part.comparison
    verdict = {
        "better": f"better than {part.baseline}",
        "worse": f"worse than {part.baseline}",
        "not_distinguishable": f"not distinguishable from {part.baseline}",
    }[found.verdict]
    return (
        f"{verdict} ({found.metric} difference {found.difference:+.4f}, 95 % {found.ci_low:+.4f} to "
        f"{found.ci_high:+.4f}, p {found.p_value:.3f})"
    )


def _warnings(
    plan: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Any],
    baselines: Sequence[BaselineScore],
) -> list[str]:
    task, best = plan["spec"]["task"], choose(plan, history)
    texts = admissions(task, scores, baselines, len(history), best["score"])
    texts += _suspicions(plan, scores)
    texts += plan["warnings"]
    n_cut = sum(bool(trial.get("cut")) for trial in history)
    if plan["time_budget_seconds"] is not None and (n_cut or len(history) < plan["n_trials"]):
        stopped = f", of which it stopped {n_cut}" if n_cut else ""
        texts.append(
            f"The time budget of {plan['time_budget_seconds']:g} s ended the search after {len(history)} of "
            f"{plan['n_trials']} trials{stopped}."
        )
    texts += [
        f"The time budget of {plan['time_budget_seconds']:g} s ended before {trial['estimator']} did (trial "
        f"{trial['number'] + 1}); it was let finish, so that there is a model."
        for trial in history
        if trial.get("late")
    ]
    n_pruned = sum(bool(trial.get("pruned")) for trial in history)
    if n_pruned:
        texts.append(f"{n_pruned} trials were pruned after some folds, worse than the median of the others.")
    failed = [trial for trial in history if trial["score"] is None and not (trial.get("cut") or trial.get("pruned"))]
    if failed:
        texts.append(f"{len(failed)} trials failed; the first, {failed[0]['estimator']}: {failed[0]['error']}")
    texts += scores["notes"]
    return [text[:_WARNING_LENGTH] for text in dict.fromkeys(texts)][:_MAX_WARNINGS]


def _suspicions(plan: Mapping[str, Any], scores: Mapping[str, Any]) -> list[str]:
    """Return a warning where the held-out scores are too good to be believed without a look."""
    name = "r2" if plan["spec"]["task"] == "regression" else "roc_auc"
    value = scores["metrics"].get(name)
    if value is None or value < _TOO_GOOD:
        return []
    top = ", ".join(repr(part["feature"]) for part in scores["importances"][:3] if part["value"] > 0)
    return [
        f"Held-out {name} is {value:.4f}, nearly perfect: make sure that {top or 'the features'} are known before "
        "the outcome is."
    ]


def make_signature(plan: Mapping[str, Any], winner: Mapping[str, Any], scores: Mapping[str, Any]) -> ModelSignature:
    """Return what the winner takes and gives."""
    spec = TrainingSpec.from_document(plan["spec"])
    columns = [
        InputColumn(**{name: getattr(column, name) for name in InputColumn.model_fields})
        for column in spec.inputs_of(winner["estimator"])
    ]
    return ModelSignature(
        inputs=columns, target=spec.target, task=spec.task, classes=spec.classes, threshold=scores["threshold"] or 0.5
    )


def params_to_log(plan: Mapping[str, Any], winner: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe and the winner's parameters, flat, for MLflow."""
    recipe = {name: value for name, value in plan["recipe"].items() if value is not None}
    return recipe | {"estimator": winner["estimator"]} | {f"param.{k}": v for k, v in winner["params"].items()}


def metrics_to_log(
    plan: Mapping[str, Any], winner: Mapping[str, Any], scores: Mapping[str, Any]
) -> dict[str, float | None]:
    """Return held-out, cross-validated and baseline metrics for MLflow."""
    metrics: dict[str, float | None] = {f"test_{name}": value for name, value in scores["metrics"].items()}
    metrics[f"cv_{plan['spec']['metric']}"] = winner["score"]
    for part in scores["baselines"]:
        metrics |= {f"baseline_{part['baseline']}_{name}": value for name, value in part["metrics"].items()}
    return metrics


def series_to_log(plan: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Return the score of every trial and the best so far, one value a trial."""
    higher = plan["search"]["higher_is_better"]
    best: list[float | None] = []
    for trial in history:
        seen = [value for value in (best[-1] if best else None, trial["score"]) if value is not None]
        best.append((max(seen) if higher else min(seen)) if seen else None)
    return {"trial_score": [trial["score"] for trial in history], "best_score": best}
