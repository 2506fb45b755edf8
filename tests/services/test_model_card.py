"""Model cards of all tasks: everything a reader needs is in them, as text, as a page and drawn."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mcp_server.engine.preprocessing import model_input
from mcp_server.results.training import TrainingResult
from mcp_server.runtime.clock import ManualClock
from mcp_server.services.model_rows import inputs_of
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.models import UNREGISTERED
from mcp_server.stores.registration import ModelCard
from tests.pages import Page, check_page, live_markdown
from tests.services.training_world import Stand, games

pytestmark = pytest.mark.xdist_group("model_card")  # its models are trained once

RNG = np.random.default_rng(5)
X = RNG.normal(size=(900, 3))
COLUMNS = {f"f{i}": X[:, i] for i in range(3)}
TABLES: dict[str, pl.DataFrame] = {
    "binary": games(n_rows=900),
    "three": pl.DataFrame(COLUMNS | {"team": np.array(["a|b", "<b>x</b>", "c`c"])[np.argmax(X, axis=1)]}),
    "ten": pl.DataFrame(COLUMNS | {"digit": np.clip(np.digitize(X[:, 0], np.linspace(-1.2, 1.2, 9)), 0, 9)}),
    "values": pl.DataFrame(COLUMNS | {"margin": 12 * X[:, 0] + RNG.normal(size=900)}),
    "noise": pl.DataFrame(COLUMNS | {"y": RNG.integers(0, 2, 900)}),
    "rare": pl.DataFrame(COLUMNS | {"y": (X[:, 0] + RNG.normal(size=900) * 0.2 > 1.4).astype(int)}),
}
CALLS: dict[str, dict[str, Any]] = {
    "binary": {
        "target": "won",
        "features": ["rating", "rest", "venue"],
        "baseline": "forecast",
        "search": "random",
        "trials": 3,
        "split": {"kind": "time", "column": "season", "test_from": 2008},
    },
    "three": {"target": "team", "features": None},
    "ten": {"target": "digit", "features": None, "task": "multiclass", "estimators": ["random_forest"]},
    "values": {"target": "margin", "features": None, "estimators": ["ridge"]},
    "noise": {"target": "y", "features": None},
    "rare": {"target": "y", "features": None, "metric": "f1"},
}
ALWAYS = ["What it is", "Intended use", "Out of scope", "Data", "Features", "Scores"]
CLASSES = ["ROC curve", "Precision and recall", "Calibration", "Confusion"]
VALUES = ["Predicted and observed", "Residuals", "Distribution of residuals"]
QUICK = ("binary", "values")
LAST = ["Importance", "Search", "Limits", "How to reproduce"]


class Cards:
    """Models of all kinds, each with its result and card."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.made: dict[str, tuple[TrainingResult, ModelCard]] = {}

    def __getitem__(self, kind: str) -> tuple[TrainingResult, ModelCard]:
        if kind not in self.made:
            self.stand.write(kind, TABLES[kind])
            result = self.stand.train(name=kind, dataset=kind, **CALLS[kind])
            self.made[kind] = result, self.stand.models.card(self.stand.models.resolve(kind))
        return self.made[kind]

    def page(self, kind: str) -> Page:
        return check_page(self[kind][1].html)


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory, _mlflow_template: Path, _sqlite_template: Path) -> Iterator[Cards]:
    folder = tmp_path_factory.mktemp("cards")
    (folder / "mlflow.db").write_bytes(_mlflow_template.read_bytes())
    (folder / "test.db").write_bytes(_sqlite_template.read_bytes())
    database = Database(f"sqlite:///{folder / 'test.db'}")
    stand = Stand(folder, database, ArtifactStore(folder / "artifacts"), ManualClock())
    yield Cards(stand)
    stand.service.close()
    database.close()


def sections_of(card: ModelCard) -> list[str]:
    return re.findall(r"^## (.+)$", card.markdown, re.MULTILINE)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in TABLES]
)
def test_a_card_is_whole_as_text_as_a_page_and_drawn(cards: Cards, kind: str) -> None:
    result, card = cards[kind]
    between = VALUES if result.task == "regression" else CLASSES
    at_data = ["Distribution of the target"] if result.task == "regression" else []
    threshold = ["Threshold"] if result.task == "binary" else []
    expected = [*ALWAYS[:4], *at_data, *ALWAYS[4:], *threshold, *between, *LAST]
    assert sections_of(card) == expected
    page = cards.page(kind)
    assert not live_markdown(card.markdown)
    assert UNREGISTERED not in card.html + card.markdown
    assert not page.named("img")
    drawn = [svg for svg in page.named("svg") if svg.get("role") == "img"]
    assert len(drawn) >= 3
    assert all(len(str(svg["aria-label"])) > 15 for svg in drawn)
    report_id = str(result.card_report_uri).removeprefix("report://")
    image = cards.stand.reports.image(report_id)
    assert image is not None
    assert image.startswith(b"\x89PNG")
    assert card.image_png == image
    assert [part.heading for part in cards.stand.reports.load(report_id).sections] == ["Summary", *expected]


