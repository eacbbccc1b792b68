"""Analysed passages: the words, stems and pairs of each unit, laid out so that a question is scored in a few steps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from agents.identifiers import with_words
from agents.keys import keys
from knowledge.types import Passage
from memory.words import STOP_WORDS, stem, tokens

PRONOUNS = frozenset(
    "he she it they this these that those such his her their its him them one both another there".split()
)
"""First words that point back to the sentence before."""

# a capital after a small letter, two before one, a_b: written so that only capitals and "_" are looked at
_MIXED = re.compile(r"[A-Z_](?:(?<=[a-z][A-Z])|(?<=[A-Z])[A-Z][a-z]|(?<=[^\W_]_)[^\W_])")
_COMPOUND = re.compile(r"\b(?=\w*(?:[a-z][A-Z]|[A-Z]{2}[a-z]|[^\W_]_[^\W_]))\w+\b")
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_FIRST = re.compile(r"\w+")

Flags = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Analysed:
    """A passage as the scoring needs it, made once a passage; tuples and arrays have a place for each of its units."""

    words: tuple[str, ...]
    """Distinct content words of all units."""
    stems: frozenset[str]
    """Of the whole passage with its label, code included."""
    held: tuple[frozenset[str], ...]
    """Stems of each unit."""
    labels: tuple[frozenset[str], ...]
    """Stems of each unit's label: title, headings, local label."""
    runs: tuple[str, ...]
    """All stems of each unit in order, " a b c "."""
    keys: tuple[tuple[frozenset[str], ...], ...]
    """Stems of each key of each entry (list item, row) that is not the label's own subject."""
    pronouns: Flags
    """Whether the unit begins with a word that points back."""
    columns: NDArray[np.intp]
    """For unit after unit the indices of its words, each unit's closed by -1."""
    starts: NDArray[np.intp]
    """Where each unit's run begins in `columns`."""

    def best(self, likeness: Floats) -> Floats:
        """The highest likeness in each unit, 0 at least, from likeness by word: (n, words) to (n, units)."""
        padded = np.zeros((likeness.shape[0], likeness.shape[1] + 1), np.float32)
        padded[:, :-1] = likeness
        highest: Floats = np.maximum.reduceat(padded[:, self.columns], self.starts, axis=1)
        return highest


@lru_cache(maxsize=256)
def analyse(passage: Passage) -> Analysed:
    """The words and stems of a passage's units; the last 256 passages are kept."""
    heading = content_stems(" ".join((passage.title, *passage.headings)))
    local: dict[str, frozenset[str]] = {"": heading}
    places: dict[str, int] = {}
    columns: list[int] = []
    starts: list[int] = []
    held: list[frozenset[str]] = []
    runs: list[str] = []
    entries: list[tuple[frozenset[str], ...]] = []
    for unit in passage.units:
        run = sequence(unit.text)
        stems = [stem(word) for word in run]
        content = {word: one for word, one in zip(run, stems, strict=True) if word not in STOP_WORDS}
        starts.append(len(columns))
        columns += [places.setdefault(word, len(places)) for word in content]
        columns.append(-1)
        named = [content_stems(key) for key in keys(unit)]
        held.append(frozenset(content.values()).union(*named))  # "Mon to Fri" holds Wednesday
        runs.append(f" {' '.join(stems)} ")
        if unit.label not in local:
            local[unit.label] = heading | content_stems(unit.label)
        entries.append(tuple(key for key in named if not key <= local[unit.label]))
    code = " ".join(passage.text[block.start : block.end] for block in passage.blocks if block.kind == "code")
    return Analysed(
        words=tuple(places),
        stems=frozenset[str]().union(*local.values(), *held, content_stems(code)),
        held=tuple(held),
        labels=tuple(local[unit.label] for unit in passage.units),
        runs=tuple(runs),
        keys=tuple(entries),
        pronouns=np.array([first_word(unit.text) in PRONOUNS for unit in passage.units], np.bool_),
        columns=np.array(columns, np.intp),
        starts=np.array(starts, np.intp),
    )


def sequence(text: str) -> list[str]:
    """The tokens of a text, each compound identifier (DeleteBucket, max_size, KX-200) followed by its parts."""
    text = with_words(text)
    if _MIXED.search(text):
        text = _COMPOUND.sub(lambda found: " ".join((found[0], *_PART.findall(found[0]))), text)
    return tokens(text)


def content_stems(text: str) -> frozenset[str]:
    """The stems of a text's content words."""
    return frozenset(stem(word) for word in sequence(text) if word not in STOP_WORDS)


def pairs_of(text: str) -> frozenset[str]:
    """The stems of adjacent words, not both of them stop words, as " a b "."""
    return frozenset(
        f" {stem(one)} {stem(two)} "
        for one, two in pairwise(sequence(text))
        if one not in STOP_WORDS or two not in STOP_WORDS
    )


def first_word(text: str) -> str:
    """The first word of a text, lower case; "" when there is none."""
    found = _FIRST.search(text)
    return found[0].lower() if found else ""
