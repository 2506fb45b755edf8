"""Tells whether bytes that are no UTF-8 are Western European text, word by word, or may be anything else.

Every byte is some letter in cp1252, so decoding proves nothing: Cyrillic, Greek or Polish text would come out as
nonsense. What shows the difference is how the letters stand: Western text has single accented letters among plain
ones, each in company that its languages know (``ñ`` before a vowel, ``ù`` at the end of a word), where the letter that
another encoding has at the same byte would stand otherwise (``ń`` before a consonant, ``ů`` within a word).
Source of the letters: the Unicode mappings of cp1252, cp1250, cp1254, cp1257 and Mac OS Roman.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Final

# Bytes that may hold a letter beyond ASCII, with the plain letters and digits around them
WORDS: Final = re.compile(rb"[0-9A-Za-z]*[\x80-\xff][0-9A-Za-z\x80-\xff]*")
_LETTERS: Final = re.compile(r"[^\W\d_ªº²³¹¼½¾µ]+")
_UNSURE_PER_SURE: Final = 3  # words that all encodings read the same, to outweigh a doubtful one
_MOST_KNOWN: Final = 200_000


class Verdict(IntEnum):
    """What a word says about the file that it is from, worst first."""

    OTHER = 0  # no Western language writes this
    UNSURE = 1  # it could be one, and it could be another reading
    NEUTRAL = 2  # several encodings read it the same
    WESTERN = 3  # only a Western language writes this


class WesternWords:
    """Words of one file, as `WORDS` finds them, judged one after the other."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()
        self._counts = dict.fromkeys(Verdict, 0)

    def add(self, words: Iterable[bytes]) -> bool:
        """Judge the words that were not met before; return False once one is from no Western language."""
        for word in set(words) - self._known:
            self._counts[_judged(word)] += 1
            if len(self._known) < _MOST_KNOWN:
                self._known.add(word)
        return not self._counts[Verdict.OTHER]

    @property
    def are_western(self) -> bool:
        """True when the file is safely read as cp1252."""
        other, unsure, neutral, western = self._counts.values()
        if other or not (neutral or western):
            return False
        return not unsure or western > 0 or neutral >= _UNSURE_PER_SURE * unsure


def _judged(word: bytes) -> Verdict:
    try:
        text = word.decode("cp1252")
    except UnicodeDecodeError:
        return Verdict.OTHER
    verdicts = [_sign(text, i) for i, c in enumerate(text) if ord(c) > 127 and not c.isalpha()]
    for match in _LETTERS.finditer(text):
        letters = match[0]
        if not letters.isascii():
            verdicts.append(_spelling(letters))
            if len(letters) > 1:
                verdicts += [_letter(letters, i) for i, c in enumerate(letters) if ord(c) > 127]
    verdicts += [_sign(text, i) for i, c in enumerate(text) if c in "ªºµ"]
    sure = [verdict for verdict in verdicts if verdict is not Verdict.NEUTRAL]
    if not sure:
        return Verdict.NEUTRAL
    return min(sure) if min(sure) is Verdict.OTHER else max(sure)


# Signs ---------------------------------------------------------------------------------------------------------

_OPENING, _CLOSING = "“«‹„‚‘¡", "”»›…"
_ALONE = "€£¥¢§°±²³¹½¼¾×÷‰†•¶ªº¿"
_SUFFIXES = ("s", "t", "re", "ve", "ll", "m", "d")


def _sign(text: str, place: int) -> Verdict:
    """Judge a sign by what stands beside it: within a word there is hardly any."""
    sign = text[place]
    before, after = text[:place], text[place + 1 :]
    left, right = before[-1:].isalpha(), after[:1].isalpha()
    if sign in "\xa0\xad·´":
        return Verdict.NEUTRAL
    if sign == "’":
        short = len(_LETTERS.findall(before)[-1]) <= 2 if left else True
        return Verdict.NEUTRAL if short or after.lower() in _SUFFIXES or not right else Verdict.UNSURE
    if sign in "–—":
        return Verdict.UNSURE if left and right else Verdict.NEUTRAL
    if sign in _OPENING or (sign == "¿" and after[:1].isupper()):
        return Verdict.OTHER if left else Verdict.NEUTRAL
    if sign in _CLOSING:
        return Verdict.OTHER if right else Verdict.UNSURE if sign == "…" and left else Verdict.NEUTRAL
    if sign in "©®™":
        return Verdict.OTHER if right or not before.isascii() else Verdict.NEUTRAL
    if sign in _ALONE:
        return _alone(sign, before, after)
    return Verdict.NEUTRAL if sign == "µ" and not left and len(after) == 1 else Verdict.OTHER


