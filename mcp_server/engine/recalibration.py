"""Probabilities corrected where that helps, by a curve fitted on rows that the fits had not seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV, _CalibratedClassifier, _SigmoidCalibration, _TemperatureScaling
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.pipeline import Pipeline

from mcp_server.engine.calibration import reliability
from mcp_server.engine.dask_backend import cluster_for
from mcp_server.engine.estimators import COLUMN_PREFIX, Building
from mcp_server.engine.metrics import METRICS, Codes, Floats
from mcp_server.engine.paired_tests import clusters_of
from mcp_server.engine.pipelines import Trial, fit_trial, predict_output
from mcp_server.engine.preprocessing import model_input
from mcp_server.engine.splits import Rows, folds
from mcp_server.engine.thresholds import chooses_threshold
from mcp_server.engine.training import TrainingRows, TrainingSpec

_FEWEST_ROWS = 200
_FEWEST_OF_A_CLASS = 25  # fewer, and a curve follows the noise
_LEAST_OF_A_CLASS = 5  # fewer, and a threshold does
_ISOTONIC_ROWS = 1000  # scikit-learn's own advice: below, it follows the noise
_PARTS = 5
_MARGIN = 1.6448536269514722  # one-sided 95 %
_TINY = 1e-15
_UNCALIBRATED = ("dummy",)


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """What fits of one recipe said of rows that they had not seen.

    Attributes:
        rows: positions in the training part, shape (n,).
        parts: the fold of each row, shape (n,).
        truth: class codes, shape (n,).
        responses: what a curve is fitted on, shape (n, 1) for two classes and (n, k) for more: the decision function,
            or probabilities where there is none.
        output: probabilities, shape (n, k).
        clusters: which rows belong together, shape (n,); None where each is its own.
    """

    rows: Rows
    parts: Codes
    truth: Codes
    responses: Floats
    output: Floats
    clusters: Codes | None = None


@dataclass(frozen=True, slots=True)
class Correction:
    """Which curve is laid over the probabilities, and what that does on rows that no curve was fitted on.

    Attributes:
        method: `none`, `sigmoid`, `isotonic` or `temperature`.
        log_loss_before, log_loss_after: mean over the rows out of fold; equal for `none`.
        ece_before, ece_after: expected calibration errors of the same rows.
        output: the probabilities out of fold as they are after the correction, shape (n, k).
    """

    method: str
    log_loss_before: float
    log_loss_after: float
    ece_before: float
    ece_after: float
    output: Floats

    def to_document(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        names = ("method", "log_loss_before", "log_loss_after", "ece_before", "ece_after")
        return {name: getattr(self, name) for name in names}


def out_of_fold(
    trial: Trial, spec: TrainingSpec, rows: TrainingRows, cluster: dict[str, Any] | None
) -> OutOfFold | None:
    """Fit `trial` on the folds of the search, and return what each fit says of the rows that it scored.

    None where there are too few rows of a class for what they would be used for (a curve, or a threshold where the
    metric needs one), where a fold lacks a class, or where the forecast is a column or a constant, which are taken at
    their word.
    """
    train = rows.truth[rows.train].astype(np.int64)
    counts = np.bincount(train, minlength=len(spec.classes))
    if trial.estimator.startswith(COLUMN_PREFIX) or trial.estimator in _UNCALIBRATED:
        return None
    by_threshold = chooses_threshold(METRICS[spec.metric], len(spec.classes))
    if counts.min() < _LEAST_OF_A_CLASS or not (by_threshold or _are_enough(train, len(spec.classes))):
        return None
    inputs = spec.inputs_of(trial.estimator)
    matrix = model_input(rows.frame[rows.train], inputs)
    column = rows.frame[spec.split.column][rows.train] if spec.split.column else None
    seen, parts, responses, outputs = [], [], [], []
    with cluster_for(cluster, len(train), matrix.shape[1]):
        for fold, (fit, held) in enumerate(folds(spec.split, column, train, spec.cv, classes=True, seed=spec.seed)):
            building = Building(spec.task, spec.seed, len(fit), spec.class_weight, matrix.shape[1])
            pipeline, _ = fit_trial(trial, inputs, matrix.iloc[fit], train[fit], building)
            if len(pipeline.classes_) != len(spec.classes):
                return None
            seen.append(held)
            parts.append(np.full(len(held), fold))
            responses.append(_responses(pipeline, matrix.iloc[held]))
            outputs.append(predict_output(pipeline, matrix.iloc[held], len(spec.classes)))
    held_rows = np.concatenate(seen)
    return OutOfFold(
        held_rows,
        np.concatenate(parts),
        train[held_rows],
        np.concatenate(responses),
        np.concatenate(outputs),
        None if column is None else clusters_of(spec.split.kind, column.gather(held_rows)),
    )


def _are_enough(truth: Codes, n_classes: int) -> bool:
    """Return True when a curve fitted on these rows would follow more than noise."""
    return len(truth) >= _FEWEST_ROWS and int(np.bincount(truth, minlength=n_classes).min()) >= _FEWEST_OF_A_CLASS


def _responses(pipeline: Any, matrix: Any) -> Floats:
    """Return what `CalibratedClassifierCV` lays its curves over: it prefers the decision function."""
    if hasattr(pipeline, "decision_function"):
        said = np.asarray(pipeline.decision_function(matrix), dtype=np.float64)
        return said.reshape(len(said), -1)
    said = np.asarray(pipeline.predict_proba(matrix), dtype=np.float64)
    return said[:, 1:] if said.shape[1] == 2 else said


def choose_correction(found: OutOfFold) -> Correction | None:
    """Return the correction that helps, judged on rows that no curve was fitted on; `none` where none clearly does.

    Each candidate is fitted on all folds but one and scored on that one, in turn. One is taken only if its log loss is
    lower by more than chance (one-sided 95 % of the paired differences, rows of a cluster taken together); of two such
    the better. None where there are too few rows to say.

    Source: Platt (1999) for `sigmoid`; Zadrozny and Elkan, KDD (2002) for `isotonic`; Guo et al., ICML (2017) for
    `temperature`, which serves more than two classes.
    """
    if not _are_enough(found.truth, found.output.shape[1]):
        return None
    before = _losses(found.output, found.truth)
    figures = (float(before.mean()), reliability(found.truth, found.output).ece)
    best = Correction("none", figures[0], figures[0], figures[1], figures[1], found.output)
    for method in _candidates(found):
        output = _cross_fitted(method, found)
        if output is None:
            continue
        after = _losses(output, found.truth)
        gain = before - after
        clear = float(gain.mean()) > _MARGIN * _error_of_mean(gain, found.clusters)
        if clear and float(after.mean()) < best.log_loss_after:
            ece = reliability(found.truth, output).ece
            best = Correction(method, figures[0], float(after.mean()), figures[1], ece, output)
    return best


def _error_of_mean(values: Floats, clusters: Codes | None) -> float:
    """Return the standard error of a mean, rows of a cluster taken together."""
    off = values - values.mean()
    if clusters is not None:
        _, places = np.unique(clusters, return_inverse=True)
        off = np.bincount(places, weights=off)
    return float(np.sqrt((off**2).sum() * len(off) / max(1, len(off) - 1))) / len(values)


def _candidates(found: OutOfFold) -> list[str]:
    smooth = "sigmoid" if found.output.shape[1] == 2 else "temperature"
    return [smooth, "isotonic"] if len(found.truth) >= _ISOTONIC_ROWS else [smooth]


def _losses(output: Floats, truth: Codes) -> Floats:
    of_truth = output[np.arange(len(truth)), truth] / output.sum(axis=1)
    return np.asarray(-np.log(np.clip(of_truth, _TINY, 1.0)))


def _cross_fitted(method: str, found: OutOfFold) -> Floats | None:
    """Return the corrected probabilities, each row's from curves fitted on the other folds (n, k)."""
    parts = found.parts if len(np.unique(found.parts)) > 1 else _PARTS * np.arange(len(found.parts)) // len(found.parts)
    corrected = np.empty_like(found.output)
    for part in np.unique(parts):
        held = parts == part
        if len(np.unique(found.truth[~held])) < found.output.shape[1]:
            return None
        curves = _fit_curves(method, found.responses[~held], found.truth[~held])
        corrected[held] = _apply(method, curves, found.responses[held], found.output.shape[1])
    return corrected


