"""Plots as PNG bytes, at most 200 KB each.

They are drawn with Matplotlib's `Figure` objects: no pyplot, no global style, so that several threads may draw at
once. Names from data are untrusted text: `$` starts no formula, hidden characters are gone, long names are cut.
Values that are not finite are left out; a plot without values says so instead of failing.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import EngFormatter, PercentFormatter, ScalarFormatter
from numpy.typing import ArrayLike, NDArray

from mcp_server.engine import charts

MAX_BYTES = 200_000
MAX_BARS = 30
MAX_PANELS = 12
_SMALL_BARS = 6
LABEL_LENGTH = 40
TITLE_LENGTH = 90

# Okabe and Ito, Color Universal Design (2008): told apart with every kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5b6675")
_TEXT = "#1c2430"
_SOFT = "#5b6675"
_GRID = "#e3e7ed"
_FONT = "DejaVu Sans"  # ships with Matplotlib, so a plot looks the same everywhere
_WIDTH_IN = 7.0
_HEIGHT_IN = 4.2
_DPI = 120

Floats = NDArray[np.float64]


def histogram(values: ArrayLike, *, title: str, label: str = "", bins: int = 30) -> bytes:
    """Draw how often each range of `values` occurs.

    Args:
        values: shape (n,), any unit.
        title: shown above.
        label: name of the horizontal axis, with its unit.
        bins: equal ranges between the least and the greatest value.
    """
    figure, axes = _canvas(title, label, "rows")
    numbers = _finite(values)
    if not numbers.size:
        return _nothing(figure, axes)
    axes.hist(numbers, bins=bins, color=COLOURS[0], edgecolor="white", linewidth=0.5)
    return _png(figure)


def bar_chart(
    labels: Sequence[str],
    values: ArrayLike,
    *,
    title: str,
    value_label: str = "",
    errors: ArrayLike | None = None,
) -> bytes:
    """Draw one horizontal bar a label, the first on top, each with its value; after 30 bars it says how many follow.

    Args:
        labels: n names.
        values: shape (n,), any unit; a value that is not finite gets no bar.
        title: shown above.
        value_label: name of the horizontal axis, with its unit.
        errors: shape (n,), half widths of intervals, in the unit of `values`.
    """
    numbers = _floats(values)
    left_out = max(0, len(numbers) - MAX_BARS)
    numbers = numbers[:MAX_BARS]
    n = len(numbers)
    below = f"{value_label} ({left_out} more not shown)" if left_out else value_label
    figure, axes = _canvas(title, below, "", height_in=max(2.2, 1.2 + 0.32 * n))
    if not np.isfinite(numbers).any():
        return _nothing(figure, axes)
    drawn = np.nan_to_num(numbers, nan=0.0, posinf=0.0, neginf=0.0)
    spans = None if errors is None else np.nan_to_num(_floats(errors)[:n], posinf=0.0, neginf=0.0)
    bars = axes.barh(np.arange(n), drawn, xerr=spans, color=COLOURS[0], height=0.7, ecolor=_SOFT)
    names = [f"{number:.4g}" if np.isfinite(number) else "no value" for number in numbers]
    axes.bar_label(bars, names, padding=4, fontsize=8, color=_SOFT)
    axes.set_yticks(np.arange(n), [_text(label) for label in labels[:n]], fontsize=9)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.axvline(0, color=_SOFT, linewidth=0.8)
    axes.margins(x=0.14)
    return _png(figure)


def draw(chart: charts.Chart) -> bytes:
    """Draw a chart that was kept as data."""
    if isinstance(chart, charts.Panels):
        return _panels(chart)
    if isinstance(chart, charts.Heatmap):
        cells = [[np.nan if cell is None else cell for cell in row] for row in chart.cells]
        return heatmap(cells, chart.row_labels, chart.column_labels, title=chart.title, diverging=True)
    if isinstance(chart, charts.Bars):
        return bar_chart(chart.labels, chart.values, title=chart.title, value_label=chart.value_label)
    figure, axes = _canvas(chart.title, chart.label or chart.note, "rows")
    if not chart.counts:
        return _nothing(figure, axes)
    _ranges(axes, chart)
    return _png(figure)


def _panels(chart: charts.Panels) -> bytes:
    """Draw small charts in rows of three, each with its title."""
    n = min(len(chart.charts), MAX_PANELS)
    figure = Figure(figsize=(_WIDTH_IN + 1, 0.7 + 1.75 * -(-max(n, 1) // 3)), dpi=_DPI, layout="constrained")
    figure.set_facecolor("white")
    FigureCanvasAgg(figure)
    figure.suptitle(_text(chart.title, TITLE_LENGTH), fontsize=12, fontweight="bold", color=_TEXT, fontfamily=_FONT)
    if not n:
        return _nothing(figure, figure.add_subplot())
    for i, each in enumerate(chart.charts[:n]):
        axes = figure.add_subplot(-(-n // 3), min(n, 3), i + 1)
        _style(axes)
        axes.set_title(_text(each.title, 30), loc="left", fontsize=9, color=_TEXT, fontfamily=_FONT)
        if isinstance(each, charts.Histogram):
            _ranges(axes, each)
        else:
            _small_bars(axes, each)
    return _png(figure)


def _ranges(axes: Axes, chart: charts.Histogram) -> None:
    """Draw a histogram from its counts; ranges of times get equal widths and the words of their ends."""
    edges = chart.edges
    numbers = [edge for edge in edges if isinstance(edge, int | float)]
    timed = len(numbers) < len(edges)
    at = np.arange(len(edges), dtype=np.float64) if timed else np.asarray(numbers, dtype=np.float64)
    if at[0] == at[-1]:
        at = at + np.array([-0.5, 0.5])
    axes.bar(at[:-1], chart.counts, np.diff(at), align="edge", color=COLOURS[0], edgecolor="white", linewidth=0.5)
    axes.grid(visible=False, axis="x")
    axes.locator_params(axis="y", nbins=4)
    axes.yaxis.set_major_formatter(EngFormatter())
    if timed:
        ends = [0, len(edges) - 1]
        axes.set_xticks([at[i] for i in ends], [_text(edges[i], 10) for i in ends], fontsize=8)
    else:
        axes.locator_params(axis="x", nbins=4)
        axes.xaxis.set_major_formatter(EngFormatter() if max(abs(at[0]), abs(at[-1])) >= 1e5 else ScalarFormatter())


def _small_bars(axes: Axes, chart: charts.Bars) -> None:
    labels, values = list(chart.labels)[:_SMALL_BARS], _floats(chart.values)[:_SMALL_BARS]
    axes.barh(np.arange(len(labels)), np.nan_to_num(values), color=COLOURS[0], height=0.7)
    axes.set_yticks(np.arange(len(labels)), [_text(label, 14) for label in labels], fontsize=7)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=3)
    axes.xaxis.set_major_formatter(PercentFormatter(100, symbol=" %") if chart.percent else EngFormatter())


def roc_curve(truth: ArrayLike, scores: Mapping[str, ArrayLike], *, title: str = "ROC curve") -> bytes:
    """Draw the receiver operating characteristic of each named score, its area in the legend.

    Args:
        truth: shape (n,), 1 for the positive class and 0 for the other.
        scores: name to shape (n,), higher meaning more likely positive.
        title: shown above.
    """
    figure, axes = _canvas(title, "false positive rate", "true positive rate", height_in=5.2)
    actual = _floats(truth) == 1
    axes.plot([0, 1], [0, 1], color=_SOFT, linewidth=1, linestyle=":")
    if not actual.any() or actual.all() or not scores:
        return _nothing(figure, axes)
    for name, score, colour in _coloured(scores):
        false_rate, true_rate = _roc_points(actual, score)
        area = float(np.trapezoid(true_rate, false_rate))
        axes.plot(false_rate, true_rate, color=colour, label=f"{_text(name)} (AUC {area:.3f})", linewidth=1.8)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _legend(axes, "lower right")
    return _png(figure)


def calibration_curve(
    truth: ArrayLike,
    probabilities: Mapping[str, ArrayLike],
    *,
    bins: int = 10,
    title: str = "Calibration",
) -> bytes:
    """Draw the observed share against the mean forecast, in `bins` groups of equal row counts.

    Args:
        truth: shape (n,), 1 where the event happened, else 0.
        probabilities: name to shape (n,), forecasts between 0 and 1.
        bins: groups by quantile of the forecast; ties may leave fewer.
        title: shown above.
    """
    figure, axes = _canvas(title, "forecast probability", "observed share", height_in=5.2)
    actual = _floats(truth)
    axes.plot([0, 1], [0, 1], color=_SOFT, linewidth=1, linestyle=":", label="perfectly calibrated")
    if not actual.size or not probabilities:
        return _nothing(figure, axes)
    for name, probability, colour in _coloured(probabilities):
        edges = np.unique(np.quantile(probability, np.linspace(0, 1, bins + 1)))
        group = np.searchsorted(edges[1:-1], probability, side="right")
        sizes = np.bincount(group)
        full = sizes > 0
        forecast = np.bincount(group, probability)[full] / sizes[full]
        observed = np.bincount(group, actual)[full] / sizes[full]
        axes.plot(forecast, observed, color=colour, marker="o", markersize=5, linewidth=1.6, label=_text(name))
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _legend(axes, "upper left")
    return _png(figure)


def series_chart(
    labels: Sequence[str],
    values: Mapping[str, ArrayLike],
    *,
    title: str,
    value_label: str = "",
    intervals: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    threshold: float | None = None,
) -> bytes:
    """Draw metrics over time, with a band where an interval is known and a line at the alert threshold.

    Args:
        labels: n times or windows in order, as they shall be read.
        values: name to shape (n,), any unit; gaps where a value is not finite.
        title: shown above.
        value_label: name of the vertical axis, with its unit.
        intervals: name to the lower and upper ends, each of shape (n,).
        threshold: a level to mark, in the unit of `values`.
    """
    figure, axes = _canvas(title, "", value_label)
    at = np.arange(len(labels))
    if not labels or not values:
        return _nothing(figure, axes)
    for (name, series), colour in zip(values.items(), _cycle(len(values)), strict=True):
        axes.plot(at, _floats(series), color=colour, marker="o", markersize=4, linewidth=1.8, label=_text(name))
        if intervals and name in intervals:
            low, high = (_floats(end) for end in intervals[name])
            axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    if threshold is not None:
        axes.axhline(threshold, color=_TEXT, linewidth=1.2, linestyle="--", label=f"threshold {threshold:.4g}")
    step = max(1, -(-len(labels) // 10))
    axes.set_xticks(at[::step], [_text(label, 24) for label in labels[::step]], fontsize=8, rotation=30, ha="right")
    if len(values) > 1 or threshold is not None:
        _legend(axes, "best")
    return _png(figure)


def distribution_overlay(
    reference: Sequence[object] | NDArray[np.generic],
    current: Sequence[object] | NDArray[np.generic],
    *,
    title: str,
    label: str = "",
    names: tuple[str, str] = ("reference", "current"),
    bins: int = 30,
) -> bytes:
    """Draw the shares of two samples over each other: ranges for numbers, the 15 most frequent values for text.

    Args:
        reference: shape (n,), numbers or text.
        current: shape (m,), the same kind and unit.
        title: shown above.
        label: name of the horizontal axis, with its unit.
        names: what the two samples are called.
        bins: equal ranges over both samples together.
    """
    figure, axes = _canvas(title, label, "share of rows")
    first, second = np.asarray(reference), np.asarray(current)
    if first.dtype.kind in "biuf" and second.dtype.kind in "biuf":
        a, b = _finite(first), _finite(second)
        if not a.size and not b.size:
            return _nothing(figure, axes)
        edges = np.histogram_bin_edges(np.concatenate([a, b]), bins).tolist()
        for sample, name, colour in zip((a, b), names, COLOURS, strict=False):
            weights = np.full(sample.size, 1 / max(sample.size, 1))
            axes.hist(sample, edges, weights=weights, color=colour, alpha=0.3)
            axes.hist(sample, edges, weights=weights, color=colour, histtype="step", linewidth=1.5, label=_text(name))
    elif not _category_bars(axes, first, second, names):
        return _nothing(figure, axes)
    _legend(axes, "best")
    return _png(figure)


def heatmap(
    matrix: ArrayLike,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    title: str,
    diverging: bool = False,
) -> bytes:
    """Draw a matrix as coloured cells, with the numbers in them up to 12 × 12.

    Args:
        matrix: shape (rows, columns), any unit; cells that are not finite stay grey.
        row_labels: one name a row.
        column_labels: one name a column.
        title: shown above.
        diverging: centre the colours on 0, as for correlations.
    """
    cells = np.atleast_2d(_floats(matrix))
    rows, columns = cells.shape
    figure, axes = _canvas(title, "", "", height_in=min(9.0, max(2.8, 1.6 + 0.36 * rows)))
    if not np.isfinite(cells).any():
        return _nothing(figure, axes)
    low, high = float(np.nanmin(cells)), float(np.nanmax(cells))
    limit = max(abs(low), abs(high)) or 1.0
    bounds = (-limit, limit) if diverging else (low, high if high > low else low + 1)
    axes.set_facecolor("#c8ccd2")
    shown = axes.imshow(
        np.ma.masked_invalid(cells), cmap="RdBu_r" if diverging else "Blues", vmin=bounds[0], vmax=bounds[1]
    )
    axes.set_aspect("auto")
    axes.grid(visible=False)
    axes.set_xticks(range(columns), [_text(name, 24) for name in column_labels], fontsize=8, rotation=35, ha="right")
    axes.set_yticks(range(rows), [_text(name, 24) for name in row_labels], fontsize=8)
    if max(rows, columns) <= 12:
        colours = shown.to_rgba(cells)
        for (i, j), cell in np.ndenumerate(cells):
            dark = float(np.asarray(colours[i, j, :3]) @ (0.299, 0.587, 0.114)) < 0.55
            text = f"{cell:.4g}" if np.isfinite(cell) else ""
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else _TEXT)
    figure.colorbar(shown, ax=axes, shrink=0.9)
    return _png(figure)


def _canvas(title: str, x_label: str, y_label: str, height_in: float = _HEIGHT_IN) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(
        _text(title, TITLE_LENGTH), loc="left", fontsize=12, fontweight="bold", color=_TEXT, fontfamily=_FONT
    )
    axes.set_xlabel(_text(x_label, TITLE_LENGTH), color=_SOFT, fontsize=9)
    axes.set_ylabel(_text(y_label, TITLE_LENGTH), color=_SOFT, fontsize=9)
    _style(axes)
    return figure, axes


def _style(axes: Axes) -> None:
    axes.grid(visible=True, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_SOFT, labelcolor=_TEXT, labelsize=8, length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _nothing(figure: Figure, axes: Axes) -> bytes:
    axes.text(0.5, 0.5, "no values to show", transform=axes.transAxes, ha="center", va="center", color=_SOFT)
    axes.set(xticks=[], yticks=[])
    return _png(figure)


def _png(figure: Figure) -> bytes:
    """Return the figure as PNG, coarser where it would pass 200 KB."""
    dpi = _DPI
    while True:
        target = BytesIO()
        figure.savefig(target, format="png", dpi=dpi, metadata={"Software": None})
        if target.tell() <= MAX_BYTES or dpi <= 40:
            return target.getvalue()
        dpi = int(dpi * 0.8)


def _legend(axes: Axes, place: Literal["best", "lower right", "upper left"]) -> None:
    axes.legend(loc=place, frameon=False, fontsize=9, labelcolor=_TEXT)


def _category_bars(axes: Axes, first: NDArray[np.generic], second: NDArray[np.generic], names: tuple[str, str]) -> bool:
    counts = [_shares(sample) for sample in (first, second)]
    total = {value: counts[0].get(value, 0) + counts[1].get(value, 0) for value in (*counts[0], *counts[1])}
    top = sorted(total, key=lambda value: (-total[value], value))[:15]
    at = np.arange(len(top))
    for shares, name, colour, shift in zip(counts, names, COLOURS, (-0.2, 0.2), strict=False):
        axes.bar(at + shift, [shares.get(value, 0.0) for value in top], 0.4, color=colour, label=_text(name))
    axes.set_xticks(at, [_text(value, 20) for value in top], fontsize=8, rotation=35, ha="right")
    return bool(top)


def _shares(sample: NDArray[np.generic]) -> dict[str, float]:
    known = [str(value) for value in sample.tolist() if value is not None and value == value]
    values, counts = np.unique(np.asarray(known, dtype=object).astype(str), return_counts=True)
    return {str(value): count / len(known) for value, count in zip(values, counts, strict=True)}


def _roc_points(actual: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats]:
    """Return the false and true positive rates at each distinct score, from the strictest; source: Fawcett (2006)."""
    order = np.argsort(-score, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    true = np.cumsum(actual[order])[last_of_ties]
    false = 1 + last_of_ties - true
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])


def _coloured(series: Mapping[str, ArrayLike]) -> list[tuple[str, Floats, str]]:
    colours = _cycle(len(series))
    return [(name, _floats(values), colour) for (name, values), colour in zip(series.items(), colours, strict=True)]


def _cycle(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _finite(values: ArrayLike) -> Floats:
    numbers = _floats(values)
    return numbers[np.isfinite(numbers)]


def _text(text: object, length: int = LABEL_LENGTH) -> str:
    """Return text that Matplotlib draws as it stands: printable, in the font, no formula, never "_private"."""
    known = _characters()
    clean = "".join(
        c if c == " " or (ord(c) in known and unicodedata.category(c)[0] != "C") else "?" for c in str(text)
    )
    cut = clean if len(clean) <= length else clean[: length - 1] + "…"
    return (" " + cut if cut.startswith("_") else cut).replace("$", r"\$")


@cache
def _characters() -> frozenset[int]:
    return frozenset(FT2Font(findfont(_FONT)).get_charmap())
