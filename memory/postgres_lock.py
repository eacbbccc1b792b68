"""A lock of one process among all on the same Postgres, which ends with that process, however it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import LiteralString

import anyio
import psycopg

LOOK_SECONDS = 2.0
"""How soon the lock of a process that has gone is taken, and how often it is looked whether it is still held."""
PATIENCE_SECONDS = 5
"""How long a server may take to answer before it counts as away."""

_WATCH: tuple[LiteralString, ...] = (
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
)
"""A machine that has gone loses its lock after eleven seconds."""
_TAKE = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"

log = logging.getLogger(__name__)


class ServerLock:
    """The lock while `alone` gives it."""

    def __init__(self, url: str, name: str) -> None:
        """`url`: as DATABASE_URL."""
        self._url, self._name = url.replace("postgresql+psycopg://", "postgresql://", 1), name
        self._connection: psycopg.AsyncConnection[tuple[object, ...]] | None = None

    async def lost(self) -> None:
        """Returns once another process holds the lock. A server that is only away for a while, or restarts, takes it
        from nobody: whoever comes back first has it."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not await self._answers() and not await self._taken_again():
                return

    async def take(self) -> None:
        """Waits until the lock is free, and takes it."""
        while True:
            if await self._taken_again():
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """Gives the lock back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _answers(self) -> bool:
        """Whether the connection that holds the lock is alive."""
        if self._connection is None:
            return False
        with anyio.move_on_after(PATIENCE_SECONDS):
            try:
                await self._connection.execute("SELECT 1")
            except psycopg.OperationalError as error:
                log.warning("the lock %s of this server may be lost: %s", self._name, error)
            else:
                return True
        await self.close()
        return False

    async def _taken_again(self) -> bool:
        """Whether the lock could be taken just now; waits while the server is away."""
        while True:
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                found = await (await self._connection.execute(_TAKE, [self._name])).fetchone()
            except psycopg.OperationalError as error:
                log.warning("the lock %s waits for Postgres: %s", self._name, error)
                await self.close()
                await asyncio.sleep(LOOK_SECONDS)
            else:
                return found == (True,)

    async def _connect(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        connection = await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, connect_timeout=PATIENCE_SECONDS, application_name=f"parley {self._name}"
        )
        async with AsyncExitStack() as stack:
            stack.push_async_callback(connection.close)
            for setting in _WATCH:
                await connection.execute(setting)
            stack.pop_all()
        return connection


@asynccontextmanager
async def alone(url: str, name: str) -> AsyncGenerator[ServerLock]:
    """Waits until no other process on this database holds the lock of that name. `url`: as DATABASE_URL."""
    lock = ServerLock(url, name)
    try:
        await lock.take()
        yield lock
    finally:
        with anyio.CancelScope(shield=True):
            await lock.close()
