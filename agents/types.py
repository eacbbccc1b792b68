"""Data of the agents: what is said, meant, planned, found, drafted and judged. All of it can be checkpointed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from memory.types import Label
from tools.types import JsonObject, ToolCall

Role = Literal["system", "user", "assistant", "tool"]
Outcome = Literal["answered", "uncertain", "not_found", "refused"]
Finish = Literal["stop", "length", "content_filter", "tool_calls"]
IntentKind = Literal["smalltalk", "question", "conversation", "tool", "task"]
"""smalltalk: greeting, thanks, "what can you do"; question: to the knowledge; conversation: about what was said
here; tool: calculation, units, date and time; task: write, translate, summarise, with or without the knowledge."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str
    label: Label
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant message."""
    tool_call_id: str = ""
    """Of a tool message: the call that it answers."""
    name: str = ""


def last_said(messages: Sequence[Message]) -> str:
    """The user's last words; "" when the user has said nothing yet."""
    return next((message.content for message in reversed(messages) if message.role == "user"), "")


@dataclass(frozen=True, slots=True)
class Intent:
    """What the user wants."""

    kind: IntentKind
    question: str
    """Rewritten so that it stands alone."""
    language: str
    """ISO 639-1, "en" when unknown."""
    by: Literal["rules", "examples", "model"]
    confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """A text that an answer may rest on, numbered from 1 in the order in which it is shown."""

    index: int
    text: str
    label: Label
    document: str = ""
    """Document id; "" for memories and tool results."""
    passage: str = ""
    title: str = ""
    path: str = ""
    headings: tuple[str, ...] = ()
    page: int | None = None
    start: int = 0
    """Offset of `text` in the document's parsed text, in characters."""
    url: str = ""
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Citation:
    """What an answer cites as [index]."""

    index: int
    """From 1, in order of first appearance."""
    document: str
    passage: str
    title: str
    path: str
    quote: str
    """Verbatim: the passage's text[start:end] of the document."""
    page: int | None
    heading: str
    """Heading path joined by " > ", "" when there is none."""
    start: int
    end: int
    url: str = ""


@dataclass(frozen=True, slots=True)
class CitationSpan:
    """Where a marker stands in the answer's text."""

    index: int
    start: int
    end: int
    """answer[start:end] == "[index]"."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan."""

    id: str
    kind: Literal["tool", "retrieve"]
    tool: str = ""
    arguments: JsonObject = field(default_factory=JsonObject)
    query: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done before the answer; frozen once made."""

    steps: tuple[Step, ...] = ()
    by: Literal["rules", "model"] = "rules"


@dataclass(frozen=True, slots=True)
class Note:
    """Something the user should know beside the answer, in words a person understands."""

    code: str
    """Stable, for programs: no_model, model_failed, unsupported, budget, withheld, memory_unavailable ..."""
    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a turn cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    model_calls: int = 0
    tool_calls: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.model_calls + other.model_calls,
            self.tool_calls + other.tool_calls,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a moderation or grounding rule said of a text."""

    allowed: bool
    category: str = ""
    """violence, self_harm, sexual, hate, illegal, secret, personal_data, or "" when allowed."""
    rule: str = ""
    """The rule in words a person understands."""
    by: Literal["rules", "examples", "model"] = "rules"
    confidence: float = 1.0
    withheld: str = ""
    """The text that was not let out; recorded, never shown."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer as it was sent."""

    text: str
    outcome: Outcome
    finish: Finish
    model: str
    """Name of the model, "extractive" when the evidence itself was quoted, "rules" for small talk and refusals."""
    citations: tuple[Citation, ...] = ()
    spans: tuple[CitationSpan, ...] = ()
    notes: tuple[Note, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    """The caller's own tools that the model wants called; finish is then "tool_calls"."""
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer, ready to be shown."""

    text: str


Emitted = TextDelta | Citation | Note
"""What agents send out while they work, through RunContext.emit."""
