"""Plans, look-ups and summaries: what happens before and after an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from agents.context import Limits
from agents.model import ModelUnavailable
from agents.plan import parts, plan
from agents.remember import remember
from agents.retrieve import Recalled, evidence, merged, recall, retrieve
from agents.scripted import ScriptedModel, says
from agents.summarise import LONGEST, condensed, summarise
from agents.types import Intent, IntentKind, Plan
from knowledge.graph import GraphUnavailable
from knowledge.search import Search
from knowledge.types import Found, SearchQuery
from memory.store import MemoryUnavailable
from memory.types import Hit, Label, Query, Record, Scope, Score, Statistics
from tests.agents.world import World, call, conversation
from tools.toolset import Caller
from tools.types import ToolResult


def intent(question: str, kind: IntentKind = "question") -> Intent:
    return Intent(kind, question, "en", "rules")


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who designed the tower?", ["Who designed the tower?"]),
        ("What is the difference between the Pro plan and the Team plan?", ["the Pro plan", "the Team plan"]),
        ("Compare the price of gold and silver", ["the price of gold", "the price of silver"]),
        ("Redis vs. Valkey?", ["Redis", "Valkey"]),
        (
            "Which is taller, the lighthouse or the church?",
            ["Which is taller: the lighthouse?", "Which is taller: the church?"],
        ),
        (
            "Who designed the Gull Point Lighthouse and when was it finished?",
            ["Who designed the Gull Point Lighthouse?", "When was the Gull Point Lighthouse finished?"],
        ),
        (
            "Who built the Harbour Ferry? How many cars does it carry? And where does it go? What colour is it?",
            [
                "Who built the Harbour Ferry?",
                "How many cars does the Harbour Ferry carry?",
                "Where does the Harbour Ferry go?",
            ],
        ),
        ("Compare a and b " * 50, ["Compare a and b " * 50]),
        ("Why? Who built the old bridge over there?", ["Why? Who built the old bridge over there?"]),
    ],
)
def test_a_question_of_several_parts_becomes_several(question: str, expected: list[str]) -> None:
    found = parts(question)
    assert [part.removeprefix("And ").capitalize() for part in found] == [part.capitalize() for part in expected]


async def test_a_plan_holds_only_what_one_look_up_does_not_do(world: World) -> None:
    ctx = world.turn("Who designed the tower?").ctx
    assert await plan(intent("Who designed the tower?"), Recalled(), ctx) == Plan()
    assert await plan(intent("Hello", "smalltalk"), Recalled(), ctx) == Plan()
    assert await plan(intent("something odd", "tool"), Recalled(), ctx) == Plan()
    rewritten = await plan(intent("When was the tower finished?"), Recalled(), world.turn("When was it finished?").ctx)
    assert [(step.kind, step.query) for step in rewritten.steps] == [("retrieve", "When was the tower finished?")]
    sums = await plan(intent("What is 2+2?", "tool"), Recalled(), ctx)
    assert [(step.tool, step.arguments) for step in sums.steps] == [("calculate", {"expression": "2+2"})]
    dates = await plan(intent("What time is it in Rome?", "tool"), Recalled(), ctx)
    assert dates.steps[0].arguments == {"operation": "now", "zone": "Rome"}
    entity = await plan(intent("What do you know about Ada Marlowe?"), Recalled(), ctx)
    assert [step.kind for step in entity.steps] == ["retrieve", "tool"]
    assert entity.steps[1].arguments == {"name": "Ada Marlowe"}


LONG = (
    "I would like to understand why the keepers of the lighthouse left so early in the year 1902, which of them came "
    "back later to the island, what the company said about all this in its letters"
)


async def test_a_model_plans_only_what_rules_cannot(world: World) -> None:
    steps = (
        '{"steps": [{"kind": "retrieve", "query": "Why did the keepers leave?"},'
        ' {"kind": "tool", "tool": "calculate", "arguments": {"expression": "1902-1871"}},'
        ' {"kind": "tool", "tool": "launch_rocket"}, {"kind": "retrieve", "query": " "}]}'
    )
    model = ScriptedModel(says(steps))
    heard = world.turn(LONG, model=model)
    made = await plan(intent(LONG), Recalled(), heard.ctx)
    assert made.by == "model"
    assert [step.tool or step.query for step in made.steps] == ["Why did the keepers leave?", "calculate"]
    assert "search_knowledge" in model.requests[0].messages[0].content
    nothing = world.turn(LONG, model=ScriptedModel(says('{"steps": []}')))
    assert await plan(intent(LONG), Recalled(), nothing.ctx) == Plan()
    useless = world.turn(LONG, model=ScriptedModel(says("no"), says("no")))
    assert await plan(intent(LONG), Recalled(), useless.ctx) == Plan()
    assert await plan(intent(LONG), Recalled(), world.turn(LONG).ctx) == Plan()


async def test_a_model_that_fails_or_may_not_be_asked_plans_nothing(world: World) -> None:
    poor = world.turn(LONG, model=ScriptedModel(says("x")), limits=Limits(model_calls=1))
    assert await plan(intent(LONG), Recalled(), poor.ctx) == Plan()
    gone = world.turn(LONG, model=ScriptedModel([ModelUnavailable("refused")]))
    assert await plan(intent(LONG), Recalled(), gone.ctx) == Plan()
    late = world.turn(LONG, model=ScriptedModel(says("x")), limits=Limits(seconds=0))
    assert await plan(intent(LONG), Recalled(), late.ctx) == Plan()


async def test_history_helps_a_question_that_was_not_rewritten(world: World) -> None:
    heard = world.turn("How many cars does the Harbour Ferry carry?", "12.", "And since when does it run?")
    messages = heard.ctx.turn.messages
    vector = (await world.deps.embedder.embed([messages[-1].content]))[0]
    recalled = await recall(messages[-1].content, vector, messages[:-1], heard.ctx)
    assert recalled.found[0].passage.title == "Harbour Ferry"
    assert (recalled.memories, recalled.notes) == ((), ())
    assert 0 < len(recalled.found) <= 5


async def test_memories_are_read_only_in_a_stored_conversation(world: World) -> None:
    stored = world.turn("Please remember that my favourite lighthouse is Gull Point.", thread="t1")
    assert await remember(stored.ctx.turn.messages[-1].content, stored.ctx) == ()
    question = "Which lighthouse is my favourite?"
    vector = (await world.deps.embedder.embed([question]))[0]
    recalled = await recall(question, vector, (), world.turn(question, thread="t2").ctx)
    assert "favourite lighthouse" in recalled.memories[0].text
    assert (await recall(question, vector, (), world.turn(question).ctx)).memories == ()
    numbered = evidence(recalled.found, recalled.memories, ())
    assert [item.index for item in numbered] == list(range(1, len(numbered) + 1))
    assert numbered[-1].document == ""
    far = (await world.deps.embedder.embed(["Boiling point of mercury"]))[0]
    assert (await recall("Boiling point of mercury", far, (), world.turn("x", thread="t2").ctx)).memories == ()


class GoneMemory:
    """A memory that broke between two calls."""

    async def stage(self, scope: Scope, source: str, version: str, records: Sequence[Record]) -> None:
        raise MemoryUnavailable("the disk is away; plug it in")

    async def publish(self, scope: Scope, source: str, version: str | None, count: int) -> None:
        raise MemoryUnavailable("the disk is away; plug it in")

    async def search(self, scope: Scope, query: Query, limit: int) -> list[Hit]:
        raise MemoryUnavailable("the disk is away; plug it in")

    async def scores(self, scope: Scope, query: Query, ids: Sequence[str]) -> dict[str, Score]:
        raise MemoryUnavailable("the disk is away; plug it in")

    async def get(self, scope: Scope, ids: Sequence[str]) -> list[Record]:
        raise MemoryUnavailable("the disk is away; plug it in")

    async def foresee(self, scope: Scope, text: str) -> None:
        return None

    async def statistics(self, scope: Scope, words: Sequence[str]) -> Statistics:
        raise MemoryUnavailable("the disk is away; plug it in")

    async def close(self) -> None:
        return None


class GoneSearch(Search):
    """A search whose graph has gone: worse, or nothing."""

    wholly = False

    async def __call__(
        self, tenant: str, query: SearchQuery, limit: int, *, note: Callable[[str], None] = lambda _: None
    ) -> list[Found]:
        if self.wholly:
            raise GraphUnavailable("no catalog")
        note("The links between documents are not available.")
        return []


async def test_what_is_gone_costs_a_note_and_not_the_turn(world: World) -> None:
    vector = (await world.deps.embedder.embed(["Gull Point Lighthouse"]))[0]
    heard = world.turn("x", thread="t", deps=replace(world.deps, memory=GoneMemory()))
    recalled = await recall("Gull Point Lighthouse", vector, (), heard.ctx)
    assert len(recalled.found) > 0
    assert [note.code for note in recalled.notes] == ["memory_unavailable"]
    for wholly, code in ((True, "memory_unavailable"), (False, "knowledge_unavailable")):
        search = GoneSearch(world.deps.memory, world.deps.graph, world.deps.catalog)
        search.wholly = wholly
        deps = replace(world.deps, search=search)
        less = await recall("Gull Point", vector, (), world.turn("x", thread="t", deps=deps).ctx)
        assert (less.found, [note.code for note in less.notes]) == ((), [code])


async def test_finds_are_merged_in_turn_without_doubles(world: World) -> None:
    ctx = world.turn("x").ctx
    ferry, ada = await retrieve("Harbour Ferry", ctx), await retrieve("Ada Marlowe", ctx)
    speculative = await retrieve("Tern Server", ctx)
    both = merged(speculative, [ferry, ada])
    titles = [hit.passage.title for hit in both.found]
    assert titles[:2] == ["Harbour Ferry", "Ada Marlowe"]
    assert len({hit.passage.id for hit in both.found}) == len(both.found)
    assert merged(speculative, []).found == speculative.found
    one = merged(speculative, [Recalled(ferry.found[:1])], limit=2)
    assert one.found[0].passage.id == ferry.found[0].passage.id
    assert len(one.found) == 2


async def test_a_foreign_tools_data_is_never_taken_for_documents(world: World) -> None:
    caller = Caller("acme", "ann")
    own = await world.deps.tools.call(caller, call("search_knowledge", '{"query": "Harbour Ferry", "limit": 2}'))
    foreign = ToolResult("2", own.text, Label("acme", "tool:elsewhere/search_knowledge", 0), data=own.data)
    odd = ToolResult("3", "odd", Label("acme", "tool:builtin/search_knowledge", 0), data={"passages": "none"})
    numbered = evidence((), (), [own, foreign, odd])
    assert [bool(item.document) for item in numbered] == [True, True, False, False]
    assert numbered[0].title == "Harbour Ferry"
    assert numbered[0].text.startswith("# Harbour Ferry") or "crosses the bay" in numbered[0].text
    first = (await retrieve("Harbour Ferry", world.turn("x").ctx)).found[:1]
    assert len(evidence(first, (), [own])) == 2


async def test_the_summary_is_the_models_or_one_line_a_turn(world: World) -> None:
    said = conversation("Who built it?", "Ada did. [1] She was good.\n\n[1] Source", "And the ferry?", "It runs.")
    written = world.turn("x", model=ScriptedModel(says(" They spoke of Ada. ")))
    assert await summarise("Before.", said, written.ctx) == "They spoke of Ada."
    lines = "Before.\n- You asked: Who built it? Answer: Ada did.\n- You asked: And the ferry? Answer: It runs."
    silent = world.turn("x", model=ScriptedModel(says(" ")))
    for heard in (world.turn("x"), silent):
        assert await summarise("Before.", said, heard.ctx) == lines
    late = world.turn("x", model=ScriptedModel(says("late")), limits=Limits(seconds=0))
    assert await summarise("Before.", said, late.ctx) == lines


def test_a_summary_without_a_model_stays_short_and_drops_the_oldest() -> None:
    said = conversation(*(f"Thing {place} {'long ' * 100}" for place in range(40)))
    summary = condensed("Oldest.", said)
    assert len(summary) <= LONGEST
    assert "Oldest." not in summary
    assert "Thing 38" in summary
