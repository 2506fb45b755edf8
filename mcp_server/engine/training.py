"""One trial: what the worker hands to a child process and gets back as JSON.

The child reads the dataset's Parquet file itself, because a process that can be killed is given plain JSON. This
file imports little: every trial pays for it.
"""

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from mcp_server.engine.dask_backend import cluster_for
from mcp_server.engine.estimators import COLUMN_PREFIX, Building
from mcp_server.engine.metrics import METRICS, Floats, Metric, Task, Truth, decided, score
from mcp_server.engine.pipelines import Trial, fit_trial, predict_output
from mcp_server.engine.preprocessing import InputColumn, encode_target, model_input
from mcp_server.engine.splits import Rows, Split, folds, split_rows
from mcp_server.engine.thresholds import choose_threshold, chooses_threshold
from mcp_server.errors import LifecycleError, UnavailableError

REFERENCE_ROWS = 5000
PREDICTION = "prediction"
_FEWEST_ROWS = 500
_PRUNE_FROM_FOLD = 2


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """What the fits of one training share; its JSON is part of the plan.

    Attributes:
        features: names, as the model takes them.
        inputs: the same columns, described from the training part.
        column_inputs: columns that are estimators themselves (`column:NAME`).
        classes: labels in the order of their codes; empty for regression.
        baselines: columns that are scored beside the model.
    """

    task: Task
    target: str
    features: list[str]
    inputs: list[InputColumn]
    column_inputs: list[InputColumn]
    classes: list[Any]
    metric: str
    split: Split
    cv: int
    class_weight: str | None
    baselines: list[str]
    seed: int

    def to_document(self) -> dict[str, Any]:
        """Return the specification as JSON."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "TrainingSpec":
        """Rebuild a specification from `to_document`."""
        inputs = [InputColumn(**column) for column in document["inputs"]]
        own = [InputColumn(**column) for column in document["column_inputs"]]
        return cls(**{**document, "inputs": inputs, "column_inputs": own, "split": Split(**document["split"])})

    def columns(self) -> list[str]:
        """Return the columns that a fit reads, each once."""
        of_split = [self.split.column] if self.split.column else []
        own = [column.name for column in self.column_inputs]
        return list(dict.fromkeys([*self.features, self.target, *self.baselines, *own, *of_split]))

    def inputs_of(self, estimator: str) -> list[InputColumn]:
        """Return the columns that a model of this estimator takes."""
        own = [column for column in self.column_inputs if f"{COLUMN_PREFIX}{column.name}" == estimator]
        return own or self.inputs


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Labelled rows with their target coded and the held-out part set aside."""

    frame: pl.DataFrame
    truth: Truth
    train: Rows
    test: Rows


def labelled(frame: pl.DataFrame, target: str) -> pl.DataFrame:
    """Return the rows that have a target."""
    column = pl.col(target)
    known = column.is_not_null()
    if frame.schema[target].is_float():
        known &= column.is_not_nan()
    return frame.filter(known)


def divide(frame: pl.DataFrame, spec: TrainingSpec) -> TrainingRows:
    """Divide labelled rows by the recipe: the same frame and recipe give the same parts."""
    truth, _ = encode_target(frame[spec.target], spec.task, spec.classes or None)
    column = frame[spec.split.column] if spec.split.column else None
    train, test = split_rows(spec.split, column, truth, classes=spec.task != "regression", seed=spec.seed)
    return TrainingRows(frame, truth, train, test)


def read_rows(path: str, spec: TrainingSpec) -> TrainingRows:
    """Read the columns a fit needs from the Parquet file at `path`."""
    return divide(labelled(pl.read_parquet(path, columns=spec.columns()), spec.target), spec)


@lru_cache(maxsize=1)
def _kept_rows(path: str, spec: str) -> TrainingRows:
    """Return the rows as `read_rows` does; the next trial of the same search in this process finds them read."""
    return read_rows(path, TrainingSpec.from_document(json.loads(spec)))


