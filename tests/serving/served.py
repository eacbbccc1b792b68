"""The application on a real loopback socket, inside the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

import uvicorn

from serving.api import create_app
from serving.http_protocol import BoundedHead
from serving.runtime import Runtime


class Server(uvicorn.Server):
    """Uvicorn inside the test's own event loop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def served(runtime: Runtime, http: Literal["httptools"] | type[BoundedHead] = "httptools") -> AsyncGenerator[str]:
    """The address of a server that runs while the body does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(runtime), http=http, ws="none", lifespan="off", log_config=None)
        server = Server(config)
        task = asyncio.create_task(server.serve([listener]))
        await server.ready.wait()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
