"""Screen: moderation of what users ask and of sentences that a model writes: rules, then examples, then the model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from anyio import to_thread

from agents.ask import Form, ask
from agents.context import RunContext
from agents.prompting import Prompt, untrusted
from agents.types import Verdict
from memory.store import MemoryUnavailable
from memory.types import Vector

Category = Literal["violence", "self_harm", "sexual", "hate", "illegal"]
RULES: dict[str, str] = {
    "violence": "no help with hurting or threatening people",
    "self_harm": "no help with harming oneself",
    "sexual": "no sexually explicit content, and nothing sexual about minors",
    "hate": "no attacks on people for who they are",
    "illegal": "no help with crimes",
    "secret": "no passwords, keys or tokens in an answer",
    "personal_data": "no card, account or identity numbers of people in an answer",
}
"""Every rule in words a person understands."""
ALLOWED = Verdict(allowed=True)
SURE, UNSURE = 0.48, 0.4
"""Mean cosine to a category's nearest examples: from SURE on it is blocked, from UNSURE on a model is asked."""
MARGIN = 0.06
"""How much nearer than the next label, the harmless one included, the category must be to be blocked unasked."""
SURE_WRITTEN = 0.56
"""The same for what a model writes, which more often speaks about such things than wants them."""
READ = 4_000
"""Characters that the rules read at once; a longer message is seen piece by piece of this size."""
LONG = 2 * READ
"""A longer message is read in a thread: the rules take about 1 ms per 1,000 characters."""


def _read() -> tuple[tuple[Category, re.Pattern[str]], ...]:
    """The rules of data/moderation_rules.txt, one pattern a category."""
    fragments: dict[str, str] = {}
    patterns: dict[Category, list[str]] = {}
    for line in (Path(__file__).parent / "data" / "moderation_rules.txt").read_text("utf-8").splitlines():
        name, _, fragment = line.partition(" = ")
        if name.isidentifier() and fragment:
            fragments[name] = fragment
        elif line and not line.startswith("#"):
            category, _, pattern = line.partition(": ")
            filled = re.sub(r"<([a-z]+)>", lambda match: fragments[match[1]], pattern)
            patterns.setdefault(cast(Category, category), []).append(filled)
    return tuple((category, re.compile("|".join(rows), re.IGNORECASE)) for category, rows in patterns.items())


_PATTERNS = _read()
_SOFT = re.compile(
    r"\b(?:prevent\w*|protect\w*|defend\w*|detect\w*|avoid\w*|stop (?:people|someone|him|her|them)|history|historical|"
    r"novel|movie|film|video ?game|minecraft|chess|in the game|character|process(?:es)?|python|linux|bath bombs?|"
    r"fork bombs?|logic bombs?|without (?:hurting|harming|killing)|penalty|sentence for|illegal to|legal to|"
    r"is it legal)\b",
    re.IGNORECASE,
)
"""Words with which a match is no longer sure; self-harm and minors stay sure."""
_SMELL = re.compile(
    r"\b(?:kill|murder|stab|strangl|poison|tortur|massacre|behead|bomb|explosive|detonat|weapon|suicid|overdos|noose|"
    r"self-harm|hurt (?:your|my)self|hang (?:your|my)self|porn|erotic|sexual|nude|naked|orgasm|genital|penis|vagina|"
    r"subhuman|vermin|inferior race|exterminat|master race|meth\b|methamphet|cocaine|heroin|fentanyl|counterfeit|forge|"
    r"launder|ransomware|malware|keylogger|phish|stolen|hack into|break into|pick the lock)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Reply:
    category: Literal["violence", "self_harm", "sexual", "hate", "illegal", "none"]


_FORM = Form(_Reply)
_PROMPT = Prompt("screen")


def blocked(category: str, by: Literal["rules", "examples", "model"], confidence: float = 1.0) -> Verdict:
    """The verdict against a text of a category."""
    return Verdict(False, category, RULES[category], by, confidence)


def screen_rules(text: str) -> Verdict | None:
    """The verdict of a rule that plainly matches a text, or None: nothing matches, or not plainly."""
    verdict = _matched(text)
    return verdict if verdict is not None and verdict.confidence >= 1.0 else None


def smells(sentence: str) -> bool:
    """Whether a sentence holds a word of any category: only then is it worth an embedding."""
    return _SMELL.search(sentence) is not None


async def screen(text: str, vector: Vector | None, ctx: RunContext) -> Verdict:
    """The verdict on a user's message; `vector` is its embedding, None when there is none yet.

    A model is asked only when rules and examples are unsure, and what it does not answer is allowed."""
    matched = await to_thread.run_sync(_matched, text) if len(text) > LONG else _matched(text)
    if matched is not None and matched.confidence >= 1.0:
        return matched
    doubt = matched
    if vector is not None:
        match = ctx.deps.examples.nearest("moderation", vector)
        if match.label != "none" and match.score >= UNSURE:
            if match.score >= SURE and match.margin >= MARGIN and matched is None and not _SOFT.search(text[:READ]):
                return blocked(match.label, "examples", match.score)
            doubt = doubt or blocked(match.label, "examples", match.score)
    if doubt is None:
        return ALLOWED
    answer = await ask(_FORM, _PROMPT(text=untrusted("message", text[:READ])), ctx)
    if answer is None or answer.category == "none":
        return ALLOWED
    return blocked(answer.category, "model", 0.9)


async def judge(sentence: str, ctx: RunContext) -> Verdict:
    """The verdict on a sentence that a model wrote and that `smells`: rules, then examples; asking a model about each
    sentence of another would cost more than the answer itself."""
    matched = _matched(sentence)
    if matched is not None and matched.confidence >= 1.0:
        return matched
    try:
        vector = await ctx.deps.embedder.embed_query(sentence)
    except MemoryUnavailable:
        return ALLOWED
    match = ctx.deps.examples.nearest("moderation", vector)
    if match.label == "none" or match.score < SURE_WRITTEN or match.margin < MARGIN or _SOFT.search(sentence):
        return ALLOWED
    return blocked(match.label, "examples", match.score)


def _matched(text: str) -> Verdict | None:
    for start in range(0, max(1, len(text)), READ):
        piece = " ".join(text[start : start + READ + 200].replace("’", "'").split())
        for category, pattern in _PATTERNS:
            match = pattern.search(piece)
            if match:
                around = piece[max(0, match.start() - 120) : match.end() + 120]
                sure = category in ("self_harm", "sexual") or not _SOFT.search(around)
                return blocked(category, "rules", 1.0 if sure else 0.5)
    return None
