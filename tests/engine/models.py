"""Small fitted pipelines of every kind, for tests of what is done with a model after its training."""

import warnings
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier, VotingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline

from mcp_server.engine.boosting import PACKAGES, import_booster
from mcp_server.engine.estimators import FAMILIES, Building
from mcp_server.engine.predictions import Signature
from mcp_server.engine.preprocessing import describe_inputs, encode_target, model_input, preprocessor
from mcp_server.errors import FailedPreconditionError

FEATURES = ["elo", "rest", "team", "neutral", "played"]
TARGETS = {"binary": "won", "multiclass": "outcome", "regression": "margin"}
SMALL: dict[str, dict[str, Any]] = {
    "random_forest": {"n_estimators": 5, "max_depth": 4},
    "extra_trees": {"n_estimators": 5, "max_depth": 4},
    "hist_gradient_boosting": {"max_iter": 5},
    "mlp": {"hidden_layers": "8"},
    "lightgbm": {"n_estimators": 5},
    "xgboost": {"n_estimators": 5},
}


@cache
def games(rows: int = 150, seed: int = 0) -> pl.DataFrame:
    """Return rows with every kind of column, some values missing."""
    rng = np.random.default_rng(seed)
    elo = rng.normal(0, 100, rows)
    margin = elo / 20 + rng.normal(0, 10, rows)
    days = pl.date_range(pl.date(2010, 1, 1), pl.date(2010, 1, 1) + pl.duration(days=rows - 1), eager=True)
    frame = pl.DataFrame(
        {
            "elo": elo,
            "rest": rng.integers(0, 4, rows),
            "team": rng.choice(["BOS", "CHI", "LAL"], rows),
            "neutral": rng.random(rows) > 0.8,
            "played": days,
            "margin": margin,
            "won": margin > 0,
            "outcome": np.where(margin > 8, "rout", np.where(margin > 0, "win", "loss")),
        }
    )
    gap = pl.int_range(pl.len()) % 17 == 3
    return frame.with_columns(
        *(pl.when(gap).then(None).otherwise(pl.col(name)).alias(name) for name in ("elo", "team", "neutral", "played"))
    )


def fitted(estimator: Any, style: Any, task: str) -> tuple[Pipeline, Signature]:
    """Return a pipeline around `estimator` fitted on `games`, and what it takes."""
    frame = games()
    inputs = describe_inputs(frame, FEATURES)
    target, classes = encode_target(frame[TARGETS[task]], task)
    pipeline = Pipeline([("prepare", preprocessor(inputs, style)), ("model", estimator)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the models here are small, not good
        pipeline.fit(model_input(frame, inputs), target)
    return pipeline, Signature(inputs, TARGETS[task], task, classes)


def need_booster(name: str) -> None:
    """Skip the test where `name` is an extra that cannot be used here; says why."""
    if name in PACKAGES:
        try:
            import_booster(name)
        except FailedPreconditionError as refusal:
            pytest.skip(refusal.message)


def family(name: str, task: Any) -> tuple[Pipeline, Signature]:
    """Return a fitted pipeline of a family of estimators."""
    need_booster(name)
    kind = FAMILIES[name]
    params = {parameter.name: parameter.default for parameter in kind.space} | SMALL.get(name, {})
    return fitted(kind.build(params, Building(task, 0, 150)), kind.style, task)


def ensembles(task: str) -> dict[str, Any]:
    """Return unfitted ensembles and calibrated models for a task."""
    if task == "regression":
        members = [("linear", Ridge()), ("other", Ridge(alpha=10.0))]
        return {"voting": VotingRegressor(members), "stacking": StackingRegressor(members, cv=2)}
    members = [("linear", LogisticRegression()), ("bayes", GaussianNB())]
    forest = FAMILIES["random_forest"].build(SMALL["random_forest"], Building("binary", 0, 150))
    return {
        "voting": VotingClassifier(members, voting="soft"),
        "stacking": StackingClassifier(members, cv=2),
        "sigmoid": CalibratedClassifierCV(forest, method="sigmoid", cv=2),
        "isotonic": CalibratedClassifierCV(LogisticRegression(), method="isotonic", cv=2, ensemble=False),
    }
