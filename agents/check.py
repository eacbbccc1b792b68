"""Check: which sentences of an answer nothing in the evidence supports. It names them and never edits."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agents.citing import sentences, stems
from agents.context import RunContext
from agents.types import Draft, Evidence, Note
from memory.store import MemoryUnavailable
from memory.words import content_words

COVERED = 0.6
"""Share of a sentence's words that one piece of evidence must hold (by stem) to support it."""
ALIKE = 0.65
"""Cosine to a sentence of the evidence from which it is supported in other words."""
NAMED = 5
"""Most sentences that are named, and most that are embedded."""
_COMPARED = 4
_WORDS = 3
_MARKS = re.compile(r"\s*\[\d+\]")
_CODE = re.compile(r"```.*?(?:```|$)", re.DOTALL)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_OWN = re.compile(
    r"^(?:i |i'm |let me|here (?:is|are)|sorry|unfortunately|if you|you can|would you|note that|please|"
    r"the (?:documents?|passages?|text|sources?) (?:do|does|did|say|says|give|gives|contains?|provided)\b)|\?$|:$",
    re.IGNORECASE,
)


async def check(draft: Draft, evidence: Sequence[Evidence], ctx: RunContext) -> tuple[Note, ...]:
    """Notes on the sentences of a model's answer that no evidence supports: by words, in doubt by meaning.

    Quoted answers, small talk and answers that had no evidence are not judged."""
    if draft.model in ("extractive", "rules") or not evidence:
        return ()
    doubtful = _doubtful(draft.text, evidence)
    if not doubtful:
        return ()
    try:
        apart = await _apart([text for text, sure in doubtful if not sure], evidence, ctx)
    except MemoryUnavailable:
        return ()
    return tuple(_note(text) for text, sure in doubtful if sure or text in apart)[:NAMED]


def unsupported(text: str, evidence: Sequence[Evidence]) -> list[Note]:
    """The sentences of an answer that no piece of evidence supports, by words alone."""
    return [_note(sentence) for sentence, _ in _doubtful(text, evidence)]


def _note(sentence: str) -> Note:
    return Note("unsupported", f"Nothing in the documents supports: “{sentence}”")


def _doubtful(text: str, evidence: Sequence[Evidence]) -> list[tuple[str, bool]]:
    """Sentences that too few words support; True when a number in them stands nowhere, which settles it."""
    held = [(stems(f"{item.title} {' '.join(item.headings)} {item.text}"), item.text) for item in evidence]
    numbers = {number.replace(",", "") for _, source in held for number in _NUMBER.findall(source)}
    found: list[tuple[str, bool]] = []
    plain = _CODE.sub("\n", text)
    for start, end in sentences(plain):
        sentence = _MARKS.sub("", plain[start:end]).strip()
        words = stems(sentence)
        if len(words) < _WORDS or _OWN.search(sentence):
            continue
        strange = [number for number in _NUMBER.findall(sentence) if number.replace(",", "") not in numbers]
        coverage = max((len(words & source) / len(words) for source, _ in held), default=0.0)
        if strange or coverage < COVERED:
            found.append((sentence, bool(strange)))
    return found


async def _apart(doubtful: Sequence[str], evidence: Sequence[Evidence], ctx: RunContext) -> set[str]:
    """Those sentences that are unlike every sentence of the evidence that shares a word with them."""
    apart: set[str] = set()
    for sentence in doubtful[:NAMED]:
        near = _nearest(sentence, evidence)
        vectors = await ctx.deps.embedder.embed([sentence, *near])
        if not near or float((vectors[1:] @ vectors[0]).max()) < ALIKE:
            apart.add(sentence)
    return apart


def _nearest(sentence: str, evidence: Sequence[Evidence]) -> list[str]:
    words = stems(sentence)
    pieces = [item.text[start:end] for item in evidence for start, end in sentences(item.text)]
    ranked = sorted(pieces, key=lambda piece: len(words & stems(piece)), reverse=True)
    return [piece for piece in ranked[:_COMPARED] if content_words(piece)]
