"""Callers' patterns: regular expressions that run in linear time, and parsers for dates and JSON.

A regular expression runs in Rust's engine, which has no backtracking and a limit on its compiled size, so
no pattern can stall the server. Python's dialect is brought to Rust's where the two differ in spelling. One that Rust's
engine cannot run, for look-around or backreferences, is a `BacktrackingPattern`: Python's engine runs it, in a child
process with a deadline and nowhere else.
"""

import json
import re
import warnings
from collections.abc import Callable
from datetime import datetime
from typing import Final

import polars as pl

from mcp_server.errors import InvalidArgumentError, shown

MAX_PATTERN_CHARACTERS: Final = 1000
_MULTILINE: Final = re.compile(r"\(\?[a-z]*m")
_REPETITION: Final = re.compile(r"\{(\d*)(?:,\d*)?\}(?<!\{\})")
_UNSUPPORTED: Final = ("(?=", "(?!", "(?<=", "(?<!", "(?P=", "(?>", "(?(")
_WORD: Final = r"\p{L}\p{N}_"  # what Python calls \w; Rust adds marks and leaves out ² and ½
_PROPERTY: Final = re.compile(r"\\[pP]\{\^?\w+\}")
_POSIX_CLASS: Final = re.compile(r"\[:\^?[a-z]+:\]")


class BacktrackingPattern(str):
    """A pattern that only Python's engine runs, and that may take for ever: run it where it can be killed."""

    __slots__ = ()


def to_rust(pattern: str) -> str:
    r"""Return `pattern`, written for Python, as Rust's engine reads it, having compiled it once.

    `$` and `\\Z` are respelt: Python's `$` also matches before a newline at the end. A pattern with look-around or
    backreferences comes back as a `BacktrackingPattern`.

    Raises:
        InvalidArgumentError: it is too long or too large, or is malformed.
    """
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise InvalidArgumentError(
            f"the pattern has {len(pattern)} characters, at most {MAX_PATTERN_CHARACTERS} are taken",
            hint="Shorten the pattern, or use a value set.",
        )
    translated = _respell(pattern)
    try:
        pl.Series([""]).str.contains(translated, strict=True)
    except pl.exceptions.ComputeError as refusal:
        return _for_python(pattern, str(refusal))
    return translated


def matches(text: pl.Expr, pattern: str) -> pl.Expr:
    """Return whether each of `text` holds a match of `pattern`, as `to_rust` returned it; missing where text is.

    A `BacktrackingPattern` runs without a limit: only for a process that is killed when it takes too long.
    """
    if not isinstance(pattern, BacktrackingPattern):
        return text.str.contains(pattern)
    compiled = _compiled(pattern)
    judge = judge_distinct(lambda value: compiled.search(value) is not None)
    return text.map_batches(judge, return_dtype=pl.Boolean, is_elementwise=True)


def _for_python(pattern: str, reason: str) -> BacktrackingPattern:
    backtracks = "look-around" in reason or "backreference" in reason or any(part in pattern for part in _UNSUPPORTED)
    if "size limit" in reason or not backtracks:
        raise _explained(pattern, reason)
    try:
        _compiled(pattern)
    except (re.error, OverflowError, RecursionError) as refusal:
        raise _malformed(pattern, str(refusal)) from None
    return BacktrackingPattern(pattern)


def _compiled(pattern: str) -> re.Pattern[str]:
    with warnings.catch_warnings():  # of spellings that a later Python may read otherwise
        warnings.simplefilter("ignore")
        return re.compile(str(pattern))


def _explained(pattern: str, reason: str) -> InvalidArgumentError:
    if "size limit" in reason:
        return InvalidArgumentError(
            f"the pattern {shown(pattern)} is too large once compiled",
            hint="Use smaller repetition counts, or check lengths with expect_column_value_lengths_to_be_between.",
        )
    line = next((part for part in reason.splitlines() if part.startswith("error:")), "error: malformed")
    return _malformed(pattern, line.removeprefix("error: "))


def _malformed(pattern: str, reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"the pattern {shown(pattern)} is malformed: {reason}",
        hint="Correct the regular expression; test it with query_data and regexp_matches.",
    )


