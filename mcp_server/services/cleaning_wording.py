"""Shapes what cleaning did: a result that stays small, with counts by step and column."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mcp_server.engine.findings import Finding
from mcp_server.results.data import CleaningChange, CleaningResult, CleaningStep
from mcp_server.results.wording import counted
from mcp_server.services.data_wording import ROOM, written_fields, written_sentence
from mcp_server.stores.datasets import DatasetVersion
from mcp_server.stores.query_values import visible_text

if TYPE_CHECKING:
    from mcp_server.engine.cleaning.plan import Cleaning
    from mcp_server.engine.cleaning.steps import Change, Step

_MOST_CHANGES = (60, 40, 20, 10)
_SHOWN_COLUMNS = 50
_SHOWN_VALUES = 20


def steps_documents(steps: Sequence["Step"], *, with_reasons: bool = True) -> list[dict[str, Any]]:
    """Return steps as lineage keeps them, without what says nothing."""
    documents: list[dict[str, Any]] = [
        {
            "action": step.action,
            "columns": list(step.columns or []),
            "options": dict(step.options),
            "reason": step.reason if with_reasons else None,
        }
        for step in steps
    ]
    return [{name: value for name, value in step.items() if value not in (None, {}, [])} for step in documents]


def cleaning_result(
    before: DatasetVersion,
    after: DatasetVersion,
    created: bool,
    steps: Sequence[Mapping[str, Any]],
    cleaning: "Cleaning",
    findings: Sequence[Finding],
) -> CleaningResult:
    """Return the result of cleaning `before` into `after`."""
    changes = cleaning.changes()
    has_journal = "files" in after.lineage
    journal = f"dataset://{after.ref}/journal" if has_journal else None
    result = CleaningResult(
        summary=_summary(before, after, created, steps, changes, findings),
        steps=[CleaningStep.model_validate(_cut(step)) for step in steps],
        changes=[],
        total_changes=len(changes),
        journal_uri=journal,
        journal_entries=cleaning.counts.kept,
        journal_truncated=cleaning.counts.kept < cleaning.counts.entries,
        **written_fields(after, created, findings),
    )
    for most in _MOST_CHANGES:
        result = result.model_copy(update={"changes": [_change(change) for change in changes[:most]]})
        if len(result.model_dump_json()) <= ROOM:
            return result
    lineage = result.lineage.model_copy(update={"steps": None})  # they are in `steps`
    result = result.model_copy(update={"lineage": lineage, "columns": result.columns[:20]})
    if len(result.model_dump_json()) > ROOM:
        return result.model_copy(update={"steps": result.steps[:10], "warnings": result.warnings[:10]})
    return result


def _change(change: "Change") -> CleaningChange:
    return CleaningChange(
        step=change.step,
        column=visible_text(change.column) if change.column is not None else None,
        cells_changed=change.cells_changed,
        rows_removed=change.rows_removed,
        detail=visible_text(change.detail, 100),
    )


def _summary(
    before: DatasetVersion,
    after: DatasetVersion,
    created: bool,
    steps: Sequence[Mapping[str, Any]],
    changes: Sequence["Change"],
    findings: Sequence[Finding],
) -> str:
    n_cells = sum(change.cells_changed for change in changes)
    n_rows = sum(change.rows_removed for change in changes)
    did = f"{counted(len(steps), 'step')} changed {counted(n_cells, 'cell')} and removed {counted(n_rows, 'row')}"
    did += f" of {before.ref}"
    if not steps:
        did = f"{before.ref} needed no cleaning"
    return f"{did}. {written_sentence(after, created, 'Stored as', findings)}"


def _cut(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step whose columns and options are not longer than a reader wants them."""
    shown = dict(step)
    if "columns" in shown:
        names = [visible_text(name) for name in shown["columns"][:_SHOWN_COLUMNS]]
        shown["columns"] = names if len(shown["columns"]) <= _SHOWN_COLUMNS else [*names, "…"]
    options = dict(shown.get("options", {}))
    for name, value in options.items():
        if isinstance(value, Mapping) and len(value) > _SHOWN_VALUES:
            options[name] = dict(list(value.items())[:_SHOWN_VALUES]) | {"…": f"{len(value) - _SHOWN_VALUES} more"}
    return shown | ({"options": options} if options else {})
