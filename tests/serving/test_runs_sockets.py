"""Conversations over real sockets: each kind of client holds one; streams that drop, go on and end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httpx
import orjson
import pytest
from anyio import fail_after
from httpx_sse import ServerSentEvent, aconnect_sse
from openai import AsyncOpenAI

from serving.runtime import Runtime, open_runtime
from serving.settings import Settings
from tests.serving.api_client import MILL, QUESTION, events_in, made_thread, question, said, walked
from tests.serving.served import served
from tests.serving.upstream import Call, Upstream, until_gone, upstream
from tools.types import JsonObject

SECOND = "When was it closed?"
STORY = "Write a story of the mill"
WORDS = [f"word{number} " for number in range(24)]


@dataclass(slots=True)
class Pace:
    """Lets a model say one word for each permit, and one for each that its reader has heard."""

    permits: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(3))

    async def story(self, call: Call) -> None:
        """The model's answer."""
        await call.start()
        for word in WORDS:
            await self.permits.acquire()
            await call.delta(content=word)
        await call.delta("stop")
        await call.end()


@dataclass(slots=True)
class Desk:
    """A server and the model behind it."""

    runtime: Runtime
    base: str
    model: Upstream


async def silent(call: Call) -> None:
    await until_gone(call)


@pytest.fixture(scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Desk]:
    folder = tmp_path_factory.mktemp("sockets")
    async with (
        upstream(silent) as model,
        open_runtime(Settings(data_dir=folder, model_url=model.url)) as runtime,
        served(runtime) as base,
    ):
        yield Desk(runtime, base, model)


