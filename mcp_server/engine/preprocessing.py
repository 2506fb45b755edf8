"""Mixed columns in, one matrix out: what is learned from data is learned inside the pipeline.

Two steps, in this order, at training and at prediction alike:

1. `model_input` brings named columns to the pipeline's form and learns nothing: numbers and booleans become
   float64 (missing: NaN), dates become calendar features, words stay words (missing: ``(missing)``).
2. The pipeline's `ColumnTransformer` imputes, scales and encodes with what it saw in the training part. It has
   at most two parts, ``numeric`` and ``category``, made of scikit-learn's own classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from mcp_server.errors import InvalidArgumentError, shown

Kind = Literal["numeric", "boolean", "category", "date"]
Style = Literal["scaled", "tree"]

MISSING = "(missing)"
MAX_CATEGORIES = 50
MANY_WORDS = 5000  # from here on rare ones are not looked at one by one
FEW_WORDS = 200
LARGEST = 1e38  # trees hold numbers in 32 bits, which end at 3.4e38
SHOWN_CATEGORIES = 20
CALENDAR = ("year", "month", "weekday", "day_of_year")


@dataclass(frozen=True, slots=True)
class InputColumn:
    """One column a model takes.

    Attributes:
        kind: `numeric` and `boolean` become one float64 column, `date` four, `category` stays one of words.
        dtype: the Polars type in the training data.
        nullable: missing values were seen in training.
        minimum, maximum: the range seen in training; None for words and dates.
        categories: the most frequent words seen in training.
    """

    name: str
    kind: Kind
    dtype: str
    nullable: bool
    minimum: float | None = None
    maximum: float | None = None
    categories: list[str] = field(default_factory=list)


def unknown_column(what: str, name: str, columns: Sequence[str]) -> InvalidArgumentError:
    """Return the error for `what` (the target, a feature, …) naming a column that the data does not have."""
    near = ", ".join(shown(close) for close in get_close_matches(str(name), columns, n=3, cutoff=0.5))
    return InvalidArgumentError(
        f"{what} {shown(name)} is not a column of the dataset.",
        hint=f"Close names: {near}." if near else "describe_dataset lists the columns.",
        details={"column": str(name)[:200], "columns": [str(column)[:100] for column in columns[:50]]},
    )


def kind_of(column: pl.Series) -> Kind | None:
    """Return how a model can take `column`; None for types it cannot take (lists, structs, binary, times)."""
    if column.dtype == pl.Boolean:
        return "boolean"
    if column.dtype.is_numeric() or column.dtype == pl.Null:  # Null: a column without any value
        return "numeric"
    if column.dtype in (pl.Date, pl.Datetime):
        return "date"
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        return "date" if column.dtype == pl.String and _is_iso_dates(column) else "category"
    return None


def _is_iso_dates(column: pl.Series) -> bool:
    """Return True when every word is a date written YYYY-MM-DD."""
    words = column.drop_nulls()
    if len(words) == 0 or not words.head(50).str.contains(r"^\d{4}-\d{2}-\d{2}$").all():
        return False
    return words.str.to_date("%Y-%m-%d", strict=False).null_count() == 0


def describe_input(column: pl.Series) -> InputColumn:
    """Describe one training column.

    Raises:
        InvalidArgumentError: a model cannot take a column of this type.
    """
    kind = kind_of(column)
    if kind is None:
        raise InvalidArgumentError(
            f"feature {shown(column.name)} has type {column.dtype}, which a model cannot take.",
            hint="Derive a number, a word or a date from it with transform_dataset, or leave it out.",
        )
    nullable = column.null_count() > 0 or bool(column.dtype.is_float() and column.is_nan().any())
    if kind in ("numeric", "boolean"):
        values = _numbers(column)
        low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (None, None)
        bounds = (None if low is None else float(low), None if high is None else float(high))
        return InputColumn(column.name, kind, str(column.dtype), nullable, *bounds)
    if kind == "date":
        return InputColumn(column.name, kind, str(column.dtype), nullable)
    words = column.cast(pl.String).drop_nulls().value_counts(sort=True)
    frequent = words[column.name].head(SHOWN_CATEGORIES).to_list()
    return InputColumn(column.name, kind, str(column.dtype), nullable, categories=frequent)


def describe_inputs(frame: pl.DataFrame, features: Sequence[str]) -> list[InputColumn]:
    """Describe the training columns named in `features`, in that order.

    Raises:
        InvalidArgumentError: a model cannot take one, or a part of a date has the name of another feature.
    """
    inputs = [describe_input(frame[name]) for name in features]
    for column in inputs:
        taken = [f"{column.name}_{part}" for part in CALENDAR if f"{column.name}_{part}" in features]
        if column.kind == "date" and taken:
            raise InvalidArgumentError(
                f"feature {shown(column.name)} is a date whose parts become features, and {shown(taken[0])} is there.",
                hint="Leave one of the two out of features, or rename it with transform_dataset.",
            )
    return inputs


def _numbers(column: pl.Series) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return float64, missing as NaN; words that are no numbers are missing too."""
    values = column.cast(pl.Float64, strict=False).fill_null(float("nan"))
    return np.asarray(values.to_numpy(), dtype=np.float64)


