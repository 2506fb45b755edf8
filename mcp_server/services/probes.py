"""The probes of check_health: each does a small real piece of its component's work."""

import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from mcp_server.results.health import CacheFigures
from mcp_server.results.wording import counted
from mcp_server.runtime.health import Finding, HealthChecker
from mcp_server.runtime.jobs.queue import JobQueue
from mcp_server.settings import GIB, Settings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.models import ModelRegistry

_LITTLE_SPACE_BYTES = GIB
_LEAST_SPACE_BYTES = GIB // 10
_MANY_WAITING = 100


def add_probes(
    checker: HealthChecker,
    *,
    settings: Settings,
    database: Database,
    artifacts: ArtifactStore,
    models: ModelRegistry,
    jobs: JobQueue,
    caches: Callable[[], list[CacheFigures]],
    deployment_states: Callable[[], Mapping[str, str]],
    n_alert_rules: Callable[[], int],
    log_figures: Callable[[], tuple[int, int]],
) -> None:
    """Add every component of the contract to `checker`.

    Args:
        deployment_states: gives each endpoint's state.
        n_alert_rules: gives how many alert rules wait to be evaluated.
        log_figures: gives how many logged predictions wait to be written, and how many were lost.
    """
    checker.add("data_validation", _validation)
    checker.add("model_training", lambda: _training(jobs))
    checker.add("model_deployment", lambda: _deployment(deployment_states, log_figures))
    checker.add("model_monitoring", lambda: _monitoring(jobs, n_alert_rules))
    checker.add("database", lambda: _database(database))
    checker.add("storage", lambda: _storage(artifacts, settings.data_dir))
    checker.add("mlflow", lambda: _mlflow(models))
    checker.add("cache", lambda: _cache(caches))
    checker.add("worker", lambda: _worker(jobs))


def _validation() -> Finding:
    from mcp_server.engine.canary import canary_validation

    if not canary_validation():
        return Finding("unhealthy", "A known table was judged wrongly.")
    return Finding("healthy", "A known table was judged as expected.")


def _training(jobs: JobQueue) -> Finding:
    from mcp_server.engine.canary import canary_training

    if not canary_training():
        return Finding("unhealthy", "A model fitted on known data predicts it wrongly.")
    if not jobs.workers_alive():
        return Finding("degraded", "Models can be fitted, but no worker lives to run a training.")
    return Finding("healthy", "A model was fitted, written, read and scored as expected.")


def _deployment(states: Callable[[], Mapping[str, str]], log_figures: Callable[[], tuple[int, int]]) -> Finding:
    found, (waiting, lost) = states(), log_figures()
    bad = sorted(f"{name} is {state}" for name, state in found.items() if state not in ("serving", "stopped"))
    details = {"endpoints": len(found), "log_rows_waiting": waiting, "log_rows_lost": lost}
    if lost:
        bad.append(f"{lost} logged predictions were lost")
    if bad:
        return Finding("degraded", f"{'; '.join(bad[:5])}.", details)
    return Finding("healthy", f"{counted(len(found), 'endpoint')}, all in order.", details)


def _monitoring(jobs: JobQueue, n_alert_rules: Callable[[], int]) -> Finding:
    rules, schedules = n_alert_rules(), len(jobs.list_schedules())
    details = {"alert_rules": rules, "schedules": schedules}
    if (rules or schedules) and not jobs.workers_alive():
        return Finding("degraded", "Alert rules and schedules wait: no worker lives to evaluate them.", details)
    return Finding("healthy", f"{rules} alert rules and {schedules} schedules.", details)


def _database(database: Database) -> Finding:
    database.ping()
    kind = "SQLite" if database.is_sqlite else "PostgreSQL"
    return Finding("healthy", f"{kind} answers.", dict(database.pool_figures()))


def _storage(artifacts: ArtifactStore, folder: Path) -> Finding:
    content = uuid.uuid4().bytes
    key = artifacts.put_bytes(content)
    same = artifacts.read_bytes(key) == content
    artifacts.delete(key)
    free = shutil.disk_usage(folder).free
    details = {"free_bytes": free}
    if not same:
        return Finding("unhealthy", "What was written did not come back.", details)
    if free < _LEAST_SPACE_BYTES:
        return Finding("unhealthy", f"{free / GIB:.2f} GiB of disk are left. Free some.", details)
    if free < _LITTLE_SPACE_BYTES:
        return Finding("degraded", f"{free / GIB:.2f} GiB of disk are left.", details)
    return Finding("healthy", f"Written, read and deleted; {free / GIB:.0f} GiB free.", details)


def _mlflow(models: ModelRegistry) -> Finding:
    models.ping()
    return Finding("healthy", "MLflow answers.")


def _cache(caches: Callable[[], list[CacheFigures]]) -> Finding:
    figures = caches()
    full = [cache.name for cache in figures if cache.size > cache.capacity]
    if full:
        return Finding("unhealthy", f"Beyond its capacity: {', '.join(full)}.")
    return Finding(
        "healthy", f"{counted(len(figures), 'cache')} within their capacity.", {c.name: c.size for c in figures}
    )


def _worker(jobs: JobQueue) -> Finding:
    alive, counts = jobs.workers_alive(), jobs.count_by_state()
    details = {"workers": alive, **counts}
    if not alive:
        return Finding(
            "unhealthy", "No worker lives: jobs wait. See the server's log, or run `nba-mcp worker`.", details
        )
    if counts["queued"] > _MANY_WAITING:
        return Finding("degraded", f"{counts['queued']} jobs wait.", details)
    return Finding("healthy", f"{alive} at work; {counts['running']} jobs running, {counts['queued']} queued.", details)
