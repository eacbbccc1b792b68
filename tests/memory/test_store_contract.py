"""What every MemoryStore must keep, run against each of them."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from memory.chroma_memory import ChromaMemory
from memory.embedded import SCHEMA, EmbeddedMemory
from memory.embedding import HashEmbedder
from memory.patience import patience
from memory.sqlite import Database
from memory.store import IncompleteSource, MemoryStore, MemoryUnavailable
from memory.types import Hit, Label, PartVectors, Query, Record, Scope, Statistics, Vector
from tests.faults import FaultProxy
from tests.memory.weaviate_backend import WeaviateServer
from tests.services.found import service

EMBEDDER = HashEmbedder(32)
HERE = Scope("acme", "passages")


class Backend(Protocol):
    """One place where records are kept, for the tests to open any number of stores on."""

    async def open(self) -> MemoryStore: ...
    async def lose(self) -> None:
        """Makes the place go away under the stores opened so far."""
        ...

    async def check(self) -> None:
        """Asserts that what is kept is sound in itself, by the backend's own means."""
        ...

    async def close(self) -> None:
        """Closes the stores."""
        ...

    async def forget(self) -> None:
        """Deletes what was written, on a server that others use too."""
        ...


@dataclass
class Embedded:
    folder: Path
    databases: list[Database] = field(default_factory=list[Database])

    async def open(self) -> MemoryStore:
        database = await Database.open(self.folder / "parley.db", [SCHEMA])
        self.databases.append(database)
        return EmbeddedMemory(database, EMBEDDER.name, EMBEDDER.dimensions)

    async def lose(self) -> None:
        (self.folder / "parley.db").rename(self.folder / "lost.db")

    async def check(self) -> None:
        read = self.databases[-1].read
        assert await read(lambda db: db.execute("PRAGMA integrity_check").fetchall()) == [("ok",)]
        rows = await read(lambda db: db.execute("SELECT n FROM memory_records ORDER BY n").fetchall())
        for table, key in (("memory_vectors", "n"), ("memory_words", "rowid")):
            sql = f"SELECT {key} FROM {table} ORDER BY 1"
            assert rows == await read(lambda db, sql=sql: db.execute(sql).fetchall())

    async def close(self) -> None:
        for database in self.databases:
            await database.close()

    async def forget(self) -> None:
        """Nothing: its folder is the test's own."""


@dataclass
class ChromaServer:
    """A database of its own on the shared server, behind a proxy that can take it away."""

    folder: Path
    stores: list[ChromaMemory] = field(default_factory=list[ChromaMemory])
    proxy: FaultProxy | None = None

    @property
    def database(self) -> str:
        return f"t{hashlib.sha256(str(self.folder).encode()).hexdigest()[:24]}"

    async def open(self) -> MemoryStore:
        if self.proxy is None:
            parts = urlsplit(service("chroma")["PARLEY_TEST_CHROMA_URL"])
            self.proxy = await FaultProxy(parts.hostname or "", parts.port or 0).__aenter__()
            async with httpx.AsyncClient() as client:
                made = await client.post(chroma_databases(), json={"name": self.database})
                assert made.status_code in (200, 409)
        url = f"chroma://127.0.0.1:{self.proxy.port}?database={self.database}"
        self.stores.append(ChromaMemory(url, EMBEDDER.name, EMBEDDER.dimensions))
        return self.stores[-1]

    async def lose(self) -> None:
        assert self.proxy is not None
        self.proxy.refuse(True)
        self.proxy.reset()

    async def check(self) -> None:
        """Nothing: Chroma has no means of its own."""

    async def close(self) -> None:
        for store in self.stores:
            await store.close()
        if self.proxy is not None:
            await self.proxy.__aexit__(None, None, None)

    async def forget(self) -> None:
        async with httpx.AsyncClient() as client:
            await client.delete(f"{chroma_databases()}/{self.database}")


def chroma_databases() -> str:
    parts = urlsplit(service("chroma")["PARLEY_TEST_CHROMA_URL"])
    return f"http://{parts.hostname}:{parts.port}/api/v2/tenants/default_tenant/databases"


