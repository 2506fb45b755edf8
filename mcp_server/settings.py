"""Every setting, its unit, default and limits. Read once at the start, frozen, and passed on in parts.

Each is an environment variable `NBA_MCP_…` (nested ones joined by two underscores, `NBA_MCP_DATABASE__URL`)
or a line of the file `.env` in the working directory. `.env.example` lists them all.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from platformdirs import user_data_path
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from mcp_server.errors import InvalidArgumentError

Role = Literal["viewer", "data_scientist", "ml_engineer", "admin"]

GIB = 1024**3
MIB = 1024**2


def _expanded(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str | Path) and str(value) else value


Folder = Annotated[Path, BeforeValidator(_expanded)]


class Part(BaseModel, frozen=True, extra="forbid"):
    """A group of settings; a misspelt name in it is refused."""


class DatabaseSettings(Part):
    """Where our own tables live."""

    url: SecretStr | None = Field(default=None, description="SQLAlchemy URL; empty: SQLite in the data directory.")
    pool_size: PositiveInt = Field(default=10, description="Connections kept open (PostgreSQL).")
    connect_timeout_s: PositiveFloat = Field(default=2.0, description="Longest wait for a connection.")
    statement_timeout_s: PositiveFloat = Field(default=10.0, description="Longest statement (PostgreSQL).")
    busy_timeout_s: PositiveFloat = Field(default=15.0, description="Longest wait for a lock (SQLite).")


class MlflowSettings(Part):
    """Where runs, model versions and aliases live."""

    tracking_uri: str | None = Field(
        default=None,
        description="Of a tracking server, as http://mlflow:5000. Empty: a file in the data directory, or a schema in "
        "our PostgreSQL database.",
    )
    experiment: str = Field(default="nba-mcp", description="The MLflow experiment that runs are filed under.")
    timeout_s: PositiveFloat = Field(default=10.0, description="Longest wait for an answer of a remote server.")
    patience_s: NonNegativeFloat = Field(
        default=60.0, description="How long a job that registers a model waits for MLflow to come back."
    )


class HttpSettings(Part):
    """The HTTP front end (`nba-mcp serve --transport http`)."""

    host: str = Field(default="127.0.0.1", description="Address to bind; beyond loopback needs authentication.")
    port: int = Field(default=8000, ge=0, le=65535)
    allowed_hosts: tuple[str, ...] = Field(default=(), description="Further Host headers to accept.")
    allowed_origins: tuple[str, ...] = Field(default=(), description="Origins of browsers to accept.")
    stateless_json: bool = Field(
        default=False,
        description="JSON-only, stateless answers: faster, but no progress, and no elicitation for older clients.",
    )
    max_body_bytes: PositiveInt = Field(default=4 * MIB, description="Largest request body.")


class WorkerSettings(Part):
    """The process that runs jobs."""

    embedded: bool = Field(default=True, description="The server keeps a worker of its own running.")
    concurrency: PositiveInt = Field(default=2, description="Jobs that one worker runs at a time.")
    trial_concurrency: PositiveInt = Field(default=2, description="Training trials that one worker runs at a time.")
    heartbeat_s: PositiveFloat = Field(default=2.0, description="Pause between two signs of life.")
    grace_s: PositiveFloat = Field(default=10.0, description="Silence after which a worker counts as dead.")
    queue_poll_s: PositiveFloat = Field(default=0.05, description="Pause between two looks at the queue.")
    inline_limit_s: NonNegativeFloat = Field(
        default=1.0, description="Work estimated to take less runs in the server itself; 0: none does."
    )


class LimitSettings(Part):
    """What one call may take."""

    child_memory_bytes: PositiveInt = Field(default=4 * GIB, description="Memory of a child process (parse, fit).")
    parse_timeout_s: PositiveFloat = Field(default=900.0, description="Longest parse of one source.")
    max_decompressed_bytes: PositiveInt = Field(default=16 * GIB, description="Largest decompressed size of a source.")
    max_file_bytes: PositiveInt = Field(default=20 * GIB, description="Largest file to import.")
    max_columns: PositiveInt = Field(default=2000, description="Most columns of a dataset.")
    max_field_bytes: PositiveInt = Field(default=MIB, description="Largest single cell.")
    max_column_name_length: PositiveInt = Field(default=200, description="Longest column name, in characters.")
    query_timeout_s: PositiveFloat = Field(default=30.0, description="Longest SQL query.")
    transform_timeout_s: PositiveFloat = Field(default=600.0, description="Longest SQL of a transform.")
    query_memory_bytes: PositiveInt = Field(default=GIB, description="Memory of one SQL query.")
    transform_max_rows: PositiveInt = Field(default=100_000_000, description="Most rows that a transform may write.")
    max_predict_rows: PositiveInt = Field(default=10_000, description="Most rows of one predict call.")
    max_training_cells: PositiveInt = Field(default=500_000_000, description="Most rows × columns of a fit.")
    trial_timeout_s: PositiveFloat = Field(default=1800.0, description="Longest single trial.")
    max_reports: PositiveInt = Field(default=10_000, description="Reports kept; then the oldest go.")
    max_studies: PositiveInt = Field(default=1000, description="Searches whose trials are kept; then the oldest go.")


class DaskSettings(Part):
    """A Dask cluster for single large fits and cross-validations; TLS is Dask's own configuration."""

    scheduler: SecretStr | None = Field(default=None, description="Address, as tcp://host:8786; empty: no cluster.")
    connect_timeout_s: PositiveFloat = Field(default=10.0, description="Longest wait for the scheduler.")


