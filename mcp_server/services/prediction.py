"""Predictions of endpoints and what became of them: predict, predict_dataset, the log, outcomes."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from mcp_server.errors import (
    InvalidArgumentError,
    ResourceExhaustedError,
    shown,
)
from mcp_server.results.deployment import (
    OutcomeResult,
    Prediction,
    PredictionItem,
    PredictionPage,
    PredictionResult,
    ScoredDataset,
)
from mcp_server.results.wording import counted
from mcp_server.runtime.breaker import BreakerState
from mcp_server.runtime.clock import Clock
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.progress import Progress
from mcp_server.services.answering import Answer, Answering, Asked, RowBatch
from mcp_server.services.dataset_scoring import DatasetScoring
from mcp_server.services.outcomes import OutcomeRecorder
from mcp_server.services.paging import after_of, cursor_of, fitting
from mcp_server.services.routes import RouteTable
from mcp_server.services.row_explanations import RowExplanations
from mcp_server.services.row_ids import LONGEST_ROW_ID
from mcp_server.services.scorers import ScorerCache
from mcp_server.settings import LimitSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.datasets import DatasetStore
from mcp_server.stores.models import ModelRegistry
from mcp_server.stores.predictions import PredictionStore

_AT_ONCE_ROWS = 200  # more are scored on a thread, so that other callers need not wait
_SHOWN_EXTRA = 10
_MOST_EXPLAINED = 20


class PredictionService:
    """Answers the prediction tools. Thread-safe."""

    def __init__(
        self,
        *,
        routes: RouteTable,
        scorers: ScorerCache,
        predictions: PredictionStore,
        datasets: DatasetStore,
        artifacts: ArtifactStore,
        models: ModelRegistry,
        clock: Clock,
        limits: LimitSettings,
    ) -> None:
        self._routes = routes
        self._predictions = predictions
        self._limits = limits
        self._explanations = RowExplanations(models)
        self._answering = Answering(scorers, predictions, clock)
        self._dataset_scoring = DatasetScoring(
            routes=routes,
            scorers=scorers,
            answering=self._answering,
            predictions=predictions,
            datasets=datasets,
            artifacts=artifacts,
            models=models,
        )
        self._outcomes = OutcomeRecorder(routes=routes, predictions=predictions, datasets=datasets, models=models)

    def answers_at_once(self, endpoint: str, n_rows: int) -> bool:
        """Return True when `predict` would neither wait for the database or a model, nor take long."""
        return n_rows <= _AT_ONCE_ROWS and self._routes.is_ready(endpoint)

    def predict(
        self,
        *,
        caller: Caller,
        endpoint: str,
        rows: Sequence[Mapping[str, Any]],
        row_ids: Sequence[str] | None = None,
        key: str | None = None,
        explain: bool = False,
    ) -> PredictionResult:
        """Answer rows by the versions behind an endpoint, and log them.

        Args:
            row_ids: the caller's own ids, one a row, by which outcomes may be recorded.
            key: pins the caller to one version.
            explain: say what each feature adds to what is said; for at most 20 rows.

        Raises:
            NotFoundError: no such endpoint.
            InvalidArgumentError: no rows, ids that do not match them, or a row that does not fit the model.
            ResourceExhaustedError: too many rows, or the log takes no more.
            UnavailableError: no version of the endpoint can score.
        """
        started = time.perf_counter()
        if explain and len(rows) > _MOST_EXPLAINED:
            raise InvalidArgumentError(
                f"explain=true takes at most {_MOST_EXPLAINED} rows, not {len(rows)}.",
                hint="Predict all rows first, then the few that need a reason with explain=true.",
            )
        self._check(rows, row_ids, key)
        picture = self._routes.picture(endpoint)
        answer = self._answering.answer(picture, Asked(RowBatch(rows), row_ids, key))
        found = _in_order(answer, len(rows), row_ids)
        if explain:
            found = self._explanations.added_to(found, answer, rows)
        latency_ms = round((time.perf_counter() - started) * 1000, 3)
        return PredictionResult(
            summary=_sentence(endpoint, found, latency_ms),
            endpoint=endpoint,
            predictions=found,
            latency_ms=latency_ms,
            revision=picture.endpoint.revision,
            warnings=_warnings(answer),
        )

    def predict_dataset(
        self,
        *,
        caller: Caller,
        progress: Progress,
        dataset: str,
        name: str,
        model: str | None = None,
        endpoint: str | None = None,
        where: Any = None,
        row_id_column: str | None = None,
    ) -> ScoredDataset:
        """Score a dataset into a new one; see `DatasetScoring.score`."""
        return self._dataset_scoring.score(
            caller=caller,
            progress=progress,
            dataset=dataset,
            name=name,
            model=model,
            endpoint=endpoint,
            where=where,
            row_id_column=row_id_column,
        )

    def list_predictions(
        self,
        *,
        endpoint: str,
        labelled: bool | None = None,
        since: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> PredictionPage:
        """Return one page of an endpoint's log, the newest first.

        Raises:
            NotFoundError: no such endpoint.
            InvalidArgumentError: the cursor is none of this list.
        """
        self._routes.picture(endpoint)
        self._predictions.flush()
        found = self._predictions.page(endpoint, limit + 1, labelled=labelled, since=since, before=_sequence_of(cursor))
        items = [
            PredictionItem(
                prediction_id=each.prediction_id,
                row_id=each.row_id,
                prediction=each.prediction,
                outcome=each.outcome,
                model=each.model,
                time=each.time,
            )
            for each in found[:limit]
        ]
        items = fitting(items)
        known = sum(item.outcome is not None for item in items)
        return PredictionPage(
            summary=f"{counted(len(items), 'prediction')} of {endpoint}, {known} of them with an outcome.",
            items=items,
            next_cursor=cursor_of(str(found[len(items) - 1].sequence)) if len(found) > len(items) else None,
        )

    def record_outcomes(
        self,
        *,
        caller: Caller,
        endpoint: str,
        outcomes: Sequence[Mapping[str, Any]] | None = None,
        dataset: str | None = None,
        row_id_column: str | None = None,
        outcome_column: str | None = None,
    ) -> OutcomeResult:
        """Join what happened to what was predicted; see `OutcomeRecorder`."""
        return self._outcomes.record(
            endpoint=endpoint,
            outcomes=outcomes,
            dataset=dataset,
            row_id_column=row_id_column,
            outcome_column=outcome_column,
        )

    def breaker(self, model: str) -> BreakerState:
        """Return the state of a version's circuit in this process."""
        return self._answering.breakers.state(model)

    def breaker_reason(self, model: str) -> str:
        """Return why a version failed last; empty when it did not."""
        return self._answering.breakers.reason(model)

    def wait_for_mirrors(self) -> None:
        """Return once what was asked so far has been scored beside its answers too."""
        self._answering.wait_for_mirrors()

    def close(self) -> None:
        """Finish what is scored beside answers."""
        self._answering.close()

    def _check(self, rows: Sequence[Mapping[str, Any]], row_ids: Sequence[str] | None, key: str | None) -> None:
        if not rows:
            raise InvalidArgumentError("rows is empty.", hint="Give at least one row: [{column: value}].")
        most = self._limits.max_predict_rows
        if len(rows) > most:
            raise ResourceExhaustedError(
                f"{len(rows):,} rows are more than one call may bring ({most:,}).",
                hint="Import them and use predict_dataset, or send several calls.",
                details={"rows": len(rows), "limit": most},
            )
        if row_ids is not None and len(row_ids) != len(rows):
            raise InvalidArgumentError(
                f"{len(row_ids)} row_ids for {len(rows)} rows.", hint="Give one id a row, in the order of the rows."
            )
        if row_ids is not None and any(not 0 < len(row_id) <= LONGEST_ROW_ID for row_id in row_ids):
            raise InvalidArgumentError("A row id must have 1 to 200 characters.", hint="Use your own short ids.")
        if key is not None and not 0 < len(key) <= LONGEST_ROW_ID:
            raise InvalidArgumentError("A key must have 1 to 200 characters.", hint="Use a short name of the caller.")


