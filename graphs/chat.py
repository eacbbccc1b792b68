# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The chat graph and its engine: one run in a task of its own, its events through one bounded channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import cast

import anyio
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.errors import GraphDrained
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import RunControl
from langgraph.types import Command, GraphOutput

from agents.context import Budget, Deps, RunContext, Turn
from agents.model import ModelBroken
from agents.types import Draft, Emitted, TextDelta
from graphs import nodes, routes
from graphs.channel import Channel
from graphs.checkpoints import Checkpoints
from graphs.codec import CheckpointUnreadable
from graphs.control import Durability, Park, Resume
from graphs.events import ApprovalRequested, Event, RunFailed, RunFinished, RunStarted, emitted
from graphs.state import ChatState, Run
from tools.types import JsonValue

CHANNEL_EVENTS = 32
"""How far a run may be ahead of its reader; then the model waits."""
RECURSION_LIMIT = 25

ChatGraph = CompiledStateGraph[ChatState, Run, ChatState, ChatState]


def build(saver: Checkpoints | None = None) -> ChatGraph:
    """Compiles the state machine of ARCHITECTURE section 3; once per process. Without `saver` a run lives and ends
    with its process."""
    graph = StateGraph(ChatState, context_schema=Run)
    draw(graph, nodes.announced, _as_it_is)
    return graph.compile(checkpointer=saver, name="chat")


def draw(
    graph: StateGraph[ChatState, Run, ChatState, ChatState],
    node: Callable[[str, nodes.Node], nodes.GraphNode],
    arrow: Callable[[routes.Arrow], routes.Arrow],
) -> None:
    """Adds every node and arrow; `node` and `arrow` make of ours what the graph calls."""
    graph.add_node("begin", node("begin", nodes.begin))
    graph.add_node("screen", node("screen", nodes.screen_question))
    graph.add_node("understand", node("understand", nodes.understand_question))
    graph.add_node("recall", node("recall", nodes.recall_evidence))
    graph.add_node("plan", node("plan", nodes.make_plan))
    graph.add_node("act", node("act", cast(nodes.Node, nodes.act_on_step)))
    graph.add_node("retrieve", node("retrieve", cast(nodes.Node, nodes.retrieve_for_step)))
    graph.add_node("answer", node("answer", nodes.write_answer))
    graph.add_node("check", node("check", nodes.check_answer))
    graph.add_node("remember", node("remember", nodes.remember_turn))
    graph.add_edge(START, "begin")
    graph.add_conditional_edges("begin", arrow(routes.after_begin), ["screen", "understand", "recall"])
    # screen and recall share understand's superstep, so what follows it waits for all three
    graph.add_conditional_edges("understand", arrow(routes.after_understand), ["plan", "answer"])
    graph.add_conditional_edges("plan", arrow(routes.after_plan), ["act", "retrieve", "answer"])
    graph.add_edge("act", "answer")
    graph.add_edge("retrieve", "answer")
    graph.add_conditional_edges("answer", arrow(routes.after_answer), ["check", "remember", END])
    graph.add_conditional_edges("check", arrow(routes.after_check), ["remember", END])
    graph.add_edge("remember", END)


def _as_it_is(arrow: routes.Arrow) -> routes.Arrow:
    return arrow


