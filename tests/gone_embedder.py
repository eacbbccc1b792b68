"""An embedder that has gone away."""

from __future__ import annotations

from collections.abc import Sequence

from memory.embedding import HashEmbedder
from memory.store import MemoryUnavailable
from memory.types import Vectors


class GoneEmbedder(HashEmbedder):
    """An embedder whose server has gone: neither texts nor questions get a vector."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        raise MemoryUnavailable("start the embedding server")
