"""The embedded stores beside the servers, in one run: `make bench-backends`. The servers are new, empty and its own.

Vectors: records of random unit vectors and random words in several tenants, stored and searched through the port
MemoryStore, each query in one tenant. Graph: passages with titles and names, through KnowledgeGraph. Quality: a
development set taken in through Parley's own pipeline into each set of stores and searched; the embeddings are made
once and used for all, so that what differs is the stores. Memory is the resident set of the server's process; of an
embedded store, what this process has grown by.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM, signal
from subprocess import run as run_process
from tempfile import TemporaryDirectory

import numpy as np
import psutil

from evals.bench.answers import default_data
from evals.bench.knowledge import DEPTHS, Reply, questions, recall, write
from knowledge.entities import surfaces
from knowledge.graph import KnowledgeGraph
from knowledge.ingest import Ingest
from knowledge.open import SCHEMAS as KNOWLEDGE_SCHEMAS
from knowledge.open import open_graph
from knowledge.parse import Parser
from knowledge.search import Search
from knowledge.sql_catalog import SqlCatalog
from knowledge.types import Name, PassageEntry, SearchQuery
from memory import embedded
from memory.embedding import Embedder
from memory.minilm import MiniLM
from memory.open import open_memory
from memory.sqlite import Database
from memory.store import MemoryStore
from memory.types import Label, PartVectors, Query, Record, Scope, Vector, Vectors

SET = "hotpot-small"
DIMENSIONS, TENANTS, WORDS, BATCH = 384, 10, 60, 32
VOCABULARY = 30_000
SERVERS = ("weaviate", "chroma", "neo4j")
PAGE = Path("docs/backends.md")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what was measured and, by backend, its value."""

    name: str
    values: dict[str, str]


@dataclass(slots=True)
class Kept:
    """An embedder that makes each text's vector once, for all the stores."""

    inner: MiniLM
    made: dict[str, Vectors] = field(default_factory=dict[str, Vectors])
    asked: dict[str, Vector] = field(default_factory=dict[str, Vector])

    @property
    def name(self) -> str:
        """The inner one's."""
        return self.inner.name

    @property
    def dimensions(self) -> int:
        """The inner one's."""
        return self.inner.dimensions

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One row per text, in order."""
        unseen = [text for text in dict.fromkeys(texts) if text not in self.made]
        if unseen:
            self.made.update(zip(unseen, await self.inner.embed(unseen), strict=True))
        return np.stack([self.made[text] for text in texts])

    async def embed_query(self, text: str) -> Vector:
        """A question's vector."""
        if text not in self.asked:
            self.asked[text] = await self.inner.embed_query(text)
        return self.asked[text]


