"""Catalog in the database that holds the record, SQLite or Postgres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from knowledge.graph import GraphUnavailable
from knowledge.types import Document
from memory.sql import Connection, DatabaseUnavailable, SqlDatabase, acting_for
from memory.sqlite import from_sql

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
  tenant TEXT NOT NULL, path TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL, sha256 TEXT NOT NULL,
  bytes INTEGER NOT NULL, passages INTEGER NOT NULL, updated_at TEXT NOT NULL, url TEXT NOT NULL,
  PRIMARY KEY (tenant, path), UNIQUE (tenant, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents_begun (
  tenant TEXT NOT NULL, path TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (tenant, path)) WITHOUT ROWID;
"""
"""DDL that a SQLite file must be opened with."""
POSTGRES_SCHEMA = """
CREATE TABLE documents (
  tenant TEXT COLLATE "C" NOT NULL, path TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL, title TEXT NOT NULL,
  sha256 TEXT NOT NULL, bytes BIGINT NOT NULL, passages BIGINT NOT NULL, updated_at TEXT COLLATE "C" NOT NULL,
  url TEXT NOT NULL, PRIMARY KEY (tenant, path), UNIQUE (tenant, id));
CREATE TABLE documents_begun (
  tenant TEXT COLLATE "C" NOT NULL, path TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant, path));
"""
"""The same for the first revision on Postgres, which adds the policies of all tables with a tenant."""

_Sql = str | bytes
_Row = tuple[_Sql, _Sql, str, _Sql, str, int, int, str, _Sql]
_COLUMNS = ("tenant", "path", "id", "title", "sha256", "bytes", "passages", "updated_at", "url")
_SELECT = "SELECT " + ", ".join(f"d.{column}" for column in _COLUMNS)
_AT = f"{_SELECT} FROM documents d WHERE d.tenant = ? AND d.path = ?"
_ALL = f"{_SELECT} FROM documents d WHERE d.tenant = ? ORDER BY d.path"
_AFTER = f"{_SELECT} FROM documents d WHERE d.tenant = ? AND d.path > ? ORDER BY d.path LIMIT ?"
_BY_ID = f"{_SELECT} FROM (VALUES {{}}) AS asked CROSS JOIN documents d WHERE d.id = asked.column1 AND d.tenant = ?"
"""One look-up for each id: with IN, SQLite without statistics reads all documents of the tenant instead."""
_MOVED = "DELETE FROM documents WHERE tenant = ? AND id = ? AND path <> ?"
_PUT = f"""INSERT INTO documents ({", ".join(_COLUMNS)}) VALUES ({", ".join("?" * len(_COLUMNS))})
ON CONFLICT (tenant, path) DO UPDATE SET {", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[2:])}"""
_BEGIN = """INSERT INTO documents_begun (tenant, path, id) VALUES (?, ?, ?)
ON CONFLICT (tenant, path) DO UPDATE SET id = excluded.id"""
_BEGUN = "SELECT path, id FROM documents_begun WHERE tenant = ?"
_ENDED = "DELETE FROM documents_begun WHERE tenant = ? AND path = ?"
_REMOVE = tuple(f"DELETE FROM {table} WHERE tenant = ? AND id = ?" for table in ("documents", "documents_begun"))
_IDS_AT_ONCE = 500
"""Values in one statement."""


class SqlCatalog:
    """Catalog in the shared database."""

    def __init__(self, database: SqlDatabase) -> None:
        """The database has this file's tables."""
        self._database, self._text = database, database.dialect.text

    async def begin(self, tenant: str, path: str, id: str) -> None:
        """See Catalog."""
        row = (self._text(tenant), self._text(path), id)

        def begin(connection: Connection) -> None:
            connection.execute(_BEGIN, row)

        await self._write(tenant, begin)

    async def put(self, document: Document) -> None:
        """See Catalog."""
        owner, path = self._text(document.tenant), self._text(document.path)
        row: _Row = (
            owner,
            path,
            document.id,
            self._text(document.title),
            document.sha256,
            document.bytes,
            document.passages,
            document.updated_at,
            self._text(document.url),
        )

        def put(connection: Connection) -> None:
            connection.execute(_MOVED, (owner, document.id, path))
            connection.execute(_PUT, row)
            connection.execute(_ENDED, (owner, path))

        await self._write(document.tenant, put)

    async def remove(self, tenant: str, id: str) -> None:
        """See Catalog."""

        def remove(connection: Connection) -> None:
            for statement in _REMOVE:
                connection.execute(statement, (self._text(tenant), id))

        await self._write(tenant, remove)

    async def get(self, tenant: str, ids: Sequence[str]) -> dict[str, Document]:
        """See Catalog."""
        asked = [id.encode("utf-8", "replace").decode() for id in ids]
        found: dict[str, Document] = {}
        for start in range(0, len(asked), _IDS_AT_ONCE):
            some = asked[start : start + _IDS_AT_ONCE]
            sql = _BY_ID.format(", ".join(["(?)"] * len(some)))
            listed = await self._documents(tenant, sql, (*some, self._text(tenant)))
            found.update((document.id, document) for document in listed)
        return found

    async def at(self, tenant: str, path: str) -> Document | None:
        """See Catalog."""
        found = await self._documents(tenant, _AT, (self._text(tenant), self._text(path)))
        return found[0] if found else None

    async def below(self, tenant: str, folder: str) -> list[Document]:
        """See Catalog."""
        found = await self._documents(tenant, _ALL, (self._text(tenant),))
        return [document for document in found if _is_below(document.path, folder)]

    async def after(self, tenant: str, path: str, limit: int) -> list[Document]:
        """See Catalog."""
        return await self._documents(tenant, _AFTER, (self._text(tenant), self._text(path), limit))

    async def begun(self, tenant: str, folder: str) -> dict[str, str]:
        """See Catalog."""

        def read(connection: Connection) -> dict[str, str]:
            rows = connection.execute(_BEGUN, (self._text(tenant),))
            found = {from_sql(path): str(id) for path, id in rows}
            return {path: id for path, id in found.items() if _is_below(path, folder)}

        return await self._read(tenant, read)

    async def _documents(self, tenant: str, sql: str, values: Sequence[_Sql | int]) -> list[Document]:
        def read(connection: Connection) -> list[Document]:
            return [_document(row) for row in connection.execute(sql, values)]

        return await self._read(tenant, read)

    async def _read(self, tenant: str, fn: Callable[[Connection], T]) -> T:
        try:
            with acting_for(tenant):
                return await self._database.read(fn)
        except DatabaseUnavailable as error:
            raise GraphUnavailable(str(error)) from error

    async def _write(self, tenant: str, fn: Callable[[Connection], None]) -> None:
        try:
            with acting_for(tenant):
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
