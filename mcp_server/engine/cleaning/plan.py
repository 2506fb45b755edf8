"""Cleaning as a list of steps: each learned from a table, counted, written down, and repeatable on other tables.

`fit` goes through the steps and learns what they need (means, bounds, models): the outcome is a `Plan`, plain JSON.
`Cleaning` runs a plan over a table, a batch of rows at a time. `apply_plan` runs one over other rows with the same
values, as serving and retraining do. `actions` has the actions and their options.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, Self

import polars as pl

from mcp_server.engine.cleaning.actions import ACTIONS
from mcp_server.engine.cleaning.journal import MAX_ENTRIES, Counts, Recorder, joined
from mcp_server.engine.cleaning.steps import Change, Dropping, Operation, Removal, Renaming, Step, applied, require
from mcp_server.engine.cleaning.table import ROW, Table, batches_of, open_table
from mcp_server.errors import FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError, shown

_FORMAT = 1

Ticks = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps with all that they learned.

    Attributes:
        steps: as they were asked for, each with its columns.
        fitted: for each step, what it learned, as plain JSON.
        columns: the columns of the input that the steps need, with their types.
    """

    steps: tuple[Step, ...]
    fitted: tuple[Mapping[str, Any], ...]
    columns: Mapping[str, str]

    def to_document(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        steps: list[dict[str, Any]] = [
            {
                "action": step.action,
                "columns": list(step.columns) if step.columns is not None else None,
                "options": dict(step.options),
                "reason": step.reason,
                "fitted": dict(fitted),
            }
            for step, fitted in zip(self.steps, self.fitted, strict=True)
        ]
        return {"format": _FORMAT, "columns": dict(self.columns), "steps": steps}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Return the plan that `to_document` wrote.

        Raises:
            FailedPreconditionError: another version wrote it.
        """
        if document.get("format") != _FORMAT:
            raise FailedPreconditionError(
                f"The plan has format {shown(document.get('format'))}; this version reads {_FORMAT}.",
                hint="Clean the first dataset again with clean_dataset.",
            )
        steps = [
            Step(s["action"], tuple(s["columns"]) if s["columns"] is not None else None, s["options"], s["reason"])
            for s in document["steps"]
        ]
        return cls(tuple(steps), tuple(s["fitted"] for s in document["steps"]), document["columns"])


@dataclass(frozen=True, slots=True)
class Cleaning:
    """A plan about to run over a table; `batches` may be taken once, and `changes` then says what they changed.

    Attributes:
        outcome: the table after all steps, lazy.
    """

    plan: Plan
    recorder: Recorder
    outcome: Table
    _opened: Table
    _journal: Sequence[pl.DataFrame] | None

    @property
    def steps(self) -> Sequence[Step]:
        """The steps, in order."""
        return self.plan.steps

    @property
    def counts(self) -> Counts:
        """What the batches so far have changed."""
        return self.recorder.counts

    def batches(self) -> Iterator[tuple[pl.DataFrame, pl.DataFrame, float]]:
        """Yield cleaned rows, their journal, and the share that is done; every batch has the same columns.

        Raises:
            InvalidArgumentError: the last step leaves no row.
        """
        if self._journal is not None:  # written while the steps were learned
            yield self.outcome.lazy.collect().drop(ROW), joined(self._journal), 1.0
            return
        table, n_left = self._opened, 0
        for batch in batches_of(table.source, table.n_source, len(table.schema)):
            rows, entries = self.recorder.run(batch)
            n_left += len(rows)
            yield rows, entries, (int(batch[ROW][-1]) + 1) / table.n_source
        if not n_left:
            raise _nothing_left(len(self.steps) - 1, self.steps[-1], 0, len(table.schema))

    def changes(self) -> list[Change]:
        """Return what the steps changed, once all batches are through."""
        return self.recorder.changes()


def fit(
    frame: pl.DataFrame | pl.LazyFrame,
    steps: Sequence[Step],
    *,
    tick: Ticks | None = None,
    max_entries: int = MAX_ENTRIES,
) -> Cleaning:
    """Learn what `steps` need from `frame`, each from the outcome of those before it.

    Args:
        tick: hears the share of the steps that is through, and the one that is next.
        max_entries: how much the journal keeps; what changed is counted in full.

    Raises:
        InvalidArgumentError: a step names an unknown action, column or option, does not fit a column's type, or
            leaves no rows or columns; the message says which step.
        ResourceExhaustedError: a model would take too long.
    """
    tell = _Teller(tick)
    opened = open_table(frame, tell.again)
    fitted: list[Mapping[str, Any]] = []

    def learn(number: int, step: Step, table: Table) -> Operation:
        learned = ACTIONS[step.action][0](step, table)
        fitted.append(learned)
        return ACTIONS[step.action][1](step, learned, table)

    recorder = Recorder([step.action for step in steps], [], max_entries)
    outcome, journal = _through(opened, steps, learn, recorder, tell)
    plan = Plan(tuple(steps), tuple(fitted), _needed(opened, fitted, recorder.operations))
    return Cleaning(plan, recorder, outcome, opened, journal)


def prepare(
    frame: pl.DataFrame | pl.LazyFrame,
    plan: Plan,
    *,
    keep_rows: bool = False,
    tick: Ticks | None = None,
    max_entries: int = MAX_ENTRIES,
) -> Cleaning:
    """Make ready to run `plan` over another table, learning nothing from it.

    Args:
        keep_rows: leave out the steps that remove rows.

    Raises:
        InvalidArgumentError: a column is missing or of another type, or a step does not go through; names it.
    """
    tell = _Teller(tick)
    opened = open_table(frame, tell.again)
    _check_columns(opened, plan)
    pairs = list(zip(plan.steps, plan.fitted, strict=True))
    if keep_rows:
        pairs = [pair for pair in pairs if pair[0].action not in REMOVING]

    def build(number: int, step: Step, table: Table) -> Operation:
        return ACTIONS[step.action][1](step, pairs[number][1], table)

    steps = [step for step, _ in pairs]
    recorder = Recorder([step.action for step in steps], [], max_entries)
    outcome, journal = _through(opened, steps, build, recorder, tell)
    return Cleaning(plan, recorder, outcome, opened, journal)


REMOVING = ("drop_duplicates", "drop_missing", "drop_outliers")


def clean(frame: pl.DataFrame, steps: Sequence[Step]) -> tuple[pl.DataFrame, list[Change]]:
    """Apply `steps` in order to a table in memory.

    Raises:
        As `fit`.
    """
    return _collected(fit(frame, steps, max_entries=0))


def apply_plan(
    frame: pl.DataFrame, plan: Plan | Mapping[str, Any], *, keep_rows: bool = False
) -> tuple[pl.DataFrame, list[Change]]:
    """Apply a plan, or its document, to other rows with the values it learned.

    Args:
        keep_rows: leave out the steps that remove rows, so that every row has its answer: what serving wants.

    Raises:
        InvalidArgumentError: a column is missing or of another type, or a cell cannot be read as a strict cast wants.
    """
    chosen = plan if isinstance(plan, Plan) else Plan.from_document(plan)
    return _collected(prepare(frame, chosen, keep_rows=keep_rows, max_entries=0))


def _collected(cleaning: Cleaning) -> tuple[pl.DataFrame, list[Change]]:
    frames = [batch for batch, _, _ in cleaning.batches()]
    return pl.concat(frames), cleaning.changes()


class _Teller:
    """Tells how far the steps are, and says it again while one of them takes long."""

    def __init__(self, tick: Ticks | None) -> None:
        self._tick = tick
        self._last = (0.0, "")

    def next(self, share: float, message: str) -> None:
        """Say that a step begins."""
        self._last = (share, message)
        self.again()

    def again(self) -> None:
        """Say the last once more; who listens may end the work by raising."""
        if self._tick is not None:
            self._tick(*self._last)


def _through(
    table: Table,
    steps: Sequence[Step],
    operation_of: Callable[[int, Step, Table], Operation],
    recorder: Recorder,
    tell: "_Teller",
) -> tuple[Table, list[pl.DataFrame] | None]:
    """Find the operation of each step on the table that those before it leave; return the last table.

    A table in memory goes through the steps here, and its journal comes back too. Of a large one, only what a later
    step has to look at is worked out.
    """
    journal: list[pl.DataFrame] | None = [] if table.is_small else None
    for number, step in enumerate(steps):
        tell.next(number / len(steps), f"step {number}: {step.action}")
        if step.action not in ACTIONS:
            near = ", ".join(get_close_matches(step.action, ACTIONS, n=3)) or ", ".join(ACTIONS)
            raise InvalidArgumentError(f"Step {number} has no action {shown(step.action)}.", hint=f"Actions: {near}.")
        try:
            operation = operation_of(number, step, table)
        except (InvalidArgumentError, ResourceExhaustedError) as refusal:
            text = f"Step {number} ({step.action}): {refusal.message}"
            raise type(refusal)(text, hint=refusal.hint, details=refusal.details) from None
        recorder.operations.append(operation)
        before, counts = table, isinstance(operation, Removal) and (journal is not None or number < len(steps) - 1)
        table = before.after(partial(applied, operation), removes_rows=counts)
        if not table.n_rows or not table.schema:
            raise _nothing_left(number, step, table.n_rows, len(table.schema))
        if journal is not None:
            journal += recorder.record(number, before.lazy.collect(), table.lazy.collect())
    return table, journal


def _nothing_left(number: int, step: Step, n_rows: int, n_columns: int) -> InvalidArgumentError:
    text = f"Step {number} ({step.action}): it would leave {n_rows} rows and {n_columns} columns."
    return InvalidArgumentError(text, hint="Choose other columns or a milder threshold.")


def _needed(table: Table, fitted: Sequence[Mapping[str, Any]], operations: Sequence[Operation]) -> dict[str, str]:
    """Return the input's columns that the steps work on; a renamed one by the name it had."""
    first_name = {name: name for name in table.schema}
    needed: dict[str, None] = {}
    for learned, operation in zip(fitted, operations, strict=True):
        names = [*(learned.get("columns") or []), *learned.get("context", [])]
        needed |= dict.fromkeys(first_name[name] for name in names)
        if isinstance(operation, Renaming):
            renamed = {new: first_name[old] for old, new in operation.names.items()}
            first_name = {k: v for k, v in first_name.items() if k not in operation.names} | renamed
        if isinstance(operation, Dropping):
            first_name = {k: v for k, v in first_name.items() if k not in operation.columns}
    return {name: str(table.schema[name]) for name in table.schema if name in needed}


def _check_columns(table: Table, plan: Plan) -> None:
    require(table.schema, plan.columns)
    for name, dtype in plan.columns.items():
        if str(table.schema[name]) != dtype:
            raise InvalidArgumentError(
                f"column {shown(name)} is {table.schema[name]}; the plan was made for {dtype}.",
                hint="Cast it first, with clean_dataset (action cast) in a step before.",
                details={"column": name[:200]},
            )
