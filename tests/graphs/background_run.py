"""A background run over a small collection in a folder, by this process or by one that is killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio

from agents.context import Turn
from agents.model import ModelDelta
from agents.scripted import Scripted, ScriptedModel
from graphs import chat
from graphs.checkpoints import Checkpoints
from graphs.control import Resume
from graphs.events import Event, StepFinished, StepStarted, Token
from memory.embedding import HashEmbedder, HashWords
from memory.sqlite import Database
from tests.agents.world import TENANT, conversation, open_world

SCHEMA = (Path(__file__).parents[2] / "serving" / "schema.sql").read_text(encoding="utf-8")
RUN = "0199aaaa-0000-7000-8000-000000000000"
HANGS: Scripted = (ModelDelta("It is "), anyio.Event())
"""A model that stops in the middle of its answer."""


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[Database]:
    """The database of a folder's runs."""
    database = await Database.open(folder / "runs.sqlite", [SCHEMA])
    try:
        yield database
    finally:
        await database.close()


async def background(
    folder: Path, database: Database, answer: Scripted, resume: Resume | None = None
) -> AsyncGenerator[Event, None]:
    """The events of the run."""
    turn = Turn(RUN, TENANT, "ann", conversation("How tall is Gull Point Lighthouse?"))
    async with open_world(folder, HashEmbedder(64), HashWords(64)) as world:
        deps = replace(world.deps, model=ScriptedModel(answer))
        graph = chat.build(Checkpoints(database))
        async with aclosing(chat.run(graph, deps, turn, durability="sync", resume=resume)) as events:
            async for event in events:
                yield event


async def main(folder: Path) -> None:
    """Prints what the run says, and hangs in the middle of its answer."""
    async with opened(folder) as database, aclosing(background(folder, database, HANGS)) as events:
        async for event in events:
            match event:
                case StepStarted(step):
                    print("started", step, flush=True)
                case StepFinished(step):
                    print("finished", step, flush=True)
                case Token():
                    print("token", flush=True)
                case _:
                    pass


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
