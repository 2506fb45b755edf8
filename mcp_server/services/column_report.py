"""One column of a profile's report: its figures in words and its shape as a chart."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from mcp_server.engine.charts import Bars, Histogram
from mcp_server.engine.plain_text import percent_words, plain_text
from mcp_server.engine.profiling.columns import ColumnProfile
from mcp_server.stores.parquet import dtype_name
from mcp_server.stores.query_values import plain_value, visible_text

_LISTED = 3
_VALUE_LENGTH = 60


def column_facts(column: ColumnProfile) -> list[tuple[str, Any]]:
    """Return a column's figures with their names; those that say nothing are left out."""
    facts: list[tuple[str, Any]] = [
        ("type", dtype_name(column.dtype)),
        ("missing", _counted(column.missing, column.n_rows)),
        ("distinct", _counted(column.distinct, column.present)),
    ]
    if column.dtype.is_numeric():
        facts += _number_facts(column)
    elif column.dtype.is_temporal():
        facts += [("first", _shown(column.min)), *_quantile_facts(column), ("last", _shown(column.max))]
    elif column.lengths is not None:
        low, mean, high = column.lengths
        facts += [("characters", f"{low} to {high}, mean {mean:.1f}")]
        facts += [("first by order", _shown(column.min)), ("last by order", _shown(column.max))]
    elif column.mean is not None:
        facts += [("share of true", f"{column.mean:.2%}")]
    if column.order:
        facts.append(("down the rows", column.order))
    if column.top_values and (column.dtype.is_numeric() or column.dtype.is_temporal()):
        facts.append(("most frequent", _frequent(column)))
    return facts


def _number_facts(column: ColumnProfile) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [
        ("mean", _shown(column.mean)), ("standard deviation", _shown(column.std)), ("min", _shown(column.min)),
        *_quantile_facts(column), ("max", _shown(column.max)),
    ]  # fmt: skip
    facts += (
        [("skewness", _shown(column.skew)), ("excess kurtosis", _shown(column.kurtosis))]
        if column.skew is not None
        else []
    )
    counts = (
        ("zeros", column.zeros),
        ("negative", column.negative),
        ("infinite", column.infinite),
        ("far out", column.outliers),
    )
    facts += [(name, _counted(count, column.present)) for name, count in counts if count]
    if column.distinct > 2 * _LISTED:
        facts += [("lowest", _listed(column.lowest)), ("highest", _listed(column.highest))]
    return facts


def _quantile_facts(column: ColumnProfile) -> list[tuple[str, Any]]:
    return [
        ("median" if name == "0.5" else f"{float(name):.0%} below", _shown(value))
        for name, value in column.quantiles.items()
    ]


def _counted(count: int, of: int) -> str:
    return f"{count:,} ({percent_words(100 * count / of)})" if of else f"{count:,}"


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(plain_text(rounded(value)) for value in values[:_LISTED])


def _frequent(column: ColumnProfile) -> str:
    top = column.top_values[:_LISTED]
    parts = [f"{plain_text(_shown(value))} ({percent_words(100 * n / column.present)})" for value, n in top]
    return ", ".join(parts)


def _shown(value: Any) -> Any:
    if isinstance(value, date | datetime):
        return str(value)[:19]
    return visible_text(value, _VALUE_LENGTH) if isinstance(value, str) else rounded(plain_value(value))


def rounded(value: Any) -> Any:
    """Return a float with six figures, anything else as it is."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def column_chart(column: ColumnProfile, title: str = "") -> Histogram | Bars | None:
    """Return the shape of a column: ranges of numbers and times, else frequent values; None where it has neither."""
    if column.counts and column.distinct > 2:
        edges, counts = column.trimmed if column.trimmed[1] else (column.edges, column.counts)
        left_out = sum(column.counts) - sum(counts)
        note = f"{left_out:,} far values are not drawn; min and max tell their range." if left_out else ""
        greatest = None if left_out or column.dtype.is_temporal() else rounded(float(column.max))
        return Histogram([_edge(edge) for edge in edges], list(counts), title, note=note, greatest=greatest)
    if not column.top_values:
        return None
    shares = [100 * count / column.present for _, count in column.top_values]
    labels = [_label(value) for value, _ in column.top_values]
    other = column.distinct - len(labels)
    note = f"{other:,} other values make up {max(0.0, 100 - sum(shares)):.1f} %." if other > 0 else ""
    return Bars(labels, shares, title, "% of values" if not title else "", percent=True, note=note)


def _label(value: Any) -> str:
    if isinstance(value, str):
        return visible_text(value, _VALUE_LENGTH) if value.strip() else f"“{value}”"
    return plain_text(rounded(value))


def _edge(edge: Any) -> float | str:
    return rounded(edge) if isinstance(edge, float) else str(edge)[:19]
