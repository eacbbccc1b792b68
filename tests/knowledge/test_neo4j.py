# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""What only a Neo4j server can show: schema, provenance, networks that fail, and servers that come and go."""

from __future__ import annotations

import asyncio
import gc
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
import pytest
from neo4j import AsyncDriver, AsyncGraphDatabase

from knowledge.entities import surfaces
from knowledge.graph import GraphUnavailable
from knowledge.neo4j_graph import Neo4jGraph
from knowledge.neo4j_rows import stripe
from knowledge.neo4j_statements import MIGRATIONS
from knowledge.types import Name, PassageEntry
from tests.faults import FaultProxy
from tests.services.found import service
from tests.services.instance import Instance
from tests.services.private import private
from tests.services.shared import NEO4J

T = TypeVar("T")


def entry(passage: str, title: str, *names: str) -> PassageEntry:
    return PassageEntry(passage, title, surfaces(title), tuple(Name(name, at) for at, name in enumerate(names)))


@pytest.fixture
def t() -> str:
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
def url() -> str:
    return service("neo4j")["PARLEY_KNOWLEDGE_URL"]


def at(url: str, port: int, password: str = "") -> str:
    """The URL of the same server by another port, without routing."""
    return f"bolt://neo4j:{password or urlsplit(url).password}@127.0.0.1:{port}"


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Neo4jGraph]:
    graph = Neo4jGraph(url)
    try:
        yield graph
    finally:
        await graph.close()


@asynccontextmanager
async def asking(url: str) -> AsyncGenerator[AsyncDriver]:
    parts = urlsplit(url)
    async with AsyncGraphDatabase.driver(
        f"bolt://127.0.0.1:{parts.port}", auth=("neo4j", parts.password or "")
    ) as driver:
        yield driver


@pytest.fixture
async def graph(url: str, t: str) -> AsyncIterator[Neo4jGraph]:
    """By the routing protocol, as against a cluster; its tenant is removed afterwards."""
    async with opened(url) as made:
        yield made
    async with asking(url) as driver:
        await driver.execute_query("MATCH (n {tenant: $t}) DETACH DELETE n", t=t)


@asynccontextmanager
async def behind_faults(url: str, t: str) -> AsyncGenerator[tuple[Neo4jGraph, FaultProxy]]:
    """A graph that has one document and asks through a proxy."""
    async with FaultProxy("127.0.0.1", urlsplit(url).port or 0) as proxy, opened(at(url, proxy.port)) as made:
        await made.add(t, "d", "1", [entry("p", "Marrow"), entry("q", "Sill", "Marrow")])
        yield made, proxy


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """What a call returns once the server is there for it."""
    async with asyncio.timeout(120):
        while True:
            try:
                return await call()
            except GraphUnavailable:
                await moment()


async def recovered(graph: Neo4jGraph, t: str) -> None:
    """Returns when the title is found again."""
    assert "marrow" in await patiently(lambda: graph.titles(t, ["marrow"]))


async def moment() -> None:
    """Leaves the processor to the server: what is waited for is told by nothing but asking again."""
    with anyio.move_on_after(0.1):
        await anyio.Event().wait()


@pytest.fixture(scope="module")
async def own() -> AsyncIterator[tuple[str, Instance]]:
    """The URL of a server that only this file's tests use, and the server."""
    async with private("neo4j") as (urls, server):
        yield urls["PARLEY_KNOWLEDGE_URL"], server


async def test_every_edge_carries_the_document_version_and_passage_that_it_came_from(
    graph: Neo4jGraph, url: str, t: str
) -> None:
    await graph.add(t, "songs", "1", [entry("s1", "Song", "Orla Venn", "Marrow"), entry("s2", "Reed", "Song")])
    await graph.add(t, "people", "2", [entry("v", "Orla Venn", "Song"), entry("m", "Marrow")])
    async with asking(url) as driver:
        found = await driver.execute_query(
            "MATCH (p:Passage {tenant: $t})-[r]->(s:Surface {tenant: $t}) "
            "RETURN type(r), s.text, r.document, r.version, r.passage, p.id = r.passage AS own",
            t=t,
        )
    assert sorted(list(record.values()) for record in found.records) == [
        ["NAMES", "marrow", "songs", "1", "s1", True],
        ["NAMES", "orla venn", "songs", "1", "s1", True],
        ["NAMES", "song", "people", "2", "v", True],
        ["NAMES", "song", "songs", "1", "s2", True],
        ["TITLED", "marrow", "people", "2", "m", True],
        ["TITLED", "orla venn", "people", "2", "v", True],
        ["TITLED", "reed", "songs", "1", "s2", True],
        ["TITLED", "song", "songs", "1", "s1", True],
    ]


