# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The contract of KnowledgeGraph: titles, mentions and names of passages, for every implementation."""

from __future__ import annotations

import asyncio
import random
import secrets
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import anyio.lowlevel
import pytest
from neo4j import AsyncGraphDatabase

from knowledge.embedded_graph import EmbeddedGraph
from knowledge.entities import grams, normal, surfaces
from knowledge.graph import GraphUnavailable, KnowledgeGraph
from knowledge.mentions import COMMON
from knowledge.open import SCHEMAS, open_graph
from knowledge.types import Mention, Name, PassageEntry
from memory.sqlite import Database
from tests.faults import FaultProxy
from tests.services.found import service


def entry(passage: str, title: str, *names: str) -> PassageEntry:
    return PassageEntry(passage, title, surfaces(title), tuple(Name(name, at) for at, name in enumerate(names)))


class Backend(Protocol):
    """One place where a graph is kept, for the tests to open any number of graphs on."""

    async def start(self) -> None: ...

    async def open(self) -> KnowledgeGraph: ...

    async def lose(self) -> None:
        """Makes the place go away under the graphs opened so far."""
        ...

    async def rows(self) -> list[str]:
        """All that is kept of any tenant of this test, as text."""
        ...

    async def close(self) -> None:
        """Closes the graphs and leaves nothing of the tenants behind."""
        ...


@dataclass
class Embedded:
    tenant: str
    folder: Path
    databases: list[Database] = field(default_factory=list[Database])

    async def start(self) -> None: ...

    async def open(self) -> KnowledgeGraph:
        self.databases.append(await Database.open(self.folder / "graph.sqlite", SCHEMAS))
        return open_graph("", self.databases[-1])

    async def lose(self) -> None:
        (self.folder / "graph.sqlite").rename(self.folder / "lost.sqlite")

    async def rows(self) -> list[str]:
        def rows(connection: sqlite3.Connection) -> list[str]:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'graph_%'")
            kept = [name for (name,) in found if not name.endswith(("_data", "_idx", "_config"))]
            return [str(row) for name in kept for row in connection.execute(f"SELECT * FROM {name}")]

        return await self.databases[0].read(rows)

    async def close(self) -> None:
        for database in self.databases:
            await database.close()


@dataclass
class Neo4j:
    """The shared server, asked through a proxy that can be made to refuse."""

    tenant: str
    folder: Path
    graphs: list[KnowledgeGraph] = field(default_factory=list[KnowledgeGraph])

    async def start(self) -> None:
        self.server = urlsplit(service("neo4j")["PARLEY_KNOWLEDGE_URL"])
        self.driver = AsyncGraphDatabase.driver(
            f"bolt://127.0.0.1:{self.server.port}", auth=("neo4j", self.server.password or "")
        )
        self.proxy = await FaultProxy("127.0.0.1", self.server.port or 0).__aenter__()
        await (await self.open()).forget(self.tenant, "none", None)  # the first call of all makes the schema

    async def open(self) -> KnowledgeGraph:
        url = f"bolt://neo4j:{self.server.password}@127.0.0.1:{self.proxy.port}"
        self.graphs.append(open_graph(url, None))
        return self.graphs[-1]

    async def lose(self) -> None:
        self.proxy.refuse(True)
        self.proxy.reset()

    async def rows(self) -> list[str]:
        nodes = await self.driver.execute_query(
            "MATCH (n) WHERE n.tenant CONTAINS $t OR n.tenant = '' OR n.tenant STARTS WITH '\ufdd0' "
            "OPTIONAL MATCH (n)-[r]-() RETURN properties(n) AS node, collect(properties(r)) AS edges",
            t=self.tenant,
        )
        return [str(record.data()) for record in nodes.records]

    async def close(self) -> None:
        for graph in self.graphs:
            await graph.close()
        await self.driver.execute_query(
            "MATCH (n) WHERE toLower(n.tenant) CONTAINS $t OR n.tenant = '' OR n.tenant STARTS WITH '\ufdd0' "
            "DETACH DELETE n",
            t=self.tenant,
        )
        await self.driver.close()
        await self.proxy.__aexit__(None, None, None)


