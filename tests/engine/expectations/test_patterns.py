import re
from random import Random

import polars as pl
import pytest

from mcp_server.engine.expectations.patterns import (
    BacktrackingPattern,
    check_format,
    is_date,
    is_json,
    matches,
    to_rust,
)
from mcp_server.errors import InvalidArgumentError

_BACKTRACKING = ["(?=a)a", "(?!a).", "(?<=a)b", "(?<!a)b", r"(a)\1", r"(?P<x>[ab])(?P=x)", "(?>a+)b", "^(?!.*b).*$"]


@pytest.mark.parametrize("pattern", _BACKTRACKING)
def test_look_around_and_backreferences_are_left_to_python(pattern: str):
    random = Random(1)
    texts = ["".join(random.choice("abAB\n$ ") for _ in range(random.randint(0, 5))) for _ in range(500)]

    kept = to_rust(pattern)

    assert isinstance(kept, BacktrackingPattern)
    found = pl.select(matches(pl.lit(pl.Series(texts)), kept)).to_series().to_list()
    assert found == [re.search(pattern, text) is not None for text in texts]


@pytest.mark.parametrize(
    "pattern", ["(?=a", "(?<=a+)b", r"(a)\2", "(?=" * 100 + ")" * 100 + "(", "(?=a)a{99999999999}"]
)
def test_a_malformed_pattern_with_look_around_is_refused(pattern: str):
    with pytest.raises(InvalidArgumentError, match="malformed"):
        to_rust(pattern)


def test_a_pattern_that_grows_too_large_is_refused():
    with pytest.raises(InvalidArgumentError, match="too large"):
        to_rust("((a{1000}){1000}){1000}")


def test_a_pattern_that_is_too_long_is_refused():
    with pytest.raises(InvalidArgumentError, match="1001 characters"):
        to_rust("a" * 1001)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [("a$", "a\n", True), ("a$", "a\nb", False), (r"a\Z", "a\n", False), (r"[$]a", "$a", True), (r"\$a", "$a", True)],
)
def test_ends_of_text_mean_what_they_mean_in_python(pattern: str, text: str, matches: bool):
    assert pl.Series([text]).str.contains(to_rust(pattern)).item() is matches


_PATTERNS = [
    r"^a$", r"a$|b", r"^[^$]+$", r"\$$", r"a\Z", r"^\s*$", r"^.{2,3}$", r"(?i)^AB$", r"^(?P<x>a+)b?$",
    r"[]a]", r"[^]$]$", r"a{,}b", r"\ba\b", r"x*$", r"(?m)^a$", r"(?s)a.b", r"a{,2}$", r"[a-z&&b]", r"[[]",
    r"\w", r"^\w+$", r"\W", r"[^\W\d]", r"[\w-]$", r"[~a]", r"a{", r"{a}", r"a{}", r"\é", r"[\]$]",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Possible:FutureWarning")
@pytest.mark.parametrize("pattern", _PATTERNS)
def test_patterns_mean_what_they_mean_in_python(pattern: str):
    random = Random(1)
    texts = ["".join(random.choice("abAB\n$ ]1-é{&~[_٣") for _ in range(random.randint(0, 5))) for _ in range(3000)]

    found = pl.Series(texts).str.contains(to_rust(pattern)).to_list()

    assert found == [re.search(pattern, text) is not None for text in texts]


@pytest.mark.parametrize("pattern", [r"\w", r"\W", r"[\w]", r"[^\W\d]"])
def test_fractions_and_raised_digits_are_word_characters_as_in_python(pattern: str):
    texts = ["²", "½", "Ⅷ", "i̇", "_", "-", "é", "٣", "日本"]

    found = pl.Series(texts).str.contains(to_rust(pattern)).to_list()

    assert found == [re.search(pattern, text) is not None for text in texts]


def test_dates_and_json_are_told_from_text():
    assert is_date("31 January 2024")
    assert not is_date("2024-13-01")
    assert is_json('{"a": [1]}')
    assert not is_json("[" * 100_000)


def test_a_format_that_cannot_be_read_back_is_refused():
    with pytest.raises(InvalidArgumentError, match="not a date format"):
        check_format("%Q")
