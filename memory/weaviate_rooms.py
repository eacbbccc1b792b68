"""Rooms in Weaviate: what is visible of them, what a source shows now, and in whose vectors."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import NamedTuple

from memory.store import OtherEmbedder
from memory.weaviate_rows import Room, Where, hashed
from memory.weaviate_schema import CHANGES, alias_of
from memory.weaviate_state import STATE, State, state_of
from memory.weaviate_store import MOST, Place, Server

_RECENT_SECONDS = 0.5
"""The reads of one search share their first look: what is published meanwhile costs another round of reading."""
_BUSY_SECONDS = 2.0
"""So long after a publication the next one is likely."""
_KEPT_LOOKS = 256


class Shown(NamedTuple):
    """The version of a source that is visible."""

    generation: str
    version: str
    """Hashed."""


class Rooms:
    """Reads the rooms of one server, for one embedder."""

    def __init__(self, server: Server, embedder: str, dimensions: int) -> None:
        self.server, self.dimensions = server, dimensions
        self.maker = (embedder, dimensions)
        self._looks: OrderedDict[Room, tuple[float, State]] = OrderedDict()

    def place(self, room: Room) -> Place:
        """Where a room's records lie."""
        return Place(alias_of(self.server, room.kind), room.tenant)

    def changes(self, room: Room) -> Place:
        """Where a room's changes lie."""
        return Place(alias_of(self.server, CHANGES), room.tenant)

    async def state(self, room: Room) -> State:
        """A look at the room, whoever made its vectors."""
        begun = time.monotonic()
        state = state_of(await self.server.fetch(self.changes(room), [Where("room", [room.key])], MOST, STATE))
        self._looks[room] = begun, state
        self._looks.move_to_end(room)
        if len(self._looks) > _KEPT_LOOKS:
            self._looks.popitem(last=False)
        return state

    async def recent_state(self, room: Room) -> State:
        """As `our_state`, but of a moment ago where that is likely to hold yet: for readers, who look once more when
        they have read."""
        begun, state = self._looks.get(room, (0.0, State()))
        old = time.monotonic() - begun > _RECENT_SECONDS or time.time() - state.at < _BUSY_SECONDS
        return await self.our_state(room) if old or state.embedder != self.maker else state

    async def our_state(self, room: Room) -> State:
        """A look at the room.

        Raises:
            OtherEmbedder: another embedder made its vectors.
        """
        state = await self.state(room)
        self.check(state)
        return state

    def check(self, state: State) -> None:
        """Raises OtherEmbedder when another embedder made the vectors."""
        if state.embedder is not None and state.embedder != self.maker:
            (was, size), (name, dimensions) = state.embedder, self.maker
            raise OtherEmbedder(
                f"the collection was made with the embedder {was} ({size} dimensions), not with {name} ({dimensions}):"
                " use the Parley that made it, or remove all its documents (parley documents remove) and ingest them"
                " anew"
            )

    async def shown(self, room: Room, state: State, source: str) -> Shown | None:
        """What is visible of a source: as its unfinished change says, else as its records say."""
        live = state.live(hashed(source))
        if live:
            newest = max(live, key=lambda change: (change.at, change.generation))
            return Shown(newest.generation, newest.version)
        return await self.settled(room, hashed(source), state.hidden)

    async def settled(self, room: Room, source: str, besides: frozenset[str]) -> Shown | None:
        """A generation of the source (hashed) that has records and is none of these."""
        where = room.where(Where("source_key", [source]), *none_of("generation", besides))
        rows = await self.server.fetch(self.place(room), where, 1, ("generation", "version"))
        if not rows:
            return None
        properties = rows[0].properties
        return Shown(properties["generation"], properties["version"])


def none_of(name: str, values: frozenset[str]) -> list[Where]:
    """The condition that a property is none of these, where there are any."""
    return [Where(name, sorted(values), wanted=False)] if values else []


def seen(room: Room, state: State) -> list[Where]:
    """The conditions for what is visible in a room."""
    return room.where(*none_of("generation", state.hidden), *none_of("uuid", state.taken))
