"""Writing into Weaviate, which has no transactions: staging, the one write that turns what is seen, and sweeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np

from memory.store import IncompleteSource, MemoryUnavailable
from memory.types import Record
from memory.weaviate_rooms import Rooms, none_of
from memory.weaviate_rows import (
    ALL,
    SAMPLES,
    Object,
    Prepared,
    Room,
    Where,
    generation_of,
    hashed,
    objects,
    plain,
    prepare,
)
from memory.weaviate_schema import CHANGES, RECORDS, alias_of, settled
from memory.weaviate_state import Change, State, change_object, removed, room_object, room_uuid, staged
from memory.weaviate_store import MOST, Place

SWEEP_AFTER, FINISH_AFTER = 3600.0, 60.0
"""Seconds after which a staged version that was never published, and a publication that was never finished, are taken
for a dead process's."""
_AT_ONCE = 500
_TRIES = 5


class Writing:
    """Stages, publishes and removes; every step may be cancelled or die, and any process can finish it."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms, self._server = rooms, rooms.server

    async def stage(self, room: Room, source: str, version: str, records: Sequence[Record]) -> None:
        """See MemoryStore; the records are those of this source and not empty."""
        prepared = await asyncio.to_thread(prepare, room.key, hashed(version), records)
        await self._written(lambda done: self._stage(room, source, version, prepared, done))

    async def publish(self, room: Room, source: str, version: str | None, count: int) -> None:
        """See MemoryStore."""
        await self._written(lambda done: self._publish(room, source, version, count, done))

    async def _written(self, work: Callable[[list[tuple[Room, Change]]], Awaitable[None]]) -> None:
        """Does the work, again if meanwhile another collection took the place of the one that it wrote to."""
        await self._server.quiet()
        done: list[tuple[Room, Change]] = []
        known = await settled(self._server)
        while True:
            await work(done)
            before, known = known, await settled(self._server)
            if before == known:
                return
            for room, change in done:
                await self._delete(room, change)

    async def _stage(
        self,
        room: Room,
        source: str,
        version: str,
        prepared: Sequence[Prepared],
        done: list[tuple[Room, Change]],
    ) -> None:
        maker = self._rooms.maker
        for _ in range(_TRIES):
            state = await self._rooms.state(room)
            removal = state.removal(hashed(source))
            if removal is not None:
                await self._finish(room, removal, done)
                continue
            if state.embedder not in (None, maker) and not await self._is_empty(room, state):
                self._rooms.check(state)
            base = await self._rooms.shown(room, state, source)
            generation = generation_of(room, source, version, base.generation if base else "")
            change = staged(room, source, generation, version)
            known = state.changes.get(change.uuid)
            if state.embedder != maker:
                await self._server.insert(self._rooms.changes(room), [room_object(room, *maker)])
            if known is None or known.at < change.at - SWEEP_AFTER / 6:
                await self._put(room, change)
            made = objects(generation, prepared)
            await self._server.insert(self._rooms.place(room), made)
            # Weaviate 1.35.2 writes the log of its vector index one batch late: another batch brings it to the disk
            await self._server.insert(self._rooms.place(room), made[-1:])
            after = await self._rooms.state(room)
            if change.uuid in after.changes:
                return
            now = await self._rooms.shown(room, after, source)
            if now is not None and now.generation == generation:  # published by another process that staged the same
                return
        raise MemoryUnavailable(f"{source!r} is removed by others again and again while it is stored: try again")

    async def _publish(
        self, room: Room, source: str, version: str | None, count: int, done: list[tuple[Room, Change]]
    ) -> None:
        state = await self._rooms.state(room)
        await self._sweep(room, state, done)
        removal = state.removal(hashed(source))
        if removal is not None:
            await self._finish(room, removal, done)
            state = await self._rooms.state(room)
        base = await self._rooms.shown(room, state, source)
        change = self._staged(room, state, source, version, base.generation if base else "")
        if version is None or count == 0:
            if version is not None and change is not None:
                await self._check(room, source, change.generation, 0)
            await self._remove(room, state, source, [base.generation] if base else [], done)
            return
        self._rooms.check(state)
        if change is None:
            if base is None or base.version != hashed(version):
                raise _incomplete(source, 0, count)
            await self._check(room, source, base.generation, count)  # told twice, as after a lost answer
            for live in state.live(hashed(source)):
                await self._finish(room, live, done)
            return
        keys = await self._indexed(room, source, change.generation, count)
        taken = await self._taken(room, state, change.source, keys)
        change = replace(
            change,
            step="live",
            at=time.time(),
            replaces=frozenset([base.generation] if base else []),
            taken=taken,
        )
        await self._put(room, change)  # from here on the new version is seen and the old one is not
        change = await self._alone(room, source, change, count)
        await self._finish(room, change, done)

    def _staged(self, room: Room, state: State, source: str, version: str | None, base: str) -> Change | None:
        if version is None:
            return None
        wanted = staged(room, source, generation_of(room, source, version, base), version)
        found = state.changes.get(wanted.uuid)
        return found if found is not None and found.step == "staged" else None

    async def _check(self, room: Room, source: str, generation: str, count: int) -> None:
        have = await self._server.count(self._rooms.place(room), room.where(Where("generation", [generation])))
        if have != count:
            raise _incomplete(source, have, count)

    async def _indexed(self, room: Room, source: str, generation: str, count: int) -> list[str]:
        """The keys of the records of a generation, all of which are in the vector index.

        Raises:
            IncompleteSource: there are not `count` of them.
        """
        place = self._rooms.place(room)
        any_vector = np.ones(self._rooms.dimensions, np.float32)
        found: dict[str, str] = {}
        for some in _pieces(room, generation, count):
            rows = await self._server.near(place, any_vector, some, min(MOST, count + 1))
            found.update((row.uuid, hashed(plain(row.properties["record"]))) for row in rows)
        have = await self._server.count(place, room.where(Where("generation", [generation])))
        if have == count and len(found) < count:  # a server that was killed may keep an object and forget its vector
            for some in _pieces(room, generation, count):
                rows = await self._server.fetch(place, some, MOST, ALL, vectors=True)
                lost = [Object(row.uuid, row.properties, row.vector) for row in rows if row.uuid not in found]
                await self._delete_each(room, [each.uuid for each in lost])
                await self._server.insert(place, lost)
                await self._server.insert(place, lost[-1:])
                found.update((each.uuid, each.properties["key"]) for each in lost)
        if len(found) != count or have != count:
            raise _incomplete(source, have, count)
        return list(found.values())

    async def _taken(self, room: Room, state: State, source: str, keys: Sequence[str]) -> frozenset[str]:
        """Uuids of other sources' visible objects that have one of these keys: the new version takes them over."""
        taken: set[str] = set()
        for start in range(0, len(keys), _AT_ONCE):
            where = room.where(
                Where("key", keys[start : start + _AT_ONCE]),
                Where("source_key", [source], wanted=False),
                *none_of("generation", state.hidden),
            )
            others = await self._server.fetch(self._rooms.place(room), where, MOST, ("key",))
            taken.update(row.uuid for row in others)
        return frozenset(taken)

    async def _alone(self, room: Room, source: str, change: Change, count: int) -> Change:
        """Makes sure that of versions published at the same time one is left: without locks all write, then all look,
        and all decide alike.

        Raises:
            IncompleteSource: it is another one.
        """
        after = await self._rooms.state(room)
        rivals = [
            other
            for other in after.of_source(change.source)
            if other.step == "live" and other.uuid != change.uuid and other.generation not in change.replaces
        ]
        lost = after.removal(change.source) is not None or any(other.generation < change.generation for other in rivals)
        if not lost:
            beaten = {other.generation for other in rivals}
            besides = after.hidden | change.replaces | beaten | {change.generation}
            finished = await self._rooms.settled(room, change.source, besides)
            if finished is not None:  # published and finished between our first look and our write
                beaten.add(finished.generation)
            if beaten:
                change = replace(change, replaces=change.replaces | beaten)
                await self._put(room, change)
        try:
            if lost:
                raise IncompleteSource(
                    f"{source!r} was published or removed by another at the same time; stage the source again"
                )
            await self._check(room, source, change.generation, count)
        except IncompleteSource:
            await self._put(room, replace(change, step="staged", replaces=frozenset(), taken=frozenset()))
            await self._turn(room, after)
            raise
        return change

    async def _remove(
        self, room: Room, state: State, source: str, shown: Sequence[str], done: list[tuple[Room, Change]]
    ) -> None:
        changes = state.of_source(hashed(source))
        generations = {*shown, *(change.generation for change in changes)}
        if generations:
            removal = removed(room, source, generations)
            await self._put(room, removal)
            await self._finish(room, removal, done)
        await self._leave(room)

    async def _finish(self, room: Room, change: Change, done: list[tuple[Room, Change]]) -> None:
        """Deletes what a published change has replaced, then the change; several may do so at once."""
        state = await self._rooms.state(room)
        await self._turn(room, state)
        await self._delete(room, change)
        done.append((room, change))
        over = [other.uuid for other in state.of_source(change.source) if other.generation in change.replaces]
        await self._forget(room, [*over, change.uuid])

    async def _delete(self, room: Room, change: Change) -> None:
        """Deletes the records that a change has replaced."""
        place = self._rooms.place(room)
        await self._delete_each(room, sorted(change.taken))
        replaced = change.replaces
        while replaced:
            await self._server.delete(place, room.where(Where("generation", sorted(replaced))))
            if change.step != "removed":
                return
            # what a process that died in the middle has left of this source without any change that tells of it
            state = await self._rooms.state(room)
            left = await self._rooms.settled(room, change.source, state.hidden - replaced)
            replaced = frozenset([left.generation] if left and change.uuid in state.changes else [])

    async def _delete_each(self, room: Room, uuids: Sequence[str]) -> None:
        for start in range(0, len(uuids), _AT_ONCE):
            await self._server.delete(self._rooms.place(room), [Where("uuid", uuids[start : start + _AT_ONCE])])

    async def _sweep(self, room: Room, state: State, done: list[tuple[Room, Change]]) -> None:
        """Finishes what dead processes have left in the room."""
        now = time.time()
        for change in state.changes.values():
            age = now - change.at
            if change.published and age > FINISH_AFTER:
                await self._finish(room, change, done)
            elif not change.published and age > SWEEP_AFTER:
                await self._server.delete(self._rooms.place(room), room.where(Where("generation", [change.generation])))
                await self._forget(room, [change.uuid])

    async def _leave(self, room: Room) -> None:
        """Removes the room when nothing is left in it, and the tenant with its last room."""
        state = await self._rooms.state(room)
        if not await self._is_empty(room, state):
            return
        if state.embedder is not None:
            await self._forget(room, [room_uuid(room)])
        left = await self._server.fetch(self._rooms.changes(room), [], MOST, ("what",))
        if any(row.properties["what"] == "change" for row in left):
            return
        places = {kind: alias_of(self._server, kind) for kind in (*RECORDS, CHANGES)}
        holds = {kind: await self._server.count(Place(places[kind], room.tenant), []) for kind in RECORDS}
        known = await self._server.aliases()
        if not holds[room.kind]:
            await self._server.remove_tenant(known[places[room.kind]], room.tenant)
        if not left and not any(holds.values()):
            await self._server.remove_tenant(known[places[CHANGES]], room.tenant)

    async def _is_empty(self, room: Room, state: State) -> bool:
        return not state.changes and not await self._server.fetch(self._rooms.place(room), room.where(), 1, ("key",))

    async def _turn(self, room: Room, state: State) -> None:
        """Tells all who are looking at the room that they must look again."""
        embedder = state.embedder or self._rooms.maker
        await self._server.insert(self._rooms.changes(room), [room_object(room, *embedder)])

    async def _put(self, room: Room, change: Change) -> None:
        await self._server.insert(self._rooms.changes(room), [change_object(room, change)])

    async def _forget(self, room: Room, uuids: Sequence[str]) -> None:
        await self._server.delete(self._rooms.changes(room), [Where("uuid", uuids)])


def _pieces(room: Room, generation: str, count: int) -> list[list[Where]]:
    """Conditions each of which chooses so many objects of a generation as one query may give."""
    where = room.where(Where("generation", [generation]))
    if count < MOST:
        return [where]
    return [[*where, Where("sample", [str(number)])] for number in range(SAMPLES)]


def _incomplete(source: str, have: int, count: int) -> IncompleteSource:
    return IncompleteSource(f"{have} of {count} records of {source!r} are staged; stage the source again")