def _alone(sign: str, before: str, after: str) -> Verdict:
    if sign == "°" and after in ("C", "F") and not before[-1:].isalpha():
        return Verdict.NEUTRAL
    if sign in "²³" and before.isascii() and len(before.lstrip("0123456789")) <= 2 and not after:
        return Verdict.NEUTRAL
    if sign in "ªº" and (before.isdecimal() or before.lower() == "n") and not after:
        return Verdict.NEUTRAL
    return Verdict.OTHER if before[-1:].isalpha() or after[:1].isalpha() or sign in "ªº" else Verdict.NEUTRAL


# Letters -------------------------------------------------------------------------------------------------------


def _spelling(letters: str) -> Verdict:
    """Judge a word as a whole: few letters beyond ASCII, not many in a row, capitals where capitals stand."""
    beyond = [ord(c) > 127 for c in letters]
    if len(letters) == 1:
        return Verdict.UNSURE
    if 3 * sum(beyond) > 2 * len(letters) or any(all(beyond[i : i + 3]) for i in range(len(letters) - 2)):
        return Verdict.OTHER
    for i in range(1, len(letters)):
        odd_capital = letters[i].isupper() and letters[i - 1].islower()
        odd_small = letters[i].islower() and letters[i - 1].isupper() and letters[i + 1 : i + 2].isupper()
        if (beyond[i] or beyond[i - 1]) and (odd_capital or odd_small):
            return Verdict.OTHER
    return Verdict.NEUTRAL


def _base(letter: str) -> str:
    return unicodedata.normalize("NFD", letter)[:1]


def _is_vowel(letter: str) -> bool:
    return letter != "" and _base(letter) in "aeiouæøœ"


def _is_consonant(letter: str) -> bool:
    return letter != "" and not _is_vowel(letter)


_Rule = Callable[[str, str], Verdict]  # what stands before and after the letter within its word, in lower case


def _pattern(after: str, otherwise: Verdict) -> _Rule:
    """A rule: Western where what follows is so."""
    found = re.compile(after)
    return lambda _, rest: Verdict.WESTERN if found.match(rest) else otherwise


def _e_grave(before: str, after: str) -> Verdict:
    """`è`; Central European `č`."""
    if _is_vowel(after[:1]):
        return Verdict.OTHER
    if re.match(r"([bcdfghjklmnpqrstvwxz]{1,3}|qu|gu)e", after) or after in ("s", "t"):
        return Verdict.WESTERN
    return Verdict.WESTERN if not after and _is_consonant(before[-1:]) else Verdict.UNSURE


def _at_the_end(_before: str, after: str) -> Verdict:
    """`ù` and `ì` of French and Italian; Czech `ů` and `ě`."""
    return Verdict.OTHER if after else Verdict.WESTERN


def _o_grave(before: str, after: str) -> Verdict:
    """`ò`; Czech `ň`."""
    if not _is_consonant(before[-1:]) or _is_vowel(after[:1]):
        return Verdict.UNSURE if not before and _is_consonant(after[:1]) else Verdict.OTHER
    return Verdict.UNSURE if after else Verdict.WESTERN


def _i_diaeresis(before: str, after: str) -> Verdict:
    """`ï` of French, after a vowel; Slovak `ď`."""
    if not _is_vowel(before[-1:]):
        return Verdict.OTHER
    return Verdict.UNSURE if _is_vowel(after[:1]) else Verdict.WESTERN


def _n_tilde(_before: str, after: str) -> Verdict:
    """`ñ` of Spanish, before a vowel; Polish `ń`, before a consonant or at the end."""
    return Verdict.WESTERN if _is_vowel(after[:1]) else Verdict.OTHER


def _o_slash(before: str, after: str) -> Verdict:
    """`ø` of Danish and Norwegian, among consonants; Czech `ř`, beside vowels."""
    return Verdict.OTHER if _is_vowel(before[-1:]) or _is_vowel(after[:1]) else Verdict.WESTERN


def _ae(before: str, after: str) -> Verdict:
    """`æ` of Danish, before a consonant; Croatian and Polish `ć`, at the end or before a vowel."""
    if _is_vowel(after[:1]) or _is_vowel(before[-1:]):
        return Verdict.OTHER
    return Verdict.WESTERN if after else Verdict.UNSURE


