"""Readers of runs: of those of this process, of those that others work on (what the bus says, and what the record says
where that leaves gaps), and of those that are over."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from graphs.events import Sequenced
from serving.bell import Heard
from serving.bus import Bus, BusUnavailable, run_bell
from serving.event_log import unpack
from serving.live import LiveRun
from serving.records import Run
from serving.repository import Repository


class Followers:
    """Follows runs wherever they work. Event numbers make every change between the sources exact."""

    def __init__(self, repository: Repository, bus: Bus, live: Mapping[str, LiveRun]) -> None:
        """`live`: the runs of this process."""
        self._repository, self._bus, self._live = repository, bus, live
        self._waiting: set[Heard] = set()
        self._stopping = False

    def stop(self) -> None:
        """All who follow here get what is stored, and end."""
        self._stopping = True
        for heard in self._waiting:
            heard.ring()

    async def events(self, run: Run, after: int, *, follow: bool) -> AsyncGenerator[Sequenced, None]:
        """As Turns.events."""
        while True:
            live = self._live.get(run.id)
            if live is None or not live.begun:
                told = await self._repository.events(run.tenant, run.id, after)
                for one in told.events:
                    after = one.seq
                    yield one
                if told.over or not follow or self._stopping:
                    return
                async with aclosing(self._elsewhere(run, after)) as events:
                    async for one in events:
                        after = one.seq
                        yield one
            elif not follow:
                for one in live.events[after : live.shown()]:
                    yield one
                return
            else:
                async with aclosing(live.follow(after)) as events:
                    async for one in events:
                        after = one.seq
                        yield one
                if live.ended:
                    return

    async def _elsewhere(self, run: Run, after: int) -> AsyncGenerator[Sequenced, None]:
        """The events with numbers above `after` as they come, until the run is over or works in this process."""
        async with self._bus.listening(run_bell(run.id)) as heard:
            self._waiting.add(heard)
            try:
                rung = False  # what was stored before the bell could be heard is in the record
                while True:
                    news = await self._published(run, after) if rung else []
                    over = False
                    if not news:
                        told = await self._repository.events(run.tenant, run.id, after)
                        news, over = told.events, told.over
                    for one in news:
                        after = one.seq
                        yield one
                    if over or self._stopping or run.id in self._live:
                        return
                    rung = await heard.wait(self._bus.look_seconds)
            finally:
                self._waiting.discard(heard)

    async def _published(self, run: Run, after: int) -> list[Sequenced]:
        """What the bus has of the events after `after`, up to the first gap; none when it is lost."""
        try:
            chunks = await self._bus.read(run.tenant, run.id, after)
        except BusUnavailable:
            return []
        events: list[Sequenced] = []
        for chunk in chunks:
            if chunk.first > after + 1:
                break
            told = unpack(run.id, chunk.body)
            events += [
                Sequenced(run.id, seq, event) for seq, event in enumerate(told, start=chunk.first) if seq > after
            ]
            after = chunk.last
        return events
