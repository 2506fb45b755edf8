"""The families of estimators: what they are, what of them is searched, and how one is built."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from mcp_server.engine.boosting import (
    PACKAGES,
    STOPPING_ROWS,
    LightGBMClassifier,
    LightGBMRegressor,
    XGBoostClassifier,
    XGBoostRegressor,
    import_booster,
)
from mcp_server.engine.metrics import Task
from mcp_server.engine.preprocessing import Style, unknown_column
from mcp_server.errors import FailedPreconditionError, InvalidArgumentError, shown

Choice = str | int | float | bool | None
Params = Mapping[str, Choice]

COLUMN_PREFIX = "column:"
ENSEMBLES = ("voting", "stacking")
OPTIONAL_PACKAGES = PACKAGES
_FOREST_ROWS = 4000  # a tree of a forest sees at most so many rows: 5 times quicker on 36,000 games, as good
_MANY_ROWS = 5000  # from here Newton's few costly steps beat many cheap ones: 4 times quicker on 36,000 rows
_FEW_COLUMNS = 100  # a step of Newton's costs their square
_SVM_ROWS = 20_000  # its time grows with the square of the rows
_ALL: frozenset[Task] = frozenset({"binary", "multiclass", "regression"})
_CLASSES: frozenset[Task] = frozenset({"binary", "multiclass"})
_VALUES: frozenset[Task] = frozenset({"regression"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """One searched parameter: a range (`low`, `high`, in logarithms if `log`) or a list of `choices`.

    `grid` are the few values that a grid search tries; `default` is what a first trial uses.
    """

    name: str
    default: Choice
    grid: tuple[Choice, ...] = ()
    kind: Literal["float", "int", "choice"] = "float"
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Return the values of a list."""
        return self.grid if self.kind == "choice" else ()


@dataclass(frozen=True, slots=True)
class Building:
    """What an estimator is built with beside its parameters."""

    task: Task
    seed: int
    n_rows: int
    class_weight: str | None = None
    n_columns: int = 0


@dataclass(frozen=True, slots=True)
class Family:
    """One name of the contract: its tasks, its preprocessing, its search space and how it is built."""

    name: str
    tasks: frozenset[Task]
    style: Style
    build: Callable[[Params, Building], Any]
    space: tuple[Parameter, ...] = ()
    weighs_classes: bool = False


def _number(name: str, low: float, high: float, default: float, grid: Sequence[float], log: bool = False) -> Parameter:
    return Parameter(name, default, tuple(grid), "float", low, high, log)


def _whole(name: str, low: int, high: int, default: int, grid: Sequence[int], log: bool = False) -> Parameter:
    return Parameter(name, default, tuple(grid), "int", low, high, log)


def _choice(name: str, default: Choice, choices: Sequence[Choice]) -> Parameter:
    return Parameter(name, default, tuple(choices), "choice")


def _dummy(params: Params, building: Building) -> Any:
    if building.task == "regression":
        return DummyRegressor(strategy="mean")
    return DummyClassifier(strategy="prior")


def _logistic(params: Params, building: Building) -> Any:
    many = building.task == "binary" and building.n_rows >= _MANY_ROWS and building.n_columns <= _FEW_COLUMNS
    return LogisticRegression(
        **params,
        solver="newton-cholesky" if many else "lbfgs",
        max_iter=1000,
        class_weight=building.class_weight,
    )


def _elastic_net(params: Params, building: Building) -> Any:
    if building.task == "regression":
        return ElasticNet(**params, max_iter=5000)
    strength = float(params.get("alpha") or 1.0)
    return LogisticRegression(
        C=1 / (strength * building.n_rows),
        l1_ratio=params.get("l1_ratio"),
        solver="saga",
        tol=1e-3,
        max_iter=1000,
        random_state=building.seed,
        class_weight=building.class_weight,
    )


def _forest(classifier: type, regressor: type) -> Callable[[Params, Building], Any]:
    def build(params: Params, building: Building) -> Any:
        settings: dict[str, Any] = {"random_state": building.seed, "bootstrap": True, **params}
        if building.n_rows > _FOREST_ROWS:
            settings["max_samples"] = _FOREST_ROWS
        if building.task == "regression":
            return regressor(**settings)
        return classifier(**settings, class_weight=building.class_weight)

    return build


def _boosting(params: Params, building: Building) -> Any:
    settings: dict[str, Any] = {
        "max_iter": 300,
        "early_stopping": building.n_rows >= 500,
        "random_state": building.seed,
        **params,
    }
    if building.n_rows < 500:
        settings["max_iter"] = 100  # too few rows to hold some out for stopping early
    if building.task == "regression":
        return HistGradientBoostingRegressor(**settings)
    return HistGradientBoostingClassifier(**settings, class_weight=building.class_weight)


