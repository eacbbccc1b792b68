"""A server that is killed at random moments under load, and what is left of it each time and in the end.

Eight conversations talk, half of their runs in the background, while documents are ingested. A turn counts as
acknowledged when its first event, or its run, has come back. After each restart nobody may be left working that does
not live; in the end every acknowledged turn must be there, once and in order, complete only when it was.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson

TALKERS = 8
WORDS = 40
"""Of each of the model's answers."""
EARLY, SPREAD = 0.2, 3.0
"""This part of the kills comes within so many seconds of a start, the others so long after its first turn."""
REST_SECONDS = 120.0
"""How long background runs may take to end after the last restart."""


@dataclass(slots=True)
class Server:
    """`parley serve` on a folder, killed and started again on another port each time."""

    folder: Path
    model: str
    base: str = ""
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Starts it and waits until it is ready.

        Raises:
            SystemExit: it does not start.
        """
        environment = {
            **os.environ,
            "PARLEY_DATA_DIR": str(self.folder),
            "PARLEY_MODEL_URL": self.model,
            "PARLEY_PORT": "0",
        }
        program = str(Path(sys.executable).with_name("parley"))
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            program, "serve", env=environment, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if b"Parley is ready on http" in line:
                self.base = next(word for word in line.decode().split() if word.startswith("http"))
                self.ready.set()
                return
        raise SystemExit("the server did not start")

    async def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.ready.clear()
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> str:
        """SIGTERM; what it said while it stopped."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.ready.clear()
        self.process.terminate()
        told = await self.process.stdout.read()
        await self.process.wait()
        return told.decode()

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self.process is not None
        return self.process.pid


@dataclass(slots=True)
class Turn:
    """A turn that a client knows of."""

    thread: str
    question: str
    run: str
    finished: str | None = None
    """The answer that came with `run.finished`."""


@dataclass(slots=True)
class Load:
    """What the clients did and were told."""

    server: Server
    chance: random.Random
    turns: list[Turn] = field(default_factory=list[Turn])
    uploads: list[str] = field(default_factory=list[str])
    """Jobs of acknowledged uploads."""
    over: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with each turn that is acknowledged."""
    seen: Counter[str] = field(default_factory=Counter[str])

    async def talk(self, number: int) -> None:
        """One conversation, turn after turn, whatever happens to the server."""
        thread, count = "", 0
        async with aiohttp.ClientSession() as client:
            while not self.over:
                await self.server.ready.wait()
                try:
                    thread = thread or await self._new_thread(client)
                    count += 1
                    question = f"Talker {number}, turn {count}: write a story of the mill"
                    await self._turn(client, thread, question, background=self.chance.random() < 0.5)
                except (TimeoutError, aiohttp.ClientError, OSError):
                    self.seen["requests that the kill cut"] += 1
                    await asyncio.sleep(0.05)

    async def _new_thread(self, client: aiohttp.ClientSession) -> str:
        async with client.post(f"{self.server.base}/api/threads", json={}) as made:
            return (await made.json())["id"]

    async def _turn(self, client: aiohttp.ClientSession, thread: str, question: str, *, background: bool) -> None:
        body = {"messages": [{"role": "user", "content": question}], "stream": True, "background": background}
        turn: Turn | None = None
        url = f"{self.server.base}/api/threads/{thread}/runs"
        async with client.post(url, json=body) as asked:
            if asked.status == 409:
                await self._wait_for(client, (await asked.json())["run_id"])
                return
            asked.raise_for_status()
            async for data in events(asked):
                if turn is None:
                    turn = Turn(thread, question, data["run_id"])
                    self.turns.append(turn)
                    self.news.set()
                if data["type"] == "run.finished":
                    turn.finished = data["answer"]
                    self.seen["answers heard to the end"] += 1

    async def _wait_for(self, client: aiohttp.ClientSession, run: str) -> None:
        """The conversation is busy: somebody goes on with an earlier run, whose end is waited for."""
        self.seen["conversations found busy"] += 1
        async with client.get(f"{self.server.base}/api/runs/{run}/events") as following:
            following.raise_for_status()
            async for data in events(following):
                if data["type"] == "answer.restarted":
                    self.seen["answers restarted"] += 1

    async def ingest(self) -> None:
        """Uploads document after document."""
        count = 0
        async with aiohttp.ClientSession() as client:
            while not self.over:
                await self.server.ready.wait()
                count += 1
                form = aiohttp.FormData()
                text = f"# Mill {count}\n\n" + f"The mill {count} was built in {1500 + count % 400}. " * 20
                form.add_field("files", text.encode(), filename=f"mill-{count}.md", content_type="text/markdown")
                try:
                    async with client.post(f"{self.server.base}/api/documents", data=form) as sent:
                        sent.raise_for_status()
                        self.uploads.append((await sent.json())["job_id"])
                    await asyncio.sleep(0.1)
                except (TimeoutError, aiohttp.ClientError, OSError):
                    await asyncio.sleep(0.05)


async def events(response: aiohttp.ClientResponse) -> AsyncGenerator[dict[str, str]]:
    """The data of a stream's events, as they come."""
    async for line in response.content:
        if line.startswith(b"data: "):
            yield orjson.loads(line[6:])


