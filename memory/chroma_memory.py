"""ChromaMemory, the MemoryStore on Chroma: vectors ranked by Chroma, words by an index in memory that follows it."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from memory.chroma_door import Chroma, Where
from memory.chroma_fresh import Tasks
from memory.chroma_log import Entry, Maker, digest, entry_id, generation_of
from memory.chroma_records import generation_in, key_in, prepare, records_in
from memory.chroma_room import TRIES, Room, View, best, records_of
from memory.records import check
from memory.store import IncompleteSource, MemoryUnavailable
from memory.types import Hit, Query, Record, Scope, Score, Statistics, Vector, Vectors

_BATCH = 384
"""Records of one upsert, about 4 MB."""
_KEYS = 500
_NEW_AT_ONCE = 1000
_PATIENCE = 2.0
"""Seconds that closing waits for what is still being deleted."""
_SCOPES, _MAX_BYTES = 64, 512 * 1024 * 1024
SWEEP_AFTER = 3600.0
"""Seconds after which records that were staged and never published are taken for a dead process's."""


def open_chroma(url: str) -> Chroma:
    """The Chroma that a URL names: chroma://[:token@]host[:port][?secure=true], or chroma:<folder>.

    Raises:
        ValueError: it names none; the message never shows the URL, since it may hold a token.
        MemoryUnavailable: a folder needs the package chromadb, which is not installed.
    """
    if url.startswith("chroma://"):
        from memory.chroma_http import Address, HttpChroma

        return HttpChroma(Address.of(url))
    folder = url.removeprefix("chroma:")
    if not folder or urlsplit(url).scheme != "chroma":
        raise ValueError("Chroma in a folder of its own is chroma:./folder or chroma:/folder")
    try:
        from memory.chroma_store import FolderChroma
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("chromadb"):
            raise
        raise MemoryUnavailable(
            "Chroma in a folder needs the package chromadb, which Parley does not bring: install it with"
            " `uv pip install 'chromadb>=1.5.9'` (in Parley's .venv), or use a server (chroma://host:port)"
        ) from None
    return FolderChroma(Path(folder).expanduser())