BACKENDS = {"embedded": Embedded, "neo4j": Neo4j}


@pytest.fixture
def t() -> str:
    """A tenant of this test alone."""
    return f"t{secrets.token_hex(6)}"


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, t: str, tmp_path: Path) -> AsyncIterator[Backend]:
    made: Backend = BACKENDS[str(request.param)](t, tmp_path)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def graph(backend: Backend) -> KnowledgeGraph:
    return await backend.open()


def led_to(mentions: list[Mention]) -> dict[str, set[str]]:
    return {mention.surface: {target.passage for target in mention.targets} for mention in mentions}


async def test_a_title_is_found_by_each_way_of_naming_it(graph: KnowledgeGraph, t: str) -> None:
    await graph.add(t, "d", "1", [entry("p1", "Ulric, Duke of Marrow"), entry("p2", "Ulric (film)")])
    found = await graph.titles(t, ["ulric", "ulric film", "ulric duke of marrow", "marrow"])
    assert {surface: [(t.passage, t.weight) for t in targets] for surface, targets in found.items()} == {
        "ulric": [("p2", 0.9), ("p1", 0.6)],
        "ulric film": [("p2", 1.0)],
        "ulric duke of marrow": [("p1", 1.0)],
    }


@pytest.mark.parametrize("title_first", [True, False])
async def test_a_mention_is_found_whichever_document_came_first(
    graph: KnowledgeGraph, t: str, title_first: bool
) -> None:
    documents = [
        ("a", entry("a1", "Song of the Marsh", "The Song of the Marsh", "by Orla Venn")),
        ("b", entry("b1", "Orla Venn")),
    ]
    for document, each in documents if title_first else reversed(documents):
        await graph.add(t, document, "1", [each])
    (mention,) = (await graph.mentions(t, ["a1"]))["a1"]
    assert (mention.surface, mention.sentence, [t.passage for t in mention.targets]) == ("orla venn", 1, ["b1"])


async def test_the_longest_title_wins_and_gives_way_when_it_is_forgotten(graph: KnowledgeGraph, t: str) -> None:
    await graph.add(t, "long", "1", [entry("l", "Ulric of Marrow")])
    await graph.add(t, "short", "1", [entry("s", "Marrow")])
    await graph.add(t, "text", "1", [entry("x", "Chronicle", "Ulric of Marrow")])
    assert led_to((await graph.mentions(t, ["x"]))["x"]) == {"ulric of marrow": {"l"}}
    await graph.forget(t, "long", None)
    assert led_to((await graph.mentions(t, ["x"]))["x"]) == {"marrow": {"s"}}


async def test_a_passage_does_not_mention_its_own_title(graph: KnowledgeGraph, t: str) -> None:
    await graph.add(t, "d", "1", [entry("p1", "Marrow", "Marrow"), entry("p2", "Marrow", "Marrow")])
    assert await graph.mentions(t, ["p1", "p2"]) == {}


async def test_a_mention_weighs_less_the_more_passages_share_it(graph: KnowledgeGraph, t: str) -> None:
    await graph.add(t, "b", "1", [entry("b1", "Orla Venn"), entry("b2", "Sill")])
    await graph.add(t, "a", "1", [entry("a1", "First", "Orla Venn", "Sill")])
    (two, one) = sorted((await graph.mentions(t, ["a1"]))["a1"], key=lambda mention: mention.surface)
    assert (two.weight, one.weight) == (pytest.approx(1 / 1.2), pytest.approx(0.8 / 1.2))
    await graph.add(t, "c", "1", [entry(f"c{n}", "Other", "Orla Venn") for n in range(4)])
    heavier = {mention.surface: mention.weight for mention in (await graph.mentions(t, ["a1"]))["a1"]}
    assert heavier == {"orla venn": pytest.approx(1 / 2), "sill": pytest.approx(0.8 / 1.2)}