@dataclass
class ChromaFolder:
    """Chroma in this process: one store at a time."""

    folder: Path
    store: ChromaMemory | None = None

    async def open(self) -> MemoryStore:
        if self.store is None:
            self.store = ChromaMemory(f"chroma:{self.folder}/chroma", EMBEDDER.name, EMBEDDER.dimensions)
        return self.store

    async def lose(self) -> None:
        (self.folder / "chroma").rename(self.folder / "lost")

    async def check(self) -> None:
        """Nothing: Chroma has no means of its own."""

    async def close(self) -> None:
        if self.store is not None:
            await self.store.close()

    async def forget(self) -> None:
        """Nothing: its folder is the test's own."""


BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "embedded": Embedded,
    "chroma": ChromaServer,
    "chroma-folder": ChromaFolder,
    "weaviate": WeaviateServer,
}
SHARED = ("embedded", "chroma", "weaviate")
"""Those that several processes may use at once."""


IN_FULL = [name for name in BACKENDS if name != "chroma-folder"]
"""A folder shares all but its door with Chroma's server: its own tests are in test_chroma.py."""


@pytest.fixture(params=IN_FULL)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    made = BACKENDS[str(request.param)](tmp_path)
    yield made
    await made.close()
    await made.forget()


@pytest.fixture
async def store(backend: Backend) -> MemoryStore:
    return await backend.open()


async def vector(text: str) -> Vector:
    return (await EMBEDDER.embed([text]))[0]


async def record(id: str, text: str, source: str = "doc", title: str = "", tenant: str = "acme") -> Record:
    return Record(id, source, title, text, await vector(f"{title} {text}"), Label(tenant, f"doc:{source}#0", 0))


async def query(text: str) -> Query:
    return Query(text, await vector(text))


async def put(store: MemoryStore, *texts: str, scope: Scope = HERE, source: str = "doc", version: str = "1") -> None:
    """Publishes texts as "<source>.<place>"."""
    records = [await record(f"{source}.{at}", text, source, tenant=scope.tenant) for at, text in enumerate(texts)]
    with patience():  # as an ingestion does
        await store.stage(scope, source, version, records)
        await store.publish(scope, source, version, len(records))


async def found(store: MemoryStore, text: str, scope: Scope = HERE, limit: int = 10) -> list[Hit]:
    return await store.search(scope, await query(text), limit)


async def ids(store: MemoryStore, text: str, scope: Scope = HERE) -> set[str]:
    return {hit.id for hit in await found(store, text, scope)}


async def test_records_come_back_as_they_were(store: MemoryStore, backend: Backend) -> None:
    label = Label("acme", "doc:a#1", 2, frozenset({"ann", "bob"}), secret=True, sources=frozenset({"doc:b#2"}))
    parts = PartVectors(np.arange(3 * 32, dtype=np.int8).reshape(3, 32), np.array([0.5, 0.25, 2], np.float32))
    texts = ["plain", "naïve ☃ 日本語 🙂", "nul \0 inside", "lone \ud800 surrogate", "", "'quoted\" \\ -- ;"]
    given = [
        Record(f"id {text}", "a", f"title {text}", text, await vector(text), label, f'{{"x": "{text}"}}', parts)
        for text in texts
    ]
    given.append(await record("bare", "no parts", "a"))
    given.append(
        Record(
            "none",
            "a",
            "",
            "",
            await vector(""),
            label,
            parts=PartVectors(np.empty((0, 32), np.int8), np.empty(0, np.float32)),
        )
    )
    await store.stage(HERE, "a", "v", given)
    await store.publish(HERE, "a", "v", len(given))
    for opened in (store, await backend.open()):
        kept = await opened.get(HERE, [each.id for each in reversed(given)])
        for want, have in zip(reversed(given), kept, strict=True):
            assert (have.id, have.source, have.title, have.text) == (want.id, "a", want.title, want.text)
            assert (have.label, have.payload) == (want.label, want.payload)
            np.testing.assert_array_equal(have.vector, want.vector)
            assert (have.parts is None) == (want.parts is None)
            if have.parts is not None and want.parts is not None:
                np.testing.assert_array_equal(have.parts.rows, want.parts.rows)
                np.testing.assert_array_equal(have.parts.scales, want.parts.scales)
        assert (await found(opened, "日本語 naïve"))[0].id == given[1].id


