"""Scoring: which sentence, item or row of the found passages answers a question (EXTRACTIVE section 2)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.analysis import Analysed, Floats, analyse, pairs_of, sequence
from agents.expected import CALENDAR, Expected, expected_answer
from agents.forms import WEIGHT, Form, bonus, form_of
from agents.identifiers import identifiers_in, is_identifier
from agents.language import COMMON_WORDS
from knowledge.types import Found, Passage
from memory.embedding import WordTable
from memory.types import Statistics, Vector, Vectors
from memory.words import STOP_WORDS, stem

WEIGHTS: dict[str, float] = {
    "cos_t": 10.0,
    "soft_pred": 4.0,
    "cov_prev": 3.0,
    "bigram": 3.0,
    "pcov": 3.0,
    "carry": 3.0,
    "kind": 2.0,
    "soft_ctx": 1.5,
    "pos": -1.2,
}
"""The nine terms, each 0 to 1, and their weights."""
SOFT_MATCH = 0.3
"""Cosine in the word table above which two words count as related."""
LABEL_MATCH = 0.8
"""What a question word that stands in the label is worth to soft_ctx."""

KEY = 2.25
"""Added for the entry of a list or table whose key the question names, as for an option that a unit begins with."""
OTHER_THING = -0.5
"""The most that z is for a passage that names none of the question's identifiers: worth showing, no answer."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Question:
    """A question as the terms need it."""

    words: tuple[str, ...]
    """Its distinct content words."""
    stems: tuple[str, ...]
    identifiers: frozenset[str]
    """Those of the stems that are identifiers (KX-200)."""
    weights: Floats
    """idf of each word over the passages, as shares of their sum; a word that the collection lacks weighs most."""
    relation: Floats
    """The same over the words outside capitalised spans only: what is asked of the name."""
    pairs: frozenset[str]
    """Adjacent stems, " a b "."""
    expected: Expected
    form: Form


@dataclass(frozen=True, slots=True)
class Scored:
    """One unit with its score."""

    found: int
    """Index among the found passages."""
    unit: int
    """Index among the passage's units."""
    score: float
    confidence: float
    """z (EXTRACTIVE section 3): an answer from 0 on."""
    vector: Vector | None
    """Of "label: unit"; None where none is stored."""


def question_words(question: str, language: str = "en") -> list[str]:
    """The distinct content words of a question, identifiers also in parts: what statistics are needed for."""
    common = frozenset[str]() if language == "en" else COMMON_WORDS.get(language, frozenset())
    words = dict.fromkeys(word for word in sequence(question) if word not in STOP_WORDS)
    return [word for word in words if word not in common]


def read_question(question: str, statistics: Statistics, language: str = "en") -> Question:
    """A question with its words weighed by their rarity."""
    words = question_words(question, language)
    names = _names(question)
    weights = np.array([_idf(statistics, word) for word in words], np.float32)
    relation = weights * np.array([word not in names for word in words], np.float32)
    return Question(
        words=tuple(words),
        stems=tuple(stem(word) for word in words),
        identifiers=frozenset(stem(word) for word in words if is_identifier(word)),
        weights=weights / (weights.sum() or 1.0),
        relation=relation / (relation.sum() or 1.0),
        pairs=pairs_of(question),
        expected=expected_answer(question),
        form=form_of(question),
    )


def rank(question: Question, vector: Vector, found: Sequence[Found], table: WordTable) -> list[Scored]:
    """All units of the found passages, best first: the sum of nine terms and the form's bonus."""
    pages = [analyse(one.passage) for one in found]
    alike: Floats = table.vectors([word for page in pages for word in page.words]) @ table.vectors(question.words).T
    alike[alike <= SOFT_MATCH] = 0.0
    alike[:, [is_identifier(word) for word in question.words]] = 0.0  # KX-200-B is not nearly KX-200-C
    scored: list[Scored] = []
    last = 0
    for place, (one, page, earlier) in enumerate(zip(found, pages, _earlier(found), strict=True)):
        first, last = last, last + len(page.words)
        units = one.passage.units
        if not units:
            continue
        cosines, vectors = _cosines(vector, one)
        terms = _terms(question, one.passage, page, cosines, alike[first:last].T)
        terms["pos"] = np.minimum(earlier + np.arange(len(units)), 10) / 10.0
        scores = sum(weight * terms[name] for name, weight in WEIGHTS.items())
        scores += WEIGHT * np.array([bonus(question.form, one.passage, row) for row in range(len(units))])
        if question.form.name not in ("howto", "list"):
            stems = frozenset(question.stems)
            scores += KEY * np.array([any(key <= stems for key in keys) for keys in page.keys])
        confidence = 11.3 * cosines + 5.65 * terms["soft_ctx"] - 8.25
        if question.identifiers and not question.identifiers & page.stems:
            confidence = np.minimum(confidence, OTHER_THING)
        scored += [
            Scored(place, row, float(scores[row]), float(confidence[row]), None if vectors is None else vectors[row])
            for row in range(len(units))
        ]
    return sorted(scored, key=lambda one: -one.score)


