"""Steps that hardly anybody would argue with, each with its reason in figures: what `steps="auto"` runs.

What is not certain is said and left: dates in two formats, rows that differ in one column, values far out. Missing
values are not filled: training fills them inside its pipeline, from training rows only, and a game that was not played
yet is to stay without a result. Columns of one value stay: what comes after may ask for them by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from mcp_server.engine.cleaning.plan import Ticks, fit
from mcp_server.engine.cleaning.steps import Step
from mcp_server.engine.cleaning.table import ROW, Table, open_table
from mcp_server.engine.cleaning.texts import TextColumn, listed, look_at
from mcp_server.engine.findings import Finding
from mcp_server.engine.profiling.columns import ColumnProfile, describe_column, text_counts
from mcp_server.engine.profiling.rows import NearDuplicates, repeated_rows
from mcp_server.engine.profiling.table import Table as ProfiledTable
from mcp_server.engine.profiling.text import text_findings
from mcp_server.errors import InvalidArgumentError, shown
from mcp_server.results.wording import counted

_MOST_FINDINGS = 8  # of one kind
_FEW_VALUES = 10
# What the steps before have dealt with, or what is no trouble here
_SETTLED = {"spaces", "empty_text", "hidden_characters"}


@dataclass(frozen=True, slots=True)
class Proposal:
    """Steps to run, in their order, and what was seen and left as it is."""

    steps: list[Step]
    findings: list[Finding]


def propose(frame: pl.DataFrame | pl.LazyFrame, tick: Ticks | None = None) -> Proposal:
    """Return the steps for `frame`, none when there is nothing to mend, and what is left to decide.

    Args:
        tick: hears the share that is done, and what is looked at; what it raises ends the work.

    Raises:
        InvalidArgumentError: it has no rows or no columns.
    """
    tell = tick or (lambda share, words: None)
    table = open_table(frame)
    texts: dict[str, TextColumn] = {}
    for name in (name for name, dtype in table.schema.items() if dtype == pl.String):
        tell(0.3 * len(texts) / len(table.schema), f"looking at column {len(texts) + 1} of text")
        texts[name] = look_at(_counts(table, name))
    steps = [*_trims(texts), *_replacements(texts), *_casts(table, texts), *_empty_columns(table, texts)]
    outcome = fit(frame, steps, max_entries=0).outcome if steps else table
    cleaned = outcome.lazy.drop(ROW)
    profiled = ProfiledTable(cleaned.collect() if outcome.is_small else cleaned)
    profiles: dict[str, ColumnProfile] = {}
    findings: list[Finding] = []
    for name in profiled.names:
        tell(0.4 + 0.3 * len(profiles) / len(profiled.names), f"looking at column {len(profiles) + 1}")
        column = profiled.column(name)
        counts = text_counts(column) if column.dtype == pl.String else None
        profiles[name] = describe_column(column, counts)
        if column.dtype == pl.String and profiles[name].distinct > 1:
            findings += _texts_left(text_findings(column, counts))
    tell(0.7, "comparing rows")
    repeated = repeated_rows(profiled, profiles)
    if repeated.duplicate_rows:
        reason = f"{repeated.duplicate_rows:,} of {table.n_rows:,} rows repeat an earlier one in every column."
        steps.append(Step("drop_duplicates", None, {}, reason))
    said = [*_near(repeated.near), *findings, *_constant(profiles), *_far_out(profiles), *_missing(profiles)]
    return Proposal(steps, said)


def _counts(table: Table, name: str) -> pl.DataFrame:
    values = table.lazy.select(pl.col(name).alias("value")).drop_nulls()
    return values.group_by("value").agg(pl.len().alias("count")).collect(engine="streaming")


# Steps ---------------------------------------------------------------------------------------------------------


def _trims(texts: Mapping[str, TextColumn]) -> list[Step]:
    padded = {name: text for name, text in texts.items() if text.padded}
    if not padded:
        return []
    n_cells = sum(text.padded for text in padded.values())
    first = next(iter(padded.values())).padded_examples
    cells = f"{counted(n_cells, 'cell')} of {counted(len(padded), 'column')}"
    reason = f"Spaces around the value in {cells}, such as {first}."
    return [Step("trim", tuple(padded), {}, reason)]


def _replacements(texts: Mapping[str, TextColumn]) -> list[Step]:
    """Return one step for all columns that have the same words for missing."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, text in texts.items():
        if text.words:
            alike.setdefault(tuple(sorted(text.words)), []).append(name)
    steps = []
    for words, names in alike.items():
        counts = {word: sum(texts[name].words[word] for name in names) for word in words}
        n_values = sum(int(texts[name].values["count"].sum()) for name in names)
        n_cells = sum(counts.values())
        of_columns = f" of {len(names)} columns" if len(names) > 1 else ""
        reason = f"{n_cells:,} of {n_cells + n_values:,} values{of_columns} are words for missing: {listed(counts)}."
        steps.append(Step("replace", tuple(names), {"values": dict.fromkeys(words)}, reason))
    return steps