async def test_staged_records_are_invisible_until_published(store: MemoryStore) -> None:
    await store.stage(HERE, "doc", "1", [await record("a", "green tea")])
    assert await found(store, "green tea") == []
    assert await store.get(HERE, ["a"]) == []
    assert await store.scores(HERE, await query("green tea"), ["a"]) == {}
    assert (await store.statistics(HERE, ["tea"])).records == 0
    await store.publish(HERE, "doc", "1", 1)
    assert await ids(store, "green tea") == {"a"}
    await store.stage(HERE, "doc", "2", [await record("b", "green tea, black tea")])
    await store.stage(HERE, "other", "2", [await record("c", "green tea", "other")])
    assert await ids(store, "green tea") == {"a"}
    assert await store.get(HERE, ["b", "c"]) == []
    statistics = await store.statistics(HERE, ["tea", "black"])
    assert (statistics.records, statistics.frequency) == (1, {"tea": 1, "black": 0})


async def test_new_version_replaces_the_old_one_with_the_same_ids(store: MemoryStore) -> None:
    await put(store, "red apples", "yellow pears")
    await put(store, "blue plums", version="2")
    assert await ids(store, "red apples yellow pears blue plums") == {"doc.0"}
    assert [kept.text for kept in await store.get(HERE, ["doc.0", "doc.1"])] == ["blue plums"]
    assert (await store.statistics(HERE, ["apples", "plums"])).frequency == {"apples": 0, "plums": 1}


async def test_staging_the_same_ids_again_replaces_them(store: MemoryStore) -> None:
    await store.stage(HERE, "doc", "1", [await record("a", "first"), await record("a", "second")])
    await store.stage(HERE, "doc", "1", [await record("a", "third")])
    await store.publish(HERE, "doc", "1", 1)
    assert [kept.text for kept in await store.get(HERE, ["a"])] == ["third"]
    assert (await store.statistics(HERE, ["first", "second", "third"])).frequency == {
        "first": 0,
        "second": 0,
        "third": 1,
    }


async def test_visible_version_can_be_staged_again_and_stays_as_it_is_until_published(store: MemoryStore) -> None:
    await put(store, "old text")
    await store.stage(HERE, "doc", "1", [await record("doc.0", "new text")])
    assert [kept.text for kept in await store.get(HERE, ["doc.0"])] == ["old text"]
    await store.publish(HERE, "doc", "1", 1)
    assert [kept.text for kept in await store.get(HERE, ["doc.0"])] == ["new text"]
    await store.publish(HERE, "doc", "1", 1)  # told twice, as after a lost answer
    assert [kept.text for kept in await store.get(HERE, ["doc.0"])] == ["new text"]


async def test_id_in_another_source_replaces_the_one_before(store: MemoryStore) -> None:
    await put(store, "kept", "taken", source="one")
    assert await ids(store, "taken") == {"one.0", "one.1"}
    await store.stage(HERE, "two", "1", [await record("one.1", "taken over", "two")])
    await store.publish(HERE, "two", "1", 1)
    first = (await found(store, "taken over"))[0]
    assert (first.id, first.source) == ("one.1", "two")
    assert await ids(store, "kept taken") == {"one.0", "one.1"}
    assert [kept.text for kept in await store.get(HERE, ["one.0", "one.1"])] == ["kept", "taken over"]


async def test_removing_a_source_leaves_nothing_of_it(store: MemoryStore) -> None:
    await put(store, "one", "two", source="a")
    await put(store, "three", source="b")
    await store.stage(HERE, "a", "2", [await record("a.9", "staged", "a")])
    await store.publish(HERE, "a", None, 0)
    assert await ids(store, "one two three staged") == {"b.0"}
    assert await store.get(HERE, ["a.0", "a.1", "a.9"]) == []
    with pytest.raises(IncompleteSource):
        await store.publish(HERE, "a", "2", 1)
    await store.publish(HERE, "a", None, 0)
    await store.publish(Scope("nobody", "passages"), "a", None, 0)
    await put(store, "four", source="a")
    assert await ids(store, "four") == {"a.0", "b.0"}


async def test_incomplete_source_is_refused_and_the_old_version_stays(store: MemoryStore) -> None:
    await put(store, "old")
    await store.stage(HERE, "doc", "2", [await record("doc.0", "new")])
    for version, count in (("2", 2), ("2", 0), ("3", 1), ("1", 7)):
        with pytest.raises(IncompleteSource, match="stage the source again"):
            await store.publish(HERE, "doc", version, count)
    with pytest.raises(IncompleteSource):
        await store.publish(Scope("new", "passages"), "doc", "1", 1)
    assert [kept.text for kept in await store.get(HERE, ["doc.0"])] == ["old"]
    await store.publish(HERE, "doc", "2", 1)
    assert [kept.text for kept in await store.get(HERE, ["doc.0"])] == ["new"]


