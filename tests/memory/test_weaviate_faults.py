"""Weaviate behind a bad network, with a wrong key, of a wrong version, killed and started again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from memory.patience import patience
from memory.store import MemoryStore, MemoryUnavailable
from memory.types import Hit, Label, Query, Record, Scope
from memory.weaviate_memory import WeaviateMemory
from tests.memory.weaviate_backend import EMBEDDER, WeaviateServer, url_with
from tests.services.private import private

T = TypeVar("T")
HERE = Scope("acme", "passages")


@pytest.fixture
async def store(weaviate: WeaviateServer) -> MemoryStore:
    made = await weaviate.open()
    await put(made, "green tea", "black tea")
    return made


async def put(store: MemoryStore, *texts: str, source: str = "doc", version: str = "1") -> None:
    vectors = await EMBEDDER.embed(texts)
    records = [
        Record(f"{source}.{at}", source, "", text, vectors[at], Label("acme", f"doc:{source}#0", 0))
        for at, text in enumerate(texts)
    ]
    with patience():  # as an ingestion does
        await store.stage(HERE, source, version, records)
        await store.publish(HERE, source, version, len(records))


async def tea(store: MemoryStore) -> list[Hit]:
    return await store.search(HERE, Query("tea", (await EMBEDDER.embed(["tea"]))[0]), 10)


async def at_last(call: Callable[[], Awaitable[T]]) -> T:
    """The first answer that is no failure."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except MemoryUnavailable:
                await asyncio.sleep(0)


async def check_recovered(store: MemoryStore) -> None:
    hits = await at_last(lambda: tea(store))
    assert {"doc.0", "doc.1"} <= {hit.id for hit in hits}
    await at_last(lambda: put(store, "red wine", source="after"))
    assert [kept.text for kept in await at_last(lambda: store.get(HERE, ["after.0"]))] == ["red wine"]


async def test_server_that_hangs_is_told_from_a_slow_one_and_holds_nobody_twice(
    weaviate: WeaviateServer, store: MemoryStore
) -> None:
    for proxy in weaviate.proxies:
        proxy.hang(True)
    async with asyncio.timeout(4):  # the limit is 2 s
        with pytest.raises(MemoryUnavailable, match="start it or correct MEMORY_URL"):
            await tea(store)
    accepted = [proxy.accepted for proxy in weaviate.proxies]
    for _ in range(100):  # for a second after a failure nobody waits
        with pytest.raises(MemoryUnavailable):
            await store.get(HERE, ["doc.0"])
    assert [proxy.accepted for proxy in weaviate.proxies] == accepted
    for proxy in weaviate.proxies:
        proxy.hang(False)
    await check_recovered(store)


async def test_an_ingestion_waits_for_a_server_that_is_silent_for_some_seconds(
    weaviate: WeaviateServer, store: MemoryStore
) -> None:
    for proxy in weaviate.proxies:
        proxy.hang(True)
    writing = asyncio.create_task(put(store, "white tea", source="later"))
    assert not (await asyncio.wait({writing}, timeout=2.5))[0]  # longer than a search waits
    for proxy in weaviate.proxies:
        proxy.hang(False)
    await writing
    assert "later.0" in {hit.id for hit in await tea(store)}


@pytest.mark.parametrize("which", [0, 1], ids=["rest", "grpc"])
async def test_half_a_server_that_hangs_is_no_server(weaviate: WeaviateServer, store: MemoryStore, which: int) -> None:
    weaviate.proxies[which].hang(True)
    async with asyncio.timeout(15):  # an ingestion is given about 5 s
        with pytest.raises(MemoryUnavailable):
            await put(store, "more")
    weaviate.proxies[which].hang(False)
    await check_recovered(store)


async def test_connections_that_are_cut_harm_only_the_calls_of_that_moment(
    weaviate: WeaviateServer, store: MemoryStore
) -> None:
    for cut in ("reset", "half_close"):
        for turn in range(3):
            calls = [asyncio.create_task(tea(store)) for _ in range(6)]
            for _ in range(20 * turn):
                await asyncio.sleep(0)
            for proxy in weaviate.proxies:
                getattr(proxy, cut)()
            results = await asyncio.gather(*calls, return_exceptions=True)
            for result in results:
                assert isinstance(result, MemoryUnavailable) or (isinstance(result, list) and len(result) >= 2)
        await check_recovered(store)


