"""Quote: the extractive responder. It answers with the evidence itself, or says that it does not know.

No model is needed; the method and its constants are EXTRACTIVE sections 2 to 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from agents.excerpt import escaped
from agents.render import Quotation, headings_at, joined, overlap, quotation
from agents.scoring import Question, Scored, question_words, rank, read_question
from agents.types import Citation, CitationSpan, Outcome
from knowledge.types import Found
from memory.embedding import WordTable
from memory.store import MemoryStore
from memory.types import Scope, Vector

ANSWERED, UNCERTAIN = 0.0, -1.0
"""z of the first unit from which it is an answer, and from which it is at least worth showing."""
_SECOND, _ALIKE = 1.5, 0.9
"""A second quote is given when it scores at most so much less, and its cosine to the first is below."""
_NOTHING = -8.25
"""z of a text that has nothing in common with the question."""
_TITLES = 3


@dataclass(frozen=True, slots=True)
class Quoted:
    """An answer made of quotes."""

    text: str
    """Markdown with marks "[n]"."""
    outcome: Outcome
    """answered, uncertain or not_found."""
    citations: tuple[Citation, ...]
    spans: tuple[CitationSpan, ...]
    confidence: float
    """z of the first unit: the log odds that the collection answers the question at all."""


async def quote(
    question: str,
    vector: Vector,
    found: Sequence[Found],
    *,
    memory: MemoryStore,
    scope: Scope,
    words: WordTable,
    language: str = "en",
) -> Quoted:
    """Answers a question from the passages that were found for it (the best five), in a thread.

    `vector` is the question's; `scope` holds the passages, for the words' rarity.

    Raises:
        MemoryUnavailable: the memory cannot say how rare the words are.
    """
    read, ranked = await ranking(question, vector, found, memory=memory, scope=scope, words=words, language=language)
    return _answer(read, ranked, found, language)


async def ranking(
    question: str,
    vector: Vector,
    found: Sequence[Found],
    *,
    memory: MemoryStore,
    scope: Scope,
    words: WordTable,
    language: str = "en",
) -> tuple[Question, list[Scored]]:
    """The question as it was read and all units of the found passages, best first.

    Raises:
        MemoryUnavailable: the memory cannot say how rare the words are.
    """
    statistics = await memory.statistics(scope, question_words(question, language))
    read = read_question(question, statistics, language)
    return read, await asyncio.to_thread(rank, read, vector, found, words)


def _answer(question: Question, ranked: Sequence[Scored], found: Sequence[Found], language: str) -> Quoted:
    confidence = ranked[0].confidence if ranked else _NOTHING
    phrases = _PHRASES.get(language, _PHRASES["en"])
    if confidence < UNCERTAIN:
        titles = list(dict.fromkeys(_title(one) for one in found))[:_TITLES]
        text = f"{phrases.unknown} {phrases.titles.format('; '.join(titles))}" if titles else phrases.unknown
        return Quoted(text, "not_found", (), (), confidence)
    best = ranked[0]
    first = quotation(question.form, found[best.found].passage, best.unit)
    if confidence < ANSWERED:
        paragraphs = [_Paragraph(phrases.uncertain), _paragraph(found[best.found], first)]
        return _written(paragraphs, "uncertain", confidence)
    second = _second(ranked, found, first)
    if second is None:
        return _written([_paragraph(found[best.found], first)], "answered", confidence)
    other = quotation(question.form, found[second.found].passage, second.unit)
    return _written(_both(found, best, first, second, other), "answered", confidence)


def _title(one: Found) -> str:
    return escaped(" > ".join((one.passage.title, *one.passage.headings[-1:])))


@dataclass(frozen=True, slots=True)
class _Paragraph:
    """A paragraph of the answer with what it cites, the most important first."""

    text: str
    quotes: tuple[tuple[Found, Quotation], ...] = ()
    block: str = ""


def _paragraph(found: Found, quoted: Quotation) -> _Paragraph:
    return _Paragraph(f"{quoted.lead} {quoted.text}".lstrip(), ((found, quoted),), quoted.block)


def _second(ranked: Sequence[Scored], found: Sequence[Found], first: Quotation) -> Scored | None:
    """The next unit that scores nearly as well and says something else."""
    best = ranked[0]
    for other in ranked[1:]:
        if best.score - other.score > _SECOND:
            break
        start = found[other.found].passage.units[other.unit].start
        inside = other.found == best.found and first.first <= start < first.end
        if not inside and _cosine(best, other) < _ALIKE:
            return other
    return None


def _cosine(one: Scored, two: Scored) -> float:
    return 0.0 if one.vector is None or two.vector is None else float(one.vector @ two.vector)


def _both(found: Sequence[Found], best: Scored, first: Quotation, second: Scored, other: Quotation) -> list[_Paragraph]:
    """Best first; two sentences of one passage in the document's order, " ... " between them."""
    here, there = found[best.found], found[second.found]
    if best.found != second.found:
        return [_paragraph(here, first), _paragraph(there, other)]
    one = joined(here.passage, first, other)
    if one is not None:
        return [_paragraph(here, one)]
    if overlap(first, other):
        return [_paragraph(here, first)]
    if first.block or other.block:
        return [_paragraph(here, first), _paragraph(here, other)]
    early, late = sorted((first, other), key=lambda quoted: quoted.first)
    rest = late.text if late.lead == early.lead else f"{late.lead} {late.text}".lstrip()
    text = f"{early.lead} {early.text} ... {rest}".lstrip()
    return [_Paragraph(text, ((here, first), (here, other)))]


