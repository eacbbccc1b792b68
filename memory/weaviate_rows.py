"""A record as an object of Weaviate and back: names, keys, properties."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from memory.records import check, label_json, label_of, terms_of
from memory.types import PartVectors, Record, Scope, Vector

SAMPLES = 64
"""Records lie in so many samples of like size: counts of common words are taken from one of them."""
_NAMES = UUID("6f0f4c1e-7b55-4d0c-9d0b-3f1e0c5a8f21")
_UNFIT = re.compile(r"[\\\0\ud800-\udfff]")
_ESCAPED = re.compile(r"\\([0-9a-f]{4})")


class Row(NamedTuple):
    """One object as a query found it."""

    uuid: str
    properties: Mapping[str, str]
    score: float = 0.0
    """Of a search: the dot product of the vectors."""
    vector: Vector | None = None


class Object(NamedTuple):
    """One object to be stored; it replaces whole what has its uuid."""

    uuid: str
    properties: Mapping[str, str]
    vector: Vector | None = None


@dataclass(frozen=True, slots=True)
class Where:
    """A condition: a property (or the uuid, named "uuid") is one of the values, or none of them."""

    name: str
    values: Sequence[str]
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class Room:
    """A scope as it lies in Weaviate."""

    tenant: str
    """Weaviate's tenant: one for each of ours."""
    kind: str
    """"Passages" for the documents of a whole tenant; everything else lies in "Memories"."""
    key: str

    @classmethod
    def of(cls, scope: Scope) -> Room:
        """Different scopes have different rooms: only the readable part of a tenant's name may be alike."""
        readable = re.sub(r"[^A-Za-z0-9]", "_", scope.tenant)[:31]
        shared = scope.collection == "passages" and not scope.user
        key = hashed(scope.collection, scope.user)
        return cls(f"{readable}-{hashed(scope.tenant)}", "Passages" if shared else "Memories", key)

    def where(self, *more: Where) -> list[Where]:
        """The conditions of a query in this room; that of a kind with a single room a tenant needs none."""
        return [*more] if self.kind == "Passages" else [Where("room", [self.key]), *more]


def hashed(*names: str) -> str:
    """32 hexadecimal digits that stand for these names, in this order."""
    digest = blake2b(digest_size=16)
    for name in names:
        text = name.encode("utf-8", "surrogatepass")
        digest.update(len(text).to_bytes(8, "big") + text)
    return digest.hexdigest()


def generation_of(room: Room, source: str, version: str, base: str) -> str:
    """The name of what is staged of a version while the generation `base` is the visible one."""
    return hashed(room.key, source, version, base)


def uuid_of(*names: str) -> str:
    """The uuid that belongs to these names."""
    return str(uuid5(_NAMES, "/".join(names)))


class Prepared(NamedTuple):
    """A record as its properties, without those that depend on what is visible when it is stored."""

    key: str
    properties: dict[str, str]
    vector: Vector


def prepare(room: str, version: str, records: Sequence[Record]) -> list[Prepared]:
    """The properties of records that were checked; `room` is a room's key, `version` is hashed."""
    return [_prepare(room, version, record) for record in records]


def _prepare(room: str, version: str, record: Record) -> Prepared:
    vector = np.ascontiguousarray(record.vector, np.float32)
    key = hashed(record.id)
    properties: dict[str, str] = {
        "key": key,
        "room": room,
        "source_key": hashed(record.source),
        "sample": str(int(key[:8], 16) % SAMPLES),
        "words": " ".join(terms_of(record)),
        "record": escaped(record.id),
        "source": escaped(record.source),
        "version": version,
        "title": escaped(record.title),
        "text": escaped(record.text),
        "label": json.dumps(label_json(record.label)),
        "payload": escaped(record.payload),
    }
    if record.parts is not None:
        properties["parts"] = _packed(record.parts)
    return Prepared(key, properties, vector)


def objects(generation: str, prepared: Sequence[Prepared]) -> list[Object]:
    """The objects of a generation; of those with one id the last."""
    by_key = {each.key: each for each in prepared}
    return [
        Object(uuid_of(generation, each.key), {**each.properties, "generation": generation}, each.vector)
        for each in by_key.values()
    ]


STORED = ("record", "source", "title", "text", "label", "payload", "parts")
"""The properties that a record is made from again."""


ALL = (*STORED, "key", "room", "source_key", "version", "generation", "sample", "words")
"""All properties of a record's object."""


def record_of(row: Row, dimensions: int) -> Record:
    """The record, from an object's stored properties and its vector."""
    get = row.properties.get
    assert row.vector is not None
    packed = get("parts")
    return Record(
        id=plain(get("record")),
        source=plain(get("source")),
        title=plain(get("title")),
        text=plain(get("text")),
        vector=row.vector,
        label=label_of(json.loads(row.properties["label"])),
        payload=plain(get("payload")),
        parts=_unpacked(packed, dimensions) if packed else None,
    )


def again(row: Row, dimensions: int) -> Object:
    """The object that a stored one would be if it were stored now: its properties are made from its record anew.

    Raises:
        ValueError: its vector is not one of ours.
    """
    room, version, record = row.properties["room"], row.properties["version"], record_of(row, dimensions)
    check([record], record.source, record.label.tenant, dimensions)
    return objects(row.properties["generation"], prepare(room, version, [record]))[0]


def escaped(text: str) -> str:
    """The text without what Weaviate cannot hold: lone surrogates and NUL become a backslash and four digits."""
    return _UNFIT.sub(lambda found: f"\\{ord(found.group()):04x}", text)


def plain(text: str | None) -> str:
    """The text that was escaped; "" for a property that is missing."""
    return _ESCAPED.sub(lambda found: chr(int(found.group(1), 16)), text) if text else ""


def _packed(parts: PartVectors) -> str:
    rows = np.ascontiguousarray(parts.rows, np.int8)
    scales = np.ascontiguousarray(parts.scales, "<f4")
    return base64.b64encode(len(rows).to_bytes(4, "little") + scales.tobytes() + rows.tobytes()).decode("ascii")


def _unpacked(text: str, dimensions: int) -> PartVectors:
    data = base64.b64decode(text)
    count = int.from_bytes(data[:4], "little")
    scales: NDArray[np.float32] = np.frombuffer(data, "<f4", count, 4)
    rows: NDArray[np.int8] = np.frombuffer(data, np.int8, -1, 4 + 4 * count).reshape(count, dimensions)
    return PartVectors(rows, scales)
