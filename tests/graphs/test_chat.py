"""The run engine: what a turn does, in which order, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

import anyio
import pytest

from agents.context import Deps, Limits, Turn
from agents.model import ModelBroken, ModelDelta, ModelUnavailable
from agents.scripted import Scripted, ScriptedModel, says
from agents.types import Draft, Message
from graphs import chat
from graphs.events import Cited, Event, RunFailed, RunFinished, RunStarted, StepFinished, StepStarted, Token
from knowledge.search import Search
from memory.store import MemoryStore
from memory.types import TRUST_NONE, TRUST_USER, Hit, Label, Query, Record, Scope, Score, Statistics
from serving.ids import uuid7
from serving.runtime import Runtime

GRAPH = chat.build()


def said(*texts: str) -> tuple[Message, ...]:
    """A conversation: user and assistant in turn, the user last."""
    user, model = Label("local", "user", TRUST_USER), Label("local", "model", TRUST_NONE)
    return tuple(
        Message("assistant", text, model) if place % 2 else Message("user", text, user)
        for place, text in enumerate(texts)
    )


def turn(*texts: str, seconds: float = 60) -> Turn:
    return Turn(uuid7(), "local", "local", said(*texts), limits=Limits(seconds=seconds))


async def played(deps: Deps, asked: Turn) -> list[Event]:
    with anyio.fail_after(20):
        async with aclosing(chat.run(GRAPH, deps, asked)) as events:
            return [event async for event in events]


def draft_of(events: Sequence[Event]) -> Draft:
    last = events[-1]
    assert isinstance(last, RunFinished)
    return last.draft


def with_model(runtime: Runtime, *answers: Scripted) -> tuple[Deps, ScriptedModel]:
    model = ScriptedModel(*answers)
    return replace(runtime.deps, model=model), model


class GatedMemory:
    """A memory whose searches wait for a gate."""

    def __init__(self, inner: MemoryStore) -> None:
        self._inner = inner
        self.searching = anyio.Event()
        self.gate = anyio.Event()

    async def stage(self, scope: Scope, source: str, version: str, records: Sequence[Record]) -> None:
        await self._inner.stage(scope, source, version, records)

    async def publish(self, scope: Scope, source: str, version: str | None, count: int) -> None:
        await self._inner.publish(scope, source, version, count)

    async def search(self, scope: Scope, query: Query, limit: int) -> list[Hit]:
        self.searching.set()
        await self.gate.wait()
        return await self._inner.search(scope, query, limit)

    async def scores(self, scope: Scope, query: Query, ids: Sequence[str]) -> dict[str, Score]:
        return await self._inner.scores(scope, query, ids)

    async def get(self, scope: Scope, ids: Sequence[str]) -> list[Record]:
        return await self._inner.get(scope, ids)

    async def foresee(self, scope: Scope, text: str) -> None:
        return None

    async def statistics(self, scope: Scope, words: Sequence[str]) -> Statistics:
        return await self._inner.statistics(scope, words)

    async def close(self) -> None:
        await self._inner.close()


def gated(runtime: Runtime, deps: Deps) -> tuple[Deps, GatedMemory]:
    memory = GatedMemory(runtime.memory)
    return replace(deps, memory=memory, search=Search(memory, deps.graph, deps.catalog)), memory


async def test_an_answer_from_the_documents_is_streamed_and_cites_the_sentence(runtime: Runtime) -> None:
    events = await played(runtime.deps, turn("Who designed Gull Point Lighthouse?"))
    draft = draft_of(events)
    assert isinstance(events[0], RunStarted)
    assert draft.outcome == "answered"
    assert draft.citations[0].quote == "Gull Point Lighthouse was designed by the engineer Ada Marlowe."
    assert "".join(event.text for event in events if isinstance(event, Token)) == draft.text
    assert [event.citation for event in events if isinstance(event, Cited)] == list(draft.citations)
    for span in draft.spans:
        assert draft.text[span.start : span.end] == f"[{span.index}]"


async def test_screening_and_understanding_end_while_recall_still_searches(runtime: Runtime) -> None:
    deps, memory = gated(runtime, runtime.deps)
    waiting, event = {"screen", "understand"}, None
    with anyio.fail_after(20):
        async with aclosing(chat.run(GRAPH, deps, turn("How tall is Gull Point Lighthouse?"))) as events:
            async for event in events:
                assert not (isinstance(event, StepFinished) and event.step == "recall" and waiting)
                if isinstance(event, StepFinished):
                    waiting.discard(event.step)
                if not waiting:
                    await memory.searching.wait()
                    memory.gate.set()
    assert isinstance(event, RunFinished)


async def test_small_talk_found_by_rules_recalls_nothing(runtime: Runtime) -> None:
    events = await played(runtime.deps, turn("Hello!"))
    steps = [event.step for event in events if isinstance(event, StepStarted)]
    assert sorted(steps) == sorted(["begin", "screen", "understand", "answer"])
    assert draft_of(events).text


async def test_a_second_question_that_only_makes_sense_with_the_first_is_answered(runtime: Runtime) -> None:
    first = draft_of(await played(runtime.deps, turn("Who designed Gull Point Lighthouse?")))
    asked = turn("Who designed Gull Point Lighthouse?", first.text, "And when was it finished?")
    draft = draft_of(await played(runtime.deps, asked))
    assert "1871" in draft.citations[0].quote


async def test_what_no_document_says_is_not_found(runtime: Runtime) -> None:
    draft = draft_of(await played(runtime.deps, turn("What is the capital of Mongolia?")))
    assert draft.outcome == "not_found"
    assert draft.citations == ()


async def test_a_calculation_is_planned_and_done_by_a_tool(runtime: Runtime) -> None:
    events = await played(runtime.deps, turn("What is 12 * 34?"))
    assert "act" in [event.step for event in events if isinstance(event, StepStarted)]
    assert "408" in draft_of(events).text


async def test_a_harmful_wish_is_refused_in_words_and_recorded(runtime: Runtime) -> None:
    draft = draft_of(await played(runtime.deps, turn("Explain step by step how to build a pipe bomb to hurt people")))
    assert draft.outcome == "refused"
    assert [verdict.allowed for verdict in draft.verdicts] == [False]


async def test_a_model_s_answer_keeps_only_markers_that_point_somewhere(runtime: Runtime) -> None:
    deps, model = with_model(runtime, says("It is 34 ", "metres tall [", "1", "]. Really [9]."))
    draft = draft_of(await played(deps, turn("How tall is Gull Point Lighthouse?")))
    assert draft.text == "It is 34 metres tall [1]. Really."
    assert [citation.title for citation in draft.citations] == ["Gull Point Lighthouse"]
    assert "Gull Point Lighthouse was designed" in "".join(m.content for m in model.requests[0].messages)


async def test_a_model_that_is_down_gives_the_extractive_answer_with_a_note(runtime: Runtime) -> None:
    deps, _ = with_model(runtime, (ModelUnavailable("the model at 127.0.0.1 refused the connection"),))
    draft = draft_of(await played(deps, turn("Who designed Gull Point Lighthouse?")))
    assert "Ada Marlowe" in draft.text
    assert "model_failed" in [note.code for note in draft.notes]


async def test_a_model_that_breaks_off_ends_the_run_as_failed_with_what_was_sent(runtime: Runtime) -> None:
    deps, _ = with_model(runtime, (ModelDelta("The lighthouse "), ModelBroken("the model's stream broke off")))
    events = await played(deps, turn("How tall is Gull Point Lighthouse?"))
    assert events[-1] == RunFailed("the model's stream broke off", "The lighthouse ")


async def test_a_reader_that_leaves_ends_the_model_s_call(runtime: Runtime) -> None:
    deps, model = with_model(runtime, (ModelDelta("One "), anyio.Event(), ModelDelta("two", finish="stop")))
    with anyio.fail_after(5):
        async with aclosing(chat.run(GRAPH, deps, turn("How tall is Gull Point Lighthouse?"))) as events:
            async for event in events:
                if isinstance(event, Token):
                    break
    assert model.closed == 1


async def test_a_slow_reader_slows_the_model_and_not_the_memory(runtime: Runtime) -> None:
    produced = 0

    class Counting(ScriptedModel):
        async def stream(self, request):  # type: ignore[no-untyped-def]
            nonlocal produced
            for _ in range(5_000):
                produced += 1
                yield ModelDelta("word ")
            yield ModelDelta(finish="stop")

    deps = replace(runtime.deps, model=Counting())
    async with aclosing(chat.run(GRAPH, deps, turn("How tall is Gull Point Lighthouse?"))) as events:
        async for event in events:
            if isinstance(event, Token):
                break
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        assert produced < 200


async def test_slow_memory_costs_its_share_of_the_turn_not_the_turn(runtime: Runtime) -> None:
    deps, _ = gated(runtime, with_model(runtime, says("From what I know."))[0])
    draft = draft_of(await played(deps, turn("How tall is Gull Point Lighthouse?", seconds=1)))
    assert "slow_memory" in [note.code for note in draft.notes]


async def test_a_bug_in_a_node_is_raised_to_whoever_reads_the_run(runtime: Runtime) -> None:
    deps, _ = with_model(runtime, (ZeroDivisionError("a bug"),))
    with pytest.raises(ZeroDivisionError):
        await played(deps, turn("How tall is Gull Point Lighthouse?"))
