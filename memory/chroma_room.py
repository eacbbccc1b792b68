"""One scope as this process sees it: its visible records by name and by words, following Chroma."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memory.chroma_door import Chroma, Collection
from memory.chroma_fresh import Fresh, Tasks
from memory.chroma_log import Log, Maker, State, digest
from memory.chroma_records import Words, generation_in, words_of
from memory.chroma_words import WordIndex
from memory.store import MemoryUnavailable
from memory.types import Scope, Vectors

TRIES = 50
"""How often a read that met with a change is begun anew."""
_ROWS, _GENERATIONS = 1000, 100
"""Records and generations that one read of words asks for, about."""
_KEPT_RANKS = 4
_SPARE = 1024
"""Dead positions beyond the live ones, after which a room is built anew."""
_RECORD_BYTES = 500

Scores = NDArray[np.float64]
Alive = NDArray[np.bool_]


def records_of(scope: str, maker: Maker) -> Collection:
    """Where the records lie that an embedder made vectors for."""
    hnsw = {"space": "ip", "ef_construction": 100, "ef_search": 200, "max_neighbors": 24}
    return Collection(f"parley-{scope}-{digest(maker.embedder, str(maker.dimensions))[:12]}", hnsw)


@dataclass(frozen=True, slots=True)
class View:
    """The visible records at one moment; the lists are shared with later views, which only add to them."""

    revision: int
    """Another one for each view."""
    index: WordIndex
    rows: list[str]
    """Id in Chroma by position."""
    names: list[tuple[str, str]]
    """(id, source) by position."""
    places: dict[str, int]
    """Id in Chroma to position; one counts only if it is alive here."""
    alive: Alive
    """One per position; its length is the number of positions."""
    live: int

    def at(self, row: str) -> int | None:
        """The position of a row of Chroma, if it is visible."""
        place = self.places.get(row, len(self.alive))
        return place if place < len(self.alive) and self.alive[place] else None


class Room:
    """One scope: its log, its records and the index of their words."""

    def __init__(self, chroma: Chroma, scope: Scope, maker: Maker, tasks: Tasks) -> None:
        name = digest(scope.tenant, scope.collection, scope.user)
        self.log = Log(chroma, name, scope.collection, maker, tasks)
        self.records = records_of(name, maker)
        self.swept = False
        """Whether leftovers of dead processes have been looked for."""
        self.name = name
        """Digest of the scope."""
        self._chroma = chroma
        self._fresh = Fresh(self._follow, tasks)
        self._ranks: OrderedDict[tuple[int, str], Scores] = OrderedDict()
        self._ids: dict[str, int] = {}
        self._read: dict[str, list[Words]] = {}
        self._spans: dict[str, range] = {}
        self._view = View(0, WordIndex(), [], [], {}, np.zeros(0, np.bool_), 0)

    @property
    def bytes(self) -> int:
        """Memory held, about."""
        return self._view.index.postings * 5 + len(self._view.rows) * _RECORD_BYTES

    def place(self, id: str) -> int | None:
        """The position of a record by its id, in the view that `view` has just given."""
        return self._ids.get(id)

    async def view(self) -> View:
        """What is visible now.

        Raises:
            OtherEmbedder: another embedder made it.
        """
        await self._fresh.get()
        return self._view  # the last one, which `place` tells of

    async def scores(self, view: View, text: str) -> Scores:
        """BM25 of every position."""
        key = (view.revision, text)
        found = self._ranks.get(key)
        if found is None:
            found = await asyncio.to_thread(view.index.scores, text, view.alive)
            self._ranks[key] = found
            if len(self._ranks) > _KEPT_RANKS:
                self._ranks.popitem(last=False)
        return found

    async def vectors(self, view: View, places: Sequence[int]) -> Vectors | None:
        """The vectors of these positions; None when one of them is no longer there."""
        if not places:
            return np.zeros((0, 0), np.float32)
        wanted = [view.rows[place] for place in places]
        rows = await self._chroma.get(self.records, ids=wanted, vectors=True)
        if rows.vectors is None or len(rows.ids) < len(wanted):
            return None
        found = {row: at for at, row in enumerate(rows.ids)}
        return rows.vectors[[found[row] for row in wanted]]

    async def _follow(self) -> View:
        state = await self.log.read()
        for _ in range(TRIES):
            self.log.check(state)
            wanted = {entry.generation: entry.source for entry in state.sources.values() if entry.generation}
            new = [generation for generation in wanted if generation not in self._spans]
            self._read = {generation: words for generation, words in self._read.items() if generation in wanted}
            unread = [generation for generation in new if generation not in self._read]
            if not unread:
                return await self._show(wanted, new)
            await self._read_words(state, unread)
            state = await self.log.read()  # what has gone meanwhile is no longer wanted
        raise MemoryUnavailable("the memory changes faster than it can be read; try again when less is written")

    async def _read_words(self, state: State, generations: Sequence[str]) -> None:
        """Reads the words of generations; one that is replaced meanwhile may come in part."""
        counts = {entry.generation: entry.count for entry in state.sources.values()}
        for batch in _batches(generations, counts):
            where = {"generation": {"$in": batch}}
            rows = await self._chroma.get(self.records, where=where, metadatas=True)
            read = await asyncio.to_thread(words_of, rows)
            self._read.update((generation, []) for generation in batch)
            for words in read:
                self._read[generation_in(words.row)].append(words)

    async def _show(self, wanted: dict[str, str], new: Sequence[str]) -> View:
        """Brings the view to what is wanted: adds the new generations in their order, drops the others."""
        gone = [generation for generation in self._spans if generation not in wanted]
        if not gone and not new:
            return self._view
        view = self._view
        adding = [words for generation in new for words in self._read[generation]]
        await asyncio.to_thread(view.index.add, adding)
        start = len(view.rows)
        alive = np.concatenate([view.alive, np.ones(len(adding), np.bool_)])
        for generation in gone:
            self._drop(alive, self._spans.pop(generation))
        for generation in new:
            end = start + len(self._read.pop(generation))
            self._spans[generation] = range(start, end)
            start = end
        for place, words in enumerate(adding, start=len(view.rows)):
            before = self._ids.get(words.id)
            if before is not None:
                alive[before] = False  # an id is one source's, the last that was published
            self._ids[words.id] = view.places[words.row] = place
            view.rows.append(words.row)
            view.names.append((words.id, words.source))
        live = int(np.count_nonzero(alive))
        self._view = View(view.revision + 1, view.index, view.rows, view.names, view.places, alive, live)
        if len(alive) > 2 * live + _SPARE:
            await self._compact()
        return self._view

    def _drop(self, alive: Alive, span: range) -> None:
        for place in span:
            id, _ = self._view.names[place]
            if self._ids.get(id) == place:
                del self._ids[id]
            alive[place] = False

    async def _compact(self) -> None:
        """Builds the view anew without dead positions; views that are in use stay as they are."""
        old, spans = self._view, self._spans
        index = await asyncio.to_thread(old.index.without, ~old.alive)
        kept: list[int] = np.flatnonzero(old.alive).tolist()
        moved = {before: after for after, before in enumerate(kept)}
        rows, names = [old.rows[place] for place in kept], [old.names[place] for place in kept]
        self._ids = {id: place for place, (id, _) in enumerate(names)}
        starts = np.cumsum(old.alive)
        self._spans = {
            generation: range(int(starts[span[0]]) - int(old.alive[span[0]]), int(starts[span[-1]])) if span else span
            for generation, span in spans.items()
        }
        places = {row: moved[place] for row, place in old.places.items() if place in moved}
        self._view = View(old.revision + 1, index, rows, names, places, np.ones(len(kept), np.bool_), len(kept))


def _batches(generations: Iterable[str], counts: dict[str, int]) -> list[list[str]]:
    """Generations in groups that one read can take."""
    batches: list[list[str]] = []
    room = 0
    for generation in generations:
        if room <= 0 or len(batches[-1]) >= _GENERATIONS:
            batches.append([])
            room = _ROWS
        batches[-1].append(generation)
        room -= counts.get(generation, 0) + 1
    return batches


def best(scores: Scores, limit: int) -> list[int]:
    """The positions with the highest scores above 0."""
    count = min(limit, int(np.count_nonzero(scores)))
    if count <= 0:
        return []
    places: list[int] = np.argpartition(scores, -count)[-count:].tolist()
    return places
