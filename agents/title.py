"""Title: what a conversation is called after its first answer; asked of the model, none without one."""

from __future__ import annotations

import re
import unicodedata

from agents.ask import text
from agents.context import RunContext
from agents.prompting import Prompt, untrusted

LONGEST = 80
"""A title's greatest length, in characters."""
MAX_TOKENS = 40
_READ = 1_500
_PROMPT = Prompt("title")
_LABEL = re.compile(r"^(?:title|titel|titre|título)\s*:\s*", re.IGNORECASE)
_ROUND = "\"'“”„«»‘’*_#` .:"


async def title(question: str, answer: str, ctx: RunContext) -> str | None:
    """A title for a conversation that began so; None when no model gives one that can be shown as a title."""
    prompt = _PROMPT(
        question=untrusted("message", question[:_READ], role="user"),
        answer=untrusted("message", answer[:_READ], role="assistant"),
    )
    written = await text(prompt, ctx, max_tokens=MAX_TOKENS)
    return (_shown(written) or None) if written else None


def _shown(written: str) -> str:
    """The first line of a reply without what models put round a title; "" when it is none, as a long text is."""
    line = next((" ".join(line.split()) for line in written.splitlines() if line.strip()), "")
    plain = "".join(sign for sign in line if unicodedata.category(sign)[0] != "C")
    found = _LABEL.sub("", plain.strip(_ROUND)).strip(_ROUND)
    return found if len(found) <= LONGEST else ""