def table(title: str, rows: Sequence[Row]) -> str:
    """A Markdown table, one column a backend."""
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    lines = [f"| {title} | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    lines += [f"| {row.name} | {' | '.join(row.values.get(name, '') for name in names)} |" for row in rows]
    return "\n".join(lines)


def variables(file: Path) -> dict[str, str]:
    """The settings that the services wrote, none without the file."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


@contextmanager
def servers(folder: Path) -> Generator[dict[str, str]]:
    """Servers of this run's own, their data in the folder; how they are reached, as settings."""
    command = [sys.executable, "-m", "tests.services"]
    environment = {**os.environ, "PARLEY_SERVICES_DIR": str(folder), "PARLEY_SERVICES_NEO4J_JAVA": ""}
    try:
        run_process([*command, "start", *SERVERS], env=environment, check=True)  # noqa: S603 - our own words
        yield variables(folder / "env")
    finally:
        run_process([*command, "stop"], env=environment, check=True)  # noqa: S603 - our own words


def resident(pid: Path | None) -> float:
    """Megabytes of a server's processes; without a pid file of this process alone."""
    process = psutil.Process(int(pid.read_text()) if pid else os.getpid())
    return sum(each.memory_info().rss for each in (process, *(process.children(recursive=True) if pid else []))) / 1e6


def percentiles(times: Sequence[float]) -> str:
    """Median and 95th percentile, in milliseconds."""
    return f"{np.percentile(times, 50):.1f} / {np.percentile(times, 95):.1f} ms"


async def timed(calls: Sequence[Callable[[], Awaitable[object]]]) -> list[float]:
    """Milliseconds of each call, one after the other; the first tenth only warms up."""
    times: list[float] = []
    for call in calls:
        begun = time.perf_counter()
        await call()
        times.append((time.perf_counter() - begun) * 1000)
    return times[len(times) // 10 :]


def records(dice: np.random.Generator, tenant: str, source: int) -> list[Record]:
    """A batch of one source: unit vectors, words by Zipf's law, two sentence vectors each."""
    vectors = dice.standard_normal((BATCH, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = np.minimum(dice.zipf(1.3, (BATCH, WORDS)), VOCABULARY)
    parts = PartVectors(np.zeros((2, DIMENSIONS), np.int8), np.ones(2, np.float32))
    label = Label(tenant, f"doc:{source}#0", 0)
    texts = [" ".join(f"w{word}" for word in line) for line in words]
    return [
        Record(f"{source}.{at}", f"s{source}", "", texts[at], vectors[at], label, parts=parts) for at in range(BATCH)
    ]


async def vectors(store: MemoryStore, count: int, say: Callable[[str], None]) -> dict[str, str]:
    """Insert rate and query times of a store."""
    dice = np.random.default_rng(1)
    sources = count // BATCH
    mark = f"bench{random.randrange(10**9)}"
    scopes = [Scope(f"{mark}-{number}", "passages") for number in range(TENANTS)]
    busy = 0.0
    for source in range(sources):
        scope = scopes[source % TENANTS]
        batch = records(dice, scope.tenant, source)
        begun = time.perf_counter()
        await store.stage(scope, f"s{source}", "1", batch)
        await store.publish(scope, f"s{source}", "1", BATCH)
        busy += time.perf_counter() - begun
        if source % 100 == 0:
            say(f"{source * BATCH} of {count} records")

    def query(number: int) -> Callable[[], Awaitable[object]]:
        vector = dice.standard_normal(DIMENSIONS).astype(np.float32)
        vector /= np.linalg.norm(vector)
        text = " ".join(f"w{word}" for word in np.minimum(dice.zipf(1.3, 8), VOCABULARY))
        return lambda: store.search(scopes[number % TENANTS], Query(text, vector), 200)

    times = await timed([query(number) for number in range(220)])
    some = range(0, sources, 10)
    begun = time.perf_counter()
    for source in some:
        await store.publish(scopes[source % TENANTS], f"s{source}", None, 0)
    gone = time.perf_counter() - begun
    return {
        "insert": f"{sources * BATCH / busy:.0f} /s",
        "query": percentiles(times),
        "remove": f"{len(some) * BATCH / gone:.0f} /s",
    }


def entries(dice: random.Random, source: int, titles: Sequence[str]) -> list[PassageEntry]:
    """Passages that each have a title and name six others."""
    found: list[PassageEntry] = []
    for at in range(BATCH):
        title = titles[source * BATCH + at]
        named = tuple(Name(dice.choice(titles), sentence) for sentence in range(6))
        found.append(PassageEntry(f"{source}.{at}", title, surfaces(title), named))
    return found


async def graph(store: KnowledgeGraph, count: int, say: Callable[[str], None]) -> dict[str, str]:
    """Insert rate and query times of a graph."""
    dice = random.Random(1)
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=6)).title() for _ in range(5000)]
    titles = [f"{dice.choice(words)} {dice.choice(words)}" for _ in range(count)]
    tenant = f"bench{random.randrange(10**9)}"
    sources = count // BATCH
    busy = 0.0
    for source in range(sources):
        batch = entries(dice, source, titles)
        begun = time.perf_counter()
        await store.add(tenant, f"d{source}", "1", batch)
        busy += time.perf_counter() - begun
        if source % 100 == 0:
            say(f"{source * BATCH} of {count} passages")
    seeds = [[f"{dice.randrange(sources)}.{dice.randrange(BATCH)}" for _ in range(6)] for _ in range(220)]
    asked = [[" ".join(dice.sample(words, 2)).lower() for _ in range(40)] for _ in range(220)]
    mentions = await timed([lambda each=each: store.mentions(tenant, each) for each in seeds])
    found = await timed([lambda each=each: store.titles(tenant, each) for each in asked])
    some = range(0, sources, 10)
    begun = time.perf_counter()
    for source in some:
        await store.forget(tenant, f"d{source}", None)
    gone = time.perf_counter() - begun
    return {
        "insert": f"{sources * BATCH / busy:.0f} /s",
        "mentions of six passages": percentiles(mentions),
        "titles in a question": percentiles(found),
        "remove": f"{len(some) * BATCH / gone:.0f} /s",
    }


@asynccontextmanager
async def file_in(folder: Path) -> AsyncGenerator[Database]:
    """An empty database file for embedded stores."""
    database = await Database.open(folder / "parley.sqlite", [embedded.SCHEMA, *KNOWLEDGE_SCHEMAS])
    try:
        yield database
    finally:
        await database.close()


async def quality(
    memory_url: str, knowledge_url: str, source: Path, folder: Path, embedder: Embedder
) -> dict[str, str]:
    """Recall on a development set, and the time of a search without its embedding."""
    tenant = f"bench{random.randrange(10**9)}"
    asked = questions(source)
    replies: list[Reply] = []
    async with file_in(folder) as database:
        memory, knowledge = open_memory(memory_url, database, embedder), open_graph(knowledge_url, database)
        catalog = SqlCatalog(database)
        parser = Parser()
        joint = None if memory_url or knowledge_url else database.transaction
        ingest = Ingest(parser, embedder, memory, knowledge, catalog, joint)
        search = Search(memory, knowledge, catalog)
        try:
            await ingest.paths(tenant, [str(folder.parent / "set")])
            for question in asked:
                vector = await embedder.embed_query(question.text)
                begun = time.perf_counter()
                found = await search(tenant, SearchQuery(question.text, vector), 15)
                took = (time.perf_counter() - begun) * 1000
                replies.append(Reply(list(dict.fromkeys(Path(hit.document.path).stem for hit in found)), took))
        finally:
            await parser.close()
            await memory.close()
            await knowledge.close()
    told = {f"R@{depth}": f"{recall(asked, replies, depth):.1f} %" for depth in DEPTHS}
    return {**told, "search, embedding not included": percentiles([reply.milliseconds for reply in replies])}


def turned(columns: dict[str, dict[str, str]]) -> list[Row]:
    """Columns by backend as rows by figure."""
    names = dict.fromkeys(name for column in columns.values() for name in column)
    return [Row(name, {backend: column.get(name, "") for backend, column in columns.items()}) for name in names]


@dataclass(frozen=True, slots=True)
class Bench:
    """What the tables are made with."""

    urls: dict[str, str]
    folder: Path
    count: int
    data: Path
    embedder: Kept
    say: Callable[[str], None]

    def resident(self, name: str, url: str) -> float:
        """Megabytes of a server, or of this process for an embedded store."""
        return resident(self.folder / "services" / name.lower() / f"{name.lower()}.pid" if url else None)

    async def vectors(self) -> str:
        """The vector stores."""
        stores = {
            "embedded": "",
            "Weaviate": self.urls["PARLEY_MEMORY_URL"],
            "Chroma": self.urls["PARLEY_TEST_CHROMA_URL"],
        }
        columns: dict[str, dict[str, str]] = {}
        for name, url in stores.items():
            before = 0.0 if url else self.resident(name, url)
            async with file_in(self.folder / f"vectors-{name}") as database:
                store = open_memory(url, database, self.embedder)
                columns[name] = await vectors(store, self.count, lambda text, name=name: self.say(f"{name}: {text}"))
                columns[name]["memory"] = f"{self.resident(name, url) - before:.0f} MB"
                await store.close()
        return table(f"{self.count:,} vectors in {TENANTS} tenants, p50 / p95", turned(columns))

    async def graph(self) -> str:
        """The graphs, with as many passages."""
        columns: dict[str, dict[str, str]] = {}
        for name, url in {"embedded": "", "Neo4j": self.urls["PARLEY_KNOWLEDGE_URL"]}.items():
            before = 0.0 if url else self.resident(name, url)
            async with file_in(self.folder / f"graph-{name}") as database:
                knowledge = open_graph(url, database)
                columns[name] = await graph(knowledge, self.count, lambda text, name=name: self.say(f"{name}: {text}"))
                columns[name]["memory"] = f"{self.resident(name, url) - before:.0f} MB"
                await knowledge.close()
        return table(f"graph of {self.count:,} passages, p50 / p95", turned(columns))

    async def quality(self) -> str:
        """Both together, on a development set."""
        servers = (self.urls["PARLEY_MEMORY_URL"], self.urls["PARLEY_KNOWLEDGE_URL"])
        source = self.data / "retrieval" / SET
        write(source, self.folder / "set")
        columns: dict[str, dict[str, str]] = {}
        for name, (memory, knowledge) in {"embedded": ("", ""), "Weaviate and Neo4j": servers}.items():
            self.say(f"{SET}, {name}")
            place = self.folder / f"set-{name.split()[0]}"
            columns[name] = await quality(memory, knowledge, source, place, self.embedder)
        return table(f"{SET}, retrieval", turned(columns))


TABLES = {"vectors": Bench.vectors, "graph": Bench.graph, "quality": Bench.quality}


def keep(name: str, told: str) -> None:
    """Puts a table into the page, in the place of the one that is there."""
    begin, end = f"<!-- figures: {name} -->", "<!-- end of figures -->"
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    PAGE.write_text(f"{head}{begin}\n\n{told}\n\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def main() -> None:
    """Prints each table when it is made; `--write` keeps it in docs/backends.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data(), help="folder that holds retrieval/")
    parser.add_argument("--count", type=int, default=100_000, help="vectors and passages")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE}")
    parser.add_argument("--only", choices=list(TABLES), help="one table")
    options = parser.parse_args()

    def end(*_: object) -> None:
        sys.exit(128 + SIGTERM)

    signal(SIGTERM, end)  # which by default would leave the servers running

    def say(text: str) -> None:
        print(f"\r{text:60}", end="", flush=True, file=sys.stderr)

    embedder = Kept(MiniLM(threads=min(2, os.cpu_count() or 1)))
    with TemporaryDirectory() as temporary, servers(Path(temporary) / "services") as urls:
        bench = Bench(urls, Path(temporary), options.count, options.data, embedder, say)
        for name in [options.only] if options.only else TABLES:
            told = asyncio.run(TABLES[name](bench))
            say("")
            print(f"\n{told}\n", flush=True)
            if options.write:
                keep(name, told)
    embedder.inner.close()


if __name__ == "__main__":
    main()
