"""A new version of a model: its files, its run and version in MLflow, and last our row, which readers go by.

Killed anywhere before, it leaves nothing that a reader sees; the job, taken up again, finds its own run by its tag. One
that fails for good takes back what it has left in MLflow: at once or, where MLflow is away, as soon as it is back.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import sqlalchemy as sa

from mcp_server.errors import ConflictError, FailedPreconditionError, UnavailableError
from mcp_server.results.training import ModelSignature
from mcp_server.runtime.clock import Clock
from mcp_server.runtime.identity import Caller
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.mlflow_runs import Patience, Tracking
from mcp_server.stores.model_versions import Identity, ModelVersion, ModelVersions
from mcp_server.stores.schema import registrations as table

UNREGISTERED = "0.0.0-unregistered"  # stands for the version in cards and results until it is known
_MODEL_FILE = "model/model.skops"
_ATTEMPTS = 50
_FORGOTTEN_AFTER = timedelta(days=1)  # no registration goes on for so long: its process died, and its job was given up


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a person should know of a model version. `UNREGISTERED` in it becomes the version.

    Attributes:
        plots: its pictures as PNG, by their headings.
    """

    markdown: str
    html: str
    image_png: bytes | None = None
    plots: Mapping[str, bytes] = field(default_factory=dict)


class Registration(TypedDict):
    """What a registration is given.

    Attributes:
        job_id: who registers.
        recipe: all that the training was given; None for a file that was not trained here.
        training_result: the fields of `TrainingResult`. Its model, version, run_id, stage and card_uri are filled
            in here, and `UNREGISTERED` in its texts becomes the version.
        signature: what the model takes and gives.
        model_bytes: from `dump_model`.
        reference_parquet: training rows kept for drift, as a Parquet file.
        lineage: the fields of `Lineage`; `file_sha256` beside them for a registered file.
        card: the model card.
        metrics, params: for MLflow; values that are not finite are left out.
        files: further files for the MLflow run, by their path in it.
        series: curves for the MLflow run, one value a step.
        waiting: told while MLflow does not answer; what it raises, such as CancelledError, ends the wait.
        patience_s: how long to wait for MLflow; the settings say it where this does not.
    """

    job_id: str
    name: str
    task: str
    recipe: Mapping[str, Any] | None
    training_result: Mapping[str, Any]
    signature: ModelSignature | Mapping[str, Any]
    model_bytes: bytes
    reference_parquet: bytes | Path | None
    lineage: Mapping[str, Any]
    card: ModelCard
    metrics: Mapping[str, float | None]
    params: Mapping[str, Any]
    caller: Caller
    files: NotRequired[Mapping[str, bytes]]
    series: NotRequired[Mapping[str, Sequence[float | None]]]
    waiting: NotRequired[Callable[[str], None]]
    patience_s: NotRequired[float]


