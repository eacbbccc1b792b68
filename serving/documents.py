"""A tenant's documents beyond the catalog: their passages in order, and the removal of all that came from one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from knowledge import steps
from knowledge.sentences import load
from knowledge.types import Document, Passage

if TYPE_CHECKING:
    from serving.runtime import Runtime

VERSION = 12
"""So many characters of a document's hash name the version of its passages."""


async def passages_of(runtime: Runtime, document: Document, start: int, limit: int) -> list[Passage]:
    """Up to `limit` passages from number `start` (from 0) on.

    Raises:
        MemoryUnavailable: they cannot be read.
    """
    version = document.sha256[:VERSION]
    wanted = range(start, min(start + limit, document.passages))
    ids = [f"{document.id}.{version}.{index}" for index in wanted]
    return [load(record.payload) for record in await runtime.memory.get(steps.passages_of(document.tenant), ids)]


async def remove(runtime: Runtime, tenant: str, document: str) -> bool:
    """Removes a document, its original if it was uploaded, and what waits to make it; False when there is none.

    Raises:
        DatabaseUnavailable, MemoryUnavailable, GraphUnavailable, OSError: it cannot be removed now; try again.
    """
    dropped = await runtime.jobs.drop(tenant, document)
    removed = await runtime.ingest.remove(tenant, document)
    await asyncio.to_thread(runtime.uploads.forget, tenant, document)
    for job, content in dropped.contents:
        await asyncio.to_thread(runtime.uploads.discard, tenant, job, content)
    return removed or dropped.waited
