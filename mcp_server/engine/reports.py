"""Reports: what a job found, as one self-contained HTML page and as Markdown.

Names and values in a report come from data files, so all of it is treated as untrusted text: HTML is escaped by
the template, links and pictures cannot be made from text, control, bidirectional and invisible characters are
taken out, and long values are cut. The prose of a section may use a small Markdown: paragraphs, ``- `` lists,
``### `` headings, ``**bold**``, `` `code` `` and pipe tables; everything else is shown as it is written.
"""

import re

from mcp_server.engine.charts import Bars, Confusion, Curves, Histogram, PageChart, Pairs
from mcp_server.engine.plain_text import CELL_LENGTH, HEADING_LENGTH, PROSE_LENGTH, prose_text, whole
from mcp_server.engine.plain_text import plain_text as plain_text
from mcp_server.engine.report_html import report_html
from mcp_server.engine.report_model import Mark as Mark
from mcp_server.engine.report_model import Reference as Reference
from mcp_server.engine.report_model import Report as Report
from mcp_server.engine.report_model import Section as Section
from mcp_server.engine.report_model import Share as Share
from mcp_server.engine.report_model import Status as Status
from mcp_server.engine.report_model import Table as Table
from mcp_server.engine.report_model import numeric_columns

_MAX_BARS = 30
_TOLD_RANGES = 10


def to_html(report: Report) -> str:
    """Return `report` as one HTML document: styles and pictures inside, no script, nothing fetched."""
    return report_html(report)


def to_markdown(report: Report, section: str | None = None) -> str:
    """Return `report` as Markdown without pictures.

    Args:
        report: what to write.
        section: write only the section of this heading.

    Raises:
        KeyError: no section has the heading `section`.
    """
    if section is not None:
        chosen = [part for part in report.sections if part.heading == section]
        if not chosen:
            raise KeyError(section)
        return _section_markdown(chosen[0]) + "\n"
    parts = [f"# {_escaped(report.title, HEADING_LENGTH)}", prose_markdown(report.summary)]
    parts += [_section_markdown(part) for part in report.sections]
    return "\n\n".join(part for part in parts if part) + "\n"


def main_image(report: Report) -> bytes | None:
    """Return the first picture of `report` as PNG bytes, or None when it has none."""
    return next((part.image_png for part in report.sections if part.image_png is not None), None)


# Markdown ------------------------------------------------------------------------------------------------------

_MARKUP = re.compile(r"[\\`*\[\]<>|~&#]|(?<![^\W_])_|_(?![^\W_])")
_AUTOLINK = r"(?:https?|ftp|mailto|xmpp):|www\.|@"
_ACTIVE = re.compile(rf"(?P<kept>\\[!-/:-@\[-`{{-~]|(?<!`)`[^`\n]+`(?!`))|[`\[\]<&]|{_AUTOLINK}", re.IGNORECASE)


def _escaped(value: object, length: int = CELL_LENGTH) -> str:
    """Return `value` as Markdown text that shows the value itself and nothing else."""
    text = _MARKUP.sub(r"\\\g<0>", plain_text(value, length))
    return re.sub(_AUTOLINK, _last_character_escaped, text, flags=re.IGNORECASE)


def prose_markdown(text: str) -> str:
    """Return `text` with its emphasis, code, lists and tables kept and whatever could link or fetch made plain."""
    return _ACTIVE.sub(lambda m: m[0] if m["kept"] else _last_character_escaped(m), prose_text(text))


def _last_character_escaped(match: re.Match[str]) -> str:
    return f"{match[0][:-1]}\\{match[0][-1]}"


def _section_markdown(section: Section) -> str:
    parts = [f"## {_escaped(section.heading, HEADING_LENGTH)}", prose_markdown(section.markdown)]
    parts.append("; ".join(f"{_escaped(name)} {_escaped(value)}" for name, value in section.facts))
    if section.chart is not None:
        parts.append(_chart_markdown(section.chart))
    if section.table is not None:
        parts.append(_table_markdown(section.table))
    return "\n\n".join(part for part in parts if part)


def _table_markdown(table: Table) -> str:
    numeric = numeric_columns(table)
    lines = [
        [_escaped(column) for column in table.columns],
        ["---:" if right else "---" for right in numeric],
        *([_escaped(cell) for cell in row] for row in table.rows),
    ]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\n{_escaped(table.note)}" if table.note else text


def _chart_markdown(chart: PageChart) -> str:
    """Return a chart's figures where no table beside it has them."""
    if isinstance(chart, Bars):
        rows = list(zip(chart.labels, chart.values, strict=True))[:_MAX_BARS]
        left_out = len(chart.labels) - len(rows)
        return _table_markdown(Table(["", chart.value_label], rows, f"{left_out} more." if left_out else chart.note))
    if isinstance(chart, Curves):
        return _escaped(f"{chart.words} {chart.note}".strip(), PROSE_LENGTH)
    if isinstance(chart, Confusion):
        counts = [[name, *row] for name, row in zip(chart.labels, chart.counts, strict=True)]
        return _table_markdown(Table(["true ↓ said →", *chart.labels], counts, chart.note))
    if isinstance(chart, Pairs):
        pairs = list(zip(chart.labels, map(Share, chart.first), map(Share, chart.second), strict=True))
        return _table_markdown(Table(["", *chart.names], pairs[:_MAX_BARS], chart.note))
    if isinstance(chart, Histogram) and chart.counts:
        step = -(-len(chart.counts) // _TOLD_RANGES)
        ranges = [
            f"{_escaped(chart.edges[i])} {whole(sum(chart.counts[i : i + step]))}"
            for i in range(0, len(chart.counts), step)
        ]
        note = f" ({_escaped(chart.note)})" if chart.note else ""
        return f"Rows from each lower edge: {', '.join(ranges)}; the last ends at {_escaped(chart.end)}{note}"
    return ""
