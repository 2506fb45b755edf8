"""The report of a profile: trouble first, then the table as a whole, then column by column."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from mcp_server.engine.charts import Bars, Heatmap, Histogram, Panels
from mcp_server.engine.findings import Finding
from mcp_server.engine.profiling.columns import ColumnProfile
from mcp_server.engine.profiling.profile import Profile
from mcp_server.engine.profiling.warnings import Severity, severity
from mcp_server.engine.reports import Mark, Reference, Report, Section, Share, Table
from mcp_server.errors import shown
from mcp_server.services.column_report import column_chart, column_facts, rounded
from mcp_server.stores.datasets import DatasetVersion
from mcp_server.stores.parquet import dtype_name
from mcp_server.stores.query_values import plain_value, visible_text

_GROUP = "Column by column"
_MAX_SECTIONS = 150
_MAX_ROWS = 2000
_MAX_WARNINGS = 300
_MAX_HEATMAP = 15
_MAX_PAIRS = 25
_METHODS = {"pearson": "Pearson", "spearman": "Spearman", "cramers_v": "Cramér's V"}
_HEAD_COLUMNS = 12
_PANELS = 12
_WORDS: tuple[tuple[Severity, str], ...] = (("bad", "serious"), ("warning", "to mend"), ("note", "to know"))


def profile_report(version: DatasetVersion, found: Profile, summary: str) -> Report:
    """Return the report; its picture is the shapes of the columns, drawn when somebody asks for it."""
    described = _described(found)
    sections = [
        _warnings(found, described), _overview(version, found), _next_steps(version, found), _columns(found, described),
        _missing(found), _correlations(found), _rows(found), _head(found), _origin(version, found),
    ]  # fmt: skip
    of_columns: dict[str, list[Finding]] = {}
    for finding in found.warnings:
        of_columns.setdefault(finding.column or "", []).append(finding)
    sections += [
        _column(column, of_columns.get(column.name, [])) for column in found.columns if column.name in described
    ]
    kept = [section for section in sections if section is not None]
    return Report(f"Profile of {version.ref}", summary, kept, _picture(version, found), _marks(found))


def _described(found: Profile) -> set[str]:
    """Return the columns that get a section of their own: all, or those with the worst trouble and then the first."""
    named = [finding.column for finding in found.warnings if finding.column is not None]
    return set(list(dict.fromkeys([*named, *(c.name for c in found.columns)]))[:_MAX_SECTIONS])


def _heading(name: str) -> str:
    return f"Column: {visible_text(name)}"


def _marks(found: Profile) -> list[Mark]:
    counts = Counter(severity(finding.code) for finding in found.warnings)
    marks = [Mark(status, f"{counts[status]} {words}") for status, words in _WORDS if counts[status]]
    return marks or [Mark("good", "nothing to warn about")]


def _warnings(found: Profile, described: set[str]) -> Section:
    if not found.warnings:
        return Section("Warnings", "Nothing to warn about.", status="good")
    rows = [
        [
            _reference(finding.column, described),
            Mark(severity(finding.code), finding.code.replace("_", " ")),
            finding.message,
        ]
        for finding in found.warnings[:_MAX_WARNINGS]
    ]
    note = f"The first {_MAX_WARNINGS} of {len(found.warnings)}." if len(found.warnings) > _MAX_WARNINGS else ""
    worst = severity(found.warnings[0].code)
    status = worst if worst != "note" else None
    return Section("Warnings", table=Table(["column", "what", "why"], rows, note), status=status)


def _reference(name: str | None, described: set[str]) -> Reference | str:
    if name is None:
        return "(whole table)"
    return Reference(visible_text(name), _heading(name)) if name in described else visible_text(name)


def _overview(version: DatasetVersion, found: Profile) -> Section:
    n_missing = sum(column.missing for column in found.columns)
    n_cells = max(1, found.n_rows * len(found.columns))
    kinds = Counter(dtype_name(column.dtype) for column in found.columns)
    key = found.candidate_keys[0] if found.candidate_keys else ["none found"]
    facts = [
        ("rows", found.n_rows),
        ("columns", len(version.columns)),
        ("missing cells", f"{n_missing:,} ({n_missing / n_cells:.2%})"),
        ("duplicate rows", f"{found.duplicate_rows:,} ({found.duplicate_rows / found.n_rows:.2%})"),
        ("key", " + ".join(visible_text(name, 60) for name in key)),
        ("types", ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())),
        ("warnings", len(found.warnings)),
    ]
    about = (
        "" if len(found.columns) == len(version.columns) else f"Of these, {len(found.columns)} columns are described.\n"
    )
    return Section("Overview", about + "\n".join(f"- {note}" for note in found.notes), facts=facts)


def _next_steps(version: DatasetVersion, found: Profile) -> Section:
    codes = {finding.code for finding in found.warnings}
    steps = []
    if codes & {"possible_leak"}:
        steps.append("Ask what is known before the outcome; `check_training_data` judges leaks against a target.")
    if codes & {"duplicate_rows", "near_duplicate_rows", "spaces", "empty_text", "null_as_text", "case_variants"}:
        steps.append(f'Mend a copy: `clean_dataset` on `{version.ref}`; steps="auto" proposes steps and says why.')
    if codes & {"mixed_dates", "ambiguous_dates", "date_format", "mixed_types", "typed_text"}:
        steps.append(
            "Give text its type: `clean_dataset` with cast and options.format, or `transform_dataset` with SQL."
        )
    if "almost_unique" in codes or not found.candidate_keys:
        steps.append("Look at the rows behind a key: `check_integrity` with primary_key.")
    steps.append("Keep watch over what holds now: `suggest_suite` writes expectations, `validate_dataset` checks them.")
    return Section("What to do next", "\n".join(f"- {step}" for step in steps))


def _columns(found: Profile, described: set[str]) -> Section:
    rows = [
        [
            _reference(c.name, described), dtype_name(c.dtype), Share(100 * c.missing / c.n_rows), c.distinct,
            _cell(c.min, 18), _cell(c.mean), _cell(c.quantiles.get("0.5")), _cell(c.std), _cell(c.max, 18),
        ]
        for c in found.columns[:_MAX_ROWS]
    ]  # fmt: skip
    headings = ["column", "type", "missing", "distinct", "min", "mean", "median", "std", "max"]
    note = f"The first {_MAX_ROWS} of {len(found.columns)}." if len(found.columns) > _MAX_ROWS else ""
    return Section("Columns", table=Table(headings, rows, note))


def _cell(value: Any, length: int = 60) -> Any:
    if isinstance(value, date | datetime):
        return str(value)[:19]
    return visible_text(value, length) if isinstance(value, str) else rounded(plain_value(value))


def _missing(found: Profile) -> Section | None:
    shares = sorted(((c.missing / c.n_rows * 100, c.name) for c in found.columns if c.missing), reverse=True)
    if not shares:
        return None
    chart = Bars([name for _, name in shares], [share for share, _ in shares], percent=True, value_label="% of cells")
    whole = len(found.columns) - len(shares)
    text = f"{len(shares)} of {len(found.columns)} columns have missing cells; {whole} have none."
    return Section("Missing values", text, chart=chart)


def _correlations(found: Profile) -> Section | None:
    if not found.correlations:
        return None
    pearson = {(c.a, c.b): c.value for c in found.correlations if c.method == "pearson"}
    names = list(dict.fromkeys(name for pair in pearson for name in pair))[:_MAX_HEATMAP]
    chart = None
    if len(names) > 2:
        cells = [[1.0 if a == b else pearson.get((a, b), pearson.get((b, a))) for b in names] for a in names]
        shown_names = [visible_text(name, 24) for name in names]
        chart = Heatmap(cells, shown_names, shown_names, "Pearson correlations")
    pairs: dict[tuple[str, str], dict[str, float]] = {}
    for c in found.correlations:
        pairs.setdefault((c.a, c.b), {})[c.method] = c.value
    methods = [
        name for name in ("pearson", "spearman", "cramers_v") if any(name in values for values in pairs.values())
    ]
    rows = [[a, b, *(rounded(values.get(name)) for name in methods)] for (a, b), values in pairs.items()]
    note = f"The strongest {_MAX_PAIRS} of {len(rows)} pairs." if len(rows) > _MAX_PAIRS else ""
    headings = [_METHODS[name] for name in methods]
    return Section("Correlations", table=Table(["column", "and", *headings], rows[:_MAX_PAIRS], note), chart=chart)


def _rows(found: Profile) -> Section:
    keys = "\n".join(f"- {' + '.join(shown(name, 60) for name in key)}" for key in found.candidate_keys)
    repeated = f"{found.duplicate_rows:,} rows repeat an earlier one in every column."
    text = repeated if found.duplicate_rows else "No row repeats another in every column."
    text += (
        f"\n\nColumns that tell all rows apart:\n\n{keys}" if keys else "\n\nNo one or two columns tell all rows apart."
    )
    rows = [
        [" + ".join(near.key[:4]) + (f" and {len(near.key) - 4} more" if len(near.key) > 4 else ""), near.groups,
         ", ".join(near.differing_columns), near.example, near.fix]
        for near in found.near_duplicates
    ]  # fmt: skip
    table = Table(["rows that agree in", "groups", "differ in", "for example", "mend"], rows) if rows else None
    return Section("Keys and repeated rows", text, table)


def _head(found: Profile) -> Section | None:
    if not found.head.width:
        return None
    head = found.head[:, :_HEAD_COLUMNS]
    rows = [[_cell(value) for value in row] for row in head.iter_rows()]
    note = f"The first {_HEAD_COLUMNS} of {found.head.width} columns." if found.head.width > _HEAD_COLUMNS else ""
    return Section("First rows", table=Table([visible_text(name, 60) for name in head.columns], rows, note))


def _column(column: ColumnProfile, findings: Sequence[Finding]) -> Section:
    said = "\n".join(f"- **{finding.code.replace('_', ' ')}**: {finding.message}" for finding in findings)
    worst = severity(findings[0].code) if findings else "note"
    return Section(
        _heading(column.name),
        said,
        facts=column_facts(column),
        chart=column_chart(column),
        status=worst if worst != "note" else None,
        group=_GROUP,
    )


def _picture(version: DatasetVersion, found: Profile) -> Panels:
    """Return the shapes of the first columns that have one."""
    charts: list[Histogram | Bars] = []
    for column in found.columns:
        chart = column_chart(column, visible_text(column.name, 40))
        if chart is not None and column.distinct > 1:
            charts.append(chart)
    note = f", {_PANELS} of {len(charts)} columns with a shape" if len(charts) > _PANELS else ""
    return Panels(charts[:_PANELS], f"{version.ref}: {found.n_rows:,} rows{note}")


def _origin(version: DatasetVersion, found: Profile) -> Section:
    lineage = version.lineage
    rows = [
        ["source", visible_text(version.source, 300)],
        ["made by", version.created_by],
        ["made at", version.created_at.isoformat(timespec="seconds")],
        ["made from", ", ".join(lineage.get("parents", [])) or "–"],
        ["content", version.content_hash],
    ]
    rows += [[name, visible_text(str(lineage[name]), 200)] for name in ("sql", "recipe") if lineage.get(name)]
    return Section("Origin", table=Table(["what", "value"], rows))
