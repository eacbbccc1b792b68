"""From the setting MEMORY_URL to a MemoryStore."""

from __future__ import annotations

import re
import warnings

from memory.embedded import EmbeddedMemory
from memory.embedding import Embedder
from memory.sqlite import Database
from memory.store import MemoryStore

_ALLOWED = '"embedded" (or empty, which means the same), weaviate://..., chroma://... and chroma:<folder>'


def open_memory(url: str, database: Database | None, embedder: Embedder) -> MemoryStore:
    """The memory that the URL names; nothing is read or connected before its first use, and `close` ends it.

    Args:
        url: "" or "embedded" is the one in the SQLite file; weaviate://[:key@]host:port?grpc=port and
            chroma://[:token@]host:port are servers; chroma:./folder and chroma:/folder are a Chroma in this process,
            which no other process may use.
        database: the SQLite file; None when there is none, and then the embedded memory cannot be had.

    Raises:
        ValueError: nothing of that name is known, or it is incomplete; the message says what is allowed, and never
            shows a key.
        MemoryUnavailable: a package that it needs is not installed.
    """
    scheme = url.partition(":")[0]
    if url in ("", "embedded"):
        if database is None:
            raise ValueError(
                "the embedded memory is kept in the SQLite file, and there is none: set PARLEY_MEMORY_URL to"
                " weaviate://... or chroma://..."
            )
        return EmbeddedMemory(database, embedder.name, embedder.dimensions)
    if scheme == "weaviate":
        with warnings.catch_warnings():  # its client would show all warnings of the process from then on
            from memory.weaviate_memory import WeaviateMemory

        return WeaviateMemory(url, embedder.name, embedder.dimensions)
    if scheme == "chroma" and url != scheme:
        from memory.chroma_memory import ChromaMemory

        return ChromaMemory(url, embedder.name, embedder.dimensions)
    shown = f"{scheme}:..." if re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) and scheme != url else "of that name"
    raise ValueError(f"unknown memory {shown}: allowed are {_ALLOWED}")
