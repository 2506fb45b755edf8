"""What a report is made of, apart from how it is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Literal

from mcp_server.engine.charts import Chart, PageChart
from mcp_server.engine.plain_text import percent_words

_SENTENCE = 40
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

Status = Literal["good", "warning", "bad", "note"]


@dataclass(frozen=True, slots=True)
class Share:
    """A cell that shows a share of 100 as a number and a bar."""

    percent: float

    def __str__(self) -> str:
        return percent_words(self.percent)


@dataclass(frozen=True, slots=True)
class Mark:
    """A cell that says how something stands, in colour and in words."""

    status: Status
    words: str

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True, slots=True)
class Reference:
    """A cell that leads to the section with the heading `target`, where there is one."""

    words: str
    target: str

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns; a cell is text, a number, a time, a truth value, None, or one of the kinds above.

    Args:
        columns: headings, left to right.
        rows: each as long as `columns`.
        note: a line below the table, such as "the first 20 of 340".
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""

    def __post_init__(self) -> None:
        uneven = next((row for row in self.rows if len(row) != len(self.columns)), None)
        if uneven is not None:
            raise ValueError(f"a row of {len(uneven)} cells stands under {len(self.columns)} columns")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with prose, facts, a chart, a table and a picture, each of them optional.

    Attributes:
        facts: names with values, set beside each other.
        chart: drawn as part of the page, in its colours.
        status: how what the section is about stands.
        group: sections that follow each other under one group stand under its heading.
    """

    heading: str
    markdown: str = ""
    table: Table | None = None
    image_png: bytes | None = field(default=None, repr=False)
    facts: Sequence[tuple[str, object]] = ()
    chart: PageChart | None = None
    status: Status | None = None
    group: str = ""

    def __post_init__(self) -> None:
        if self.image_png is not None and not self.image_png.startswith(_PNG_SIGNATURE):
            raise ValueError("image_png does not hold a PNG picture")


@dataclass(frozen=True, slots=True)
class Report:
    """A title, one sentence with the figures that matter, and sections in reading order.

    Attributes:
        picture: the main plot, drawn when somebody asks for it.
        marks: how the whole stands, in a few words each.
    """

    title: str
    summary: str
    sections: Sequence[Section] = ()
    picture: Chart | None = None
    marks: Sequence[Mark] = ()


def numeric_columns(table: Table) -> list[bool]:
    """Tell for each column whether it holds numbers for the most part, which are set to the right."""
    return [_mostly_numbers([row[i] for row in table.rows if row[i] is not None]) for i in range(len(table.columns))]


def _mostly_numbers(cells: Sequence[object]) -> bool:
    numbers = sum(isinstance(cell, Real) and not isinstance(cell, bool) for cell in cells)
    return 2 * numbers > len(cells)


def long_columns(table: Table) -> list[bool]:
    """Tell for each column whether it holds sentences, which want room."""
    return [
        any(isinstance(cell := row[i], str) and len(cell) > _SENTENCE for row in table.rows)
        for i in range(len(table.columns))
    ]
