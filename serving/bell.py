"""A bell within the process: those who wait for a change hear it, those who only look now and then lose nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

import anyio


class Heard:
    """One listener's memory of the rings since it last waited."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """There was a ring."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Returns at once when there was a ring since the last call, else at the next one, or after so long."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        self._event.clear()


class Bell:
    """Tells all its listeners that something has changed."""

    def __init__(self) -> None:
        self._listeners: set[Heard] = set()

    def ring(self) -> None:
        """Wakes everyone who listens."""
        for listener in self._listeners:
            listener.ring()

    @contextmanager
    def listening(self) -> Generator[Heard]:
        """Hears every ring from now on; what is looked up after this began and before a wait is never missed."""
        heard = Heard()
        self._listeners.add(heard)
        try:
            yield heard
        finally:
            self._listeners.discard(heard)
