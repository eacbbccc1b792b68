"""One read for many askers: each gets a value that was read after it asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Generic, TypeVar

from memory.store import MemoryUnavailable

T = TypeVar("T")


class Tasks:
    """What one owner has at work, and ends."""

    def __init__(self) -> None:
        self._at_work: set[asyncio.Task[object]] = set()

    def start(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Begins work that goes on when nobody waits for it any more."""
        task = asyncio.create_task(work)
        self._at_work.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self, patience: float) -> None:
        """Gives what still runs so many seconds to end by itself, then ends it."""
        if self._at_work:
            await asyncio.wait(set(self._at_work), timeout=patience)
        tasks = set(self._at_work)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, task: asyncio.Task[T]) -> None:
        self._at_work.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: who waits for it has it, and if nobody does it matters no more


class Fresh(Generic[T]):
    """Runs a read one at a time, in a task that no asker's cancellation ends; askers of the same time share one."""

    def __init__(self, read: Callable[[], Awaitable[T]], tasks: Tasks) -> None:
        """`tasks` is where its tasks are while they run, for who ends them."""
        self._read, self._tasks = read, tasks
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """What a read gives that began after this call; a read under way that fails is not followed by another.

        Raises:
            MemoryUnavailable: the read failed.
        """
        if self._next is None and (self._running is None or self._running.done()):
            task = self._running = self._tasks.start(self._once(None))
        elif self._next is None:
            task = self._next = self._tasks.start(self._once(self._running))
        else:
            task = self._next  # has not begun
        await asyncio.wait({task})
        return task.result()

    async def _once(self, before: asyncio.Task[T] | None) -> T:
        if before is not None:
            await asyncio.wait({before})
            self._running, self._next = self._next, None
            if not before.cancelled() and isinstance(error := before.exception(), MemoryUnavailable):
                raise MemoryUnavailable(str(error))
        return await self._read()
