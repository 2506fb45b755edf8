"""The last fit of a training: the winner, refitted, saved, and scored once on the held-out part."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from sklearn.inspection import permutation_importance

from mcp_server.engine import model_files
from mcp_server.engine.calibration import reliability
from mcp_server.engine.comparison import bootstrap_intervals
from mcp_server.engine.dask_backend import cluster_for
from mcp_server.engine.estimators import Building
from mcp_server.engine.metrics import (
    DEFAULT_THRESHOLD,
    METRICS,
    Codes,
    Floats,
    Metric,
    Truth,
    decided,
    labels,
    score,
    score_all,
)
from mcp_server.engine.paired_tests import clusters_of, compare_outputs
from mcp_server.engine.pipelines import Trial, column_output, fit_trial, predict_output
from mcp_server.engine.preprocessing import InputColumn, model_input
from mcp_server.engine.recalibration import choose_correction, corrected_pipeline, out_of_fold
from mcp_server.engine.thresholds import choose_threshold, chooses_threshold, chosen_by
from mcp_server.engine.training import PREDICTION, REFERENCE_ROWS, TrainingRows, TrainingSpec, read_rows
from mcp_server.engine.training_facts import training_facts

_IMPATIENT = "Fits take too long to repeat on each fold: probabilities are as they are, and the threshold is 0.5."
_IMPORTANCE_ROWS = 2000
_IMPORTANCE_REPEATS = 3


def baseline_outputs(spec: TrainingSpec, rows: TrainingRows) -> dict[str, Floats]:
    """Return what each baseline says of the held-out rows: named columns first, then the simplest forecasts.

    For classes, `majority` gives every row the class shares of the training part, so its label is always the largest
    class (always the home team, say); for values, `mean` gives every row the training part's mean.
    """
    train, test = rows.truth[rows.train], rows.frame[rows.test]
    n_test, n_classes = len(rows.test), len(spec.classes)
    outputs: dict[str, Floats] = {}
    for name in spec.baselines:
        values = test[name].cast(pl.Float64, strict=False).to_numpy().astype(np.float64)
        outputs[name] = column_output(name, values, n_classes, float(np.mean(train)))
    if n_classes:
        shares = np.bincount(train.astype(np.int64), minlength=n_classes) / len(train)
        outputs["majority"] = np.tile(shares, (n_test, 1))
    else:
        outputs["mean"] = np.full(n_test, float(np.mean(train)))
    return outputs


def compare_with_baselines(
    spec: TrainingSpec,
    truth: Truth,
    output: Floats,
    baselines: Mapping[str, Floats],
    threshold: float = DEFAULT_THRESHOLD,
    clusters: Codes | None = None,
) -> list[dict[str, Any]]:
    """Return, for each baseline, its metrics and the paired test of the model against it."""
    metric = METRICS[spec.metric]
    compared = []
    for name, other in baselines.items():
        tested = compare_outputs(metric, truth, decided(metric, output, threshold), other, spec.seed, clusters)
        compared.append(
            {
                "baseline": name,
                "metrics": score_all(spec.task, truth, other),
                "comparison": None if tested is None else asdict(tested.found) | {"test": tested.test},
            }
        )
    return compared


def importances(
    pipeline: Any,
    matrix: pd.DataFrame,
    truth: Truth,
    metric: Metric,
    n_classes: int,
    inputs: Sequence[InputColumn],
    seed: int,
    threshold: float = DEFAULT_THRESHOLD,
    repeats: int = _IMPORTANCE_REPEATS,
    n_rows: int = _IMPORTANCE_ROWS,
) -> list[dict[str, Any]]:
    """Return how much worse `metric` gets when a feature is shuffled, the largest first.

    A date's calendar columns are shuffled one by one and summed. Source: Breiman, Random Forests (2001); Fisher et
    al. (2019).
    """
    chosen = np.random.default_rng(seed).permutation(len(matrix))[:n_rows]
    sign = 1.0 if metric.higher_is_better else -1.0

    def scorer(model: Any, shuffled: pd.DataFrame, y: Truth) -> float:
        value = score(metric, y, decided(metric, predict_output(model, shuffled, n_classes), threshold))
        return sign * value if value is not None else 0.0

    found = permutation_importance(
        pipeline, matrix.iloc[chosen], truth[chosen], scoring=scorer, n_repeats=repeats, random_state=seed, n_jobs=1
    )
    by_feature: dict[str, list[float]] = {}
    for name, mean, std in zip(matrix.columns, found.importances_mean, found.importances_std, strict=True):
        feature = feature_of(str(name), inputs)
        total = by_feature.setdefault(feature, [0.0, 0.0])
        total[0] += float(mean)
        total[1] = float(np.hypot(total[1], std))
    ranked = sorted(by_feature.items(), key=lambda item: (-item[1][0], item[0]))
    return [{"feature": name, "value": mean, "std": std} for name, (mean, std) in ranked]


def feature_of(column: str, inputs: Sequence[InputColumn]) -> str:
    """Return the feature that a column of the matrix was made from."""
    names = {item.name for item in inputs}
    if column in names:
        return column
    return next(item.name for item in inputs if item.kind == "date" and column.startswith(f"{item.name}_"))


def _reference(
    rows: TrainingRows, spec: TrainingSpec, names: Sequence[str], output: Floats, threshold: float
) -> pl.DataFrame:
    """Return a sample of training rows with the target and what the model says of them, for drift."""
    chosen = np.sort(np.random.default_rng(spec.seed).permutation(len(rows.train))[:REFERENCE_ROWS])
    frame = rows.frame[rows.train[chosen]].select(list(dict.fromkeys([*names, spec.target])))
    columns: dict[str, Any] = {}
    if spec.task == "regression":
        columns[PREDICTION] = output[chosen]
    else:
        codes = labels(output[chosen], threshold)
        columns[PREDICTION] = [str(spec.classes[code]) for code in codes]
        columns |= {f"probability_{label}": output[chosen, k] for k, label in enumerate(spec.classes)}
    return frame.hstack([pl.Series(name, values) for name, values in columns.items() if name not in frame.columns])


def _held_out(
    rows: TrainingRows, output: Floats, uncorrected: Floats | None, baselines: Mapping[str, Floats]
) -> pl.DataFrame:
    """Return what plots need: truth, and what the model, the model before its correction and the baselines said."""
    columns = {"truth": rows.truth[rows.test]}
    before = {} if uncorrected is None else {"uncorrected": uncorrected}
    named = {f"baseline:{name}": values for name, values in baselines.items()}
    for name, values in ({"model": output} | before | named).items():
        if values.ndim == 1:
            columns[f"{name}:value"] = values
        else:
            columns |= {f"{name}:{k}": values[:, k] for k in range(values.shape[1])}
    return pl.DataFrame(columns)


def finish_in_child(arguments: dict[str, Any]) -> dict[str, Any]:
    """Refit the winner on the training part, save it, and score it once on the held-out part.

    Args:
        arguments: `path` of the Parquet file, `spec`, `trial`, and where to write: `model_path` (skops),
            `reference_path` and `held_out_path` (Parquet). `patience_s`: how long fits for a correction and a
            threshold may take, so that the model itself is never lost to the time limit.

    Returns:
        Metrics, intervals, baselines, calibration, correction, threshold, importances and notes.
    """
    trial = Trial(**arguments["trial"])
    spec = TrainingSpec.from_document(arguments["spec"])
    rows = read_rows(arguments["path"], spec)
    inputs = spec.inputs_of(trial.estimator)
    matrix, truth = model_input(rows.frame[rows.train], inputs), rows.truth[rows.train]
    building = Building(spec.task, spec.seed, len(truth), spec.class_weight, matrix.shape[1])
    with cluster_for(arguments.get("cluster"), len(truth), matrix.shape[1]):
        started = time.perf_counter()
        pipeline, notes = fit_trial(trial, inputs, matrix, truth, building)
        again_s = spec.cv * (time.perf_counter() - started)
    metric, cluster = METRICS[spec.metric], arguments.get("cluster")
    patient = again_s <= arguments.get("patience_s", math.inf)
    found = out_of_fold(trial, spec, rows, cluster) if spec.classes and patient else None
    if spec.classes and not patient:
        notes = [*notes, _IMPATIENT]
    correction = None if found is None else choose_correction(found)
    threshold, chosen_for = DEFAULT_THRESHOLD, None
    fitted = pipeline
    if found is not None and correction is not None and correction.method != "none":
        pipeline = corrected_pipeline(pipeline, correction.method, found)
    if found is not None and chooses_threshold(metric, len(spec.classes)):
        said = found.output if correction is None else correction.output
        threshold, chosen_for = choose_threshold(metric, found.truth, said), chosen_by(metric).name
    Path(arguments["model_path"]).write_bytes(model_files.dump_model(pipeline))
    test_matrix, test_truth = model_input(rows.frame[rows.test], inputs), rows.truth[rows.test]
    output = predict_output(pipeline, test_matrix, len(spec.classes))
    baselines = baseline_outputs(spec, rows)
    past = predict_output(pipeline, matrix, len(spec.classes))
    names = [column.name for column in inputs]
    _reference(rows, spec, names, past, threshold).write_parquet(arguments["reference_path"])
    uncorrected = None if pipeline is fitted else predict_output(fitted, test_matrix, len(spec.classes))
    _held_out(rows, output, uncorrected, baselines).write_parquet(arguments["held_out_path"])
    column = rows.frame[rows.test][spec.split.column] if spec.split.column else None
    clusters = clusters_of(spec.split.kind, column)
    return {
        "metrics": score_all(spec.task, test_truth, output, threshold),
        "intervals": bootstrap_intervals(
            spec.task, test_truth, output, spec.seed, threshold=threshold, clusters=clusters
        ),
        "baselines": compare_with_baselines(spec, test_truth, output, baselines, threshold, clusters),
        "calibration": asdict(reliability(test_truth, output)) if spec.classes else None,
        "correction": None if correction is None else correction.to_document(),
        "threshold": threshold if len(spec.classes) == 2 else None,
        "threshold_metric": chosen_for,
        "importances": importances(
            pipeline, test_matrix, test_truth, metric, len(spec.classes), inputs, spec.seed, threshold
        ),
        "notes": notes,
        "rows_train": len(rows.train),
        "rows_test": len(rows.test),
        "data": training_facts(spec, rows, inputs),
    }
