"""Each server stopped for a while under load: `python -m evals.bench.outages` (start the servers with `make services`).

A real `parley serve` on Weaviate, Neo4j, Postgres and Redis is asked by six clients without a pause: searches, chats
of the OpenAI wire, and runs in conversations of their own, all about two small documents. Each server in turn is
stopped, left away, and started again. An answer is whole (it holds the fact), less (it does not, or says in a note
what it lacked) or refused (503 with Retry-After); anything else is wrong: another status from 500 on, a connection that
breaks, an answer that is less and does not say why, and any answer that is not whole once the server has settled.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from evals.bench.backends import variables
from evals.bench.latency import Served, started

SERVERS = ("weaviate", "neo4j", "redis", "postgres")
ENV = Path(".services/env")
CLIENTS, PAUSE = 6, 0.05
SETTLE_SECONDS = 10.0
"""After a server has come back; who met it while it was away may still be told so."""
SHORT_SECONDS, PATIENCE = 2.0, 60.0
QUESTION, FACT = "Who built the Old Mill?", "Tomas Reed"
PAPERS = {
    "mill.md": "# Old Mill\n\nThe Old Mill was built by Tomas Reed in 1871.\n",
    "reed.md": "# Tomas Reed\n\nTomas Reed was a builder. He was born in Weston.\n",
}
WORSE = frozenset(("memory_unavailable", "knowledge_unavailable", "slow_memory"))
"""Notes that say what an answer lacked."""


@dataclass(slots=True)
class Phase:
    """A stretch of time, and what came of the requests that began in it."""

    name: str
    settled: bool
    """Whether everything must be whole."""
    outcomes: Counter[str] = field(default_factory=Counter[str])
    slowest: float = 0.0
    """Seconds."""
    wrong: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class Load:
    """The clients and the phases so far; the last one counts."""

    client: aiohttp.ClientSession
    phases: list[Phase]
    done: bool = False

    async def search(self) -> str:
        """Says how a search ended."""
        async with self.client.post("/api/search", json={"query": QUESTION, "limit": 3}) as found:
            told = await found.text()
            return refused(found, told) or ("whole" if FACT in told else "less")

    async def chat(self) -> str:
        """Says how a chat ended."""
        body = {"model": "parley", "messages": [{"role": "user", "content": QUESTION}]}
        async with self.client.post("/v1/chat/completions", json=body) as answered:
            told = await answered.text()
            return refused(answered, told) or ("whole" if FACT in told else "less")

    async def run(self) -> str:
        """Says how a run in a new conversation ended."""
        async with self.client.post("/api/threads", json={}) as made:
            told = await made.text()
            if refusal := refused(made, told):
                return refusal
            thread = (await made.json())["id"]
        body = {"messages": [{"role": "user", "content": QUESTION}]}
        async with self.client.post(f"/api/threads/{thread}/runs", json=body) as answered:
            told = await answered.text()
            if refusal := refused(answered, told):
                return refusal
            ran = await answered.json()
            noted = any(note["code"] in WORSE for note in ran["notes"])
            whole = ran["status"] == "finished" and FACT in (ran["answer"] or "")
            if whole:
                return "less" if noted else "whole"
            return "less" if noted or ran["status"] == "incomplete" else f"less without a reason: {told}"

    async def keep_asking(self, ask: Callable[[], Awaitable[str]]) -> None:
        """One client."""
        while not self.done:
            phase, begun = self.phases[-1], time.perf_counter()
            try:
                outcome = await ask()
            except (aiohttp.ClientError, TimeoutError) as error:
                outcome = f"{type(error).__name__}: {error}"
            phase.slowest = max(phase.slowest, time.perf_counter() - begun)
            good = outcome == "whole" or (outcome in ("less", "refused") and not phase.settled)
            phase.outcomes[outcome if outcome in ("whole", "less", "refused") else "wrong"] += 1
            if not good:
                phase.wrong.append(f"{ask.__name__}: {outcome}")
            await asyncio.sleep(PAUSE)


def refused(response: aiohttp.ClientResponse, told: str) -> str:
    """ "refused" for a 503 with Retry-After, what is wrong with another failure, "" for an answer."""
    if response.status == 503 and "Retry-After" in response.headers:
        return "refused"
    return "" if response.status < 400 else f"{response.status}: {told[:300]}"


async def services(*arguments: str) -> None:
    """`python -m tests.services`, quietly."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.services", *arguments, stderr=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise SystemExit(f"python -m tests.services {' '.join(arguments)} failed")


async def outages(served: Served, names: Sequence[str], seconds: float, say: Callable[[str], None]) -> list[Phase]:
    """What happened before, during and after each outage."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(served.url, timeout=timeout) as client:
        load = Load(client, [Phase("all there", settled=True)])
        kinds = (load.search, load.chat, load.run)
        for ask in kinds:
            await ask()  # the first of each kind loads what it needs
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(load.keep_asking(kinds[number % len(kinds)]))
            await asyncio.sleep(SETTLE_SECONDS)
            for name in names:
                say(f"{name} is away for {seconds:.0f} s")
                load.phases.append(Phase(f"{name} away", settled=False))
                await asyncio.sleep(SHORT_SECONDS)  # who asked before has been answered when it goes
                await services("stop", name)
                await asyncio.sleep(seconds)
                await services("start", name)
                await asyncio.sleep(SETTLE_SECONDS)
                load.phases.append(Phase(f"{name} back", settled=True))
                await asyncio.sleep(SETTLE_SECONDS)
            load.done = True
        async with client.get("/api/documents", params={"limit": "200"}) as listed:
            documents = (await listed.json())["items"]
        for document in documents:
            if Path(document["path"]).name in PAPERS:
                await (await client.delete(f"/api/documents/{document['id']}")).read()
    return load.phases


def table(phases: Sequence[Phase]) -> str:
    """A Markdown table, a line for each phase."""
    kinds = ("whole", "less", "refused", "wrong")
    lines = [f"| | {' | '.join(kinds)} | slowest |", f"|---|{'---|' * (len(kinds) + 1)}"]
    for phase in phases:
        counts = " | ".join(str(phase.outcomes[kind]) for kind in kinds)
        lines.append(f"| {phase.name} | {counts} | {phase.slowest:.1f} s |")
    return "\n".join(lines)


def main() -> int:
    """Prints the table, and what was wrong; 1 when anything was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="for how long each server is away")
    parser.add_argument("servers", nargs="*", help=f"of {', '.join(SERVERS)}; all of them unless told")
    options = parser.parse_args()
    environment = variables(ENV)
    if not environment:
        parser.error("no servers are running; start them with `make services`")
    parley = str(Path(sys.executable).with_name("parley"))
    with TemporaryDirectory() as temporary:
        papers = Path(temporary) / "papers"
        papers.mkdir()
        for name, text in PAPERS.items():
            (papers / name).write_text(text, encoding="utf-8")
        environment |= {"PARLEY_DATA_DIR": f"{temporary}/data", "PARLEY_PORT": "0", "PARLEY_RATE_PER_MINUTE": "0"}
        with started([parley, "serve", "--ingest", str(papers)], environment, "Parley is ready on http") as served:
            phases = asyncio.run(
                outages(served, options.servers or SERVERS, options.seconds, lambda text: print(text, file=sys.stderr))
            )
    print(table(phases))
    wrong = [f"{phase.name}: {text}" for phase in phases for text in phase.wrong]
    for text in wrong[:20]:
        print(text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
