from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings

from memory.chroma_fresh import Tasks
from memory.chroma_log import Entry, Log, Maker, State, entry_id
from memory.chroma_memory import ChromaMemory
from memory.chroma_records import Words
from memory.chroma_store import FolderChroma
from memory.chroma_words import WordIndex
from memory.embedded import SCHEMA, EmbeddedMemory
from memory.embedding import HashEmbedder
from memory.sqlite import Database
from memory.store import IncompleteSource, MemoryStore, MemoryUnavailable, OtherEmbedder
from memory.types import Label, PartVectors, Query, Record, Scope

EMBEDDER = HashEmbedder(16)
HERE = Scope("acme", "passages")
MAKER = Maker("eye", 8)


def opened(folder: Path, embedder: str = EMBEDDER.name, clock: float | None = None, scopes: int = 64) -> ChromaMemory:
    at = time.time() if clock is None else clock
    return ChromaMemory(f"chroma:{folder}", embedder, EMBEDDER.dimensions, clock=lambda: at, max_scopes=scopes)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ChromaMemory]:
    made = opened(tmp_path)
    yield made
    await made.close()


async def records(source: str, texts: Sequence[str], scope: Scope = HERE) -> list[Record]:
    vectors = await EMBEDDER.embed(texts)
    label = Label(scope.tenant, f"doc:{source}#0", 0)
    parts = PartVectors(np.ones((2, 16), np.int8), np.ones(2, np.float32))
    return [
        Record(f"{source}.{at}", source, f"title {source}", text, vectors[at], label, parts=parts)
        for at, text in enumerate(texts)
    ]


async def put(store: MemoryStore, source: str, *texts: str, version: str = "1", scope: Scope = HERE) -> None:
    await store.stage(scope, source, version, await records(source, texts, scope))
    await store.publish(scope, source, version, len(texts))


async def found(store: MemoryStore, text: str, scope: Scope = HERE, limit: int = 50) -> list[str]:
    (vector,) = await EMBEDDER.embed([text])
    return [hit.id for hit in await store.search(scope, Query(text, vector), limit)]


def rows(folder: Path) -> dict[str, list[str]]:
    """All that Chroma keeps, as text, by the last part of the collection's name."""
    client = chromadb.PersistentClient(folder, settings=Settings(anonymized_telemetry=False))
    try:
        kept: dict[str, list[str]] = {}
        for collection in client.list_collections():
            each = collection.get(include=["metadatas", "uris", "documents"])
            kept[collection.name.rpartition("-")[2]] = [
                str(row) for row in zip(each["ids"], each["metadatas"] or (), each["uris"] or (), strict=True)
            ]
        return kept
    finally:
        client.close()  # type: ignore[attr-defined]


