"""What holds for every action on any table."""

from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.engine.cleaning import table as cleaning_table
from mcp_server.engine.cleaning.journal import JOURNAL_SCHEMA, as_text
from mcp_server.engine.cleaning.plan import Plan, apply_plan, clean, fit
from mcp_server.engine.cleaning.steps import Change, Step
from mcp_server.errors import InvalidArgumentError

_words = st.sampled_from(["a", "b", " a", "b ", "A", "NULL", "", "x  y", "ä", "1,5"])
_rows = st.lists(
    st.tuples(
        st.none() | st.integers(-5, 5),
        st.none() | st.floats(-100, 100, allow_nan=False).map(lambda v: round(v, 2)) | st.just(1e6),
        st.none() | _words,
        st.none() | st.booleans(),
        st.none() | st.dates(date(2000, 1, 1), date(2000, 1, 9)),
    ),
    min_size=3,
    max_size=40,
)
_SCHEMA = {"i": pl.Int64, "f": pl.Float64, "s": pl.String, "b": pl.Boolean, "d": pl.Date}
frames = _rows.map(lambda rows: pl.DataFrame(rows, schema=_SCHEMA, orient="row"))

STEPS = [
    Step("drop_duplicates"),
    Step("drop_duplicates", ("s",), {"keep": "last"}),
    Step("drop_duplicates", ("s", "b"), {"keep": "none"}),
    Step("drop_missing", ("i", "s")),
    Step("drop_missing", None, {"how": "all"}),
    Step("drop_missing", None, {"threshold": 3}),
    Step("impute", ("i", "f"), {"method": "mean"}),
    Step("impute", None, {"method": "median"}),
    Step("impute", None, {"method": "most_frequent"}),
    Step("impute", ("s",), {"method": "constant", "value": "?"}),
    Step("impute", ("d",), {"method": "constant", "value": "1999-01-01"}),
    Step("clip_outliers", None, {"method": "iqr"}),
    Step("clip_outliers", ("f",), {"method": "zscore", "threshold": 1.0}),
    Step("clip_outliers", ("i",), {"method": "mad", "factor": 0.5}),
    Step("drop_outliers", ("f",), {"method": "mad"}),
    Step("cast", ("i", "f"), {"dtype": "text"}),
    Step("cast", ("b",), {"dtype": "integer"}),
    Step("cast", ("d",), {"dtype": "text", "format": "%d.%m.%Y"}),
    Step("cast", ("s",), {"dtype": "float", "decimal": ",", "errors": "missing"}),
    Step("trim"),
    Step("trim", ("s",), {"collapse": True, "side": "both"}),
    Step("replace", ("s",), {"values": {"NULL": None, "A": "a"}}),
    Step("replace", ("s",), {"values": ["null", "b"], "with": "z", "ignore_case": True}),
    Step("replace", ("s",), {"pattern": r"\s+$", "with": ""}),
    Step("replace", ("i",), {"values": {"1": 2}}),
    Step("rename", None, {"names": {"i": "j", "s": "i"}}),
    Step("drop_columns", ("b", "f")),
]
some_steps = st.lists(st.sampled_from(STEPS), min_size=1, max_size=4)


def recorded(frame: pl.DataFrame, steps: list[Step]) -> tuple[pl.DataFrame, pl.DataFrame, list[Change], Plan]:
    cleaning = fit(frame, steps)
    parts = list(cleaning.batches())
    journal = pl.concat([part for _, part, _ in parts])
    return pl.concat([rows for rows, _, _ in parts]), journal, cleaning.changes(), cleaning.plan


