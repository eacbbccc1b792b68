"""A Postgres server as the database: threads that read, one that writes, one for bulk, and row-level security."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from memory.postgres_link import READ, WRITE, Address, Link
from memory.postgres_workers import Job, Queue, Server, Worker
from memory.sql import Connection, DatabaseUnavailable, Dialect, acting
from memory.sql_transactions import Transactions

T = TypeVar("T")

READERS = 4
GROUP = 32
"""So many writes that wait share a commit."""
PATIENCE, BULK_PATIENCE = 10.0, 60.0
"""Seconds from the call to the answer, after which it is given up."""
BYPASS = """SELECT r.rolsuper OR r.rolbypassrls
OR EXISTS (SELECT 1 FROM pg_class c WHERE c.relname = 'runs' AND pg_has_role(c.relowner, 'MEMBER'))
FROM pg_roles r WHERE r.rolname = current_user"""
VERSION_OF = "SELECT version_num FROM alembic_version"
HAS_VERSION = "SELECT to_regclass('alembic_version') IS NOT NULL"


def same(text: str) -> str:
    """The text itself: this door stores lone surrogates by itself."""
    return text


POSTGRES = Dialect("postgresql", "ILIKE", same)


class PostgresDatabase(Transactions[Connection]):
    """A SqlDatabase over one server. Any number of processes may use it; all connections are made when needed, and
    made anew when they break: work whose connection broke is done again unless it may have been kept.

    What is written and read is bound by the tables' policies to the tenant of `memory.sql.acting_for`.
    """

    dialect = POSTGRES

    def __init__(self, address: Address, patience: float) -> None:
        """Use `open`, which also checks the server."""
        super().__init__()
        self.address, self._patience = address, patience
        self._reads, self._writes, self._bulk = (Queue(address.name) for _ in range(3))
        server, slow = Server(address, patience), Server(address, BULK_PATIENCE)
        self._workers = [
            *(Worker(server, self._reads, READ, group=1, name=f"reader-{number}") for number in range(READERS)),
            Worker(server, self._writes, WRITE, group=GROUP, name="writer"),
            Worker(slow, self._bulk, WRITE, group=1, name="bulk"),
        ]

    @classmethod
    async def open(cls, url: str, revision: str, *, patience: float = PATIENCE) -> PostgresDatabase:
        """Connects as the application's role, and checks that the tables are of this revision and that the role
        cannot leave row-level security. `patience`: seconds that any call waits at most.

        Raises:
            DatabaseUnavailable: the server is away, too old or does not let us in, the tables are missing or of
                another revision, or the role may do too much.
        """
        address = Address.of(url)
        await asyncio.to_thread(_check, address, revision, patience)
        return cls(address, patience)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """See SqlDatabase."""
        results: list[T] = []

        def work(link: Link) -> None:
            results[:] = [fn(link)]

        await self._run(self._reads, work, self._patience)
        return results[0]

    async def look(self, fn: Callable[[Connection], T]) -> T:
        """See SqlDatabase."""
        return await self.read(fn)

    async def close(self) -> None:
        """See SqlDatabase."""
        for queue in (self._reads, self._writes, self._bulk):
            queue.close()
        for worker in self._workers:
            await asyncio.to_thread(worker.join)

    def _bound(self, work: Callable[[Connection], None]) -> Callable[[Connection], None]:
        """The work, for whom its caller acts."""
        whom = acting()

        def bound(connection: Connection) -> None:
            assert isinstance(connection, Link)
            connection.act_for(whom)
            work(connection)

        return bound

    async def _submit(self, work: Callable[[Connection], None], bulk: bool) -> None:
        if bulk:
            await self._run(self._bulk, work, BULK_PATIENCE)
        else:
            await self._run(self._writes, work, self._patience)

    async def _run(self, queue: Queue, work: Callable[[Link], None], patience: float) -> None:
        """Lets a thread do the work; given up, with its connection, when that takes too long."""
        job = Job(work, acting(), time.monotonic() + patience)
        queue.put(job)
        why = f"the database {self.address.name} has not answered within {patience:g} s; try again"
        timer = asyncio.get_running_loop().call_later(patience, job.give_up, why)
        try:
            await asyncio.wrap_future(job.future)
        finally:
            if job.future.done():  # else its caller has gone, and the timer guards the thread
                timer.cancel()


def _check(address: Address, revision: str, patience: float) -> None:
    link = Link(address, patience)
    try:
        if not link.execute(HAS_VERSION).fetchone()[0]:
            raise DatabaseUnavailable(
                f"the database {address.name} has no tables yet: set PARLEY_DATABASE_OWNER_URL to the URL of the role"
                " that owns the database, and start again"
            )
        (found,) = link.execute(VERSION_OF).fetchone()
        if found < revision:
            raise DatabaseUnavailable(
                f"the tables of the database {address.name} are of revision {found} and this Parley needs {revision}:"
                " set PARLEY_DATABASE_OWNER_URL to the URL of the role that owns them, and start again"
            )
        if found > revision:
            raise DatabaseUnavailable(
                f"the tables of the database {address.name} were made by a newer Parley (revision {found}, this one"
                f" knows {revision}); install that Parley"
            )
        if link.execute(BYPASS).fetchone()[0]:
            raise DatabaseUnavailable(
                f"the role {address.user} could leave the row-level security of the database {address.name}: give"
                " PARLEY_DATABASE_URL a role that owns no tables and is neither superuser nor BYPASSRLS"
            )
    finally:
        link.close()