class RemoteSettings(Part):
    """Sources and targets beyond this machine: s3://, sql:// and https://."""

    connect_timeout_s: PositiveFloat = Field(default=2.0, description="Longest wait for a connection.")
    read_timeout_s: PositiveFloat = Field(default=15.0, description="Longest silence of a server.")
    statement_timeout_s: PositiveFloat = Field(default=120.0, description="Longest single statement of sql://.")
    transfer_timeout_s: PositiveFloat = Field(default=3600.0, description="Longest import from, or export to, one.")


class S3Settings(Part):
    """Buckets that s3:// reads and writes."""

    buckets: tuple[str, ...] = Field(default=(), description="JSON list of buckets that may be used; empty: none.")
    endpoint_url: str | None = Field(default=None, description="Empty: Amazon's own.")
    region: str | None = Field(default=None, description="Empty: as boto3 finds it.")
    access_key_id: SecretStr | None = Field(default=None, description="Empty: as boto3 finds it.")
    secret_access_key: SecretStr | None = Field(default=None, description="Belongs to the access key.")


class WebSettings(Part):
    """Hosts that https:// fetches from."""

    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="JSON list of hosts, or host:port where it is not 443; empty: https:// is off."
    )
    private_hosts: tuple[str, ...] = Field(
        default=(), description="Further ones, whose addresses may lie in a private network or on this machine."
    )
    ca_file: Folder | None = Field(default=None, description="Certificates (PEM) to trust beside the system's.")


class NbaSettings(Part):
    """What nba://games and nba://schedule ask."""

    base_url: str = Field(
        default="https://stats.nba.com", pattern=r"^https?://[^/@\s]+/?$", description="Where NBA.com's statistics are."
    )
    connect_timeout_s: PositiveFloat = Field(default=5.0, description="Longest wait for a connection.")
    read_timeout_s: PositiveFloat = Field(default=20.0, description="Longest silence of the server.")
    timeout_s: PositiveFloat = Field(default=45.0, description="Longest import from it, all requests together.")


class PredictionLogSettings(Part):
    """The log of predictions: written in groups."""

    flush_ms: PositiveInt = Field(default=50, description="Longest time a logged row waits in memory.")
    flush_rows: PositiveInt = Field(default=500, description="Rows that trigger a write at once.")
    queue_rows: PositiveInt = Field(default=100_000, description="Rows that may wait; more are refused.")


class CacheSettings(Part):
    """Caches inside a server process."""

    max_models: PositiveInt = Field(default=50, description="Loaded models kept in memory.")
    ttl_s: PositiveFloat = Field(default=3600.0, description="Longest life of an entry.")


class MonitoringSettings(Part):
    """Alerts and schedules."""

    evaluation_s: PositiveFloat = Field(default=60.0, description="Pause between two looks at the alert rules.")
    psi_threshold: PositiveFloat = Field(default=0.2, description="Population stability index that counts as drift.")
    min_rows: NonNegativeInt = Field(default=50, description="Fewest rows a drift check judges.")


