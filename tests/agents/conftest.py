"""What the tests of the agents share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from memory.minilm import MiniLM, MiniLMWords
from tests.agents.world import World, open_world


@pytest.fixture(scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The collection with the real embedder, where meaning matters."""
    async with open_world(tmp_path_factory.mktemp("world"), MiniLM(), MiniLMWords()) as opened:
        yield opened
