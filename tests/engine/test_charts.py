"""Charts go to JSON and back, to HTML that fetches nothing, and to small pictures."""

import json

import pytest

from mcp_server.engine.charts import Bars, Chart, Heatmap, Histogram, Panels, chart_document, chart_of
from mcp_server.engine.plots import MAX_BYTES, draw
from mcp_server.engine.reports import Mark, Reference, Report, Section, Share, Table, to_html, to_markdown
from mcp_server.errors import FailedPreconditionError
from tests.pages import check_page, live_markdown

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=1> $\\frac{1} \u202e'
CHARTS: dict[str, Chart] = {
    "histogram": Histogram([0.0, 1.0, 2.5], [3, 1], HOSTILE, HOSTILE, HOSTILE),
    "histogram of times": Histogram(["2024-01-01", "2024-06-01", "2024-12-31"], [0, 7], "day"),
    "histogram of one value": Histogram([3.0, 3.0], [9], "same"),
    "histogram of nothing": Histogram([], [], "nothing"),
    "histogram far from 0": Histogram([1e12, 2e12], [5], "large"),
    "bars": Bars([HOSTILE, "b" * 300, ""], [3.0, 0.5, 0.0], HOSTILE, "rows", note=HOSTILE),
    "bars of shares": Bars(["a", "b"], [99.99, 0.01], "shares", percent=True),
    "bars of nothing": Bars([], [], "nothing"),
    "many bars": Bars([f"value {i}" for i in range(200)], [float(i) for i in range(200)], "many"),
    "heatmap": Heatmap([[1.0, None], [-0.001, -1.0]], [HOSTILE, "b"], ["a", HOSTILE], HOSTILE),
    "panels": Panels([Histogram([0.0, 1.0], [2], HOSTILE), Bars(["x"], [1.0], HOSTILE)] * 9, HOSTILE),
    "no panels": Panels([], "nothing"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_goes_to_json_and_back_and_is_drawn_the_same(name: str) -> None:
    chart = CHARTS[name]
    again = chart_of(json.loads(json.dumps(chart_document(chart), allow_nan=False)))
    picture = draw(chart)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) <= MAX_BYTES
    assert draw(again) == picture


@pytest.mark.parametrize("name", [name for name in CHARTS if "panels" not in name])
def test_a_chart_is_part_of_a_page_and_of_its_text(name: str) -> None:
    chart = CHARTS[name]
    assert not isinstance(chart, Panels)
    report = Report("t", "s", [Section("one", chart=chart), Section("two", chart=chart), Section("three")])
    check_page(to_html(report))
    assert not live_markdown(to_markdown(report))


def test_a_kind_of_another_version_is_refused_in_words() -> None:
    with pytest.raises(FailedPreconditionError, match="unknown kind"):
        chart_of({"kind": "sunburst"})


def test_every_bar_with_rows_is_seen_and_its_figure_is_words_too() -> None:
    html = to_html(Report("t", "s", [Section("h", chart=Histogram([0.0, 1.0, 2.0, 3.0], [1_000_000, 1, 0], "x"))]))
    assert html.count("h9v") == 2
    assert "fullest holds 1,000,000 rows" in html
    told = to_markdown(Report("t", "s", [Section("h", chart=Histogram([0.0, 1.0, 2.0, 3.0], [1_000_000, 1, 0]))]))
    assert "Rows from each lower edge: 0 1,000,000, 1 1, 2 0; the last ends at 3" in told


def test_cells_of_all_kinds_are_written() -> None:
    rows = [[Reference("pts", "Column: pts"), Share(12.34), Mark("bad", "fails"), 1]]
    report = Report(
        "t",
        "s",
        [
            Section("Columns", table=Table(["column", "missing", "result", "n"], rows)),
            Section("Column: pts"),
            Section("x"),
        ],
        marks=[Mark("good", "passed")],
    )
    page = check_page(to_html(report))
    assert {"#s2"} <= {link["href"] for link in page.named("a")}
    assert "12.3 %" in page.text
    assert "| pts | 12.3 % | fails | 1 |" in to_markdown(report)


@pytest.mark.parametrize(
    ("percent", "words"), [(0.0, "0.0 %"), (0.01, "< 0.1 %"), (99.99, "> 99.9 %"), (100.0, "100.0 %"), (5.25, "5.2 %")]
)
def test_hardly_any_is_not_none_and_nearly_all_is_not_all(percent: float, words: str) -> None:
    assert str(Share(percent)) == words


def test_sections_of_one_group_stand_under_its_heading() -> None:
    sections = [Section("first"), Section("a", group="Details"), Section("b", group="Details")]
    page = check_page(to_html(Report("t", "s", sections)))
    assert [tag for tag, _ in page.tags if tag in ("h1", "h2", "h3")] == ["h1", "h2", "h2", "h3", "h3"]
