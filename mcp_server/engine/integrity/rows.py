"""Rules that each row must obey: a column compared with a value or with another column, alone or summed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import polars as pl

from mcp_server.engine.expectations.literals import (
    CannotEvaluateError,
    comparable,
    family_of,
    literal,
    members,
    ordered,
    share_order,
    unused_name,
    words_for,
)
from mcp_server.engine.integrity.table import MAX_EXAMPLES, Finding, Table, argument, counted, records
from mcp_server.errors import InvalidArgumentError, shown

Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in", "matches", "is null", "not null"]
COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")
_ROUNDING: Final = 1e-9
_MAX_PATTERN: Final = 1_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """`column operator value`, or against `other_column`; judged where both sides are present.

    `is null` and `not null` judge every row. `matches` looks for a pattern anywhere in a text.
    """

    column: str
    operator: Operator
    value: Any = None
    other_column: str | None = None

    @property
    def text(self) -> str:
        """The comparison as a person would write it."""
        if self.operator in ("is null", "not null"):
            return f"{self.column} {'is' if self.operator == 'not null' else ''} {self.operator}".replace("  ", " ")
        right = self.other_column if self.other_column is not None else shown(self.value, 60)
        return f"{self.column} {self.operator} {right}"

    @property
    def columns(self) -> list[str]:
        """The columns it reads."""
        return list(dict.fromkeys([self.column] + ([self.other_column] if self.other_column is not None else [])))

    def holds(self, table: Table) -> pl.Expr:
        """Return true or false for each row, missing where it is not judged.

        Raises:
            InvalidArgumentError: a column does not exist, or the pattern is none.
            CannotEvaluateError: the types cannot be compared.
        """
        table.require(self.columns)
        column, dtype = pl.col(self.column), table.schema[self.column]
        if self.operator in ("is null", "not null"):
            return column.is_null() if self.operator == "is null" else column.is_not_null()
        if self.operator == "matches":
            return _matches(column, dtype, self.value)
        if self.operator in ("in", "not in"):
            for each in self.value:
                comparable(each, dtype)
            found = column.is_in(members(self.value, dtype).implode())
            return found if self.operator == "in" else found.not_()
        left, right = ordered(column, dtype), self._right(table, dtype)
        return _compared(left, right, self.operator)

    def _right(self, table: Table, dtype: pl.DataType) -> pl.Expr:
        if self.other_column is None:
            return literal(self.value, dtype)
        other = table.schema[self.other_column]
        if not (share_order(dtype, other) or (dtype == other and not dtype.is_nested())):
            raise CannotEvaluateError(
                f"{shown(self.column)} holds {words_for(dtype)} ({dtype}), "
                f"{shown(self.other_column)} {words_for(other)} ({other})."
            )
        return ordered(pl.col(self.other_column), other)


@dataclass(frozen=True, slots=True)
class RowRule:
    """A comparison, or one of a sum of `summed` columns, in the rows where `when` holds.

    Attributes:
        place: the argument that it came from, such as `rules[2]`, for messages.
        tolerance: by how much a sum may miss; for == and != an absolute difference.
    """

    place: str
    comparison: Comparison
    when: Comparison | None = None
    summed: tuple[str, ...] = ()
    tolerance: float = 0.0

    @property
    def target(self) -> str:
        """The rule as a person would write it."""
        text = self.comparison.text
        if self.summed:
            text = " + ".join(self.summed) + text.removeprefix(self.comparison.column)
        text += f" ± {self.tolerance:g}" if self.tolerance else ""
        return text + (f" where {self.when.text}" if self.when else "")

    @property
    def columns(self) -> list[str]:
        """The columns that examples show."""
        own = [*self.summed, *self.comparison.columns[1:]] if self.summed else self.comparison.columns
        return list(dict.fromkeys(own + (self.when.columns if self.when else [])))


def check_rows(table: Table, rules: Sequence[RowRule]) -> list[Finding]:
    """Return a finding for each rule: all are counted in one pass, and examples fetched for those that fail.

    Raises:
        InvalidArgumentError: names the rule that cannot be checked.
    """
    if not rules:
        return []
    verdicts = [_verdict(table, rule) for rule in rules]
    counts: dict[str, pl.Expr] = {}
    for index, (verdict, near) in enumerate(verdicts):
        counts[f"bad{index}"] = verdict.not_().sum()
        counts[f"judged{index}"] = verdict.is_not_null().sum()
        if near is not None:
            counts[f"near{index}"] = (verdict.not_() & near).sum()
    counts |= {
        f"asked{index}": _applies(table, rule.when).sum() for index, rule in enumerate(rules) if rule.when is not None
    }
    table.tick()
    found = table.frame.select(**counts).collect(engine="streaming").row(0, named=True)
    examples = _examples(table, rules, [verdict for verdict, _ in verdicts], found)
    return [_finding(table, rule, index, found, examples[index]) for index, rule in enumerate(rules)]


def _finding(
    table: Table, rule: RowRule, index: int, found: Mapping[str, Any], examples: tuple[dict[str, Any], ...]
) -> Finding:
    bad, judged = int(found[f"bad{index}"] or 0), int(found[f"judged{index}"] or 0)
    asked = int(found.get(f"asked{index}", table.n_rows) or 0)
    text = f"{bad:,} of {counted(judged, 'row')} break it" if bad else f"It holds in {counted(judged, 'row')}"
    text += f"; {counted(table.n_rows - asked, 'row')} outside the condition" if asked < table.n_rows else ""
    text += f"; {counted(asked - judged, 'row')} with a missing value not judged" if judged < asked else ""
    if n_near := int(found.get(f"near{index}") or 0):
        text += f"; {n_near:,} of them miss by rounding alone: set tolerance"
    kind: Literal["sum", "rule"] = "sum" if rule.summed else "rule"
    return Finding(kind, rule.target, bad, judged, table.n_rows - judged, text + ".", examples)


def _verdict(table: Table, rule: RowRule) -> tuple[pl.Expr, pl.Expr | None]:
    """Return what each row makes of the rule (missing: not judged), and for sums whether it is near the limit."""
    with argument(rule.place):
        near: pl.Expr | None = None
        if rule.summed:
            holds, near = _sum_holds(table, rule)
        else:
            holds = rule.comparison.holds(table)
        if rule.when is None:
            return holds, near
    with argument(f"{rule.place}.when"):
        return pl.when(_applies(table, rule.when)).then(holds), near


def _applies(table: Table, when: Comparison) -> pl.Expr:
    return when.holds(table).fill_null(value=False)


def _sum_holds(table: Table, rule: RowRule) -> tuple[pl.Expr, pl.Expr | None]:
    table.require(rule.summed)
    types = [table.schema[name] for name in rule.summed]
    right_type = None if rule.comparison.other_column is None else table.schema.get(rule.comparison.other_column)
    if rule.comparison.other_column is not None:
        table.require([rule.comparison.other_column])
    for name, dtype in zip(rule.summed, types, strict=True):
        if family_of(dtype) not in ("number", "flag"):
            raise CannotEvaluateError(f"{shown(name)} holds {words_for(dtype)}, which have no sum.")
    if right_type is not None and family_of(right_type) not in ("number", "flag"):
        raise CannotEvaluateError(f"{shown(rule.comparison.other_column)} holds {words_for(right_type)}, no numbers.")
    if right_type is None and (
        isinstance(rule.comparison.value, bool) or not isinstance(rule.comparison.value, int | float)
    ):
        raise CannotEvaluateError(f"A sum compares with a number, and {shown(rule.comparison.value)} is none.")
    floats = any(dtype.is_float() for dtype in [*types, *([right_type] if right_type is not None else [])])
    floats = floats or isinstance(rule.comparison.value, float) or rule.tolerance > 0
    number = pl.Float64() if floats else pl.Int128()
    total = pl.col(rule.summed[0]).cast(number)
    for name in rule.summed[1:]:
        total = total + pl.col(name).cast(number)
    other = rule.comparison.other_column
    right = pl.lit(rule.comparison.value).cast(number) if other is None else pl.col(other).cast(number)
    if not floats:
        return _compared(total, right, rule.comparison.operator), None
    near = (total - right).abs() <= _ROUNDING * pl.max_horizontal(total.abs(), right.abs(), pl.lit(1.0))
    return _tolerant(total, right, rule.comparison.operator, rule.tolerance), near


def _tolerant(left: pl.Expr, right: pl.Expr, operator: str, tolerance: float) -> pl.Expr:
    """Compare with a margin that is in favour of the row: only what is beyond it breaks ==, <, <=, > and >=."""
    if not tolerance:
        return _compared(left, right, operator)
    close = (left - right).abs() <= tolerance
    if operator in ("==", "!="):
        return close if operator == "==" else close.not_()
    return _compared(left, right, operator) | close


def _compared(left: pl.Expr, right: pl.Expr, operator: str) -> pl.Expr:
    compared: Mapping[str, pl.Expr] = {
        "==": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }
    return compared[operator]


def _matches(column: pl.Expr, dtype: pl.DataType, pattern: object) -> pl.Expr:
    if dtype != pl.String:
        raise CannotEvaluateError(f"A pattern meets text, and the column holds {words_for(dtype)}.")
    if not isinstance(pattern, str) or len(pattern) > _MAX_PATTERN:
        raise CannotEvaluateError(f"{shown(pattern)} is no pattern of at most {_MAX_PATTERN:,} characters.")
    try:
        pl.select(pl.lit("").str.contains(pattern))
    except pl.exceptions.ComputeError as refusal:
        raise InvalidArgumentError(
            f"{shown(pattern)} is no pattern that can be matched: {shown(str(refusal), 200)}.",
            hint="RE2's syntax: no look-around, no back-references; ^ and $ anchor it.",
        ) from None
    return column.str.contains(pattern)


def _examples(
    table: Table, rules: Sequence[RowRule], verdicts: Sequence[pl.Expr], found: Mapping[str, Any]
) -> list[tuple[dict[str, Any], ...]]:
    examples: list[tuple[dict[str, Any], ...]] = [() for _ in rules]
    row = unused_name("row", table.schema)
    numbered = table.frame.with_row_index(row)
    for index, rule in enumerate(rules):
        if found[f"bad{index}"]:
            table.tick()
            first = numbered.filter(verdicts[index].not_()).select(row, *rule.columns).head(MAX_EXAMPLES)
            examples[index] = tuple(records(first.collect(engine="streaming").sort(row)))
    return examples
