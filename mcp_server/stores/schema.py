"""Our tables, the same on SQLite and PostgreSQL.

MLflow's, Optuna's and DBOS's tables are not here: each keeps its own file, or its own schema.
After a change here run `make migration MESSAGE="what changed"`.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An aware datetime in UTC on both databases; SQLite alone would forget the zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A stored time needs a zone.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


JsonDocument = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
RowNumber = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts only INTEGER keys by itself


def _name(*, key: bool = False) -> sa.Column[str]:
    return sa.Column("name", sa.String(63), primary_key=key, nullable=False)


def _created() -> sa.Column[datetime]:
    return sa.Column("created_at", UtcDateTime, nullable=False)


def _created_by() -> sa.Column[str]:
    return sa.Column("created_by", sa.String(200), nullable=False)


def _document(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, JsonDocument, nullable=nullable)


datasets = sa.Table(
    "datasets",
    metadata,
    _name(key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("rows", sa.BigInteger, nullable=False),
    _document("columns"),  # [{name, dtype, nullable}]
    sa.Column("content_hash", sa.String(64), nullable=False),
    sa.Column("artifact", sa.String(80), nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    _document("lineage"),  # {parents: [ref], sql | recipe | steps, options, notes}
    _created(),
    _created_by(),
)

# The highest version that was deleted, by dataset: its number is never given again
dataset_numbers = sa.Table(
    "dataset_numbers",
    metadata,
    _name(key=True),
    sa.Column("last_deleted", sa.Integer, nullable=False),
)

reports = sa.Table(
    "reports",
    metadata,
    sa.Column("report_id", sa.String(40), primary_key=True),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("subject", sa.String(200), nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    _document("sections"),  # [{heading, markdown}]
    sa.Column("html", sa.String(80), nullable=False),  # artifact key
    sa.Column("image", sa.String(80)),  # artifact key of the main plot
    _created(),
)

report_answers = sa.Table(
    "report_answers",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),  # SHA-256 of all that the answer depends on
    sa.Column("report_id", sa.String(40), nullable=False),
    _document("answer"),
    _created(),
)

suites = sa.Table(
    "suites",
    metadata,
    _name(key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    _document("document"),  # the suite as Great Expectations JSON
    sa.Column("content_hash", sa.String(64), nullable=False),
    _created(),
    _created_by(),
)

model_versions = sa.Table(
    "model_versions",
    metadata,
    _name(key=True),
    sa.Column("version", sa.String(20), primary_key=True),  # semantic
    sa.Column("position", sa.Integer, nullable=False),  # 1, 2, 3 … in order of registration
    sa.Column("state", sa.String(20), nullable=False),  # ready | deleted (a version number is never given twice)
    sa.Column("job_id", sa.String(64), nullable=False),
    sa.Column("mlflow_version", sa.String(20)),
    sa.Column("run_id", sa.String(64)),
    sa.Column("task", sa.String(20), nullable=False),
    sa.Column("sha256", sa.String(64)),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("model_artifact", sa.String(80)),
    sa.Column("reference_artifact", sa.String(80)),  # training rows kept for drift, Parquet
    _document("card", nullable=True),  # {markdown, html, image}: artifact keys
    _document("recipe"),
    _document("signature", nullable=True),
    _document("lineage", nullable=True),
    _document("result", nullable=True),
    _created(),
    _created_by(),
    sa.UniqueConstraint("name", "position", name="uq_model_versions_position"),
    sa.UniqueConstraint("name", "job_id", name="uq_model_versions_job_id"),
)

# What has begun to register and has no row above yet: after a failure, what it left in MLflow is taken back.
registrations = sa.Table(
    "registrations",
    metadata,
    _name(key=True),
    sa.Column("job_id", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(20), nullable=False),  # going | given_up
    _created(),
)

endpoints = sa.Table(
    "endpoints",
    metadata,
    _name(key=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    _document("routes"),  # [{model, weight, role}]
    _document("rollout", nullable=True),
    _document("options", nullable=True),
    _created(),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

endpoint_revisions = sa.Table(
    "endpoint_revisions",
    metadata,
    sa.Column("endpoint", sa.String(63), primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("action", sa.String(40), nullable=False),
    sa.Column("reason", sa.Text),
    _document("document"),  # the endpoint as it was from this revision on
    _created(),
    _created_by(),
)

request_keys = sa.Table(
    "request_keys",
    metadata,
    sa.Column("tool", sa.String(63), primary_key=True),
    sa.Column("request_key", sa.String(200), primary_key=True),
    sa.Column("arguments_hash", sa.String(64), nullable=False),
    _document("answer", nullable=True),
    _created(),
)

predictions = sa.Table(
    "predictions",
    metadata,
    sa.Column("sequence", RowNumber, primary_key=True, autoincrement=True),
    sa.Column("prediction_id", sa.String(40), nullable=False, unique=True),
    sa.Column("endpoint", sa.String(63), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("model", sa.String(90), nullable=False),  # name@version
    sa.Column("route", sa.String(20), nullable=False),  # live | canary | shadow | …
    sa.Column("row_id", sa.String(200)),
    sa.Column("key", sa.String(200)),
    _document("features"),
    _document("prediction", nullable=True),
    _document("probabilities", nullable=True),
    sa.Column("error", sa.Text),
    sa.Column("latency_ms", sa.Float, nullable=False),
    sa.Column("time", UtcDateTime, nullable=False),
    sa.Index("ix_predictions_endpoint_time", "endpoint", "time"),
    sa.Index("ix_predictions_endpoint_row", "endpoint", "row_id"),
)

outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("prediction_id", sa.String(40), primary_key=True),
    sa.Column("endpoint", sa.String(63), nullable=False, index=True),
    _document("outcome"),
    sa.Column("recorded_at", UtcDateTime, nullable=False),
)

alert_rules = sa.Table(
    "alert_rules",
    metadata,
    _name(key=True),
    sa.Column("endpoint", sa.String(63), nullable=False, index=True),
    _document("rule"),
    _document("state", nullable=True),  # {pending_since, last_value, evaluated_at}
    _created(),
    _created_by(),
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("alert_id", sa.String(40), primary_key=True),
    sa.Column("rule", sa.String(63), nullable=False),
    sa.Column("endpoint", sa.String(63), nullable=False, index=True),
    sa.Column("severity", sa.String(20), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),  # firing | acknowledged | resolved
    sa.Column("value", sa.Float),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("fired_at", UtcDateTime, nullable=False),
    sa.Column("resolved_at", UtcDateTime),
    _document("acknowledgement", nullable=True),  # {by, note, at}
    _document("actions", nullable=True),  # what the alert started
)

notifications = sa.Table(
    "notifications",
    metadata,
    sa.Column("notification_id", sa.String(24), primary_key=True),  # of alert, state and channel: each is told once
    sa.Column("alert_id", sa.String(40), nullable=False, index=True),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("channel", sa.String(20), nullable=False),
    _document("document"),
    sa.Column("queued_at", UtcDateTime, nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("delivered", sa.Boolean, nullable=False),
    sa.Column("error", sa.Text),
    sa.Index("ix_notifications_ended_due", "ended_at", "due_at"),
)

retraining_policies = sa.Table(
    "retraining_policies",
    metadata,
    sa.Column("endpoint", sa.String(63), primary_key=True),
    _document("policy"),
    _document("state", nullable=True),  # {last_job_id, last_started_at, …}
    _created(),
    _created_by(),
)

monitoring_pauses = sa.Table(
    "monitoring_pauses",
    metadata,
    sa.Column("endpoint", sa.String(63), primary_key=True),
    sa.Column("until", UtcDateTime, nullable=False),
    sa.Column("reason", sa.Text),
    _created_by(),
)

job_progress = sa.Table(
    "job_progress",
    metadata,
    sa.Column("job_id", sa.String(64), primary_key=True),
    sa.Column("progress", sa.Float, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("worker_id", sa.String(64), primary_key=True),
    sa.Column("host", sa.String(200), nullable=False),
    sa.Column("process_id", sa.Integer, nullable=False),
    sa.Column("version", sa.String(40), nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),  # counts up; watchers time it on their own clock
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
)

audit_events = sa.Table(
    "audit_events",
    metadata,
    sa.Column("sequence", RowNumber, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.String(40), nullable=False, unique=True),
    sa.Column("time", UtcDateTime, nullable=False, index=True),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("role", sa.String(20), nullable=False),
    sa.Column("tool", sa.String(63), nullable=False),
    _document("arguments"),  # secrets masked, long values cut
    sa.Column("outcome", sa.String(40), nullable=False),  # ok, or the code of the error
    sa.Column("message", sa.Text, nullable=False),
)