def _fit_curves(method: str, responses: Floats, truth: Codes) -> list[Any]:
    if method == "temperature":
        return [_TemperatureScaling().fit(responses, truth)]
    made: list[Any] = []
    for place in range(responses.shape[1]):
        positive = (truth == (1 if responses.shape[1] == 1 else place)).astype(np.float64)
        made.append(_curve(method, len(truth)).fit(responses[:, place], positive))
    return made


def _curve(method: str, n_rows: int) -> Any:
    """Return an unfitted curve; none says never or always, which nobody can know from `n_rows` rows.

    Source: of the ends, Laplace's rule of succession.
    """
    if method == "sigmoid":
        return _SigmoidCalibration()
    least = 1 / (n_rows + 2)
    return IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")


def _apply(method: str, curves: Sequence[Any], responses: Floats, n_classes: int) -> Floats:
    if method == "temperature":
        return np.asarray(curves[0].predict(responses), dtype=np.float64)
    said = np.column_stack([curve.predict(responses[:, place]) for place, curve in enumerate(curves)])
    if n_classes == 2:
        return np.column_stack([1 - said[:, 0], said[:, 0]])
    total = said.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(said, total, out=np.full_like(said, 1 / n_classes), where=total > 0)
    return shares


def corrected_pipeline(pipeline: Pipeline, method: str, found: OutOfFold) -> Pipeline:
    """Return `pipeline` with curves of `method`, fitted on all rows out of fold, laid over its probabilities.

    Its last step becomes scikit-learn's own `CalibratedClassifierCV` around the fitted model; `uncorrected` gives that
    model back.
    """
    model = pipeline.steps[-1][1]
    curves = _fit_curves(method, found.responses, found.truth)
    wrapped = CalibratedClassifierCV(FrozenEstimator(model), method=method)
    wrapped.classes_ = model.classes_
    wrapped.calibrated_classifiers_ = [_CalibratedClassifier(model, curves, classes=model.classes_, method=method)]
    return Pipeline([*pipeline.steps[:-1], ("model", wrapped)])


def uncorrected(model: Any) -> Any:
    """Return the model under the curves that `corrected_pipeline` has laid over it; any other model itself."""
    if isinstance(model, CalibratedClassifierCV) and isinstance(model.estimator, FrozenEstimator):
        return model.calibrated_classifiers_[0].estimator
    return model
