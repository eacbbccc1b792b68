"""Which stores are opened by the settings, and what is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serving.runtime import open_runtime
from serving.settings import Settings
from tests.serving.production import addresses, settings_of

CLIENTS = ("weaviate", "neo4j", "redis", "psycopg", "chromadb")


def test_a_parley_on_the_one_file_imports_no_client_of_a_server(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
from serving.runtime import open_runtime
from serving.settings import Settings
async def main():
    async with open_runtime(Settings(data_dir=Path({str(tmp_path)!r}))) as runtime:
        assert (await runtime.ready()) == {{"data": None, "embedder": None}}
asyncio.run(main())
print([name for name in {CLIENTS} if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


@pytest.mark.parametrize("server", ["memory_url", "knowledge_url", "database_url"])
async def test_one_server_stands_beside_the_file_that_holds_the_rest(server: str, tmp_path: Path) -> None:
    with addresses() as urls:
        whole = settings_of(tmp_path, urls)
        owner = {"database_owner_url": whole.database_owner_url} if server == "database_url" else {}
        settings = Settings.model_validate({"data_dir": tmp_path, server: getattr(whole, server), **owner})
        folder = tmp_path / "papers"
        folder.mkdir()
        (folder / "mill.md").write_text("# Old Mill\n\nThe Old Mill was built by Tomas Reed.\n")
        async with open_runtime(settings) as runtime:
            tenant = f"t-{tmp_path.name}"
            assert (await runtime.ingest.paths(tenant, [str(folder)])).new == 1
            (document,) = await runtime.catalog.below(tenant, "")
            assert (await runtime.ingest.paths(tenant, [str(folder)])).unchanged == 1
            assert await runtime.ingest.remove(tenant, document.id)
            assert set((await runtime.ready()).values()) == {None}
        assert (tmp_path / "parley.sqlite").exists()
