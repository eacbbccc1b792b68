"""What the runner notes of jobs while it works, and what retention removes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from memory.sql import Connection, SqlDatabase, every_tenant
from serving.bell import Bell
from serving.job_records import Item, Job
from serving.job_rows import CHANGED, DELETED, FORGET_DOCUMENT, ITEM, JOB, SELECT_JOB, ItemRow, Value, item_of, job_of
from serving.times import now, stamp

T = TypeVar("T")

ITEMS_AT_ONCE = 20
ERRORS_SHOWN = 3

SELECT_UNFINISHED = f"SELECT {JOB} FROM jobs WHERE status IN ('queued', 'running') ORDER BY id"
SELECT_NEWEST = f"""SELECT {JOB} FROM jobs WHERE tenant = :tenant AND "user" = :user AND kind = :kind
ORDER BY id DESC LIMIT 1"""
BEGIN = f"UPDATE jobs SET status = 'running', {CHANGED} WHERE id = :id AND attempt = :attempt AND status = 'queued'"
SELECT_TO_DO = f"""SELECT {ITEM} FROM jobitems WHERE job = :id AND status = 'queued' AND EXISTS
(SELECT 1 FROM jobs WHERE id = :id AND attempt = :attempt AND status = 'running') ORDER BY number LIMIT :limit"""
SELECT_ITEM_TO_DO = f"""SELECT {ITEM} FROM jobitems WHERE job = :id AND number = :number AND status = 'queued'
AND EXISTS (SELECT 1 FROM jobs WHERE id = :id AND attempt = :attempt AND status = 'running')"""
END_ITEM = """UPDATE jobitems SET status = :status, error = :error WHERE job = :id AND number = :number
AND (status = 'queued' OR status = 'cancelled' AND error = '')"""
COUNT_ITEM = f"""UPDATE jobs SET done = done + CASE :status WHEN 'done' THEN 1 ELSE 0 END,
failed = failed + CASE :status WHEN 'failed' THEN 1 ELSE 0 END, error = '', {CHANGED} WHERE id = :id"""
NOTE = f"UPDATE jobs SET error = :error, {CHANGED} WHERE id = :id AND attempt = :attempt AND status = 'running'"
COUNT_CANCELLED = "SELECT count(*) FROM jobitems WHERE job = :id AND status = 'cancelled' AND error = ''"
SELECT_FAILED = "SELECT name, error FROM jobitems WHERE job = :id AND status = 'failed' ORDER BY number LIMIT :limit"
END = f"""UPDATE jobs SET status = :status, error = :error, {CHANGED}
WHERE id = :id AND attempt = :attempt AND status IN ('queued', 'running')"""
SELECT_LEFT = """SELECT 1 FROM jobitems WHERE job = :id
AND (status IN ('queued', 'failed') OR status = 'cancelled' AND error = '') LIMIT 1"""
SELECT_DELETED = """SELECT DISTINCT j.tenant, i.document FROM jobitems i JOIN jobs j ON j.id = i.job
WHERE i.job = :id AND i.status = 'cancelled' AND i.error = :deleted AND NOT EXISTS (SELECT 1 FROM jobitems o
WHERE o.document = i.document AND (o.job, o.number) > (i.job, i.number) AND o.status IN ('queued', 'done'))"""
FORGET_DELETED = f"{FORGET_DOCUMENT} job = :id AND error = :deleted"
SELECT_OLD = """SELECT id FROM jobs WHERE status IN ('finished', 'failed', 'cancelled') AND updated_at < :before
LIMIT :limit"""
FORGET_ITEMS = "DELETE FROM jobitems WHERE job = ?"
FORGET_JOBS = "DELETE FROM jobs WHERE id = ?"


class JobProgress:
    """Writes how far the jobs of all tenants are; each change rings the bell."""

    def __init__(self, database: SqlDatabase, bell: Bell) -> None:
        self._database, self._bell = database, bell

    async def unfinished(self) -> Sequence[Job]:
        """All jobs that wait or run, oldest first."""
        rows = await self._read(lambda connection: connection.execute(SELECT_UNFINISHED).fetchall())
        return [job_of(row) for row in rows]

    async def newest(self, tenant: str, user: str, kind: str) -> Job | None:
        """The newest job of a kind."""
        values = {"tenant": tenant, "user": user, "kind": kind}
        rows = await self._read(lambda connection: connection.execute(SELECT_NEWEST, values).fetchall())
        return job_of(rows[0]) if rows else None

    async def take(self, id: str, attempt: int) -> Sequence[Item]:
        """Begins an attempt, or goes on with it: some parts that are still to be done, in order; none at the end."""
        values = {"id": id, "attempt": attempt, "now": now(), "limit": ITEMS_AT_ONCE}

        def take(connection: Connection) -> list[ItemRow]:
            connection.execute(BEGIN, values)
            return connection.execute(SELECT_TO_DO, values).fetchall()

        rows = await self._write(take)
        self._bell.ring()
        return [item_of(row) for row in rows]

    async def to_do(self, id: str, attempt: int, number: int) -> tuple[Job, Item] | None:
        """One part, when it is still to be done in this attempt."""
        values = {"id": id, "attempt": attempt, "number": number}

        def look(connection: Connection) -> tuple[Job, Item] | None:
            row = connection.execute(SELECT_ITEM_TO_DO, values).fetchone()
            job = connection.execute(SELECT_JOB, values).fetchone()
            return None if row is None else (job_of(job), item_of(row))

        return await self._read(look)

    async def end_item(self, id: str, number: int, error: str = "") -> bool:
        """A part is done, or has failed for good; False when its document was deleted meanwhile. Once told, telling
        it again changes nothing."""
        values: dict[str, Value] = {
            "id": id, "number": number, "error": error, "status": "failed" if error else "done", "now": now(),
        }  # fmt: skip

        def end(connection: Connection) -> bool:
            ended = connection.execute(END_ITEM, values).rowcount > 0
            if ended:
                connection.execute(COUNT_ITEM, values)
            return ended

        ended = await self._write(end)
        self._bell.ring()
        return ended

    async def note(self, id: str, attempt: int, error: str) -> None:
        """What is in the way of a running job just now."""
        values = {"id": id, "attempt": attempt, "error": error, "now": now()}
        await self._write(lambda connection: _execute(connection, NOTE, values))
        self._bell.ring()

    async def end(self, id: str, attempt: int) -> Job | None:
        """All parts are through: the job is cancelled when some were, failed when none went well, else finished. The
        job as it was before."""
        values: dict[str, Value] = {"id": id, "attempt": attempt, "now": now(), "limit": ERRORS_SHOWN}

        def end(connection: Connection) -> Job | None:
            row = connection.execute(SELECT_JOB, values).fetchone()
            if row is None:
                return None
            job = job_of(row)
            (cancelled,) = connection.execute(COUNT_CANCELLED, values).fetchone()
            wrong = connection.execute(SELECT_FAILED, values).fetchall()
            values["status"] = (
                "cancelled" if cancelled else "failed" if job.failed and not job.done else "finished"
            )  # fmt: skip
            values["error"] = _told(wrong, job.failed)
            connection.execute(END, values)
            connection.execute(FORGET_DELETED, {"id": id, "deleted": DELETED})
            return job

        job = await self._write(end)
        self._bell.ring()
        return job

    async def fail(self, id: str, attempt: int, error: str) -> None:
        """The job cannot be carried out: it waits for `retry` with what is left of it."""
        values = {"id": id, "attempt": attempt, "status": "failed", "error": error, "now": now()}
        await self._write(lambda connection: _execute(connection, END, values))
        self._bell.ring()

    async def deleted(self, id: str) -> Sequence[tuple[str, str]]:
        """Tenant and id of the documents of a job that were deleted before they were made, and not sent again since."""
        values = {"id": id, "deleted": DELETED}
        return await self._read(lambda connection: connection.execute(SELECT_DELETED, values).fetchall())

    async def has_left(self, id: str) -> bool:
        """Whether some part of a job is still to be done, be it after a retry."""
        values = {"id": id}
        return await self._read(lambda connection: connection.execute(SELECT_LEFT, values).fetchone() is not None)

    async def forget(self, before: datetime, limit: int) -> int:
        """Removes up to `limit` jobs that were over before a time, and says how many."""

        def forget(connection: Connection) -> int:
            old = connection.execute(SELECT_OLD, {"before": stamp(before), "limit": limit}).fetchall()
            connection.executemany(FORGET_ITEMS, old)
            connection.executemany(FORGET_JOBS, old)
            return len(old)

        return await self._write(forget, bulk=True)

    async def _read(self, fn: Callable[[Connection], T]) -> T:
        with every_tenant():
            return await self._database.read(fn)

    async def _write(self, fn: Callable[[Connection], T], *, bulk: bool = False) -> T:
        with every_tenant():
            return await self._database.write(fn, bulk=bulk)


def _execute(connection: Connection, sql: str, values: dict[str, str | int]) -> None:
    connection.execute(sql, values)


def _told(wrong: Sequence[tuple[str, str]], failed: int) -> str:
    """The first failures in words, and how many more there are."""
    told = "; ".join(f"{name}: {error}" for name, error in wrong)
    return f"{told}; and {failed - len(wrong)} more" if failed > len(wrong) else told
