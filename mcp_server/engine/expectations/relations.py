"""How the columns of a table stand to each other, row by row: order, difference, equality, constant sums.

Each relation is looked for on a sample and counts only where values paired at random would break it: of two columns
one of which lies far above the other, nothing is learnt by their order.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Final

import polars as pl

from mcp_server.engine.expectations.ideas import Idea
from mcp_server.engine.expectations.literals import Family, share_order
from mcp_server.engine.expectations.profile import ColumnFigures

_MOST_COLUMNS: Final = 30
_FEWEST_ROWS: Final = 50
_LEAST_BY_CHANCE: Final = 0.03  # share of rows that break an order when values are paired at random
_FEWEST_EQUAL_BY_CHANCE: Final = 12  # rows
_MOST_RELATIONS: Final = 12
_MOST_CLASSES: Final = 4
_SUMMED: Final = (2, 3)
_MOST_SUMMED: Final = 12
_ORDERED: Final[tuple[Family, ...]] = ("number", "date", "moment")

_A_ABOVE_B: Final = "expect_column_pair_values_a_to_be_greater_than_b"


def relation_ideas(sample: pl.DataFrame, columns: Sequence[ColumnFigures]) -> list[Idea]:
    """Return what relates the columns to each other in each row of `sample`, the most surprising first.

    Args:
        sample: rows spread over the whole table.
        columns: the figures of its columns.
    """
    if sample.height < _FEWEST_ROWS:
        return []
    fit = [each for each in columns if each.distinct > 1 and each.present >= each.rows * 0.5][:_MOST_COLUMNS]
    found: list[tuple[float, Idea]] = []
    unordered: list[tuple[str, str]] = []
    for first, second in combinations(fit, 2):
        alike = first.family == second.family and share_order(first.dtype, second.dtype)
        if not alike or first.family not in (*_ORDERED, "text"):
            continue
        judged = _Pair(sample, first, second)
        idea = judged.equal() or judged.ordered() or judged.different()
        if idea is not None:
            found.append(idea)
        if first.family == "number" and judged.crosses and not judged.equals:
            unordered.append((first.name, second.name))
    found.extend(_decided(sample, fit, unordered))
    found.extend(_sums(sample, [each for each in fit if each.family == "number"]))
    found.sort(key=lambda each: -each[0])
    return [idea for _, idea in found[:_MOST_RELATIONS]]


class _Pair:
    """Two columns of one kind, compared in each row of a sample and, for chance, with rows far away."""

    def __init__(self, sample: pl.DataFrame, first: ColumnFigures, second: ColumnFigures) -> None:
        self.first, self.second = first, second
        left, right = sample[first.name], sample[second.name]
        shifted = pl.concat([right[right.len() // 3 :], right[: right.len() // 3]])
        frame = pl.DataFrame([left.alias("a"), right.alias("b"), shifted.alias("c")])
        a, b, c = pl.col("a"), pl.col("b"), pl.col("c")
        (self.both, self.equals, self.above, self.below, self.by_chance, self.pairs, self.above_by_chance, below) = (
            frame.select(
                both=(a.is_not_null() & b.is_not_null()).sum(),
                equals=(a == b).sum(),
                above=(a > b).sum(),
                below=(a < b).sum(),
                by_chance=(a == c).sum(),
                pairs=(a.is_not_null() & c.is_not_null()).sum(),
                above_by_chance=(a > c).sum(),
                below_by_chance=(a < c).sum(),
            ).row(0)
        )
        self.below_by_chance = below

    @property
    def never_equal(self) -> bool:
        return self.both > 0 and not self.equals and self.by_chance >= _FEWEST_EQUAL_BY_CHANCE

    @property
    def crosses(self) -> bool:
        return bool(self.above and self.below)

    def equal(self) -> tuple[float, Idea] | None:
        if not self.both or self.equals < self.both or self.by_chance > 0.9 * self.pairs:
            return None
        kwargs = {"column_A": self.first.name, "column_B": self.second.name, "ignore_row_if": "either_value_is_missing"}
        evidence = f"Equal in every row; one of the two columns may do. Paired at random {self._share():.0%} are equal."
        return 1.0, Idea(3, "expect_column_pair_values_to_be_equal", kwargs, "warning", evidence)

    def ordered(self) -> tuple[float, Idea] | None:
        if self.first.family not in _ORDERED or self.crosses or not (self.above or self.below):
            return None
        rising = bool(self.below)
        broken = (self.above_by_chance if rising else self.below_by_chance) / max(self.pairs, 1)
        if broken < _LEAST_BY_CHANCE:
            return None
        high, low = (self.second, self.first) if rising else (self.first, self.second)
        kwargs: dict[str, Any] = {"column_A": high.name, "column_B": low.name}
        kwargs |= {"ignore_row_if": "either_value_is_missing"} | ({"or_equal": True} if self.equals else {})
        words = "never below" if self.equals else "above"
        evidence = f"{high.name} is {words} {low.name} in any row; paired at random {broken:.0%} of rows break this."
        return broken, Idea(3, _A_ABOVE_B, kwargs, "critical", evidence)

    def different(self) -> tuple[float, Idea] | None:
        if not self.never_equal:
            return None
        kwargs = {"column_list": [self.first.name, self.second.name], "ignore_row_if": "any_value_is_missing"}
        evidence = (
            f"{self.first.name} and {self.second.name} share their values and never agree in a row; paired at random "
            f"{self._share():.1%} of rows would."
        )
        kind = "expect_select_column_values_to_be_unique_within_record"
        return 0.5 + self._share(), Idea(3, kind, kwargs, "critical", evidence)

    def _share(self) -> float:
        return float(self.by_chance / self.pairs) if self.pairs else 0.0


def _decided(
    sample: pl.DataFrame, columns: Sequence[ColumnFigures], pairs: Sequence[tuple[str, str]]
) -> Iterator[tuple[float, Idea]]:
    """Yield orders of two columns that a class decides, such as points by the result of a game."""
    classes = [each for each in columns if each.family == "text" and each.distinct <= _MOST_CLASSES]
    for first, second in pairs:
        for kind in classes:
            above = pl.col(first) > pl.col(second)
            shares = sample.drop_nulls([first, second, kind.name]).group_by(kind.name).agg(above.mean().alias("above"))
            decided = dict(shares.iter_rows())
            if set(decided.values()) != {0.0, 1.0} or any('"' in value for value in decided):
                continue
            for value, share in sorted(decided.items()):
                high, low = (first, second) if share else (second, first)
                kwargs = {
                    "column_A": high,
                    "column_B": low,
                    "ignore_row_if": "either_value_is_missing",
                    "row_condition": f'col("{kind.name}") == "{value}"',
                    "condition_parser": "great_expectations",
                }
                evidence = f"Where {kind.name} is {value}, {high} is above {low} in every row, and only there."
                yield 2.0, Idea(3, _A_ABOVE_B, kwargs, "critical", evidence)


def _sums(sample: pl.DataFrame, columns: Sequence[ColumnFigures]) -> Iterator[tuple[float, Idea]]:
    """Yield groups of columns whose values sum to the same in each row, such as shares of a whole."""
    fit = [each for each in columns if each.present == each.rows][:_MOST_SUMMED]
    taken: set[str] = set()
    for size in _SUMMED:
        for group in combinations(fit, size):
            names = [each.name for each in group]
            if taken & set(names):
                continue
            head = sample.head(_FEWEST_ROWS).select(pl.sum_horizontal(names)).to_series()
            if head.n_unique() > 1:
                continue
            totals = sample.select(pl.sum_horizontal(names)).to_series()
            if totals.n_unique() > 1:
                continue
            taken.update(names)
            total = totals[0]
            evidence = f"They sum to {total:g} in every row."
            kwargs = {"column_list": names, "sum_total": total}
            yield 1.5, Idea(3, "expect_multicolumn_sum_to_equal", kwargs, "critical", evidence)
