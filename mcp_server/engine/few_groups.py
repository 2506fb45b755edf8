"""Are there enough groups on both sides of a group split for its scores to mean anything?"""

import polars as pl

from mcp_server.engine.leakage import Finding
from mcp_server.engine.splits import Rows
from mcp_server.errors import shown

FEW_GROUPS = 10


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
