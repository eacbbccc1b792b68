"""An older version of the collections becomes the present one while others read and write."""

from __future__ import annotations

import asyncio

import pytest

from memory.store import MemoryStore, MemoryUnavailable
from memory.types import Label, Query, Record, Scope
from memory.weaviate_memory import WeaviateMemory
from memory.weaviate_rows import ALL, Object, Room
from memory.weaviate_schema import VERSION, alias_of, collection_of
from memory.weaviate_store import Place, Server
from tests.memory.weaviate_backend import EMBEDDER, WeaviateServer

HERE, THERE = Scope("acme", "passages"), Scope("other", "passages")


async def put(store: MemoryStore, *texts: str, source: str, scope: Scope = HERE, version: str = "1") -> None:
    vectors = await EMBEDDER.embed(texts)
    label = Label(scope.tenant, f"doc:{source}#0", 0)
    records = [Record(f"{source}.{at}", source, "", text, vectors[at], label) for at, text in enumerate(texts)]
    await store.stage(scope, source, version, records)
    await store.publish(scope, source, version, len(records))


async def found(store: MemoryStore, text: str, scope: Scope = HERE) -> set[str]:
    query = Query(text, (await EMBEDDER.embed([text]))[0])
    return {hit.id for hit in await store.search(scope, query, 5) if hit.score.words > 0}


async def make_older(server: Server) -> str:
    """Puts a collection of version 0 in the place of the present one: its objects lack what was thought of later."""
    alias, present = alias_of(server, "Passages"), collection_of(server, "Passages")
    older = f"{alias}_v0"
    await server.create(older, searchable=True)
    for tenant in await server.tenants(present):
        rows = await server.fetch(Place(present, tenant), [], 10_000, ALL, vectors=True)
        later = {"words", "sample"}
        plain = [{name: text for name, text in row.properties.items() if name not in later} for row in rows]
        objects = [Object(row.uuid, properties, row.vector) for row, properties in zip(rows, plain, strict=True)]
        await server.insert(Place(older, tenant), objects)
    await server.move_alias(alias, older)
    await server.drop(present)
    return older


async def test_older_collection_is_filled_anew_while_reads_and_writes_go_on(
    weaviate: WeaviateServer, server: Server
) -> None:
    before = await weaviate.open()
    await put(before, *(f"kept number{at}" for at in range(600)), source="kept")
    await put(before, "replaced in the middle", source="replaced")
    await put(before, "removed in the middle", source="removed")
    await put(before, "of another tenant", source="other", scope=THERE)
    older = await make_older(server)
    writer, reader = await weaviate.open(), await weaviate.open()
    alias, done = alias_of(server, "Passages"), asyncio.Event()
    written: list[str] = []

    async def write() -> None:
        await writer.stage(HERE, "half", "1", [])
        while not done.is_set() or len(written) < 5:
            number = len(written)
            await put(writer, f"written number{number}", source=f"new{number}")
            await put(writer, f"replaced for the {number} time", source="replaced", version=f"v{number}")
            if number == 3:
                await writer.publish(HERE, "removed", None, 0)
            written.append(f"new{number}.0")

    async def read() -> None:
        while not done.is_set():
            kept = await reader.get(HERE, ["kept.0", "kept.599", "replaced.0"])
            assert [each.id for each in kept] == ["kept.0", "kept.599", "replaced.0"]
            assert (await reader.get(THERE, ["other.0"]))[0].text == "of another tenant"
            query = Query("kept", (await EMBEDDER.embed(["kept number7"]))[0])
            assert len(await reader.search(HERE, query, 5)) >= 5

    async def watch() -> None:
        while (await server.aliases())[alias] == older:
            await asyncio.sleep(0)
        done.set()

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for work in (write(), read(), watch()):
            group.create_task(work)
    while older in {*(await server.aliases()).values()}:
        await asyncio.sleep(0)
    assert (await server.aliases())[alias] == collection_of(server, "Passages")
    for store in (writer, reader, before):
        assert await found(store, "kept number7") >= {"kept.7"}
        assert [each.id for each in await store.get(HERE, written)] == written
        assert [each.text for each in await store.get(HERE, ["replaced.0", "removed.0"])] == [
            f"replaced for the {len(written) - 1} time"
        ]
        assert await found(store, "removed") == set()
        assert await found(store, "another tenant", THERE) == {"other.0"}
        statistics = await store.statistics(HERE, ["kept", "written"])
        assert statistics.frequency == {"kept": 600, "written": len(written)}
        assert statistics.records == 601 + len(written)
    held = await server.count(Place(alias, Room.of(HERE).tenant), [])
    assert held == 601 + len(written)  # nothing that was replaced or removed came back with the copy


async def test_collection_of_a_newer_parley_is_refused(weaviate: WeaviateServer, server: Server) -> None:
    await put(await weaviate.open(), "text", source="doc")
    newer = f"{alias_of(server, 'Passages')}_v{VERSION + 1}"
    await server.create(newer, searchable=True)
    await server.move_alias(alias_of(server, "Passages"), newer)
    store = WeaviateMemory(weaviate.direct, EMBEDDER.name, EMBEDDER.dimensions)
    with pytest.raises(MemoryUnavailable, match=r"made by a newer Parley"):
        await found(store, "text")
    await store.close()
    await server.move_alias(alias_of(server, "Passages"), collection_of(server, "Passages"))
    await server.drop(newer)
