"""Subjects: the names in a text, what a question asks about, and whom an answer brought in."""

from __future__ import annotations

import re
from collections.abc import Sequence

from memory.words import STOP_WORDS, content_words, tokens

_NAME = r"(?:[A-ZÀ-ÖØ-Þ][\w'’&-]*(?:\.[A-Z]\w*)*|\d+[A-Z]\w*)"
_JOINED = r"(?:of|the|de|la|du|von|van|der|for|in)(?: the)?"
_SPAN = re.compile(rf"(?<!\w){_NAME}(?: (?:{_JOINED} )?(?:{_NAME}|\d+))*")
_JOINING = frozenset("of the de la du von van der for in".split())
_NO_NAME = STOP_WORDS | frozenset(
    "tell explain describe list name give show define compare find write summarize summarise translate please hello hi "
    "yes ok okay thanks wer was wie wo wann warum welche welcher welches wem wen qui que quoi quand où pourquoi "
    "comment quel quelle quién qué cuándo dónde cómo cuál chi cosa quando dove come quale but however although since "
    "according note ist sind war waren hat haben el le il les der die das den dem".split()
)
_ARTICLE = re.compile(r"\bthe\s+((?:(?!of\b|in\b|for\b|at\b|on\b|from\b|by\b|to\b)[a-z]+\s+){0,2})$", re.IGNORECASE)
_PHRASE = re.compile(r"\b(?:the|an?|my|our|your)\s+((?:[\w-]+\s*){1,4})", re.IGNORECASE)
_VERB = re.compile(
    r"(?:is|are|was|were|do|does|did|can|could|has|have|had|will|would|should|may|must|be|been|[a-z]{3,}ed|costs?|"
    r"means?|works?|lives?|makes?|uses?|comes?|goes|happens?)",
    re.IGNORECASE,
)
_ASKING = re.compile(
    r"^(?:(?:and|but|so) )?(?:what|which|who|when|where|why|how)(?: (?:is|are|was|were|do|does|did|can|could|has|have|"
    r"to|i|you|we|much|many))*\s+",
    re.IGNORECASE,
)
_WANTS_NAME = re.compile(
    r"(?:what|which) (?:(?:is|was|are|were) )?(?:the )?(?:\w+ )*?"
    r"(?:capital|name|city|country|company|book|river|language|mountain|first|best|\w{3,}est)\b",
    re.IGNORECASE,
)
_WHICH_THING = re.compile(r"(?:which|what) ((?:[a-z]+ )?[a-z]+) (?:does|do|did)\b", re.IGNORECASE)
_WHO_IS_NAME = re.compile(r"[Ww]ho (?:is|was|are|were) [A-ZÀ-Þ]")
_WHO = re.compile(r"(?:who|whose|by whom|which \w+(?:er|or|ist|ian))\b", re.IGNORECASE)
_MARKS = re.compile(r"\n\s*\[\d+\][\s\S]*$|\[\d+(?:[,\s–-]+\d+)*\]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_ONE_PERSON = frozenset("he him his she her hers".split())
_PEOPLE = frozenset("they them their theirs".split())


def spans(text: str) -> list[str]:
    """The names in a text: runs of capitalised words (with "of", "the" ... inside), question words and the like
    taken off their front, in order, each once."""
    found: list[str] = []
    for match in _SPAN.finditer(text):
        words = match[0].split()
        while words and words[0].lower() in (_NO_NAME if len(words) == len(match[0].split()) else _NO_NAME | _JOINING):
            words = words[1:]
        span = re.sub(r"['’]s$|['’-]+$", "", " ".join(words))
        if span and span not in found:
            found.append(span)
    return found


def subject(word: str, before: str, answers: Sequence[str]) -> tuple[str, bool]:
    """What a pronoun stands for after a question and the answers so far, newest first ("" when nothing is found),
    and whether that is certain: "she" after "Who wrote it?" is whom the answer names, "it" is what it asked about."""
    asked, told = asked_about(before), _told(before, answers[0] if answers else "")
    if word in _ONE_PERSON:
        return _person(
            before, asked, told or next((names for text in answers[1:] if (names := _told(before, text))), list[str]())
        )
    if word in _PEOPLE and told and _WHO.match(before) and not _WHO_IS_NAME.match(before):
        return told[0], not asked
    if told and _WANTS_NAME.match(before):
        return _with_article(told[0], answers[0]), True
    if asked:
        return asked, True
    return (told[0], False) if told else ("", False)


def _person(before: str, asked: str, told: Sequence[str]) -> tuple[str, bool]:
    if told and _WHO.match(before) and not _WHO_IS_NAME.match(before):
        return told[0], True
    if asked and not asked.startswith("the "):
        return asked, True
    return (told[0], len(told) == 1) if told else (asked, False)


def asked_about(question: str) -> str:
    """The subject of a question: its last name with its article, or else its first noun phrase."""
    names = spans(question)
    thing = _WHICH_THING.match(question)
    if thing:
        return f"the {thing[1]} of {_with_article(names[-1], question)}" if names else f"the {thing[1]}"
    if names:
        return _with_article(names[-1], question)
    phrase = _PHRASE.search(question)
    if phrase:
        words = phrase[1].split()
        ends = (place for place, word in enumerate(words) if place and (_VERB.fullmatch(word) or word in STOP_WORDS))
        return f"the {' '.join(words[: next(ends, 3)])}"
    words = [word for word in tokens(_ASKING.sub("", question)) if word not in STOP_WORDS]
    return " ".join(words) if len(words) <= 3 else words[-1]


def _told(before: str, answer: str) -> list[str]:
    """Names that the first two sentences of an answer brought in, in order."""
    text = " ".join(_SENTENCE.split(_MARKS.sub("", answer).strip())[:2])
    asked = set(content_words(before))
    return [name for name in spans(text) if len(name) > 1 and not set(tokens(name)) & asked]


def _with_article(name: str, text: str) -> str:
    article = _ARTICLE.search(text[: text.rindex(name)])
    return f"{article[0].lower()}{name}" if article else name