def _respell(pattern: str) -> str:
    """Write `pattern` in Rust's dialect, piece by piece: escapes, classes, ends of text, literal braces."""
    multiline = bool(_MULTILINE.search(pattern))
    written: list[str] = []
    index = 0
    while index < len(pattern):
        character = pattern[index]
        if character == "\\" and index + 1 < len(pattern):
            spelt = _PROPERTY.match(pattern, index)  # not Python's, but of the engine that pandas uses
            written.append(spelt[0] if spelt else _escape(pattern[index + 1]))
            index += len(spelt[0]) if spelt else 2
            continue
        if character == "[":
            respelt, index = _class(pattern, index)
            written.append(respelt)
            continue
        if character == "$" and not multiline:
            character = r"(?:\n?\z)"
        elif character == "{":
            character = _brace(pattern, index)
        written.append(character)
        index += 1
    return "".join(written)


def _escape(character: str) -> str:
    if character == "Z":
        return r"\z"
    if character in "wW":
        return f"[{_WORD}]" if character == "w" else f"[^{_WORD}]"
    return f"\\{character}" if character.isascii() else character


def _brace(pattern: str, index: int) -> str:
    """Return how the brace at `index` is spelt: Python takes one that starts no repetition literally."""
    repetition = _REPETITION.match(pattern, index)
    if repetition is None or index == 0:
        return r"\{"
    return "{0" if repetition[1] == "" else "{"


def _class(pattern: str, start: int) -> tuple[str, int]:
    """Return the character class at `start` respelt, and where the pattern goes on.

    In Python `]` is literal in the first place, and `[`, `&` and `~` are literal everywhere.
    """
    index = start + 1
    written = ["["]
    if pattern[index : index + 1] == "^":
        written.append("^")
        index += 1
    if pattern[index : index + 1] == "]":
        written.append(r"\]")
        index += 1
    while index < len(pattern) and pattern[index] != "]":
        character = pattern[index]
        if character == "\\" and index + 1 < len(pattern):
            following = pattern[index + 1]
            if following in "wW":
                written.append(_WORD if following == "w" else f"[^{_WORD}]")
            else:
                written.append(f"\\{following}" if following.isascii() else following)
            index += 2
            continue
        posix = _POSIX_CLASS.match(pattern, index)
        if posix is not None:
            written.append(posix[0])
            index = posix.end()
            continue
        written.append(f"\\{character}" if character in "[&~" else character)
        index += 1
    written.append(pattern[index : index + 1])
    return "".join(written), index + 1


def is_date(text: str) -> bool:
    """Return True when dateutil reads `text` as a date or time."""
    from dateutil.parser import parse  # type: ignore[import-untyped]

    if len(text) > MAX_PATTERN_CHARACTERS:
        return False
    try:
        parse(text)
    except (ValueError, OverflowError, TypeError):
        return False
    return True


def is_json(text: str) -> bool:
    """Return True when `text` is a JSON document."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def has_format(form: str) -> Callable[[str], bool]:
    """Return a predicate: does a text follow the `strftime` format `form`?"""

    def follows(text: str) -> bool:
        try:
            datetime.strptime(text, form)
        except ValueError:
            return False
        return True

    return follows


def check_format(form: str) -> str:
    """Return `form`, a usable `strftime` format.

    Raises:
        InvalidArgumentError: it cannot be written and read back.
    """
    try:
        datetime.strptime(datetime(2000, 1, 2, 3, 4, 5).strftime(form), form)
    except ValueError:
        raise InvalidArgumentError(
            f"the format {shown(form)} is not a date format", hint="Use Python's directives, such as %Y-%m-%d."
        ) from None
    return form


def judge_distinct(predicate: Callable[[str], bool]) -> Callable[[pl.Series], pl.Series]:
    """Return a function for `map_batches` that asks `predicate` once for each distinct text of a batch."""

    def judge(values: pl.Series) -> pl.Series:
        distinct = values.drop_nulls().unique()
        passing = pl.Series([text for text in distinct.to_list() if predicate(text)], dtype=pl.String)
        return values.is_in(passing.implode()).rename(values.name)

    return judge
