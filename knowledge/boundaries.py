"""Where sentences end: at . ? ! before a capital or digit, not after initials or abbreviations."""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 600
"""Characters of the longest sentence; what goes on without an end is cut at a line end, a semicolon or a space."""

_ENDS = re.compile(r"([.?!…]+)[\"'”’»)\]*_`]*\s+|[。！？।]+[」』”’）]*\s*")
_CODE = re.compile(r"(?<!`)(`{1,3})(?!`)[^\n]{1,200}?(?<!`)\1(?!`)")
_OPENERS = "\"'“‘«([*_`<>~#¿¡-–—•$€£ \t\n"
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘«*_`/]*$")
_WORD = re.compile(r"[^\W\d_]+")
_NUMBERING = re.compile(r"\d{1,3}(?:\.\d{1,3}){0,5}")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")

# Something follows these: a name, a number.
_NEVER_LAST = frozenset(
    "mr mrs ms mx dr prof rev fr hon gen col lt sgt capt cmdr adm maj sen rep gov pres st ste mt ft messrs mme mlle "
    "e.g i.e eg ie cf vs v viz no nos nr fig figs eq eqs sec ch chap vol vols pp p art ed eds trans ca approx "
    "jan feb mar apr jun jul aug sep sept oct nov dec dept univ incl resp op al ref refs tab".split()
)
_WORDS_TOO = frozenset("no art p v al tab mar sec col gen fig ref".split())  # abbreviations before a number only
# These end a sentence only when the next word begins one.
_MAYBE_LAST = frozenset(
    "inc ltd co corp jr sr bros etc u.s u.k u.n e.u d.c a.m p.m b.c a.d ph.d m.d b.a m.a b.sc m.sc ave blvd rd esq "
    "est dist min max".split()
)
_STARTERS = frozenset(
    "the a an this that these those it its he she they we you i his her their our your in on at by for from with as "
    "after before when while if although because since however but and so there here what who how where why most "
    "many some each all both during under until use see note to not no one two".split()
)


def _may_start(text: str, at: int, end: int) -> bool:
    """Whether what stands at `at` can be the first word of a sentence: anything but a small letter or punctuation."""
    while at < end and text[at] in _OPENERS:
        at += 1
    if at >= end:
        return False
    sign = text[at]
    return sign.isdigit() or (sign.isalpha() and not sign.islower())


def _is_abbreviation(text: str, start: int, stop: int, following: int) -> bool:
    """Whether the full stop at `stop` belongs to the word before it."""
    match = _LAST_WORD.search(text, max(start, stop - 24), stop)
    word = match[0] if match else ""
    lower = word.lower()
    if lower in _NEVER_LAST:
        return lower not in _WORDS_TOO or text[following : following + 1].isdigit()
    if _NUMBERING.fullmatch(word) and ("." in word or stop - len(word) == start):
        return True  # "3. Introduction", "7.2. Errors"
    if (len(word) == 1 and word.isupper()) or lower in _MAYBE_LAST or _INITIALS.fullmatch(word):
        opening = _WORD.match(text, following)
        return not (opening and opening[0][0].isupper() and opening[0].lower() in _STARTERS)
    return False


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Pieces of at most LONGEST characters."""
    while end - start > LONGEST:
        limit = start + LONGEST
        at = text.rfind("\n", start + LONGEST // 3, limit)
        if at < 0:
            at = text.rfind("; ", start + LONGEST // 2, limit) + 1 or text.rfind(" ", start + LONGEST // 2, limit)
        at = at if at > start else limit
        yield from _trimmed(text, start, at)
        start = at
    yield from _trimmed(text, start, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end


def sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The sentences of text[start:end] as spans without the space around them. Linear time."""
    begin = start
    codes = _CODE.finditer(text, start, end)
    code = next(codes, None)
    for match in _ENDS.finditer(text, start, end):
        following = match.end()
        while code and code.end() <= match.start():
            code = next(codes, None)
        if code and code.start() < match.start() and following <= code.end():
            continue
        if match[1] is not None:
            if not _may_start(text, following, end):
                continue
            if match[1] == "." and _is_abbreviation(text, begin, match.start(), following):
                continue
        yield from _cut(text, begin, following)
        begin = following
    yield from _cut(text, begin, end)