async def test_what_another_document_supports_stays_and_the_rest_goes(graph: Neo4jGraph, url: str, t: str) -> None:
    await graph.add(t, "a", "1", [entry("a1", "Marrow", "Sill"), entry("a2", "Reed", "Marrow")])
    await graph.add(t, "b", "1", [entry("b1", "Marrow", "Reed"), entry("b2", "Sill", "Marrow")])
    await graph.forget(t, "a", None)
    async with asking(url) as driver:
        nodes = await driver.execute_query("MATCH (n {tenant: $t}) RETURN coalesce(n.id, n.text) AS name", t=t)
        edges = await driver.execute_query("MATCH ({tenant: $t})-[r]->(s) RETURN type(r), r.passage, s.text", t=t)
    assert sorted(record["name"] for record in nodes.records) == ["b1", "b2", "marrow", "sill"]
    assert sorted(list(record.values()) for record in edges.records) == [
        ["NAMES", "b2", "marrow"],
        ["TITLED", "b1", "marrow"],
        ["TITLED", "b2", "sill"],
    ]


async def test_a_batch_whose_add_was_cancelled_is_there_as_a_whole_or_not_at_all(
    graph: Neo4jGraph, url: str, t: str
) -> None:
    entries = [entry(f"p{n}", f"Marsh {n}", "Reed") for n in range(40)]
    await graph.add(t, "reed", "1", [entry("r", "Reed")])
    async with asking(url) as driver:
        for milliseconds in range(5, 60, 5):
            try:
                async with asyncio.timeout(milliseconds / 1000):
                    await graph.add(t, "d", "1", entries)
            except TimeoutError:
                pass
            found = await driver.execute_query(
                "MERGE (lock:WriteLock {stripe: $stripe}) SET lock.held = timestamp() WITH lock "
                "OPTIONAL MATCH (p:Passage {tenant: $t, document: 'd'}) "
                "OPTIONAL MATCH (p)-[r]->() RETURN count(DISTINCT p) AS passages, count(r) AS edges",
                t=t,
                stripe=stripe(t),
            )
            assert found.records[0].data() in ({"passages": 0, "edges": 0}, {"passages": 40, "edges": 80})
            await graph.forget(t, "d", None)


@pytest.mark.parametrize("password", ["wrong", "hush%20%2F%40"])
async def test_a_wrong_password_says_what_to_set_and_is_not_shown(url: str, t: str, password: str) -> None:
    async with opened(at(url, urlsplit(url).port or 0, password)) as graph:
        with pytest.raises(GraphUnavailable, match="refuses the user or password of PARLEY_KNOWLEDGE_URL") as refused:
            await graph.titles(t, ["a"])
    assert "hush" not in str(refused.value) + repr(refused.value.__cause__)


async def test_a_database_that_is_not_there_is_named_as_the_reason(url: str, t: str) -> None:
    async with opened(f"{url}/nosuchdb") as graph:
        with pytest.raises(GraphUnavailable, match="has no database of the name"):
            await graph.titles(t, ["a"])


async def test_a_slow_network_makes_the_graph_slow_and_nothing_else(url: str, t: str) -> None:
    async with behind_faults(url, t) as (graph, proxy):
        proxy.latency = 0.1
        assert "marrow" in await graph.titles(t, ["marrow"])
        assert "q" in await graph.mentions(t, ["q"])
        proxy.latency, proxy.bytes_per_second = 0.0, 20_000
        await graph.add(t, "e", "1", [entry(f"e{n}", f"Lake {n}", "Marrow") for n in range(60)])
        assert len(await graph.titles(t, [f"lake {n}" for n in range(60)])) == 60
        await graph.forget(t, "d", None)
        await graph.forget(t, "e", None)


@pytest.mark.parametrize("fault", ["reset", "half_close"])
async def test_cut_connections_are_replaced_without_anybody_noticing(url: str, t: str, fault: str) -> None:
    async with behind_faults(url, t) as (graph, proxy):
        for _ in range(3):
            proxy.reset() if fault == "reset" else proxy.half_close()
            assert "marrow" in await graph.titles(t, ["marrow"])
            proxy.reset() if fault == "reset" else proxy.half_close()
            await graph.add(t, "d", "1", [entry("p", "Marrow"), entry("q", "Sill", "Marrow")])
        await graph.forget(t, "d", None)