def _casts(table: Table, texts: Mapping[str, TextColumn]) -> list[Step]:
    """Return one cast for all columns that are written alike; each was tried on every different value."""
    alike: dict[str, tuple[dict[str, object], str, list[str]]] = {}
    for name, text in texts.items():
        if text.cast is not None and _goes_through(text):
            options, words = text.cast
            alike.setdefault(repr(options), (options, words, []))[2].append(name)
    steps = []
    for options, words, names in alike.values():
        n_values = sum(int(texts[name].values["count"].sum()) for name in names)
        reason = f"All {n_values:,} values are {words}, kept as text."
        if words.startswith("read as"):
            reason = f"All {n_values:,} values of {counted(len(names), 'column')} of text {words}."
        steps.append(Step("cast", tuple(names), options, reason))
    return steps


def _goes_through(text: TextColumn) -> bool:
    if text.cast is None:
        return False
    try:
        fit(text.values.select("value"), [Step("cast", ("value",), text.cast[0])])
    except InvalidArgumentError:
        return False  # a value is no such thing after all: the column stays text
    return True


def _empty_columns(table: Table, texts: Mapping[str, TextColumn]) -> list[Step]:
    nulls = table.figures([pl.col(name).null_count().alias(name) for name in table.schema])
    empty = [name for name in table.schema if nulls[name] == table.n_rows or (name in texts and texts[name].is_empty)]
    if not empty or len(empty) == len(table.schema):
        return []
    return [Step("drop_columns", tuple(empty), {}, f"No value in any of {table.n_rows:,} rows.")]


# What is left --------------------------------------------------------------------------------------------------


def _texts_left(findings: list[Finding]) -> list[Finding]:
    """Return what is left to say about a column of text, with the step that reads dates of several clear formats."""
    left = [each for each in findings if each.code not in _SETTLED]
    if any(each.code == "ambiguous_dates" for each in left):
        return left  # trying formats in turn would settle what nobody knows
    advice = " cast reads them with options.format, a list of formats that it tries in order."
    return [
        Finding(each.column, each.code, each.message.removesuffix(" parse each format by itself.") + advice)
        if each.code == "mixed_dates"
        else each
        for each in left
    ]


def _near(near: list[NearDuplicates]) -> list[Finding]:
    findings = []
    for each in near[:_MOST_FINDINGS]:
        differing = ", ".join(shown(name, 40) for name in each.differing_columns[:5])
        more = f" and {len(each.differing_columns) - 5} more" if len(each.differing_columns) > 5 else ""
        rows = f"{counted(each.n_rows, 'row')} in {counted(each.groups, 'group')}"
        text = f"Differing from another row in {differing}{more} alone: {rows}; left as is."
        example = f" Such as {each.example}." if each.example else ""
        findings.append(Finding(None, "near_duplicate_rows", f"{text}{example} {each.fix}"))
    return findings


def _constant(profiles: Mapping[str, ColumnProfile]) -> list[Finding]:
    same = [p for p in profiles.values() if p.n_rows > 1 and p.distinct == 1 and not p.missing]
    findings = []
    for each in same[:_MOST_FINDINGS]:
        value = each.min if each.min is not None else each.mean
        text = f"All {each.n_rows:,} rows hold {shown(value, 40)}; kept, as later steps may ask for the column."
        findings.append(Finding(each.name, "constant", text + " drop_columns removes it."))
    return findings


def _far_out(profiles: Mapping[str, ColumnProfile]) -> list[Finding]:
    far = [p for p in profiles.values() if p.outliers and p.distinct > _FEW_VALUES and not p.dtype.is_temporal()]
    findings = []
    for each in sorted(far, key=lambda p: -(p.outliers or 0))[:_MOST_FINDINGS]:
        text = (
            f"{each.outliers:,} of {each.present:,} values lie more than three interquartile ranges beyond the "
            f"quartiles (from {shown(each.min, 20)} to {shown(each.max, 20)}); left as is. clip_outliers or "
            "drop_outliers takes them in or out."
        )
        findings.append(Finding(each.name, "outliers", text))
    return findings


def _missing(profiles: Mapping[str, ColumnProfile]) -> list[Finding]:
    """Say that nothing is filled, where there is something to fill."""
    missing = [name for name, p in profiles.items() if p.missing]
    if not missing:
        return []
    text = f"{len(missing)} columns have missing values, left as they are: training fills them from training rows only."
    return [Finding(None, "missing_left", text + ' A step {"action": "impute"} fills them here.')]
