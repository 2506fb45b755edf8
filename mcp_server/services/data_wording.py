"""Shapes what the data tools found: results that stay small, sentences, and the profile's report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mcp_server.engine.findings import Finding
from mcp_server.errors import shown
from mcp_server.results.base import Record
from mcp_server.results.data import (
    ColumnCorrelation,
    ColumnProfile,
    DataColumn,
    DatasetProfile,
    DatasetResult,
    DataWarning,
    Histogram,
    Lineage,
    NearDuplicateRows,
    TopValue,
)
from mcp_server.results.wording import counted
from mcp_server.stores.datasets import DatasetVersion
from mcp_server.stores.parquet import dtype_name
from mcp_server.stores.query_values import plain_value, visible_text

if TYPE_CHECKING:
    from mcp_server.engine.profiling.columns import ColumnProfile as EngineColumn
    from mcp_server.engine.profiling.profile import Profile

Detail = Literal["summary", "full"]
RecordT = TypeVar("RecordT", bound=Record)

ROOM = 14_000  # characters of a result; a caller reads at most 16 KB
_ROOM_FULL = 60_000  # a caller that asks for the full detail
_TOP_FULL = 100
_LISTED_COLUMNS = 100
_TOP = 20
_VALUE_LENGTH = 60
_FIGURES = 6
# Histogram ranges, top values and columns that a profile keeps, from generous to terse, until it fits its room
_CUTS = (
    (20, 10, None),
    (10, 5, None),
    (10, 3, None),
    (0, 3, None),
    (0, 0, None),
    (0, 3, 40),
    (0, 0, 40),
    (0, 0, 30),
    (0, 0, 20),
)
_SUMMARY_CUTS = ((10, 3, 30), *_CUTS[3:])


def warnings_of(findings: Sequence[Finding], top: int = _TOP) -> list[DataWarning]:
    """Return the first `top` findings as a result shows them; a last one says how many more there are."""
    shown_ones = [
        DataWarning(
            column=visible_text(finding.column, _VALUE_LENGTH) if finding.column is not None else None,
            code=finding.code,
            message=visible_text(finding.message, 300),
        )
        for finding in findings[:top]
    ]
    if len(findings) > top:
        text = f"{len(findings) - top} further remarks are left out here."
        shown_ones.append(DataWarning(column=None, code="more", message=text))
    return shown_ones


def lineage_of(version: DatasetVersion) -> Lineage:
    """Return a version's lineage as a result shows it."""
    document = {name: value for name, value in version.lineage.items() if name in Lineage.model_fields}
    if isinstance(document.get("sql"), str):
        document["sql"] = visible_text(document["sql"], 1000)
    if document.get("steps"):
        document["steps"] = document["steps"][:_TOP]
    document["notes"] = [visible_text(note, 300) for note in document.get("notes", [])[:_TOP]]
    return Lineage.model_validate(document)


