"""Taking documents in: new and changed files are parsed, embedded and stored, what has gone is removed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar, cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from knowledge import chunk, parse
from knowledge.catalog import Catalog
from knowledge.files import NotFound, Selection, is_below, reason, select, shown
from knowledge.graph import GraphUnavailable, KnowledgeGraph
from knowledge.parse import ParseFailed, Parser
from knowledge.pipeline import BATCH_TEXTS, Embedded, Job, Piece, Pipeline, groups, pieces
from knowledge.types import Document, Failure, IngestReport
from memory.embedding import Embedder
from memory.patience import patience, patiently
from memory.sql import DatabaseUnavailable
from memory.store import IncompleteSource, MemoryStore, MemoryUnavailable, OtherEmbedder

__all__ = ["Ingest", "NotFound", "Progress", "document_id"]

T = TypeVar("T")

PAUSES = (1.0, 2.0, *(4.0,) * 30)
"""Seconds before each further try to store something, two minutes beside what the tries take: a server that is started
anew is back by then."""
_AWAY = (MemoryUnavailable, GraphUnavailable, DatabaseUnavailable)
_MANY = 100
VERSION = "1"
"""Changes whenever the same passages would be stored otherwise: files then count as changed."""


@dataclass(slots=True)
class Progress:
    """How far an ingestion has come; the same object is passed again and again."""

    report: IngestReport
    """What has been done so far; stays right when the ingestion is cancelled."""
    total: int = 0
    """Files that were found."""
    done: int = 0
    """Files that are through, whatever came of them."""
    path: str = ""
    """The file that was last begun or finished."""
    passages_per_second: float = 0.0
    """Stored so far, by the time since the first file was read."""
    waiting: str = ""
    """Why nothing is stored right now, while a store that is away is waited for."""


@dataclass(slots=True)
class _Run:
    """The state of one call of `Ingest.paths`."""

    tenant: str
    files: Mapping[str, Path]
    known: dict[str, Document]
    begun: Mapping[str, str]
    """Documents of which a killed ingestion may have left something."""
    tell: Callable[[Progress], None]
    progress: Progress
    started: float = field(default_factory=time.monotonic)
    again: list[str] = field(default_factory=list[str])
    """Files of which another process has removed what was staged."""
    reached: bool = False
    """Something has been stored or removed: the stores are the right ones, and were there."""

    @property
    def report(self) -> IngestReport:
        return self.progress.report

    def began(self, path: str) -> None:
        """A file is being read."""
        self.progress.path = path
        self.tell(self.progress)

    def waits(self, why: str) -> None:
        """A store is away; "" when it is asked again."""
        self.progress.waiting = why
        self.tell(self.progress)

    def ended(self, path: str) -> None:
        """A file is through."""
        self.progress.path = path
        self.progress.done += 1
        self.report.seconds = time.monotonic() - self.started
        self.progress.passages_per_second = self.report.passages / max(self.report.seconds, 1e-9)
        self.tell(self.progress)

    def failed(self, path: str, why: str) -> None:
        """A file could not be taken in; its old passages stay."""
        self.report.failed.append(Failure(path, why))
        self.ended(path)

    def stored(self, job: Job) -> None:
        """A document has been published."""
        if job.document.path in self.known:
            self.report.updated += 1
        else:
            self.report.new += 1
        self.report.passages += len(job.passages)
        self.ended(job.document.path)


class Ingest:
    """Takes files and contents into a tenant's documents; any number of processes may do so at once."""

    def __init__(
        self,
        parser: Parser,
        embedder: Embedder,
        memory: MemoryStore,
        graph: KnowledgeGraph,
        catalog: Catalog,
        transaction: Callable[[], AbstractAsyncContextManager[None]] | None,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        """`transaction` makes one transaction of the writes inside it, for stores that share a database. None: they
        do not; the catalog then notes each document before anything is stored of it, so that the next ingestion
        cares for what a failure between two stores left, and `paths` waits for a store that goes away meanwhile:
        `pauses` are the seconds before each further try."""
        self._parser, self._catalog = parser, catalog
        self._pipeline = Pipeline(embedder, memory, graph, catalog, transaction)
        self._pauses = pauses if transaction is None else ()
        self._made_by = f"{parse.VERSION}/{chunk.VERSION}/{VERSION}/{embedder.name}"

    async def paths(
        self, tenant: str, named: Sequence[str], progress: Callable[[Progress], None] = lambda _: None
    ) -> IngestReport:
        """Takes in named files, folders and globs; unchanged files are left as they are.

        What has gone below a named folder is removed at the end. May be cancelled: what was reported stays. A server
        that goes away once something was stored is waited for, for some minutes.

        Raises:
            NotFound: a named path does not exist or a glob matches nothing; nothing was touched.
            MemoryUnavailable, GraphUnavailable: nothing can be stored, for example since the disk is full.
        """
        with patience():
            return await self._paths(tenant, named, progress)

    async def _paths(self, tenant: str, named: Sequence[str], progress: Callable[[Progress], None]) -> IngestReport:
        selection = await asyncio.to_thread(select, named, parse.supported)
        report = IngestReport(skipped=selection.skipped, failed=list(selection.unlisted))
        run = await self._run_for(tenant, selection, progress, report)
        try:
            await self._take(run, list(selection.files))
            again, run.again = run.again, []
            for path in again:  # the other process may have stored the very same
                document = await self._catalog.at(tenant, path)
                if document is not None:
                    run.known[path] = document
            await self._take(run, again)
            for path in run.again:
                run.failed(path, "another process kept replacing it; ingest it again")
            await self._remove_gone(run, selection)
        except DatabaseUnavailable as error:
            raise MemoryUnavailable(str(error)) from error
        report.seconds = time.monotonic() - run.started
        return report

    async def content(self, tenant: str, path: str, name: str, data: bytes, *, again: bool = False) -> Document:
        """Takes in one content as the document at `path`; `name` tells its kind. Unchanged: nothing is done, or with
        `again` all of it is stored again, for stores that do not hold it yet.

        Raises:
            ParseFailed: it cannot be taken in; what was stored at the path stays.
            MemoryUnavailable, GraphUnavailable: nothing can be stored.
        """
        for _ in range(2):
            known = await self._catalog.at(tenant, path)
            job = await self._job(tenant, path, name, data, None if again else known, replaces=True)
            if job is None:
                assert known is not None
                return known
            try:
                with patience():
                    for piece, _ in pieces(job):
                        await self._pipeline.store(await self._pipeline.embed([piece]))
                return job.document
            except IncompleteSource:
                continue
            except DatabaseUnavailable as error:
                raise MemoryUnavailable(str(error)) from error
        raise MemoryUnavailable(f"another process kept replacing {path}; try again")

    async def remove(self, tenant: str, document_id: str) -> bool:
        """Removes a document and all that came from it; False when there is none.

        Raises:
            MemoryUnavailable, GraphUnavailable: nothing can be stored.
        """
        if not await self._catalog.get(tenant, [document_id]):
            return False
        try:
            with patience():
                await self._pipeline.remove(tenant, document_id)
        except DatabaseUnavailable as error:
            raise MemoryUnavailable(str(error)) from error
        return True

    async def _run_for(
        self, tenant: str, selection: Selection, tell: Callable[[Progress], None], report: IngestReport
    ) -> _Run:
        known: dict[str, Document] = {}
        for folder in selection.folders:
            known.update((document.path, document) for document in await self._catalog.below(tenant, folder))
        single = [path for path in selection.files if not any(is_below(path, folder) for folder in selection.folders)]
        if len(single) > _MANY:
            known.update((document.path, document) for document in await self._catalog.below(tenant, ""))
        else:
            at = [await self._catalog.at(tenant, path) for path in single]
            known.update((document.path, document) for document in at if document is not None)
        begun = await self._catalog.begun(tenant, "")
        return _Run(tenant, selection.files, known, begun, tell, Progress(report, total=len(selection.files)))

    async def _remove_gone(self, run: _Run, selection: Selection) -> None:
        """Removes the documents that have gone below the named folders, and all that was only begun and has gone."""

        async def stored() -> tuple[Mapping[str, str], dict[str, str]]:
            below = [await self._catalog.below(run.tenant, folder) for folder in selection.folders]
            ids = {document.path: document.id for documents in below for document in documents}
            return await self._catalog.begun(run.tenant, ""), ids

        begun, ids = await self._patiently(run, stored)
        paths = sorted(ids.keys() | begun.keys())
        for path in await asyncio.to_thread(lambda: list(filter(selection.has_gone, paths))):
            document = ids.get(path) or begun[path]
            await self._patiently(run, lambda document=document: self._pipeline.remove(run.tenant, document))
            run.reached = True
            run.report.removed += path in ids
            run.progress.path = path
            run.tell(run.progress)

    async def _take(self, run: _Run, paths: Sequence[str]) -> None:
        """Reads, embeds and stores files, the three at the same time, one batch ahead of each other."""
        if not paths:
            return
        to_embed, batches = anyio.create_memory_object_stream[list[Piece]](0)
        to_store, embedded = anyio.create_memory_object_stream[list[Embedded]](1)
        try:
            with to_embed, batches, to_store, embedded:  # also when a task is cancelled before it begins
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._read, run, paths, to_embed)
                    tasks.start_soon(self._embed, batches, to_store)
                    tasks.start_soon(self._store, run, embedded)
        except ExceptionGroup as group:
            raise _first(group) from None

    async def _read(self, run: _Run, paths: Sequence[str], out: MemoryObjectSendStream[list[Piece]]) -> None:
        batch: list[Piece] = []
        texts = 0
        async with out:
            async for job in self._jobs(run, paths):
                for piece, more in pieces(job):
                    if batch and texts + more > BATCH_TEXTS:
                        await out.send(batch)
                        batch, texts = [], 0
                    batch.append(piece)
                    texts += more
                    if out.statistics().tasks_waiting_receive:  # the embedder has nothing to do: do not let it wait
                        await out.send(batch)
                        batch, texts = [], 0
            if batch:
                await out.send(batch)

    async def _jobs(self, run: _Run, paths: Sequence[str]) -> AsyncIterator[Job]:
        """The files that are new or changed; the others are counted."""
        for path in paths:
            run.began(path)
            try:
                data = await asyncio.to_thread(_bytes, run.files[path])
                known = run.known.get(path)
                if not data and known is None:
                    run.report.skipped += 1
                    run.ended(path)
                    continue
                replaces = known is not None or path in run.begun
                job = await self._job(run.tenant, path, path, data, known, replaces=replaces)
            except OSError as error:
                run.failed(path, reason(error))
            except ParseFailed as error:
                run.failed(path, str(error))
            else:
                if job is None:
                    run.report.unchanged += 1
                    run.ended(path)
                else:
                    yield job

    async def _embed(
        self, batches: MemoryObjectReceiveStream[list[Piece]], out: MemoryObjectSendStream[list[Embedded]]
    ) -> None:
        async with batches, out:
            async for batch in batches:
                await out.send(await self._pipeline.embed(batch))

    async def _store(self, run: _Run, embedded: MemoryObjectReceiveStream[list[Embedded]]) -> None:
        async with embedded:
            async for batch in embedded:
                for group in groups(batch):
                    done = [each.piece.job for each in group if each.piece.last]
                    try:
                        await self._patiently(run, lambda group=group: self._pipeline.store(group))
                    except IncompleteSource:
                        run.again.extend(job.document.path for job in done)
                        continue
                    run.reached = True
                    for job in done:
                        run.stored(job)

    async def _patiently(self, run: _Run, work: Callable[[], Awaitable[T]]) -> T:
        """What the work gives, which is done again while a store is away that was there before."""

        async def wait(error: Exception, pause: float) -> None:
            if not run.reached or isinstance(error, OtherEmbedder):
                raise error
            run.waits(str(error))
            await asyncio.sleep(pause)
            run.waits("")

        return await patiently(work, self._pauses, _AWAY, wait)

    async def _job(
        self, tenant: str, path: str, name: str, data: bytes, known: Document | None, *, replaces: bool
    ) -> Job | None:
        """What is to be stored of a content; None when it is unchanged."""
        digest = await asyncio.to_thread(self._digest, data) if len(data) > 1_000_000 else self._digest(data)
        if known is not None and known.sha256 == digest:
            return None
        id = document_id(tenant, path)
        version = digest[:12]
        parsed = await self._parser.parse(data, name) if data else None
        passages = (
            await asyncio.to_thread(chunk.split, parsed, document_id=id, version=version) if parsed is not None else []
        )
        document = Document(
            id=id,
            tenant=tenant,
            path=path,
            title=parsed.title if parsed is not None else Path(name).stem,
            sha256=digest,
            bytes=len(data),
            passages=len(passages),
            updated_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            url=parsed.url if parsed is not None else "",
        )
        return Job(document, version, passages, replaces)

    def _digest(self, data: bytes) -> str:
        return hashlib.sha256(self._made_by.encode() + b"\0" + data).hexdigest()


def document_id(tenant: str, path: str) -> str:
    """The id of the document at a path, whether there is one or not."""
    return hashlib.sha256(f"{tenant}\0{path}".encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _bytes(path: Path) -> bytes:
    """A regular file's content; what has become a pipe or a device meanwhile is not waited for.

    Raises:
        OSError: it cannot be read.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - by descriptor
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "it is no longer a regular file", shown(path))
        return file.read()


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """What went wrong first: the tasks end together with the first that fails."""
    error = group.exceptions[0]
    return _first(cast(ExceptionGroup[Exception], error)) if isinstance(error, ExceptionGroup) else error
