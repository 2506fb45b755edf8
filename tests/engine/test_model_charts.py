"""Charts of models hold the right figures, go to pages, text and pictures, and never fail on what data holds."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from mcp_server.engine import model_charts as charts
from mcp_server.engine.charts import Chart, Curves, Histogram, PageChart, Pairs, chart_document, chart_of
from mcp_server.engine.plots import MAX_BYTES, draw
from mcp_server.engine.reports import Report, Section, to_html, to_markdown
from tests.pages import check_page, live_markdown

RNG = np.random.default_rng(7)
TRUTH = RNG.integers(0, 2, 2000)
SCORE = np.round(np.clip(TRUTH * 0.3 + RNG.uniform(0, 0.7, 2000), 0, 1), 2)  # many ties
VALUES = RNG.normal(size=1500)
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=1> $\\frac{1} \u202e'
CHARTS: dict[str, PageChart] = {
    "roc": charts.roc_chart(TRUTH, {HOSTILE: SCORE, "other": 1 - SCORE}),
    "roc of many": charts.roc_chart(TRUTH, {f"m{i}": RNG.uniform(size=2000) for i in range(20)}),
    "roc of one class": charts.roc_chart([1, 1], {"m": [0.1, 0.9]}),
    "precision and recall": charts.precision_recall_chart(TRUTH, {HOSTILE: SCORE}),
    "precision of no positive": charts.precision_recall_chart([0, 0], {"m": [0.1, 0.9]}),
    "calibration": charts.calibration_chart({HOSTILE: [(0.1, 0.2), (0.8, 0.7)], "before": [(0.5, 0.5)]}),
    "calibration of nothing": charts.calibration_chart({"m": []}),
    "predicted and observed": charts.residual_charts(VALUES, VALUES + RNG.normal(size=1500))[0],
    "residuals": charts.residual_charts(VALUES, VALUES + RNG.normal(size=1500))[1],
    "residuals of a constant": charts.residual_charts([1.0, 2.0], [3.0, 3.0])[1],
    "tenths of a constant": charts.residual_charts([1.0, 2.0], [3.0, 3.0])[0],
    "confusion": charts.confusion_chart([[5, 1], [0, 3]], [HOSTILE, "b"]),
    "confusion of many": charts.confusion_chart(np.eye(60, dtype=int), [f"class {i}" for i in range(60)]),
    "importance": charts.importance_chart([HOSTILE, "b"], [0.2, -0.1], HOSTILE),
    "search": charts.search_chart([None, 0.5, 0.4, None], [None, 0.5, 0.5, 0.5], "accuracy"),
    "search of failures": charts.search_chart([None, None], [None, None], "accuracy"),
    "series": charts.series_chart([HOSTILE, "b", "c"], {HOSTILE: [0.6, None, 0.7]}, 0.65),
    "long series": charts.series_chart([str(i) for i in range(1000)], {"m": RNG.uniform(size=1000).tolist()}, None),
    "series of nothing": charts.series_chart(["a"], {"m": [None]}, 0.5),
    "overlay": charts.overlay_chart(RNG.normal(size=900), RNG.normal(1, 1, 500), HOSTILE, HOSTILE),
    "overlay of one value": charts.overlay_chart([3.0], [3.0], "t"),
    "overlay of nothing": charts.overlay_chart(np.array([np.nan]), np.array([np.nan]), "t"),
    "overlay of text": charts.overlay_chart([HOSTILE, "b", None], ["b", "c"], HOSTILE),
    "overlay of missing text": charts.overlay_chart([None], [None], "t"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_goes_to_json_to_a_page_to_text_and_to_a_picture(name: str) -> None:
    chart: Chart = CHARTS[name]
    again = chart_of(json.loads(json.dumps(chart_document(chart), allow_nan=False)))
    picture = draw(chart)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) <= MAX_BYTES
    assert draw(again) == picture
    report = Report("t", "s", [Section("one", chart=CHARTS[name]), Section("two"), Section("three")])
    html = to_html(report)
    check_page(html)
    assert len(html) < 120_000
    assert not live_markdown(to_markdown(report))


def test_the_roc_curve_is_that_of_scikit_learn() -> None:
    chart = charts.roc_chart(TRUTH, {"m": SCORE})
    (line,) = [line for line in chart.lines if line.drawn == "line"]
    assert line.name == f"m (AUC {roc_auc_score(TRUTH, SCORE):.3f})"
    false, true, _ = roc_curve(TRUTH, SCORE, drop_intermediate=False)
    assert np.allclose(line.x, false)
    assert np.allclose(np.array(line.y, dtype=float), true)


def test_roc_points_by_hand() -> None:  # scores 0.9 (1), 0.5 (1 and 0 tied), 0.1 (0)
    (_, line) = charts.roc_chart([1, 1, 0, 0], {"m": [0.9, 0.5, 0.5, 0.1]}).lines
    assert list(line.x) == [0.0, 0.0, 0.5, 1.0]
    assert list(line.y) == [0.0, 0.5, 1.0, 1.0]


def test_mean_precision_is_that_of_scikit_learn() -> None:
    chart = charts.precision_recall_chart(TRUTH, {"m": SCORE})
    expected = average_precision_score(TRUTH, SCORE)
    assert f"m {expected:.4g}" in chart.words
    assert chart.note == f"The dotted line is the share of the class, {TRUTH.mean():.3f}."


def test_every_class_has_its_own_curve_against_the_rest() -> None:
    truths = {"a": [1, 0, 0], "b": [0, 1, 1]}
    chart = charts.roc_chart(truths, {"a": [0.9, 0.1, 0.2], "b": [0.1, 0.9, 0.05]})
    assert [line.name for line in chart.lines if line.drawn == "line"] == ["a (AUC 1.000)", "b (AUC 0.500)"]


def test_residuals_are_what_was_observed_minus_what_was_said() -> None:
    tenths, dots, spread = charts.residual_charts([3.0, 5.0], [1.0, 6.0])
    assert isinstance(tenths, Curves)
    assert isinstance(dots, Curves)
    assert isinstance(spread, Histogram)
    assert (list(tenths.lines[1].x), list(tenths.lines[1].y)) == ([1.0, 6.0], [3.0, 5.0])
    assert sorted(zip(dots.lines[1].x, dots.lines[1].y, strict=True)) == [(1.0, 2.0), (6.0, -1.0)]
    assert (spread.edges[0], spread.edges[-1], sum(spread.counts)) == (-1.0, 2.0, 2)
    assert charts.residual_charts([1e308, -1e308], [-1e308, 1e308]) == []


def test_beyond_twenty_classes_the_smallest_are_one_and_no_row_is_lost() -> None:
    counts = np.arange(25 * 25).reshape(25, 25)
    chart = charts.confusion_chart(counts, [f"c{i}" for i in range(25)])
    assert len(chart.labels) == 20
    assert chart.labels[-1] == "(others)"
    assert sum(map(sum, chart.counts)) == counts.sum()
    assert chart.note == "The 6 smallest classes are one."


def test_an_overlay_shows_shares_of_each_sample() -> None:
    numbers = charts.overlay_chart([0.0, 0.0, 30.0], [30.0], "t")
    assert isinstance(numbers, Curves)
    assert [max(y for y in line.y if y is not None) for line in numbers.lines] == [pytest.approx(200 / 3), 100.0]
    words = charts.overlay_chart(["a", "a", "b", None], ["c"], "t")
    assert isinstance(words, Pairs)
    assert list(zip(words.labels, words.first, words.second, strict=True)) == [
        ("c", 0.0, 100.0),
        ("a", pytest.approx(200 / 3), 0.0),
        ("b", pytest.approx(100 / 3), 0.0),
    ]