async def test_version_without_records_shows_nothing(store: MemoryStore) -> None:
    await put(store, "text")
    await store.publish(HERE, "doc", "empty", 0)
    assert await found(store, "text") == []
    assert (await store.statistics(HERE, ["text"])).records == 0


NAMES = [
    "acme",
    "acme corp",
    "Acme",
    "",
    '"',
    "a' OR 1=1 --",
    "*",
    "scope : 1",
    "a\0b",
    "a",
    "\ud800",
    "ácme",
    "1",
    "2",
]


async def test_scope_never_sees_the_records_of_another(store: MemoryStore) -> None:
    scopes = [Scope(name, "passages") for name in NAMES]
    scopes += [Scope("acme", "memories"), Scope("acme", "memories", "ann"), Scope("acme", "memories", "ann b")]
    for at, scope in enumerate(scopes):
        await put(store, f"shared words number{at}", scope=scope)
    for at, scope in enumerate(scopes):
        assert len(await found(store, "shared words acme corp 1 2", scope)) == 1
        assert [kept.text for kept in await store.get(scope, ["doc.0"])] == [f"shared words number{at}"]
        assert list(await store.scores(scope, await query("shared"), ["doc.0"])) == ["doc.0"]
        statistics = await store.statistics(scope, ["shared", f"number{at}", f"number{at + 1}"])
        assert statistics.records == 1
        assert list(statistics.frequency.values()) == [1, 1, 0]
    await store.publish(scopes[0], "doc", None, 0)
    assert [len(await found(store, "shared", scope)) for scope in scopes] == [0] + [1] * (len(scopes) - 1)


async def test_search_is_the_best_of_both_sides_best_dense_first(store: MemoryStore) -> None:
    vectors = np.eye(32, dtype=np.float32)
    label = Label("acme", "doc:a#1", 0)
    near = [
        Record(f"near{at}", "a", "", "nothing alike", (vectors[0] * (10 - at) + vectors[1] * at) / 10, label)
        for at in range(5)
    ]
    worded = [
        Record(f"word{at}", "a", "", "zebra " * (5 - at) + "pad " * at, vectors[5 + at], label) for at in range(4)
    ]
    await store.stage(HERE, "a", "1", [*worded, *near])
    await store.publish(HERE, "a", "1", 9)
    asked = Query("zebra", vectors[0])
    hits = await store.search(HERE, asked, 2)
    assert {hit.id for hit in hits} == {"near0", "near1", "word0", "word1"}
    assert [hit.score.dense for hit in hits] == sorted((hit.score.dense for hit in hits), reverse=True)
    assert [(hit.id, hit.score.dense, hit.score.words) for hit in hits[:2]] == [
        ("near0", pytest.approx(1.0), 0.0),
        ("near1", pytest.approx(0.9), 0.0),
    ]
    words = {hit.id: hit.score.words for hit in hits}
    assert words["word0"] > words["word1"] > 0
    assert await store.search(HERE, asked, 0) == []
    assert len(await store.search(HERE, asked, 1000)) == 9
    scores = await store.scores(HERE, asked, ["word3", "near0", "word0", "missing"])
    assert set(scores) == {"word3", "near0", "word0"}
    assert 0 < scores["word3"].words < words["word1"]
    assert all(scores[hit.id] == hit.score for hit in hits if hit.id in scores)


async def test_word_score_counts_stems_titles_twice_and_parts_of_identifiers(store: MemoryStore) -> None:
    label = Label("acme", "doc:a#1", 0)
    texts = {
        "text": ("Notes", "the runner was fast"),
        "title": ("Runners", "the notes about nothing"),
        "camel": ("", "call DeleteBucket with care"),
        "snake": ("", "set max_page_count first"),
    }
    records = [Record(id, "a", title, text, await vector(text), label) for id, (title, text) in texts.items()]
    await store.stage(HERE, "a", "1", records)
    await store.publish(HERE, "a", "1", 4)

    async def words(text: str) -> dict[str, float]:
        scores = await store.scores(HERE, await query(text), list(texts))
        return {id: score.words for id, score in scores.items() if score.words}

    running = await words("Who are the runners?")
    assert set(running) == {"text", "title"}
    assert running["title"] > running["text"]
    for asked in ("deletebucket", "delete a bucket", "DeleteBucket"):
        assert set(await words(asked)) == {"camel"}
    for asked in ("max_page_count", "page", "maxPageCount"):
        assert set(await words(asked)) == {"snake"}
    assert await words("the of and who") == {}