async def test_what_nearly_every_passage_mentions_leads_nowhere(graph: KnowledgeGraph, t: str) -> None:
    await graph.add(t, "b", "1", [entry("b1", "Marrow")])
    await graph.add(t, "a", "1", [entry(f"a{n}", f"Text {n}", "Marrow") for n in range(COMMON)])
    assert "a0" in await graph.mentions(t, ["a0"])
    await graph.add(t, "c", "1", [entry("c", "One more", "Marrow")])
    assert await graph.mentions(t, ["a0"]) == {}


async def test_adding_the_same_again_changes_nothing(graph: KnowledgeGraph, t: str) -> None:
    entries = [entry("a1", "First", "Orla Venn"), entry("b1", "Orla Venn", "First")]
    await graph.add(t, "d", "1", entries)
    before = (await graph.titles(t, ["first", "orla venn"]), await graph.mentions(t, ["a1", "b1"]))
    await graph.add(t, "d", "1", entries)
    assert (await graph.titles(t, ["first", "orla venn"]), await graph.mentions(t, ["a1", "b1"])) == before


async def test_forgetting_keeps_one_version_and_only_of_that_document(graph: KnowledgeGraph, t: str) -> None:
    await graph.add(t, "d", "1", [entry("old", "Marrow")])
    await graph.add(t, "d", "2", [entry("new", "Marrow")])
    await graph.add(t, "e", "1", [entry("other", "Marrow")])
    await graph.forget(t, "d", "2")
    assert {target.passage for target in (await graph.titles(t, ["marrow"]))["marrow"]} == {"new", "other"}


async def test_forgetting_the_last_document_leaves_nothing_at_all(
    graph: KnowledgeGraph, backend: Backend, t: str
) -> None:
    await graph.add(t, "d", "1", [entry(f"p{n}", "Xylograph", "Quorndon", "Zibeline") for n in range(100)])
    await graph.add(t, "e", "1", [entry("q", "Quorndon, Duke of Zibeline", "Vexillum")])
    await graph.forget(t, "d", None)
    assert "xylograph" not in str(await backend.rows())
    await graph.forget(t, "e", None)
    assert await backend.rows() == []
    assert await graph.entity(t, "Quorndon") is None


@pytest.mark.parametrize("like", ["{} corp", "UPPER", "{}'", '{}"c', "{}*"])
async def test_a_tenant_never_sees_the_names_of_another(graph: KnowledgeGraph, t: str, like: str) -> None:
    other = t.upper() if like == "UPPER" else like.replace("{}", t)
    await graph.add(other, "d", "1", [entry("p1", "Marrow", "Sill"), entry("p2", "Sill", "Marrow")])
    await graph.add(t, "d", "1", [entry("p3", "Sill Marsh", "Marrow")])
    assert await graph.titles(t, ["marrow", "sill"]) == {}
    assert await graph.mentions(t, ["p1", "p2", "p3"]) == {}
    assert await graph.entity(t, "Sill") is None
    await graph.forget(t, "d", None)
    assert led_to((await graph.mentions(other, ["p1"]))["p1"]) == {"sill": {"p2"}}


async def test_nothing_asked_is_nothing_found(graph: KnowledgeGraph, t: str) -> None:
    await graph.add(t, "d", "1", [])
    await graph.forget(t, "none", None)
    assert await graph.titles(t, []) == {}
    assert await graph.mentions(t, ["unknown"]) == {}
    assert await graph.entity(t, "") is None
    assert await graph.entity(t, '"*" OR (') is None


