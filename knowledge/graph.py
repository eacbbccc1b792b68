"""KnowledgeGraph, the port: which passages a name stands for, and which passages name it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from knowledge.types import Entity, Mention, PassageEntry, Target


class GraphUnavailable(Exception):
    """The backend cannot be reached or refuses to work; the message says what to do."""


class KnowledgeGraph(Protocol):
    """Titles, mentions and names of passages, per tenant, each edge with the passage that it came from.

    Holds for every implementation: adding the same entries again changes nothing; the order in which
    documents come does not matter (a title added later is found in passages added before); a tenant never
    sees another's names; every method raises GraphUnavailable when the backend is gone and may be cancelled
    at any await. Passages that are not visible in the memory may still appear: callers drop them.
    """

    async def add(self, tenant: str, document: str, version: str, entries: Sequence[PassageEntry]) -> None:
        """Adds passages of one version of a document; may be called batch after batch."""
        ...

    async def forget(self, tenant: str, document: str, keep: str | None) -> None:
        """Removes all that came from the document's versions other than `keep` and that nothing else supports."""
        ...

    async def titles(self, tenant: str, surfaces: Sequence[str]) -> dict[str, list[Target]]:
        """The passages that each surface (lower case) is a title of; surfaces that are none are left out."""
        ...

    async def mentions(self, tenant: str, passages: Sequence[str]) -> dict[str, list[Mention]]:
        """The titles that each passage mentions, those of its own title left out."""
        ...

    async def entity(self, tenant: str, name: str, limit: int = 10) -> Entity | None:
        """What is known of a name: its passages and the names most related to it (personalised PageRank from
        it over the co-mention graph), at most `limit` each; None when no passage holds it."""
        ...

    async def close(self) -> None:
        """Gives back what the graph holds open; it is not used afterwards."""
        ...
