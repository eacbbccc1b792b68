"""Embedder and WordTable, the ports that turn text into vectors, and their deterministic hash twins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from memory.types import Vectors


class Embedder(Protocol):
    """Turns texts into vectors of length 1 whose dot product is their likeness.

    Short calls (a question) never wait behind long ones (ingestion). Cancelling a call frees the caller at
    once; work already handed to a thread may finish unseen.
    """

    @property
    def name(self) -> str:
        """Model and precision, for example "all-MiniLM-L6-v2/fp32"; a collection keeps it and refuses another."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One row per text, in order; shape (0, dimensions) for none.

        Raises:
            MemoryUnavailable: the embedder cannot be reached.
        """
        ...


class WordTable(Protocol):
    """Static vectors of single words: a model's input word table, no model pass (EXTRACTIVE section 2)."""

    def vectors(self, words: Sequence[str]) -> Vectors:
        """One row of length 1 per word, the table's mean taken off; a zero row for a word without pieces.
        Cached, safe from any thread, fast enough to call inside a request."""
        ...
