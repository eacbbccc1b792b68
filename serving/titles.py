"""What a conversation is called until somebody gives it a name."""

from __future__ import annotations

TITLE_CHARACTERS = 80


def title_of(question: str) -> str:
    """The first question on one line of at most 80 characters, cut after a whole word where there is one."""
    line = " ".join(question.split())
    if len(line) <= TITLE_CHARACTERS:
        return line
    cut = line[: TITLE_CHARACTERS - 1]
    words, blank, _ = cut.rpartition(" ")
    return f"{words if blank and len(words) > TITLE_CHARACTERS // 2 else cut}…"
