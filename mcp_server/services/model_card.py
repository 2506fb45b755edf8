"""The model card: what a model is, its data, scores with intervals, charts, limits, and how to make it again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from mcp_server.engine.charts import Histogram
from mcp_server.engine.plots import draw
from mcp_server.engine.reports import Mark, Report, Section, Share, Status, Table, to_html, to_markdown
from mcp_server.engine.training import TrainingSpec
from mcp_server.results.training import TrainingResult
from mcp_server.services.model_card_charts import importance_section, output_sections, search_section
from mcp_server.services.training_honesty import SAYS_NOTHING, is_noise
from mcp_server.services.training_outcome import sentence
from mcp_server.stores.models import UNREGISTERED, ModelCard

_MAX_FEATURES = 200
_FEATURES_SHOWN = 40
_WORDS_SHOWN = 5
_CLASSES_SHOWN = 20
_RARE = 0.2  # of the rows; below it a class is rare
_CALL_LENGTH = 6000
_VERDICTS: dict[str, tuple[Status, str]] = {
    "better": ("good", "better than {}"),
    "worse": ("bad", "worse than {}"),
    "not_distinguishable": ("warning", "not distinguishable from {}"),
}


def make_card(
    plan: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    result: TrainingResult,
    scores: Mapping[str, Any],
    held_out: Path,
) -> Report:
    """Return the model card as a report; its charts are data until somebody looks at them.

    Args:
        plan: the plan of the training.
        history: all trials, in the order they were made.
        result: what the training came to.
        scores: what the last fit answered.
        held_out: a Parquet file with the truth and all outputs for the held-out rows.
    """
    spec = TrainingSpec.from_document(plan["spec"])
    charts = output_sections(spec, result, pl.read_parquet(held_out))
    sections = [
        Section("What it is", _what(plan, result), facts=_facts(result)),
        *_uses(plan, result, scores),
        *_data(plan, spec, result, scores),
        _features(spec, result, scores),
        _metrics(result),
        *_threshold(spec, result),
        *charts,
        importance_section(result, scores),
        search_section(plan, history, result),
        _limits(spec, result, scores),
        Section("How to reproduce", _reproduce(plan, result)),
    ]
    picture = next((part.chart for part in charts if part.chart is not None), None)
    title = f"Model card: {plan['name']}@{UNREGISTERED}"
    return Report(title, result.summary, sections, picture=picture, marks=_marks(result, scores))


def render_card(report: Report) -> ModelCard:
    """Return the card as text and page, with its plots drawn as PNG."""
    plots = {part.heading: draw(part.chart) for part in report.sections if part.chart is not None}
    plots |= {part.heading: part.image_png for part in report.sections if part.image_png is not None}
    main = next(
        (part.heading for part in report.sections if part.chart is not None and part.chart == report.picture), ""
    )
    return ModelCard(markdown=to_markdown(report), html=to_html(report), image_png=plots.get(main), plots=plots)


def numbered(report: Report, version: str) -> Report:
    """Return the card with the version that the registry gave."""
    title, summary = (text.replace(UNREGISTERED, version) for text in (report.title, report.summary))
    return replace(report, title=title, summary=summary)


def _marks(result: TrainingResult, scores: Mapping[str, Any]) -> list[Mark]:
    marks = [Mark("bad", "no sign of a signal")] if is_noise(result.task, scores, result.baselines) else []
    for part in result.baselines[:3]:
        status, words = _VERDICTS[part.comparison.verdict]
        marks.append(Mark(status, words.format(part.baseline)))
    if result.correction is not None and result.correction.method != "none":
        marks.append(Mark("note", f"probabilities corrected ({result.correction.method})"))
    n = len(result.warnings)
    return [*marks, Mark("warning" if n else "good", f"{n or 'no'} warning{'' if n == 1 else 's'}")]


def _what(plan: Mapping[str, Any], result: TrainingResult) -> str:
    parameters = ", ".join(f"{name} {value}" for name, value in result.params.items())
    return (
        f"A {result.task} model of `{plan['spec']['target']}`: {result.estimator}"
        f"{f' ({parameters})' if parameters else ''} with {len(result.features)} features, trained on "
        f"{result.rows_train:,} rows of dataset `{plan['dataset']}` and scored once on {result.rows_test:,} rows that "
        "no fit and no choice has seen."
    )


def _facts(result: TrainingResult) -> list[tuple[str, object]]:
    main = result.test_metrics.get(result.metric)
    ends = result.test_intervals.get(result.metric)
    facts: list[tuple[str, object]] = [("held-out " + result.metric, main)]
    if ends is not None:
        facts.append(("95 % interval", f"{ends.low:.4f} to {ends.high:.4f}"))
    if result.cv_score is not None:
        facts.append(("cross-validated", f"{result.cv_score:.4f} ± {result.cv_std or 0.0:.4f}"))
    facts += [("training rows", result.rows_train), ("held-out rows", result.rows_test), ("trials", result.trials)]
    return facts


def _uses(plan: Mapping[str, Any], result: TrainingResult, scores: Mapping[str, Any]) -> list[Section]:
    target, split = plan["spec"]["target"], plan["spec"]["split"]
    output = "values" if result.task == "regression" else "classes with probabilities"
    intended = (
        f"To forecast `{target}` ({output}) for single rows or tables whose columns were made as those of "
        f"`{plan['dataset']}` were, before the outcome is known, and to compare such forecasts with others."
    )
    if is_noise(result.task, scores, result.baselines):
        intended = f"None: {SAYS_NOTHING[0].lower()}{SAYS_NOTHING[1:]} Use it to compare other models with."
    beyond = [
        "Rows whose values lie outside what training rows had (see Features): what it says of them is a guess.",
        "Rows from another source, or with columns that are known or counted otherwise.",
        "As a reason: what it looks at need not be what makes the outcome.",
    ]
    if result.task == "regression":
        beyond.append("Values far from those it was trained on: see the range of the target.")
    if split.get("kind", "random") in ("random", "stratified"):
        beyond.append("As proof of how well the future is foretold: training and held-out rows are from the same time.")
    if split.get("kind") == "group":
        beyond.append(f"As proof for rows of a `{split['column']}` it knows: it was scored on others.")
    return [
        Section("Intended use", intended),
        Section("Out of scope", "\n".join(f"- {text}" for text in beyond)),
    ]


def _data(
    plan: Mapping[str, Any], spec: TrainingSpec, result: TrainingResult, scores: Mapping[str, Any]
) -> list[Section]:
    lineage, data = plan["lineage"], scores["data"]
    text = (
        f"Dataset `{plan['dataset']}`, content SHA-256 `{lineage['dataset_hash']}`.\n\n{_split_words(spec)} "
        f"{result.rows_train:,} rows train and {result.rows_test:,} are held out."
    )
    if result.rows_unlabelled:
        text += f" {result.rows_unlabelled:,} rows without a target were left out."
    if lineage.get("suite"):
        text += f" The data passed suite `{lineage['suite']}` before."
    facts: list[tuple[str, object]] = [("features with gaps", len(data["missing"]))]
    if "classes" in data:
        return [Section("Data", text, _class_table(data["classes"]), facts=facts)]
    train = data["target"]["train"]
    names = ("minimum", "median", "mean", "deviation", "maximum")
    rows = [[name, train[name], data["target"]["test"][name]] for name in names]
    table = Table([spec.target, "training rows", "held-out rows"], rows)
    shown = [Section("Data", text, table, facts=facts)]
    if "counts" in train:
        chart = Histogram(train["edges"], train["counts"], f"{spec.target} in the training rows", spec.target)
        shown.append(Section("Distribution of the target", chart=chart))
    return shown


def _class_table(classes: Sequence[Mapping[str, Any]]) -> Table:
    totals = [max(sum(part[name] for part in classes), 1) for name in ("train", "test")]
    ranked = sorted(classes, key=lambda part: -part["train"]) if len(classes) > _CLASSES_SHOWN else classes
    rows = [
        [
            part["label"],
            part["train"],
            Share(part["train"] / totals[0] * 100),
            part["test"],
            Share(part["test"] / totals[1] * 100),
        ]
        for part in ranked[:_CLASSES_SHOWN]
    ]
    more = len(classes) - len(rows)
    note = f"{more} smaller classes are not shown." if more else ""
    return Table(["class", "training rows", "share", "held-out rows", "share held out"], rows, note)


def _split_words(spec: TrainingSpec) -> str:
    split = spec.split
    size = "" if split.test_size is None else f"{split.test_size:.0%}"
    if split.kind == "time":
        start = f", training from {split.train_from} on" if split.train_from is not None else ""
        since = f"rows from {split.test_from} on" if split.test_from is not None else f"the latest {size}"
        return f"The split is by time: by `{split.column}`, {since} are held out{start}; folds go forward in time too."
    if split.kind == "group":
        return f"The split is by group: whole groups of `{split.column}`, {size} of them, are held out, in folds too."
    kept = ", with every class in its share," if split.kind == "stratified" else ""
    return f"The split is {split.kind}: {size} of the rows, drawn with seed {spec.seed}{kept} are held out."


def _features(spec: TrainingSpec, result: TrainingResult, scores: Mapping[str, Any]) -> Section:
    """List the columns that the model takes, with gaps and ranges, the most important first where there are many."""
    inputs, missing = spec.inputs_of(result.estimator), scores["data"]["missing"]
    place = {part["feature"]: k for k, part in enumerate(scores["importances"])}
    ranked = (
        sorted(inputs, key=lambda item: place.get(item.name, len(place))) if len(inputs) > _FEATURES_SHOWN else inputs
    )
    rows = []
    for item in ranked[:_FEATURES_SHOWN]:
        seen: object = None
        if item.minimum is not None and item.maximum is not None:
            seen = f"{item.minimum:.6g} to {item.maximum:.6g}"
        elif item.categories:
            more = "…" if len(item.categories) > _WORDS_SHOWN else ""
            seen = ", ".join([str(word)[:30] for word in item.categories[:_WORDS_SHOWN]]) + more
        rows.append([item.name, item.kind, item.dtype, Share(missing.get(item.name, 0.0) * 100), seen])
    note = ""
    if len(inputs) > len(rows):
        note = f"The {len(rows)} most important of {len(inputs)}; describe_model lists all."
    columns = ["feature", "kind", "type", "missing", "seen in training"]
    return Section("Features", "Beyond what was seen in training, the model extrapolates.", Table(columns, rows, note))


def _metrics(result: TrainingResult) -> Section:
    rows = []
    for name, value in result.test_metrics.items():
        interval = result.test_intervals.get(name)
        others = [part.metrics.get(name) for part in result.baselines]
        rows.append([name, value, interval and interval.low, interval and interval.high, *others])
    columns = ["metric", "held out", "95 % from", "to", *(part.baseline for part in result.baselines)]
    lines = [f"- {sentence(part)}; {part.comparison.test}" for part in result.baselines]
    if result.cv_score is not None:
        lines.append(
            f"- cross-validated {result.metric} {result.cv_score:.4f} ± {result.cv_std or 0.0:.4f} (mean and standard "
            "deviation over the folds)"
        )
    return Section(
        "Scores", "\n".join(lines), Table(columns, rows, "Intervals are percentiles of 1,000 bootstrap samples.")
    )


def _threshold(spec: TrainingSpec, result: TrainingResult) -> list[Section]:
    if result.threshold is None:
        return []
    label = f"`{spec.classes[1]}`"
    chosen = (
        f"It was chosen on training rows kept out of each fit, for {result.threshold_metric}."
        if result.threshold_metric is not None
        else "It is the usual one; nothing was chosen."
    )
    return [Section("Threshold", f"From a probability of {result.threshold:.4g} on it says {label}. {chosen}")]


def _limits(spec: TrainingSpec, result: TrainingResult, scores: Mapping[str, Any]) -> Section:
    points = [*result.warnings]
    classes = scores["data"].get("classes", [])
    total = max(sum(part["train"] for part in classes), 1)
    rare = min(classes, key=lambda part: part["train"], default=None)
    if rare is not None and len(classes) == 2 and rare["train"] / total < _RARE:
        points.append(
            f"Class `{rare['label']}` is rare: {rare['train']:,} of {total:,} training rows and {rare['test']:,} "
            "held out. Judge by metrics that see it."
        )
    if spec.task == "regression":
        target = scores["data"]["target"]["train"]
        points.append(f"Training targets lie between {target['minimum']:.6g} and {target['maximum']:.6g}.")
    points += [
        "It knows the rows it was trained on: watch drift, and score it again when outcomes arrive.",
        "Intervals say how much the held-out rows could mislead, not how much the future will differ.",
    ]
    text = "\n".join(f"- {point}" for point in points)
    return Section("Limits", text, status="warning" if result.warnings else None)


def _reproduce(plan: Mapping[str, Any], result: TrainingResult) -> str:
    lineage = plan["lineage"]
    names = ", ".join(f"{name} {number}" for name, number in lineage["libraries"].items())
    call = json.dumps(training_call(plan), ensure_ascii=False)
    if len(call) > _CALL_LENGTH or "`" in call:
        told = "Call `train_model` with the recipe that `describe_model` shows."
        told += f"\n\nFeatures: {_names(plan['spec']['features'])}."
    else:
        told = f"Call `train_model` with:\n\n`{call}`"
    cut = (
        " A time budget ended the search, so another machine may try more or fewer trials."
        if plan["time_budget_seconds"] is not None
        else ""
    )
    return (
        f"{told}\n\nSeed {plan['spec']['seed']}, dataset content `{lineage['dataset_hash']}`, nba-mcp "
        f"{lineage['code_version']}, {names}. It took {result.duration_seconds:.1f} s.{cut}"
    )


def training_call(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `train_model` that make the same model of the same data again."""
    recipe = plan["recipe"]
    given = {name: value for name, value in recipe.items() if value not in (None, [], {})}
    split = {name: value for name, value in recipe["split"].items() if value is not None}
    return {"name": plan["name"]} | given | {"split": split}


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_FEATURES} more" if len(names) > _MAX_FEATURES else ""
    return ", ".join(names[:_MAX_FEATURES]) + more
