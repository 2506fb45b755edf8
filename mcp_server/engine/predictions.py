"""What scorers share: the signature they serve, the answer they give, and the matrix a pipeline takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from mcp_server.engine.metrics import labels
from mcp_server.engine.preprocessing import CALENDAR, MISSING, kind_of, model_input
from mcp_server.engine.signature import LARGEST, CheckedRows
from mcp_server.errors import InvalidArgumentError, shown

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives; the same fields as the record of it.

    Attributes:
        inputs: its columns, in order, each with `name` and `kind`.
        target: what is predicted.
        task: binary, multiclass or regression.
        classes: labels in the order of the probabilities; empty for regression.
        threshold: of two classes, the probability of the second from which on it is the label.
    """

    inputs: Sequence[Any]
    target: str
    task: str
    classes: Sequence[Any] = ()
    threshold: float = 0.5


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says of some rows.

    Attributes:
        labels: one a row: a class of the signature, or a number.
        probabilities: shape (n_rows, n_classes), in the order of the signature's classes; None for regression and
            for classifiers that have none.
        extra: columns that the rows brought and the model does not take.
    """

    labels: list[Any]
    probabilities: Floats | None
    extra: list[str]


def shaped(output: Floats, signature: Signature, extra: list[str]) -> Predictions:
    """Turn probabilities (n_rows, n_classes), or values (n_rows,) of a regression, into an answer.

    Raises:
        InvalidArgumentError: the model has no finite answer to a row; names it.
    """
    finite = np.isfinite(output)
    if not finite.all():
        row = int(np.argmin(finite.reshape(len(output), -1).all(axis=1)))
        raise InvalidArgumentError(
            f"The model has no finite answer to row {row}.",
            hint="Look for values far outside what the model was trained on; describe_model has the ranges.",
            details={"row": row},
        )
    if signature.task == "regression":
        return Predictions(output.ravel().tolist(), None, extra)
    codes = labels(output, signature.threshold) if len(output) else np.empty(0, dtype=np.int64)
    classes = signature.classes
    return Predictions([classes[code] for code in codes.tolist()], output, extra)


def frame_matrix(frame: pl.DataFrame, signature: Signature) -> pd.DataFrame:
    """Return the rows of a dataset in the pipeline's form, once they are what the model takes.

    Raises:
        InvalidArgumentError: a column is missing, of another kind, or holds a number that no model takes; names the
            column, and the row (counted from 0) of the number.
    """
    for column in signature.inputs:
        if column.name in frame.columns:
            _check_column(frame[column.name], column.kind)
    return model_input(frame, signature.inputs)


_TAKEN = {
    "numeric": "numbers",
    "boolean": "true and false",
    "category": "text",
    "date": "dates",
}


def _check_column(column: pl.Series, kind: str) -> None:
    if column.dtype == pl.Null:
        return
    found = kind_of(column)
    fits = found == kind or (kind, found) in {("boolean", "numeric"), ("category", "date")}
    if not fits:
        raise InvalidArgumentError(
            f"Column {shown(column.name)} is of type {column.dtype}; the model takes {_TAKEN[kind]} there.",
            hint="Cast the column with clean_dataset (action cast), then call again.",
        )
    if kind == "numeric" and column.dtype.is_float():
        beyond = (column.fill_nan(None).abs() > LARGEST).fill_null(False).arg_true()
        if len(beyond):
            row = int(beyond[0])
            raise InvalidArgumentError(
                f"Row {row}, column {shown(column.name)}: {shown(column[row])} is not a finite number, at most "
                f"{LARGEST:g} in size.",
                hint="Clean the column with clean_dataset (clip_outliers or replace), then call again.",
            )


def matrix_of(checked: CheckedRows, signature: Signature) -> pd.DataFrame:
    """Return checked rows in the pipeline's form: what `model_input` makes of the same rows."""
    columns: dict[str, Any] = {}
    for column in signature.inputs:
        values = checked.columns[column.name]
        if column.kind == "date":
            columns |= calendar_of(column.name, values)
        elif column.kind == "category":
            words = np.empty(len(values), dtype=object)
            words[:] = [MISSING if word is None else word for word in values]
            columns[column.name] = words
        else:
            columns[column.name] = np.array(values, dtype=np.float64)
    return pd.DataFrame(columns, index=pd.RangeIndex(checked.n_rows), copy=False)


def calendar_of(name: str, days: Sequence[Any]) -> dict[str, Floats]:
    """Return the calendar features of dates (None where missing), each of shape (n_rows,)."""
    nothing = (math.nan,) * len(CALENDAR)
    parts = [
        nothing if day is None else (day.year, day.month, day.isoweekday(), day.timetuple().tm_yday) for day in days
    ]
    table = np.array(parts, dtype=np.float64).reshape(-1, len(CALENDAR))
    return {f"{name}_{part}": table[:, place] for place, part in enumerate(CALENDAR)}
