"""The collections in Weaviate, by version, and how one version becomes the next while all goes on."""

from __future__ import annotations

import asyncio

from memory.store import MemoryUnavailable
from memory.weaviate_rows import STORED, Row, Where, again
from memory.weaviate_store import Place, Server

VERSION = 1
"""Of the objects of passages and memories; a new one is filled with records read from the old one."""
RECORDS = ("Passages", "Memories")
CHANGES = "Changes"
_SWITCHING = "Switching"
"""An alias that is there while writers must wait, because another one is being moved."""
_WAIT, _PATIENCE = 0.05, 600
_AT_ONCE = 100
_SMALL = 100


def alias_of(server: Server, kind: str) -> str:
    """The name by which a kind of objects is read and written."""
    return server.address.prefix + kind


def collection_of(server: Server, kind: str) -> str:
    """The name of the collection itself, of this version."""
    return f"{alias_of(server, kind)}_v{VERSION}"


async def make(server: Server) -> list[str]:
    """Makes what is missing; the kinds whose collection is of an older version.

    Raises:
        MemoryUnavailable: a newer Parley made them.
    """
    known = await server.aliases()
    older: list[str] = []
    for kind in (*RECORDS, CHANGES):
        stands_for = known.get(alias_of(server, kind))
        if stands_for is None:
            await server.create(collection_of(server, kind), searchable=kind != CHANGES)
            await server.create_alias(alias_of(server, kind), collection_of(server, kind))
        elif int(stands_for.rpartition("_v")[2]) > VERSION:
            raise MemoryUnavailable(f"the collection {stands_for} was made by a newer Parley: use that one")
        elif stands_for != collection_of(server, kind):
            older.append(kind)
    return older


async def settled(server: Server) -> dict[str, str]:
    """What our aliases stand for, once none of them is being moved: equal before and after a write, or it is lost.

    Raises:
        MemoryUnavailable: that takes too long.
    """
    for _ in range(_PATIENCE):
        known = await server.aliases()
        if alias_of(server, _SWITCHING) not in known:
            return known
        await asyncio.sleep(_WAIT)
    raise MemoryUnavailable("the collections in Weaviate are being upgraded: try again in a minute")


async def upgrade(server: Server, kind: str, dimensions: int) -> None:
    """Fills a collection of this version from the one in use and puts it in its place; reads and writes go on.

    Several processes may do so at once. Writers see by the aliases that they must write again.
    """
    alias, new, switching = alias_of(server, kind), collection_of(server, kind), alias_of(server, _SWITCHING)
    old = (await settled(server))[alias]
    if old == new:
        return
    await server.create(new, searchable=True)
    copy = _Copy(server, old, new, dimensions)
    while await copy.follow() > _SMALL:
        pass
    while not await server.create_alias(switching, old):
        await settled(server)
    try:
        if (await server.aliases())[alias] == new:  # another process was faster
            return
        await copy.follow()
        await server.move_alias(alias, new)
    finally:
        await server.drop_alias(switching)
    await server.drop(old)


class _Copy:
    """One collection made like another: what changed since the last look is read, made anew and stored."""

    def __init__(self, server: Server, old: str, new: str, dimensions: int) -> None:
        self._server, self._old, self._new, self._dimensions = server, old, new, dimensions
        self._copied: dict[str, dict[str, float]] = {}

    async def follow(self) -> int:
        """Copies what is new or changed, deletes what is gone; the number of objects that this took."""
        count = 0
        for tenant in await self._server.tenants(self._old):
            target = Place(self._new, tenant)
            now = await self._server.listing(Place(self._old, tenant))
            before = self._copied.get(tenant)
            if before is None:  # what a process that ended in the middle has left is not trusted
                before = dict.fromkeys(await self._server.listing(target), 0.0)
            changed = [uuid for uuid, at in now.items() if before.get(uuid) != at]
            gone = [uuid for uuid in before if uuid not in now]
            for start in range(0, len(changed), _AT_ONCE):
                await self._copy(tenant, changed[start : start + _AT_ONCE])
            for start in range(0, len(gone), _AT_ONCE):
                await self._server.delete(target, [Where("uuid", gone[start : start + _AT_ONCE])])
            self._copied[tenant] = now
            count += len(changed) + len(gone)
        return count

    async def _copy(self, tenant: str, uuids: list[str]) -> None:
        names = (*STORED, "room", "generation", "version")
        place = Place(self._old, tenant)
        rows: list[Row] = await self._server.fetch(place, [Where("uuid", uuids)], len(uuids), names, vectors=True)
        made = [again(row, self._dimensions) for row in rows]
        await self._server.insert(Place(self._new, tenant), made)
