"""Weaviate for a test: collections of its own, gone after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memory.weaviate_address import parse_address
from memory.weaviate_store import Server
from tests.memory.weaviate_backend import WeaviateServer


@pytest.fixture
async def weaviate(tmp_path: Path) -> AsyncIterator[WeaviateServer]:
    """Any number of stores on the same collections, behind proxies that can take the server away."""
    made = WeaviateServer(tmp_path)
    yield made
    await made.close()
    await made.forget()


@pytest.fixture
async def server(weaviate: WeaviateServer) -> AsyncIterator[Server]:
    """What lies under the stores, asked directly."""
    made = Server(parse_address(weaviate.direct))
    yield made
    await made.close()
