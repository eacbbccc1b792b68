"""ChatModel, the port: a language model that streams; its failures are two exceptions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from agents.types import Message, Usage
from tools.types import JsonObject, ToolCall, ToolSpec


class ModelUnavailable(Exception):
    """Nothing came from the model: refused, silent, an error status, not an event stream. Safe to answer otherwise."""


class ModelRefused(ModelUnavailable):
    """The server is well and refused this one request (a prompt too long, a wrong parameter)."""


class ModelBroken(Exception):
    """The stream failed after something came, or ended without a finish reason: what came is incomplete."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tool_choice: str = "auto"
    """"auto", "required" (some tool), or the name of the tool that must be called."""
    parallel_tool_calls: bool = True
    schema: JsonObject | None = None
    """JSON Schema that the whole answer must follow (structured output)."""


@dataclass(frozen=True, slots=True)
class ModelDelta:
    """A piece of a model's answer."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    """Whole calls, sent once, with `finish`."""
    finish: str | None = None
    """The upstream finish reason; set on exactly one delta, the last that has content."""
    usage: Usage | None = None


class ChatModel(Protocol):
    """A language model.

    Holds for every implementation: a stream that ends normally had a `finish`; one that cannot raises
    ModelUnavailable before the first delta or ModelBroken after it; closing or cancelling the generator
    ends the upstream call within a second; a slow reader slows the model, not the memory.
    """

    @property
    def name(self) -> str:
        """The model's own name, as the server calls it."""
        ...

    async def window(self) -> int:
        """Context window in tokens: set, or asked from the server once, or a careful default."""
        ...

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        """Streams one answer."""
        ...
