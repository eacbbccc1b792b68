"""From the setting MEMORY_URL to a MemoryStore."""

from __future__ import annotations

from memory.embedded import EmbeddedMemory
from memory.embedding import Embedder
from memory.sqlite import Database
from memory.store import MemoryStore


def open_memory(url: str, database: Database, embedder: Embedder) -> MemoryStore:
    """The memory that the URL names: "" or "embedded" is the one in the SQLite file.

    Raises:
        ValueError: nothing of that name is known; the message says what is.
    """
    if url in ("", "embedded"):
        return EmbeddedMemory(database, embedder.name, embedder.dimensions)
    raise ValueError(f'unknown memory {url!r}: allowed is "embedded" (or empty, which means the same)')
