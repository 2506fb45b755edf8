"""The drift check: what is compared with what, the verdict column by column, and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

import polars as pl

from mcp_server.engine.drift import METHODS, ColumnDrift, compare_frames, prepare
from mcp_server.engine.model_charts import overlay_chart
from mcp_server.engine.performance import probability_column
from mcp_server.engine.reports import Report, Section, Table, plain_text
from mcp_server.errors import FailedPreconditionError, InvalidArgumentError, shown
from mcp_server.results import monitoring as results
from mcp_server.runtime.progress import Progress
from mcp_server.services.monitoring_parts import MonitoringParts, answered
from mcp_server.services.paging import n_that_fit
from mcp_server.stores.model_versions import ModelVersion

_SHOWN = {"summary": 20, "full": 40}
_PLOTTED = 6
_PLOT_ROWS = 20_000
_SCORED_ROWS = 20_000
_PREDICTION = "prediction"
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Sides:
    """What is compared: two frames, what they are called, and the columns that stand for predictions."""

    reference: pl.DataFrame
    current: pl.DataFrame
    reference_name: str
    current_name: str
    columns: list[str]
    prediction: str | None
    warnings: list[str]


def run_drift_check(
    parts: MonitoringParts,
    progress: Progress,
    *,
    endpoint: str | None,
    reference: str | None,
    current: str | None,
    columns: Sequence[str] | None,
    methods: Sequence[str],
    thresholds: Mapping[str, float],
    window: str | int | None,
    detail: str,
) -> results.DriftResult:
    """Compare current rows with a reference and write the report.

    Raises:
        InvalidArgumentError: the arguments do not say what to compare with what, or name an unknown column or method.
        NotFoundError: no such endpoint or dataset.
        FailedPreconditionError: too few logged predictions, or no reference is kept with the model.
    """
    progress(0.05, "reading both sides")
    sides = _sides(parts, endpoint, reference, current, window)
    chosen = _chosen(sides, columns)
    wanted = [method for method in methods or ["auto"] if _require_method(method)]
    _require_thresholds(thresholds, chosen)
    limits = {"psi": parts.settings.psi_threshold, **thresholds}
    progress(0.3, f"comparing {len(chosen)} columns")
    entries = compare_frames(sides.reference, sides.current, chosen, wanted, limits)  # type: ignore[arg-type]
    prediction = _prediction_drift(sides, limits)
    progress(0.6, "drawing the report")
    return _shape(parts, sides, entries, prediction, detail)


# What is compared --------------------------------------------------------------------------------------------------


def _sides(
    parts: MonitoringParts, endpoint: str | None, reference: str | None, current: str | None, window: str | int | None
) -> Sides:
    if current is not None and window is not None:
        raise InvalidArgumentError(
            "window belongs to logged predictions, and current names a dataset.", hint="Leave one of them out."
        )
    if endpoint is None:
        if reference is None or current is None:
            raise InvalidArgumentError(
                "check_drift needs an endpoint, or a reference and a current dataset.",
                hint="Give endpoint, or reference and current, or endpoint and current.",
            )
        return _dataset_sides(parts, reference, current)
    return _endpoint_sides(parts, endpoint, reference, current, window)


def _dataset_sides(parts: MonitoringParts, reference: str, current: str) -> Sides:
    then, now = parts.datasets.resolve(reference), parts.datasets.resolve(current)
    shared = [name for name in then.schema if name in now.schema]
    if not shared:
        raise InvalidArgumentError(
            f"{then.ref} and {now.ref} share no column.", hint="describe_dataset lists the columns of each."
        )
    lost = [name for name in then.schema if name not in now.schema]
    warnings = [f"{now.ref} lacks {len(lost)} columns of {then.ref}: {_names(lost)}."] if lost else []
    frames = [parts.datasets.read(version.ref, shared) for version in (then, now)]
    for version, frame in zip((then, now), frames, strict=True):
        warnings += _few(parts, version.ref, frame.height)
    return Sides(frames[0], frames[1], then.ref, now.ref, shared, None, warnings)


def _endpoint_sides(
    parts: MonitoringParts, endpoint: str, reference: str | None, current: str | None, window: str | int | None
) -> Sides:
    model = parts.models.resolve(parts.live_model(endpoint))
    features = [column.name for column in model.signature.inputs]
    warnings: list[str] = []
    if reference is None:
        then, then_name = parts.models.reference(model), f"training rows of {model.ref}"
    else:
        then, then_name = parts.datasets.read(reference), parts.datasets.resolve(reference).ref
    if current is None:
        now, now_name = _logged(parts, endpoint, model, window), f"predictions of {endpoint}"
    else:
        now, now_name = _scored(parts, model, current), parts.datasets.resolve(current).ref
        warnings += _few(parts, now_name, now.height)
    shared = [name for name in features if name in then.columns and name in now.columns]
    if not shared:
        raise InvalidArgumentError(
            f"None of the model's {len(features)} features is on both sides.",
            hint=f"The features of {model.ref} are {_names(features)}.",
        )
    lost = [name for name in features if name not in shared]
    warnings += [f"Not compared, since one side lacks them: {_names(lost)}."] if lost else []
    said = _prediction_column(model, then, now)
    return Sides(_with_score(then, model), now, then_name, now_name, shared, said, warnings)


def _logged(parts: MonitoringParts, endpoint: str, model: ModelVersion, window: str | int | None) -> pl.DataFrame:
    """Return the answered rows of the log; predictions of other models than the live one are left empty."""
    log = answered(parts.window(endpoint, window))
    needed = max(1, parts.settings.min_rows)
    if log.height < needed:
        raise FailedPreconditionError(
            f"Endpoint {endpoint} has {log.height} logged predictions in the window; drift is judged from {needed}.",
            hint="Widen the window, wait for more predictions, or name a dataset as current.",
            details={"rows": log.height, "needed": needed},
        )
    live = pl.col("model") == model.ref
    scores = [name for name in log.columns if name == _PREDICTION or name.startswith("p_")]
    return _with_score(log.with_columns(pl.when(live).then(pl.col(name)).alias(name) for name in scores), model)


def _scored(parts: MonitoringParts, model: ModelVersion, current: str) -> pl.DataFrame:
    """Return a dataset with what the live model says of it, at most 20,000 rows drawn evenly."""
    from mcp_server.engine.metrics import labels
    from mcp_server.engine.pipelines import predict_output
    from mcp_server.engine.preprocessing import InputColumn, model_input

    frame = parts.datasets.read(current)
    inputs = [InputColumn(**column.model_dump()) for column in model.signature.inputs]
    if any(column.name not in frame.columns for column in inputs):
        return frame.drop(_PREDICTION, strict=False)
    frame = frame.gather_every(max(1, -(-frame.height // _SCORED_ROWS)))
    output = predict_output(parts.models.load(model), model_input(frame, inputs), len(model.signature.classes))
    if output.ndim == 1:
        return frame.with_columns(pl.Series(_PREDICTION, output))
    codes = labels(output, model.signature.threshold)
    said = [str(model.signature.classes[code]) for code in codes]
    return frame.with_columns(pl.Series(_PREDICTION, said), pl.Series(_score_column(model), output[:, -1]))


def _score_column(model: ModelVersion) -> str:
    """Name the column that says most of a model's predictions: of two classes the probability of the second."""
    classes = model.signature.classes
    return f"probability_{classes[-1]}" if len(classes) == 2 else _PREDICTION


