# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The bus on Redis: streams, leases, buckets and a cache as keys; bells are in redis_bells.py.

Nothing here is the only copy of anything: Redis may lose all of it at any time, and what was lost is made anew."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NoReturn, TypeVar, cast
from urllib.parse import quote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.typing import EncodableT, FieldT

from memory.breaker import Breaker
from serving.bell import Heard
from serving.buckets import MINUTE, Taken
from serving.bus import (
    CACHE_BYTES,
    CACHE_SECONDS,
    CHUNKS,
    ENDED_SECONDS,
    IDLE_SECONDS,
    BusUnavailable,
    Chunk,
    run_bell,
)
from serving.redis_bells import RedisBells

T = TypeVar("T")
log = logging.getLogger(__name__)

PREFIX = "parley"
OLDEST = (6, 2)
"""The oldest version of the server that this works with."""
CONNECT_SECONDS = 1.0
CALL_SECONDS = 1.0
WHOLE_SECONDS = 2.0
"""For a call and the connection that it needs."""
LEAVE_SECONDS = 1.0
"""So long Redis is left alone after a call failed; whoever calls meanwhile is told at once."""
CONNECTIONS = 16
HEALTH_SECONDS = 15.0
"""A connection that was idle for longer is tried before it is used."""
LOOK_SECONDS = 5.0
"""Rings arrive; the database is looked into for those that a connection lost on its way."""
LOST_LOOK_SECONDS = 0.25

ACQUIRE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
local now = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local token = string.format('%.0f', math.max(last + 1, tonumber(ARGV[1]) + 1, now[1] * 1000000 + now[2]))
redis.call('SET', KEYS[2], token)
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return token"""
"""KEYS: the lease, the last token of all leases. ARGV: above, milliseconds. A token is at least the clock in
microseconds, so that it grows even when Redis has lost the last one; and where the clock went back too, the caller's
`above` lifts it."""
RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])"""
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
TAKE = """
local clock = redis.call('TIME')
local now, cost, minute = clock[1] * 1000000 + clock[2], tonumber(ARGV[1]), 60000000
local before = math.min(math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now), now + minute)
local after = before + cost
if after - now - minute > 1 then return {0, before - now} end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000) + 1)
return {1, after - now}"""
"""KEYS: the bucket. ARGV: microseconds for one request. Buckets of serving/buckets.py, by Redis's clock; one that says
to be full later than a minute from now was written before that clock went back."""


