"""Two servers of one Parley: either serves every run, and what one leaves the other goes on with."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress

import httpx
import pytest
from anyio import fail_after

from tests.services.instance import Instance
from tests.services.own_database import own_database
from tests.services.private import private
from tests.serving.api_client import ServerEvent, made_thread, question, said, walked
from tests.serving.replicas import Replicas, Storyteller, asked_in, follow, replicas

STORY = "Once upon a mill."
SLOW = {"PARLEY_RATE_PER_MINUTE": "60"}
TAKEN_OVER = 30
"""Seconds within which a dead server's runs end in another."""


class Desk:
    """The servers of this file's tests, and their Redis."""

    def __init__(self, servers: Replicas, redis: Instance) -> None:
        self.servers, self.redis = servers, redis

    def asked(self) -> list[str]:
        """The questions that the model was asked since."""
        return [text for call in self.servers.model.calls if (text := asked_in(call))]

    def tell(self) -> Storyteller:
        """A new story, of which the first word comes at once."""
        teller = Storyteller(("Once ", "upon ", "a mill."))
        self.servers.model.behaviour = teller
        self.servers.model.calls.clear()
        return teller


@pytest.fixture(scope="module", params=["file", "postgres"])
async def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Desk]:
    folder = tmp_path_factory.mktemp("replicas")
    async with AsyncExitStack() as stack:
        urls, redis = await stack.enter_async_context(private("redis"))
        if request.param == "postgres":
            urls |= stack.enter_context(own_database())
            data = folder / "one", folder / "other"
        else:
            data = folder / "both", folder / "both"
        servers = await stack.enter_async_context(replicas(*data, {**urls, **SLOW}))
        yield Desk(servers, redis)


async def begun(base: str, number: int = 0) -> tuple[str, str]:
    """Thread and id of a background run."""
    async with httpx.AsyncClient(base_url=base, timeout=60) as client:
        thread = await made_thread(client)
        body = question(f"Write a story of the mill {number}", background=True)
        response = await client.post(f"/api/threads/{thread}/runs", json=body)
        assert response.status_code == 202, response.text
        return thread, str(response.json()["id"])


def whole(events: list[ServerEvent]) -> None:
    """The events have no gap, nothing twice, and end with the whole story, told once."""
    assert [int(event.id) for event in events] == list(range(1, len(events) + 1))
    assert events[-1].event == "run.finished"
    assert events[-1].data["answer"] == STORY
    restarts = [at for at, event in enumerate(events) if event.event == "answer.restarted"]
    assert said(events[restarts[-1] if restarts else 0 :]) == STORY


async def test_a_run_is_followed_on_the_other_server_from_any_event_on(desk: Desk) -> None:
    teller = desk.tell()
    with fail_after(60):
        _, run = await begun(desk.servers.one.url)
        bases = (desk.servers.one.url, desk.servers.other.url, desk.servers.other.url, desk.servers.proxy)
        heard: list[list[ServerEvent]] = [[] for _ in bases]
        for base, events in zip(bases, heard, strict=True):
            await follow(base, run, events, until="token")
        assert len(desk.asked()) == 1
        async with asyncio.TaskGroup() as group:
            for base, events in zip(bases, heard, strict=True):
                group.create_task(follow(base, run, events))
            teller.told.set()
    whole(heard[0])
    assert heard == [heard[0]] * len(bases)


async def test_a_run_is_cancelled_from_the_other_server(desk: Desk) -> None:
    teller = desk.tell()
    with fail_after(60):
        thread, run = await begun(desk.servers.one.url)
        events: list[ServerEvent] = []
        await follow(desk.servers.proxy, run, events, until="token")
        async with httpx.AsyncClient(base_url=desk.servers.other.url, timeout=60) as client:
            cancelled = await client.delete(f"/api/runs/{run}")
            assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
            assert cancelled.json()["answer"] == "Once "
            again = await client.delete(f"/api/runs/{run}")
            assert again.status_code == 409
            messages = await walked(client, f"/api/threads/{thread}/messages", 50)
        assert [one["status"] for one in messages] == ["complete", "cancelled"]
        await desk.servers.model.calls[0].gone.wait()
        assert len(teller.left) == 1
        await follow(desk.servers.other.url, run, events)
    assert events[-1].event == "run.cancelled"


async def test_two_servers_never_work_on_one_conversation(desk: Desk) -> None:
    teller = desk.tell()
    with fail_after(60):
        thread, run = await begun(desk.servers.one.url)
        async with httpx.AsyncClient(base_url=desk.servers.other.url, timeout=60) as client:
            refused = await client.post(f"/api/threads/{thread}/runs", json=question("And now?"))
            assert (refused.status_code, refused.json()["run_id"]) == (409, run)
            teller.told.set()
            events: list[ServerEvent] = []
            await follow(desk.servers.other.url, run, events)
            whole(events)
            assert (await client.post(f"/api/threads/{thread}/runs", json=question("And now?"))).status_code == 200


