"""Trouble worth naming in a column: what breaks a model, a join or a report later."""

import re
import unicodedata
from collections.abc import Iterable
from datetime import date, datetime
from math import isfinite
from typing import Any, Literal

import polars as pl

from mcp_server.engine.findings import Finding
from mcp_server.engine.profiling.columns import ColumnProfile
from mcp_server.engine.profiling.dates import compact_dates
from mcp_server.engine.profiling.relations import MAX_CATEGORIES
from mcp_server.errors import shown

Severity = Literal["bad", "warning", "note"]

_MOSTLY_MISSING = 0.5
_SOME_MISSING = 0.05
_SKEWED = 3.0
_MANY_ZEROS = 0.25
_IMBALANCED = 0.95
_RARE = 0.01
_FAR_SHARE = 1e-4
_VERY_FAR = 6.0
_FEW = 20
_SENTINELS = frozenset({-1, -9, -99, -999, -9999, -99999, 99, 999, 9999, 99999, 999999, 9999999})
_FILLER_DAYS = frozenset(
    {"0001-01-01", "1900-01-01", "1899-12-30", "1899-12-31", "1970-01-01", "2099-12-31", "9999-12-31", "2262-04-11"}
)
# Cyrillic and Greek letters that look Latin; source: Unicode Technical Standard 39, confusables, the letters in names
_LOOKALIKES = str.maketrans("аеорсухіјѕԁһкмтвнοανρικτυχ", "aeopcyxijsdhkmtbhoavpiktux")
_ID_NAME = re.compile(r"(^|_)(id|key|uuid|guid|code|number|no|nr|index|idx|row|rowid|row_number)s?$", re.IGNORECASE)

# What makes results wrong; what wastes or hides; what is good to know. Worst first in each.
_BAD = (
    "all_null", "possible_leak", "duplicate_rows", "near_duplicate_rows", "mixed_dates", "ambiguous_dates",
    "invalid_dates", "mixed_types", "infinite", "null_as_text", "filler_value", "almost_unique",
)  # fmt: skip
_TROUBLE = (
    "rows_out_of_order", "similar_name", "case_variants", "spaces", "hidden_characters", "empty_text", "bool_variants",
    "near_duplicate_column", "constant", "mostly_missing", "negative", "outliers", "date_format", "date_as_number",
    "thousands", "decimal_comma", "percent", "currency", "formatted_numbers", "long_numbers", "typed_text",
)  # fmt: skip
_NOTES = ("skewed", "zeros", "imbalance", "missing", "high_cardinality", "leading_zeros", "identifier", "monotone")
_RANK = {code: i for i, code in enumerate((*_BAD, *_TROUBLE, *_NOTES))}


def severity(code: str) -> Severity:
    """Return how much a finding matters: it makes results wrong, it is trouble, or it is good to know."""
    if code in _BAD:
        return "bad"
    return "warning" if code in _TROUBLE else "note"


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings in the order in which they want to be looked at."""
    return sorted(findings, key=lambda finding: _RANK.get(finding.code, len(_RANK)))


def column_warnings(profile: ColumnProfile) -> list[Finding]:
    """Return what the figures of one column say against it."""
    if not profile.present:
        return [Finding(profile.name, "all_null", "Holds no value at all; drop it.")]
    if profile.distinct == 1:
        gaps = f", missing in {profile.missing / profile.n_rows:.1%} of rows" if profile.missing else ""
        text = f"Holds one value only ({shown(_first(profile), 40)}{gaps}); it can teach nothing."
        return [Finding(profile.name, "constant", text)]
    judges = (_missing, _identifier, _monotone, _infinite, _filler, _shape, _zeros, _negative, _imbalance, _days)
    return [finding for judge in judges if (finding := judge(profile)) is not None]


def _first(profile: ColumnProfile) -> Any:
    return profile.top_values[0][0] if profile.top_values else profile.min


def name_warnings(names: Iterable[str]) -> list[Finding]:
    """Return the columns whose names look like an earlier one's but for capitals, spaces or alphabets."""
    seen: dict[str, str] = {}
    found = []
    for name in names:
        plain = "".join(unicodedata.normalize("NFKC", name).casefold().translate(_LOOKALIKES).split())
        first = seen.setdefault(plain, name)
        if first != name:
            others = sorted({f"U+{ord(c):04X}" for c in name if ord(c) in _LOOKALIKES})
            letters = f" with letters of another alphabet ({', '.join(others)})" if others else ""
            text = f"Its name looks like that of {shown(first, 40)}{letters}: easily taken for it."
            found.append(Finding(name, "similar_name", text))
    return found


