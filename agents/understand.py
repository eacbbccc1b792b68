"""Understand: what a message wants, as a question that stands alone; rules, then examples, then a model when unsure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agents.ask import Form, ask
from agents.context import RunContext
from agents.language import detect
from agents.oneself import about_oneself
from agents.prompting import Prompt, untrusted
from agents.recount import about_conversation
from agents.rewrite import Rewriting, rewrite
from agents.smalltalk import topic
from agents.types import Intent, IntentKind, Message, last_said
from memory.types import Vector
from tools.recognise import recognise

SURE = 0.47
"""An example this near (cosine) decides alone, when the next kind is MARGIN further off."""
MARGIN = 0.12
UNSURE = 0.4
"""Between UNSURE and SURE a model is asked, if there is one; below it a message counts as a question."""
SHOWN = 6
"""Messages that a model is shown to understand the last one."""

_PROMPT = Prompt("understand")
_TASK = re.compile(
    r"(?:please |can you |could you |kindly )*(?:write|draft|compose|translate|rewrite|rephrase|paraphrase|proofread|"
    r"generate|summari[sz]e|shorten|create|schreib\w*|übersetze?|verfasse|traduis|rédige|écris|traduce|escribe|traduci|scrivi)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Reply:
    kind: IntentKind
    question: str
    language: str


_FORM = Form(_Reply)


def by_rules(messages: Sequence[Message]) -> Intent | None:
    """The intent of the last message where patterns settle it (small talk, calculation, date, this conversation,
    results of the caller's tools), or None; pure, a few tens of microseconds."""
    if not messages:
        return None
    last = messages[-1]
    if last.role != "user":
        asked = last_said(messages)
        return Intent("task", asked, detect(asked), "rules")
    text = last.content.strip()
    if topic(text):
        return Intent("smalltalk", text, detect(text), "rules")
    if recognise(text):
        return Intent("tool", text, detect(text), "rules")
    if about_conversation(text):
        return Intent("conversation", text, detect(text), "rules")
    return None


async def understand(messages: Sequence[Message], vector: Vector, ctx: RunContext) -> Intent:
    """What the last message wants. `vector` is its embedding.

    Never fails: without a model, or when the model's answer is of no use, the best guess stands."""
    settled = by_rules(messages)
    if settled is not None:
        return settled
    text = messages[-1].content.strip()
    rewriting = rewrite(messages) if len(messages) > 1 else Rewriting(text)
    guess = _guess(text, rewriting, vector, ctx)
    if guess.confidence >= SURE and rewriting.sure:
        return guess
    answer = await ask(_FORM, _PROMPT(conversation=_shown(messages)), ctx)
    if answer is None or not answer.question.strip():
        return guess
    return Intent(answer.kind, answer.question.strip(), answer.language[:2].lower() or guess.language, "model", 0.9)


def _guess(text: str, rewriting: Rewriting, vector: Vector, ctx: RunContext) -> Intent:
    question = Intent("question", rewriting.question, detect(text), "rules")
    if rewriting.question != text and rewriting.sure:
        return question  # a follow-up question, whatever its words resemble
    if _TASK.match(text):
        return replace(question, kind="task")
    match = ctx.deps.examples.nearest("intent", vector)
    kind = _KINDS.get(match.label, "question")
    if kind == "question" or match.score < UNSURE or (kind == "smalltalk" and about_oneself(text)):
        return question
    if match.score >= SURE and match.margin >= MARGIN:
        return replace(question, kind=kind, by="examples", confidence=match.score)
    return replace(question, by="examples", confidence=min(match.score, SURE - 0.01))


_KINDS: dict[str, IntentKind] = {
    "smalltalk": "smalltalk",
    "conversation": "conversation",
    "tool": "tool",
    "task": "task",
}


def _shown(messages: Sequence[Message]) -> str:
    said = [message for message in messages if message.role in ("user", "assistant") and message.content][-SHOWN:]
    return "\n".join(untrusted("message", message.content[:1500], role=message.role) for message in said)