class RedisBus:
    """A Bus for all servers that use the same Redis, as any user that may run INFO, EVALSHA and what is called here."""

    def __init__(self, url: str, prefix: str = PREFIX, clock: Callable[[], float] = time.monotonic) -> None:
        """Use `open`. `prefix`: how all names begin; `clock`: seconds that never go back."""
        place = urlsplit(url)
        self._place = f"{place.hostname}:{place.port or 6379}"
        self._client = _client(url, connections=CONNECTIONS, retries=1, health=HEALTH_SECONDS)
        self._prefix = prefix
        self._bells = RedisBells(_client(url, connections=1, retries=0, health=0), prefix, self._place)
        self._acquire, self._renew, self._release, self._take = (
            self._client.register_script(script) for script in (ACQUIRE, RENEW, RELEASE, TAKE)
        )
        self._breaker = Breaker(LEAVE_SECONDS, LEAVE_SECONDS, clock)

    @classmethod
    async def open(cls, url: str, prefix: str = PREFIX) -> RedisBus:
        """A bus at `redis://:password@host:port/number`, or `rediss://` for TLS. When Redis cannot be reached that is
        logged, and it is used as soon as it can be.

        Raises:
            BusUnavailable: it refuses the password, or is too old.
        """
        bus = cls(url, prefix)
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                server = cast(dict[str, object], await bus._client.info("server"))
        except AuthenticationError as error:
            await bus.close()
            raise BusUnavailable(
                f"Redis at {bus._place} refuses the user or the password ({error}); correct PARLEY_REDIS_URL"
            ) from None
        except (RedisError, OSError) as error:
            log.warning("Redis at %s cannot be reached yet (%s); going on without it", bus._place, _said(error))
            return bus
        version = str(server["redis_version"])
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
            await bus.close()
            raise BusUnavailable(
                f"Redis at {bus._place} is version {version}; {OLDEST[0]}.{OLDEST[1]} or newer is needed"
            )
        return bus

    @property
    def look_seconds(self) -> float:
        """Seldom while Redis is there."""
        return LOOK_SECONDS if self._bells.connected else LOST_LOOK_SECONDS

    async def publish(self, chunks: Sequence[Chunk]) -> None:
        """Streams whose entries are numbered by their last event; Redis refuses one that is not new."""
        pipeline = self._client.pipeline(transaction=False)
        for chunk in chunks:
            name = self._name("events", chunk.tenant, chunk.run)
            fields: dict[FieldT, EncodableT] = {b"first": chunk.first, b"body": chunk.body}
            pipeline.xadd(name, fields, f"{chunk.last}-0", maxlen=CHUNKS, approximate=False)
            pipeline.pexpire(name, _milliseconds(IDLE_SECONDS))
            pipeline.publish(self._bells.channel(run_bell(chunk.run)), b"")
        for result in await self._call(lambda: pipeline.execute(raise_on_error=False)):
            if isinstance(result, RedisError) and "equal or smaller" not in str(result):
                self._fail(result)

    async def read(self, tenant: str, run: str, after: int) -> list[Chunk]:
        """A range of the stream."""
        name = self._name("events", tenant, run)
        entries = await self._call(lambda: self._client.xrange(name, f"{after + 1}-0"))
        return [
            Chunk(tenant, run, int(fields[b"first"]), int(id.partition(b"-")[0]), fields[b"body"])
            for id, fields in cast(list[tuple[bytes, dict[bytes, bytes]]], entries)
        ]

    async def end(self, tenant: str, run: str) -> None:
        """Lets the stream expire soon, and rings."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.pexpire(self._name("events", tenant, run), _milliseconds(ENDED_SECONDS))
        pipeline.publish(self._bells.channel(run_bell(run)), b"")
        await self._call(pipeline.execute)

    async def ring(self, name: str) -> None:
        """Publishes on the bell's channel."""
        await self._call(lambda: self._client.publish(self._bells.channel(name), b""))

    def listening(self, name: str) -> AbstractAsyncContextManager[Heard]:
        """Subscribes to the bell's channel; returns when Redis has confirmed it, or is found to be lost."""
        return self._bells.listening(name)

    async def acquire(self, name: str, seconds: float, above: int = 0) -> int | None:
        """One script."""
        keys = [self._name("lease", name), self._name("tokens")]
        token = await self._call(lambda: self._acquire(keys, [above, _milliseconds(seconds)]))
        return None if token is None else int(cast(bytes, token))

    async def renew(self, name: str, token: int, seconds: float) -> bool:
        """One script."""
        return bool(await self._call(lambda: self._renew([self._name("lease", name)], [token, _milliseconds(seconds)])))

    async def release(self, name: str, token: int) -> None:
        """One script."""
        await self._call(lambda: self._release([self._name("lease", name)], [token]))

    async def take(self, key: str, per_minute: int) -> Taken:
        """One script."""
        answer = await self._call(lambda: self._take([self._name("bucket", key)], [MINUTE / per_minute * 1e6]))
        allowed, full = cast(list[int], answer)
        return Taken.of(bool(allowed), full / 1e6, per_minute)

    async def put(self, tenant: str, name: str, value: bytes, seconds: float) -> None:
        """A key that expires."""
        key = self._name("cache", tenant, name)
        if len(value) > CACHE_BYTES or seconds <= 0:
            await self._call(lambda: self._client.delete(key))
        else:
            await self._call(lambda: self._client.set(key, value, px=_milliseconds(min(seconds, CACHE_SECONDS))))

    async def get(self, tenant: str, name: str) -> bytes | None:
        """The key, while it is there."""
        return cast(bytes | None, await self._call(lambda: self._client.get(self._name("cache", tenant, name))))

    async def close(self) -> None:
        """Closes every connection."""
        await self._bells.close()
        await self._client.aclose()

    def _name(self, kind: str, *parts: str) -> str:
        """A key's name; what is in it cannot be mistaken for the signs between."""
        return ":".join((self._prefix, kind, *(quote(part, safe="", errors="surrogatepass") for part in parts)))

    async def _call(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer of Redis. After a failure one caller tries again a second later; the others are told at once."""
        refusal = self._breaker.refusal()
        if refusal:
            raise BusUnavailable(refusal)
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                answer = await ask()
        except (RedisError, OSError) as error:
            self._fail(error)
        self._breaker.succeeded()
        return answer

    def _fail(self, error: RedisError | OSError) -> NoReturn:
        reason = f"Redis at {self._place} does not do as it is asked: {_said(error)}"
        if not isinstance(error, ResponseError):  # else Redis is well, and refuses this alone
            self._breaker.failed(reason)
        raise BusUnavailable(reason) from None


def _client(url: str, *, connections: int, retries: int, health: float) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=CALL_SECONDS,
        protocol=2,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=CALL_SECONDS,
        socket_keepalive=True,
        health_check_interval=health,
        retry=Retry(NoBackoff(), retries),
    )
    return Redis.from_pool(pool)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _said(error: RedisError | OSError) -> str:
    """What is wrong, also where the error says nothing. Neither names the password."""
    return str(error) or type(error).__name__
