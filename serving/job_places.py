"""Where background jobs are noted while they run, and what lets one process at a time run them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from memory.file_lock import locked

LOCK = "jobs.lock"
LOCK_SECONDS = 2.0
"""How soon a server takes over from the one that ran the jobs so far."""

Lost = Callable[[], Awaitable[None]]
"""Returns once another process has taken over; may never."""


class Place(Protocol):
    """One queue of jobs, which any number of processes see."""

    @property
    def url(self) -> str:
        """SQLAlchemy's address of the database where DBOS keeps its tables."""
        ...

    @property
    def owner_url(self) -> str:
        """The same as the role that owns those tables and makes them; "" when `url` does, or when they are there."""
        ...

    def alone(self) -> AbstractAsyncContextManager[Lost]:
        """Waits until no other process runs these jobs; then none does until the body ends or `Lost` returns. A
        process that dies makes room for another."""
        ...


@dataclass(frozen=True, slots=True)
class FilePlace:
    """The one SQLite file; its lock is a file beside it, which the system gives up for a process that dies."""

    database: Path

    @property
    def url(self) -> str:
        """See Place."""
        return f"sqlite:///{self.database}"

    @property
    def owner_url(self) -> str:
        """See Place."""
        return ""

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[Lost]:
        """See Place."""
        descriptor = os.open(self.database.with_name(LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                if locked(descriptor):
                    break
                await asyncio.sleep(LOCK_SECONDS)
            yield _never
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """A Postgres server; its lock is one of the server's, which it gives up for a process that has gone."""

    url: str = field(repr=False)
    owner_url: str = field(repr=False, default="")

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[Lost]:
        """See Place."""
        from memory.postgres_lock import alone  # only where a server is used

        async with alone(self.url, "jobs") as lock:
            yield lock.lost


async def _never() -> None:
    """Nobody takes a lock from a living process."""
    await asyncio.Event().wait()
