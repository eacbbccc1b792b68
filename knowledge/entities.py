"""Names in texts, without a model: the runs of capitalised words of a passage and the ways to name a title."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from knowledge.types import Name, Passage, Surface
from memory.words import tokens

LONGEST = 14
"""Words of the longest name that is looked for."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_PARENTHESES = re.compile(r"\s*\([^()]*\)")
_JOINING = frozenset(
    "a an the of in on at to for and or by with from as de del della der den des di da do dos du la le les el las los "
    "al ul bin ibn ben von van vom zu zum zur und et e y i og och af av ter ten 's".split()
)
"""Small words that may stand inside a name without a capital."""


@dataclass(frozen=True, slots=True)
class Span:
    """Words of a text that a known surface may stand for: words[first:end] of it."""

    text: str
    """Lower case, words joined by one space."""
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start: int
    end: int
    capital: bool


def _words(text: str) -> list[_Word]:
    return [
        _Word(word, hit.start(), hit.end(), hit[0][0].isupper() or hit[0][0].isdigit())
        for hit in _WORD.finditer(text)
        for word in tokens(hit[0])
    ]


def normal(name: str) -> str:
    """A name as surfaces are written: lower case, words joined by one space, signs and 's dropped."""
    return " ".join(tokens(name))


def surfaces(title: str) -> tuple[Surface, ...]:
    """The whole title (weight 1), without what stands in parentheses (.9) and up to the first comma (.6)."""
    found: dict[str, float] = {}
    for text, weight in ((title, 1.0), (_PARENTHESES.sub("", title), 0.9), (title.partition(",")[0], 0.6)):
        words = tokens(text)
        if 0 < len(words) <= LONGEST:
            found.setdefault(" ".join(words), weight)
    return tuple(Surface(text, weight) for text, weight in found.items())


def names(passage: Passage) -> tuple[Name, ...]:
    """The runs of words that begin with a capital or a digit, small joining words between and before them included.

    A run goes on over commas ("Lambert, Margrave of Tuscany") and ends with its sentence, item or row.
    """
    return tuple(
        Name(unit.text[first:last], index)
        for index, unit in enumerate(passage.units)
        if unit.kind != "code"
        for first, last in _runs(unit.text)
    )


def _runs(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each run, in characters."""
    start = end = -1
    lead = -1
    for word in _words(text):
        joining = word.text in _JOINING
        if word.capital:
            if start < 0:
                start = lead if lead >= 0 else word.start
            end = word.end
        elif not joining:
            if start >= 0:
                yield start, end
            start = lead = -1
        if joining and lead < 0:
            lead = word.start
        elif not joining:
            lead = -1
    if start >= 0:
        yield start, end


def grams(run: str) -> Iterator[str]:
    """All that may be a surface in a run of names (as `normal` writes it)."""
    words = run.split()
    for first in range(len(words)):
        for end in range(first + 1, min(first + LONGEST, len(words)) + 1):
            yield " ".join(words[first:end])


def spans(run: str) -> list[Span]:
    """The same as spans, longest first, without those of joining words alone."""
    words = run.split()
    return _ngrams(words, [word not in _JOINING for word in words])


def question_spans(question: str) -> list[Span]:
    """The n-grams of a question that may be a title: one word has a capital and is not the first, longest first."""
    words = _words(question)
    return _ngrams([word.text for word in words], [place > 0 and word.capital for place, word in enumerate(words)])


def _ngrams(words: Sequence[str], marked: Sequence[bool]) -> list[Span]:
    return [
        Span(" ".join(words[first : first + size]), first, first + size)
        for size in range(min(LONGEST, len(words)), 0, -1)
        for first in range(len(words) - size + 1)
        if any(marked[first : first + size])
    ]


def match(candidates: Sequence[Span], known: Container[str]) -> list[Span]:
    """The spans that are known surfaces, longest first; a word is part of one match only."""
    taken: set[int] = set()
    found: list[Span] = []
    for span in candidates:
        if span.text in known and taken.isdisjoint(range(span.first, span.end)):
            taken.update(range(span.first, span.end))
            found.append(span)
    return found