def _dates(column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        return column.str.to_date("%Y-%m-%d", strict=False)
    return column.cast(pl.Date, strict=False)


def _calendar(column: pl.Series) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    dates = _dates(column).dt
    parts = (dates.year(), dates.month(), dates.weekday(), dates.ordinal_day())
    return {
        f"{column.name}_{name}": _numbers(part.cast(pl.Float64)) for name, part in zip(CALENDAR, parts, strict=True)
    }


def model_input(frame: pl.DataFrame, inputs: Sequence[InputColumn]) -> pd.DataFrame:
    """Return the columns of `inputs` in the form the pipeline was fitted on; nothing is learned here.

    Raises:
        InvalidArgumentError: the frame lacks a column of `inputs`.
    """
    missing = [column.name for column in inputs if column.name not in frame.columns]
    if missing:
        raise InvalidArgumentError(
            f"The data lacks {len(missing)} of the model's features: {', '.join(map(shown, missing[:5]))}.",
            hint="describe_model lists the features a model takes.",
        )
    columns: dict[str, Any] = {}
    for wanted in inputs:
        column = frame[wanted.name]
        if wanted.kind == "date":
            columns |= _calendar(column)
        elif wanted.kind == "category":
            columns[wanted.name] = column.cast(pl.String).fill_null(MISSING).to_numpy().astype(object)
        else:
            columns[wanted.name] = _numbers(column)
    return pd.DataFrame(columns, index=pd.RangeIndex(frame.height))


def matrix_columns(inputs: Sequence[InputColumn]) -> tuple[list[str], list[str]]:
    """Return the names of the numeric and of the word columns that `model_input` makes."""
    numeric: list[str] = []
    for column in inputs:
        if column.kind == "date":
            numeric += [f"{column.name}_{part}" for part in CALENDAR]
        elif column.kind != "category":
            numeric.append(column.name)
    return numeric, [column.name for column in inputs if column.kind == "category"]


def empty_columns(matrix: pd.DataFrame) -> list[str]:
    """Return the numeric columns of a training matrix without any value: there is nothing to learn from them.

    Boosting cannot cut them into bins. Where no column has a value, none is named.
    """
    empty = [str(name) for name in matrix.columns if matrix[name].isna().all()]
    return empty if len(empty) < len(matrix.columns) else []


def frequent_words(matrix: pd.DataFrame) -> dict[str, list[str]]:
    """Return the most frequent words of each word column of a training matrix, where one of them has very many.

    Empty where none has: then the encoder finds the frequent ones itself. It would sort all words, and the model's
    file would hold each of them: a million take 20 seconds a fit.
    """
    columns = [str(name) for name in matrix.columns if not pd.api.types.is_numeric_dtype(matrix[name])]
    counts = {name: matrix[name].value_counts() for name in columns}
    if all(len(words) <= MANY_WORDS for words in counts.values()):
        return {}
    return {name: sorted(str(word) for word in words.index[:MAX_CATEGORIES]) for name, words in counts.items()}


def preprocessor(
    inputs: Sequence[InputColumn],
    style: Style,
    without: Sequence[str] = (),
    words_kept: Mapping[str, Sequence[str]] | None = None,
) -> ColumnTransformer:
    """Return the unfitted first step of a pipeline.

    `scaled` (linear models, neighbours, networks): median imputation with indicators, unit variance, one column a
    word. `tree`: numbers as they are (missing values too), one code a word. Words not seen in training,
    and rare ones, share a place of their own, so that they never fail. Numeric columns named in `without` are left out;
    with `words_kept` (`frequent_words`) only those words have a place.
    """
    numeric, words = matrix_columns(inputs)
    numeric = [name for name in numeric if name not in without]
    kept = {"categories": [np.array(words_kept[name], dtype=object) for name in words]} if words_kept else {}
    most = None if words_kept else MAX_CATEGORIES
    if style == "tree":
        number_step: Any = "passthrough"
        word_step: Any = OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=-1, max_categories=most, dtype=np.float64, **kept
        )
    else:
        number_step = Pipeline(
            [
                ("impute", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)),
                ("scale", StandardScaler()),
            ]
        )
        word_step = OneHotEncoder(
            handle_unknown="infrequent_if_exist", max_categories=most, sparse_output=False, **kept
        )
    parts = [("numeric", number_step, numeric)] if numeric else []
    parts += [("category", word_step, words)] if words else []
    return ColumnTransformer(parts, remainder="drop", sparse_threshold=0, verbose_feature_names_out=False)


def encode_target(
    target: pl.Series, task: str, classes: list[Any] | None = None
) -> tuple[np.ndarray[Any, Any], list[Any]]:
    """Return class codes (n,) with the classes in order, or values (n,) with no classes.

    With `classes` given, rows are coded against it.

    Raises:
        InvalidArgumentError: a value is not among `classes`.
    """
    if task == "regression":
        return _numbers(target), []
    values = _class_values(target)
    known = classes if classes is not None else sorted(set(values), key=_class_order)
    place = {_class_key(value): code for code, value in enumerate(known)}
    strange = sorted({str(value) for value in values if _class_key(value) not in place})
    if strange:
        raise InvalidArgumentError(
            f"Column {shown(target.name)} holds {shown(strange[0])}, which the model was not trained on.",
            hint=f"Its classes are {', '.join(str(c) for c in known[:10])}.",
        )
    return np.array([place[_class_key(value)] for value in values], dtype=np.int64), known


def _class_values(target: pl.Series) -> list[Any]:
    """Return labels as JSON knows them; whole floats become integers."""
    if target.dtype.is_float() and bool((target == target.round(0)).all()):
        return target.cast(pl.Int64).to_list()
    if target.dtype.is_numeric() or target.dtype == pl.Boolean:
        return target.to_list()
    return target.cast(pl.String).to_list()


def _class_key(value: object) -> object:
    """Let 1, 1.0, True be one class, as a CSV and a recipe may write the same label differently."""
    return float(value) if isinstance(value, bool | int | float) else value


def _class_order(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, bool | int | float) else (1, value)
