"""Which values lie too far out."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, floor
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_server.engine.cleaning.steps import CellEdit, Removal, Step, choice, edit, known_options, numeric, whole
from mcp_server.engine.cleaning.table import Table
from mcp_server.errors import InvalidArgumentError, shown

CLIPPERS = ("iqr", "zscore", "mad")
DROPPERS = (*CLIPPERS, "isolation_forest")
_THRESHOLDS = {"iqr": 1.5, "zscore": 3.0, "mad": 3.5}
_MAD_SCALE = 1.4826  # makes the median absolute deviation of normal values their standard deviation
_FOREST_ROWS = 50_000


def bounds(column: pl.Series, method: str, threshold: object = None) -> tuple[float, float]:
    """Return the least and greatest value that is not an outlier; infinite where the column does not vary.

    Args:
        column: numbers; missing and infinite values are left out.
        method: `iqr` (quartiles ± threshold × their distance), `zscore` (mean ± threshold × deviation), `mad` (median
            ± threshold × scaled median absolute deviation).
        threshold: positive; default 1.5, 3.0 and 3.5.

    Raises:
        InvalidArgumentError: the threshold is no positive number.

    Source: Tukey, Exploratory Data Analysis (1977) for iqr; Iglewicz & Hoaglin, How to Detect and Handle Outliers
        (1993) for mad and its 3.5.
    """
    width = _THRESHOLDS[method] if threshold is None else threshold
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width < float("inf"):
        raise InvalidArgumentError(f"threshold is a positive number, not {shown(width)}.", hint="Leave it out.")
    values = column.drop_nulls().cast(pl.Float64).to_numpy()
    values = values[np.isfinite(values)]
    if not len(values):
        return -np.inf, np.inf
    with np.errstate(over="ignore", invalid="ignore"):  # near the end of the range there are no bounds
        if method == "iqr":
            low, high = (float(q) for q in np.quantile(values, [0.25, 0.75]))
            spread = high - low
        elif method == "zscore":
            low = high = float(values.mean())
            spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        else:
            low = high = float(np.median(values))
            spread = _MAD_SCALE * float(np.median(np.abs(values - low)))
        return (low - width * spread, high + width * spread) if spread > 0 else (-np.inf, np.inf)


def learn_outliers(step: Step, table: Table) -> dict[str, Any]:
    """Learn the bounds of each column, or an isolation forest over all of them."""
    method = choice(step, "method", DROPPERS if step.action == "drop_outliers" else CLIPPERS, "iqr")
    names = numeric(table.schema, step)
    if method == "isolation_forest":
        known_options(step, "method", "contamination", "seed")
        return _learn_forest(step, table, names)
    known_options(step, "method", "threshold", "factor")
    if {"threshold", "factor"} <= set(step.options):
        raise InvalidArgumentError("threshold and factor are one and the same.", hint="Pass one of them.")
    width = step.options.get("threshold", step.options.get("factor"))
    found = {name: bounds(table.column(name), method, width) for name in names}
    # JSON knows no infinity: a column that does not vary has no bounds
    return {"columns": names, "bounds": {n: list(b) if np.isfinite(b).all() else None for n, b in found.items()}}


def clip_edit(step: Step, fitted: Mapping[str, Any], table: Table) -> CellEdit:
    """Return the edit that moves what lies outside to the bounds; whole numbers stay whole, within the bounds."""
    method = choice(step, "method", CLIPPERS, "iqr")
    ranges = {name: each for name, each in fitted["bounds"].items() if each is not None}
    counts = table.figures([(_below(n, b) | _above(n, b)).sum().alias(n) for n, b in ranges.items()] or [pl.len()])
    expressions, details = {}, {}
    for name in (name for name in ranges if counts[name]):
        low, high = ranges[name]
        dtype = table.schema[name]
        limits = _whole_within(low, high) if dtype.is_integer() else (low, high)
        below, above = (pl.lit(limit).cast(dtype) for limit in limits)
        clipped = pl.when(_below(name, (low, high))).then(below).when(_above(name, (low, high))).then(above)
        expressions[name] = clipped.otherwise(pl.col(name))
        details[name] = f"{method}: kept within {limits[0]:.6g} to {limits[1]:.6g}"
    return edit(expressions, details)


def _whole_within(low: float, high: float) -> tuple[int, int]:
    least, most = ceil(low), floor(high)
    return (least, most) if least <= most else (round((low + high) / 2),) * 2


def _below(name: str, within: Sequence[float]) -> pl.Expr:
    return (pl.col(name) < pl.lit(within[0])).fill_null(False)


def _above(name: str, within: Sequence[float]) -> pl.Expr:
    return (pl.col(name) > pl.lit(within[1])).fill_null(False)


def outlier_removal(step: Step, fitted: Mapping[str, Any], table: Table) -> Removal:
    """Return the removal of rows with a value outside, or that the forest sets apart."""
    if "forest" in fitted:
        return _forest_removal(fitted, table)
    method = choice(step, "method", DROPPERS, "iqr")
    ranges = {name: each for name, each in fitted["bounds"].items() if each is not None}
    if not ranges:
        return Removal(pl.lit(True), pl.lit(""))
    outside = {name: _below(name, each) | _above(name, each) for name, each in ranges.items()}
    counts = table.figures([each.sum().alias(name) for name, each in outside.items()])
    details, reasons = {}, []
    for name, (low, high) in ranges.items():
        span = f"outside {low:.6g} to {high:.6g}"
        reasons.append(pl.when(outside[name]).then(pl.format(f"{_braced(name)} = {{}} {span}", pl.col(name))))
        if counts[name]:
            details[name] = f"{method}: {counts[name]:,} values {span}"
    return Removal(
        ~pl.any_horizontal(outside.values()), pl.concat_str(reasons, separator="; ", ignore_nulls=True), details
    )


def _braced(name: str) -> str:
    """Return `name` for a format string: its braces are no places for values."""
    return name.replace("{", "(").replace("}", ")")


# Isolation forest ----------------------------------------------------------------------------------------------


def _learn_forest(step: Step, table: Table, names: list[str]) -> dict[str, Any]:
    """Fit on 50,000 random rows at most; missing cells count as their column's median. Keep the trees as numbers.

    Source: Liu, Ting & Zhou, Isolation Forest (2008), as scikit-learn has it.
    """
    from sklearn.ensemble import IsolationForest

    contamination = step.options.get("contamination", "auto")
    share = isinstance(contamination, int | float) and not isinstance(contamination, bool) and 0 < contamination <= 0.5
    if contamination != "auto" and not share:
        raise InvalidArgumentError(
            f"contamination is 'auto' or a share up to 0.5, not {shown(contamination)}.", hint="Leave it out."
        )
    seed = whole(step, "seed", 0)
    sample = table.sample(names, _FOREST_ROWS, seed)
    medians = {name: sample[name].cast(pl.Float64).median() for name in names}
    used = {name: median for name, median in medians.items() if isinstance(median, float)}
    if not used:
        raise InvalidArgumentError("there is no number to judge by.", hint="Name columns of numbers.")
    forest = IsolationForest(contamination=contamination, random_state=seed, n_jobs=1)
    forest.fit(_filled(sample, used))
    return {
        "columns": list(used),
        "medians": used,
        "forest": {
            "trees": [_tree_document(tree.tree_, places) for tree, places in _trees(forest)],
            "samples": int(forest.max_samples_),
            "offset": float(forest.offset_),
        },
        "rows": len(sample),
    }


def _trees(forest: Any) -> Any:
    return zip(forest.estimators_, forest.estimators_features_, strict=True)


def _tree_document(tree: Any, places: NDArray[np.int64]) -> dict[str, list[Any]]:
    """Return a tree's nodes as lists; a leaf is its own child, and `length` is the path that ends in it."""
    own = np.arange(tree.node_count)
    leaf = tree.children_left < 0
    depth = np.zeros(tree.node_count)
    for node in own[~leaf]:  # parents come before their children
        depth[[tree.children_left[node], tree.children_right[node]]] = depth[node] + 1
    return {
        "column": np.where(leaf, 0, places[np.maximum(tree.feature, 0)]).tolist(),
        "threshold": np.where(leaf, 0.0, tree.threshold).tolist(),
        "left": np.where(leaf, own, tree.children_left).tolist(),
        "right": np.where(leaf, own, tree.children_right).tolist(),
        "length": np.where(leaf, depth + _unsuccessful_search(tree.n_node_samples), 0.0).tolist(),
    }