async def test_names_of_any_script_and_broken_text_are_kept_apart(graph: KnowledgeGraph, t: str) -> None:
    await graph.add(t, "d", "1", [entry("p1", "Łódź"), entry("p2", "Lodz"), entry("p3", "東京")])
    await graph.add(t, "e", "1", [entry("q", "Journey", "Łódź", "東京", "broken \ud800 Name", "'s")])
    assert led_to((await graph.mentions(t, ["q"]))["q"]) == {"łódź": {"p1"}, "東京": {"p3"}}
    assert await graph.titles(t, ["\ud800"]) == {}


async def test_an_entity_knows_its_passages_and_those_it_stands_beside(graph: KnowledgeGraph, t: str) -> None:
    await graph.add(t, "venn", "1", [entry("v", "Orla Venn", "Born in Marrow")])
    await graph.add(
        t,
        "songs",
        "1",
        [
            PassageEntry(
                f"s{n}", f"Song {n}", (), (Name("Orla Venn", 0), Name("Tam Okoro and Sill", 0), Name("Reed", 1))
            )
            for n in range(3)
        ],
    )
    found = await graph.entity(t, "orla venn", limit=2)
    assert found is not None
    assert found.passages == ("v", "s0")
    assert len(found.relations) == 2
    assert {relation.object for relation in found.relations} == {"Tam Okoro", "Sill"}
    assert found.relations[0].passages == ("s0", "s1", "s2")
    assert found.relations[0].weight >= found.relations[1].weight > 0
    everyone = await graph.entity(t, "Orla Venn")
    assert everyone is not None
    assert [normal(relation.object) for relation in everyone.relations][2:] == ["born in marrow"]
    assert all(relation.subject == "Orla Venn" for relation in everyone.relations)


async def test_a_name_that_stands_alone_has_passages_but_no_relations(graph: KnowledgeGraph, t: str) -> None:
    await graph.add(t, "d", "1", [entry("p", "Notes", "Reed")])
    found = await graph.entity(t, "Reed")
    assert found is not None
    assert (found.passages, found.relations) == (("p",), ())


async def test_every_method_says_so_when_the_backend_is_gone(graph: KnowledgeGraph, backend: Backend, t: str) -> None:
    await graph.add(t, "d", "1", [entry("p", "Marrow")])
    await backend.lose()
    async with asyncio.timeout(10):
        for call in (
            graph.titles(t, ["marrow"]),
            graph.mentions(t, ["p"]),
            graph.entity(t, "Marrow"),
            graph.add(t, "d", "1", [entry("p", "Marrow")]),
            graph.forget(t, "d", None),
        ):
            with pytest.raises(GraphUnavailable, match=r"\w+ \w+"):
                await call


async def test_writers_at_once_lose_nothing(graph: KnowledgeGraph, backend: Backend, t: str) -> None:
    other = await backend.open()
    await asyncio.gather(
        *(graph.add(t, f"a{n}", "1", [entry(f"a{n}", f"Marsh {n}", "Reed")]) for n in range(20)),
        *(other.add(t, f"b{n}", "1", [entry(f"b{n}", f"Lake {n}", "Reed")]) for n in range(20)),
    )
    found = await other.titles(t, [f"{kind} {n}" for kind in ("marsh", "lake") for n in range(20)])
    assert len(found) == 40


