"""Is this data fit for a training? What the target is, which columns can be features, what would spoil a result."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from mcp_server.engine.feature_notes import notes_on
from mcp_server.engine.leakage import Finding
from mcp_server.engine.metrics import Task, Truth
from mcp_server.engine.preprocessing import FEW_WORDS, LARGEST, kind_of, unknown_column
from mcp_server.engine.repeated_groups import find_few_groups, find_shared_groups
from mcp_server.engine.splits import Rows, Split
from mcp_server.errors import InvalidArgumentError, shown

MAX_CLASSES = 100
_FEW_NUMBERS = 10  # whole numbers with so few different values are classes
_IMBALANCE = 0.01
_FEW_OF_A_CLASS = 10
_LEAST_ROWS = 10
_DISTINCT_ROWS = 0.5  # where rows differ little, equal ones say nothing
_SHARED_ROWS = 0.01
_KEY_NAME = re.compile(r"(^|_)(id|key|uuid|guid|index|rowid)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Features:
    """Which columns a model is given, and why others are not."""

    names: list[str]
    notes: list[str]


def resolve_task(target: pl.Series, asked: str) -> Task:
    """Return what kind of problem the labelled `target` poses.

    `auto`: words, booleans and whole numbers with at most ten different values are classes, other numbers values.

    Raises:
        InvalidArgumentError: no or too few labels, a constant, a class a row, or a task that does not fit.
    """
    name, n_rows, n_distinct = shown(target.name), len(target), target.n_unique()
    if n_rows == 0:
        raise InvalidArgumentError(
            f"target {name} is missing in every row.", hint="Choose another target; describe_dataset shows them."
        )
    if n_distinct < 2:
        raise InvalidArgumentError(
            f"target {name} is constant: {shown(target[0])} in all {n_rows} labelled rows.",
            hint="Choose another target or more rows; nothing can be learned from one class.",
        )
    if n_rows < _LEAST_ROWS:
        raise InvalidArgumentError(
            f"{n_rows} labelled rows are too few to train on.",
            hint=f"At least {_LEAST_ROWS} are needed, and hundreds for a result that means something.",
        )
    numeric = target.dtype.is_numeric()
    if not numeric and target.dtype not in (pl.Boolean, pl.String, pl.Categorical, pl.Enum):
        raise InvalidArgumentError(
            f"target {name} has type {target.dtype}, which cannot be predicted.",
            hint="Use a number, a word or a truth value; derive one with transform_dataset.",
        )
    if asked == "regression" or (asked == "auto" and numeric and not _few_whole_numbers(target, n_distinct)):
        return _checked_values(target, asked)
    return _checked_classes(target, asked, n_distinct)


def _few_whole_numbers(target: pl.Series, n_distinct: int) -> bool:
    whole = target.dtype.is_integer() or bool((target == target.round(0)).all())
    return n_distinct == 2 or (whole and n_distinct <= min(_FEW_NUMBERS, len(target) // 3))


def _checked_values(target: pl.Series, asked: str) -> Task:
    if not target.dtype.is_numeric():
        raise InvalidArgumentError(
            f"task {asked} needs a numeric target; {shown(target.name)} has type {target.dtype}.",
            hint="Use task auto, binary or multiclass.",
        )
    largest = target.cast(pl.Float64).abs().max()
    if not isinstance(largest, float) or not largest <= LARGEST:
        raise InvalidArgumentError(
            f"target {shown(target.name)} holds values beyond {LARGEST:g}, infinite ones included.",
            hint="Remove them with clean_dataset (drop_outliers or clip_outliers) or transform_dataset.",
        )
    return "regression"


def _checked_classes(target: pl.Series, asked: str, n_distinct: int) -> Task:
    name = shown(target.name)
    if target.dtype.is_float() and not bool(target.is_finite().all()):
        raise InvalidArgumentError(
            f"target {name} holds infinite values.", hint="Remove them with clean_dataset or transform_dataset."
        )
    if n_distinct > MAX_CLASSES or n_distinct > len(target) / 2:
        raise InvalidArgumentError(
            f"target {name} has {n_distinct} different values in {len(target)} rows: too many classes to learn.",
            hint="Choose another target"
            + ("; or use task=regression." if target.dtype.is_numeric() else ", or group its values first."),
        )
    if asked == "binary" and n_distinct != 2:
        raise InvalidArgumentError(
            f"task binary needs two classes; {name} has {n_distinct}.", hint="Use task auto or multiclass."
        )
    return "binary" if n_distinct == 2 else "multiclass"


def resolve_features(
    frame: pl.DataFrame,
    target: str,
    asked: Sequence[str] | None,
    left_out: Sequence[str],
    wanted: Sequence[str] = (),
) -> Features:
    """Return the features: those asked for, or all columns that can be features.

    Left out of all: the target, `left_out` (split column, baselines), constants, empty columns, identifiers, text
    with more than a few hundred different words, and types a model cannot take; each is named in the notes.
    Columns in `wanted` (allow_features) stay in.

    Raises:
        InvalidArgumentError: a feature is not in the data, the target is among them, a type cannot be taken, or
            nothing is left.
    """
    if asked is None:
        return _all_features(frame, target, left_out, wanted)
    for name in asked:
        if name not in frame.columns:
            raise unknown_column("feature", name, frame.columns)
        if name == target:
            raise InvalidArgumentError(
                f"features contains the target {shown(target)}.", hint="Leave it out of features."
            )
        if kind_of(frame[name]) is None:
            raise InvalidArgumentError(
                f"feature {shown(name)} has type {frame.schema[name]}, which a model cannot take.",
                hint="Derive a number, a word or a date from it with transform_dataset, or leave it out.",
            )
    names = [name for name in dict.fromkeys(asked) if frame[name].null_count() < frame.height]
    empty = [name for name in dict.fromkeys(asked) if name not in names]
    notes = [f"Left out because every value is missing: {_listed(empty)}."] if empty else []
    return Features(_some(names, target), [*notes, *notes_on(frame, names)])


def _all_features(frame: pl.DataFrame, target: str, left_out: Sequence[str], wanted: Sequence[str]) -> Features:
    names: list[str] = []
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for name in frame.columns:
        if name == target or (name in left_out and name not in wanted):
            continue
        reason = None if name in wanted else unfit(frame[name])
        if reason is None:
            names.append(name)
        else:
            reasons[reason].append(name)
    notes = [f"Left out ({reason}): {_listed(columns)}." for reason, columns in reasons.items()]
    return Features(_some(names, target), [*notes, *notes_on(frame, names)])


def _some(names: list[str], target: str) -> list[str]:
    if not names:
        raise InvalidArgumentError(
            f"No column is left that could predict {shown(target)}.",
            hint="Name features, or look at the columns with describe_dataset.",
        )
    return names


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(shown(name) for name in names[:8]) + more


def unfit(column: pl.Series) -> str | None:
    """Return why a column is no feature unless it is asked for; None if it can be one."""
    kind = kind_of(column)
    n_known = len(column) - column.null_count()
    if kind is None:
        return f"type {column.dtype}"
    if n_known == 0 or (column.dtype.is_float() and bool(column.is_nan().all())):
        return "every value is missing"
    n_distinct = column.drop_nulls().n_unique()
    if n_distinct == 1 and n_known == len(column):
        return "constant"
    if is_identifier(column, n_distinct, n_known):
        return "identifier"
    if kind == "category" and n_distinct > max(FEW_WORDS, 1) and n_distinct > n_known * 0.01:
        return "too many different words"
    return None


def is_identifier(column: pl.Series, n_distinct: int, n_known: int) -> bool:
    """Return True for a column that names rows: unique words, whole numbers that count rows, or a unique key."""
    if n_known < _LEAST_ROWS * 2 or column.dtype.is_temporal() or column.dtype == pl.Boolean:
        return False
    unique = n_distinct >= 0.99 * n_known
    if column.dtype == pl.String:
        return unique and kind_of(column) == "category"
    if not unique or not column.dtype.is_numeric():
        return False
    known = column.drop_nulls().cast(pl.Float64)
    if not bool((known == known.round(0)).all()):
        return False
    low, high = known.min(), known.max()
    counts_rows = isinstance(low, float) and isinstance(high, float) and high - low < 1.05 * n_known
    return bool(_KEY_NAME.search(column.name)) or (
        counts_rows and bool(known.is_sorted() or known.is_sorted(descending=True))
    )


def refuse_infinite(frame: pl.DataFrame, features: Sequence[str]) -> None:
    """Refuse features that hold infinite values or ones too large for a model.

    Raises:
        InvalidArgumentError: names the columns.
    """
    bad = [
        name
        for name in features
        if frame.schema[name].is_float() and bool((frame[name].fill_nan(None).abs() > LARGEST).any())
    ]
    if bad:
        raise InvalidArgumentError(
            f"{_listed(bad)} hold infinite values, or values beyond {LARGEST:g}.",
            hint="Clip or remove them with clean_dataset (clip_outliers, drop_outliers) or transform_dataset.",
            details={"columns": bad[:20]},
        )


def check_rows(
    frame: pl.DataFrame,
    truth: Truth,
    features: Sequence[str],
    split: Split,
    parts: tuple[Rows, Rows],
    classes: Sequence[Any],
) -> tuple[list[Finding], int]:
    """Return what the rows themselves are guilty of, and how many held-out rows also occur in training.

    Args:
        frame: labelled rows.
        truth: shape (n,), class codes or values.
        features: what the model is given.
        split: how rows are divided.
        parts: row numbers of the training and the held-out part.
        classes: labels; empty for regression.
    """
    train, test = parts
    findings = _class_findings(truth, train, test, classes) if classes else []
    if len(train) < 50:
        findings.append(
            Finding(
                "too_few_rows",
                [],
                f"Only {len(train)} rows to train on: scores will be little more than chance.",
                "warning",
                "Gather more rows.",
            )
        )
    findings += _column_findings(frame, features)
    shared, distinct = _shared_rows(frame, truth, features, train, test)
    if shared >= _SHARED_ROWS * len(test) and shared and distinct > _DISTINCT_ROWS:
        findings.append(
            Finding(
                "shared_rows",
                [],
                f"{shared} of {len(test)} held-out rows also stand in the training part, features and target alike.",
                "warning",
                "Remove duplicates with clean_dataset (drop_duplicates), or split by group.",
            )
        )
    if split.kind in ("random", "stratified"):
        findings += find_shared_groups(frame, train, test)
    if split.kind == "group" and split.column is not None:
        findings += find_few_groups(frame[split.column], train, test)
    if split.kind == "time" and split.column is not None:
        findings += _later_dates(frame, features, split.column, train, test)
    return findings, shared


def _class_findings(truth: Truth, train: Rows, test: Rows, classes: Sequence[Any]) -> list[Finding]:
    in_train = np.bincount(truth[train].astype(np.int64), minlength=len(classes))
    in_test = np.bincount(truth[test].astype(np.int64), minlength=len(classes))
    findings = []
    lonely = [shown(str(label)) for k, label in enumerate(classes) if in_train[k] < 2]
    if lonely:
        findings.append(
            Finding(
                "rare_class",
                [],
                f"Fewer than two training rows have the class {', '.join(lonely[:5])}.",
                "blocking",
                "Gather rows of it, merge or remove the class (transform_dataset), or divide the rows differently.",
            )
        )
    few = [k for k in range(len(classes)) if in_train[k] >= 2 and (in_train[k] < _FEW_OF_A_CLASS or in_test[k] == 0)]
    if few:
        named = ", ".join(f"{shown(str(classes[k]))} ({in_train[k]} and {in_test[k]})" for k in few[:5])
        findings.append(
            Finding(
                "rare_class",
                [],
                f"Few rows in the training and the held-out part of class {named}.",
                "warning",
                "Use split kind stratified; read the scores of these classes with care.",
            )
        )
    least = float(in_train.min() / max(1, in_train.sum()))
    if least < _IMBALANCE:
        findings.append(
            Finding(
                "imbalance",
                [],
                f"The rarest class has {least:.2%} of the training rows: accuracy will look good whatever the model.",
                "warning",
                "Judge by average_precision, balanced_accuracy or log_loss; class_weight=balanced may help.",
            )
        )
    return findings


def _column_findings(frame: pl.DataFrame, features: Sequence[str]) -> list[Finding]:
    findings = []
    by_folded: defaultdict[str, list[str]] = defaultdict(list)
    for name in features:
        by_folded[name.casefold()].append(name)
        reason = unfit(frame[name])
        if reason == "identifier":
            findings.append(
                Finding(
                    "identifier",
                    [name],
                    f"{shown(name)} names rows: a model learns it by heart and knows nothing of new ones.",
                    "warning",
                    f"Leave {shown(name)} out of features.",
                )
            )
        elif reason == "constant":
            findings.append(
                Finding(
                    "constant",
                    [name],
                    f"{shown(name)} has the same value in every row.",
                    "info",
                    f"Leave {shown(name)} out of features.",
                )
            )
    findings += [
        Finding(
            "similar_names",
            names,
            f"Columns differ only by case: {_listed(names)}.",
            "warning",
            "Keep one of them, or rename (clean_dataset).",
        )
        for names in by_folded.values()
        if len(names) > 1
    ]
    return findings


def _shared_rows(
    frame: pl.DataFrame, truth: Truth, features: Sequence[str], train: Rows, test: Rows
) -> tuple[int, float]:
    """Return how many held-out rows occur in training, and the share of different rows among all."""
    keys = frame.select(features).hash_rows(seed=0).to_numpy() ^ np.asarray(truth).astype(np.float64).view(np.uint64)
    shared = int(np.isin(keys[test], keys[train]).sum())
    return shared, len(np.unique(keys)) / max(1, len(keys))


def _later_dates(frame: pl.DataFrame, features: Sequence[str], by: str, train: Rows, test: Rows) -> list[Finding]:
    """Return date features that, in training rows, lie after the time at which the held-out part begins."""
    begins = _as_dates(frame[by].gather(test))
    if begins is None:
        return []
    findings = []
    for name in features:
        dates = None if name == by else _as_dates(frame[name].gather(train))
        if dates is None:
            continue
        later = int((dates >= begins.min()).sum())
        if later:
            findings.append(
                Finding(
                    "after_split_time",
                    [name],
                    f"In {later} of {len(train)} training rows {shown(name)} is later than the first held-out row.",
                    "warning",
                    f"Leave {shown(name)} out of features if it is known only later.",
                    (name,),
                )
            )
    return findings


def _as_dates(column: pl.Series) -> pl.Series | None:
    if column.dtype in (pl.Date, pl.Datetime):
        return column.cast(pl.Date)
    if column.dtype == pl.String and kind_of(column) == "date":
        return column.str.to_date("%Y-%m-%d", strict=False)
    return None
