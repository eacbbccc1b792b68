# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The chat graph as LangGraph Studio runs it: conversations come and go as `messages`, many turns to a thread.

Nodes and arrows are the production graph's own. Here they are handed what production gives each run anew: a state
that holds nothing of the turn before, and a context made from the messages, since Studio passes none.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, cast

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Overwrite, Send

from agents.context import Budget, Deps, Limits, RunContext, Turn
from agents.types import Emitted, Message
from graphs import chat, nodes, routes
from graphs.codec import StateCodec
from graphs.events import Event, Sequenced, emitted
from graphs.state import ChatState, Run, StepState
from memory.types import TRUST_NONE, TRUST_USER, Label
from tools.types import JsonObject

JOINED = ("retrieved", "results", "notes")
"""Channels that gather what several nodes write."""
SINGLE = tuple(name for name in ChatState.__annotations__ if name not in JOINED)


CODEC = StateCodec(ChatState, StepState)


class StudioState(ChatState):
    """The run's state and the conversation. A single value is None where production has none yet."""

    messages: Annotated[list[AnyMessage], add_messages]


StudioGraph = CompiledStateGraph[StudioState, None, MessagesState, StudioState]
Show = Callable[[Sequenced], JsonObject]
"""An event as the API shows it."""


class NoQuestion(ValueError):
    """The messages do not end with what a user says."""


@dataclass(slots=True)
class Adapter:
    """One run of the graph in Studio; what the run may spend is counted here, anew after a pause."""

    deps: Deps
    tenant: str
    user: str
    limits: Limits
    show: Show
    budget: Budget | None = None
    said: int = 0

    def graph(self) -> StudioGraph:
        """The graph, without checkpoints: Studio brings its own."""
        graph = StateGraph(StudioState, input_schema=MessagesState)
        chat.draw(
            cast(StateGraph[ChatState, Run, ChatState, ChatState], graph),
            cast(Callable[[str, nodes.Node], nodes.GraphNode], self._node),
            self._arrow,
        )
        return graph.compile(name="chat")

    def _node(self, step: str, node: nodes.Node) -> StudioNode:
        production = nodes.announced(step, node)

        async def run_node(state: StudioState, runtime: Runtime[None]) -> dict[str, object]:
            messages = state["messages"]
            run = self._run(messages, runtime)
            update: dict[str, object] = {**await production(self._own(state), _with(runtime, run))}
            if step == "begin":
                update = {**dict.fromkeys(SINGLE), **update}
                update |= {name: Overwrite(update.get(name, [])) for name in JOINED}
            draft = ChatState(**cast(ChatState, update)).get("draft")
            if draft is not None:  # check writes it again: same id, same message
                update["messages"] = [AIMessage(draft.text, id=f"answer-to-{_asked(messages).id}")]
            return update

        return run_node

    def _arrow(self, arrow: routes.Arrow) -> routes.Arrow:
        wants_run = "runtime" in inspect.signature(arrow).parameters

        async def after(state: StudioState, runtime: Runtime[None]) -> str | list[str] | list[Send]:
            own = self._own(state)
            messages = state["messages"]
            found = await (arrow(own, _with(runtime, self._run(messages, runtime))) if wants_run else arrow(own))
            if isinstance(found, str):
                return found
            # what is fanned out gets a state of its own, without the conversation
            return cast(list[Send], [_sent(one, messages) for one in found])

        return after

    def _own(self, state: StudioState) -> ChatState:
        """The production state, its types restored: Studio's checkpoints give back tuples as lists."""
        own = {name: value for name, value in state.items() if name != "messages" and value is not None}
        return cast(ChatState, CODEC.loads_typed(CODEC.dumps_typed(own)))

    def _run(self, messages: Sequence[AnyMessage], runtime: Runtime[None]) -> Run:
        info = runtime.execution_info
        assert info is not None
        if self.budget is None:
            self.budget = Budget(self.limits)
        turn = Turn(
            run=info.run_id or "",
            tenant=self.tenant,
            user=self.user,
            messages=_conversation(messages, self.tenant),
            thread=info.thread_id or "",
            limits=self.limits,
        )

        async def send(event: Event) -> None:
            self.said += 1
            runtime.stream_writer(self.show(Sequenced(turn.run, self.said, event)))

        async def emit(item: Emitted) -> None:
            await send(emitted(item))

        return Run(RunContext(self.deps, turn, self.budget, emit), send)


class StudioNode(Protocol):
    """A node as Studio's server calls it."""

    def __call__(self, state: StudioState, runtime: Runtime[None]) -> Awaitable[dict[str, object]]:
        """Runs the node."""
        ...


def _sent(one: str | Send, messages: Sequence[AnyMessage]) -> str | Send:
    return one if isinstance(one, str) else Send(one.node, {**cast(StepState, one.arg), "messages": messages})


def _with(runtime: Runtime[None], run: Run) -> Runtime[Run]:
    return cast(Runtime[Run], runtime).override(context=run)


def _asked(messages: Sequence[AnyMessage]) -> AnyMessage:
    """What this turn answers; behind it may already stand the answer, when a later node runs.

    Raises:
        NoQuestion: there is nothing to answer.
    """
    last = next((message for message in reversed(messages) if message.type != "ai"), None)
    if last is None or last.type != "human" or not last.text.strip():
        raise NoQuestion('the input is {"messages": [{"role": "user", "content": "..."}]}, the last one the user\'s')
    return last


def _conversation(messages: Sequence[AnyMessage], tenant: str) -> tuple[Message, ...]:
    """The conversation up to what is to be answered."""
    until = messages.index(_asked(messages)) + 1
    return tuple(_message(message.type, message.text, tenant) for message in messages[:until])


def _message(kind: str, text: str, tenant: str) -> Message:
    match kind:
        case "human":
            return Message("user", text, Label(tenant, "user", TRUST_USER))
        case "system":
            return Message("system", text, Label(tenant, "system", TRUST_USER))
        case _:
            return Message("assistant", text, Label(tenant, "model", TRUST_NONE))
