# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Words of a text: tokens, stop words and stems, the same for indexing, searching and quoting."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import lru_cache

import Stemmer

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_POSSESSIVE = re.compile(r"['’]s?$")

STOP_WORDS = frozenset(
    "a about above after again against all am an and any are aren't as at be because been before being below between "
    "both but by can can't cannot could couldn't did didn't do does doesn't doing don't down during each few for from "
    "further had hadn't has hasn't have haven't having he her here hers herself him himself his how i if in into is "
    "isn't it its itself just let me more most my myself no nor not of off on once only or other ought our ours "
    "ourselves out over own same shall she should shouldn't so some such than that the their theirs them themselves "
    "then there these they this those through to too under until up upon us very was wasn't we were weren't what when "
    "where which while who whom whose why will with won't would wouldn't you your yours yourself yourselves may might "
    "must also".split()
)
"""Question words, auxiliaries, pronouns, prepositions: what carries no subject."""


class _Stems(threading.local):
    """A Stemmer per thread: one must not be shared."""

    def __init__(self) -> None:
        self.of: Callable[[str], str] = Stemmer.Stemmer("english", 0).stemWord


_stems = _Stems()


def tokens(text: str) -> list[str]:
    """The words of a text, lower case, a trailing 's dropped; signs between words are lost."""
    words: list[str] = _WORD.findall(text.lower())
    if "'" in text or "’" in text:
        return [_POSSESSIVE.sub("", word) for word in words]
    return words


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """The Snowball (Porter 2, English) stem of one lower-case word."""
    return _stems.of(word)


def content_words(text: str) -> list[str]:
    """The tokens of a text that are no stop words, in order, repeated as they are."""
    return [word for word in tokens(text) if word not in STOP_WORDS]


_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_IDENTIFIER = re.compile(r"[a-z0-9][A-Z]|[^_]_+[^_]")
_LONGEST = 64


def index_terms(text: str) -> list[str]:
    """What a word index keeps of a text: the stems of its content words, repeated as they are; an identifier
    (a_b, camelCase) as a whole and in its parts. Words longer than 64 characters are cut."""
    found: list[str] = []
    for word in _WORD.findall(text):
        parts = [_POSSESSIVE.sub("", word[:_LONGEST].lower())]
        if _IDENTIFIER.search(word[:_LONGEST]):
            parts += [part.lower() for part in _PART.findall(word[:_LONGEST]) if len(part) > 1]
        found += [stem(part) for part in parts if part not in STOP_WORDS]
    return found
