"""Data: sources brought in, datasets described, queried, made from others, exported and deleted."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from mcp_server.errors import FailedPreconditionError, InvalidArgumentError, shown
from mcp_server.results.data import (
    DatasetItem,
    DatasetPage,
    DatasetProfile,
    DatasetResult,
    DeletedDataset,
    ExportResult,
    QueryResult,
    ReportText,
    SourcePage,
)
from mcp_server.results.wording import counted
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.progress import NoProgress, Progress
from mcp_server.services.data_profile import profile_of
from mcp_server.services.data_wording import (
    ROOM,
    Detail,
    profile_result,
    written_result,
)
from mcp_server.services.importing import Importing
from mcp_server.services.paging import after_of, cursor_of, fitting
from mcp_server.services.report_text import report_text
from mcp_server.services.source_listing import source_page
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.datasets import DatasetStore, DatasetVersion, parse_reference, require_columns, require_name
from mcp_server.stores.exports import ExportFormat, Exports
from mcp_server.stores.queries import DatasetQueries
from mcp_server.stores.query_values import visible_text
from mcp_server.stores.reports import ReportStore
from mcp_server.stores.sources.files import SourceFiles

Recipe = Literal["nba_elo", "nba_game_features"]

_KEPT_IN_NOTES = ("missing_words", "infinite", "decimal_as_float", "unnamed_column")


class DataService:
    """The data tools. Thread-safe: it holds nothing that changes."""

    def __init__(
        self,
        *,
        datasets: DatasetStore,
        artifacts: ArtifactStore,
        reports: ReportStore,
        sources: SourceFiles,
        importing: Importing,
        exports: Exports,
        queries: DatasetQueries,
        users_of: Callable[[Sequence[str]], list[str]],
    ) -> None:
        """Take the parts.

        Args:
            users_of: returns the names of what else depends on any of the dataset references given, such as
                `model upset@1.0.0`; a bare name among them means that no version of it would be left.
        """
        self._datasets = datasets
        self._artifacts = artifacts
        self._reports = reports
        self._sources = sources
        self._importing = importing
        self._exports = exports
        self._queries = queries
        self._users_of = users_of

    # Bringing in ---------------------------------------------------------------------------------------------

    def import_dataset(
        self,
        *,
        caller: Caller,
        name: str,
        source: str,
        format: str | None = None,
        options: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> DatasetResult:
        """Read `source` and store it as the next version of `name`; equal content makes none.

        Raises:
            InvalidArgumentError: the file cannot be read as a table, or an option is wrong; says where.
            NotFoundError: no such file; carries near names.
            PermissionDeniedError: the source lies outside what is allowed.
            FailedPreconditionError: a kind of source that is not supported.
            ResourceExhaustedError: it is larger than the limits allow.
        """
        progress = progress or NoProgress()
        require_name(name)
        with self._artifacts.temporary_path(".parquet") as output:
            brought = self._importing.bring(source, format, dict(options or {}), output, progress)
            progress(0.9, "storing")
            said = [f"{f.column}: {f.message}" for f in brought.findings if f.code in _KEPT_IN_NOTES]
            lineage = {
                "parents": [],
                "options": dict(brought.options),
                "notes": [*brought.notes, *said],
                "file": dict(brought.details),
            }
            version, created = self._store(name, output, brought.source, lineage, caller)
        return written_result(version, created, brought.opening, brought.findings)

    def list_sources(self, *, limit: int = 50, cursor: str | None = None) -> SourcePage:
        """List the files below the data roots, then connections, buckets, hosts and what is always there."""
        return source_page(self._sources, self._importing, limit=limit, cursor=cursor)

    # Looking -------------------------------------------------------------------------------------------------

    def list_datasets(self, *, limit: int = 50, cursor: str | None = None) -> DatasetPage:
        """List the latest version of every dataset, by name."""
        versions = self._datasets.latest(limit + 1, after_of(cursor))
        items = [
            DatasetItem(
                name=version.name,
                version=version.version,
                rows=version.rows,
                columns=len(version.columns),
                created_at=version.created_at,
                source=visible_text(version.source, 100),
            )
            for version in versions[:limit]
        ]
        items = fitting(items)
        more = len(versions) > len(items)
        return DatasetPage(
            summary=f"{counted(len(items), 'dataset')}{' on this page; more follow' if more else ''}.",
            items=items,
            next_cursor=cursor_of(items[-1].name) if more else None,
        )

    def describe_dataset(
        self,
        *,
        dataset: str,
        columns: Sequence[str] | None = None,
        detail: Detail = "summary",
        progress: Progress | None = None,
    ) -> DatasetProfile:
        """Profile a dataset and write its report.

        Raises:
            NotFoundError: no such dataset.
            InvalidArgumentError: a column is not in it.
            FailedPreconditionError: its file is damaged.
        """
        from mcp_server.services.data_report import profile_report

        progress = progress or NoProgress()
        version = self._datasets.resolve(dataset)
        if columns is not None:
            require_columns(version, columns)
            if not columns:
                raise InvalidArgumentError("columns is empty.", hint="Name columns, or leave it out for all.")
        found = profile_of(version, columns, progress)
        progress(0.95, "writing the report")
        result = profile_result(version, found, "", detail)
        report = profile_report(version, found, result.summary)
        report_id = self._reports.save(report, "describe_dataset", version.ref)
        return result.model_copy(update={"report_uri": f"report://{report_id}"})

    def query_data(self, *, sql: str, limit: int = 100) -> QueryResult:
        """Return the first rows of a SELECT over datasets, as many as an answer has room for.

        Raises:
            As `DatasetQueries.select`.
        """
        answer = self._queries.select(sql, limit)
        rows = list(answer.rows)
        result = QueryResult(
            summary="", columns=[visible_text(name) for name in answer.columns], dtypes=list(answer.dtypes), rows=rows,
            row_count=len(rows), truncated=answer.truncated,
        )  # fmt: skip
        while rows and len(result.model_dump_json()) > ROOM:
            rows = rows[: len(rows) * 3 // 4]
            result = result.model_copy(update={"rows": rows, "row_count": len(rows), "truncated": True})
        size = f"{counted(len(rows), 'row')} of {counted(len(answer.columns), 'column')}"
        cut = (
            " (the answer's room is used up: select fewer columns or aggregate)" if len(rows) < len(answer.rows) else ""
        )
        ending = f"{size}; there are more{cut}." if result.truncated else f"{size}, all of them."
        return result.model_copy(update={"summary": ending})

    def get_report(self, *, report_id: str, section: str | None = None) -> ReportText:
        """Return a report, or one section of it, as Markdown.

        Raises:
            NotFoundError: no such report.
            InvalidArgumentError: it has no such section; the hint names them.
        """
        return report_text(self._reports.load(report_id.removeprefix("report://")), section)

    # Making from others --------------------------------------------------------------------------------------

    def transform_dataset(
        self,
        *,
        caller: Caller,
        name: str,
        sql: str | None = None,
        recipe: Recipe | None = None,
        inputs: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> DatasetResult:
        """Store what a SELECT or a recipe makes of datasets as the next version of `name`.

        Raises:
            InvalidArgumentError: both or neither of `sql` and `recipe`, a recipe without an input, options that
                there are not, or SQL that is wrong; quotes the engine with line and caret.
            NotFoundError: an input does not exist.
            PermissionDeniedError: the SQL reaches outside the datasets.
            ResourceExhaustedError: it takes more memory, time or rows than its limits.
        """
        progress = progress or NoProgress()
        require_name(name)
        if (sql is None) == (recipe is None):
            raise InvalidArgumentError(
                "A transform takes either sql or recipe.", hint="Pass sql, or recipe with inputs=[dataset]."
            )
        if options:
            raise InvalidArgumentError(
                f"There is no option {shown(next(iter(options)))}.", hint="Neither SQL nor the recipes take options."
            )
        given = [self._datasets.resolve(ref) for ref in inputs or []]
        if recipe is not None:
            return self._apply_recipe(caller, name, recipe, given, progress)
        progress(0.05, "running the query")
        with self._artifacts.temporary_path(".parquet") as output:
            made = self._queries.materialise(sql or "", output, progress.cancelled)
            parents = list(dict.fromkeys(version.ref for version in (*made.read, *given)))
            lineage = {"parents": parents, "sql": sql}
            source = f"sql over {', '.join(parents) or 'no dataset'}"
            version, created = self._store(name, output, source, lineage, caller, ordered=made.ordered)
        return written_result(version, created, "Stored the query's rows as")

    def _apply_recipe(
        self, caller: Caller, name: str, recipe: Recipe, given: Sequence[DatasetVersion], progress: Progress
    ) -> DatasetResult:
        from mcp_server.nba.recipes import apply_recipe

        if not given:
            raise InvalidArgumentError(f"Recipe {recipe} needs a dataset.", hint="Pass inputs=[a table of games].")
        progress(0.1, f"applying {recipe} to {given[0].rows:,} rows")
        frame, notes = apply_recipe(recipe, self._datasets.read(given[0].ref))
        progress(0.8, "storing")
        lineage = {"parents": [given[0].ref], "recipe": recipe, "notes": notes}
        version, created = self._store(name, frame, f"{recipe} of {given[0].ref}", lineage, caller)
        return written_result(version, created, f"Applied {recipe} as")

    # Taking out ----------------------------------------------------------------------------------------------

    def export_dataset(
        self,
        *,
        caller: Caller,
        dataset: str,
        target: str,
        format: ExportFormat = "csv",
        overwrite: bool = False,
    ) -> ExportResult:
        """Write a dataset to a file in an allowed folder, or an object in an allowed bucket, whole or not at all.

        Raises:
            NotFoundError: no such dataset, folder or bucket.
            PermissionDeniedError: the target lies outside what is allowed.
            AlreadyExistsError: it is there, and `overwrite` is false.
            UnavailableError: the bucket's server cannot be reached.
        """
        version = self._datasets.resolve(dataset)
        written = self._exports.write(version.path, target, format, overwrite=overwrite)
        cells = counted(written.n_guarded, "cell")
        guarded = f"; {cells} that a spreadsheet would run got a leading '" if written.n_guarded else ""
        wrote = f"Wrote {counted(version.rows, 'row')} of {version.ref} to {visible_text(target)}"
        return ExportResult(
            summary=f"{wrote}, {written.n_bytes:,} bytes{guarded}.",
            target=visible_text(target, 500),
            rows=version.rows,
            bytes=written.n_bytes,
        )

    def delete_dataset(self, *, caller: Caller, dataset: str) -> DeletedDataset:
        """Delete one version (`name@2`), or all versions of a name.

        Raises:
            NotFoundError: no such dataset.
            FailedPreconditionError: datasets or models were made from it; names them.
        """
        name, number = parse_reference(dataset)
        resolved = self._datasets.resolve(dataset)
        refs = [resolved.ref] if number is not None else [version.ref for version in self._datasets.versions(name)]
        derived = [ref for ref in self._datasets.descendants(refs) if ref not in refs]
        remaining = {version.ref for version in self._datasets.versions(name)} - {*refs}
        users = [f"dataset {ref}" for ref in derived] + self._users_of(refs if remaining else [*refs, name])
        if users:
            more = f" and {len(users) - 10} more" if len(users) > 10 else ""
            raise FailedPreconditionError(
                f"{dataset} is in use: {', '.join(users[:10])}{more} depend on it; nothing was deleted.",
                hint="Delete what depends on it first, or keep it.",
                details={"dependants": users[:100]},
            )
        deleted = self._datasets.delete(dataset)
        return DeletedDataset(summary=f"Deleted {', '.join(deleted)}.", deleted=deleted)

    def _store(
        self,
        name: str,
        content: pl.DataFrame | Path,
        source: str,
        lineage: Mapping[str, Any],
        caller: Caller,
        *,
        ordered: bool = True,
    ) -> tuple[DatasetVersion, bool]:
        """Write a version; return it, and whether its content was new."""
        known = self._datasets.versions(name)
        version = self._datasets.write(name, content, source=source, lineage=lineage, caller=caller, ordered=ordered)
        return version, not known or version.version > known[-1].version
