"""Cleaning datasets: steps or a plan run over one, the outcome stored with its journal and its fitted plan."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import polars as pl
from pydantic import Field, TypeAdapter, ValidationError

from mcp_server.engine.findings import Finding
from mcp_server.errors import InvalidArgumentError, LifecycleError, ResourceExhaustedError, shown
from mcp_server.results.base import Record
from mcp_server.results.data import CleaningResult
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.progress import NoProgress, Progress
from mcp_server.services.cleaning_wording import cleaning_result, steps_documents
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.cleaning_records import CleaningRecords
from mcp_server.stores.datasets import DatasetStore, DatasetVersion, require_name
from mcp_server.stores.parquet import full_disk_explained, write_parquet
from mcp_server.stores.query_values import plain_values

if TYPE_CHECKING:
    from mcp_server.engine.cleaning.plan import Cleaning
    from mcp_server.engine.cleaning.steps import Step

_OPTIONS = ("apply_plan",)
_HEAD_ENTRIES = 200
_HEAD_ROOM = 12_000
_MAX_BLOB_BYTES = 32 * 1024**2


class _Step(Record):
    """A cleaning step as a caller writes it."""

    action: str
    columns: list[str] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    reason: str | None = None


_STEPS = TypeAdapter(Annotated[list[_Step], Field(max_length=500)])


class CleaningService:
    """Cleans datasets and shows what that changed. Thread-safe: it holds nothing that changes."""

    def __init__(self, *, datasets: DatasetStore, artifacts: ArtifactStore) -> None:
        self._datasets = datasets
        self._artifacts = artifacts
        self._records = CleaningRecords(artifacts)

    def clean_dataset(
        self,
        *,
        caller: Caller,
        dataset: str,
        name: str,
        steps: Literal["auto"] | Sequence[Mapping[str, Any]] = "auto",
        options: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> CleaningResult:
        """Apply cleaning steps, or the plan of a version that was cleaned before, and store the outcome as `name`.

        Args:
            options: `apply_plan`, the version whose fitted plan is applied; nothing is learned from `dataset` then.

        Raises:
            InvalidArgumentError: a step or an option is wrong, or the plan does not fit; says which and why.
            NotFoundError: no such dataset.
            FailedPreconditionError: what `apply_plan` names was not made by cleaning.
            ResourceExhaustedError: a model would take too long, or the disk is full.
        """
        progress = progress or NoProgress()
        require_name(name)
        plan_of = _plan_reference(steps, options or {})
        version = self._datasets.resolve(dataset)
        progress(0.02, f"looking at {version.rows:,} rows")
        if plan_of is not None:
            plan_of = self._datasets.resolve(plan_of).ref
        cleaning, findings = self._made_ready(self._datasets.scan(version.ref), steps, plan_of, progress)
        return self._stored(caller, version, name, cleaning, plan_of, findings, progress)

    def _made_ready(
        self, frame: pl.LazyFrame, steps: object, plan_of: str | None, progress: Progress
    ) -> "tuple[Cleaning, list[Finding]]":
        """Return the cleaning that was asked for, about to run, and what "auto" leaves as it is."""
        from mcp_server.engine.cleaning.plan import Plan, fit, prepare

        highest = 0.0

        def tick(share: float, message: str) -> None:
            nonlocal highest  # a step of a large table may speak again while its batches run
            highest = max(highest, 0.22 + 0.28 * share)
            progress(highest, message)

        if plan_of is not None:
            return prepare(frame, Plan.from_document(self.plan(plan_of)), tick=tick), []
        if steps != "auto":
            return fit(frame, _engine_steps(steps), tick=tick), []
        from mcp_server.engine.cleaning.proposal import propose

        proposal = propose(frame, lambda share, words: progress(0.02 + 0.2 * share, words))
        return fit(frame, proposal.steps, tick=tick), list(proposal.findings)

    def plan(self, ref: str) -> dict[str, Any]:
        """Return the fitted plan that made a version, as `engine.cleaning.plan.apply_plan` takes it.

        Raises:
            NotFoundError: no such dataset.
            FailedPreconditionError: cleaning did not make it.
        """
        return self._records.plan(self._datasets.resolve(ref))

    def journal_head(self, ref: str) -> str:
        """Return the first entries of a version's journal as JSON, with how many there are.

        Raises:
            NotFoundError: no such dataset.
            FailedPreconditionError: cleaning did not make it.
        """
        version = self._datasets.resolve(ref)
        entries = pl.scan_parquet(self._records.journal(version))
        stored = int(entries.select(pl.len()).collect().item())
        head = entries.head(_HEAD_ENTRIES).collect()
        rows = plain_values(head)
        document: dict[str, Any] = {
            "dataset": version.ref,
            "input": (version.lineage.get("parents") or [None])[0],
            "changes": (version.lineage.get("journal") or {}).get("changes", stored),
            "entries": stored,
            "columns": head.columns,
            "rows": rows,
        }
        while rows and len(json.dumps(document, ensure_ascii=False)) > _HEAD_ROOM:
            rows = rows[: len(rows) * 3 // 4]
            document["rows"] = rows
        document["cut"] = len(rows) < stored
        return json.dumps(document, ensure_ascii=False)

    def journal_file(self, ref: str) -> bytes:
        """Return a version's whole journal as Parquet.

        Raises:
            NotFoundError: no such dataset.
            FailedPreconditionError: cleaning did not make it.
            ResourceExhaustedError: it is too large to be sent.
        """
        path = self._records.journal(self._datasets.resolve(ref))
        size = path.stat().st_size
        if size > _MAX_BLOB_BYTES:
            raise ResourceExhaustedError(
                f"The journal has {size:,} bytes; the limit of a resource is {_MAX_BLOB_BYTES:,}.",
                hint="Its first entries are at the resource dataset://name/journal.",
            )
        return path.read_bytes()

    def _stored(
        self,
        caller: Caller,
        version: DatasetVersion,
        name: str,
        cleaning: "Cleaning",
        plan_of: str | None,
        findings: list[Finding],
        progress: Progress,
    ) -> CleaningResult:
        known = self._datasets.versions(name)
        # The reasons in a plan speak of the table that it was made from
        steps = steps_documents(cleaning.steps, with_reasons=plan_of is None)
        with self._artifacts.temporary_path(".parquet") as output, self._records.writing() as (journal, path):
            self._write(cleaning, output, journal.add, progress)
            journal.close()
            progress(0.92, "storing")
            files = self._records.keep(path, cleaning.plan.to_document())
            lineage: dict[str, Any] = {
                "parents": [version.ref],
                "steps": steps,
                "files": files,
                "journal": {"entries": cleaning.counts.kept, "changes": cleaning.counts.entries},
            }
            if plan_of is not None:
                lineage["plan_of"] = plan_of
            source = f"cleaned {version.ref}" + (f" by the plan of {plan_of}" if plan_of else "")
            try:
                written = self._datasets.write(name, output, source=source, lineage=lineage, caller=caller)
            except LifecycleError:
                self._datasets.discard_files(files.values())
                raise
        created = not known or written.version > known[-1].version
        if not created and written.lineage.get("files") != files:
            self._datasets.discard_files(files.values())
            if steps:
                text = f"{written.ref} has this content already, so it keeps the journal and the plan that it had."
                findings = [Finding(None, "nothing_stored", text), *findings]
        return cleaning_result(version, written, created, steps, cleaning, findings)

    def _write(self, cleaning: "Cleaning", output: Path, add: Any, progress: Progress) -> None:
        """Run the cleaning batch by batch, so that memory holds one of them, and write what comes out."""
        with self._artifacts.temporary_folder() as folder:
            parts: list[Path] = []
            for rows, entries, done in cleaning.batches():
                progress(0.5 + 0.35 * done, f"cleaning: {done:.0%} of the rows")
                add(entries)
                if done >= 1 and not parts:
                    write_parquet(rows, output)
                    return
                parts.append(folder / f"{len(parts)}.arrow")
                _write_part(rows, parts[-1])
            write_parquet(pl.scan_ipc(parts), output)


def _write_part(rows: pl.DataFrame, path: Path) -> None:
    with full_disk_explained():
        rows.write_ipc(path)


def _plan_reference(steps: object, options: Mapping[str, Any]) -> str | None:
    """Return the version whose plan is wanted, None when there is none."""
    from difflib import get_close_matches

    unknown = next((name for name in options if name not in _OPTIONS), None)
    if unknown is not None:
        near = get_close_matches(unknown, _OPTIONS, n=1)
        raise InvalidArgumentError(
            f"There is no option {shown(unknown)}.",
            hint=f"Close: {near[0]}." if near else "The options of an action go into its step.",
        )
    given = options.get("apply_plan")
    if given is None:
        return None
    if not isinstance(given, str):
        raise InvalidArgumentError(f"apply_plan is name or name@version, not {shown(given)}.", hint="games_clean@1")
    if steps != "auto":
        raise InvalidArgumentError(
            "steps and options.apply_plan do not go together: a plan has its steps.", hint="Leave steps out."
        )
    return given


def _engine_steps(steps: object) -> "list[Step]":
    from mcp_server.engine.cleaning.steps import Step

    try:
        parsed = _STEPS.validate_python(steps)
    except ValidationError as refusal:
        fault = refusal.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise InvalidArgumentError(
            f"steps cannot be used: {where}: {fault['msg']}.",
            hint='A step is {"action": "impute", "columns": ["pts"], "options": {"method": "median"}}; or "auto".',
        ) from None
    return [Step(s.action, tuple(s.columns) if s.columns is not None else None, s.options, s.reason) for s in parsed]
