"""The stores that the settings name: the one file in the data folder, or servers in its parts' places."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from knowledge.catalog import Catalog
from knowledge.graph import GraphUnavailable, KnowledgeGraph
from knowledge.open import open_graph
from knowledge.sql_catalog import SqlCatalog
from knowledge.steps import passages_of
from memory.embedding import Embedder
from memory.open import open_memory
from memory.sql import Connection, DatabaseUnavailable, SqlDatabase, every_tenant
from memory.sqlite import Database
from memory.store import MemoryStore, MemoryUnavailable
from serving.bus import Bus, BusUnavailable, open_bus
from serving.database import open_database
from serving.leased_presence import LeasedPresence
from serving.principal import LOCAL
from serving.processes import FolderPresence, Presence
from serving.row_leases import RowLeases
from serving.settings import Settings


@dataclass(frozen=True, slots=True)
class Stores:
    """Where everything is kept."""

    database: SqlDatabase
    """The record: conversations, runs, documents, jobs."""
    memory: MemoryStore
    graph: KnowledgeGraph
    catalog: Catalog
    bus: Bus
    presence: Presence
    transaction: Callable[[], AbstractAsyncContextManager[None]] | None
    """One transaction over memory, graph and catalog, where all are in the one file."""
    servers: frozenset[str]
    """Which of memory, graph and bus are servers."""

    async def troubles(self) -> dict[str, str | None]:
        """Part to why it does not work, None when it does: data, and the servers that stand for other parts."""
        asked: dict[str, Callable[[], Awaitable[object]]] = {"data": self._write}
        if "memory" in self.servers:
            asked["memory"] = lambda: self.memory.statistics(passages_of(LOCAL.tenant), [])
        if "graph" in self.servers:
            asked["graph"] = lambda: self.graph.titles(LOCAL.tenant, ["parley"])
        if "bus" in self.servers:
            asked["bus"] = lambda: self.bus.get(LOCAL.tenant, "ready")
        return dict(zip(asked, await asyncio.gather(*map(_trouble, asked.values())), strict=True))

    async def _write(self) -> None:
        with every_tenant():
            await self.database.write(_look)


@asynccontextmanager
async def open_stores(settings: Settings, record: SqlDatabase, embedder: Embedder) -> AsyncGenerator[Stores]:
    """Opens what stands beside the record. The data folder must exist; servers are found when they come.

    Raises:
        DatabaseUnavailable: the file of the embedded parts cannot be opened; the text says why.
        BusUnavailable: the bus refuses us; the text says what helps.
    """
    async with AsyncExitStack() as stack:
        file = record if isinstance(record, Database) else None
        if file is None and not (settings.memory_url and settings.knowledge_url):
            file = await open_database(settings.data_dir)
            stack.push_async_callback(file.close)
        memory = open_memory(settings.memory_url, file, embedder)
        stack.push_async_callback(memory.close)
        graph = open_graph(settings.knowledge_url, file)
        stack.push_async_callback(graph.close)
        bus = await open_bus(settings.redis_url)
        stack.push_async_callback(bus.close)
        presence = await _presence(settings, record, bus)
        stack.push_async_callback(presence.close)
        parts = {"memory": settings.memory_url, "graph": settings.knowledge_url, "bus": settings.redis_url}
        servers = frozenset(part for part, url in parts.items() if url)
        joint = None if settings.database_url or servers - {"bus"} else record.transaction
        yield Stores(record, memory, graph, SqlCatalog(record), bus, presence, joint, servers)


async def _presence(settings: Settings, record: SqlDatabase, bus: Bus) -> Presence:
    if not settings.database_url:
        return await asyncio.to_thread(FolderPresence, settings.data_dir)
    return await LeasedPresence.open(bus if settings.redis_url else RowLeases(record))


async def _trouble(ask: Callable[[], Awaitable[object]]) -> str | None:
    try:
        await ask()
    except (DatabaseUnavailable, MemoryUnavailable, GraphUnavailable, BusUnavailable) as error:
        return str(error)
    return None


def _look(connection: Connection) -> None:
    """Takes the write lock and reads: fails when the file has gone, is locked for long or cannot be written."""
    connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone()
