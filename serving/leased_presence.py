"""Processes that share no folder: each holds a lease as long as it lives, and whose lease nobody holds has ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Protocol

from serving.bus import BusUnavailable
from serving.endings import end
from serving.processes import MARK, new_name, without_token

log = logging.getLogger(__name__)

LEASE_SECONDS = 12.0
"""A process that is killed counts as ended so long after its last renewal; one that looks for such runs every few
seconds takes them over within 30 s."""
RENEW_SECONDS = 3.0


class LeaseBook(Protocol):
    """Where leases are kept: the part of a Bus that this needs."""

    async def acquire(self, name: str, seconds: float, above: int = 0) -> int | None:
        """As Bus.acquire."""
        ...

    async def renew(self, name: str, token: int, seconds: float) -> bool:
        """As Bus.renew."""
        ...

    async def release(self, name: str, token: int) -> None:
        """As Bus.release."""
        ...


class LeasedPresence:
    """A Presence by leases. Its name ends with the lease's fencing token, and so do the rows of its runs.

    A process that could not renew its lease in time may have lost its runs to others: it goes on under a new token,
    and what it writes for runs that were taken is refused. Nobody counts as ended while the leases cannot be reached,
    nor until this process has held its own without a break for as long as a lease lasts: after that, whoever lives
    has renewed theirs, even when the leases had been lost.
    """

    def __init__(self, book: LeaseBook, clock: Callable[[], float] = time.monotonic) -> None:
        """Use `open`. `clock`: seconds that never go back."""
        self._book, self._clock = book, clock
        self._own = new_name()
        self._token = 0
        """0: not held now."""
        self._last = 0
        self._since = clock()
        """Since when the lease is held without a break."""
        self._renewing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, book: LeaseBook) -> LeasedPresence:
        """A process that holds its lease, or takes it as soon as the leases can be reached."""
        presence = cls(book)
        await presence.renew()
        presence._task = asyncio.create_task(presence._keep(), name="lease of this process")
        return presence

    @property
    def name(self) -> str:
        """Ends with the newest token."""
        return f"{self._own}{MARK}{self._last}"

    def is_mine(self, name: str) -> bool:
        """Under whatever token."""
        return without_token(name) == self._own

    async def gone(self, names: Collection[str]) -> set[str]:
        """Those whose lease could be taken just now."""
        others = {name for name in names if not self.is_mine(name)}
        if not others or not await self.renew() or self._clock() - self._since < LEASE_SECONDS:
            return set()
        gone: set[str] = set()
        try:
            for name in others:
                token = await self._book.acquire(_lease(name), RENEW_SECONDS, _token_of(name))
                if token is not None:
                    await self._book.release(_lease(name), token)
                    gone.add(name)
        except BusUnavailable as error:
            log.warning("whether other servers live cannot be seen now: %s", error)
        return gone

    async def renew(self) -> bool:
        """Holds the lease for another LEASE_SECONDS; False when that failed."""
        async with self._renewing:
            return await self._renew()

    async def _renew(self) -> bool:
        try:
            if self._token and await self._book.renew(_lease(self._own), self._token, LEASE_SECONDS):
                return True
            if self._last:
                log.warning("the lease of this process ran out; runs that others took over meanwhile are let go")
            self._token = await self._book.acquire(_lease(self._own), LEASE_SECONDS, self._last) or 0
        except BusUnavailable:
            self._since = self._clock()  # others may not have reached them either
            return False
        self._since = self._clock()
        self._last = self._token or self._last
        return self._token > 0

    async def close(self) -> None:
        """Gives the lease back."""
        if self._task is not None:
            await end(self._task)
        try:
            await self._book.release(_lease(self._own), self._token)
        except BusUnavailable:
            log.info("the lease of this process expires by itself")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self.renew()


def _lease(name: str) -> str:
    return f"process/{without_token(name)}"


def _token_of(name: str) -> int:
    return int(name.partition(MARK)[2] or "0")
