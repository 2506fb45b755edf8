"""What a suite is derived from: figures of each column from one fused scan, and the shapes of its texts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Any, Final

import polars as pl

from mcp_server.engine.expectations.columns import scan
from mcp_server.engine.expectations.literals import Family, family_of

MAX_CATEGORIES: Final = 50
_SHAPE_SAMPLE: Final = 5000
_MAX_SHAPE_PARTS: Final = 8
_MAX_KEY_CANDIDATES: Final = 8


@dataclass(frozen=True, slots=True)
class ColumnFigures:
    """What one column looks like.

    Attributes:
        present: rows with a value, NaN counted as missing.
        distinct: distinct values.
        low, high: least and greatest value; None for nested and binary columns.
        robust_low, robust_high: the 1 % and 99 % quantiles of numbers.
        falls: rows whose value is below the one before; None where order means nothing.
        repeats_before: rows whose value equals the one before.
        categories: the distinct values where they are few.
        pattern: a regular expression that all texts of a sample follow.
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
    pattern: str | None = None

    @property
    def family(self) -> Family:
        """What kind of values it holds."""
        return family_of(self.dtype)

    @property
    def missing(self) -> int:
        """Rows without a value."""
        return self.rows - self.present


def figures_of(frame: pl.LazyFrame) -> list[ColumnFigures]:
    """Return the figures of all columns, in the frame's order.

    Args:
        frame: any number of rows; NaN already missing.
    """
    schema = frame.collect_schema()
    measures: dict[str, pl.Expr] = {"rows": pl.len()}
    for index, (name, dtype) in enumerate(schema.items()):
        measures.update({f"{index}.{what}": each for what, each in _measures(name, dtype).items()})
    measured = scan(frame, measures)
    own: dict[int, dict[str, Any]] = {index: {} for index in range(len(schema))}
    for key, value in measured.items():
        index_text, _, what = key.partition(".")
        if what:
            own[int(index_text)][what] = value
    return [_figures(name, dtype, measured["rows"], own[index]) for index, (name, dtype) in enumerate(schema.items())]


def _measures(name: str, dtype: pl.DataType) -> dict[str, pl.Expr]:
    values, family = pl.col(name), family_of(dtype)
    measures = {"present": values.count()}
    if family == "other" or dtype == pl.Null:
        return measures
    measures["distinct"] = values.drop_nulls().n_unique()
    if family == "text":
        measures["sample"] = values.drop_nulls().head(_SHAPE_SAMPLE).cast(pl.String).unique().implode()
    if family in {"text", "number"}:
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
        measures |= {"robust_low": values.quantile(0.01), "robust_high": values.quantile(0.99)}
    return measures


def _figures(name: str, dtype: pl.DataType, rows: int, own: Mapping[str, Any]) -> ColumnFigures:
    found = dict(own)
    sample, categories = found.pop("sample", None), found.pop("categories", None) or []
    return ColumnFigures(
        name=name,
        dtype=dtype,
        rows=rows,
        distinct=found.pop("distinct", 0),
        categories=tuple(categories) if len(categories) <= MAX_CATEGORIES else (),
        pattern=pattern_of(sample) if sample else None,
        **found,
    )


def pattern_of(texts: Sequence[str]) -> str | None:
    r"""Return a regular expression that describes how all `texts` are built, None when they share no shape.

    Runs of digits, capitals and small letters are told apart; other characters stand for themselves:
    `["201004300SAC", "194611010TRH"]` gives `^\d{9}[A-Z]{3}$`.
    """
    shapes = [_runs(text) for text in texts]
    first = [kind for kind, _ in shapes[0]]
    if len(first) > _MAX_SHAPE_PARTS or any([kind for kind, _ in runs] != first for runs in shapes):
        return None
    if not any(kind == r"\d" or len(first) > 1 for kind in first) and not _same_length(shapes):
        return None
    parts: list[str] = []
    for position, kind in enumerate(first):
        lengths = [runs[position][1] for runs in shapes]
        low, high = min(lengths), max(lengths)
        count = "" if low == high == 1 else f"{{{low}}}" if low == high else f"{{{low},{high}}}"
        parts.append(kind + count)
    return "^" + "".join(parts) + "$"


def _same_length(shapes: Sequence[Sequence[tuple[str, int]]]) -> bool:
    return len({runs[0][1] for runs in shapes if runs}) == 1


def _runs(text: str) -> list[tuple[str, int]]:
    return [(kind, len(list(run))) for kind, run in groupby(text, _kind)]


def _kind(character: str) -> str:
    if character.isascii() and character.isdigit():
        return r"\d"
    if character.isascii() and character.isalpha():
        return "[A-Z]" if character.isupper() else "[a-z]"
    return re.escape(character)


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
