"""Chroma as a server: what happens when it goes, hangs, is slow, refuses, or is something else."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from memory.chroma_memory import ChromaMemory
from memory.embedding import HashEmbedder
from memory.store import MemoryUnavailable
from memory.types import Label, Query, Record, Scope
from tests.faults import FaultProxy
from tests.services.instance import Instance
from tests.services.private import private

EMBEDDER = HashEmbedder(32)
HERE = Scope("acme", "passages")
GONE = 2.0
"""Seconds within which every method says that the server is gone."""


def store_at(port: int, more: str = "", token: str = "") -> ChromaMemory:
    return ChromaMemory(f"chroma://:{token}@127.0.0.1:{port}{more}", EMBEDDER.name, EMBEDDER.dimensions)


async def records(source: str, count: int) -> list[Record]:
    texts = [f"{source} text number{at}" for at in range(count)]
    vectors = await EMBEDDER.embed(texts)
    label = Label("acme", f"doc:{source}#0", 0)
    return [Record(f"{source}.{at}", source, "", texts[at], vectors[at], label) for at in range(count)]


async def put(store: ChromaMemory, source: str, count: int = 3) -> None:
    await store.stage(HERE, source, "1", await records(source, count))
    await store.publish(HERE, source, "1", count)


async def found(store: ChromaMemory, text: str = "text") -> set[str]:
    (vector,) = await EMBEDDER.embed([text])
    return {hit.id for hit in await store.search(HERE, Query(text, vector), 50)}


async def check_gone(store: ChromaMemory) -> None:
    """Every method raises within GONE seconds."""
    (vector,) = await EMBEDDER.embed(["text"])
    asked = Query("text", vector)
    calls: list[Awaitable[object]] = [
        store.stage(HERE, "new", "1", await records("new", 2)),
        store.publish(HERE, "a", None, 0),
        store.search(HERE, asked, 5),
        store.scores(HERE, asked, ["a.0"]),
        store.get(HERE, ["a.0"]),
        store.statistics(HERE, ["text"]),
        store.foresee(HERE, "text"),
    ]

    async def fails(call: Awaitable[object]) -> None:
        async with asyncio.timeout(GONE):
            with pytest.raises(MemoryUnavailable, match=r"Chroma at http://127.0.0.1:\d+ cannot be reached .*start it"):
                await call

    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(fails(call))


@asynccontextmanager
async def served() -> AsyncGenerator[tuple[Instance, int]]:
    async with private("chroma") as (urls, server):
        port = urlsplit(urls["PARLEY_TEST_CHROMA_URL"]).port
        assert port is not None
        yield server, port


async def test_store_opened_before_its_server_works_when_that_has_come() -> None:
    async with served() as (server, port):
        await server.stop()
        store = store_at(port)
        await check_gone(store)
        await server.start()
        await put(store, "a")
        assert await found(store) == {"a.0", "a.1", "a.2"}
        await store.close()


async def test_stopped_or_killed_server_is_missed_at_once_and_found_again_with_all_that_was_published() -> None:
    async with served() as (server, port):
        store = store_at(port)
        await put(store, "a")
        for end in (server.stop, server.kill):
            await end()
            await check_gone(store)
            await server.start()
            assert await found(store) == {"a.0", "a.1", "a.2"}
        await put(store, "b")
        other = store_at(port)
        assert len(await found(other)) == len(await found(store)) == 6
        await other.close()
        await store.close()


async def test_server_killed_while_sources_are_published_has_all_that_was_acknowledged_and_nothing_half() -> None:
    async with served() as (server, port):
        store = store_at(port)
        await put(store, "first", 5)
        acknowledged = ["first"]
        published = asyncio.Event()

        async def ingest(lane: int) -> None:
            for number in range(1000):
                source = f"s{lane}x{number}"
                await put(store, source, 5)
                acknowledged.append(source)
                published.set()

        lanes = [asyncio.create_task(ingest(lane)) for lane in range(3)]
        await published.wait()
        await server.kill()
        ended = await asyncio.gather(*lanes, return_exceptions=True)
        assert all(isinstance(end, MemoryUnavailable) for end in ended)
        await server.start()
        wanted = [f"{source}.{at}" for source in acknowledged for at in range(5)]
        assert [kept.id for kept in await store.get(HERE, wanted)] == wanted
        assert (await store.statistics(HERE, [])).records % 5 == 0
        await store.close()


async def test_server_that_hangs_is_missed_and_taken_up_again_when_it_speaks() -> None:
    async with served() as (_, port), FaultProxy("127.0.0.1", port) as proxy:
        store = store_at(proxy.port)
        await put(store, "a")
        proxy.hang(True)
        await check_gone(store)
        proxy.hang(False)
        proxy.reset()
        await store.publish(HERE, "a", None, 0)
        assert await found(store) == set()
        await store.close()


async def test_connections_that_are_cut_are_made_anew() -> None:
    async with served() as (_, port), FaultProxy("127.0.0.1", port) as proxy:
        store = store_at(proxy.port)
        await put(store, "a")
        for cut in (proxy.reset, proxy.half_close) * 3:
            cut()
            assert await found(store) == {"a.0", "a.1", "a.2"}
        proxy.refuse(True)
        proxy.reset()
        await check_gone(store)
        proxy.refuse(False)
        assert await found(store) == {"a.0", "a.1", "a.2"}
        await store.close()


async def test_slow_network_makes_it_slow_and_not_wrong() -> None:
    async with served() as (_, port), FaultProxy("127.0.0.1", port) as proxy:
        store = store_at(proxy.port)
        await put(store, "first", 3)
        proxy.latency = 0.15
        assert len(await found(store)) == 3
        proxy.latency, proxy.bytes_per_second = 0.0, 40_000
        await put(store, "a", 40)  # takes longer than a hanging server is given
        assert len(await store.get(HERE, [f"a.{at}" for at in range(40)])) == 40
        await store.close()


TOKEN = hashlib.sha256(b"parley").hexdigest()[:16]
ACCOUNTS = """
events {{}}
http {{
  include {{home}}/paths.conf; access_log off; client_max_body_size 64m;
  server {{
    listen 127.0.0.1:{{port}};
    location / {{
      if ($http_authorization != "Bearer {token}") {{ return 401; }}
      proxy_pass http://127.0.0.1:{server};
    }}
  }}
}}
"""
OLD = """
events {}
http {
  include {home}/paths.conf; access_log off;
  server { listen 127.0.0.1:{port}; location / { ANSWER; } }
}
"""


async def test_token_of_the_address_opens_a_guarded_server_and_a_wrong_one_is_never_shown() -> None:
    async with served() as (_, port):
        config = ACCOUNTS.format(token=TOKEN, server=port)
        async with private("nginx", config=config) as (urls, _):
            guarded = urlsplit(urls["PARLEY_TEST_NGINX_URL"]).port or 0
            store = store_at(guarded, token=TOKEN)
            await put(store, "a")
            assert len(await found(store)) == 3
            await store.close()
            for wrong in ("", "hunter2"):
                store = store_at(guarded, token=wrong)
                with pytest.raises(MemoryUnavailable, match=r"refuses the token.*PARLEY_MEMORY_URL") as refused:
                    await found(store)
                assert "hunter2" not in str(refused.value)
                await store.close()


@pytest.mark.parametrize("answer", ["return 404", "return 410", "return 200 'hello'"])
async def test_what_is_no_chroma_of_today_is_named_so(answer: str) -> None:
    async with private("nginx", config=OLD.replace("ANSWER", answer)) as (urls, _):
        store = store_at(urlsplit(urls["PARLEY_TEST_NGINX_URL"]).port or 0)
        with pytest.raises(MemoryUnavailable, match=r"no Chroma 1.0 or newer"):
            await found(store)
        await store.close()


async def test_database_that_is_not_there_is_named() -> None:
    async with served() as (_, port):
        store = store_at(port, "?database=missing")
        with pytest.raises(MemoryUnavailable, match=r"no database 'missing'.*create it"):
            await found(store)
        await store.close()
