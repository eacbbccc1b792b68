"""From passages to stored, published documents: embedding in batches across documents, then short transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from knowledge.catalog import Catalog
from knowledge.entities import names, surfaces
from knowledge.graph import KnowledgeGraph
from knowledge.sentences import dump, embedding_texts, passage_text
from knowledge.steps import passages_of
from knowledge.types import Document, Passage, PassageEntry
from memory.embedding import Embedder
from memory.store import MemoryStore
from memory.types import Label, PartVectors, Record, Vectors

BATCH_TEXTS = 256
"""Texts that are embedded together: enough that texts of like length meet, few enough to be stored soon."""
_AT_ONCE = 32
"""Passages stored in one transaction, about 15 ms."""


@dataclass(slots=True)
class Job:
    """One document on its way in."""

    document: Document
    version: str
    passages: Sequence[Passage]
    replaces: bool
    """An older version, or what a killed ingestion left of one, may be stored."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some passages of a job, in order."""

    job: Job
    passages: Sequence[Passage]
    last: bool

    @property
    def whole(self) -> bool:
        """Whether it is the job's only piece."""
        return self.last and len(self.passages) == len(self.job.passages)


@dataclass(frozen=True, slots=True)
class Embedded:
    """A piece with what is to be stored of it."""

    piece: Piece
    records: Sequence[Record]
    entries: Sequence[PassageEntry]


def pieces(job: Job) -> Iterator[tuple[Piece, int]]:
    """The job in pieces that fit one transaction and one batch, each with its number of texts."""
    start = 0
    while True:
        count = texts = 0
        for passage in job.passages[start : start + _AT_ONCE]:
            more = 1 + len(passage.units)
            if count and texts + more > BATCH_TEXTS:
                break
            count, texts = count + 1, texts + more
        last = start + count == len(job.passages)
        yield Piece(job, job.passages[start : start + count], last), texts
        start += count
        if last:
            return


def quantised(vectors: Vectors) -> PartVectors:
    """The vectors as int8 rows with one scale each (same figures as float32, EXTRACTIVE section 2)."""
    scales = np.maximum(np.abs(vectors).max(axis=1, initial=0.0), 1e-12).astype(np.float32) / np.float32(127)
    return PartVectors(np.rint(vectors / scales[:, None]).astype(np.int8), scales)


class Pipeline:
    """Embeds and stores pieces; a document becomes visible with its last one."""

    def __init__(
        self,
        embedder: Embedder,
        memory: MemoryStore,
        graph: KnowledgeGraph,
        catalog: Catalog,
        transaction: Callable[[], AbstractAsyncContextManager[None]] | None,
    ) -> None:
        self._embedder, self._memory, self._graph, self._catalog = embedder, memory, graph, catalog
        self._transaction = transaction or nullcontext
        self._apart = transaction is None

    async def embed(self, batch: Sequence[Piece]) -> list[Embedded]:
        """The records and graph entries of pieces; one call of the embedder."""
        texts = [
            text
            for piece in batch
            for passage in piece.passages
            for text in (passage_text(passage), *embedding_texts(passage))
        ]
        vectors = await self._embedder.embed(texts)
        return await asyncio.to_thread(_embedded, batch, vectors)

    async def store(self, group: Sequence[Embedded]) -> None:
        """Stores embedded pieces, those of one of the `groups`, in one short transaction and publishes the documents
        that are complete. May be done again after a failure.

        Raises:
            IncompleteSource: another process has removed what was staged of a document.
        """
        for each in group:
            job = each.piece.job
            if each.piece.last and job.replaces:
                await self._graph.forget(job.document.tenant, job.document.id, job.version)
        async with self._transaction():
            for each in group:
                await self._store(each)

    async def _store(self, embedded: Embedded) -> None:
        job, document = embedded.piece.job, embedded.piece.job.document
        scope = passages_of(document.tenant)
        if self._apart or not embedded.piece.whole:  # else it is stored and noted in one transaction
            await self._catalog.begin(document.tenant, document.path, document.id)
        if embedded.entries:
            await self._graph.add(document.tenant, document.id, job.version, embedded.entries)
            await self._memory.stage(scope, document.id, job.version, embedded.records)
        if embedded.piece.last:
            await self._memory.publish(scope, document.id, job.version, len(job.passages))
            await self._catalog.put(document)

    async def remove(self, tenant: str, document: str) -> None:
        """Removes a document and all that came from it."""
        await self._graph.forget(tenant, document, None)
        async with self._transaction():
            await self._memory.publish(passages_of(tenant), document, None, 0)
            await self._catalog.remove(tenant, document)


def _embedded(batch: Sequence[Piece], vectors: Vectors) -> list[Embedded]:
    """Each piece with its records; `vectors` has one row per text, in order."""
    found: list[Embedded] = []
    at = 0
    for piece in batch:
        records: list[Record] = []
        for passage in piece.passages:
            end = at + 1 + len(passage.units)
            records.append(_record(piece.job, passage, vectors[at:end]))
            at = end
        entries = [
            PassageEntry(passage.id, passage.title, surfaces(passage.title), names(passage))
            for passage in piece.passages
        ]
        found.append(Embedded(piece, records, entries))
    return found


def groups(batch: Iterable[Embedded]) -> Iterator[list[Embedded]]:
    """What goes into one transaction: several whole documents, or one piece of a larger one."""
    group: list[Embedded] = []
    size = 0
    for each in batch:
        weight = 1 + len(each.records)
        if group and (not each.piece.whole or not group[-1].piece.whole or size + weight > _AT_ONCE):
            yield group
            group, size = [], 0
        group.append(each)
        size += weight
    if group:
        yield group


def _record(job: Job, passage: Passage, vectors: Vectors) -> Record:
    document = job.document
    return Record(
        id=passage.id,
        source=document.id,
        title=" / ".join((passage.title, *passage.headings)),
        text=passage.text,
        vector=vectors[0],
        label=Label(document.tenant, origin=f"doc:{document.id}#{passage.index}", trust=0),
        payload=dump(passage),
        parts=quantised(vectors[1:]) if len(vectors) > 1 else None,
    )
