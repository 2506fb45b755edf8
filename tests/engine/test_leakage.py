"""Leaks are stopped, near-leaks warned of, and honest features let pass."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import datasets

from mcp_server.engine.leakage import Finding, draw, find_leaks, score_of
from mcp_server.engine.metrics import Task
from mcp_server.engine.preprocessing import encode_target


def findings(
    frame: pl.DataFrame, target: str, features: list[str] | None = None, task: Task = "binary", **rest: Any
) -> list[Finding]:
    truth, classes = encode_target(frame[target], task)
    sample = draw(frame, truth, task, len(classes), seed=0)
    chosen = features or [name for name in frame.columns if name != target]
    return find_leaks(sample, chosen, target, rest.get("allowed", ()))


def stopped(found: list[Finding]) -> set[str]:
    return {name for finding in found if finding.severity == "blocking" for name in finding.suspects}


def warned(found: list[Finding]) -> set[str]:
    return {name for finding in found if finding.severity == "warning" for name in finding.suspects}


@pytest.fixture(scope="module")
def real_games(shared_data: Path) -> pl.DataFrame:
    return pl.read_csv(shared_data / "data" / "nba_games_1947_2015.csv", infer_schema_length=None)


@pytest.mark.parametrize("name", ["elo_n", "pts", "opp_pts", "opp_elo_n"])
def test_what_is_known_after_a_real_game_is_stopped_alone_and_among_all(real_games: pl.DataFrame, name: str) -> None:
    assert stopped(findings(real_games, "game_result", [name, "seasongame"])) == {name}


def test_all_columns_of_the_real_games_stop_on_the_right_ones(real_games: pl.DataFrame) -> None:
    found = findings(real_games, "game_result")
    assert stopped(found) == {"elo_n", "opp_elo_n", "pts", "opp_pts"}
    assert {"win_equiv", "opp_win_equiv"} <= warned(found)


def test_ratings_and_forecast_from_before_a_real_game_pass(real_games: pl.DataFrame) -> None:
    assert findings(real_games, "game_result", ["elo_i", "opp_elo_i", "forecast", "team_id", "date_game"]) == []


def test_the_result_stops_a_column_made_of_it_and_the_margin(real_games: pl.DataFrame) -> None:
    frame = real_games.with_columns(
        home_win=(pl.col("game_result") == "W").cast(pl.Int64), margin=pl.col("pts") - pl.col("opp_pts")
    )
    assert stopped(findings(frame, "home_win", ["game_result", "margin", "elo_i"])) == {"game_result", "margin"}


def test_an_allowed_leak_becomes_a_warning(real_games: pl.DataFrame) -> None:
    found = findings(real_games, "game_result", ["elo_n", "elo_i"], allowed=["elo_n"])
    assert stopped(found) == set()
    assert "elo_n" in warned(found)


def test_a_difference_that_is_the_target_of_a_regression_is_stopped() -> None:
    rng = np.random.default_rng(0)
    scored, allowed = rng.normal(100, 10, 1000), rng.normal(100, 10, 1000)
    frame = pl.DataFrame({"scored": scored, "allowed": allowed, "margin": scored - allowed})
    assert stopped(findings(frame, "margin", task="regression")) == {"scored", "allowed"}


@pytest.mark.parametrize("transform", [lambda y: y * 2 + 1, lambda y: np.exp(y), lambda y: -y])
def test_a_transform_of_a_numeric_target_is_stopped(transform: Callable[[np.ndarray], np.ndarray]) -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(size=300)
    frame = pl.DataFrame({"copy": transform(y), "x": rng.normal(size=300), "y": y})
    found = findings(frame, "y", task="regression")
    assert stopped(found) == {"copy"}
    assert found[0].kind == "target_copy"


def test_a_copy_of_the_target_in_words_is_stopped_even_in_sixty_rows() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 60)
    frame = pl.DataFrame({"label": [f"class {v}" for v in y], "x": rng.normal(size=60), "y": y})
    found = findings(frame, "y", task="multiclass")
    assert [finding.kind for finding in found if finding.severity == "blocking"] == ["target_copy"]


def test_words_that_decide_the_target_are_stopped() -> None:
    rng = np.random.default_rng(3)
    player = rng.integers(0, 60, 3000)
    frame = pl.DataFrame({"player": [f"p{v}" for v in player], "x": rng.normal(size=3000), "y": player % 2})
    assert stopped(findings(frame, "y")) == {"player"}


@pytest.mark.parametrize(
    ("name", "task"),
    [("breast_cancer", "binary"), ("wine", "multiclass"), ("iris", "multiclass"), ("diabetes", "regression")],
)
def test_honest_data_passes(name: str, task: Task) -> None:
    bunch = getattr(datasets, f"load_{name}")()
    columns = {f"x{k}": column for k, column in enumerate(bunch.data.T)}
    assert stopped(findings(pl.DataFrame(columns | {"y": bunch.target}), "y", task=task)) == set()


def test_a_strong_but_noisy_feature_passes() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=4000)
    frame = pl.DataFrame({"x": x, "z": rng.normal(size=4000), "y": (x + rng.normal(size=4000) * 0.3 > 0).astype(int)})
    assert stopped(findings(frame, "y")) == set()


def test_missing_values_and_constants_do_not_disturb_the_check() -> None:
    rng = np.random.default_rng(5)
    frame = pl.DataFrame(
        {
            "gaps": [None if x < 0 else x for x in rng.normal(size=500)],
            "empty": pl.Series([None] * 500, dtype=pl.Float64),
            "constant": [1.0] * 500,
            "word": pl.Series([None] * 500, dtype=pl.String),
            "y": rng.integers(0, 2, 500),
        }
    )
    assert findings(frame, "y") == []


def test_the_score_without_a_leak_is_what_is_left() -> None:
    rng = np.random.default_rng(6)
    y = rng.integers(0, 2, 1000)
    frame = pl.DataFrame({"leak": y * 3, "noise": rng.normal(size=1000), "y": y})
    sample = draw(frame, y, "binary", 2, seed=0)
    assert score_of(sample, ["leak", "noise"]) == pytest.approx(1.0)
    left = score_of(sample, ["noise"])
    assert left is not None
    assert left < 0.6
    assert score_of(sample, []) is None


def test_a_leak_among_a_thousand_columns_is_stopped() -> None:
    rng = np.random.default_rng(7)
    y = rng.integers(0, 2, 400)
    frame = pl.DataFrame({f"x{k}": rng.normal(size=400) for k in range(1000)})
    frame = frame.with_columns(known_late=pl.Series(y + rng.uniform(size=400) * 0.5), y=pl.Series(y))
    assert stopped(findings(frame, "y")) == {"known_late"}


def test_a_strong_feature_of_a_rare_class_is_no_leak_and_noise_beside_it_no_pair() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(20_000, 3))
    y = (x[:, 0] + rng.normal(size=20_000) * 0.3 > 2.9).astype(int)  # about 1 in 300
    frame = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": y})
    assert stopped(findings(frame, "y")) == set()


def test_a_leak_of_a_rare_class_is_stopped() -> None:
    rng = np.random.default_rng(9)
    y = (rng.uniform(size=20_000) < 0.005).astype(int)
    frame = pl.DataFrame({"refund": y * rng.uniform(1, 2, 20_000), "x": rng.normal(size=20_000), "y": y})
    assert stopped(findings(frame, "y")) == {"refund"}


def test_a_target_of_a_regression_with_a_trace_of_noise_is_stopped() -> None:
    rng = np.random.default_rng(5)
    y = rng.normal(size=1500)
    frame = pl.DataFrame({"echo": y + 0.01 * rng.normal(size=1500), "honest": y + rng.normal(size=1500), "y": y})
    assert stopped(findings(frame, "y", task="regression")) == {"echo"}
