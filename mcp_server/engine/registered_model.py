"""Models that were fitted elsewhere: looked at, wrapped so that they are served as ours are, and scored.

Our pipelines take what `model_input` makes and answer class codes. A user's model was fitted on a table of their own;
`RegisteredModel` turns the one into the other, so that nothing behind it needs to know the difference.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from mcp_server.engine import leakage
from mcp_server.engine.calibration import reliability
from mcp_server.engine.comparison import bootstrap_intervals
from mcp_server.engine.metrics import Floats, Task, resolve_metric, score_all
from mcp_server.engine.model_files import dump_model, load_model
from mcp_server.engine.paired_tests import compare_outputs
from mcp_server.engine.pipelines import predict_output
from mcp_server.engine.preprocessing import MISSING, InputColumn, describe_inputs, encode_target, model_input
from mcp_server.engine.training import PREDICTION, REFERENCE_ROWS, labelled
from mcp_server.errors import FailedPreconditionError, InvalidArgumentError, LifecycleError, NotFoundError, shown

_LEAKS_TOLD = 5


class RegisteredModel(BaseEstimator):  # type: ignore[misc]
    """A model fitted elsewhere, as one that takes `model_input`'s matrix and gives class codes or values.

    Attributes:
        model: the fitted model itself.
        words: columns of the matrix that hold words; `MISSING` in them becomes a gap.
        named: whether the model takes a table with names, or a bare array.
        labels: its classes in the order of their codes; empty for a regression.
    """

    def __init__(self, model: Any, words: list[str], named: bool, labels: list[Any]) -> None:
        self.model = model
        self.words = words
        self.named = named
        self.labels = labels

    @property
    def classes_(self) -> Any:
        """The codes of the classes."""
        return np.arange(len(self.labels))

    def predict(self, matrix: pd.DataFrame) -> Any:
        """Return class codes, or values, shape (n,)."""
        if self.labels:
            return self.predict_proba(matrix).argmax(axis=1)
        return np.asarray(self.model.predict(self._own(matrix)), dtype=np.float64).ravel()

    def predict_proba(self, matrix: pd.DataFrame) -> Any:
        """Return probabilities, shape (n, n_classes)."""
        return np.asarray(self.model.predict_proba(self._own(matrix)), dtype=np.float64)

    def _own(self, matrix: pd.DataFrame) -> Any:
        if not self.named:
            return matrix.to_numpy(dtype=np.float64)
        gaps = {name: matrix[name].where(matrix[name] != MISSING, np.nan).astype(object) for name in self.words}
        return matrix.assign(**gaps) if gaps else matrix


def wrap(model: Any, frame: pl.DataFrame, target: str) -> tuple[RegisteredModel, list[InputColumn], Task]:
    """Return `model` as one of ours, the columns of `frame` it takes, and its task.

    Raises:
        InvalidArgumentError: it is no fitted classifier or regressor, or the data does not have what it takes.
        NotFoundError: the data lacks one of its columns.
        FailedPreconditionError: it gives no probabilities, or takes dates.
    """
    task, labels = _task_of(model)
    features = _features_of(model, frame, target)
    inputs = describe_inputs(frame, features)
    dates = [column.name for column in inputs if column.kind == "date"]
    if dates:
        raise FailedPreconditionError(
            f"The model takes the date {shown(dates[0])}; a registered model takes numbers, words, true and false.",
            hint="Derive numbers from dates before the fit (transform_dataset), or train with train_model.",
        )
    words = [column.name for column in inputs if column.kind == "category"]
    named = hasattr(model, "feature_names_in_")
    if words and not named:
        raise InvalidArgumentError(
            f"The model takes a bare array of numbers, and column {shown(words[0])} holds words.",
            hint="Fit the model on a table with column names, as a pandas DataFrame.",
        )
    return RegisteredModel(model, words, named, labels), inputs, task


def _task_of(model: Any) -> tuple[Task, list[Any]]:
    try:
        check_is_fitted(model)
    except (NotFittedError, TypeError) as refusal:
        raise InvalidArgumentError(
            f"The file holds {shown(type(model).__name__)}, which is no fitted model.",
            hint="Fit the pipeline, then save it with skops.io.dump.",
        ) from refusal
    if is_regressor(model):
        return "regression", []
    if not is_classifier(model):
        raise InvalidArgumentError(
            f"The file holds {shown(type(model).__name__)}, which is neither a classifier nor a regressor."
        )
    if not hasattr(model, "predict_proba"):
        raise FailedPreconditionError(
            f"{shown(type(model).__name__)} gives no probabilities, which scoring and monitoring need.",
            hint="Wrap it in sklearn.calibration.CalibratedClassifierCV and fit that.",
        )
    labels = np.asarray(model.classes_)
    if labels.ndim != 1 or len(labels) < 2:
        raise InvalidArgumentError("The model must have one target with at least two classes.")
    return ("binary" if len(labels) == 2 else "multiclass"), labels.tolist()


def _features_of(model: Any, frame: pl.DataFrame, target: str) -> list[str]:
    if target not in frame.columns:
        raise NotFoundError("column", target, frame.columns, hint="target names a column of the dataset.")
    if hasattr(model, "feature_names_in_"):
        features = [str(name) for name in model.feature_names_in_]
        if target in features:
            raise FailedPreconditionError(
                f"The model was fitted on {shown(target)}, which is the target: it is told what it has to say.",
                hint="Fit it again without that column, or name the column that it forecasts as target.",
                details={"columns": [target]},
            )
        for name in features:
            if name not in frame.columns:
                raise NotFoundError(
                    "column", name, frame.columns, hint="The model was fitted on it: the dataset needs all its columns."
                )
        return features
    others = [name for name in frame.columns if name != target]
    if len(others) != getattr(model, "n_features_in_", -1):
        raise InvalidArgumentError(
            f"The model was fitted on {getattr(model, 'n_features_in_', 'unknown')} columns without names; the dataset "
            f"has {len(others)} beside the target.",
            hint="Fit the model on a table with column names, or give a dataset with exactly its columns in order.",
        )
    return others


def examine_in_child(arguments: dict[str, Any]) -> dict[str, Any]:
    """Load a user's model file, score it on a dataset, and write it as one of ours.

    Args:
        arguments: `model_path`, `dataset_path`, `target`, `seed`, and where to write: `wrapped_path` (skops),
            `reference_path` and `scored_path` (Parquet: the truth, and what the model says, of every row).

    Returns:
        `sha256` of the file, `task`, `estimator`, `inputs`, `classes`, `metric`, the scores, and `leaks` in words.
    """
    data = Path(arguments["model_path"]).read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    model = load_model(data, sha256)
    frame, target, seed = pl.read_parquet(arguments["dataset_path"]), arguments["target"], arguments["seed"]
    wrapped, inputs, task = wrap(model, frame, target)
    rows = labelled(frame, target)
    if rows.is_empty():
        raise InvalidArgumentError(f"Column {shown(target)} has no value in any row: nothing to score the model on.")
    truth, classes = _truth_of(rows[target], task, wrapped.labels)
    matrix = model_input(rows, inputs)
    output = _first_output(wrapped, matrix, len(classes))
    Path(arguments["wrapped_path"]).write_bytes(dump_model(wrapped))
    _reference(rows, inputs, target, output, classes, seed).write_parquet(arguments["reference_path"])
    _scored(truth, output).write_parquet(arguments["scored_path"])
    return {
        "sha256": sha256,
        "task": task,
        "estimator": _name_of(model),
        "inputs": [asdict(column) for column in inputs],
        "classes": classes,
        "rows": len(truth),
        "rows_unlabelled": frame.height - len(truth),
        **_scores(task, truth, output, classes, seed),
        "leaks": _leaks(rows, truth, task, [column.name for column in inputs], target, len(classes), seed),
    }


def _truth_of(column: pl.Series, task: Task, labels: list[Any]) -> tuple[Any, list[Any]]:
    truth, classes = encode_target(column, task, labels or None)
    if not np.isfinite(truth).all():
        raise InvalidArgumentError(
            f"Column {shown(column.name)} ({column.dtype}) is not all finite numbers, which a {task} model forecasts.",
            hint="Name the column that the model was fitted to forecast as target.",
        )
    return truth, classes


def _first_output(wrapped: RegisteredModel, matrix: pd.DataFrame, n_classes: int) -> Floats:
    """Predict for the first time; what goes wrong inside the user's model is theirs to mend."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            output = predict_output(wrapped, matrix, n_classes)
    except LifecycleError:
        raise
    except Exception as refusal:  # why: the user's model fails anywhere, with anything
        raise InvalidArgumentError(
            f"The model cannot predict the dataset: {type(refusal).__name__}: {shown(str(refusal), 300)}.",
            hint="The dataset must have the columns and the kinds of values that the model was fitted on.",
        ) from refusal
    if not np.isfinite(output).all():
        raise InvalidArgumentError("The model's answers are not all finite numbers.")
    return output


