"""The indices inside the model texts of LightGBM and XGBoost, whose compiled code follows them without looking.

Source: LightGBM 4.7 src/io/tree.cpp and src/boosting/gbdt_model_text.cpp; XGBoost 3.2 doc/model.schema.
"""

import json
from collections.abc import Sequence

from mcp_server.engine.boosting import BoostedTrees, LightGBMTrees
from mcp_server.errors import InvalidArgumentError


def check_boosted(part: BoostedTrees) -> None:
    """Check every index in the text of a fitted model.

    Raises:
        InvalidArgumentError: one points outside, or the text is not what a fit writes.
    """
    if "model_" not in part.__dict__:
        return
    check = _check_lightgbm if isinstance(part, LightGBMTrees) else _check_xgboost
    try:
        check(part)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as fault:
        raise _damaged("cannot be read") from fault


def _check_lightgbm(part: BoostedTrees) -> None:
    head, *trees = part.model_.decode().split("\nTree=")
    header = _lines(head)
    if "tree_sizes" in header or "average_output" in head:
        raise _damaged("says where its trees stand")
    _check_shape(part, int(header["max_feature_idx"]) + 1, int(header["num_tree_per_iteration"]), len(trees))
    for text in trees:
        tree = _lines(text.split("\nend of trees")[0])
        leaves = int(tree["num_leaves"])
        if leaves < 1 or int(tree.get("num_cat", 0)) or int(tree.get("is_linear", 0)):
            raise _damaged("holds a tree of a kind that is not trained here")
        if leaves == 1:
            continue
        kinds = _whole(tree["decision_type"], leaves - 1)
        _check_range([kind & 1 for kind in kinds], 1)
        _check_range(_whole(tree["split_feature"], leaves - 1), part.n_features_in_)
        for side in ("left_child", "right_child"):
            for parent, child in enumerate(_whole(tree[side], leaves - 1)):
                if (child >= 0 and not parent < child < leaves - 1) or (child < 0 and ~child >= leaves):
                    raise _damaged("has a child that is not one of its nodes")


def _lines(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _whole(text: str, count: int) -> list[int]:
    values = [int(value) for value in text.split()]
    if len(values) != count:
        raise _damaged("has parts that do not fit together")
    return values


def _check_xgboost(part: BoostedTrees) -> None:
    learner = json.loads(part.model_)["learner"]
    booster, shape = learner["gradient_booster"], learner["learner_model_param"]
    model = booster["model"]
    trees = model["trees"]
    if booster["name"] != "gbtree" or int(model["gbtree_model_param"]["num_trees"]) != len(trees):
        raise _damaged("has parts that do not fit together")
    _check_shape(part, int(shape["num_feature"]), max(1, int(shape["num_class"])), len(trees))
    _check_range(model["tree_info"], part.n_outputs_)
    _check_range(model["iteration_indptr"], len(trees) + 1)
    if len(model["tree_info"]) != len(trees):
        raise _damaged("has parts that do not fit together")
    for tree in trees:
        count = int(tree["tree_param"]["num_nodes"])
        sides = tree["left_children"], tree["right_children"]
        arrays = (*sides, tree["split_indices"], tree["split_type"], tree["split_conditions"], tree["parents"])
        if count < 1 or any(len(array) != count for array in arrays) or tree["tree_param"]["size_leaf_vector"] != "1":
            raise _damaged("has parts that do not fit together")
        _check_range(tree["split_type"], 1)
        _check_range(tree["split_indices"], part.n_features_in_)
        for parent, (left, right) in enumerate(zip(*sides, strict=True)):
            leaf = left == -1 and right == -1
            if not leaf and not (parent < left < count and parent < right < count):
                raise _damaged("has a child that is not one of its nodes")


def _check_shape(part: BoostedTrees, n_features: int, n_outputs: int, n_trees: int) -> None:
    if n_features != part.n_features_in_ or n_outputs != part.n_outputs_ or n_trees % n_outputs:
        raise _damaged("is of another shape than its estimator")


def _check_range(indices: Sequence[int], count: int) -> None:
    if indices and (min(indices) < 0 or max(indices) >= count):
        raise _damaged(f"points outside the {count} that there are")


def _damaged(why: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The model file is damaged: a boosted model {why}.", hint="Train the model again with train_model."
    )
