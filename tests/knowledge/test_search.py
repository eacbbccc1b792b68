"""Search over a small made-up encyclopaedia: what is found first, why, and what happens when a part is missing."""

from __future__ import annotations

import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from knowledge.catalog import Catalog
from knowledge.embedded_graph import EmbeddedGraph
from knowledge.graph import GraphUnavailable
from knowledge.ingest import Ingest
from knowledge.open import SCHEMAS, open_knowledge
from knowledge.parse import Parser
from knowledge.search import Search
from knowledge.steps import Ranking, Titles
from knowledge.types import Found, SearchQuery, Target
from memory.embedded import SCHEMA, EmbeddedMemory
from memory.embedding import HashEmbedder
from memory.sqlite import Database
from memory.store import MemoryStore, MemoryUnavailable
from tests.clock import Clock

ROOT = Path(__file__).parents[2]
EMBEDDER = HashEmbedder(256)
ARTICLES = {
    "The Glass Orchard": "The Glass Orchard is a film of 1961 about a lighthouse keeper. It was directed by Orla Venn.",
    "Orla Venn": "Orla Venn was an artist. She was born in Port Marrow and died in Sill.",
    "Port Marrow": "Port Marrow is a harbour town. Salt and rope were traded there.",
    "Tam Okoro": "Tam Okoro was a painter. He was born in Lower Dune.",
    "Winter Kites": "Winter Kites is a film of 1962 about two brothers. It was directed by Tam Okoro.",
    "Lower Dune": "Lower Dune is a village known for its windmills.",
    "Birth customs": "Where somebody was born matters in many customs. The place where a director was born is noted.",
}


@dataclass(frozen=True)
class Base:
    """Everything that a search needs, opened on one file."""

    database: Database
    memory: MemoryStore
    catalog: Catalog
    ingest: Ingest
    search: Search

    async def find(self, text: str, limit: int = 5, tenant: str = "t") -> list[Found]:
        return await self.search(tenant, await ask(text), limit)


async def ask(text: str) -> SearchQuery:
    return SearchQuery(text, (await EMBEDDER.embed([text]))[0])


async def opened(path: Path) -> Base:
    database = await Database.open(path, [SCHEMA, *SCHEMAS])
    memory = EmbeddedMemory(database, EMBEDDER.name, EMBEDDER.dimensions)
    knowledge = open_knowledge(database)
    ingest = Ingest(Parser(), EMBEDDER, memory, knowledge.graph, knowledge.catalog, database.transaction)
    search = Search(memory, knowledge.graph, knowledge.catalog)
    return Base(database, memory, knowledge.catalog, ingest, search)


@pytest.fixture
async def base(tmp_path: Path) -> AsyncIterator[Base]:
    found = await opened(tmp_path / "parley.sqlite")
    for title, text in ARTICLES.items():
        await found.ingest.content("t", f"{title}.md", f"{title}.md", f"# {title}\n\n{text}\n".encode())
    yield found
    await found.database.close()


async def test_the_passage_that_fits_is_first_with_its_document(base: Base) -> None:
    (first, *_) = await base.find("village known for windmills")
    assert first.document.title == first.passage.title == "Lower Dune"
    assert first.document.path == "Lower Dune.md"
    assert "windmills" in first.passage.text
    assert (first.label.tenant, first.label.origin) == ("t", f"doc:{first.document.id}#0")
    assert first.vectors is not None
    assert len(first.vectors.rows) == len(first.passage.units)


async def test_the_parts_of_a_score_add_up_to_it_and_the_best_comes_first(base: Base) -> None:
    found = await base.find("Where was the director of The Glass Orchard born?", 10)
    assert len(found) == len(ARTICLES)
    for each in found:
        assert each.score == pytest.approx(sum(each.parts.values()))
        assert each.parts.keys() <= {"dense", "words", "link", "hop", "sentence"}
        assert 0 <= each.parts["dense"] <= 0.6 + 1e-6
        assert 0 <= each.parts["words"] <= 0.4 + 1e-6
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


async def test_a_title_in_the_question_leads_to_its_passage(base: Base) -> None:
    found = await base.find("Who directed Winter Kites?")
    assert found[0].passage.title == "Winter Kites"
    assert found[0].parts["link"] == pytest.approx(1.0)


