"""What lists and open event streams cost: `python -m evals.bench.api`.

Requests per second for `GET /api/threads` (a page of 50 of 1,000 conversations, kept connections), the time of a search
through 10,000 messages of 1 KB, and the memory that one more follower of a run takes in the server.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from evals.bench.latency import Served, cpu, started
from serving.conversations import Conversations
from serving.database import open_database
from serving.ids import uuid7
from serving.principal import LOCAL
from serving.times import now

THREADS, MESSAGES = 1_000, 10
"""Conversations, and messages of 1 KB in each."""
CLIENTS = (1, 8)
SECONDS = 5.0
RUNS = 10
"""Runs that are followed; all wait for a model that says nothing."""
FOREVER = "86400"
INSERT = """INSERT INTO messages (thread, number, id, role, content, status, run, citations, created_at)
VALUES (?, ?, ?, 'user', ?, 'complete', '', '[]', ?)"""


async def filled(folder: Path) -> float:
    """Writes the conversations into a new database; milliseconds of a search that reads them all and finds none."""
    dice = random.Random(1)
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(4_000)]
    database = await open_database(folder)
    store = Conversations(database)
    for number in range(THREADS):
        thread = (await store.create(LOCAL, f"conversation {number}")).id
        rows = [(thread, n, uuid7(), " ".join(dice.choices(words, k=128)), now()) for n in range(1, MESSAGES + 1)]

        def insert(connection: sqlite3.Connection, rows: list[tuple[str, int, str, str, str]] = rows) -> None:
            connection.executemany(INSERT, rows)

        await database.write(insert)
    times: list[float] = []
    for _ in range(5):
        begun = time.perf_counter()
        assert (await store.page(LOCAL, None, 50, "nobody says this")).items == ()
        times.append(1000 * (time.perf_counter() - begun))
    await database.close()
    return min(times)


async def rate(parley: Served, clients: int) -> tuple[float, float]:
    """Lists per second with so many clients at once, and milliseconds of the server's processor for each."""
    count, used = 0, cpu(parley)
    async with aiohttp.ClientSession() as session:
        end = time.monotonic() + SECONDS

        async def client() -> None:
            nonlocal count
            while time.monotonic() < end:
                async with session.get(f"{parley.url}/api/threads") as response:
                    assert response.status == 200
                    await response.read()
                count += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())
    return count / SECONDS, 1000 * (cpu(parley) - used) / count


async def follower_bytes(parley: Served, followers: int) -> float:
    """What one more open event stream adds to the server's memory."""
    base = parley.url
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        runs: list[str] = []
        for _ in range(RUNS):
            async with session.post(f"{base}/api/threads") as made:
                thread = (await made.json())["id"]
            body = {"messages": [{"role": "user", "content": "Write a story of the mill"}], "background": True}
            async with session.post(f"{base}/api/threads/{thread}/runs", json=body) as begun:
                runs.append((await begun.json())["id"])

        async def follow(run: str) -> aiohttp.ClientResponse:
            response = await session.get(f"{base}/api/runs/{run}/events")
            while b"answer" not in await response.content.readline():
                pass
            return response

        few = [await follow(run) for run in runs]
        before = parley.process.memory_info().rss
        many = [await follow(runs[number % RUNS]) for number in range(followers)]
        grown = parley.process.memory_info().rss - before
        for response in (*few, *many):
            response.close()
        for run in runs:
            async with session.delete(f"{base}/api/runs/{run}") as ended:
                assert ended.status == 202
    return grown / followers


def main() -> int:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--followers", type=int, default=500)
    followers: int = parser.parse_args().followers
    python = sys.executable
    with ExitStack() as stack:
        data = stack.enter_context(TemporaryDirectory(prefix="parley-api-"))
        model = stack.enter_context(started([python, "-m", "evals.bench.latency_servers", "silent"], {}, "http"))
        environment = {
            "PARLEY_DATA_DIR": data, "PARLEY_MODEL_URL": model.url, "PARLEY_PORT": "0",
            "PARLEY_FIRST_TOKEN_SECONDS": FOREVER, "PARLEY_TURN_SECONDS": FOREVER,
        }  # fmt: skip
        serve = [str(Path(python).with_name("parley")), "serve"]
        print(f"{'search of 10,000 messages of 1 KB':44}{asyncio.run(filled(Path(data))):>9.1f} ms")
        parley = stack.enter_context(started(serve, environment, "Parley is ready on http"))
        for clients in CLIENTS:
            what = f"GET /api/threads, 50 of 1,000, {clients} at once"
            per_second, milliseconds = asyncio.run(rate(parley, clients))
            print(f"{what:44}{per_second:>9.0f} per second, {milliseconds:.2f} ms of CPU each")
        grown = asyncio.run(follower_bytes(parley, followers))
        print(f"{f'memory of one more event stream, of {followers}':44}{grown / 1000:>9.1f} KB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
