"""An engine that a test plays, and several processes on one data folder, each with rows and runs of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import anyio

from agents.context import Deps, Limits, Turn
from agents.types import Citation, Draft, Message
from graphs.control import Durability, Park, Resume
from graphs.events import Cited, Event, RunFinished, RunStarted, Sequenced, Token
from memory.sqlite import Database
from memory.types import TRUST_USER, Label
from serving.bus import Bus
from serving.conversations import Conversations
from serving.database import open_database
from serving.principal import LOCAL
from serving.processes import FolderPresence
from serving.records import Run
from serving.repository import Repository
from serving.turns import TurnRequest, Turns

CITATION = Citation(1, "d1", "d1.0", "Guide", "guide.md", "The mill stands.", None, "", 0, 16)
WHOLE: tuple[Event, ...] = (
    Token("The mill "), Cited(CITATION), Token("stands. [1]"),
    RunFinished(Draft("The mill stands. [1]", "answered", "stop", "told", (CITATION,))),
)  # fmt: skip
"""What a run says whose answer cites one passage."""

Played = Sequence[Event | Exception | anyio.Event]
"""What a run says: events, an exception to raise there, or something to wait for."""


class ToldEngine:
    """Plays the same for every turn, and remembers how it was asked."""

    def __init__(self, *played: Event | Exception | anyio.Event) -> None:
        self.played: Played = played
        self.turns: list[Turn] = []
        self.resumed: list[Resume | None] = []
        self.durabilities: list[Durability] = []
        self.closed = 0

    async def __call__(
        self,
        deps: Deps,
        turn: Turn,
        *,
        durability: Durability = "exit",
        resume: Resume | None = None,
        park: Park | None = None,
    ) -> AsyncGenerator[Event, None]:
        self.turns.append(turn)
        self.resumed.append(resume)
        self.durabilities.append(durability)
        try:
            yield RunStarted(turn.run)
            for step in self.played:
                if isinstance(step, anyio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                elif park is not None and park.requested:
                    return
                else:
                    yield step
        finally:
            self.closed += 1


class Process:
    """What one process has open: its own connections, its place in the folder, its runs."""

    def __init__(self, database: Database, deps: Deps, engine: ToldEngine, bus: Bus | None) -> None:
        self.database, self.engine = database, engine
        self.rows = Repository(database, FolderPresence(database.path.parent))
        self.turns = Turns(deps, lambda: engine, self.rows, Limits(), bus=bus)

    async def die(self) -> None:
        """The kernel has dropped its lock; what it does from now on nobody waits for."""
        await self.rows.presence.close()


@asynccontextmanager
async def process(
    folder: Path, deps: Deps, *played: Event | Exception | anyio.Event, bus: Bus | None = None
) -> AsyncGenerator[Process]:
    """A process on the folder, closed in the end; `bus`: how it reaches others, by the file alone when None."""
    database = await open_database(folder)
    try:
        one = Process(database, deps, ToldEngine(*played), bus)
        yield one
        await one.turns.close()
        await one.rows.presence.close()
    finally:
        await database.close()


def asking(text: str, thread: str = "") -> TurnRequest:
    """The local user says something."""
    return TurnRequest(LOCAL, (Message("user", text, Label("local", "user", TRUST_USER)),), thread=thread)


async def played(turns: Turns, request: TurnRequest) -> list[Sequenced]:
    """All events of an attached run."""
    with anyio.fail_after(30):
        async with aclosing(turns.run(request)) as events:
            return [one async for one in events]


def ending(events: Sequence[Sequenced]) -> Event:
    """The last event of a run, whose numbers have no gap."""
    assert [one.seq for one in events] == list(range(1, len(events) + 1))
    return events[-1].event


def draft_of(event: Event) -> str:
    """The text of a whole answer."""
    assert isinstance(event, RunFinished)
    return event.draft.text


async def new_thread(one: Process) -> str:
    """A conversation's id."""
    return (await Conversations(one.database).create(LOCAL)).id


async def row(one: Process, run: str) -> Run:
    """The run as it is stored."""
    found = await one.rows.run("local", "local", run)
    assert found is not None
    return found