def texts(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(as_text(name, dtype).alias(name) for name, dtype in frame.schema.items())


def replayed(frame: pl.DataFrame, journal: pl.DataFrame) -> pl.DataFrame:
    """Make the output's texts from the input's and the journal alone."""
    cells = {name: dict(enumerate(column)) for name, column in texts(frame).to_dict(as_series=False).items()}
    for _, action, row, column, before, after in journal.sort("step", maintain_order=True).rows():
        if action == "rename":
            continue
        if row is None:
            del cells[column]
        elif column is None:
            for values in cells.values():
                del values[row]
        else:
            assert cells[column][row] == before
            cells[column][row] = after
    renamed = journal.filter(action="rename")
    names = dict(zip(renamed["before"], renamed["after"], strict=True))
    columns = {names.get(name, name): list(values.values()) for name, values in cells.items()}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def counted(changes: list[Change]) -> tuple[dict[tuple[int, str], int], dict[int, int]]:
    cells = {(c.step, c.column): c.cells_changed for c in changes if c.column is not None and c.cells_changed}
    return cells, {c.step: c.rows_removed for c in changes if c.column is None}


@settings(max_examples=120, deadline=None)
@given(frames, some_steps)
def test_the_journal_replayed_on_the_input_gives_the_output(frame: pl.DataFrame, steps: list[Step]) -> None:
    steps = [step for i, step in enumerate(steps) if step.action != "rename" or i == len(steps) - 1]
    try:
        after, journal, changes, _ = recorded(frame, steps)
    except InvalidArgumentError:
        return  # a column is gone or has no value, or no row is left
    assert journal.schema == JOURNAL_SCHEMA
    assert replayed(frame, journal).equals(texts(after), null_equal=True)
    cells, rows = counted(changes)
    of_cells = journal.filter(pl.col("row").is_not_null() & pl.col("column").is_not_null())
    said = of_cells.group_by("step", "column").len().rows()
    dropped = {(c.step, c.column) for c in changes if c.detail == "dropped"}
    assert {(s, c): n for s, c, n in said} == {key: n for key, n in cells.items() if key not in dropped}
    gone = journal.filter(pl.col("column").is_null()).group_by("step").len().rows()
    assert dict(gone) == rows
    assert len(after) == len(frame) - sum(rows.values())


@settings(max_examples=80, deadline=None)
@given(frames, st.sampled_from(STEPS))
def test_counts_are_the_real_difference_and_other_columns_stay(frame: pl.DataFrame, step: Step) -> None:
    try:
        after, changes = clean(frame, [step])
    except InvalidArgumentError:
        return
    cells, rows = counted(changes)
    assert len(frame) - len(after) == sum(rows.values())
    if step.action in ("rename", "drop_columns") or rows:
        return
    for name in frame.columns:
        if (0, name) in cells or frame[name].dtype != after[name].dtype:
            old, new = texts(frame)[name], texts(after)[name]
            assert int(old.ne_missing(new).sum()) == cells.get((0, name), 0)
        else:
            assert after[name].equals(frame[name], null_equal=True)


IDEMPOTENT = [s for s in STEPS if s.action in ("drop_duplicates", "drop_missing", "trim", "impute")]
IDEMPOTENT += [s for s in STEPS if s.action == "replace" and "values" in s.options and s.columns == ("s",)]


@settings(max_examples=80, deadline=None)
@given(frames, st.sampled_from(IDEMPOTENT))
def test_doing_it_twice_changes_nothing_more(frame: pl.DataFrame, step: Step) -> None:
    try:
        once, _ = clean(frame, [step])
        again, changes = clean(once, [step])
    except InvalidArgumentError:
        return
    assert again.equals(once, null_equal=True)
    assert counted(changes) == ({}, {})


@settings(max_examples=80, deadline=None)
@given(frames, frames, some_steps)
def test_a_plan_gives_the_table_it_was_made_from_the_same_again_and_keeps_rows_when_told(
    frame: pl.DataFrame, other: pl.DataFrame, steps: list[Step]
) -> None:
    try:
        after, _, changes, plan = recorded(frame, steps)
    except InvalidArgumentError:
        return
    again, same = apply_plan(frame, plan.to_document())
    assert again.equals(after, null_equal=True)
    assert same == changes
    kept, _ = apply_plan(other, plan, keep_rows=True)
    assert len(kept) == len(other)
    assert kept.schema == after.schema


@settings(max_examples=50, deadline=None)
@given(frames, some_steps)
def test_a_table_in_many_batches_comes_out_as_in_one(frame: pl.DataFrame, steps: list[Step]) -> None:
    try:
        whole = recorded(frame, steps)
    except InvalidArgumentError:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning_table, "_CELLS_IN_MEMORY", 5)
        patch.setattr(cleaning_table, "_CELLS_IN_BATCH", 20)
        patch.setattr(cleaning_table, "_FEWEST_ROWS", 4)
        parts = recorded(frame, steps)
    assert parts[0].equals(whole[0], null_equal=True)
    order: Any = ["step", "column", "row", "before"]
    assert parts[1].sort(order).equals(whole[1].sort(order), null_equal=True)
    assert parts[2] == whole[2]


def test_clipping_again_with_the_same_plan_changes_nothing_and_whole_numbers_stay() -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0, 100.0], "n": [1, 2, 3, 4, 100]})
    once, _, changes, plan = recorded(frame, [Step("clip_outliers")])
    assert [(c.column, c.cells_changed) for c in changes] == [("x", 1), ("n", 1)]
    assert once.rows() == [(1.0, 1), (2.0, 2), (3.0, 3), (4.0, 4), (7.0, 7)]
    again, changes = apply_plan(once, plan)
    assert again.equals(once)
    assert changes == []