def _boosted(classifier: type, regressor: type) -> Callable[[Params, Building], Any]:
    def build(params: Params, building: Building) -> Any:
        settings: dict[str, Any] = {"random_state": building.seed, **params}
        if building.n_rows < STOPPING_ROWS:
            settings.setdefault("n_estimators", 100)  # too few rows to hold some out for stopping early
        if building.task == "regression":
            return regressor(**settings)
        return classifier(**settings, class_weight=building.class_weight)

    return build


def _neighbours(params: Params, building: Building) -> Any:
    settings = {**params, "n_neighbors": min(int(params.get("n_neighbors") or 5), max(1, building.n_rows // 2))}
    kind = KNeighborsRegressor if building.task == "regression" else KNeighborsClassifier
    return kind(**settings, algorithm="kd_tree")


def _svm(params: Params, building: Building) -> Any:
    if building.n_rows > _SVM_ROWS:
        raise FailedPreconditionError(
            f"svm on {building.n_rows} training rows would take hours; it takes at most {_SVM_ROWS}.",
            hint="Leave svm out of estimators, or train on fewer rows (transform_dataset).",
        )
    if building.task == "regression":
        return _of_unit_target(SVR(**params))
    machine = SVC(**params, class_weight=building.class_weight, random_state=building.seed)
    return CalibratedClassifierCV(machine, method="sigmoid", cv=3, ensemble=False)


def _network(params: Params, building: Building) -> Any:
    layers = tuple(int(size) for size in str(params.get("hidden_layers", "32")).split("-"))
    settings = {name: value for name, value in params.items() if name != "hidden_layers"}
    kind = MLPRegressor if building.task == "regression" else MLPClassifier
    network = kind(
        hidden_layer_sizes=layers,
        early_stopping=building.n_rows >= 500,
        max_iter=200 if building.n_rows >= 500 else 600,
        random_state=building.seed,
        **settings,
    )
    return _of_unit_target(network) if building.task == "regression" else network


def _of_unit_target(regressor: Any) -> TransformedTargetRegressor:
    # Their penalties, tolerances and steps are made for targets of about one: of prices in the thousands they learn
    # nothing. What the scaler learns, it learns from the rows of the fit.
    return TransformedTargetRegressor(regressor, transformer=StandardScaler())


_FOREST_SPACE = (
    _whole("n_estimators", 50, 150, 100, (100, 150)),
    _whole("max_depth", 3, 16, 10, (5, 10, 16)),
    _whole("min_samples_leaf", 1, 50, 5, (1, 5, 20), log=True),
    _choice("max_features", "sqrt", ("sqrt", 0.3, 0.5)),
)


def _boosted_space(least_leaf: Parameter) -> tuple[Parameter, ...]:
    return (
        _number("learning_rate", 0.02, 0.3, 0.08, (0.03, 0.1, 0.2), log=True),
        _whole("num_leaves", 4, 63, 15, (7, 15, 31), log=True),
        least_leaf,
        _number("reg_lambda", 1e-3, 1e2, 1.0, (0.1, 10.0), log=True),
    )


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("dummy", _ALL, "tree", _dummy),
        Family(
            "logistic_regression",
            _CLASSES,
            "scaled",
            _logistic,
            (_number("C", 1e-4, 1e2, 1.0, (0.001, 0.01, 0.1, 1.0, 10.0), log=True),),
            weighs_classes=True,
        ),
        Family(
            "ridge",
            _VALUES,
            "scaled",
            lambda params, building: Ridge(**params),
            (_number("alpha", 1e-3, 1e4, 1.0, (0.01, 0.1, 1.0, 10.0, 100.0), log=True),),
        ),
        Family(
            "elastic_net",
            _ALL,
            "scaled",
            _elastic_net,
            (
                _number("alpha", 1e-5, 1e1, 1e-3, (0.0001, 0.001, 0.01, 0.1), log=True),
                _number("l1_ratio", 0.05, 1.0, 0.5, (0.1, 0.5, 0.9)),
            ),
            weighs_classes=True,
        ),
        Family(
            "random_forest",
            _ALL,
            "tree",
            _forest(RandomForestClassifier, RandomForestRegressor),
            _FOREST_SPACE,
            weighs_classes=True,
        ),
        Family(
            "extra_trees",
            _ALL,
            "tree",
            _forest(ExtraTreesClassifier, ExtraTreesRegressor),
            _FOREST_SPACE,
            weighs_classes=True,
        ),
        Family(
            "hist_gradient_boosting",
            _ALL,
            "tree",
            _boosting,
            (
                _number("learning_rate", 0.02, 0.3, 0.08, (0.03, 0.1, 0.2), log=True),
                _whole("max_leaf_nodes", 4, 63, 15, (7, 15, 31), log=True),
                _whole("min_samples_leaf", 5, 200, 20, (20, 100), log=True),
                _number("l2_regularization", 1e-3, 1e2, 1.0, (0.1, 10.0), log=True),
            ),
            weighs_classes=True,
        ),
        Family(
            "knn",
            _ALL,
            "scaled",
            _neighbours,
            (
                _whole("n_neighbors", 3, 200, 25, (5, 15, 50, 150), log=True),
                _choice("weights", "uniform", ("uniform", "distance")),
            ),
        ),
        Family(
            "svm",
            _ALL,
            "scaled",
            _svm,
            (
                _number("C", 1e-2, 1e2, 1.0, (0.1, 1.0, 10.0), log=True),
                _choice("kernel", "rbf", ("rbf", "linear")),
            ),
            weighs_classes=True,
        ),
        Family(
            "mlp",
            _ALL,
            "scaled",
            _network,
            (
                _choice("hidden_layers", "32", ("16", "32", "64", "64-32")),
                _number("alpha", 1e-5, 1e-1, 1e-3, (1e-4, 1e-2), log=True),
                _number("learning_rate_init", 3e-4, 1e-2, 1e-3, (1e-3, 5e-3), log=True),
            ),
        ),
        Family(
            "naive_bayes",
            _CLASSES,
            "scaled",
            lambda params, building: GaussianNB(**params),
            (_number("var_smoothing", 1e-10, 1.0, 1e-9, (1e-9, 1e-4, 1e-1), log=True),),
        ),
        Family(
            "lightgbm",
            _ALL,
            "tree",
            _boosted(LightGBMClassifier, LightGBMRegressor),
            _boosted_space(_whole("min_child", 5, 200, 20, (20, 100), log=True)),
            weighs_classes=True,
        ),
        Family(
            "xgboost",
            _ALL,
            "tree",
            _boosted(XGBoostClassifier, XGBoostRegressor),
            _boosted_space(_number("min_child", 0.5, 50, 3.0, (1.0, 10.0), log=True)),
            weighs_classes=True,
        ),
    )
}


def automatic_families(task: Task, n_rows: int) -> list[str]:
    """Return what `auto` stands for: a linear model, boosting and a forest; more kinds where rows are few."""
    linear = "ridge" if task == "regression" else "logistic_regression"
    chosen = [linear, "hist_gradient_boosting"]
    chosen.append("random_forest" if n_rows <= 20_000 else "extra_trees")
    if n_rows <= 3000:
        chosen += ["svm", "extra_trees"]
    return chosen


def resolve_estimators(names: Sequence[str], task: Task, n_rows: int, columns: Sequence[str]) -> list[str]:
    """Return the families to be tried, `auto` spelt out, each once, in the order given.

    Raises:
        InvalidArgumentError: none is named, one is unknown, does not fit the task, or names no column.
        FailedPreconditionError: the package of one is not installed, or it cannot take so many rows.
    """
    if not names:
        raise InvalidArgumentError("estimators is empty.", hint='Use ["auto"] or name some families.')
    found: list[str] = []
    for name in names:
        if name == "auto":
            found += automatic_families(task, n_rows)
        else:
            found.append(_checked(name, task, columns))
    resolved = list(dict.fromkeys(found))
    if all(name in ENSEMBLES for name in resolved):
        resolved = automatic_families(task, n_rows) + resolved  # an ensemble needs members
    if "svm" in resolved:
        _svm({}, Building(task, 0, n_rows))
    return resolved


def _checked(name: str, task: Task, columns: Sequence[str]) -> str:
    if name.startswith(COLUMN_PREFIX):
        column = name.removeprefix(COLUMN_PREFIX)
        if column not in columns:
            raise unknown_column("estimator", column, columns)
        if task == "multiclass":
            raise InvalidArgumentError(
                f"{shown(name)} is one number a row, which cannot forecast more than two classes.",
                hint="It fits binary and regression tasks.",
            )
        return name
    if name in OPTIONAL_PACKAGES:
        import_booster(name)
    if name in ENSEMBLES:
        return name
    if name not in FAMILIES:
        raise InvalidArgumentError(f"Estimator {shown(name)} is unknown.", hint=f"Use {_known_names(task)}.")
    if task not in FAMILIES[name].tasks:
        raise InvalidArgumentError(f"Estimator {name} does not fit a {task} task.", hint=f"Use {_known_names(task)}.")
    return name


def _known_names(task: Task) -> str:
    names = [family.name for family in FAMILIES.values() if task in family.tasks]
    return ", ".join(["auto", *names, *ENSEMBLES, f"{COLUMN_PREFIX}NAME"])


def resolve_class_weight(class_weight: object, estimators: Sequence[str], task: Task) -> str | None:
    """Return `balanced` or None.

    Raises:
        InvalidArgumentError: another value, a regression task, or no family that can weigh classes.
    """
    if class_weight is None:
        return None
    if class_weight != "balanced":
        raise InvalidArgumentError(
            f"class_weight {shown(class_weight)} is not known.", hint="Use balanced, or leave it out."
        )
    if task == "regression" or not any(name in FAMILIES and FAMILIES[name].weighs_classes for name in estimators):
        raise InvalidArgumentError(
            "class_weight needs a classification task and an estimator that can weigh classes.",
            hint="Leave it out, or use logistic_regression, random_forest or hist_gradient_boosting.",
        )
    return "balanced"
