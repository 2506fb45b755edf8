"""Integrity checks against plain loops over the rows, on tables made at random, in one part and in many."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import combinations, pairwise
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.engine.integrity.copies import NearDuplicates, check_copies
from mcp_server.engine.integrity.keys import Dependency, Reference, check_dependency, check_primary_key, check_reference
from mcp_server.engine.integrity.rows import Comparison, RowRule, check_rows
from mcp_server.engine.integrity.sequences import Gaps, Order, check_gaps, check_order
from mcp_server.engine.integrity.table import Table

NUMBERS = st.one_of(st.none(), st.integers(-3, 3))
FLOATS = st.one_of(st.none(), st.sampled_from([0.0, -0.0, 0.5, 1.0, float("nan")]))
TEXTS = st.one_of(st.none(), st.sampled_from(["a", "b", "A", ""]))
DAYS = st.one_of(st.none(), st.integers(0, 12).map(lambda n: date(2024, 1, 1) + timedelta(days=n)))
ROWS = st.lists(st.tuples(NUMBERS, FLOATS, TEXTS, DAYS), min_size=1, max_size=25)
ROOMS = st.sampled_from([200, 1_000, 10**9])
COLUMNS = ("n", "x", "t", "d")
KEYS = st.sampled_from([["n"], ["t"], ["n", "t"], ["x"], ["d", "x", "n"]])
SCHEMA = {"n": pl.Int64, "x": pl.Float64, "t": pl.String, "d": pl.Date}
MANY = settings(max_examples=60, deadline=None)


def _table(rows: Sequence[tuple[Any, ...]], room: int) -> Table:
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return Table.of("games", frame.lazy(), room_bytes=room)


def _plain(rows: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return rows as objects, with NaN missing and one zero."""
    cleaned = [
        [None if each != each else (each + 0.0 if isinstance(each, float) else each) for each in row] for row in rows
    ]
    return [dict(zip(COLUMNS, row, strict=True)) for row in cleaned]


