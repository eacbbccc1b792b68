"""The steps of the retrieval pipeline (RETRIEVAL section 3, EXTRACTIVE section 2); each one changes a Ranking."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field

import anyio
import numpy as np
from numpy.typing import NDArray

from knowledge.catalog import Catalog
from knowledge.entities import in_question, question_grams
from knowledge.graph import GraphUnavailable, KnowledgeGraph
from knowledge.types import Document, SearchQuery, Target
from memory.store import MemoryStore
from memory.types import Hit, Query, Record, Scope, Score, Vector

DENSE, WORDS = 0.6, 0.4
OWN, HISTORY = 0.6, 0.4
LINK, HOP, SENTENCE = 1.0, 0.8, 0.4
HOP_AS_SENTENCE = 2.0
"""A hop of this inverse (.5) stands for a perfect sentence: the question has no words for what it leads to."""
BEST = 200
"""Hits of each side that min and max are taken over."""
SEEDS = 6
SENTENCE_CANDIDATES = 30
_FORESEEN, _FRESH = 16, 5.0
"""Questions whose titles wait for them to be asked, and for how many seconds."""
_NOTHING = (-1.0, 0.0)
_UNSEEN = 32
"""Passages of one surface outside the best hits that are scored; only the first places count for much."""


def passages_of(tenant: str) -> Scope:
    """Where the passages of a tenant's documents lie."""
    return Scope(tenant, "passages")


@dataclass(frozen=True, slots=True)
class Scale:
    """Brings one query's raw scores to 0..1, by min and max over the best of each side."""

    dense: tuple[float, float]
    words: tuple[float, float]

    @classmethod
    def of(cls, hits: Sequence[Hit]) -> Scale:
        """The scale of what `MemoryStore.search` found."""
        return cls(_limits([hit.score.dense for hit in hits]), _limits([hit.score.words for hit in hits]))

    def apply(self, scores: Sequence[Score | None]) -> NDArray[np.float64]:
        """Dense and words as rows, each 0..1; 0 for no score."""
        raw = np.array([(score.dense, score.words) if score is not None else _NOTHING for score in scores]).T
        return np.stack([_between(raw[0], self.dense), _between(raw[1], self.words)])


def _limits(scores: list[float]) -> tuple[float, float]:
    scores.sort(reverse=True)
    return (scores[:BEST][-1], scores[0]) if scores else (0.0, 0.0)


def _between(values: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.float64]:
    low, high = limits
    if high > low:
        return np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.where((values >= high) & (high > 0), 1.0, 0.0)


@dataclass(slots=True)
class Asked:
    """One query to the memory, its scale, and the raw scores known so far."""

    query: Query
    scale: Scale
    scores: dict[str, Score]


@dataclass(slots=True)
class Ranking:
    """What the steps work on: the candidates and how their scores came about."""

    tenant: str
    query: SearchQuery
    note: Callable[[str], None]
    """Told in words when a step could not do its work."""
    asked: list[Asked] = field(default_factory=list[Asked])
    """The question, then the conversation before it, if any."""
    points: dict[str, float] = field(default_factory=dict[str, float])
    """The candidates by passage id, with their scores so far."""
    titles: dict[str, list[Target]] = field(default_factory=dict[str, list[Target]])
    """Titles that the question names, with the passages that bear them."""
    linked: set[str] = field(default_factory=set[str])
    """Passages whose title the question names."""
    via: dict[str, str] = field(default_factory=dict[str, str])
    """Passages found by the hop, with the passage that mentions them."""
    documents: dict[str, Document] = field(default_factory=dict[str, Document])
    """Documents of candidates that are known already."""
    _parts: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    _fused: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])

    def add(self, part: str, passage: str, value: float) -> None:
        """Adds a named part to a candidate's score, once for each name."""
        self._parts.setdefault(passage, {})[part] = value
        self.points[passage] += value

    def parts(self, passage: str) -> dict[str, float]:
        """How a candidate's score came about; the parts add up to it."""
        dense, words = self._fused[passage]
        return {"dense": dense, "words": words, **self._parts.get(passage, {})}

    def part(self, name: str, passage: str) -> float:
        """One part of a candidate's score that was added, 0 when it was not."""
        return self._parts.get(passage, {}).get(name, 0.0)

    def best(self, count: int | None = None) -> list[str]:
        """The candidates, best first; equal ones in the order in which they were added."""
        return sorted(self.points, key=self.points.__getitem__, reverse=True)[:count]

    def fuse(self, passages: Sequence[str]) -> None:
        """Makes candidates of passages, from the raw scores known."""
        if not passages:
            return
        fused = np.zeros((2, len(passages)))
        for weight, asked in zip(self._weights(), self.asked, strict=True):
            fused += weight * asked.scale.apply([asked.scores.get(passage) for passage in passages])
        dense, words = DENSE * fused[0], WORDS * fused[1]
        parts: Iterable[tuple[float, float]] = zip(dense.tolist(), words.tolist(), strict=True)
        self._fused.update(zip(passages, parts, strict=True))
        points: list[float] = (dense + words).tolist()
        self.points.update(zip(passages, points, strict=True))

    def vector(self) -> Vector:
        """The direction of the question, in a conversation with its history's."""
        mixed = sum(weight * asked.query.vector for weight, asked in zip(self._weights(), self.asked, strict=True))
        return np.asarray(mixed, np.float32)

    def _weights(self) -> tuple[float, ...]:
        return (1.0,) if len(self.asked) == 1 else (OWN, HISTORY)


