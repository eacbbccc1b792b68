"""Token buckets: how much of a limit is left, kept as one number each."""

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

    @classmethod
    def of(cls, allowed: bool, full: float, per_minute: int) -> Taken:
        """`full`: seconds until the bucket is full again, after this request where it is allowed."""
        cost = MINUTE / per_minute
        if allowed:
            return cls(True, int((MINUTE - full) / cost + 1e-6), 0, math.ceil(full - 1e-6))
        return cls(False, 0, max(1, math.ceil(full + cost - MINUTE - 1e-6)), math.ceil(full - 1e-6))


class Buckets:
    """Buckets of one process, refilled evenly over a minute.

    Of each key only the moment is kept at which its bucket will be full again (the generic cell rate algorithm of
    ITU-T I.371, in its virtual scheduling form): nothing has to run to refill it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds that never go back."""
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def take(self, key: str, per_minute: int) -> Taken:
        """Takes one request out of the key's bucket of `per_minute`; out of an empty one it takes nothing."""
        now, cost = self._clock(), MINUTE / per_minute
        before = max(self._full_at.get(key, now), now)
        after = before + cost
        if after - now - MINUTE > cost * 1e-6:  # more than rounding
            return Taken.of(False, before - now, per_minute)
        if len(self._full_at) >= KEPT:
            self._full_at = {name: full for name, full in self._full_at.items() if full > now}
        self._full_at[key] = after
        return Taken.of(True, after - now, per_minute)
