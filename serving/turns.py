"""Turns: one request through the run engine; what is stored before and after."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from agents.context import Sampling
from agents.types import Message
from graphs.events import Event
from tools.types import ToolSpec


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks; for now always the user "local" of the tenant "local"."""

    tenant: str = "local"
    user: str = "local"


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a wire asks of the engine."""

    principal: Principal
    messages: tuple[Message, ...]
    """A stateless turn: the whole history. With `thread`: only the new user message."""
    thread: str = ""
    """Stored conversation to go on with; "" for a stateless turn."""
    sampling: Sampling = Sampling()
    caller_tools: tuple[ToolSpec, ...] = ()
    caller_user: str = ""
    """OpenAI's `user`: recorded, never used to choose whose memory is read."""
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    """OpenAI's `metadata`: recorded."""


class Turns:
    """The engine's door for every wire."""

    def run(self, request: TurnRequest) -> AsyncGenerator[Event, None]:
        """Runs one turn. Closing the generator cancels the run and the model call. The last event is RunFinished
        or RunFailed, sent after everything is stored."""
        raise NotImplementedError