def _c_cedilla(_before: str, after: str) -> Verdict:
    """`ç` of French and Portuguese, before a, o and u; Latvian `ē`, before consonants."""
    if after and _base(after[0]) in "aou":
        return Verdict.WESTERN
    return Verdict.OTHER if _is_consonant(after[:1]) else Verdict.UNSURE


def _sharp_s(before: str, _after: str) -> Verdict:
    """`ß` of German, within a word in small letters."""
    return Verdict.NEUTRAL if before else Verdict.OTHER


def _never(_before: str, _after: str) -> Verdict:
    """Letters that Turkish, Cyrillic or Icelandic text would have here, and no other Western language."""
    return Verdict.OTHER


def _unsure(_before: str, _after: str) -> Verdict:
    return Verdict.UNSURE


def _neutral(_before: str, _after: str) -> Verdict:
    return Verdict.NEUTRAL


_RULES: Final[Mapping[str, _Rule]] = {
    **dict.fromkeys("áéíóúäëöüîô", _neutral),
    **dict.fromkeys("âšžý", _unsure),
    **dict.fromkeys("ðþÿƒ", _never),
    **dict.fromkeys("ùì", _at_the_end),
    "à": _pattern(r"$", Verdict.UNSURE),
    "å": _pattern("", Verdict.WESTERN),
    "ã": _pattern(r"o|e", Verdict.UNSURE),
    "õ": _pattern(r"e", Verdict.UNSURE),
    "ê": _pattern(r"((t|tre|te|me|che|ve|ne|nc[ie]a)?s?)$", Verdict.UNSURE),
    "û": lambda before, _: Verdict.WESTERN if before.endswith("o") else Verdict.UNSURE,
    "œ": _pattern(r"u|i", Verdict.OTHER),
    "è": _e_grave,
    "ò": _o_grave,
    "ï": _i_diaeresis,
    "ñ": _n_tilde,
    "ø": _o_slash,
    "æ": _ae,
    "ç": _c_cedilla,
    "ß": _sharp_s,
}


def _letter(letters: str, place: int) -> Verdict:
    word = letters.lower()
    rule = _RULES.get(word[place])
    return Verdict.OTHER if rule is None else rule(word[:place], word[place + 1 :])


# Other encodings -----------------------------------------------------------------------------------------------

_LIKELY: Final = (
    "cp1251", "koi8-r", "cp866", "iso-8859-5", "mac-cyrillic", "cp1253", "iso-8859-7", "cp1255", "cp1256", "cp874",
    "shift_jis", "euc-jp", "gb18030", "euc-kr", "big5",
    "cp1250", "iso-8859-2", "cp1254", "cp1257", "cp1252", "mac-roman", "cp850",
)  # fmt: skip
_ASIAN: Final = ("shift_jis", "euc-jp", "gb18030", "euc-kr", "big5")


def likely_encodings(sample: bytes, n_most: int = 3) -> list[str]:
    """Return the encodings in which a sample of whole lines makes the best words, best first; a hint, no proof."""
    words = list(dict.fromkeys(WORDS.findall(sample)))[:500]
    scored = [(score, place, name) for place, name in enumerate(_LIKELY) if (score := _oddness(words, name)) < 1]
    best = min(scored, default=(0.0, 0, ""))[0]
    return [name for score, _, name in sorted(scored) if score <= best + 0.25][:n_most]


def _oddness(words: Iterable[bytes], encoding: str) -> float:
    """Return the share of letters that stand oddly when the words are read so; 9 when they cannot be."""
    n_odd = n_all = 0
    for word in words:
        try:
            text = word.decode(encoding)
        except UnicodeDecodeError:
            return 9.0
        n_all += sum(ord(c) > 127 for c in text)
        for i, character in enumerate(text):
            if ord(character) > 127:
                n_odd += _is_odd(character, text[max(i - 1, 0) : i], encoding)
    return n_odd / n_all if n_all else 9.0


def _is_odd(character: str, before: str, encoding: str) -> bool:
    if not character.isalpha():
        return True
    if encoding in _ASIAN:
        beside_plain = before.isascii() and before.isalpha()
        return beside_plain or not (0x3041 <= ord(character) <= 0x9FFF or 0xAC00 <= ord(character) <= 0xD7A3)
    foreign = unicodedata.name(character, "").split(" ")[0] != "LATIN"
    if foreign and before.isascii() and before.isalpha():
        return True
    return character.isupper() and before.islower()
