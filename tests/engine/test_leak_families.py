"""Planted leaks of every shape are stopped or warned of; honest tables, noise-free ones too, are let through."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import datasets

from tests.engine.test_leakage import findings, stopped, warned

N_ROWS = 1500
Planted = dict[str, Any]
Plant = Callable[[np.random.Generator, Any, Any], Planted]  # noise, target, what is behind it


def table(seed: int, task: str) -> tuple[np.random.Generator, pl.DataFrame, Any, Any]:
    """Return honest features x0 to x3 with a noisy target, which they do not decide."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N_ROWS, 4))
    behind = x[:, 0] + 0.5 * x[:, 1] - 0.4 * x[:, 2] + rng.normal(size=N_ROWS)
    y = {"regression": behind, "binary": (behind > 0).astype(int)}.get(task, np.digitize(behind, [-1, 0, 1]))
    return rng, pl.DataFrame({f"x{i}": x[:, i] for i in range(4)} | {"y": y}), y, behind


def pair(first: Any, second: Any) -> Planted:
    return {"before": first, "leak": second}


def days(since: Any) -> Any:
    return np.datetime64("2020-01-01", "D") + since.astype("timedelta64[D]")


CERTAIN: dict[str, tuple[str, Plant]] = {
    "a copy": ("binary", lambda r, y, z: {"leak": y}),
    "the opposite": ("binary", lambda r, y, z: {"leak": 1 - y}),
    "other words": ("binary", lambda r, y, z: {"leak": np.where(y == 1, "won", "lost")}),
    "many words": ("binary", lambda r, y, z: {"leak": [f"{'w' if v else 'l'}{r.integers(15)}" for v in y]}),
    "a noisy copy": ("binary", lambda r, y, z: {"leak": y + 0.05 * r.normal(size=N_ROWS)}),
    "what is behind it": ("binary", lambda r, y, z: {"leak": np.exp(z)}),
    "being filled": ("binary", lambda r, y, z: {"leak": np.where(y == 1, r.normal(size=N_ROWS), np.nan)}),
    "a difference": ("binary", lambda r, y, z: pair(a := 3 * r.normal(size=N_ROWS), a + 0.1 * z)),
    "a sum": ("binary", lambda r, y, z: pair(a := 3 * r.normal(size=N_ROWS), z - a)),
    "a ratio": ("binary", lambda r, y, z: pair(a := np.exp(r.normal(size=N_ROWS)), a * np.exp(z))),
    "rows numbered by class": ("binary", lambda r, y, z: {"leak": np.argsort(np.argsort(y, kind="stable"))}),
    "a date that is set by the outcome": (
        "binary",
        lambda r, y, z: pair(a := days(r.integers(0, 700, N_ROWS)), a + np.timedelta64(30, "D") * y),
    ),
    "values scaled": ("regression", lambda r, y, z: {"leak": 3 * y + 1}),
    "values in logarithms": ("regression", lambda r, y, z: {"leak": np.exp(y)}),
    "values as text": ("regression", lambda r, y, z: {"leak": [f" {v:.3f}" for v in y]}),
    "values rounded": ("regression", lambda r, y, z: {"leak": np.floor(y * 10)}),
    "values with a trace of noise": ("regression", lambda r, y, z: {"leak": y + 0.01 * r.normal(size=N_ROWS)}),
    "the square of values": ("regression", lambda r, y, z: {"leak": y**2}),
    "deciles of values": (
        "regression",
        lambda r, y, z: {"leak": np.digitize(y, np.quantile(y, np.linspace(0.1, 0.9, 9)))},
    ),
    "the sign of values": ("regression", lambda r, y, z: {"leak": np.sign(y)}),
    "values as low and high": ("regression", lambda r, y, z: {"leak": np.where(y < -1, "low", "high")}),
    "values by difference": ("regression", lambda r, y, z: pair(a := 3 * r.normal(size=N_ROWS), a + y)),
    "values by ratio": ("regression", lambda r, y, z: pair(a := np.exp(r.normal(size=N_ROWS)), a * np.exp(y))),
    "parts of a sum": (
        "regression",
        lambda r, y, z: {"q1": (a := r.normal(size=N_ROWS)), "q2": (b := r.normal(size=N_ROWS)), "leak": y - a - b},
    ),
}
SUSPECT: dict[str, tuple[str, Plant]] = {
    "a copy with one in a hundred wrong": (
        "binary",
        lambda r, y, z: {"leak": np.where(r.random(N_ROWS) < 0.01, 1 - y, y)},
    ),
    "kinds of classes": ("multiclass", lambda r, y, z: {"leak": y // 2}),
    "exclusive or": ("binary", lambda r, y, z: pair(a := r.integers(0, 2, N_ROWS), a ^ y)),
}


def planted(shape: str, seed: int) -> tuple[list[Any], set[str]]:
    task, plant = (CERTAIN | SUSPECT)[shape]
    rng, frame, y, behind = table(seed, task)
    columns = plant(rng, y, behind)
    leaking = frame.with_columns(pl.Series(name, values, strict=False) for name, values in columns.items())
    return findings(leaking, "y", task=task), set(columns)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", CERTAIN)
def test_a_certain_leak_is_stopped_and_nothing_else(shape: str, seed: int) -> None:
    found, names = planted(shape, seed)
    assert stopped(found) & names
    assert stopped(found) <= names


@pytest.mark.parametrize("shape", SUSPECT)
def test_what_may_be_a_leak_is_warned_of(shape: str) -> None:
    found, names = planted(shape, seed=0)
    assert not stopped(found)
    assert warned(found) & names


def of_many(rng: np.random.Generator, n_features: int, function: Callable[[Any], Any]) -> pl.DataFrame:
    x = rng.uniform(-1, 1, size=(2000, n_features))
    return pl.DataFrame({f"x{i}": x[:, i] for i in range(n_features)} | {"y": function(x)})


def strong(rng: np.random.Generator, strength: float) -> pl.DataFrame:
    x = rng.normal(size=(2000, 5))
    y = rng.random(2000) < 1 / (1 + np.exp(-strength * x[:, 0]))
    return pl.DataFrame({f"x{i}": x[:, i] for i in range(5)} | {"y": y.astype(int)})


def rings(rng: np.random.Generator) -> pl.DataFrame:
    y, angle = rng.integers(0, 2, 2000), rng.uniform(0, 2 * np.pi, 2000)
    radius = np.where(y == 1, 1, 2) + rng.normal(0, 0.15, 2000)
    return pl.DataFrame({"u": radius * np.cos(angle), "v": radius * np.sin(angle), "y": y})


def waves(x: Any) -> Any:
    return np.sin(3 * x).sum(axis=1) + x[:, 0] * x[:, 1]


def friedman(x: Any) -> Any:
    return 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]


HONEST: dict[str, tuple[str, Callable[[np.random.Generator], pl.DataFrame]]] = {
    "one strong feature": ("binary", lambda r: strong(r, 4.0)),
    "one very strong feature": ("binary", lambda r: strong(r, 8.0)),
    "a sum of waves without noise": ("regression", lambda r: of_many(r, 6, waves)),
    "its sign": ("binary", lambda r: of_many(r, 6, lambda x: (waves(x) > 0).astype(int))),
    "a plane without noise": ("regression", lambda r: of_many(r, 6, lambda x: x @ np.arange(1, 7))),
    "Friedman's function without noise": ("regression", lambda r: of_many(r, 8, friedman)),
    "signs of a product": ("binary", lambda r: of_many(r, 4, lambda x: (x[:, 0] * x[:, 1] > 0).astype(int))),
    "two rings": ("binary", rings),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_table_is_not_stopped(kind: str, seed: int) -> None:
    task, make = HONEST[kind]
    assert not stopped(findings(make(np.random.default_rng(seed)), "y", task=task))


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("iris", "multiclass"),
        ("wine", "multiclass"),
        ("breast_cancer", "binary"),
        ("diabetes", "regression"),
        ("digits", "multiclass"),
    ],
)
def test_a_well_known_table_is_not_stopped(name: str, task: str) -> None:
    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    assert not stopped(findings(pl.from_pandas(frame).rename({"target": "y"}), "y", task=task))
