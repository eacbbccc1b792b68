"""Jobs as their owners ask for them and see them."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from memory.sql import Connection, DatabaseUnavailable, SqlDatabase, acting_for, every_tenant
from serving.bell import Bell
from serving.idempotency import AlreadyMade, Claim, keep
from serving.ids import uuid7
from serving.job_records import Item, Job, NewItem, NewJob, NothingToRetry, UnknownJob
from serving.job_rows import CHANGED, DELETED, FORGET_DOCUMENT, ITEM, JOB, Value, insert_job, item_of, job_of
from serving.paging import LAST, Page, key_of, page
from serving.times import now

T = TypeVar("T")

LOOK_SECONDS = 1.0
"""How soon what another process has changed is seen."""
MANY = 1_000_000

_OWNED = 'tenant = :tenant AND "user" = :user'
_SEEN = "(tenant = :tenant OR tenant = '')"
"""What the command line sees: all users of a tenant, and what the server does by itself."""

SELECT_ITEMS = f"SELECT {ITEM} FROM jobitems WHERE job = :id AND number > :after ORDER BY number LIMIT :limit"
CANCEL_ITEMS = "UPDATE jobitems SET status = 'cancelled' WHERE job = :id AND status = 'queued'"
CANCEL_QUEUED = f"UPDATE jobs SET status = 'cancelled', {CHANGED} WHERE id = :id AND status = 'queued'"
CANCEL_DOCUMENT = """UPDATE jobitems SET status = 'cancelled', error = :error
WHERE document = :document AND status IN ('queued', 'failed') AND job IN (SELECT id FROM jobs WHERE tenant = :tenant)"""
FORGET_DROPPED = f"""{FORGET_DOCUMENT} document = :document AND job IN (SELECT id FROM jobs WHERE tenant = :tenant
AND (jobitems.status = 'done' OR status IN ('finished', 'failed', 'cancelled')))"""
SELECT_DROPPED = """SELECT DISTINCT i.job, i.content FROM jobitems i JOIN jobs j ON j.id = i.job
WHERE i.document = :document AND i.content <> '' AND j.tenant = :tenant AND NOT EXISTS
(SELECT 1 FROM jobitems o WHERE o.job = i.job AND o.content = i.content AND o.document <> i.document
AND o.status <> 'done')"""
RETRY_ITEMS = """UPDATE jobitems SET status = 'queued', error = '' WHERE job = :id
AND (status = 'failed' OR status = 'cancelled' AND error = '')"""
RETRY = f"""UPDATE jobs SET status = 'queued', failed = 0, error = '', attempt = attempt + 1, {CHANGED}
WHERE id = :id AND status IN ('finished', 'failed', 'cancelled')"""
SELECT_PENDING = """SELECT i.number, i.name, i.content, i.document, i.status, i.error
FROM jobitems i JOIN jobs j ON j.id = i.job
WHERE i.document = :document AND i.status IN ('queued', 'failed') AND j.tenant = :tenant ORDER BY i.job DESC LIMIT 1"""
SELECT_UPLOADER = """SELECT 1 FROM jobitems i JOIN jobs j ON j.id = i.job
WHERE j.tenant = :tenant AND j."user" = :user AND j.kind = 'ingest' AND i.document = :document LIMIT 1"""
COUNT_ANSWERS = """SELECT sum(CASE role WHEN 'assistant' THEN 1 ELSE 0 END),
sum(CASE status WHEN 'complete' THEN 0 ELSE 1 END) FROM messages WHERE thread = :thread"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose jobs are meant: a user's; or with `user` None a tenant's and the server's own, for the command line."""

    tenant: str
    user: str | None

    @property
    def where(self) -> str:
        """The condition on rows of `jobs`; `values` go with it."""
        return _SEEN if self.user is None else _OWNED

    @property
    def values(self) -> dict[str, Value]:
        """What `where` binds."""
        return {"tenant": self.tenant, "user": self.user}

    def acting(self) -> AbstractContextManager[None]:
        """Whose rows the database may show and take: the tenant's; for the command line the server's own too."""
        return every_tenant() if self.user is None or not self.tenant else acting_for(self.tenant)


