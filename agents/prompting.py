"""Prompts: templates parsed once at import, and the one way in which untrusted text gets into a prompt."""

from __future__ import annotations

import re
from pathlib import Path

_FOLDER = Path(__file__).parent / "prompts"
_FENCE = re.compile(r"<(?=/?\s*(?:untrusted|passage|memory|result|summary|message)\b)", re.IGNORECASE)


class Prompt:
    """The text of prompts/<verb>.md, with {{name}} where a value goes."""

    def __init__(self, verb: str) -> None:
        text = (_FOLDER / f"{verb}.md").read_text("utf-8").strip()
        self._parts = re.split(r"\{\{(\w+)\}\}", text)

    def __call__(self, **values: str) -> str:
        """The prompt with its values; a missing one is a bug (KeyError)."""
        return "".join(values[part] if place % 2 else part for place, part in enumerate(self._parts))


def untrusted(kind: str, text: str, **attributes: str | int | None) -> str:
    """A text of someone else, between delimiters that it cannot close: the only way for such text into a prompt.

    `kind` is passage, memory, result, summary or message; attributes that are None or "" are left out."""
    shown = "".join(
        f' {name}="{_attribute(str(value))}"' for name, value in attributes.items() if value is not None and value != ""
    )
    return f"<{kind}{shown}>\n{_FENCE.sub('&lt;', text.strip())}\n</{kind}>"


def _attribute(value: str) -> str:
    return " ".join(value.replace('"', "'").replace("<", "&lt;").split())[:300]


def tokens(text: str) -> int:
    """About how many tokens a model makes of a text, rather too many: 3.5 characters each, more outside ASCII."""
    if text.isascii():
        return int(len(text) / 3.5) + 1
    return int(len(text) / 3.5 + (len(text.encode("utf-8", "replace")) - len(text)) * 0.5) + 1
