"""Small collections of our own, one a test, taken in, searched and quoted through the product's own doors."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from agents.quote import Quoted, quote
from knowledge.chunk import split
from knowledge.ingest import Ingest
from knowledge.open import SCHEMAS, open_knowledge
from knowledge.parse import Parser
from knowledge.search import Search
from knowledge.sentences import embedding_texts
from knowledge.types import Document, Found, ParsedDocument, SearchQuery
from memory import embedded
from memory.embedding import Embedder, WordTable
from memory.open import open_memory
from memory.sqlite import Database
from memory.store import MemoryStore
from memory.types import Label, PartVectors, Scope

FOUND = 5


@dataclass(frozen=True)
class Library:
    """The process's parts; every call of `ask` has a tenant of its own."""

    embedder: Embedder
    words: WordTable
    memory: MemoryStore
    ingest: Ingest
    search: Search
    _tenants: count[int] = field(default_factory=count)

    async def ask(self, question: str, *texts: str, language: str = "en") -> Quoted:
        """The answer from these Markdown documents and nothing else."""
        tenant = f"tenant{next(self._tenants)}"
        for number, text in enumerate(texts):
            await self.ingest.content(tenant, f"/docs/{number}.md", f"{number}.md", text.encode())
        vector = (await self.embedder.embed([question]))[0]
        found = await self.search(tenant, SearchQuery(question, vector), FOUND)
        return await self.quote(question, found, tenant=tenant, language=language)

    async def quote(
        self, question: str, found: Sequence[Found], *, tenant: str = "nobody", language: str = "en"
    ) -> Quoted:
        """The answer from passages that were found otherwise."""
        vector = (await self.embedder.embed([question]))[0]
        scope = Scope(tenant, "passages")
        return await quote(
            question, vector, found, memory=self.memory, scope=scope, words=self.words, language=language
        )

    async def found(self, title: str, text: str, *, url: str = "", vectors: bool = True) -> list[Found]:
        """All passages of one document as if a search had found them, in the document's order."""
        return await found_in(self.embedder, title, text, url=url, vectors=vectors)


async def found_in(embedder: Embedder, title: str, text: str, *, url: str = "", vectors: bool = True) -> list[Found]:
    """All passages of one document as if a search had found them, in the document's order."""
    passages = split(ParsedDocument(title, text), document_id=title or "untitled", version="1")
    document = Document(title, "nobody", f"/docs/{title}.md", title, "", 0, len(passages), "", url)
    label = Label("nobody", f"doc:{title}", 0)
    found: list[Found] = []
    for passage in passages:
        rows = await embedder.embed(embedding_texts(passage))
        scales = np.maximum(np.abs(rows).max(axis=1, initial=0.0), 1e-9).astype(np.float32) / np.float32(127)
        parts = PartVectors(np.rint(rows / scales[:, None]).astype(np.int8), scales)
        found.append(Found(document, passage, 1.0, {"dense": 0.5}, label, parts if vectors else None))
    return found


def check_marks(quoted: Quoted) -> None:
    """Every number in brackets outside code is one of the answer's marks, in order, and has its span."""
    prose = re.sub(r"(`{3,}).*?\n\1|`[^`\n]*`", lambda code: " " * len(code[0]), quoted.text, flags=re.DOTALL)
    marks = [(found.start(), found.end()) for found in re.finditer(r"(?<!\\)\[\d+\]", prose)]
    assert [(span.start, span.end) for span in quoted.spans] == marks
    assert [span.index for span in quoted.spans] == [cited.index for cited in quoted.citations]
    assert [cited.index for cited in quoted.citations] == list(range(1, len(quoted.citations) + 1))


@asynccontextmanager
async def open_library(folder: Path, embedder: Embedder, words: WordTable) -> AsyncGenerator[Library, None]:
    """An empty library in a folder."""
    database = await Database.open(folder / "library.sqlite", (embedded.SCHEMA, *SCHEMAS))
    parser = Parser()
    try:
        memory = open_memory("", database, embedder)
        knowledge = open_knowledge(database)
        ingest = Ingest(parser, embedder, memory, knowledge.graph, knowledge.catalog, database.transaction)
        yield Library(embedder, words, memory, ingest, Search(memory, knowledge.graph, knowledge.catalog))
    finally:
        await parser.close()
        await database.close()
