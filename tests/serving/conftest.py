"""What turns need beside an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agents.context import Deps
from serving.runtime import open_runtime
from serving.settings import Settings


@pytest.fixture(scope="module")
async def deps(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deps]:
    async with open_runtime(Settings(data_dir=tmp_path_factory.mktemp("deps"))) as runtime:
        yield runtime.deps