def _scores(task: Task, truth: Any, output: Floats, classes: Sequence[Any], seed: int) -> dict[str, Any]:
    metric = resolve_metric("auto", task)
    if classes:
        shares = np.bincount(truth.astype(np.int64), minlength=len(classes)) / len(truth)
        name, simple = "majority", np.tile(shares, (len(truth), 1))
    else:
        name, simple = "mean", np.full(len(truth), float(np.mean(truth)))
    tested = compare_outputs(metric, truth, output, simple, seed)
    return {
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "metrics": score_all(task, truth, output),
        "intervals": bootstrap_intervals(task, truth, output, seed),
        "baseline": name,
        "baseline_metrics": score_all(task, truth, simple),
        "comparison": None if tested is None else asdict(tested.found) | {"test": tested.test},
        "calibration": asdict(reliability(truth, output)) if classes else None,
    }


def _leaks(
    rows: pl.DataFrame, truth: Any, task: Task, features: list[str], target: str, n_classes: int, seed: int
) -> list[str]:
    """Return, in words, what a training on these columns would have stopped at or warned of."""
    sample = leakage.draw(rows, truth, task, n_classes, seed)
    found = leakage.find_leaks(sample, features, target, [])
    order = {"blocking": 0, "warning": 1}
    told = sorted((part for part in found if part.severity in order), key=lambda part: order[part.severity])
    return [
        f"{'A training would have stopped here: ' if part.severity == 'blocking' else ''}{part.message}"
        for part in told[:_LEAKS_TOLD]
    ]


def _scored(truth: Any, output: Floats) -> pl.DataFrame:
    """Return the truth and the outputs as a training keeps those of its held-out rows."""
    said = {"model:value": output} if output.ndim == 1 else {f"model:{k}": output[:, k] for k in range(output.shape[1])}
    return pl.DataFrame({"truth": truth, **said})


def _reference(
    rows: pl.DataFrame,
    inputs: Sequence[InputColumn],
    target: str,
    output: Floats,
    classes: Sequence[Any],
    seed: int,
) -> pl.DataFrame:
    """Return a sample of the rows with what the model says of them, as a training keeps it."""
    chosen = np.sort(np.random.default_rng(seed).permutation(rows.height)[:REFERENCE_ROWS])
    frame = rows[chosen].select(list(dict.fromkeys([*(column.name for column in inputs), target])))
    said = output[chosen]
    columns: dict[str, Any] = {PREDICTION: said}
    if classes:
        columns[PREDICTION] = [str(classes[code]) for code in said.argmax(axis=1)]
        columns |= {f"probability_{label}": said[:, place] for place, label in enumerate(classes)}
    return frame.hstack([pl.Series(name, values) for name, values in columns.items() if name not in frame.columns])


def _name_of(model: Any) -> str:
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    return type(last).__name__
