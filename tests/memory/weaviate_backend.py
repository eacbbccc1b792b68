"""A Weaviate for tests: collections of one test's own on the shared server, behind proxies that can take it away."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from memory.embedding import HashEmbedder
from memory.store import MemoryStore
from memory.weaviate_address import parse_address
from memory.weaviate_memory import WeaviateMemory
from memory.weaviate_schema import CHANGES, RECORDS, alias_of
from memory.weaviate_store import Server
from tests.faults import FaultProxy
from tests.services.found import service

EMBEDDER = HashEmbedder(32)


def url_with(url: str, prefix: str, http: int = 0, grpc: int = 0) -> str:
    """The same server with other collections, and where given through other ports."""
    parts = urlsplit(url)
    port, asked = http or parts.port, grpc or parse_qs(parts.query)["grpc"][0]
    return f"weaviate://:{parts.password}@127.0.0.1:{port}?grpc={asked}&prefix={prefix}"


def prefix_of(folder: Path) -> str:
    """Names of collections that only the tests of this folder have."""
    return f"T{hashlib.sha256(str(folder).encode()).hexdigest()[:20]}"


async def drop_all(url: str) -> None:
    """Removes all collections of a URL's prefix."""
    server = Server(parse_address(url))
    known = await server.aliases()
    for kind in (*RECORDS, CHANGES):
        alias = alias_of(server, kind)
        if alias in known:
            await server.drop_alias(alias)
            await server.drop(known[alias])
    await server.close()


@dataclass
class WeaviateServer:
    """Any number of stores on collections of their own."""

    folder: Path
    stores: list[WeaviateMemory] = field(default_factory=list[WeaviateMemory])
    proxies: list[FaultProxy] = field(default_factory=list[FaultProxy])

    @property
    def direct(self) -> str:
        """The URL without proxies."""
        return url_with(service("weaviate")["PARLEY_MEMORY_URL"], prefix_of(self.folder))

    async def url(self) -> str:
        """The URL through the proxies."""
        if not self.proxies:
            at = parse_address(self.direct)
            self.proxies = [await FaultProxy("127.0.0.1", port).__aenter__() for port in (at.port, at.grpc)]
        return url_with(self.direct, prefix_of(self.folder), self.proxies[0].port, self.proxies[1].port)

    async def open(self) -> MemoryStore:
        self.stores.append(WeaviateMemory(await self.url(), EMBEDDER.name, EMBEDDER.dimensions))
        return self.stores[-1]

    async def lose(self) -> None:
        for proxy in self.proxies:
            proxy.refuse(True)
            proxy.reset()

    async def check(self) -> None:
        """Nothing: Weaviate has no means of its own."""

    async def close(self) -> None:
        for store in self.stores:
            await store.close()
        for proxy in self.proxies:
            await proxy.__aexit__(None, None, None)

    async def forget(self) -> None:
        await drop_all(self.direct)