def active(folder: Path) -> list[tuple[str, str, int]]:
    """Status, process and whether it is in the background, of all runs that are not over."""
    sql = "SELECT status, process, background FROM runs WHERE status IN ('queued', 'running', 'waiting')"
    with closing(sqlite3.connect(folder / "parley.sqlite")) as connection:
        return connection.execute(sql).fetchall()


def left_running(folder: Path, pid: int) -> int:
    """Runs that no living process works on, the queued background ones aside."""
    return sum(
        f":{pid}:" not in process and not (background and status == "queued" and not process)
        for status, process, background in active(folder)
    )


@asynccontextmanager
async def loaded(load: Load) -> AsyncGenerator[None]:
    """The clients at work; in the end they finish what they do."""
    async with asyncio.TaskGroup() as clients:
        for number in range(TALKERS):
            clients.create_task(load.talk(number))
        clients.create_task(load.ingest())
        yield
        load.over = True


async def kills(count: int, folder: Path, model: str, seed: int) -> Counter[str]:
    """Kills the server so often and says what was found; keys that begin with "WRONG" must be 0."""
    server = Server(folder, model)
    load = Load(server, random.Random(seed))
    found = load.seen
    await server.start()
    async with loaded(load):
        for number in range(1, count + 1):
            if load.chance.random() > EARLY:
                load.news.clear()
                await load.news.wait()
            await asyncio.sleep(load.chance.uniform(0.05, SPREAD))
            await server.kill()
            found["runs cut by a kill"] += len(active(folder))
            await server.start()
            found["WRONG: left running after a restart"] += left_running(folder, server.pid)
            sys.stderr.write(f"\r{number} of {count} kills, {len(load.turns)} turns, {len(load.uploads)} uploads ")
            sys.stderr.flush()
        await asyncio.sleep(1.0)
    sys.stderr.write("\n")
    async with asyncio.timeout(REST_SECONDS):
        while active(folder):  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.1)
    await server.stop()
    found["turns acknowledged"] = len(load.turns)
    found["uploads acknowledged"] = len(load.uploads)
    found["kills"] = count
    found.update(check(folder, load))
    return found


def check(folder: Path, load: Load) -> Counter[str]:
    """What the record says of all that was acknowledged."""
    found: Counter[str] = Counter()
    with closing(sqlite3.connect(folder / "parley.sqlite")) as connection:
        for turn in load.turns:
            sql = "SELECT role, content, status FROM messages WHERE thread = ? AND run = ? ORDER BY number"
            messages = connection.execute(sql, (turn.thread, turn.run)).fetchall()
            found["WRONG: acknowledged and lost"] += ("user", turn.question, "complete") not in messages
            answers = [(content, status) for role, content, status in messages if role == "assistant"]
            found["WRONG: answered twice"] += len(answers) > 1
            if turn.finished is not None:
                found["WRONG: heard and not stored"] += (turn.finished, "complete") not in answers
        rows = connection.execute(
            "SELECT m.content, m.status, r.status FROM messages m JOIN runs r ON r.id = m.run WHERE role = 'assistant'"
        ).fetchall()
        for content, shown, status in rows:
            found[f"answers {shown}"] += 1
            whole = status == "finished" and content.split().count("word") == WORDS
            found["WRONG: shown complete and not whole"] += shown == "complete" and not whole
        numbers = connection.execute("SELECT thread, number FROM messages ORDER BY thread, number").fetchall()
        expected: Counter[str] = Counter()
        for thread, number in numbers:
            expected[thread] += 1
            found["WRONG: gap in a conversation"] += number != expected[thread]
        for thread in {turn.thread for turn in load.turns}:
            asked = [turn.question for turn in load.turns if turn.thread == thread]
            sql = "SELECT content FROM messages WHERE thread = ? AND role = 'user' ORDER BY number"
            said = [content for (content,) in connection.execute(sql, (thread,)) if content in set(asked)]
            found["WRONG: out of order"] += said != asked
        unfinished = "SELECT count(*) FROM runs WHERE status IN ('queued', 'running', 'waiting') OR finished_at IS NULL"
        found["WRONG: run without an end"] += connection.execute(unfinished).fetchone()[0]
        marks = ",".join("?" * len(load.uploads))
        known = f"SELECT count(*) FROM jobs WHERE id IN ({marks})"
        found["WRONG: upload lost"] += len(load.uploads) - connection.execute(known, load.uploads).fetchone()[0]
        found["WRONG: integrity"] += connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
    return found
