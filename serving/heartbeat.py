"""What is done a little after events were told, while runs work here: they are stored, and cancels are heard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from memory.sql import DatabaseUnavailable
from serving.leases import Leases
from serving.live import LiveRun
from serving.repository import Repository

log = logging.getLogger(__name__)

BEAT_SECONDS = 0.05
"""From an event's being told to its being written; a run that is shorter writes its events with its end alone."""
LISTEN_BEATS = 5
"""Every so many beats another process's wish to cancel is looked for."""


class Heartbeat:
    """Beats while there are runs; a beat that takes longer delays the next."""

    def __init__(self, repository: Repository, leases: Leases, live: Mapping[str, LiveRun]) -> None:
        self._repository, self._leases, self._live = repository, leases, live
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.Task[None] | None = None
        self._beats = 0

    def start(self) -> None:
        """Beats until no run is left."""
        if self._timer is None and self._beat is None:
            self._timer = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._due)

    async def close(self) -> None:
        """Waits for the beat that is under way; there must be no run any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._beat is not None:
            await asyncio.wait([self._beat])

    def _due(self) -> None:
        self._timer = None
        if self._live:
            self._beat = asyncio.create_task(self._once(), name="heartbeat of runs")
            self._beat.add_done_callback(self._done)

    def _done(self, beat: asyncio.Task[None]) -> None:
        self._beat = None
        if not beat.cancelled() and beat.exception() is not None:
            log.error("a bug in the heartbeat of runs", exc_info=beat.exception())
        if self._live:
            self.start()

    async def _once(self) -> None:
        self._beats += 1
        try:
            await self._store()
            if self._beats % LISTEN_BEATS == 0:
                await self._listen()
        except DatabaseUnavailable as error:
            log.warning("events of runs under way could not be stored, which is tried again: %s", error)

    async def _store(self) -> None:
        """Stores what was told since the last beat, of all runs in one transaction."""
        live = [run for run in self._live.values() if run.begun and not run.closing and run.stored < len(run.events)]
        parts = [run.unstored() for run in live]
        if not parts:
            return
        await self._repository.keep_events(parts)
        for run, part in zip(live, parts, strict=True):
            run.stored += len(part.events)

    async def _listen(self) -> None:
        for id in await self._leases.asked():
            if id in self._live:
                self._live[id].cut("cancelled")
