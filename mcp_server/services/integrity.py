"""Integrity checks: what a caller asks, brought to the engine, and its findings as a result that stays small."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError

from mcp_server.engine.integrity.checks import TableRule, check_integrity
from mcp_server.engine.integrity.copies import NearDuplicates
from mcp_server.engine.integrity.keys import Dependency, Reference
from mcp_server.engine.integrity.rows import Comparison, RowRule
from mcp_server.engine.integrity.sequences import Gaps, Order
from mcp_server.engine.integrity.table import Finding, Table, argument
from mcp_server.errors import InvalidArgumentError, shown
from mcp_server.results.validation import (
    ForeignKey,
    IntegrityCheck,
    IntegrityCondition,
    IntegrityResult,
    IntegrityRule,
)
from mcp_server.runtime.progress import Progress
from mcp_server.stores.datasets import DatasetStore, parse_reference
from mcp_server.stores.query_values import cut_json, visible_text

_FOREIGN_KEYS: Final = TypeAdapter(list[ForeignKey])
_RULES: Final = TypeAdapter(list[IntegrityRule])
_ROOM: Final = 13_000
_MAX_CHECKS: Final = 500
# Examples and characters a value keeps, from generous to terse, until a result fits its room.
_CUTS: Final = ((20, 200), (20, 60), (10, 60), (5, 40), (3, 30), (1, 30))
# What each kind of rule needs, and what it may have beside
_FIELDS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "compare": (frozenset({"column", "op"}), frozenset({"value", "other_column", "when"})),
    "sum": (frozenset({"columns", "op"}), frozenset({"value", "other_column", "when", "tolerance"})),
    "functional_dependency": (frozenset({"determinant", "dependent"}), frozenset()),
    "ordered": (frozenset({"column"}), frozenset({"by", "strict", "descending"})),
    "gaps": (frozenset({"column"}), frozenset({"by", "every", "max_gap"})),
    "near_duplicates": (frozenset(), frozenset({"except"})),
}
_SUM_OPERATORS: Final = {"==", "!=", "<", "<=", ">", ">="}


class Integrity:
    """Checks keys and rules of datasets. Thread-safe: it holds nothing that changes."""

    def __init__(self, datasets: DatasetStore) -> None:
        self._datasets = datasets

    def check(
        self,
        *,
        dataset: str,
        primary_key: str | Sequence[str] | None,
        foreign_keys: Sequence[Mapping[str, Any] | ForeignKey],
        rules: Sequence[Mapping[str, Any] | IntegrityRule],
        progress: Progress,
    ) -> IntegrityResult:
        """Check keys and rules of a dataset; failures first.

        Raises:
            NotFoundError: the dataset, or one that a foreign key references, does not exist.
            InvalidArgumentError: nothing is asked, a column does not exist, or types cannot be compared; names the
                argument, such as `rules[2]`.
        """
        version = self._datasets.resolve(dataset)
        done: list[Finding] = []
        keys = _read(_FOREIGN_KEYS, foreign_keys, "foreign_keys")
        asked = [_rule(index, each) for index, each in enumerate(_read(_RULES, rules, "rules"))]
        key = _names(primary_key)
        n_checks = (2 if key else 0) + len(keys) + len(asked)
        _require_some(n_checks)

        def tick() -> None:
            progress(len(done) / n_checks, f"Checking {version.rows:,} rows of {version.ref}")

        references = [self._reference(index, each, tick) for index, each in enumerate(keys)]
        table = Table.of(f"Dataset {version.ref}", self._datasets.scan(version.ref), tick)
        for finding in check_integrity(table, key, references, asked):
            done.append(finding)
            progress(len(done) / n_checks, f"{finding.kind}: {finding.target}"[:200])
        checks = _records(done)
        return IntegrityResult(
            summary=_sentence(version.ref, version.rows, done),
            success=all(finding.success for finding in done),
            dataset=version.ref,
            rows=version.rows,
            failed=sum(not finding.success for finding in done),
            checks=checks,
            checks_left_out=len(done) - len(checks),
        )

    def _reference(self, index: int, key: ForeignKey, tick: Callable[[], None]) -> Reference:
        with argument(f"foreign_keys[{index}]"):
            targets = _names(key.references)
            parts = [target.partition(".") for target in targets]
            parents = {dataset for dataset, _, _ in parts}
            if len(parents) != 1 or not all(column for _, _, column in parts):
                raise InvalidArgumentError(
                    f"references is {shown(targets)}, which is not one dataset with its columns.",
                    hint='Write it as "teams.team_id", a list of them for several columns.',
                )
            parent = parents.pop()
            parse_reference(parent)
        frame = self._datasets.scan(parent)
        return Reference(tuple(_names(key.column)), Table.of(parent, frame, tick), tuple(name for _, _, name in parts))


def _names(given: str | Sequence[str] | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or ())


def _require_some(n_checks: int) -> None:
    if not n_checks:
        raise InvalidArgumentError(
            "There is nothing to check.", hint="Give a primary_key, foreign_keys or rules; or use validate_dataset."
        )
    if n_checks > _MAX_CHECKS:
        raise InvalidArgumentError(
            f"{n_checks:,} checks are more than {_MAX_CHECKS} a call.", hint="Split them over several calls."
        )


def _read(adapter: TypeAdapter[Any], given: Sequence[Any], name: str) -> list[Any]:
    try:
        plain = [each.model_dump(by_alias=True) if isinstance(each, BaseModel) else each for each in given]
        return list(adapter.validate_python(plain))
    except ValidationError as refusal:
        fault = refusal.errors(include_input=False, include_url=False)[0]
        index, *rest = fault["loc"]
        place = f"{name}[{index}]" + "".join(f".{part}" for part in rest[:2])
        raise InvalidArgumentError(
            f"{place}: {fault['msg']}.",
            hint='Foreign keys are {"column", "references": "dataset.column"}; rules are {"column", "op", "value"}.',
            details={"argument": place},
        ) from None


def _rule(index: int, rule: IntegrityRule) -> RowRule | tuple[str, TableRule]:
    place = f"rules[{index}]"
    with argument(place):
        _require_fields(rule)
        if rule.kind in ("compare", "sum"):
            return _row_rule(place, rule)
        by = tuple(_names(rule.by))
        if rule.kind == "functional_dependency":
            return place, Dependency(tuple(_names(rule.determinant)), rule.dependent or "")
        if rule.kind == "ordered":
            return place, Order(rule.column or "", by, rule.strict, rule.descending)
        if rule.kind == "gaps":
            return place, Gaps(rule.column or "", by, rule.every, rule.max_gap)
        return place, NearDuplicates(tuple(_names(rule.except_)))


def _require_fields(rule: IntegrityRule) -> None:
    """Refuse a rule without what its kind needs, or with what its kind does not use."""
    needed, possible = _FIELDS[rule.kind]
    document = rule.model_dump(by_alias=True, exclude={"kind"})
    given = {name for name, value in document.items() if value is not None and (value is not False or name == "value")}
    if missing := sorted(needed - given):
        raise InvalidArgumentError(
            f"A rule of kind {rule.kind!r} needs {' and '.join(missing)}.", hint=_EXAMPLES[rule.kind]
        )
    if extra := sorted(given - needed - possible):
        raise InvalidArgumentError(
            f"A rule of kind {rule.kind!r} does not take {', '.join(extra)}.", hint=_EXAMPLES[rule.kind]
        )


_EXAMPLES: Final = {
    "compare": 'For example {"column": "home_points", "op": ">=", "value": 0}, or "other_column" instead of "value".',
    "sum": 'For example {"kind": "sum", "columns": ["net", "tax"], "op": "==", "other_column": "gross"}.',
    "functional_dependency": 'For example {"kind": "functional_dependency", "determinant": "zip", "dependent": "c"}.',
    "ordered": 'For example {"kind": "ordered", "column": "date", "by": ["team"]}.',
    "gaps": 'For example {"kind": "gaps", "column": "date", "by": ["team"], "every": "1d"}.',
    "near_duplicates": 'For example {"kind": "near_duplicates", "except": ["updated_at"]}.',
}


def _row_rule(place: str, rule: IntegrityRule) -> RowRule:
    name = rule.column if rule.kind == "compare" else (rule.columns or [""])[0]
    if rule.kind == "sum":
        if not rule.columns:
            raise InvalidArgumentError("columns is empty.", hint=_EXAMPLES["sum"])
        if rule.op not in _SUM_OPERATORS:
            raise InvalidArgumentError(f"A sum does not compare by {rule.op!r}.", hint=_EXAMPLES["sum"])
    comparison = _comparison(name or "", rule)
    when = None
    if rule.when is not None:
        with argument("when"):
            when = _comparison(rule.when.column, rule.when)
    return RowRule(place, comparison, when, tuple(rule.columns or ()), rule.tolerance or 0.0)


def _comparison(column: str, rule: IntegrityRule | IntegrityCondition) -> Comparison:
    operator = rule.op or "=="
    sides = (rule.value is not None) + (rule.other_column is not None)
    if operator in ("is null", "not null"):
        if sides:
            raise InvalidArgumentError(f"{operator!r} takes neither value nor other_column.", hint="Leave them out.")
    elif sides != 1:
        raise InvalidArgumentError(
            f"The rule on {shown(column)} needs either value or other_column, "
            f"and has {'both' if sides else 'neither'}.",
            hint=_EXAMPLES["compare"] + ' For missing values use the op "is null" or "not null".',
        )
    else:
        _require_fitting(column, operator, rule)
    return Comparison(column, operator, rule.value, rule.other_column)


def _require_fitting(column: str, operator: str, rule: IntegrityRule | IntegrityCondition) -> None:
    listed = operator in ("in", "not in")
    if (listed or operator == "matches") and rule.other_column is not None:
        raise InvalidArgumentError(f"{operator!r} takes a value, not another column.", hint=_EXAMPLES["compare"])
    if rule.other_column is None and (listed != isinstance(rule.value, list) or isinstance(rule.value, dict)):
        raise InvalidArgumentError(
            f"The rule on {shown(column)} compares by {operator!r} with {shown(rule.value)}.",
            hint="Give a list for 'in' and 'not in', and one value for the others.",
        )
    if isinstance(rule.value, list) and any(isinstance(each, list | dict) for each in rule.value):
        raise InvalidArgumentError(f"The list for {shown(column)} holds no plain values.", hint="List plain values.")


def _records(findings: Sequence[Finding]) -> list[IntegrityCheck]:
    """Return the findings, failures first, cut to the room that an answer has."""
    ordered = sorted(findings, key=lambda finding: (finding.success, -finding.violations))
    records: list[IntegrityCheck] = []
    for n_examples, n_characters in _CUTS:
        records = [_record(finding, n_examples, n_characters) for finding in ordered]
        if _length(records) <= _ROOM:
            return records
    while len(records) > 1 and _length(records) > _ROOM:
        records.pop()
    return records


def _record(finding: Finding, n_examples: int, n_characters: int) -> IntegrityCheck:
    return IntegrityCheck(
        kind=finding.kind,
        target=visible_text(finding.target, 200),
        success=finding.success,
        violations=finding.violations,
        checked=finding.checked,
        not_judged=finding.not_judged,
        groups=finding.groups,
        message=visible_text(finding.message, 400),
        examples=[cut_json(each, n_characters, 30) for each in finding.examples[:n_examples]],
    )


def _length(records: Sequence[IntegrityCheck]) -> int:
    return sum(len(record.model_dump_json()) + 1 for record in records)


def _sentence(dataset: str, rows: int, findings: Sequence[Finding]) -> str:
    failed = [finding for finding in findings if not finding.success]
    if not failed:
        return f"All {len(findings)} checks hold on {dataset} ({rows:,} rows)."
    worst = max(failed, key=lambda finding: finding.violations)
    return (
        f"{len(failed)} of {len(findings)} checks fail on {dataset} ({rows:,} rows); most violations: "
        f"{worst.kind} {visible_text(worst.target, 80)}: {worst.violations:,}."
    )
