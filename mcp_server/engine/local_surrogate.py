"""LIME: a linear model of what a model says in the neighbourhood of one row."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pandas as pd

from mcp_server.engine.metrics import Floats
from mcp_server.engine.preprocessing import MISSING
from mcp_server.errors import FailedPreconditionError

_SAMPLES = 2000


@dataclass(frozen=True, slots=True)
class LocalLinear:
    """Intercept and weights of the linear model around one row; their sum is what it says of that row.

    Attributes:
        weights: by column of the model's matrix, what its being as it is adds.
        r2: how well the linear model fits the model nearby, 1 for exactly.
    """

    intercept: float
    weights: dict[str, float]
    r2: float


def explain_locally(
    predict: Callable[[pd.DataFrame], Floats], matrix: pd.DataFrame, background: pd.DataFrame, output: int, seed: int
) -> list[LocalLinear]:
    """Explain rows one by one.

    Numbers are cut into quarters of the background, words are as they are; a missing number stands as the
    background's median, which is all that LIME knows of gaps.

    Args:
        predict: gives shape (n, k) for frames with the columns of `matrix`.
        matrix: rows from `model_input`.
        background: rows from `model_input` that stand for the training part.
        output: which of the k outputs is explained.
        seed: of the samples.

    Raises:
        FailedPreconditionError: the package lime is not installed.

    Source: Ribeiro, Singh and Guestrin, KDD (2016).
    """
    if find_spec("lime") is None:
        raise FailedPreconditionError(
            'method="lime" needs the package lime, which is not installed.',
            hint='Install the extra lime (pip install "nba-mcp[lime]"), or use method="shap".',
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lime.lime_tabular import LimeTabularExplainer

    coder = _Coder(background, matrix)
    explainer = LimeTabularExplainer(
        coder.encode(background),
        mode="regression",
        feature_names=list(coder.columns),
        categorical_features=coder.categorical,
        categorical_names={place: coder.words[place] for place in coder.categorical},
        random_state=seed,
    )

    def said(encoded: Floats) -> Floats:
        return np.asarray(predict(coder.decode(encoded))[:, output], dtype=np.float64)

    found = []
    for row in coder.encode(matrix):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            local = explainer.explain_instance(row, said, num_features=len(coder.columns), num_samples=_SAMPLES)
        weights = {coder.columns[place]: float(weight) for place, weight in local.as_map()[1]}
        found.append(LocalLinear(float(local.intercept[1]), weights, float(local.score)))
    return found


class _Coder:
    """Words as numbers and back, as LIME takes numbers only."""

    def __init__(self, background: pd.DataFrame, matrix: pd.DataFrame) -> None:
        self.columns = [str(name) for name in background.columns]
        self.words: dict[int, list[str]] = {}
        self._medians = np.zeros(len(self.columns))
        for place, name in enumerate(background.columns):
            if pd.api.types.is_numeric_dtype(background[name]):
                median = background[name].median()
                self._medians[place] = 0.0 if pd.isna(median) else float(median)
            else:
                both = pd.concat([background[name], matrix[name]]).fillna(MISSING).astype(str)
                self.words[place] = sorted(both.unique())
        self.categorical = list(self.words)

    def encode(self, frame: pd.DataFrame) -> Floats:
        encoded = np.empty(frame.shape)
        for place, name in enumerate(frame.columns):
            if place in self.words:
                known = {word: float(code) for code, word in enumerate(self.words[place])}
                encoded[:, place] = [known[str(word)] for word in frame[name].fillna(MISSING)]
            else:
                values = frame[name].to_numpy(dtype=np.float64)
                encoded[:, place] = np.where(np.isfinite(values), values, self._medians[place])
        return encoded

    def decode(self, encoded: Floats) -> pd.DataFrame:
        columns: dict[str, object] = {}
        for place, name in enumerate(self.columns):
            if place in self.words:
                words = np.array(self.words[place], dtype=object)
                columns[name] = words[encoded[:, place].astype(np.intp)]
            else:
                columns[name] = encoded[:, place]
        return pd.DataFrame(columns)
