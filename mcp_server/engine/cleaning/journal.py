"""What a step changed: counted exactly, and written down cell by cell.

A cell is changed when its text is another, or when it became missing or present. The text of a number that is whole
has no fraction, so 66 and 66.0 are one and the same; a cast that reads "66" as 66 changes the column's type, no cell.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from mcp_server.engine.cleaning.steps import CellEdit, Change, Dropping, Operation, Removal, Renaming, applied
from mcp_server.engine.cleaning.table import ROW

JOURNAL_SCHEMA = {
    "step": pl.UInt16(), "action": pl.String(), "row": pl.Int64(), "column": pl.String(), "before": pl.String(),
    "after": pl.String(),
}  # fmt: skip
MAX_ENTRIES = 5_000_000


def as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return a column's cells as text: times as ISO 8601, whole numbers without a fraction."""
    column = pl.col(name)
    if dtype.is_float():
        return column.cast(pl.String).str.replace(r"\.0$", "")
    if isinstance(dtype, pl.Duration):
        return column.dt.to_string("iso")
    return column if dtype == pl.String else column.cast(pl.String)


def joined(entries: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return parts of a journal as one."""
    return pl.concat(entries) if entries else pl.DataFrame(schema=JOURNAL_SCHEMA)


@dataclass(slots=True)
class Counts:
    """What the steps did so far: cells by step and column, rows by step."""

    cells: dict[tuple[int, str], int] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    entries: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Recorder:
    """Counts what steps change and writes it down, batch by batch of rows or for a whole table at once."""

    actions: Sequence[str]
    operations: list[Operation]
    max_entries: int = MAX_ENTRIES
    counts: Counts = field(default_factory=Counts)

    def run(self, batch: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return `batch` (with its row numbers) after all steps, without the numbers, and its part of the journal."""
        entries = []
        for number, operation in enumerate(self.operations):
            after = applied(operation, batch.lazy()).collect()
            entries += self.record(number, batch, after)
            batch = after
        return batch.drop(ROW), joined(entries)

    def record(self, number: int, before: pl.DataFrame, after: pl.DataFrame) -> list[pl.DataFrame]:
        """Count what step `number` made of `before`, both with their row numbers; return its journal."""
        entries = []
        for found in self._entries(number, self.operations[number], before, after):
            self.counts.entries += len(found)
            part = found.head(max(0, self.max_entries - self.counts.kept))
            self.counts.kept += len(part)
            if len(part):
                entries.append(self._dressed(number, part))
        return entries

    def _dressed(self, number: int, entries: pl.DataFrame) -> pl.DataFrame:
        step, action = pl.lit(number).alias("step"), pl.lit(self.actions[number]).alias("action")
        return entries.with_columns(step, action).select(pl.col(n).cast(t) for n, t in JOURNAL_SCHEMA.items())

    def _entries(
        self, number: int, operation: Operation, before: pl.DataFrame, after: pl.DataFrame
    ) -> Iterator[pl.DataFrame]:
        first = number not in self.counts.rows
        self.counts.rows.setdefault(number, 0)
        match operation:
            case CellEdit():
                for name in operation.columns:
                    found = _edited(name, before, after)
                    self.counts.cells[number, name] = self.counts.cells.get((number, name), 0) + len(found)
                    if len(found):
                        yield found
            case Removal():
                self.counts.rows[number] += len(before) - len(after)
                yield from _removed(operation, before, after)
            case Renaming():
                if first:
                    yield _of_columns(dict(operation.names))
            case Dropping():
                for name in operation.columns:
                    key = (number, name)
                    self.counts.cells[key] = self.counts.cells.get(key, 0) + len(before)
                if first:
                    yield _of_columns(dict.fromkeys(operation.columns))

    def changes(self) -> list[Change]:
        """Return what all steps did, in their order; columns that a step left alone are not in it."""
        found = []
        for number, operation in enumerate(self.operations):
            n_rows, details = self.counts.rows.get(number, 0), _details(operation)
            if n_rows:
                found.append(Change(number, None, 0, n_rows, details.get("", "")))
            always = not isinstance(operation, CellEdit) or operation.retypes
            for name in dict.fromkeys([*_columns(operation), *(n for n in details if n)]):
                n_cells = self.counts.cells.get((number, name), 0)
                if n_cells or (always and name in details):
                    found.append(Change(number, name, n_cells, 0, details.get(name, "")))
        return found


def _removed(operation: Removal, before: pl.DataFrame, after: pl.DataFrame) -> Iterator[pl.DataFrame]:
    if len(after) < len(before):
        gone = before.filter(~pl.col(ROW).is_in(after[ROW].implode()))
        why = gone.select(pl.col(ROW).alias("row"), operation.why.alias("before"))
        yield _with(why, column=None, after=None)


_NOTHING = pl.DataFrame(schema={name: JOURNAL_SCHEMA[name] for name in ("row", "before", "after", "column")})


def _edited(name: str, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Return the cells of a column that are changed, with their texts."""
    old, new, row = before[name], after[name], before[ROW]
    if old.dtype == new.dtype:
        at = old.ne_missing(new).arg_true()
        if not len(at):
            return _NOTHING
        old, new, row = old.gather(at), new.gather(at), row.gather(at)
    texts = [as_text("old", old.dtype).alias("before"), as_text("new", new.dtype).alias("after")]
    pairs = pl.DataFrame({"row": row, "old": old, "new": new}).select("row", *texts)
    if old.dtype != new.dtype:
        pairs = pairs.filter(pl.col("before").ne_missing(pl.col("after")))
    return _with(pairs, column=name)


def _with(entries: pl.DataFrame, **constants: str | None) -> pl.DataFrame:
    return entries.with_columns(pl.lit(value, pl.String).alias(name) for name, value in constants.items())


def _of_columns(names: Mapping[str, str | None]) -> pl.DataFrame:
    """Return entries about whole columns: no row, the old name and the new one (none: it is gone)."""
    after = pl.Series("after", list(names.values()), dtype=pl.String)
    return pl.DataFrame(
        {
            "row": pl.Series([None] * len(names), dtype=pl.Int64),
            "column": list(names),
            "before": list(names),
            "after": after,
        }
    )


def _details(operation: Operation) -> Mapping[str, str]:
    match operation:
        case CellEdit() | Removal():
            return operation.details
        case Renaming():
            return {old: f"renamed to {new}" for old, new in operation.names.items()}
        case Dropping():
            return dict.fromkeys(operation.columns, "dropped")


def _columns(operation: Operation) -> Sequence[str]:
    return operation.columns if isinstance(operation, CellEdit | Dropping) else ()
