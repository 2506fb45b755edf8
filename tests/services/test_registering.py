"""A user's own model file: checked like ours before anything of it runs, and described like ours once it is in."""

import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier

from mcp_server.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    LifecycleError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from mcp_server.settings import LimitSettings
from mcp_server.stores.database import Database
from tests.engine.models import games
from tests.services.test_registry import ANA, World, own_pipeline, own_table


@pytest.fixture
def world(tmp_path: Path, sqlite_database: Database, mlflow_uri: str) -> World:
    return World(tmp_path, sqlite_database, mlflow_uri)


def given(world: World, data: bytes, **changes: Any) -> Any:
    """Register a file with these bytes."""
    (world.root / "own.skops").write_bytes(data)
    arguments = {"name": "winner", "path": "own.skops", "dataset": "games", "target": "won"}
    return world.service.register_model(caller=ANA, **arguments | changes)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_is_refused_under_any_name_and_nothing_of_it_runs(world: World, tmp_path: Path) -> None:
    trap = tmp_path / "it-ran"
    for content in (Touch(trap), own_pipeline(LogisticRegression())):
        with pytest.raises(InvalidArgumentError, match="not a skops file"):
            given(world, pickle.dumps(content))
    assert not trap.exists()
    assert world.models.names() == []


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a_file_that_is_cut_off_is_refused(world: World, kept: float) -> None:
    data = skops.io.dumps(own_pipeline(LogisticRegression()))
    cut = data[: int(len(data) * kept) if isinstance(kept, float) else kept]
    with pytest.raises(InvalidArgumentError, match=r"not a skops file|is empty"):
        given(world, cut)
    assert world.models.names() == []


def test_a_file_with_broken_bytes_inside_is_refused(world: World) -> None:
    data = bytearray(skops.io.dumps(own_pipeline(LogisticRegression())))
    data[data.rindex(b"\x93NUMPY") + 128] ^= 255  # behind the array's header: in its first number
    with pytest.raises(InvalidArgumentError, match=r"cannot be read.*CRC"):
        given(world, bytes(data))


def test_a_file_that_is_too_large_is_refused_before_it_is_read(world: World) -> None:
    (world.root / "huge.skops").touch()
    os.truncate(world.root / "huge.skops", 64 * 1024**3)
    started = time.monotonic()
    with pytest.raises(ResourceExhaustedError, match="bytes"):
        world.service.register_model(caller=ANA, name="winner", path="huge.skops", dataset="games", target="won")
    assert time.monotonic() - started < 5


def broken_inside() -> Any:
    model = own_pipeline(LogisticRegression())
    model[-1].coef_ = model[-1].coef_[:, :1]
    return model


def without_an_answer() -> Any:
    model = own_pipeline(LogisticRegression())
    model[-1].coef_ = np.full_like(model[-1].coef_, np.nan)
    return model


def told_the_target() -> Any:
    table = own_table()[["rest", "won"]].fillna(0).astype(float)
    return LogisticRegression().fit(table, own_table()["won"])


def of_words_as_numbers() -> Any:
    table = own_table()[["rest"]].fillna(0).astype(float).rename(columns={"rest": "team"})
    return LogisticRegression().fit(table, own_table()["won"])


