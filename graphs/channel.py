"""Channel: the bounded way of a run's events from the graph's task to one reader."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """Many senders, one reader, at most `limit` items between them; a sender waits while it is full.

    Unlike a queue it can be closed although it is full, so a run whose reader has gone always ends.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[T] = deque()
        self._closed = False
        self._ready = asyncio.Event()
        self._space = asyncio.Event()

    async def send(self, item: T) -> None:
        """Hands one item on; waits for the reader while `limit` items lie between."""
        while len(self._items) >= self._limit:
            self._space.clear()
            await self._space.wait()
        self._items.append(item)
        self._ready.set()

    def close(self) -> None:
        """No more items: the reader gets what is left and ends."""
        self._closed = True
        self._ready.set()

    async def items(self) -> AsyncIterator[T]:
        """The items in order, until the channel is closed and empty."""
        while True:
            while self._items:
                item = self._items.popleft()
                self._space.set()
                yield item
            if self._closed:
                return
            self._ready.clear()
            await self._ready.wait()
