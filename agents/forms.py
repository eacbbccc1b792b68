"""Forms of questions (how-to, list, yes-no, option) and what makes a unit fit them (EXTRACTIVE section 2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from agents.identifiers import identifiers_in, without
from knowledge.types import BlockKind, Passage

FormName = Literal["fact", "howto", "list", "yesno", "option"]

_HOWTO = re.compile(
    r"^(?:and |so )?how (?:do|does|can|could|should|would|to|might)\b(?! (?:you|we) (?:know|mean))", re.IGNORECASE
)
_LIST = re.compile(
    r"^(?:please )?(?:list|name|enumerate|show)\b|"
    r"\bwhich (?:\w+ )?(?!does\b|was\b|has\b)\w+[^sui\W]s\b(?! (?:is|was|does)\b)|"
    r"\bwhat (?:are (?:the|all)|\w+(?: \w+)? (?:are|can)\b)|\bin what order\b",
    re.IGNORECASE,
)
_YESNO = re.compile(
    r"^(?:is|are|was|were|am|do|does|did|can|could|may|might|must|should|shall|will|would|has|have|had)\b",
    re.IGNORECASE,
)
_OPTION = re.compile(
    r"\bwhat (?:do|does|is|are|will)\b|\bdefault\b|\bminimum\b|\bmaximum\b|\bmeaning of\b|\bwhat happens\b",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(
    r"`([^`]+)`|(?<![\w-])(--?[A-Za-z][\w-]*)|\b(\w+_\w+)\b|\b([A-Za-z][a-z0-9]*(?:[A-Z]+[a-z0-9]*)+)\b|\b([\w-]+\.[A-Za-z]\w*)\b"
)
_NEGATION = re.compile(
    r"\b(?:not|cannot|can't|doesn't|don't|isn't|aren't|won't|only|must|supports?|supported|invalid)\b", re.IGNORECASE
)
_IMPERATIVE = re.compile(
    r"^(?:\d+\.\s*)?(?:to [a-z]+|if (?:you|it|the)|simply|just|then|use|add|run|set|call|create|install|pass|open|"
    r"enable|disable|make|put|write|edit|define|specify|configure|start|stop|choose|select|click|type|enter|copy|remove|"
    r"delete|download|import|include|replace|change|check|register|upgrade|update|restart|build|clone|export|append|apply|"
    r"press|turn|log|send|give|provide|execute|launch|save|move|upload|follow|insert|attach|wrap|declare|return|ensure)\b",
    re.IGNORECASE,
)
_ADVICE = re.compile(
    r"\byou(?:'ll)? (?:can|may|could|need to|have to|must|should)\b|\buse the\b|\brun\b", re.IGNORECASE
)
_NOTE = re.compile(r"^[*_\s]*note\b", re.IGNORECASE)
_POINTER = re.compile(
    r"^(?:\(?(?:see|refer to|check out|consult)\b)|\bplease (?:see|check|refer|consult|read)\b|"
    r"\b(?:see|refer to) (?:the |also |this |these |\S+ (?:section|for)\b)",
    re.IGNORECASE,
)
_LIMITS = ("default", "minimum", "maximum")
_BARE_CODE = re.compile(r"\s*`[^`]+`[\s.:;]*")

WEIGHT = 1.5
"""What a form's bonus is multiplied by."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a question is put, which decides what a good quote looks like."""

    name: FormName
    identifiers: tuple[str, ...]
    """Names of code in the question: in backticks, a_b, aB, --x."""
    limits: tuple[str, ...]
    """"default", "minimum", "maximum", as far as asked for."""


def form_of(question: str) -> Form:
    """The form of a question."""
    text = question.strip()
    lower = text.lower()
    identifiers = identifiers_of(text)
    limits = tuple(word for word in _LIMITS if word in lower)
    name: FormName = "fact"
    if _HOWTO.match(text):
        name = "howto"
    elif _YESNO.match(text):
        name = "yesno"
    elif (identifiers or limits) and _OPTION.search(text):
        name = "option"
    elif _LIST.search(text):
        name = "list"
    return Form(name, identifiers, limits)


def identifiers_of(text: str) -> tuple[str, ...]:
    """The names of parts and of code in a text, lower case: KX-200-B, in backticks, a_b, aB, --x."""
    names = [next(group for group in found.groups() if group) for found in _IDENTIFIER.finditer(without(text))]
    return tuple(name.lower() for name in (*identifiers_in(text), *names))


def follower(passage: Passage, index: int, kinds: Sequence[BlockKind] = ("code", "list", "table")) -> int | None:
    """Index of the list, table or code block (for an item only code) right after a unit that ends its block."""
    units = passage.units
    unit = units[index]
    if (index + 1 < len(units) and units[index + 1].block == unit.block) or unit.block + 1 >= len(passage.blocks):
        return None
    after = passage.blocks[unit.block + 1]
    fits = after.kind in kinds and (unit.kind == "sentence" or (unit.kind == "item" and after.kind == "code"))
    between = passage.text[unit.end : after.start]
    return unit.block + 1 if fits and not any(sign.isalnum() for sign in between) else None


def bonus(form: Form, passage: Passage, unit: int) -> float:
    """What a unit's shape adds to its score, before WEIGHT."""
    text = passage.units[unit].text
    after = follower(passage, unit) if passage.units[unit].kind == "sentence" else None
    kind = passage.blocks[after].kind if after is not None else ""
    source = passage.text[passage.units[unit].start : passage.units[unit].end]
    value = _general(form, text) - 1.0 * bool(_BARE_CODE.fullmatch(source))
    match form.name:
        case "howto":
            value += 1.0 * (kind == "code") + 0.7 * bool(_IMPERATIVE.match(text)) + 0.4 * bool(_ADVICE.search(text))
        case "list":
            value += 1.2 * (kind in ("list", "table")) + 0.8 * (text.count(",") >= 2)
        case "yesno":
            value += 0.8 * bool(_NEGATION.search(text))
        case "option":
            value += _option(form, passage, unit)
        case "fact":
            pass
    return value


def _general(form: Form, text: str) -> float:
    lower = text.lower()
    value = 1.5 * any(word in lower for word in form.limits)
    if _NOTE.match(text):
        value -= 0.7
    if (
        "see" in lower or "refer to" in lower or "check out" in lower or "consult" in lower or "please" in lower
    ) and _POINTER.search(text):
        value -= 1.0
    return value


def _option(form: Form, passage: Passage, unit: int) -> float:
    if not form.identifiers:
        return 0.0
    this = passage.units[unit]
    text = this.text.lower()
    start = text.lstrip("`*_- (")
    if any(_held(name).match(start) for name in form.identifiers):
        return 1.5
    label = " ".join((*passage.headings[-1:], this.label)).lower()
    first = unit == 0 or (this.label != "" and passage.units[unit - 1].label != this.label)
    if first and any(_held(name).search(label) for name in form.identifiers):
        return 1.5
    return 0.7 if any(_held(name).search(text) for name in form.identifiers) else 0.0


@lru_cache(maxsize=64)
def _held(name: str) -> re.Pattern[str]:
    """An identifier that is not a part of another one."""
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w|[-.]\w)")
