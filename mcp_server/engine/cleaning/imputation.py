"""Values for cells that have none: learned from one table, and the same for any other."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_server.engine.cleaning.steps import (
    CellEdit,
    Step,
    choice,
    chosen,
    edit,
    known_options,
    numeric,
    type_word,
    whole,
)
from mcp_server.engine.cleaning.table import Table
from mcp_server.errors import InvalidArgumentError, ResourceExhaustedError, shown

IMPUTERS = ("mean", "median", "most_frequent", "constant", "knn", "iterative")
_MODELS = ("knn", "iterative")
_OPTIONS = {"constant": ("value",), "knn": ("neighbors", "seed", "by"), "iterative": ("seed", "rounds", "by")}
_KNN_ROWS = 10_000
_ITERATIVE_ROWS = 20_000
_MAX_COLUMNS = 100
_FEWEST_KNN_ROWS = 1_000
_MAX_KNN_DISTANCES = 1_000_000_000  # about 100 seconds
_WORKING_MIB = 128
_ROWS_AT_ONCE = 1_000

Floats = NDArray[np.float64]


def learn_imputation(step: Step, table: Table) -> dict[str, Any]:
    """Learn what missing cells get.

    Columns named are learned even where they have no missing cell: another table may have. A column of whole numbers
    with missing cells becomes Float64 when what it gets is not whole; without any it stays, and gets that rounded.

    Raises:
        InvalidArgumentError: the method does not fit a column's type, or the column has no value to learn from.
        ResourceExhaustedError: `knn` would compare too many rows.
    """
    method = choice(step, "method", IMPUTERS, None)
    known_options(step, "method", *_OPTIONS.get(method, ()))
    of_numbers = method not in ("most_frequent", "constant")
    names = chosen(table.schema, step, lambda dtype: dtype.is_numeric() or not of_numbers)
    wrong = next((name for name in names if of_numbers and not table.schema[name].is_numeric()), None)
    if wrong is not None:
        raise InvalidArgumentError(
            f"column {shown(wrong)} is {type_word(table.schema[wrong])}; {method} needs numbers.",
            hint="Use most_frequent or constant for it.",
        )
    means = [pl.col(name).mean().alias(f"mean {name}") for name in names if method == "mean"]
    holes = table.figures([pl.col(name).null_count().alias(name) for name in names] + means or [pl.len()])
    empty = [name for name in names if holes[name] == table.n_rows and method != "constant"]
    if empty and step.columns is not None:
        raise InvalidArgumentError(
            f"column {shown(empty[0])} has no value to learn from.", hint="Drop it first, or use constant."
        )
    names = [name for name in names if name not in empty]
    missing = {name: int(str(holes[name])) for name in names}
    if method in _MODELS:
        return _learn_model(step, table, method, missing)
    return _learn_values(step, table, method, missing, {name: holes.get(f"mean {name}") for name in names})


def imputation_edit(step: Step, fitted: Mapping[str, Any], table: Table) -> CellEdit:
    """Return the edit that fills the missing cells by what was learned."""
    if "model" in fitted:
        return _model_edit(fitted, table)
    method = step.options["method"]
    expressions, details = {}, {}
    for name, learned in fitted["values"].items():
        dtype = pl.Float64() if learned["float"] else table.schema[name]
        value = pl.lit(learned["value"]).cast(dtype)
        expressions[name] = pl.col(name).cast(dtype).fill_null(value)
        if "shown" in learned:
            details[name] = f"{method}: {learned['shown']}"
    return edit(expressions, details)


# One value a column --------------------------------------------------------------------------------------------


def _learn_values(
    step: Step, table: Table, method: str, missing: Mapping[str, int], means: Mapping[str, Any]
) -> dict[str, Any]:
    values = {}
    constant = step.options.get("value")
    if method == "constant" and constant is None:
        raise InvalidArgumentError("option value is missing.", hint="constant fills options.value in.")
    for name, n_missing in missing.items():
        dtype = table.schema[name]
        value = constant if method == "constant" else means[name]
        if method in ("median", "most_frequent"):
            value = _statistic(table, name, method)
        fraction = dtype.is_integer() and isinstance(value, float) and not value.is_integer()
        if fraction and isinstance(value, float) and not n_missing and method != "constant":
            value = round(value)
            fraction = False
        plain = _fitting(value, pl.Float64() if fraction else dtype)
        if plain is None and step.columns is None:
            continue
        if plain is None:
            raise InvalidArgumentError(
                f"value {shown(value)} does not fit column {shown(name)}, which is {type_word(dtype)}.",
                hint="Give a value of the column's type.",
            )
        values[name] = {"value": plain, "float": fraction, "shown": shown(value, 40)}
    if not values:
        raise InvalidArgumentError(f"there is no column that {method} fits.", hint="Name columns of its type.")
    return {"columns": list(values), "values": values}


def _statistic(table: Table, name: str, method: str) -> Any:
    if method == "most_frequent":
        counted = table.lazy.select(pl.col(name).alias("value")).drop_nulls().group_by("value").len()
        return counted.sort("len", "value", descending=[True, False]).head(1).collect(engine="streaming")["value"][0]
    return table.column(name).median()


def _fitting(value: Any, dtype: pl.DataType) -> Any:
    """Return `value` as plain JSON that casts to `dtype`, times as their count of units; None when it does not fit."""
    if isinstance(value, str) and dtype.is_temporal():
        value = _time(value, dtype)
    words = isinstance(value, str) != (dtype == pl.String)
    truths = isinstance(value, bool) != (dtype == pl.Boolean)
    if value is None or words or truths or isinstance(value, list | dict):
        return None
    if dtype.is_integer() and isinstance(value, float) and not value.is_integer():
        return None
    try:
        typed = pl.Series([value], strict=False).cast(dtype)
    except (pl.exceptions.PolarsError, TypeError, OverflowError):
        return None
    plain = typed.to_physical()[0]
    return None if isinstance(plain, float) and not np.isfinite(plain) else plain


def _time(text: str, dtype: pl.DataType) -> Any:
    try:
        column = pl.Series([text])
        return (column.str.to_date("%Y-%m-%d") if dtype == pl.Date else column.str.to_datetime(time_unit="us"))[0]
    except pl.exceptions.PolarsError:
        return None


# By models -----------------------------------------------------------------------------------------------------


def _learn_model(step: Step, table: Table, method: str, missing: Mapping[str, int]) -> dict[str, Any]:
    """Fit over columns of numbers, standardised, on a random sample where there are many rows."""
    seed = whole(step, "seed", 0)
    neighbors = whole(step, "neighbors", 5, 1, 1000)
    rounds = whole(step, "rounds", 10, 1, 100)
    context = _looked_at(step, table, missing)
    if len(context) > _MAX_COLUMNS:
        raise ResourceExhaustedError(
            f"{method} would look at {len(context)} columns of numbers; the limit is {_MAX_COLUMNS}.",
            hint="Name the columns to look at in options.by, or use median.",
        )
    sample = table.sample(context, _knn_rows(table, missing) if method == "knn" else _ITERATIVE_ROWS, seed)
    values = _matrix(sample, context)
    centre, scale = _moments(values)
    known = np.isfinite(centre) & np.isfinite(scale)
    context = [name for name, usable in zip(context, known, strict=True) if usable]
    if not missing or not set(missing) <= set(context):
        wrong = next((name for name in missing if name not in context), "")
        raise InvalidArgumentError(
            f"{method} has nothing to learn column {shown(wrong)} from: no values, or too large ones.",
            hint="Drop or clip it first, or use median.",
        )
    values, centre, scale = values[:, known], centre[known], scale[known]
    standard = (values - centre) / scale
    return {
        "columns": list(missing),
        "context": context,
        "rows": len(sample),
        "of_rows": table.n_rows,
        "float": [name for name, n in missing.items() if n and table.schema[name].is_integer()],
        "centre": centre.tolist(),
        "scale": scale.tolist(),
        "model": _fit_knn(standard, neighbors) if method == "knn" else _fit_iterative(standard, seed, rounds),
    }


def _looked_at(step: Step, table: Table, missing: Mapping[str, int]) -> list[str]:
    """Return the columns that a model looks at: those of `by` and the ones it fills, or all columns of numbers."""
    by = step.options.get("by")
    if by is None:
        return [name for name, dtype in table.schema.items() if dtype.is_numeric()]
    if not isinstance(by, list) or not all(isinstance(name, str) for name in by):
        raise InvalidArgumentError(f"option by is a list of columns, not {shown(by)}.", hint="Leave it out for all.")
    named = set(numeric(table.schema, Step(step.action, tuple(by)))) | set(missing)
    return [name for name in table.schema if name in named]


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """Return each column's mean and deviation (1 where it does not vary); NaN or infinite where there are none."""
    present = ~np.isnan(values)
    n_present = present.sum(axis=0)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        centre = np.where(present, values, 0.0).sum(axis=0) / n_present
        scale = np.sqrt(np.where(present, (values - centre) ** 2, 0.0).sum(axis=0) / n_present)
    return centre, np.where(scale == 0, 1.0, scale)


