"""Expected kinds of answer: what a question asks for (a date, a person ...) and how well a sentence offers it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from agents.identifiers import without
from agents.keys import DAYS
from memory.words import STOP_WORDS, content_words, stem, tokens

Kind = Literal["none", "date", "number", "person", "place", "reason", "manner", "definition", "name"]

_DATE_NOUNS = frozenset("year date century day decade month period era time hour season weekday".split())
_NUMBER_NOUNS = frozenset(
    "number population height length width depth weight amount age percentage percent proportion rate speed size "
    "distance temperature cost price total fraction share area elevation altitude quantity count duration "
    "port limit size timeout".split()
)
_PERSON_NOUNS = frozenset(
    "king queen author director president emperor person man woman leader writer singer actor actress artist "
    "scientist philosopher general pope bishop duke prince princess composer inventor founder minister governor mayor "
    "player coach poet painter physicist chemist mathematician engineer architect explorer historian economist "
    "politician senator judge lawyer producer musician band group character god goddess saint dynasty people team "
    "company organization critic professor commander captain ruler successor brother son father mother wife husband "
    "daughter scholar theorist publisher owner designer journalist dramatist playwright novelist guitarist drummer "
    "songwriter rapper monarch sultan khan general chancellor doctor astronomer astronaut biologist".split()
)
_ROLE_NOUNS = _PERSON_NOUNS - frozenset("person man woman people group team character".split())
_PLACE_NOUNS = frozenset(
    "country city river state region town place area continent island location county province village capital "
    "ocean sea mountain lake nation district neighborhood neighbourhood street building territory peninsula site "
    "valley desert park station port university school college airport".split()
)
_REASON_NOUNS = frozenset("reason cause purpose reasons causes purposes motive motivation".split())
_NAME_WORDS = frozenset("called named title titled name names term nickname nicknamed known".split())
_COUNTERS = frozenset("many much far tall long old high large big deep fast often wide heavy".split())

CALENDAR = frozenset(
    (*DAYS, *"january february march april may june july august september october november december".split())
)
"""Days and months: written like names, and none."""
_QUESTION_WORDS = frozenset("who whose whom when where why how what which".split())

_YEAR = re.compile(
    r"\b(?:1\d{3}|20\d{2})(?:s\b|\b)|\b[1-9]\d{2}(?= (?:AD|CE|BC))|(?:(?<=\bin )|(?<=\bby )|(?<=since )|(?<=until ))"
    r"[1-9]\d{2}\b(?!,)"
)
_DATE_CUE = re.compile(
    r"\b(?:January|February|March|April|May|June|July|August|September|October|November|December|"
    r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|[\w-]+[ -][Cc]entur(?:y|ies)|\d+ ?(?:BCE?|AD|CE))\b"
)
_TIME = re.compile(
    r"\b\d{1,2}[:h]\d{2}\b|\b\d{1,2} ?(?:[ap]\.m\.|[ap]m\b|o['’]clock\b)|\b(?:noon|midnight)\b", re.IGNORECASE
)
_DIGITS = re.compile(r"(?<![\w.])[$£€]?\d[\d,]*(?:\.\d+)?(?!\w*[a-zA-Z]\w)")
_NUMBER_WORDS = frozenset(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion "
    "dozen half third quarter once twice thrice both several zero single double triple".split()
)
_UNIT = re.compile(
    r"\d\s?(?:%|percent|per cent|km|kilomet|met(?:er|re)|mile|feet|foot|ft|inch|cm|mm|m\b|kg|kilogram|gram|pound|lb|"
    r"ton|°|degree|acre|hectare|square|cubic|lit(?:er|re)|gallon|watt|volt|hz|mph|km/h|bytes?|[KMGT]i?B|bit|ms|seconds?|"
    r"minutes?|hours?|days?|weeks?|months?|years?|million|billion|trillion|people|inhabitants|dollars?|euros?)",
    re.IGNORECASE,
)
_PATTERNS: dict[str, re.Pattern[str]] = {
    "money": re.compile(
        r"[$£€¥]\s?\d|\d[\d.,]*\s(?:(?:million|billion|trillion)\s)?(?:dollars|euros|pounds|cents|USD|EUR|GBP)",
        re.IGNORECASE,
    ),
    "percent": re.compile(r"\d\s?(?:%|percent|per cent)", re.IGNORECASE),
    "duration": re.compile(
        r"\b(?:\d[\d.,]*|" + "|".join(sorted(_NUMBER_WORDS)) + r")[ -](?:seconds?|minutes?|hours?|days?|weeks?|months?|"
        r"years?|decades?|centuries|millennia)",
        re.IGNORECASE,
    ),
}
_CAPITALS = re.compile(r"[A-Z][\w’'.&-]*(?:\s+(?:(?:of|the|de|la|von|van|bin|al|and)\s+)?[A-Z][\w’'.&-]*)*")
_PLACE_CAPITALS = re.compile(
    r"\b(?:in|at|near|from|to|into|of|around|across|outside|throughout|via|through|on|within|between)\s+(?:the\s+)?"
    r"(?:\w+ern\s+|\w+\s+)?([A-Z][\w’'-]+(?:\s+[A-Z][\w’'-]+)*)"
)
_REASON_CUE = re.compile(
    r"\b(?:because|due to|led to|lead to|leads to|leading to|caus(?:e[sd]?|ing)|in order to|since|owing to|resulted|"
    r"result of|results in|so that|reason|thanks to|in response to|as a result)\b",
    re.IGNORECASE,
)
_REASON_WEAK = re.compile(
    r"\b(?:therefore|thus|hence|so|as|for|thereby|allow(?:s|ed|ing)?|enabl\w+|mak(?:es?|ing)|purpose|to [a-z]{3,})\b",
    re.IGNORECASE,
)
_MANNER_CUE = re.compile(r"\b(?:by (?:\w+ly )?\w+ing|through|using|by means of|via|with the help of)\b", re.IGNORECASE)
_QUOTED = re.compile(r"[\"“”«»]|(?<!\w)[‘'][A-Z]")
_DEFINES = re.compile(
    r"^(?:,[^,]{1,60},)?\s*(?:\([^)]*\)\s*)?(?:is|are|was|were|means?|refers? to|denotes?|describes?|stands? for)\b"
)
_WHAT_IS = re.compile(r"^(?:what|who)(?:\s+(?:is|are|was|were)|['’]s)\s+(?:an?\s+|the\s+)?(.+?)\s*\??$", re.IGNORECASE)
_FOR_WHAT = re.compile(r"\bfor\s*\?*$")


@dataclass(frozen=True, slots=True)
class Expected:
    """What kind of answer a question expects (EXTRACTIVE section 2)."""

    kind: Kind
    stems: frozenset[str]
    """Of the question: what stands there already is no answer."""
    detail: str = ""
    """For numbers "money", "percent", "duration" or ""; for dates "time" where a time of day is an answer too; for
    definitions the words to be defined."""
    counted: frozenset[str] = frozenset()
    """Stems of the noun that is counted ("how many islands")."""

    def value(self, text: str) -> float:
        """How well a sentence offers what is expected, 0 to 1; .5 when nothing is."""
        match self.kind:
            case "none":
                return 0.5
            case "date":
                return self._date(text)
            case "number":
                return self._number(text)
            case "person":
                return self._person(text)
            case "place":
                return self._place(text)
            case "reason":
                return 1.0 if _REASON_CUE.search(text) else 0.4 if _REASON_WEAK.search(text) else 0.0
            case "manner":
                return 1.0 if _MANNER_CUE.search(text) else 0.3
            case "definition":
                return self._definition(text)
            case "name":
                return 1.0 if _QUOTED.search(text) or self._new_span(text) else 0.0

    def _new(self, text: str) -> bool:
        return any(stem(word) not in self.stems for word in tokens(text) if word not in STOP_WORDS)

    def _new_span(self, text: str) -> int:
        """Most new words in a run of capitalised words; the sentence's first word alone does not count."""
        best = 0
        for found in _CAPITALS.finditer(text):
            words = content_words(found[0])
            if found.start() == 0 and len(words) < 2:
                continue
            best = max(best, sum(stem(word) not in self.stems for word in words))
        return best

    def _date(self, text: str) -> float:
        if any(self._new(found[0]) for found in _YEAR.finditer(text)):
            return 1.0
        if self.detail and any(self._new(found[0]) for found in _TIME.finditer(text)):
            return 1.0
        cues = (found[0] for found in _DATE_CUE.finditer(text))
        if not self.stems.isdisjoint(DAYS):  # on which other day is not asked
            cues = (cue for cue in cues if cue.lower() not in DAYS)
        return 0.7 if any(self._new(cue) or cue == "May" for cue in cues) else 0.0

    def _number(self, text: str) -> float:
        text = without(text)
        if self.detail:
            if any(self._new(found[0]) for found in _PATTERNS[self.detail].finditer(text)):
                return 1.0
            if _PATTERNS[self.detail].search(text):
                return 0.6
        best = 0.0
        for found in _DIGITS.finditer(text):
            if _YEAR.fullmatch(found[0]) or not self._new(found[0]):
                continue
            best = max(best, 1.0 if self._counts(text[found.end() :]) else 0.8)
        if best < 1.0:
            for found in re.finditer(r"\w+", text):
                if found[0].lower() in _NUMBER_WORDS and self._new(found[0]):
                    best = max(best, 1.0 if self._counts(text[found.end() :]) else 0.6)
        if best and _UNIT.search(text):
            best += 0.2
        return min(best, 1.0) if not self.detail else min(best, 0.6)

    def _counts(self, after: str) -> bool:
        """Whether the counted noun is within the next three words."""
        return any(stem(word) in self.counted for word in tokens(after[:60])[:3])

    def _person(self, text: str) -> float:
        new = self._new_span(text)
        if new:
            return 1.0 if new > 1 else 0.8
        return 0.5 if any(word in _ROLE_NOUNS for word in tokens(text)) else 0.0

    def _place(self, text: str) -> float:
        after = [found[1] for found in _PLACE_CAPITALS.finditer(text)]
        if any(self._new(span) for span in after):
            return 1.0
        if self._new_span(text):
            return 0.6
        return 0.3 if after else 0.0

    def _definition(self, text: str) -> float:
        words = re.escape(self.detail).replace(r"\ ", r"\s+")
        found = re.search(rf"\b{words}(?:e?s)?[\"”'`)]*", text, re.IGNORECASE)
        return 1.0 if found and _DEFINES.match(text[found.end() :]) else 0.0


