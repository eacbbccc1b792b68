"""What only Weaviate has to keep: its address, tenants, leftovers of dead processes, large sources."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest

from memory.embedding import HashEmbedder
from memory.store import IncompleteSource, MemoryStore, OtherEmbedder
from memory.types import Label, PartVectors, Query, Record, Scope
from memory.weaviate_address import Address, parse_address
from memory.weaviate_memory import WeaviateMemory
from memory.weaviate_rows import Object, Room, Where, generation_of, hashed, objects, prepare, uuid_of
from memory.weaviate_schema import CHANGES, RECORDS, collection_of
from memory.weaviate_state import change_object, room_object, staged
from memory.weaviate_store import Place, Server
from memory.weaviate_writing import SWEEP_AFTER
from tests.memory.weaviate_backend import EMBEDDER, WeaviateServer

HERE = Scope("acme", "passages")
ANN = Scope("acme", "memories", "ann")


@pytest.fixture
async def store(weaviate: WeaviateServer) -> MemoryStore:
    return await weaviate.open()


async def record(id: str, text: str, source: str = "doc", tenant: str = "acme") -> Record:
    return Record(id, source, "", text, (await EMBEDDER.embed([text]))[0], Label(tenant, f"doc:{source}#0", 0))


async def put(store: MemoryStore, *texts: str, scope: Scope = HERE, source: str = "doc", version: str = "1") -> None:
    records = [await record(f"{source}.{at}", text, source, scope.tenant) for at, text in enumerate(texts)]
    await store.stage(scope, source, version, records)
    await store.publish(scope, source, version, len(records))


async def ids(store: MemoryStore, text: str, scope: Scope = HERE, limit: int = 10) -> set[str]:
    hits = await store.search(scope, Query(text, (await EMBEDDER.embed([text]))[0]), limit)
    return {hit.id for hit in hits}


def test_address_has_the_key_as_its_password_and_two_ports() -> None:
    assert parse_address("weaviate://:a%2Fb%40c@db.example:8080?grpc=50051") == Address(
        "db.example", 8080, 50051, key="a/b@c"
    )
    assert parse_address("weaviate://db:443?grpc=444&secure=true&prefix=Two") == Address("db", 443, 444, True, "Two")
    assert "a/b@c" not in repr(parse_address("weaviate://:a%2Fb%40c@db:1?grpc=2"))


@pytest.mark.parametrize(
    "url",
    [
        "weaviate://host:8080", "weaviate://:SECRET@host?grpc=1", "weaviate://:SECRET@:80?grpc=1", "weaviate:host",
        "weaviate://:SECRET@host:80?grpc=x", "weaviate://:SECRET@host:x?grpc=1", "weaviate://:SECRET@host:80?grpc=0",
        "weaviate://:SECRET@host:80?grpc=1&more=2", "weaviate://:SECRET@host:80?grpc=1&secure=maybe",
        "weaviate://:SECRET@host:80?grpc=1&prefix=small", "weaviate://user:SECRET@host:80?grpc=1",
        "http://:SECRET@host:80?grpc=1", "weaviate://:SECRET@host:80/path?grpc=1",
    ],
)  # fmt: skip
def test_address_of_another_form_is_refused_with_the_form_and_without_the_key(url: str) -> None:
    with pytest.raises(ValueError, match=r"weaviate://\[:KEY@\]HOST:PORT\?grpc=PORT") as told:
        WeaviateMemory(url, "hash", 32)
    assert "SECRET" not in str(told.value)


def test_each_tenant_has_a_name_of_its_own_that_weaviate_allows() -> None:
    names = ["acme", "Acme", "acme.corp", "acme_corp", "a" * 100, "a" * 99 + "b", "a@b", "a+b", "", "日本", "\ud800"]
    tenants = [Room.of(Scope(name, "passages")).tenant for name in names]
    assert len(set(tenants)) == len(names)
    assert all(len(tenant) <= 64 and tenant.isascii() for tenant in tenants)
    assert all(letter.isalnum() or letter in "_-" for tenant in tenants for letter in tenant)


async def test_removing_the_last_of_a_tenant_removes_the_tenant(store: MemoryStore, server: Server) -> None:
    kinds = {kind: collection_of(server, kind) for kind in (*RECORDS, CHANGES)}

    async def holding() -> set[str]:
        tenant = Room.of(HERE).tenant
        return {kind for kind, name in kinds.items() if tenant in await server.tenants(name)}

    await put(store, "a passage")
    await put(store, "a passage of another", scope=Scope("other", "passages"))
    await put(store, "a memory", scope=ANN, source="one")
    await put(store, "a memory", scope=ANN, source="two")
    assert await holding() == {"Passages", "Memories", "Changes"}
    await store.publish(HERE, "doc", None, 0)
    assert await holding() == {"Memories", "Changes"}
    await store.publish(ANN, "one", None, 0)
    assert await ids(store, "memory", ANN) == {"two.0"}
    await store.publish(ANN, "two", None, 0)
    assert await holding() == set()
    assert await ids(store, "memory", ANN) == set()
    assert await ids(store, "passage", Scope("other", "passages")) == {"doc.0"}
    await put(store, "here again")
    assert await ids(store, "again") == {"doc.0"}


async def test_finished_publishing_leaves_no_trace_but_the_records(store: MemoryStore, server: Server) -> None:
    await put(store, "one", "two")
    await put(store, "three", version="2")
    place = Room.of(HERE).tenant
    kept = await server.fetch(Place(collection_of(server, CHANGES), place), [], 100, ("what",))
    assert [row.properties["what"] for row in kept] == ["room"]
    assert await server.count(Place(collection_of(server, "Passages"), place), []) == 1


async def test_another_embedder_is_refused_until_all_is_removed(weaviate: WeaviateServer, store: MemoryStore) -> None:
    await put(store, "a passage")
    await put(store, "a memory", scope=ANN)
    other = HashEmbedder(48)
    changed = WeaviateMemory(await weaviate.url(), other.name, other.dimensions)
    weaviate.stores.append(changed)
    vectors = await other.embed(["text"])
    new = Record("a", "new", "", "text", vectors[0], Label("acme", "doc:new#0", 0))
    for call in (
        changed.search(HERE, Query("text", vectors[0]), 5),
        changed.scores(HERE, Query("text", vectors[0]), ["doc.0"]),
        changed.get(HERE, ["doc.0"]),
        changed.foresee(HERE, "text"),
        changed.statistics(HERE, ["text"]),
        changed.stage(HERE, "new", "1", [new]),
    ):
        with pytest.raises(OtherEmbedder, match=r"32 dimensions.*48.*remove all its documents"):
            await call
    await changed.publish(HERE, "doc", None, 0)
    await changed.stage(HERE, "new", "1", [new])
    await changed.publish(HERE, "new", "1", 1)
    assert [kept.id for kept in await changed.get(HERE, ["a"])] == ["a"]
    assert await ids(store, "memory", ANN) == {"doc.0"}
    with pytest.raises(OtherEmbedder):
        await store.search(HERE, Query("text", (await EMBEDDER.embed(["text"]))[0]), 5)


async def test_what_dead_processes_have_staged_stays_hidden_and_is_swept(store: MemoryStore, server: Server) -> None:
    await put(store, "seen")
    room, old = Room.of(HERE), time.time() - SWEEP_AFTER - 1
    changes, records = (
        Place(collection_of(server, CHANGES), room.tenant),
        Place(collection_of(server, "Passages"), room.tenant),
    )
    generation = generation_of(room, "dead", "1", "")
    left = replace(staged(room, "dead", generation, "1"), at=old)
    prepared = prepare(room.key, hashed("1"), [await record("d", "seen too", "dead")])
    await server.insert(changes, [change_object(room, left)])
    await server.insert(records, objects(generation, prepared))
    assert await ids(store, "seen") == {"doc.0"}
    assert (await store.statistics(HERE, ["seen"])).frequency == {"seen": 1}
    await put(store, "more", source="more")
    assert await server.count(records, []) == 2
    assert await ids(store, "seen more") == {"doc.0", "more.0"}


async def test_publication_that_a_dead_process_began_is_seen_and_finished(store: MemoryStore, server: Server) -> None:
    await put(store, "old one", "old two")
    room = Room.of(HERE)
    changes, records = (
        Place(collection_of(server, CHANGES), room.tenant),
        Place(collection_of(server, "Passages"), room.tenant),
    )
    (was, *_) = await server.fetch(records, [], 1, ("generation",))
    await store.stage(HERE, "doc", "2", [await record("doc.0", "new")])
    generation = generation_of(room, "doc", "2", was.properties["generation"])
    begun = replace(staged(room, "doc", generation, "2"), step="live", replaces=frozenset(was.properties.values()))
    await server.insert(changes, [change_object(room, begun)])  # and here it died
    assert [kept.text for kept in await store.get(HERE, ["doc.0", "doc.1"])] == ["new"]
    assert await ids(store, "old new") == {"doc.0"}
    await store.publish(HERE, "doc", "2", 1)
    assert await server.count(records, []) == 1
    await server.insert(changes, [change_object(room, replace(begun, at=0.0)), room_object(room, EMBEDDER.name, 32)])
    await put(store, "third", version="3")
    assert await ids(store, "old new third") == {"doc.0"}


async def test_two_publications_at_once_leave_one_and_tell_the_other(
    store: MemoryStore, weaviate: WeaviateServer
) -> None:
    stores = [store, await weaviate.open(), await weaviate.open()]
    for turn in range(5):
        records = [[await record("doc.0", f"turn{turn} of{at}")] for at in range(3)]
        await asyncio.gather(*(s.stage(HERE, "doc", f"{turn}.{at}", records[at]) for at, s in enumerate(stores)))
        results = await asyncio.gather(
            *(s.publish(HERE, "doc", f"{turn}.{at}", 1) for at, s in enumerate(stores)), return_exceptions=True
        )
        assert all(result is None or isinstance(result, IncompleteSource) for result in results)
        assert None in results
        kept = await store.get(HERE, ["doc.0"])
        assert len(kept) == 1
        assert results[int(kept[0].text[-1])] is None
        assert await ids(store, "turn") == {"doc.0"}


async def test_common_words_of_a_large_source_are_counted_in_a_sample(store: MemoryStore) -> None:
    texts = [f"entry number{at} about topic{at % 10} in part{at % 3}" for at in range(4500)]
    vectors = await EMBEDDER.embed(texts)
    label = Label("acme", "doc:big#0", 0)
    parts = PartVectors(np.ones((2, 32), np.int8), np.ones(2, np.float32))
    records = [Record(f"r{at}", "big", "", text, vectors[at], label, parts=parts) for at, text in enumerate(texts)]
    await store.stage(HERE, "big", "1", records)
    await put(store, "a small one", source="small")
    await store.publish(HERE, "big", "1", 4500)
    for at in (0, 2222, 4499):
        assert f"r{at}" in await ids(store, texts[at])
    statistics = await store.statistics(HERE, ["entry", "topic3", "number7", "small"])
    assert statistics.records == 4501
    assert statistics.frequency["number7"] == statistics.frequency["small"] == 1
    assert statistics.frequency["topic3"] == 450
    assert 2250 < statistics.frequency["entry"] <= 4501  # common words are counted in a sample
    kept = await store.get(HERE, [f"r{at}" for at in range(0, 4500, 5)])
    assert [each.text for each in kept] == texts[::5]
    await store.publish(HERE, "big", None, 0)
    assert await ids(store, "entry small") == {"small.0"}
    assert (await store.statistics(HERE, ["entry"])).frequency == {"entry": 0}


async def test_stream_stores_what_batches_store(store: MemoryStore, server: Server) -> None:
    await put(store, "makes the collections")
    place = Place(collection_of(server, "Passages"), "streamed")
    rows = [
        Object(uuid_of("streamed", str(at)), {"key": str(at), "generation": "g"}, np.ones(32, np.float32))
        for at in range(700)
    ]
    await server.insert_by_stream(place, rows)
    assert await server.count(place, [Where("generation", ["g"])]) == 700
    await server.delete(place, [Where("key", ["1", "2"])])
    assert await server.count(place, []) == 698
