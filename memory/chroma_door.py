"""What Parley asks of a Chroma, whichever way it is reached: chroma_http.py (server), chroma_store.py (in process)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from memory.types import Vector, Vectors

Metadata = Mapping[str, str | int | float]
"""What Chroma keeps of a row beside its vector, and can filter by."""
Where = Mapping[str, object]
"""Chroma's filter: {"field": value}, {"field": {"$in": [...]}}, {"$and": [...]}."""


@dataclass(frozen=True, slots=True)
class Collection:
    """One of Chroma's collections, made on the first upsert."""

    name: str
    hnsw: Mapping[str, str | int]
    """Settings of its vector index, for when it is made."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a collection, in the order they came in (`get`) or nearest first (`nearest`)."""

    ids: list[str]
    metadatas: list[Metadata] = field(default_factory=list[Metadata])
    """Empty unless asked for; so are the next two."""
    bodies: list[str] = field(default_factory=list[str])
    vectors: Vectors | None = None


class Chroma(Protocol):
    """A Chroma, reached on the first call. A collection that was never made has no rows.

    Every method raises MemoryUnavailable when it cannot be reached, within 2 s of silence, and may be cancelled.
    """

    async def upsert(
        self,
        collection: Collection,
        ids: Sequence[str],
        vectors: Vectors,
        metadatas: Sequence[Metadata],
        bodies: Sequence[str] | None = None,
    ) -> None:
        """Adds rows, or replaces those of the same ids; what it acknowledged is durable."""
        ...

    async def get(
        self,
        collection: Collection,
        *,
        ids: Sequence[str] | None = None,
        where: Where | None = None,
        limit: int | None = None,
        offset: int = 0,
        metadatas: bool = False,
        bodies: bool = False,
        vectors: bool = False,
    ) -> Rows:
        """Rows by id or filter; without either all of them, in the order in which their ids first came in."""
        ...

    async def nearest(self, collection: Collection, vector: Vector, count: int) -> Rows:
        """The rows with the highest inner product with the vector, as its index finds them, vectors included."""
        ...

    async def delete(
        self, collection: Collection, *, ids: Sequence[str] | None = None, where: Where | None = None
    ) -> None:
        """Removes rows by id or filter."""
        ...

    async def close(self) -> None:
        """Gives back connections and files."""
        ...
