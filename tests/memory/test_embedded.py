from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from memory.embedded import SCHEMA, EmbeddedMemory
from memory.sqlite import Database
from memory.store import OtherEmbedder
from memory.types import Label, Query, Record, Scope, Vector

HERE = Scope("acme", "passages")
LABEL = Label("acme", "doc:a#0", 0)
VECTORS = np.eye(8, dtype=np.float32)


async def opened(folder: Path) -> Database:
    return await Database.open(folder / "parley.db", [SCHEMA])


def memory(database: Database, **limits: int) -> EmbeddedMemory:
    return EmbeddedMemory(database, "eye", 8, **limits)


def records(source: str, count: int, text: str = "text", vector: Vector = VECTORS[0]) -> list[Record]:
    return [Record(f"{source}.{at}", source, "", text, vector, LABEL) for at in range(count)]


async def put(store: EmbeddedMemory, source: str, count: int, version: str = "1", text: str = "text") -> None:
    await store.stage(HERE, source, version, records(source, count, text))
    await store.publish(HERE, source, version, count)


async def rows(database: Database) -> dict[str, int]:
    def count(db: sqlite3.Connection) -> dict[str, int]:
        tables = ("memory_records", "memory_vectors", "memory_words", "memory_generations", "memory_sources")
        return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}

    return await database.read(count)


async def age_staging(database: Database) -> None:
    await database.write(lambda db: db.execute("UPDATE memory_generations SET staged_at = staged_at - 4000").rowcount)


