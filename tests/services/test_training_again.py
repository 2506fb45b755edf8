"""What a version's record promises: its recipe, trained again on the same data, gives the same model to the byte."""

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn

import mcp_server
from mcp_server.engine.predictions import Signature
from mcp_server.engine.scoring import build_scorer
from mcp_server.results.training import ModelDescription
from mcp_server.services.registry import RegistryService
from mcp_server.settings import LimitSettings
from mcp_server.stores.request_keys import RequestKeys
from mcp_server.stores.sources.files import SourceFiles
from tests.engine.models import need_booster
from tests.services.training_world import Stand, games

FEATURES = ["rating", "rest", "venue"]
UNSEEN = [
    *games(seed=7, n_rows=50).select(FEATURES).to_dicts(),
    {"rating": None, "rest": None, "venue": None},
    {"rating": 9.5, "rest": 3, "venue": "west"},
]


def described(stand: Stand, folder: Path, model: str) -> ModelDescription:
    registry = RegistryService(
        models=stand.models,
        datasets=stand.datasets,
        sources=SourceFiles([folder], LimitSettings()),
        artifacts=stand.artifacts,
        request_keys=RequestKeys(stand.database, stand.clock),
        clock=stand.clock,
        limits=LimitSettings(),
        serving=lambda _: [],
    )
    return registry.describe_model(model=model)


def outputs(stand: Stand, model: str) -> tuple[Any, Any]:
    """Return what the registered file itself says of rows that no training has seen: predictions, probabilities."""
    version = stand.models.resolve(model)
    kept = version.signature
    signature = Signature(kept.inputs, kept.target, kept.task, kept.classes)
    said = build_scorer(stand.models.load(version), signature, stand.models.reference(version)).predict(UNSEEN)
    return said.labels, said.probabilities


def trained_again(stand: Stand, folder: Path, **arguments: Any) -> tuple[ModelDescription, ModelDescription]:
    """Train, then train from nothing but the recipe that describe_model gives, and return both descriptions."""
    stand.train(name="first", **arguments)
    first = described(stand, folder, "first")
    assert first.recipe is not None
    recipe = first.recipe.model_dump(mode="json")
    stand.train(name="second", **recipe)
    return first, described(stand, folder, "second")


def assert_the_same(stand: Stand, first: ModelDescription, second: ModelDescription) -> None:
    predictions, probabilities = outputs(stand, "first")
    again, probabilities_again = outputs(stand, "second")
    np.testing.assert_array_equal(again, predictions)
    if probabilities is not None:
        assert np.ptp(probabilities[:, -1]) > 0.05  # it tells rows apart
        np.testing.assert_array_equal(probabilities_again, probabilities)
    assert (second.params, second.test_metrics) == (first.params, first.test_metrics)
    assert second.sha256 == first.sha256
    assert second.recipe == first.recipe


slow = pytest.mark.slow


@pytest.mark.parametrize(
    "estimator",
    [
        "hist_gradient_boosting",
        *[
            pytest.param(name, marks=slow)
            for name in ("random_forest", "logistic_regression", "mlp", "extra_trees", "knn", "svm")
        ],
    ],
)
def test_a_recipe_trained_again_gives_the_same_file(stand: Stand, tmp_path: Path, estimator: str) -> None:
    first, second = trained_again(stand, tmp_path, estimators=[estimator], seed=11)
    assert first.estimator == estimator
    assert_the_same(stand, first, second)


@slow
@pytest.mark.parametrize("estimator", ["lightgbm", "xgboost"])
def test_a_recipe_of_a_booster_trained_again_gives_the_same_file(stand: Stand, tmp_path: Path, estimator: str) -> None:
    need_booster(estimator)
    first, second = trained_again(
        stand, tmp_path, estimators=[estimator], search="random", trials=2, class_weight="balanced"
    )
    assert first.estimator == estimator
    assert_the_same(stand, first, second)