class ChromaMemory:
    """Records, words and vectors in Chroma: any number of processes on a server, one process in a folder.

    Per scope there are two collections: the log of what was published (chroma_log.py) and the records.
    """

    def __init__(
        self,
        url: str,
        embedder_name: str,
        dimensions: int,
        *,
        clock: Callable[[], float] = time.time,
        max_scopes: int = _SCOPES,
        max_bytes: int = _MAX_BYTES,
    ) -> None:
        """Reads and connects on first use; see open_chroma for the URL and its errors.

        `max_scopes` and `max_bytes` bound the word indexes kept in memory; one is always kept.
        """
        self._chroma = open_chroma(url)
        self._maker = Maker(embedder_name, dimensions)
        self._clock, self._max_scopes, self._max_bytes = clock, max_scopes, max_bytes
        self._rooms: OrderedDict[Scope, Room] = OrderedDict()
        self._tasks = Tasks()

    async def stage(self, scope: Scope, source: str, version: str, records: Sequence[Record]) -> None:
        """Stores records invisibly; see MemoryStore."""
        await asyncio.to_thread(check, records, source, scope.tenant, self._maker.dimensions)
        room = self._room(scope)
        state = await room.log.read()
        room.log.check(state)
        name = digest(source)
        base = state.base(name)
        generation = generation_of(name, digest(version), base)
        for start in range(0, len(records), _BATCH):
            batch = records[start : start + _BATCH]
            rows = await asyncio.to_thread(prepare, batch, generation, name, base, self._clock())
            await self._chroma.upsert(room.records, rows.ids, rows.vectors, rows.metadatas, rows.bodies)

    async def publish(self, scope: Scope, source: str, version: str | None, count: int) -> None:
        """Shows a version by one row of the log, then deletes what it replaces; see MemoryStore."""
        room, name = self._room(scope), digest(source)
        for _ in range(TRIES):
            state = await room.log.read()
            base, shown = state.base(name), state.live(name)  # now, since the state goes on
            generation = generation_of(name, digest(version or ""), base) if count else ""
            rows: list[str] = []
            if version is not None:
                rows = await self._staged(room, generation_of(name, digest(version), base))
                if not rows and count and shown is not None and self._is(shown, version, count):
                    rows = await self._staged(room, shown.generation)
                    await self._clean(room, shown, None, rows)  # told twice, as after a lost answer
                    return
                if len(rows) != count:
                    raise IncompleteSource(
                        f"{len(rows)} of {count} records of {source!r} are staged; stage the source again"
                    )
            if count:
                room.log.check(state)
            elif shown is None and not (await self._chroma.get(room.records, where={"source": name}, limit=1)).ids:
                return
            maker = self._maker
            entry = Entry(
                entry_id(), name, generation, digest(version or ""), count, base, maker.embedder, maker.dimensions,
                self._clock(),
            )  # fmt: skip
            if await room.log.add(entry):
                await self._clean(room, entry, shown, rows)
                return
            if count:
                room.log.check(await room.log.read())
                raise IncompleteSource(f"another version of {source!r} was published first; stage the source again")
        raise MemoryUnavailable(f"{source!r} is published by others all the time; try again")

    async def search(self, scope: Scope, query: Query, limit: int) -> list[Hit]:
        """Hybrid search; see MemoryStore. The best by vector are those that Chroma's index finds."""
        vector = self._vector(query)
        room = self._room(scope)
        view = await room.view()
        for _ in range(TRIES):
            if limit <= 0 or not view.live:
                return []
            words = await room.scores(view, query.text)
            wanted = best(words, limit)
            near, others = await asyncio.gather(self._nearest(room, view, vector, limit), room.vectors(view, wanted))
            cosines = dict(near)
            if others is not None:
                cosines |= _cosines(wanted, others, vector)
            now = await room.view()
            if now is not view:  # something was published meanwhile: what is new is looked at by itself
                before, view = view, now
                news = _since(before, now)
                if news is None:
                    continue
                words = await room.scores(view, query.text)
                wanted = best(words, limit)
                missing = [place for place in {*wanted, *news} if place not in cosines]
                others = await room.vectors(view, missing)
                if others is not None:
                    cosines |= _cosines(missing, others, vector)
                cosines = {place: cosine for place, cosine in cosines.items() if view.alive[place]}
                stayed = int(np.count_nonzero(view.alive[: len(before.alive)]))
                if others is None or sum(place in cosines for place in near) < min(limit, stayed):
                    view = await room.view()
                    continue
            elif others is None:
                raise _damaged()
            dense = sorted(cosines, key=lambda place: -cosines[place])[:limit]
            found = dict.fromkeys((*dense, *wanted))
            hits = [Hit(*view.names[place], Score(cosines[place], float(words[place]))) for place in found]
            return sorted(hits, key=lambda hit: (-hit.score.dense, hit.id))
        raise _restless()

    async def foresee(self, scope: Scope, text: str) -> None:
        """Ranks by words ahead of the search; see MemoryStore."""
        room = self._room(scope)
        await room.scores(await room.view(), text)

    async def scores(self, scope: Scope, query: Query, ids: Sequence[str]) -> dict[str, Score]:
        """Scores of given records; see MemoryStore."""
        vector = self._vector(query)
        room = self._room(scope)
        seen: View | None = None
        for _ in range(TRIES):
            view = _changed(seen, await room.view())
            places = {id: place for id in ids if (place := room.place(id)) is not None}
            words = await room.scores(view, query.text)
            vectors = await room.vectors(view, list(places.values()))
            if vectors is not None:
                cosines = _cosines(list(places.values()), vectors, vector)
                return {id: Score(cosines[place], float(words[place])) for id, place in places.items()}
            seen = view
        raise _restless()

    async def get(self, scope: Scope, ids: Sequence[str]) -> list[Record]:
        """Whole records; see MemoryStore."""
        room = self._room(scope)
        seen: View | None = None
        for _ in range(TRIES):
            view = _changed(seen, await room.view())
            wanted = [view.rows[place] for id in ids if (place := room.place(id)) is not None]
            if not wanted:
                return []
            rows = await self._chroma.get(room.records, ids=list(dict.fromkeys(wanted)), bodies=True, vectors=True)
            if rows.vectors is not None and len(rows.ids) == len(set(wanted)):
                found = await asyncio.to_thread(records_in, rows)
                return [found[row] for row in wanted]
            seen = view
        raise _restless()

    async def statistics(self, scope: Scope, words: Sequence[str]) -> Statistics:
        """Word counts; see MemoryStore. Stop words, which are not indexed, count as held by no record."""
        view = await self._room(scope).view()
        counts = await asyncio.to_thread(lambda: [view.index.frequency(word, view.alive) for word in words])
        return Statistics(view.live, dict(zip(words, counts, strict=True)))

    async def close(self) -> None:
        """Ends what still works for it and closes the connections, or the folder; see MemoryStore."""
        await self._tasks.close(_PATIENCE)
        self._rooms.clear()
        await self._chroma.close()

    def _room(self, scope: Scope) -> Room:
        room = self._rooms.get(scope)
        if room is None:
            room = self._rooms[scope] = Room(self._chroma, scope, self._maker, self._tasks)
        self._rooms.move_to_end(scope)
        while len(self._rooms) > 1 and (
            len(self._rooms) > self._max_scopes or sum(each.bytes for each in self._rooms.values()) > self._max_bytes
        ):
            self._rooms.popitem(last=False)  # who is at work in it finishes; it is read again when it is needed
        return room

    def _vector(self, query: Query) -> Vector:
        vector = np.ascontiguousarray(query.vector, np.float32)
        if vector.shape != (self._maker.dimensions,):
            raise ValueError(f"the query's vector has shape {vector.shape}, not ({self._maker.dimensions},)")
        return vector

    async def _nearest(self, room: Room, view: View, vector: Vector, limit: int) -> dict[int, float]:
        """Cosines of the visible records that are nearest, `limit` of them or more.

        Rows that are not visible (staged, or about to be deleted) take places: it asks for more then.
        """
        limit = min(limit, view.live)
        count = limit + limit // 4 + 8
        while True:
            rows = await self._chroma.nearest(room.records, vector, count)
            found = {place: at for at, row in enumerate(rows.ids) if (place := view.at(row)) is not None}
            if len(found) >= limit or len(rows.ids) < count:
                break
            count *= 4
        vectors = np.zeros((0, 0), np.float32) if rows.vectors is None else rows.vectors[list(found.values())]
        return _cosines(list(found), vectors, vector)

    async def _staged(self, room: Room, generation: str) -> list[str]:
        """Ids in Chroma of what is staged of a generation."""
        return (await self._chroma.get(room.records, where={"generation": generation})).ids

    def _is(self, entry: Entry, version: str, count: int) -> bool:
        """Whether an entry shows this very version."""
        return (entry.version, entry.count, entry.maker) == (digest(version), count, self._maker)

    async def _clean(self, room: Room, entry: Entry, before: Entry | None, rows: Sequence[str]) -> None:
        """Deletes what an entry has replaced, to the end even when the waiting is cancelled."""
        task = self._tasks.start(self._swept(room, entry, before, rows))
        await asyncio.wait({task})
        task.result()

    async def _swept(self, room: Room, entry: Entry, before: Entry | None, rows: Sequence[str]) -> None:
        """Deletes the other generations of an entry's source, and its ids in sources of before.

        Deletes only what can never be shown again, however late it comes: what was staged before this entry.
        """
        state = await room.log.read()
        bases = sorted({"", entry.base, *state.earlier.get(entry.source, ())} - {entry.id})
        old: list[Where] = [{"source": entry.source}, {"base": {"$in": bases}}]
        if entry.generation:
            old.append({"generation": {"$ne": entry.generation}})
        await self._chroma.delete(room.records, where={"$and": old})
        if before is not None and before.maker != self._maker:
            theirs = records_of(room.name, before.maker)
            await self._chroma.delete(theirs, where={"generation": before.generation})
        others = state.before(entry)
        for start in range(0, len(rows) if others else 0, _KEYS):
            keys = [key_in(row) for row in rows[start : start + _KEYS]]
            held = (await self._chroma.get(room.records, where={"key": {"$in": keys}})).ids
            taken = [row for row in held if generation_in(row) in others]
            if taken:
                await self._chroma.delete(room.records, ids=taken)
        if not room.swept:
            room.swept = True
            await self._sweep(room)
        await room.log.trim(self._clock())

    async def _sweep(self, room: Room) -> None:
        """Deletes what dead processes left: records that nothing shows and that were staged long ago."""
        held = {generation_in(row) for row in (await self._chroma.get(room.records)).ids}
        state = await room.log.read()
        shown = {entry.generation for entry in state.sources.values()}
        for generation in held - shown:
            old = {"at": {"$lt": self._clock() - SWEEP_AFTER}}
            await self._chroma.delete(room.records, where={"$and": [{"generation": generation}, old]})


def _since(before: View, now: View) -> list[int] | None:
    """Positions that are visible now and were not before; None when they are too many, or cannot be told."""
    if now.index is not before.index or now.live - before.live > _NEW_AT_ONCE:
        return None
    start = len(before.alive)
    news: list[int] = (start + np.flatnonzero(now.alive[start:])).tolist()
    return news if len(news) <= _NEW_AT_ONCE else None


def _cosines(places: Sequence[int], vectors: Vectors, vector: Vector) -> dict[int, float]:
    """The cosine of each position, the same however many are asked for at a time."""
    if not places:
        return {}
    found: list[float] = (vectors * vector).sum(axis=1, dtype=np.float32).tolist()
    return dict(zip(places, found, strict=True))


def _changed(before: View | None, now: View) -> View:
    """The view to try again with: where records were missing it must be another one."""
    if now is before:
        raise _damaged()
    return now


def _damaged() -> MemoryUnavailable:
    return MemoryUnavailable("records that were published are missing in Chroma; ingest the documents anew")


def _restless() -> MemoryUnavailable:
    return MemoryUnavailable("the memory changes faster than it can be read; try again when less is written")
