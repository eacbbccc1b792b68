"""What is visible in one scope: a list in Chroma that only grows at its end, one row per publishing.

Chroma has no transactions and no compare-and-set, but it hands out rows in the order in which they first came in.
So a row here names the row of the same source that it follows (`base`), and counts only if that one was still the
source's last when it came in: of two that publish at once one row counts, for every reader the same one, and adding
it is the one step in which a version becomes visible. `base` also names the generation that is being staged.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, field
from typing import cast

import numpy as np

from memory.chroma_door import Chroma, Collection, Metadata
from memory.chroma_fresh import Fresh, Tasks
from memory.store import OtherEmbedder

_PAGE = 1000
_KEPT = 1000
"""Rows that no longer count, or tell of removals, before they are deleted."""
_REMOVAL_AGE = 3600.0
"""Seconds after which nobody can still be at work on a source that was removed."""
_EARLIER = 20
_HNSW = {"space": "l2", "ef_construction": 10, "ef_search": 10, "max_neighbors": 4}


def digest(*names: str) -> str:
    """A name for Chroma, which takes few characters: no two lists of names share one."""
    return hashlib.sha256(json.dumps(names).encode("ascii")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Maker:
    """The embedder that made vectors."""

    embedder: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: from here on a source shows one generation of records, or none."""

    id: str
    source: str
    """Digest of the source's name; so is `version`."""
    generation: str
    """Empty: the source was removed."""
    version: str
    count: int
    base: str
    """The entry that it follows; empty for the first of its source."""
    embedder: str
    dimensions: int
    at: float
    """Seconds since 1970, by the writer's clock."""

    @property
    def maker(self) -> Maker:
        """Whose vectors its records hold."""
        return Maker(self.embedder, self.dimensions)

    def follows(self, before: Entry | None) -> bool:
        """Whether it counts after `before`, the last that counted."""
        return before is None or self.base == before.id


def entry_id() -> str:
    """A new entry's id."""
    return secrets.token_hex(16)


def generation_of(source: str, version: str, base: str) -> str:
    """The records staged of a version: the same for all who stage it, another one after each publishing."""
    return digest(source, version, base)[:20]


