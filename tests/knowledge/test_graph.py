"""The contract of KnowledgeGraph: titles, mentions and names of passages, for every implementation."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.lowlevel
import pytest

from knowledge.embedded_graph import EmbeddedGraph
from knowledge.entities import normal, surfaces
from knowledge.graph import GraphUnavailable, KnowledgeGraph
from knowledge.mentions import COMMON
from knowledge.open import SCHEMAS, open_knowledge
from knowledge.types import Mention, Name, PassageEntry
from memory.sqlite import Database


def entry(passage: str, title: str, *names: str) -> PassageEntry:
    return PassageEntry(passage, title, surfaces(title), tuple(Name(name, at) for at, name in enumerate(names)))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "graph.sqlite", SCHEMAS)
    yield opened
    await opened.close()


@pytest.fixture
def graph(database: Database) -> KnowledgeGraph:
    return open_knowledge(database).graph


def led_to(mentions: list[Mention]) -> dict[str, set[str]]:
    return {mention.surface: {target.passage for target in mention.targets} for mention in mentions}


async def test_a_title_is_found_by_each_way_of_naming_it(graph: KnowledgeGraph) -> None:
    await graph.add("t", "d", "1", [entry("p1", "Ulric, Duke of Marrow"), entry("p2", "Ulric (film)")])
    found = await graph.titles("t", ["ulric", "ulric film", "ulric duke of marrow", "marrow"])
    assert {surface: [(t.passage, t.weight) for t in targets] for surface, targets in found.items()} == {
        "ulric": [("p2", 0.9), ("p1", 0.6)],
        "ulric film": [("p2", 1.0)],
        "ulric duke of marrow": [("p1", 1.0)],
    }


@pytest.mark.parametrize("title_first", [True, False])
async def test_a_mention_is_found_whichever_document_came_first(graph: KnowledgeGraph, title_first: bool) -> None:
    documents = [
        ("a", entry("a1", "Song of the Marsh", "The Song of the Marsh", "by Orla Venn")),
        ("b", entry("b1", "Orla Venn")),
    ]
    for document, each in documents if title_first else reversed(documents):
        await graph.add("t", document, "1", [each])
    (mention,) = (await graph.mentions("t", ["a1"]))["a1"]
    assert (mention.surface, mention.sentence, [t.passage for t in mention.targets]) == ("orla venn", 1, ["b1"])


async def test_the_longest_title_wins_and_gives_way_when_it_is_forgotten(graph: KnowledgeGraph) -> None:
    await graph.add("t", "long", "1", [entry("l", "Ulric of Marrow")])
    await graph.add("t", "short", "1", [entry("s", "Marrow")])
    await graph.add("t", "text", "1", [entry("x", "Chronicle", "Ulric of Marrow")])
    assert led_to((await graph.mentions("t", ["x"]))["x"]) == {"ulric of marrow": {"l"}}
    await graph.forget("t", "long", None)
    assert led_to((await graph.mentions("t", ["x"]))["x"]) == {"marrow": {"s"}}


async def test_a_passage_does_not_mention_its_own_title(graph: KnowledgeGraph) -> None:
    await graph.add("t", "d", "1", [entry("p1", "Marrow", "Marrow"), entry("p2", "Marrow", "Marrow")])
    assert await graph.mentions("t", ["p1", "p2"]) == {}


async def test_a_mention_weighs_less_the_more_passages_share_it(graph: KnowledgeGraph) -> None:
    await graph.add("t", "b", "1", [entry("b1", "Orla Venn"), entry("b2", "Sill")])
    await graph.add("t", "a", "1", [entry("a1", "First", "Orla Venn", "Sill")])
    (two, one) = sorted((await graph.mentions("t", ["a1"]))["a1"], key=lambda mention: mention.surface)
    assert (two.weight, one.weight) == (pytest.approx(1 / 1.2), pytest.approx(0.8 / 1.2))
    await graph.add("t", "c", "1", [entry(f"c{n}", "Other", "Orla Venn") for n in range(4)])
    heavier = {mention.surface: mention.weight for mention in (await graph.mentions("t", ["a1"]))["a1"]}
    assert heavier == {"orla venn": pytest.approx(1 / 2), "sill": pytest.approx(0.8 / 1.2)}


async def test_what_nearly_every_passage_mentions_leads_nowhere(graph: KnowledgeGraph) -> None:
    await graph.add("t", "b", "1", [entry("b1", "Marrow")])
    await graph.add("t", "a", "1", [entry(f"a{n}", f"Text {n}", "Marrow") for n in range(COMMON)])
    assert "a0" in await graph.mentions("t", ["a0"])
    await graph.add("t", "c", "1", [entry("c", "One more", "Marrow")])
    assert await graph.mentions("t", ["a0"]) == {}


async def test_adding_the_same_again_changes_nothing(graph: KnowledgeGraph) -> None:
    entries = [entry("a1", "First", "Orla Venn"), entry("b1", "Orla Venn", "First")]
    await graph.add("t", "d", "1", entries)
    before = (await graph.titles("t", ["first", "orla venn"]), await graph.mentions("t", ["a1", "b1"]))
    await graph.add("t", "d", "1", entries)
    assert (await graph.titles("t", ["first", "orla venn"]), await graph.mentions("t", ["a1", "b1"])) == before


async def test_forgetting_keeps_one_version_and_only_of_that_document(graph: KnowledgeGraph) -> None:
    await graph.add("t", "d", "1", [entry("old", "Marrow")])
    await graph.add("t", "d", "2", [entry("new", "Marrow")])
    await graph.add("t", "e", "1", [entry("other", "Marrow")])
    await graph.forget("t", "d", "2")
    assert {target.passage for target in (await graph.titles("t", ["marrow"]))["marrow"]} == {"new", "other"}


async def test_forgetting_leaves_nothing_in_any_table(graph: KnowledgeGraph, database: Database) -> None:
    await graph.add("t", "d", "1", [entry(f"p{n}", "Xylograph", "Quorndon", "Zibeline") for n in range(100)])
    await graph.forget("t", "d", None)

    def rows(connection: sqlite3.Connection) -> list[str]:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        names = [name for (name,) in tables if not name.endswith(("_data", "_idx", "_config"))]
        return [str(row).lower() for name in names for row in connection.execute(f"SELECT * FROM {name}")]

    left = [row for row in await database.read(rows) if any(word in row for word in ("xylograph", "quorndon", "zibe"))]
    assert left == []
    assert await graph.entity("t", "Quorndon") is None


@pytest.mark.parametrize("other", ["acme corp", "ACME", "acme'", 'a"c', "ac*me", "", "\udce9"])
async def test_a_tenant_never_sees_the_names_of_another(graph: KnowledgeGraph, other: str) -> None:
    await graph.add(other, "d", "1", [entry("p1", "Marrow", "Sill"), entry("p2", "Sill", "Marrow")])
    await graph.add("acme", "d", "1", [entry("p3", "Sill Marsh", "Marrow")])
    assert await graph.titles("acme", ["marrow", "sill"]) == {}
    assert await graph.mentions("acme", ["p1", "p2", "p3"]) == {}
    assert await graph.entity("acme", "Sill") is None
    await graph.forget("acme", "d", None)
    assert led_to((await graph.mentions(other, ["p1"]))["p1"]) == {"sill": {"p2"}}


async def test_nothing_asked_is_nothing_found(graph: KnowledgeGraph) -> None:
    await graph.add("t", "d", "1", [])
    await graph.forget("t", "none", None)
    assert await graph.titles("t", []) == {}
    assert await graph.mentions("t", ["unknown"]) == {}
    assert await graph.entity("t", "") is None
    assert await graph.entity("t", '"*" OR (') is None


async def test_names_of_any_script_and_broken_text_are_kept_apart(graph: KnowledgeGraph) -> None:
    await graph.add("t", "d", "1", [entry("p1", "Łódź"), entry("p2", "Lodz"), entry("p3", "東京")])
    await graph.add("t", "e", "1", [entry("q", "Journey", "Łódź", "東京", "broken \ud800 Name", "'s")])
    assert led_to((await graph.mentions("t", ["q"]))["q"]) == {"łódź": {"p1"}, "東京": {"p3"}}
    assert await graph.titles("t", ["\ud800"]) == {}


async def test_an_entity_knows_its_passages_and_those_it_stands_beside(graph: KnowledgeGraph) -> None:
    await graph.add("t", "venn", "1", [entry("v", "Orla Venn", "Born in Marrow")])
    await graph.add(
        "t",
        "songs",
        "1",
        [
            PassageEntry(
                f"s{n}", f"Song {n}", (), (Name("Orla Venn", 0), Name("Tam Okoro and Sill", 0), Name("Reed", 1))
            )
            for n in range(3)
        ],
    )
    found = await graph.entity("t", "orla venn", limit=2)
    assert found is not None
    assert found.passages == ("v", "s0")
    assert len(found.relations) == 2
    assert {relation.object for relation in found.relations} == {"Tam Okoro", "Sill"}
    assert found.relations[0].passages == ("s0", "s1", "s2")
    assert found.relations[0].weight >= found.relations[1].weight > 0
    everyone = await graph.entity("t", "Orla Venn")
    assert everyone is not None
    assert [normal(relation.object) for relation in everyone.relations][2:] == ["born in marrow"]
    assert all(relation.subject == "Orla Venn" for relation in everyone.relations)


async def test_a_name_that_stands_alone_has_passages_but_no_relations(graph: KnowledgeGraph) -> None:
    await graph.add("t", "d", "1", [entry("p", "Notes", "Reed")])
    found = await graph.entity("t", "Reed")
    assert found is not None
    assert (found.passages, found.relations) == (("p",), ())


async def test_a_graph_whose_database_is_gone_says_so(graph: KnowledgeGraph, database: Database) -> None:
    await database.close()
    with pytest.raises(GraphUnavailable, match="closed"):
        await graph.add("t", "d", "1", [entry("p", "Marrow")])
    with pytest.raises(GraphUnavailable):
        await graph.forget("t", "d", None)
    with pytest.raises(GraphUnavailable):
        await graph.titles("t", ["marrow"])
    with pytest.raises(GraphUnavailable):
        await graph.mentions("t", ["p"])
    with pytest.raises(GraphUnavailable):
        await graph.entity("t", "Marrow")


async def test_two_writers_at_once_lose_nothing(graph: KnowledgeGraph, database: Database) -> None:
    second = await Database.open(database.path, SCHEMAS)
    other = EmbeddedGraph(second)
    await asyncio.gather(
        *(graph.add("t", f"a{n}", "1", [entry(f"a{n}", f"Marsh {n}", "Reed")]) for n in range(20)),
        *(other.add("t", f"b{n}", "1", [entry(f"b{n}", f"Lake {n}", "Reed")]) for n in range(20)),
    )
    found = await other.titles("t", [f"{kind} {n}" for kind in ("marsh", "lake") for n in range(20)])
    await second.close()
    assert len(found) == 40


async def test_a_cancelled_add_can_be_made_again(graph: KnowledgeGraph) -> None:
    entries = [entry(f"p{n}", f"Marsh {n}", "Marrow") for n in range(300)]
    adding = asyncio.create_task(graph.add("t", "d", "1", entries))
    await anyio.lowlevel.checkpoint()
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    await graph.add("t", "d", "1", entries)
    assert len(await graph.titles("t", [f"marsh {n}" for n in range(300)])) == 300
