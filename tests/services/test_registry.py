"""The tools about model versions, on real stores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from mcp_server.engine.predictions import Signature
from mcp_server.engine.scoring import build_scorer
from mcp_server.errors import (
    AlreadyExistsError,
    ConflictError,
    FailedPreconditionError,
    InvalidArgumentError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
)
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.services.registry import RegistryService
from mcp_server.settings import LimitSettings, MlflowSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.datasets import DatasetStore
from mcp_server.stores.models import UNREGISTERED, ModelCard, ModelRegistry
from mcp_server.stores.request_keys import RequestKeys
from mcp_server.stores.sources.files import SourceFiles
from tests.engine.models import games

ANA = Caller("ana", "admin")
COLUMNS = ["elo", "rest", "team"]
RESULT: dict[str, Any] = {
    "summary": f"winner@{UNREGISTERED} is a test.",
    "model": "winner",
    "version": UNREGISTERED,
    "run_id": None,
    "task": "binary",
    "estimator": "ridge",
    "params": {},
    "metric": "log_loss",
    "higher_is_better": False,
    "cv_score": None,
    "cv_std": None,
    "test_metrics": {"log_loss": 0.6},
    "baseline": None,
    "baseline_metrics": {},
    "baseline_comparison": None,
    "leaderboard": [],
    "features": ["elo"],
    "rows_train": 1,
    "rows_test": 1,
    "duration_seconds": 1.0,
    "warnings": [],
    "card_uri": None,
}


class World:
    """A registry service on real stores, and what its tests need around it."""

    def __init__(self, folder: Path, database: Database, mlflow_uri: str, limits: LimitSettings | None = None) -> None:
        clock, artifacts = ManualClock(), ArtifactStore(folder / "artifacts")
        self.root = folder / "root"
        self.root.mkdir()
        self.clock, self.artifacts = clock, artifacts
        self.served: dict[str, list[str]] = {}
        self.datasets = DatasetStore(database, artifacts, clock)
        self.models = ModelRegistry(
            database=database,
            artifacts=artifacts,
            clock=clock,
            settings=MlflowSettings(tracking_uri=mlflow_uri),
            data_dir=folder,
        )
        self.service = RegistryService(
            models=self.models,
            datasets=self.datasets,
            sources=SourceFiles([self.root], LimitSettings()),
            artifacts=artifacts,
            request_keys=RequestKeys(database, clock),
            clock=clock,
            limits=limits or LimitSettings(),
            serving=lambda ref: self.served.get(ref, []),
        )
        self.datasets.write("games", games(), source="a test", lineage={}, caller=ANA)

    def register(self, model: Any, name: str = "winner", target: str = "won") -> Any:
        skops.io.dump(model, self.root / "own.skops")
        registered = self.service.register_model(
            caller=ANA, name=name, path="own.skops", dataset="games", target=target
        )
        self.clock.advance(1)
        return registered

    def add(self, count: int, name: str = "winner") -> None:
        """Register versions 1.0.0, 1.1.0, … without fitting anything."""
        for number in range(count):
            column = {"name": "elo", "kind": "numeric", "dtype": "Float64", "nullable": False}
            self.models.register(
                job_id=f"{name}-{number}",
                name=name,
                task="binary",
                recipe=None,
                training_result=RESULT,
                signature={"inputs": [column], "target": "won", "task": "binary", "classes": [0, 1]},
                model_bytes=b"bytes",
                reference_parquet=None,
                lineage={"dataset": "games", "dataset_version": 1, "dataset_hash": str(number), "code_version": "1"},
                card=ModelCard("# Card", "<h1>Card</h1>"),
                metrics={},
                params={},
                caller=ANA,
            )
            self.clock.advance(1)


@pytest.fixture
def world(tmp_path: Path, sqlite_database: Database, mlflow_uri: str) -> World:
    return World(tmp_path, sqlite_database, mlflow_uri)


def own_table() -> pd.DataFrame:
    """Return the rows as a user without our tools would have them."""
    frame = games().select(*COLUMNS, "won", "margin")
    return pd.DataFrame({name: frame[name].to_list() for name in frame.columns}).astype({"team": object})


def own_pipeline(estimator: Any, target: str = "won") -> Any:
    prepare = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["elo", "rest"]),
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), ["team"]),
    )
    table = own_table()
    table["team"] = table["team"].where(table["team"].notna(), np.nan)
    return make_pipeline(prepare, estimator).fit(table[COLUMNS], table[target])


def test_a_model_fitted_elsewhere_predicts_the_same_once_registered(world: World) -> None:
    own = own_pipeline(LogisticRegression())
    described = world.register(own)
    assert (described.model, described.version, described.task) == ("winner", "1.0.0", "binary")
    assert described.estimator == "LogisticRegression"
    assert described.recipe is None
    assert [column.name for column in described.signature.inputs] == COLUMNS
    assert described.signature.classes == [False, True]
    assert described.baseline == "majority"
    assert described.baseline_comparison is not None
    assert described.baseline_comparison.metric == "log_loss"
    assert described.rows_test == 150
    assert described.lineage.file_sha256 is not None
    assert "fitted elsewhere" in described.warnings[0]
    version = world.models.resolve("winner")
    signature = Signature(version.signature.inputs, "won", "binary", version.signature.classes)
    scorer = build_scorer(world.models.load(version), signature, world.models.reference(version))
    found = scorer.predict(games().select(COLUMNS).to_dicts()).probabilities
    table = own_table()
    table["team"] = table["team"].where(table["team"].notna(), np.nan)
    assert found is not None
    np.testing.assert_allclose(found, own.predict_proba(table[COLUMNS]), atol=1e-12)


def test_a_regression_and_a_bare_array_can_be_registered(world: World) -> None:
    assert world.register(own_pipeline(Ridge(), "margin"), "margin", "margin").task == "regression"
    numbers = games().select("rest", "margin", "won").drop_nulls()
    world.datasets.write("numbers", numbers, source="a test", lineage={}, caller=ANA)
    forest = RandomForestClassifier(5, random_state=0).fit(numbers.select("rest", "margin").to_numpy(), numbers["won"])
    skops.io.dump(forest, world.root / "forest.skops")
    described = world.service.register_model(
        caller=ANA, name="forest", path="forest.skops", dataset="numbers", target="won"
    )
    assert described.features == ["rest", "margin"]
    assert described.test_metrics["accuracy"] == 1.0


@pytest.mark.slow
def test_the_same_file_again_is_a_patch_and_another_one_a_minor_version(world: World) -> None:
    own = own_pipeline(LogisticRegression())
    data = skops.io.dumps(own)
    (world.root / "own.skops").write_bytes(data)
    for expected in ("1.0.0", "1.0.1"):
        described = world.service.register_model(
            caller=ANA, name="winner", path="own.skops", dataset="games", target="won"
        )
        assert described.version == expected
    assert world.register(own_pipeline(LogisticRegression(C=0.1))).version == "1.1.0"


def test_a_name_of_another_task_is_refused(world: World) -> None:
    world.register(own_pipeline(LogisticRegression()))
    with pytest.raises(AlreadyExistsError, match="winner"):
        world.register(own_pipeline(Ridge(), "margin"), "winner", "margin")
    assert len(world.models.versions("winner")) == 1


def not_fitted() -> Any:
    return LogisticRegression()


def with_a_function() -> Any:
    return make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()).fit([[1.0], [2.0]], [0, 1])


def without_probabilities() -> Any:
    return own_pipeline(RidgeClassifier())


def of_other_columns() -> Any:
    table = pd.DataFrame({"elo": [1.0, 2.0], "steals": [3.0, 4.0]})
    return LogisticRegression().fit(table, [True, False])


def of_two_bare_columns() -> Any:
    return LogisticRegression().fit([[1.0, 2.0], [3.0, 4.0]], [True, False])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (not_fitted, InvalidArgumentError, "no fitted model"),
        (with_a_function, InvalidArgumentError, "not trusted: .*log1p"),
        (without_probabilities, FailedPreconditionError, "no probabilities"),
        (of_other_columns, NotFoundError, "steals"),
        (of_two_bare_columns, InvalidArgumentError, "2 columns without names"),
        (StandardScaler().fit, InvalidArgumentError, "neither a classifier nor a regressor"),
    ],
)
def test_a_file_that_cannot_be_served_is_refused_and_leaves_nothing(
    world: World, make: Callable[..., Any], error: type[LifecycleError], message: str
) -> None:
    model = make([[1.0], [2.0]]) if make.__name__ == "fit" else make()
    with pytest.raises(error, match=message):
        world.register(model)
    assert world.models.names() == []


def test_a_path_outside_the_roots_and_a_file_that_is_no_model_are_refused(world: World) -> None:
    arguments: dict[str, Any] = {"caller": ANA, "name": "winner", "dataset": "games", "target": "won"}
    with pytest.raises(PermissionDeniedError):
        world.service.register_model(path="../artifacts", **arguments)
    (world.root / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InvalidArgumentError, match="not a skops file"):
        world.service.register_model(path="table.csv", **arguments)
    with pytest.raises(NotFoundError):
        world.service.register_model(path="missing.skops", **arguments)


def test_models_are_listed_newest_first_page_by_page(world: World) -> None:
    world.add(3)
    world.service.promote_model(caller=ANA, model="winner@1.1.0", stage="production")
    first = world.service.list_models(limit=2)
    assert [(item.version, item.stage) for item in first.items] == [("1.2.0", "none"), ("1.1.0", "production")]
    assert first.items[0].metric == "log_loss"
    rest = world.service.list_models(limit=2, cursor=first.next_cursor)
    assert [item.version for item in rest.items] == ["1.0.0"]
    assert rest.next_cursor is None
    assert [item.version for item in world.service.list_models(stage="production").items] == ["1.1.0"]
    assert world.service.list_models(stage="archived").summary == "0 model versions in stage archived."


def test_listing_refuses_unknown_names_and_foreign_cursors(world: World) -> None:
    assert world.service.list_models().items == []
    world.add(1)
    with pytest.raises(NotFoundError) as refusal:
        world.service.list_models(name="winer")
    assert "winner" in refusal.value.hint
    for cursor in ("abc", "e30=", "ö"):
        with pytest.raises(InvalidArgumentError, match="cursor"):
            world.service.list_models(cursor=cursor)


def test_a_promotion_says_who_held_the_stage_and_is_done_once_for_a_key(world: World) -> None:
    world.add(2)
    first = world.service.promote_model(caller=ANA, model="winner@1.0.0", stage="production")
    assert (first.model, first.previous, first.revision) == ("winner@1.0.0", None, 1)
    assert "Endpoints did not move" in first.summary
    arguments: dict[str, Any] = {"caller": ANA, "model": "winner", "stage": "production", "request_key": "k1"}
    second = world.service.promote_model(**arguments)
    assert (second.model, second.previous) == ("winner@1.1.0", "winner@1.0.0")
    assert world.service.promote_model(**arguments) == second
    assert world.service.describe_model(model="winner@production").version == "1.1.0"
    with pytest.raises(ConflictError):
        world.service.promote_model(caller=ANA, model="winner", stage="staging", expected_revision=1)


def test_describing_a_model_says_its_stage_and_where_it_comes_from(world: World) -> None:
    world.register(own_pipeline(LogisticRegression()))
    world.service.promote_model(caller=ANA, model="winner", stage="staging")
    described = world.service.describe_model(model="winner")
    assert described.stage == "staging"
    assert described.summary.startswith("winner@1.0.0 is in staging. winner@1.0.0, a LogisticRegression from own.skops")
    assert described.lineage.dataset == "games"
    assert described.card_uri == "model://winner/1.0.0/card"
    assert "# Model card" in world.models.card(world.models.resolve("winner")).markdown
    assert len(described.model_dump_json()) < 16_000


def test_deleting_takes_one_version_or_all_but_never_a_served_one(world: World) -> None:
    world.add(3)
    assert world.service.delete_model(caller=ANA, model="winner@1.1.0").deleted == ["winner@1.1.0"]
    world.served["winner@1.0.0"] = ["live"]
    with pytest.raises(FailedPreconditionError, match="live"):
        world.service.delete_model(caller=ANA, model="winner")
    assert [version.version for version in world.models.versions("winner")] == ["1.2.0", "1.0.0"]
    world.served.clear()
    everything = world.service.delete_model(caller=ANA, model="winner")
    assert everything.deleted == ["winner@1.2.0", "winner@1.0.0"]
    assert everything.summary.endswith("0 versions of winner are left.")
    with pytest.raises(NotFoundError):
        world.service.delete_model(caller=ANA, model="winner")


def test_a_registered_model_bears_gaps_and_unseen_words_and_keeps_reference_rows(world: World) -> None:
    world.register(own_pipeline(LogisticRegression()))
    version = world.models.resolve("winner")
    signature = Signature(version.signature.inputs, "won", "binary", version.signature.classes)
    scorer = build_scorer(world.models.load(version), signature)
    answer = scorer.predict([{"elo": None, "rest": None, "team": None}, {"elo": 1.0, "rest": 1, "team": "SEA"}])
    assert answer.probabilities is not None
    assert np.isfinite(answer.probabilities).all()
    reference = world.models.reference("winner")
    assert reference.columns == [*COLUMNS, "won", "prediction", "probability_False", "probability_True"]
    assert reference.height == 150
    assert reference.select(pl.col("probability_True").is_between(0, 1).all()).item()


RECIPE: dict[str, Any] = {
    "dataset": "games@1",
    "target": "won",
    "task": "binary",
    "estimators": ["ridge"],
    "search": "none",
    "trials": 1,
    "metric": "log_loss",
    "split": {},
    "cv": 5,
}


@pytest.mark.parametrize(
    ("name", "count", "whole"), [("f{}", 400, True), ("a_rather_long_name_of_a_feature_{}", 400, False)]
)
def test_a_model_of_many_features_is_described_within_the_size_of_a_result(
    world: World, name: str, count: int, whole: bool
) -> None:
    world.add(1)
    version = world.models.resolve("winner")
    names = [name.format(number) for number in range(count)]
    inputs = [{"name": name, "kind": "category", "dtype": "String", "nullable": True} for name in names]
    for column in inputs:
        column["categories"] = [f"word {number}" for number in range(20)]
    world.models.register(
        job_id="wide",
        name="wide",
        task="binary",
        recipe=RECIPE | {"features": names},
        training_result=dict(version.result) | {"features": names},
        signature={"inputs": inputs, "target": "won", "task": "binary", "classes": [0, 1]},
        model_bytes=b"wide",
        reference_parquet=None,
        lineage=version.lineage,
        card=world.models.card(version),
        metrics={},
        params={},
        caller=ANA,
    )
    described = world.service.describe_model(model="wide")
    assert len(described.model_dump_json()) < 16_000
    assert any("of the 400 features" in warning for warning in described.warnings)
    assert described.recipe is not None
    assert (described.recipe.features == names) is whole
    assert any("recipe" in warning for warning in described.warnings) is not whole
    assert described.features == names[: len(described.features)]
