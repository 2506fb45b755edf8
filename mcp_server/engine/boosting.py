"""LightGBM and XGBoost as scikit-learn estimators whose fitted state is data: numbers, and the library's own text.

A booster of either library is a pointer into compiled code, which a model file cannot hold without pickle. So the
estimators here keep the model as the library writes it (LightGBM's text, XGBoost's JSON) and read the booster from it,
after a fit as after loading: both predict with the same booster, so their predictions are the same bytes. They take
matrices without names of columns, so no name can trouble them. Missing values go in as NaN.
"""

import importlib
import importlib.util
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_sample_weight

from mcp_server.errors import FailedPreconditionError

Floats = NDArray[np.float64]

PACKAGES = ("lightgbm", "xgboost")
STOPPING_ROWS = 500  # from here a tenth of the training rows says when to stop
_STOPPING_SHARE = 0.1
_PATIENCE = 20
_LARGEST = 1e38  # both hold numbers in 32 bits, which end at 3.4e38


def import_booster(package: str) -> Any:
    """Return the module of `lightgbm` or `xgboost`.

    Raises:
        FailedPreconditionError: it is not installed, or a shared library that it needs is missing.
    """
    if importlib.util.find_spec(package) is None:
        raise FailedPreconditionError(
            f"Estimator {package} needs package {package}, which is not installed.",
            hint="Install the extra: pip install 'nba-mcp[boosting]'; hist_gradient_boosting needs no further package.",
        )
    try:
        return importlib.import_module(package)
    except Exception as failure:  # why: LightGBM fails with OSError, XGBoost with an error of its own
        raise FailedPreconditionError(
            f"Package {package} is installed, but its compiled library cannot be loaded: {failure}",
            hint="Install the system's OpenMP (Debian: apt-get install libgomp1), or use hist_gradient_boosting.",
        ) from failure