async def test_a_hop_finds_the_passage_that_the_question_has_no_words_for(base: Base) -> None:
    found = await base.find("Where was the director of The Glass Orchard born?", 3)
    by_title = {each.passage.title: each for each in found}
    assert found[0].passage.title == "The Glass Orchard"
    assert "Orla Venn" in by_title
    assert "Tam Okoro" not in by_title
    assert by_title["Orla Venn"].parts["hop"] > 0
    assert by_title["Orla Venn"].via == by_title["The Glass Orchard"].passage.id


async def test_the_turn_before_gives_a_follow_up_its_subject(base: Base) -> None:
    before, then = "Tell me about the village of windmills.", "What is it known for?"
    follow_up = (await EMBEDDER.embed([then]))[0]
    alone = await base.search("t", SearchQuery(then, follow_up), 1)
    history = (await EMBEDDER.embed([f"{before} {then}"]))[0]
    together = await base.search("t", SearchQuery(then, follow_up, before, history), 1)
    assert together[0].passage.title == "Lower Dune"
    assert together[0].parts["words"] > 0
    assert together[0].score != alone[0].score


async def test_without_the_graph_the_search_goes_on_and_says_so(base: Base, tmp_path: Path) -> None:
    gone = await Database.open(tmp_path / "graph.sqlite", SCHEMAS)
    await gone.close()
    search = Search(base.memory, EmbeddedGraph(gone), base.catalog)
    notes: list[str] = []
    found = await search("t", await ask("Who directed Winter Kites?"), 3, note=notes.append)
    assert found[0].passage.title == "Winter Kites"
    assert "link" not in found[0].parts
    assert [note.split(":")[0] for note in notes] == ["Titles were not looked up", "Mentions were not followed"]
    assert await search("t", await ask("Who directed Winter Kites?"), 3) != []


class Counting(EmbeddedGraph):
    """The graph; counts how often titles are looked up."""

    asked = 0

    async def titles(self, tenant: str, surfaces: Sequence[str]) -> dict[str, list[Target]]:
        self.asked += 1
        return await super().titles(tenant, surfaces)


async def test_a_foreseen_search_finds_the_same_and_looks_no_title_up_again(base: Base) -> None:
    graph = Counting(base.database)
    search = Search(base.memory, graph, base.catalog)
    wanted = "Who directed Winter Kites?"
    await search.foresee("t", wanted)
    found = await search("t", await ask(wanted), 5)
    assert graph.asked == 1
    assert [(each.passage.id, each.parts) for each in found] == [
        (each.passage.id, each.parts) for each in await base.find(wanted)
    ]
    assert await search("other", await ask(wanted), 5) == []
    assert await search("t", await ask(wanted), 5) == found
    assert graph.asked == 3  # what was foreseen counts once, and for its tenant


async def test_titles_that_were_foreseen_are_forgotten_when_nobody_asks(base: Base) -> None:
    clock, graph = Clock(), Counting(base.database)
    titles = Titles(graph, clock)
    asked = await ask("Who directed Winter Kites?")
    for number in range(20):
        await titles.foresee("t", f"Who wrote Winter Kites {number}?")
    await titles.foresee("t", asked.text)
    clock.now += 6
    made = graph.asked
    ranking = Ranking("t", asked, print)
    await titles(ranking)
    assert list(ranking.titles) == ["winter kites"]
    assert graph.asked == made + 1
    await titles(Ranking("t", await ask("Who wrote Winter Kites 0?"), print))
    assert graph.asked == made + 2


async def test_a_graph_that_is_gone_is_told_of_by_the_search_that_was_foreseen(base: Base, tmp_path: Path) -> None:
    gone = await Database.open(tmp_path / "graph.sqlite", SCHEMAS)
    await gone.close()
    search = Search(base.memory, EmbeddedGraph(gone), base.catalog)
    notes: list[str] = []
    await search.foresee("t", "Who directed Winter Kites?")
    assert await search("t", await ask("Who directed Winter Kites?"), 3, note=notes.append) != []
    assert notes[0].startswith("Titles were not looked up")


async def test_without_the_memory_nothing_can_be_searched(base: Base) -> None:
    await base.database.close()
    with pytest.raises(MemoryUnavailable, match="closed"):
        await base.find("windmills")


