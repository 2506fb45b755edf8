"""The registry of models: MLflow for runs, versions and stages, our database for what MLflow lacks."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Unpack

import polars as pl

from mcp_server.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, shown
from mcp_server.results.training import Stage
from mcp_server.runtime.clock import Clock
from mcp_server.settings import MlflowSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.mlflow_opening import tracking_place
from mcp_server.stores.mlflow_runs import Tracking
from mcp_server.stores.mlflow_stages import Stages
from mcp_server.stores.model_versions import STAGES, ModelVersion, ModelVersions, parse_reference
from mcp_server.stores.registration import UNREGISTERED, ModelCard, Registrar, Registration, RegistrationJournal

__all__ = ["UNREGISTERED", "ModelCard", "ModelRegistry", "StageChange"]


@dataclass(frozen=True, slots=True)
class StageChange:
    """What a change of stage came to.

    Attributes:
        previous: who held the stage before; None if nobody did, or if it names no single version.
        revision: how often the stages of this model have changed.
        changed: False when the version held the stage already.
    """

    previous: ModelVersion | None
    revision: int
    changed: bool


class ModelRegistry:
    """Registers, finds, loads, stages and deletes model versions. Thread-safe, and safe between processes."""

    def __init__(
        self,
        *,
        database: Database,
        artifacts: ArtifactStore,
        clock: Clock,
        settings: MlflowSettings,
        data_dir: Path,
    ) -> None:
        """Hold the parts; nothing is opened yet."""
        self._versions = ModelVersions(database)
        self._artifacts = artifacts
        self._tracking = Tracking(tracking_place(settings, database, data_dir))
        self._stages = Stages(self._tracking)
        journal = RegistrationJournal(database, clock)
        self._registrar = Registrar(self._versions, journal, artifacts, self._tracking, clock, settings.patience_s)

    def open(self) -> None:
        """Connect to MLflow now, migrations included, rather than in the first call that needs it."""
        self._tracking.open()
        self._registrar.take_back()

    def ping(self) -> None:
        """Make one round trip to MLflow, and clear there what registrations left that it failed.

        Raises:
            UnavailableError: it does not answer.
        """
        self._tracking.ping()
        self._registrar.take_back()

    def register(self, **parts: Unpack[Registration]) -> ModelVersion:
        """Make the next version of a model; see `Registration`. The same job registers once, however often it is run.

        Raises:
            UnavailableError: MLflow does not answer, also after the patience; nothing is registered.
            FailedPreconditionError: MLflow refuses us; nothing is registered.
            ConflictError: others register versions of this name faster than this call can.
            ResourceExhaustedError: the disk is full; nothing is registered.
        """
        return self._registrar.register(parts)

    def resolve(self, ref: str) -> ModelVersion:
        """Return the version that `name` (the latest), `name@1.2.0` or `name@production` means.

        MLflow is asked only for a stage.

        Raises:
            InvalidArgumentError: `ref` is no reference.
            NotFoundError: no such model or version, or nothing holds the stage; carries near names.
            UnavailableError: MLflow is asked and does not answer.
        """
        name, selector = parse_reference(ref)
        if selector is None:
            return self._versions.latest(name)
        if selector[0].isdigit():
            return self._versions.exact(name, selector)
        if selector not in STAGES:
            raise InvalidArgumentError(
                f"{shown(selector)} is not a stage that names a version.",
                hint=f"Use {name}@production, {name}@staging, or a version such as {name}@1.0.0.",
            )
        return self._holder(name, selector) or self._nobody(name, selector)

    def _holder(self, name: str, stage: str) -> ModelVersion | None:
        mlflow_version = self._stages.aliases(name).get(stage)
        return None if mlflow_version is None else self._versions.by_mlflow_version(name, mlflow_version)

    def _nobody(self, name: str, stage: str) -> ModelVersion:
        latest = self._versions.latest(name)
        raise NotFoundError(
            "model",
            f"{name}@{stage}",
            hint=f"No version of {name} is in {stage}; its latest is {latest.ref}. promote_model gives it a stage.",
        )

    def latest(self, name: str) -> ModelVersion | None:
        """Return the version of `name` registered last, or None when there is no such model."""
        found = self._versions.named(name)
        return found[0] if found else None

    def trained_on(self, datasets: Collection[str]) -> list[str]:
        """Return what depends on any of the dataset versions (`name@3`), as `model upset@1.0.0`."""
        return [f"model {ref}" for ref in self._versions.trained_on(datasets)]

    def names(self) -> list[str]:
        """Return the names of all models, in order."""
        return self._versions.names()

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all versions of `name`, the latest first; none when there is no such model."""
        return self._versions.named(name)

    def page(
        self, limit: int, *, name: str | None = None, stage: Stage | None = None, after: Any = None
    ) -> list[tuple[ModelVersion, Stage]]:
        """Return up to `limit` versions with their stages, the newest first.

        Args:
            after: `(created_at, name, position)` of the last one of the page before.

        Raises:
            UnavailableError: MLflow does not answer.
        """
        stages = self.stages(name)
        among = None if stage is None or stage == "none" else {ref for ref, held in stages.items() if held == stage}
        found: list[tuple[ModelVersion, Stage]] = []
        while len(found) < limit:
            batch = self._versions.page(limit, name, among, after)
            held = [(version, stages.get((version.name, version.version), "none")) for version in batch]
            found += [pair for pair in held if stage is None or pair[1] == stage]
            if len(batch) < limit:
                break
            after = (batch[-1].created_at, batch[-1].name, batch[-1].position)
        return found[:limit]

    def stages(self, name: str | None = None) -> dict[tuple[str, str], Stage]:
        """Return the stage of every (name, version) that has one.

        Raises:
            UnavailableError: MLflow does not answer.
        """
        held = self._stages.held(name)
        numbers = self._versions.numbers({(model, mlflow_version) for model, mlflow_version, _ in held})
        return {
            (model, numbers[model, mlflow_version]): stage
            for model, mlflow_version, stage in held
            if (model, mlflow_version) in numbers
        }

    def stage_of(self, version: ModelVersion) -> Stage:
        """Return the stage that `version` holds now, `none` for none.

        Raises:
            UnavailableError: MLflow does not answer.
        """
        return self.stages(version.name).get((version.name, version.version), "none")

    def set_stage(
        self, version: ModelVersion, stage: Stage, *, reason: str | None = None, expected_revision: int | None = None
    ) -> StageChange:
        """Give `version` a stage, and only that; a version that holds it already changes nothing.

        Args:
            reason: kept in MLflow beside the version.
            expected_revision: of the model's stages; None accepts any.

        Raises:
            ConflictError: the stages have changed since that revision; carries the current one.
            UnavailableError: MLflow does not answer.
        """
        with self._versions.exclusive(version.name):
            previous = self._holder(version.name, stage) if stage in STAGES else None
            revision, changed = self._stages.move(
                version.name, version.mlflow_version, stage, reason, expected_revision
            )
        return StageChange(previous, revision, changed)

    def load(self, model: str | ModelVersion) -> Any:
        """Return the fitted pipeline, its file checked against the recorded hash; the caller keeps it.

        Raises:
            NotFoundError: no such version.
            FailedPreconditionError: the file is damaged or missing, or belongs to another scikit-learn.
            InvalidArgumentError: the file holds what is not trusted.
        """
        from mcp_server.engine.model_files import load_model

        version = self.resolve(model) if isinstance(model, str) else model
        return load_model(self._artifacts.read_bytes(version.model_artifact), version.sha256)

    def reference(self, model: str | ModelVersion) -> pl.DataFrame:
        """Return the training rows kept with a version: its features, the target, and what the model said of them.

        Raises:
            FailedPreconditionError: none are kept, or their file is damaged.
        """
        version = self.resolve(model) if isinstance(model, str) else model
        if version.reference_artifact is None:
            raise FailedPreconditionError(
                f"No reference rows are kept with {version.ref}.", hint="Name a reference dataset instead."
            )
        return pl.read_parquet(BytesIO(self._artifacts.read_bytes(version.reference_artifact)))

    def card(self, version: ModelVersion) -> ModelCard:
        """Return the model card.

        Raises:
            FailedPreconditionError: its file is damaged or missing.
        """
        image = version.card.get("image")
        return ModelCard(
            markdown=self._artifacts.read_bytes(version.card["markdown"]).decode(),
            html=self._artifacts.read_bytes(version.card["html"]).decode(),
            image_png=None if image is None else self._artifacts.read_bytes(image),
        )

    def require_unserved(self, version: ModelVersion, serving: Callable[[str], Sequence[str]]) -> None:
        """Refuse a version that an endpoint serves.

        Args:
            serving: gives the endpoints that serve a reference.

        Raises:
            FailedPreconditionError: an endpoint serves it; names it.
        """
        endpoints = serving(version.ref)
        if endpoints:
            raise FailedPreconditionError(
                f"{version.ref} is served by endpoint {', '.join(endpoints)}.",
                hint="Move the endpoint to another version, or delete_endpoint first.",
                details={"endpoints": list(endpoints)},
            )

    def delete(self, version: ModelVersion, serving: Callable[[str], Sequence[str]]) -> None:
        """Delete a version: from MLflow, from the list, and its files where no other version has the same.

        Raises:
            FailedPreconditionError: an endpoint serves it; names it.
            UnavailableError: MLflow does not answer; nothing is deleted.
        """
        self.require_unserved(version, serving)
        self._tracking.delete_version(version.name, version.mlflow_version, version.run_id)
        self._versions.mark_deleted(version)
        for key in (version.model_artifact, version.reference_artifact):
            if key is not None and not self._versions.uses_artifact(key):
                self._artifacts.delete(key)
