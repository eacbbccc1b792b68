"""MemoryStore, the port: text that is found by meaning and by words, one closed room per scope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from memory.types import Hit, Query, Record, Scope, Score, Statistics


class MemoryUnavailable(Exception):
    """The backend cannot be reached or refuses to work; the message says what to do."""


class OtherEmbedder(MemoryUnavailable):
    """The collection's vectors were made by another embedder; the message says by which, and what to do."""


class IncompleteSource(Exception):
    """`publish` found another number of staged records than it was told; stage the source again."""


class MemoryStore(Protocol):
    """Records in two steps: staged records are invisible, publishing shows a whole source at once.

    Holds for every implementation:
    - a search sees either all records of a source's old version or all of its new one, never a mixture;
    - what `publish` acknowledged survives a crash of the process;
    - staging the same ids again replaces them; several processes may stage and publish at once;
    - a scope never sees another scope's records;
    - every method raises MemoryUnavailable when the backend is gone, and may be cancelled at any await;
    - a collection that another embedder made raises OtherEmbedder, except when its sources are removed.
    """

    async def stage(self, scope: Scope, source: str, version: str, records: Sequence[Record]) -> None:
        """Stores records of `source` that stay invisible until `publish`; may be called batch after batch.

        Raises:
            ValueError: a vector has another size than the embedder's.
        """
        ...

    async def publish(self, scope: Scope, source: str, version: str | None, count: int) -> None:
        """Makes `version` the visible one and removes every other; None removes the source (count 0).

        Raises:
            IncompleteSource: not exactly `count` records of that version are staged.
        """
        ...

    async def search(self, scope: Scope, query: Query, limit: int) -> list[Hit]:
        """The union of the `limit` best by vector and the `limit` best by words, both scores exact for
        each (words 0 where it is outside the ranked ones), best dense first. Finds what was published
        before the call by any process."""
        ...

    async def foresee(self, scope: Scope, text: str) -> None:
        """A hint that a search for `text` follows: what does not need its vector may be done now, while the vector
        is made. Changes nothing that is found."""
        ...

    async def scores(self, scope: Scope, query: Query, ids: Sequence[str]) -> dict[str, Score]:
        """Both scores of the given records, on the scale of `search`; ids not visible are left out."""
        ...

    async def get(self, scope: Scope, ids: Sequence[str]) -> list[Record]:
        """The visible records among `ids`, in that order, part vectors included."""
        ...

    async def statistics(self, scope: Scope, words: Sequence[str]) -> Statistics:
        """Number of visible records and, per word, of those that hold its stem (may lag by seconds)."""
        ...

    async def close(self) -> None:
        """Gives back connections and files of its own; may be called again, nothing else comes after it."""
        ...
