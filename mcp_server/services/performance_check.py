"""The performance check: logged predictions against their outcomes, and against the training."""

from dataclasses import asdict
from typing import Any

import polars as pl

from mcp_server.engine import performance
from mcp_server.engine.calibration import reliability
from mcp_server.engine.model_charts import calibration_chart, series_chart
from mcp_server.engine.reports import Report, Section, Table
from mcp_server.errors import FailedPreconditionError
from mcp_server.results import monitoring as results
from mcp_server.runtime.progress import Progress
from mcp_server.services.monitoring_parts import MonitoringParts, answered
from mcp_server.stores.model_versions import ModelVersion

_SHOWN_MODELS = 10


def run_performance_check(
    parts: MonitoringParts, progress: Progress, *, endpoint: str, window: str | int | None
) -> results.PerformanceResult:
    """Score the answers of an endpoint by the outcomes known so far and write the report.

    Raises:
        NotFoundError: no such endpoint.
        FailedPreconditionError: nothing was predicted in the window.
    """
    model = parts.models.resolve(parts.live_model(endpoint))
    progress(0.1, "reading predictions and outcomes")
    log = parts.window(endpoint, window)
    if log.is_empty():
        raise FailedPreconditionError(
            f"Endpoint {endpoint} has no logged predictions in the window.",
            hint="Call predict first, or widen the window.",
        )
    judged = performance.judge(answered(log), model.task, model.signature.classes)  # type: ignore[arg-type]
    progress(0.5, "intervals and series")
    shown = {**_figures(judged, model), "per_model": _per_model(log, model)}
    summary = _sentence(endpoint, judged, shown["metrics"], shown["baseline_metrics"])
    report = _report(endpoint, model, shown, judged, summary)
    report_id = parts.reports.save(report, kind="check_performance", subject=endpoint)
    return results.PerformanceResult.model_validate(
        {
            "summary": summary,
            "endpoint": endpoint,
            "model": model.ref,
            **shown,
            "warnings": _warnings(judged),
            "report_uri": f"report://{report_id}",
        }
    )


def _figures(judged: performance.Judged, model: ModelVersion) -> dict[str, Any]:
    """Return the metrics with their intervals and series, beside those of the model's training."""
    metrics = performance.measured(judged)
    trained = {"ece": (model.result.get("calibration") or {}).get("ece"), **(model.result.get("test_metrics") or {})}
    baseline = {name: value for name, value in trained.items() if name in performance.known_metrics(judged.task)}
    return {
        "metrics": metrics,
        "intervals": {name: {"low": low, "high": high} for name, (low, high) in performance.intervals(judged).items()},
        "baseline_metrics": baseline,
        "difference": {
            name: None if value is None or baseline[name] is None else value - baseline[name]
            for name, value in metrics.items()
            if name in baseline
        },
        "labelled": len(judged),
        "unlabelled": judged.n_unlabelled,
        "series": [_point(point) for point in performance.series(judged)],
    }


def _per_model(log: pl.DataFrame, live: ModelVersion) -> list[dict[str, Any]]:
    """Score every model behind the endpoint on what it answered or was asked beside, the busiest first."""
    found = []
    for model in log["model"].value_counts(sort=True)["model"].head(_SHOWN_MODELS).to_list():
        part = performance.judge(
            log.filter(pl.col("model") == model),
            live.task,  # type: ignore[arg-type]
            live.signature.classes,
        )
        found.append(
            {
                "model": model,
                "labelled": len(part),
                "unlabelled": part.n_unlabelled,
                "metrics": performance.measured(part),
            }
        )
    return found


def _point(point: performance.Point) -> dict[str, Any]:
    document = asdict(point)
    return {
        "start": document["start"],
        "end": document["end"],
        "labelled": document["n_rows"],
        "metrics": document["metrics"],
    }


def _main(judged: performance.Judged, metrics: dict[str, float | None]) -> list[str]:
    return [name for name in performance.MAIN_METRICS[judged.task] if metrics.get(name) is not None]


def _sentence(
    endpoint: str,
    judged: performance.Judged,
    metrics: dict[str, float | None],
    baseline: dict[str, float | None],
) -> str:
    counted = f"{len(judged):,} labelled and {judged.n_unlabelled:,} unlabelled predictions"
    if not len(judged):
        return f"No outcome is known for {endpoint}: {counted}."
    parts = []
    for name in _main(judged, metrics):
        before = baseline.get(name)
        parts.append(f"{name} {metrics[name]:.4f}" + ("" if before is None else f" (at training {before:.4f})"))
    return f"{endpoint}: {', '.join(parts)} on {counted}."


def _warnings(judged: performance.Judged) -> list[str]:
    warnings = []
    if not len(judged):
        warnings.append("No outcomes are known yet: hand them in with record_outcomes.")
    elif len(judged) < 100:
        warnings.append(f"{len(judged)} labelled predictions: the figures can move a lot with the next ones.")
    if judged.n_unreadable:
        warnings.append(f"{judged.n_unreadable} outcomes are no value that the model can predict; they are left out.")
    if not judged.has_probabilities and len(judged):
        warnings.append("No probabilities were logged, so log_loss, roc_auc and the like are left out.")
    return warnings


def _report(
    endpoint: str, model: ModelVersion, shown: dict[str, Any], judged: performance.Judged, summary: str
) -> Report:
    sections = []
    points = shown["series"]
    for name in _main(judged, shown["metrics"]) if points else []:
        chart = series_chart(
            [f"{point['end']:%Y-%m-%d %H:%M}" for point in points],
            {name: [point["metrics"][name] for point in points]},
            shown["baseline_metrics"].get(name),
        )
        sections.append(Section(f"{name} over time", "The dotted line is the value at training.", chart=chart))
    if judged.task == "binary" and judged.has_probabilities and len(judged) >= 2:
        found = reliability(judged.truth, judged.output)
        bins = {model.ref: [(part.mean_predicted, part.observed_rate) for part in found.bins]}
        sections.append(Section("Calibration", chart=calibration_chart(bins)))
    picture = sections[0].chart if sections else None
    rows = [
        [name, value, shown["baseline_metrics"].get(name), shown["difference"].get(name)]
        for name, value in shown["metrics"].items()
    ]
    sections.append(Section("Metrics", table=Table(["metric", "now", "at training", "difference"], rows)))
    names = list(shown["metrics"])
    models = [
        [part["model"], part["labelled"], part["unlabelled"], *(part["metrics"].get(name) for name in names)]
        for part in shown["per_model"]
    ]
    sections.append(Section("Models", table=Table(["model", "labelled", "unlabelled", *names], models)))
    return Report(f"Performance of {endpoint}", summary, sections, picture=picture)