async def test_refused_connections_fail_at_once_and_the_next_ones_work(
    weaviate: WeaviateServer, store: MemoryStore
) -> None:
    await weaviate.lose()
    with pytest.raises(MemoryUnavailable):
        await tea(store)
    for proxy in weaviate.proxies:
        proxy.refuse(False)
    await check_recovered(store)


async def test_slow_network_is_only_slow(weaviate: WeaviateServer, store: MemoryStore) -> None:
    for proxy in weaviate.proxies:
        proxy.latency = 0.05
    assert len(await tea(store)) == 2
    await put(store, "slow tea", source="slow")
    for proxy in weaviate.proxies:
        proxy.latency, proxy.bytes_per_second = 0.0, 30_000.0
    await put(store, *(["word " * 500] * 20), source="throttled")
    assert len(await store.get(HERE, [f"throttled.{at}" for at in range(20)])) == 20


async def test_first_call_while_the_server_is_away_fails_and_later_ones_work(weaviate: WeaviateServer) -> None:
    url = await weaviate.url()
    await weaviate.lose()
    store = WeaviateMemory(url, EMBEDDER.name, EMBEDDER.dimensions)
    weaviate.stores.append(store)
    with pytest.raises(MemoryUnavailable, match=r"cannot be reached|in time"):
        await tea(store)
    for proxy in weaviate.proxies:
        proxy.refuse(False)
    await at_last(lambda: put(store, "green tea", "black tea"))
    await check_recovered(store)


async def test_wrong_key_is_named_as_such_and_never_shown(weaviate: WeaviateServer) -> None:
    for key in ("sesame-open", ""):
        url = weaviate.direct.replace(weaviate.direct.split("@")[0], f"weaviate://:{key}")
        store = WeaviateMemory(url, EMBEDDER.name, EMBEDDER.dimensions)
        weaviate.stores.append(store)
        for call in (tea(store), put(store, "text")):
            with pytest.raises(MemoryUnavailable, match="refuses the key") as told:
                await call
            assert "sesame" not in str(told.value)


async def test_too_old_server_is_named_as_such() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        status, body = ("200 OK", json.dumps({"version": "1.30.4"})) if b"/meta" in request else ("404 Not Found", "")
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = WeaviateMemory(f"weaviate://:key@127.0.0.1:{port}?grpc={port - 1}", EMBEDDER.name, EMBEDDER.dimensions)
    with pytest.raises(MemoryUnavailable, match=r"1\.30\.4.*upgrade the server"):
        await tea(store)
    await store.close()
    server.close()
    await server.wait_closed()


async def test_killed_and_stopped_server_comes_back_whole_and_is_never_taken_for_an_empty_one() -> None:
    async with private("weaviate") as (urls, server):
        store = WeaviateMemory(url_with(urls["PARLEY_MEMORY_URL"], "Parley"), EMBEDDER.name, EMBEDDER.dimensions)
        other = WeaviateMemory(url_with(urls["PARLEY_MEMORY_URL"], "Parley"), EMBEDDER.name, EMBEDDER.dimensions)
        try:
            for number, end in enumerate((server.kill, server.stop)):
                await put(store, "green tea", "black tea", version=f"v{number}")
                publishing = asyncio.create_task(put(store, "tea of the last second", source=f"last{number}"))
                searching = [asyncio.create_task(tea(store)) for _ in range(8)]
                await end()
                results = [publishing, *searching]
                await asyncio.wait(results)
                failures = [error for each in results if (error := each.exception()) is not None]
                assert all(isinstance(error, MemoryUnavailable) for error in failures)
                with pytest.raises(MemoryUnavailable):
                    await tea(store)
                starting = asyncio.create_task(server.start())
                while not starting.done():  # every answer of a starting server is a failure or the whole truth
                    for each in (store, other):
                        try:
                            assert {"doc.0", "doc.1"} <= {hit.id for hit in await tea(each)}
                        except MemoryUnavailable:
                            await asyncio.sleep(0)
                await starting
                await check_recovered(store)
                await at_last(lambda number=number: put(store, "tea again", source=f"last{number}", version="2"))
                await at_last(lambda number=number: store.publish(HERE, f"last{number}", None, 0))
                await store.publish(HERE, "after", None, 0)
                assert {hit.id for hit in await at_last(lambda: tea(other))} == {"doc.0", "doc.1"}
        finally:
            await store.close()
            await other.close()
