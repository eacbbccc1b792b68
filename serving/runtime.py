"""The composition root: opens every part once, in the order of the layers, and closes them in reverse."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agents.context import Deps, Limits
from agents.examples import Examples
from knowledge.catalog import Catalog
from knowledge.ingest import Ingest
from knowledge.open import open_knowledge
from knowledge.parse import Parser
from knowledge.search import Search
from knowledge.types import Found, SearchQuery
from memory.embedding import Embedder
from memory.minilm import MiniLM, MiniLMWords
from memory.open import open_memory
from memory.sqlite import Database, DatabaseUnavailable
from memory.store import MemoryStore, MemoryUnavailable
from serving.bus import Bus, open_bus
from serving.database import open_database
from serving.job_store import JobStore
from serving.leases import Leases
from serving.principal import Principal
from serving.processes import FolderPresence
from serving.repository import Repository
from serving.settings import Settings
from serving.turns import Engine, Turns
from serving.uploads import Uploads
from tools import builtin

if TYPE_CHECKING:
    from serving.models.open import OpenModel


@dataclass(frozen=True, slots=True)
class Runtime:
    """All open parts of one process."""

    settings: Settings
    database: Database
    embedder: Embedder
    memory: MemoryStore
    catalog: Catalog
    ingest: Ingest
    repository: Repository
    deps: Deps
    turns: Turns
    model: OpenModel | None
    jobs: JobStore
    uploads: Uploads
    bus: Bus

    async def search(self, principal: Principal, query: str, limit: int) -> list[Found]:
        """The passages that fit a query best, for the search door.

        Raises:
            MemoryUnavailable: the memory cannot be reached.
        """
        (vector, *_), _ = await asyncio.gather(
            self.embedder.embed([query]), self.deps.search.foresee(principal.tenant, query)
        )
        return await self.deps.search(principal.tenant, SearchQuery(query, vector), limit)

    async def warm(self) -> None:
        """Loads the engine, then what only some turns need (units, time zones). For a server that listens already:
        a search is answered at once, and a turn that comes within these seconds waits for the engine."""
        await self.turns.warm()
        await asyncio.to_thread(builtin.warm)

    async def ready(self) -> dict[str, str | None]:
        """Part to why it does not work, None when it does: data, embedder, and the model where one is set."""
        parts = {"data": await self._database_trouble(), "embedder": await self._embedder_trouble()}
        return parts if self.model is None else {**parts, "model": await self.model.server.reachable()}

    async def _database_trouble(self) -> str | None:
        try:
            await self.database.write(_look)
        except DatabaseUnavailable as error:
            return str(error)
        return None

    async def _embedder_trouble(self) -> str | None:
        try:
            await self.embedder.embed(["ready"])
        except MemoryUnavailable as error:
            return str(error)
        return None


@asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncGenerator[Runtime, None]:
    """Opens everything that the settings name. The data folder must exist.

    Raises:
        DatabaseUnavailable: the database cannot be opened; the text says why.
        MemoryUnavailable: the embedder's weights are missing.
    """
    async with AsyncExitStack() as stack:
        data = Path(settings.data_dir)
        embedder, words, database = await asyncio.gather(
            asyncio.to_thread(MiniLM, threads=min(2, os.cpu_count() or 1)),
            asyncio.to_thread(MiniLMWords),
            open_database(data),
        )
        stack.push_async_callback(asyncio.to_thread, embedder.close)
        stack.push_async_callback(database.close)
        memory = open_memory("", database, embedder)
        knowledge = open_knowledge(database)
        parser = Parser(seconds=settings.parse_seconds, megabytes=settings.parse_memory_mb)
        stack.push_async_callback(parser.close)
        search = Search(memory, knowledge.graph, knowledge.catalog)
        model = await _model(settings, stack)
        deps = Deps(
            memory=memory,
            embedder=embedder,
            words=words,
            graph=knowledge.graph,
            catalog=knowledge.catalog,
            search=search,
            tools=builtin.open_builtin(search, embedder, knowledge.graph),
            examples=await Examples.open(embedder, data / "cache"),
            model=None if model is None else model.model,
        )
        bus = await open_bus(settings.redis_url)
        stack.push_async_callback(bus.close)
        presence = await asyncio.to_thread(FolderPresence, data)
        stack.push_async_callback(presence.close)
        rows = Repository(database, presence)
        await Leases(rows).recover()
        jobs = JobStore(database)
        answered = {} if model is None else {"answered": jobs.title_later}  # without a model there is no better title
        turns = Turns(deps, partial(load_engine, database), rows, limits_of(settings), **answered, bus=bus)
        stack.push_async_callback(turns.close)
        ingest = Ingest(parser, embedder, memory, knowledge.graph, knowledge.catalog, database.transaction)
        yield Runtime(
            settings, database, embedder, memory, knowledge.catalog, ingest, rows, deps, turns, model, jobs,
            Uploads(data / "uploads"), bus,
        )  # fmt: skip


def load_engine(database: Database) -> Engine:
    """The compiled chat graph, ready to run turns whose checkpoints are in the one file."""
    os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")  # a checkpoint gives back known types only
    from graphs import chat
    from graphs.checkpoints import Checkpoints

    return partial(chat.run, chat.build(Checkpoints(database)))


def _look(connection: sqlite3.Connection) -> None:
    """Takes the write lock and reads: fails when the file has gone, is locked for long or cannot be written."""
    connection.execute("SELECT count(*) FROM runs").fetchone()


async def _model(settings: Settings, stack: AsyncExitStack) -> OpenModel | None:
    if not settings.model_url:
        return None
    from serving.models.open import open_model

    model = await open_model(
        settings.model_url,
        settings.model,
        settings.model_key,
        settings.model_window,
        first_token_seconds=settings.first_token_seconds,
    )
    stack.push_async_callback(model.server.close)
    return model


def limits_of(settings: Settings) -> Limits:
    """What one turn may spend."""
    return Limits(
        seconds=settings.turn_seconds,
        model_calls=settings.turn_model_calls,
        tool_calls=settings.turn_tool_calls,
        tokens=settings.turn_tokens,
    )
