"""Uploads that survive: many files through the API, the server killed with SIGKILL while it takes them in.

`python -m evals.bench.uploads --files 500 --kills 3` sends the files to `parley serve`, kills the server at random
moments of the ingestion, starts it again each time, and counts: every file must be there once and none twice. Beside
the ingestion it asks one question after another, with a pause between, and compares the time of an answer with that
of an idle server.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import sqlite3
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory

import aiohttp
import orjson
from rich.console import Console
from rich.progress import Progress

READY = re.compile(r"Parley is ready on (http://\S+) ")
QUESTION = {"model": "parley", "messages": [{"role": "user", "content": "How many books does shelf 17 hold?"}]}
IDLE_QUESTIONS = 30
WARM_UP = 10
PAUSE_SECONDS = 0.25
"""Between two questions beside the ingestion."""
SUBJECTS = "river bridge harbour mill market tower garden library ferry quarry".split()


@dataclass(slots=True)
class Measured:
    """What one run gave."""

    stored: float = 0.0
    """Seconds until the upload was acknowledged: every file on the disk."""
    working: float = 0.0
    """Seconds of servers that were up while files were left."""
    restarts: list[float] = field(default_factory=list[float])
    """Seconds from each restart's greeting to the next file that was done."""
    idle: list[float] = field(default_factory=list[float])
    """Seconds of an answer by a server that does nothing else."""
    beside: list[float] = field(default_factory=list[float])
    """And beside the ingestion."""


def text(number: int) -> str:
    """A file of about 1 KB, unlike every other one."""
    chance = random.Random(number)
    lines = [f"Shelf {number} holds {number * 17} books about the {chance.choice(SUBJECTS)}."]
    lines += [
        f"Book {chance.randrange(10**6)} tells of the {chance.choice(SUBJECTS)} in {1700 + n}." for n in range(16)
    ]
    return f"# Shelf {number}\n\n{' '.join(lines)}\n"


