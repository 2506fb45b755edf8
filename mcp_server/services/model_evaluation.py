"""A registered model scored on a dataset, beside the baselines of its training."""

from dataclasses import asdict

import numpy as np

from mcp_server.engine import comparison
from mcp_server.engine.calibration import reliability
from mcp_server.engine.metrics import Floats, Metric, Truth, confusion_counts, decided, score_all
from mcp_server.engine.model_charts import (
    calibration_chart,
    confusion_chart,
    precision_recall_chart,
    residual_charts,
    roc_chart,
)
from mcp_server.engine.paired_tests import compare_outputs
from mcp_server.engine.pipelines import column_output
from mcp_server.engine.reports import Report, Section, Table
from mcp_server.results.training import (
    BaselineScore,
    Calibration,
    Comparison,
    ConfusionMatrix,
    EvaluationResult,
    Interval,
)
from mcp_server.runtime.progress import Progress
from mcp_server.services.model_rows import SEED, ModelRows, ScoredRows, column_values
from mcp_server.services.training_outcome import sentence
from mcp_server.stores.model_versions import ModelVersion
from mcp_server.stores.reports import ReportStore

_CLASSES_SHOWN = 20


def evaluate(parts: ModelRows, reports: ReportStore, progress: Progress, model: str, dataset: str) -> EvaluationResult:
    """Score a model on the labelled rows of a dataset, beside the baselines of its training."""
    version = parts.models.resolve(model)
    rows = parts.labelled_rows(version, dataset)
    progress(0.3, f"scoring {len(rows.truth)} rows")
    output = parts.output(version, rows.frame)
    metric = parts.metric_of(version)
    progress(0.6, "drawing bootstrap samples")
    task, threshold = version.signature.task, version.signature.threshold
    baselines = _baselines(parts, version, rows, output, metric)
    found = None if task == "regression" else reliability(rows.truth, output)
    result = EvaluationResult(
        summary="",
        model=version.ref,
        dataset=parts.datasets.resolve(dataset).ref,
        rows=len(rows.truth),
        rows_unlabelled=rows.n_unlabelled,
        metric=metric.name,
        metrics=score_all(task, rows.truth, output, threshold),
        intervals={
            name: Interval(low=low, high=high)
            for name, (low, high) in comparison.bootstrap_intervals(
                task, rows.truth, output, SEED, threshold=threshold, clusters=rows.clusters
            ).items()
        },
        baseline=baselines[0].baseline if baselines else None,
        baseline_metrics=baselines[0].metrics if baselines else {},
        baseline_comparison=baselines[0].comparison if baselines else None,
        baselines=baselines,
        confusion_matrix=_confusion(version, rows.truth, output),
        calibration=None if found is None else Calibration.model_validate(asdict(found)),
        warnings=rows.warnings,
        report_uri=None,
    )
    result = result.model_copy(update={"summary": _evaluation_summary(result)})
    progress(0.9, "writing the report")
    report = _evaluation_report(result, rows.truth, output)
    report_id = reports.save(report, "evaluate_model", version.ref)
    return result.model_copy(update={"report_uri": f"report://{report_id}"})


def _baselines(
    parts: ModelRows, version: ModelVersion, rows: ScoredRows, output: Floats, metric: Metric
) -> list[BaselineScore]:
    """Score the baseline columns of the training that these rows have too, then what training rows alone say."""
    n_classes = len(version.signature.classes)
    named = [name for name in (version.recipe or {}).get("baseline", []) if name in rows.frame.columns]
    past = parts.past_truth(version)
    outputs = {
        name: column_output(name, column_values(rows.frame[name]), n_classes, float(np.mean(past))) for name in named
    }
    if len(past):
        outputs["majority" if n_classes else "mean"] = _constant(past, len(rows.truth), n_classes)
    found = []
    for name, other in outputs.items():
        mine = decided(metric, output, version.signature.threshold)
        tested = compare_outputs(metric, rows.truth, mine, other, SEED, rows.clusters)
        if tested is not None:
            metrics = score_all(version.signature.task, rows.truth, other)
            difference = Comparison(**asdict(tested.found), test=tested.test)
            found.append(BaselineScore(baseline=name, metrics=metrics, comparison=difference))
    return found


def _constant(past: Truth, n_rows: int, n_classes: int) -> Floats:
    if not n_classes:
        return np.full(n_rows, float(np.mean(past)))
    shares = np.bincount(past.astype(np.int64), minlength=n_classes) / len(past)
    return np.tile(shares, (n_rows, 1))


def _confusion(version: ModelVersion, truth: Truth, output: Floats) -> ConfusionMatrix | None:
    if version.signature.task == "regression":
        return None
    labels = [str(label) for label in version.signature.classes]
    counts = np.asarray(confusion_counts(truth.astype(np.int64), output, version.signature.threshold))
    if len(labels) > _CLASSES_SHOWN:
        kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[: _CLASSES_SHOWN - 1])
        place = np.full(len(labels), len(kept))
        place[kept] = np.arange(len(kept))
        merged = np.zeros((len(kept) + 1, len(kept) + 1), dtype=np.int64)
        np.add.at(merged, (place[:, None], place[None, :]), counts)
        labels, counts = [*(labels[k] for k in kept), "(others)"], merged
    return ConfusionMatrix(labels=labels, counts=counts.tolist())


def _evaluation_summary(result: EvaluationResult) -> str:
    names = dict.fromkeys([result.metric, "accuracy", "roc_auc", "rmse", "r2"])
    figures = ", ".join(f"{n} {v:.4f}" for n in names if (v := result.metrics.get(n)) is not None)
    verdicts = "; ".join(sentence(part) for part in result.baselines)
    return f"{result.model} on {result.rows:,} rows of {result.dataset}: {figures}" + (
        f"; it is {verdicts}." if verdicts else "."
    )


def _evaluation_report(result: EvaluationResult, truth: Truth, output: Floats) -> Report:
    rows = [
        [name, value, (ends := result.intervals.get(name)) and ends.low, ends and ends.high]
        for name, value in result.metrics.items()
    ]
    sections = [Section("Scores", table=Table(["metric", "value", "95 % from", "to"], rows))]
    if output.ndim == 2 and output.shape[1] == 2:
        score = {result.model: output[:, 1]}
        sections.append(Section("ROC curve", chart=roc_chart(truth, score)))
        sections.append(Section("Precision and recall", chart=precision_recall_chart(truth, score)))
    if result.calibration is not None:
        bins = [(part.mean_predicted, part.observed_rate) for part in result.calibration.bins]
        sections.append(Section("Calibration", chart=calibration_chart({result.model: bins})))
    if result.confusion_matrix is not None:
        chart = confusion_chart(result.confusion_matrix.counts, result.confusion_matrix.labels)
        sections.append(Section("Confusion", chart=chart))
    if output.ndim == 1:
        names = ("Predicted and observed", "Residuals", "Distribution of residuals")
        charts = residual_charts(truth, output, SEED)
        sections += [
            Section(name, chart=chart) for name, chart in zip(names, charts, strict=False)
        ]  # none where values are too large
    title = f"{result.model} on {result.dataset}"
    return Report(title, result.summary, sections, picture=next((part.chart for part in sections if part.chart), None))
