"""Summarise: the running summary of a conversation, by the model, or as one line a turn without one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agents.ask import text
from agents.context import RunContext
from agents.prompting import Prompt, untrusted
from agents.types import Message

LONGEST = 2_000
"""A summary's greatest length, in characters."""
_READ = 2_000
_PROMPT = Prompt("summarise")
_MARKS = re.compile(r"\n\s*\[\d+\][\s\S]*$|\s*\[\d+(?:[,\s–-]+\d+)*\]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9À-Þ])")


async def summarise(previous: str, messages: Sequence[Message], ctx: RunContext) -> str:
    """A summary of what `previous` says and of the messages since, at most LONGEST characters.

    Written by the model when there is one that answers; else the newest turns as lines."""
    written = await text(
        _PROMPT(summary=untrusted("summary", previous or "(nothing yet)"), conversation=_shown(messages)), ctx
    )
    return written.strip()[:LONGEST] if written and written.strip() else condensed(previous, messages)


def condensed(previous: str, messages: Sequence[Message]) -> str:
    """The summary without a model: one line a turn after the previous lines; the oldest are dropped first."""
    kept = [line for line in (*previous.splitlines(), *lines(messages).splitlines()) if line.strip()]
    while kept and sum(len(line) + 1 for line in kept) > LONGEST:
        kept.pop(0)
    return "\n".join(kept)


def lines(messages: Sequence[Message]) -> str:
    """One line a turn: what was asked, and the first sentence of the answer."""
    found: list[str] = []
    for message in messages:
        said = " ".join(_MARKS.sub("", message.content[:_READ]).split())
        if message.role == "user" and said:
            found.append(f"- You asked: {_cut(said, 200)}")
        elif message.role == "assistant" and said and found and " Answer: " not in found[-1]:
            found[-1] += f" Answer: {_cut(_SENTENCE.split(said)[0], 240)}"
    return "\n".join(found)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def _shown(messages: Sequence[Message]) -> str:
    said = [message for message in messages if message.role in ("user", "assistant") and message.content.strip()]
    return "\n".join(untrusted("message", message.content[:_READ], role=message.role) for message in said[-30:])