@pytest.mark.parametrize(
    ("make", "changes", "error", "message"),
    [
        (broken_inside, {}, InvalidArgumentError, "cannot predict the dataset: ValueError"),
        (without_an_answer, {}, InvalidArgumentError, "not all finite"),
        (told_the_target, {}, FailedPreconditionError, "'won', which is the target"),
        (of_words_as_numbers, {}, InvalidArgumentError, "cannot predict the dataset"),
        (lambda: own_pipeline(LogisticRegression()), {"target": "margin"}, InvalidArgumentError, "was not trained on"),
        (lambda: own_pipeline(LogisticRegression()), {"target": "woon"}, NotFoundError, "woon"),
        (lambda: own_pipeline(Ridge(), "margin"), {"target": "outcome"}, InvalidArgumentError, "'outcome'"),
        (lambda: own_pipeline(LogisticRegression()), {"dataset": "gamse"}, NotFoundError, "games"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused_and_leaves_nothing(
    world: World, make: Callable[[], Any], changes: dict[str, Any], error: type[LifecycleError], message: str
) -> None:
    with pytest.raises(error) as refusal:
        given(world, skops.io.dumps(make()), **changes)
    assert message in f"{refusal.value.message} {refusal.value.hint}"
    assert world.models.names() == []
    assert world.models._tracking.open().search_model_versions("") == []


def test_a_model_that_takes_too_long_is_ended(tmp_path: Path, sqlite_database: Database, mlflow_uri: str) -> None:
    world = World(tmp_path, sqlite_database, mlflow_uri, LimitSettings(parse_timeout_s=0.05))
    with pytest.raises(ResourceExhaustedError):
        given(world, skops.io.dumps(own_pipeline(LogisticRegression())))
    assert world.models.names() == []


@pytest.mark.parametrize(
    ("feature", "words"), [("copy", "A training would have stopped here: "), ("margin", "nearly decides")]
)
def test_a_feature_that_gives_the_target_away_is_told(world: World, feature: str, words: str) -> None:
    frame = games().with_columns(pl.col("won").cast(pl.Int64).alias("copy"))
    world.datasets.write("leaky", frame, source="a test", lineage={}, caller=ANA)
    table = pd.DataFrame({feature: frame[feature].to_list()})
    model = DecisionTreeClassifier(max_depth=2).fit(table, frame["won"].to_list())
    described = given(world, skops.io.dumps(model), dataset="leaky")
    assert described.test_metrics["accuracy"] == 1.0
    assert any(words in text and feature in text for text in described.warnings)


def test_card_baseline_and_metrics_are_made_as_for_ours(world: World, tmp_path: Path) -> None:
    described = given(world, skops.io.dumps(own_pipeline(LogisticRegression())))
    assert described.baselines[0].baseline == "majority"
    assert described.baselines[0].comparison.test == "paired bootstrap"
    interval = described.test_intervals["log_loss"]
    assert interval.low < described.test_metrics["log_loss"] < interval.high
    assert described.calibration is not None
    version = world.models.resolve("winner")
    card = world.models.card(version)
    for heading in ("ROC curve", "Calibration", "Confusion", "Limits"):
        assert f"## {heading}" in card.markdown
    assert card.image_png is not None
    assert card.image_png.startswith(b"\x89PNG")

    client = world.models._tracking.open()
    run = client.get_run(version.run_id)
    assert run.data.params == {"estimator": "LogisticRegression", "file": "own.skops", "dataset": "games@1"}
    assert run.data.metrics["test_log_loss"] == pytest.approx(described.test_metrics["log_loss"])
    plots = {item.path for item in client.list_artifacts(version.run_id, "plots")}
    assert {"plots/roc-curve.png", "plots/calibration.png", "plots/confusion.png"} <= plots
    kept = client.download_artifacts(version.run_id, "model/model.skops", str(tmp_path))
    assert Path(kept).read_bytes() == world.artifacts.read_bytes(version.model_artifact)


def test_a_regression_has_its_residuals_in_the_card(world: World) -> None:
    described = given(world, skops.io.dumps(own_pipeline(Ridge(), "margin")), name="margin", target="margin")
    assert described.baselines[0].baseline == "mean"
    assert "## Residuals" in world.models.card(world.models.resolve("margin")).markdown


@pytest.mark.slow
def test_mlflow_away_is_said_and_nothing_is_registered(
    tmp_path: Path, sqlite_database: Database, mlflow_uri: str
) -> None:
    world = World(tmp_path, sqlite_database, "http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match="MLflow"):
        given(world, skops.io.dumps(own_pipeline(LogisticRegression())))
    assert world.models.names() == []


def test_rows_without_an_outcome_are_counted_and_not_scored(world: World) -> None:
    frame = games().with_columns(pl.when(pl.int_range(pl.len()) < 20).then(None).otherwise(pl.col("won")).alias("won"))
    world.datasets.write("partly", frame, source="a test", lineage={}, caller=ANA)
    described = given(world, skops.io.dumps(own_pipeline(LogisticRegression())), dataset="partly")
    assert (described.rows_test, described.rows_unlabelled) == (130, 20)