def _written(paragraphs: Sequence[_Paragraph], outcome: Outcome, confidence: float) -> Quoted:
    """The paragraphs as one text, each quote with its mark."""
    text = ""
    citations: list[Citation] = []
    spans: list[CitationSpan] = []
    for paragraph in paragraphs:
        text += f"\n\n{paragraph.text}" if text else paragraph.text
        for place, (found, quoted) in enumerate(paragraph.quotes):
            index = len(citations) + 1
            text += "" if place else " "
            spans.append(CitationSpan(index, len(text), len(text) + len(f"[{index}]")))
            text += f"[{index}]"
            citations.append(_citation(index, found, quoted))
        if paragraph.block:
            text += f"\n\n{paragraph.block}"
    return Quoted(text, outcome, tuple(citations), tuple(spans), confidence)


def _citation(index: int, found: Found, quoted: Quotation) -> Citation:
    passage = found.passage
    return Citation(
        index=index,
        document=passage.document,
        passage=passage.id,
        title=passage.title,
        path=found.document.path,
        quote=passage.text[quoted.start : quoted.end],
        page=passage.page,
        heading=" > ".join(headings_at(passage, quoted.first)),
        start=passage.start + quoted.start,
        end=passage.start + quoted.end,
        url=found.document.url,
    )


@dataclass(frozen=True, slots=True)
class _Phrases:
    """The few words that are not quoted."""

    uncertain: str
    unknown: str
    titles: str


_PHRASES = {
    "en": _Phrases(
        "I found nothing certain about this. The nearest in the documents is:",
        "I don't know: I found nothing about this in the documents.",
        "The nearest titles are: {}.",
    ),
    "de": _Phrases(
        "Dazu habe ich nichts Sicheres gefunden. Am nächsten kommt in den Dokumenten:",
        "Das weiß ich nicht: In den Dokumenten habe ich dazu nichts gefunden.",
        "Die nächsten Titel sind: {}.",
    ),
    "fr": _Phrases(
        "Je n'ai rien trouvé de certain à ce sujet. Le passage le plus proche dans les documents :",
        "Je ne sais pas : je n'ai rien trouvé à ce sujet dans les documents.",
        "Les titres les plus proches sont : {}.",
    ),
    "es": _Phrases(
        "No encontré nada seguro sobre esto. Lo más cercano en los documentos es:",
        "No lo sé: no encontré nada sobre esto en los documentos.",
        "Los títulos más cercanos son: {}.",
    ),
    "it": _Phrases(
        "Non ho trovato nulla di certo su questo. Il passaggio più vicino nei documenti è:",
        "Non lo so: nei documenti non ho trovato nulla su questo.",
        "I titoli più vicini sono: {}.",
    ),
    "pt": _Phrases(
        "Não encontrei nada de certo sobre isto. O mais próximo nos documentos é:",
        "Não sei: não encontrei nada sobre isto nos documentos.",
        "Os títulos mais próximos são: {}.",
    ),
}
