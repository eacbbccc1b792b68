"""The built-in tools behind their guard: what they return, and what never gets through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import anyio
import pytest

from knowledge.open import SCHEMAS, open_knowledge
from knowledge.search import Search
from knowledge.types import Name, PassageEntry, Surface
from memory import embedded
from memory.embedding import HashEmbedder
from memory.open import open_memory
from memory.sqlite import Database
from memory.types import Label
from tests.gone_embedder import GoneEmbedder
from tools import arguments, builtin, units
from tools.builtin import Builtin, open_builtin
from tools.guard import Guard
from tools.policy import decide
from tools.toolset import Caller, Toolset
from tools.types import Effect, JsonObject, JsonValue, ToolCall, ToolResult, ToolSpec

CALLER = Caller("acme", "ann")
NOW = datetime(2026, 11, 21, 13, 30, tzinfo=UTC)


@pytest.fixture
async def database(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path_factory.mktemp("tools") / "t.sqlite", (embedded.SCHEMA, *SCHEMAS))
    yield opened
    await opened.close()


@pytest.fixture
async def toolset(database: Database) -> Toolset:
    embedder = HashEmbedder()
    knowledge = open_knowledge(database)
    entries = [
        PassageEntry(
            "d1.v.0", "Gull Point", (Surface("gull point", 1.0),), (Name("Ada Marlowe", 0), Name("Bert Crane", 0))
        )
    ]
    await knowledge.graph.add("acme", "d1", "v", entries)
    search = Search(open_memory("", database, embedder), knowledge.graph, knowledge.catalog)
    return Guard(Builtin(search, embedder, knowledge.graph, lambda: NOW), "builtin")


async def call(toolset: Toolset, name: str, arguments: str = "{}") -> ToolResult:
    return await toolset.call(CALLER, ToolCall("c1", name, arguments))


async def test_the_tools_are_listed_in_a_fixed_order_and_only_read(toolset: Toolset) -> None:
    specs = await toolset.list()
    assert [spec.name for spec in specs] == ["search_knowledge", "look_up_entity", "calculate", "date_and_time"]
    assert {spec.effect for spec in specs} == {"read"}
    assert await toolset.list() == specs


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("calculate", '{"expression": "5 miles in km"}', "5 miles in km = 8.04672 km"),
        ("date_and_time", '{"operation": "now", "zone": "Tokyo"}', "In Asia/Tokyo it is 22:30 on Saturday"),
        ("date_and_time", '{"operation": "now"}', "In UTC it is 13:30"),
        ("date_and_time", '{"operation": "weekday", "date": "1789-07-14"}', "1789-07-14 is a Tuesday"),
        ("date_and_time", '{"operation": "difference", "other": "Christmas"}', "it is 34 days"),
        ("date_and_time", '{"operation": "add", "days": 7}', "is Saturday, 28 November 2026"),
        ("look_up_entity", '{"name": "Gull Point"}', "Gull Point stands in 1 passage."),
        ("look_up_entity", '{"name": "Nobody"}', 'do not mention "Nobody"'),
        ("search_knowledge", '{"query": "anything"}', "No passage fits."),
    ],
)
async def test_a_tool_returns_text_with_a_label(toolset: Toolset, name: str, given: str, text: str) -> None:
    result = await call(toolset, name, given)
    assert not result.failed
    assert text in result.text
    assert (result.call, result.label.tenant, result.label.origin) == ("c1", "acme", f"tool:builtin/{name}")
    assert result.label.trust == (1 if name in ("calculate", "date_and_time") else 0)


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("launch_rocket", "{}", "there is no such tool"),
        ("calculate", "{", "not JSON"),
        ("calculate", "[1]", "must be a JSON object"),
        ("calculate", "", "lacks expression"),
        ("calculate", '{"expression": 5}', "expression must be a string"),
        ("calculate", '{"expression": ""}', "at least 1"),
        ("calculate", '{"expression": "1", "unit": "m"}', "has no unit"),
        ("calculate", '{"expression": "1/0"}', "division by zero"),
        ("date_and_time", '{"operation": "dance"}', "one of now, weekday, difference, add"),
        ("date_and_time", '{"operation": "weekday", "date": "soon"}', "not a date"),
        ("date_and_time", '{"operation": "now", "zone": "Atlantis"}', "not a time zone"),
        ("date_and_time", '{"operation": "add", "days": 4000001}', "at most 4000000"),
        ("search_knowledge", '{"query": "x", "limit": 0}', "at least 1"),
        ("search_knowledge", '{"query": "x", "limit": true}', "must be an integer"),
    ],
)
async def test_a_call_that_cannot_be_done_fails_with_a_reason(
    toolset: Toolset, name: str, given: str, reason: str
) -> None:
    result = await call(toolset, name, given)
    assert result.failed
    assert reason in result.text


async def test_the_tools_check_for_themselves_without_their_guard(database: Database) -> None:
    knowledge = open_knowledge(database)
    search = Search(open_memory("", database, HashEmbedder()), knowledge.graph, knowledge.catalog)
    bare = Builtin(search, GoneEmbedder(), knowledge.graph)
    assert "There is no tool fly" in (await call(bare, "fly")).text
    assert "lacks expression" in (await call(bare, "calculate")).text
    gone = await call(bare, "search_knowledge", '{"query": "x"}')
    assert gone.failed
    assert "start the embedding server" in gone.text
    assert (
        await call(open_builtin(search, HashEmbedder(), knowledge.graph), "date_and_time", '{"operation": "now"}')
    ).text


class Odd:
    """A toolset that does what its one tool is told: hang, flood, or speak for another tenant."""

    def __init__(self, result: ToolResult | None, spec: ToolSpec) -> None:
        self._result, self._spec = result, spec

    async def list(self) -> list[ToolSpec]:
        return [self._spec]

    async def call(self, caller: Caller, call: ToolCall) -> ToolResult:
        if self._result is None:
            await anyio.sleep_forever()
            raise AssertionError
        return self._result


READ = ToolSpec("odd", "Odd.", {"type": "object"})


async def test_the_guard_ends_a_call_that_hangs() -> None:
    result = await call(Guard(Odd(None, READ), "far", seconds=0.02), "odd")
    assert result.failed
    assert "within 0.02 s" in result.text


async def test_the_guard_cuts_what_is_too_long_and_labels_what_comes_back() -> None:
    flood = ToolResult("other", "x" * 500, Label("acme", "user", 3))
    result = await call(Guard(Odd(flood, READ), "far", max_chars=100), "odd")
    assert result.text.startswith("x" * 100 + "\n... (400 more")
    assert (result.call, result.label.origin) == ("c1", "tool:far/odd")
    assert result.label.trust < 3


async def test_the_guard_lets_nothing_of_another_tenant_through() -> None:
    foreign = ToolResult("c1", "their secret", Label("umbrella", "tool:far/odd", 0))
    result = await call(Guard(Odd(foreign, READ), "far"), "odd")
    assert result.failed
    assert "their secret" not in result.text


async def test_a_tool_with_an_effect_is_denied() -> None:
    spec = ToolSpec("odd", "Odd.", {"type": "object"}, effect="write")
    result = await call(Guard(Odd(None, spec), "far"), "odd")
    assert result.failed
    assert 'effect "write"' in result.text


@pytest.mark.parametrize("effect", ["open", "write", "egress", "destroy", "admin", "spend"])
def test_the_policy_is_total_and_denies_what_is_not_plainly_harmless(effect: Effect) -> None:
    model = Label("acme", "model", 0)
    assert decide(READ, "acme", model).verdict == "allow"
    assert decide(None, "acme", model).verdict == "deny"
    assert decide(READ, "umbrella", model).verdict == "deny"
    assert decide(READ, "acme", Label("acme", "user", 3, secret=True)).verdict == "deny"
    loud = ToolSpec("odd", "Odd.", {}, effect=effect)
    decision = decide(loud, "acme", model)
    assert (decision.verdict, effect in decision.reason) == ("deny", True)


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        ({"type": "array", "items": {"type": "integer"}}, [1, "x"], "arguments[1] must be an integer"),
        ({"type": "array", "items": {"type": "integer"}}, [1, 2], None),
        ({"type": "array"}, [1, "x"], None),
        ({"type": "number", "minimum": 1}, 0.5, "at least 1"),
        ({"type": "number"}, 3, None),
        ({"type": "string", "maxLength": 1}, "ab", "at most 1"),
        ({"type": "null"}, None, None),
        ({"type": "boolean"}, True, None),
        ({"type": "boolean"}, 1, "must be a boolean"),
        ({"type": "object", "properties": {"a": {"type": "object", "required": ["b"]}}}, {"a": {}}, "a lacks b"),
        ({"type": "object"}, {"anything": 1}, None),
        ({}, {"anything": 1}, None),
        ({"enum": [1, 2]}, 3, "one of 1, 2"),
        ({"type": "strange"}, "x", None),
    ],
)
def test_arguments_are_checked_against_their_schema(schema: JsonObject, value: JsonValue, problem: str | None) -> None:
    found = arguments.fault(schema, value, "arguments")
    assert found is None if problem is None else found is not None and problem in found


def test_warming_up_reads_units_and_zones() -> None:
    builtin.warm()
    assert units.load() is units.load()