@slow
@pytest.mark.parametrize(
    "estimators", [["auto"], ["logistic_regression", "naive_bayes", "stacking"], ["voting", "random_forest", "mlp"]]
)
def test_a_recipe_of_a_search_trained_again_gives_the_same_file(
    stand: Stand, tmp_path: Path, estimators: list[str]
) -> None:
    first, second = trained_again(stand, tmp_path, estimators=estimators, search="bayesian", trials=6, cv=3)
    assert_the_same(stand, first, second)


@slow
@pytest.mark.parametrize(
    "arguments",
    [
        {
            "target": "points",
            "task": "regression",
            "estimators": ["ridge", "hist_gradient_boosting"],
            "search": "random",
            "trials": 4,
        },
        {"target": "venue", "features": ["rating", "rest"], "estimators": ["random_forest"]},
        {"split": {"kind": "time", "column": "season", "test_from": 2008}, "estimators": ["random_forest"]},
        {"baseline": "forecast", "class_weight": "balanced", "metric": "roc_auc"},
    ],
)
def test_a_recipe_of_any_shape_trained_again_gives_the_same_file(
    stand: Stand, tmp_path: Path, arguments: dict[str, Any]
) -> None:
    first, second = trained_again(stand, tmp_path, **arguments)
    assert second.sha256 == first.sha256
    assert outputs(stand, "first")[0] == outputs(stand, "second")[0]


@slow
def test_another_seed_gives_another_model(stand: Stand, tmp_path: Path) -> None:
    """So that the tests above can fail: what they compare does change."""
    stand.train(name="first", estimators=["random_forest"], seed=1)
    stand.train(name="second", estimators=["random_forest"], seed=2)
    assert described(stand, tmp_path, "first").sha256 != described(stand, tmp_path, "second").sha256
    assert not np.array_equal(outputs(stand, "first")[1], outputs(stand, "second")[1])


@slow
def test_other_data_under_the_same_name_gives_another_model_and_its_recipe_says_which_data(
    stand: Stand, tmp_path: Path
) -> None:
    first = stand.train(name="first")
    stand.write("games", games(seed=5))
    stand.train(name="second")
    old, new = described(stand, tmp_path, "first"), described(stand, tmp_path, "second")
    assert old.recipe is not None
    assert (old.recipe.dataset, old.lineage.dataset_version, new.lineage.dataset_version) == ("games@1", 1, 2)
    assert old.lineage.dataset_hash != new.lineage.dataset_hash
    again = stand.train(name="third", **old.recipe.model_dump(mode="json"))
    assert again.test_metrics == first.test_metrics
    assert described(stand, tmp_path, "third").sha256 == old.sha256 != new.sha256


def test_a_description_says_where_the_model_comes_from(stand: Stand, tmp_path: Path) -> None:
    stand.suites = {"sound": True}
    stand.train(name="first", suite="sound", seed=5)
    lineage = described(stand, tmp_path, "first").lineage
    games_now = stand.datasets.resolve("games")
    assert (lineage.dataset, lineage.dataset_version, lineage.dataset_hash) == ("games", 1, games_now.content_hash)
    assert (lineage.suite, lineage.seed, lineage.code_version) == ("sound@1", 5, mcp_server.__version__)
    assert lineage.file_sha256 is None
    used = {"scikit-learn": sklearn.__version__, "numpy": np.__version__, "python": platform.python_version()}
    assert used.items() <= lineage.libraries.items()
    assert {"pandas", "polars", "optuna", "skops", "scipy"} <= lineage.libraries.keys()
    assert "lightgbm" not in lineage.libraries


@slow
def test_the_version_of_a_booster_is_in_the_lineage_of_its_models(stand: Stand, tmp_path: Path) -> None:
    need_booster("lightgbm")
    import lightgbm

    stand.train(name="first", estimators=["lightgbm"])
    assert described(stand, tmp_path, "first").lineage.libraries["lightgbm"] == lightgbm.__version__
