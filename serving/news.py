"""What this process tells the others about its runs, in order and behind their backs: a lost bus delays no run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from serving.bus import Bus, BusUnavailable, Chunk
from serving.endings import end

log = logging.getLogger(__name__)

WAITING = 256
"""So many messages wait for the bus at most; then the oldest are dropped: who follows finds them in the record."""


class News:
    """A queue to the bus, emptied by one task as fast as the bus takes it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._chunks: list[Chunk] = []
        self._calls: list[Callable[[], Awaitable[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._lost = False

    def say(self, chunks: Sequence[Chunk]) -> None:
        """More was said and stored."""
        self._chunks += chunks
        del self._chunks[:-WAITING]
        self.flush()

    def end(self, tenant: str, run: str, *, at_once: bool) -> None:
        """A run is over, or rests; that is stored. Not `at_once`: it is said with the next `flush`."""
        self._later(lambda: self._bus.end(tenant, run))
        if at_once:
            self.flush()

    def ring(self, name: str) -> None:
        """Rings a bell."""
        self._later(lambda: self._bus.ring(name))
        self.flush()

    def flush(self) -> None:
        """Says what is to be said."""
        if not self._chunks and not self._calls:
            return
        self._news.set()
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="news of runs")

    async def close(self) -> None:
        """Says what is left, and ends."""
        if self._task is not None:
            await end(self._task)
        await self._empty()

    def _later(self, call: Callable[[], Awaitable[None]]) -> None:
        self._calls.append(call)
        del self._calls[:-WAITING]

    async def _work(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self._empty()

    async def _empty(self) -> None:
        chunks, self._chunks = self._chunks, []
        calls, self._calls = self._calls, []
        try:
            if chunks:
                await self._bus.publish(chunks)
            for call in calls:  # after the chunks: the end of a run comes last
                await call()
        except BusUnavailable as error:
            if not self._lost:
                log.warning("servers that follow runs of this one read the database meanwhile: %s", error)
            self._lost = True
        else:
            self._lost = False