def _terms(
    question: Question, passage: Passage, page: Analysed, cosines: Floats, likeness: Floats
) -> dict[str, NDArray[np.floating]]:
    """All terms but "pos", one value for each unit; `likeness` is that of each question word and each of the page's."""
    shape = len(question.stems), len(passage.units)
    held = np.array([[word in stems for stems in page.held] for word in question.stems], np.bool_).reshape(shape)
    named = np.array([[word in stems for stems in page.labels] for word in question.stems], np.bool_).reshape(shape)
    before = np.zeros_like(held)
    before[:, 1:] = held[:, :-1]
    match = np.maximum(held, page.best(likeness))
    own = question.weights @ (held | named)
    previous = question.weights @ (held | named | before)
    pairs = np.array([sum(pair in run for pair in question.pairs) for run in page.runs])
    anywhere = np.array([word in page.stems for word in question.stems], np.bool_)
    return {
        "cos_t": cosines,
        "soft_pred": question.relation @ match,
        "cov_prev": previous,
        "bigram": pairs / max(1, len(question.pairs)),
        "pcov": np.full(shape[1], question.weights @ anywhere),
        "carry": (previous - own) * page.pronouns,
        "kind": np.array([question.expected.value(unit.text) for unit in passage.units]),
        "soft_ctx": question.weights @ np.maximum(match, LABEL_MATCH * named),
    }


def _earlier(found: Sequence[Found]) -> list[int]:
    """How many units stand before each passage's first in the text that it goes on.

    A paragraph, list or table that is too long for one passage is cut: where the part before was found too, its
    next part does not begin anew, else a sentence from its middle would rank like an opening one.
    """
    counts = [0] * len(found)
    ends: dict[tuple[str, int], int] = {}
    for place in sorted(range(len(found)), key=lambda place: found[place].passage.start):
        passage = found[place].passage
        begins_inside = bool(passage.blocks) and passage.blocks[0].start == 0  # else it begins with a heading
        before = ends.get((passage.document, passage.start - 1)) if begins_inside else None
        ends[passage.document, passage.end] = place
        if before is not None:
            counts[place] = counts[before] + len(found[before].passage.units)
    return counts


def _cosines(vector: Vector, found: Found) -> tuple[Floats, Vectors | None]:
    """Likeness of the question and each unit; that of the whole passage where no unit vectors are stored."""
    if found.vectors is None:
        return np.full(len(found.passage.units), found.parts.get("dense", 0.0), np.float32), None
    if len(found.vectors.rows) != len(found.passage.units):
        raise ValueError(f"passage {found.passage.id} has other vectors than its {len(found.passage.units)} units")
    vectors: Vectors = (found.vectors.rows * found.vectors.scales[:, None]).astype(np.float32)
    cosines: Floats = vectors @ vector
    return cosines, vectors


def _idf(statistics: Statistics, word: str) -> float:
    frequency = statistics.frequency.get(word, 0)
    return math.log(1 + (max(0, statistics.records - frequency) + 0.5) / (frequency + 0.5))


def _names(question: str) -> frozenset[str]:
    """The words of a question's identifiers and capitalised spans; its first word is capitalised anyway, and days and
    months are no names."""
    spans = [found[0] for found in _WORD.finditer(question) if found.start() > 0 and found[0][0].isupper()]
    return frozenset(word for span in (*spans, *identifiers_in(question)) for word in sequence(span)) - CALENDAR
