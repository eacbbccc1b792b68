"""A breaker: after a failure nobody waits for a server that is gone until one call has found it again. Pure."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class Breaker:
    """Open after a failure for `pause` seconds; then one call at a time tries, and its success closes it."""

    def __init__(self, pause: float, patience: float, now: Callable[[], float] = monotonic) -> None:
        """`patience`: seconds that a trying call is given before the next one may try too."""
        self._pause, self._patience, self._now = pause, patience, now
        self._reason = ""
        self._until = 0.0

    def refusal(self) -> str:
        """Why a call must not be made now; "" when it may, and must then end in `succeeded` or `failed`."""
        if not self._reason:
            return ""
        if self._now() < self._until:
            return self._reason
        self._until = self._now() + self._patience
        return ""

    def succeeded(self) -> None:
        """The server answered."""
        self._reason = ""

    def failed(self, reason: str) -> None:
        """The server did not answer, or refuses to work."""
        self._reason = reason
        self._until = self._now() + self._pause