async def test_sixteen_writers_and_removers_of_the_same_names_lose_nothing(backend: Backend, t: str) -> None:
    titles = ["Orla Venn", "Marrow", "Ulric of Marrow", "Sill"]
    graphs = [await backend.open() for _ in range(4)]

    async def write(writer: int) -> None:
        graph, names = graphs[writer % 4], random.Random(writer).sample(titles, len(titles))
        for turn in range(4):
            passages = [f"{writer}.{turn}.{title}" for title in names]
            entries = [entry(passage, title, *names) for passage, title in zip(passages, names, strict=True)]
            await graph.add(t, f"d{writer}", str(turn), entries)
            if turn % 2:
                await graph.forget(t, f"d{writer}", str(turn) if writer % 2 else None)

    await asyncio.gather(*(write(writer) for writer in range(16)))
    left = [f"{writer}.3.{title}" for writer in range(1, 16, 2) for title in titles]
    reader = await backend.open()
    found = await reader.titles(t, [normal(title) for title in titles])
    bearing = {title: {f"{writer}.3.{title}" for writer in range(1, 16, 2)} for title in titles}
    assert {
        title: {target.passage for target in found[normal(title)] if target.weight == 1} for title in titles
    } == bearing
    mentioned = await reader.mentions(t, left)
    for passage in left:
        own = passage.rpartition(".")[2]
        assert led_to(mentioned[passage]) == {normal(title): bearing[title] for title in titles if title != own}
    for writer in range(16):
        await reader.forget(t, f"d{writer}", None)
    assert await backend.rows() == []


async def test_a_cancelled_add_can_be_made_again(graph: KnowledgeGraph, t: str) -> None:
    entries = [entry(f"p{n}", f"Marsh {n}", "Marrow") for n in range(300)]
    await graph.titles(t, ["marrow"])
    adding = asyncio.create_task(graph.add(t, "d", "1", entries))
    await anyio.lowlevel.checkpoint()
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    await graph.add(t, "d", "1", entries)
    assert len(await graph.titles(t, [f"marsh {n}" for n in range(300)])) == 300


async def test_an_add_cancelled_at_any_moment_does_no_harm(graph: KnowledgeGraph, backend: Backend, t: str) -> None:
    entries = [entry(f"p{n}", f"Marsh {n}", "Reed") for n in range(40)]
    await graph.add(t, "reed", "1", [entry("r", "Reed")])
    for milliseconds in range(0, 60, 6):
        with anyio.move_on_after(milliseconds / 1000):
            await graph.add(t, "d", "1", entries)
        await graph.add(t, "d", "1", entries)
        assert len(await graph.titles(t, [f"marsh {n}" for n in range(40)])) == 40
        mentioned = await graph.mentions(t, [f"p{n}" for n in range(40)])
        assert [mention.weight for (mention,) in mentioned.values()] == [pytest.approx(0.8 / 9)] * 40
        with anyio.move_on_after(milliseconds / 1000):
            await graph.forget(t, "d", None)
        await graph.forget(t, "d", None)
        assert await graph.titles(t, [f"marsh {n}" for n in range(40)]) == {}
    await graph.forget(t, "reed", None)
    assert await backend.rows() == []


async def test_ten_thousand_passages_are_found_by_title_and_mention(graph: KnowledgeGraph, t: str) -> None:
    size = 10_000
    for start in range(0, size, 1000):
        await graph.add(
            t,
            f"d{start}",
            "1",
            [entry(f"p{n}", f"Town {n:05}", f"near Town {(n + 1) % size:05}") for n in range(start, start + 1000)],
        )
    asked = list(range(0, size, 97))
    found = await graph.titles(t, [f"town {n:05}" for n in asked])
    assert [found[f"town {n:05}"][0].passage for n in asked] == [f"p{n}" for n in asked]
    mentioned = await graph.mentions(t, [f"p{n}" for n in asked])
    assert [led_to(mentioned[f"p{n}"]) for n in asked] == [
        {f"town {(n + 1) % size:05}": {f"p{(n + 1) % size}"}} for n in asked
    ]
    await graph.forget(t, "d5000", None)
    assert set(await graph.titles(t, ["town 05000", "town 04999"])) == {"town 04999"}
    assert await graph.mentions(t, ["p4999"]) == {}


