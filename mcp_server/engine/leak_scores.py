"""How much columns know of a target: alone, two by two, and many together, measured on a sample.

A score is the area under the ROC curve (its mean of one class against the rest for more than two), or R² for a
regression, on the half of the sample that nothing was fitted on.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mcp_server.engine.metrics import METRICS, Floats, Task, Truth, score
from mcp_server.engine.preprocessing import describe_input, model_input

SAMPLE_ROWS = 5000
_DECIDES_AUC, _DECIDES_PRECISION, _DECIDES_R2 = 0.998, 0.98, 0.999  # nothing honest reached it on real data
_NEARLY_AUC, _NEARLY_PRECISION, _NEARLY_R2 = 0.98, 0.9, 0.98
_PAIRS_SCORED = 40
_CLASSES_LOOKED_AT = 5
_SMOOTHING = 10.0


class Strength(NamedTuple):
    """What columns reach.

    Attributes:
        score: AUC or R².
        decides: the target is all but known; with few of a class the AUC alone says too much, so the average
            precision of the rarer class must be there too.
        nearly: suspiciously close to that.
    """

    score: float
    decides: bool
    nearly: bool


NOTHING = Strength(0.0, False, False)


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows to look at: the first half is fitted on, the second half scored."""

    frame: pl.DataFrame
    truth: Truth
    task: Task
    n_classes: int

    @property
    def half(self) -> int:
        """Where the scored half begins."""
        return len(self.truth) // 2

    @property
    def measure(self) -> str:
        """What a strength's score is."""
        return "R²" if self.task == "regression" else "AUC"


def draw(frame: pl.DataFrame, truth: Truth, task: Task, n_classes: int, seed: int) -> Sample:
    """Return a shuffled sample of the training part."""
    chosen = np.random.default_rng(seed).permutation(len(truth))[:SAMPLE_ROWS]
    return Sample(frame[chosen], truth[chosen], task, n_classes)


def strength(sample: Sample, output: Floats) -> Strength:
    """Return how much `output` knows: probabilities (n, k), or values (n,), of the scored half."""
    truth = sample.truth[sample.half :]
    if sample.task == "regression":
        return _by_r2(max(0.0, score(METRICS["r2"], truth, output) or 0.0))
    area = max(0.0, score(METRICS["roc_auc"], truth, output) or 0.0)
    precisions = [_precision(truth == k, output[:, k]) for k in range(sample.n_classes)]
    known = [value for value in precisions if value is not None]
    combined = min(known, default=0.0) if sample.n_classes == 2 else float(np.mean(known or [0.0]))
    return _by_area(area, combined)


def _by_area(area: float, precision: float) -> Strength:
    decides = area >= _DECIDES_AUC and precision >= _DECIDES_PRECISION
    return Strength(area, decides, decides or (area >= _NEARLY_AUC and precision >= _NEARLY_PRECISION))


def _by_r2(r2: float) -> Strength:
    return Strength(r2, r2 >= _DECIDES_R2, r2 >= _NEARLY_R2)


def _precision(positive: NDArray[np.bool_], values: Floats) -> float | None:
    return score(METRICS["average_precision"], positive.astype(np.int64), np.column_stack([-values, values]))


def alone(sample: Sample, name: str) -> Strength:
    """Return what one column alone reaches: words by their target rates, the rest by a shallow tree."""
    described = describe_input(sample.frame[name])
    if described.kind == "category":
        return _words_alone(sample, name)
    matrix = model_input(sample.frame.select(name), [described]).to_numpy(dtype=np.float64)
    return _tree(sample, matrix)


def _tree(sample: Sample, matrix: Floats) -> Strength:
    half = sample.half
    if sample.task == "regression":
        values = DecisionTreeRegressor(max_depth=8, min_samples_leaf=5, random_state=0)
        stepped = strength(sample, values.fit(matrix[:half], sample.truth[:half]).predict(matrix[half:]))
        # a tree's steps are too coarse for a target with a trace of noise, a line is not
        straight = _lines(sample, {-1: matrix[half:, 0]}) if np.isfinite(matrix[half:]).all() else NOTHING
        return max(stepped, straight)
    classes = DecisionTreeClassifier(max_depth=4, min_samples_leaf=5, random_state=0)
    classes.fit(matrix[:half], sample.truth[:half])
    return strength(sample, _aligned(classes, matrix[half:], sample.n_classes))


def _aligned(model: Any, matrix: Floats, n_classes: int) -> Floats:
    output = np.zeros((len(matrix), n_classes))
    output[:, model.classes_.astype(int)] = model.predict_proba(matrix)
    return output


def _indicators(sample: Sample) -> Floats:
    """Return (n, k): one column a class, or the target itself for regression."""
    if sample.task == "regression":
        return np.asarray(sample.truth, dtype=np.float64)[:, None]
    return np.eye(sample.n_classes)[sample.truth.astype(np.int64)]


