"""Rows with known outcomes as a registered model sees them, and what the model says of them."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from mcp_server.engine.metrics import METRICS, Codes, Floats, Metric, Truth, resolve_metric
from mcp_server.engine.paired_tests import clusters_of
from mcp_server.engine.pipelines import predict_output
from mcp_server.engine.preprocessing import InputColumn, encode_target, model_input, unknown_column
from mcp_server.engine.training import divide, labelled
from mcp_server.errors import InvalidArgumentError, shown
from mcp_server.results.training import TrainingRecipe
from mcp_server.services.training_planning import spec_of_recipe
from mcp_server.stores.datasets import DatasetStore
from mcp_server.stores.model_versions import ModelVersion
from mcp_server.stores.models import ModelRegistry

SEED = 0  # of bootstrap samples: the same question gets the same answer


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Labelled rows as one model sees them; `warnings` say which rows were left out.

    `clusters` (n,) says which rows belong together, by the split of the training; None where each is its own.
    """

    frame: pl.DataFrame
    truth: Truth
    n_unlabelled: int
    warnings: list[str]
    clusters: Codes | None = None


class ModelRows:
    """Reads rows and models. Thread-safe."""

    def __init__(self, datasets: DatasetStore, models: ModelRegistry) -> None:
        self.datasets = datasets
        self.models = models

    def labelled_rows(self, version: ModelVersion, dataset: str) -> ScoredRows:
        """Return the labelled rows of a dataset; of the one the model was trained on, its held-out part only.

        Raises:
            InvalidArgumentError: no target column or no labelled row, or labels the model does not know.
        """
        data = self.datasets.resolve(dataset)
        target = version.signature.target
        if target not in data.schema:
            raise unknown_column("target", target, list(data.schema))
        everything = self.datasets.read(data.ref)
        frame = labelled(everything, target)
        n_unlabelled = everything.height - frame.height
        warnings: list[str] = []
        if version.recipe is not None and version.lineage.get("dataset_hash") == data.content_hash:
            recipe = TrainingRecipe.model_validate(dict(version.recipe))
            frame = frame[divide(frame, spec_of_recipe(recipe, version.signature.classes)).test]
            warnings.append(f"{version.ref} was trained on {data.ref}: only the rows it was not trained on are scored.")
        if frame.height == 0:
            raise InvalidArgumentError(
                f"{data.ref} has no row with a known {shown(target)}.", hint="Score rows whose outcome is known."
            )
        truth, _ = encode_target(frame[target], version.signature.task, list(version.signature.classes) or None)
        split = dict((version.recipe or {}).get("split") or {})
        column = frame[split["column"]] if split.get("column") in frame.columns else None
        return ScoredRows(frame, truth, n_unlabelled, warnings, clusters_of(str(split.get("kind")), column))

    def output(self, version: ModelVersion, frame: pl.DataFrame) -> Floats:
        """Return what the model says of the rows of `frame`: probabilities (n, k), or values (n,)."""
        pipeline = self.models.load(version)
        with threadpool_limits(1):  # on a busy machine, threads of one fit or forecast mostly wait for each other
            return predict_output(pipeline, model_input(frame, inputs_of(version)), len(version.signature.classes))

    def metric_of(self, version: ModelVersion) -> Metric:
        """Return the metric the model was trained for."""
        name = version.result.get("metric", "auto")
        return resolve_metric(name if name in METRICS else "auto", version.signature.task)

    def past_truth(self, version: ModelVersion) -> Truth:
        """Return the targets of the training rows kept with a model; none where none are kept."""
        if version.reference_artifact is None:
            return np.zeros(0)
        target = self.models.reference(version)[version.signature.target]
        return encode_target(target, version.signature.task, list(version.signature.classes) or None)[0]


def inputs_of(version: ModelVersion) -> list[InputColumn]:
    """Return the columns of a model in the engine's form."""
    return [InputColumn(**column.model_dump()) for column in version.signature.inputs]


def column_values(column: pl.Series) -> Floats:
    return np.asarray(column.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy(), dtype=np.float64)
