"""The tables of the training benchmark: four of scikit-learn, two made from a seed, and the games where they are."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from sklearn import datasets

GAMES = Path(__file__).parents[2] / "shared" / "data" / "nba_games_1947_2015.csv"
ROWS = 20_000


class Problem(NamedTuple):
    """A table with its column `target`; `split` is what `train_model` is given."""

    frame: pl.DataFrame
    task: str
    split: Mapping[str, Any]


def _of_sklearn(load: Callable[..., Any], task: str) -> Problem:
    matrix, truth = load(return_X_y=True)
    frame = pl.DataFrame(matrix, schema=[f"x{n}" for n in range(matrix.shape[1])])
    return Problem(frame.with_columns(target=pl.Series(truth)), task, {})


def california_like(seed: int = 0) -> Problem:
    """Return a regression of house values on eight numbers, among them a place on a map."""
    rng = np.random.default_rng(seed)
    income, age = rng.lognormal(1.2, 0.45, ROWS), rng.integers(1, 53, ROWS).astype(float)
    rooms, people = rng.lognormal(1.6, 0.3, ROWS), rng.lognormal(1.0, 0.3, ROWS)
    latitude, longitude = rng.uniform(32.5, 42, ROWS), rng.uniform(-124.3, -114.3, ROWS)
    coast = np.exp(-np.abs(longitude + 119 + 0.8 * (latitude - 36)) / 1.5)
    value = 0.45 * income + 1.4 * coast + 0.06 * rooms - 0.25 * np.log(people) + 0.004 * age + 0.15 * income * coast
    frame = {"income": income, "age": age, "rooms": rooms, "bedrooms": rooms * rng.uniform(0.15, 0.3, ROWS)}
    frame |= {"population": rng.lognormal(7, 0.7, ROWS), "people": people, "lat": latitude, "lon": longitude}
    target = np.minimum(value * rng.lognormal(0, 0.2, ROWS), 6.0)
    return Problem(pl.DataFrame(frame | {"target": target}), "regression", {})


def adult_like(seed: int = 0) -> Problem:
    """Return a yes-or-no question, a quarter yes, on mixed columns with gaps."""
    rng = np.random.default_rng(seed)
    age, hours = rng.integers(17, 80, ROWS), np.clip(rng.normal(40, 12, ROWS), 1, 99).round()
    school = rng.integers(1, 17, ROWS)
    gain = np.where(rng.uniform(size=ROWS) < 0.08, rng.lognormal(8, 1.2, ROWS), 0).round()
    work = rng.choice(["private", "self", "state", "federal"], ROWS, p=[0.72, 0.12, 0.1, 0.06])
    family = rng.choice(["married", "single", "divorced", "widowed"], ROWS, p=[0.46, 0.33, 0.17, 0.04])
    job = rng.integers(0, 14, ROWS)
    log_odds = -6.2 + 0.3 * school + 2.1 * (family == "married") + 0.02 * (hours - 40) + rng.normal(0, 0.6, 14)[job]
    log_odds += -0.0018 * (age - 48.0) ** 2 + 0.6 + 0.5 * (work == "federal") + 1.2 * (gain > 5000)
    yes = rng.uniform(size=ROWS) < 1 / (1 + np.exp(-log_odds))
    names = pl.Series([f"job{n}" for n in job])
    frame = pl.DataFrame({"age": age, "hours": hours, "school": school, "gain": gain, "work": work, "family": family})
    frame = frame.with_columns(job=names, target=pl.Series(yes.astype(int)))
    gaps = [
        pl.when(pl.Series(rng.uniform(size=ROWS) < 0.06)).then(None).otherwise(pl.col(name)).alias(name)
        for name in ("work", "job", "hours")
    ]
    return Problem(frame.with_columns(gaps), "binary", {})


def games() -> Problem:
    """Return what is known before a game and how it ended; the last fifth of the games is held out."""
    known = ["elo_i", "opp_elo_i", "forecast", "game_location", "is_playoffs"]
    table = pl.read_csv(GAMES, infer_schema_length=None)
    frame = table.select([name for name in known if name in table.columns] + ["gameorder", "game_result"])
    frame = frame.rename({"game_result": "target"})
    return Problem(frame, "binary", {"kind": "time", "column": "gameorder", "test_size": 0.2})


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "breast cancer": lambda: _of_sklearn(datasets.load_breast_cancer, "binary"),
    "wine": lambda: _of_sklearn(datasets.load_wine, "multiclass"),
    "diabetes": lambda: _of_sklearn(datasets.load_diabetes, "regression"),
    "digits": lambda: _of_sklearn(datasets.load_digits, "multiclass"),
    "California-like": california_like,
    "adult-like": adult_like,
    "games": games,
}
