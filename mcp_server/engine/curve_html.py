"""Lines and points over two axes as part of an HTML page: an SVG that stretches, with its words in HTML around it.

Strokes keep their width and points stay round however the drawing is stretched, as neither scales with it.
"""

from collections.abc import Sequence
from math import floor, isfinite, log10

from markupsafe import Markup

from mcp_server.engine.charts import Curves, Line
from mcp_server.engine.plain_text import plain_text

N_COLOURS = 7
_WIDTH, _HEIGHT = 1000, 600
_TICKS = 4
_NAMES = 2
_LABEL_LENGTH = 60

Limits = tuple[float, float, float, float]


def limits_of(chart: Curves) -> Limits | None:
    """Return the least and greatest x, then y, that a chart spans; None when no point is finite."""
    if chart.limits is not None:
        x_0, x_1, y_0, y_1 = chart.limits
        return x_0, x_1, y_0, y_1
    points = [point for line in chart.lines for point in _points(line)]
    if not points:
        return None
    filled = any(line.drawn == "area" for line in chart.lines)
    x_0, x_1 = _padded([x for x, _ in points], 0.02)
    y_0, y_1 = _padded([y for _, y in points] + ([0.0] if filled else []), 0.05)
    return x_0, x_1, (0.0 if filled else y_0), y_1


def curves_html(chart: Curves, *, titled: bool = True) -> Markup:
    """Return the chart as a figure; its description is in `words`, its lines are named below."""
    limits = limits_of(chart)
    if limits is None:
        return Markup('<p class="note">No values to show.</p>')
    x_0, x_1, y_0, y_1 = limits
    down = [(y, _words(y)) for y in ticks(y_0, y_1)]
    along = _named(chart.x_names) if chart.x_names else [(x, _words(x)) for x in ticks(x_0, x_1)]
    grid = "".join(f"M0 {_down(y, limits):.1f}h{_WIDTH}" for y, _ in down)
    paths = [Markup('<path class="grid" d="{}"/>').format(grid)]
    named = [line for line in chart.lines if line.drawn != "guide"]
    paths += [
        Markup('<path class="guide" d="{}"/>').format(_path(g, limits)) for g in chart.lines if g.drawn == "guide"
    ]
    for i, line in enumerate(named):
        paths += _drawn(line, i % N_COLOURS, limits)
    svg = Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">{}</svg>').format(
        plain_text(chart.words or chart.title or "Chart", 400), _WIDTH, _HEIGHT, Markup("").join(paths)
    )
    left = Markup("").join(
        Markup('<span style="top:{}%">{}</span>').format(f"{_down(y, limits) / _HEIGHT * 100:.1f}", text)
        for y, text in down
    )
    below = Markup("").join(
        Markup('<span style="left:{}%">{}</span>').format(f"{_along(x, limits) / _WIDTH * 100:.1f}", text)
        for x, text in along
    )
    legend = Markup("").join(
        Markup('<li><span class="key c{}" aria-hidden="true"></span>{}</li>').format(
            i % N_COLOURS, plain_text(line.name, 80)
        )
        for i, line in enumerate(named)
        if line.name
    )
    return Markup(
        '<figure class="plot{}">{}<p class="axis-name">{}</p>'
        '<div class="area"><div class="ys" aria-hidden="true">{}</div>{}'
        '<div class="xs{}" aria-hidden="true">{}</div></div><p class="axis-name below">{}</p>{}{}</figure>'
    ).format(
        " square" if chart.square else "",
        Markup('<figcaption><span class="title">{}</span></figcaption>').format(plain_text(chart.title))
        if chart.title and titled
        else "",
        plain_text(chart.y_label, _LABEL_LENGTH) if chart.y_label else "",
        left,
        svg,
        " named" if chart.x_names else "",
        below,
        plain_text(chart.x_label, _LABEL_LENGTH) if chart.x_label else "",
        Markup('<ul class="legend">{}</ul>').format(legend) if legend else "",
        Markup('<p class="note">{}</p>').format(plain_text(chart.note)) if chart.note else "",
    )


def ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers from `low` to `high`."""
    span = high - low
    if not (isfinite(span) and span > 0):
        return [low]
    rough = span / _TICKS
    size = 10.0 ** floor(log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    first = -floor(-low / step + 1e-9)
    return [k * step for k in range(first, floor(high / step + 1e-9) + 1)]


def _padded(values: Sequence[float], share: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * share or abs(high) * share or 0.5
    return low - room, high + room


def _points(line: Line) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None and isfinite(x) and isfinite(y)]


def _along(x: float, limits: Limits) -> float:
    return (x - limits[0]) / ((limits[1] - limits[0]) or 1.0) * _WIDTH


def _down(y: float, limits: Limits) -> float:
    return _HEIGHT - (y - limits[2]) / ((limits[3] - limits[2]) or 1.0) * _HEIGHT


def _drawn(line: Line, colour: int, limits: Limits) -> list[Markup]:
    parts = []
    if line.drawn == "area" and (points := _points(line)):
        ends = f"V{_HEIGHT}H{_along(points[0][0], limits):.1f}Z"
        parts.append(Markup('<path class="fill-under c{}" d="{}{}"/>').format(colour, _path(line, limits), ends))
    if line.drawn != "points":
        parts.append(Markup('<path class="line c{}" d="{}"/>').format(colour, _path(line, limits)))
    if line.drawn in ("points", "marked"):
        dots = "".join(f"M{_along(x, limits):.1f} {_down(y, limits):.1f}h0" for x, y in _points(line))
        parts.append(Markup('<path class="dots {} c{}" d="{}"/>').format(line.drawn, colour, dots))
    return parts


def _path(line: Line, limits: Limits) -> str:
    parts, pen_is_up = [], True
    for x, y in zip(line.x, line.y, strict=True):
        if y is None or not (isfinite(x) and isfinite(y)):
            pen_is_up = True
            continue
        parts.append(f"{'M' if pen_is_up else 'L'}{_along(x, limits):.1f} {_down(y, limits):.1f}")
        pen_is_up = False
    return "".join(parts)


def _named(names: Sequence[str]) -> list[tuple[float, str]]:
    n_shown = min(_NAMES, len(names))
    at = sorted({round(k * (len(names) - 1) / max(n_shown - 1, 1)) for k in range(n_shown)})
    return [(float(k), plain_text(names[k], 16)) for k in at]


def _words(value: float) -> str:
    return "0" if abs(value) < 1e-300 else f"{value:.4g}".replace("e+0", "e").replace("e+", "e")
