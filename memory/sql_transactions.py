"""Writes that wait for the end of a `transaction()`: what both databases do alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

T = TypeVar("T")
C = TypeVar("C")


@dataclass(slots=True)
class _Joined(Generic[C]):
    """The writes of an open `transaction()`."""

    work: list[Callable[[C], None]] = field(default_factory=list[Callable[[C], None]])
    follow_ups: list[Callable[[], Awaitable[None]]] = field(default_factory=list[Callable[[], Awaitable[None]]])
    bulk: bool = False
    open: bool = True


class Transactions(ABC, Generic[C]):
    """`write`, `transaction` and `after_commit` of memory.sql.SqlDatabase, for a connection of type C."""

    def __init__(self) -> None:
        self._joined: ContextVar[_Joined[C] | None] = ContextVar("joined", default=None)

    async def write(self, fn: Callable[[C], T], *, bulk: bool = False) -> T:
        """See SqlDatabase."""
        joined = self._current()
        if joined is not None:
            joined.bulk |= bulk
            joined.work.append(self._bound(lambda connection: _nothing(fn(connection))))
            return cast(T, None)  # fn returns None, else _nothing raises
        results: list[T] = []

        def work(connection: C) -> None:
            results[:] = [fn(connection)]

        await self._submit(self._bound(work), bulk)
        return results[0]

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        """See SqlDatabase."""
        if self._current() is not None:
            yield
            return
        joined = _Joined[C]()
        token = self._joined.set(joined)
        try:
            yield
        finally:
            joined.open = False
            self._joined.reset(token)

        def work(connection: C) -> None:
            for part in joined.work:
                part(connection)

        if joined.work:
            await self._submit(work, joined.bulk)
        for follow_up in joined.follow_ups:
            await follow_up()

    async def after_commit(self, follow_up: Callable[[], Awaitable[None]]) -> None:
        """See SqlDatabase."""
        joined = self._current()
        if joined is None:
            await follow_up()
        else:
            joined.follow_ups.append(follow_up)

    def _bound(self, work: Callable[[C], None]) -> Callable[[C], None]:
        """The work with what belongs to it of the place where `write` was called."""
        return work

    @abstractmethod
    async def _submit(self, work: Callable[[C], None], bulk: bool) -> None:
        """Runs the work in a transaction and returns after the commit."""

    def _current(self) -> _Joined[C] | None:
        joined = self._joined.get()
        return joined if joined is not None and joined.open else None


def _nothing(result: object) -> None:
    if result is not None:
        raise RuntimeError("a write inside transaction() cannot return a result")