@dataclass(frozen=True, slots=True)
class Dropped:
    """What became of a deleted document in jobs."""

    waited: bool
    """It was still to be made, or could not be."""
    contents: tuple[tuple[str, str], ...]
    """Job and hash of each upload that nothing else needs now."""


class JobStore:
    """Reads and writes jobs in the database of the record. Any number of processes may do so."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database
        self.bell = Bell()
        """Rings when this process has changed a job."""

    # -- for owners --------------------------------------------------------------------------------------------

    async def add(self, new: NewJob, claim: Claim | None = None, id: str = "") -> tuple[Job, bool]:
        """A new job, queued, and True; with a claim, the job that the same request made before, and False. `id`: a
        new one that is already in use for what belongs to the job.

        Raises:
            KeyReused: the claim's key came with another request; nothing is stored.
            UnknownJob: what the same request made is no longer kept.
        """
        id = id or uuid7()

        def insert(connection: Connection) -> str:
            if claim is not None:
                keep(connection, claim, id)
            insert_job(connection, id, new)
            return id

        owner = Owner(new.tenant, new.user)
        try:
            await self._write(owner, insert)
        except AlreadyMade as earlier:
            return await self._known(owner, earlier.made), False
        self.bell.ring()
        return await self._known(owner, id), True

    async def get(self, owner: Owner, id: str) -> Job | None:
        """The owner's job of that id."""
        sql = f"SELECT {JOB} FROM jobs WHERE id = :id AND {owner.where}"
        return await self._one(owner, sql, {"id": id, **owner.values})

    async def list(self, owner: Owner, cursor: str | None, limit: int) -> Page[Job]:
        """The owner's jobs, newest first.

        Raises:
            WrongCursor: the cursor is none of this list.
        """
        before = LAST if cursor is None else key_of("jobs", cursor)
        sql = f"SELECT {JOB} FROM jobs WHERE id < :before AND {owner.where} ORDER BY id DESC LIMIT :limit"
        values = {"before": before, "limit": limit + 1, **owner.values}
        rows = await self._read(owner, lambda connection: connection.execute(sql, values).fetchall())
        return page("jobs", [job_of(row) for row in rows], limit, lambda job: job.id)

    async def items(self, owner: Owner, id: str, cursor: str | None, limit: int) -> Page[Item]:
        """The parts of a job, in order.

        Raises:
            UnknownJob: the owner has no such job.
            WrongCursor: the cursor is none of this list.
        """
        await self._known(owner, id)
        after = 0 if cursor is None else _number(key_of(id, cursor))
        values = {"id": id, "after": after, "limit": limit + 1}
        rows = await self._read(owner, lambda connection: connection.execute(SELECT_ITEMS, values).fetchall())
        return page(id, [item_of(row) for row in rows], limit, lambda item: str(item.number))

    async def all_items(self, owner: Owner, id: str) -> Sequence[Item]:
        """All parts of a job, in order.

        Raises:
            UnknownJob: the owner has no such job.
        """
        return (await self.items(owner, id, None, MANY)).items

    async def cancel(self, owner: Owner, id: str) -> Job:
        """Cancels what has not begun: a job that waits is over at once, one that runs after the part under way.
        A job that is over stays as it is.

        Raises:
            UnknownJob: the owner has no such job.
        """
        await self._known(owner, id)
        values = {"id": id, "now": now()}

        def cancel(connection: Connection) -> None:
            connection.execute(CANCEL_ITEMS, values)
            connection.execute(CANCEL_QUEUED, values)

        await self._write(owner, cancel)
        self.bell.ring()
        return await self._known(owner, id)

    async def retry(self, owner: Owner, id: str) -> Job:
        """Queues again what failed or was cancelled of a job that is over; what is done stays done.

        Raises:
            UnknownJob: the owner has no such job.
            NothingToRetry: it is under way, or all of it is done.
        """
        job = await self._known(owner, id)
        if not job.is_over:
            raise NothingToRetry(f"the job {id} is {job.status}")
        values = {"id": id, "now": now()}

        def retry(connection: Connection) -> bool:
            again = connection.execute(RETRY_ITEMS, values).rowcount > 0 or job.status == "failed"
            if again:
                connection.execute(RETRY, values)
            return again

        if not await self._write(owner, retry):
            raise NothingToRetry(f"all of the job {id} is done")
        self.bell.ring()
        return await self._known(owner, id)

    async def follow(self, owner: Owner, id: str, after: int) -> AsyncGenerator[Job, None]:
        """The job as it is now, when its version is above `after`, then at each change until it is over or gone.
        Changes that come faster than they are read are told as one."""
        with self.bell.listening() as heard:
            while (job := await self.get(owner, id)) is not None:
                if job.version > after:
                    after = job.version
                    yield job
                if job.is_over:
                    return
                await heard.wait(LOOK_SECONDS)

    # -- for documents -----------------------------------------------------------------------------------------

    async def pending(self, tenant: str, document: str) -> Item | None:
        """The newest part that waits to make this document, or that failed to."""
        values = {"tenant": tenant, "document": document}
        owner = Owner(tenant, "")
        rows = await self._read(owner, lambda connection: connection.execute(SELECT_PENDING, values).fetchall())
        return item_of(rows[0]) if rows else None

    async def uploaded(self, tenant: str, user: str, document: str) -> bool:
        """Whether that user has uploaded that document, as far as jobs are kept."""
        values: dict[str, Value] = {"tenant": tenant, "user": user, "document": document}
        return await self._read(
            Owner(tenant, user), lambda connection: connection.execute(SELECT_UPLOADER, values).fetchone() is not None
        )

    async def drop(self, tenant: str, document: str) -> Dropped:
        """Takes a document that is being deleted out of all jobs."""
        values = {"tenant": tenant, "document": document, "error": DELETED}

        def drop(connection: Connection) -> Dropped:
            waited = connection.execute(CANCEL_DOCUMENT, values).rowcount > 0
            dropped = Dropped(waited, tuple(connection.execute(SELECT_DROPPED, values).fetchall()))
            connection.execute(FORGET_DROPPED, values)
            return dropped

        dropped = await self._write(Owner(tenant, ""), drop)
        self.bell.ring()
        return dropped

    async def title_later(self, tenant: str, user: str, thread: str) -> None:
        """Queues the making of a title when a conversation has got its first answer; for `Turns`."""
        id, new = uuid7(), NewJob(tenant, user, "title", (NewItem(thread),))

        def insert(connection: Connection) -> bool:
            first = connection.execute(COUNT_ANSWERS, {"thread": thread}).fetchone() == (1, 0)
            if first:
                insert_job(connection, id, new)
            return first

        try:
            if await self._write(Owner(tenant, user), insert):
                self.bell.ring()
        except DatabaseUnavailable as error:  # the first question stays the title
            log.warning("no title for the conversation %s: %s", thread, error)

    async def _known(self, owner: Owner, id: str) -> Job:
        job = await self.get(owner, id)
        if job is None:
            raise UnknownJob(f"there is no job {id}")
        return job

    async def _one(self, owner: Owner, sql: str, values: dict[str, Value]) -> Job | None:
        rows = await self._read(owner, lambda connection: connection.execute(sql, values).fetchall())
        return job_of(rows[0]) if rows else None

    async def _read(self, owner: Owner, fn: Callable[[Connection], T]) -> T:
        with owner.acting():
            return await self._database.read(fn)

    async def _write(self, owner: Owner, fn: Callable[[Connection], T]) -> T:
        with owner.acting():
            return await self._database.write(fn)


def _number(key: str) -> int:
    return int(key) if key.isdecimal() and key.isascii() else 0
