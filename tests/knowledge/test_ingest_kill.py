"""kill -9 in the middle of ingestion: what was reported stays, nothing half is found, the next one completes it."""

from __future__ import annotations

import random
import sqlite3
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from knowledge.ingest import Ingest
from knowledge.open import SCHEMAS, open_knowledge
from knowledge.parse import Parser
from knowledge.search import Search
from knowledge.types import SearchQuery
from memory.embedded import SCHEMA, EmbeddedMemory
from memory.embedding import HashEmbedder
from memory.sqlite import Database
from memory.types import Scope

ROOT = Path(__file__).parents[2]
PROCESS = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from knowledge.ingest import Ingest, Progress
from knowledge.open import SCHEMAS, open_knowledge
from knowledge.parse import Parser
from memory.embedded import SCHEMA, EmbeddedMemory
from memory.embedding import HashEmbedder
from memory.sqlite import Database

def tell(progress: Progress) -> None:
    print(progress.report.new, progress.report.updated, flush=True)

async def main() -> None:
    embedder = HashEmbedder(64)
    database = await Database.open(Path({path!r}), [SCHEMA, *SCHEMAS])
    knowledge = open_knowledge(database)
    memory = EmbeddedMemory(database, embedder.name, embedder.dimensions)
    ingest = Ingest(Parser(), embedder, memory, knowledge.graph, knowledge.catalog, database.transaction)
    await ingest.paths("t", [{docs!r}], tell)
    await database.close()

asyncio.run(main())
"""


def write(docs: Path, edition: int) -> None:
    """Short files and long ones, each of which names its edition in every passage."""
    docs.mkdir(exist_ok=True)
    for n in range(30):
        parts = 50 if n % 10 == 5 else 1
        body = "\n\n".join(
            f"## Part {m}\n\nEdition{edition} of book {n}, part {m}. " + "More of it. " * 20 for m in range(parts)
        )
        (docs / f"{n:02}.md").write_text(f"# Book {n}\n\n{body}\n")


async def acknowledged_until_killed(path: Path, docs: Path, lines: int) -> tuple[int, int]:
    """Ingests in another process and kills it after so many lines of progress; new and updated as last reported."""
    code = PROCESS.format(root=str(ROOT), path=str(path), docs=str(docs))
    process = await create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    last = b"0 0"
    for _ in range(lines):
        line = await process.stdout.readline()
        if not line:
            break
        last = line
    if process.returncode is None:
        process.kill()
    rest, errors = await process.communicate()
    assert b"Traceback" not in errors, errors.decode()
    last = [line for line in (last, *rest.splitlines()) if line][-1]
    new, updated = map(int, last.split())
    return new, updated


@pytest.mark.parametrize("seed", range(5))
async def test_a_killed_ingestion_loses_nothing_and_shows_nothing_half(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path, docs = tmp_path / "parley.sqlite", tmp_path / "docs"
    embedder = HashEmbedder(64)
    for edition in (1, 2):
        write(docs, edition)
        new, updated = await acknowledged_until_killed(path, docs, chance.randrange(1, 60))
        database = await Database.open(path, [SCHEMA, *SCHEMAS])
        knowledge = open_knowledge(database)
        memory = EmbeddedMemory(database, embedder.name, embedder.dimensions)
        search = Search(memory, knowledge.graph, knowledge.catalog)
        parser = Parser()
        ingest = Ingest(parser, embedder, memory, knowledge.graph, knowledge.catalog, database.transaction)

        def sound(connection: sqlite3.Connection) -> str:
            return str(connection.execute("PRAGMA integrity_check").fetchone()[0])

        assert await database.read(sound) == "ok"
        documents = await knowledge.catalog.below("t", "")
        assert len(documents) >= (new if edition == 1 else 30)
        visible = await memory.statistics(Scope("t", "passages"), [])
        assert visible.records == sum(document.passages for document in documents)
        vector = (await embedder.embed(["Edition2"]))[0]
        changed = {
            found.document.id
            for found in await search("t", SearchQuery("Edition2", vector), 200)
            if "Edition2" in found.passage.text
        }
        assert len(changed) >= updated

        report = await ingest.paths("t", [str(docs)])
        assert report.failed == []
        assert report.new + report.updated + report.unchanged == 30
        found = await search("t", SearchQuery(f"Edition{edition}", vector), 200)
        assert len(found) == 27 + 3 * 50
        assert all(f"Edition{edition} " in each.passage.text for each in found)
        assert await knowledge.catalog.begun("t", "") == {}
        await parser.close()
        await database.close()