def expected_answer(question: str) -> Expected:
    """The kind of answer that a question asks for, by its question words."""
    lower = question.lower().strip()
    words = tokens(lower)
    stems = frozenset(stem(word) for word in words if word not in STOP_WORDS)
    asked = _asked(words)

    def kind(name: Kind, detail: str = "", counted: frozenset[str] = frozenset()) -> Expected:
        return Expected(name, stems, detail, counted)

    at = next((place for place, word in enumerate(words) if word in _QUESTION_WORDS), len(words))
    word, after = (words[at], words[at + 1 :]) if at < len(words) else ("", [])
    if word == "how" and after and after[0] in _COUNTERS:
        return kind("number", _measure(words, after[0]), _counted(after[1:]))
    if asked & _NUMBER_NOUNS:
        return kind("number", _measure(words, ""))
    if word == "when" or asked & _DATE_NOUNS:
        return kind("date", "time" if word == "when" or asked & {"time", "hour"} else "")
    if word in ("who", "whose", "whom") or asked & _PERSON_NOUNS:
        return kind("person")
    if word == "where" or asked & _PLACE_NOUNS:
        return kind("place")
    if word == "why" or asked & _REASON_NOUNS or _FOR_WHAT.search(lower):
        return kind("reason")
    if word == "how":
        return kind("manner")
    if _NAME_WORDS & set(words):
        return kind("name")
    what = _WHAT_IS.match(lower)
    if what and len(words) <= 6:
        return kind("definition", what[1])
    return kind("none")


def _asked(words: list[str]) -> set[str]:
    """The nouns right after "what" or "which": what is asked for."""
    for place, word in enumerate(words):
        if word in ("what", "which"):
            after = words[place + 1 : place + 5]
            if after and after[0] in ("is", "was", "are", "were"):
                after = [word for word in after[1:] if word != "the"][:1]
            cut = next((i for i, word in enumerate(after) if word in STOP_WORDS and word != "other"), len(after))
            return {word.removesuffix("s") for word in after[:cut]} | set(after[:cut])
    return set()


def _measure(words: list[str], counter: str) -> str:
    if {"percent", "percentage", "proportion"} & set(words):
        return "percent"
    if {
        "money",
        "cost",
        "costs",
        "price",
        "dollars",
        "pay",
        "paid",
        "budget",
        "salary",
        "worth",
        "spend",
        "spent",
    } & set(words):
        return "money"
    if counter == "long" and not {"river", "wall", "road", "bridge", "tall"} & set(words):
        return "duration"
    return ""


def _counted(after: list[str]) -> frozenset[str]:
    """The words of "how many ..." up to the verb."""
    cut = next((i for i, word in enumerate(after) if word in STOP_WORDS), len(after))
    return frozenset(stem(word) for word in after[:cut][:3])
