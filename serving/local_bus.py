"""The bus of one process: the same promises without a server, for a Parley that runs alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from serving.bell import Bells, Heard
from serving.buckets import Buckets, Taken
from serving.bus import CACHE_BYTES, CACHE_SECONDS, CHUNKS, ENDED_SECONDS, IDLE_SECONDS, Chunk, run_bell

LOOK_SECONDS = 0.25
"""Other processes on the same data folder tell what they do only there."""
CACHED = 1_000
"""So many values are cached; then the oldest is dropped."""
SWEEP_SECONDS = 60.0
"""How often streams that have expired are dropped."""


@dataclass(slots=True)
class _Stream:
    expires: float
    chunks: deque[Chunk] = field(default_factory=lambda: deque[Chunk](maxlen=CHUNKS))


class LocalBus:
    """A Bus that only this process sees."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds that never go back."""
        self._clock = clock
        self._streams: dict[tuple[str, str], _Stream] = {}
        self._swept = clock()
        self._bells = Bells()
        self._leases: dict[str, tuple[int, float]] = {}
        self._token = 0
        self._buckets = Buckets(clock)
        self._cache: dict[tuple[str, str], tuple[bytes, float]] = {}

    @property
    def look_seconds(self) -> float:
        """Often."""
        return LOOK_SECONDS

    async def publish(self, chunks: Sequence[Chunk]) -> None:
        """Adds chunks and rings."""
        now = self._clock()
        self._sweep(now)
        for chunk in chunks:
            stream = self._streams.setdefault((chunk.tenant, chunk.run), _Stream(now))
            if stream.expires < now:
                stream.chunks.clear()
            if not stream.chunks or chunk.last > stream.chunks[-1].last:
                stream.chunks.append(chunk)
            stream.expires = now + IDLE_SECONDS
            self._bells.ring(run_bell(chunk.run))

    async def read(self, tenant: str, run: str, after: int) -> list[Chunk]:
        """The kept chunks of a run that has them."""
        stream = self._streams.get((tenant, run))
        if stream is None or stream.expires < self._clock():
            return []
        return [chunk for chunk in stream.chunks if chunk.last > after]

    async def end(self, tenant: str, run: str) -> None:
        """Rings, and forgets soon."""
        stream = self._streams.get((tenant, run))
        if stream is not None:
            stream.expires = min(stream.expires, self._clock() + ENDED_SECONDS)
        self._bells.ring(run_bell(run))

    async def ring(self, name: str) -> None:
        """Wakes who listens."""
        self._bells.ring(name)

    @asynccontextmanager
    async def listening(self, name: str) -> AsyncGenerator[Heard]:
        """Hears every ring."""
        with self._bells.listening(name) as heard:
            yield heard

    async def acquire(self, name: str, seconds: float, above: int = 0) -> int | None:
        """Takes a lease that nobody holds."""
        now = self._clock()
        if name in self._leases and self._leases[name][1] > now:
            return None
        self._token = max(self._token, above) + 1
        self._leases = {held: lease for held, lease in self._leases.items() if lease[1] > now}
        self._leases[name] = (self._token, now + seconds)
        return self._token

    async def renew(self, name: str, token: int, seconds: float) -> bool:
        """Holds on to a lease."""
        now = self._clock()
        holder, until = self._leases.get(name, (0, 0.0))
        if holder != token or until <= now:
            return False
        self._leases[name] = (token, now + seconds)
        return True

    async def release(self, name: str, token: int) -> None:
        """Gives a lease back."""
        if self._leases.get(name, (0, 0.0))[0] == token:
            del self._leases[name]

    async def take(self, key: str, per_minute: int) -> Taken:
        """Takes one request out of a bucket."""
        return self._buckets.take(key, per_minute)

    async def put(self, tenant: str, name: str, value: bytes, seconds: float) -> None:
        """Caches a value."""
        self._cache.pop((tenant, name), None)
        if len(value) > CACHE_BYTES or seconds <= 0:
            return
        if len(self._cache) >= CACHED:
            del self._cache[next(iter(self._cache))]
        self._cache[tenant, name] = (value, self._clock() + min(seconds, CACHE_SECONDS))

    async def get(self, tenant: str, name: str) -> bytes | None:
        """The cached value, while it lasts."""
        value, until = self._cache.get((tenant, name), (None, 0.0))
        return value if until > self._clock() else None

    async def close(self) -> None:
        """Nothing is open."""

    def _sweep(self, now: float) -> None:
        if now - self._swept >= SWEEP_SECONDS:
            self._swept = now
            self._streams = {key: stream for key, stream in self._streams.items() if stream.expires >= now}
