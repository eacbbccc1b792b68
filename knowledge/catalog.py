"""Catalog, the port: the list of documents that a tenant has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from knowledge.types import Document


class Catalog(Protocol):
    """Documents by id and by path; every method raises GraphUnavailable when the backend is gone."""

    async def begin(self, tenant: str, path: str, id: str) -> None:
        """Notes that a document is about to be stored, so that what a killed ingestion left can be found;
        `put` and `remove` end it."""
        ...

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

    async def after(self, tenant: str, path: str, limit: int) -> list[Document]:
        """The first `limit` documents whose path comes after this one, by path; all paths come after ""."""
        ...

    async def begun(self, tenant: str, folder: str) -> dict[str, str]:
        """Path to id of the documents below the folder that were begun and neither put nor removed since."""
        ...
