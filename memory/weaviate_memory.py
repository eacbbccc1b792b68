"""WeaviateMemory, the MemoryStore in Weaviate: one of its tenants for each of ours, searched by vector and by stems."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence, Sized
from itertools import islice
from typing import TypeVar

import numpy as np

from memory.records import check
from memory.store import MemoryUnavailable
from memory.types import Hit, Query, Record, Scope, Score, Statistics, Vector
from memory.weaviate_address import parse_address
from memory.weaviate_connection import both, together
from memory.weaviate_rooms import Rooms, seen
from memory.weaviate_rows import STORED, Room, Row, Where, hashed, plain, record_of
from memory.weaviate_schema import make, upgrade
from memory.weaviate_state import State, visible
from memory.weaviate_store import MOST, Server
from memory.weaviate_words import RANKED, Words, more
from memory.weaviate_writing import Writing
from memory.words import index_terms

T = TypeVar("T")
R = TypeVar("R")

_LOOKS = 8
"""A look at a room in which something is published meanwhile is taken anew, so often."""
_AT_ONCE = 500
"""Ids in one condition."""


class WeaviateMemory:
    """Any number of processes; connects on first use and reconnects by itself.

    An older version of the collections is upgraded in the background while all goes on.
    """

    def __init__(self, url: str, embedder_name: str, dimensions: int) -> None:
        """Does no I/O.

        Args:
            url: `weaviate://[:KEY@]HOST:PORT?grpc=PORT[&secure=true][&prefix=NAME]`.

        Raises:
            ValueError: the URL has another form.
        """
        self._server = Server(parse_address(url))
        self._rooms = Rooms(self._server, embedder_name, dimensions)
        self._ready_for = 0
        self._readying = asyncio.Lock()
        self._upgrade: asyncio.Task[None] | None = None
        self._writing = Writing(self._rooms)
        self._words = Words(self._rooms)

    async def close(self) -> None:
        """Ends what runs in the background and closes the connections; see MemoryStore."""
        if self._upgrade is not None:
            self._upgrade.cancel()
            await asyncio.gather(self._upgrade, return_exceptions=True)
        await self._server.close()

    async def stage(self, scope: Scope, source: str, version: str, records: Sequence[Record]) -> None:
        """Stores records invisibly, in bounded batches; see MemoryStore."""
        await asyncio.to_thread(check, records, source, scope.tenant, self._rooms.dimensions)
        if records:
            await self._ready()
            await self._writing.stage(Room.of(scope), source, version, records)

    async def publish(self, scope: Scope, source: str, version: str | None, count: int) -> None:
        """Shows a version at once and deletes the old one's objects after it; see MemoryStore."""
        await self._ready()
        await self._writing.publish(Room.of(scope), source, version, count)

    async def search(self, scope: Scope, query: Query, limit: int) -> list[Hit]:
        """Hybrid search; see MemoryStore."""
        vector = self._vector(query)
        await self._ready()
        if limit <= 0:
            return []
        room, wide = Room.of(scope), max(limit, RANKED)
        place = self._rooms.place(room)

        async def look(state: State) -> tuple[list[Row], dict[str, float], list[Row]]:
            near, words = await both(
                self._server.near(place, vector, seen(room, state), more(limit)),
                self._words.ranked(room, state, query.text, wide),
            )
            known = {row.uuid for row in near}
            rest = [uuid for uuid in islice(words, more(limit)) if uuid not in known]
            pieces = [rest[start : start + _AT_ONCE] for start in range(0, len(rest), _AT_ONCE)]
            scored = await together(
                *(self._server.near(place, vector, [Where("uuid", piece)], len(piece)) for piece in pieces)
            )
            return _ordered(near), words, [row for rows in scored for row in rows]

        def shown(state: State, looked: tuple[list[Row], dict[str, float], list[Row]]) -> list[Hit] | None:
            near, words = visible(state, looked[0]), looked[1]
            rows = {row.uuid: row for row in (*near, *visible(state, looked[2]))}
            gone = {*(row.uuid for row in looked[0]), *islice(words, more(limit))} - rows.keys()
            left = [uuid for uuid in words if uuid not in gone]
            best = {*(row.uuid for row in near[:limit]), *left[:limit]}
            if _too_few(near, looked[0], limit) or _too_few(left, words, wide) or not best <= rows.keys():
                return None
            fit = {uuid: words[uuid] for uuid in left[:wide]}
            hits = [(-rows[uuid].score, *_names(rows[uuid]), fit.get(uuid, 0.0)) for uuid in best]
            return [Hit(id, source, Score(-distance, words)) for distance, id, source, words in sorted(hits)]

        return await self._settled(room, look, shown, [])

    async def foresee(self, scope: Scope, text: str) -> None:
        """Ranks by words ahead of the search; see MemoryStore."""
        await self._ready()
        room = Room.of(scope)
        state = await self._rooms.recent_state(room)
        if state.embedder is not None:
            await self._words.ranked(room, state, text, RANKED)

    async def scores(self, scope: Scope, query: Query, ids: Sequence[str]) -> dict[str, Score]:
        """Scores of given records; see MemoryStore."""
        vector = self._vector(query)
        await self._ready()
        if not ids:
            return {}
        room = Room.of(scope)
        place = self._rooms.place(room)

        async def look(state: State) -> tuple[list[Row], dict[str, float]]:
            rows, words = await both(
                self._of_ids(room, ids, lambda where, some: self._server.near(place, vector, where, some)),
                self._words.ranked(room, state, query.text, RANKED),
            )
            return rows, words

        def shown(state: State, looked: tuple[list[Row], dict[str, float]]) -> dict[str, Score]:
            rows, fit = visible(state, looked[0]), dict(islice(looked[1].items(), RANKED))
            return {plain(row.properties["record"]): Score(row.score, fit.get(row.uuid, 0.0)) for row in rows}

        return await self._settled(room, look, shown, {})

    async def get(self, scope: Scope, ids: Sequence[str]) -> list[Record]:
        """Whole records; see MemoryStore."""
        await self._ready()
        if not ids:
            return []
        room, names = Room.of(scope), (*STORED, "generation")
        place = self._rooms.place(room)

        async def look(_: State) -> list[Row]:
            return await self._of_ids(
                room, ids, lambda where, some: self._server.fetch(place, where, some, names, vectors=True)
            )

        def shown(state: State, rows: list[Row]) -> list[Record]:
            found = {plain(row.properties["record"]): row for row in visible(state, rows)}
            return [record_of(found[id], self._rooms.dimensions) for id in ids if id in found]

        return await self._settled(room, look, shown, [])

    async def statistics(self, scope: Scope, words: Sequence[str]) -> Statistics:
        """Word counts; see MemoryStore. Stop words, which are not indexed, count as held by no record."""
        await self._ready()
        room = Room.of(scope)
        state = await self._rooms.our_state(room)
        if state.embedder is None:
            return Statistics(0, dict.fromkeys(words, 0))
        records = await self._words.records(room, state)
        stems = {word: terms[0] for word in words if (terms := index_terms(word))}
        counts = await self._words.frequencies(room, state, list(stems.values()), records)
        return Statistics(records, {word: counts[stems[word]] if word in stems else 0 for word in words})

    async def _ready(self) -> None:
        """Makes the collections where they are missing, once for every connection."""
        if self._ready_for == self._server.connections > 0:
            return
        async with self._readying:
            if self._ready_for == self._server.connections > 0:
                return
            older = await make(self._server)
            if older and (self._upgrade is None or self._upgrade.done()):
                self._upgrade = asyncio.create_task(self._upgraded(older))
            self._ready_for = self._server.connections

    async def _upgraded(self, kinds: Iterable[str]) -> None:
        for kind in kinds:
            try:
                await upgrade(self._server, kind, self._rooms.dimensions)
            except MemoryUnavailable:
                return  # the old collection serves on; the next connection tries again

    async def _settled(
        self, room: Room, look: Callable[[State], Awaitable[T]], shown: Callable[[State, T], R | None], nothing: R
    ) -> R:
        """What a look at a room shows, taken anew when something was published while it was taken.

        `shown` gives None when too little is left of what was looked at.
        """
        before = await self._rooms.recent_state(room)
        for _ in range(_LOOKS):
            if before.embedder is None:
                return nothing
            looked = await look(before)
            after = await self._rooms.our_state(room)
            found = shown(after, looked) if after.seen == before.seen else None
            if found is not None:
                return found
            before = after
        raise MemoryUnavailable("this collection changes faster than it can be read: try again")

    async def _of_ids(
        self, room: Room, ids: Sequence[str], ask: Callable[[list[Where], int], Coroutine[object, None, list[Row]]]
    ) -> list[Row]:
        """The objects of these ids, visible or not, that `ask` gives for conditions and a number of objects."""
        keys = sorted({hashed(id) for id in ids})
        pieces = [keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE)]
        found = await together(*(ask(room.where(Where("key", piece)), MOST) for piece in pieces))
        return [row for rows in found for row in rows]

    def _vector(self, query: Query) -> Vector:
        vector = np.ascontiguousarray(query.vector, np.float32)
        if vector.shape != (self._rooms.dimensions,):
            raise ValueError(f"the query's vector has shape {vector.shape}, not ({self._rooms.dimensions},)")
        return vector


def _names(row: Row) -> tuple[str, str]:
    return plain(row.properties["record"]), plain(row.properties["source"])


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """Best first, equal ones by name: Weaviate gives those in any order."""
    return sorted(rows, key=lambda row: (-row.score, *_names(row)))


def _too_few(left: Sized, asked: Sized, limit: int) -> bool:
    """Whether what is not visible has taken the places of others."""
    return len(left) < min(limit, len(asked)) and len(asked) >= more(limit)
