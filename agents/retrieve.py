"""Retrieve: passages for a question and, in stored conversations, memories of the user; less when a backend is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.context import RunContext
from agents.types import Evidence, Message, Note
from knowledge.graph import GraphUnavailable
from knowledge.types import Found, SearchQuery
from memory.store import MemoryUnavailable
from memory.types import Query, Scope, Vector
from tools.types import JsonObject, JsonValue, ToolResult

PASSAGES = 5
"""Passages that an answer rests on; ten change its first quote by a few tenths of a point (EXTRACTIVE section 1)."""
MEMORIES = 3
MEMORY_COSINE = 0.4
"""Memories less alike than this are about something else."""
HISTORY_TURNS = 6
"""Earlier user messages that count as the history of a search."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was found for a question."""

    found: tuple[Found, ...] = ()
    memories: tuple[Evidence, ...] = ()
    """Numbered from 1; `evidence` numbers them anew."""
    notes: tuple[Note, ...] = ()


async def recall(question: str, vector: Vector, history: Sequence[Message], ctx: RunContext) -> Recalled:
    """What the knowledge and the user's memories hold on a message, before it is understood.

    `history` is what was said before the message; its user messages weigh into the search (RETRIEVAL section 3)."""
    recalled = await retrieve(question, ctx, vector=vector, history=history)
    if not ctx.turn.thread:
        return recalled
    try:
        memories = await _memories(question, vector, ctx)
    except MemoryUnavailable as error:
        return Recalled(
            recalled.found, (), (*recalled.notes, unavailable(error)) if not recalled.notes else recalled.notes
        )
    return Recalled(recalled.found, memories, recalled.notes)


async def retrieve(
    query: str, ctx: RunContext, *, vector: Vector | None = None, history: Sequence[Message] = ()
) -> Recalled:
    """The passages that fit a question that stands alone; with `history`, one that does not quite."""
    earlier = [message.content for message in history if message.role == "user"][-HISTORY_TURNS:]
    try:
        own = await ctx.deps.embedder.embed_query(query) if vector is None else vector
        history_vector = await ctx.deps.embedder.embed_query(f"{earlier[-1]} {query}") if earlier else None
        search = SearchQuery(query, own, "\n".join(earlier), history_vector)
        worse: list[str] = []
        found = await ctx.deps.search(ctx.turn.tenant, search, PASSAGES, note=worse.append)
        return Recalled(tuple(found), notes=tuple(Note("knowledge_unavailable", text) for text in worse[:1]))
    except (MemoryUnavailable, GraphUnavailable) as error:
        return Recalled(notes=(unavailable(error),))


def merged(first: Recalled, more: Sequence[Recalled], limit: int = PASSAGES) -> Recalled:
    """Several finds as one: the best of each search in turn, no passage twice, the searches of the plan first.

    `first` is the speculative recall: it fills up what the plan's searches leave of `limit`."""
    lists = [recalled.found for recalled in more]
    rows = [hits[place] for place in range(max(map(len, lists), default=0)) for hits in lists if place < len(hits)]
    limit = max(limit, min(len(rows), 2 * limit if len(lists) > 1 else limit))
    kept: dict[str, Found] = {}
    for hit in (*rows, *first.found):
        if len(kept) < limit:
            kept.setdefault(hit.passage.id, hit)
    notes = {note.code: note for recalled in (first, *more) for note in recalled.notes}
    return Recalled(tuple(kept.values()), first.memories, tuple(notes.values()))


def evidence(
    found: Sequence[Found], memories: Sequence[Evidence], results: Sequence[ToolResult]
) -> tuple[Evidence, ...]:
    """All that an answer may rest on, numbered from 1: passages (those that tools found too), memories, results.

    Only passages have a document and can be cited; no passage appears twice."""
    makers: dict[str, Callable[[int], Evidence]] = {}
    for hit in found:
        makers[hit.passage.id] = lambda index, hit=hit: _of_found(index, hit)
    for result in results:
        for passage in _passages(result):
            id = _text(passage, "passage")
            makers.setdefault(id, lambda index, p=passage, result=result: _of_data(index, p, result))
    numbered = [make(index) for index, make in enumerate(makers.values(), 1)]
    for memory in memories:
        numbered.append(_plain(len(numbered) + 1, memory.text, memory))
    for result in results:
        if not _passages(result):
            source = Evidence(0, result.text, result.label, title=result.label.origin)
            numbered.append(_plain(len(numbered) + 1, result.text, source))
    return tuple(numbered)


async def _memories(question: str, vector: Vector, ctx: RunContext) -> tuple[Evidence, ...]:
    scope = Scope(ctx.turn.tenant, "memories", ctx.turn.user)
    hits = await ctx.deps.memory.search(scope, Query(question, vector), MEMORIES)
    close = [hit for hit in hits if hit.score.dense >= MEMORY_COSINE][:MEMORIES]
    scores = {hit.id: hit.score.dense for hit in close}
    records = await ctx.deps.memory.get(scope, [hit.id for hit in close])
    return tuple(
        Evidence(index, record.text, record.label, title=record.title, score=scores[record.id])
        for index, record in enumerate(records, 1)
    )


def unavailable(error: Exception) -> Note:
    """What an answer says that had to do without the documents."""
    return Note("memory_unavailable", f"The documents could not be searched: {error}")


def _plain(index: int, text: str, source: Evidence) -> Evidence:
    return Evidence(index, text, source.label, title=source.title, score=source.score)


def _of_found(index: int, hit: Found) -> Evidence:
    passage, document = hit.passage, hit.document
    return Evidence(
        index=index,
        text=passage.text,
        label=hit.label,
        document=document.id,
        passage=passage.id,
        title=passage.title,
        path=document.path,
        headings=passage.headings,
        page=passage.page,
        start=passage.start,
        url=document.url,
        score=hit.score,
    )


def _of_data(index: int, data: JsonObject, result: ToolResult) -> Evidence:
    headings, page, start, score = data.get("headings"), data.get("page"), data.get("start"), data.get("score")
    return Evidence(
        index=index,
        text=_text(data, "text"),
        label=result.label,
        document=_text(data, "document"),
        passage=_text(data, "passage"),
        title=_text(data, "title"),
        path=_text(data, "path"),
        headings=tuple(str(heading) for heading in headings) if isinstance(headings, list) else (),
        page=page if isinstance(page, int) else None,
        start=start if isinstance(start, int) else 0,
        url=_text(data, "url"),
        score=float(score) if isinstance(score, int | float) else 0.0,
    )


def _passages(result: ToolResult) -> list[JsonObject]:
    """The passages in a result of our own search; a foreign tool's data is never taken for documents."""
    if result.label.origin != "tool:builtin/search_knowledge" or not isinstance(result.data, dict):
        return []
    passages: JsonValue = result.data.get("passages")
    return [passage for passage in passages if isinstance(passage, dict)] if isinstance(passages, list) else []


def _text(data: JsonObject, name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""
