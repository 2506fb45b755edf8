"""The indices inside a loaded model. Compiled code of scikit-learn follows them without looking.

A type says nothing of its content: a tree whose child is number 10⁹ has the right type, loads, and ends the
process at the first prediction. So each index that compiled code follows is compared with what it points into.

Source: scikit-learn pull request 34558; sklearn/tree/_tree.pyx, _hist_gradient_boosting/_predictor.pyx,
neighbors/_binary_tree.pxi.tp, svm/_libsvm.pyx (1.9).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.neighbors import KDTree
from sklearn.svm._base import BaseLibSVM
from sklearn.tree._tree import Tree

from mcp_server.engine.boosting import BoostedTrees
from mcp_server.engine.boosting_bounds import check_boosted
from mcp_server.errors import InvalidArgumentError

_OWN_MODULES = ("sklearn.", "mcp_server.")


def check_bounds(model: Any) -> None:
    """Check every index that compiled code would follow while `model` predicts.

    Raises:
        InvalidArgumentError: one points outside; the model was damaged or made to do harm.
    """
    for part, n_features in parts_of(model):
        if isinstance(part, Tree):
            _check_tree(part, n_features)
        elif isinstance(part, TreePredictor):
            _check_predictor(part, n_features)
        elif isinstance(part, KDTree):
            _check_kd_tree(part)
        elif isinstance(part, BaseLibSVM) and hasattr(part, "support_vectors_"):
            _check_support_vectors(part)
        elif isinstance(part, BoostedTrees):
            check_boosted(part)


def parts_of(model: Any) -> Iterator[tuple[Any, int]]:
    """Yield every object inside `model` with the number of features of the estimator it belongs to."""
    seen: set[int] = set()
    pending: list[tuple[Any, int]] = [(model, 0)]
    while pending:
        part, n_features = pending.pop()
        if id(part) in seen or part is None or isinstance(part, str | int | float | bool):
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            pending.extend((item, n_features) for item in part.values())
        elif isinstance(part, list | tuple):
            pending.extend((item, n_features) for item in part)
        elif isinstance(part, np.ndarray):
            if part.dtype == object:
                pending.extend((item, n_features) for item in part.ravel())
        elif type(part).__module__.startswith(_OWN_MODULES):
            inside = _features_inside(part, n_features)
            yield part, inside
            pending.extend((item, inside) for item in getattr(part, "__dict__", {}).values())


def _features_inside(part: Any, outside: int) -> int:
    own = getattr(part, "__dict__", {}).get("n_features_in_")
    return own if isinstance(own, int) else outside


def _check_tree(tree: Tree, n_features: int) -> None:
    count = tree.node_count
    if tree.n_features != n_features:
        raise _damaged("tree", f"takes {tree.n_features} features where its estimator has {n_features}")
    if count < 1 or tree.value.shape[0] != count:
        raise _damaged("tree", f"has {count} nodes")
    left, right = tree.children_left, tree.children_right
    inner = left != -1
    _check_children("tree", left[inner], right[inner], np.flatnonzero(inner), count)
    _check_range("tree", tree.feature[inner], n_features)


def _check_predictor(predictor: TreePredictor, n_features: int) -> None:
    nodes = predictor.nodes
    if len(nodes) < 1:
        raise _damaged("boosted tree", "has no nodes")
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    splits = nodes[inner]
    _check_children("boosted tree", splits["left"], splits["right"], inner, len(nodes))
    _check_range("boosted tree", splits["feature_idx"], n_features)
    categorical = splits[splits["is_categorical"] != 0]
    n_bitsets = min(len(predictor.raw_left_cat_bitsets), len(predictor.binned_left_cat_bitsets))
    _check_range("boosted tree", categorical["bitset_idx"], n_bitsets)


def _check_children(what: str, left: NDArray[Any], right: NDArray[Any], parents: NDArray[np.intp], count: int) -> None:
    # A child stands behind its parent in every tree that was grown; so there is no way back, and every walk ends.
    for children in (left.astype(np.int64), right.astype(np.int64)):
        if children.size and (np.any(children <= parents) or np.any(children >= count)):
            raise _damaged(what, "has a child that is not one of its nodes")


def _check_range(what: str, indices: NDArray[Any], count: int) -> None:
    wide = indices.astype(np.int64)
    if wide.size and (wide.min() < 0 or wide.max() >= count):
        raise _damaged(what, f"points outside the {count} that there are")


def _check_kd_tree(tree: KDTree) -> None:
    data, order, nodes, bounds = (np.asarray(part) for part in tree.get_arrays())
    if len(order) != len(data) or bounds.shape[1:] != (len(nodes), data.shape[1]):
        raise _damaged("neighbour tree", "has parts that do not fit together")
    _check_range("neighbour tree", order, len(data))
    _check_range("neighbour tree", nodes["idx_start"], len(data) + 1)
    _check_range("neighbour tree", nodes["idx_end"], len(data) + 1)
    parents = np.flatnonzero(nodes["is_leaf"] == 0)
    if parents.size and 2 * int(parents.max()) + 2 >= len(nodes):
        raise _damaged("neighbour tree", "has a child that is not one of its nodes")


def _check_support_vectors(machine: BaseLibSVM) -> None:
    vectors, counts = machine.support_vectors_, np.asarray(machine._n_support)
    coefficients = machine._dual_coef_
    fits = (
        not machine._sparse
        and len(machine.support_) == len(vectors) == coefficients.shape[1]
        and vectors.shape[1] == machine.shape_fit_[1] == machine.n_features_in_
        and (counts >= 0).all()
    )
    if machine._impl in ("c_svc", "nu_svc"):
        n_classes = len(counts)
        fits = fits and counts.sum() == len(vectors) and coefficients.shape[0] == n_classes - 1
        fits = fits and len(machine._intercept_) == n_classes * (n_classes - 1) // 2
    else:
        fits = fits and coefficients.shape[0] == 1 and len(machine._intercept_) == 1
    if not fits:
        raise _damaged("support vector machine", "has parts that do not fit together")


def _damaged(what: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The model file is damaged: a {what} {why}.", hint="Save the fitted model again with skops.io.dump."
    )
