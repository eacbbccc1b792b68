# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The chat graph and its engine: one run in a task of its own, its events through one bounded channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import cast

import anyio
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from agents.context import Budget, Deps, RunContext, Turn
from agents.model import ModelBroken
from agents.types import Citation, Draft, Emitted, Note, TextDelta
from graphs import nodes, routes
from graphs.channel import Channel
from graphs.events import Cited, Event, Noted, RunFailed, RunFinished, RunStarted, Token
from graphs.state import ChatState, Run

CHANNEL_EVENTS = 32
"""How far a run may be ahead of its reader; then the model waits."""
RECURSION_LIMIT = 25

ChatGraph = CompiledStateGraph[ChatState, Run, ChatState, ChatState]


def build() -> ChatGraph:
    """Compiles the state machine of ARCHITECTURE section 3; once per process."""
    graph = StateGraph(ChatState, context_schema=Run)
    graph.add_node("begin", nodes.announced("begin", nodes.begin))
    graph.add_node("screen", nodes.announced("screen", nodes.screen_question))
    graph.add_node("understand", nodes.announced("understand", nodes.understand_question))
    graph.add_node("recall", nodes.announced("recall", nodes.recall_evidence))
    graph.add_node("plan", nodes.announced("plan", nodes.make_plan))
    graph.add_node("act", nodes.announced("act", cast(nodes.Node, nodes.act_on_step)))
    graph.add_node("retrieve", nodes.announced("retrieve", cast(nodes.Node, nodes.retrieve_for_step)))
    graph.add_node("answer", nodes.announced("answer", nodes.write_answer))
    graph.add_node("check", nodes.announced("check", nodes.check_answer))
    graph.add_node("remember", nodes.announced("remember", nodes.remember_turn))
    graph.add_edge(START, "begin")
    graph.add_conditional_edges("begin", routes.after_begin, ["screen", "understand", "recall"])
    # screen and recall share understand's superstep, so what follows it waits for all three
    graph.add_conditional_edges("understand", routes.after_understand, ["plan", "answer"])
    graph.add_conditional_edges("plan", routes.after_plan, ["act", "retrieve", "answer"])
    graph.add_edge("act", "answer")
    graph.add_edge("retrieve", "answer")
    graph.add_conditional_edges("answer", routes.after_answer, ["check", "remember", END])
    graph.add_conditional_edges("check", routes.after_check, ["remember", END])
    graph.add_edge("remember", END)
    return graph.compile(name="chat")


async def run(graph: ChatGraph, deps: Deps, turn: Turn) -> AsyncGenerator[Event, None]:
    """Runs one turn and yields its events, RunFinished or RunFailed last.

    The graph works in a task of its own: closing this generator (or cancelling its reader) cancels the task,
    and with it the model's call, and waits for both. A model that breaks after its first token ends the run
    with RunFailed; a bug raises here.
    """
    channel: Channel[Event] = Channel(CHANNEL_EVENTS)
    sent: list[str] = []

    async def emit(item: Emitted) -> None:
        match item:
            case TextDelta():
                sent.append(item.text)
                await channel.send(Token(item.text))
            case Citation():
                await channel.send(Cited(item))
            case Note():
                await channel.send(Noted(item))

    context = Run(RunContext(deps, turn, Budget(turn.limits), emit), channel.send)

    async def work() -> RunFinished | RunFailed:
        try:
            state = await graph.ainvoke(
                ChatState(), {"recursion_limit": RECURSION_LIMIT}, context=context, output_keys=["draft"]
            )
            return RunFinished(cast(Draft, state["draft"]))
        except ModelBroken as error:
            return RunFailed(str(error), "".join(sent))
        finally:
            channel.close()

    task = asyncio.create_task(work(), name=f"run {turn.run}")
    try:
        yield RunStarted(turn.run)
        async for event in channel.items():
            yield event
        yield await task
    finally:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