def _unsuccessful_search(n: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean length of an unsuccessful search in a binary tree of `n` values: c(n) of the paper."""
    n = np.asarray(n, dtype=np.float64)
    safe = np.maximum(n, 3)
    long = 2.0 * (np.log(safe - 1.0) + np.euler_gamma) - 2.0 * (safe - 1.0) / safe
    return np.where(n > 2, long, np.where(n == 2, 1.0, 0.0))


def _filled(frame: pl.DataFrame, medians: Mapping[str, float]) -> NDArray[np.float32]:
    numbers = frame.select(pl.col(name).cast(pl.Float64).fill_null(median) for name, median in medians.items())
    highest = np.finfo(np.float32).max  # trees compare in single precision
    filled: NDArray[np.float32] = np.clip(np.nan_to_num(numbers.to_numpy()), -highest, highest).astype(np.float32)
    return filled


def decisions(values: NDArray[np.float32], forest: Mapping[str, Any], pulse: Callable[[], None]) -> NDArray[np.float64]:
    """Return scikit-learn's decision function: below 0 is set apart.

    Args:
        values: shape (n, p).
        forest: what was learned: `trees`, `samples` a tree was grown on, and the `offset` of the scores.
        pulse: called between trees.
    """
    total = np.zeros(len(values))
    rows = np.arange(len(values))
    for tree in forest["trees"]:
        pulse()
        column, threshold = np.array(tree["column"]), np.array(tree["threshold"])
        left, right = np.array(tree["left"]), np.array(tree["right"])
        node = np.zeros(len(values), dtype=np.int64)
        while True:
            below = values[rows, column[node]] <= threshold[node]
            following = np.where(below, left[node], right[node])
            if np.array_equal(following, node):
                break
            node = following
        total += np.array(tree["length"])[node]
    mean = total / len(forest["trees"])
    scores: NDArray[np.float64] = -(2.0 ** (-mean / _unsuccessful_search(np.array([forest["samples"]]))[0]))
    return scores - float(forest["offset"])


def _forest_removal(fitted: Mapping[str, Any], table: Table) -> Removal:
    medians, forest = fitted["medians"], fitted["forest"]

    def scored(rows: pl.Series) -> pl.Series:
        return pl.Series(decisions(_filled(rows.struct.unnest(), medians), forest, table.pulse))

    score = pl.struct(list(medians)).map_batches(scored, return_dtype=pl.Float64, is_elementwise=True)
    detail = f"isolation_forest over {len(medians)} columns, fitted on {fitted['rows']:,} rows"
    return Removal(score >= 0, pl.format("isolation_forest sets it apart, score {}", score.round(4)), {"": detail})