def _in_order(answer: Answer, n_rows: int, row_ids: Sequence[str] | None) -> list[Prediction]:
    found: list[Prediction | None] = [None] * n_rows
    for part in answer.parts:
        for i, prediction_id, label, chances in part.rows():
            found[i] = Prediction(
                prediction_id=prediction_id,
                row_id=None if row_ids is None else row_ids[i],
                prediction=label,
                probabilities=chances,
                model=part.model.version.ref,
            )
    return [each for each in found if each is not None]


def _sentence(endpoint: str, found: Sequence[Prediction], latency_ms: float) -> str:
    models = ", ".join(sorted({each.model for each in found}))
    if len(found) > 1:
        return f"{endpoint} answered {len(found)} rows in {latency_ms:.1f} ms by {models}."
    only = found[0]
    chance = only.probabilities.get(str(only.prediction)) if only.probabilities else None
    certain = "" if chance is None else f" with probability {chance:.3f}"
    value = f"{only.prediction:.6g}" if isinstance(only.prediction, float) else shown(str(only.prediction), 60)
    return f"{endpoint} says {value}{certain}, by {models}."


def _warnings(answer: Answer) -> list[str]:
    extra = sorted({name for part in answer.parts for name in part.output.extra})
    if not extra:
        return answer.warnings
    named = ", ".join(extra[:_SHOWN_EXTRA]) + (f" and {len(extra) - _SHOWN_EXTRA} more" if extra[_SHOWN_EXTRA:] else "")
    return [*answer.warnings, f"The model does not take, and did not use: {named}."]


def _sequence_of(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    text = after_of(cursor)
    if not text.isdecimal() or len(text) > 18:
        raise InvalidArgumentError(
            f"{shown(cursor)} is no cursor of this list.", hint="Pass next_cursor of the page before, or nothing."
        )
    return int(text)