def _with_score(frame: pl.DataFrame, model: ModelVersion) -> pl.DataFrame:
    """Call the logged probability what the training rows call it."""
    if not model.signature.classes:
        return frame
    logged = probability_column(model.signature.classes[-1])
    wanted = _score_column(model)
    if wanted in frame.columns or logged not in frame.columns:
        return frame
    return frame.with_columns(pl.col(logged).alias(wanted))


def _prediction_column(model: ModelVersion, then: pl.DataFrame, now: pl.DataFrame) -> str | None:
    for name in (_score_column(model), _PREDICTION):
        if name in _with_score(then, model).columns and name in now.columns and now[name].null_count() < now.height:
            return name
    return None


def _few(parts: MonitoringParts, name: str, n_rows: int) -> list[str]:
    if n_rows >= parts.settings.min_rows:
        return []
    return [f"{name} has only {n_rows} rows; below {parts.settings.min_rows} a verdict says little."]


def _chosen(sides: Sides, columns: Sequence[str] | None) -> list[str]:
    if columns is None:
        return sides.columns
    for name in columns:
        if name not in sides.columns:
            near = get_close_matches(name, sides.columns, n=3, cutoff=0.5)
            raise InvalidArgumentError(
                f"columns names {shown(name)}, which is not on both sides.",
                hint=f"Close names: {_names(near)}." if near else f"Columns: {_names(sides.columns)}.",
            )
    return list(dict.fromkeys(columns))


