"""Hybrid retrieval: words and meaning fused by score, title link, one hop over mentions, sentence term."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from knowledge.catalog import Catalog
from knowledge.graph import KnowledgeGraph
from knowledge.sentences import load
from knowledge.steps import (
    Ahead,
    Hop,
    Hybrid,
    Ranking,
    Records,
    SentenceTerm,
    Step,
    TitleLink,
    Titles,
    passages_of,
    together,
)
from knowledge.types import Found, SearchQuery
from memory.store import MemoryStore, MemoryUnavailable

_CHARACTERS = 4000


def _say_nothing(text: str) -> None:
    del text


class Search:
    """The retrieval pipeline (RETRIEVAL section 3), as steps that each add a part to a candidate's score."""

    def __init__(
        self,
        memory: MemoryStore,
        graph: KnowledgeGraph,
        catalog: Catalog,
        *,
        sentences: bool = True,
        further: Sequence[Step] = (),
    ) -> None:
        """`sentences`: rank by a passage's best sentence too; `further` steps run last, for example a re-ranker."""
        self._memory = memory
        self._catalog = catalog
        self._records, self._titles = Records(memory), Titles(graph)
        self._steps: list[Step] = [
            together(Hybrid(memory), self._titles),
            TitleLink(memory),
            together(Hop(memory, graph), Ahead(self._records, catalog)),
        ]
        if sentences:
            self._steps.append(SentenceTerm(self._records))
        self._steps.extend(further)

    async def __call__(
        self, tenant: str, query: SearchQuery, limit: int, *, note: Callable[[str], None] = _say_nothing
    ) -> list[Found]:
        """The best passages of a tenant's documents, best first; the parts of each score add up to it.

        Of a very long question only the beginning counts, of a long history its end (4,000 characters each).
        `note` is told, in words, when the answer is worse than usual because the graph is gone.

        Raises:
            MemoryUnavailable: nothing can be found now.
            GraphUnavailable: the catalog of documents is gone.
        """
        cut = replace(query, text=query.text[:_CHARACTERS], history=query.history[-_CHARACTERS:])
        ranking = Ranking(tenant, cut, note)
        for step in self._steps:
            await step(ranking)
        found: list[Found] = []
        order = ranking.best()
        for start in range(0, len(order), max(limit, 1)):
            if len(found) >= limit:
                break
            found.extend(await self._show(ranking, order[start : start + limit]))
        return found[:limit]

    async def foresee(self, tenant: str, text: str) -> None:
        """Begins a search for `text` whose vector is still being made; the search itself says what is wrong."""
        cut = text[:_CHARACTERS]

        async def words() -> None:
            with suppress(MemoryUnavailable):
                await self._memory.foresee(passages_of(tenant), cut)

        await asyncio.gather(words(), self._titles.foresee(tenant, cut))

    async def _show(self, ranking: Ranking, passages: Sequence[str]) -> list[Found]:
        """The passages with their documents; those that are being removed right now are left out."""
        records = await self._records.get(ranking.tenant, passages)
        documents = ranking.documents
        missing = {record.source for record in records.values()} - documents.keys()
        if missing:
            documents.update(await self._catalog.get(ranking.tenant, sorted(missing)))
        return [
            Found(
                document=documents[record.source],
                passage=load(record.payload),
                score=ranking.points[passage],
                parts=ranking.parts(passage),
                label=record.label,
                vectors=record.parts,
                via=ranking.via.get(passage, ""),
            )
            for passage in passages
            if (record := records.get(passage)) is not None and record.source in documents
        ]
