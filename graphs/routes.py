# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Every arrow of the chat graph, as a pure function of the state.

They are coroutines because LangGraph would run plain functions in a thread pool, which costs more than they do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from langgraph.graph import END
from langgraph.runtime import Runtime
from langgraph.types import Send

from agents.types import Plan, Verdict
from graphs.state import ChatState, Run, StepState
from memory.types import Vector

Arrow = Callable[..., Awaitable[str | list[str] | list[Send]]]
"""Takes the state and, by the name `runtime`, the run where it needs it."""


async def after_begin(state: ChatState) -> list[str]:
    """Screening, understanding and speculative recall cost one latency; small talk found by rules recalls nothing."""
    return ["screen", "understand"] if state.get("vector") is None else ["screen", "understand", "recall"]


async def after_understand(state: ChatState) -> str:
    """Small talk and questions about the conversation itself need no plan."""
    intent = state.get("intent")
    return "answer" if intent is not None and intent.kind in ("smalltalk", "conversation") else "plan"


async def after_plan(state: ChatState) -> list[Send] | str:
    """Independent steps run in parallel; without any, or when the question is refused, the answer is next."""
    steps = state.get("plan", Plan()).steps
    if not state.get("verdict", Verdict(True)).allowed or not steps:
        return "answer"
    return [
        Send("act" if step.kind == "tool" else "retrieve", StepState(step=step, vector=_vector_of(state, step.query)))
        for step in steps
    ]


async def after_answer(state: ChatState, runtime: Runtime[Run]) -> str:
    """Only a model's answer can say what its evidence does not; without evidence there is nothing to compare with."""
    draft = state.get("draft")
    has_evidence = bool(state.get("recalled") or state.get("retrieved") or state.get("results"))
    if draft is not None and has_evidence and draft.model not in ("extractive", "rules"):
        return "check"
    return await after_check(state, runtime)


async def after_check(state: ChatState, runtime: Runtime[Run]) -> str:
    """A stateless turn remembers nothing."""
    return "remember" if runtime.context.ctx.turn.thread else END


def _vector_of(state: ChatState, query: str) -> Vector | None:
    """The question's own vector, which is not computed twice."""
    return state.get("vector") if query and query == state.get("question") else None
