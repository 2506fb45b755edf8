"""The model card: what a model is, its data, scores with intervals, pictures, limits, and how to make it again."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mcp_server.engine.plots import bar_chart, calibration_curve, heatmap, roc_curve, series_chart
from mcp_server.engine.reports import Report, Section, Table, main_image, to_html, to_markdown
from mcp_server.results.training import TrainingResult
from mcp_server.services.training_outcome import sentence
from mcp_server.stores.models import UNREGISTERED, ModelCard

_MAX_FEATURES = 200
_IMPORTANCES = 20


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