async def test_without_the_catalog_nothing_can_be_shown(base: Base, tmp_path: Path) -> None:
    gone = await Database.open(tmp_path / "catalog.sqlite", SCHEMAS)
    await gone.close()
    knowledge = open_knowledge(gone)
    with pytest.raises(GraphUnavailable):
        await Search(base.memory, EmbeddedGraph(base.database), knowledge.catalog)("t", await ask("windmills"), 3)


async def test_a_removed_document_is_found_no_more(base: Base) -> None:
    (first, *_) = await base.find("village known for windmills")
    assert await base.ingest.remove("t", first.document.id)
    assert all(each.passage.title != "Lower Dune" for each in await base.find("village known for windmills", 10))


async def test_a_document_that_is_leaving_gives_its_place_to_the_next(base: Base) -> None:
    (first, second, *_) = await base.find("village known for windmills")
    await base.catalog.remove("t", first.document.id)
    found = await base.find("village known for windmills", 1)
    assert [each.passage.id for each in found] == [second.passage.id]


async def test_a_tenant_finds_only_its_own(base: Base) -> None:
    assert await base.find("village known for windmills", tenant="u") == []
    await base.ingest.content("u", "Lower Dune.md", "Lower Dune.md", b"# Lower Dune\n\nOur own windmills.")
    assert [each.passage.text for each in await base.find("Who lives in Lower Dune?", tenant="u")] == [
        "Our own windmills."
    ]


@pytest.mark.parametrize("text", ["", "?!", "the of and", "\ud800", "x" * 20_000, '" OR * NEAR('])
async def test_any_text_may_be_asked(base: Base, text: str) -> None:
    assert len(await base.find(text, 3)) <= 3


async def test_a_question_of_ten_megabytes_is_answered_by_its_beginning(base: Base) -> None:
    query = await ask("Who directed Winter Kites?")
    long = SearchQuery(query.text + " And More Of It" * 700_000, query.vector, "Old Talk " * 100_000, query.vector)
    with anyio.fail_after(5):
        (first, *_) = await base.search("t", long, 3)
    assert first.passage.title == "Winter Kites"


async def test_no_more_is_found_than_asked_for(base: Base) -> None:
    assert await base.find("windmills", 0) == []
    assert len(await base.find("windmills", 1)) == 1
    assert len(await base.find("windmills", 1000)) == len(ARTICLES)


async def test_a_surface_with_more_passages_than_can_be_scored_still_links_its_best(base: Base) -> None:
    sections = "\n\n".join(
        f"## Part {n}\n\nPart {n} of the manual is about gear {n}. " + "Filler text. " * 90 for n in range(60)
    )
    await base.ingest.content("t", "Kite Manual.md", "Kite Manual.md", f"# Kite Manual\n\n{sections}".encode())
    found = await base.find("What does the Kite Manual say about gear 41?", 3)
    assert "gear 41." in found[0].passage.text
    assert found[0].parts["link"] == pytest.approx(1.0)


async def test_the_sentence_term_can_be_left_out_and_a_step_can_be_added(base: Base) -> None:
    async def prefer_ports(ranking: Ranking) -> None:
        for passage in ranking.best(50):
            ranking.add("mine", passage, 5.0 if ranking.points[passage] < 0.2 else 0.0)

    graph = EmbeddedGraph(base.database)
    plain = await Search(base.memory, graph, base.catalog, sentences=False)("t", await ask("windmills"), 10)
    assert all("sentence" not in each.parts for each in plain)
    turned = await Search(base.memory, graph, base.catalog, sentences=False, further=[prefer_ports])(
        "t", await ask("windmills"), 10
    )
    assert turned[0].parts["mine"] == 5.0
    assert turned[0].passage.id != plain[0].passage.id


OTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_search

async def main():
    base = await test_search.opened(Path({path!r}))
    await base.ingest.content("t", "Quill.md", "Quill.md", b"# Quill Rock\\n\\nQuill Rock has a zeppelin mast.")
    await base.database.close()

asyncio.run(main())
"""


async def test_what_another_process_takes_in_is_found_by_the_next_search(base: Base) -> None:
    await base.find("zeppelin mast")
    code = OTHER_PROCESS.format(tests=str(Path(__file__).parent), path=str(base.database.path))
    process = await create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT, stdout=PIPE, stderr=PIPE)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    (first, *_) = await base.find("zeppelin mast")
    assert first.passage.title == "Quill Rock"
