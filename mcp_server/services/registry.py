"""Model versions: listed, described, given stages, deleted, and brought in from files fitted elsewhere."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from mcp_server.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError, ResourceExhaustedError, shown
from mcp_server.results.training import (
    BaselineScore,
    Calibration,
    Comparison,
    InputColumn,
    Interval,
    Lineage,
    ModelDeletion,
    ModelDescription,
    ModelPage,
    ModelSignature,
    ModelSummary,
    PromotionResult,
    Stage,
    TrainingRecipe,
    TrainingResult,
)
from mcp_server.runtime.child import run_in_child
from mcp_server.runtime.clock import Clock
from mcp_server.runtime.identity import Caller
from mcp_server.services.paging import after_of, cursor_of
from mcp_server.settings import LimitSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.datasets import DatasetStore, DatasetVersion
from mcp_server.stores.model_versions import ModelVersion, parse_reference
from mcp_server.stores.models import UNREGISTERED, ModelCard, ModelRegistry
from mcp_server.stores.request_keys import RequestKeys
from mcp_server.stores.sources.files import SourceFile, SourceFiles

_EXAMINE = "mcp_server.engine.registered_model:examine_in_child"
_SEED = 0
_ROOM = 15_000  # characters of a result; a caller reads at most 16 KB
_MAX_FILE_BYTES = 1024**3


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
        self._datasets = datasets
        self._sources = sources
        self._artifacts = artifacts
        self._request_keys = request_keys
        self._clock = clock
        self._limits = limits
        self._serving = serving

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
        """Bring in a fitted scikit-learn model from a skops file below a data root, checked like ours and scored.

        Raises:
            PermissionDeniedError: the path lies outside the data roots.
            NotFoundError: no such file, dataset, or column.
            InvalidArgumentError: it is no skops file, holds what is not trusted, or does not fit the dataset.
            AlreadyExistsError: the name belongs to a model of another task.
            FailedPreconditionError: another version of scikit-learn made it, or it gives no probabilities.
            ResourceExhaustedError: it takes more memory or time than the limits.
            UnavailableError: MLflow does not answer; nothing is registered.
        """
        from mcp_server.services.training_planning import refuse_other_task

        started = self._clock.monotonic()
        file = self._sources.find(path)
        data = _read(file)
        version = self._datasets.resolve(dataset)
        with ExitStack() as stack:
            given, wrapped, reference = (
                stack.enter_context(self._artifacts.temporary_path(suffix))
                for suffix in (".skops", ".skops", ".parquet")
            )
            given.write_bytes(data)
            scores = self._examine(given, version, target, wrapped, reference)
            latest = self._models.latest(name)
            refuse_other_task(name, None if latest is None else latest.task, scores["task"])
            result = _result(name, file, version, scores, self._clock.monotonic() - started)
            registered = self._models.register(
                job_id=f"register-{uuid.uuid4().hex}",
                name=name,
                task=scores["task"],
                recipe=None,
                training_result=result.model_dump(mode="json"),
                signature=_signature(scores, target),
                model_bytes=wrapped.read_bytes(),
                reference_parquet=reference.read_bytes(),
                lineage=_lineage(version, data).model_dump(mode="json"),
                card=_card(result, version, target),
                metrics={f"test_{metric}": value for metric, value in scores["metrics"].items()},
                params={"estimator": scores["estimator"], "file": file.path.name, "dataset": version.ref},
                caller=caller,
            )
        return self._described(registered, "none")

    def _examine(
        self, given: Path, version: DatasetVersion, target: str, wrapped: Path, reference: Path
    ) -> dict[str, Any]:
        """Load and score the file in a process that can be killed: whatever it holds, the server lives."""
        scores: dict[str, Any] = run_in_child(
            _EXAMINE,
            {
                "model_path": str(given),
                "dataset_path": str(version.path),
                "target": target,
                "seed": _SEED,
                "wrapped_path": str(wrapped),
                "reference_path": str(reference),
            },
            memory_bytes=self._limits.child_memory_bytes,
            timeout_s=self._limits.parse_timeout_s,
            threads=1,
        )
        return scores


def _read(file: SourceFile) -> bytes:
    if file.size_bytes > _MAX_FILE_BYTES:
        raise ResourceExhaustedError(
            f"File {shown(file.source)} has {file.size_bytes:,} bytes; a model file may have {_MAX_FILE_BYTES:,}."
        )
    handle = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        found = os.fstat(stream.fileno())
        if (found.st_dev, found.st_ino) != (file.device, file.inode):
            raise PermissionDeniedError("The file changed while it was being opened.", hint="Call again.")
        return stream.read(_MAX_FILE_BYTES)


def _signature(scores: Mapping[str, Any], target: str) -> ModelSignature:
    return ModelSignature(
        inputs=[InputColumn.model_validate(column) for column in scores["inputs"]],
        target=target,
        task=scores["task"],
        classes=scores["classes"],
    )


def _lineage(version: DatasetVersion, data: bytes) -> Lineage:
    from mcp_server.services.training_planning import make_lineage

    return make_lineage(version, None, _SEED).model_copy(update={"file_sha256": hashlib.sha256(data).hexdigest()})


def _result(
    name: str, file: SourceFile, version: DatasetVersion, scores: Mapping[str, Any], seconds: float
) -> TrainingResult:
    comparison = None if scores["comparison"] is None else Comparison(**scores["comparison"])
    baselines = (
        []
        if comparison is None
        else [BaselineScore(baseline=scores["baseline"], metrics=scores["baseline_metrics"], comparison=comparison)]
    )
    score = scores["metrics"][scores["metric"]]
    figure = "is not defined" if score is None else f"{score:.4f}"
    return TrainingResult(
        summary=f"{name}@{UNREGISTERED}, a {scores['estimator']} from {file.path.name}, scores {scores['metric']} "
        f"{figure} on {scores['rows']:,} rows of {version.ref}.",
        model=name,
        version=UNREGISTERED,
        run_id=None,
        task=scores["task"],
        estimator=scores["estimator"],
        params={},
        metric=scores["metric"],
        higher_is_better=scores["higher_is_better"],
        cv_score=None,
        cv_std=None,
        test_metrics=scores["metrics"],
        test_intervals={key: Interval(low=low, high=high) for key, (low, high) in scores["intervals"].items()},
        baseline=scores["baseline"] if baselines else None,
        baseline_metrics=scores["baseline_metrics"],
        baseline_comparison=comparison,
        baselines=baselines,
        leaderboard=[],
        calibration=None if scores["calibration"] is None else Calibration.model_validate(scores["calibration"]),
        features=[column["name"] for column in scores["inputs"]],
        rows_train=0,
        rows_test=scores["rows"],
        rows_unlabelled=scores["rows_unlabelled"],
        duration_seconds=max(0.0, seconds),
        warnings=[
            "The model was fitted elsewhere: what it was trained on is not known. If rows of "
            f"{version.ref} were among it, these scores are too good."
        ],
        card_uri=None,
    )


def _card(result: TrainingResult, version: DatasetVersion, target: str) -> ModelCard:
    from mcp_server.engine.reports import Report, Section, Table, main_image, to_html, to_markdown

    rows = [
        (metric, value, *(_ends(result.test_intervals.get(metric))), result.baseline_metrics.get(metric))
        for metric, value in result.test_metrics.items()
    ]
    report = Report(
        title=f"Model card: {result.model}@{UNREGISTERED}",
        summary=result.summary,
        sections=[
            Section(
                "What it is",
                f"A {result.task} model of `{target}`: {result.estimator}, fitted elsewhere and registered as a file. "
                f"It takes {len(result.features)} columns.",
            ),
            Section(
                "Scores",
                f"On {result.rows_test} rows of `{version.ref}` (content {version.content_hash[:12]}).",
                Table(["metric", "value", "95 % low", "95 % high", result.baseline or "baseline"], rows),
            ),
            Section("Limits", "\n".join(f"- {warning}" for warning in result.warnings)),
        ],
    )
    return ModelCard(markdown=to_markdown(report), html=to_html(report), image_png=main_image(report))


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


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
    """Return the description with as many features in full as a result has room for."""
    count = len(description.features)
    for kept, words in ((count, None), (count, 3), (100, 0), (40, 0), (15, 0)):
        shorter = _with_features(description, kept, words)
        if len(shorter.model_dump_json()) <= _ROOM:
            break
    return shorter


def _with_features(description: ModelDescription, kept: int, words: int | None) -> ModelDescription:
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
        "recipe": recipe and recipe.model_copy(update={"features": recipe.features[:kept]}),
    }
    if kept < count:
        note = f"Only {kept} of the {count} features are listed here; predict names those that a row lacks."
        changes["warnings"] = [*description.warnings, note]
    return description.model_copy(update=changes)


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
