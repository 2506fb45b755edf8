"""Optuna's side of a search: its sampler, its way to keep a trial, and the rule by which a trial is pruned."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from mcp_server.engine.estimators import Choice, Parameter

if TYPE_CHECKING:
    from mcp_server.engine.search import Search

FAMILY = "estimator"
PRUNE_AFTER = 4


def make_study(
    search: "Search", first: int, families: Sequence[str], history: Sequence[Mapping[str, Any]]
) -> optuna.Study:
    """Return a study that knows the history; nothing outlives the call."""
    seed = (search.seed * 1_000_003 + first) % (2**32)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: optuna.samplers.BaseSampler = (
            optuna.samplers.RandomSampler(seed=seed)
            if search.method == "random"
            else optuna.samplers.TPESampler(
                seed=seed, constant_liar=True, n_startup_trials=max(4, min(10, search.trials // 3))
            )
        )
    study = optuna.create_study(sampler=sampler, direction="maximize" if search.higher_is_better else "minimize")
    if search.method == "bayesian":
        for result in history:
            if result["estimator"] in families and result.get("share", 1.0) == 1.0:
                study.add_trial(frozen_trial(search, families, result))
    return study


def frozen_trial(search: "Search", families: Sequence[str], result: Mapping[str, Any]) -> optuna.trial.FrozenTrial:
    """Return a trial that ended as Optuna keeps one; a fold is a step, valued by the mean of the folds so far."""
    name = result["estimator"]
    distributions: dict[str, Any] = {FAMILY: optuna.distributions.CategoricalDistribution(list(families))}
    params: dict[str, Any] = {FAMILY: name}
    for part in search.spaces.get(name, []):
        distributions[f"{name}.{part.name}"] = _distribution(part)
        params[f"{name}.{part.name}"] = result["params"][part.name]
    steps = running_means(result.get("fold_scores", []))
    state = optuna.trial.TrialState.COMPLETE
    if result["score"] is None:
        state = optuna.trial.TrialState.PRUNED if result.get("pruned") else optuna.trial.TrialState.FAIL
    return optuna.trial.create_trial(
        params=params,
        distributions=distributions,
        value=result["score"],
        state=state,
        intermediate_values=dict(enumerate(steps)) if steps else None,
    )


def prune_limits(search: "Search", history: Sequence[Mapping[str, Any]]) -> list[float] | None:
    """Return, by fold, the median of the trials that ended; a trial worse than that at its best so far may stop.

    Source: Optuna's MedianPruner: the median of the intermediate values at the same step of completed trials.
    """
    steps = [
        running_means(result["fold_scores"])
        for result in history
        if result["score"] is not None and result.get("share", 1.0) == 1.0 and not result.get("members")
    ]
    n_folds = max((len(values) for values in steps), default=0)
    whole = [values for values in steps if len(values) == n_folds]
    if n_folds == 0 or len(whole) < PRUNE_AFTER:
        return None
    return [float(value) for value in np.median(np.array(whole), axis=0)]


def running_means(scores: Sequence[float | None]) -> list[float]:
    """Return the mean of the folds up to each one; empty when a fold has no score."""
    if not scores or any(value is None for value in scores):
        return []
    values = np.array(scores, dtype=float)
    return [float(value) for value in np.cumsum(values) / np.arange(1, len(values) + 1)]


def _distribution(part: Parameter) -> Any:
    if part.kind == "choice":
        return optuna.distributions.CategoricalDistribution(part.choices)
    if part.kind == "int":
        return optuna.distributions.IntDistribution(int(part.low), int(part.high), log=part.log)
    return optuna.distributions.FloatDistribution(part.low, part.high, log=part.log)


def suggest(asked: optuna.Trial, name: str, part: Parameter) -> Choice:
    """Return a value of one parameter."""
    value: Choice
    if part.kind == "choice":
        value = asked.suggest_categorical(name, part.choices)
    elif part.kind == "int":
        value = asked.suggest_int(name, int(part.low), int(part.high), log=part.log)
    else:
        value = asked.suggest_float(name, part.low, part.high, log=part.log)
    return value