@dataclass(slots=True)
class State:
    """What the rows read so far amount to."""

    position: int = 0
    last: str = ""
    """Id of the row before `position`."""
    sources: dict[str, Entry] = field(default_factory=dict[str, Entry])
    """The last entry that counts of each source, removals too; in the order of the list."""
    makers: dict[Maker, int] = field(default_factory=dict[Maker, int])
    """Number of visible sources by who made their vectors."""
    earlier: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Ids of the last entries of each source that counted before the present one."""
    void: list[str] = field(default_factory=list[str])
    """Rows that never counted."""
    superseded: list[str] = field(default_factory=list[str])
    """Rows that count no more."""

    def live(self, source: str) -> Entry | None:
        """The entry of a visible source."""
        entry = self.sources.get(source)
        return entry if entry is not None and entry.generation else None

    def base(self, source: str) -> str:
        """What a publishing of this source would follow."""
        entry = self.sources.get(source)
        return entry.id if entry is not None else ""

    def before(self, entry: Entry) -> set[str]:
        """The visible generations of other sources that came before an entry; none when it is not the last of its."""
        found: set[str] = set()
        for each in self.sources.values():
            if each.id == entry.id:
                return found
            if each.generation:
                found.add(each.generation)
        return set()

    def conflict(self, maker: Maker) -> Maker | None:
        """Another embedder that made visible records."""
        return next((other for other in self.makers if other != maker), None)

    def take(self, entry: Entry) -> bool:
        """Takes in the next row; whether it counts."""
        self.position += 1
        self.last = entry.id
        before = self.sources.get(entry.source)
        shown = self.live(entry.source)
        others = sum(self.makers.values()) - (shown is not None) > 0
        if not entry.follows(before) or (entry.generation and others and self.conflict(entry.maker) is not None):
            self.void.append(entry.id)
            return False
        if before is not None:
            self.superseded.append(before.id)
            self.earlier[entry.source] = [*self.earlier.get(entry.source, ())[-_EARLIER:], before.id]
            del self.sources[entry.source]
        if shown is not None:
            self._count(shown.maker, -1)
        if entry.generation:
            self._count(entry.maker, 1)
        self.sources[entry.source] = entry
        return True

    def _count(self, maker: Maker, by: int) -> None:
        count = self.makers.get(maker, 0) + by
        if count:
            self.makers[maker] = count
        else:
            del self.makers[maker]


class Log:
    """One scope's list, followed from where it was last read."""

    def __init__(
        self, chroma: Chroma, scope: str, collection: str, maker: Maker, tasks: Tasks, *, kept: int = _KEPT
    ) -> None:
        """`scope` is the digest of its names, `collection` what it is called in messages; for `kept` see `trim`."""
        self._kept = kept
        self._chroma, self._maker, self._called = chroma, maker, collection
        self._rows = Collection(f"parley-{scope}-log", _HNSW)
        self._state = State()
        self._fresh = Fresh(self._follow, tasks)
        self._watched: dict[str, bool] = {}

    async def read(self) -> State:
        """What is visible now; the state goes on changing whenever anybody reads."""
        return await self._fresh.get()

    def check(self, state: State) -> None:
        """Raises OtherEmbedder when another embedder made what is visible."""
        other = state.conflict(self._maker)
        if other is not None:
            raise OtherEmbedder(
                f"the collection {self._called!r} was made with the embedder {other.embedder} ({other.dimensions}"
                f" dimensions), not with {self._maker.embedder} ({self._maker.dimensions}): use the Parley that made"
                " it, or remove all its documents (parley documents remove) and ingest them anew"
            )

    async def add(self, entry: Entry) -> bool:
        """Adds a row at the end; whether it counts."""
        self._watched[entry.id] = False
        try:
            metadata = cast(Metadata, {name: value for name, value in asdict(entry).items() if name != "id"})
            place = np.frombuffer(bytes.fromhex(entry.id[:4]), np.uint8).astype(np.float32)[None]
            await self._chroma.upsert(self._rows, [entry.id], place, [metadata])
            await self.read()
            return self._watched[entry.id]
        finally:
            del self._watched[entry.id]

    async def trim(self, now: float) -> None:
        """Deletes rows that no longer count when they are more than `kept`; other readers then read the list anew.

        Those that never counted first: left without what it followed, such a row would count for a new reader.
        """
        state = await self.read()
        if len(state.void) + len(state.superseded) > self._kept:
            for ids in (state.void[:], state.superseded[:]):
                for start in range(0, len(ids), _PAGE):
                    await self._chroma.delete(self._rows, ids=ids[start : start + _PAGE])
        removed = [each.id for each in state.sources.values() if not each.generation and each.at < now - _REMOVAL_AGE]
        if len(removed) > self._kept and not state.superseded:
            for start in range(0, len(removed), _PAGE):
                await self._chroma.delete(self._rows, ids=removed[start : start + _PAGE])

    async def _follow(self) -> State:
        state = self._state
        while True:
            rows = await self._chroma.get(self._rows, limit=_PAGE, offset=max(0, state.position - 1), metadatas=True)
            if state.position and (not rows.ids or rows.ids[0] != state.last):
                state = State()  # rows before ours have been deleted
                continue
            for id, metadata in list(zip(rows.ids, rows.metadatas, strict=True))[1 if state.position else 0 :]:
                counts = state.take(_entry(id, metadata))
                if id in self._watched:
                    self._watched[id] = counts
            if len(rows.ids) < _PAGE:
                self._state = state
                return state


def _entry(id: str, metadata: Metadata) -> Entry:
    return Entry(
        id=id,
        source=str(metadata["source"]),
        generation=str(metadata["generation"]),
        version=str(metadata["version"]),
        count=int(metadata["count"]),
        base=str(metadata["base"]),
        embedder=str(metadata["embedder"]),
        dimensions=int(metadata["dimensions"]),
        at=float(metadata["at"]),
    )
