"""The composition root: what a process is made of, in the order in which it is made. Read this first.

A server and a worker open the same app. What is shared is made here, handed on by keyword, and closed here in
reverse order. Heavy libraries (scikit-learn, MLflow, matplotlib) are imported where they are first used, not here.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from mcp_server.errors import LifecycleError
from mcp_server.results.health import CacheFigures
from mcp_server.runtime.child import prepare_children
from mcp_server.runtime.clock import Clock, SystemClock
from mcp_server.runtime.health import HealthChecker
from mcp_server.runtime.jobs.inline import WorkRunner
from mcp_server.runtime.jobs.queue import JobQueue
from mcp_server.runtime.jobs.supervisor import WorkerSupervisor
from mcp_server.services.cleaning import CleaningService
from mcp_server.services.data import DataService
from mcp_server.services.dependants import DatasetUsers
from mcp_server.services.deployment import DeploymentService
from mcp_server.services.health import HealthService
from mcp_server.services.importing import Importing
from mcp_server.services.monitoring import MonitoringService
from mcp_server.services.monitoring_parts import MonitoringParts
from mcp_server.services.nba_sources import NbaSources
from mcp_server.services.notifying import Notifier
from mcp_server.services.prediction import PredictionService
from mcp_server.services.probes import add_probes
from mcp_server.services.registry import RegistryService
from mcp_server.services.rollout_figures import arm_figures
from mcp_server.services.rollouts import Rollouts
from mcp_server.services.routes import RouteTable
from mcp_server.services.scorers import ScorerCache
from mcp_server.services.short_work import ShortWork
from mcp_server.services.training import TrainingService
from mcp_server.services.validation import ValidationService
from mcp_server.settings import Role, Settings
from mcp_server.stores.alerts import AlertStore
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.audit import AuditLog
from mcp_server.stores.database import Database
from mcp_server.stores.datasets import DatasetStore
from mcp_server.stores.endpoints import EndpointStore
from mcp_server.stores.exports import Exports
from mcp_server.stores.job_records import JobRecords
from mcp_server.stores.models import ModelRegistry
from mcp_server.stores.notifications import NotificationStore
from mcp_server.stores.predictions import PredictionStore
from mcp_server.stores.queries import DatasetQueries
from mcp_server.stores.reports import ReportStore
from mcp_server.stores.request_keys import RequestKeys
from mcp_server.stores.s3 import Buckets
from mcp_server.stores.sources.connections import Connections
from mcp_server.stores.sources.files import SourceFiles
from mcp_server.stores.sources.reader import SourceReader
from mcp_server.stores.sources.s3 import S3Sources
from mcp_server.stores.sources.sql import SqlSources
from mcp_server.stores.sources.web import WebSources
from mcp_server.stores.studies import StudyStore
from mcp_server.stores.suites import SuiteStore

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """All that a tool or a job can reach while the process runs."""

    settings: Settings
    clock: Clock
    database: Database
    artifacts: ArtifactStore
    reports: ReportStore
    datasets: DatasetStore
    suites: SuiteStore
    models: ModelRegistry
    audit: AuditLog
    job_records: JobRecords
    jobs: JobQueue
    work: WorkRunner
    data: DataService
    cleaning: CleaningService
    validation: ValidationService
    training: TrainingService
    registry: RegistryService
    deployment: DeploymentService
    prediction: PredictionService
    monitoring: MonitoringService
    health: HealthService
    job_kinds: frozenset[str]
    stack: ExitStack

    def close(self) -> None:
        """Close every part, the last made first."""
        self.stack.close()

    def job_methods(self) -> dict[str, Callable[..., Any]]:
        """Return the service method of every job tool: the method has the tool's name."""
        services = (
            self.data,
            self.cleaning,
            self.validation,
            self.training,
            self.registry,
            self.prediction,
            self.monitoring,
        )
        return _job_methods(self.job_kinds, services)


def _job_methods(kinds: frozenset[str], services: Sequence[object]) -> dict[str, Callable[..., Any]]:
    methods = {}
    for kind in kinds - {"train_model"}:  # a training is many steps of its own
        methods[kind] = next(getattr(service, kind) for service in services if hasattr(service, kind))
    return methods


