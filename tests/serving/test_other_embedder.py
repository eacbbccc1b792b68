"""Data that another embedder made: said plainly by the command line, the search and the chat, and put right by them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from serving.database import DATABASE
from serving.runtime import open_runtime
from serving.settings import Settings
from tests.serving.api_client import QUESTION, client_of, made_thread, opened, question

ROOT = Path(__file__).resolve().parents[2]
SAID = "was made with the embedder sparrow-large (384 dimensions)"
REMEDY = "parley documents remove"
DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """One document whose vectors are said to be another embedder's."""
    (tmp_path / "data").mkdir(mode=0o700)
    async with opened(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE)) as database:
        database.execute("UPDATE memory_scopes SET embedder = 'sparrow-large'")
        database.commit()
    return tmp_path


async def parley(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """One command."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
    command = [sys.executable, "-m", "serving.cli", "--data-dir", str(folder / "data"), *arguments]
    with anyio.fail_after(DEADLINE):
        return await anyio.run_process(command, env={**environ, "PYTHONPATH": str(ROOT)}, cwd=folder, check=False)


async def test_the_command_line_says_what_to_do_and_doing_it_helps(folder: Path) -> None:
    (folder / "more.md").write_text("# Weir\n\nThe weir was built in 1911.\n", encoding="utf-8")
    for command in (("search", "mill"), ("ingest", "more.md")):
        refused = await parley(folder, *command)
        assert refused.returncode == 1
        assert SAID.encode() in refused.stderr
        assert REMEDY.encode() in refused.stderr
        assert b"bug" not in refused.stderr
    assert (await parley(folder, "documents", "remove", "mill.md")).returncode == 0
    assert (await parley(folder, "ingest", "mill.md")).returncode == 0
    assert b"Tomas Reed" in (await parley(folder, "search", "mill")).stdout


async def test_the_search_of_the_api_answers_503_with_what_to_do(folder: Path) -> None:
    async with open_runtime(Settings(data_dir=folder / "data")) as runtime, client_of(runtime) as client:
        response = await client.post("/api/search", json={"query": "mill"})
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert SAID in response.json()["detail"]
        assert REMEDY in response.json()["detail"]


async def test_a_chat_goes_on_without_the_documents_and_says_why(folder: Path) -> None:
    async with open_runtime(Settings(data_dir=folder / "data")) as runtime, client_of(runtime) as client:
        thread = await made_thread(client)
        response = await client.post(f"/api/threads/{thread}/runs", json=question(QUESTION))
        assert response.status_code == 200, response.text
        assert SAID in response.text
        assert "Tomas Reed" not in response.text
