"""Steps that hardly anybody would argue with, each with its reason: what `steps="auto"` runs.

Missing values are not filled and outliers are not touched: training fills inside its pipeline, from training rows
only, and a game that was not played yet is to stay without a result.
"""

import polars as pl

from mcp_server.engine.cleaning_steps import Step
from mcp_server.engine.type_inference import infer_column

# Words that stand for "missing" in any column of text; "NA" and "-" are left alone, as both can be a value
_MISSING_WORDS = ("null", "none", "n/a", "#n/a", "nan")
_CAST = {pl.Int64: "integer", pl.Float64: "float", pl.Boolean: "boolean", pl.Date: "date", pl.Datetime: "datetime"}


def propose_steps(frame: pl.DataFrame) -> list[Step]:
    """Return the steps for `frame`, in the order in which they are to run; empty when there is nothing to mend."""
    texts = [column for column in frame.iter_columns() if column.dtype == pl.String]
    steps = []
    padded = [column.name for column in texts if (column != column.str.strip_chars()).any()]
    if padded:
        steps.append(Step("trim", tuple(padded), {}, f"{len(padded)} columns of text have spaces around values."))
    trimmed = {column.name: column.str.strip_chars() for column in texts}
    for name, column in trimmed.items():
        words = _missing_words(column)
        if words:
            n_cells = int(column.is_in(words).sum())
            reason = f"{n_cells} cells hold a word for missing."
            steps.append(Step("replace", (name,), {"values": dict.fromkeys(words)}, reason))
            trimmed[name] = column.set(column.is_in(words).fill_null(False), None)
    steps += _casts(trimmed)
    empty = [c.name for c in frame.iter_columns() if trimmed.get(c.name, c).null_count() == len(c)]
    if empty and len(empty) < frame.width:
        steps.append(Step("drop_columns", tuple(empty), {}, "They hold no value at all."))
    cleaned = frame.with_columns(trimmed.values())
    n_repeated = len(cleaned) - cleaned.hash_rows(seed=0).n_unique()
    if n_repeated:
        steps.append(Step("drop_duplicates", None, {}, f"{n_repeated} rows repeat another in every column."))
    return steps


def _missing_words(column: pl.Series) -> list[str]:
    counted = column.drop_nulls().unique()
    return sorted(counted.filter(counted.str.to_lowercase().is_in(_MISSING_WORDS)))


def _casts(columns: dict[str, pl.Series]) -> list[Step]:
    by_type: dict[str, list[str]] = {}
    for name, column in columns.items():
        typed = infer_column(column)[0].dtype if column.null_count() < len(column) else column.dtype
        target = next((word for kind, word in _CAST.items() if typed == kind), None)
        if target is not None:
            by_type.setdefault(target, []).append(name)
    return [
        Step("cast", tuple(names), {"dtype": target, "errors": "missing"}, f"Their text reads as {target} throughout.")
        for target, names in by_type.items()
    ]
