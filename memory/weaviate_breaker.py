"""A circuit breaker: after a failure nobody waits for a dead server but one that tries."""

from __future__ import annotations

import time

from memory.store import MemoryUnavailable

REST_SECONDS = 1.0
"""How long calls fail at once after a failure, until one of them may try again."""


class Breaker:
    """Closed while all is well; open after a failure, then half-open for a single call."""

    def __init__(self) -> None:
        self._reason = ""
        self._until = 0.0
        self._trying = False

    def enter(self) -> bool:
        """Lets a call through; says whether it is the one that tries.

        Raises:
            MemoryUnavailable: the server failed just now.
        """
        if not self._reason:
            return False
        if self._trying or time.monotonic() < self._until:
            raise MemoryUnavailable(self._reason)
        self._trying = True
        return True

    def leave(self, trying: bool) -> None:
        """A call is over, whichever way."""
        if trying:
            self._trying = False

    def works(self) -> None:
        """The server has answered."""
        self._reason = ""

    def failed(self, reason: str) -> None:
        """The server has not answered; `reason` is what other calls are told."""
        self._reason, self._until = reason, time.monotonic() + REST_SECONDS