async def test_old_version_is_deleted_from_every_table(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    store = memory(database)
    await put(store, "a", 120)
    await put(store, "a", 3, version="2")
    expected = dict.fromkeys(("memory_records", "memory_vectors", "memory_words"), 3)
    assert await rows(database) == {**expected, "memory_generations": 1, "memory_sources": 1}
    await store.publish(HERE, "a", None, 0)
    assert set((await rows(database)).values()) == {0, 1}  # one tombstone
    await database.close()


async def test_staging_of_a_dead_process_is_swept_after_an_hour_and_not_before(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    store = memory(database)
    await store.stage(HERE, "dead", "1", records("dead", 60))
    await put(store, "a", 1)
    assert (await rows(database))["memory_records"] == 61
    await age_staging(database)
    await put(store, "b", 1)
    assert (await rows(database))["memory_records"] == 2
    await database.close()


async def test_staging_goes_on_while_it_is_added_to(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    store = memory(database)
    await store.stage(HERE, "slow", "1", records("slow", 2))
    await age_staging(database)
    await store.stage(HERE, "slow", "1", records("slow", 3)[2:])
    await put(store, "a", 1)
    await store.publish(HERE, "slow", "1", 3)
    assert (await store.statistics(HERE, [])).records == 4
    await database.close()


async def test_one_transaction_covers_a_source_and_what_others_write(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    store = memory(database)
    await put(store, "a", 2)
    async with database.transaction():
        await store.stage(HERE, "a", "2", records("a", 1))
        await store.publish(HERE, "a", "2", 1)
        await database.write(lambda db: db.executescript("") and None)
        assert (await store.statistics(HERE, [])).records == 2
    assert (await store.statistics(HERE, [])).records == 1
    assert (await rows(database))["memory_records"] == 1  # swept after the commit
    with pytest.raises(LookupError):
        async with database.transaction():
            await store.publish(HERE, "a", None, 0)
            raise LookupError
    assert (await store.statistics(HERE, [])).records == 1
    await database.close()


async def test_removals_are_not_listed_for_ever_and_a_reader_far_behind_still_follows(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    writer, behind = memory(database), memory(database)
    await put(writer, "stays", 1)
    await put(writer, "gone", 1)
    assert len(await behind.search(HERE, Query("text", VECTORS[0]), 10)) == 2
    async with database.transaction():
        await writer.publish(HERE, "gone", None, 0)
        for number in range(1100):
            await writer.stage(HERE, f"s{number}", "1", records(f"s{number}", 1))
            await writer.publish(HERE, f"s{number}", "1", 1)
            await writer.publish(HERE, f"s{number}", None, 0)
    assert [hit.id for hit in await behind.search(HERE, Query("text", VECTORS[0]), 10)] == ["stays.0"]
    assert (await rows(database))["memory_sources"] <= 1001
    await put(writer, "new", 1)
    assert {hit.id for hit in await behind.search(HERE, Query("text", VECTORS[0]), 10)} == {"stays.0", "new.0"}
    await database.close()


async def test_source_replaced_many_times_keeps_finding_the_right_rows(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    store = memory(database)
    await put(store, "stays", 3)
    for version in range(14):
        async with database.transaction():
            await store.stage(HERE, "a", f"{version}", records("a", 500 + version, vector=VECTORS[version % 8]))
            await store.publish(HERE, "a", f"{version}", 500 + version)
        hits = await store.search(HERE, Query("", VECTORS[version % 8]), 2000)
        assert sum(hit.score.dense > 0.5 for hit in hits) == 500 + version + 3 * (version % 8 == 0)
        assert len(hits) == 503 + version
    await database.close()


async def test_many_scopes_share_a_bounded_memory(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    for limits in ({"max_scopes": 2}, {"max_bytes": 1}):
        store = memory(database, **limits)
        scopes = [Scope("acme", "memories", f"user{number}") for number in range(5)]
        for number, scope in enumerate(scopes):
            await store.stage(scope, "a", "1", records("a", number + 1))
            await store.publish(scope, "a", "1", number + 1)
        for _ in range(2):
            for number, scope in enumerate(scopes):
                assert len(await store.search(scope, Query("text", VECTORS[0]), 10)) == number + 1
    await database.close()


async def test_rows_that_are_not_visible_do_not_crowd_out_those_that_are(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    store = memory(database)
    async with database.transaction():
        await store.stage(HERE, "hidden", "1", records("hidden", 1500, "rare rare rare"))
    await put(store, "seen", 3, text="rare and other words")
    hits = await store.search(HERE, Query("rare", VECTORS[1]), 10)
    assert [hit.score.words > 0 for hit in hits] == [True] * 3
    assert (await store.statistics(HERE, ["rare"])).frequency == {"rare": 3}
    await database.close()


async def test_commonest_words_are_left_out_but_never_all(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    store = memory(database)
    async with database.transaction():
        await store.stage(HERE, "a", "1", records("a", 2500, "common usual"))
        await store.publish(HERE, "a", "1", 2500)
    await put(store, "b", 1, text="common usual needle")
    alone = await store.search(HERE, Query("common usual", VECTORS[1]), 600)
    assert sum(hit.score.words > 0 for hit in alone) == 600
    scores = await store.scores(HERE, Query("common usual needle", VECTORS[1]), ["a.1", "b.0"])
    assert scores["b.0"].words > 1 > scores["a.1"].words
    frequency = (await store.statistics(HERE, ["common", "needle"])).frequency
    assert frequency == {"common": 2501, "needle": 1}
    await put(store, "c", 1, text="common")
    assert (await store.statistics(HERE, ["common"])).frequency["common"] in (2501, 2502)  # may lag
    await store.publish(HERE, "a", None, 0)
    assert (await store.statistics(HERE, ["common"])).frequency == {"common": 2}
    await database.close()


async def test_collection_of_another_embedder_is_refused_until_it_is_empty(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    mine, other = memory(database), EmbeddedMemory(database, "other/int8", 8)
    await put(mine, "a", 1)
    asked = Query("text", VECTORS[0])
    for call in (
        other.stage(HERE, "b", "1", records("b", 1)),
        other.publish(HERE, "a", "1", 1),
        other.search(HERE, asked, 5),
        other.scores(HERE, asked, ["a.0"]),
        other.get(HERE, ["a.0"]),
        other.statistics(HERE, ["text"]),
        EmbeddedMemory(database, "eye", 16).get(HERE, ["a.0"]),
    ):
        with pytest.raises(OtherEmbedder, match=r"made with the embedder eye \(8 dimensions\).*ingest them anew"):
            await call
    await other.publish(HERE, "a", None, 0)
    await other.stage(HERE, "b", "1", records("b", 1))
    await other.publish(HERE, "b", "1", 1)
    assert [hit.id for hit in await other.search(HERE, asked, 5)] == ["b.0"]
    with pytest.raises(OtherEmbedder, match="other/int8"):
        await mine.search(HERE, asked, 5)
    await database.close()


async def test_search_that_failed_while_it_read_the_vectors_is_right_afterwards(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    store = memory(database)
    asked = Query("", VECTORS[0])
    await put(store, "a", 2)
    assert len(await store.search(HERE, asked, 5)) == 2
    await put(store, "b", 2)
    await database.write(lambda db: db.execute("ALTER TABLE memory_vectors RENAME TO hidden").rowcount)
    with pytest.raises(sqlite3.OperationalError):
        await store.search(HERE, asked, 5)
    await database.write(lambda db: db.execute("ALTER TABLE hidden RENAME TO memory_vectors").rowcount)
    assert len(await store.search(HERE, asked, 5)) == 4
    await database.close()


async def test_searches_do_not_hold_up_the_event_loop_or_other_readers(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    store = memory(database)
    await put(store, "a", 300)
    searches = [asyncio.create_task(store.search(HERE, Query("text", VECTORS[0]), 50)) for _ in range(40)]
    await asyncio.sleep(0)
    assert await database.read(lambda db: db.execute("SELECT 1").fetchone()) == (1,)
    assert not all(task.done() for task in searches)
    assert all(len(hits) >= 50 for hits in await asyncio.gather(*searches))
    await database.close()
