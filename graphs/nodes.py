# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The nodes of the chat graph: each moves values between the state and one agent, and says when it starts and ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

import anyio
from langgraph.runtime import Runtime

from agents.act import act
from agents.answer import answer, refuse
from agents.check import check
from agents.context import BudgetSpent, RunContext
from agents.plan import plan
from agents.remember import remember
from agents.retrieve import Recalled, evidence, merged, recall, retrieve
from agents.screen import screen
from agents.types import Draft, Intent, Message, Note, Plan, Step, Verdict, last_said
from agents.understand import by_rules, understand
from graphs.events import StepFinished, StepStarted
from graphs.state import ChatState, Run, StepState
from memory.store import MemoryUnavailable

RECALL_SHARE = 0.25
"""Part of the seconds left that recall and retrieval may take before the turn goes on without them."""
QUESTION_CHARACTERS = 4_000
"""What of a very long message is understood and looked up; the screen and the prompt get the whole."""


Node = Callable[[ChatState, RunContext], Awaitable[ChatState]]


async def begin(state: ChatState, ctx: RunContext) -> ChatState:
    """Finds the question and embeds it once, unless rules see small talk."""
    messages = _shortened(ctx.turn.messages)
    question = last_said(messages)
    rules = by_rules(messages)
    if rules is not None and rules.kind == "smalltalk":
        return ChatState(question=question, vector=None, rules=rules)
    try:
        vector, _ = await asyncio.gather(
            ctx.deps.embedder.embed_query(question), ctx.deps.search.foresee(ctx.turn.tenant, question)
        )
    except MemoryUnavailable as error:
        return ChatState(question=question, vector=None, rules=rules, notes=[Note("memory_unavailable", str(error))])
    return ChatState(question=question, vector=vector, rules=rules)


async def screen_question(state: ChatState, ctx: RunContext) -> ChatState:
    """Moderates what the user said."""
    return ChatState(verdict=await screen(last_said(ctx.turn.messages), state.get("vector"), ctx))


async def understand_question(state: ChatState, ctx: RunContext) -> ChatState:
    """Intent, stand-alone question, language."""
    rules, vector = state.get("rules"), state.get("vector")
    if vector is not None:
        return ChatState(intent=await understand(_shortened(ctx.turn.messages), vector, ctx))
    return ChatState(intent=rules or Intent("question", state.get("question", ""), "en", "rules", 0.0))


async def recall_evidence(state: ChatState, ctx: RunContext) -> ChatState:
    """Speculative retrieval for the words as they were said; dropped if not wanted."""
    vector = state.get("vector")
    assert vector is not None  # the route leads here only with a vector
    with anyio.move_on_after(ctx.budget.seconds_left() * RECALL_SHARE):
        return ChatState(
            recalled=await recall(state.get("question", ""), vector, _shortened(ctx.turn.messages[:-1]), ctx)
        )
    return ChatState(notes=[Note("slow_memory", "The memory was too slow; this answer rests on less than usual.")])


async def make_plan(state: ChatState, ctx: RunContext) -> ChatState:
    """What to do before the answer. A question that had to be rewritten is looked up again."""
    intent, verdict = _intent(state), state.get("verdict", Verdict(True))
    if not verdict.allowed:
        return ChatState(plan=Plan())
    made = await plan(intent, state.get("recalled", Recalled()), ctx)
    if intent.question == state.get("question"):
        return ChatState(plan=made)
    if not made.steps and intent.kind != "tool":
        made = replace(made, steps=(Step("r1", "retrieve", query=intent.question),))
    vector = state.get("vector")
    try:
        vector = await ctx.deps.embedder.embed_query(intent.question[:QUESTION_CHARACTERS])
    except MemoryUnavailable as error:
        return ChatState(plan=made, notes=[Note("memory_unavailable", str(error))])
    return ChatState(plan=made, question=intent.question, vector=vector)


async def act_on_step(state: StepState, ctx: RunContext) -> ChatState:
    """One tool call of the plan."""
    try:
        return ChatState(results=[await act(state["step"], ctx)])
    except BudgetSpent as spent:
        return ChatState(notes=[Note("budget", f"Not everything could be done: {spent}.")])


async def retrieve_for_step(state: StepState, ctx: RunContext) -> ChatState:
    """One look-up of the plan."""
    with anyio.move_on_after(ctx.budget.seconds_left() * RECALL_SHARE):
        # no history: a step's query stands alone, and old words would pull it back to the old subject
        return ChatState(retrieved=[await retrieve(state["step"].query, ctx, vector=state["vector"])])
    return ChatState(notes=[Note("slow_memory", "The memory was too slow; this answer rests on less than usual.")])


async def write_answer(state: ChatState, ctx: RunContext) -> ChatState:
    """The answer, streamed; or the refusal."""
    verdict = state.get("verdict", Verdict(True))
    if not verdict.allowed:
        return ChatState(draft=await refuse(verdict, ctx))
    draft = await answer(
        _intent(state), state.get("vector"), evidence_base(state), state.get("results", []), state.get("notes", []), ctx
    )
    return ChatState(draft=draft)


async def check_answer(state: ChatState, ctx: RunContext) -> ChatState:
    """Names the sentences that nothing supports; never edits."""
    draft, base = _draft(state), evidence_base(state)
    notes = await check(draft, evidence(base.found, base.memories, state.get("results", [])), ctx)
    return await _noted(draft, notes, ctx)


async def remember_turn(state: ChatState, ctx: RunContext) -> ChatState:
    """Keeps what the user said about themselves; after the answer, never on the way to its first token."""
    last = ctx.turn.messages[-1]
    if last.role != "user" or not state.get("verdict", Verdict(True)).allowed:
        return ChatState()
    return await _noted(_draft(state), await remember(last.content, ctx), ctx)


def evidence_base(state: ChatState) -> Recalled:
    """What the answer rests on: the plan's look-ups where there are any, else the speculative one."""
    speculative, retrieved = state.get("recalled", Recalled()), state.get("retrieved", [])
    return merged(speculative, retrieved) if retrieved else speculative


async def _noted(draft: Draft, notes: tuple[Note, ...], ctx: RunContext) -> ChatState:
    """The answer with notes that come after it."""
    if not notes:
        return ChatState()
    for note in notes:
        await ctx.emit(note)
    return ChatState(draft=replace(draft, notes=draft.notes + notes))


def _shortened(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages with at most QUESTION_CHARACTERS each: a question is not longer, and pasted text may be huge."""
    if all(len(m.content) <= QUESTION_CHARACTERS for m in messages):
        return messages
    return tuple(replace(m, content=m.content[:QUESTION_CHARACTERS]) for m in messages)


def _intent(state: ChatState) -> Intent:
    return state.get("intent") or Intent("question", state.get("question", ""), "en", "rules", 0.0)


def _draft(state: ChatState) -> Draft:
    draft = state.get("draft")
    assert draft is not None  # the route leads here only after the answer
    return draft


class GraphNode(Protocol):
    """A node as LangGraph calls it: by these names."""

    async def __call__(self, state: ChatState, runtime: Runtime[Run]) -> ChatState:
        """Runs the node."""
        ...


def announced(step: str, node: Node) -> GraphNode:
    """A graph node that reports its start and its end and hands the agent its context."""

    async def run_node(state: ChatState, runtime: Runtime[Run]) -> ChatState:
        run = runtime.context
        await run.send(StepStarted(step))
        started = time.perf_counter()
        update = await node(state, run.ctx)
        await run.send(StepFinished(step, time.perf_counter() - started))
        return update

    return run_node