def written_fields(version: DatasetVersion, created: bool, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the fields that every result about a written dataset has, without its summary."""
    lineage = lineage_of(version)
    columns = [
        DataColumn(name=visible_text(column.name), dtype=column.dtype, nullable=column.nullable)
        for column in version.columns[:_LISTED_COLUMNS]
    ]
    return {
        "name": version.name,
        "version": version.version,
        "rows": version.rows,
        "columns": columns,
        "n_columns": len(version.columns),
        "content_hash": version.content_hash,
        "source": visible_text(version.source, 300),
        "created": created,
        "warnings": warnings_of(findings),
        "notes": lineage.notes,
        "lineage": lineage.model_copy(update={"notes": []}),
    }


def written_result(
    version: DatasetVersion, created: bool, verb: str, findings: Sequence[Finding] = ()
) -> DatasetResult:
    """Return the result of a tool that wrote `version`."""
    return DatasetResult(
        summary=written_sentence(version, created, verb, findings), **written_fields(version, created, findings)
    )


def written_sentence(version: DatasetVersion, created: bool, verb: str, findings: Sequence[Finding] = ()) -> str:
    """Return the sentence about a dataset that was just written."""
    size = f"{counted(version.rows, 'row')} and {counted(len(version.columns), 'column')}"
    noted = f"; {counted(len(findings), 'warning')}" if findings else ""
    if not created:
        return f"{version.ref} already has this content ({size}): no new version was made{noted}."
    return f"{verb} {version.ref}: {size}{noted}."


# Profiles ------------------------------------------------------------------------------------------------------


def profile_result(version: DatasetVersion, found: "Profile", report_uri: str, detail: Detail) -> DatasetProfile:
    """Return a profile that fits its room: the report has what is left out."""
    full = detail == "full"
    for n_bins, n_values, n_columns in _CUTS if full else _SUMMARY_CUTS:
        result = _profile(version, found, report_uri, (n_bins, n_values, n_columns), full)
        if len(result.model_dump_json()) <= (_ROOM_FULL if full else ROOM):
            return result
    return result.model_copy(
        update={"correlations": result.correlations[:5], "warnings": result.warnings[:10], "near_duplicates": []}
    )


def _profile(
    version: DatasetVersion, found: "Profile", report_uri: str, cuts: tuple[int, int, int | None], full: bool
) -> DatasetProfile:
    n_bins, n_values, n_columns = cuts
    kept = found.columns[:n_columns]
    left_out = []
    if len(kept) < len(found.columns):
        left_out.append(f"{len(found.columns) - len(kept)} columns (name them in the argument columns)")
    if n_bins < 20:
        left_out.append("histograms" if not n_bins else "finer histograms")
    if n_values < 10:
        left_out.append("top values" if not n_values else "further top values")
    top = _TOP_FULL if full and n_bins else 10 if n_bins == 0 else _TOP
    return DatasetProfile(
        summary=_profile_sentence(version, found),
        dataset=version.ref,
        rows=found.n_rows,
        n_columns=len(version.columns),
        columns=[_column(column, n_bins, n_values) for column in kept],
        correlations=[
            ColumnCorrelation(
                a=visible_text(c.a, 60), b=visible_text(c.b, 60), method=c.method, value=_rounded(c.value)
            )
            for c in found.correlations[:top]
        ],
        duplicate_rows=found.duplicate_rows,
        candidate_keys=[[visible_text(name, 60) for name in key] for key in found.candidate_keys],
        near_duplicates=_near_duplicates(found),
        warnings=warnings_of(found.warnings, _TOP_FULL if full else _TOP),
        notes=found.notes,
        lineage=lineage_of(version),
        source=visible_text(version.source, 300),
        content_hash=version.content_hash,
        created_at=version.created_at,
        created_by=version.created_by,
        left_out=left_out,
        report_uri=report_uri,
    )


def _near_duplicates(found: "Profile") -> list[NearDuplicateRows]:
    return [
        NearDuplicateRows(
            key=[visible_text(name, 60) for name in near.key[:_TOP]],
            example=visible_text(near.example, 150),
            groups=near.groups,
            rows=near.n_rows,
            differing_columns=[visible_text(name, 60) for name in near.differing_columns[:_TOP]],
            fix=visible_text(near.fix),
        )
        for near in found.near_duplicates
    ]


def _column(column: "EngineColumn", n_bins: int, n_values: int) -> ColumnProfile:
    return ColumnProfile(
        name=visible_text(column.name),
        dtype=dtype_name(column.dtype),
        missing=column.missing,
        missing_percent=_rounded(100 * column.missing / column.n_rows),
        distinct=column.distinct,
        min=_shown_value(column.min),
        max=_shown_value(column.max),
        mean=_figure(column.mean),
        std=_figure(column.std),
        skew=_figure(column.skew),
        zeros=column.zeros,
        outliers=column.outliers,
        quantiles={name: _shown_value(value) for name, value in column.quantiles.items()} or None,
        top_values=[TopValue(value=_shown_value(value), count=count) for value, count in column.top_values[:n_values]]
        or None,
        histogram=_histogram(column, n_bins),
    )


def _histogram(column: "EngineColumn", n_bins: int) -> Histogram | None:
    if not column.counts or not n_bins:
        return None
    step = -(-len(column.counts) // n_bins)
    counts = [sum(column.counts[i : i + step]) for i in range(0, len(column.counts), step)]
    return Histogram(edges=[_shown_value(edge) for edge in [*column.edges[:-1:step], column.edges[-1]]], counts=counts)


def _shown_value(value: Any) -> Any:
    plain = plain_value(value)
    if isinstance(plain, str):
        return visible_text(plain, _VALUE_LENGTH)
    return _rounded(plain) if isinstance(plain, float) else plain


def _figure(value: float | None) -> float | None:
    plain = plain_value(value)
    return _rounded(plain) if isinstance(plain, int | float) else None


def _rounded(value: float) -> float:
    """Return `value` with six significant figures, whole numbers as they are."""
    return float(value) if float(value).is_integer() and abs(value) < 1e15 else float(f"{value:.{_FIGURES}g}")


def _profile_sentence(version: DatasetVersion, found: "Profile") -> str:
    n_missing = sum(column.missing for column in found.columns)
    n_cells = max(1, found.n_rows * len(found.columns))
    keys = f"key {' + '.join(map(shown, found.candidate_keys[0]))}" if found.candidate_keys else "no key of two columns"
    size = f"{counted(found.n_rows, 'row')} and {counted(len(version.columns), 'column')}"
    repeated = f"{counted(found.duplicate_rows, 'duplicate row')}, {keys}, {counted(len(found.warnings), 'warning')}"
    return f"{version.ref} has {size}: {n_missing / n_cells:.1%} of cells missing, {repeated}."
