"""Servers of one test's own, which it may stop, start and kill."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from tests.services.found import require
from tests.services.instance import Instance
from tests.services.shared import KINDS, private_folder


@asynccontextmanager
async def private(name: str, config: str = "") -> AsyncGenerator[tuple[dict[str, str], Instance]]:
    """A new, empty server on free ports, ready and seeded; gone with all its data at the end.

    Args:
        name: "weaviate" (8 s to start), "neo4j" (6 s), "postgres", "redis", "chroma" or "nginx".
        config: nginx's events and http blocks; `{port}` and `{home}` in it are filled in.

    Yields:
        Its lines as in `.services/env` (nginx: PARLEY_TEST_NGINX_URL), and the server with
        `await server.stop()`, `await server.start()` and `await server.kill()`: its addresses stay the same.
    """
    require(name)
    server = Instance(KINDS[name], private_folder() / f"{name}-{secrets.token_hex(4)}", config)
    try:
        await server.start()
        yield server.urls, server
    finally:
        with anyio.CancelScope(shield=True):
            await server.remove()
