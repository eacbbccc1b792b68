"""A run that works in this process: what it has said so far, who listens, and how it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Literal

from graphs.control import Park
from graphs.events import ApprovalRequested, Ending, Event, Sequenced
from serving.event_log import Said, so_far
from serving.run_log import Part

AHEAD = 32
"""How many events an attached run may be ahead of its reader; then it waits, and the model with it."""

Stop = Literal["cancelled", "incomplete", "parked", "lost"]
"""Why a run is cut: somebody wants its end; this process ends; this process ends and the run goes on later; another
process has taken it, having found this one dead."""


class LiveRun:
    """The events of one run in memory, for any number of readers. `task` is what runs it."""

    task: asyncio.Task[None]

    def __init__(
        self, id: str, tenant: str, *, background: bool, process: str = "", told: Sequence[Sequenced] = ()
    ) -> None:
        """`process`: the name under which this process has it; `told`: what it had said, all of it stored, before it
        was taken up again."""
        self.id, self.tenant, self.background, self.process = id, tenant, background, process
        self.events = list(told)
        self.stored = len(self.events)
        """So many of the events are in the table."""
        self.begun = False
        """Its row is stored."""
        self.stop: Stop | None = None
        """Why it was cut, when it was."""
        self.park = Park()
        self.over = False
        """No more events will come here: it has ended, or goes on elsewhere."""
        self._started = False
        self.closing = False
        """It ends by itself and is not cut any more."""
        self._read = 0
        self._news = asyncio.Event()
        self._space = asyncio.Event()

    @property
    def ended(self) -> bool:
        """The last event has been told."""
        return bool(self.events) and isinstance(self.events[-1].event, Ending)

    @property
    def waits(self) -> bool:
        """The last event asks a person."""
        return bool(self.events) and isinstance(self.events[-1].event, ApprovalRequested)

    def said(self) -> Said:
        """The answer as far as it was told."""
        return so_far(one.event for one in self.events)

    def unstored(self) -> Part:
        """The events that are not yet in the table."""
        return Part(self.id, self.process, self.stored + 1, tuple(one.event for one in self.events[self.stored :]))

    def tell(self, event: Event) -> None:
        """Gives an event its number and shows it to the readers."""
        self.events.append(Sequenced(self.id, len(self.events) + 1, event))
        self._news.set()

    async def room(self) -> None:
        """Waits until the one who asked for an attached run has read enough of it."""
        while not self.background and len(self.events) - self._read >= AHEAD:
            self._space.clear()
            await self._space.wait()

    def keep(self, upto: int) -> None:
        """The events up to that number are in the table."""
        self.stored = upto
        self._news.set()

    def shown(self, *, attached: bool = False) -> int:
        """So many events may be shown. Of a run that can be taken up elsewhere only stored ones: who goes on from
        an event that died with its process would miss what comes in its place."""
        return self.stored if self.background and not attached else len(self.events)

    def leave(self) -> None:
        """Readers get what is left and end."""
        self.over = True
        self._news.set()

    def enter(self) -> bool:
        """The task has begun to work; False when it should not."""
        self._started = True
        return self.stop is None

    def cut(self, why: Stop) -> bool:
        """Cancels the run's work and with it the model's call; False when it is ending already."""
        if self.closing:
            return False
        if self.stop is None:
            self.stop = why
            if self._started:  # a task that is cancelled before its first step would never clean up
                self.task.cancel()
        self._news.set()
        return True

    async def result(self) -> None:
        """Waits until the task has ended, cut or not.

        Raises:
            Exception: what it ended with.
        """
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.result()

    async def changed(self) -> None:
        """Waits for news: an event, the row's being stored, or the end."""
        self._news.clear()
        await self._news.wait()

    def wake(self) -> None:
        """There are news."""
        self._news.set()

    async def follow(self, after: int = 0, *, attached: bool = False) -> AsyncGenerator[Sequenced, None]:
        """The events with numbers above `after`, then those that come, until no more will. The `attached` reader is
        the one that the run waits for."""
        while True:
            while after < self.shown(attached=attached):
                one = self.events[after]
                after += 1
                if attached:
                    self._read = after
                    self._space.set()
                yield one
            if self.over:
                return
            await self.changed()
