"""Models ranked on the same rows, with what of their differences is more than chance."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_server.engine import paired_tests
from mcp_server.engine.metrics import DEFAULT_THRESHOLD, METRICS, Floats, Metric, Truth, decided, score_all
from mcp_server.engine.pipelines import column_output
from mcp_server.engine.preprocessing import encode_target, unknown_column
from mcp_server.errors import FailedPreconditionError, InvalidArgumentError, shown
from mcp_server.results.training import ModelComparison, ModelDifference, RankedModel, RecipeDifference
from mcp_server.runtime.progress import Progress
from mcp_server.services.model_rows import SEED, ModelRows, ScoredRows, column_values
from mcp_server.stores.model_versions import ModelVersion

_COLUMN = "column:"
_MAX_MODELS = 6
_LISTED = 20


def compare(parts: ModelRows, progress: Progress, models: Sequence[str], dataset: str | None) -> ModelComparison:
    """Rank models on the same rows, or by their records without a dataset."""
    names = list(dict.fromkeys(models))
    if len(names) < 2:
        raise InvalidArgumentError(
            "compare_models needs at least two different models.",
            hint="Name model references, or column:NAME for a forecast column of the dataset.",
        )
    if len(names) > _MAX_MODELS:
        raise InvalidArgumentError(
            f"compare_models takes at most {_MAX_MODELS} models, not {len(names)}.", hint="Compare the best ones."
        )
    versions = {name: parts.models.resolve(name) for name in names if not name.startswith(_COLUMN)}
    if not versions:
        raise InvalidArgumentError("At least one of models must be a registered model.", hint="list_models shows them.")
    first = next(iter(versions.values()))
    for version in versions.values():
        _require_same_question(first, version)
    if dataset is None:
        return _compare_records(names, versions, parts.metric_of(first))
    return _compare_on(parts, progress, names, versions, dataset)


def _compare_on(
    parts: ModelRows, progress: Progress, names: list[str], versions: dict[str, ModelVersion], dataset: str
) -> ModelComparison:
    first = next(iter(versions.values()))
    rows = _rows_for_all(parts, list(versions.values()), dataset)
    outputs: dict[str, Floats] = {}
    for position, name in enumerate(names):
        progress(0.1 + 0.6 * position / len(names), f"scoring {name}")
        outputs[_shown_name(name, versions)] = _output_of(parts, name, versions, rows)
    metric = parts.metric_of(first)
    progress(0.8, "drawing bootstrap samples")
    task = first.signature.task
    thresholds = {version.ref: version.signature.threshold for version in versions.values()}
    ranking = [
        RankedModel(model=name, metrics=score_all(task, rows.truth, out, thresholds.get(name, DEFAULT_THRESHOLD)))
        for name, out in outputs.items()
    ]
    ranking = _ranked(ranking, metric)
    clusters = _clusters(rows.frame, list(versions.values()))
    differences = _differences([part.model for part in ranking], outputs, thresholds, rows.truth, metric, clusters)
    return ModelComparison(
        summary=_comparison_summary(ranking, differences, metric, len(rows.truth)),
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        dataset=parts.datasets.resolve(dataset).ref,
        rows=len(rows.truth),
        ranking=ranking,
        differences=differences,
        recipe_differences=_recipe_differences(versions),
        warnings=rows.warnings,
    )


def _rows_for_all(parts: ModelRows, versions: list[ModelVersion], dataset: str) -> ScoredRows:
    """Return rows that no model was trained on, as far as that is known: the same for all."""
    data = parts.datasets.resolve(dataset)
    kept = [parts.labelled_rows(version, dataset) for version in versions]
    if len({part.frame.height for part in kept}) == 1 and all(part.frame.equals(kept[0].frame) for part in kept):
        return ScoredRows(kept[0].frame, kept[0].truth, kept[0].n_unlabelled, _once(kept))
    smallest = min(kept, key=lambda part: part.frame.height)
    frame = smallest.frame
    for part in kept:
        frame = frame.join(part.frame, on=frame.columns, how="semi", nulls_equal=True, maintain_order="left")
    if frame.height == 0:
        raise FailedPreconditionError(
            f"The models were trained on different parts of {data.ref}: no row is new to all of them.",
            hint="Compare them on another dataset.",
        )
    first = versions[0].signature
    truth, _ = encode_target(frame[first.target], first.task, list(first.classes) or None)
    return ScoredRows(frame, truth, smallest.n_unlabelled, _once(kept))


def _output_of(parts: ModelRows, name: str, versions: dict[str, ModelVersion], rows: ScoredRows) -> Floats:
    if name in versions:
        return parts.output(versions[name], rows.frame)
    first = next(iter(versions.values()))
    column = name.removeprefix(_COLUMN)
    if column not in rows.frame.columns:
        raise unknown_column("models", column, rows.frame.columns)
    if first.signature.task == "multiclass":
        raise InvalidArgumentError(
            f"{shown(name)} is one number a row, which cannot forecast more than two classes.", hint="Leave it out."
        )
    past = parts.past_truth(first)
    fill = float(np.mean(past)) if len(past) else float(np.mean(rows.truth))
    return column_output(column, column_values(rows.frame[column]), len(first.signature.classes), fill)


def _compare_records(names: list[str], versions: dict[str, ModelVersion], metric: Metric) -> ModelComparison:
    columns = [name for name in names if name not in versions]
    if columns:
        raise InvalidArgumentError(
            f"{shown(columns[0])} has no record: a column is compared on rows.", hint="Name a dataset."
        )
    records = {version.ref: dict(version.result) for version in versions.values()}
    ranking = [RankedModel(model=ref, metrics=dict(record["test_metrics"])) for ref, record in records.items()]
    ranking = _ranked(ranking, metric)
    differences = _record_differences(ranking, records, metric)
    warning = "The records are of each model's own held-out rows; name a dataset to compare on the same rows."
    return ModelComparison(
        summary=_comparison_summary(ranking, differences, metric, None),
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        dataset=None,
        rows=None,
        ranking=ranking,
        differences=differences,
        recipe_differences=_recipe_differences(versions),
        warnings=[warning],
    )


def _require_same_question(first: ModelVersion, other: ModelVersion) -> None:
    mine, theirs = first.signature, other.signature
    if (mine.target, mine.task, mine.classes) != (theirs.target, theirs.task, theirs.classes):
        raise InvalidArgumentError(
            f"{first.ref} predicts {shown(mine.target)} ({mine.task}) and {other.ref} {shown(theirs.target)} "
            f"({theirs.task}): they cannot be compared.",
            hint="Compare models of the same target, task and classes.",
        )


def _shown_name(name: str, versions: dict[str, ModelVersion]) -> str:
    return versions[name].ref if name in versions else name


def _ranked(ranking: list[RankedModel], metric: Metric) -> list[RankedModel]:
    sign = -1.0 if metric.higher_is_better else 1.0

    def place(part: RankedModel) -> float:
        value = part.metrics.get(metric.name)
        return float("inf") if value is None else sign * value

    return sorted(ranking, key=place)


def _differences(
    names: list[str],
    outputs: dict[str, Floats],
    thresholds: dict[str, float],
    truth: Truth,
    metric: Metric,
    clusters: NDArray[np.int64] | None,
) -> list[ModelDifference]:
    """Return every pair by the metric of the models, and by accuracy for classes; p-values adjusted a metric."""
    asked = [metric] if "regression" in metric.tasks or metric.name == "accuracy" else [metric, METRICS["accuracy"]]
    pairs = list(itertools.combinations(names, 2))
    found: list[ModelDifference] = []
    for one in asked:
        judged = {name: decided(one, out, thresholds.get(name, DEFAULT_THRESHOLD)) for name, out in outputs.items()}
        tested = [paired_tests.compare_outputs(one, truth, judged[a], judged[b], SEED, clusters) for a, b in pairs]
        known = [(pair, part) for pair, part in zip(pairs, tested, strict=True) if part is not None]
        adjusted = paired_tests.adjusted_for_many([part for _, part in known])
        found += [
            ModelDifference(a=a, b=b, **asdict(part.found), test=part.test, p_adjusted=part.p_adjusted)
            for ((a, b), _), part in zip(known, adjusted, strict=True)
        ]
    return found


def _clusters(frame: pl.DataFrame, versions: Sequence[ModelVersion]) -> NDArray[np.int64] | None:
    """Return which rows belong together: the groups, or blocks of time, of the first split that names a column."""
    for version in versions:
        split = dict((version.recipe or {}).get("split") or {})
        column = split.get("column")
        if column is None or column not in frame.columns or split.get("kind") not in ("group", "time"):
            continue
        return paired_tests.clusters_of(split["kind"], frame[column])
    return None


def _record_differences(
    ranking: list[RankedModel], records: dict[str, dict[str, Any]], metric: Metric
) -> list[ModelDifference]:
    """Return differences of records; a verdict only where the intervals of two do not meet."""
    found = []
    for i, first in enumerate(ranking):
        for second in ranking[i + 1 :]:
            values = [part.metrics.get(metric.name) for part in (first, second)]
            if values[0] is None or values[1] is None:
                continue
            ends = [records[part.model].get("test_intervals", {}).get(metric.name) for part in (first, second)]
            apart = all(ends) and (ends[0]["low"] > ends[1]["high"] or ends[0]["high"] < ends[1]["low"])
            found.append(
                ModelDifference(
                    a=first.model,
                    b=second.model,
                    metric=metric.name,
                    difference=values[0] - values[1],
                    ci_low=None,
                    ci_high=None,
                    p_value=None,
                    verdict="better" if apart else "not_distinguishable",
                    higher_is_better=metric.higher_is_better,
                    test="records",
                )
            )
    return found


def _recipe_differences(versions: dict[str, ModelVersion]) -> list[RecipeDifference]:
    """Return the fields in which the first two trainings differ."""
    known = [version for version in versions.values() if version.recipe is not None][:2]
    if len(known) < 2:
        return []
    a, b = (dict(version.recipe or {}) | {"estimator": version.result.get("estimator")} for version in known)
    return [
        RecipeDifference(field=name, a=_only(a.get(name), b.get(name)), b=_only(b.get(name), a.get(name)))
        for name in dict.fromkeys([*a, *b])
        if a.get(name) != b.get(name)
    ]


def _only(mine: Any, theirs: Any) -> Any:
    """Return a value, or of a list what the other one lacks."""
    if isinstance(mine, list) and isinstance(theirs, list):
        return [item for item in mine if item not in theirs][:_LISTED]
    return mine


def _comparison_summary(
    ranking: list[RankedModel], differences: list[ModelDifference], metric: Metric, n_rows: int | None
) -> str:
    best, second = ranking[0], ranking[1]
    figures = ", ".join(
        f"{part.model} {value:.4f}" for part in ranking[:5] if (value := part.metrics.get(metric.name)) is not None
    )
    found = next((part for part in differences if (part.a, part.b) == (best.model, second.model)), None)
    verdict = (
        ""
        if found is None
        else {"better": "clearly ahead of", "worse": "behind"}.get(found.verdict, "not distinguishable from")
    )
    where = "by their records" if n_rows is None else f"on {n_rows:,} rows"
    p_value = "" if found is None or found.p_value is None else f" (p {found.p_value:.3f})"
    told = "" if not verdict else f"; {best.model} is {verdict} {second.model}{p_value}"
    return f"By {metric.name} {where}: {figures}{told}."


def _once(parts: Sequence[ScoredRows]) -> list[str]:
    return list(dict.fromkeys(text for part in parts for text in part.warnings))