def _key(row: dict[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


@MANY
@given(rows=ROWS, room=ROOMS, key=KEYS)
def test_primary_keys(rows: list[tuple[Any, ...]], room: int, key: list[str]):
    missing, duplicate = check_primary_key(_table(rows, room), key)

    keys = [_key(row, key) for row in _plain(rows)]
    counts = Counter(each for each in keys if None not in each)
    assert missing.violations == sum(None in each for each in keys)
    assert duplicate.violations == sum(n for n in counts.values() if n > 1)
    assert duplicate.groups == sum(n > 1 for n in counts.values())
    assert duplicate.checked + duplicate.not_judged == len(rows)
    for example in duplicate.examples:
        places = [at for at, each in enumerate(keys) if each == _key(_undone(example), key)]
        assert example["row_numbers"] == places[:5]
        assert example["rows"] == len(places)


def _undone(example: dict[str, Any]) -> dict[str, Any]:
    return {name: date.fromisoformat(value) if name == "d" and value else value for name, value in example.items()}


@MANY
@given(rows=ROWS, parents=ROWS, room=ROOMS, key=KEYS)
def test_foreign_keys(rows: list[tuple[Any, ...]], parents: list[tuple[Any, ...]], room: int, key: list[str]):
    finding = check_reference(_table(rows, room), Reference(tuple(key), _table(parents, room), tuple(key)))

    known = {_key(row, key) for row in _plain(parents)}
    ours = [each for row in _plain(rows) if None not in (each := _key(row, key))]
    orphans = Counter(each for each in ours if each not in known)
    assert (finding.violations, finding.groups, finding.checked) == (orphans.total(), len(orphans), len(ours))


@MANY
@given(rows=ROWS, room=ROOMS, key=st.sampled_from([["n"], ["t"], ["n", "t"]]), dependent=st.sampled_from(["x", "d"]))
def test_dependencies(rows: list[tuple[Any, ...]], room: int, key: list[str], dependent: str):
    finding = check_dependency(_table(rows, room), Dependency(tuple(key), dependent))

    values, sizes = defaultdict(set), Counter[tuple[Any, ...]]()
    for row in _plain(rows):
        if None not in (each := _key(row, key)):
            sizes[each] += 1
            values[each] |= {row[dependent]} - {None}
    bad = [each for each in sizes if len(values[each]) > 1]
    assert (finding.violations, finding.groups) == (sum(sizes[each] for each in bad), len(bad))


@MANY
@given(rows=ROWS, room=ROOMS, operator=st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), limit=st.integers(-2, 2))
def test_rules_on_rows(rows: list[tuple[Any, ...]], room: int, operator: Any, limit: int):
    rules = [
        RowRule("a", Comparison("n", operator, other_column="x")),
        RowRule("b", Comparison("n", operator, limit), when=Comparison("t", "==", "a")),
        RowRule("c", Comparison("n", operator, limit), summed=("n", "x")),
        RowRule("d", Comparison("t", "in", ["a", "b"]), when=Comparison("n", "not null")),
    ]

    found = check_rows(_table(rows, room), rules)

    def holds(left: Any, right: Any) -> bool | None:
        if left is None or right is None:
            return None
        return {"==": left == right, "!=": left != right, "<": left < right, "<=": left <= right,
                ">": left > right, ">=": left >= right}[operator]  # fmt: skip

    plain = _plain(rows)
    sums = [None if row["n"] is None or row["x"] is None else row["n"] + row["x"] for row in plain]
    wanted = [
        [holds(row["n"], row["x"]) for row in plain],
        [holds(row["n"], limit) if row["t"] == "a" else None for row in plain],
        [holds(each, limit) for each in sums],
        [row["t"] in ("a", "b") if row["n"] is not None and row["t"] is not None else None for row in plain],
    ]
    for finding, verdicts in zip(found, wanted, strict=True):
        bad = [at for at, verdict in enumerate(verdicts) if verdict is False]
        assert finding.violations == len(bad)
        assert [each["row"] for each in finding.examples] == bad[:20]
        assert finding.checked == sum(verdict is not None for verdict in verdicts)


@MANY
@given(
    rows=ROWS, room=ROOMS, column=st.sampled_from(COLUMNS[:1] + COLUMNS[2:]), grouped=st.booleans(),
    strict=st.booleans(), descending=st.booleans(),
)  # fmt: skip
def test_orders(rows: list[tuple[Any, ...]], room: int, column: str, grouped: bool, strict: bool, descending: bool):
    by = ("x",) if grouped else ()
    finding = check_order(_table(rows, room), Order(column, by, strict, descending))

    last: dict[Any, Any] = {}
    bad = []
    for at, row in enumerate(_plain(rows)):
        group = _key(row, by)
        if row[column] is None or None in group:
            continue
        if group in last:
            low, high = (row[column], last[group]) if descending else (last[group], row[column])
            if low > high or (strict and low == high):
                bad.append(at)
        last[group] = row[column]
    assert finding.violations == len(bad)
    assert [each["row"] for each in finding.examples] == bad[:20]


@MANY
@given(rows=ROWS, room=ROOMS, grouped=st.booleans(), days=st.integers(1, 4))
def test_gaps(rows: list[tuple[Any, ...]], room: int, grouped: bool, days: int):
    by = ("t",) if grouped else ()
    finding = check_gaps(_table(rows, room), Gaps("d", by, every=f"{days}d"))

    values = defaultdict(set)
    for row in _plain(rows):
        if row["d"] is not None and None not in _key(row, by):
            values[_key(row, by)].add(row["d"])
    steps = [after - before for group in values.values() for before, after in pairwise(sorted(group))]
    assert finding.violations == sum(step > timedelta(days=days) for step in steps)
    assert finding.checked == len(steps)


@MANY
@given(rows=ROWS, room=ROOMS, ignored=st.sampled_from([["x"], ["n", "d"]]))
def test_rows_equal_but_for_named_columns(rows: list[tuple[Any, ...]], room: int, ignored: list[str]):
    finding = check_copies(_table(rows, room), NearDuplicates(tuple(ignored)))

    rest = [name for name in COLUMNS if name not in ignored]
    counts = Counter(_key(row, rest) for row in _plain(rows))
    assert finding.violations == sum(n for n in counts.values() if n > 1)
    assert finding.groups == sum(n > 1 for n in counts.values())


@MANY
@given(rows=ROWS, room=ROOMS)
def test_rows_that_differ_in_one_column(rows: list[tuple[Any, ...]], room: int):
    finding = check_copies(_table(rows, room), NearDuplicates())

    plain = _plain(rows)
    involved = {
        at
        for (a, first), (b, second) in combinations(enumerate(plain), 2)
        if sum(first[name] != second[name] for name in COLUMNS) == 1
        for at in (a, b)
    }
    # A copy of a row that differs from another in one column differs from it in the same column
    assert finding.violations == len(involved)