async def test_redis_that_goes_and_comes_back_ends_no_run_and_no_follower(desk: Desk) -> None:
    teller = desk.tell()
    with fail_after(90):
        runs = [(await begun(base, number))[1] for number in range(2) for base in urls_of(desk)]
        heard: list[list[ServerEvent]] = [[] for _ in runs]
        for run, events in zip(runs, heard, strict=True):
            await follow(desk.servers.other.url, run, events, until="token")
        async with asyncio.TaskGroup() as group:
            for run, events in zip(runs, heard, strict=True):
                group.create_task(follow(desk.servers.other.url, run, events))
            await desk.redis.stop()
            _, late = await begun(desk.servers.one.url, 9)
            await follow(desk.servers.other.url, late, [], until="token")
            teller.told.set()
        for events in heard:
            whole(events)
        await desk.redis.start()
        desk.tell().told.set()
        _, after = await begun(desk.servers.one.url)
        events: list[ServerEvent] = []
        await follow(desk.servers.other.url, after, events)
        whole(events)


def urls_of(desk: Desk) -> tuple[str, str]:
    return desk.servers.one.url, desk.servers.other.url


async def test_the_runs_of_a_server_that_is_killed_are_ended_by_the_other_exactly_once(desk: Desk) -> None:
    teller = desk.tell()
    with fail_after(90):
        begins = [await begun(base, number) for number, base in enumerate(urls_of(desk) * 4)]
        runs = [run for _, run in begins]
        heard: list[list[ServerEvent]] = [[] for _ in runs]
        for run, events in zip(runs, heard, strict=True):
            await follow(desk.servers.proxy, run, events, until="token")
        attached = asyncio.create_task(ask_attached(desk.servers.one.url))
        while len(desk.asked()) < len(runs) + 1:
            await asyncio.sleep(0)
        following = asyncio.gather(*(persist(desk, run, events) for run, events in zip(runs, heard, strict=True)))
        await desk.servers.one.kill()
        with fail_after(TAKEN_OVER):
            while len(desk.asked()) < len(runs) + 1 + len(runs) // 2:
                await asyncio.sleep(0)  # until the other server has taken all of them
            teller.told.set()
            await following
        lost = await attached
        for events in heard:
            whole(events)
        restarted = [any(event.event == "answer.restarted" for event in events) for events in heard]
        assert restarted == [True, False] * 4
        numbers = [int(found) for text in desk.asked() for found in re.findall(r"story of the mill (\d)", text)]
        assert [numbers.count(number) for number in range(8)] == [2, 1] * 4
        async with httpx.AsyncClient(base_url=desk.servers.proxy, timeout=60) as client:
            for thread, _ in begins:
                messages = await walked(client, f"/api/threads/{thread}/messages", 50)
                assert [(one["role"], one["status"]) for one in messages] == [
                    ("user", "complete"),
                    ("assistant", "complete"),
                ]
            ended = (await client.get(f"/api/runs/{lost}")).json()
            assert ended["status"] == "incomplete"
            assert ended["answer"] in ("Once ", None)  # its word may have come too late to be stored
        await desk.servers.one.start()


async def persist(desk: Desk, run: str, heard: list[ServerEvent]) -> None:
    """Follows to the end as a client does that connects again when its server goes."""
    while not heard or not heard[-1].event.startswith("run.f"):
        with suppress(httpx.TransportError):
            await follow(desk.servers.proxy, run, heard)


async def ask_attached(base: str) -> str:
    """Asks in the foreground until the server goes; the id of the run."""
    heard: list[str] = []
    async with httpx.AsyncClient(base_url=base, timeout=60) as client:
        thread = await made_thread(client)
        with suppress(httpx.TransportError):
            body = question("Write a story of the mill", stream=True)
            async with client.stream("POST", f"/api/threads/{thread}/runs", json=body) as response:
                async for line in response.aiter_lines():
                    heard += re.findall(r'"run_id":"([^"]+)"', line)
    return heard[0]


async def test_a_key_may_ask_as_often_as_it_may_whichever_server_it_asks(desk: Desk) -> None:
    one = desk.servers.one
    command = [sys.executable, "-m", "serving.cli", "keys", "create", "--tenant", "acme", "--user", "alice"]
    made = subprocess.run(command, env=one.settings, capture_output=True, text=True, check=True, timeout=60)
    key = {"Authorization": f"Bearer {made.stdout.strip()}"}
    left: list[int] = []
    async with httpx.AsyncClient(timeout=60) as client:
        for number in range(20):
            response = await client.get(f"{urls_of(desk)[number % 2]}/v1/models", headers=key)
            left.append(int(re.findall(r"r=(\d+)", response.headers["ratelimit"])[0]))
    assert left[0] == 59
    assert min(left) < 59 - 10  # each alone would have counted ten
