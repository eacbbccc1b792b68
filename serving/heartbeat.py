"""What is done a little after events were told, while runs work here: they are stored and published, wishes of other
processes are heard, and runs that other processes have taken are let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from memory.sql import DatabaseUnavailable
from serving.bus import Bus, Chunk, process_bell
from serving.endings import end
from serving.leases import Leases
from serving.live import LiveRun
from serving.news import News
from serving.processes import without_token
from serving.repository import Repository

log = logging.getLogger(__name__)

BEAT_SECONDS = 0.05
"""From an event's being told to its being written; a run that is shorter writes its events with its end alone."""


class Heartbeat:
    """Beats while there are runs; a beat that takes longer delays the next."""

    def __init__(
        self, repository: Repository, leases: Leases, live: Mapping[str, LiveRun], bus: Bus, news: News
    ) -> None:
        self._repository, self._leases, self._live = repository, leases, live
        self._bus, self._news = bus, news
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.Task[None] | None = None
        self._ear: asyncio.Task[None] | None = None
        self._looked = 0.0

    def start(self) -> None:
        """Beats until no run is left."""
        if self._timer is None and self._beat is None:
            self._timer = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._due)
        if self._ear is None:
            self._ear = asyncio.create_task(self._hear(), name="bell of this process")

    async def close(self) -> None:
        """Waits for the beat that is under way; there must be no run any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._beat is not None:
            await asyncio.wait([self._beat])
        if self._ear is not None:
            await end(self._ear)

    def _due(self) -> None:
        self._timer = None
        self._news.flush()
        if self._live:
            self._beat = asyncio.create_task(self._once(), name="heartbeat of runs")
            self._beat.add_done_callback(self._done)

    def _done(self, beat: asyncio.Task[None]) -> None:
        self._beat = None
        if not beat.cancelled() and beat.exception() is not None:
            log.error("a bug in the heartbeat of runs", exc_info=beat.exception())
        if self._live:
            self.start()
        else:
            self._news.flush()

    async def _once(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            await self._store()
            if now - self._looked >= self._bus.look_seconds:
                self._looked = now
                await self._look()
        except DatabaseUnavailable as error:
            log.warning("events of runs under way could not be stored, which is tried again: %s", error)

    async def _hear(self) -> None:
        """Looks at once when another process rings."""
        async with self._bus.listening(process_bell(without_token(self._repository.presence.name))) as heard:
            while True:
                await heard.wait()
                try:
                    await self._look()
                except DatabaseUnavailable as error:
                    log.warning("whether a run here is to end could not be read, which is tried again: %s", error)

    async def _store(self) -> None:
        """Stores what was told since the last beat, of all runs in one transaction; then publishes it."""
        live = [run for run in self._live.values() if run.begun and not run.closing and run.stored < len(run.events)]
        parts = [run.unstored() for run in live]
        if not parts:
            return
        chunks: list[Chunk] = []
        for run, part, body in zip(live, parts, await self._repository.keep_events(parts), strict=True):
            if body is None:
                run.cut("lost")
                continue
            last = part.first + len(part.events) - 1
            run.keep(max(last, run.stored))
            chunks.append(Chunk(run.tenant, run.id, part.first, last, body))
        self._news.say(chunks)

    async def _look(self) -> None:
        """Cuts the runs whose end another process wants, and those that are no longer this one's."""
        live = [run for run in self._live.values() if run.begun and not run.closing]
        if not live:
            return
        held = await self._leases.held()
        for run in live:
            row = held.get(run.id)
            if row is None or row.process != run.process:
                run.cut("lost")
            elif row.cancelling:
                run.cut("cancelled")
