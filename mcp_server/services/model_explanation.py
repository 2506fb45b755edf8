"""What a registered model looks at, over all rows and for single ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from threadpoolctl import threadpool_limits

from mcp_server.engine import explanation
from mcp_server.engine.estimators import COLUMN_PREFIX
from mcp_server.engine.final_fit import feature_of, importances
from mcp_server.engine.local_surrogate import explain_locally
from mcp_server.engine.metrics import Floats, labels
from mcp_server.engine.model_charts import importance_chart
from mcp_server.engine.pipelines import predict_output
from mcp_server.engine.preprocessing import InputColumn, encode_target, model_input, unknown_column
from mcp_server.engine.recalibration import uncorrected
from mcp_server.engine.reports import Report, Section, Table
from mcp_server.engine.sampled_explanation import rows_frame, sampled_shapley, typed_rows
from mcp_server.engine.training import labelled
from mcp_server.errors import InvalidArgumentError, shown
from mcp_server.results.training import Contribution, ExplanationResult, Importance, RowExplanation
from mcp_server.runtime.progress import Progress
from mcp_server.services.model_rows import SEED, ModelRows, inputs_of
from mcp_server.stores.model_versions import ModelVersion
from mcp_server.stores.reports import ReportStore

_METHODS = ("shap", "permutation", "lime")
_EXPLAINED_ROWS = 1000
_ROWS_SHOWN = 10
_ROWS_UNASKED = 3
_CONTRIBUTIONS_SHOWN = 10
_IMPORTANCES_SHOWN = 20


def explain(
    parts: ModelRows,
    reports: ReportStore,
    progress: Progress,
    model: str,
    dataset: str | None,
    rows: list[Any] | None,
    method: str,
) -> ExplanationResult:
    """Explain a model on a dataset, or on the training rows kept with it."""
    if method not in _METHODS:
        raise InvalidArgumentError(f"method {shown(method)} is unknown.", hint="Use shap, permutation or lime.")
    if method == "permutation" and rows is not None:
        raise InvalidArgumentError(
            "method permutation speaks of all rows together, not of single ones.",
            hint="Use shap or lime for rows, or leave rows out.",
        )
    version = parts.models.resolve(model)
    frame = parts.models.reference(version) if dataset is None else parts.datasets.read(dataset)
    pipeline = parts.models.load(version)
    inputs = inputs_of(version)
    numbers, chosen = _chosen_rows(frame, rows, inputs)
    sample = frame[np.sort(np.random.default_rng(SEED).permutation(frame.height)[:_EXPLAINED_ROWS])]
    past = sample if version.reference_artifact is None else parts.models.reference(version)
    asked = _Asked(version, pipeline, inputs, chosen, numbers, past)
    with threadpool_limits(1):
        if method == "lime":
            progress(0.3, f"explaining {chosen.height} rows")
            result = _local(asked)
        elif method == "shap" and _explains_exactly(asked):
            progress(0.3, f"explaining {sample.height} rows")
            result = _shapley(asked, sample)
            if _is_corrected(asked):
                progress(0.6, f"explaining {chosen.height} rows")
                result = _with_rows(result, asked)
        else:
            progress(0.3, f"shuffling features of {sample.height} rows")
            result = _permuted(parts, asked, sample)
            if method == "shap":
                progress(0.6, f"explaining {chosen.height} rows")
                result = _with_rows(result, asked)
    progress(0.9, "writing the report")
    report_id = reports.save(_explanation_report(result), "explain_model", version.ref)
    return result.model_copy(update={"report_uri": f"report://{report_id}"})


@dataclass(frozen=True, slots=True)
class _Asked:
    """A model, the rows to explain with their numbers, and rows that stand for its training."""

    version: ModelVersion
    pipeline: Any
    inputs: list[InputColumn]
    chosen: pl.DataFrame
    numbers: Sequence[int]
    past: pl.DataFrame


def _explains_exactly(asked: _Asked) -> bool:
    """Return True where there is an exact explainer; a column that is its own forecast has nothing to explain."""
    of_column = str(asked.version.result.get("estimator", "")).startswith(COLUMN_PREFIX)
    return not of_column and explanation.explains_exactly(asked.pipeline)


def _is_corrected(asked: _Asked) -> bool:
    return uncorrected(asked.pipeline[-1]) is not asked.pipeline[-1]


def _shapley(asked: _Asked, sample: pl.DataFrame) -> ExplanationResult:
    version, inputs = asked.version, asked.inputs
    past = model_input(asked.past, inputs)
    overall = explanation.shapley(asked.pipeline, model_input(sample, inputs), past, inputs)
    weights = np.abs(overall.values).mean(axis=(0, 2))
    order = np.argsort(-weights, kind="stable")
    ranked = [Importance(feature=overall.features[k], value=float(weights[k])) for k in order]
    matrix = model_input(asked.chosen, inputs)
    explained = []
    unit = f"{overall.unit} before correction" if _is_corrected(asked) else overall.unit
    if len(matrix) and not _is_corrected(asked):
        single = explanation.shapley(asked.pipeline, matrix, past, inputs)
        explained = _row_explanations(asked, single.features, single.values, single.base, single.outputs)
    leading = ", ".join(f"{part.feature} ({part.value:.3g})" for part in ranked[:3])
    return ExplanationResult(
        summary=f"{version.ref} looks most at {leading}: mean absolute Shapley value in {unit}, over "
        f"{sample.height} rows.",
        model=version.ref,
        method="shap",
        rows=sample.height,
        unit=unit,
        rows_unit=unit,
        importances=ranked[:_IMPORTANCES_SHOWN],
        explanations=explained,
        report_uri=None,
    )


def _permuted(parts: ModelRows, asked: _Asked, sample: pl.DataFrame) -> ExplanationResult:
    version = asked.version
    signature = version.signature
    if signature.target not in sample.columns:
        raise unknown_column("target", signature.target, sample.columns)
    sample = labelled(sample, signature.target)
    truth, _ = encode_target(sample[signature.target], signature.task, list(signature.classes) or None)
    metric = parts.metric_of(version)
    found = importances(
        asked.pipeline,
        model_input(sample, asked.inputs),
        truth,
        metric,
        len(signature.classes),
        asked.inputs,
        SEED,
        signature.threshold,
        repeats=5,
    )
    ranked = [Importance(**part) for part in found]
    leading = ", ".join(f"{part.feature} ({part.value:.3g})" for part in ranked[:3])
    return ExplanationResult(
        summary=f"{version.ref} relies most on {leading}: loss of {metric.name} when shuffled, over "
        f"{sample.height} rows.",
        model=version.ref,
        method="permutation",
        rows=sample.height,
        unit=f"loss of {metric.name}",
        importances=ranked[:_IMPORTANCES_SHOWN],
        explanations=[],
        report_uri=None,
    )


def _with_rows(result: ExplanationResult, asked: _Asked) -> ExplanationResult:
    """Add sampled Shapley values of single rows, where no exact explainer gives what adds up to the prediction."""
    if not asked.chosen.height:
        return result
    found = sampled_shapley(
        _predictor(asked), typed_rows(asked.chosen, asked.inputs), typed_rows(asked.past, asked.inputs), SEED
    )
    unit = "probability" if asked.version.signature.classes else "target"
    return result.model_copy(
        update={
            "explanations": _row_explanations(asked, found.features, found.values, found.base, found.outputs),
            "rows_unit": unit,
            "exact": False,
            "summary": f"{result.summary} Its {asked.chosen.height} rows are explained by sampled Shapley values in "
            f"{unit}, which add up to the prediction.",
        }
    )


def _predictor(asked: _Asked) -> Callable[[pl.DataFrame], Floats]:
    n_classes = len(asked.version.signature.classes)

    def said(frame: pl.DataFrame) -> Floats:
        output = predict_output(asked.pipeline, model_input(frame, asked.inputs), n_classes)
        return output[:, 1:] if n_classes == 2 else output.reshape(frame.height, -1)

    return said


def _local(asked: _Asked) -> ExplanationResult:
    version, n_classes = asked.version, len(asked.version.signature.classes)

    def said(matrix: pd.DataFrame) -> Floats:
        return predict_output(asked.pipeline, matrix, n_classes).reshape(len(matrix), -1)

    explained, weights = [], dict.fromkeys((column.name for column in asked.inputs), 0.0)
    past, fits = model_input(asked.past, asked.inputs), []
    for i in range(asked.chosen.height):
        matrix = model_input(asked.chosen[i : i + 1], asked.inputs)
        output = said(matrix)[0]
        best = int(labels(output[None, :], version.signature.threshold)[0]) if n_classes else 0
        local = explain_locally(said, matrix, past, best, SEED)[0]
        adds = dict.fromkeys(weights, 0.0)
        for column, weight in local.weights.items():
            adds[feature_of(column, asked.inputs)] += weight
        for name, value in adds.items():
            weights[name] += abs(value) / asked.chosen.height
        fits.append(local.r2)
        values = np.array(list(adds.values()))
        explained.append(
            _row_explanation(
                asked, i, list(adds), values, local.intercept, local.intercept + float(values.sum()), best
            ).model_copy(update={"fit": local.r2, "prediction": _said_of(asked, output, best)})
        )
    ranked = [Importance(feature=name, value=value) for name, value in weights.items()]
    ranked.sort(key=lambda part: -part.value)
    unit = "probability" if n_classes else "target"
    leading = ", ".join(f"{part.feature} ({part.value:.3g})" for part in ranked[:3])
    return ExplanationResult(
        summary=f"Near these {len(explained)} rows {version.ref} looks most at {leading}: mean absolute LIME weight in "
        f"{unit}; the local lines fit with R² {min(fits):.2f} to {max(fits):.2f}.",
        model=version.ref,
        method="lime",
        exact=False,
        rows=len(explained),
        unit=unit,
        rows_unit=unit,
        importances=ranked[:_IMPORTANCES_SHOWN],
        explanations=explained,
        report_uri=None,
    )


def _explanation_report(result: ExplanationResult) -> Report:
    names = [part.feature for part in result.importances]
    values = [part.value for part in result.importances]
    chart = importance_chart(names, values, result.unit)
    sections = [Section("Importance", chart=chart)]
    for row in result.explanations:
        table = Table(["feature", "value", "adds"], [[c.feature, c.value, c.contribution] for c in row.contributions])
        text = f"Base {row.base_value:.4g}, others {row.others:.4g}, together {row.output:.4g} ({result.rows_unit})."
        sections.append(Section(f"Row {row.row}: {row.prediction}", text, table))
    return Report(f"What {result.model} looks at", result.summary, sections, picture=chart)


def _chosen_rows(
    frame: pl.DataFrame, rows: list[Any] | None, inputs: Sequence[InputColumn]
) -> tuple[list[int], pl.DataFrame]:
    """Return the rows to explain and their numbers: integers are rows of the frame, objects are rows themselves."""
    if rows is None:
        first = list(range(min(_ROWS_UNASKED, frame.height)))
        return first, frame[first]
    if not rows or len(rows) > _ROWS_SHOWN:
        raise InvalidArgumentError(f"rows must name 1 to {_ROWS_SHOWN} rows, not {len(rows)}.", hint="Explain fewer.")
    if all(isinstance(row, int) and not isinstance(row, bool) for row in rows):
        outside = [row for row in rows if not 0 <= row < frame.height]
        if outside:
            raise InvalidArgumentError(
                f"There is no row {outside[0]}: the data has rows 0 to {frame.height - 1}.", hint="Count from 0."
            )
        numbers = [int(row) for row in rows]
        return numbers, frame[numbers]
    if not all(isinstance(row, dict) for row in rows):
        raise InvalidArgumentError("rows must be row numbers or objects, not both.", hint="Give one kind.")

    return list(range(len(rows))), rows_frame(rows, inputs)


def _row_explanations(
    asked: _Asked, features: list[str], values: Floats, base: Floats, outputs: Floats
) -> list[RowExplanation]:
    """Explain each row's prediction: of two classes the second one's, of more the one that is said."""
    signature = asked.version.signature
    said = predict_output(asked.pipeline, model_input(asked.chosen, asked.inputs), len(signature.classes))
    explained = []
    for i in range(min(asked.chosen.height, _ROWS_SHOWN)):
        best = int(labels(said[i : i + 1], signature.threshold)[0]) if signature.classes else 0
        k = best if values.shape[2] > 1 else 0
        row = _row_explanation(asked, i, features, values[i, :, k], float(base[k]), float(outputs[i, k]), best)
        explained.append(row.model_copy(update={"prediction": _said_of(asked, said[i], best)}))
    return explained


def _said_of(asked: _Asked, output: Any, best: int) -> Any:
    classes = asked.version.signature.classes
    return classes[best] if classes else float(np.ravel(output)[0])


def _row_explanation(
    asked: _Asked, i: int, features: list[str], values: Floats, base: float, output: float, best: int
) -> RowExplanation:
    order = np.argsort(-np.abs(values), kind="stable")
    shown_first, rest = order[:_CONTRIBUTIONS_SHOWN], order[_CONTRIBUTIONS_SHOWN:]
    return RowExplanation(
        row=asked.numbers[i],
        prediction=best,
        output=output,
        base_value=base,
        contributions=[
            Contribution(feature=features[j], value=_plain(asked.chosen[features[j]][i]), contribution=float(values[j]))
            for j in shown_first
        ],
        others=float(values[rest].sum()),
    )


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return str(value)
