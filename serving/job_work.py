"""What jobs do, part by part: each part may be done twice, since its key is the content that it is about."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from agents.context import Budget, Deps, Limits, RunContext, Turn
from agents.title import title
from agents.types import Emitted
from knowledge.catalog import Catalog
from knowledge.files import reason
from knowledge.graph import GraphUnavailable
from knowledge.ingest import Ingest
from knowledge.kinds import ParseFailed
from memory.patience import patiently
from memory.sql import Connection, DatabaseUnavailable, SqlDatabase, acting_for, every_tenant
from memory.store import MemoryUnavailable
from serving.ids import uuid7
from serving.job_progress import JobProgress
from serving.job_records import Item, Job, Kind
from serving.repository import Repository
from serving.retention import Retention
from serving.titles import title_of
from serving.uploads import Uploads

T = TypeVar("T")

PAUSES = (1.0, 5.0, 25.0, 125.0)
"""Seconds before a part is tried again; after the last one the job has failed and waits for `retry`."""
PASSING = (MemoryUnavailable, GraphUnavailable, DatabaseUnavailable, OSError)
"""What may pass: a backend that is away, a disk that is full."""

RENAME = """UPDATE threads SET title = :title
WHERE id = :thread AND tenant = :tenant AND "user" = :user AND title = :old"""

log = logging.getLogger(__name__)


class PartFailed(Exception):
    """A part can never be done as it is; the text says why."""


class Work:
    """Does the parts of jobs on the event loop, with the same parts of the process that answer questions."""

    def __init__(
        self,
        progress: JobProgress,
        uploads: Uploads,
        retention: Retention,
        *,
        database: SqlDatabase,
        ingest: Ingest,
        catalog: Catalog,
        repository: Repository,
        deps: Deps,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        """`pauses`: seconds before each further try of a part that fails for what may pass."""
        self._progress, self._uploads, self._retention = progress, uploads, retention
        self._database, self._ingest, self._catalog = database, ingest, catalog
        self._repository, self._deps, self._pauses = repository, deps, pauses
        self._kinds: dict[Kind, Callable[[Job, Item], Awaitable[None]]] = {
            "ingest": self._take_in,
            "reembed": self._embed_again,
            "retention": self._tidy,
            "title": self._name,
        }

    async def take(self, job: str, attempt: int) -> Sequence[tuple[int, str]]:
        """The next parts of an attempt: number and key; none when all are through or the job was cancelled."""
        return [(item.number, item.key) for item in await self._patiently(lambda: self._progress.take(job, attempt))]

    async def part(self, job: str, attempt: int, number: int) -> None:
        """Does one part, unless it has been done or cancelled. What may pass is waited for a few times; then the
        whole job has failed, for the next part would fare no better."""

        async def wait(error: Exception, pause: float) -> None:
            log.warning("job %s, part %s: %s; tried again in %g s", job, number, error, pause)
            with suppress(DatabaseUnavailable):  # that may be what is in the way
                await self._progress.note(job, attempt, f"tried again in {pause:g} s: {error}")
            await asyncio.sleep(pause)

        try:
            await patiently(lambda: self._try(job, attempt, number), self._pauses, PASSING, wait)
        except PASSING as error:
            await self._progress.fail(job, attempt, f"given up after {len(self._pauses) + 1} tries: {error}")

    async def end(self, job: str, attempt: int) -> None:
        """Says how an attempt has ended; uploads wait on for a retry only."""
        await self._patiently(lambda: self._end(job, attempt))

    async def _end(self, job: str, attempt: int) -> None:
        for tenant, document in await self._progress.deleted(job):  # a killed server may have made them after that
            await self._remove(tenant, document)
        ended = await self._progress.end(job, attempt)
        if ended is not None and ended.kind == "ingest" and not await self._progress.has_left(job):
            await asyncio.to_thread(self._uploads.done, ended.tenant, job)

    async def _remove(self, tenant: str, document: str) -> None:
        await self._ingest.remove(tenant, document)
        await asyncio.to_thread(self._uploads.forget, tenant, document)

    async def _patiently(self, step: Callable[[], Awaitable[T]]) -> T:
        """What stands between the parts is tried again as they are."""

        async def wait(error: Exception, pause: float) -> None:
            log.warning("%s; tried again in %g s", error, pause)
            await asyncio.sleep(pause)

        return await patiently(step, self._pauses, PASSING, wait)

    async def _try(self, id: str, attempt: int, number: int) -> None:
        found = await self._progress.to_do(id, attempt, number)
        if found is None:
            return
        job = found[0]
        try:
            with acting_for(job.tenant) if job.tenant else every_tenant():
                await self._kinds[job.kind](*found)
        except (ParseFailed, PartFailed) as error:
            await self._progress.end_item(job.id, number, str(error))

    async def _take_in(self, job: Job, item: Item) -> None:
        """An upload becomes the document at its path."""
        try:
            data = await asyncio.to_thread(self._uploads.read, job.tenant, job.id, item.content)
        except FileNotFoundError:
            raise PartFailed("its bytes are no longer there; upload it again") from None
        if not data:
            raise PartFailed("empty file")
        await self._ingest.content(job.tenant, item.name, item.name, data)
        with suppress(FileNotFoundError):  # deleted while it was made, as the next line tells
            await asyncio.to_thread(self._uploads.keep, job.tenant, job.id, item.content, item.document)
        if not await self._progress.end_item(job.id, item.number):
            await self._remove(job.tenant, item.document)

    async def _embed_again(self, job: Job, item: Item) -> None:
        """A document is read and stored again: the stores may be others than those that it was taken into."""
        document = (await self._catalog.get(job.tenant, [item.document])).get(item.document)
        if document is not None:
            data = await asyncio.to_thread(self._uploads.original, job.tenant, document.id)
            if data is None:
                data = await asyncio.to_thread(_file, Path(document.path))
            await self._ingest.content(job.tenant, document.path, document.path, data, again=True)
        await self._progress.end_item(job.id, item.number)

    async def _tidy(self, job: Job, item: Item) -> None:
        """One part of retention."""
        await self._retention.part(item.name)
        await self._progress.end_item(job.id, item.number)

    async def _name(self, job: Job, item: Item) -> None:
        """A conversation that is still called by its first question gets a title from the model."""
        thread = await self._repository.thread(job.tenant, job.user, item.name)
        said = await self._repository.messages(job.tenant, job.user, item.name)
        if thread is not None and len(said) >= 2 and thread.title == title_of(said[0].content):
            turn = Turn(run=uuid7(), tenant=job.tenant, user=job.user, messages=(), thread=item.name, limits=Limits())
            ctx = RunContext(self._deps, turn, Budget(turn.limits), _unheard)
            found = await title(said[0].content, said[1].content, ctx)
            if found is not None:
                values = {
                    "title": found, "old": thread.title, "thread": item.name, "tenant": job.tenant, "user": job.user,
                }  # fmt: skip
                await self._database.write(lambda connection: _execute(connection, values))
        await self._progress.end_item(job.id, item.number)


def _execute(connection: Connection, values: dict[str, str]) -> None:
    connection.execute(RENAME, values)


def _file(path: Path) -> bytes:
    """The bytes of a file that was taken in from the disk.

    Raises:
        PartFailed: it cannot be read; the document stays as it is.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError
        return path.read_bytes()
    except OSError as error:
        raise PartFailed(f"the document stays as it is: {reason(error)}") from error


async def _unheard(_: Emitted) -> None:
    """A title speaks to nobody."""
