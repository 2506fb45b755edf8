"""Models fitted elsewhere, brought in as files: checked like ours, scored, described, and registered."""

import os
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp_server.errors import PermissionDeniedError, ResourceExhaustedError, shown
from mcp_server.results.training import (
    BaselineScore,
    Calibration,
    Comparison,
    InputColumn,
    Interval,
    Lineage,
    ModelSignature,
    TrainingResult,
)
from mcp_server.runtime.child import run_in_child
from mcp_server.runtime.clock import Clock
from mcp_server.runtime.identity import Caller
from mcp_server.settings import LimitSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.datasets import DatasetStore, DatasetVersion
from mcp_server.stores.model_versions import ModelVersion
from mcp_server.stores.models import UNREGISTERED, ModelCard, ModelRegistry
from mcp_server.stores.sources.files import SourceFile, SourceFiles

if TYPE_CHECKING:
    from mcp_server.engine.training import TrainingSpec

_EXAMINE = "mcp_server.engine.registered_model:examine_in_child"
_SEED = 0
_MAX_FILE_BYTES = 1024**3
_PATIENCE_S = 5.0  # somebody waits for the answer; a job may wait longer


class Registering:
    """Brings model files in. Thread-safe."""

    def __init__(
        self,
        models: ModelRegistry,
        datasets: DatasetStore,
        sources: SourceFiles,
        artifacts: ArtifactStore,
        clock: Clock,
        limits: LimitSettings,
    ) -> None:
        self._models = models
        self._datasets = datasets
        self._sources = sources
        self._artifacts = artifacts
        self._clock = clock
        self._limits = limits

    def register(self, caller: Caller, name: str, path: str, dataset: str, target: str) -> ModelVersion:
        """Check a fitted scikit-learn model in a skops file like ours, score it on a dataset, and register it.

        Raises:
            PermissionDeniedError: the path lies outside the data roots.
            NotFoundError: no such file, dataset, or column.
            InvalidArgumentError: it is no skops file, holds what is not trusted, or does not fit the dataset.
            AlreadyExistsError: the name belongs to a model of another task.
            FailedPreconditionError: another version of scikit-learn made it, it gives no probabilities, or it takes
                the target.
            ResourceExhaustedError: it takes more memory or time than the limits.
            UnavailableError: MLflow does not answer; nothing is registered.
        """
        from mcp_server.services.training_planning import refuse_other_task

        started = self._clock.monotonic()
        file = self._sources.find(path)
        data = _read(file)
        version = self._datasets.resolve(dataset)
        with ExitStack() as stack:
            paths = {
                part: stack.enter_context(self._artifacts.temporary_path(suffix))
                for part, suffix in (
                    ("model", ".skops"),
                    ("wrapped", ".skops"),
                    ("reference", ".parquet"),
                    ("scored", ".parquet"),
                )
            }
            paths["model"].write_bytes(data)
            scores = self._examine(version, target, paths)
            latest = self._models.latest(name)
            refuse_other_task(name, None if latest is None else latest.task, scores["task"])
            result = _result(name, file, version, scores, self._clock.monotonic() - started)
            return self._models.register(
                job_id=f"register-{uuid.uuid4().hex}",
                name=name,
                task=scores["task"],
                recipe=None,
                training_result=result.model_dump(mode="json"),
                signature=_signature(scores, target),
                model_bytes=paths["wrapped"].read_bytes(),
                reference_parquet=paths["reference"].read_bytes(),
                lineage=_lineage(version, scores).model_dump(mode="json"),
                card=_card(result, version, target, scores, paths["scored"]),
                metrics={f"test_{metric}": value for metric, value in scores["metrics"].items()},
                params={"estimator": scores["estimator"], "file": file.path.name, "dataset": version.ref},
                caller=caller,
                patience_s=_PATIENCE_S,
            )

    def _examine(self, version: DatasetVersion, target: str, paths: Mapping[str, Path]) -> dict[str, Any]:
        """Load and score the file in a process that can be killed: whatever it holds, the server lives."""
        scores: dict[str, Any] = run_in_child(
            _EXAMINE,
            {
                "dataset_path": str(version.path),
                "target": target,
                "seed": _SEED,
                **{f"{part}_path": str(path) for part, path in paths.items()},
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


def _lineage(version: DatasetVersion, scores: Mapping[str, Any]) -> Lineage:
    from mcp_server.services.training_planning import make_lineage

    return make_lineage(version, None, _SEED).model_copy(update={"file_sha256": scores["sha256"]})


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
            f"{version.ref} were among it, these scores are too good.",
            *scores["leaks"],
        ],
        card_uri=None,
    )


def _card(
    result: TrainingResult, version: DatasetVersion, target: str, scores: Mapping[str, Any], scored: Path
) -> ModelCard:
    import polars as pl

    from mcp_server.engine.reports import Report, Section, Table
    from mcp_server.services.model_card import render_card
    from mcp_server.services.model_card_charts import output_sections

    rows = [
        (metric, value, *(_ends(result.test_intervals.get(metric))), result.baseline_metrics.get(metric))
        for metric, value in result.test_metrics.items()
    ]
    charts = output_sections(_spec(result, target, scores), result, pl.read_parquet(scored))
    sections = [
        Section(
            "What it is",
            f"A {result.task} model of `{target}`: {result.estimator}, fitted elsewhere and registered as a file "
            f"(SHA-256 {scores['sha256'][:12]}). It takes {len(result.features)} columns.",
        ),
        Section(
            "Scores",
            f"On {result.rows_test:,} rows of `{version.ref}` (content {version.content_hash[:12]}).",
            Table(["metric", "value", "95 % low", "95 % high", result.baseline or "baseline"], rows),
        ),
        *charts,
        Section("Limits", "\n".join(f"- {warning}" for warning in result.warnings)),
    ]
    picture = next((part.chart for part in charts if part.chart is not None), None)
    return render_card(Report(f"Model card: {result.model}@{UNREGISTERED}", result.summary, sections, picture=picture))


def _spec(result: TrainingResult, target: str, scores: Mapping[str, Any]) -> "TrainingSpec":
    """Return what the charts of a card need to know, as a training would say it."""
    from mcp_server.engine.splits import Split
    from mcp_server.engine.training import TrainingSpec

    return TrainingSpec(
        task=result.task,
        target=target,
        features=result.features,
        inputs=[],
        column_inputs=[],
        classes=scores["classes"],
        metric=result.metric,
        split=Split(),
        cv=0,
        class_weight=None,
        baselines=[],
        seed=_SEED,
    )


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)
