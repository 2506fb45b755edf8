"""Charts as parts of an HTML page: bars, ranges and cells in the page's own colours, every figure also in words.

The words stand in HTML beside the drawing and not in it, so that they keep their size on a small screen.
"""

from collections.abc import Sequence
from math import isfinite

from markupsafe import Markup

from mcp_server.engine.charts import Bars, Confusion, Curves, Heatmap, Histogram, PageChart, Pairs
from mcp_server.engine.curve_html import curves_html
from mcp_server.engine.plain_text import percent_words, plain_text

_MAX_BARS = 30
_HEIGHT = 64
_DEEPEST = 60  # per cent of the full colour
_LABEL_LENGTH = 60


def chart_html(chart: PageChart, heading: str = "") -> Markup:
    """Return a chart as HTML; a title that repeats the `heading` above it is left out."""
    match chart:
        case Histogram():
            return _histogram(chart)
        case Bars():
            return _bars(chart)
        case Heatmap():
            return _heatmap(chart)
        case Curves():
            return curves_html(chart, titled=chart.title != heading)
        case Confusion():
            return _confusion(chart)
        case Pairs():
            return _pairs(chart)


def share_html(percent: float, words: str) -> Markup:
    """Return a share of 100 as a short bar with its figure."""
    width = min(max(percent, 0.0), 100.0) if isfinite(percent) else 0.0
    bar = Markup('<span class="track" aria-hidden="true"><span class="fill" style="width:{}%"></span></span>')
    return Markup('<span class="share">{}<span class="figure">{}</span></span>').format(
        bar.format(f"{width:.1f}"), words
    )


def _caption(title: str, note: str) -> Markup:
    words = [
        Markup('<span class="{}">{}</span>').format(kind, text)
        for kind, text in (("title", title), ("note", note))
        if text
    ]
    return Markup("<figcaption>{}</figcaption>").format(Markup(" ").join(words)) if words else Markup("")


def _histogram(chart: Histogram) -> Markup:
    if not chart.counts:
        return Markup('<p class="note">No values to show.</p>')
    n, most = len(chart.counts), max(chart.counts)
    first, last = plain_text(chart.edges[0]), plain_text(chart.end)
    words = f"{chart.title or 'Histogram'}: {n} ranges from {first} to {last}; the fullest holds {most:,} rows."
    picture = Markup(
        '<svg class="histogram" role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">'
        '<path d="{}"/></svg>'
    ).format(plain_text(words), n * 10, _HEIGHT, _outline(chart.counts, most))
    axis = Markup('<div class="axis"><span>{}</span><span>{}</span><span>{}</span></div>').format(
        first, plain_text(chart.label, _LABEL_LENGTH) if chart.label else f"fullest range {most:,}", last
    )
    return Markup("<figure>{}{}{}</figure>").format(
        picture,
        axis,
        _caption(plain_text(chart.title) if chart.title else "", plain_text(chart.note) if chart.note else ""),
    )


def _outline(counts: Sequence[int], most: int) -> str:
    """Return one path of bars 9 wide and 1 apart; a range with any row at all is seen."""
    parts = []
    for i, count in enumerate(counts):
        if count:
            height = max(1.5, count / most * (_HEIGHT - 2))
            parts.append(f"M{i * 10} {_HEIGHT}v-{height:.1f}h9v{height:.1f}z")
    return "".join(parts)


def _bars(chart: Bars) -> Markup:
    rows = [(label, value) for label, value in zip(chart.labels, chart.values, strict=True) if isfinite(value)]
    if not rows:
        return Markup('<p class="note">No values to show.</p>')
    shown = rows[:_MAX_BARS]
    most = 100.0 if chart.percent else max(max(abs(value) for _, value in shown), 1e-300)
    items = Markup("").join(
        Markup('<li><span class="label">{}</span>{}</li>').format(
            plain_text(label, _LABEL_LENGTH),
            share_html(max(value, 0.0) / most * 100, percent_words(value) if chart.percent else plain_text(value)),
        )
        for label, value in shown
    )
    left_out = f"{len(rows) - len(shown):,} more are not shown. " if len(rows) > len(shown) else ""
    note = left_out + chart.note
    title = " · ".join(part for part in (chart.title, chart.value_label) if part)
    return Markup('<figure>{}<ul class="bars">{}</ul></figure>').format(
        _caption(plain_text(title) if title else "", plain_text(note) if note else ""), items
    )


