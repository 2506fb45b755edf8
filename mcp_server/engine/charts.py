"""What a chart shows, apart from how it is drawn: reports draw charts as HTML at once, pictures when somebody asks.

A chart is plain data, goes to JSON and back, and costs nothing until it is looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mcp_server.errors import FailedPreconditionError


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values fall in each range; `edges` is one longer than `counts`, numbers or the words for times.

    Attributes:
        label: what is counted, with its unit.
        note: what the ranges leave out.
        greatest: the greatest value, where the last edge lies above it.
    """

    edges: Sequence[float | str]
    counts: Sequence[int]
    title: str = ""
    label: str = ""
    note: str = ""
    greatest: float | str | None = None

    @property
    def end(self) -> float | str:
        """What stands at the end of the axis."""
        return self.edges[-1] if self.greatest is None else self.greatest


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar a label, the first on top.

    Attributes:
        values: one a label, any unit; from 0.
        value_label: what a value is, with its unit.
        percent: the values are shares of 100.
        note: a line below.
    """

    labels: Sequence[str]
    values: Sequence[float]
    title: str = ""
    value_label: str = ""
    percent: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Heatmap:
    """A matrix of numbers from −1 to 1, one name a row and column; None where there is no number."""

    cells: Sequence[Sequence[float | None]]
    row_labels: Sequence[str]
    column_labels: Sequence[str]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Panels:
    """Several small charts side by side."""

    charts: Sequence[Histogram | Bars] = field(default_factory=tuple)
    title: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """Points of one name, drawn as they are named; `x` and `y` are of one length, None leaves a gap.

    Attributes:
        drawn: `line`, `marked` (a line with its points), `points`, `area` (filled down to 0), or `guide` (thin, grey,
            not among the named).
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    drawn: Literal["line", "marked", "points", "area", "guide"] = "line"


@dataclass(frozen=True, slots=True)
class Curves:
    """Lines and points over two axes.

    Attributes:
        limits: least and greatest x, least and greatest y; None takes them from the lines.
        x_names: what the places 0, 1, 2, … of the horizontal axis are called, where they are no numbers.
        words: what is to be seen, for those who cannot see it.
        square: the two axes are of one kind.
    """

    lines: Sequence[Line]
    title: str = ""
    x_label: str = ""
    y_label: str = ""
    limits: Sequence[float] | None = None
    x_names: Sequence[str] = ()
    words: str = ""
    note: str = ""
    square: bool = False


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many rows of each true class (rows) were said to be of each class (columns)."""

    counts: Sequence[Sequence[int]]
    labels: Sequence[str]
    title: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Shares of 100 of the same values in two samples, which are called `names`."""

    labels: Sequence[str]
    first: Sequence[float]
    second: Sequence[float]
    names: Sequence[str]
    title: str = ""
    note: str = ""


PageChart = Histogram | Bars | Heatmap | Curves | Confusion | Pairs
Chart = PageChart | Panels
_KINDS: dict[str, type[Chart]] = {
    "histogram": Histogram,
    "bars": Bars,
    "heatmap": Heatmap,
    "panels": Panels,
    "curves": Curves,
    "confusion": Confusion,
    "pairs": Pairs,
}


def chart_document(chart: Chart) -> dict[str, Any]:
    """Return a chart as JSON."""
    kind = next(name for name, each in _KINDS.items() if isinstance(chart, each))
    if isinstance(chart, Panels):
        return {"kind": kind, "title": chart.title, "charts": [chart_document(each) for each in chart.charts]}
    return {"kind": kind} | asdict(chart)


def chart_of(document: Mapping[str, Any]) -> Chart:
    """Return the chart that `chart_document` wrote.

    Raises:
        FailedPreconditionError: it is of a kind that this version does not draw.
    """
    values = dict(document)
    kind = _KINDS.get(str(values.pop("kind", "")))
    if kind is None:
        raise FailedPreconditionError("The stored plot is of an unknown kind.", hint="Make the report anew.")
    if kind is Panels:
        values["charts"] = [chart_of(each) for each in values["charts"]]
    if kind is Curves:
        values["lines"] = [Line(**each) for each in values["lines"]]
    return kind(**values)
