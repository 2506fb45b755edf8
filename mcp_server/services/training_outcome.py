"""What a search came to: the winner, its result in figures and words, its card, and what MLflow is told."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mcp_server.engine.metrics import DEFAULT_THRESHOLD, METRICS
from mcp_server.engine.plots import bar_chart, calibration_curve, heatmap, roc_curve, series_chart
from mcp_server.engine.reports import Report, Section, Table, main_image, to_html, to_markdown
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
from mcp_server.stores.models import UNREGISTERED, ModelCard

_HEADLINE = {
    "binary": ("log_loss", "accuracy", "roc_auc", "brier"),
    "multiclass": ("log_loss", "accuracy", "f1"),
    "regression": ("rmse", "mae", "r2"),
}
_MAX_WARNINGS = 12
_WARNING_LENGTH = 400
_MAX_FEATURES = 200
_IMPORTANCES = 20
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


def make_card(plan: Mapping[str, Any], result: TrainingResult, scores: Mapping[str, Any], held_out: Path) -> Report:
    """Return the model card: what, data, metrics with intervals, plots, limits, how to reproduce."""
    name = f"{plan['name']}@{UNREGISTERED}"
    sections = [
        Section("What it is", _what(plan, result)),
        _metrics_section(result),
        *_plot_sections(plan, scores, pl.read_parquet(held_out)),
        _search_section(plan, result),
        Section("Limits", _limits(plan, result)),
        Section("How to reproduce", _reproduce(plan)),
    ]
    return Report(f"Model card: {name}", result.summary, sections)


def render_card(report: Report) -> ModelCard:
    """Return the card as text, page and picture."""
    plots = {part.heading: part.image_png for part in report.sections if part.image_png is not None}
    return ModelCard(markdown=to_markdown(report), html=to_html(report), image_png=main_image(report), plots=plots)


def numbered(report: Report, version: str) -> Report:
    """Return the card with the version that the registry gave."""
    title, summary = (text.replace(UNREGISTERED, version) for text in (report.title, report.summary))
    return replace(report, title=title, summary=summary)


def _what(plan: Mapping[str, Any], result: TrainingResult) -> str:
    lineage = plan["lineage"]
    return (
        f"A {result.task} model of `{plan['spec']['target']}`: {result.estimator} with "
        f"{len(result.features)} features, trained on {result.rows_train} rows of dataset "
        f"`{plan['dataset']}` (content {lineage['dataset_hash'][:12]}) and scored on {result.rows_test} rows that "
        "no fit and no choice has seen."
    )


def _metrics_section(result: TrainingResult) -> Section:
    rows = []
    for name, value in result.test_metrics.items():
        interval = result.test_intervals.get(name)
        others = [part.metrics.get(name) for part in result.baselines]
        rows.append([name, value, interval and interval.low, interval and interval.high, *others])
    columns = ["metric", "held out", "95 % from", "to", *(part.baseline for part in result.baselines)]
    text = "\n".join(f"- {sentence(part)}" for part in result.baselines)
    return Section("Scores", text, Table(columns, rows, "Intervals are percentiles of 1,000 bootstrap samples."))


def _plot_sections(plan: Mapping[str, Any], scores: Mapping[str, Any], held_out: pl.DataFrame) -> list[Section]:
    task, truth = plan["spec"]["task"], held_out["truth"].to_numpy()
    sections = []
    if task == "binary":
        series = {
            column.removesuffix(":1"): held_out[column].to_numpy()
            for column in held_out.columns
            if column.endswith(":1")
        }
        sections.append(Section("ROC curve", image_png=roc_curve(truth, series)))
        sections.append(Section("Calibration", image_png=calibration_curve(truth, {"model": series["model"]})))
    elif task == "regression":
        sections.append(_residuals(truth, held_out["model:value"].to_numpy()))
    else:
        sections.append(_confusion(plan, truth, held_out))
    top = scores["importances"][:_IMPORTANCES]
    names, values = [part["feature"] for part in top], [part["value"] for part in top]
    chart = bar_chart(
        names, values, title="What the model looks at", value_label=f"loss of {plan['spec']['metric']} when shuffled"
    )
    sections.append(Section("Importance", "Each feature shuffled in the held-out rows.", image_png=chart))
    return sections


def _residuals(truth: Any, predicted: Any) -> Section:
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, 11)))
    place = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, max(len(edges) - 2, 0))
    groups = np.unique(place)
    means = {
        "predicted": [float(predicted[place == k].mean()) for k in groups],
        "observed": [float(truth[place == k].mean()) for k in groups],
    }
    chart = series_chart([str(k + 1) for k in groups], means, title="Predicted and observed, by tenth of the forecast")
    return Section("Residuals", image_png=chart)


def _confusion(plan: Mapping[str, Any], truth: Any, held_out: pl.DataFrame) -> Section:
    labels = [str(label) for label in plan["spec"]["classes"]]
    output = held_out.select(f"model:{k}" for k in range(len(labels))).to_numpy()
    counts = np.zeros((len(labels), len(labels)))
    np.add.at(counts, (truth.astype(int), output.argmax(axis=1)), 1)
    return Section(
        "Confusion", "Rows are true classes.", image_png=heatmap(counts, labels, labels, title="True and predicted")
    )


def _search_section(plan: Mapping[str, Any], result: TrainingResult) -> Section:
    rows = [[row.estimator, row.score, row.trials, row.failed] for row in result.leaderboard]
    text = (
        f"{result.trials} trials ({plan['search']['method']} search), each scored by {plan['spec']['cv']} folds inside "
        f"the training part. The winner's {result.metric} was {result.cv_score:.4f} ± {result.cv_std:.4f}; its "
        f"parameters: `{result.params}`."
    )
    return Section("Search", text, Table(["estimator", f"best {result.metric}", "trials", "failed"], rows))


def _limits(plan: Mapping[str, Any], result: TrainingResult) -> str:
    points = [
        "It knows the rows it was trained on: watch drift, and score it again when outcomes arrive.",
        "Intervals say how much the held-out rows could mislead, not how much the future will differ.",
        *result.warnings,
    ]
    return "\n".join(f"- {point}" for point in points)


def _reproduce(plan: Mapping[str, Any]) -> str:
    lineage = plan["lineage"]
    names = ", ".join(f"{name} {number}" for name, number in lineage["libraries"].items())
    shown = _features(plan)
    return (
        f"`train_model` with the recipe that `describe_model` shows, on dataset `{plan['dataset']}`, seed "
        f"{plan['spec']['seed']}; code {lineage['code_version']}, {names}.\n\nFeatures: {shown}."
    )


def _features(plan: Mapping[str, Any]) -> str:
    """Return the features in one line, cut where there are many."""
    names = plan["spec"]["features"]
    more = f" and {len(names) - _MAX_FEATURES} more" if len(names) > _MAX_FEATURES else ""
    return ", ".join(names[:_MAX_FEATURES]) + more
