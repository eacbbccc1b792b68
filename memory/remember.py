"""The policy of remembering: which sentences of a user's message are worth keeping, and what is to be forgotten.

Rules, no model: what the user asks to remember, and lasting things said in the first person (name, role, home,
likes, ways of working). Passing states, wishes, questions, suppositions and secrets are not kept.
"""

from __future__ import annotations

import re

EVERYTHING = "everything"
"""What `forgets` gives when the user wants all memories gone."""

_LONGEST_SENTENCE, _LONGEST_MESSAGE = 300, 4000
_END = re.compile(r"(?<=[.!?])\s+|[\r\n]+")
_POLITE = (
    r"(?:(?:please|also|and|so|ok|okay|hey|hi|hello|oh|well|could you|can you|i want you to|i'd like you to)[,!]?\s+)*"
)
_ASKED = re.compile(
    rf"^{_POLITE}(?:remember|keep in mind|make a note|note|don't forget|do not forget|never forget)"
    r"(?:\s+(?:that|this|the fact that|of this))?\s*[:,]?\s+(?P<what>.+)$",
    re.IGNORECASE,
)
_FORGET = re.compile(
    rf"^{_POLITE}(?:forget|don't remember|do not remember|stop remembering"
    r"|(?:delete|erase|remove) (?:what|everything) you (?:know|remember|have stored))(?:\s+(?P<what>.+))?$",
    re.IGNORECASE,
)
_FILLER = re.compile(r"^(?:that|about|the fact that|what i (?:said|told you) about)\s+", re.IGNORECASE)
_ALL = re.compile(
    r"^(?:me|everything|all|all of it|it all)"
    r"(?: (?:about me|you (?:know|remember)(?: about me)?|i (?:said|told you)))?$",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"^(?:it|this|that|the (?:last|previous) (?:question|message|one)|(?:my|the) (?:last|previous)? ?question)$",
    re.IGNORECASE,
)

_START = r"(?:^|[,;:.!]\s*|\b(?:and|but|because|since|as|that|so)\s+)"
_OFTEN = (
    r"(?:(?:also|really|usually|always|never|mostly|only|often|generally|still|currently"
    r"|do|do not|don't|can|can't)\s+)*"
)
_FACTS = re.compile(
    _START
    + r"(?:"
    + r"|".join(
        (
            r"my (?:\w+ )?name is \w",
            r"(?:please )?call me \w",
            r"my (?:[\w-]+ ){1,4}(?:is|are|was|has|have|uses|runs|lives?|works?) \w",
            r"our (?:[\w-]+ ){1,4}(?:is|are|uses?|runs?|has|have) \w",
            r"we (?:always |never |mostly |only )?(?:use|run|deploy|prefer|work (?:at|in|with|on)) \w",
            r"i(?: am|'m|’m) (?:also )?(?:an?|the|your) (?!bit\b|little\b|few\b|lot\b)\w",
            r"i(?: am|'m|’m) (?:\w+ly )?(?:from|based|allergic|married|vegetarian|vegan|responsible|called|in charge"
            r"|born|left-handed|colou?r-?blind|deaf|blind|pregnant|retired|fluent|\d+ years old)\b",
            rf"i {_OFTEN}(?:work|live|study|teach|speak|own|prefer|like|love|hate|dislike|enjoy|use|eat|drink|drive"
            r"|play|code|program|write) (?!to know\b|to ask\b|to see\b|it\b|this\b|that\b)\w",
            r"i(?: was|'ve been|’ve been| have been| grew up| moved| come from)\b.* (?:born|since|in|to|from|at) \w",
            rf"i {_OFTEN}have (?:an?|two|three|four|five|six|many|no) (?!\w*\s?(?:questions?|problems?|issues?|errors?"
            r"|doubts?|ideas?|look|bugs?|quick|few|file|table|list)\b)\w",
        )
    )
    + r")",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"^(?:if|suppose|imagine|assume|assuming|pretend|say|let's say|what if|when|unless|act as)\b", re.IGNORECASE
)
_SECRET = re.compile(
    r"\b(?:pass(?:word|code|phrase)|pin|secret|api[ _-]?key|token|credit card|card number|cvv|iban|ssn"
    r"|social security)\b|\b\d(?:[ -]?\d){11,}\b",
    re.IGNORECASE,
)


def worth_keeping(text: str) -> list[str]:
    """The sentences of a user's message to remember, in order; those asked for without the asking."""
    kept: list[str] = []
    pasted = len(text) > _LONGEST_MESSAGE  # somebody else's first person, most likely
    for sentence in _sentences(text):
        if len(sentence) > _LONGEST_SENTENCE or _SECRET.search(sentence):
            continue
        asked = _ASKED.match(sentence)
        if asked is not None and not sentence.endswith("?"):
            kept.append(asked["what"])
        elif not (pasted or sentence.endswith("?") or _SUPPOSED.match(sentence)) and _FACTS.search(sentence):
            kept.append(sentence)
    return kept


def forgets(text: str) -> list[str]:
    """What a user's message asks to forget, each as the user named it; EVERYTHING for all of it."""
    found: list[str] = []
    for sentence in _sentences(text):
        asked = _FORGET.match(sentence.rstrip(".!? "))
        if asked is None:
            continue
        what = _FILLER.sub("", asked["what"] or "")
        if _ALL.match(what):
            found.append(EVERYTHING)
        elif what and not _NOTHING.match(what):
            found.append(what)
    return found


def _sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in _END.split(text) if sentence.strip()]
