"""The prediction log and the outcomes that are joined to it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mcp_server.runtime.clock import Clock
from mcp_server.runtime.figures import percentile
from mcp_server.settings import PredictionLogSettings
from mcp_server.stores.database import Database
from mcp_server.stores.prediction_writer import LoggedPrediction, PredictionWriter
from mcp_server.stores.schema import UtcDateTime, outcomes, predictions

BESIDE_THE_ANSWER = ("mirror", "shadow")  # routes that nobody was answered by
_LATENCY_ROWS = 10_000  # the percentiles are of the last ones
_IDS_A_QUERY = 5000
_RESERVED = ("prediction_id", "row_id", "model", "route", "revision", "prediction", "outcome", "time", "latency_ms",
             "error")  # fmt: skip


@dataclass(frozen=True, slots=True)
class LatencyFigures:
    """Percentiles in milliseconds; None where nothing was predicted."""

    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class ModelLogFigures:
    """What the log says of one version on one route of an endpoint; percentiles of its last 10,000 predictions."""

    model: str
    route: str
    requests: int
    errors: int
    labelled: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of the log."""

    sequence: int
    prediction_id: str
    row_id: str | None
    prediction: Any
    outcome: Any
    model: str
    route: str
    error: str | None
    time: datetime


@dataclass(frozen=True, slots=True)
class OutcomeCounts:
    """What became of outcomes: new ones, changed ones, and ones that were known already."""

    recorded: int
    updated: int
    known: int


