"""The built-in tools: search the knowledge, look up an entity, calculate, date and time. All of them only read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from anyio import to_thread

from knowledge.graph import GraphUnavailable, KnowledgeGraph
from knowledge.search import Search
from knowledge.types import Entity, Found, SearchQuery
from memory.embedding import Embedder
from memory.store import MemoryUnavailable
from memory.types import TRUST_NONE, TRUST_TYPED, Label
from tools import dates, units
from tools.arguments import ArgumentError, parse
from tools.calculator import MAX_LENGTH, CalculationError, calculate
from tools.guard import Guard
from tools.toolset import Caller, Toolset
from tools.types import JsonObject, JsonValue, ToolCall, ToolResult, ToolSpec

SEARCH_LIMIT = 5
"""Passages that one search returns when the call does not say."""


def _object(required: list[str], **properties: JsonObject) -> JsonObject:
    return {
        "type": "object",
        "properties": {**properties},
        "required": [*required],
        "additionalProperties": False,
    }


SEARCH = ToolSpec(
    "search_knowledge",
    "Searches the user's documents and returns the passages that fit best. Ask one thing at a time.",
    _object(
        ["query"],
        query={"type": "string", "minLength": 1, "maxLength": 1000, "description": "What to look for"},
        limit={"type": "integer", "minimum": 1, "maximum": 10, "description": "Number of passages, 5 by default"},
    ),
)
ENTITY = ToolSpec(
    "look_up_entity",
    "Says what the documents hold about one name (a person, place, product ...): related names and where it stands.",
    _object(["name"], name={"type": "string", "minLength": 1, "maxLength": 200, "description": "The name"}),
)
CALCULATE = ToolSpec(
    "calculate",
    "Calculates exactly: + - * / ^ %, brackets, sqrt, log, sin ..., units and conversions such as 5 miles in km.",
    _object(["expression"], expression={"type": "string", "minLength": 1, "maxLength": MAX_LENGTH}),
)
DATE = ToolSpec(
    "date_and_time",
    "Date and time now in a place, the weekday of a date, the days between two dates, a date some days away.",
    _object(
        ["operation"],
        operation={"type": "string", "enum": ["now", "weekday", "difference", "add"]},
        zone={"type": "string", "maxLength": 60, "description": "City or time zone, for example Europe/Paris"},
        date={"type": "string", "maxLength": 40, "description": "2026-11-21, or today, tomorrow ..."},
        other={"type": "string", "maxLength": 40, "description": "The second date of a difference"},
        days={"type": "integer", "minimum": -4_000_000, "maximum": 4_000_000},
    ),
)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Builtin:
    """The built-in tools over the knowledge; opened by `open_builtin`."""

    def __init__(
        self,
        search: Search,
        embedder: Embedder,
        graph: KnowledgeGraph,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._search, self._embedder, self._graph = search, embedder, graph
        self._clock = clock
        self._tools: dict[str, tuple[ToolSpec, Callable[[Caller, str, JsonObject], Awaitable[ToolResult]]]] = {
            SEARCH.name: (SEARCH, self._search_knowledge),
            ENTITY.name: (ENTITY, self._look_up_entity),
            CALCULATE.name: (CALCULATE, self._calculate),
            DATE.name: (DATE, self._date_and_time),
        }

    async def list(self) -> list[ToolSpec]:
        """The four tools, always in the same order."""
        return [spec for spec, _ in self._tools.values()]

    async def call(self, caller: Caller, call: ToolCall) -> ToolResult:
        """Runs one call; what cannot be done is a failed result."""
        if call.name not in self._tools:
            return _failed(caller, call, f"There is no tool {call.name}; there are {', '.join(self._tools)}.")
        spec, run = self._tools[call.name]
        try:
            return await run(caller, call.id, parse(call.arguments, spec.parameters))
        except (ArgumentError, CalculationError, dates.DateError) as error:
            return _failed(caller, call, f"{call.name} could not do it: {error}.")
        except (MemoryUnavailable, GraphUnavailable) as error:
            return _failed(caller, call, f"{call.name} is not available: {error}")

    async def _search_knowledge(self, caller: Caller, id: str, arguments: JsonObject) -> ToolResult:
        query, limit = _text(arguments, "query"), arguments.get("limit", SEARCH_LIMIT)
        vector = await self._embedder.embed_query(query)
        found = await self._search(
            caller.tenant, SearchQuery(query, vector), limit if isinstance(limit, int) else SEARCH_LIMIT
        )
        lines = [f"{hit.passage.title}\n{hit.passage.text}" for hit in found]
        text = "\n\n".join(lines) or "No passage fits."
        label = Label(
            caller.tenant, f"tool:builtin/{SEARCH.name}", TRUST_NONE, sources=frozenset(h.label.origin for h in found)
        )
        return ToolResult(id, text, label, data={"passages": [passage_data(hit) for hit in found]})

    async def _look_up_entity(self, caller: Caller, id: str, arguments: JsonObject) -> ToolResult:
        name = _text(arguments, "name")
        entity = await self._graph.entity(caller.tenant, name)
        text = f'The documents do not mention "{name}".' if entity is None else _described(entity)
        return ToolResult(id, text, Label(caller.tenant, f"tool:builtin/{ENTITY.name}", TRUST_NONE))

    async def _calculate(self, caller: Caller, id: str, arguments: JsonObject) -> ToolResult:
        expression = _text(arguments, "expression")
        value = await to_thread.run_sync(calculate, expression)
        label = Label(caller.tenant, f"tool:builtin/{CALCULATE.name}", TRUST_TYPED)
        return ToolResult(id, f"{expression.strip()} = {value}", label, data={"value": value})

    async def _date_and_time(self, caller: Caller, id: str, arguments: JsonObject) -> ToolResult:
        place = _text(arguments, "zone")
        instant = self._clock()
        today = instant.astimezone(dates.zone(place) if place else UTC).date()
        day = dates.read_strictly(_text(arguments, "date") or "today", today)
        match arguments["operation"]:
            case "now":
                text = dates.now(place, instant)
            case "weekday":
                text = f"{day.isoformat()} is a {day:%A} ({dates.day_name(day)})."
            case "difference":
                text = dates.difference(day, dates.read_strictly(_text(arguments, "other") or "today", today))
            case _:
                days = arguments.get("days", 0)
                text = dates.shifted(day, days if isinstance(days, int) else 0)
        return ToolResult(id, text, Label(caller.tenant, f"tool:builtin/{DATE.name}", TRUST_TYPED))


def open_builtin(search: Search, embedder: Embedder, graph: KnowledgeGraph) -> Toolset:
    """The built-in tools behind their guard."""
    return Guard(Builtin(search, embedder, graph), "builtin")


def warm() -> None:
    """Reads units and time zones (about a second of one core): call it in a thread once the server is ready."""
    units.load()
    dates.prepare()


def passage_data(found: Found) -> JsonObject:
    """A passage as JSON, with all that a citation of it needs; `text` is the passage's own."""
    passage, document = found.passage, found.document
    headings: list[JsonValue] = [*passage.headings]
    return {
        "document": document.id,
        "passage": passage.id,
        "title": passage.title,
        "path": document.path,
        "headings": headings,
        "page": passage.page,
        "start": passage.start,
        "url": document.url,
        "score": found.score,
        "text": passage.text,
    }


def _described(entity: Entity) -> str:
    related = ", ".join(f"{relation.subject} and {relation.object}" for relation in entity.relations)
    lines = [f"{entity.name} stands in {len(entity.passages)} passage{'' if len(entity.passages) == 1 else 's'}."]
    if related:
        lines.append(f"Named together: {related}.")
    return " ".join(lines)


def _text(arguments: JsonObject, name: str) -> str:
    value = arguments.get(name, "")
    return value if isinstance(value, str) else ""


def _failed(caller: Caller, call: ToolCall, text: str) -> ToolResult:
    return ToolResult(call.id, text, Label(caller.tenant, f"tool:builtin/{call.name}", TRUST_NONE), failed=True)
