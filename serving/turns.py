"""Turns: one request through the run engine; what is stored before and after."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio

from agents.context import Budget, Deps, Limits, RunContext, Sampling, Turn
from agents.summarise import summarise
from agents.types import Emitted, Message
from graphs.events import Event, RunFailed, RunFinished, Token
from memory.types import TRUST_NONE, TRUST_USER, Label
from serving.ids import uuid7
from serving.principal import Principal
from serving.records import Answer, NewRun, RunEnd, StoredMessage, UnknownThread
from serving.repository import Repository
from tools.types import ToolSpec

SUMMARISE_CHARACTERS = 24_000
"""So much unsummarised text in a stored conversation starts a new running summary."""
KEEP_WHOLE = 8
"""The newest messages, which a summary never swallows."""


class ThreadBusy(Exception):
    """The conversation has a run that is not over; `run` is its id."""

    def __init__(self, run: str) -> None:
        super().__init__(f"this conversation is busy with run {run}; wait for its end")
        self.run = run


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


Engine = Callable[[Deps, Turn], AsyncGenerator[Event, None]]
"""What runs one turn and yields its events: graphs.chat.run over the compiled graph."""


class Turns:
    """The engine's door for every wire: stores what was asked, runs the graph, stores what came of it.

    `load` gives the engine and is called in a thread: importing LangGraph takes longer than all the rest of a start,
    and commands that only search or ingest do without it.
    """

    def __init__(self, deps: Deps, load: Callable[[], Engine], repository: Repository, limits: Limits) -> None:
        self._deps = deps
        self._load = load
        self._engine: Engine | None = None
        self._repository = repository
        self._limits = limits
        self._active: dict[str, str] = {}
        self._summaries: dict[str, asyncio.Task[None]] = {}

    async def run(self, request: TurnRequest) -> AsyncGenerator[Event, None]:
        """Runs one turn. Closing the generator cancels the run and the model call.

        The last event is RunFinished or RunFailed, sent after everything is stored and the conversation is free.
        What was said before a cancel or a failure is stored and marked incomplete.

        Raises:
            ThreadBusy: the conversation has another run.
            UnknownThread: the conversation does not exist for this principal.
        """
        run = uuid7()
        if request.thread in self._active:
            raise ThreadBusy(self._active[request.thread])
        if request.thread:
            self._active[request.thread] = run
        try:
            if self._engine is None:
                self._engine = await asyncio.to_thread(self._load)
            turn = await self._begin(request, run)
            said: list[str] = []
            last: RunFinished | RunFailed | None = None
            try:
                async with aclosing(self._engine(self._deps, turn)) as events:
                    async for event in events:
                        match event:
                            case Token(text):
                                said.append(text)
                                yield event
                            case RunFinished() | RunFailed():
                                last = event
                            case _:
                                yield event
            finally:
                with anyio.CancelScope(shield=True):
                    await self._end(turn, last, "".join(said))
        finally:
            self._active.pop(request.thread, None)
        assert last is not None, "a run that was not cut short ends with RunFinished or RunFailed"
        yield last

    async def close(self) -> None:
        """Ends what still runs beside the turns."""
        tasks = list(self._summaries.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin(self, request: TurnRequest, run: str) -> Turn:
        who = request.principal
        new = NewRun(run, who.tenant, who.user, request.thread, request.caller_user, request.metadata)
        messages, summary = request.messages, ""
        if request.thread:
            await self._repository.add_user_message_and_run(new, request.messages[-1].content)
            thread = await self._repository.thread(who.tenant, who.user, request.thread)
            if thread is None:
                raise UnknownThread(f"there is no conversation {request.thread}")
            stored = await self._repository.messages(who.tenant, who.user, request.thread, after=thread.summary_upto)
            messages, summary = tuple(_message(one, who.tenant) for one in stored), thread.summary
        else:
            await self._repository.start_run(new)
        return Turn(
            run=run,
            tenant=who.tenant,
            user=who.user,
            messages=messages,
            thread=request.thread,
            summary=summary,
            limits=self._limits,
            sampling=request.sampling,
            caller_tools=request.caller_tools,
        )

    async def _end(self, turn: Turn, last: RunFinished | RunFailed | None, said: str) -> None:
        match last:
            case RunFinished(draft):
                answer = Answer(draft.text, "complete", draft.citations)
                await self._repository.finish_run(turn.run, RunEnd.of(draft), answer if turn.thread else None)
                if turn.thread:
                    self._summarise_later(turn)
            case RunFailed(error=error, text=text):
                await self._repository.finish_run(turn.run, RunEnd("failed", error=error), _incomplete(turn, text))
            case None if isinstance(sys.exception(), Exception):  # a bug is on its way up
                end = RunEnd("failed", error=f"internal error: {type(sys.exception()).__name__}")
                await self._repository.finish_run(turn.run, end, _incomplete(turn, said))
            case None:  # the reader left
                await self._repository.finish_run(turn.run, RunEnd("cancelled"), _incomplete(turn, said))

    def _summarise_later(self, turn: Turn) -> None:
        """Starts a new running summary when much has been said since the last; beside the turns, never in one."""
        if sum(len(m.content) for m in turn.messages) < SUMMARISE_CHARACTERS or turn.thread in self._summaries:
            return
        task = asyncio.create_task(self._summarise(turn), name=f"summary of {turn.thread}")
        self._summaries[turn.thread] = task
        task.add_done_callback(lambda _: self._summaries.pop(turn.thread, None))

    async def _summarise(self, turn: Turn) -> None:
        thread = await self._repository.thread(turn.tenant, turn.user, turn.thread)
        if thread is None:
            return
        stored = await self._repository.messages(turn.tenant, turn.user, turn.thread, after=thread.summary_upto)
        old = stored[:-KEEP_WHOLE]
        if not old:
            return
        ctx = RunContext(self._deps, turn, Budget(self._limits), _unheard)
        text = await summarise(thread.summary, [_message(one, turn.tenant) for one in old], ctx)
        await self._repository.set_summary(turn.tenant, turn.user, turn.thread, text, old[-1].number)


async def _unheard(_: Emitted) -> None:
    """A summary speaks to nobody."""


def _incomplete(turn: Turn, text: str) -> Answer | None:
    return Answer(text, "incomplete") if turn.thread and text else None


def _message(stored: StoredMessage, tenant: str) -> Message:
    if stored.role == "user":
        return Message("user", stored.content, Label(tenant, "user", TRUST_USER))
    return Message("assistant", stored.content, Label(tenant, "model", TRUST_NONE))