class PredictionStore:
    """Appends to the log (see `PredictionWriter`) and reads it. Thread-safe."""

    def __init__(self, database: Database, clock: Clock, settings: PredictionLogSettings | None = None) -> None:
        self._database = database
        self._clock = clock
        self.writer = PredictionWriter(database, settings or PredictionLogSettings())

    def append(self, rows: Sequence[LoggedPrediction]) -> None:
        """Take rows to be written soon; see `PredictionWriter.append`."""
        self.writer.append(rows)

    def flush(self) -> None:
        """Write what this process has taken; see `PredictionWriter.flush`."""
        self.writer.flush()

    def close(self) -> None:
        """Write what waits."""
        self.writer.close()

    # Reading ---------------------------------------------------------------------------------------------------------

    def frame(self, endpoint: str, since: datetime | None = None, last_n: int | None = None) -> pl.DataFrame:
        """Return logged rows, oldest first, with their outcomes.

        Returns:
            Columns prediction_id, row_id, model, route, revision, prediction, outcome, time, latency_ms, error, then
            `p_<class>` for each class and one column for each feature. A feature named as one of the first is left out.
        """
        newest = _joined(_of(endpoint, since)).order_by(predictions.c.sequence.desc())
        with self._database.read() as connection:
            rows = connection.execute(newest if last_n is None else newest.limit(last_n)).all()[::-1]
        columns: dict[str, pl.Series] = {}
        for name in _RESERVED:
            columns[name] = _series(name, [getattr(row, name) for row in rows])
        columns |= _spread([row.probabilities for row in rows], "p_")
        columns |= {
            name: found for name, found in _spread([row.features for row in rows]).items() if name not in columns
        }
        return pl.DataFrame(columns)

    def figures(self, endpoint: str, since: datetime | None = None) -> list[ModelLogFigures]:
        """Return the figures of every version on every route, the busiest first."""
        of = _of(endpoint, since)
        failed = sa.func.count(predictions.c.error)
        counted = (
            sa.select(
                predictions.c.model,
                predictions.c.route,
                sa.func.count().label("requests"),
                failed.label("errors"),
                sa.func.count(outcomes.c.prediction_id).label("labelled"),
            )
            .select_from(_log_with_outcomes())
            .where(*of)
            .group_by(predictions.c.model, predictions.c.route)
            .order_by(sa.func.count().desc())
        )
        with self._database.read() as connection:
            rows = connection.execute(counted).all()
            spans = {
                (row.model, row.route): _latency(
                    connection, [*of, predictions.c.model == row.model, predictions.c.route == row.route]
                )
                for row in rows
            }
        return [
            ModelLogFigures(
                row.model,
                row.route,
                row.requests,
                row.errors,
                row.labelled,
                spans[row.model, row.route].p50_ms,
                spans[row.model, row.route].p95_ms,
                spans[row.model, row.route].p99_ms,
            )
            for row in rows
        ]

    def latency(self, endpoint: str, since: datetime | None = None) -> LatencyFigures:
        """Return the percentiles of an endpoint's last 10,000 answers."""
        answers = [*_of(endpoint, since), predictions.c.route.not_in(BESIDE_THE_ANSWER)]
        with self._database.read() as connection:
            return _latency(connection, answers)

    def count(self, endpoint: str, at_most: int) -> int:
        """Return how many predictions of an endpoint are logged; counting ends at `at_most`."""
        some = sa.select(predictions.c.sequence).where(predictions.c.endpoint == endpoint).limit(at_most).subquery()
        with self._database.read() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()

    def count_outcomes(self, endpoint: str, since: datetime | None = None) -> int:
        """Return how many outcomes were recorded after `since`."""
        statement = sa.select(sa.func.count()).select_from(outcomes).where(outcomes.c.endpoint == endpoint)
        if since is not None:
            statement = statement.where(outcomes.c.recorded_at > since)
        with self._database.read() as connection:
            return connection.execute(statement).scalar_one()

    def page(
        self,
        endpoint: str,
        limit: int,
        *,
        labelled: bool | None = None,
        since: datetime | None = None,
        before: int | None = None,
    ) -> list[LogEntry]:
        """Return up to `limit` lines, the newest first.

        Args:
            labelled: True for those with an outcome, False for those without.
            before: only lines of a smaller sequence: the last one of the page before.
        """
        conditions = _of(endpoint, since)
        if labelled is not None:
            known = outcomes.c.prediction_id
            conditions.append(known.is_not(None) if labelled else known.is_(None))
        if before is not None:
            conditions.append(predictions.c.sequence < before)
        statement = _joined(conditions).order_by(predictions.c.sequence.desc()).limit(limit)
        with self._database.read() as connection:
            return [
                LogEntry(**{name: getattr(row, name) for name in LogEntry.__slots__})
                for row in connection.execute(statement)
            ]

    # Outcomes --------------------------------------------------------------------------------------------------------

    def known_ids(self, endpoint: str, prediction_ids: Sequence[str]) -> set[str]:
        """Return those ids that the endpoint has predictions of."""
        found: set[str] = set()
        with self._database.read() as connection:
            for part in _parts(prediction_ids):
                statement = sa.select(predictions.c.prediction_id).where(
                    predictions.c.endpoint == endpoint, self._among(predictions.c.prediction_id, part)
                )
                found.update(connection.execute(statement).scalars())
        return found

    def ids_of_rows(self, endpoint: str, row_ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the predictions that each row id stands for; unknown ones are left out.

        Where a row was scored more than once the last answer counts, with what was scored beside that very answer.
        """
        found: dict[str, list[str]] = {}
        columns = (predictions.c.row_id, predictions.c.prediction_id, predictions.c.time, predictions.c.route)
        with self._database.read() as connection:
            for part in _parts(row_ids):
                statement = (
                    sa.select(*columns)
                    .where(
                        predictions.c.endpoint == endpoint,
                        self._among(predictions.c.row_id, part),
                        predictions.c.error.is_(None),
                    )
                    .order_by(predictions.c.sequence.desc())
                )
                found |= _last_answers(list(connection.execute(statement)))
        return found

    def record_outcomes(self, endpoint: str, known: Mapping[str, Any]) -> OutcomeCounts:
        """Write outcomes by prediction id; one that is there already is replaced when it differs."""
        n_same = n_updated = 0
        with self._database.begin() as connection:
            for part in _parts(list(known)):
                query = sa.select(outcomes.c.prediction_id, outcomes.c.outcome).where(
                    self._among(outcomes.c.prediction_id, part)
                )
                before = {row.prediction_id: row.outcome for row in connection.execute(query)}
                same = {each for each in part if each in before and _equal(before[each], known[each])}
                written = [each for each in part if each not in same]
                n_same += len(same)
                n_updated += len(before) - len(same)
                if written:
                    self._write_outcomes(connection, endpoint, {each: known[each] for each in written})
        return OutcomeCounts(len(known) - n_same - n_updated, n_updated, n_same)

    def _write_outcomes(self, connection: sa.Connection, endpoint: str, given: Mapping[str, Any]) -> None:
        """Insert or replace: two that record the same outcome at once must not fail on each other."""
        now = self._clock.now()
        if self._database.is_sqlite:
            rows = [
                {"prediction_id": each, "endpoint": endpoint, "outcome": outcome, "recorded_at": now}
                for each, outcome in given.items()
            ]
            connection.execute(_replacing(sqlite.insert(outcomes)), rows)
            return
        texts = [json.dumps(outcome) for outcome in given.values()]
        arrays = (_text_array(list(given)), _text_array(texts))
        table = sa.func.unnest(*arrays).table_valued("prediction_id", "outcome").render_derived()
        rows_of = sa.select(
            table.c.prediction_id,
            sa.literal(endpoint, sa.String),
            sa.cast(table.c.outcome, postgresql.JSONB),
            sa.literal(now, UtcDateTime),
        )
        columns = ["prediction_id", "endpoint", "outcome", "recorded_at"]
        connection.execute(_replacing(postgresql.insert(outcomes).from_select(columns, rows_of)))

    def _among(self, column: sa.ColumnElement[Any], values: Sequence[str]) -> sa.ColumnElement[bool]:
        """Return the condition that a column has one of many values: on PostgreSQL one parameter, not hundreds."""
        if self._database.is_sqlite:
            return column.in_(values)
        return column == sa.any_(_text_array(values))


def _text_array(values: Sequence[str]) -> sa.BindParameter[Any]:
    return sa.bindparam(None, list(values), type_=postgresql.ARRAY(sa.Text), unique=True)


def _replacing(insert: Any) -> Any:
    changed = {"outcome": insert.excluded.outcome, "recorded_at": insert.excluded.recorded_at}
    return insert.on_conflict_do_update(index_elements=["prediction_id"], set_=changed)


def _of(endpoint: str, since: datetime | None) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [predictions.c.endpoint == endpoint]
    if since is not None:
        conditions.append(predictions.c.time >= since)
    return conditions


def _log_with_outcomes() -> sa.Join:
    return predictions.outerjoin(outcomes, outcomes.c.prediction_id == predictions.c.prediction_id)


def _joined(conditions: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    return sa.select(predictions, outcomes.c.outcome).select_from(_log_with_outcomes()).where(*conditions)


def _latency(connection: sa.Connection, conditions: Sequence[sa.ColumnElement[bool]]) -> LatencyFigures:
    statement = (
        sa.select(predictions.c.latency_ms)
        .where(*conditions, predictions.c.error.is_(None))
        .order_by(predictions.c.sequence.desc())
        .limit(_LATENCY_ROWS)
    )
    ordered = sorted(connection.execute(statement).scalars())
    if not ordered:
        return LatencyFigures(None, None, None)
    return LatencyFigures(*(round(percentile(ordered, share), 4) for share in (0.50, 0.95, 0.99)))


def _last_answers(newest_first: Sequence[Any]) -> dict[str, list[str]]:
    answers: dict[str, Any] = {}
    for row in newest_first:
        if row.route not in BESIDE_THE_ANSWER:
            answers.setdefault(row.row_id, row)
    found = {row_id: [answer.prediction_id] for row_id, answer in answers.items()}
    for row in newest_first:  # what was scored beside an answer has its time
        if row.route in BESIDE_THE_ANSWER and row.row_id in answers and answers[row.row_id].time == row.time:
            found[row.row_id].append(row.prediction_id)
    return found


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _IDS_A_QUERY):
        yield values[start : start + _IDS_A_QUERY]


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _spread(documents: Sequence[Mapping[str, Any] | None], prefix: str = "") -> dict[str, pl.Series]:
    """Turn one document a row into one column a name."""
    names = dict.fromkeys(name for document in documents if document for name in document)
    return {
        f"{prefix}{name}": _series(
            f"{prefix}{name}", [document.get(name) if document else None for document in documents]
        )
        for name in names
    }


_TYPES: dict[str, Any] = {
    "time": pl.Datetime("us", "UTC"),
    "latency_ms": pl.Float64,
    "revision": pl.Int64,
}


def _series(name: str, values: list[Any]) -> pl.Series:
    """Return values as a column of the one type that they share; text where they share none."""
    kinds = {type(value) for value in values if value is not None}
    if name in _TYPES:
        return pl.Series(name, values, dtype=_TYPES[name])
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    if kinds == {int}:
        return pl.Series(name, values, dtype=pl.Int64, strict=False)
    if kinds and kinds <= {int, float}:
        return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
    return pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String)
