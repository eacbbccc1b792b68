"""The chat graph in LangGraph Studio: `langgraph dev` reads langgraph.json, which names `app` here and app.py:graph."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware

from serving.event_log import event_json
from serving.guards import Guard
from serving.principal import LOCAL
from serving.runtime import Runtime, limits_of, open_runtime
from serving.settings import Settings, load, open_data_dir

if TYPE_CHECKING:
    from graphs.studio import StudioGraph

ORIGIN = "https://smith.langchain.com"
"""Where the Studio page is served from; pages of no other origin may use this server."""


class Process:
    """The parts of this process: open while the server runs, shared by all requests."""

    def __init__(self) -> None:
        self._make: Callable[[], StudioGraph] | None = None
        self._open = asyncio.Event()

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncGenerator[None]:
        """Opens the user's data folder when the server starts, closes it when the server ends.

        Raises:
            SettingsError, DataFolderUnusable, DatabaseUnavailable, MemoryUnavailable: the text says what helps.
        """
        async with open_runtime(await asyncio.to_thread(_settings)) as runtime:
            self._make = await asyncio.to_thread(_maker, runtime)
            self._open.set()
            yield
            self._open.clear()

    async def graph(self) -> StudioGraph:
        """The graph for one request. Runs that were left over from last time ask for it before all is open."""
        await self._open.wait()
        assert self._make is not None
        return self._make()


def _settings() -> Settings:
    settings = load({}, os.environ, Path.cwd()).settings
    open_data_dir(settings)
    return settings


def _maker(runtime: Runtime) -> Callable[[], StudioGraph]:
    """LangGraph is imported here, and what its first graph needs is made."""
    from graphs.studio import Adapter

    def make() -> StudioGraph:
        adapter = Adapter(runtime.deps, LOCAL.tenant, LOCAL.user, limits_of(runtime.settings), event_json)
        return adapter.graph()

    make()
    return make


PROCESS = Process()
app = Starlette(lifespan=PROCESS.lifespan, middleware=[Middleware(Guard, settings=Settings(cors_origins=ORIGIN))])
"""Studio's server adds its own routes to this and goes through its guard: other hosts and origins are refused."""
