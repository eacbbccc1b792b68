"""Catalog, the port: the list of documents that a tenant has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from knowledge.types import Document


class Catalog(Protocol):
    """Documents by id and by path; raises GraphUnavailable when the backend is gone."""

    async def put(self, document: Document) -> None:
        """Adds or replaces the row of (tenant, path)."""
        ...

    async def remove(self, tenant: str, id: str) -> None:
        """Removes the row; nothing happens when there is none."""
        ...

    async def get(self, tenant: str, ids: Sequence[str]) -> dict[str, Document]:
        """The documents among `ids` that exist, by id."""
        ...

    async def at(self, tenant: str, path: str) -> Document | None:
        """The document at exactly this path."""
        ...

    async def below(self, tenant: str, folder: str) -> list[Document]:
        """All documents whose path lies below the folder (on a path boundary), by path; "" means all."""
        ...