def _heatmap(chart: Heatmap) -> Markup:
    head = Markup("").join(
        Markup('<th scope="col"><span>{}</span></th>').format(plain_text(name, 18)) for name in chart.column_labels
    )
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(plain_text(name, 18), Markup("").join(map(_cell, cells)))
        for name, cells in zip(chart.row_labels, chart.cells, strict=True)
    )
    table = Markup('<table class="heat"><thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table>').format(
        head, body
    )
    return Markup('<figure>{}<div class="table" tabindex="0" role="region" aria-label="{}">{}</div></figure>').format(
        _caption(plain_text(chart.title) if chart.title else "", ""), plain_text(chart.title or "Matrix"), table
    )


def _cell(value: float | None) -> Markup:
    """Return a cell whose colour goes with its sign and its depth with its size; the figure is in it too.

    The deepest colour is light enough for the page's text.
    """
    if value is None or not isfinite(value):
        return Markup("<td>–</td>")
    depth = round(min(abs(value), 1.0) * _DEEPEST)
    figure = f"{value:.2f}".replace("-0.00", "0.00")
    return Markup('<td class="{}" style="--d:{}%">{}</td>').format("plus" if value >= 0 else "minus", depth, figure)


def _confusion(chart: Confusion) -> Markup:
    """Return counts as cells, each as deep as its share of its row."""
    if not chart.labels:
        return Markup('<p class="note">No values to show.</p>')
    head = Markup("").join(
        Markup('<th scope="col"><span>{}</span></th>').format(plain_text(n, 18)) for n in chart.labels
    )
    rows = []
    for i, (name, counts) in enumerate(zip(chart.labels, chart.counts, strict=True)):
        total = max(sum(counts), 1)
        cells = Markup("").join(
            Markup('<td class="{}" style="--d:{}%">{}</td>').format(
                "minus" if i == j else "plus", round(count / total * _DEEPEST), plain_text(count)
            )
            for j, count in enumerate(counts)
        )
        rows.append(Markup('<tr><th scope="row">{}</th>{}</tr>').format(plain_text(name, 18), cells))
    table = Markup(
        '<table class="heat"><thead><tr><td class="keep">true ↓ said →</td>{}</tr></thead><tbody>{}</tbody></table>'
    )
    return Markup('<figure>{}<div class="table" tabindex="0" role="region" aria-label="{}">{}</div></figure>').format(
        _caption(plain_text(chart.title) if chart.title else "", plain_text(chart.note) if chart.note else ""),
        plain_text(chart.title or "Confusion"),
        table.format(head, Markup("").join(rows)),
    )


def _pairs(chart: Pairs) -> Markup:
    if not chart.labels:
        return Markup('<p class="note">No values to show.</p>')
    one, other = (plain_text(name, 30) for name in chart.names)
    items = Markup("").join(
        Markup('<li><span class="label">{}</span><div class="pair">{}{}</div></li>').format(
            plain_text(label, _LABEL_LENGTH),
            share_html(a, f"{one} {percent_words(a)}"),
            Markup('<span class="second">{}</span>').format(share_html(b, f"{other} {percent_words(b)}")),
        )
        for label, a, b in zip(chart.labels[:_MAX_BARS], chart.first, chart.second, strict=False)
    )
    return Markup('<figure>{}<ul class="bars pairs">{}</ul></figure>').format(
        _caption(plain_text(chart.title) if chart.title else "", plain_text(chart.note) if chart.note else ""), items
    )
