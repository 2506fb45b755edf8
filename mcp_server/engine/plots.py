"""Plots as PNG bytes, at most 200 KB each.

They are drawn with Matplotlib's `Figure` objects: no pyplot, no global style, so that several threads may draw at
once. Names from data are untrusted text: `$` starts no formula, hidden characters are gone, long names are cut.
Values that are not finite are left out; a plot without values says so instead of failing.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import EngFormatter, PercentFormatter, ScalarFormatter
from numpy.typing import ArrayLike, NDArray

from mcp_server.engine import charts
from mcp_server.engine.curve_html import limits_of

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
    if isinstance(chart, charts.Curves):
        return _curves(chart)
    if isinstance(chart, charts.Confusion):
        return heatmap(chart.counts or [[np.nan]], chart.labels, chart.labels, title=chart.title)
    if isinstance(chart, charts.Pairs):
        return _pairs(chart)
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


def _curves(chart: charts.Curves) -> bytes:
    """Draw lines and points; a legend stands where there is more than one name."""
    figure, axes = _canvas(chart.title, chart.x_label, chart.y_label, height_in=5.2 if chart.square else _HEIGHT_IN)
    named = [line for line in chart.lines if line.drawn != "guide"]
    if limits_of(chart) is None or not named:
        return _nothing(figure, axes)
    for line in chart.lines:
        y = _floats([np.nan if value is None else value for value in line.y])
        if line.drawn == "guide":
            axes.plot(line.x, y, color=_SOFT, linewidth=1, linestyle=":")
            continue
        colour = COLOURS[named.index(line) % len(COLOURS)]
        dots = "o" if line.drawn in ("points", "marked") else ""
        axes.plot(
            line.x,
            y,
            color=colour,
            label=_text(line.name),
            marker=dots,
            markersize=4,
            linewidth=1.8,
            linestyle="" if line.drawn == "points" else "-",
            alpha=0.5 if line.drawn == "points" else 1.0,
        )
        if line.drawn == "area":
            axes.fill_between(line.x, y, color=colour, alpha=0.2, linewidth=0)
    if chart.limits is not None:
        axes.set(xlim=chart.limits[:2], ylim=chart.limits[2:])
    if chart.x_names:
        step = max(1, -(-len(chart.x_names) // 10))
        at = range(0, len(chart.x_names), step)
        axes.set_xticks(at, [_text(chart.x_names[k], 24) for k in at], fontsize=8, rotation=30, ha="right")
    if sum(bool(line.name) for line in named) > 1 or chart.square:
        axes.legend(loc="best", frameon=False, fontsize=9, labelcolor=_TEXT)
    return _png(figure)


def _pairs(chart: charts.Pairs) -> bytes:
    """Draw two bars a value."""
    figure, axes = _canvas(chart.title, "", "share of rows")
    labels = chart.labels[:MAX_BARS]
    if not labels:
        return _nothing(figure, axes)
    at = np.arange(len(labels))
    for shares, name, colour, shift in zip(
        (chart.first, chart.second), chart.names, COLOURS, (-0.2, 0.2), strict=False
    ):
        axes.bar(at + shift, shares[: len(labels)], 0.4, color=colour, label=_text(name))
    axes.set_xticks(at, [_text(label, 20) for label in labels], fontsize=8, rotation=35, ha="right")
    axes.yaxis.set_major_formatter(PercentFormatter(100, symbol=" %"))
    axes.legend(loc="best", frameon=False, fontsize=9, labelcolor=_TEXT)
    return _png(figure)


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