class Registrar:
    """Makes versions. Thread-safe, and safe between processes."""

    def __init__(
        self,
        versions: ModelVersions,
        journal: "RegistrationJournal",
        artifacts: ArtifactStore,
        tracking: Tracking,
        clock: Clock,
        patience_s: float,
    ) -> None:
        """Hold the parts.

        Args:
            patience_s: how long a registration waits for MLflow to come back where it does not say itself.
        """
        self._versions = versions
        self._journal = journal
        self._artifacts = artifacts
        self._tracking = tracking
        self._clock = clock
        self._patience_s = patience_s

    def register(self, parts: Registration) -> ModelVersion:
        """Make the next version of a model, once a job; see `ModelRegistry.register`."""
        name, job_id = parts["name"], parts["job_id"]
        done = self._versions.of_job(name, job_id)
        if done is not None:
            return done
        self.take_back()
        self._journal.begin(name, job_id)
        try:
            waiting = parts.get("waiting", _silently)
            return self._registered(parts, Patience(parts.get("patience_s", self._patience_s), waiting))
        except Exception:  # why: whatever it was, nothing half-registered may stay
            self._journal.give_up(name, job_id)
            self.take_back()
            raise

    def take_back(self) -> None:
        """Clear what registrations that have failed left in MLflow; while it is away, a later call does."""
        for name, job_id in self._journal.given_up():
            try:
                self._tracking.abandon(name, job_id)
            except (UnavailableError, FailedPreconditionError):  # the journal still holds it
                return
            self._journal.forget(name, job_id)

    def _registered(self, parts: Registration, patience: Patience) -> ModelVersion:
        name, card = parts["name"], parts["card"]
        signature = ModelSignature.model_validate(parts["signature"])
        recipe, lineage = _plain(parts["recipe"]), _plain(parts["lineage"])
        model_key = self._artifacts.put_bytes(parts["model_bytes"], ".skops")
        run = self._tracking.start_run(name, parts["job_id"], patience)
        self._tracking.log(
            run, params=parts["params"], metrics=parts["metrics"], series=parts.get("series", {}), patience=patience
        )
        plots = {f"plots/{_file_name(heading)}.png": picture for heading, picture in card.plots.items()}
        files = {_MODEL_FILE: parts["model_bytes"], **plots, **parts.get("files", {})}
        self._tracking.log_files(run, files, patience)
        draft = ModelVersion(
            name=name,
            version=UNREGISTERED,
            position=0,
            job_id=parts["job_id"],
            task=parts["task"],
            mlflow_version=self._tracking.create_version(name, run, patience),
            run_id=run,
            sha256=model_key[:64],
            size_bytes=len(parts["model_bytes"]),
            model_artifact=model_key,
            reference_artifact=self._put_parquet(parts["reference_parquet"]),
            card={},
            recipe=recipe,
            signature=signature,
            lineage=lineage,
            result=_plain(parts["training_result"]),
            created_at=self._clock.now(),
            created_by=parts["caller"].name,
        )
        return self._publish(draft, card, Identity.of(signature, recipe, lineage), patience)

    def _publish(self, draft: ModelVersion, card: ModelCard, identity: Identity, patience: Patience) -> ModelVersion:
        """Give the draft its number, in its texts and in MLflow, and make it visible last."""
        for _ in range(_ATTEMPTS):
            version = self._versions.upcoming(draft.name, identity)
            numbered = replace(card, markdown=_numbered(card.markdown, version), html=_numbered(card.html, version))
            named = {
                "model": draft.name,
                "version": version,
                "run_id": draft.run_id,
                "stage": "none",
                "card_uri": f"model://{draft.name}/{version}/card",
            }
            result = json.loads(_numbered(json.dumps(draft.result), version)) | named
            self._tracking.finish(
                draft.run_id,
                draft.name,
                draft.mlflow_version,
                tags={"nba_mcp.version": version, "nba_mcp.sha256": draft.sha256, "nba_mcp.task": draft.task},
                files={"card.md": numbered.markdown.encode(), "card.html": numbered.html.encode()},
                patience=patience,
            )
            candidate = replace(draft, version=version, result=result, card=self._put_card(numbered))
            inserted = self._versions.insert(candidate, identity)
            if inserted is not None:
                return inserted
            done = self._versions.of_job(draft.name, draft.job_id)
            if done is not None:
                return done
        raise ConflictError(f"Others register versions of {draft.name} all the time.", hint="Try again in a moment.")

    def _put_parquet(self, content: bytes | Path | None) -> str | None:
        if content is None:
            return None
        if isinstance(content, bytes):
            return self._artifacts.put_bytes(content, ".parquet")
        return self._artifacts.put_file(content, ".parquet")

    def _put_card(self, card: ModelCard) -> dict[str, str]:
        keys = {
            "markdown": self._artifacts.put_bytes(card.markdown.encode(), ".md"),
            "html": self._artifacts.put_bytes(card.html.encode(), ".html"),
        }
        if card.image_png is not None:
            keys["image"] = self._artifacts.put_bytes(card.image_png, ".png")
        return keys


class RegistrationJournal:
    """What has begun to register and is no version yet. Thread-safe, and safe between processes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def begin(self, name: str, job_id: str) -> None:
        """Note that a job's registration is under way, also when it was given up before."""
        record = {"name": name, "job_id": job_id, "state": "going", "created_at": self._clock.now()}
        with self._database.begin() as connection:
            connection.execute(sa.delete(table).where(*_of(name, job_id)))
            connection.execute(sa.insert(table).values(record))

    def give_up(self, name: str, job_id: str) -> None:
        """Note that a registration has failed and has left something behind."""
        with self._database.begin() as connection:
            connection.execute(sa.update(table).where(*_of(name, job_id)).values(state="given_up"))

    def given_up(self) -> list[tuple[str, str]]:
        """Return (name, job) of what has failed, and of what nobody has been at for a day."""
        old = table.c.created_at < self._clock.now() - _FORGOTTEN_AFTER
        query = sa.select(table.c.name, table.c.job_id).where(sa.or_(table.c.state == "given_up", old))
        with self._database.read() as connection:
            return [(row.name, row.job_id) for row in connection.execute(query.order_by(table.c.created_at))]

    def forget(self, name: str, job_id: str) -> None:
        """Strike out a registration: nothing of it is left."""
        with self._database.begin() as connection:
            connection.execute(sa.delete(table).where(*_of(name, job_id)))


def _of(name: str, job_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.name == name, table.c.job_id == job_id


def _silently(_message: str) -> None:
    """Wait without a word."""


def _file_name(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") or "plot"


def _plain(document: Mapping[str, Any] | None) -> Any:
    """Return the document as JSON reads it back, so that it compares equal to a stored one."""
    return None if document is None else json.loads(json.dumps(dict(document), allow_nan=False))


def _numbered(text: str, version: str) -> str:
    return text.replace(UNREGISTERED, version)
