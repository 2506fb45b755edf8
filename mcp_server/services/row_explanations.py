"""What each feature adds to the answers of an endpoint, for `predict` with `explain`."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mcp_server.engine.predictions import Floats
from mcp_server.errors import FailedPreconditionError
from mcp_server.results.deployment import Prediction
from mcp_server.services.answering import Answer, Part
from mcp_server.services.scorers import ServedModel
from mcp_server.stores.models import ModelRegistry

if TYPE_CHECKING:
    from mcp_server.engine.sampled_explanation import SampledExplanation

_EVALUATIONS = 4000  # of the model for each row: a forest of 200 trees takes about 0.2 s
_SEED = 0
_FEATURES_SHOWN = 50


class RowExplanations:
    """Explains answers by the versions that gave them, with sampled Shapley values. Thread-safe."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models

    def added_to(
        self, found: Sequence[Prediction], answer: Answer, rows: Sequence[Mapping[str, Any]]
    ) -> list[Prediction]:
        """Return the predictions with what each feature adds to the probability of what is said, or to the value.

        `explanation_base` and the values add up to it.

        Raises:
            FailedPreconditionError: no training rows are kept with a version, so that nothing says what is usual.
        """
        explained = list(found)
        for part in answer.parts:
            values = self._explained(part, [rows[i] for i in part.index])
            for place, i in enumerate(part.index):
                k = _output_of(part.model, explained[i])
                adds = dict(zip(values.features, values.values[place, :, k].tolist(), strict=True))
                largest = sorted(adds.items(), key=lambda item: -abs(item[1]))
                shown, rest = dict(largest[:_FEATURES_SHOWN]), [value for _, value in largest[_FEATURES_SHOWN:]]
                explained[i] = explained[i].model_copy(
                    update={
                        "explanation": shown | ({"(others)": sum(rest)} if rest else {}),
                        "explanation_base": float(values.base[k]),
                    }
                )
        return explained

    def _explained(self, part: Part, rows: Sequence[Mapping[str, Any]]) -> "SampledExplanation":
        from mcp_server.engine.sampled_explanation import rows_frame, sampled_shapley, typed_rows

        version, inputs = part.model.version, part.model.version.signature.inputs
        if version.reference_artifact is None:
            raise FailedPreconditionError(
                f"No training rows are kept with {version.ref}, so that nothing says what is usual.",
                hint="Predict without explain, or register the model with its dataset.",
            )
        usual = typed_rows(self._models.reference(version), inputs)
        return sampled_shapley(_predictor(part.model), rows_frame(rows, inputs), usual, _SEED, _EVALUATIONS)


def _predictor(model: ServedModel) -> Callable[[pl.DataFrame], Floats]:
    def said(frame: pl.DataFrame) -> Floats:
        found = model.scorer.predict_frame(frame)
        if found.probabilities is not None:
            return found.probabilities
        if not model.classes:
            return np.asarray(found.labels, dtype=np.float64).reshape(-1, 1)
        return np.array([[float(str(label) == name) for name in model.classes] for label in found.labels])

    return said


def _output_of(model: ServedModel, prediction: Prediction) -> int:
    return model.classes.index(str(prediction.prediction)) if model.classes else 0
