"""A small collection of our own, and contexts over it, for tests of the agents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from agents.context import Budget, Deps, Limits, RunContext, Sampling, Turn
from agents.examples import Examples
from agents.model import ChatModel
from agents.types import Citation, Emitted, Message, Note, TextDelta
from knowledge.ingest import Ingest
from knowledge.open import SCHEMAS, open_knowledge
from knowledge.parse import Parser
from knowledge.search import Search
from memory import embedded
from memory.embedding import Embedder, WordTable
from memory.open import open_memory
from memory.sqlite import Database
from memory.types import Label
from tools.builtin import open_builtin
from tools.types import ToolCall, ToolSpec

TENANT = "acme"
DOCUMENTS = {
    "gull-point.md": "# Gull Point Lighthouse\n\nGull Point Lighthouse was designed by the engineer Ada Marlowe. It "
    "was finished in 1871 and is 34 metres tall. Its lamp burned whale oil until 1902.\n\n## Visiting\n\nThe "
    "lighthouse is open from April to October. Tickets cost 6 euros for adults.\n",
    "ada-marlowe.md": "# Ada Marlowe\n\nAda Marlowe was an engineer who was born in Bristol in 1832. She built eleven "
    "lighthouses and died in 1904.\n",
    "ferry.md": "# Harbour Ferry\n\nThe Harbour Ferry crosses the bay every twenty minutes. It carries 180 passengers "
    "and 12 cars. It has run since 1921.\n",
    "server.md": "# Tern Server\n\nTern Server listens on port 7070. To change the port, set `TERN_PORT`.\n\n"
    "The retry option repeats a failed request three times.\n",
}


@dataclass
class Heard:
    """A context and what agents said through it."""

    ctx: RunContext
    emitted: list[Emitted] = field(default_factory=list[Emitted])

    @property
    def text(self) -> str:
        return "".join(item.text for item in self.emitted if isinstance(item, TextDelta))

    @property
    def notes(self) -> list[str]:
        return [item.code for item in self.emitted if isinstance(item, Note)]

    @property
    def citations(self) -> list[Citation]:
        return [item for item in self.emitted if isinstance(item, Citation)]


@dataclass(frozen=True)
class World:
    """The process's parts over the collection."""

    deps: Deps

    def turn(
        self,
        *said: str,
        model: ChatModel | None = None,
        thread: str = "",
        summary: str = "",
        limits: Limits | None = None,
        sampling: Sampling | None = None,
        caller_tools: Sequence[ToolSpec] = (),
        messages: Sequence[Message] = (),
        deps: Deps | None = None,
    ) -> Heard:
        """A turn in which user and assistant spoke in turns, the user first, or with these messages."""
        turn = Turn(
            run=f"run{thread}",
            tenant=TENANT,
            user="ann",
            messages=tuple(messages) or conversation(*said),
            thread=thread,
            summary=summary,
            limits=limits or Limits(),
            sampling=sampling or Sampling(),
            caller_tools=tuple(caller_tools),
        )
        emitted: list[Emitted] = []

        async def emit(item: Emitted) -> None:
            emitted.append(item)

        base = replace(deps or self.deps, model=model)
        return Heard(RunContext(base, turn, Budget(turn.limits), emit), emitted)


def conversation(*said: str) -> tuple[Message, ...]:
    """Messages of user and assistant in turns, the user first."""
    label = Label(TENANT, "user", 3)
    answered = Label(TENANT, "model", 0)
    return tuple(
        Message("assistant", text, answered) if place % 2 else Message("user", text, label)
        for place, text in enumerate(said)
    )


def call(name: str, arguments: str = "{}", id: str = "c1") -> ToolCall:
    """A wish to use a tool."""
    return ToolCall(id, name, arguments)


@asynccontextmanager
async def open_world(folder: Path, embedder: Embedder, words: WordTable) -> AsyncGenerator[World, None]:
    """The collection, taken in through the product's own door."""
    database = await Database.open(folder / "world.sqlite", (embedded.SCHEMA, *SCHEMAS))
    parser = Parser()
    try:
        memory = open_memory("", database, embedder)
        knowledge = open_knowledge(database)
        ingest = Ingest(parser, embedder, memory, knowledge.graph, knowledge.catalog, database.transaction)
        for name, text in DOCUMENTS.items():
            await ingest.content(TENANT, f"/docs/{name}", name, text.encode())
        search = Search(memory, knowledge.graph, knowledge.catalog)
        tools = open_builtin(search, embedder, knowledge.graph)
        examples = await Examples.open(embedder, folder / "cache")
        yield World(Deps(memory, embedder, words, knowledge.graph, knowledge.catalog, search, tools, examples))
    finally:
        await parser.close()
        await database.close()