async def test_long_and_odd_texts_are_kept_like_any_others(graph: KnowledgeGraph, t: str) -> None:
    long, sign = "\u6771" * 5000, 'a"b\\c'
    odd = [
        PassageEntry("x1", long, surfaces(long), ()),
        PassageEntry("x2", "Sign", surfaces("Sign"), (Name(long, 0), Name("nul \0 Reed", 1), Name('"Sign" AND (', 2))),
        entry("x3", "Reed"),
    ]
    await graph.add(t, "d \0 '\"", "v\0", odd)
    assert [target.passage for target in (await graph.titles(t, [long]))[long]] == ["x1"]
    assert led_to((await graph.mentions(t, ["x2"]))["x2"]) == {long: {"x1"}, "reed": {"x3"}}
    assert await graph.entity(t, sign) is None
    about = await graph.entity(t, "NUL \0 Reed")
    assert about is not None
    assert about.passages == ("x2",)
    await graph.forget(t, "d \0 '\"", "v\0")
    assert await graph.titles(t, ["reed"]) != {}
    await graph.forget(t, "d \0 '\"", None)
    assert await graph.titles(t, ["reed", long]) == {}


async def test_replacing_many_passages_loses_no_mention_of_a_title_that_comes_with_them(
    graph: KnowledgeGraph, t: str
) -> None:
    """Neo4j's full-text search leaves nodes out after a deletion in the same transaction."""
    naming = [entry(f"n{n}", "Notes", "Marrow", *(f"Sill {k}" for k in range(5))) for n in range(150)]
    await graph.add(t, "naming", "1", naming)
    sills = [entry(f"s{n}", f"Sill {n}", "Notes") for n in range(100)]
    await graph.add(t, "sills", "1", sills)
    await graph.add(t, "sills", "1", [*sills, entry("m", "Marrow")])
    mentioned = await graph.mentions(t, [f"n{n}" for n in range(150)])
    assert [f"n{n}" for n in range(150) if "marrow" not in led_to(mentioned[f"n{n}"])] == []


WORDS = "Ulric Marrow Sill Venn Orla Reed Marsh of the Łódź 東京 O'Brien Tam 1990 King".split()


def run_of(chance: random.Random, longest: int) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(chance.randint(1, longest)))


def some_entry(chance: random.Random, passage: str) -> PassageEntry:
    title = run_of(chance, 3) + chance.choice(["", " (film)", f", Duke of {run_of(chance, 1)}"])
    names = tuple(Name(run_of(chance, 5), chance.randint(0, 4)) for _ in range(chance.randint(0, 6)))
    return PassageEntry(passage, title, surfaces(title), names)


@pytest.mark.parametrize("seed", range(3))
async def test_every_graph_says_the_same_as_the_embedded_one(
    graph: KnowledgeGraph, backend: Backend, t: str, seed: int, tmp_path: Path
) -> None:
    database = await Database.open(tmp_path / "twin.sqlite", SCHEMAS)
    twin = EmbeddedGraph(database)
    chance = random.Random(seed)
    passages: set[str] = set()
    for _ in range(25):
        document, version = f"d{chance.randint(0, 7)}", str(chance.randint(1, 2))
        if chance.random() < 0.3:
            keep = chance.choice([None, "1", "2"])
            await graph.forget(t, document, keep)
            await twin.forget(t, document, keep)
        else:
            entries = [
                some_entry(chance, f"{document}.{version}.{chance.randint(0, 5)}") for _ in range(chance.randint(1, 5))
            ]
            passages |= {each.passage for each in entries}
            await graph.add(t, document, version, entries)
            await twin.add(t, document, version, entries)
        asked = sorted({gram for _ in range(30) for gram in grams(normal(run_of(chance, 3)))})
        assert await graph.titles(t, asked) == await twin.titles(t, asked)
        assert await graph.mentions(t, sorted(passages)) == await twin.mentions(t, sorted(passages))
        name = run_of(chance, 2)
        assert await graph.entity(t, name, 5) == await twin.entity(t, name, 5)
    for document in range(8):
        await graph.forget(t, f"d{document}", None)
    assert await backend.rows() == []
    await database.close()