def _words_alone(sample: Sample, name: str) -> Strength:
    """Return what the target's rate by word reaches on the other half; rates are drawn to the overall one.

    Source: Micci-Barreca, SIGKDD Explorations 3 (2001).
    """
    half = sample.half
    codes = sample.frame[name].cast(pl.String).rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    wanted = _indicators(sample)
    overall = wanted[:half].mean(axis=0)
    counts = np.bincount(codes[:half], minlength=codes.max() + 1).astype(float)
    sums = np.stack(
        [np.bincount(codes[:half], weights=column[:half], minlength=codes.max() + 1) for column in wanted.T], axis=1
    )
    weight = min(_SMOOTHING, half / max(1, len(np.unique(codes[:half]))) / 10)
    rates = (sums + weight * overall) / (counts + weight)[:, None]
    output = rates[codes[half:]]
    return strength(sample, output[:, 0] if sample.task == "regression" else output)


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return Spearman's correlation, 0 where it is not defined."""
    ranks = [pl.Series(x).rank().to_numpy() for x in (a, b)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.nan_to_num(np.corrcoef(ranks[0], ranks[1])[0, 1]))


def pair_strengths(sample: Sample, values: Floats) -> dict[tuple[int, int], tuple[Strength, float]]:
    """Return what the best line through two columns reaches, and the better of the two by itself.

    Only the most promising pairs are scored. The line is Fisher's: weights from the two columns' correlations, in
    closed form for all pairs at once.

    Args:
        sample: the rows.
        values: shape (n, m), numbers without gaps.
    """
    half = sample.half
    centre, spread = values[:half].mean(axis=0), values[:half].std(axis=0)
    scaled = (values - centre) / np.where(spread > 0, spread, 1.0)
    fitted, held = scaled[:half], scaled[half:]
    between = fitted.T @ fitted / half
    left, right = np.triu_indices(values.shape[1], k=1)
    wanted = _indicators(sample)
    looked_at = np.argsort(-wanted[:half].sum(axis=0))[:_CLASSES_LOOKED_AT] if wanted.shape[1] > 2 else [-1]
    promise, weights = np.zeros(len(left)), {}
    for k in looked_at:
        indicator = wanted[:half, k]
        with_target = fitted.T @ (indicator - indicator.mean()) / half / max(float(indicator.std()), 1e-12)
        r1, r2, r12 = with_target[left], with_target[right], np.clip(between[left, right], -0.999999999, 0.999999999)
        w1, w2 = (r1 - r2 * r12) / (1 - r12**2), (r2 - r1 * r12) / (1 - r12**2)
        promise += r1 * w1 + r2 * w2
        weights[int(k)] = (w1, w2)
    found = {}
    for p in np.argsort(-promise)[:_PAIRS_SCORED]:
        i, j = int(left[p]), int(right[p])
        lines = {k: held[:, i] * w1[p] + held[:, j] * w2[p] for k, (w1, w2) in weights.items()}
        found[(i, j)] = (_lines(sample, lines), max(_single(sample, held[:, c], list(lines)) for c in (i, j)))
    return found


def _lines(sample: Sample, lines: dict[int, Floats]) -> Strength:
    """Return what lines reach: one for each class looked at (-1: the second of two), or one for a regression."""
    truth = sample.truth[sample.half :]
    if sample.task == "regression":
        line = next(iter(lines.values()))
        with np.errstate(invalid="ignore", divide="ignore"):
            return _by_r2(float(np.nan_to_num(np.corrcoef(line, truth)[0, 1]) ** 2))
    areas, precisions = [], []
    for k, line in lines.items():
        positive = truth == (k if k >= 0 else sample.n_classes - 1)
        area = score(METRICS["roc_auc"], positive.astype(np.int64), np.column_stack([-line, line]))
        both = [_precision(positive, line), _precision(~positive, -line)]
        areas.append(area or 0.0)
        precisions.append(min(value or 0.0 for value in both))
    return _by_area(float(np.mean(areas)), float(np.mean(precisions)))


def _single(sample: Sample, column: Floats, classes: list[int]) -> float:
    """Return what a column by itself reaches, whichever way it points for each class."""
    if sample.task == "regression":
        return _lines(sample, {-1: column}).score
    areas = [_lines(sample, {k: column}).score for k in classes]
    return float(np.mean([max(area, 1 - area) for area in areas]))


def forest(sample: Sample, matrix: Floats) -> Strength:
    """Return what a small forest reaches; not boosting, whose threads wait for each other on a busy machine."""
    half = sample.half
    settings: dict[str, Any] = {"n_estimators": 40, "min_samples_leaf": 5, "random_state": 0, "n_jobs": 1}
    if sample.task == "regression":
        values = RandomForestRegressor(**settings).fit(matrix[:half], sample.truth[:half])
        return strength(sample, values.predict(matrix[half:]))
    classes = RandomForestClassifier(**settings).fit(matrix[:half], sample.truth[:half])
    return strength(sample, _aligned(classes, matrix[half:], sample.n_classes))
