"""Rows that come in groups: in both parts of a split, or too few groups for scores to mean anything."""

import re

import polars as pl

from mcp_server.engine.leakage import Finding
from mcp_server.engine.preprocessing import kind_of
from mcp_server.engine.splits import Rows
from mcp_server.errors import shown

FEW_GROUPS = 10
_GROUP_NAME = re.compile(
    r"(^|_)(id|key|uuid|guid|code|number|group|subject|patient|person|customer|client|user|player|team|game|match)s?$",
    re.IGNORECASE,
)
_SMALL_GROUPS = 0.05  # distinct values a row from which on a column names things seen a few times each
_ALIKE = 0.05  # share of a feature's variance that is left inside the groups
_FEWEST_VALUES = 2.0  # a feature must have so many values a group: an attribute of the group has one
_SHARED = 0.01
_MOST_GROUPS, _MOST_ROWS = 2_000, 50_000


def find_few_groups(column: pl.Series, train: Rows, test: Rows) -> list[Finding]:
    """Return a warning when a part has so few groups that intervals of their scores are too narrow.

    Intervals draw whole groups; of a handful of them, any drawing knows too little of how groups differ.

    Source: Cameron, Gelbach and Miller, Review of Economics and Statistics 90 (2008), on few clusters.
    """
    n_train, n_test = (column.gather(part).n_unique() for part in (train, test))
    if min(n_train, n_test) >= FEW_GROUPS:
        return []
    return [
        Finding(
            "few_groups",
            [column.name],
            f"The split by {shown(column.name)} leaves {n_train} groups to train on and {n_test} to score: with fewer "
            f"than {FEW_GROUPS}, intervals are too narrow and a verdict hangs on single groups.",
            "warning",
            "Gather more groups, or a larger test_size; read the intervals as the least there is to doubt.",
        )
    ]


def find_shared_groups(frame: pl.DataFrame, train: Rows, test: Rows) -> list[Finding]:
    """Return keys that repeat and stand in both parts: one game, one patient, seen twice.

    Groups of many rows are told by what they hold: measurements that hardly differ inside a group, repeats of the
    same thing. A team has many games too, which differ.
    """
    findings = []
    for column in frame.iter_columns():
        named = column.dtype.is_integer() and bool(_GROUP_NAME.search(column.name))
        if not named and not (column.dtype == pl.String and kind_of(column) == "category"):
            continue
        n_distinct = column.n_unique()
        if n_distinct >= 0.99 * len(column):
            continue
        few = n_distinct <= _SMALL_GROUPS * len(column)
        if few and (n_distinct < FEW_GROUPS or not _repeats(frame, column.name)):
            continue
        here = column.gather(train).unique()
        shared = int(column.gather(test).is_in(here.implode()).sum())
        if shared > _SHARED * len(test):
            findings.append(
                Finding(
                    "shared_groups",
                    [column.name],
                    f"{shared} of {len(test)} held-out rows share their {shown(column.name)} with a training row.",
                    "warning",
                    f"Use split kind group with column {shown(column.name)}, so that no group is in both parts.",
                )
            )
    return findings


def _repeats(frame: pl.DataFrame, group: str) -> bool:
    """Return True when some feature has many values, and hardly different ones inside a group.

    Of a large table some groups are looked at, and of those some rows: about 25 a group still tell.
    """
    numbers = [name for name, dtype in frame.schema.items() if dtype.is_float() and name != group]
    if not numbers:
        return False
    finite = [pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in numbers]
    looked_at = _some(frame, group)
    values, n_groups = looked_at.lazy().select(pl.col(group), *finite), looked_at[group].n_unique()
    inside = values.select((pl.col(name) - pl.col(name).mean().over(group)).var().alias(name) for name in numbers)
    whole, many = values.select(pl.col(numbers).var()), values.select(pl.col(numbers).n_unique())
    within, overall, distinct = (part.row(0, named=True) for part in pl.collect_all([inside, whole, many]))
    return any(
        overall[name]
        and within[name] is not None
        and within[name] < _ALIKE * overall[name]
        and distinct[name] > _FEWEST_VALUES * n_groups
        for name in numbers
    )


def _some(frame: pl.DataFrame, group: str) -> pl.DataFrame:
    """Return all rows of a table that is small; else at most `_MOST_ROWS` rows of `_MOST_GROUPS` groups."""
    if frame.height <= _MOST_ROWS:
        return frame
    groups = frame[group].unique().sort()
    if len(groups) > _MOST_GROUPS:
        frame = frame.filter(pl.col(group).is_in(groups.sample(_MOST_GROUPS, seed=0).implode()))
    return frame if frame.height <= _MOST_ROWS else frame.sample(_MOST_ROWS, seed=0)
