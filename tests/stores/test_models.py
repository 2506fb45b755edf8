"""The registry: versions by rule, stages, files that are checked, and nothing half-registered."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from mcp_server.errors import (
    ConflictError,
    FailedPreconditionError,
    InvalidArgumentError,
    LifecycleError,
    NotFoundError,
    UnavailableError,
)
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.settings import MlflowSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.models import UNREGISTERED, ModelCard, ModelRegistry

ANA = Caller("ana", "data_scientist")


def signature(features: tuple[str, ...] = ("elo",), target: str = "won", task: str = "binary") -> dict[str, Any]:
    columns = [{"name": name, "kind": "numeric", "dtype": "Float64", "nullable": False} for name in features]
    return {"inputs": columns, "target": target, "task": task, "classes": [0, 1]}


def registration(job_id: str, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "job_id": job_id,
        "name": "winner",
        "task": "binary",
        "recipe": {"dataset": "games@1", "estimators": ["logistic_regression"], "seed": 0},
        "training_result": {"summary": f"winner@{UNREGISTERED} scores 0.66.", "metric": "log_loss"},
        "signature": signature(),
        "model_bytes": b"model bytes",
        "reference_parquet": None,
        "lineage": {"dataset": "games", "dataset_version": 1, "dataset_hash": "a" * 64},
        "card": ModelCard(f"# winner {UNREGISTERED}", f"<h1>winner {UNREGISTERED}</h1>"),
        "metrics": {"log_loss": 0.6, "roc_auc": None},
        "params": {"C": 1.0},
        "caller": ANA,
    }
    return base | changes


@pytest.fixture
def make_registry(tmp_path: Path, database: Database, mlflow_uri: str) -> Callable[..., ModelRegistry]:
    def make(**changes: Any) -> ModelRegistry:
        parts: dict[str, Any] = {
            "database": database,
            "artifacts": ArtifactStore(tmp_path / "artifacts"),
            "clock": ManualClock(),
            "settings": MlflowSettings(tracking_uri=mlflow_uri, patience_s=0.5),
            "data_dir": tmp_path,
        }
        return ModelRegistry(**(parts | changes))

    return make


@pytest.fixture
def registry(make_registry: Callable[..., ModelRegistry]) -> ModelRegistry:
    return make_registry()


def nobody(_ref: str) -> list[str]:
    return []


def test_versions_follow_what_changed(registry: ModelRegistry) -> None:
    def version(job_id: str, **changes: Any) -> str:
        return registry.register(**registration(job_id, **changes)).version

    assert version("j1") == "1.0.0"
    assert version("j2") == "1.0.1"  # the same again
    new_data = {"dataset": "games", "dataset_version": 2, "dataset_hash": "b" * 64}
    assert version("j3", lineage=new_data) == "1.1.0"
    assert version("j4", lineage=new_data, recipe={"estimators": ["ridge"], "seed": 0}) == "1.2.0"
    assert version("j5", signature=signature(("elo", "rest"))) == "2.0.0"
    assert version("j6", signature=signature(("rest", "elo"))) == "2.0.1"  # order does not matter
    assert version("j7", signature=signature(("elo", "rest"), "margin", "regression"), task="regression") == "3.0.0"
    assert version("j8", name="other") == "1.0.0"


def test_a_version_holds_all_that_was_registered_under_its_number(registry: ModelRegistry) -> None:
    registered = registry.register(**registration("j1"))
    found = registry.resolve("winner")
    assert found == registered
    assert found.ref == "winner@1.0.0"
    assert found.sha256 == hashlib.sha256(b"model bytes").hexdigest()
    assert found.size_bytes == len(b"model bytes")
    assert found.result["summary"] == "winner@1.0.0 scores 0.66."
    assert found.result["card_uri"] == "model://winner/1.0.0/card"
    assert found.result["run_id"] == found.run_id
    assert found.created_by == "ana"
    assert registry.card(found).markdown == "# winner 1.0.0"
    assert registry.card(found).html == "<h1>winner 1.0.0</h1>"


def test_a_job_registers_once_however_often_it_runs(registry: ModelRegistry) -> None:
    first = registry.register(**registration("j1"))
    assert registry.register(**registration("j1")) == first
    assert [version.version for version in registry.versions("winner")] == ["1.0.0"]


def test_registrations_at_once_neither_collide_nor_skip(
    make_registry: Callable[..., ModelRegistry], mlflow_uri: str
) -> None:
    patient = MlflowSettings(tracking_uri=mlflow_uri, patience_s=20.0)
    registries = [make_registry(settings=patient), make_registry(settings=patient)]
    for registry in registries:
        registry.open()
    failures: list[LifecycleError] = []

    def work(number: int) -> None:
        try:
            registries[number % 2].register(**registration(f"j{number}"))
        except LifecycleError as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = sorted((version.position, version.version) for version in registries[0].versions("winner"))
    assert found == [(number + 1, f"1.0.{number}") for number in range(8)]


def test_a_stage_names_one_version_and_says_who_held_it(registry: ModelRegistry) -> None:
    first, second = (registry.register(**registration(job_id)) for job_id in ("j1", "j2"))
    assert registry.set_stage(first, "production").previous is None
    assert registry.resolve("winner@production") == first
    assert registry.set_stage(second, "staging").previous is None
    assert registry.stages() == {("winner", "1.0.0"): "production", ("winner", "1.0.1"): "staging"}
    assert registry.set_stage(second, "production").previous == first
    assert registry.resolve("winner@production") == second
    assert registry.stages("winner") == {("winner", "1.0.1"): "production"}
    registry.set_stage(first, "archived")
    assert registry.stage_of(first) == "archived"
    registry.set_stage(first, "none")
    assert registry.stage_of(first) == "none"


def test_a_stage_changes_only_from_the_revision_that_is_expected(registry: ModelRegistry) -> None:
    first, second = (registry.register(**registration(job_id)) for job_id in ("j1", "j2"))
    seen = registry.set_stage(first, "production", reason="beats the baseline")
    assert (seen.revision, seen.changed) == (1, True)
    again = registry.set_stage(first, "production")
    assert (again.revision, again.changed, again.previous) == (1, False, first)
    with pytest.raises(ConflictError, match="revision 1, not 0") as refusal:
        registry.set_stage(second, "production", expected_revision=0)
    assert refusal.value.details == {"revision": 1}
    assert registry.set_stage(second, "production", expected_revision=1).revision == 2
    assert registry.resolve("winner@production") == second


@pytest.mark.parametrize(
    "step",
    [
        "set_registered_model_alias",
        "delete_registered_model_alias",
        "set_model_version_tag",
        "set_registered_model_tag",
    ],
)
def test_a_promotion_killed_at_any_step_leaves_one_holder_and_ends_when_repeated(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    first, second = (registry.register(**registration(job_id)) for job_id in ("j1", "j2"))
    registry.set_stage(first, "production")
    registry.set_stage(second, "staging")
    client = registry._tracking.open()
    work = getattr(client, step)

    def killed(*arguments: Any, **named: Any) -> None:
        work(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(client, step, killed)
        with pytest.raises(KeyboardInterrupt):
            registry.set_stage(second, "production")
    assert registry.resolve("winner@production") == second
    registry.set_stage(second, "production")
    assert registry.stages() == {("winner", "1.0.1"): "production"}
    with pytest.raises(NotFoundError):
        registry.resolve("winner@staging")


def test_of_two_promotions_from_one_revision_one_wins(make_registry: Callable[..., ModelRegistry]) -> None:
    registries = [make_registry(), make_registry()]
    versions = [registries[0].register(**registration(job_id)) for job_id in ("j1", "j2")]
    registries[1].open()
    outcomes: list[str] = []

    def promote(number: int) -> None:
        try:
            registries[number].set_stage(versions[number], "production", expected_revision=0)
            outcomes.append("won")
        except ConflictError:
            outcomes.append("conflict")

    threads = [threading.Thread(target=promote, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["conflict", "won"]


@pytest.mark.parametrize(
    ("ref", "error", "message"),
    [
        ("winer", NotFoundError, "winer"),
        ("winner@9.9.9", NotFoundError, "9.9.9"),
        ("winner@production", NotFoundError, "production"),
        ("winner@champion", InvalidArgumentError, "champion"),
        ("Winner", InvalidArgumentError, "Winner"),
        ("winner@1.0", InvalidArgumentError, "1.0"),
        ("../winner", InvalidArgumentError, "winner"),
    ],
)
def test_a_reference_that_means_nothing_is_explained(
    registry: ModelRegistry, ref: str, error: type[LifecycleError], message: str
) -> None:
    registry.register(**registration("j1"))
    with pytest.raises(error, match=message) as refusal:
        registry.resolve(ref)
    assert "winner" in refusal.value.hint or "name@" in refusal.value.hint


def test_pages_go_from_the_newest_to_the_oldest(
    make_registry: Callable[..., ModelRegistry],
) -> None:
    clock = ManualClock()
    registry = make_registry(clock=clock)
    for number in range(5):
        registry.register(**registration(f"j{number}"))
        clock.advance(60)
    registry.set_stage(registry.resolve("winner@1.0.1"), "production")
    first = registry.page(3)
    assert [version.version for version, _ in first] == ["1.0.4", "1.0.3", "1.0.2"]
    last = first[-1][0]
    second = registry.page(3, after=(last.created_at, last.name, last.position))
    assert [(version.version, stage) for version, stage in second] == [("1.0.1", "production"), ("1.0.0", "none")]
    assert [version.version for version, _ in registry.page(9, stage="production")] == ["1.0.1"]
    assert [version.version for version, _ in registry.page(2, stage="none")] == ["1.0.4", "1.0.3"]
    assert registry.page(9, name="nothing") == []


def test_reference_rows_come_back(registry: ModelRegistry, tmp_path: Path) -> None:
    frame = pl.DataFrame({"elo": [1.0, None], "won": [True, False]})
    frame.write_parquet(tmp_path / "reference.parquet")
    version = registry.register(**registration("j1", reference_parquet=tmp_path / "reference.parquet"))
    assert registry.reference(version).equals(frame)
    bare = registry.register(**registration("j2"))
    with pytest.raises(FailedPreconditionError, match="No reference rows"):
        registry.reference(bare)


def test_a_swapped_model_file_is_refused(registry: ModelRegistry, tmp_path: Path) -> None:
    version = registry.register(**registration("j1"))
    file = tmp_path / "artifacts" / version.model_artifact[:2] / version.model_artifact
    file.write_bytes(b"other bytes")
    with pytest.raises(FailedPreconditionError, match="damaged"):
        registry.load(version)


def test_a_deleted_version_is_gone_and_its_number_stays_used(registry: ModelRegistry) -> None:
    version = registry.register(**registration("j1"))
    with pytest.raises(FailedPreconditionError, match="served by endpoint live"):
        registry.delete(version, lambda ref: ["live"] if ref == "winner@1.0.0" else [])
    registry.set_stage(version, "production")
    assert registry.trained_on(["games@1"]) == ["model winner@1.0.0"]
    registry.delete(version, nobody)
    assert registry.trained_on(["games@1"]) == []
    with pytest.raises(NotFoundError):
        registry.resolve("winner@1.0.0")
    assert registry.stages() == {}
    assert registry.register(**registration("j2")).version == "1.0.1"


def test_files_shared_with_another_version_outlive_a_deletion(registry: ModelRegistry, tmp_path: Path) -> None:
    first, second = (registry.register(**registration(job_id)) for job_id in ("j1", "j2"))
    file = tmp_path / "artifacts" / first.model_artifact[:2] / first.model_artifact
    registry.delete(first, nobody)
    assert file.is_file()
    registry.delete(second, nobody)
    assert not file.is_file()


def test_mlflow_down_leaves_nothing_half_registered(
    make_registry: Callable[..., ModelRegistry], database: Database
) -> None:
    settings = MlflowSettings(tracking_uri="http://127.0.0.1:9", timeout_s=1.0, patience_s=0.2)
    registry = make_registry(settings=settings)
    with pytest.raises(UnavailableError, match="MLflow"):
        registry.register(**registration("j1"))
    with pytest.raises(UnavailableError, match="MLflow"):
        registry.ping()
    assert registry.names() == []


@pytest.mark.parametrize("step", ["start_run", "log", "log_files", "create_version", "finish", "upcoming", "insert"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_registration_killed_at_any_step_is_taken_up_again_as_one_version(
    make_registry: Callable[..., ModelRegistry], monkeypatch: pytest.MonkeyPatch, step: str, moment: str
) -> None:
    registry = make_registry()
    part: Any = registry._versions if step in ("upcoming", "insert") else registry._tracking
    work = getattr(part, step)

    def killed(*arguments: Any, **named: Any) -> None:
        if moment == "after":
            work(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(part, step, killed)
        with pytest.raises(KeyboardInterrupt):
            registry.register(**registration("j1"))
    assert registry.names() == (["winner"] if (step, moment) == ("insert", "after") else [])
    again = make_registry()
    version = again.register(**registration("j1"))
    assert (version.version, version.mlflow_version) == ("1.0.0", "1")
    client = again._tracking.open()
    assert len(client.search_model_versions("name = 'winner'")) == 1
    assert len(client.search_runs([again._tracking._experiment_id])) == 1
    assert again.register(**registration("j2")).version == "1.0.1"


def test_resolving_versions_needs_no_mlflow(make_registry: Callable[..., ModelRegistry]) -> None:
    make_registry().register(**registration("j1"))
    settings = MlflowSettings(tracking_uri="http://127.0.0.1:9", timeout_s=1.0)
    away = make_registry(settings=settings)
    assert away.resolve("winner").ref == away.resolve("winner@1.0.0").ref == "winner@1.0.0"
    with pytest.raises(UnavailableError):
        away.resolve("winner@production")


def test_mlflow_shows_parameters_metrics_card_and_file(registry: ModelRegistry) -> None:
    version = registry.register(
        **registration("j1", series={"best_score": [0.7, None, 0.6]}, files={"plots/roc.txt": b"picture"})
    )
    client = registry._tracking.open()
    run = client.get_run(version.run_id)
    assert run.data.params == {"C": "1.0"}
    assert run.data.metrics == {"log_loss": 0.6, "best_score": 0.6}
    assert run.info.status == "FINISHED"
    assert run.data.tags["nba_mcp.version"] == "1.0.0"
    paths = {item.path for item in client.list_artifacts(version.run_id)}
    assert paths == {"card.html", "card.md", "model", "plots"}
    assert client.get_model_version("winner", "1").tags["nba_mcp.sha256"] == version.sha256


def test_nothing_is_written_to_stdout(registry: ModelRegistry, capfd: pytest.CaptureFixture[str]) -> None:
    registry.set_stage(registry.register(**registration("j1")), "production")
    assert capfd.readouterr().out == ""


def test_mlflow_keeps_its_tables_apart_from_ours_where_nothing_is_set(
    make_registry: Callable[..., ModelRegistry], database: Database
) -> None:
    registry = make_registry(settings=MlflowSettings())
    registry.set_stage(registry.register(**registration("j1")), "production")
    assert registry.resolve("winner@production").version == "1.0.0"
    registry.ping()
    assert "registered_models" not in sa.inspect(database.engine).get_table_names()
    if not database.is_sqlite:
        assert "registered_models" in sa.inspect(database.engine).get_table_names(schema="mlflow")