class Server:
    """`parley serve` as a process."""

    def __init__(self, folder: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
        self.process = Popen(
            [sys.executable, "-m", "serving.cli", "serve", "--port", "0"], env=kept | {"PARLEY_DATA_DIR": str(folder)},
            stdout=PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        found = (READY.search(line) for line in self.process.stdout)
        self.url = next(match[1] for match in found if match)
        self.greeted = time.perf_counter()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.communicate()


async def ask(session: aiohttp.ClientSession, url: str) -> float:
    """Seconds of one answer."""
    began = time.perf_counter()
    async with session.post(f"{url}/v1/chat/completions", json=QUESTION) as response:
        response.raise_for_status()
        await response.read()
    return time.perf_counter() - began


async def done(session: aiohttp.ClientSession, url: str, job: str) -> AsyncGenerator[int]:
    """How many files are done, whenever that changes."""
    async with session.get(f"{url}/api/jobs/{job}/events") as events:
        async for line in events.content:
            if line.startswith(b"data: "):
                yield orjson.loads(line.removeprefix(b"data: "))["done"]


@asynccontextmanager
async def asking(session: aiohttp.ClientSession, url: str, times: list[float]) -> AsyncGenerator[None]:
    """Asks one question after another meanwhile."""

    async def loop() -> None:
        while True:
            times.append(await ask(session, url))
            await asyncio.sleep(PAUSE_SECONDS)

    task = asyncio.create_task(loop())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def measure(folder: Path, files: int, kills: int, seed: int, bars: Progress) -> Measured:
    """Sends, kills, restarts, and waits for the end."""
    measured = Measured()
    moments = sorted(random.Random(seed).sample(range(1, files), kills))
    bar = bars.add_task("taken in", total=files)
    server = await asyncio.to_thread(Server, folder)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(600)) as session:
            for _ in range(WARM_UP):
                await ask(session, server.url)
            measured.idle = [await ask(session, server.url) for _ in range(IDLE_QUESTIONS)]
            form = aiohttp.FormData(quote_fields=False)
            for number in range(files):
                form.add_field("files", text(number).encode(), filename=f"shelf/{number}.md")
            began = time.perf_counter()
            async with session.post(f"{server.url}/api/documents", data=form) as response:
                response.raise_for_status()
                job: str = (await response.json())["job_id"]
            measured.stored = time.perf_counter() - began
            before = 0
            for stop in (*moments, files):
                began, first = time.perf_counter(), True
                async with asking(session, server.url, measured.beside):
                    async for count in done(session, server.url, job):
                        bars.update(bar, completed=count)
                        if first and count > before and before:
                            measured.restarts.append(time.perf_counter() - server.greeted)
                            first = False
                        if count >= stop and stop < files:
                            before = count
                            break
                measured.working += time.perf_counter() - began
                if stop < files:
                    await asyncio.to_thread(server.kill)
                    bars.console.print(f"killed after {before} files")
                    server = await asyncio.to_thread(Server, folder)
            await check(session, server.url, job, files)
    finally:
        server.kill()
    return measured


async def check(session: aiohttp.ClientSession, url: str, job: str, files: int) -> None:
    """Every file is a document, once.

    Raises:
        SystemExit: one is missing, double or failed.
    """
    async with session.get(f"{url}/api/jobs/{job}") as response:
        state = await response.json()
    if (state["status"], state["done"], state["failed"]) != ("finished", files, 0):
        raise SystemExit(f"the job ended otherwise: {state}")
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        params = {"limit": "200"} | ({"cursor": cursor} if cursor else {})
        async with session.get(f"{url}/api/documents", params=params) as response:
            page = await response.json()
        found += [document["path"] for document in page["items"]]
        cursor = page["next_cursor"]
    if sorted(found) != sorted(f"shelf/{number}.md" for number in range(files)):
        raise SystemExit(f"{len(found)} documents of {files}, {len(set(found))} of them distinct")


def check_file(file: Path, files: int) -> None:
    """Every passage is stored once, every step noted once, and the file is sound.

    Raises:
        SystemExit: it is otherwise.
    """
    with closing(sqlite3.connect(file)) as database:
        (sound,) = database.execute("PRAGMA integrity_check").fetchone()
        (steps, distinct) = database.execute(
            "SELECT count(*), count(DISTINCT function_name) FROM operation_outputs WHERE function_name LIKE 'shelf/%'"
        ).fetchone()
        (begun,) = database.execute("SELECT count(*) FROM documents_begun").fetchone()
        (passages, sources) = database.execute(
            "SELECT (SELECT sum(passages) FROM documents), (SELECT count(*) FROM graph_passages)"
        ).fetchone()
    told = {"integrity": sound, "steps": steps, "distinct": distinct, "begun": begun, "passages": passages}
    if (sound, steps, distinct, begun, passages) != ("ok", files, files, 0, sources):
        raise SystemExit(f"the database is otherwise: {told}, {sources} passages in the graph")


def share(times: list[float], part: float) -> float:
    """The time in ms that this part of the answers took at most."""
    return sorted(times)[min(len(times) - 1, int(len(times) * part))] * 1000


def main() -> None:
    """Runs once and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    console = Console()
    with TemporaryDirectory() as folder, Progress(console=console) as bars:
        measured = asyncio.run(measure(Path(folder), given.files, given.kills, given.seed, bars))
        check_file(Path(folder) / "parley.sqlite", given.files)
    console.print(f"all {given.files} files once, none twice, after {given.kills} kills")
    console.print(f"acknowledged after {measured.stored:.2f} s; {given.files / measured.working:.1f} files/s taken in")
    console.print("next file after a restart: " + ", ".join(f"{one:.1f} s" for one in measured.restarts))
    for name, times in (("idle", measured.idle), ("beside the ingestion", measured.beside)):
        console.print(
            f"an answer, {name}: median {share(times, 0.5):.0f} ms, 95 % {share(times, 0.95):.0f} ms ({len(times)})"
        )


if __name__ == "__main__":
    main()
