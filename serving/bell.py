"""Bells within the process: those who wait for a change hear it, those who only look now and then lose nothing."""

from __future__ import annotations

import asyncio
import math
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

    async def wait(self, seconds: float = math.inf) -> bool:
        """Returns at once when there was a ring since the last call, else at the next one, or after so long. Whether
        there was one."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        rung = self._event.is_set()
        self._event.clear()
        return rung


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


class Bells:
    """Bells by name, each for as long as somebody listens to it."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Heard]] = {}

    @property
    def names(self) -> frozenset[str]:
        """Those that somebody listens to."""
        return frozenset(self._listeners)

    def ring(self, name: str) -> None:
        """Wakes everyone who listens to that bell."""
        for listener in self._listeners.get(name, ()):
            listener.ring()

    def ring_all(self) -> None:
        """Wakes everyone."""
        for name in self._listeners:
            self.ring(name)

    @contextmanager
    def listening(self, name: str) -> Generator[Heard]:
        """Hears every ring of that bell from now on."""
        heard = Heard()
        self._listeners.setdefault(name, set()).add(heard)
        try:
            yield heard
        finally:
            self._listeners[name].discard(heard)
            if not self._listeners[name]:
                del self._listeners[name]