def test_a_card_says_what_the_data_was_and_how_it_was_divided(cards: Cards) -> None:
    text, frame = cards["binary"][1].markdown, TABLES["binary"]
    version = cards.stand.datasets.resolve("binary")
    assert f"content SHA-256 `{version.content_hash}`" in text
    assert "The split is by time: by `season`, rows from 2008 on are held out" in text
    train, test = frame.filter(pl.col("season") < 2008), frame.filter(pl.col("season") >= 2008)
    won, lost = int(train["won"].sum()), int((train["won"] == 0).sum())
    assert f"{train.height} rows train and {test.height} are held out" in text
    assert f"| 1 | {won} | {won / train.height * 100:.1f} % | {test['won'].sum()} |" in text
    assert f"| 0 | {lost} |" in text
    gaps = train["rest"].null_count() / train.height * 100
    assert f"| rest | numeric | Int64 | {gaps:.1f} % | {train['rest'].min()!r} to {train['rest'].max()!r} |" in text
    assert "| venue | category | String | 0.0 % |" in text


def test_a_card_has_every_metric_with_its_interval_beside_the_baselines_and_their_tests(cards: Cards) -> None:
    result, card = cards["binary"]
    assert "| metric | held out | 95 % from | to | forecast | majority |" in card.markdown
    for name, ends in result.test_intervals.items():
        row = next(line for line in card.markdown.splitlines() if line.startswith(f"| {name} "))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert [float(cell.replace(",", "")) for cell in cells[1:4]] == pytest.approx(
            [result.test_metrics[name], ends.low, ends.high], abs=6e-5
        )
    for part in result.baselines:
        assert part.comparison.test in card.markdown
    assert f"{result.cv_score:.4f} ± {result.cv_std:.4f}" in card.markdown


def test_the_call_on_a_card_makes_a_model_that_says_the_same(cards: Cards) -> None:
    result, card = cards["binary"]
    call = json.loads(re.findall(r"Call `train_model` with:\n\n`(.+)`", card.markdown)[0])
    again = cards.stand.train(**call)
    assert (again.model, again.version) == ("binary", "1.0.1")
    assert again.test_metrics == result.test_metrics
    frame = TABLES["binary"].head(50)
    rows = [cards.stand.models.load(cards.stand.models.resolve(f"binary@{v}")) for v in ("1.0.0", "1.0.1")]
    matrix = model_input(frame, inputs_of(cards.stand.models.resolve("binary")))
    assert rows[0].predict_proba(matrix).tobytes() == rows[1].predict_proba(matrix).tobytes()


@pytest.mark.slow
def test_a_card_of_noise_says_so_and_recommends_no_use(cards: Cards) -> None:
    _, card = cards["noise"]
    assert "None: as far as these rows tell, the features say nothing about the target" in card.markdown
    assert "no sign of a signal" in cards.page("noise").text


@pytest.mark.slow
def test_a_card_names_a_rare_class_and_the_threshold_that_was_chosen(cards: Cards) -> None:
    result, card = cards["rare"]
    assert "Class `1` is rare" in card.markdown
    assert result.threshold is not None
    assert f"From a probability of {result.threshold:.4g} on it says `1`." in card.markdown
    assert "for f1." in card.markdown


def test_a_card_of_values_gives_their_range_and_residuals(cards: Cards) -> None:
    _, card = cards["values"]
    assert re.search(r"Training targets lie between -\d+\.\d+ and \d+\.\d+", card.markdown)
    assert re.search(r"Residuals of 180 held-out rows against their forecasts: median", card.markdown)


@pytest.mark.slow
def test_class_names_are_text_and_ten_classes_have_a_cell_each(cards: Cards) -> None:
    page = cards.page("three")
    assert "<b>x</b>" in page.text
    counts = [line for line in cards["ten"][1].markdown.splitlines() if re.match(r"\| \d \| \d+( \| \d+){9} \|", line)]
    assert sum(int(cell) for line in counts for cell in line.strip("| ").split(" | ")[1:]) == 180
