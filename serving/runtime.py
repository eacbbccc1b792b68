"""The composition root: opens every part once, in the order of the layers, and closes them in reverse."""

from __future__ import annotations

import asyncio
import os
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
from knowledge.parse import Parser
from knowledge.search import Search
from knowledge.types import Found, SearchQuery
from memory.embedding import Embedder
from memory.minilm import MiniLM, MiniLMWords
from memory.sql import SqlDatabase
from memory.store import MemoryStore, MemoryUnavailable
from serving.bus import Bus
from serving.database import open_record
from serving.job_store import JobStore
from serving.leases import Leases
from serving.principal import Principal
from serving.repository import Repository
from serving.settings import Settings
from serving.stores import Stores, open_stores
from serving.turns import Engine, Turns
from serving.uploads import Uploads
from tools import builtin

if TYPE_CHECKING:
    from serving.models.open import OpenModel


@dataclass(frozen=True, slots=True)
class Runtime:
    """All open parts of one process."""

    settings: Settings
    stores: Stores
    embedder: Embedder
    ingest: Ingest
    repository: Repository
    deps: Deps
    turns: Turns
    model: OpenModel | None
    jobs: JobStore
    uploads: Uploads

    @property
    def database(self) -> SqlDatabase:
        """The record: conversations, runs, documents, jobs."""
        return self.stores.database

    @property
    def memory(self) -> MemoryStore:
        """What is found by meaning and by words."""
        return self.stores.memory

    @property
    def catalog(self) -> Catalog:
        """The list of documents."""
        return self.stores.catalog

    @property
    def bus(self) -> Bus:
        """What the servers of one Parley tell each other."""
        return self.stores.bus

    async def search(self, principal: Principal, query: str, limit: int) -> list[Found]:
        """The passages that fit a query best, for the search door.

        Raises:
            MemoryUnavailable: the memory cannot be reached.
        """
        vector, _ = await asyncio.gather(
            self.embedder.embed_query(query), self.deps.search.foresee(principal.tenant, query)
        )
        return await self.deps.search(principal.tenant, SearchQuery(query, vector), limit)

    async def warm(self) -> None:
        """Loads the engine, then what only some turns need (units, time zones). For a server that listens already:
        a search is answered at once, and a turn that comes within these seconds waits for the engine."""
        await self.turns.warm()
        await asyncio.to_thread(builtin.warm)

    async def ready(self) -> dict[str, str | None]:
        """Part to why it does not work, None when it does: data, embedder, then the servers that are set."""
        told, embedder = await asyncio.gather(self.stores.troubles(), self._embedder_trouble())
        parts = {"data": told.pop("data"), "embedder": embedder, **told}
        return parts if self.model is None else {**parts, "model": await self.model.server.reachable()}

    async def _embedder_trouble(self) -> str | None:
        try:
            await self.embedder.embed_query("ready")
        except MemoryUnavailable as error:
            return str(error)
        return None


@asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncGenerator[Runtime, None]:
    """Opens everything that the settings name. The data folder must exist.

    Raises:
        DatabaseUnavailable: the database cannot be opened; the text says why.
        MemoryUnavailable: the embedder's weights are missing.
        BusUnavailable: the bus refuses us; the text says what helps.
    """
    async with AsyncExitStack() as stack:
        data = Path(settings.data_dir)
        embedder, words, record = await asyncio.gather(
            asyncio.to_thread(MiniLM, threads=min(2, os.cpu_count() or 1)),
            asyncio.to_thread(MiniLMWords),
            open_record(settings),
        )
        stack.push_async_callback(asyncio.to_thread, embedder.close)
        stack.push_async_callback(record.close)
        stores = await stack.enter_async_context(open_stores(settings, record, embedder))
        parser = Parser(seconds=settings.parse_seconds, megabytes=settings.parse_memory_mb)
        stack.push_async_callback(parser.close)
        search = Search(stores.memory, stores.graph, stores.catalog)
        model = await _model(settings, stack)
        deps = Deps(
            memory=stores.memory,
            embedder=embedder,
            words=words,
            graph=stores.graph,
            catalog=stores.catalog,
            search=search,
            tools=builtin.open_builtin(search, embedder, stores.graph),
            examples=await Examples.open(embedder, data / "cache"),
            model=None if model is None else model.model,
        )
        rows = Repository(record, stores.presence)
        await Leases(rows).recover()
        jobs = JobStore(record)
        answered = {} if model is None else {"answered": jobs.title_later}  # without a model there is no better title
        turns = Turns(deps, partial(load_engine, record), rows, limits_of(settings), **answered, bus=stores.bus)
        stack.push_async_callback(turns.close)
        ingest = Ingest(parser, embedder, stores.memory, stores.graph, stores.catalog, stores.transaction)
        yield Runtime(
            settings, stores, embedder, ingest, rows, deps, turns, model, jobs, Uploads(data / "uploads")
        )  # fmt: skip


def load_engine(database: SqlDatabase) -> Engine:
    """The compiled chat graph, ready to run turns whose checkpoints are in that database."""
    os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")  # a checkpoint gives back known types only
    from graphs import chat
    from graphs.checkpoints import Checkpoints

    return partial(chat.run, chat.build(Checkpoints(database)))


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