class BoostedTrees(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What the four estimators share.

    Attributes:
        model_: the fitted model in the library's own format.
        n_features_in_: columns of the matrix it was fitted on.
        n_outputs_: trees a round: the classes of a multiclass task, else 1.
    """

    def __init__(
        self,
        n_estimators: int = 300,
        learning_rate: float = 0.08,
        num_leaves: int = 15,
        min_child: float = 20,
        reg_lambda: float = 1.0,
        class_weight: str | None = None,
        random_state: int = 0,
    ) -> None:
        """Hold the parameters.

        Args:
            n_estimators: rounds at most; stopped early where there are rows enough to tell.
            num_leaves: leaves a tree has at most.
            min_child: least weight of a leaf: rows (LightGBM), or the sum of second derivatives (XGBoost).
            class_weight: `balanced` weighs each class by the inverse of its share; classifiers only.
        """
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child = min_child
        self.reg_lambda = reg_lambda
        self.class_weight = class_weight
        self.random_state = random_state

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_booster", None)  # a pointer; read again from the model's text
        return state

    @property
    def booster(self) -> Any:
        """Return the library's own booster, read from `model_` at the first call."""
        if "_booster" not in self.__dict__:
            self._booster = self._read()
        return self._booster

    def _fit(self, features: ArrayLike, target: NDArray[Any], stratified: bool) -> Self:
        matrix = _matrix(features)
        self.n_features_in_ = int(matrix.shape[1])
        weight = None if self.class_weight is None else compute_sample_weight(self.class_weight, target)
        rows = np.arange(len(matrix))
        held: NDArray[np.intp] | None = None
        if len(rows) >= STOPPING_ROWS:
            # A class with one row cannot be on both sides; then rows are drawn without regard to classes.
            strata = target if stratified and np.unique(target, return_counts=True)[1].min() > 1 else None
            rows, held = train_test_split(
                rows, test_size=_STOPPING_SHARE, random_state=self.random_state, stratify=strata
            )
        parts = [
            (matrix[part], target[part], None if weight is None else weight[part])
            for part in (rows, held)
            if part is not None
        ]
        self.__dict__.pop("_booster", None)
        self.model_ = self._train(parts)
        return self

    def _train(self, parts: list[tuple[Floats, NDArray[Any], NDArray[Any] | None]]) -> bytes:
        """Return the model fitted on the first of `parts` and stopped by the second, if there is one."""
        raise TypeError("BoostedTrees is a base: use one of its four estimators.")

    def _read(self) -> Any:
        """Return the booster that `model_` describes."""
        raise TypeError("BoostedTrees is a base: use one of its four estimators.")

    def _margin(self, matrix: Floats) -> Floats:
        """Return the sums over the trees: (n,) or (n, k)."""
        raise TypeError("BoostedTrees is a base: use one of its four estimators.")

    def margin(self, features: ArrayLike) -> Floats:
        """Return the sums over the trees, shape (n, k): log-odds of classes (k is 1 for two), or values."""
        margin = self._margin(_matrix(features))
        return margin.reshape(len(margin), -1)

    def contributions(self, features: ArrayLike) -> Floats:
        """Return path-dependent TreeSHAP values by the library itself, shape (n, k, p + 1), the base last.

        XGBoost works them out in single precision.
        """
        raise TypeError("BoostedTrees is a base: use one of its four estimators.")


class LightGBMTrees(BoostedTrees):
    """How LightGBM is trained, read and asked."""

    _objectives = ("binary", "multiclass")

    def _train(self, parts: list[tuple[Floats, NDArray[Any], NDArray[Any] | None]]) -> bytes:
        lightgbm = import_booster("lightgbm")
        settings = {
            **_objective(self, "regression", self._objectives),
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": int(self.min_child),
            "lambda_l2": self.reg_lambda,
            "seed": self.random_state,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        first = lightgbm.Dataset(parts[0][0], parts[0][1], weight=parts[0][2], params=settings)
        held = [first.create_valid(matrix, target, weight=weight) for matrix, target, weight in parts[1:]]
        stop = [lightgbm.early_stopping(_PATIENCE, verbose=False)] if held else []
        booster = lightgbm.train(settings, first, self.n_estimators, valid_sets=held, callbacks=stop)
        text = booster.model_to_string(num_iteration=booster.best_iteration)
        # Without the line of sizes the reader finds each tree by its first word instead of trusting an offset.
        return "".join(line for line in text.splitlines(True) if not line.startswith("tree_sizes=")).encode()

    def _read(self) -> Any:
        lightgbm = import_booster("lightgbm")
        return lightgbm.Booster(model_str=self.model_.decode())

    def _margin(self, matrix: Floats) -> Floats:
        return np.asarray(self.booster.predict(matrix, raw_score=True, num_threads=1), dtype=np.float64)

    def contributions(self, features: ArrayLike) -> Floats:
        matrix = _matrix(features)
        found = np.asarray(self.booster.predict(matrix, pred_contrib=True, num_threads=1), dtype=np.float64)
        return found.reshape(len(matrix), self.n_outputs_, matrix.shape[1] + 1)


class XGBoostTrees(BoostedTrees):
    """How XGBoost is trained, read and asked."""

    _objectives = ("binary:logistic", "multi:softprob")

    def _train(self, parts: list[tuple[Floats, NDArray[Any], NDArray[Any] | None]]) -> bytes:
        xgboost = import_booster("xgboost")
        settings = {
            **_objective(self, "reg:squarederror", self._objectives),
            "learning_rate": self.learning_rate,
            "max_leaves": self.num_leaves,
            "max_depth": 0,
            "grow_policy": "lossguide",
            "min_child_weight": self.min_child,
            "lambda": self.reg_lambda,
            "tree_method": "hist",
            "seed": self.random_state,
            "nthread": 1,
            "verbosity": 0,
        }
        data = [xgboost.DMatrix(matrix, target, weight=weight, nthread=1) for matrix, target, weight in parts]
        held = [(data[1], "held")] if len(data) > 1 else []
        booster = xgboost.train(
            settings,
            data[0],
            self.n_estimators,
            evals=held,
            early_stopping_rounds=_PATIENCE if held else None,
            verbose_eval=False,
        )
        best = booster[: booster.best_iteration + 1] if held else booster
        return bytes(best.save_raw("json"))

    def _read(self) -> Any:
        booster = import_booster("xgboost").Booster({"nthread": 1, "verbosity": 0})
        booster.load_model(bytearray(self.model_))
        booster.set_param({"nthread": 1, "verbosity": 0})
        return booster

    def _margin(self, matrix: Floats) -> Floats:
        return np.asarray(self.booster.inplace_predict(matrix, predict_type="margin"), dtype=np.float64)

    def contributions(self, features: ArrayLike) -> Floats:
        rows = import_booster("xgboost").DMatrix(_matrix(features), nthread=1)
        found = np.asarray(self.booster.predict(rows, pred_contribs=True, strict_shape=True), dtype=np.float64)
        return found.reshape(len(found), self.n_outputs_, -1)


class _Classifier(ClassifierMixin, BoostedTrees):  # type: ignore[misc]  # scikit-learn has no types
    def fit(self, features: ArrayLike, target: ArrayLike) -> Self:
        """Fit on `features` (n, p) and labels (n,)."""
        self.classes_, codes = np.unique(np.asarray(target), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("the training rows hold one class only")
        self.n_outputs_ = 1 if len(self.classes_) == 2 else len(self.classes_)
        return self._fit(features, codes, stratified=True)

    def predict_proba(self, features: ArrayLike) -> Floats:
        """Return probabilities, shape (n, classes)."""
        margin = self._margin(_matrix(features))
        if self.n_outputs_ > 1:
            shares: Floats = softmax(margin, axis=1)
            return shares
        positive = expit(margin)
        return np.column_stack([1 - positive, positive])

    def predict(self, features: ArrayLike) -> NDArray[Any]:
        """Return the most probable label of each row, shape (n,)."""
        labels: NDArray[Any] = self.classes_[self.predict_proba(features).argmax(axis=1)]
        return labels


class _Regressor(RegressorMixin, BoostedTrees):  # type: ignore[misc]  # scikit-learn has no types
    def fit(self, features: ArrayLike, target: ArrayLike) -> Self:
        """Fit on `features` (n, p) and values (n,)."""
        self.n_outputs_ = 1
        return self._fit(features, np.asarray(target, dtype=np.float64), stratified=False)

    def predict(self, features: ArrayLike) -> Floats:
        """Return the forecast of each row, shape (n,)."""
        return self._margin(_matrix(features))


class LightGBMClassifier(_Classifier, LightGBMTrees):
    """LightGBM for two classes or more."""


class LightGBMRegressor(_Regressor, LightGBMTrees):
    """LightGBM for values; squared error."""


class XGBoostClassifier(_Classifier, XGBoostTrees):
    """XGBoost for two classes or more."""


class XGBoostRegressor(_Regressor, XGBoostTrees):
    """XGBoost for values; squared error."""


def _objective(estimator: BoostedTrees, values: str, classes: tuple[str, str]) -> dict[str, Any]:
    if not isinstance(estimator, ClassifierMixin):
        return {"objective": values}
    if estimator.n_outputs_ == 1:
        return {"objective": classes[0]}
    return {"objective": classes[1], "num_class": estimator.n_outputs_}


def _matrix(features: ArrayLike) -> Floats:
    matrix = np.ascontiguousarray(features, dtype=np.float64)
    return np.clip(matrix, -_LARGEST, _LARGEST)  # NaN stays NaN
