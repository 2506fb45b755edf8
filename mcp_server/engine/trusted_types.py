"""The types that a model file may hold, named one by one; everything else is refused.

Left out on purpose: functions and whatever carries one (`functools.partial`, `FunctionTransformer` with a
function, methods, operators), because a file that names what is to be called decides what runs.
"""

_BUILTIN = "dict list tuple set slice str int float bool bytes"

_NUMPY = (
    "ndarray dtype generic bool bool_ int8 int16 int32 int64 intp uint8 uint16 uint32 uint64 float16 float32 "
    "float64 str_ bytes_ datetime64 timedelta64"
)

_LOSSES = (
    "HalfBinomialLoss HalfMultinomialLoss HalfSquaredError HalfPoissonLoss HalfGammaLoss AbsoluteError "
    "PinballLoss HuberLoss ExponentialLoss"
)

_BY_MODULE: dict[str, str] = {
    "builtins": _BUILTIN,
    "collections": "OrderedDict",
    "numpy": _NUMPY,
    "numpy.random.mtrand": "RandomState",
    "numpy.random._generator": "Generator",
    "scipy.sparse._csr": "csr_matrix csr_array",
    "scipy.sparse._csc": "csc_matrix csc_array",
    # what a pipeline is made of
    "sklearn.pipeline": "Pipeline FeatureUnion",
    "sklearn.compose._column_transformer": "ColumnTransformer",
    "sklearn.compose._target": "TransformedTargetRegressor",
    "sklearn.utils._bunch": "Bunch",
    "sklearn.impute._base": "SimpleImputer MissingIndicator",
    "sklearn.impute._knn": "KNNImputer",
    "sklearn.preprocessing._data": (
        "StandardScaler MinMaxScaler MaxAbsScaler RobustScaler QuantileTransformer PowerTransformer Normalizer "
        "Binarizer"
    ),
    "sklearn.preprocessing._discretization": "KBinsDiscretizer",
    "sklearn.preprocessing._encoders": "OneHotEncoder OrdinalEncoder",
    "sklearn.preprocessing._function_transformer": "FunctionTransformer",
    "sklearn.preprocessing._label": "LabelBinarizer LabelEncoder",
    "sklearn.preprocessing._polynomial": "PolynomialFeatures SplineTransformer",
    "sklearn.preprocessing._target_encoder": "TargetEncoder",
    "sklearn.feature_selection._variance_threshold": "VarianceThreshold",
    "sklearn.decomposition._pca": "PCA",
    "mcp_server.engine.registered_model": "RegisteredModel",
    "mcp_server.engine.boosting": "LightGBMClassifier LightGBMRegressor XGBoostClassifier XGBoostRegressor",
    # estimators
    "sklearn.dummy": "DummyClassifier DummyRegressor",
    "sklearn.linear_model._base": "LinearRegression",
    "sklearn.linear_model._logistic": "LogisticRegression LogisticRegressionCV",
    "sklearn.linear_model._ridge": "Ridge RidgeCV RidgeClassifier RidgeClassifierCV",
    "sklearn.linear_model._coordinate_descent": "ElasticNet ElasticNetCV Lasso LassoCV",
    "sklearn.linear_model._bayes": "BayesianRidge ARDRegression",
    "sklearn.linear_model._huber": "HuberRegressor",
    "sklearn.linear_model._glm.glm": "PoissonRegressor GammaRegressor TweedieRegressor",
    "sklearn.linear_model._stochastic_gradient": "SGDClassifier SGDRegressor",
    "sklearn.linear_model._sgd_fast": ("Hinge SquaredHinge ModifiedHuber EpsilonInsensitive SquaredEpsilonInsensitive"),
    "sklearn.ensemble._forest": (
        "RandomForestClassifier RandomForestRegressor ExtraTreesClassifier ExtraTreesRegressor"
    ),
    "sklearn.ensemble._gb": "GradientBoostingClassifier GradientBoostingRegressor",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": (
        "HistGradientBoostingClassifier HistGradientBoostingRegressor"
    ),
    "sklearn.ensemble._hist_gradient_boosting.binning": "_BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
    "sklearn.ensemble._voting": "VotingClassifier VotingRegressor",
    "sklearn.ensemble._stacking": "StackingClassifier StackingRegressor",
    "sklearn.ensemble._bagging": "BaggingClassifier BaggingRegressor",
    "sklearn.ensemble._weight_boosting": "AdaBoostClassifier AdaBoostRegressor",
    "sklearn.tree._classes": ("DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor"),
    "sklearn.tree._tree": "Tree",
    "sklearn._loss.link": "IdentityLink LogLink LogitLink HalfLogitLink MultinomialLogit Interval",
    "sklearn._loss.loss": _LOSSES,
    "sklearn._loss._loss": " ".join(f"Cy{name}" for name in _LOSSES.split()),
    "sklearn.neighbors._classification": "KNeighborsClassifier",
    "sklearn.neighbors._regression": "KNeighborsRegressor",
    "sklearn.neighbors._kd_tree": "KDTree",
    "sklearn.metrics._dist_metrics": "EuclideanDistance64",
    "sklearn.svm._classes": "SVC SVR LinearSVC LinearSVR",
    "sklearn.neural_network._multilayer_perceptron": "MLPClassifier MLPRegressor",
    "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
    "sklearn.naive_bayes": "GaussianNB",
    "sklearn.calibration": ("CalibratedClassifierCV _CalibratedClassifier _SigmoidCalibration _TemperatureScaling"),
    "sklearn.isotonic": "IsotonicRegression",
    "sklearn.frozen._frozen": "FrozenEstimator",
}

TRUSTED_TYPES: frozenset[str] = frozenset(
    f"{module}.{name}" for module, names in _BY_MODULE.items() for name in names.split()
)

# How the file says that each part is to be built. Those that call something named in the file are missing.
TRUSTED_LOADERS: frozenset[str] = frozenset(
    {
        "BytesNode",
        "DTypeNode",
        "DictNode",
        "JsonNode",
        "ListNode",
        "LossNode",
        "NdArrayNode",
        "ObjectNode",
        "RandomGeneratorNode",
        "RandomStateNode",
        "SetNode",
        "SliceNode",
        "SparseMatrixNode",
        "TreeNode",
        "TupleNode",
        "TypeNode",
    }
)