def _require_method(method: str) -> bool:
    if method not in (*METHODS, "auto"):
        raise InvalidArgumentError(f"method {shown(method)} is unknown.", hint=f"One of auto, {', '.join(METHODS)}.")
    return True


def _require_thresholds(thresholds: Mapping[str, float], columns: Sequence[str]) -> None:
    for name, value in thresholds.items():
        if name not in METHODS and name not in columns:
            raise InvalidArgumentError(
                f"thresholds names {shown(name)}, which is neither a method nor a column compared.",
                hint=f"Methods: {', '.join(METHODS)}; columns: {_names(columns)}.",
            )
        if not 0 <= value < float("inf"):
            raise InvalidArgumentError(
                f"threshold {value} of {shown(name)} is not a number from 0 on.",
                hint="0.2 is usual for psi; for ks and chi2 it is the p value below which a column has drifted.",
            )


def _names(names: Sequence[str]) -> str:
    return ", ".join(shown(name) for name in names[:_NAMED]) + (" …" if len(names) > _NAMED else "")


# What comes out ----------------------------------------------------------------------------------------------------


def _prediction_drift(sides: Sides, limits: Mapping[str, float]) -> ColumnDrift | None:
    if sides.prediction is None:
        return None
    current = sides.current.filter(pl.col(sides.prediction).is_not_null())
    thresholds = {"psi": limits["psi"]}
    return compare_frames(sides.reference, current, [sides.prediction], thresholds=thresholds)[0]


def _shape(
    parts: MonitoringParts,
    sides: Sides,
    entries: list[ColumnDrift],
    prediction: ColumnDrift | None,
    detail: str,
) -> results.DriftResult:
    ranked = sorted(entries, key=lambda entry: (not entry.drifted, -(entry.psi or 0.0), entry.column))
    compared = {entry.column for entry in entries}
    drifted = {entry.column for entry in entries if entry.drifted}
    share = len(drifted) / len(compared) if compared else 0.0
    summary = _sentence(sides, ranked, len(compared), len(drifted), prediction)
    report = _report(sides, ranked, prediction, summary)
    report_id = parts.reports.save(report, kind="check_drift", subject=sides.current_name)
    records = [_record(entry) for entry in ranked[: _SHOWN[detail]]]
    kept = records[: n_that_fit(records)]
    return results.DriftResult(
        summary=summary,
        drifted=bool(drifted) or (prediction is not None and prediction.drifted),
        share_drifted=round(share, 6),
        columns=kept,
        columns_compared=len(compared),
        entries_left_out=len(ranked) - len(kept),
        prediction_drift=None if prediction is None else _record(prediction),
        reference=sides.reference_name,
        current=sides.current_name,
        rows_reference=sides.reference.height,
        rows_current=sides.current.height,
        warnings=[*sides.warnings, *_dates_that_moved(ranked)],
        report_uri=f"report://{report_id}",
    )


