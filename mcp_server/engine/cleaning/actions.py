"""The actions: for each, what it learns of a table, and what it then does to that table or to another.

=================  ============================================================================================
drop_duplicates    rows that equal another in `columns` (all); keep: first, last, none
drop_missing       rows with a missing cell in `columns` (all); how: any, all; or threshold: keep rows with at
                   least so many values (a whole number), or with at least that share of them (below 1)
impute             method: mean, median, most_frequent, constant (value), knn (neighbors), iterative (rounds); models
                   take seed, and by: the columns that they look at (all columns of numbers)
clip_outliers      method: iqr, zscore, mad; threshold or factor
drop_outliers      the same, and isolation_forest (contamination, seed)
cast               dtype: integer, float, text, boolean, date, datetime; errors: refuse, missing; format (one, or a
                   list in the order of trying); numbers: decimal, thousands, percent, currency, parentheses, round;
                   truth values: true_values, false_values
trim               spaces around text; side: both, left, right; collapse: runs of spaces inside become one
replace            values {cell: new}, or values [cell, …] with `with`; or find (a part of the text) with `with`; or
                   pattern (a regular expression) with `with`; ignore_case
rename             names: {old: new}
drop_columns       `columns`
=================  ============================================================================================
"""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from mcp_server.engine.cleaning.duplicates import duplicate_removal
from mcp_server.engine.cleaning.imputation import imputation_edit, learn_imputation
from mcp_server.engine.cleaning.outliers import clip_edit, learn_outliers, outlier_removal
from mcp_server.engine.cleaning.replacement import learn_replacement, replacement_edit
from mcp_server.engine.cleaning.steps import (
    CellEdit,
    Dropping,
    Operation,
    Removal,
    Renaming,
    Step,
    choice,
    chosen,
    edit,
    flag,
    known_options,
    named,
    require,
    textual,
)
from mcp_server.engine.cleaning.table import Table
from mcp_server.engine.cleaning.types import cast_edit, learn_cast
from mcp_server.errors import InvalidArgumentError, shown

Fitted = Mapping[str, Any]
Learn = Callable[[Step, Table], dict[str, Any]]
Build = Callable[[Step, Fitted, Table], Operation]


def _learn_duplicates(step: Step, table: Table) -> dict[str, Any]:
    known_options(step, "keep", "subset")
    choice(step, "keep", ("first", "last", "none"), "first")
    subset = step.options.get("subset")
    if subset is None:
        return {"columns": chosen(table.schema, step) if step.columns is not None else None}
    if step.columns is not None or not isinstance(subset, list) or not subset:
        raise InvalidArgumentError("columns are given twice, or subset is no list.", hint="Pass columns alone.")
    return {"columns": chosen(table.schema, Step(step.action, tuple(map(str, subset))))}


def _remove_duplicates(step: Step, fitted: Fitted, table: Table) -> Removal:
    names = fitted["columns"] or list(table.schema)
    return duplicate_removal(table, names, choice(step, "keep", ("first", "last", "none"), "first"))


def _learn_missing(step: Step, table: Table) -> dict[str, Any]:
    known_options(step, "how", "threshold")
    names = chosen(table.schema, step)
    how, threshold = choice(step, "how", ("any", "all"), "any"), step.options.get("threshold")
    if threshold is None:
        return {"columns": names, "least": len(names) if how == "any" else 1}
    share = isinstance(threshold, float) and 0 < threshold < 1
    count = type(threshold) is int and 1 <= threshold <= len(names)
    if "how" in step.options or not (share or count):
        raise InvalidArgumentError(
            f"threshold is a number of values from 1 to {len(names)} or a share below 1, without how; "
            f"not {shown(threshold)}.",
            hint="A row with fewer values than that is dropped.",
        )
    return {"columns": names, "least": threshold if count else threshold * len(names)}


def _remove_missing(step: Step, fitted: Fitted, table: Table) -> Removal:
    names = fitted["columns"]
    present = pl.sum_horizontal(pl.col(name).is_not_null().cast(pl.UInt32) for name in names)
    words = [pl.when(pl.col(name).is_null()).then(pl.lit(name)) for name in names]
    missing = pl.concat_str(words, separator=", ", ignore_nulls=True)
    return Removal(present >= fitted["least"], pl.concat_str(pl.lit("missing: "), missing))


def _learn_trim(step: Step, table: Table) -> dict[str, Any]:
    known_options(step, "side", "collapse")
    choice(step, "side", ("both", "left", "right"), "both")
    flag(step, "collapse")
    return {"columns": textual(table.schema, step)}


def _trim(step: Step, fitted: Fitted, table: Table) -> CellEdit:
    side = choice(step, "side", ("both", "left", "right"), "both")
    expressions = {}
    for name in fitted["columns"]:
        text = pl.col(name)
        text = text.str.strip_chars_start() if side != "right" else text
        text = text.str.strip_chars_end() if side != "left" else text
        expressions[name] = text.str.replace_all(r"\s+", " ") if flag(step, "collapse") else text
    return edit(expressions)


def _learn_names(step: Step, table: Table) -> dict[str, Any]:
    known_options(step, "names")
    names = step.options.get("names")
    if not isinstance(names, Mapping) or not names:
        raise InvalidArgumentError("rename needs options.names, an object {old: new}.", hint='{"pts": "points"}.')
    wrong = next((new for new in names.values() if not isinstance(new, str) or not new.strip()), None)
    if wrong is not None or None in names.values():
        raise InvalidArgumentError(f"a column cannot be named {shown(wrong)}.", hint="A name is text.")
    require(table.schema, list(names))
    if step.columns is not None and set(step.columns) != set(names):
        raise InvalidArgumentError("columns and names speak of different columns.", hint="Leave columns out.")
    renamed = [names.get(name, name) for name in table.schema]
    if len(set(renamed)) < len(renamed):
        twice = next(name for name in renamed if renamed.count(name) > 1)
        raise InvalidArgumentError(f"Two columns would be named {shown(twice)}.", hint="Choose another name.")
    return {"columns": list(names)}


def _learn_dropping(step: Step, table: Table) -> dict[str, Any]:
    known_options(step)
    names = named(table.schema, step)
    if len(names) == len(table.schema):
        raise InvalidArgumentError("it would leave 0 columns.", hint="Name fewer columns.")
    return {"columns": names}


ACTIONS: Mapping[str, tuple[Learn, Build]] = {
    "drop_duplicates": (_learn_duplicates, _remove_duplicates),
    "drop_missing": (_learn_missing, _remove_missing),
    "impute": (learn_imputation, imputation_edit),
    "clip_outliers": (learn_outliers, clip_edit),
    "drop_outliers": (learn_outliers, outlier_removal),
    "cast": (learn_cast, cast_edit),
    "trim": (_learn_trim, _trim),
    "replace": (learn_replacement, replacement_edit),
    "rename": (_learn_names, lambda step, fitted, table: Renaming(step.options["names"])),
    "drop_columns": (_learn_dropping, lambda step, fitted, table: Dropping(tuple(fitted["columns"]))),
}
