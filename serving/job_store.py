"""Jobs as rows: what their owners ask for and see, and what the runner notes while it works."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from memory.sqlite import Database
from memory.sqlite_errors import DatabaseUnavailable
from serving.bell import Bell
from serving.idempotency import AlreadyMade, Claim, keep
from serving.ids import uuid7
from serving.job_records import (
    ITEM_STATUS,
    JOB_STATUS,
    KINDS,
    Item,
    Job,
    NewItem,
    NewJob,
    NothingToRetry,
    UnknownJob,
)
from serving.paging import LAST, Page, key_of, page
from serving.times import now, stamp

LOOK_SECONDS = 1.0
"""How soon what another process has changed is seen."""
ITEMS_AT_ONCE = 20
MANY = 1_000_000
ERRORS_SHOWN = 3
DELETED = "its document was deleted"
"""Error of a part whose document was deleted before it was made."""

_JOB = "id, tenant, user, kind, status, done, total, failed, error, version, attempt, spec, created_at, updated_at"
_ITEM = "number, name, content, document, status, error"
_OWNED = "tenant = :tenant AND user = :user"
_SEEN = "(tenant = :tenant OR tenant = '')"
"""What the command line sees: all users of a tenant, and what the server does by itself."""
_CHANGED = "version = version + 1, updated_at = :now"

INSERT_JOB = f"""INSERT INTO jobs ({_JOB})
VALUES (:id, :tenant, :user, :kind, 'queued', 0, :total, 0, '', 1, 1, :spec, :now, :now)"""
INSERT_ITEM = f"INSERT INTO jobitems (job, {_ITEM}) VALUES (?, ?, ?, ?, ?, 'queued', '')"
SELECT_UNFINISHED = f"SELECT {_JOB} FROM jobs WHERE status IN ('queued', 'running') ORDER BY id"
SELECT_NEWEST = (
    f"SELECT {_JOB} FROM jobs WHERE tenant = :tenant AND user = :user AND kind = :kind ORDER BY id DESC LIMIT 1"
)
BEGIN = f"UPDATE jobs SET status = 'running', {_CHANGED} WHERE id = :id AND attempt = :attempt AND status = 'queued'"
SELECT_ITEMS = f"SELECT {_ITEM} FROM jobitems WHERE job = :id AND number > :after ORDER BY number LIMIT :limit"
SELECT_TO_DO = f"""SELECT {_ITEM} FROM jobitems WHERE job = :id AND status = 'queued' AND EXISTS
(SELECT 1 FROM jobs WHERE id = :id AND attempt = :attempt AND status = 'running') ORDER BY number LIMIT :limit"""
SELECT_ITEM_TO_DO = f"""SELECT {_ITEM} FROM jobitems WHERE job = :id AND number = :number AND status = 'queued'
AND EXISTS (SELECT 1 FROM jobs WHERE id = :id AND attempt = :attempt AND status = 'running')"""
END_ITEM = """UPDATE jobitems SET status = :status, error = :error WHERE job = :id AND number = :number
AND (status = 'queued' OR status = 'cancelled' AND error = '')"""
COUNT_ITEM = f"""UPDATE jobs SET done = done + (:status = 'done'), failed = failed + (:status = 'failed'), error = '',
{_CHANGED} WHERE id = :id"""
NOTE = f"UPDATE jobs SET error = :error, {_CHANGED} WHERE id = :id AND attempt = :attempt AND status = 'running'"
CANCEL_ITEMS = "UPDATE jobitems SET status = 'cancelled' WHERE job = :id AND status = 'queued'"
CANCEL_QUEUED = f"UPDATE jobs SET status = 'cancelled', {_CHANGED} WHERE id = :id AND status = 'queued'"
CANCEL_DOCUMENT = """UPDATE jobitems SET status = 'cancelled', error = :error
WHERE document = :document AND status = 'queued' AND job IN (SELECT id FROM jobs WHERE tenant = :tenant)"""
RETRY_ITEMS = """UPDATE jobitems SET status = 'queued', error = '' WHERE job = :id
AND (status = 'failed' OR status = 'cancelled' AND error = '')"""
RETRY = (
    f"""UPDATE jobs SET status = 'queued', failed = 0, error = '', attempt = attempt + 1, {_CHANGED} WHERE id = :id"""
)
COUNT_CANCELLED = "SELECT count(*) FROM jobitems WHERE job = :id AND status = 'cancelled' AND error = ''"
SELECT_FAILED = "SELECT name, error FROM jobitems WHERE job = :id AND status = 'failed' ORDER BY number LIMIT :limit"
END = f"""UPDATE jobs SET status = :status, error = :error, {_CHANGED}
WHERE id = :id AND attempt = :attempt AND status IN ('queued', 'running')"""
SELECT_PENDING = """SELECT i.number, i.name, i.content, i.document, i.status, i.error
FROM jobitems i JOIN jobs j ON j.id = i.job
WHERE i.document = :document AND i.status IN ('queued', 'failed') AND j.tenant = :tenant ORDER BY i.job DESC LIMIT 1"""
SELECT_UPLOADER = """SELECT 1 FROM jobitems i JOIN jobs j ON j.id = i.job
WHERE j.tenant = :tenant AND j.user = :user AND j.kind = 'ingest' AND i.document = :document LIMIT 1"""
COUNT_ANSWERS = "SELECT sum(role = 'assistant'), sum(status <> 'complete') FROM messages WHERE thread = :thread"
SELECT_NEEDED = """SELECT 1 FROM jobitems i JOIN jobs j ON j.id = i.job
WHERE i.content = :content AND i.status <> 'done' AND j.tenant = :tenant LIMIT 1"""
SELECT_OLD = """SELECT id FROM jobs WHERE status IN ('finished', 'failed', 'cancelled') AND updated_at < :before
LIMIT :limit"""
FORGET_ITEMS = "DELETE FROM jobitems WHERE job IN (SELECT value FROM json_each(:ids))"
FORGET_JOBS = "DELETE FROM jobs WHERE id IN (SELECT value FROM json_each(:ids))"

log = logging.getLogger(__name__)

_Value = str | int | None
_JobRow = tuple[str, str, str, str, str, int, int, int, str, int, int, str, str, str]
_ItemRow = tuple[int, str, str, str, str, str]


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
    def values(self) -> dict[str, _Value]:
        """What `where` binds."""
        return {"tenant": self.tenant, "user": self.user}


class JobStore:
    """Reads and writes jobs through the owner of the one file. Any number of processes may do so."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.bell = Bell()
        """Rings when this process has changed a job."""

    # -- for owners --------------------------------------------------------------------------------------------

    async def add(self, new: NewJob, claim: Claim | None = None) -> tuple[Job, bool]:
        """A new job, queued, and True; with a claim, the job that the same request made before, and False.

        Raises:
            KeyReused: the claim's key came with another request; nothing is stored.
            UnknownJob: what the same request made is no longer kept.
        """
        id = uuid7()

        def insert(connection: sqlite3.Connection) -> str:
            if claim is not None:
                keep(connection, claim, id)
            insert_job(connection, id, new)
            return id

        owner = Owner(new.tenant, new.user)
        try:
            await self._database.write(insert)
        except AlreadyMade as earlier:
            return await self._known(owner, earlier.made), False
        self.bell.ring()
        return await self._known(owner, id), True

    async def get(self, owner: Owner, id: str) -> Job | None:
        """The owner's job of that id."""
        sql = f"SELECT {_JOB} FROM jobs WHERE id = :id AND {owner.where}"
        return await self._one(sql, {"id": id, **owner.values})

    async def list(self, owner: Owner, cursor: str | None, limit: int) -> Page[Job]:
        """The owner's jobs, newest first.

        Raises:
            WrongCursor: the cursor is none of this list.
        """
        before = LAST if cursor is None else key_of("jobs", cursor)
        sql = f"SELECT {_JOB} FROM jobs WHERE id < :before AND {owner.where} ORDER BY id DESC LIMIT :limit"
        values = {"before": before, "limit": limit + 1, **owner.values}
        rows = await self._database.read(lambda connection: connection.execute(sql, values).fetchall())
        return page("jobs", [_job(row) for row in rows], limit, lambda job: job.id)

    async def items(self, owner: Owner, id: str, cursor: str | None, limit: int) -> Page[Item]:
        """The parts of a job, in order.

        Raises:
            UnknownJob: the owner has no such job.
            WrongCursor: the cursor is none of this list.
        """
        await self._known(owner, id)
        after = 0 if cursor is None else _number(key_of(id, cursor))
        values = {"id": id, "after": after, "limit": limit + 1}
        rows = await self._database.read(lambda connection: connection.execute(SELECT_ITEMS, values).fetchall())
        return page(id, [_item(row) for row in rows], limit, lambda item: str(item.number))

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

        def cancel(connection: sqlite3.Connection) -> None:
            connection.execute(CANCEL_ITEMS, values)
            connection.execute(CANCEL_QUEUED, values)

        await self._database.write(cancel)
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

        def retry(connection: sqlite3.Connection) -> bool:
            again = connection.execute(RETRY_ITEMS, values).rowcount > 0 or job.status == "failed"
            if again:
                connection.execute(RETRY, values)
            return again

        if not await self._database.write(retry):
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
        rows = await self._database.read(lambda connection: connection.execute(SELECT_PENDING, values).fetchall())
        return _item(rows[0]) if rows else None

    async def uploaded(self, tenant: str, user: str, document: str) -> bool:
        """Whether that user has uploaded that document, as far as jobs are kept."""
        return await self._exists(SELECT_UPLOADER, {"tenant": tenant, "user": user, "document": document})

    async def drop(self, tenant: str, document: str) -> bool:
        """Takes a document that is being deleted out of all jobs; whether it waited in one."""
        values = {"tenant": tenant, "document": document, "error": DELETED}
        dropped = await self._database.write(lambda connection: connection.execute(CANCEL_DOCUMENT, values).rowcount)
        self.bell.ring()
        return dropped > 0

    async def title_later(self, tenant: str, user: str, thread: str) -> None:
        """Queues the making of a title when a conversation has got its first answer; for `Turns`."""
        id, new = uuid7(), NewJob(tenant, user, "title", (NewItem(thread),))

        def insert(connection: sqlite3.Connection) -> bool:
            first = connection.execute(COUNT_ANSWERS, {"thread": thread}).fetchone() == (1, 0)
            if first:
                insert_job(connection, id, new)
            return first

        try:
            if await self._database.write(insert):
                self.bell.ring()
        except DatabaseUnavailable as error:  # the first question stays the title
            log.warning("no title for the conversation %s: %s", thread, error)

    # -- for the runner ----------------------------------------------------------------------------------------

    async def unfinished(self) -> Sequence[Job]:
        """All jobs that wait or run, oldest first."""
        rows = await self._database.read(lambda connection: connection.execute(SELECT_UNFINISHED).fetchall())
        return [_job(row) for row in rows]

    async def newest(self, tenant: str, user: str, kind: str) -> Job | None:
        """The newest job of a kind."""
        return await self._one(SELECT_NEWEST, {"tenant": tenant, "user": user, "kind": kind})

    async def take(self, id: str, attempt: int) -> Sequence[Item]:
        """Begins an attempt, or goes on with it: some parts that are still to be done, in order; none at the end."""
        values = {"id": id, "attempt": attempt, "now": now(), "limit": ITEMS_AT_ONCE}

        def take(connection: sqlite3.Connection) -> list[_ItemRow]:
            connection.execute(BEGIN, values)
            return connection.execute(SELECT_TO_DO, values).fetchall()

        rows = await self._database.write(take)
        self.bell.ring()
        return [_item(row) for row in rows]

    async def to_do(self, id: str, attempt: int, number: int) -> tuple[Job, Item] | None:
        """One part, when it is still to be done in this attempt."""
        values = {"id": id, "attempt": attempt, "number": number}

        def look(connection: sqlite3.Connection) -> tuple[Job, Item] | None:
            row = connection.execute(SELECT_ITEM_TO_DO, values).fetchone()
            job = connection.execute(f"SELECT {_JOB} FROM jobs WHERE id = :id", values).fetchone()
            return None if row is None else (_job(job), _item(row))

        return await self._database.read(look)

    async def end_item(self, id: str, number: int, error: str = "") -> bool:
        """A part is done, or has failed for good; False when its document was deleted meanwhile. Once told, telling
        it again changes nothing."""
        values: dict[str, _Value] = {
            "id": id, "number": number, "error": error, "status": "failed" if error else "done", "now": now(),
        }  # fmt: skip

        def end(connection: sqlite3.Connection) -> bool:
            ended = connection.execute(END_ITEM, values).rowcount > 0
            if ended:
                connection.execute(COUNT_ITEM, values)
            return ended

        ended = await self._database.write(end)
        self.bell.ring()
        return ended

    async def note(self, id: str, attempt: int, error: str) -> None:
        """What is in the way of a running job just now."""
        values = {"id": id, "attempt": attempt, "error": error, "now": now()}
        await self._database.write(lambda connection: _execute(connection, NOTE, values))
        self.bell.ring()

    async def end(self, id: str, attempt: int) -> None:
        """All parts are through: the job is cancelled when some were, failed when none went well, else finished."""
        values: dict[str, _Value] = {"id": id, "attempt": attempt, "now": now(), "limit": ERRORS_SHOWN}

        def end(connection: sqlite3.Connection) -> None:
            row = connection.execute(f"SELECT {_JOB} FROM jobs WHERE id = :id", values).fetchone()
            if row is None:
                return
            job = _job(row)
            (cancelled,) = connection.execute(COUNT_CANCELLED, values).fetchone()
            wrong = connection.execute(SELECT_FAILED, values).fetchall()
            values["status"] = (
                "cancelled" if cancelled else "failed" if job.failed and not job.done else "finished"
            )  # fmt: skip
            values["error"] = _told(wrong, job.failed)
            connection.execute(END, values)

        await self._database.write(end)
        self.bell.ring()

    async def fail(self, id: str, attempt: int, error: str) -> None:
        """The job cannot be carried out: it waits for `retry` with what is left of it."""
        values = {"id": id, "attempt": attempt, "status": "failed", "error": error, "now": now()}
        await self._database.write(lambda connection: _execute(connection, END, values))
        self.bell.ring()

    # -- for retention -----------------------------------------------------------------------------------------

    async def needs(self, tenant: str, content: str) -> bool:
        """Whether some part of a job still needs an upload's bytes, be it for a retry."""
        return await self._exists(SELECT_NEEDED, {"tenant": tenant, "content": content})

    async def forget(self, before: datetime, limit: int) -> int:
        """Removes up to `limit` jobs that were over before a time, and says how many."""

        def forget(connection: sqlite3.Connection) -> int:
            old = connection.execute(SELECT_OLD, {"before": stamp(before), "limit": limit}).fetchall()
            values = {"ids": orjson.dumps([id for (id,) in old]).decode()}
            connection.execute(FORGET_ITEMS, values)
            return connection.execute(FORGET_JOBS, values).rowcount

        return await self._database.write(forget, bulk=True)

    async def _known(self, owner: Owner, id: str) -> Job:
        job = await self.get(owner, id)
        if job is None:
            raise UnknownJob(f"there is no job {id}")
        return job

    async def _one(self, sql: str, values: dict[str, _Value]) -> Job | None:
        rows = await self._database.read(lambda connection: connection.execute(sql, values).fetchall())
        return _job(rows[0]) if rows else None

    async def _exists(self, sql: str, values: dict[str, _Value]) -> bool:
        return await self._database.read(lambda connection: connection.execute(sql, values).fetchone() is not None)


