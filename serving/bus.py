"""Bus: the port between the servers of one Parley; what they tell each other fast, and what they count together.

The database stays the truth. Whatever a bus loses is found there, so its failures cost time and never an answer.
`local_bus.py` is the twin for one process, `redis_bus.py` the real thing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from serving.bell import Heard
from serving.buckets import Taken

CHUNKS = 256
"""So many chunks of one run are kept, the newest; who needs older ones reads the record."""
IDLE_SECONDS = 3_600.0
"""So long a run's chunks are kept after the last one."""
ENDED_SECONDS = 30.0
"""So long they are kept after the run's end."""
CACHE_SECONDS = 86_400.0
"""The longest that anything is cached."""
CACHE_BYTES = 1_000_000
"""The longest value that is cached."""


class BusUnavailable(Exception):
    """The bus cannot be used now; the text says why and what helps. Nothing is lost by going on without it."""


class Chunk(NamedTuple):
    """Some of a run's events, in order and stored already, so that the record has them too."""

    tenant: str
    run: str
    first: int
    """Number of the first event."""
    last: int
    """Number of the last one."""
    body: bytes
    """As serving/event_log.py packs them."""


class Bus(Protocol):
    """Run events, bells, leases, rate limits and a cache, shared by all who use the same bus.

    Every method but `listening` and `close` raises BusUnavailable, within seconds, when the bus cannot be reached.
    Names may be any text. Cancelling a call leaves the bus usable, whether or not the call took effect.
    """

    @property
    def look_seconds(self) -> float:
        """How often those who wait for news look into the database as well, since some news come only there."""
        ...

    async def publish(self, chunks: Sequence[Chunk]) -> None:
        """Adds chunks to the streams of their runs and rings each run's bell (`run_bell`). One that does not end
        after all that its stream has is dropped: a chunk that is published twice is read once. The newest CHUNKS of a
        run are kept."""
        ...

    async def read(self, tenant: str, run: str, after: int) -> list[Chunk]:
        """The kept chunks that end after event number `after`, in order. Chunks may be missing, at the beginning
        or in between: who follows compares the numbers."""
        ...

    async def end(self, tenant: str, run: str) -> None:
        """The run is over, or rests: rings its bell, and forgets its chunks ENDED_SECONDS later."""
        ...

    async def ring(self, name: str) -> None:
        """Wakes everyone who listens to the bell of that name. Nothing is kept for those who do not."""
        ...

    def listening(self, name: str) -> AbstractAsyncContextManager[Heard]:
        """Hears every ring of that bell from now on. When the bus was lost and is found again every bell rings by
        itself, since rings may have been missed."""
        ...

    async def acquire(self, name: str, seconds: float, above: int = 0) -> int | None:
        """Takes the lease of that name for so long; None while another holds it. The number is its fencing token:
        greater than every token of that name before it and than `above`, also when the bus has lost its data."""
        ...

    async def renew(self, name: str, token: int, seconds: float) -> bool:
        """Holds the lease for so long from now. False: it has expired or is another's; it must be taken anew."""
        ...

    async def release(self, name: str, token: int) -> None:
        """Gives the lease back, where it is still the token's."""
        ...

    async def take(self, key: str, per_minute: int) -> Taken:
        """Takes one request out of the key's bucket of `per_minute`; out of an empty one it takes nothing."""
        ...

    async def put(self, tenant: str, name: str, value: bytes, seconds: float) -> None:
        """Caches a value of a tenant for so long, CACHE_SECONDS at most. It may be forgotten earlier; one longer
        than CACHE_BYTES is not kept."""
        ...

    async def get(self, tenant: str, name: str) -> bytes | None:
        """The tenant's cached value, None when there is none."""
        ...

    async def close(self) -> None:
        """Leaves the bus. Leases that were not released expire."""
        ...


async def open_bus(redis_url: str = "") -> Bus:
    """The bus at that address; "" for one that only this process sees.

    Raises:
        BusUnavailable: the server refuses the password, is too old, or the address is wrong; the text says what
            helps. One that cannot be reached now raises nothing: the bus finds it when it is there.
    """
    if redis_url:
        from serving.redis_bus import RedisBus

        return await RedisBus.open(redis_url)
    from serving.local_bus import LocalBus

    return LocalBus()


def run_bell(run: str) -> str:
    """The bell that rings when a run has said more, has ended or rests."""
    return f"run/{run}"


def process_bell(process: str) -> str:
    """The bell that tells a process to look after its runs."""
    return f"process/{process}"


QUEUED_BELL = "queued"
"""The bell that rings when a background run waits for a process."""
