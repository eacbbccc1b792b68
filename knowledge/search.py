"""Hybrid retrieval: words and meaning fused by score, title link, one hop over mentions, sentence term."""

from __future__ import annotations

from knowledge.types import Found, SearchQuery


class Search:
    """The retrieval pipeline (RETRIEVAL section 3), as steps."""

    async def __call__(self, tenant: str, query: SearchQuery, limit: int) -> list[Found]:
        """The best passages of a tenant's documents, best first."""
        raise NotImplementedError