async def run(
    graph: ChatGraph,
    deps: Deps,
    turn: Turn,
    *,
    durability: Durability = "exit",
    resume: Resume | None = None,
    park: Park | None = None,
) -> AsyncGenerator[Event, None]:
    """Runs one turn and yields its events. How it ends says where it stands:

    - RunFinished or RunFailed last: it is over, and what is stored of it can go (`Checkpoints.forget`);
    - ApprovalRequested last, one for each thing to decide: it waits on disk for `resume` with the answers;
    - nothing of these, only after `park.request()`: it stands on disk between two steps, for `resume`.

    `resume` goes on from the last checkpoint; where there is none that can be read, the run begins anew. What an
    answer node that had ended had said is said once more at the beginning, all at once, and a node that had not ended
    says everything again: what was sent before the resumption is void. The turn's budget begins anew.

    The graph works in a task of its own: closing this generator (or cancelling its reader) cancels the task,
    and with it the model's call, and waits for both. A model that breaks after its first token ends the run
    with RunFailed; a bug raises here. A graph without checkpoints can neither wait, park nor resume.
    """
    channel: Channel[Event] = Channel(CHANNEL_EVENTS)
    sent: list[str] = []

    async def emit(item: Emitted) -> None:
        if isinstance(item, TextDelta):
            sent.append(item.text)
        await channel.send(emitted(item))

    context = Run(RunContext(deps, turn, Budget(turn.limits), emit), channel.send)

    async def work() -> Sequence[Event]:
        try:
            if isinstance(graph.checkpointer, Checkpoints):
                return await _checkpointed(graph, graph.checkpointer, context, durability, resume, park)
            return _ending(
                await graph.ainvoke(
                    ChatState(),
                    {"recursion_limit": RECURSION_LIMIT},
                    context=context,
                    output_keys=["draft"],
                    version="v2",
                )
            )
        except ModelBroken as error:
            return [RunFailed(str(error), "".join(sent))]
        finally:
            channel.close()

    task = asyncio.create_task(work(), name=f"run {turn.run}")
    try:
        yield RunStarted(turn.run)
        async for event in channel.items():
            yield event
        for event in await task:
            yield event
    finally:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])


class _Drain(RunControl):
    """A Park in LangGraph's words."""

    __slots__ = ("_park",)

    def __init__(self, park: Park) -> None:
        super().__init__()
        self._park = park

    @property
    def drain_requested(self) -> bool:
        return self._park.requested


async def _checkpointed(
    graph: ChatGraph, saver: Checkpoints, context: Run, durability: Durability, resume: Resume | None, park: Park | None
) -> Sequence[Event]:
    """Runs the graph from its beginning or its last checkpoint, and returns the run's last events."""
    run = context.ctx.turn.run
    last = None if resume is None else await _last_checkpoint(saver, run)
    given: ChatState | Command[str] | None = ChatState()
    if resume is not None and last is not None:
        await _say_again(last, context)
        given = Command(resume=dict(resume.answers)) if resume.answers else None
    if durability == "exit":
        saver.hold(run, new=last is None)
    try:
        output = await graph.ainvoke(
            given,
            {"recursion_limit": RECURSION_LIMIT, "configurable": {"thread_id": run}},
            context=context,
            output_keys=["draft"],
            version="v2",
            durability=durability,
            control=None if park is None else _Drain(park),
        )
        if output.interrupts:
            await saver.keep(run)
        return _ending(output)
    except GraphDrained:
        await saver.keep(run)
        return []
    finally:
        saver.drop(run)


async def _last_checkpoint(saver: Checkpoints, run: str) -> CheckpointTuple | None:
    """Where the run can go on; None, and nothing left of it, when another version of Parley wrote it."""
    try:
        return await saver.last(run)
    except CheckpointUnreadable:
        await saver.forget(run)
        return None


async def _say_again(last: CheckpointTuple, context: Run) -> None:
    """What the answer node had said, when it had ended: it does not run again, and what was sent may have been lost."""
    written = [value for _, channel, value in last.pending_writes or () if channel == "draft"]
    draft = written[-1] if written else last.checkpoint["channel_values"].get("draft")
    if isinstance(draft, Draft):
        for item in (TextDelta(draft.text), *draft.citations, *draft.notes):
            await context.ctx.emit(item)


def _ending(output: GraphOutput[ChatState]) -> Sequence[Event]:
    if output.interrupts:
        return [ApprovalRequested(one.id, cast(JsonValue, one.value)) for one in output.interrupts]
    draft = output.value.get("draft")
    assert draft is not None, "every way through the graph leads through the answer"
    return [RunFinished(draft)]
