"""What is in a table, column by column and as a whole: figures, relations, repeated rows, and trouble by name."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import polars as pl

from mcp_server.engine.findings import Finding
from mcp_server.engine.profiling.columns import ColumnProfile, describe_column, text_counts
from mcp_server.engine.profiling.leaks import leak_findings
from mcp_server.engine.profiling.relations import (
    MAX_CATEGORICAL,
    MAX_CATEGORIES,
    MAX_NUMERIC,
    Correlation,
    correlations,
    same_columns,
)
from mcp_server.engine.profiling.rows import (
    NearDuplicates,
    Repeated,
    candidate_keys,
    order_findings,
    repeated_rows,
)
from mcp_server.engine.profiling.table import Indices, Table, spread_sample
from mcp_server.engine.profiling.text import text_findings
from mcp_server.engine.profiling.warnings import column_warnings, name_warnings, worst_first
from mcp_server.errors import shown

SAMPLED_ROWS = 100_000  # for the measures that sort or count pairs
_HEAD_ROWS = 5
_MANY_ROWS = 3_000_000  # from here on one column at a time, for the memory

Tell = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Profile:
    """A whole table.

    Attributes:
        warnings: worst first.
        notes: which figures look at a sample of the rows; all others look at all.
        head: the first rows, all columns.
    """

    n_rows: int
    columns: list[ColumnProfile]
    correlations: list[Correlation]
    duplicate_rows: int
    candidate_keys: list[list[str]]
    near_duplicates: list[NearDuplicates]
    warnings: list[Finding]
    notes: list[str] = field(default_factory=list)
    head: pl.DataFrame = field(default_factory=pl.DataFrame)


def profile(
    source: pl.DataFrame | pl.LazyFrame, columns: Sequence[str] | None = None, tell: Tell | None = None
) -> Profile:
    """Profile a table; with `columns`, describe only those, while keys and duplicates are still judged on all.

    Args:
        source: at least one row; plain columns (numbers, text, truth values, times), missing values null. A lazy
            frame is read column by column, each several times, and never held as a whole.
        columns: names of columns.
        tell: hears the share done, 0 to 1, and what is being done; what it raises ends the profile.
    """
    tell = tell or (lambda share, words: None)
    table = Table(source)
    chosen = set(table.names if columns is None else columns)
    rows = spread_sample(table.n_rows, SAMPLED_ROWS)
    looks = _looks(table, chosen, rows, tell)
    by_name = {look.profile.name: look.profile for look in looks}
    described = [look.profile for look in looks if look.profile.name in chosen]
    if columns is not None:
        described = [by_name[name] for name in columns]
    sample = pl.DataFrame([look.sample for look in looks if look.sample is not None])
    tell(0.6, "comparing columns")
    related, whole = correlations(table, sample, described)
    found = [finding for look in looks for finding in look.findings]
    found += name_warnings(p.name for p in described)
    found += same_columns(table, sample, described, related) + leak_findings(sample, described)
    found += order_findings(table, described)
    tell(0.75, "comparing rows")
    repeated = repeated_rows(table, by_name)
    found = _unexplained(found, by_name, repeated)
    found += _row_findings(table.n_rows, repeated.duplicate_rows, repeated.near)
    return Profile(
        n_rows=table.n_rows,
        columns=described,
        correlations=related,
        duplicate_rows=repeated.duplicate_rows,
        candidate_keys=candidate_keys(table, by_name),
        near_duplicates=repeated.near,
        warnings=worst_first(found),
        notes=_notes(table.n_rows, len(rows), whole) + _capped(described),
        head=table.head(_HEAD_ROWS).select(p.name for p in described),
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """What one pass over a column leaves behind."""

    profile: ColumnProfile
    findings: list[Finding]
    sample: pl.Series | None


def _looks(table: Table, chosen: set[str], rows: Indices, tell: Tell) -> list[_Look]:
    """Look at each column once, two at a time where memory allows; the calls of numpy and Polars leave the lock."""
    looks: list[_Look] = []
    with ThreadPoolExecutor(2 if table.n_rows <= _MANY_ROWS else 1) as pool:
        look_at = partial(_look, table, chosen, rows)
        waiting = [pool.submit(look_at, name) for name in table.names]
        try:
            for future in waiting:
                looks.append(future.result())
                tell(0.6 * len(looks) / len(waiting), f"looked at {len(looks)} of {len(waiting)} columns")
        finally:
            pool.shutdown(cancel_futures=True)
    return looks


def _look(table: Table, chosen: set[str], rows: Indices, name: str) -> _Look:
    column = table.column(name)
    counts = text_counts(column) if column.dtype == pl.String else None
    found = describe_column(column, counts)
    if name not in chosen:
        return _Look(found, [], None)
    findings = column_warnings(found)
    if column.dtype == pl.String and found.distinct > 1:
        findings += text_findings(column, counts)
    return _Look(found, findings, column if len(rows) == len(column) else column.gather(rows))


def _unexplained(found: list[Finding], profiles: dict[str, ColumnProfile], repeated: Repeated) -> list[Finding]:
    """Leave out repeated identifiers that repeated rows account for: those are told once, as rows."""
    n_rows = repeated.duplicate_rows + sum(near.n_rows for near in repeated.near)

    def told(finding: Finding) -> bool:
        column = profiles.get(finding.column or "")
        return finding.code == "almost_unique" and column is not None and column.present - column.distinct <= n_rows

    return [finding for finding in found if not told(finding)]


def _row_findings(n_rows: int, n_duplicates: int, near: Sequence[NearDuplicates]) -> list[Finding]:
    found = []
    if n_duplicates:
        text = f"{n_duplicates:,} rows ({n_duplicates / n_rows:.2%}) repeat an earlier row in every column."
        found.append(Finding(None, "duplicate_rows", text + " clean_dataset with drop_duplicates removes them."))
    for each in near[:3]:
        differing = ", ".join(shown(name, 40) for name in each.differing_columns[:5])
        differing += f" and {len(each.differing_columns) - 5} more" if len(each.differing_columns) > 5 else ""
        shared = f"share {shown(each.key[0], 40)}" if len(each.key) == 1 else "are equal"
        text = f"{each.groups:,} groups of rows {shared} but differ in {differing} ({each.n_rows:,} rows too many)."
        found.append(Finding(None, "near_duplicate_rows", text + " " + each.fix))
    return found


def _notes(n_rows: int, n_sampled: int, whole: bool) -> list[str]:
    if n_sampled == n_rows:
        return []
    sampled = "Spearman, Cramér's V" if whole else "All correlations"
    seen = f"{n_sampled:,} of {n_rows:,} rows, evenly spread"
    return [f"{sampled} and the search for leaks look at {seen}; all else looks at all rows."]


def _capped(profiles: Sequence[ColumnProfile]) -> list[str]:
    """Say where a table has more columns than are compared with each other."""
    n_numeric = sum(p.dtype.is_numeric() and p.distinct > 1 for p in profiles)
    n_groups = sum(p.dtype in (pl.String, pl.Boolean) and 2 <= p.distinct <= MAX_CATEGORIES for p in profiles)
    notes = []
    if n_numeric > MAX_NUMERIC:
        notes.append(
            f"Of {n_numeric} columns of numbers the first {MAX_NUMERIC} are correlated; name others in columns."
        )
    if n_groups > MAX_CATEGORICAL:
        notes.append(f"Of {n_groups} columns of categories the first {MAX_CATEGORICAL} are compared by Cramér's V.")
    return notes
