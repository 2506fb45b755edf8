"""Row conditions: which rows an expectation looks at, in Great Expectations' small language. Never evaluated as code.

::

    condition  = and_part { ("or" | "|" | "||") and_part }
    and_part   = unit { ("and" | "&" | "&&") unit }
    unit       = ["not" | "~"] ( "(" condition ")" | comparison )
    comparison = operand operator operand { operator operand }
               | column ( ".notnull()" | ".isnull()" | "is" ["not"] "null" )
               | column ( ["not"] "in" | "==" | "!=" ) list
               | column ["not"] "between" literal "and" literal
    operator   = "==" | "=" | "!=" | "<>" | "<" | "<=" | ">" | ">="
    operand    = column | literal
    column     = col("name") | name | `name`
    literal    = number | "text" | 'text' | True | False | date("…")

That is what pandas' `query` and Spark's SQL share with it. The objects that Great Expectations 1.x writes
(`{"type", "column": {"name"}, "operator", "parameter"}`) are read too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal

from mcp_server.errors import InvalidArgumentError, shown

Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]

_MAX_CHARACTERS: Final = 2000
_MAX_DEPTH: Final = 20
_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<text>"[^"]*"|'[^']*')
    | (?P<quoted>`[^`]+`)
    | (?P<method>\.\s*(?:notnull|notna|isnull|isna|notNull|isNull)\s*\(\s*\))
    | (?P<operator>==|!=|<>|<=|>=|<|>|=)
    | (?P<logic>&&|\|\||&|\||~)
    | (?P<mark>[()\[\],])
    | (?P<word>[^\W\d]\w*)
    )""",
    re.VERBOSE,
)
_HINT: Final = 'Write it like col("season") >= 2011 and col("team") == "LAL", or col("x").notnull().'


@dataclass(frozen=True, slots=True)
class Comparison:
    """A column against a literal, or a list of them."""

    column: str
    operator: Operator
    value: Any


@dataclass(frozen=True, slots=True)
class Alignment:
    """A column against another one of the same row."""

    column: str
    operator: Operator
    other: str


@dataclass(frozen=True, slots=True)
class Nullity:
    """Whether a column is missing."""

    column: str
    is_null: bool


@dataclass(frozen=True, slots=True)
class Combination:
    """Several conditions joined; `not` has one part."""

    joined_by: Literal["and", "or", "not"]
    parts: tuple["Condition", ...]


Condition = Comparison | Alignment | Nullity | Combination


def columns_of(condition: Condition) -> tuple[str, ...]:
    """Return the columns that a condition looks at."""
    if isinstance(condition, Combination):
        return tuple(name for part in condition.parts for name in columns_of(part))
    return (condition.column, condition.other) if isinstance(condition, Alignment) else (condition.column,)


@dataclass(frozen=True, slots=True)
class _Name:
    """A column where it is an operand."""

    name: str


_FLIPPED: Final[Mapping[Operator, Operator]] = {
    "==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<=",
}  # fmt: skip


def parse_condition(given: Any) -> Condition:
    """Read a row condition from its text or from Great Expectations' object.

    Raises:
        InvalidArgumentError: it does not follow the grammar; says where.
    """
    if isinstance(given, str):
        return _Parser(given).read()
    if isinstance(given, Mapping):
        return _from_object(given, depth=0)
    raise InvalidArgumentError(f"a row condition must be a text, not {shown(given)}", hint=_HINT)


