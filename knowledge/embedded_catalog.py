"""The embedded twin of Catalog: rows of the one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

import orjson

from knowledge.graph import GraphUnavailable
from knowledge.types import Document
from memory.sql import DatabaseUnavailable
from memory.sqlite import Database, from_sql, to_sql

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
  tenant TEXT NOT NULL, path TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL, sha256 TEXT NOT NULL,
  bytes INTEGER NOT NULL, passages INTEGER NOT NULL, updated_at TEXT NOT NULL, url TEXT NOT NULL,
  PRIMARY KEY (tenant, path), UNIQUE (tenant, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents_begun (
  tenant TEXT NOT NULL, path TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (tenant, path)) WITHOUT ROWID;
"""

_Sql = str | bytes
_Row = tuple[_Sql, _Sql, str, _Sql, str, int, int, str, _Sql]
_COLUMNS = ("tenant", "path", "id", "title", "sha256", "bytes", "passages", "updated_at", "url")
_SELECT = "SELECT " + ", ".join(f"d.{column}" for column in _COLUMNS)
_PUT = f"INSERT OR REPLACE INTO documents ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


class EmbeddedCatalog:
    """Catalog in the shared database; open that with SCHEMA."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, tenant: str, path: str, id: str) -> None:
        """See Catalog."""
        row = (to_sql(tenant), to_sql(path), id)
        await self._write("INSERT OR REPLACE INTO documents_begun (tenant, path, id) VALUES (?, ?, ?)", row)

    async def put(self, document: Document) -> None:
        """See Catalog."""
        owner, path = to_sql(document.tenant), to_sql(document.path)
        row: _Row = (
            owner,
            path,
            document.id,
            to_sql(document.title),
            document.sha256,
            document.bytes,
            document.passages,
            document.updated_at,
            to_sql(document.url),
        )

        def put(connection: sqlite3.Connection) -> None:
            connection.execute(_PUT, row)
            connection.execute("DELETE FROM documents_begun WHERE tenant = ? AND path = ?", (owner, path))

        await self._run(put)

    async def remove(self, tenant: str, id: str) -> None:
        """See Catalog."""

        def remove(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM documents WHERE tenant = ? AND id = ?", (to_sql(tenant), id))
            connection.execute("DELETE FROM documents_begun WHERE tenant = ? AND id = ?", (to_sql(tenant), id))

        await self._run(remove)

    async def get(self, tenant: str, ids: Sequence[str]) -> dict[str, Document]:
        """See Catalog."""
        asked = orjson.dumps([id.encode("utf-8", "replace").decode() for id in ids]).decode()

        def read(connection: sqlite3.Connection) -> dict[str, Document]:
            rows = connection.execute(
                f"{_SELECT} FROM json_each(?) asked CROSS JOIN documents d ON d.tenant = ? AND d.id = asked.value",
                (asked, to_sql(tenant)),
            )
            return {document.id: document for document in map(_document, rows)}

        return await self._read(read)

    async def at(self, tenant: str, path: str) -> Document | None:
        """See Catalog."""
        found = await self._documents("path = ?", (to_sql(tenant), to_sql(path)))
        return found[0] if found else None

    async def below(self, tenant: str, folder: str) -> list[Document]:
        """See Catalog."""
        found = await self._documents("1 ORDER BY path", (to_sql(tenant),))
        return [document for document in found if _is_below(document.path, folder)]

    async def after(self, tenant: str, path: str, limit: int) -> list[Document]:
        """See Catalog."""
        return await self._documents("path > ? ORDER BY path LIMIT ?", (to_sql(tenant), to_sql(path), limit))

    async def begun(self, tenant: str, folder: str) -> dict[str, str]:
        """See Catalog."""

        def read(connection: sqlite3.Connection) -> dict[str, str]:
            rows = connection.execute("SELECT path, id FROM documents_begun WHERE tenant = ?", (to_sql(tenant),))
            found = {from_sql(path): id for path, id in rows}
            return {path: id for path, id in found.items() if _is_below(path, folder)}

        return await self._read(read)

    async def _documents(self, where: str, values: Sequence[_Sql | int]) -> list[Document]:
        def read(connection: sqlite3.Connection) -> list[Document]:
            rows = connection.execute(f"{_SELECT} FROM documents d WHERE d.tenant = ? AND {where}", values)
            return [_document(row) for row in rows]

        return await self._read(read)

    async def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.read(fn)
        except DatabaseUnavailable as error:
            raise GraphUnavailable(str(error)) from error

    async def _write(self, statement: str, values: Sequence[_Sql]) -> None:
        def write(connection: sqlite3.Connection) -> None:
            connection.execute(statement, values)

        await self._run(write)

    async def _run(self, fn: Callable[[sqlite3.Connection], None]) -> None:
        try:
            await self._database.write(fn)
        except DatabaseUnavailable as error:
            raise GraphUnavailable(str(error)) from error


def _document(row: _Row) -> Document:
    tenant, path, id, title, sha256, size, passages, updated_at, url = row
    return Document(
        id=id,
        tenant=from_sql(tenant),
        path=from_sql(path),
        title=from_sql(title),
        sha256=sha256,
        bytes=size,
        passages=passages,
        updated_at=updated_at,
        url=from_sql(url),
    )


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(folder.rstrip("/") + "/")
