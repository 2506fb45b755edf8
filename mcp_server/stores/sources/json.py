"""JSON arrays of objects and JSON Lines as tables: values keep the types that the file says, nothing is guessed."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isinf
from typing import Any, Final, Self, cast

import polars as pl

from mcp_server.engine.findings import Finding
from mcp_server.engine.type_evidence import Evidence
from mcp_server.engine.type_inference import TypedColumn, decide_type
from mcp_server.errors import InvalidArgumentError, shown
from mcp_server.stores.sources.columns import ParseLimits, checked_names
from mcp_server.stores.sources.json_pieces import array_pieces, kind_of_value, line_pieces
from mcp_server.stores.sources.table import Look, PlannedColumn, TypedPlan
from mcp_server.stores.sources.text import Text

_FLOAT_EXACT: Final = 2**53
_KEPT_FINDINGS: Final = ("mixed_dates", "date_format", "invalid_dates", "null_as_text")


@dataclass(slots=True)
class JsonColumn:
    """The values of one key as the first look saw them.

    Attributes:
        kinds: how many values of each Python type, None left out.
        low, high: of the whole numbers.
        texts: what its strings look like.
    """

    rows: int = 0
    kinds: Counter[type] = field(default_factory=Counter)
    low: int = 0
    high: int = 0
    texts: Evidence = field(default_factory=Evidence)

    @property
    def is_empty(self) -> bool:
        """True when no row has a value."""
        return not self.kinds

    def add(self, values: list[Any]) -> None:
        """Take in the next rows.

        Raises:
            InvalidArgumentError: a value is nested, or a number beyond the range of 64 bits; says where.
        """
        kinds = Counter(map(type, values))
        del kinds[type(None)]
        for nested in (dict, list):
            if nested in kinds:
                raise self._refused(values, nested)
        if float in kinds and any(map(isinf, (value for value in values if type(value) is float))):
            raise InvalidArgumentError(
                "holds a number beyond the range of 64 bits.", hint="Write it as text, in quotes."
            )
        if int in kinds:
            whole = [value for value in values if type(value) is int]
            self.low, self.high = min(self.low, *whole), max(self.high, *whole)
        strings = kinds.keys() == {str}
        self.texts.add(pl.Series(values if strings else [None] * len(values), dtype=pl.String))
        self.kinds += kinds
        self.rows += len(values)

    def skip(self, n_rows: int) -> None:
        """Take in rows that lack the key."""
        self.texts.add(pl.Series([None], dtype=pl.String).new_from_index(0, n_rows))
        self.rows += n_rows

    def merge(self, other: Self) -> None:
        """Take in the same column of the rows that follow."""
        self.kinds += other.kinds
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.texts.merge(other.texts)
        self.rows += other.rows

    def plan(self, name: str) -> tuple[PlannedColumn, list[Finding]]:
        """Return the type that all values have, text where they have several."""
        missing = self.rows - self.kinds.total()
        kinds = self.kinds.keys()
        if not kinds:
            return TypedPlan(name, pl.String(), missing), []
        if kinds == {bool}:
            return TypedPlan(name, pl.Boolean(), missing), []
        if kinds == {int} and self.low >= -(2**63) and self.high < 2**63:
            return TypedPlan(name, pl.Int64(), missing), []
        if float in kinds and kinds <= {int, float} and self.low >= -_FLOAT_EXACT and self.high <= _FLOAT_EXACT:
            return TypedPlan(name, pl.Float64(), missing), []
        if kinds == {str}:
            typed, findings = decide_type(name, self.texts)
            if typed.dtype.is_temporal():
                return typed, findings
            return TypedPlan(name, pl.String(), missing), [each for each in findings if each.code in _KEPT_FINDINGS]
        if kinds <= {int, float}:
            text = "Holds numbers beyond what 64 bits keep exactly; kept as text."
            return TypedPlan(name, pl.String(), missing), [Finding(name, "long_numbers", text)]
        words = ", ".join(f"{kind_of_value(kind())} {count}" for kind, count in _by_word(self.kinds))
        text = f"Holds values of several types ({words}); kept as text."
        return TypedPlan(name, pl.String(), missing), [Finding(name, "mixed_types", text)]

    def _refused(self, values: list[Any], nested: type) -> InvalidArgumentError:
        place = next(i for i, value in enumerate(values, self.rows + 1) if type(value) is nested)
        return InvalidArgumentError(
            f"holds a nested {kind_of_value(nested())} (row {place}).",
            hint="A dataset is a plain table. Flatten the objects first, one plain value a key.",
        )


def _by_word(kinds: Counter[type]) -> list[tuple[type, int]]:
    return sorted(kinds.items(), key=lambda item: kind_of_value(item[0]()))


class JsonTable:
    """A JSON file on its way to a dataset."""

    def __init__(
        self, text: Text, limits: ParseLimits, *, is_lines: bool, report: Callable[[float], None] = lambda _: None
    ) -> None:
        self._text = text
        self._limits = limits
        self._pieces = line_pieces if is_lines else array_pieces
        self._word = "Object" if is_lines else "Element"
        self._report = report
        self._keys: dict[str, str] = {}  # by the name that the column has
        self._only: list[dict[str, Any]] | None = None

    def look(self) -> Look:
        """See the types of all keys.

        Raises:
            InvalidArgumentError: it is no valid JSON, no table, or has no rows; says where.
            ResourceExhaustedError: too many keys, or a value too large.
        """
        seen: dict[str, JsonColumn] = {}
        sizes: Counter[int] = Counter()
        n_rows = 0
        for number, rows in enumerate(self._pieces(self._text)):
            self._check_rows(rows, n_rows)
            for key in dict.fromkeys(key for keys in dict.fromkeys(map(tuple, rows)) for key in keys):
                if key not in seen:
                    self._limits.check_columns(len(seen) + 1)
                    seen[key] = JsonColumn()
                    seen[key].skip(n_rows)
            for key, column in seen.items():
                self._add(key, column, [row.get(key) for row in rows])
            sizes.update(map(len, rows))
            n_rows += len(rows)
            self._only = rows if number == 0 else None
            self._report(self._text.stream.tell())
        if not n_rows:
            raise InvalidArgumentError("The file has 0 data rows.", hint="Check the source.")
        if not seen:
            raise InvalidArgumentError("The objects are empty: 0 columns.", hint="Check the source.")
        names, findings = checked_names(list(seen), self._limits)
        self._keys = dict(zip(names, seen, strict=True))
        n_partial = sum(count for size, count in sizes.items() if size < len(seen))
        notes = [f"{n_partial} objects lack some of the keys; those cells are missing."] if n_partial else []
        return Look({name: seen[key] for name, key in self._keys.items()}, n_rows, findings, notes)

    def frames(self, columns: Sequence[PlannedColumn]) -> Iterator[pl.DataFrame]:
        """Yield the rows in their types."""
        pieces = iter([self._only]) if self._only is not None else self._pieces(self._text)
        for rows in pieces:
            series = [_typed([row.get(self._keys[column.name]) for row in rows], column) for column in columns]
            self._report(self._text.stream.tell())
            if rows:
                yield pl.DataFrame(series)

    def _check_rows(self, rows: list[Any], n_before: int) -> None:
        if all(type(row) is dict for row in rows):
            return
        number, row = next((i, row) for i, row in enumerate(rows, n_before + 1) if type(row) is not dict)
        raise InvalidArgumentError(
            f"{self._word} {number} is a {kind_of_value(row)}, not an object, so the file is no table.",
            hint="A table is [{...}, {...}], each object one row.",
        )

    def _add(self, key: str, column: JsonColumn, values: list[Any]) -> None:
        try:
            column.add(values)
        except InvalidArgumentError as refusal:
            raise InvalidArgumentError(
                f"Column {shown(key)} {refusal.message}", hint=refusal.hint, details=refusal.details
            ) from None
        texts = [value for value in values if type(value) is str]
        if texts and 4 * max(map(len, texts)) > self._limits.max_field_bytes:  # a character has four bytes at most
            self._limits.check_field(max(len(text.encode("utf-8", "replace")) for text in texts))


def _typed(values: list[Any], column: PlannedColumn) -> pl.Series:
    if column.dtype.is_temporal():
        texts = pl.Series(column.name, values, pl.String).to_frame()
        return texts.select(cast(TypedColumn, column).reading()).to_series()
    if column.dtype == pl.Float64:
        values = [None if value is None else float(value) for value in values]
    elif column.dtype == pl.String:
        values = [value if value is None or type(value) is str else _spelled(value) for value in values]
    return pl.Series(column.name, values, column.dtype)


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