async def test_statistics_count_visible_records_by_stem(store: MemoryStore) -> None:
    await put(store, "cats purr", "a cat sleeps", "dogs bark", source="one")
    await put(store, "the dog and the cat", source="two")
    statistics = await store.statistics(HERE, ["cat", "cats", "dogs", "bird", "", "the", '"*', "dog's"])
    assert statistics.records == 4
    assert statistics.frequency == {
        "cat": 3, "cats": 3, "dogs": 2, "bird": 0, "": 0, "the": 0, '"*': 0, "dog's": 2,
    }  # fmt: skip
    await put(store, "birds sing", source="three")
    assert (await store.statistics(HERE, ["bird", "cat"])).frequency == {"bird": 1, "cat": 3}
    assert (await store.statistics(Scope("nobody", "passages"), ["cat"])).frequency == {"cat": 0}


async def test_a_foreseen_search_finds_what_any_other_finds_and_what_came_since(store: MemoryStore) -> None:
    await put(store, "cats purr", "dogs bark", source="one")
    asked = await query("purring cats")
    plain = await store.search(HERE, asked, 5)
    await store.foresee(HERE, asked.text)
    await store.foresee(Scope("nobody", "passages"), asked.text)
    assert await store.search(HERE, asked, 5) == plain
    await put(store, "a cat that purrs", source="two")
    assert len(await store.search(HERE, asked, 5)) == len(plain) + 1


async def test_nothing_asked_gives_nothing(store: MemoryStore) -> None:
    asked = await query("anything")
    nowhere = Scope("nobody", "passages")
    assert await store.search(nowhere, asked, 10) == []
    assert await store.get(nowhere, ["a"]) == []
    assert await store.scores(nowhere, asked, ["a"]) == {}
    await store.stage(HERE, "doc", "1", [])
    await put(store, "something")
    assert await store.get(HERE, []) == []
    assert await store.scores(HERE, asked, []) == {}
    assert (await store.statistics(HERE, [])).records == 1
    assert await ids(store, "") == {"doc.0"}


