# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Chroma in this process: its data in a folder that no other process may open; the only file that imports chromadb."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import chromadb
import numpy as np
from chromadb.api.client import Client
from chromadb.api.collection_configuration import CreateCollectionConfiguration
from chromadb.config import Settings
from chromadb.errors import ChromaError, NotFoundError

from memory.chroma_door import Collection, Metadata, Rows, Where
from memory.file_lock import locked
from memory.store import MemoryUnavailable
from memory.types import Vector, Vectors

T = TypeVar("T")

_AT_ONCE = 4
"""Calls at one time, each on a thread."""


class FolderChroma:
    """A Chroma that runs in this process, for one store at a time. See chroma_door.Chroma."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lanes = asyncio.Semaphore(_AT_ONCE)
        self._opened: asyncio.Task[Client] | None = None
        self._lock = -1

    async def upsert(
        self,
        collection: Collection,
        ids: Sequence[str],
        vectors: Vectors,
        metadatas: Sequence[Metadata],
        bodies: Sequence[str] | None = None,
    ) -> None:
        """See chroma_door.Chroma."""

        def work(client: Client) -> None:
            made = client.get_or_create_collection(
                collection.name,
                configuration=cast(CreateCollectionConfiguration, {"hnsw": dict(collection.hnsw)}),
                embedding_function=None,
            )
            made.upsert(
                list(ids),
                embeddings=np.ascontiguousarray(vectors, np.float32),
                metadatas=[dict(each) for each in metadatas],
                uris=None if bodies is None else list(bodies),
            )

        await self._work(work)

    async def get(
        self,
        collection: Collection,
        *,
        ids: Sequence[str] | None = None,
        where: Where | None = None,
        limit: int | None = None,
        offset: int = 0,
        metadatas: bool = False,
        bodies: bool = False,
        vectors: bool = False,
    ) -> Rows:
        """See chroma_door.Chroma."""
        wanted = (("metadatas", metadatas), ("uris", bodies), ("embeddings", vectors))
        include = [name for name, on in wanted if on]

        def work(client: Client) -> Rows:
            kept = client.get_collection(collection.name, embedding_function=None)
            rows = kept.get(
                ids=None if ids is None else list(ids),
                where=cast("chromadb.Where | None", where),
                limit=limit,
                offset=offset,
                include=cast("chromadb.Include", include),
            )
            return Rows(
                rows["ids"],
                [cast(Metadata, each or {}) for each in rows["metadatas"] or ()],
                list(rows["uris"] or ()),
                np.array(rows["embeddings"], np.float32) if vectors else None,
            )

        return await self._work(work) or Rows([])

    async def nearest(self, collection: Collection, vector: Vector, count: int) -> Rows:
        """See chroma_door.Chroma."""

        def work(client: Client) -> Rows:
            kept = client.get_collection(collection.name, embedding_function=None)
            rows = kept.query(query_embeddings=vector, n_results=count, include=["embeddings"])
            (ids,) = rows["ids"]
            return Rows(ids, vectors=np.array((rows["embeddings"] or [[]])[0], np.float32))

        return await self._work(work) or Rows([])

    async def delete(
        self, collection: Collection, *, ids: Sequence[str] | None = None, where: Where | None = None
    ) -> None:
        """See chroma_door.Chroma."""

        def work(client: Client) -> None:
            kept = client.get_collection(collection.name, embedding_function=None)
            kept.delete(ids=None if ids is None else list(ids), where=cast("chromadb.Where | None", where))

        await self._work(work)

    async def close(self) -> None:
        """See chroma_door.Chroma."""
        opened, self._opened = self._opened, None
        if opened is not None and await _succeeded(opened):
            await asyncio.to_thread(self._shut, opened.result())

    async def _work(self, fn: Callable[[Client], T]) -> T | None:
        """On a thread; None when the collection was never made."""

        def guarded(client: Client) -> T | None:
            if not (self._folder / "chroma.sqlite3").exists():
                raise MemoryUnavailable(f"Chroma's data in {self._folder} are gone; bring the folder back")
            try:
                return fn(client)
            except NotFoundError:
                return None
            except ChromaError as error:
                raise MemoryUnavailable(
                    f"Chroma cannot work in {self._folder} ({error}); check the folder, its rights and the free space"
                ) from error

        opened = self._opened
        if opened is None:
            opened = self._opened = asyncio.create_task(asyncio.to_thread(self._open))
        if not await _succeeded(opened) and self._opened is opened:
            self._opened = None  # the next call tries again
        client = opened.result()
        async with self._lanes:
            return await asyncio.to_thread(guarded, client)

    def _open(self) -> Client:
        """Takes the folder for this store and opens Chroma in it."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder / "parley.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise MemoryUnavailable(f"{self._folder} cannot be opened ({error}); check the folder's rights") from error
        if not locked(descriptor):
            os.close(descriptor)
            raise MemoryUnavailable(
                f"another process uses Chroma's folder {self._folder}, and only one may: end it, or run a Chroma server"
                " for all of them (chroma run --path ...) and set PARLEY_MEMORY_URL=chroma://host:port"
            )
        try:
            client = chromadb.PersistentClient(self._folder, settings=Settings(anonymized_telemetry=False))
        except (ChromaError, ValueError, OSError) as error:
            os.close(descriptor)
            raise MemoryUnavailable(
                f"Chroma cannot open {self._folder} ({error}); check the folder's rights and its free space"
            ) from error
        self._lock = descriptor
        return cast(Client, client)

    def _shut(self, client: Client) -> None:
        client.close()
        os.close(self._lock)


async def _succeeded(task: asyncio.Task[Client]) -> bool:
    """Waits for a task that others wait for too; cancelling this waiting leaves it alone."""
    await asyncio.wait({task})
    return not task.cancelled() and task.exception() is None
