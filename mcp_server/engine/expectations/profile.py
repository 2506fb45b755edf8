"""What a suite is derived from: figures of each column from one fused scan, and a sample of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import polars as pl

from mcp_server.engine.expectations.columns import scan
from mcp_server.engine.expectations.literals import Family, family_of
from mcp_server.engine.expectations.shapes import Shape, shape_of

MAX_CATEGORIES: Final = 150
_SAMPLE_ROWS: Final = 10_000
_MAX_KEY_CANDIDATES: Final = 8


@dataclass(frozen=True, slots=True)
class ColumnFigures:
    """What one column looks like.

    Attributes:
        present: rows with a value, NaN counted as missing.
        distinct: distinct values.
        low, high: least and greatest value; None for nested and binary columns.
        robust_low, robust_high: the 1 % and 99 % quantiles of a sample of numbers.
        falls: rows whose value is below the one before; None where order means nothing.
        repeats_before: rows whose value equals the one before.
        categories: the distinct values where they are few.
        shape: how all texts of a sample are built.
        mean, deviation: of numbers.
        lengths: the least and the greatest number of characters of texts.
    """

    name: str
    dtype: pl.DataType
    rows: int
    present: int
    distinct: int
    low: Any = None
    high: Any = None
    robust_low: float | None = None
    robust_high: float | None = None
    falls: int | None = None
    repeats_before: int | None = None
    categories: tuple[Any, ...] = ()
    shape: Shape | None = None
    mean: float | None = None
    deviation: float | None = None
    lengths: tuple[int, int] | None = None

    @property
    def family(self) -> Family:
        """What kind of values it holds."""
        return family_of(self.dtype)

    @property
    def missing(self) -> int:
        """Rows without a value."""
        return self.rows - self.present


def sample_of(frame: pl.LazyFrame, rows: int) -> pl.DataFrame:
    """Return some ten thousand rows spread over all of `frame`, all where there are fewer."""
    step = max(1, rows // _SAMPLE_ROWS)
    return frame.gather_every(step).collect(engine="streaming") if step > 1 else frame.collect()


def figures_of(frame: pl.LazyFrame, sample: pl.DataFrame) -> list[ColumnFigures]:
    """Return the figures of all columns, in the frame's order.

    Args:
        frame: any number of rows; NaN already missing.
        sample: rows spread over it, from which the shapes of texts and the robust ends of numbers are taken.
    """
    schema = frame.collect_schema()
    measures: dict[str, pl.Expr] = {"rows": pl.len()}
    for index, (name, dtype) in enumerate(schema.items()):
        few = sample[name].n_unique() <= MAX_CATEGORIES + 1 if family_of(dtype) in {"text", "number"} else False
        measures.update({f"{index}.{what}": each for what, each in _measures(name, dtype, few=few).items()})
    measured = scan(frame, measures)
    own: dict[int, dict[str, Any]] = {index: {} for index in range(len(schema))}
    for key, value in measured.items():
        index_text, _, what = key.partition(".")
        if what:
            own[int(index_text)][what] = value
    return [
        _figures(name, dtype, measured["rows"], own[index] | _ends(sample[name], dtype), _texts(sample[name], dtype))
        for index, (name, dtype) in enumerate(schema.items())
    ]


def _texts(sample: pl.Series, dtype: pl.DataType) -> list[str]:
    return sample.drop_nulls().cast(pl.String).to_list() if family_of(dtype) == "text" else []


def _ends(sample: pl.Series, dtype: pl.DataType) -> dict[str, Any]:
    if family_of(dtype) != "number" or dtype == pl.Null:
        return {}
    return {"robust_low": sample.quantile(0.01), "robust_high": sample.quantile(0.99)}


def _measures(name: str, dtype: pl.DataType, *, few: bool) -> dict[str, pl.Expr]:
    values, family = pl.col(name), family_of(dtype)
    measures = {"present": values.count()}
    if family == "other" or dtype == pl.Null:
        return measures
    measures["distinct"] = values.drop_nulls().n_unique()
    if family == "text":
        length = values.cast(pl.String).str.len_chars()
        measures |= {"shortest": length.min(), "longest": length.max()}
    if few:
        measures["categories"] = values.drop_nulls().unique().sort().head(MAX_CATEGORIES + 1).implode()
    if family in {"number", "date", "moment"}:
        before = values.shift(1)
        measures |= {
            "low": values.min(),
            "high": values.max(),
            "falls": (values < before).sum(),
            "repeats_before": (values == before).sum(),
        }
    if family == "number":
        measures |= {
            "mean": values.mean(),
            "deviation": values.std(),
        }
    return measures


def _figures(name: str, dtype: pl.DataType, rows: int, own: Mapping[str, Any], texts: Sequence[str]) -> ColumnFigures:
    found = dict(own)
    categories = found.pop("categories", None) or []
    shortest, longest = found.pop("shortest", None), found.pop("longest", None)
    return ColumnFigures(
        name=name,
        dtype=dtype,
        rows=rows,
        distinct=found.pop("distinct", 0),
        categories=tuple(categories) if len(categories) <= MAX_CATEGORIES else (),
        shape=shape_of(texts),
        lengths=(shortest, longest) if shortest is not None else None,
        **found,
    )


def compound_key(frame: pl.LazyFrame, columns: Sequence[ColumnFigures]) -> tuple[str, ...] | None:
    """Return two columns that together identify each row, the most telling first; None when no two do.

    Args:
        frame: the rows the figures were taken from.
        columns: their figures.
    """
    fit = [each for each in columns if not each.missing and not each.dtype.is_float() and each.distinct > 1]
    fit = sorted((each for each in fit if each.family != "other"), key=lambda each: -each.distinct)
    pairs = [
        (first, second)
        for first, second in combinations(fit[:_MAX_KEY_CANDIDATES], 2)
        if first.distinct * second.distinct >= first.rows
    ]
    if not pairs:
        return None
    counts = frame.select(
        **{str(index): pl.struct(first.name, second.name).n_unique() for index, (first, second) in enumerate(pairs)}
    ).collect(engine="streaming")
    for index, (first, second) in enumerate(pairs):
        if counts.item(0, str(index)) == first.rows:
            return first.name, second.name
    return None