Step = Callable[[Ranking], Coroutine[object, None, None]]


class Hybrid:
    """Words and meaning, fused by score; in a conversation with what was said before."""

    def __init__(self, memory: MemoryStore) -> None:
        self._memory = memory

    async def __call__(self, ranking: Ranking) -> None:
        """Finds the first candidates."""
        query = ranking.query
        queries = [Query(query.text, query.vector)]
        if query.history_vector is not None:
            queries.append(Query(f"{query.history}\n{query.text}", query.history_vector))
        scope = passages_of(ranking.tenant)
        for each in queries:
            hits = await self._memory.search(scope, each, BEST)
            ranking.asked.append(Asked(each, Scale.of(hits), {hit.id: hit.score for hit in hits}))
        known = {passage for asked in ranking.asked for passage in asked.scores}
        await score(self._memory, ranking, sorted(known))


async def score(memory: MemoryStore, ranking: Ranking, passages: Sequence[str]) -> None:
    """Makes candidates of the visible ones among the passages, with their hybrid parts."""
    scope = passages_of(ranking.tenant)
    for asked in ranking.asked:
        missing = [passage for passage in passages if passage not in asked.scores]
        if missing:
            asked.scores.update(await memory.scores(scope, asked.query, missing))
    own = ranking.asked[0].scores
    ranking.fuse([passage for passage in passages if passage in own and passage not in ranking.points])


def _unseen(ranking: Ranking, targets: Iterable[str]) -> list[str]:
    return [passage for passage in targets if passage not in ranking.points][:_UNSEEN]


def together(*steps: Step) -> Step:
    """Steps that do not depend on each other, at the same time."""

    async def run(ranking: Ranking) -> None:
        # asyncio.gather would hide whose cancellation it was from the scope that gives up on a slow search
        try:
            async with anyio.create_task_group() as group:
                for step in steps:
                    group.start_soon(step, ranking)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    return run


class Titles:
    """What the question names by title."""

    def __init__(self, graph: KnowledgeGraph, now: Callable[[], float] = time.monotonic) -> None:
        self._graph, self._now = graph, now
        self._foreseen: OrderedDict[tuple[str, str], tuple[float, dict[str, list[Target]]]] = OrderedDict()

    async def foresee(self, tenant: str, text: str) -> None:
        """Looks the titles of a question up that is about to be asked; it is then not done again, once."""
        try:
            self._foreseen[tenant, text] = self._now(), await self._named(tenant, text)
        except GraphUnavailable:
            return  # the question itself will say so
        if len(self._foreseen) > _FORESEEN:
            self._foreseen.popitem(last=False)

    async def __call__(self, ranking: Ranking) -> None:
        """Looks the titles up; changes no score."""
        tenant, text = ranking.tenant, ranking.query.text
        at, foreseen = self._foreseen.pop((tenant, text), (-math.inf, {}))
        try:
            fresh = self._now() - at < _FRESH
            ranking.titles = foreseen if fresh else await self._named(tenant, text)
        except GraphUnavailable as error:
            ranking.note(f"Titles were not looked up: {error}")

    async def _named(self, tenant: str, text: str) -> dict[str, list[Target]]:
        wanted = question_grams(text)
        if not wanted:
            return {}
        titles = await self._graph.titles(tenant, sorted(set(wanted)))
        return {surface: titles[surface] for surface in in_question(text, titles)}


