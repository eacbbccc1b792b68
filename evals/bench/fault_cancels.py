"""Runs that are cancelled at random moments, by leaving and by DELETE, and short turns by the thousand: how soon the
model's call is closed, and what the server's process keeps of it all."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
from aiohttp import web

from evals.bench.fault_kills import Server, events
from evals.bench.latency_servers import CARD, EVENT_STREAM, ROLE, WORD

WITHIN = 1.0
"""Seconds in which a cancel must have reached the model."""
SPREAD = 0.6
"""Seconds over which the cancels are spread: before the model is asked, before its first word, while it speaks."""
WARM = 500
"""Short turns before the memory is looked at for the first time."""
CLIENTS = 8
AIM_GROWTH = 20_000_000


@dataclass(slots=True)
class Endless:
    """A model in this process that never ends an answer, and knows how many calls are open."""

    open: int = 0
    asked: int = 0
    url: str = ""

    async def speak(self, request: web.Request) -> web.StreamResponse:
        """Words without end; ends with the connection."""
        await request.read()
        response = web.StreamResponse(headers=EVENT_STREAM)
        self.open += 1
        self.asked += 1
        try:
            await asyncio.sleep(0.1)
            await response.prepare(request)
            await response.write(ROLE)
            while True:
                await response.write(WORD)
                await asyncio.sleep(0.02)
        except ConnectionResetError:
            return response
        finally:
            self.open -= 1

    async def models(self, _: web.Request) -> web.Response:
        """The one model."""
        return web.json_response(CARD)


@asynccontextmanager
async def endless() -> AsyncGenerator[Endless]:
    """The model on a free loopback port; a call's task is cancelled as soon as its connection is closed."""
    model = Endless()
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", model.speak), web.get("/v1/models", model.models)])
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    model.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield model
    finally:
        await runner.cleanup()


async def cancels(count: int, folder: Path, seed: int) -> Counter[str]:
    """So many cancels of each kind; keys that begin with "WRONG" must be 0."""
    chance = random.Random(seed)
    found: Counter[str] = Counter()
    late: list[float] = []
    async with endless() as model, aiohttp.ClientSession() as client:
        server = Server(folder, model.url)
        await server.start()
        process = psutil.Process(server.pid)
        many = [_cancelled(client, server, model, chance, by_delete=n % 2 == 0) for n in range(2 * CLIENTS)]
        await asyncio.gather(*many)
        before = (0, 0)
        for number in range(count):
            if number == count // 2:  # whatever is opened once and kept has been opened
                before = await _settled(process)
            for by_delete in (False, True):
                seconds = await _cancelled(client, server, model, chance, by_delete=by_delete)
                late.append(seconds)
                found["WRONG: the model's call outlived the cancel by more than a second"] += seconds > WITHIN
            sys.stderr.write(f"\r{number + 1} of {count} cancels of each kind ")
            sys.stderr.flush()
        sys.stderr.write("\n")
        after = await _settled(process)
        await server.stop()
    found["WRONG: descriptors kept"] = max(0, after[0] - before[0])
    found["WRONG: connections kept"] = max(0, after[1] - before[1])
    found["calls of the model"] = model.asked
    found["slowest cancel, in ms"] = round(1000 * max(late))
    found["cancels"] = 2 * count
    return found


async def _cancelled(
    client: aiohttp.ClientSession, server: Server, model: Endless, chance: random.Random, *, by_delete: bool
) -> float:
    """One run, cancelled at a random moment; the seconds until the model had no call open."""
    async with client.post(f"{server.base}/api/threads", json={}) as made:
        thread = (await made.json())["id"]
    body = {"messages": [{"role": "user", "content": "Write a story of the mill"}], "stream": True}
    run = asyncio.get_running_loop().create_future()
    ended: list[str] = []

    async def read() -> None:
        async with client.post(f"{server.base}/api/threads/{thread}/runs", json=body) as asked:
            async for data in events(asked):
                if not run.done():
                    run.set_result(data["run_id"])
                ended[:] = [data["type"]]

    reading = asyncio.create_task(read())
    id = await run if by_delete else ""
    await asyncio.sleep(chance.uniform(0.0, SPREAD))
    begun = time.perf_counter()
    if by_delete:
        async with client.delete(f"{server.base}/api/runs/{id}") as deleted:
            deleted.raise_for_status()
        await reading
        assert ended == ["run.cancelled"], ended
    else:
        reading.cancel()
        await asyncio.wait([reading])
    while model.open and time.perf_counter() - begun < 10 * WITHIN:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.005)
    return time.perf_counter() - begun


async def _settled(process: psutil.Process) -> tuple[int, int]:
    """Descriptors and connections of the process once nothing is under way."""
    await asyncio.sleep(1.0)
    return process.num_fds(), len(process.net_connections())


async def growth(turns: int, folder: Path, model: str, warm: int = WARM) -> Counter[str]:
    """So many short turns, half in conversations, half stateless; what the process has grown by since the first
    `warm`."""
    found: Counter[str] = Counter()
    server = Server(folder, model)
    await server.start()
    process = psutil.Process(server.pid)
    await _short(server, warm)
    before = process.memory_info().rss
    done = 0
    while done < turns:
        part = min(500, turns - done)
        await _short(server, part)
        done += part
        sys.stderr.write(f"\r{done} of {turns} turns, {(process.memory_info().rss - before) / 1e6:+.1f} MB ")
        sys.stderr.flush()
    sys.stderr.write("\n")
    await asyncio.sleep(1.0)
    grown = process.memory_info().rss - before
    await server.stop()
    found["turns"] = turns
    found["memory grown by, in kB"] = grown // 1000
    found["WRONG: memory grown by more than 20 MB"] = int(grown > AIM_GROWTH)
    return found


async def _short(server: Server, turns: int) -> None:
    left = turns

    async def client() -> None:
        nonlocal left
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{server.base}/api/threads", json={}) as made:
                thread = (await made.json())["id"]
            while left > 0:
                left -= 1
                messages = [{"role": "user", "content": "Hello, how are you?"}]
                if left % 2:
                    url, body = f"{server.base}/api/threads/{thread}/runs", {"messages": messages}
                else:
                    url, body = f"{server.base}/v1/chat/completions", {"messages": messages, "model": "parley"}
                async with session.post(url, json=body) as answered:
                    answered.raise_for_status()
                    await answered.read()

    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(client())
