"""Is a retrained model better than the one it would replace?"""

from typing import Any

from mcp_server.engine.comparison import PairedDifference, paired_bootstrap
from mcp_server.engine.metrics import METRICS, Floats, decided
from mcp_server.engine.pipelines import predict_output
from mcp_server.engine.preprocessing import InputColumn, model_input
from mcp_server.engine.splits import Split
from mcp_server.engine.training import TrainingRows, TrainingSpec, divide, labelled
from mcp_server.errors import FailedPreconditionError
from mcp_server.services.monitoring_parts import MonitoringParts
from mcp_server.stores.model_versions import ModelVersion


def compare_on_held_out(parts: MonitoringParts, new: str, live: str) -> PairedDifference | None:
    """Compare two versions on the rows that the new one's training held out.

    The live one may have been trained on some of them, which can only flatter the live one.

    Raises:
        FailedPreconditionError: they predict different things, or the new one has no recipe.
        NotFoundError: the dataset is gone.
    """
    candidate, champion = parts.models.resolve(new), parts.models.resolve(live)
    theirs = (champion.task, champion.signature.target, list(champion.signature.classes))
    if (candidate.task, candidate.signature.target, list(candidate.signature.classes)) != theirs:
        raise FailedPreconditionError(f"{new} and {live} do not predict the same target and classes.")
    if candidate.recipe is None:
        raise FailedPreconditionError(f"{new} has no recipe that says which rows were held out.")
    rows = _rows(parts, candidate, dict(candidate.recipe))
    metric = METRICS[str(candidate.recipe["metric"])]
    outputs = [
        decided(metric, _output(parts, version, rows), version.signature.threshold) for version in (candidate, champion)
    ]
    return paired_bootstrap(metric, rows.truth[rows.test], outputs[0], outputs[1], int(candidate.recipe["seed"]))


def _rows(parts: MonitoringParts, version: ModelVersion, recipe: dict[str, Any]) -> TrainingRows:
    frame = labelled(parts.datasets.read(str(recipe["dataset"])), version.signature.target)
    spec = TrainingSpec(
        task=version.task,  # type: ignore[arg-type]  # one of the tasks, as it was registered
        target=version.signature.target,
        features=list(recipe["features"]),
        inputs=[],
        column_inputs=[],
        classes=list(version.signature.classes),
        metric=str(recipe["metric"]),
        split=Split(**recipe["split"]),
        cv=int(recipe["cv"]),
        class_weight=None,
        baselines=[],
        seed=int(recipe["seed"]),
    )
    return divide(frame, spec)


def _output(parts: MonitoringParts, version: ModelVersion, rows: TrainingRows) -> Floats:
    matrix = model_input(
        rows.frame[rows.test], [InputColumn(**column.model_dump()) for column in version.signature.inputs]
    )
    return predict_output(parts.models.load(version), matrix, len(version.signature.classes))
