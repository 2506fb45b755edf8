"""Reports that jobs wrote: HTML and picture as artifacts, Markdown by section in the database.

A main plot is kept as the chart's data and drawn when somebody first asks for it: most are never looked at.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from mcp_server.errors import NotFoundError
from mcp_server.runtime.clock import Clock
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.schema import report_answers, reports

if TYPE_CHECKING:
    from mcp_server.engine.reports import Report

SUMMARY_HEADING = "Summary"
_NEAR_IDS = 200
# Endings of our own: no other part of the product has a file of the same name, so ours may be removed
_PAGE, _PICTURE, _CHART = ".report.html", ".report.png", ".chart.json"
_KEPT_FOR_GOOD = ("train_model",)  # a model's card is part of its record
_REMOVED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class StoredSection:
    """One section as Markdown, its heading included."""

    heading: str
    markdown: str


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report as it was saved; `kind` is the tool that wrote it, `subject` what it is about."""

    report_id: str
    kind: str
    subject: str
    title: str
    sections: Sequence[StoredSection]
    created_at: datetime


class ReportStore:
    """Saves and reads reports. Thread-safe, and safe between processes.

    Args:
        keep: reports kept; beyond it each new one removes the oldest, those of trainings excepted.
    """

    def __init__(self, database: Database, artifacts: ArtifactStore, clock: Clock, *, keep: int = 10_000) -> None:
        self._keep = keep
        self._database = database
        self._artifacts = artifacts
        self._clock = clock

    def save(self, report: "Report", kind: str, subject: str) -> str:
        """Render and store `report`; return its id, which `report://{id}` shows.

        Raises:
            ResourceExhaustedError: the disk is full.
        """
        from mcp_server.engine.charts import chart_document
        from mcp_server.engine.reports import Report, main_image, prose_markdown, to_html, to_markdown

        sections = [
            {"heading": SUMMARY_HEADING, "markdown": f"## {SUMMARY_HEADING}\n\n{prose_markdown(report.summary)}\n"}
        ]
        sections += [
            {"heading": section.heading, "markdown": to_markdown(Report("", "", [section]), section.heading)}
            for section in report.sections
        ]
        self._make_room()
        image = main_image(report)
        picture = self._artifacts.put_bytes(image, _PICTURE) if image is not None else None
        if report.picture is not None:
            chart = json.dumps(chart_document(report.picture), ensure_ascii=False, allow_nan=False)
            picture = self._artifacts.put_bytes(chart.encode(), _CHART)
        record = {
            "report_id": secrets.token_hex(8),
            "kind": kind,
            "subject": subject,
            "title": report.title,
            "sections": sections,
            "html": self._artifacts.put_bytes(to_html(report).encode(), _PAGE),
            "image": picture,
            "created_at": self._clock.now(),
        }
        with self._database.begin() as connection:
            connection.execute(sa.insert(reports).values(record))
        return str(record["report_id"])

    def _make_room(self) -> None:
        """Remove the oldest reports beyond those kept, with the answers that name them and the files only they had."""
        passing = reports.c.kind.not_in(_KEPT_FOR_GOOD)
        with self._database.begin() as connection:
            n_reports = connection.execute(sa.select(sa.func.count()).select_from(reports).where(passing)).scalar_one()
            if n_reports < self._keep:
                return
            oldest = sa.select(reports.c.report_id, reports.c.html, reports.c.image).where(passing)
            oldest = oldest.order_by(reports.c.created_at, reports.c.report_id).limit(
                min(n_reports - self._keep + 1, _REMOVED_AT_ONCE)
            )
            gone = connection.execute(oldest).all()
            ids = [row.report_id for row in gone]
            connection.execute(sa.delete(reports).where(reports.c.report_id.in_(ids)))
            connection.execute(sa.delete(report_answers).where(report_answers.c.report_id.in_(ids)))
            files = {key for row in gone for key in (row.html, row.image) if key is not None}
            shared = sa.select(reports.c.html, reports.c.image).where(
                reports.c.html.in_(files) | reports.c.image.in_(files)
            )
            used = {key for row in connection.execute(shared) for key in row}
        for key in files - used:
            self._artifacts.delete(key)

    def load(self, report_id: str) -> StoredReport:
        """Return a report's text.

        Raises:
            NotFoundError: no report has this id.
        """
        row = self._row(report_id)
        return StoredReport(
            report_id=row.report_id,
            kind=row.kind,
            subject=row.subject,
            title=row.title,
            sections=tuple(StoredSection(**section) for section in row.sections),
            created_at=row.created_at,
        )

    def html(self, report_id: str) -> str:
        """Return the report as one HTML page.

        Raises:
            NotFoundError: no report has this id.
            FailedPreconditionError: its file is missing or damaged.
        """
        return self._artifacts.read_bytes(self._row(report_id).html).decode()

    def image(self, report_id: str) -> bytes | None:
        """Return the main plot as PNG bytes, None when the report has none.

        Raises:
            NotFoundError: no report has this id.
            FailedPreconditionError: its file is missing or damaged.
        """
        key = self._row(report_id).image
        if key is None or not key.endswith(_CHART):
            return self._artifacts.read_bytes(key) if key is not None else None
        return self._drawn(report_id, key)

    def _drawn(self, report_id: str, key: str) -> bytes:
        """Draw a report's chart and keep the picture in its place; two who draw at once draw the same."""
        from mcp_server.engine.charts import chart_of
        from mcp_server.engine.plots import draw

        image = draw(chart_of(json.loads(self._artifacts.read_bytes(key))))
        drawn = sa.update(reports).where(reports.c.report_id == report_id, reports.c.image == key)
        kept = self._artifacts.put_bytes(image, _PICTURE)
        with self._database.begin() as connection:
            connection.execute(drawn.values(image=kept))
        return image

    def keep_answer(self, key: str, report_id: str, answer: Mapping[str, Any]) -> None:
        """Keep the answer that a report goes with, for when the same is asked again; it replaces an older one.

        Args:
            key: SHA-256, in hex, of all that the answer depends on.
            report_id: the report that the answer names.
            answer: a JSON object.
        """
        record = {"report_id": report_id, "answer": dict(answer), "created_at": self._clock.now()}
        with self._database.begin() as connection:
            mine = report_answers.c.key == key
            if connection.execute(sa.update(report_answers).where(mine).values(record)).rowcount:
                return
            try:
                with connection.begin_nested():
                    connection.execute(sa.insert(report_answers).values(record | {"key": key}))
            except IntegrityError:  # another process kept the same answer in between; either is right
                return

    def kept_answer(self, key: str) -> dict[str, Any] | None:
        """Return the answer kept under `key`; None when there is none, or its report is gone."""
        statement = sa.select(report_answers.c.answer, reports.c.html, reports.c.image).join(
            reports, reports.c.report_id == report_answers.c.report_id
        )
        with self._database.read() as connection:
            row = connection.execute(statement.where(report_answers.c.key == key)).first()
        if row is None or not all(self._artifacts.exists(each) for each in (row.html, row.image) if each is not None):
            return None
        answer: dict[str, Any] = row.answer
        return answer

    def _row(self, report_id: str) -> sa.Row[Any]:
        with self._database.read() as connection:
            row = connection.execute(sa.select(reports).where(reports.c.report_id == report_id)).first()
            if row is not None:
                return row
            newest = sa.select(reports.c.report_id).order_by(reports.c.created_at.desc()).limit(_NEAR_IDS)
            known = list(connection.execute(newest).scalars())
        raise NotFoundError(
            "report",
            report_id,
            known,
            hint="A report's id is what follows report:// in a result's report_uri; the oldest are removed in time.",
        )
