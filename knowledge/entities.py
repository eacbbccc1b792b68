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


def core(name: str) -> tuple[str, str]:
    """A name without the joining words and signs at its ends, readable and as surfaces are written."""
    words = _words(name)
    while len(words) > 1 and words[-1].text in _JOINING:
        words.pop()
    first = next((at for at, word in enumerate(words) if word.text not in _JOINING), 0)
    kept = words[first:]
    return (name[kept[0].start : kept[-1].end], " ".join(word.text for word in kept)) if kept else ("", "")


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


def grams(run: str) -> list[str]:
    """All that may be a surface in a run of names (as `normal` writes it)."""
    words = run.split()
    if len(words) == 1:
        return words
    return [" ".join(words[first:end]) for first, end in _ngrams(len(words))]


def in_run(run: str, known: Container[str]) -> list[str]:
    """The known surfaces in a run of names, the longest first; a word is part of one only."""
    words = run.split()
    return _match(words, [word not in _JOINING for word in words], known)


def question_grams(question: str) -> list[str]:
    """The n-grams of a question that may be a title: one of their words has a capital and is not the first."""
    words, marked = _question(question)
    return [" ".join(words[first:end]) for first, end in _ngrams(len(words)) if any(marked[first:end])]


def in_question(question: str, known: Container[str]) -> list[str]:
    """The known surfaces in a question, the longest first; a word is part of one only."""
    return _match(*_question(question), known)


def _question(question: str) -> tuple[list[str], list[bool]]:
    words = _words(question)
    return [word.text for word in words], [place > 0 and word.capital for place, word in enumerate(words)]


def _ngrams(size: int) -> Iterator[tuple[int, int]]:
    """Start and end of all n-grams, longest first."""
    for length in range(min(LONGEST, size), 0, -1):
        for first in range(size - length + 1):
            yield first, first + length


def _match(words: Sequence[str], marked: Sequence[bool], known: Container[str]) -> list[str]:
    """The known n-grams that hold a marked word, longest first, none overlapping another."""
    taken = [False] * len(words)
    found: list[str] = []
    for first, end in _ngrams(len(words)):
        text = " ".join(words[first:end])
        if text in known and any(marked[first:end]) and not any(taken[first:end]):
            taken[first:end] = [True] * (end - first)
            found.append(text)
    return found
