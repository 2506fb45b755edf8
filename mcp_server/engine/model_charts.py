"""Charts of what a model says, as data: nothing is drawn here. Points beyond 200 a line are thinned evenly."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mcp_server.engine.charts import Bars, Confusion, Curves, Histogram, Line, Pairs

MAX_POINTS = 200
MAX_DOTS = 500
MAX_CLASSES = 20
MAX_BARS = 20
_VALUES = 15
_BINS = 30
_UNIT = (0.0, 1.0, 0.0, 1.0)

Floats = NDArray[np.float64]


def roc_chart(truth: Mapping[str, ArrayLike] | ArrayLike, scores: Mapping[str, ArrayLike]) -> Curves:
    """Return the receiver operating characteristic of each named score.

    Args:
        truth: shape (n,), 1 for the positive class and 0 for the other; by name where the scores differ in it.
        scores: name to shape (n,), higher meaning more likely positive.

    Source: Fawcett, Pattern Recognition Letters (2006).
    """
    lines, areas = [Line("", [0, 1], [0, 1], "guide")], {}
    for name, score in scores.items():
        positive = _positive(truth, name)
        if positive.all() or not positive.any():
            continue
        false, true = _roc_points(positive, _floats(score))
        areas[name] = float(np.trapezoid(true, false))
        at = _thinned(len(false))
        lines.append(Line(f"{name} (AUC {areas[name]:.3f})", _list(false[at]), _list(true[at])))
    return Curves(
        lines if areas else [],
        "ROC curve",
        "false positive rate",
        "true positive rate",
        limits=_UNIT,
        words=f"ROC curve, area under it: {_figures(areas)}." if areas else "",
        note="The dotted line is what guessing gives.",
        square=True,
    )


def precision_recall_chart(truth: Mapping[str, ArrayLike] | ArrayLike, scores: Mapping[str, ArrayLike]) -> Curves:
    """Return precision against recall of each named score, with its average precision.

    Args:
        truth: as for `roc_chart`.
        scores: name to shape (n,), higher meaning more likely positive.

    Source: Davis and Goadrich, ICML (2006); the mean as scikit-learn has it, without interpolation.
    """
    lines, means, shares = [], {}, {}
    for name, score in scores.items():
        positive = _positive(truth, name)
        if not positive.any():
            continue
        order, ends = _ends_of_ties(_floats(score))
        hits = np.cumsum(positive[order])[ends]
        precision, recall = hits / (1 + ends), hits / positive.sum()
        means[name] = float(np.sum(np.diff(recall, prepend=0.0) * precision))
        shares[name] = float(positive.mean())
        at = _thinned(len(recall))
        x, y = np.append(0.0, recall[at]), np.append(precision[0], precision[at])
        lines.append(Line(f"{name} (mean {means[name]:.3f})", _list(x), _list(y)))
    share = next(iter(shares.values()), 0.0)
    guide = [Line("", [0, 1], [share, share], "guide")] if len(set(shares.values())) == 1 else []
    return Curves(
        [*guide, *lines],
        "Precision and recall",
        "recall",
        "precision",
        limits=_UNIT,
        words=f"Precision against recall, average precision: {_figures(means)}." if means else "",
        note=f"The dotted line is the share of the class, {share:.3f}." if guide else "",
        square=True,
    )


def calibration_chart(bins: Mapping[str, Sequence[tuple[float, float]]]) -> Curves:
    """Return the observed share against the forecast, one line a name.

    Args:
        bins: name to (mean forecast, observed share) of each bin.
    """
    lines = [Line(name, [x for x, _ in points], [y for _, y in points], "marked") for name, points in bins.items()]
    gaps = {name: max((abs(x - y) for x, y in points), default=0.0) for name, points in bins.items()}
    return Curves(
        [Line("", [0, 1], [0, 1], "guide"), *lines] if any(bins.values()) else [],
        "Calibration",
        "forecast probability",
        "observed share",
        limits=_UNIT,
        words=f"Observed share against forecast, largest gap of a bin: {_figures(gaps)}.",
        note="On the dotted line forecasts come true as often as they say.",
        square=True,
    )


def residual_charts(truth: ArrayLike, predicted: ArrayLike, seed: int = 0) -> list[Curves | Histogram]:
    """Return predicted against observed by tenth of the forecast, residuals against forecasts, and their distribution.

    None of them where the values are too large for their differences to be numbers.

    Args:
        truth: shape (n,), in the unit of the target.
        predicted: shape (n,), in the same unit.
        seed: draws the rows that are shown, where there are more than 500.
    """
    actual, said = _floats(truth), _floats(predicted)
    largest = max(float(np.abs(actual).max(initial=0.0)), float(np.abs(said).max(initial=0.0)))
    if not said.size or not largest < np.finfo(np.float64).max / 1e6:
        return []
    left = actual - said
    edges = np.unique(np.quantile(said, np.linspace(0, 1, 11)))
    place = np.clip(np.searchsorted(edges, said, side="right") - 1, 0, max(len(edges) - 2, 0))
    groups = [place == k for k in np.unique(place)]
    means = Line("", [float(said[g].mean()) for g in groups], [float(actual[g].mean()) for g in groups], "marked")
    ends = [means.x[0], means.x[-1]]
    shown = np.sort(np.random.default_rng(seed).permutation(len(said))[:MAX_DOTS])
    across = [float(said.min()), float(said.max())]
    counts, ranges = np.histogram(left, _BINS)
    spread = f"median {np.median(left):.4g}, middle half {np.quantile(left, 0.25):.4g} to {np.quantile(left, 0.75):.4g}"
    return [
        Curves(
            [Line("", ends, ends, "guide"), means],
            "Predicted and observed, by tenth of the forecast",
            "mean predicted",
            "mean observed",
            words=f"Mean observed against mean predicted in {len(groups)} groups of rows: "
            f"{_pairs_told(means)}. On the dotted line they are equal.",
        ),
        Curves(
            [Line("", across, [0, 0], "guide"), Line("", _list(said[shown]), _list(left[shown]), "points")],
            "Residuals and forecasts",
            "predicted",
            "observed minus predicted",
            words=f"Residuals of {len(shown)} held-out rows against their forecasts: {spread}.",
            note=f"{len(shown):,} of {len(said):,} rows, drawn at random." if len(shown) < len(said) else "",
        ),
        Histogram(_list(ranges), counts.tolist(), "Residuals", "observed minus predicted", spread),
    ]


def confusion_chart(counts: ArrayLike, labels: Sequence[str]) -> Confusion:
    """Return the counts; beyond 20 classes the smallest are one.

    Args:
        counts: shape (k, k), rows are true classes.
        labels: k names.
    """
    cells, names = np.asarray(counts, dtype=np.int64), list(labels)
    note = ""
    if len(names) > MAX_CLASSES:
        kept = np.sort(np.argsort(-cells.sum(axis=1), kind="stable")[: MAX_CLASSES - 1])
        place = np.full(len(names), len(kept))
        place[kept] = np.arange(len(kept))
        merged = np.zeros((len(kept) + 1, len(kept) + 1), dtype=np.int64)
        np.add.at(merged, (place[:, None], place[None, :]), cells)
        note = f"The {len(names) - len(kept)} smallest classes are one."
        names, cells = [*(names[k] for k in kept), "(others)"], merged
    return Confusion(cells.tolist(), names, "True classes and what was said", note)


def importance_chart(names: Sequence[str], values: Sequence[float], unit: str) -> Bars:
    """Return the leading features; the first stands on top."""
    return Bars(list(names), list(values), "What the model looks at", unit)


def search_chart(scores: Sequence[float | None], best: Sequence[float | None], metric: str) -> Curves:
    """Return the score of every trial and the best so far, in the order they were made."""
    at = [float(k + 1) for k in range(len(scores))]
    return Curves(
        [Line("trial", at, list(scores), "points"), Line("best so far", at, list(best))],
        "Trials of the search",
        "trial",
        f"cross-validated {metric}",
        words=f"{metric} of {len(at)} trials, one after the other, and the best up to each.",
    )


def series_chart(names: Sequence[str], values: Mapping[str, Sequence[float | None]], level: float | None) -> Curves:
    """Return metrics over time, with a dotted line at a level to compare with."""
    at = [float(k) for k in range(len(names))]
    lines = [Line(name, at, list(series), "marked") for name, series in values.items()]
    known = {name: [y for y in series if y is not None] for name, series in values.items()}
    told = "; ".join(f"{name} from {min(ys):.4g} to {max(ys):.4g}" for name, ys in known.items() if ys)
    ends = [0.0, max(float(len(names) - 1), 1.0)]
    guide = [] if level is None else [Line("", ends, [level, level], "guide")]
    return Curves(
        [*guide, *lines] if told else [],
        f"{', '.join(values)} over time",
        y_label=", ".join(values),
        x_names=list(names),
        words=f"In {len(names)} windows: {told}.",
        note="" if level is None else f"The dotted line is {level:.4g}.",
    )


def overlay_chart(
    reference: Sequence[object] | NDArray[np.generic],
    current: Sequence[object] | NDArray[np.generic],
    title: str,
    label: str = "",
    names: tuple[str, str] = ("reference", "current"),
) -> Curves | Pairs:
    """Return the shares of two samples over each other: 30 ranges for numbers, the 15 most frequent values for text.

    Args:
        reference: shape (n,), numbers or text.
        current: shape (m,), the same kind and unit.
        title: shown above.
        label: name of the horizontal axis, with its unit.
        names: what the two samples are called.
    """
    first, second = np.asarray(reference), np.asarray(current)
    if first.dtype.kind not in "biuf" or second.dtype.kind not in "biuf":
        return _values(first, second, title, names)
    a, b = (_floats(sample)[np.isfinite(_floats(sample))] for sample in (first, second))
    lines = []
    if a.size or b.size:
        edges = np.histogram_bin_edges(np.concatenate([a, b]), _BINS)
        for sample, name in zip((a, b), names, strict=True):
            shares = np.histogram(sample, edges)[0] / max(sample.size, 1) * 100
            x, y = np.repeat(edges, 2), np.concatenate([[0.0], np.repeat(shares, 2), [0.0]])
            lines.append(Line(name, _list(x), _list(y), "area"))
    middles = {n: float(np.median(s)) for n, s in zip(names, (a, b), strict=True) if s.size}
    words = f"Distributions of two samples over each other, medians: {_figures(middles)}."
    return Curves(lines, title, label, "rows, %", words=words)


def _values(first: NDArray[np.generic], second: NDArray[np.generic], title: str, names: tuple[str, str]) -> Pairs:
    one, other = _shares(first), _shares(second)
    total = {value: one.get(value, 0.0) + other.get(value, 0.0) for value in (*one, *other)}
    top = sorted(total, key=lambda value: (-total[value], value))[:_VALUES]
    note = f"{len(total) - len(top)} rarer values are not shown." if len(total) > len(top) else ""
    return Pairs(top, [one.get(v, 0.0) for v in top], [other.get(v, 0.0) for v in top], names, title, note)


def _shares(sample: NDArray[np.generic]) -> dict[str, float]:
    known = [str(value) for value in sample.tolist() if value is not None and value == value]
    values, counts = np.unique(np.asarray(known, dtype=object).astype(str), return_counts=True)
    return {str(value): float(count) / len(known) * 100 for value, count in zip(values, counts, strict=True)}


def _positive(truth: Mapping[str, ArrayLike] | ArrayLike, name: str) -> NDArray[np.bool_]:
    positive: NDArray[np.bool_] = _floats(truth[name] if isinstance(truth, Mapping) else truth) == 1
    return positive


def _ends_of_ties(score: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows from the highest score on, and the last place of each distinct score among them."""
    order = np.argsort(-score, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)


def _roc_points(positive: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats]:
    """Return the false and true positive rates at each distinct score, from the strictest."""
    order, ends = _ends_of_ties(score)
    true = np.cumsum(positive[order])[ends]
    false = 1 + ends - true
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])


def _thinned(n: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, n - 1, min(n, MAX_POINTS)).round().astype(np.int64))


def _pairs_told(line: Line) -> str:
    return ", ".join(f"{x:.4g} → {y:.4g}" for x, y in zip(line.x, line.y, strict=True) if y is not None)


def _figures(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _list(values: NDArray[np.generic]) -> list[float]:
    return [round(float(value), 12) for value in values.tolist()]


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)
