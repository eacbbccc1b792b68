"""Turns: runs through the engine, one for each request; what is stored before, meanwhile and after."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import anyio

from agents.context import Deps, Limits, Sampling, Turn
from agents.types import Message
from graphs.control import Durability, Park, Resume
from graphs.events import (
    AnswerRestarted,
    Ending,
    Event,
    RunFailed,
    RunFinished,
    RunStarted,
    Sequenced,
)
from memory.sql import DatabaseUnavailable, acting_for
from serving.bus import QUEUED_BELL, Bus, process_bell
from serving.endings import end
from serving.event_log import Said
from serving.followers import Followers
from serving.heartbeat import Heartbeat
from serving.ids import uuid7
from serving.leases import Leases
from serving.live import LiveRun
from serving.local_bus import LocalBus
from serving.news import News
from serving.outcomes import fate, outcome
from serving.principal import Principal
from serving.processes import without_token
from serving.records import EventsGone, NewRun, Run, ServerStopping, ThreadBusy
from serving.repository import Claim, History, Repository
from serving.summaries import Summaries, spoken
from tools.types import ToolSpec

log = logging.getLogger(__name__)

BACKGROUND_RUNS = 16
"""So many background runs work at a time in one process; the others are queued."""
WATCH_SECONDS = 5.0
"""How often a server looks for background runs that no process works on."""
CANCEL_SECONDS = 5.0
"""How long a cancel waits for another process to obey."""
STOPPING = "this server is being stopped and starts nothing new; try again in a moment"


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a wire asks of the engine."""

    principal: Principal
    messages: tuple[Message, ...]
    """A stateless turn: the whole history. With `thread`: only what is new, the user's and perhaps the assistant's
    messages, which are stored; instructions (role "system") among them count for this turn only."""
    thread: str = ""
    """Stored conversation to go on with; "" for a stateless turn."""
    run: str = ""
    """Id for the run, made by uuid7(); "" lets the engine make one."""
    sampling: Sampling = Sampling()
    caller_tools: tuple[ToolSpec, ...] = ()
    caller_user: str = ""
    """OpenAI's `user`: recorded, never used to choose whose memory is read."""
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    """Recorded."""
    claim: Claim | None = None
    """Stored with the run, in one transaction and before anything else."""


class Engine(Protocol):
    """What runs one turn and yields its events: graphs.chat.run over the compiled graph."""

    def __call__(
        self,
        deps: Deps,
        turn: Turn,
        *,
        durability: Durability = "exit",
        resume: Resume | None = None,
        park: Park | None = None,
    ) -> AsyncGenerator[Event, None]:
        """RunFinished or RunFailed last: over. ApprovalRequested last: it waits. Neither: it was parked."""
        ...


Answered = Callable[[str, str, str], Awaitable[None]]
"""Called with tenant, user and thread after a whole answer has been stored."""


async def _nobody(_tenant: str, _user: str, _thread: str) -> None:
    """Nobody wants to know."""


