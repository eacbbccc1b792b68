"""A whole runtime over a small collection of our own, for tests that drive the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serving.runtime import Runtime, open_runtime
from serving.settings import Settings

LIGHTHOUSE = """# Gull Point Lighthouse

Gull Point Lighthouse was designed by the engineer Ada Marlowe. It was finished in 1871 and is 34 metres tall.

## Visiting

The lighthouse is open from April to October. Tickets cost 6 euros for adults.
"""
FERRY = """# Harbour Ferry

The Harbour Ferry crosses the bay every twenty minutes. It carries 180 passengers and 12 cars.
"""


@pytest.fixture(scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtime]:
    folder: Path = tmp_path_factory.mktemp("engine")
    documents = folder / "documents"
    documents.mkdir()
    (documents / "lighthouse.md").write_text(LIGHTHOUSE, encoding="utf-8")
    (documents / "ferry.md").write_text(FERRY, encoding="utf-8")
    async with open_runtime(Settings(data_dir=folder)) as opened:
        report = await opened.ingest.paths("local", [str(documents)], lambda _: None)
        assert (report.new, report.failed) == (2, [])
        yield opened
