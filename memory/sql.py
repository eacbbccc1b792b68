"""SQL as the product speaks it: the port of the two databases that keep the record, SQLite and Postgres.

Statements are written in what both understand: `?` and `:name` for values, `"user"` quoted, ON CONFLICT instead of
INSERT OR, truth as 0 and 1. What they cannot say alike is in `Dialect`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from _typeshed import Incomplete as Row
    # What a row's columns are is known to its statement alone, as in sqlite3's own types.

T = TypeVar("T")
Value = str | int | float | bytes | None
Values = Sequence[Value] | Mapping[str, Value]


class DatabaseUnavailable(Exception):
    """The database cannot be opened, read or written now; the message says what to do."""


class Rows(Protocol):
    """What a statement gave: an iterator over tuples."""

    @property
    def rowcount(self) -> int:
        """Rows that an INSERT, UPDATE or DELETE has changed."""
        ...

    def fetchone(self) -> Row:
        """The next row, None after the last."""
        ...

    def fetchall(self) -> list[Row]:
        """All rows that are left."""
        ...

    def __iter__(self) -> Iterator[Row]: ...


class Connection(Protocol):
    """Runs statements inside somebody's transaction, in that one's thread."""

    def execute(self, sql: str, values: Values = ..., /) -> Rows:
        """Runs one statement."""
        ...

    def executemany(self, sql: str, values: Iterable[Values], /) -> Rows:
        """Runs one statement with each of these values."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the databases say differently."""

    name: Literal["sqlite", "postgresql"]
    like: str
    """The LIKE that takes upper and lower case of ASCII for the same. For other letters fold both sides: `folded(x)`
    is str.casefold in both, but for letters that no language writes."""
    text: Callable[[str], str | bytes]
    """A text that may hold lone surrogates, as a value; `memory.sqlite.from_sql` reads it."""


class SqlDatabase(Protocol):
    """A database. Functions given to it run in threads, should end within about 20 ms and only use the connection:
    they may be run a second time when a transaction broke."""

    @property
    def dialect(self) -> Dialect:
        """What it says in its own way."""
        ...

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Runs `fn` in one read transaction: a snapshot, taken by its first statement.

        Raises:
            DatabaseUnavailable: it cannot be read now, or has been closed.
        """
        ...

    async def look(self, fn: Callable[[Connection], T]) -> T:
        """Runs `fn`, which should be one look-up by index, the quickest way there is.

        Raises:
            DatabaseUnavailable: as `read`.
        """
        ...

    async def write(self, fn: Callable[[Connection], T], *, bulk: bool = False) -> T:
        """Runs `fn` in a write transaction and returns its result after the commit.

        Transactions are as if one came after the other; those of a process commit in the order of their calls. What
        `fn` raises rolls back its own changes alone. Cancelling the caller takes a job that waits out of the queue;
        one that has begun is finished. `bulk` jobs run one by one and stand back behind all others. Inside
        `transaction()` the call returns at once, without a result: `fn` must be one that returns None.

        Raises:
            DatabaseUnavailable: it cannot be written now; the message says when something of `fn` may be kept.
        """
        ...

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Joins the `write` calls made inside it (also by tasks started in it) into one transaction at its end.

        Nothing is written when the body raises. Reads inside do not see the writes. A nested one joins the outer
        one. The exit raises what `write` would; it is a bulk transaction when one of its writes is.
        """
        ...

    async def after_commit(self, follow_up: Callable[[], Awaitable[None]]) -> None:
        """Awaits `follow_up` now, or after the commit of the `transaction()` that the caller is in."""
        ...

    async def close(self) -> None:
        """Finishes queued writes and closes every connection; reads and writes then raise."""
        ...


_NOBODY, _EVERY = "", "every"
_acting: ContextVar[str] = ContextVar("acting", default=_NOBODY)


@contextmanager
def acting_for(tenant: str) -> Generator[None]:
    """Inside it, also in tasks started in it, a database with row-level security shows this tenant's rows alone and
    takes no others. Outside of it and of `every_tenant` it shows and takes none. Whoever acts for one tenant cannot
    act for another in it: that is a bug, which crashes."""
    whom, before = f"tenant:{tenant}", _acting.get()
    if before not in (whom, _EVERY, _NOBODY):
        raise RuntimeError("what acts for one tenant must not act for another")
    token = _acting.set(whom)
    try:
        yield
    finally:
        _acting.reset(token)


@contextmanager
def every_tenant() -> Generator[None]:
    """As `acting_for`, for what the system does by itself over the rows of all tenants."""
    token = _acting.set(_EVERY)
    try:
        yield
    finally:
        _acting.reset(token)


def acting() -> str:
    """For whom the caller acts, as the policies of the tables read it: "tenant:" and the tenant, "every", or ""."""
    return _acting.get()
