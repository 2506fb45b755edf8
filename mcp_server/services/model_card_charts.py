"""The charts of a model card: what the model said of the held-out rows, what it looks at, and how it was found."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from mcp_server.engine.calibration import reliability
from mcp_server.engine.metrics import DEFAULT_THRESHOLD, confusion_counts
from mcp_server.engine.model_charts import (
    MAX_BARS,
    calibration_chart,
    confusion_chart,
    importance_chart,
    precision_recall_chart,
    residual_charts,
    roc_chart,
    search_chart,
)
from mcp_server.engine.reports import Section, Table
from mcp_server.engine.training import TrainingSpec
from mcp_server.results.training import TrainingResult
from mcp_server.services.training_outcome import series_to_log

_BASELINE = "baseline:"
_CLASSES_DRAWN = 6
_SEARCHES = {
    "none": "the usual parameters, no search",
    "grid": "all points of a grid",
    "random": "drawn at random",
    "bayesian": "Bayesian search",
}
_RESIDUALS = ("Predicted and observed", "Residuals", "Distribution of residuals")


def output_sections(spec: TrainingSpec, result: TrainingResult, held_out: pl.DataFrame) -> list[Section]:
    """Return the charts of what the model said of the held-out rows.

    Args:
        held_out: `truth`; `model:k`, `uncorrected:k` and `baseline:NAME:k` for class k, or `…:value`.
    """
    truth = held_out["truth"].to_numpy()
    if spec.task == "regression":
        charts = residual_charts(truth, held_out["model:value"].to_numpy(), spec.seed)
        return [Section(name, chart=chart) for name, chart in zip(_RESIDUALS, charts, strict=False)]
    outputs = {name: _output(held_out, name, len(spec.classes)) for name in ("model", "uncorrected")}
    codes, said = truth.astype(np.int64), outputs["model"]
    if said is None:
        return []
    counts = confusion_counts(codes, said, result.threshold or DEFAULT_THRESHOLD)
    confusion = Section("Confusion", chart=confusion_chart(counts, [str(label) for label in spec.classes]))
    curves = _binary(codes, said, held_out) if len(spec.classes) == 2 else _one_against_rest(spec, codes, said)
    return [*curves, _calibration(result, codes, outputs), confusion]


def importance_section(result: TrainingResult, scores: Mapping[str, Any]) -> Section:
    """Return what the model looks at, by shuffling."""
    top = scores["importances"][:MAX_BARS]
    chart = importance_chart(
        [part["feature"] for part in top], [part["value"] for part in top], f"loss of {result.metric} when shuffled"
    )
    more = len(scores["importances"]) - len(top)
    return Section(
        "Importance",
        "Each feature shuffled in the held-out rows: by how much the score gets worse. Features that tell the same "
        f"share what they tell.{f' {more} more features are not shown.' if more else ''}",
        chart=chart,
    )


def search_section(plan: Mapping[str, Any], history: Sequence[Mapping[str, Any]], result: TrainingResult) -> Section:
    """Return how the model was found: the families, and the score of every trial."""
    rows = [[row.estimator, row.score, row.trials, row.failed, row.pruned, row.cut] for row in result.leaderboard]
    text = (
        f"{result.trials} {'trial' if result.trials == 1 else 'trials'} ({_SEARCHES[plan['search']['method']]}), "
        f"scored by {plan['spec']['cv']} folds inside the training part. The winner's {result.metric} was "
        f"{result.cv_score:.4f} ± {result.cv_std or 0.0:.4f}."
    )
    table = Table(["estimator", f"best {result.metric}", "trials", "failed", "pruned", "cut"], rows)
    chart = None
    if len(history) > 1:
        series = series_to_log(plan, history)
        chart = search_chart(series["trial_score"], series["best_score"], result.metric)
    return Section("Search", text, table, chart=chart)


def _output(held_out: pl.DataFrame, name: str, n_classes: int) -> np.ndarray[Any, Any] | None:
    columns = [f"{name}:{k}" for k in range(n_classes)]
    return held_out.select(columns).to_numpy() if columns[0] in held_out.columns else None


def _binary(codes: Any, said: np.ndarray[Any, Any], held_out: pl.DataFrame) -> list[Section]:
    series = {"model": said[:, 1]}
    for column in held_out.columns:
        if column.startswith(_BASELINE) and column.endswith(":1") and held_out[column].n_unique() > 1:
            series[column.removeprefix(_BASELINE).removesuffix(":1")] = held_out[column].to_numpy()
    return [
        Section("ROC curve", chart=roc_chart(codes, series)),
        Section("Precision and recall", chart=precision_recall_chart(codes, series)),
    ]


def _one_against_rest(spec: TrainingSpec, codes: Any, said: np.ndarray[Any, Any]) -> list[Section]:
    """Return curves of each class against all others, of the six most frequent ones."""
    sizes = np.bincount(codes, minlength=len(spec.classes))
    drawn = np.sort(np.argsort(-sizes, kind="stable")[:_CLASSES_DRAWN])
    truths = {str(spec.classes[k]): (codes == k).astype(float) for k in drawn}
    series = {str(spec.classes[k]): said[:, k] for k in drawn}
    text = "Each class against all others."
    if len(drawn) < len(spec.classes):
        text = f"Each of the {len(drawn)} most frequent classes against all others."
    return [
        Section("ROC curve", text, chart=roc_chart(truths, series)),
        Section("Precision and recall", text, chart=precision_recall_chart(truths, series)),
    ]


def _calibration(result: TrainingResult, codes: Any, outputs: Mapping[str, np.ndarray[Any, Any] | None]) -> Section:
    """Return the reliability curve on the held-out rows, of the model and of what it was before its correction."""
    names = {"model": "model", "uncorrected": "before the correction"}
    bins, errors = {}, {}
    for key, output in outputs.items():
        if output is not None:
            found = reliability(codes, output)
            bins[names[key]] = [(part.mean_predicted, part.observed_rate) for part in found.bins]
            errors[names[key]] = found.ece
    measured = ", ".join(f"{name} {value:.4f}" for name, value in errors.items())
    text = f"Expected calibration error on the held-out rows: {measured}."
    if result.task == "multiclass":
        text += " Of the class that is said: how sure the model was, and how often it was right."
    correction = result.correction
    if correction is not None and correction.method != "none":
        text += (
            f" The probabilities are corrected by {correction.method}, fitted inside the training part: log loss "
            f"{correction.log_loss_before:.4f} to {correction.log_loss_after:.4f} on rows kept out of each fit."
        )
    elif correction is not None:
        text += " A correction was tried inside the training part and did not clearly help, so there is none."
    return Section("Calibration", text, chart=calibration_chart(bins))