def _dates_that_moved(entries: Sequence[ColumnDrift]) -> list[str]:
    moved = list(dict.fromkeys(entry.column for entry in entries if entry.kind == "date" and entry.drifted))
    return [f"Dates move on by their nature: {_names(moved)}. Name columns to leave them out."] if moved else []


def _record(entry: ColumnDrift) -> results.ColumnDrift:
    document = asdict(entry)
    for name in ("psi", "kl_divergence", "missing_reference", "missing_current"):
        document[name] = None if document[name] is None else round(document[name], 12)
    document["new_categories"] = [plain_text(name, 40) for name in entry.new_categories[:_NAMED]]
    return results.ColumnDrift.model_validate(document)


def _sentence(
    sides: Sides, ranked: Sequence[ColumnDrift], n_columns: int, n_drifted: int, prediction: ColumnDrift | None
) -> str:
    between = f"{sides.current_name} ({sides.current.height:,} rows) against {sides.reference_name}"
    said = ""
    if prediction is not None:
        moved = "have drifted" if prediction.drifted else "have not drifted"
        said = f"; predictions {moved} (PSI {prediction.psi or 0.0:.3f})"
    if not n_drifted:
        return f"No drift in {n_columns} columns of {between}{said}."
    worst = ranked[0]
    figure = f" ({worst.method} {worst.statistic:.3f})" if worst.statistic is not None else ""
    return f"{n_drifted} of {n_columns} columns drifted in {between}, {shown(worst.column, 40)} most{figure}{said}."


def _report(sides: Sides, ranked: Sequence[ColumnDrift], prediction: ColumnDrift | None, summary: str) -> Report:
    sections = []
    if prediction is not None:
        sections.append(_overlay(sides, prediction, "Predictions"))
    worst = list(dict.fromkeys(entry.column for entry in ranked if entry.drifted))[:_PLOTTED]
    worst = worst or list(dict.fromkeys(entry.column for entry in ranked))[:1]
    by_column = {entry.column: entry for entry in reversed(ranked)}
    overlays = [_overlay(sides, by_column[name], name) for name in worst]
    if any(entry.drifted for entry in ranked) and not (prediction is not None and prediction.drifted):
        sections = overlays[:1] + sections + overlays[1:]  # the first picture is the one a caller is shown
    else:
        sections += overlays
    picture = sections[0].chart if sections else None
    return Report(f"Drift of {sides.current_name}", summary, [*sections, _table(ranked)], picture=picture)


def _overlay(sides: Sides, entry: ColumnDrift, heading: str) -> Section:
    both = [
        frame[entry.column].gather_every(max(1, -(-frame.height // _PLOT_ROWS)))
        for frame in (sides.reference, sides.current)
    ]
    column = prepare(entry.column, both[0], both[1])
    label = {"text": "length in characters", "date": "days since 1970"}.get(entry.kind, entry.column)
    title = f"{entry.column}: {entry.method} {plain_text(entry.statistic)}"
    return Section(heading, _explained(entry), chart=overlay_chart(column.reference, column.current, title, label))


def _explained(entry: ColumnDrift) -> str:
    verdict = "Drifted" if entry.drifted else "Not drifted"
    text = f"{verdict}: {entry.method} {plain_text(entry.statistic)}, limit {plain_text(entry.threshold)}."
    return f"{text} {entry.reason[:1].upper()}{entry.reason[1:]}." if entry.reason else text


def _table(ranked: Sequence[ColumnDrift]) -> Section:
    rows: list[list[Any]] = [
        [
            entry.column,
            entry.kind,
            entry.method,
            entry.statistic,
            entry.p_value,
            entry.threshold,
            entry.drifted,
            entry.psi,
            entry.missing_reference,
            entry.missing_current,
            entry.reason,
        ]
        for entry in ranked
    ]
    heads = ["column", "kind", "method", "statistic", "p", "limit", "drifted", "PSI"]
    return Section("All columns", table=Table([*heads, "missing before", "missing now", "reason"], rows))