def insert_job(connection: sqlite3.Connection, id: str, new: NewJob) -> None:
    """Stores a new job inside a transaction; ring the store's bell after it."""
    values: dict[str, _Value] = {
        "id": id, "tenant": new.tenant, "user": new.user, "kind": new.kind, "total": len(new.items),
        "spec": orjson.dumps(new.spec).decode(), "now": now(),
    }  # fmt: skip
    connection.execute(INSERT_JOB, values)
    connection.executemany(INSERT_ITEM, [_item_values(id, number, item) for number, item in enumerate(new.items, 1)])


def _item_values(job: str, number: int, item: NewItem) -> tuple[str, int, str, str, str]:
    return job, number, item.name, item.content, item.document


def _execute(connection: sqlite3.Connection, sql: str, values: dict[str, str | int]) -> None:
    connection.execute(sql, values)


def _number(key: str) -> int:
    return int(key) if key.isdecimal() and key.isascii() else 0


def _told(wrong: Sequence[tuple[str, str]], failed: int) -> str:
    """The first failures in words, and how many more there are."""
    told = "; ".join(f"{name}: {error}" for name, error in wrong)
    return f"{told}; and {failed - len(wrong)} more" if failed > len(wrong) else told


def _job(row: _JobRow) -> Job:
    id, tenant, user, kind, status, done, total, failed, error, version, attempt, spec, created_at, updated_at = row
    return Job(
        id, tenant, user, KINDS[kind], JOB_STATUS[status], done, total, failed, error, version, attempt,
        dict[str, str](orjson.loads(spec)), created_at, updated_at,
    )  # fmt: skip


def _item(row: _ItemRow) -> Item:
    number, name, content, document, status, error = row
    return Item(number, name, content, document, ITEM_STATUS[status], error)
