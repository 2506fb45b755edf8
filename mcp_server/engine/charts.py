"""What a chart shows, apart from how it is drawn: reports draw charts as HTML at once, pictures when somebody asks.

A chart is plain data, goes to JSON and back, and costs nothing until it is looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

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


Chart = Histogram | Bars | Heatmap | Panels
_KINDS: dict[str, type[Chart]] = {"histogram": Histogram, "bars": Bars, "heatmap": Heatmap, "panels": Panels}


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
    return kind(**values)
