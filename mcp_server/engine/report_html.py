"""Reports as HTML. Everything from data is escaped by the template, and no text can become a link or a picture."""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cache
from itertools import groupby

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mcp_server.engine.chart_html import chart_html, share_html
from mcp_server.engine.plain_text import plain_text, prose_text
from mcp_server.engine.report_model import Mark, Reference, Report, Share, long_columns, numeric_columns

_INLINE = re.compile(r"\\(?P<plain>[!-/:-@\[-`{-~])|`(?P<code>[^`\n]+)`|\*\*(?P<bold>\S(?:[^*\n]*[^\s*])?)\*\*")
_LONG_WORD = 24
_SHORT_TEXT = 20
_TABLE_RULE = frozenset(" :|-")


def report_html(report: Report) -> str:
    """Return `report` as one HTML document: styles and pictures inside, no script, nothing fetched."""
    headings = [part.heading for part in report.sections]
    places = {heading: f"s{i}" for i, heading in reversed(list(enumerate(headings, 1)))}
    numbered = [(f"s{i}", part) for i, part in enumerate(report.sections, 1)]
    groups = [(name, list(parts)) for name, parts in groupby(numbered, key=lambda each: each[1].group)]
    return _environment().get_template("report.html.j2").render(report=report, groups=groups, places=places)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mcp_server.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., object]] = {
        "plain": plain_text,
        "prose": _prose_html,
        "numeric_columns": numeric_columns,
        "long_columns": long_columns,
        "base64": lambda data: b64encode(data).decode("ascii"),
        "chart": chart_html,
        "cell": _cell_html,
        "cell_class": _cell_class,
    }
    environment.filters.update(filters)
    return environment


def _cell_html(value: object, places: Mapping[str, str]) -> Markup:
    """Return what stands in a cell of a table."""
    text = plain_text(value)
    if isinstance(value, Share):
        return share_html(value.percent, text)
    if isinstance(value, Mark):
        return Markup('<span class="mark {}">{}</span>').format(value.status, text)
    if isinstance(value, Reference) and value.target in places:
        return Markup('<a href="#{}">{}</a>').format(places[value.target], text)
    return escape(text)


def _cell_class(value: object, numeric: bool) -> Markup:
    """Return the class of a cell: numbers to the right, short text whole, words too long for a column broken."""
    if numeric:
        return Markup(' class="number"')
    text = str(value) if isinstance(value, str | Reference) else ""
    if 10 <= len(text) <= _SHORT_TEXT:
        return Markup(' class="keep"')
    return Markup(' class="wrap"') if any(len(word) > _LONG_WORD for word in text.split()) else Markup("")


def _prose_html(text: str) -> Markup:
    """Return the small Markdown of a section's prose as HTML, block by block, all text escaped."""
    blocks = [block.split("\n") for block in re.split(r"\n\s*\n", prose_text(text)) if block.strip()]
    return Markup("\n").join(part for block in blocks for part in _block_html(block))


def _block_html(lines: list[str]) -> list[Markup]:
    """Return one block of lines as HTML parts: it may change from text to list or table inside."""
    if len(lines) > 1 and "|" in lines[0] and "-" in lines[1] and _TABLE_RULE.issuperset(lines[1]):
        return [_pipe_table_html(lines)]
    parts: list[Markup] = []
    while lines:
        kind = _line_kind(lines[0])
        same = next((i for i, line in enumerate(lines) if _line_kind(line) != kind), len(lines))
        chunk, lines = lines[:same], lines[same:]
        if kind == "list":
            items = Markup("").join(Markup("<li>{}</li>").format(_inline(line[2:])) for line in chunk)
            parts.append(Markup("<ul>{}</ul>").format(items))
        elif kind == "heading":
            parts += [Markup("<h3>{}</h3>").format(_inline(line.lstrip("# "))) for line in chunk]
        else:
            parts.append(Markup("<p>{}</p>").format(Markup("<br>").join(_inline(line) for line in chunk)))
    return parts


def _line_kind(line: str) -> str:
    if line.startswith(("- ", "* ")):
        return "list"
    return "heading" if re.match(r"#{1,6} ", line) else "text"


def _pipe_table_html(lines: list[str]) -> Markup:
    def cells(line: str, tag: str) -> Markup:
        opened, closed = Markup(f"<{tag}>"), Markup(f"</{tag}>")
        texts = re.split(r"(?<!\\)\|", line.strip().strip("|"))
        return Markup("").join(opened + _inline(text.strip()) + closed for text in texts)

    body = Markup("").join(Markup("<tr>{}</tr>").format(cells(line, "td")) for line in lines[2:])
    return Markup('<div class="table"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        cells(lines[0], "th"), body
    )


def _inline(text: str) -> Markup:
    """Return one line with `code` and **bold** marked, everything else escaped."""
    parts, start = [], 0
    for found in _INLINE.finditer(text):
        parts.append(escape(text[start : found.start()]))
        start = found.end()
        if found["code"] is not None:
            parts.append(Markup("<code>{}</code>").format(found["code"]))
        elif found["bold"] is not None:
            parts.append(Markup("<strong>{}</strong>").format(_inline(found["bold"])))
        else:
            parts.append(escape(found["plain"]))
    return Markup("").join([*parts, escape(text[start:])])