async def test_a_server_that_hangs_costs_one_wait_until_it_speaks_again(url: str, t: str) -> None:
    async with behind_faults(url, t) as (graph, proxy):
        proxy.hang(True)
        async with asyncio.timeout(10):
            with pytest.raises(GraphUnavailable, match="does not answer"):
                await graph.titles(t, ["marrow"])
        accepted = proxy.accepted
        for call in (graph.titles(t, ["marrow"]), graph.mentions(t, ["q"]), graph.forget(t, "d", None)):
            with pytest.raises(GraphUnavailable, match="does not answer"):
                await call
        assert proxy.accepted == accepted
        proxy.hang(False)
        await recovered(graph, t)
        await graph.forget(t, "d", None)


async def test_a_server_that_refuses_connections_is_found_again_by_itself(url: str, t: str) -> None:
    async with behind_faults(url, t) as (graph, proxy):
        proxy.refuse(True)
        proxy.reset()
        async with asyncio.timeout(10):
            with pytest.raises(GraphUnavailable, match=r"cannot be reached|does not answer"):
                await graph.mentions(t, ["q"])
        proxy.refuse(False)
        await recovered(graph, t)
        await graph.forget(t, "d", None)


# a connection that is cancelled while it is being made is left to the collector by the driver
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_a_cancelled_search_leaves_the_graph_usable(url: str, t: str) -> None:
    async with behind_faults(url, t) as (graph, proxy):
        proxy.latency = 0.05
        for milliseconds in range(0, 200, 20):
            searching = asyncio.create_task(graph.mentions(t, ["q"]))
            await asyncio.wait([searching], timeout=milliseconds / 1000)
            searching.cancel()
            await asyncio.wait([searching])
        proxy.latency = 0.0
        assert "q" in await graph.mentions(t, ["q"])
        await graph.forget(t, "d", None)
    gc.collect()


async def test_many_readers_at_once_are_served_while_others_write(graph: Neo4jGraph, t: str) -> None:
    await graph.add(t, "d", "1", [entry("p", "Marrow"), entry("q", "Sill", "Marrow")])
    writing = [graph.add(t, f"w{n}", "1", [entry(f"w{n}", f"Lake {n}", "Marrow")]) for n in range(20)]
    reading = [graph.mentions(t, ["q"]) for _ in range(60)]
    written = asyncio.gather(*writing)
    assert all("q" in found for found in await asyncio.gather(*reading))
    await written


SUCCESS = b"\x00\x03\xb1\x70\xa0\x00\x00"


@asynccontextmanager
async def speaking(first: bytes, hello: bytes) -> AsyncGenerator[int]:
    """A server that answers a connection with `first`, its first message with `hello` and the others with success."""
    ended: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(done := asyncio.Event())
        try:
            await reader.readexactly(20)
            writer.write(first)
            answer = hello
            while True:
                while size := int.from_bytes(await reader.readexactly(2)):
                    await reader.readexactly(size)
                writer.write(answer)
                answer = SUCCESS
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            done.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    for done in ended:
        await done.wait()


async def test_a_server_of_an_older_version_is_refused_with_the_one_that_is_needed(t: str) -> None:
    fields = b"\xa2\x86server\x8cNeo4j/5.13.0\x8dconnection_id\x86bolt-1"
    hello = (len(fields) + 2).to_bytes(2) + b"\xb1\x70" + fields + b"\x00\x00"
    async with speaking(b"\x00\x00\x04\x05", hello) as port, opened(f"bolt://neo4j:pw@127.0.0.1:{port}") as graph:
        with pytest.raises(GraphUnavailable, match=r"is Neo4j/5.13.0: Neo4j 5.26 or newer is needed"):
            await graph.titles(t, ["a"])


@pytest.mark.parametrize("first", [b"HTTP", b"\x00\x00\x00\x00", b"\x00\x00\x00\x09", b"no"])
async def test_a_server_that_is_no_neo4j_is_unavailable(t: str, first: bytes) -> None:
    async with speaking(first, b"") as port, opened(f"bolt://neo4j:pw@127.0.0.1:{port}") as graph:
        with pytest.raises(GraphUnavailable, match=rf"Neo4j at 127.0.0.1:{port} "):
            await graph.titles(t, ["a"])