class AlertSettings(Part):
    """Where alerts are told beside the log."""

    channels: tuple[Literal["log", "webhook", "email"], ...] = Field(
        default=("log",), description="JSON list: where alerts that no rule makes (a failed rollout) are told."
    )
    webhook_url: SecretStr | None = Field(default=None, description="Gets every alert of channel webhook by POST.")
    webhook_secret: SecretStr | None = Field(
        default=None, description="Signs them (Standard Webhooks); whsec_ and base64, or any text."
    )
    smtp_host: str = Field(default="", description="Mail server of channel email.")
    smtp_port: PositiveInt = Field(default=587, description="Its port.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(default="starttls", description="starttls, tls or none.")
    smtp_user: str = Field(default="", description="Empty: no login.")
    smtp_password: SecretStr | None = Field(default=None, description="Of that user.")
    email_from: str = Field(default="", description="Sender.")
    email_to: tuple[str, ...] = Field(default=(), description="JSON list of recipients.")
    timeout_s: PositiveFloat = Field(default=10.0, description="Longest wait for a receiver.")
    poll_s: PositiveFloat = Field(default=1.0, description="Pause between two looks at the messages that wait.")


class Settings(BaseSettings):
    """All settings of a process."""

    model_config = SettingsConfigDict(
        env_prefix="NBA_MCP_", env_nested_delimiter="__", env_file=".env", extra="ignore", frozen=True
    )

    data_dir: Folder = Field(
        default_factory=lambda: user_data_path("nba-mcp", appauthor=False), description="All state of the product."
    )
    data_roots: tuple[Folder, ...] | None = Field(
        default=None, description="JSON list of folders that may be read; empty: the working directory."
    )
    stdio_role: Role = Field(default="admin", description="Role of the person at the other end of stdio.")
    http_role: Role = Field(default="viewer", description="Role of unauthenticated HTTP calls on loopback.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Logs go to stderr.")
    drain_s: PositiveFloat = Field(default=10.0, description="Longest wait for running calls at a stop.")
    database: DatabaseSettings = DatabaseSettings()
    mlflow: MlflowSettings = MlflowSettings()
    http: HttpSettings = HttpSettings()
    worker: WorkerSettings = WorkerSettings()
    limits: LimitSettings = LimitSettings()
    dask: DaskSettings = DaskSettings()
    connections: dict[str, SecretStr] = Field(
        default={}, description="Databases for sql://NAME, as NBA_MCP_CONNECTIONS__NAME=URL; PostgreSQL or SQLite."
    )
    remote: RemoteSettings = RemoteSettings()
    s3: S3Settings = S3Settings()
    web: WebSettings = WebSettings()
    nba: NbaSettings = NbaSettings()
    prediction_log: PredictionLogSettings = PredictionLogSettings()
    cache: CacheSettings = CacheSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    alerts: AlertSettings = AlertSettings()

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of our tables, psycopg's driver filled in."""
        if self.database.url is None:
            return f"sqlite:///{self.data_dir / 'nba_mcp.db'}"
        url = self.database.url.get_secret_value()
        for plain in ("postgresql://", "postgres://"):
            if url.startswith(plain):
                return "postgresql+psycopg://" + url.removeprefix(plain)
        return url

    @property
    def is_sqlite(self) -> bool:
        """True while everything lives in files of the data directory."""
        return self.database_url.startswith("sqlite")

    def resolved_data_roots(self) -> tuple[Path, ...]:
        """Return the folders that `source` paths may lie in, resolved; empty when none may be read.

        Without the setting it is the working directory, unless that is `/` or a home directory: clients like to
        start servers there, and an assistant is not to read all of it.
        """
        if self.data_roots is not None:
            return tuple(root.resolve() for root in self.data_roots)
        here = Path.cwd().resolve()
        return () if here == Path(here.anchor) or here == Path.home().resolve() else (here,)

    def with_changes(self, **changes: object) -> Self:
        """Return a copy with top-level fields replaced (command-line options)."""
        return self.model_copy(update=changes)


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        InvalidArgumentError: a value is out of its limits; names the variable, never the value of a secret.
    """
    from pydantic import ValidationError

    try:
        return Settings()
    except ValidationError as refusal:
        faults = "; ".join(
            f"NBA_MCP_{'__'.join(str(part) for part in fault['loc']).upper()}: {fault['msg']}"
            for fault in refusal.errors(include_input=False, include_url=False)
        )
        raise InvalidArgumentError(
            f"Settings cannot be used: {faults}.", hint="See .env.example for names, units and limits."
        ) from None