class _Parser:
    """A recursive-descent parser over the tokens of one text."""

    def __init__(self, text: str) -> None:
        if len(text) > _MAX_CHARACTERS:
            raise InvalidArgumentError(f"the row condition is longer than {_MAX_CHARACTERS} characters", hint=_HINT)
        self._text = text
        self._tokens = self._split(text)
        self._next = 0
        self._depth = 0

    def read(self) -> Condition:
        condition = self._any()
        if self._next < len(self._tokens):
            raise self._wrong("an end")
        return condition

    def _split(self, text: str) -> list[tuple[str, str]]:
        tokens: list[tuple[str, str]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise InvalidArgumentError(
                    f"the row condition {shown(text)} cannot be read at {shown(text[position:].strip()[:20])}",
                    hint=_HINT,
                )
            tokens.append((match.lastgroup, match.group(match.lastgroup)))
            position = match.end()
        return tokens

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("end", "the end")

    def _take(self, *texts: str) -> bool:
        if self._peek()[1].lower() in texts and self._peek()[0] in {"word", "logic", "mark"}:
            self._next += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._wrong(f"{text!r}")

    def _wrong(self, wanted: str) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"the row condition {shown(self._text)} has {shown(self._peek()[1])} where {wanted} should be",
            hint=_HINT,
        )

    def _any(self) -> Condition:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise InvalidArgumentError("the row condition is nested too deeply", hint=_HINT)
        parts = [self._all()]
        while self._take("or", "|", "||"):
            parts.append(self._all())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Combination("or", tuple(parts))

    def _all(self) -> Condition:
        parts = [self._unit()]
        while self._take("and", "&", "&&"):
            parts.append(self._unit())
        return parts[0] if len(parts) == 1 else Combination("and", tuple(parts))

    def _unit(self) -> Condition:
        negations = 0
        while self._take("not", "~"):
            negations += 1
        if self._take("("):
            condition = self._any()
            self._expect(")")
        else:
            condition = self._comparison()
        return Combination("not", (condition,)) if negations % 2 else condition

    def _comparison(self) -> Condition:
        first = self._operand()
        if self._peek()[0] == "operator":
            return self._chain(first)
        if not isinstance(first, _Name):
            raise self._wrong("a comparison")
        kind, text = self._peek()
        if kind == "method":
            self._next += 1
            return Nullity(first.name, is_null="isn" in text.lower())
        if self._take("is"):
            negated = self._take("not")
            self._expect("null")
            return Nullity(first.name, is_null=not negated)
        negated = self._take("not")
        if self._take("in"):
            return Comparison(first.name, "not in" if negated else "in", self._list())
        if self._take("between"):
            return self._between(first.name, negated=negated)
        raise self._wrong("a comparison")

    def _chain(self, left: Any) -> Condition:
        """Read `1 < a <= b` as `1 < a and a <= b`."""
        parts: list[Condition] = []
        while self._peek()[0] == "operator":
            operator = _operator(self._peek()[1])
            self._next += 1
            if isinstance(left, _Name) and self._peek()[1] in {"[", "("} and operator in {"==", "!="}:
                parts.append(Comparison(left.name, "in" if operator == "==" else "not in", self._list()))
                break
            right = self._operand()
            parts.append(self._joined(left, operator, right))
            left = right
        return parts[0] if len(parts) == 1 else Combination("and", tuple(parts))

    def _joined(self, left: Any, operator: Operator, right: Any) -> Condition:
        if isinstance(left, _Name) and isinstance(right, _Name):
            return Alignment(left.name, operator, right.name)
        if isinstance(left, _Name):
            return Comparison(left.name, operator, right)
        if isinstance(right, _Name):
            return Comparison(right.name, _FLIPPED[operator], left)
        raise self._wrong("a column")

    def _between(self, column: str, *, negated: bool) -> Condition:
        low = self._literal()
        self._expect("and")
        inside = Combination("and", (Comparison(column, ">=", low), Comparison(column, "<=", self._literal())))
        return Combination("not", (inside,)) if negated else inside

    def _operand(self) -> Any:
        """Return a column's name or a literal."""
        kind, text = self._peek()
        following = self._tokens[self._next + 1][1] if self._next + 1 < len(self._tokens) else ""
        is_date = text == "date" and following == "("
        if kind in {"number", "text"} or (kind == "word" and (text.lower() in {"true", "false"} or is_date)):
            return self._literal()
        return _Name(self._column())

    def _column(self) -> str:
        kind, text = self._peek()
        if kind not in {"word", "quoted"}:
            raise self._wrong("a column")
        self._next += 1
        if kind == "quoted":
            return text[1:-1]
        if text in {"col", "Column"} and self._take("("):
            kind, text = self._peek()
            if kind != "text":
                raise self._wrong("a column's name in quotes")
            self._next += 1
            self._expect(")")
            return text[1:-1]
        return text

    def _literal(self) -> Any:
        kind, text = self._peek()
        self._next += 1
        if kind == "number":
            return float(text) if any(mark in text for mark in ".eE") else int(text)
        if kind == "text":
            return text[1:-1]
        if kind == "word" and text.lower() in {"true", "false"}:
            return text.lower() == "true"
        if kind == "word" and text == "date":
            self._expect("(")
            moment = _moment(str(self._literal()))
            self._expect(")")
            return moment
        self._next -= 1
        raise self._wrong("a number or a text in quotes")

    def _list(self) -> tuple[Any, ...]:
        closing = "]" if self._take("[") else ")"
        if closing == ")":
            self._expect("(")
        values = [self._literal()]
        while self._take(","):
            values.append(self._literal())
        self._expect(closing)
        return tuple(values)


def _operator(text: str) -> Operator:
    text = {"=": "==", "<>": "!="}.get(text, text)
    for operator in ("==", "!=", "<", "<=", ">", ">=", "in", "not in"):
        if text == operator:
            return operator
    raise InvalidArgumentError(f"the row condition has no operator {shown(text)}", hint=_HINT)


def _moment(text: str) -> date:
    try:
        return datetime.fromisoformat(text) if len(text) > 10 else date.fromisoformat(text)
    except ValueError:
        raise InvalidArgumentError(
            f"the row condition has {shown(text)} where a date should be", hint="Write dates as 2024-01-31."
        ) from None


def _from_object(given: Mapping[str, Any], depth: int) -> Condition:
    if depth > _MAX_DEPTH:
        raise InvalidArgumentError("the row condition is nested too deeply", hint=_HINT)
    if given.get("type") == "pass_through":  # how Great Expectations keeps a condition that was given as text
        return parse_condition(str(given.get("pass_through_filter", "")))
    parts = given.get("conditions")
    if isinstance(parts, Sequence) and parts and all(isinstance(part, Mapping) for part in parts):
        joined_by: Literal["and", "or"] = "or" if given.get("type") == "or" else "and"
        return Combination(joined_by, tuple(_from_object(part, depth + 1) for part in parts))
    column = given.get("column")
    name = column.get("name") if isinstance(column, Mapping) else column
    if not isinstance(name, str):
        raise InvalidArgumentError(f"the row condition {shown(dict(given))} names no column", hint=_HINT)
    if isinstance(given.get("is_null"), bool):
        return Nullity(name, is_null=given["is_null"])
    operator = _operator(str(given.get("operator", "")).lower().replace("_", " "))
    value = given.get("parameter")
    if operator in {"in", "not in"} and not isinstance(value, list | tuple):
        raise InvalidArgumentError("the row condition's parameter must be a list", hint=_HINT)
    values = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(each, str | int | float | bool) for each in values):
        raise InvalidArgumentError(f"the row condition compares with {shown(value)}, which is no literal", hint=_HINT)
    return Comparison(name, operator, tuple(value) if isinstance(value, list | tuple) else value)