async def test_replicas_that_start_together_on_an_empty_server_make_its_schema_once(
    own: tuple[str, Instance], t: str
) -> None:
    url, _ = own
    graphs = [Neo4jGraph(url) for _ in range(6)]

    async def add(number: int) -> None:
        entries = [entry(f"p{number}", "Marrow")]
        await patiently(lambda: graphs[number].add(t, f"d{number}", "1", entries))

    await asyncio.gather(*map(add, range(6)))
    assert len((await patiently(lambda: graphs[0].titles(t, ["marrow"])))["marrow"]) == 6
    for graph in graphs:
        await graph.close()
    async with asking(url) as driver:
        made = await driver.execute_query("SHOW INDEXES YIELD name WHERE name STARTS WITH 'parley' RETURN name")
        assert len(made.records) == 6
        versions = await driver.execute_query("MATCH (v:SchemaVersion) RETURN v.version AS version")
        assert [record["version"] for record in versions.records] == [len(MIGRATIONS)]


async def test_newer_servers_that_this_machine_can_run_do_the_same(t: str) -> None:
    for kind in NEO4J:
        if kind.name == "neo4j":
            continue  # all other tests run on it
        async with private(kind.name) as (urls, _), opened(urls["PARLEY_KNOWLEDGE_URL"]) as graph:
            entries = [entry("p", "Ulric, Duke of Marrow"), entry("q", "Sill", "Ulric", "the Reed")]
            await patiently(lambda graph=graph, entries=entries: graph.add(t, "d", "1", entries))
            await patiently(lambda graph=graph: graph.add(t, "e", "1", [entry("r", "Reed")]))
            assert "ulric" in await patiently(lambda graph=graph: graph.titles(t, ["ulric"]))
            found = await patiently(lambda graph=graph: graph.mentions(t, ["q"]))
            assert {each.surface: each.targets[0].passage for each in found["q"]} == {"ulric": "p", "reed": "r"}
            about = await patiently(lambda graph=graph: graph.entity(t, "Reed"))
            assert about is not None
            assert about.passages == ("r", "q")
            await graph.forget(t, "e", None)
            assert "q" in await graph.mentions(t, ["q"])
            await graph.forget(t, "d", None)
            async with asking(urls["PARLEY_KNOWLEDGE_URL"]) as driver:
                left = await driver.execute_query("MATCH (n) WHERE NOT n:SchemaVersion AND NOT n:WriteLock RETURN n")
            assert left.records == []


async def test_a_schema_that_was_made_but_not_noted_is_made_again_and_a_newer_one_is_refused(
    own: tuple[str, Instance], t: str
) -> None:
    url, _ = own
    async with opened(url) as graph, asking(url) as driver:
        await patiently(lambda: graph.add(t, "d", "1", [entry("p", "Marrow")]))
        await driver.execute_query("MATCH (v:SchemaVersion) SET v.version = 0")
        async with opened(url) as again:
            await patiently(lambda: again.forget(t, "none", None))
            await recovered(again, t)
        await driver.execute_query("MATCH (v:SchemaVersion) SET v.version = 99")
        async with opened(url) as older:
            with pytest.raises(GraphUnavailable, match="schema 99 of a newer Parley"):
                await older.titles(t, ["marrow"])
            with pytest.raises(GraphUnavailable, match="schema 99 of a newer Parley"):
                await older.add(t, "d", "1", [entry("p", "Marrow")])
        await driver.execute_query("MATCH (v:SchemaVersion) SET v.version = $now", now=len(MIGRATIONS))


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_server_that_goes_away_under_load_is_used_again_when_it_is_back_and_has_lost_nothing(
    own: tuple[str, Instance], t: str, end: str
) -> None:
    url, server = own
    async with opened(url) as graph:
        await patiently(lambda: graph.add(t, "d", "1", [entry("p", "Marrow")]))
        acknowledged: list[str] = []
        busy, down = asyncio.Event(), asyncio.Event()

        async def write(writer: int) -> None:
            number = 0
            while not down.is_set():
                title = f"Lake {writer} {number}"
                await moment()
                try:
                    await graph.add(t, title, "1", [entry(title, title, "Marrow")])
                except GraphUnavailable:
                    continue
                acknowledged.append(title)
                number += 1
                if number == 5:
                    busy.set()

        async def search() -> None:
            while not down.is_set():
                await moment()
                with suppress(GraphUnavailable):
                    assert "marrow" in await graph.titles(t, ["marrow"])

        async with asyncio.timeout(180):
            async with asyncio.TaskGroup() as load:
                for work in (write(0), write(1), search(), search()):
                    load.create_task(work)
                await busy.wait()
                await (server.stop() if end == "stop" else server.kill())
                down.set()
            with pytest.raises(GraphUnavailable):
                await graph.titles(t, ["marrow"])
        await server.start()
        await recovered(graph, t)
        found = await patiently(lambda: graph.titles(t, [title.lower() for title in acknowledged]))
        assert len(found) == len(acknowledged)
