import hashlib
from pathlib import Path

import numpy as np
import pytest

from mcp_server.engine import plots
from mcp_server.engine.charts import Bars
from mcp_server.engine.reports import Report, Section, Table
from mcp_server.errors import NotFoundError
from mcp_server.runtime.clock import ManualClock
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.reports import ReportStore


@pytest.fixture
def store(database: Database, artifacts: ArtifactStore, clock: ManualClock) -> ReportStore:
    return ReportStore(database, artifacts, clock)


def test_a_saved_report_is_read_back_as_text_page_and_picture(store: ReportStore, clock: ManualClock) -> None:
    picture = plots.histogram(np.arange(10.0), title="Points")
    sections = [
        Section("Points", "How many.", image_png=picture),
        Section("Teams", table=Table(["team"], [["BOS"]])),
    ]
    report_id = store.save(Report("Games", "63 rows.", sections), kind="describe_dataset", subject="games@1")

    stored = store.load(report_id)
    assert [section.heading for section in stored.sections] == ["Summary", "Points", "Teams"]
    assert "63 rows." in stored.sections[0].markdown
    assert "BOS" in stored.sections[2].markdown
    assert (stored.kind, stored.subject, stored.title) == ("describe_dataset", "games@1", "Games")
    assert stored.created_at == clock.now()
    assert store.html(report_id).startswith("<!doctype html>")
    assert store.image(report_id) == picture


def test_a_report_without_pictures_has_no_image(store: ReportStore) -> None:
    assert store.image(store.save(Report("Games", "63 rows."), "a_tool", "games")) is None


def test_an_unknown_report_is_not_found(store: ReportStore) -> None:
    with pytest.raises(NotFoundError, match="No report named"):
        store.load("0000")


def test_an_answer_is_kept_with_its_report_and_replaced_by_a_later_one(store: ReportStore) -> None:
    key = "a" * 64
    first = store.save(Report("Games", "63 rows."), "a_tool", "games")
    assert store.kept_answer(key) is None

    store.keep_answer(key, first, {"summary": "first"})
    assert store.kept_answer(key) == {"summary": "first"}

    second = store.save(Report("Games", "64 rows."), "a_tool", "games")
    store.keep_answer(key, second, {"summary": "second"})
    assert store.kept_answer(key) == {"summary": "second"}


def test_an_answer_whose_report_is_gone_is_not_given(store: ReportStore, artifacts: ArtifactStore) -> None:
    report_id = store.save(Report("Games", "63 rows."), "a_tool", "games")
    store.keep_answer("a" * 64, report_id, {"summary": "kept"})
    store.keep_answer("b" * 64, "no such report", {"summary": "orphan"})

    html = hashlib.sha256(store.html(report_id).encode()).hexdigest() + ".report.html"
    artifacts.delete(html)

    assert store.kept_answer("a" * 64) is None
    assert store.kept_answer("b" * 64) is None


def test_a_chart_is_kept_as_data_and_drawn_once_when_first_asked_for(
    store: ReportStore, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    report = Report("Games", "63 rows.", picture=Bars(["BOS", "LAL"], [3.0, 2.0], "wins"))
    report_id = store.save(report, "validate_dataset", "games@1")
    assert not list((tmp_path / "artifacts").rglob("*.png"))

    picture = store.image(report_id)

    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 200_000
    assert store.image(report_id) == picture
    assert [path.read_bytes() for path in (tmp_path / "artifacts").rglob("*.png")] == [picture]


def test_the_oldest_reports_go_when_there_are_too_many_but_not_those_of_trainings(
    database: Database, artifacts: ArtifactStore, clock: ManualClock, tmp_path: Path
) -> None:
    store = ReportStore(database, artifacts, clock, keep=3)
    trained = store.save(Report("Card", "a model"), "train_model", "upset@1.0.0")
    saved = []
    for number in range(5):
        clock.advance(1)
        saved.append(store.save(Report(f"Report {number}", "63 rows."), "validate_dataset", "games@1"))

    for gone in saved[:2]:
        with pytest.raises(NotFoundError, match="No report named"):
            store.load(gone)
    assert [store.load(kept).title for kept in saved[2:]] == ["Report 2", "Report 3", "Report 4"]
    assert store.load(trained).title == "Card"
    assert len(list((tmp_path / "artifacts").rglob("*.html"))) == 4


def test_a_file_that_a_younger_report_shares_stays(
    database: Database, artifacts: ArtifactStore, clock: ManualClock
) -> None:
    store = ReportStore(database, artifacts, clock, keep=1)
    store.save(Report("Same", "63 rows."), "validate_dataset", "games@1")
    clock.advance(1)
    second = store.save(Report("Same", "63 rows."), "validate_dataset", "games@1")
    assert store.html(second).startswith("<!doctype html>")
