"""How often a key may ask: a token bucket each, in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

MINUTE = 60.0
KEPT = 10_000
"""So many buckets are kept before the full ones, which say nothing, are dropped."""


class Taken(NamedTuple):
    """What one request found in its key's bucket."""

    allowed: bool
    left: int
    """Requests that may follow at once."""
    wait: int
    """Seconds until the next request may come, when this one may not; 0 when it may."""
    full: int
    """Seconds until the bucket is full again."""


class RateLimits:
    """A bucket of `per_minute` requests for each key, refilled evenly over a minute.

    Kept as one number per key, the moment at which its bucket will be full again (the generic cell rate algorithm of
    ITU-T I.371, in its virtual scheduling form): nothing has to run to refill it.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds that never go back."""
        self.per_minute = per_minute
        self._cost = MINUTE / per_minute
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def take(self, key: str) -> Taken:
        """Takes one request out of the key's bucket; out of an empty one it takes nothing."""
        now = self._clock()
        before = max(self._full_at.get(key, now), now)
        after = before + self._cost
        missing = after - now - MINUTE
        if missing > self._cost * 1e-6:  # more than rounding
            return Taken(False, 0, math.ceil(missing), math.ceil(before - now))
        if len(self._full_at) >= KEPT:
            self._full_at = {name: full for name, full in self._full_at.items() if full > now}
        self._full_at[key] = after
        return Taken(True, int((MINUTE - (after - now)) / self._cost + 1e-6), 0, math.ceil(after - now))
