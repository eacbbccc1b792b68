"""What users say and ask about themselves: recognised by its form, answered by what they once said."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agents.types import Evidence
from memory.remember import forgets, worth_keeping

_SURE = 0.5
"""Cosine from which what the user said answers a question about themselves, whatever the documents say; below it
only where they say nothing for certain."""
_ALIKE = 0.1
"""What is this much further off is another answer, perhaps a newer one."""
_LONGEST = 160
_LEAD = re.compile(
    r"(?:(?:do|can|could|would) you (?:please |still |also )*(?:know|remember|recall|tell me|say|remind me of)"
    r"|(?:please )?(?:tell me|remind me of))\s+",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"(?:(?:at|by|for|from|in|of|on|since|to|with) )?"
    r"(?:whom?|what|what's|where|when|which|whose|how (?:many|much|old|tall|long|often))\b",
    re.IGNORECASE,
)
_ME = re.compile(r"\b(?:i|me|my|mine|myself|we|our)\b", re.IGNORECASE)
_YOU = re.compile(r"\byou(?:r|rs|rself)?\b", re.IGNORECASE)


def about_oneself(text: str) -> bool:
    """Whether a message asks for something about its writer; how to do something is none of it."""
    text = text.strip()
    asked = _LEAD.sub("", text, count=1)
    return (
        len(text) <= _LONGEST
        and (asked != text or _ASKS.match(asked) is not None)
        and _ME.search(asked) is not None
        and _YOU.search(asked) is None
    )


def told(question: str, memories: Sequence[Evidence]) -> tuple[str, bool]:
    """What the user said that answers a question about themselves, and whether it surely does; "" when nothing does."""
    if not memories or not about_oneself(question):
        return "", False
    best = max(memory.score for memory in memories)
    said = [memory.text for memory in sorted(memories, key=lambda each: -each.score) if memory.score > best - _ALIKE]
    return "You told me: " + " ".join(f"“{text}”" for text in said), best >= _SURE


def heard(text: str) -> str:
    """The answer to a message that only tells something to remember or to forget; "" for any other."""
    if "?" in text:
        return ""
    if forgets(text):
        return "I will forget that."
    return "I will remember that." if worth_keeping(text) else ""
