"""How often a key may ask: a bucket each, counted on the bus; while that is lost, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable

from serving.buckets import Buckets, Taken
from serving.bus import Bus, BusUnavailable


class RateLimits:
    """A bucket of `per_minute` requests for each key.

    A lost bus opens no door: each server then holds the same limit alone, so that a key may ask once that much of
    each of them at most.
    """

    def __init__(self, per_minute: int, bus: Callable[[], Bus], clock: Callable[[], float] = time.monotonic) -> None:
        """`bus`: asked with each request, since it is opened later than the application is made; `clock`: seconds
        that never go back, for the buckets of this process."""
        self.per_minute = per_minute
        self._bus = bus
        self._alone = Buckets(clock)

    async def take(self, key: str) -> Taken:
        """Takes one request out of the key's bucket; out of an empty one it takes nothing."""
        try:
            return await self._bus().take(key, self.per_minute)
        except BusUnavailable:
            return self._alone.take(key, self.per_minute)
