"""Integrity of tables: keys, references into other tables, and rules on rows and sequences. All counts are exact."""

from collections.abc import Iterator, Sequence

from mcp_server.engine.integrity.copies import NearDuplicates, check_copies
from mcp_server.engine.integrity.keys import (
    Dependency,
    Reference,
    check_dependency,
    check_primary_key,
    check_reference,
)
from mcp_server.engine.integrity.rows import RowRule, check_rows
from mcp_server.engine.integrity.sequences import Gaps, Order, check_gaps, check_order
from mcp_server.engine.integrity.table import Finding, Table, argument

TableRule = Dependency | Order | Gaps | NearDuplicates


def check_integrity(
    table: Table,
    primary_key: Sequence[str],
    references: Sequence[Reference],
    rules: Sequence[RowRule | tuple[str, TableRule]],
) -> Iterator[Finding]:
    """Yield the finding of each check as it is made: keys, references, rules on rows, then the other rules.

    Args:
        rules: those on rows know their place among the arguments; the others come with it.

    Raises:
        InvalidArgumentError: a column does not exist, or types cannot be compared; names the argument.
    """
    if primary_key:
        with argument("primary_key"):
            yield from check_primary_key(table, primary_key)
    for index, reference in enumerate(references):
        with argument(f"foreign_keys[{index}]"):
            finding = check_reference(table, reference)
        yield finding
    yield from check_rows(table, [rule for rule in rules if isinstance(rule, RowRule)])
    for each in rules:
        if not isinstance(each, RowRule):
            place, rule = each
            with argument(place):
                finding = _checked(table, rule)
            yield finding


def _checked(table: Table, rule: TableRule) -> Finding:
    if isinstance(rule, Dependency):
        return check_dependency(table, rule)
    if isinstance(rule, Order):
        return check_order(table, rule)
    if isinstance(rule, Gaps):
        return check_gaps(table, rule)
    return check_copies(table, rule)