def _knn_rows(table: Table, missing: Mapping[str, int]) -> int:
    """Return how many rows the others may be compared with, so that the pairs stay within their limit."""
    holed = pl.any_horizontal(pl.col(list(missing)).is_null()).sum().alias("n")
    n_holed = int(str(table.figures([holed])["n"])) if missing else 0
    affordable = _MAX_KNN_DISTANCES // max(1, n_holed)
    if affordable < min(_FEWEST_KNN_ROWS, table.n_rows):
        raise ResourceExhaustedError(
            f"knn would compare {n_holed:,} rows that have gaps with {_FEWEST_KNN_ROWS:,} others; "
            f"the limit is {_MAX_KNN_DISTANCES:,} pairs.",
            hint="Use iterative or median, or fewer rows.",
        )
    return min(_KNN_ROWS, affordable)


def _matrix(frame: pl.DataFrame, names: Sequence[str]) -> Floats:
    matrix: Floats = frame.select(pl.col(names).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    return np.where(np.isfinite(matrix), matrix, np.nan)


def _fit_knn(standard: Floats, neighbors: int) -> dict[str, Any]:
    """Keep the rows that others are compared with. Source: Troyanskaya et al., Bioinformatics 17 (2001)."""
    from sklearn.impute import KNNImputer

    from mcp_server.engine.model_files import dump_model

    data = dump_model(KNNImputer(n_neighbors=neighbors).fit(standard))
    return {
        "kind": "knn",
        "skops": base64.b64encode(data).decode(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _fit_iterative(standard: Floats, seed: int, rounds: int) -> dict[str, Any]:
    """Fit regressions of each column on the others, in turns, and keep their coefficients.

    Source: van Buuren & Groothuis-Oudshoorn, Journal of Statistical Software 45 (2011).
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # scikit-learn hides it behind this
    from sklearn.impute import IterativeImputer

    imputer = IterativeImputer(random_state=seed, max_iter=rounds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a number of turns is what is promised
        imputer.fit(standard)
    return {
        "kind": "iterative",
        "initial": imputer.initial_imputer_.statistics_.tolist(),
        "turns": [
            {
                "column": int(turn.feat_idx),
                "others": turn.neighbor_feat_idx.tolist(),
                "coefficients": turn.estimator.coef_.tolist(),
                "intercept": float(turn.estimator.intercept_),
            }
            for turn in imputer.imputation_sequence_
        ],
    }


def _model_edit(fitted: Mapping[str, Any], table: Table) -> CellEdit:
    context, names, floats = fitted["context"], fitted["columns"], set(fitted["float"])
    centre, scale = np.array(fitted["centre"]), np.array(fitted["scale"])
    fill = _knn_filler(fitted["model"]) if fitted["model"]["kind"] == "knn" else _turns_filler(fitted["model"])
    targets = [context.index(name) for name in names]

    def filled(rows: pl.Series) -> pl.Series:
        matrix = _matrix(rows.struct.unnest(), context)
        holed = np.isnan(matrix[:, targets]).any(axis=1)
        for rows_at in np.array_split(np.flatnonzero(holed), 1 + int(holed.sum()) // _ROWS_AT_ONCE):
            table.pulse()
            if len(rows_at):
                matrix[rows_at] = fill((matrix[rows_at] - centre) / scale) * scale + centre
        return pl.DataFrame({name: matrix[:, at] for name, at in zip(names, targets, strict=True)}).to_struct("new")

    shape = pl.Struct(dict.fromkeys(names, pl.Float64))
    new = pl.struct(context).map_batches(filled, return_dtype=shape, is_elementwise=True).alias(_NEW)

    def apply(frame: pl.LazyFrame) -> pl.LazyFrame:
        columns = []
        for name in names:
            dtype = pl.Float64() if name in floats else table.schema[name]
            value = pl.col(_NEW).struct.field(name)
            value = value.round(0) if dtype.is_integer() else value
            columns.append(pl.col(name).cast(dtype).fill_null(value.cast(dtype, strict=False)).alias(name))
        return frame.with_columns(new).with_columns(columns).drop(_NEW)

    n_rows, of_rows = fitted["rows"], fitted["of_rows"]
    sampled = f"{n_rows:,} random rows of {of_rows:,}" if n_rows < of_rows else f"{n_rows:,} rows"
    detail = f"{fitted['model']['kind']} over {len(context)} columns of numbers, fitted on {sampled}"
    return CellEdit(tuple(names), apply, dict.fromkeys(names, detail))


_NEW = "\x00new"


def _knn_filler(model: Mapping[str, Any]) -> Any:
    from sklearn import config_context

    from mcp_server.engine.model_files import load_model

    imputer = load_model(base64.b64decode(model["skops"]), model["sha256"])

    def fill(standard: Floats) -> Floats:
        with config_context(working_memory=_WORKING_MIB):
            result: Floats = imputer.transform(standard)
        return result

    return fill


def _turns_filler(model: Mapping[str, Any]) -> Any:
    """Repeat the turns of the fit on other rows: start from the means, then one regression after the other."""
    initial = np.array(model["initial"])
    turns = [
        (turn["column"], np.array(turn["others"], dtype=np.int64), np.array(turn["coefficients"]), turn["intercept"])
        for turn in model["turns"]
    ]

    def fill(standard: Floats) -> Floats:
        holes = np.isnan(standard)
        matrix = np.where(holes, initial, standard)
        for column, others, coefficients, intercept in turns:
            rows = holes[:, column]
            if rows.any():
                matrix[rows, column] = matrix[np.ix_(rows, others)] @ coefficients + intercept
        return matrix

    return fill
