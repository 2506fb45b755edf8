"""Model versions: listed, described, given stages, deleted, and brought in from files fitted elsewhere."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from mcp_server.errors import InvalidArgumentError, NotFoundError, shown
from mcp_server.results.training import (
    Lineage,
    ModelDeletion,
    ModelDescription,
    ModelPage,
    ModelSummary,
    PromotionResult,
    Stage,
    TrainingRecipe,
    TrainingResult,
)
from mcp_server.runtime.clock import Clock
from mcp_server.runtime.identity import Caller
from mcp_server.services.paging import after_of, cursor_of
from mcp_server.services.registering import Registering
from mcp_server.settings import LimitSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.datasets import DatasetStore
from mcp_server.stores.model_versions import ModelVersion, parse_reference
from mcp_server.stores.models import ModelRegistry
from mcp_server.stores.request_keys import RequestKeys
from mcp_server.stores.sources.files import SourceFiles

_ROOM = 15_000  # characters of a result; a caller reads at most 16 KB


class RegistryService:
    """Answers the tools about model versions. Thread-safe."""

    def __init__(
        self,
        *,
        models: ModelRegistry,
        datasets: DatasetStore,
        sources: SourceFiles,
        artifacts: ArtifactStore,
        request_keys: RequestKeys,
        clock: Clock,
        limits: LimitSettings,
        serving: Callable[[str], Sequence[str]],
    ) -> None:
        """Hold the parts.

        Args:
            serving: gives the endpoints that serve a model reference `name@version`.
        """
        self._models = models
        self._request_keys = request_keys
        self._serving = serving
        self._registering = Registering(models, datasets, sources, artifacts, clock, limits)

    def list_models(
        self, *, name: str | None = None, stage: Stage | None = None, limit: int = 50, cursor: str | None = None
    ) -> ModelPage:
        """List model versions, the newest first.

        Raises:
            NotFoundError: no model of this name; carries near names.
            InvalidArgumentError: the cursor is not one of ours.
            UnavailableError: MLflow, which keeps the stages, does not answer.
        """
        if name is not None and not self._models.versions(name):
            raise NotFoundError("model", name, self._models.names())
        after = None if cursor is None else _after(cursor)
        found = self._models.page(limit + 1, name=name, stage=stage, after=after)
        items = _that_fit([_summary_of(version, held) for version, held in found[:limit]])
        shown_ones = found[: len(items)]
        more = len(found) > len(items)
        of_stage = "" if stage is None else f" in stage {stage}"
        first = f", the newest {shown_ones[0][0].ref}" if shown_ones else ""
        return ModelPage(
            summary=f"{len(items)} model version{_s(len(items))}{of_stage}{first}{'; more follow' if more else ''}.",
            items=items,
            next_cursor=_cursor(shown_ones[-1][0]) if more else None,
        )

    def describe_model(self, *, model: str) -> ModelDescription:
        """Return a version with all that is kept beside it.

        Raises:
            NotFoundError: no such model, version or holder of the stage.
            UnavailableError: MLflow, which keeps the stages, does not answer.
        """
        version = self._models.resolve(model)
        return self._described(version, self._models.stage_of(version))

    def _described(self, version: ModelVersion, stage: Stage) -> ModelDescription:
        result = TrainingResult.model_validate(dict(version.result) | {"stage": stage})
        held = "has no stage" if stage == "none" else f"is {'archived' if stage == 'archived' else f'in {stage}'}"
        description = ModelDescription(
            **result.model_dump(exclude={"summary"}),
            summary=f"{version.ref} {held}. {result.summary}",
            recipe=None if version.recipe is None else TrainingRecipe.model_validate(dict(version.recipe)),
            lineage=Lineage.model_validate(dict(version.lineage)),
            signature=version.signature,
            size_bytes=version.size_bytes,
            sha256=version.sha256,
            created_at=version.created_at,
        )
        return _shortened(description)

    def promote_model(
        self,
        *,
        caller: Caller,
        model: str,
        stage: Stage,
        reason: str | None = None,
        expected_revision: int | None = None,
        request_key: str | None = None,
    ) -> PromotionResult:
        """Give a version a stage; endpoints stay where they are.

        Raises:
            NotFoundError: no such model or version.
            ConflictError: the model's stages have changed since `expected_revision`, or the request key was used for
                something else.
            UnavailableError: MLflow does not answer; nothing has changed.
        """
        arguments = {"model": model, "stage": stage, "expected_revision": expected_revision, "caller": caller.name}
        return self._request_keys.once(
            "promote_model",
            request_key,
            arguments,
            PromotionResult,
            lambda: self._promote(model, stage, reason, expected_revision),
        )

    def _promote(self, model: str, stage: Stage, reason: str | None, expected_revision: int | None) -> PromotionResult:
        version = self._models.resolve(model)
        change = self._models.set_stage(version, stage, reason=reason, expected_revision=expected_revision)
        previous = None if change.previous is None else change.previous.ref
        return PromotionResult(
            summary=_promotion_sentence(version.ref, stage, previous, change.changed),
            model=version.ref,
            stage=stage,
            previous=previous,
            revision=change.revision,
        )

    def delete_model(self, *, caller: Caller, model: str) -> ModelDeletion:
        """Delete one version (`name@1.2.0` or `name@stage`), or all of them (`name`), for good.

        Raises:
            NotFoundError: no such model or version.
            FailedPreconditionError: an endpoint serves it; nothing is deleted.
            UnavailableError: MLflow does not answer.
        """
        name, selector = parse_reference(model)
        latest = self._models.resolve(model)
        doomed = self._models.versions(name) if selector is None else [latest]
        for version in doomed:
            self._models.require_unserved(version, self._serving)
        for version in doomed:
            self._models.delete(version, self._serving)
        deleted = [version.ref for version in doomed]
        left = len(self._models.versions(name))
        return ModelDeletion(
            summary=f"Deleted {', '.join(deleted[:5])}{f' and {len(deleted) - 5} more' if deleted[5:] else ''}; "
            f"{left} version{_s(left)} of {name} {'is' if left == 1 else 'are'} left.",
            deleted=deleted,
        )

    def register_model(self, *, caller: Caller, name: str, path: str, dataset: str, target: str) -> ModelDescription:
        """Bring in a fitted scikit-learn model from a skops file below a data root; see `Registering.register`."""
        return self._described(self._registering.register(caller, name, path, dataset, target), "none")


def _summary_of(version: ModelVersion, stage: Stage) -> ModelSummary:
    metric = str(version.result["metric"])
    return ModelSummary(
        model=version.name,
        version=version.version,
        stage=stage,
        task=version.signature.task,
        metric=metric,
        score=version.result["test_metrics"].get(metric),
        created_at=version.created_at,
    )


def _that_fit(items: list[ModelSummary]) -> list[ModelSummary]:
    """Return as many as a result has room for; the cursor leads on to the rest."""
    room, count = _ROOM, 0
    for item in items:
        room -= len(item.model_dump_json()) + 1
        if room < 0:
            break
        count += 1
    return items[:count]


def _shortened(description: ModelDescription) -> ModelDescription:
    """Return the description with as many features in full as a result has room for; the recipe's names go last."""
    count = len(description.features)
    for kept, words, of_recipe in (
        (count, None, count),
        (count, 3, count),
        *((few, 0, count) for few in (100, 40, 15)),
        *((few, 0, few) for few in (100, 40, 15)),
    ):
        shorter = _with_features(description, kept, words, of_recipe)
        if len(shorter.model_dump_json()) <= _ROOM:
            break
    return shorter