class TitleLink:
    """Passages whose title the question names; comes after Titles."""

    def __init__(self, memory: MemoryStore) -> None:
        self._memory = memory

    async def __call__(self, ranking: Ranking) -> None:
        """Adds the part "link": w / (1 + place), .8 of it for a single word."""
        found = ranking.titles
        unseen = [passage for targets in found.values() for passage in _unseen(ranking, (t.passage for t in targets))]
        await score(self._memory, ranking, unseen)
        links: dict[str, float] = {}
        for surface, targets in found.items():
            weights = {target.passage: target.weight for target in targets if target.passage in ranking.points}
            for place, passage in enumerate(sorted(weights, key=lambda each: (-ranking.points[each], each))):
                link = weights[passage] / (1 + place) * (1.0 if " " in surface else 0.8)
                links[passage] = max(links.get(passage, 0.0), link)
        for passage, link in links.items():
            ranking.add("link", passage, LINK * link)
        ranking.linked.update(links)


class Hop:
    """What the best passages mention by title."""

    def __init__(self, memory: MemoryStore, graph: KnowledgeGraph) -> None:
        self._memory, self._graph = memory, graph

    async def __call__(self, ranking: Ranking) -> None:
        """Adds the part "hop" and where it came from."""
        seeds = ranking.best(SEEDS)
        try:
            mentions = await self._graph.mentions(ranking.tenant, seeds)
        except GraphUnavailable as error:
            ranking.note(f"Mentions were not followed: {error}")
            return
        groups = [(seed, mention) for seed in seeds for mention in mentions.get(seed, ())]
        unseen = {passage for _, group in groups for passage in _unseen(ranking, (t.passage for t in group.targets))}
        await score(self._memory, ranking, sorted(unseen))
        points = ranking.points
        hops: dict[str, float] = {}
        for seed, group in groups:
            strength = points[seed] * (1.0 if seed in ranking.linked else 0.5)
            weights = {target.passage: target.weight for target in group.targets if target.passage in points}
            for place, passage in enumerate(sorted(weights, key=lambda each: (-points[each], each))):
                hop = strength * group.weight * weights[passage] / (1 + place)
                if hop > hops.get(passage, 0.0):
                    hops[passage] = hop
                    ranking.via[passage] = seed
        for passage, hop in hops.items():
            ranking.add("hop", passage, HOP * hop)


class Records:
    """Records of visible passages, the last used ones kept: the text behind a passage id never changes."""

    def __init__(self, memory: MemoryStore, *, keep: int = 1000) -> None:
        self._memory, self._keep = memory, keep
        self._kept: OrderedDict[tuple[str, str], Record] = OrderedDict()

    async def get(self, tenant: str, passages: Sequence[str]) -> dict[str, Record]:
        """By id; those that are no longer visible may be left out."""
        found: dict[str, Record] = {}
        missing: list[str] = []
        for passage in passages:
            key = tenant, passage
            record = self._kept.get(key)
            if record is None:
                missing.append(passage)
            else:
                found[passage] = record
                self._kept.move_to_end(key)
        for record in await self._memory.get(passages_of(tenant), missing) if missing else ():
            found[record.id] = self._kept[tenant, record.id] = record
        while len(self._kept) > self._keep:
            self._kept.popitem(last=False)
        return found


class Ahead:
    """Fetches what is needed of the best candidates so far, beside a step that changes few of their places."""

    def __init__(self, records: Records, catalog: Catalog) -> None:
        self._records, self._catalog = records, catalog

    async def __call__(self, ranking: Ranking) -> None:
        """Changes no score."""
        found = await self._records.get(ranking.tenant, ranking.best(SENTENCE_CANDIDATES))
        sources = {record.source for record in found.values()}
        ranking.documents.update(await self._catalog.get(ranking.tenant, sorted(sources)))


class SentenceTerm:
    """How well the best single sentence of a passage fits the question, in a conversation its history too."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def __call__(self, ranking: Ranking) -> None:
        """Adds the part "sentence" to the best candidates; a strong hop counts as a fitting sentence."""
        found = await self._records.get(ranking.tenant, ranking.best(SENTENCE_CANDIDATES))
        vector = ranking.vector()
        cosines = {
            passage: float(((record.parts.rows @ vector) * record.parts.scales).max())
            for passage, record in found.items()
            if record.parts is not None and len(record.parts.rows)
        }
        limits = (min(cosines.values(), default=0.0), max(cosines.values(), default=0.0))
        fits: list[float] = _between(np.array([cosines.get(each, limits[0]) for each in found]), limits).tolist()
        for passage, fit in zip(found, fits, strict=True):
            hop = min(ranking.part("hop", passage) / HOP * HOP_AS_SENTENCE, 1.0)
            ranking.add("sentence", passage, SENTENCE * max(fit, hop))