def cross_validate(
    trial: Trial,
    spec: TrainingSpec,
    rows: TrainingRows,
    share: float = 1.0,
    prune_at: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Return `score`, `score_std`, `fold_scores`, `notes` and `pruned` of `trial` on folds inside the training part.

    Args:
        share: of the training rows and of the folds to use; few rows are not divided further.
        prune_at: the mean score, up to each fold, that a trial must have reached once to go on.

    Raises:
        LifecycleError: the trial cannot be made.
        ValueError: scikit-learn refused the data or the parameters.
    """
    metric = METRICS[spec.metric]
    inputs = spec.inputs_of(trial.estimator)
    matrix = model_input(rows.frame[rows.train], inputs)
    truth = rows.truth[rows.train]
    column = rows.frame[spec.split.column][rows.train] if spec.split.column else None
    scores: list[float | None] = []
    notes: list[str] = []
    said: list[tuple[Rows, Floats]] = []
    by_threshold = chooses_threshold(metric, len(spec.classes))
    classes = spec.task != "regression"
    n_folds = spec.cv if share == 1.0 else max(2, round(spec.cv * share))
    for whole, held in itertools.islice(
        folds(spec.split, column, truth, spec.cv, classes=classes, seed=spec.seed), n_folds
    ):
        fit = _part_of(whole, share, spec.seed)
        building = Building(spec.task, spec.seed, len(fit), spec.class_weight, matrix.shape[1])
        pipeline, heard = fit_trial(trial, inputs, matrix.iloc[fit], truth[fit], building)
        output = predict_output(pipeline, matrix.iloc[held], len(spec.classes))
        scores.append(score(metric, truth[held], output))
        said.append((held, output))
        notes += heard
        if prune_at is not None and not by_threshold and _is_hopeless(scores, prune_at, metric.higher_is_better):
            return {
                "score": None,
                "score_std": None,
                "fold_scores": scores,
                "notes": sorted(set(notes)),
                "pruned": True,
            }
    if by_threshold:
        scores = _at_own_threshold(metric, truth, said)
    defined = [value for value in scores if value is not None]
    return {
        "score": float(np.mean(defined)) if defined else None,
        "score_std": float(np.std(defined)) if defined else None,
        "fold_scores": scores,
        "notes": sorted(set(notes)),
    }


def _at_own_threshold(metric: Metric, truth: Truth, said: Sequence[tuple[Rows, Floats]]) -> list[float | None]:
    """Return each fold's score with the threshold that is best for all folds: the trial is judged as it would serve."""
    held = np.concatenate([rows for rows, _ in said])
    at = choose_threshold(metric, truth[held].astype(np.int64), np.concatenate([output for _, output in said]))
    return [score(metric, truth[rows], decided(metric, output, at)) for rows, output in said]


def _part_of(fit: Rows, share: float, seed: int) -> Rows:
    """Return a share of the rows of a fold in their order, at least `_FEWEST_ROWS` of them."""
    n_rows = max(int(len(fit) * share), min(len(fit), _FEWEST_ROWS))
    if n_rows >= len(fit):
        return fit
    return np.sort(np.random.default_rng(seed).choice(fit, n_rows, replace=False))


def _is_hopeless(scores: Sequence[float | None], prune_at: Sequence[float], higher_is_better: bool) -> bool:
    """Return True when a trial that has folds left was worse than the median after each fold (but the first)."""
    done = len(scores)
    if done < _PRUNE_FROM_FOLD or done >= len(prune_at) or any(value is None for value in scores):
        return False
    means = np.cumsum(np.array(scores, dtype=float)) / np.arange(1, done + 1)
    limit = prune_at[done - 1]
    return bool(means.max() < limit if higher_is_better else means.min() > limit)


def run_trial_in_child(arguments: dict[str, Any]) -> dict[str, Any]:
    """Cross-validate one trial; a trial that cannot be fitted is an answer with its error.

    Args:
        arguments: `path` of the Parquet file, `spec`, `trial` (with `share` and `prune_at`), and `cluster` where a
            large fit may go to one.

    Raises:
        UnavailableError: the cluster is not there.
    """
    started = time.perf_counter()
    given = dict(arguments["trial"])
    share, prune_at = float(given.pop("share", 1.0)), given.pop("prune_at", None)
    trial = Trial(**given)
    spec = TrainingSpec.from_document(arguments["spec"])
    answer: dict[str, Any] = {"score": None, "score_std": None, "fold_scores": [], "notes": [], "error": None}
    try:
        rows = _kept_rows(arguments["path"], json.dumps(arguments["spec"], sort_keys=True))
        with cluster_for(arguments.get("cluster"), len(rows.train), len(spec.inputs)):
            answer |= cross_validate(trial, spec, rows, share, prune_at)
        if answer["score"] is None and not answer.get("pruned"):
            answer["error"] = f"{spec.metric} is not defined on any fold."
    except UnavailableError:
        raise
    except LifecycleError as refusal:
        answer["error"] = refusal.message
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as refusal:
        answer["error"] = f"{type(refusal).__name__}: {str(refusal)[:300]}"
    return {
        "number": trial.number,
        "estimator": trial.estimator,
        "params": dict(trial.params),
        "members": trial.members,
        "share": share,
        **answer,
        "duration_s": time.perf_counter() - started,
    }
