"""What a user says of themselves: kept in stored conversations, found again, and forgotten when asked to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agents.remember import memories_of, remember
from agents.types import Note
from memory.embedded import SCHEMA, EmbeddedMemory
from memory.embedding import HashEmbedder, HashWords
from memory.sqlite import Database
from memory.types import TRUST_USER, Query, Record, Scope
from tests.agents.world import TENANT, World, open_world
from tests.gone_embedder import GoneEmbedder

ME = memories_of(TENANT, "ann")


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[World]:
    """A collection of its own, in which nothing is remembered yet."""
    async with open_world(tmp_path, HashEmbedder(), HashWords()) as opened:
        yield opened


async def said(world: World, text: str, thread: str = "t1") -> tuple[Note, ...]:
    """The user says this; what is noted of it."""
    return await remember(text, world.turn(text, thread=thread).ctx)


async def kept(world: World, user: str = "ann") -> list[Record]:
    """All that is remembered of a user, by text."""
    scope = memories_of(TENANT, user)
    vector = (await world.deps.embedder.embed(["all"]))[0]
    hits = await world.deps.memory.search(scope, Query("all", vector), 100)
    return sorted(await world.deps.memory.get(scope, [hit.id for hit in hits]), key=lambda record: record.text)


async def texts(world: World) -> list[str]:
    return [record.text for record in await kept(world)]


async def test_each_sentence_worth_it_is_kept_once_for_its_user_alone(own: World) -> None:
    assert await said(own, "My name is Ann. The weather is grey. I work in a bakery in Odden.") == ()
    assert await said(own, "My name is Ann.", thread="t2") == ()
    first, second = await kept(own)
    assert (first.text, second.text) == ("I work in a bakery in Odden.", "My name is Ann.")
    assert (first.label.tenant, first.label.trust, first.label.readers) == (TENANT, TRUST_USER, {"ann"})
    assert await kept(own, "ben") == []


async def test_a_stateless_turn_and_small_talk_keep_nothing(own: World) -> None:
    assert await said(own, "My name is Ann.", thread="") == ()
    assert await said(own, "How are you today?") == ()
    assert await texts(own) == []


async def test_what_the_user_names_is_forgotten_and_the_rest_stays(own: World) -> None:
    await said(own, "My dog is called Rufus. I live in Odden. I like green tea.")
    assert await said(own, "Please forget my dog.") == ()
    assert await texts(own) == ["I like green tea.", "I live in Odden."]


async def test_a_message_that_asks_to_forget_keeps_nothing(own: World) -> None:
    await said(own, "I live in Odden.")
    assert await said(own, "Forget that I live in Odden. My name is Ann.") == ()
    assert await texts(own) == []


async def test_everything_is_forgotten_on_request(own: World) -> None:
    await said(own, "My dog is called Rufus. I live in Odden. I like green tea.")
    assert await said(own, "Forget everything you know about me.") == ()
    assert await texts(own) == []


async def test_what_nothing_is_about_takes_nothing_away(own: World) -> None:
    await said(own, "I live in Odden.")
    assert await said(own, "Forget the zeppelin museum.") == ()
    assert await texts(own) == ["I live in Odden."]


class Staging(EmbeddedMemory):
    """A memory in which two turns stage before either publishes."""

    both: asyncio.Barrier

    async def stage(self, scope: Scope, source: str, version: str, records: Sequence[Record]) -> None:
        await super().stage(scope, source, version, records)
        await self.both.wait()


async def test_a_sentence_said_twice_at_once_is_kept_once(own: World, tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "parley.sqlite", [SCHEMA])
    memory = Staging(database, own.deps.embedder.name, own.deps.embedder.dimensions)
    memory.both = asyncio.Barrier(2)
    twice = World(replace(own.deps, memory=memory))
    async with asyncio.timeout(60):
        notes = await asyncio.gather(said(twice, "My name is Ann."), said(twice, "My name is Ann.", thread="t2"))
    assert notes == [(), ()]
    assert await texts(twice) == ["My name is Ann."]
    await database.close()


async def test_a_memory_that_is_away_costs_the_memory_and_not_the_turn(own: World) -> None:
    await said(own, "I live in Odden.")
    gone = World(replace(own.deps, embedder=GoneEmbedder()))
    (unkept,) = await said(gone, "My name is Ann.")
    (unforgotten,) = await said(gone, "Forget everything you know about me.")
    assert unkept.code == unforgotten.code == "not_remembered"
    assert unkept.text.startswith("What you said may not have been remembered; say it again later: ")
    assert unforgotten.text.startswith("What you asked to forget may still be remembered; say it again later: ")
    assert await said(gone, "How are you today?") == ()
    assert await texts(own) == ["I live in Odden."]