async def test_nothing_of_a_removed_or_replaced_document_is_left_but_digests_in_the_log(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await put(store, "zanzibar", "secretive walrus", "second walrus")
    await put(store, "zanzibar", "replaced walrus", version="2")
    await store.stage(HERE, "zanzibar", "3", await records("zanzibar", ["staged walrus"]))
    await put(store, "kept", "something else")
    await store.publish(HERE, "zanzibar", None, 0)
    await store.close()
    kept = rows(tmp_path)
    assert [len(each) for name, each in kept.items() if name != "log"] == [1]
    assert len(kept["log"]) == 4
    for row in (row for each in kept.values() for row in each):
        assert "walrus" not in row
        assert "zanzibar" not in row


async def test_what_a_dead_process_left_is_deleted_after_an_hour_and_not_before(tmp_path: Path) -> None:
    now = time.time()
    for hours, left in ((0.0, 3), (0.5, 4), (1.1, 3)):
        store = opened(tmp_path, clock=now + hours * 3600)
        if not hours:
            await store.stage(HERE, "dead", "1", await records("dead", ["one", "two"]))
        await put(store, f"at {hours}", "text")
        await store.close()
        kept = rows(tmp_path)
        assert [len(each) for name, each in kept.items() if name != "log"] == [left]


async def test_only_one_store_at_a_time_may_use_a_folder(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    await put(first, "a", "text")
    with pytest.raises(MemoryUnavailable, match=r"another process uses.*run a Chroma server"):
        await found(second, "text")
    await first.close()
    assert await found(second, "text") == ["a.0"]
    await second.close()


async def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    store = opened(tmp_path / "file" / "chroma")
    with pytest.raises(MemoryUnavailable, match="check the folder's rights"):
        await found(store, "text")
    await store.close()


async def test_collection_of_another_embedder_is_refused_until_it_is_empty(tmp_path: Path) -> None:
    mine = opened(tmp_path)
    await put(mine, "a", "text")
    await mine.close()
    other = opened(tmp_path, embedder="other")
    (vector,) = await EMBEDDER.embed(["text"])
    asked = Query("text", vector)
    for call in (
        other.stage(HERE, "b", "1", await records("b", ["text"])),
        other.search(HERE, asked, 5),
        other.scores(HERE, asked, ["a.0"]),
        other.get(HERE, ["a.0"]),
        other.statistics(HERE, ["text"]),
        other.foresee(HERE, "text"),
    ):
        with pytest.raises(OtherEmbedder, match=r"made with the embedder hash/1 \(16 dimensions\).*ingest them anew"):
            await call
    with pytest.raises(IncompleteSource):
        await other.publish(HERE, "a", "1", 1)
    await other.publish(HERE, "a", None, 0)
    await put(other, "b", "text")
    assert await found(other, "text") == ["b.0"]
    await other.close()
    assert sum(len(each) for name, each in rows(tmp_path).items() if name != "log") == 1


async def test_many_scopes_share_a_bounded_memory(tmp_path: Path) -> None:
    store = opened(tmp_path, scopes=2)
    scopes = [Scope("acme", "memories", f"user{number}") for number in range(4)]
    for number, scope in enumerate(scopes):
        await put(store, "a", *(["text"] * (number + 1)), scope=scope)
    for _ in range(2):
        for number, scope in enumerate(scopes):
            assert len(await found(store, "text", scope)) == number + 1
    await store.close()


async def test_source_replaced_many_times_keeps_finding_the_right_records(store: ChromaMemory) -> None:
    await put(store, "stays", "common words", "other words")
    for version in range(6):
        await put(store, "a", *(f"common v{version} n{at}" for at in range(400 + version)), version=f"{version}")
        assert len(await found(store, "common", limit=1000)) == 402 + version
        statistics = await store.statistics(HERE, ["common", f"v{version}", f"v{version - 1}"])
        assert list(statistics.frequency.values()) == [401 + version, 400 + version, 0]
    assert [kept.text for kept in await store.get(HERE, ["stays.0", "a.404"])] == ["common words", "common v5 n404"]


async def test_words_are_ranked_as_by_the_embedded_memory(store: ChromaMemory, tmp_path: Path) -> None:
    texts = [" ".join(f"w{(at * 7 + word * word) % (5 + word)}" for word in range(20 + at % 9)) for at in range(120)]
    database = await Database.open(tmp_path / "parley.db", [SCHEMA])
    twin = EmbeddedMemory(database, EMBEDDER.name, EMBEDDER.dimensions)
    for each in (store, twin):
        await put(each, "a", *texts)
    for text in ("w3 w11", "w17", "title w2 w19", "nothing"):
        (vector,) = await EMBEDDER.embed([text])
        asked, ids = Query(text, vector), [f"a.{at}" for at in range(120)]
        mine, theirs = await store.scores(HERE, asked, ids), await twin.scores(HERE, asked, ids)
        for id in ids:
            assert mine[id].dense == pytest.approx(theirs[id].dense, abs=1e-6)
            assert mine[id].words == pytest.approx(theirs[id].words, rel=0.03, abs=1e-5)
    await database.close()


async def test_published_records_that_somebody_deleted_are_said_to_be_missing(
    store: ChromaMemory, tmp_path: Path
) -> None:
    await put(store, "a", "one", "two")
    assert len(await found(store, "one")) == 2
    client = chromadb.PersistentClient(tmp_path, settings=Settings(anonymized_telemetry=False))
    (damaged,) = (each for each in client.list_collections() if not each.name.endswith("log"))
    damaged.delete(ids=damaged.get()["ids"])
    client.close()  # type: ignore[attr-defined]
    (vector,) = await EMBEDDER.embed(["one"])
    for call in (
        store.search(HERE, Query("one", vector), 5),
        store.scores(HERE, Query("one", vector), ["a.0"]),
        store.get(HERE, ["a.0"]),
    ):
        with pytest.raises(MemoryUnavailable, match=r"missing in Chroma; ingest the documents anew"):
            await call


async def test_source_removed_while_it_is_first_staged_must_be_staged_again(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.stage(HERE, "a", "1", await records("a", ["text"]))
    await store.publish(HERE, "a", None, 0)
    with pytest.raises(IncompleteSource):
        await store.publish(HERE, "a", "1", 1)
    await store.publish(HERE, "a", None, 0)
    await put(store, "a", "text")
    assert await found(store, "text") == ["a.0"]
    await store.close()
    assert len(rows(tmp_path)["log"]) == 2


def entry(source: str, base: str, generation: str = "g", maker: Maker = MAKER) -> Entry:
    return Entry(entry_id(), source, generation, "v", 1, base, maker.embedder, maker.dimensions, 0.0)


def test_of_two_that_follow_the_same_entry_the_first_counts() -> None:
    state = State()
    first, second, third = entry("a", ""), entry("a", ""), entry("b", "")
    assert [state.take(each) for each in (first, second, third)] == [True, False, True]
    after = entry("a", first.id)
    assert state.take(after)
    assert not state.take(replace(entry("a", second.id)))
    assert (state.live("a"), state.live("b")) == (after, third)
    assert (state.before(third), state.before(after), state.before(first)) == (set(), {"g"}, set())
    assert state.earlier["a"] == [first.id]
    removal = entry("a", after.id, generation="")
    assert state.take(removal)
    assert state.live("a") is None
    assert not state.take(entry("a", after.id))
    assert state.take(entry("a", removal.id))


def test_of_two_embedders_that_publish_at_once_the_first_counts() -> None:
    state, other = State(), Maker("other", 4)
    mine = entry("a", "")
    assert state.take(mine)
    assert not state.take(entry("b", "", maker=other))
    assert state.conflict(other) == MAKER
    assert state.take(entry("a", mine.id, maker=other))  # replaces the only one
    assert state.conflict(other) is None


async def test_log_that_was_trimmed_is_read_anew_and_says_the_same(tmp_path: Path) -> None:
    chroma, tasks = FolderChroma(tmp_path), Tasks()
    writer, behind = (Log(chroma, "scope", "passages", MAKER, tasks, kept=5) for _ in range(2))
    stays, gone = entry("stays", ""), entry("gone", "")
    assert [await writer.add(each) for each in (stays, gone)] == [True, True]
    assert await writer.add(entry("gone", gone.id, generation=""))
    assert len((await behind.read()).sources) == 2
    last = ""
    for _ in range(6):
        made = entry("a", last)
        assert await writer.add(made)
        assert not await writer.add(entry("a", "elsewhere"))
        last = made.id
        await writer.trim(0.0)
    after = entry("stays", stays.id)
    assert await writer.add(after)
    for log in (writer, behind, Log(chroma, "scope", "passages", MAKER, tasks)):
        state = await log.read()
        live = {source: each.id for source, each in state.sources.items() if each.generation}
        assert live == {"a": last, "stays": after.id}
        assert state.position < 12
    removed = [entry(f"r{number}", "", generation="") for number in range(6)]
    assert all([await writer.add(each) for each in removed])
    for _ in range(2):
        await writer.trim(10_000.0)
        await writer.trim(10_000.0)
    assert set((await behind.read()).sources) <= {"a", "stays", "gone", *(each.source for each in removed)}
    assert (await behind.read()).live("stays") == after
    await tasks.close(1.0)
    await chroma.close()


def test_word_index_without_dead_positions_scores_as_one_that_never_had_them() -> None:
    texts = [{f"t{at % 3}": 1 + at % 2, f"u{at}": 1} for at in range(30)]
    words = [Words(f"r{at}", f"{at}", "s", sum(counts.values()), counts) for at, counts in enumerate(texts)]
    alive = np.array([at % 4 != 1 for at in range(30)])
    whole, fresh = WordIndex(), WordIndex()
    whole.add(words)
    fresh.add([each for each, lives in zip(words, alive, strict=True) if lives])
    small = whole.without(~alive)
    every = np.ones(fresh.size, np.bool_)
    for text in ("t1", "t0 u8", "u9", "missing"):
        np.testing.assert_allclose(small.scores(text, every), fresh.scores(text, every))
        np.testing.assert_allclose(whole.scores(text, alive)[alive], fresh.scores(text, every))
        assert whole.frequency(text, alive) == small.frequency(text, every) == fresh.frequency(text, every)
    assert (small.size, small.postings) == (fresh.size, fresh.postings)


async def test_cancelled_publishing_still_deletes_what_it_replaced(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await put(store, "a", *(f"old {at}" for at in range(50)))
    await store.stage(HERE, "a", "2", await records("a", ["new"]))
    task = asyncio.create_task(store.publish(HERE, "a", "2", 1))
    while [kept.text for kept in await store.get(HERE, ["a.0"])] != ["new"]:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await put(store, "b", "text")
    await store.close()
    assert [len(each) for name, each in rows(tmp_path).items() if name != "log"] == [2]
