"""Retention: what is only kept for a while is removed once that while is over, little by little."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from knowledge.catalog import Catalog
from memory.sql import Connection, SqlDatabase, every_tenant
from memory.sqlite import from_sql
from serving.idempotency import LIFETIME, Idempotency
from serving.job_progress import JobProgress
from serving.job_records import NewItem
from serving.times import stamp
from serving.uploads import Uploads, tenant_folder

JOB_LIFETIME = timedelta(days=30)
"""How long a job that is over is listed."""
AT_ONCE = 100
"""Rows removed in one transaction, so that nobody waits for it."""

SELECT_EXPIRED = """SELECT DISTINCT e.run FROM events e LEFT JOIN runs r ON r.id = e.run
WHERE r.id IS NULL OR r.finished_at < :before LIMIT :limit"""
FORGET_EVENTS = "DELETE FROM events WHERE run = ?"
SELECT_TENANTS = "SELECT DISTINCT tenant FROM jobs UNION SELECT DISTINCT tenant FROM documents"

PARTS = (NewItem("events"), NewItem("idempotency"), NewItem("uploads"), NewItem("jobs"))
"""What one pass does, as parts of its job."""


class Retention:
    """One pass over everything that grows old."""

    def __init__(
        self, database: SqlDatabase, catalog: Catalog, jobs: JobProgress, uploads: Uploads, *, event_hours: float
    ) -> None:
        """`event_hours`: how long a run's events are kept after its end."""
        self._database, self._catalog, self._jobs, self._uploads = database, catalog, jobs, uploads
        self._event_hours = event_hours
        self._parts: dict[str, Callable[[], Awaitable[None]]] = {
            "events": self.events,
            "idempotency": self.idempotency,
            "uploads": self.uploads,
            "jobs": self.jobs,
        }

    async def part(self, name: str) -> None:
        """Does one of PARTS, acting for every tenant; a second time changes nothing.

        Raises:
            DatabaseUnavailable, GraphUnavailable, OSError: it cannot be done now.
        """
        with every_tenant():
            await self._parts[name]()

    async def events(self) -> None:
        """Removes the events of runs that have been over for long, or that are gone themselves."""
        before = datetime.now(UTC) - timedelta(hours=self._event_hours)
        values = {"before": stamp(before), "limit": AT_ONCE}

        def forget(connection: Connection) -> bool:
            runs = connection.execute(SELECT_EXPIRED, values).fetchall()
            connection.executemany(FORGET_EVENTS, runs)
            return bool(runs)

        while await self._database.write(forget, bulk=True):
            pass

    async def idempotency(self) -> None:
        """Removes the idempotency keys that no longer count."""
        await Idempotency(self._database).forget(datetime.now(UTC) - LIFETIME)

    async def uploads(self) -> None:
        """Removes the bytes that no job and no document needs."""
        tenants = await self._database.read(lambda connection: connection.execute(SELECT_TENANTS).fetchall())
        names = {tenant_folder(from_sql(tenant)): from_sql(tenant) for (tenant,) in tenants}
        for folder in await asyncio.to_thread(self._uploads.tenants):
            for job in await asyncio.to_thread(self._uploads.waiting, folder):
                if not await self._jobs.has_left(job):
                    await asyncio.to_thread(self._uploads.clear, folder, job)
            await self._orphans(names.get(folder), folder)

    async def _orphans(self, tenant: str | None, folder: str) -> None:
        """Removes the originals of documents that were deleted by other means than the API."""
        kept = await asyncio.to_thread(self._uploads.originals, folder)
        living = {} if tenant is None else await self._catalog.get(tenant, kept)
        for document in kept:
            if document not in living:
                await asyncio.to_thread(self._uploads.drop, folder, document)

    async def jobs(self) -> None:
        """Removes the jobs that were over long ago."""
        before = datetime.now(UTC) - JOB_LIFETIME
        while await self._jobs.forget(before, AT_ONCE):
            pass