class Turns:
    """The engine's door for every wire: stores what was asked, runs the graph, keeps what it says, stores the end.

    `load` gives the engine and is called in a thread: importing LangGraph takes longer than all the rest of a start,
    and commands that only search or ingest do without it.
    """

    def __init__(
        self,
        deps: Deps,
        load: Callable[[], Engine],
        repository: Repository,
        limits: Limits,
        answered: Answered = _nobody,
        bus: Bus | None = None,
    ) -> None:
        """`bus`: what other servers are reached by; whoever opened it closes it. None: this process is alone."""
        self._deps, self._load, self._limits, self._answered = deps, load, limits, answered
        self._engine: Engine | None = None
        self._repository = repository
        self._leases = Leases(repository)
        self._live: dict[str, LiveRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        """Of the runs in `_live`, and of those whose end has been told and which are not quite done."""
        self._bus: Bus = LocalBus() if bus is None else bus
        self._news = News(self._bus)
        self._followers = Followers(repository, self._bus, self._live)
        self._heart = Heartbeat(repository, self._leases, self._live, self._bus, self._news)
        self._watch: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(BACKGROUND_RUNS)
        self._stopping = False
        self._summaries = Summaries(deps, repository, limits)

    async def warm(self) -> None:
        """Loads the engine, which the first turn would do."""
        if self._engine is None:
            self._engine = await asyncio.to_thread(self._load)

    async def run(self, request: TurnRequest) -> AsyncGenerator[Sequenced, None]:
        """Runs one turn for a reader who waits for it. Closing the generator cancels the run and the model call.

        The last event is an Ending, sent after everything is stored and the conversation is free. What was said
        before a cancel or a failure is stored with a status that says so.

        Raises:
            ThreadBusy: the conversation has another run.
            UnknownThread: the conversation does not exist for this principal.
            ServerStopping: no new runs begin here.
        """
        live = self._launch(request, background=False)
        heard = 0
        try:
            async with aclosing(live.follow(attached=True)) as events:
                async for one in events:
                    if isinstance(one.event, Ending):
                        await live.result()  # a bug comes up here, not as an event
                    heard = one.seq
                    yield one
            await live.result()
            if not live.ended and not live.waits:
                async with aclosing(self._told_elsewhere(request.principal, live.id, heard)) as events:
                    async for one in events:
                        yield one
        finally:
            live.cut("cancelled")
            with anyio.CancelScope(shield=True):
                await asyncio.wait([live.task])

    async def start(self, request: TurnRequest) -> Run:
        """Starts a turn that needs no reader: leaving does not end it, and when its process dies, another takes it
        up. Returns when the run and the messages are stored; then `events` follows it.

        Raises:
            ThreadBusy: the conversation has another run.
            UnknownThread: the conversation does not exist for this principal.
            ServerStopping: no new runs begin here.
        """
        live = self._launch(request, background=True)
        while not live.begun and not live.over:
            await live.changed()
        if not live.begun:
            await live.result()
        run = await self._repository.run(request.principal.tenant, request.principal.user, live.id)
        if run is None:  # `drain` cut it before its row was stored; stored, it waits for the next server
            raise ServerStopping(STOPPING)
        return run

    def events(self, run: Run, after: int = 0, *, follow: bool = True) -> AsyncGenerator[Sequenced, None]:
        """The events of a run with numbers above `after`, whoever runs it; with `follow` also those that come, to the
        last. Ends early when this process is told to stop.

        Raises:
            EventsGone: the run is over and its events are no longer kept.
        """
        return self._followers.events(run, after, follow=follow)

    async def cancel(self, run: Run) -> bool:
        """Ends a run, whoever runs it, and returns when it has ended. False: it was over before."""
        live = self._live.get(run.id)
        if live is not None:
            cut = live.cut("cancelled")
            await asyncio.wait([live.task])
            return cut
        cancelled = await self._leases.cancel(run.tenant, run.id)
        if cancelled.how == "asked":
            self._news.ring(process_bell(without_token(cancelled.process)))
            with anyio.move_on_after(CANCEL_SECONDS), suppress(EventsGone):
                async with aclosing(self.events(run, after=sys.maxsize)) as nothing_more:
                    async for _ in nothing_more:
                        pass
        if cancelled.how == "ended":
            self._news.end(run.tenant, run.id, at_once=True)
        return cancelled.how != "over"

    async def take_up(self) -> int:
        """Goes on with the background runs that no process works on, now and as long as this process serves; says how
        many there are now. For a server that starts."""
        if self._stopping:
            return 0
        if self._watch is None:
            self._watch = asyncio.create_task(self._keep_watch(), name="watch for runs without a process")
        return await self._take_up()

    async def drain(self, seconds: float = 0.0) -> list[str]:
        """Stops: no new run begins, background runs are parked between two steps for the next start, interactive ones
        may end within `seconds`. What still works then is cut. Says what became of each run.

        Interactive runs that are cut are incomplete; background ones go on from their last checkpoint.
        """
        self._stopping = True
        self._followers.stop()
        if self._watch is not None:
            await end(self._watch)
        live = list(self._live.values())
        for run in live:
            if run.background:
                run.park.request()
        if live:
            await asyncio.wait([run.task for run in live], timeout=seconds)
        for run in live:
            run.cut("parked" if run.background else "incomplete")
        if live:
            await asyncio.wait([run.task for run in live])
        lines = [fate(run) for run in live]
        for line in lines:
            log.info(line)
        return lines

    async def close(self) -> None:
        """Ends what still runs here."""
        await self.drain()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._heart.close()
        await self._news.close()
        await self._summaries.close()

    async def _keep_watch(self) -> None:
        async with self._bus.listening(QUEUED_BELL) as heard:
            while True:
                await heard.wait(WATCH_SECONDS)
                try:
                    await self._take_up()
                except DatabaseUnavailable as error:
                    log.warning("runs without a process could not be looked for, which is tried again: %s", error)

    async def _take_up(self) -> int:
        await self._leases.recover(self._live)
        runs = await self._leases.take()
        for run in runs:
            if (before := self._live.get(run.id)) is not None:  # it was taken from this process, and has come back
                before.cut("lost")
                await asyncio.wait([before.task])
            told = (await self._repository.events(run.tenant, run.id, 0)).events
            live = LiveRun(run.id, run.tenant, background=True, process=run.process, told=told)
            self._begin_work(live, partial(self._again, run, live), Resume())
        return len(runs)

    async def _told_elsewhere(self, who: Principal, id: str, after: int) -> AsyncGenerator[Sequenced, None]:
        """The rest of an attached run that was taken from this process. Its end comes in any case, after what was
        heard here and not stored."""
        run = await self._repository.run(who.tenant, who.user, id)
        if run is None:  # it was cut before its row was stored
            raise ServerStopping(STOPPING)
        async with aclosing(self.events(run)) as events:
            async for one in events:
                if one.seq > after or isinstance(one.event, Ending):
                    after = max(after + 1, one.seq)
                    yield Sequenced(id, after, one.event)

    def _launch(self, request: TurnRequest, *, background: bool) -> LiveRun:
        if self._stopping:
            raise ServerStopping(STOPPING)
        live = LiveRun(request.run or uuid7(), request.principal.tenant, background=background)
        self._begin_work(live, partial(self._begin, request, live), None)
        return live

    def _begin_work(self, live: LiveRun, begin: Callable[[], Awaitable[Turn]], resume: Resume | None) -> None:
        live.task = asyncio.create_task(self._work(live, begin, resume), name=f"run {live.id}")
        live.task.add_done_callback(partial(_report, live))
        self._tasks.add(live.task)
        live.task.add_done_callback(self._tasks.discard)
        self._live[live.id] = live
        self._heart.start()

    async def _work(self, live: LiveRun, begin: Callable[[], Awaitable[Turn]], resume: Resume | None) -> None:
        with acting_for(live.tenant):
            await self._work_as_tenant(live, begin, resume)

    async def _work_as_tenant(self, live: LiveRun, begin: Callable[[], Awaitable[Turn]], resume: Resume | None) -> None:
        turn: Turn | None = None
        last: RunFinished | RunFailed | None = None
        try:
            if live.enter():
                turn = await begin()
                if live.background:
                    async with self._slots:
                        if await self._repository.start_run(live.id, live.process):
                            last = await self._play(live, turn, resume)
                        else:
                            live.stop = "lost"
                else:
                    last = await self._play(live, turn, resume)
        finally:
            live.closing = True
            try:
                await self._end(live, turn, last)
            finally:
                self._live.pop(live.id, None)
                live.leave()
                if live.begun:
                    self._news.end(live.tenant, live.id, at_once=live.background)

    async def _play(self, live: LiveRun, turn: Turn, resume: Resume | None) -> RunFinished | RunFailed | None:
        await self.warm()
        assert self._engine is not None
        last: RunFinished | RunFailed | None = None
        durability: Durability = "sync" if live.background else "exit"
        playing = self._engine(self._deps, turn, durability=durability, resume=resume, park=live.park)
        async with aclosing(playing) as events:
            async for event in events:
                match event:
                    case RunFinished() | RunFailed():
                        last = event
                    case RunStarted() if live.events:
                        pass  # taken up again: it started long ago
                    case _:
                        live.tell(event)
                        await live.room()
        return last

    async def _begin(self, request: TurnRequest, live: LiveRun) -> Turn:
        who = request.principal
        new = NewRun(
            live.id, who.tenant, who.user, request.thread, request.caller_user, request.metadata, live.background
        )
        said = [message for message in request.messages if message.role in ("user", "assistant")]
        history = await self._store(new, live, said, request.claim)
        live.begun = True
        live.wake()
        messages = request.messages
        if request.thread:
            instructions = tuple(message for message in messages if message.role == "system")
            messages = instructions + spoken(history, who.tenant)
        return Turn(
            run=live.id,
            tenant=who.tenant,
            user=who.user,
            messages=messages,
            thread=request.thread,
            summary=history.summary,
            limits=self._limits,
            sampling=request.sampling,
            caller_tools=request.caller_tools,
        )

    async def _store(self, new: NewRun, live: LiveRun, said: list[Message], claim: Claim | None) -> History:
        """Stores the beginning; a conversation that a dead process kept busy is freed first."""
        try:
            live.process = self._repository.presence.name  # as `begin` reads it, before it waits for anything
            return await self._repository.begin(new, said, claim)
        except ThreadBusy:
            if not await self._leases.recover(self._live):
                raise
        live.process = self._repository.presence.name
        return await self._repository.begin(new, said, claim)

    async def _again(self, run: Run, live: LiveRun) -> Turn:
        live.begun = True
        history = await self._repository.asked(run)
        if live.said() != Said():
            live.tell(AnswerRestarted())
        return Turn(
            run=run.id,
            tenant=run.tenant,
            user=run.user,
            messages=spoken(history, run.tenant),
            thread=run.thread,
            summary=history.summary,
            limits=self._limits,
        )

    async def _end(self, live: LiveRun, turn: Turn | None, last: RunFinished | RunFailed | None) -> None:
        """Stores how a run ended, then tells it; or leaves it where it can be taken up."""
        raised = sys.exception()
        if live.stop == "lost":
            return  # its rows are another's, who tells the rest
        if not live.begun and isinstance(raised, Exception):
            return  # nothing was stored; a cancel, in contrast, may have come too late to keep it from being stored
        if last is None and not isinstance(raised, Exception) and live.stop != "cancelled":
            if raised is None and live.waits:
                await self._repository.rest_run("waiting", live.unstored())
                return
            if live.background:
                await self._repository.rest_run("queued", live.unstored())
                self._news.ring(QUEUED_BELL)
                return
        ending, end, answer = outcome(live, last, raised)
        events = [*(one.event for one in live.events), ending]
        if not await self._repository.finish_run(live.id, live.process, end, answer, events):
            return  # another process has taken it, or has ended it
        self._live.pop(live.id, None)
        live.tell(ending)
        live.keep(len(live.events))
        if turn is not None and turn.thread and end.status == "finished":
            self._summaries.later(turn)
            await self._answered(turn.tenant, turn.user, turn.thread)


def _report(live: LiveRun, task: asyncio.Task[None]) -> None:
    """A bug that no reader will see goes to the log."""
    error = None if task.cancelled() else task.exception()
    if error is not None and live.begun and (live.background or live.stop is not None):
        log.error("a bug in run %s", live.id, exc_info=error)
