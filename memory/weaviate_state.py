"""What is visible of a room: the changes that are under way in it, each one object that is written at once.

Without any change every generation is visible. A change exists from before its first record is stored until all
that it replaces is deleted; what it says of visibility turns with one write.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict
from uuid import uuid4

from memory.weaviate_rows import Object, Room, Row, hashed, uuid_of

Step = Literal["staged", "live", "removed"]


@dataclass(frozen=True, slots=True)
class Change:
    """One version of a source on its way in ("staged", then "live"), or a source on its way out ("removed")."""

    uuid: str
    source: str
    """Hashed."""
    generation: str
    """"" for a removal."""
    version: str
    """Hashed."""
    step: Step
    at: float
    """Seconds since 1970 when it was written last."""
    replaces: frozenset[str] = frozenset()
    """Generations that are hidden since it was made live."""
    taken: frozenset[str] = frozenset()
    """Uuids of other sources' objects whose ids it took over."""

    @property
    def published(self) -> bool:
        """Whether it changed what is seen."""
        return self.step != "staged"


class _ChangeJson(TypedDict):
    source: str
    generation: str
    version: str
    step: Step
    at: float
    replaces: list[str]
    taken: list[str]


class _RoomJson(TypedDict):
    embedder: str
    dimensions: int
    epoch: str
    at: float


@dataclass(frozen=True, slots=True)
class State:
    """One look at a room."""

    embedder: tuple[str, int] | None = None
    """Who made the vectors, name and dimensions; None: nothing was ever stored, or all of it is gone."""
    epoch: str = ""
    """Another one after every change of what is seen."""
    at: float = 0.0
    """When that was, in seconds since 1970."""
    changes: dict[str, Change] = field(default_factory=dict[str, Change])
    """By uuid."""

    @property
    def hidden(self) -> frozenset[str]:
        """Generations that must not be seen."""
        staged = {change.generation for change in self.changes.values() if not change.published}
        return frozenset(staged.union(*(change.replaces for change in self.changes.values())))

    @property
    def taken(self) -> frozenset[str]:
        """Uuids of single objects that must not be seen."""
        return frozenset[str]().union(*(change.taken for change in self.changes.values()))

    @property
    def seen(self) -> tuple[str, frozenset[tuple[str, str]]]:
        """Equal for two looks between which nothing was published or removed."""
        return self.epoch, frozenset((change.uuid, change.step) for change in self.changes.values() if change.published)

    def of_source(self, source: str) -> list[Change]:
        """The changes of one source (hashed)."""
        return [change for change in self.changes.values() if change.source == source]

    def live(self, source: str) -> list[Change]:
        """Published versions of a source whose change is not finished; several when two were published at once."""
        replaced = frozenset[str]().union(*(change.replaces for change in self.changes.values()))
        found = (change for change in self.of_source(source) if change.step == "live")
        return [change for change in found if change.generation not in replaced]

    def removal(self, source: str) -> Change | None:
        """The unfinished removal of a source."""
        return next((change for change in self.of_source(source) if change.step == "removed"), None)


def staged(room: Room, source: str, generation: str, version: str) -> Change:
    """The change that hides a generation while it is being stored."""
    uuid = uuid_of(room.key, "change", generation)
    return Change(uuid, hashed(source), generation, hashed(version), "staged", time.time())


def removed(room: Room, source: str, generations: Iterable[str]) -> Change:
    """The change that hides all generations of a source while they are being deleted."""
    uuid = uuid_of(room.key, "removal", hashed(source))
    return Change(uuid, hashed(source), "", "", "removed", time.time(), frozenset(generations))


def change_object(room: Room, change: Change) -> Object:
    """As it is kept."""
    body: _ChangeJson = {
        "source": change.source,
        "generation": change.generation,
        "version": change.version,
        "step": change.step,
        "at": change.at,
        "replaces": sorted(change.replaces),
        "taken": sorted(change.taken),
    }
    return Object(change.uuid, {"room": room.key, "what": "change", "body": json.dumps(body)})


def room_object(room: Room, embedder: str, dimensions: int) -> Object:
    """The room itself at a new epoch: who makes its vectors."""
    body: _RoomJson = {"embedder": embedder, "dimensions": dimensions, "epoch": uuid4().hex, "at": time.time()}
    return Object(room_uuid(room), {"room": room.key, "what": "room", "body": json.dumps(body)})


def room_uuid(room: Room) -> str:
    """The uuid of the room's own object."""
    return uuid_of(room.key, "room")


STATE = ("what", "body")
"""The properties that a state is made from."""


def state_of(rows: Sequence[Row]) -> State:
    """The state that these objects tell."""
    embedder: tuple[str, int] | None = None
    epoch, at = "", 0.0
    changes: dict[str, Change] = {}
    for row in rows:
        body = row.properties["body"]
        if row.properties["what"] == "room":
            room: _RoomJson = json.loads(body)
            embedder, epoch, at = (room["embedder"], room["dimensions"]), room["epoch"], room["at"]
        else:
            changes[row.uuid] = _change(row.uuid, json.loads(body))
    return State(embedder, epoch, at, changes)


def _change(uuid: str, kept: _ChangeJson) -> Change:
    return Change(
        uuid=uuid,
        source=kept["source"],
        generation=kept["generation"],
        version=kept["version"],
        step=kept["step"],
        at=kept["at"],
        replaces=frozenset(kept["replaces"]),
        taken=frozenset(kept["taken"]),
    )


def visible(state: State, rows: Iterable[Row]) -> list[Row]:
    """The rows that may be shown, in their order; they must have the property "generation"."""
    hidden, taken = state.hidden, state.taken
    return [row for row in rows if row.properties["generation"] not in hidden and row.uuid not in taken]