@pytest.fixture(scope="module")
async def alone(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    folder: Path = tmp_path_factory.mktemp("alone")
    (folder / "mill.md").write_text(MILL, encoding="utf-8")
    async with open_runtime(Settings(data_dir=folder / "data")) as runtime:
        await runtime.ingest.paths("local", [str(folder / "mill.md")])
        async with served(runtime) as base:
            yield base


# --- clients -----------------------------------------------------------------------------------------------------


async def ask_with_curl(base: str, thread: str, text: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "curl", "-sN", f"{base}/api/threads/{thread}/runs", "-H", "Content-Type: application/json",
        "-d", orjson.dumps(question(text, stream=True)).decode(), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    events = events_in(out.decode())
    assert events[-1].event == "run.finished"
    return said(events)


async def ask_with_httpx_sse(base: str, thread: str, text: str) -> str:
    async with (
        httpx.AsyncClient(base_url=base) as client,
        aconnect_sse(client, "POST", f"/api/threads/{thread}/runs", json=question(text, stream=True)) as source,
    ):
        events = [event async for event in source.aiter_sse()]
    assert [event.id for event in events] == [str(number + 1) for number in range(len(events))]
    assert events[-1].event == "run.finished"
    return "".join(event.json()["text"] for event in events if event.event == "token")


async def ask_with_openai(base: str, thread: str, text: str) -> str:
    async with AsyncOpenAI(base_url=f"{base}/v1", api_key="any") as client:
        answer = await client.chat.completions.create(
            model="parley", messages=[{"role": "user", "content": text}], metadata={"thread_id": thread}
        )
    return answer.choices[0].message.content or ""


CLIENTS = [ask_with_curl, ask_with_httpx_sse, ask_with_openai]


@pytest.mark.parametrize("ask", CLIENTS, ids=lambda ask: ask.__name__)
async def test_a_client_holds_a_conversation_that_the_server_remembers(
    ask: Callable[[str, str, str], Awaitable[str]], alone: str
) -> None:
    async with httpx.AsyncClient(base_url=alone) as client:
        thread = await made_thread(client)
        answers = [await ask(alone, thread, text) for text in (QUESTION, SECOND)]
        messages = await walked(client, f"/api/threads/{thread}/messages", 200)
    assert "Tomas Reed" in answers[0]
    assert "1954" in answers[1]
    assert [one["content"] for one in messages[::2]] == [QUESTION, SECOND]
    for answer, message in zip(answers, messages[1::2], strict=True):
        assert answer.startswith(str(message["content"]))


# --- streams that drop -------------------------------------------------------------------------------------------


async def read_some(
    client: httpx.AsyncClient, method: str, path: str, most: int, pace: Pace, after: int, body: object = None
) -> list[ServerSentEvent]:
    """At most so many events, then the connection is cut; fewer when the stream ends first."""
    events: list[ServerSentEvent] = []
    headers = {"Last-Event-ID": str(after)} if after else {}
    async with aconnect_sse(client, method, path, json=body, headers=headers) as source:
        assert source.response.status_code == 200, await source.response.aread()
        async for event in source.aiter_sse():
            events.append(event)
            if event.event == "token":
                pace.permits.release()
            if len(events) == most:
                break
    return events


@pytest.mark.parametrize("seed", range(20))
async def test_a_stream_that_drops_anywhere_goes_on_without_a_gap_and_without_a_repeat(desk: Desk, seed: int) -> None:
    chance = random.Random(seed)
    pace = Pace()
    desk.model.behaviour = pace.story
    attached = seed % 4 == 3  # leaving cancels this one: what follows is how it ended
    with fail_after(30):
        async with httpx.AsyncClient(base_url=desk.base) as client:
            thread = await made_thread(client)
            body = question(STORY, stream=True, background=not attached)
            path, method = f"/api/threads/{thread}/runs", "POST"
            heard: list[ServerSentEvent] = []
            while not heard or heard[-1].event not in ("run.finished", "run.cancelled"):
                most = chance.randint(1, 25)
                heard += await read_some(client, method, path, most, pace, len(heard), body)
                run = heard[0].json()["run_id"]
                path, method, body = f"/api/runs/{run}/events", "GET", None
            over = await read_some(client, "GET", path, 1, pace, len(heard))
            listed = await client.get(path, params={"limit": "200"}, headers={"Accept": "application/json"})
    assert over == []
    assert [event.id for event in heard] == [str(number + 1) for number in range(len(heard))]
    assert [event.json() for event in heard] == listed.json()["items"]
    text = "".join(event.json()["text"] for event in heard if event.event == "token")
    assert heard[-1].event == ("run.cancelled" if attached else "run.finished")
    assert "".join(WORDS).startswith(text)
    assert attached or text == "".join(WORDS)


async def test_many_followers_of_one_run_all_hear_everything(desk: Desk) -> None:
    pace = Pace(asyncio.Semaphore(0))
    desk.model.behaviour = pace.story
    with fail_after(30):
        async with httpx.AsyncClient(base_url=desk.base) as client:
            thread = await made_thread(client)
            body = question(STORY, background=True)
            run = (await client.post(f"/api/threads/{thread}/runs", json=body)).json()["id"]

            async def follow() -> list[str]:
                async with aconnect_sse(client, "GET", f"/api/runs/{run}/events") as source:
                    return [event.data async for event in source.aiter_sse()]

            async with asyncio.TaskGroup() as group:
                followers = [group.create_task(follow()) for _ in range(8)]
                for _ in WORDS:
                    pace.permits.release()
    heard = [one.result() for one in followers]
    assert heard == [heard[0]] * 8
    assert orjson.loads(heard[0][-1])["answer"] == "".join(WORDS)


# --- clients that leave ------------------------------------------------------------------------------------------


async def opened(base: str, path: str, body: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a request has been sent."""
    url = httpx.URL(base)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    sent = orjson.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: {url.netloc.decode()}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_a_client_that_leaves_ends_its_run_and_the_models_call_within_a_second(desk: Desk, stream: bool) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def never_end(call: Call) -> None:
        await call.start()
        await call.delta(content="Once there was a mill ")
        asked.set()
        await until_gone(call)
        left.set()

    desk.model.behaviour = never_end
    async with httpx.AsyncClient(base_url=desk.base) as client:
        thread = await made_thread(client)
        reader, writer = await opened(desk.base, f"/api/threads/{thread}/runs", question(STORY, stream=stream))
        with fail_after(10):
            await asked.wait()
            if stream:
                await reader.readuntil(b"event: token")
        writer.close()
        runs: list[JsonObject] = []
        with fail_after(1):
            await left.wait()
            while not runs or runs[0]["status"] == "running":
                runs = await walked(client, f"/api/threads/{thread}/runs", 5)
    assert [one["status"] for one in runs] == ["cancelled"]


async def test_a_client_that_leaves_a_background_run_leaves_it_alone(desk: Desk) -> None:
    pace = Pace(asyncio.Semaphore(1))
    desk.model.behaviour = pace.story
    with fail_after(30):
        async with httpx.AsyncClient(base_url=desk.base) as client:
            thread = await made_thread(client)
            path = f"/api/threads/{thread}/runs"
            body = question(STORY, stream=True, background=True)
            (first, *_) = await read_some(client, "POST", path, 10, Pace(), 0, body)
            for _ in WORDS:
                pace.permits.release()
            events = events_in((await client.get(f"/api/runs/{first.json()['run_id']}/events")).text)
            runs = await walked(client, path, 5)
    assert said(events) == "".join(WORDS)
    assert [one["status"] for one in runs] == ["finished"]


async def test_a_run_that_is_deleted_ends_its_models_call_within_a_second(desk: Desk) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def never_end(call: Call) -> None:
        asked.set()
        await until_gone(call)
        left.set()

    desk.model.behaviour = never_end
    async with httpx.AsyncClient(base_url=desk.base) as client:
        thread = await made_thread(client)
        started = await client.post(f"/api/threads/{thread}/runs", json=question(STORY, background=True))
        run = cast(str, started.json()["id"])
        with fail_after(10):
            await asked.wait()
        with fail_after(1):
            assert (await client.delete(f"/api/runs/{run}")).json()["status"] == "cancelled"
            await left.wait()
