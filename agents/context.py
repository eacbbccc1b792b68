"""Deps (the process), Turn (one request) and RunContext: all that is handed to an agent."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agents.examples import Examples
from agents.model import ChatModel
from agents.types import Emitted, Message, Usage
from knowledge.catalog import Catalog
from knowledge.graph import KnowledgeGraph
from knowledge.search import Search
from memory.embedding import Embedder, WordTable
from memory.store import MemoryStore
from tools.toolset import Toolset
from tools.types import ToolSpec


@dataclass(frozen=True, slots=True)
class Deps:
    """The process's capabilities, opened once in serving/runtime.py."""

    memory: MemoryStore
    embedder: Embedder
    words: WordTable
    graph: KnowledgeGraph
    catalog: Catalog
    search: Search
    tools: Toolset
    examples: Examples
    """Labelled examples with their vectors: intents and moderation."""
    model: ChatModel | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one turn may spend."""

    seconds: float = 120.0
    model_calls: int = 8
    tool_calls: int = 16
    tokens: int = 200_000


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the caller asked of the model; None is the model's default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tool_choice: str = "auto"
    """Of the caller's tools: "auto", "required", or the name of the one that must be called."""
    parallel_tool_calls: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """One request: plain data."""

    run: str
    tenant: str
    user: str
    messages: tuple[Message, ...]
    """The history and, last, the message to answer (a user's, or the results of the caller's tools)."""
    thread: str = ""
    """The stored conversation; "" for a stateless turn: no memory is read or written then."""
    summary: str = ""
    """Running summary of what came before `messages`."""
    limits: Limits = Limits()
    sampling: Sampling = Sampling()
    caller_tools: tuple[ToolSpec, ...] = ()
    """The caller's own tools: a call of one ends the turn with finish "tool_calls"."""


class BudgetSpent(Exception):
    """A turn has no more of something; the text names it."""


@dataclass(slots=True)
class Budget:
    """What a turn has left; shared by sub-agents, retries and moderation. One model call is kept for the answer."""

    limits: Limits
    started: float = field(default_factory=time.monotonic)
    used: Usage = Usage()

    def seconds_left(self) -> float:
        """Seconds until the turn's time is over, never negative."""
        return max(0.0, self.limits.seconds - (time.monotonic() - self.started))

    def reserve_model_call(self, *, tokens: int, answer: bool = False) -> None:
        """Takes one model call of about `tokens` prompt tokens before it is made.

        Raises:
            BudgetSpent: time, calls or tokens are used up; a call that is not the answer leaves one call over.
        """
        calls = self.limits.model_calls - self.used.model_calls - (0 if answer else 1)
        if self.seconds_left() <= 0:
            raise BudgetSpent(f"the turn's time of {self.limits.seconds:g} s is over")
        if calls <= 0:
            raise BudgetSpent(f"the turn's {self.limits.model_calls} model calls are used up")
        if self.used.prompt_tokens + self.used.completion_tokens + tokens > self.limits.tokens:
            raise BudgetSpent(f"the turn's {self.limits.tokens} tokens are used up")
        self.used += Usage(prompt_tokens=tokens, model_calls=1)

    def settle(self, *, reserved: int, usage: Usage) -> None:
        """Replaces a reservation by what the call really used."""
        self.used += Usage(prompt_tokens=usage.prompt_tokens - reserved, completion_tokens=usage.completion_tokens)

    def reserve_tool_call(self) -> None:
        """Takes one tool call before it is made.

        Raises:
            BudgetSpent: time or calls are used up.
        """
        if self.seconds_left() <= 0:
            raise BudgetSpent(f"the turn's time of {self.limits.seconds:g} s is over")
        if self.used.tool_calls >= self.limits.tool_calls:
            raise BudgetSpent(f"the turn's {self.limits.tool_calls} tool calls are used up")
        self.used += Usage(tool_calls=1)


@dataclass(frozen=True, slots=True)
class RunContext:
    """What an agent may use while it works on one turn."""

    deps: Deps
    turn: Turn
    budget: Budget
    emit: Callable[[Emitted], Awaitable[None]]
    """Sends something out through the run's bounded channel; waits when the reader is slow."""
