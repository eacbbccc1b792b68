# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Bells over Redis: one connection that hears all channels somebody listens to, and finds Redis again by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError

from serving.bell import Bells, Heard
from serving.endings import end

log = logging.getLogger(__name__)

PING_SECONDS = 2.0
"""Silence after which the connection is tried; after as much again it counts as lost."""
RETRY_SECONDS = 0.5
SUBSCRIBE_SECONDS = 1.0
"""The longest wait for Redis to confirm that a bell is heard."""
OWN = "bells"
"""A channel that keeps the connection subscribed when nobody listens."""


class RedisBells:
    """The bells of this process that others can ring."""

    def __init__(self, client: Redis, prefix: str, place: str) -> None:
        """`client`: for this alone, closed with it, one that does not try again by itself; `place`: host and port."""
        self._client, self._prefix, self._place = client, prefix, place
        self._bells = Bells()
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        """It was tried once whether Redis is there."""
        self._pubsub: PubSub | None = None
        self._sending = asyncio.Lock()
        self._asked: set[str] = set()
        """Bells whose channels Redis was asked for on this connection."""
        self._awaited: dict[str, asyncio.Event] = {}
        """Those of them that it has not confirmed, and that somebody waits for."""

    @property
    def connected(self) -> bool:
        """Whether rings arrive now."""
        return self._pubsub is not None

    def channel(self, name: str) -> bytes:
        """The channel of a bell."""
        return f"{self._prefix}:bell:{name}".encode(errors="surrogatepass")

    @asynccontextmanager
    async def listening(self, name: str) -> AsyncGenerator[Heard]:
        """Hears every ring from now on, when Redis is there; when it comes back, the bell rings by itself."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name="bells of Redis")
        with self._bells.listening(name) as heard:
            with suppress(TimeoutError):
                async with asyncio.timeout(SUBSCRIBE_SECONDS):
                    await self._tried.wait()
                    await self._ask(name)
            yield heard

    async def close(self) -> None:
        """Hears nothing any more."""
        if self._task is not None:
            await end(self._task)
        await self._client.aclose()

    async def _ask(self, name: str) -> None:
        """Returns when Redis sends that bell's rings, or is lost."""
        async with self._sending:
            pubsub = self._pubsub
            if pubsub is not None and name not in self._asked:
                self._asked.add(name)
                self._awaited[name] = asyncio.Event()
                with suppress(RedisError, OSError):  # the reader of the connection sees that too
                    await pubsub.subscribe(self.channel(name))
        if name in self._awaited:
            await self._awaited[name].wait()

    async def _keep(self) -> None:
        """Stays connected for as long as it can, and begins anew when it cannot."""
        known = True
        while True:
            try:
                await self._hear()
            except (RedisError, OSError) as error:
                if self._pubsub is not None or known:
                    log.warning("Redis at %s is lost (%s); going on without it", self._place, error)
                known = False
            finally:
                self._forget()
            await asyncio.sleep(RETRY_SECONDS)

    async def _hear(self) -> None:
        async with self._client.pubsub() as pubsub:
            names = self._bells.names
            await pubsub.subscribe(self.channel(OWN), *(self.channel(name) for name in names))
            silences = 0
            while True:
                message = cast("dict[str, bytes | str] | None", await pubsub.get_message(timeout=PING_SECONDS))
                if message is not None:
                    silences = 0
                    await self._heard(pubsub, names, str(message["type"]), cast("bytes | None", message["channel"]))
                    continue
                silences += 1
                if silences > 1:
                    raise Lost("it does not answer")
                await self._tidy(pubsub)

    async def _heard(self, pubsub: PubSub, names: frozenset[str], kind: str, channel: bytes | None) -> None:
        if channel == self.channel(OWN):
            if self._pubsub is None:
                log.info("Redis at %s is there", self._place)
                async with self._sending:
                    since = self._bells.names - names  # those that somebody began to listen to meanwhile
                    self._pubsub, self._asked = pubsub, {*names, *since}
                    quiet = since if self._tried.is_set() else self._asked  # they have only begun to listen
                    self._awaited = {name: asyncio.Event() for name in quiet}
                    if since:
                        await pubsub.subscribe(*(self.channel(name) for name in since))
                self._tried.set()
            return
        if channel is None or kind not in ("subscribe", "message"):
            return
        name = channel.decode(errors="surrogatepass")[len(f"{self._prefix}:bell:") :]
        awaited = self._awaited.pop(name, None) if kind == "subscribe" else None
        if awaited is not None:
            awaited.set()
        else:
            self._bells.ring(name)  # also when it is heard again: rings may have been missed

    async def _tidy(self, pubsub: PubSub) -> None:
        """Tries the connection, and stops what nobody listens to any more."""
        async with self._sending:
            idle = self._asked - self._bells.names
            if self._pubsub is not None and idle:
                self._asked -= idle
                await pubsub.unsubscribe(*(self.channel(name) for name in idle))
            await pubsub.ping()

    def _forget(self) -> None:
        """The connection is gone: nobody waits for it, and those who wait for rings look elsewhere meanwhile."""
        self._pubsub, self._asked = None, set()
        self._tried.set()
        for awaited in self._awaited.values():
            awaited.set()
        self._awaited = {}
        self._bells.ring_all()
