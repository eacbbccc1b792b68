"""The bus's promises, kept by the twin and by Redis alike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from anyio import fail_after

from serving.bell import Heard
from serving.bus import CACHE_BYTES, CHUNKS, Bus, Chunk, run_bell
from serving.local_bus import LocalBus
from serving.redis_bus import RedisBus
from tests.services.found import service
from tests.serving.redis_keys import emptied, prefix_of_a_test

ODD = ["", "acme", "ACME", "acme:events", "*", "mühle 🙂", "a\0b", "lone \ud800", "x" * 300, "a/b%2F", "\n"]
"""Names that could be mistaken for each other, or for something else."""


@asynccontextmanager
async def opened(kind: str) -> AsyncGenerator[Bus]:
    if kind == "local":
        yield LocalBus()
        return
    url, prefix = service("redis")["PARLEY_REDIS_URL"], prefix_of_a_test()
    bus = await RedisBus.open(url, prefix)
    try:
        yield bus
    finally:
        await bus.close()
        await emptied(url, prefix)


@pytest.fixture(params=["local", "redis"])
async def bus(request: pytest.FixtureRequest) -> AsyncGenerator[Bus]:
    async with opened(request.param) as bus:
        yield bus


def chunk(first: int, last: int, run: str = "r", tenant: str = "acme") -> Chunk:
    return Chunk(tenant, run, first, last, f"{first}-{last}".encode() + b"\0\xff")


async def followed(bus: Bus, run: str, last: int, after: int = 0) -> list[int]:
    """The numbers of all events from `after` to `last`, as a follower without a record to fall back to hears them."""
    numbers: list[int] = []
    async with bus.listening(run_bell(run)) as heard:
        while after < last:
            for one in await bus.read("acme", run, after):
                assert one.first <= after + 1
                numbers += range(after + 1, one.last + 1)
                after = one.last
            if after < last:
                await heard.wait()
    return numbers


# --- run events --------------------------------------------------------------------------------------------------


async def test_chunks_are_read_in_order_from_any_number_on(bus: Bus) -> None:
    chunks = [chunk(1, 1), chunk(2, 9), chunk(10, 10), chunk(11, 40)]
    await bus.publish(chunks[:1])
    await bus.publish(chunks[1:])
    for after in range(42):
        assert await bus.read("acme", "r", after) == [one for one in chunks if one.last > after]


async def test_runs_and_tenants_are_apart_whatever_they_are_called(bus: Bus) -> None:
    await bus.publish([chunk(1, 1 + at, run, tenant) for at, tenant in enumerate(ODD) for run in ODD])
    for at, tenant in enumerate(ODD):
        for run in ODD:
            assert await bus.read(tenant, run, 0) == [chunk(1, 1 + at, run, tenant)]
    assert await bus.read("acme", "none", 0) == []


async def test_a_chunk_that_is_published_twice_or_late_is_read_once(bus: Bus) -> None:
    await bus.publish([chunk(1, 3), chunk(1, 3), chunk(4, 5)])
    await bus.publish([chunk(4, 5), chunk(2, 2), chunk(6, 6)])
    assert await bus.read("acme", "r", 0) == [chunk(1, 3), chunk(4, 5), chunk(6, 6)]


async def test_only_the_newest_chunks_of_a_run_are_kept(bus: Bus) -> None:
    await bus.publish([chunk(number, number) for number in range(1, CHUNKS + 101)])
    kept = await bus.read("acme", "r", 0)
    assert [one.first for one in kept] == list(range(101, CHUNKS + 101))
    assert [one.first for one in await bus.read("acme", "r", CHUNKS + 99)] == [CHUNKS + 100]


async def test_ten_thousand_chunks_of_a_hundred_runs_come_back(bus: Bus) -> None:
    runs = [f"run {number}" for number in range(100)]
    for first in range(1, 101):
        await bus.publish([chunk(first, first, run) for run in runs])
    for run in runs:
        assert await bus.read("acme", run, 0) == [chunk(first, first, run) for first in range(1, 101)]


async def test_many_followers_of_several_writers_hear_all_once_and_in_order(bus: Bus) -> None:
    runs = [f"run {number}" for number in range(4)]

    async def write(run: str) -> None:
        for first in range(1, 200, 2):
            await bus.publish([chunk(first, first + 1, run)])
            await asyncio.sleep(0)

    with fail_after(30):
        async with asyncio.TaskGroup() as group:
            heard = [group.create_task(followed(bus, run, 200, after)) for run in runs for after in (0, 0, 7, 150)]
            for run in runs:
                group.create_task(write(run))
    for at, task in enumerate(heard):
        assert task.result() == list(range((0, 0, 7, 150)[at % 4] + 1, 201))


async def test_the_end_of_a_run_rings_and_its_chunks_may_still_be_read(bus: Bus) -> None:
    await bus.publish([chunk(1, 2)])
    with fail_after(10):
        async with bus.listening(run_bell("r")) as heard:
            await bus.end("acme", "r")
            assert await heard.wait()
    assert await bus.read("acme", "r", 0) == [chunk(1, 2)]
    await bus.end("acme", "never published")


# --- bells -------------------------------------------------------------------------------------------------------


async def test_all_who_listen_hear_a_ring_and_nobody_hears_another_bell(bus: Bus) -> None:
    async with bus.listening("other") as other:
        async with asyncio.TaskGroup() as group, bus.listening("mühle 🙂 \ud800") as first:

            async def hear(ready: asyncio.Event) -> None:
                async with bus.listening("mühle 🙂 \ud800") as heard:
                    ready.set()
                    assert await heard.wait()

            listening = [asyncio.Event() for _ in range(20)]
            for ready in listening:
                group.create_task(hear(ready))
            with fail_after(10):
                for ready in listening:
                    await ready.wait()
                await bus.ring("mühle 🙂 \ud800")
                assert await first.wait()
        assert not await other.wait(0.01)


async def test_a_ring_that_nobody_heard_is_not_kept_and_one_before_the_wait_is_not_missed(bus: Bus) -> None:
    await bus.ring("early")
    async with bus.listening("early") as heard:
        assert not await heard.wait(0.01)
        await bus.ring("early")
        await asyncio.sleep(0)
        with fail_after(10):
            assert await heard.wait()


async def test_listening_again_and_again_to_the_same_bell_works(bus: Bus) -> None:
    with fail_after(30):
        for _ in range(20):
            async with bus.listening("again") as heard:
                await bus.ring("again")
                assert await heard.wait()


# --- leases ------------------------------------------------------------------------------------------------------


async def test_one_of_many_gets_a_lease_and_the_next_one_after_it_was_given_back(bus: Bus) -> None:
    tokens = await asyncio.gather(*(bus.acquire("mühle", 60) for _ in range(20)))
    (token,) = [one for one in tokens if one is not None]
    assert await bus.acquire("mill", 60) is not None
    await bus.release("mühle", token + 1)
    assert await bus.acquire("mühle", 60) is None
    await bus.release("mühle", token)
    after = await bus.acquire("mühle", 60)
    assert after is not None
    assert after > token


async def test_a_lease_that_is_not_renewed_is_the_next_ones_and_its_old_token_is_worth_nothing(bus: Bus) -> None:
    token = await bus.acquire("l", 60)
    assert token is not None
    assert await bus.renew("l", token, 0.02)
    with fail_after(10):
        while (later := await bus.acquire("l", 60)) is None:
            await asyncio.sleep(0)
    assert later > token
    assert not await bus.renew("l", token, 60)
    await bus.release("l", token)
    assert await bus.renew("l", later, 60)
    assert not await bus.renew("never taken", later, 60)


async def test_tokens_grow_and_are_above_what_the_caller_knows(bus: Bus) -> None:
    far = 2**52
    last = 0
    for number in range(50):
        token = await bus.acquire(f"l{number % 3}", 60, far if number == 25 else 0)
        assert token is not None
        assert token > last
        last = token
        await bus.release(f"l{number % 3}", token)
    assert last > far


# --- limits and cache --------------------------------------------------------------------------------------------


async def test_a_bucket_gives_a_minutes_requests_to_whoever_comes_first(bus: Bus) -> None:
    taken = await asyncio.gather(*(bus.take("k", 20) for _ in range(50)))
    passed = [one for one in taken if one.allowed]
    assert 20 <= len(passed) <= 21  # a slow machine may earn one meanwhile
    assert (max(one.left for one in passed), min(one.left for one in passed)) == (19, 0)
    refused = next(one for one in taken if not one.allowed)
    assert (refused.left, 1 <= refused.wait <= 3, 57 <= refused.full <= 60) == (0, True, True)
    assert (await bus.take("other", 20)).left == 19


@pytest.mark.parametrize("per_minute", [1, 600, 1_000_000])
async def test_a_bucket_says_what_is_left(bus: Bus, per_minute: int) -> None:
    first = await bus.take("k", per_minute)
    assert (first.allowed, first.left, first.wait) == (True, per_minute - 1, 0)
    assert first.full == max(1, 60 // per_minute)


async def test_what_is_cached_is_a_tenants_own_and_can_be_replaced(bus: Bus) -> None:
    for at, tenant in enumerate(ODD):
        for name in ODD:
            await bus.put(tenant, name, b"%d" % at, 60)
    for at, tenant in enumerate(ODD):
        for name in ODD:
            assert await bus.get(tenant, name) == b"%d" % at
    await bus.put("acme", "acme", b"\0new", 60)
    assert await bus.get("acme", "acme") == b"\0new"
    assert await bus.get("acme", "none") is None


async def test_what_is_cached_is_bounded_in_time_and_size(bus: Bus) -> None:
    await bus.put("acme", "k", b"x", 0.02)
    with fail_after(10):
        while await bus.get("acme", "k") is not None:
            await asyncio.sleep(0)
    await bus.put("acme", "k", b"x", 60)
    await bus.put("acme", "k", b"x" * (CACHE_BYTES + 1), 60)
    assert await bus.get("acme", "k") is None
    await bus.put("acme", "k", b"x", 0)
    assert await bus.get("acme", "k") is None


# --- cancellation ------------------------------------------------------------------------------------------------


async def test_calls_that_are_cancelled_anywhere_leave_the_bus_whole(bus: Bus) -> None:
    chance = random.Random(5)

    async def listen(heard: list[Heard]) -> None:
        async with bus.listening("l") as one:
            heard.append(one)
            await one.wait()

    for round in range(60):
        calls = [
            asyncio.create_task(call)
            for call in (
                bus.publish([chunk(round * 2 + 1, round * 2 + 2, f"cut {round}")]), bus.read("acme", "r", 0),
                bus.take("k", 600), bus.acquire(f"l{round}", 60), bus.put("acme", "k", b"x", 60), listen([]),
            )
        ]  # fmt: skip
        for _ in range(chance.randint(0, 12)):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    with fail_after(20):
        await bus.publish([chunk(1, 1)])
        assert await bus.read("acme", "r", 0) == [chunk(1, 1)]
        async with bus.listening("l") as heard:
            await bus.ring("l")
            assert await heard.wait()
        await bus.put("acme", "after", b"y", 60)
        assert await bus.get("acme", "after") == b"y"