def open_app(
    settings: Settings,
    *,
    roles_by_tool: Mapping[str, Role],
    job_kinds: frozenset[str],
    child_modules: Sequence[str] = (),
    with_worker: bool,
) -> App:
    """Make, join and open every part.

    Args:
        roles_by_tool: the least role of every tool of the contract.
        job_kinds: the tools whose work runs in a worker.
        child_modules: what this process's children need; a server parses SQL only, a worker reads files and fits.
        with_worker: keep a worker of our own running as a child process.

    Raises:
        LifecycleError: a part cannot be opened; what was opened before is closed again.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    prepare_children(child_modules)  # this and the worker take a moment: they start while the rest is made
    with ExitStack() as stack:
        if with_worker:
            stack.callback(WorkerSupervisor(settings).close)
        with ThreadPoolExecutor(1, "libraries") as beside:
            libraries = beside.submit(_load_libraries)
            app = _make(settings, roles_by_tool, job_kinds, stack)
            libraries.result()
        threading.Thread(target=_open_registry, args=(app.models,), name="warm-up", daemon=True).start()
        return _kept(app, stack.pop_all())


def _kept(app: App, stack: ExitStack) -> App:
    app.stack.push(stack)
    return app


def _make(settings: Settings, roles: Mapping[str, Role], job_kinds: frozenset[str], stack: ExitStack) -> App:
    clock = SystemClock()
    database = Database(settings.database_url, settings.database)
    stack.callback(database.close)
    database.migrate()
    artifacts = ArtifactStore(settings.data_dir / "artifacts")
    artifacts.sweep(clock.now())
    reports = ReportStore(database, artifacts, clock, keep=settings.limits.max_reports)
    datasets = DatasetStore(database, artifacts, clock)
    suites = SuiteStore(database, clock)
    endpoints = EndpointStore(database, clock)
    request_keys = RequestKeys(database, clock)
    audit = AuditLog(database, clock)
    sources = SourceFiles(settings.resolved_data_roots(), settings.limits)
    buckets = Buckets(settings.s3, settings.remote)
    models = ModelRegistry(
        database=database, artifacts=artifacts, clock=clock, settings=settings.mlflow, data_dir=settings.data_dir
    )
    records = JobRecords(database, clock)
    studies = StudyStore(database, settings.data_dir, keep=settings.limits.max_studies)
    stack.callback(studies.close)
    jobs = JobQueue(settings, records, job_kinds, findings=lambda job_id: training.findings(job_id))
    stack.callback(jobs.close)

    alerts = AlertStore(database, clock)
    validation = ValidationService(
        datasets=datasets, suites=suites, reports=reports, child_memory_bytes=settings.limits.child_memory_bytes
    )
    data = DataService(
        datasets=datasets,
        artifacts=artifacts,
        reports=reports,
        sources=sources,
        importing=Importing(sources, _readers(settings, buckets, clock)),
        exports=Exports(sources, buckets, artifacts),
        queries=DatasetQueries(datasets, artifacts, settings.limits),
        users_of=DatasetUsers(models, alerts.policies, jobs.list_schedules),
    )
    cleaning = CleaningService(datasets=datasets, artifacts=artifacts)
    training = TrainingService(
        datasets=datasets,
        models=models,
        reports=reports,
        artifacts=artifacts,
        studies=studies,
        clock=clock,
        limits=settings.limits,
        check_suite=validation.passes,
        dask=settings.dask,
    )
    stack.callback(training.close)
    registry = RegistryService(
        models=models,
        datasets=datasets,
        sources=sources,
        artifacts=artifacts,
        request_keys=request_keys,
        clock=clock,
        limits=settings.limits,
        serving=endpoints.serving,
    )

    predictions = PredictionStore(database, clock, settings.prediction_log)
    stack.callback(predictions.close)
    scorers = ScorerCache(models, settings.cache, clock)
    routes = RouteTable(endpoints, scorers)
    stack.callback(routes.close)
    prediction = PredictionService(
        routes=routes,
        scorers=scorers,
        predictions=predictions,
        datasets=datasets,
        artifacts=artifacts,
        models=models,
        clock=clock,
        limits=settings.limits,
    )
    stack.callback(prediction.close)
    deployment = DeploymentService(
        endpoints=endpoints,
        models=models,
        predictions=predictions,
        prediction=prediction,
        routes=routes,
        rollouts=Rollouts(endpoints, models, clock, partial(arm_figures, predictions, models)),
        request_keys=request_keys,
        raise_alert=lambda **alert: monitoring.raise_alert(**alert),
        forget_endpoint=lambda name: monitoring.forget_endpoint(name),
    )
    monitoring = MonitoringService(
        MonitoringParts(
            datasets=datasets,
            models=models,
            predictions=predictions,
            reports=reports,
            alerts=alerts,
            notifier=Notifier(NotificationStore(database, clock), settings.alerts, clock),
            audit=audit,
            jobs=jobs,
            clock=clock,
            settings=settings.monitoring,
            live_model=deployment.live_model,
            breaker_open=deployment.breaker_open,
            rollback=deployment.rollback_endpoint,
            start_rollout=deployment.start_rollout,
            job_roles={kind: roles[kind] for kind in job_kinds},
        )
    )

    def caches() -> list[CacheFigures]:
        return [scorers.figures()]

    short_work = ShortWork(
        limit_s=settings.worker.inline_limit_s,
        datasets=datasets,
        sources=sources,
        predictions=predictions,
        is_known=partial(_is_kept, validation),
        takes_long=partial(_needs_great_expectations, validation),
    )
    services = (data, cleaning, validation, training, registry, prediction, monitoring)
    work = WorkRunner(jobs, _job_methods(job_kinds, services), short_work.is_short, clock)

    checker = HealthChecker(clock)
    stack.callback(checker.close)
    add_probes(
        checker,
        settings=settings,
        database=database,
        artifacts=artifacts,
        models=models,
        jobs=jobs,
        caches=caches,
        deployment_states=deployment.states,
        n_alert_rules=lambda: len(alerts.rules()),
        log_figures=lambda: (predictions.writer.waiting, predictions.writer.lost),
    )
    return App(
        settings=settings,
        clock=clock,
        database=database,
        artifacts=artifacts,
        reports=reports,
        datasets=datasets,
        suites=suites,
        models=models,
        audit=audit,
        job_records=records,
        jobs=jobs,
        work=work,
        data=data,
        cleaning=cleaning,
        validation=validation,
        training=training,
        registry=registry,
        deployment=deployment,
        prediction=prediction,
        monitoring=monitoring,
        health=HealthService(
            checker=checker,
            database=database,
            jobs=jobs,
            audit=audit,
            clock=clock,
            caches=caches,
            roles_by_tool=dict(roles),
        ),
        job_kinds=job_kinds,
        stack=ExitStack(),
    )


def _readers(settings: Settings, buckets: Buckets, clock: Clock) -> dict[str, SourceReader]:
    """Return the readers of sources that are no files, by scheme."""
    remote, limits = settings.remote, settings.limits
    return {
        "nba": NbaSources(settings=settings.nba, limits=limits, clock=clock, cache=settings.data_dir / "cache" / "nba"),
        "s3": S3Sources(buckets, remote, limits),
        "sql": SqlSources(Connections(settings.connections, remote), remote, limits),
        "https": WebSources(settings.web, remote, limits),
    }


def _is_kept(validation: ValidationService, kind: str, arguments: Mapping[str, Any]) -> bool:
    if kind != "validate_dataset":
        return False
    asked = {name: arguments[name] for name in ("dataset", "suite", "engine", "detail") if name in arguments}
    return validation.cached_validation(**asked) is not None


def _needs_great_expectations(validation: ValidationService, kind: str, arguments: Mapping[str, Any]) -> bool:
    """Tell that a suite has types that only Great Expectations judges: its import alone takes seconds."""
    return kind == "validate_dataset" and bool(validation.foreign_types(arguments["suite"]))


def _load_libraries() -> None:
    """Load scikit-learn and SciPy before any call runs.

    Their packages import each other in circles: two threads that load parts of them at once may both fail, with
    "cannot import name ... from partially initialized module".
    """
    import mcp_server.engine.canary
    import mcp_server.engine.scoring  # noqa: F401


def _open_registry(models: ModelRegistry) -> None:
    """Open MLflow beside the first calls, so that none of those waits for it."""
    try:
        models.open()
    except LifecycleError as failure:  # the first call that needs it says so; health does too
        logger.warning("mlflow_not_open", message=failure.message)