HOSTILE = [
    '"', "'", "*", "(", ")", "NEAR(a b)", "a AND", "OR OR", "body:x", "-x", "^a", "a\0b", "\ud800", "{a b}", "%", "\\",
    "; DROP TABLE memory_records", "日本語", "🙂", "x" * 100_000, "word " * 50_000,
    " ".join(f"w{n}" for n in range(5000)),
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_no_query_text_can_break_a_search(store: MemoryStore, text: str) -> None:
    await put(store, "some ordinary words w1", text[:3000] + " and more", source='it\'s "a" source*')
    assert len(await found(store, text)) == 2
    await store.statistics(HERE, [text])


async def test_ten_thousand_records_are_all_found_and_a_tenth_of_them_removed(store: MemoryStore) -> None:
    made = np.random.default_rng(0).standard_normal((10_000, 32)).astype(np.float32)
    vectors = made / np.linalg.norm(made, axis=1, keepdims=True)
    label = Label("acme", "doc:a#0", 0)

    async def ingest(source: int) -> None:
        records = [
            Record(f"r{at}", f"s{source}", "", f"entry number{at} about topic{at % 10}", vectors[at], label)
            for at in range(1000 * source, 1000 * (source + 1))
        ]
        with patience():
            await store.stage(HERE, f"s{source}", "1", records)
            await store.publish(HERE, f"s{source}", "1", 1000)

    await asyncio.gather(*(ingest(source) for source in range(10)))
    statistics = await store.statistics(HERE, ["entry", "topic3", "number7"])
    assert (statistics.records, statistics.frequency) == (10_000, {"entry": 10_000, "topic3": 1000, "number7": 1})
    for at in (0, 777, 9999):
        hits = await store.search(HERE, Query(f"entry number{at}", vectors[at]), 5)
        assert hits[0].id == max(hits, key=lambda hit: hit.score.words).id == f"r{at}"
        assert hits[0].score.dense == pytest.approx(1, abs=1e-5)
    wanted = [f"r{at}" for at in range(0, 10_000, 30)]
    assert [kept.id for kept in await store.get(HERE, wanted)] == wanted
    assert len(await store.scores(HERE, Query("entry", vectors[0]), wanted)) == len(wanted)
    assert len(await store.search(HERE, Query("topic3", vectors[0]), 1000)) >= 1000
    await store.publish(HERE, "s3", None, 0)
    assert (await store.statistics(HERE, ["topic3"])) == Statistics(9000, {"topic3": 900})
    assert await store.get(HERE, ["r3000", "r3999"]) == []
    assert "s3" not in {hit.source for hit in await store.search(HERE, Query("topic3", vectors[3333]), 500)}


async def test_names_of_every_script_are_kept_apart(store: MemoryStore) -> None:
    names = [*(name for name in NAMES if name), "日本語", "🙂", "n\n", "a" * 300]
    for name in names:
        await store.stage(HERE, name, name, [await record(name, "shared words", name)])
        await store.publish(HERE, name, name, 1)
    assert {hit.id for hit in await found(store, "shared", limit=50)} == set(names)
    for name in names:
        (kept,) = await store.get(HERE, [name])
        assert (kept.id, kept.source) == (name, name)
    for at, name in enumerate(names):
        await store.publish(HERE, name, None, 0)
        assert (await store.statistics(HERE, [])).records == len(names) - at - 1


async def test_vector_of_another_size_is_refused(store: MemoryStore) -> None:
    good = await record("a", "text")
    wrong = Record("b", "doc", "", "text", np.ones(3, np.float32), good.label)
    endless = Record("b", "doc", "", "text", np.full(32, np.nan, np.float32), good.label)
    parts = PartVectors(np.zeros((2, 3), np.int8), np.ones(2, np.float32))
    with_parts = Record("b", "doc", "", "text", good.vector, good.label, parts=parts)
    for bad in (wrong, endless, with_parts):
        with pytest.raises(ValueError, match="vector"):
            await store.stage(HERE, "doc", "1", [good, bad])
    with pytest.raises(ValueError, match="shape"):
        await store.search(HERE, Query("text", np.ones(3, np.float32)), 5)


async def test_record_of_another_source_or_tenant_is_refused(store: MemoryStore) -> None:
    for bad in (await record("a", "text", source="other"), await record("a", "text", tenant="other")):
        with pytest.raises(ValueError, match="belongs to"):
            await store.stage(HERE, "doc", "1", [bad])


async def test_many_writers_and_readers_at_once_lose_nothing(backend: Backend) -> None:
    stores = [await backend.open() for _ in range(3)]

    async def write(store: MemoryStore, source: str) -> None:
        await put(store, f"{source} first", f"{source} second", source=source)
        assert {f"{source}.0", f"{source}.1"} <= await ids(store, source)

    async def read(store: MemoryStore) -> None:
        for _ in range(10):
            for hit in await found(store, "first second", limit=50):
                assert hit.id.startswith(hit.source)

    async with asyncio.TaskGroup() as group:
        for at in range(24):
            group.create_task(write(stores[at % 3], f"source{at}"))
        for store in stores:
            group.create_task(read(store))
    for store in stores:
        assert (await store.statistics(HERE, ["first"])).frequency == {"first": 24}
        assert len(await found(store, "first", limit=100)) == 48


async def test_what_another_has_published_is_seen_by_the_next_call(backend: Backend) -> None:
    reader, writer = await backend.open(), await backend.open()
    for number in range(3):  # from a scope that the reader has seen empty, then with one version and with the next
        await reader.foresee(HERE, "alpha")
        for _ in range(2):
            before = await reader.get(HERE, ["doc.0"])
            assert [each.text for each in before] == ([f"alpha {number - 1}"] if number else [])
        await put(writer, f"alpha {number}", version=str(number))
        assert len(await found(reader, "alpha")) == 1
        assert [each.text for each in await reader.get(HERE, ["doc.0"])] == [f"alpha {number}"]
    await writer.publish(HERE, "doc", None, 0)
    assert await found(reader, "alpha") == []


async def test_same_source_staged_by_two_at_once_is_whole_in_the_end(backend: Backend) -> None:
    stores = [await backend.open(), await backend.open()]

    async def ingest(store: MemoryStore, version: str) -> None:
        for _ in range(20):
            try:
                await put(store, f"{version} one", f"{version} two", version=version)
            except IncompleteSource:
                continue
            return
        raise AssertionError("the other one always won")

    await asyncio.gather(ingest(stores[0], "a"), ingest(stores[1], "b"))
    kept = await stores[0].get(HERE, ["doc.0", "doc.1"])
    assert [each.text for each in kept] in (["a one", "a two"], ["b one", "b two"])


async def test_search_sees_the_old_version_or_the_new_one_never_both(backend: Backend) -> None:
    writer, *readers = [await backend.open() for _ in range(3)]
    sizes = [3, 5]
    await put(writer, *(["v0 alpha"] * 3), version="v0")
    done = asyncio.Event()
    seen: set[str] = set()

    async def publish() -> None:
        for number in range(1, 25):
            await put(writer, *([f"v{number} alpha"] * sizes[number % 2]), version=f"v{number}")
        done.set()

    async def look(store: MemoryStore) -> None:
        asked = await query("alpha")
        while not done.is_set():
            hits = await store.search(HERE, asked, 20)
            assert len(hits) in sizes
            if not isinstance(backend, WeaviateServer):  # 1.35 ranks only part of the words that it has not flushed
                assert all(hit.score.words > 0 for hit in hits)  # words and vectors of one version
            kept = {each.text for each in await store.get(HERE, [f"doc.{at}" for at in range(5)])}
            assert len(kept) == 1
            seen.update(kept)

    async with asyncio.TaskGroup() as group:
        group.create_task(publish())
        for store in readers:
            group.create_task(look(store))
    assert len(seen) > 1


async def test_cancelled_staging_leaves_nothing_visible_and_can_be_done_again(store: MemoryStore) -> None:
    records = [await record(f"r{at}", f"text {at}") for at in range(300)]
    task = asyncio.create_task(store.stage(HERE, "doc", "1", records))
    while (await store.statistics(HERE, [])).records == 0 and not task.done():
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await found(store, "text") == []
    await store.stage(HERE, "doc", "1", records)
    await store.publish(HERE, "doc", "1", 300)
    assert (await store.statistics(HERE, [])).records == 300


async def test_cancelled_publishing_is_done_or_not_and_can_be_done_again(store: MemoryStore) -> None:
    await put(store, *(["old"] * 100))
    for turn in range(12):
        await store.stage(HERE, "doc", f"n{turn}", [await record("doc.0", f"new{turn}")])
        task = asyncio.create_task(store.publish(HERE, "doc", f"n{turn}", 1))
        for _ in range(turn):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        before = await store.get(HERE, ["doc.0"])
        assert len(before) == 1
        await store.publish(HERE, "doc", f"n{turn}", 1)
        assert [kept.text for kept in await store.get(HERE, ["doc.0"])] == [f"new{turn}"]
        assert await ids(store, "old new") == {"doc.0"}


async def test_every_method_can_be_cancelled_at_any_moment_and_asked_again(store: MemoryStore) -> None:
    await put(store, *(f"text number{at}" for at in range(60)))
    asked = await query("text number7")
    new = [await record(f"new{at}", f"text {at}", "new") for at in range(60)]
    calls: list[Callable[[], Coroutine[object, object, object]]] = [
        lambda: store.search(HERE, asked, 20),
        lambda: store.scores(HERE, asked, ["doc.1", "doc.7"]),
        lambda: store.get(HERE, ["doc.1", "doc.7"]),
        lambda: store.statistics(HERE, ["number7"]),
        lambda: store.foresee(HERE, "text number8"),
        lambda: store.stage(HERE, "new", "1", new),
        lambda: store.publish(HERE, "new", "1", 60),
        lambda: store.publish(HERE, "new", None, 0),
    ]
    loop = asyncio.get_running_loop()
    for call in calls:
        began = loop.time()
        first = str(await call())
        took = loop.time() - began
        for part in range(6):
            task = asyncio.create_task(call())
            await asyncio.wait({task}, timeout=took * part / 5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert str(await call()) == first
        assert [kept.text for kept in await store.get(HERE, ["doc.7"])] == ["text number7"]
    assert (await store.statistics(HERE, [])).records == 60


async def test_cancelled_search_harms_no_other(store: MemoryStore) -> None:
    await put(store, *(f"text {at}" for at in range(50)))
    searches = [asyncio.create_task(found(store, "text")) for _ in range(20)]
    await asyncio.sleep(0)
    for task in searches[::2]:
        task.cancel()
    results = await asyncio.gather(*searches, return_exceptions=True)
    assert all(isinstance(result, list) and len(result) >= 10 for result in results[1::2])
    assert len(await found(store, "text")) >= 10


async def test_store_can_be_closed_twice_and_what_it_published_stays(backend: Backend) -> None:
    store = await backend.open()
    await put(store, "text")
    await store.close()
    await store.close()
    assert await ids(await backend.open(), "text") == {"doc.0"}


async def test_every_method_says_so_when_the_backend_is_gone(store: MemoryStore, backend: Backend) -> None:
    await put(store, "text")
    await backend.lose()
    asked = await query("text")
    for call in (
        store.stage(HERE, "doc", "2", [await record("a", "text")]),
        store.publish(HERE, "doc", None, 0),
        store.foresee(HERE, "text"),
        store.search(HERE, asked, 5),
        store.scores(HERE, asked, ["doc.0"]),
        store.get(HERE, ["doc.0"]),
        store.statistics(HERE, ["text"]),
    ):
        with pytest.raises(MemoryUnavailable, match=r"\w+ \w+"):
            await call


CHILD = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[2])
import test_store_contract as contract

async def main():
    store = await contract.BACKENDS[sys.argv[3]](Path(sys.argv[4])).open()
    start = int(sys.argv[5])
    for number in range(start, start + int(sys.argv[6])):
        await contract.put(store, f"text {number} one", f"text {number} two", source=f"s{number}", version="a")
        if number % 3 == 0:
            await contract.put(store, f"text {number} new", source=f"s{number}", version="b")
        print(number, flush=True)

asyncio.run(main())
"""


async def child(name: str, folder: Path, start: int, count: int) -> asyncio.subprocess.Process:
    """A process that publishes sources and prints the number of each that was acknowledged."""
    tests = Path(__file__).parent
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(tests.parent.parent), str(tests), name, str(folder), str(start), str(count),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def printed(process: asyncio.subprocess.Process, lines: int) -> list[int]:
    assert process.stdout is not None
    return [int(await process.stdout.readline()) for _ in range(lines)]


def check_published(texts: Sequence[str], number: int) -> None:
    assert list(texts) == ([f"text {number} new"] if number % 3 == 0 else [f"text {number} one", f"text {number} two"])


@pytest.mark.parametrize("name", IN_FULL)
async def test_what_was_acknowledged_survives_a_killed_process_and_nothing_is_half(name: str, tmp_path: Path) -> None:
    acknowledged: list[int] = []
    for turn, lines in enumerate((4, 9, 1)):
        process = await child(name, tmp_path, 1000 * turn, 1000)
        assert process.stdout is not None
        acknowledged += await printed(process, lines)
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in (await process.stdout.read()).splitlines()]
        await process.wait()
        backend = BACKENDS[name](tmp_path)
        store = await backend.open()
        await backend.check()
        for number in acknowledged:
            check_published([r.text for r in await store.get(HERE, [f"s{number}.0", f"s{number}.1"])], number)
        last = acknowledged[-1] + 1
        half = [r.text for r in await store.get(HERE, [f"s{last}.0", f"s{last}.1"])]
        assert half in ([], [f"text {last} one", f"text {last} two"], [f"text {last} new"])
        await put(store, f"text {last} again", source=f"s{last}", version="c")
        assert f"s{last}.0" in {hit.id for hit in await found(store, f"text {last} again", limit=5)}
        await store.publish(HERE, f"s{last}", None, 0)
        await backend.close()
    await BACKENDS[name](tmp_path).forget()


@pytest.mark.parametrize("name", SHARED)
async def test_processes_that_write_at_once_lose_nothing_and_a_reader_sees_it(name: str, tmp_path: Path) -> None:
    backend = BACKENDS[name](tmp_path)
    store = await backend.open()
    processes = [await child(name, tmp_path, 100 * at, 15) for at in range(2)]
    async with asyncio.timeout(60):
        for at, process in enumerate(processes):
            for number in await printed(process, 15):
                assert f"s{number}.0" in await ids(store, f"text {number}")
            assert await process.wait() == 0
            for number in range(100 * at, 100 * at + 15):
                check_published([r.text for r in await store.get(HERE, [f"s{number}.0", f"s{number}.1"])], number)
    await backend.close()
    await backend.forget()