def _missing(profile: ColumnProfile) -> Finding | None:
    share = profile.missing / profile.n_rows
    if share < _SOME_MISSING:
        return None
    code = "mostly_missing" if share > _MOSTLY_MISSING else "missing"
    return Finding(profile.name, code, f"{share:.1%} of its cells are missing ({profile.missing:,}).")


def _identifier(profile: ColumnProfile) -> Finding | None:
    dtype, n = profile.dtype, profile.present
    if dtype.is_float() or dtype.is_temporal() or dtype == pl.Boolean or n < _FEW:
        return None
    if profile.distinct == n:
        if dtype.is_numeric() and not _numbers_rows(profile):
            return None
        counts = "; it counts the rows" if _consecutive(profile) else ""
        return Finding(profile.name, "identifier", f"Every value occurs once: an identifier, no feature{counts}.")
    if n >= 50 and profile.distinct >= 0.99 * n and (dtype == pl.String or _numbers_rows(profile)):
        example = ", ".join(f"{shown(value, 30)} {count} times" for value, count in profile.top_values[:2])
        text = f"Almost an identifier: {n - profile.distinct:,} of {n:,} values repeat another ({example})."
        return Finding(profile.name, "almost_unique", text + " check_integrity shows them.")
    if dtype == pl.String and profile.distinct > max(MAX_CATEGORIES, n // 2):
        text = f"{profile.distinct:,} distinct texts in {n:,} cells; as a category it has no support."
        return Finding(profile.name, "high_cardinality", text)
    return None


def _numbers_rows(profile: ColumnProfile) -> bool:
    """Return whether whole numbers, all different, look like identifiers rather than measures."""
    return _ID_NAME.search(profile.name) is not None or profile.present >= 1000 or _consecutive(profile)


def _consecutive(profile: ColumnProfile) -> bool:
    whole = profile.dtype.is_integer() and profile.distinct == profile.present
    return bool(whole and profile.max - profile.min + 1 == profile.present)


def _monotone(profile: ColumnProfile) -> Finding | None:
    if profile.order is None or profile.present < _FEW or profile.dtype.is_temporal():
        return None
    if _consecutive(profile) or profile.distinct < 3:
        return None
    text = f"Values are {profile.order} down the rows: a sequence or a time; a model can learn the rows' order from it."
    return Finding(profile.name, "monotone", text)


def _infinite(profile: ColumnProfile) -> Finding | None:
    if not profile.infinite:
        return None
    text = f"{profile.infinite:,} values are infinite; mean, quantiles and histogram leave them out."
    return Finding(profile.name, "infinite", text)


def _filler(profile: ColumnProfile) -> Finding | None:
    """Tell extreme values that often stand for "unknown": −999, 9999, 1900-01-01."""
    repeated = dict(_hashable(profile.top_values))
    if profile.dtype.is_temporal():
        for value in (profile.min, profile.max):
            day = value.isoformat()[:10] if isinstance(value, date | datetime) else ""
            if day in _FILLER_DAYS and (_is_far(profile, value) or repeated.get(value, 1) > 0.01 * profile.present):
                text = f"{repeated.get(value, 1):,} times {day}, which often stands for an unknown day."
                return Finding(profile.name, "filler_value", text)
        return None
    for value in (profile.min, profile.max) if profile.dtype.is_numeric() and profile.distinct > 10 else ():
        if value in _SENTINELS and _is_far(profile, value):
            times = f"{repeated[value]:,} times " if value in repeated else ""
            text = f"Holds {times}{value:g}, far from all other values: it may stand for missing."
            return Finding(profile.name, "filler_value", text)
    return None


def _hashable(values: Iterable[tuple[Any, int]]) -> list[tuple[Any, int]]:
    return [(value, count) for value, count in values if value is not None]


def _is_far(profile: ColumnProfile, value: Any) -> bool:
    """Return whether an extreme value lies apart from the next one, by more than the middle half is wide."""
    ends = profile.lowest if value == profile.min else profile.highest
    if len(ends) < 2 or "0.75" not in profile.quantiles:
        return False
    gap, span = abs(ends[1] - ends[0]), profile.quantiles["0.75"] - profile.quantiles["0.25"]
    outside = not profile.quantiles["0.05"] <= value <= profile.quantiles["0.95"]
    return bool(gap > span and (outside or gap > 3 * span))


def _shape(profile: ColumnProfile) -> Finding | None:
    if profile.skew is None or profile.distinct <= 2 or profile.present < _FEW:
        return None
    if profile.dtype.is_integer() and profile.distinct == profile.present:
        return None  # numbers that number the rows have no shape worth a word
    far = profile.outliers or 0
    few = 0 < far < _RARE * profile.present  # a few far values make any skewness: they are the trouble, not the shape
    if abs(profile.skew) >= _SKEWED and isfinite(profile.skew) and not few:
        tail = "right" if profile.skew > 0 else "left"
        more = f", {far:,} values far out" if far else ""
        text = f"A long tail to the {tail} (skewness {profile.skew:.1f}{more}): consider a log or ranks."
        return Finding(profile.name, "skewed", text)
    if not far or (far / profile.present < _FAR_SHARE and not _very_far(profile)):
        return None
    ends = ", ".join(f"{value:g}" for value in _far_ends(profile)[:4])
    text = f"{far:,} values lie more than three interquartile ranges beyond the quartiles ({ends})."
    return Finding(profile.name, "outliers", text)


def _spans(profile: ColumnProfile, value: float) -> float:
    low, high = profile.quantiles["0.25"], profile.quantiles["0.75"]
    return float(max(low - value, value - high) / (high - low))


def _very_far(profile: ColumnProfile) -> bool:
    return any(_spans(profile, value) > _VERY_FAR for value in (profile.min, profile.max))


def _far_ends(profile: ColumnProfile) -> list[float]:
    return [v for v in (*profile.lowest[:2], *profile.highest[:2]) if _spans(profile, v) > 3]


def _zeros(profile: ColumnProfile) -> Finding | None:
    if not profile.zeros or profile.distinct <= 10 or profile.zeros / profile.present < _MANY_ZEROS:
        return None
    return Finding(profile.name, "zeros", f"{profile.zeros / profile.present:.1%} of its values are zero.")


def _negative(profile: ColumnProfile) -> Finding | None:
    if not profile.negative or profile.negative / profile.present > _RARE or profile.quantiles.get("0.05", -1) < 0:
        return None
    if profile.min in _SENTINELS and _is_far(profile, profile.min):
        return None  # said as a filler value
    are = "value is" if profile.negative == 1 else "values are"
    text = f"{profile.negative:,} {are} negative among {profile.present:,} (least {profile.min:g}): possible?"
    return Finding(profile.name, "negative", text)


def _imbalance(profile: ColumnProfile) -> Finding | None:
    if profile.distinct > MAX_CATEGORIES or profile.present < _FEW or profile.dtype.is_float():
        return None
    if not profile.top_values:
        return None
    value, count = profile.top_values[0]
    share = count / profile.present
    if share < _IMBALANCED:
        return None
    left = profile.present - count
    text = f"{share:.2%} of its values are {shown(value, 40)}; {left:,} are anything else."
    return Finding(profile.name, "imbalance", text)


def _days(profile: ColumnProfile) -> Finding | None:
    if not profile.dtype.is_integer() or profile.distinct < 3:
        return None
    if not 19_000_101 <= profile.min <= profile.max <= 21_001_231:
        return None
    seen = [*profile.lowest, *profile.highest, *(value for value, _ in profile.top_values)]
    if not compact_dates(seen, len(seen)):
        return None
    text = f"Whole numbers that read as days (year, month, day: {seen[0]}); as numbers they lie unevenly. Cast them."
    return Finding(profile.name, "date_as_number", text)
