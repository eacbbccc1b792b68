"""Rewrite: a question that leans on the conversation made to stand alone, by rules on pronouns and ellipses.

It has never heard of a model: what it is unsure of, it says (`Rewriting.sure`), and `understand` may ask one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from agents.language import detect
from agents.smalltalk import topic
from agents.subjects import asked_about, spans, subject
from agents.types import Message

TURNS = 5
"""Earlier questions that are resolved one after the other, so that "it" may lead back through several."""
LONGEST = 300
"""A longer message stands alone, in characters."""


@dataclass(frozen=True, slots=True)
class Rewriting:
    """A question that stands alone as far as rules can tell."""

    question: str
    sure: bool = True
    """False when it plainly leans on the conversation and no subject, or more than one, was found for it."""


def rewrite(messages: Sequence[Message]) -> Rewriting:
    """The last user message as a question that stands alone, resolved against the turns before it."""
    turns = _turns(messages)
    if not turns:
        return Rewriting("")
    current = Rewriting(turns[0][0])
    answers: list[str] = []
    for (_, answer), (question, _) in pairwise(turns):
        answers.insert(0, answer)
        current = _resolved(question, current.question, answers)
    return current


_POSSESSIVE = r"\b(?P<possessive>its|his|her|their|theirs|hers)\b(?! own\b)"
_PERSONAL = r"\b(?P<personal>it|he|him|she|they|them)\b"
_THIS = (
    r"\b(?P<this>this|that|these|those|the same|such an?)\s+"
    r"(?!(?:is|was|are|were|does|did|can|means?|the|there|an?|i|you|we|they|he|she|it|have|has|had|happens?|will|would|"
    r"work|works|apply|applies|cost|costs)\b)(?P<noun>[a-z]+)\b"
    r"|\b(?P<bare>this|these|those)\b"
    r"|\b(?:is|was|does|did|do|about|of|for|with|like|from|by|to|after|before|than|why|how|change|use|set|get)\s+"
    r"(?P<that>that)\b(?=\s*[?.,!]|\s*$|\s+(?:mean|work|happen|cost|take|apply|called|made|built|founded|located|"
    r"done|so|important|true|possible|in|on|at)\b)"
)
_THERE = r"(?<!\bis )(?<!\bare )(?<!\bwas )(?<!\bwere )\b(?P<there>there)\s*(?=[?.!]*$)"
_LEANING = re.compile("|".join((_POSSESSIVE, _PERSONAL, _THIS, _THERE)), re.IGNORECASE)
_EXPLETIVE = re.compile(
    r"\b(?:what (?:time|day|date|year) (?:is|was) it|is it (?:possible|true|safe|ok|okay|necessary|allowed|legal|"
    r"normal|worth|better|raining|cold|hot|late)|it is (?:possible|true)|does it (?:matter|rain|take)|"
    r"how (?:is|does) it (?:that|come)|make it\b)",
    re.IGNORECASE,
)
_NOUN_PHRASE = re.compile(r"\b(?:the|an?|my|our|your|each|every|any|all|some)\s+[a-z]\w+", re.IGNORECASE)
_BARE = re.compile(
    r"^(?:(?:and|but|so|ok|okay) )?(?P<word>why|how|when|where|who|since when|how (?:much|many|long|far|old|tall|big)|"
    r"how so|why not|by whom|what for)\s*[?.!]*$",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"^(?:(?:and|but|so|ok|okay|then) )*(?:(?:what|how) about|und|et|y|e)\s+(?P<what>.+?)\s*[?.!]*$|"
    r"^(?:and|but|or)\s+(?P<and>.+?)\s*[?.!]*$",
    re.IGNORECASE,
)
_MORE = re.compile(
    r"^(?:(?:can|could) you )?(?:please )?(?:tell me more|more|more details?|go on|continue|elaborate|"
    r"explain(?: (?:it|that|this))?(?: (?:further|more|better|in more detail))?|in detail|such as|for example|"
    r"like what|give me (?:more )?(?:details|examples?|an example)|what else|anything else|really|are you sure)"
    r"(?: please)?(?: about (?:it|that|this))?\s*[?.!]*$",
    re.IGNORECASE,
)
_ORDINAL = re.compile(
    r"\bthe (?:(?:first|second|third|last|other|next|previous) (?:one|ones|point|option)|former|latter)\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(
    r"^(?:(?:and|but|so) )?(?:(?:in|on|at|for|by|to|from) )?(?:what|which|who|whom|whose|when|where|why|how)"
    r"(?: (?:much|many|long|far|old|tall|big|often|high|deep))?\b\s*(?P<rest>.*)$",
    re.IGNORECASE,
)
_AUXILIARY = re.compile(
    r"(?:is|are|was|were|do|does|did|can|could|has|have|had|will|would|should|may|must)\b", re.IGNORECASE
)
_VERB = re.compile(
    _AUXILIARY.pattern + r"|\b(?:be|been|[a-z]{3,}ed|costs?|means?|works?|makes?|uses?)\b", re.IGNORECASE
)
_PRONOUNS = {
    "de": re.compile(r"\b(?:er|sie|ihn|ihm|ihr|sein|seine|seinen|ihre|ihren|dessen|dort)\b", re.IGNORECASE),
    "fr": re.compile(r"\b(?:il|elle|ils|elles|lui|leur|son|sa|ses)\b", re.IGNORECASE),
    "es": re.compile(r"\b(?:él|ella|ellos|ellas|su|sus|allí)\b", re.IGNORECASE),
    "it": re.compile(r"\b(?:lui|lei|esso|essa|suo|sua|suoi)\b", re.IGNORECASE),
    "pt": re.compile(r"\b(?:ele|ela|eles|elas|seu|sua|dele|dela)\b", re.IGNORECASE),
}


def _turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """(user text, text of the answer that followed) of the last message and TURNS before it that are no small talk."""
    turns: list[tuple[str, str]] = []
    for message in messages:
        if message.role == "user":
            turns.append((" ".join(message.content.split()), ""))
        elif message.role == "assistant" and turns and message.content:
            turns[-1] = (turns[-1][0], message.content[: LONGEST * 4])
    matter = [(asked[: LONGEST * 4], told) for asked, told in turns[:-1] if topic(asked) is None]
    return [*matter[-TURNS:], *turns[-1:]]


def _resolved(question: str, before: str, answers: Sequence[str]) -> Rewriting:
    if len(question) > LONGEST:
        return Rewriting(question)
    language = detect(question)
    if language in _PRONOUNS:
        return _annotated(question, before, _PRONOUNS[language])
    added = _ellipsis(question)
    if added is not None:
        return _completed(question, added, before, answers)
    result, sure = question, not _ORDINAL.search(question)
    for match in reversed(_leaning(question)):
        name, certain = subject(_pronoun(match), before, answers)
        sure = sure and certain
        result = result[: match.start()] + _put(match, name) + result[match.end() :] if name else result
    return Rewriting(_sentence(result), sure)


def _annotated(question: str, before: str, pronouns: re.Pattern[str]) -> Rewriting:
    """Other languages bend their words: the subject is added in brackets, which is enough to search with."""
    leaning = pronouns.search(question) or _ABOUT.match(question)
    name = asked_about(before)
    if leaning is None or not name or len(question.split()) > 9:
        return Rewriting(question)
    return Rewriting(f"{question.rstrip('?. ')} ({name})?", sure=False)


def _leaning(question: str) -> list[re.Match[str]]:
    """The words of a question that stand for something outside it."""
    matches: list[re.Match[str]] = []
    covered = [match.span() for match in _EXPLETIVE.finditer(question)]
    for match in _LEANING.finditer(question):
        if any(start <= match.start() < end for start, end in covered):
            continue
        head = question[: match.start()]
        determiner = match["this"] is not None or match["bare"] is not None
        if spans(head) or (not determiner and _NOUN_PHRASE.search(head)):
            break  # it stands for something in the question itself
        matches.append(match)
    return matches


def _ellipsis(question: str) -> str | None:
    """What a question that is no sentence of its own adds: "Lyon" of "What about Lyon?", "why" of "Why?"."""
    bare = _BARE.match(question)
    if bare:
        return bare["word"]
    if _MORE.match(question):
        return ""
    about = _ABOUT.match(question)
    if about and (about["what"] or not (_QUESTION.match(about["and"]) or _VERB.search(about["and"]))):
        return about["what"] or about["and"]
    return None


def _completed(question: str, added: str, before: str, answers: Sequence[str]) -> Rewriting:
    if not added:
        return Rewriting(before)
    if _BARE.match(question):
        return Rewriting(_asked_anew(added, before))
    leaning = _LEANING.match(added)
    if leaning:  # "and its population?"
        name, certain = subject(_pronoun(leaning), before, answers)
        if not name:
            return Rewriting(f"{before.rstrip('?. ')}: {added}?", sure=False)
        rest = _put(leaning, name) + added[leaning.end() :]
        return Rewriting(f"What {'is' if leaning['possessive'] else 'about'} {rest}?", certain)
    names, new = spans(before), re.sub(r"^(?:in|on|for|with|at|of|by)\s+", "", added)
    if names and spans(added):
        place = before.rindex(names[-1])
        start = place - 4 if new.lower().startswith("the ") and before[:place].lower().endswith("the ") else place
        rest = before[place + len(names[-1]) :]
        following = re.match(r"\s*(\w+)", rest)
        if following and new.lower().endswith(f" {following[1].lower()}"):
            rest = rest[following.end() :]  # "the Pro plan", "and the Team plan?"
        return Rewriting(before[:start] + new + rest)
    return Rewriting(f"{before.rstrip('?. ')} {added}?", sure=not _ORDINAL.search(added))


def _asked_anew(word: str, before: str) -> str:
    """The previous question asked with another question word: "Why?" after "Is it red?" is "Why is it red?"."""
    asked = _QUESTION.match(before)
    rest = asked["rest"] if asked else before[:1].lower() + before[1:] if _AUXILIARY.match(before) else before
    return _sentence(f"{word} {rest.rstrip('?. ')}?")


def _pronoun(match: re.Match[str]) -> str:
    groups = ("possessive", "personal", "this", "bare", "that", "there")
    return next(str(match[group]).lower() for group in groups if match[group])


def _put(match: re.Match[str], name: str) -> str:
    if match["possessive"]:
        return f"{name}'s"
    if match["this"]:
        noun = match["noun"]
        return name if noun.lower() in name.lower() else f"{name} {noun}"
    if match["that"]:
        return match[0][: -len(match["that"])] + name
    return f"in {name}" if match["there"] else name


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:]