def _with_features(description: ModelDescription, kept: int, words: int | None, of_recipe: int) -> ModelDescription:
    count, recipe = len(description.features), description.recipe
    if kept >= count and words is None:
        return description
    inputs = [
        column.model_copy(update={"categories": column.categories[:words]})
        for column in description.signature.inputs[:kept]
    ]
    changes: dict[str, Any] = {
        "signature": description.signature.model_copy(update={"inputs": inputs}),
        "features": description.features[:kept],
    }
    notes = []
    if kept < count:
        notes.append(f"Only {kept} of the {count} features are listed here; predict names those that a row lacks.")
    if recipe is not None and of_recipe < len(recipe.features):
        changes["recipe"] = recipe.model_copy(update={"features": recipe.features[:of_recipe]})
        notes.append(f"So are the recipe's: as it stands here it trains on {of_recipe} features only.")
    return description.model_copy(update=changes | {"warnings": [*description.warnings, *notes]})


def _promotion_sentence(ref: str, stage: Stage, previous: str | None, changed: bool) -> str:
    if not changed:
        return f"{ref} held stage {stage} already; nothing has changed."
    if stage == "none":
        return f"{ref} holds no stage any more."
    if stage == "archived":
        return f"{ref} is archived."
    before = "nobody held it before" if previous in (None, ref) else f"{previous} held it before"
    return f"{ref} is now in {stage}; {before}. Endpoints did not move: use deploy_model or start_rollout for that."


def _cursor(version: ModelVersion) -> str:
    return cursor_of(json.dumps([version.created_at.isoformat(), version.name, version.position]))


def _after(cursor: str) -> tuple[datetime, str, int]:
    key = after_of(cursor)
    try:
        created_at, name, position = json.loads(key)
        return datetime.fromisoformat(created_at), str(name), int(position)
    except (ValueError, TypeError) as refusal:
        raise InvalidArgumentError(
            f"{shown(cursor)} is no cursor of this list.", hint="Pass next_cursor of the page before, or nothing."
        ) from refusal


def _s(count: int) -> str:
    return "" if count == 1 else "s"
