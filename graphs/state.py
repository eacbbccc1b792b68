"""ChatState: the data of one run, as the graph's nodes hand it on. Plain values only: it can be checkpointed."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, TypedDict

from agents.context import RunContext
from agents.retrieve import Recalled
from agents.types import Draft, Intent, Note, Plan, Step, Verdict
from graphs.events import Event
from memory.types import Vector
from tools.types import ToolResult


class ChatState(TypedDict, total=False):
    """Every channel is written by the nodes named in its comment; lists of parallel nodes are joined."""

    question: str  # begin: the user's last words; plan: the stand-alone question, when it differs
    vector: Vector | None  # begin, plan: embedding of `question`; None for small talk found by rules
    rules: Intent | None  # begin: what rules alone understood
    verdict: Verdict  # screen
    intent: Intent  # understand
    recalled: Recalled  # recall: speculative, for the words as they were said
    plan: Plan  # plan
    retrieved: Annotated[list[Recalled], operator.add]  # retrieve, one per step
    results: Annotated[list[ToolResult], operator.add]  # act, one per step
    draft: Draft  # answer; check and remember replace it to add notes
    notes: Annotated[list[Note], operator.add]


class StepState(TypedDict):
    """What one fanned-out step gets: the step and, for a retrieval of the question itself, its vector."""

    step: Step
    vector: Vector | None


@dataclass(frozen=True, slots=True)
class Run:
    """The graph's context, never checkpointed: what the agents get, and the run's channel for the engine's events."""

    ctx: RunContext
    send: Callable[[Event], Awaitable[None]]
