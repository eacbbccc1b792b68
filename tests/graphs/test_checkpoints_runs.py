# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Runs that wait, park, and go on from their checkpoint, through the engine's one door."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

import anyio
import anyio.lowlevel
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from agents.context import Deps, Turn
from agents.model import ModelBroken, ModelDelta
from agents.scripted import Scripted, ScriptedModel, says
from agents.types import Draft, Message, Note
from graphs import chat
from graphs.checkpoints import Checkpoints
from graphs.control import Durability, Park, Resume
from graphs.events import (
    ApprovalRequested,
    Cited,
    Event,
    Noted,
    RunFailed,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    Token,
)
from graphs.state import ChatState, Run
from memory.sql import SqlDatabase
from memory.types import Label
from serving.ids import uuid7
from serving.runtime import Runtime
from tests.databases import database, postgres_made, postgres_urls
from tests.graphs.test_chat import gated

__all__ = ["database", "postgres_made", "postgres_urls"]

QUESTION = "How tall is Gull Point Lighthouse?"
DURABILITIES: tuple[Durability, ...] = ("exit", "sync")


def turn(text: str = QUESTION) -> Turn:
    return Turn(uuid7(), "local", "local", (Message("user", text, Label("local", "user", 3)),))


def with_model(runtime: Runtime, *answers: Scripted) -> Deps:
    return replace(runtime.deps, model=ScriptedModel(*answers))


async def stored(database: SqlDatabase) -> tuple[int, int]:
    """How many checkpoints and writes are on disk."""
    return await database.read(
        lambda connection: cast(
            tuple[int, int],
            connection.execute(
                "SELECT (SELECT count(*) FROM checkpoints), (SELECT count(*) FROM checkpointwrites)"
            ).fetchone(),
        )
    )


async def played(
    graph: chat.ChatGraph,
    deps: Deps,
    asked: Turn,
    *,
    durability: Durability = "sync",
    resume: Resume | None = None,
    park: Park | None = None,
) -> list[Event]:
    with anyio.fail_after(20):
        async with aclosing(chat.run(graph, deps, asked, durability=durability, resume=resume, park=park)) as events:
            return [event async for event in events]


async def parked_at(
    graph: chat.ChatGraph, deps: Deps, asked: Turn, step: str, durability: Durability = "sync"
) -> list[Event]:
    """The events of a run that is asked to stop while this step works."""
    park, seen = Park(), list[Event]()
    with anyio.fail_after(20):
        async with aclosing(chat.run(graph, deps, asked, durability=durability, park=park)) as events:
            async for event in events:
                seen.append(event)
                if event == StepStarted(step):
                    park.request()
    return seen


def steps(events: Sequence[Event]) -> set[str]:
    return {event.step for event in events if isinstance(event, StepStarted)}


def text(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token))


async def test_an_interactive_run_leaves_nothing_on_disk_at_any_time(runtime: Runtime, database: SqlDatabase) -> None:
    graph = chat.build(Checkpoints(database))
    with anyio.fail_after(20):
        async with aclosing(chat.run(graph, with_model(runtime, says("34.")), turn())) as events:
            async for event in events:
                assert await stored(database) == (0, 0), event
    assert await stored(database) == (0, 0)


async def test_a_background_run_holds_one_checkpoint_until_it_is_forgotten(
    runtime: Runtime, database: SqlDatabase
) -> None:
    saver, asked = Checkpoints(database), turn()
    graph = chat.build(saver)
    with anyio.fail_after(20):
        async with aclosing(chat.run(graph, with_model(runtime, says("34.")), asked, durability="sync")) as events:
            async for event in events:
                if isinstance(event, StepStarted):
                    assert (await stored(database))[0] == 1
    assert (await stored(database))[0] == 1
    await saver.forget(asked.run)
    assert await stored(database) == (0, 0)


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_a_parked_run_goes_on_in_another_process_s_graph(
    runtime: Runtime, database: SqlDatabase, durability: Durability
) -> None:
    deps, asked = with_model(runtime, says("It is 34 metres tall [1].")), turn()
    before = await parked_at(chat.build(Checkpoints(database)), deps, asked, "recall", durability)
    assert isinstance(before[-1], StepFinished)
    assert steps(before) == {"begin", "screen", "understand", "recall"}
    after = await played(chat.build(Checkpoints(database)), deps, asked, durability=durability, resume=Resume())
    assert isinstance(after[0], RunStarted)
    assert steps(after) == {"plan", "answer", "check"}
    assert isinstance(after[-1], RunFinished)
    assert after[-1].draft.text == text(after) == "It is 34 metres tall [1]."
    assert after[-1].draft.citations[0].title == "Gull Point Lighthouse"


async def test_a_run_that_is_parked_after_its_answer_says_the_answer_once_more(
    runtime: Runtime, database: SqlDatabase
) -> None:
    model = ScriptedModel(says("It is 34 ", "metres tall [1]. It was painted green by pirates in 1950."))
    graph, deps, asked = chat.build(Checkpoints(database)), replace(runtime.deps, model=model), turn()
    before = await parked_at(graph, deps, asked, "answer")
    assert "check" not in steps(before)
    after = await played(graph, deps, asked, resume=Resume())
    assert steps(after) == {"check"}
    assert len(model.requests) == 1
    assert [event for event in after if isinstance(event, Token)] == [Token(text(before))]
    assert [event for event in after if isinstance(event, Cited)] == [e for e in before if isinstance(e, Cited)]
    last = after[-1]
    assert isinstance(last, RunFinished)
    assert last.draft.text == text(after)
    assert "unsupported" in [note.code for note in last.draft.notes]
    assert [event.note for event in after if isinstance(event, Noted)] == list(last.draft.notes)


async def test_a_run_that_ended_before_its_end_was_stored_ends_again_without_a_step(
    runtime: Runtime, database: SqlDatabase
) -> None:
    graph, deps, asked = chat.build(Checkpoints(database)), with_model(runtime, says("34 metres [1].")), turn()
    first = await played(graph, deps, asked)
    again = await played(graph, deps, asked, resume=Resume())
    assert steps(again) == set()
    assert text(again) == text(first)
    assert again[-1] == first[-1]


async def test_of_steps_that_run_together_those_that_ended_are_not_repeated(
    runtime: Runtime, database: SqlDatabase
) -> None:
    deps, memory = gated(runtime, with_model(runtime, says("34 metres [1].")))
    graph, asked, waiting = chat.build(Checkpoints(database)), turn(), {"screen", "understand"}
    with anyio.fail_after(20):
        async with aclosing(chat.run(graph, deps, asked, durability="sync")) as events:
            async for event in events:
                if isinstance(event, StepFinished):
                    waiting.discard(event.step)
                if not waiting:
                    break
            await memory.searching.wait()
            while (await stored(database))[1] < 2:
                await anyio.lowlevel.checkpoint()
    memory.gate.set()
    again = await played(graph, deps, asked, resume=Resume())
    assert steps(again) == {"recall", "plan", "answer", "check"}
    assert isinstance(again[-1], RunFinished)


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_a_run_without_a_checkpoint_begins_anew(
    runtime: Runtime, database: SqlDatabase, durability: Durability
) -> None:
    graph, deps = chat.build(Checkpoints(database)), with_model(runtime, says("34 metres [1]."))
    events = await played(graph, deps, turn(), durability=durability, resume=Resume())
    assert {"begin", "answer"} <= steps(events)
    assert isinstance(events[-1], RunFinished)


async def test_a_checkpoint_that_cannot_be_read_is_dropped_and_the_run_begins_anew(
    runtime: Runtime, database: SqlDatabase
) -> None:
    graph, deps, asked = chat.build(Checkpoints(database)), with_model(runtime, says("34 metres [1].")), turn()
    await parked_at(graph, deps, asked, "plan")
    await database.write(lambda connection: connection.execute("UPDATE checkpoints SET body = ?", (b"\xc1",)) and None)
    events = await played(graph, deps, asked, resume=Resume())
    assert "begin" in steps(events)
    assert isinstance(events[-1], RunFinished)


async def test_a_run_whose_reader_left_goes_on_in_the_background_s_way(runtime: Runtime, database: SqlDatabase) -> None:
    hangs: Scripted = (ModelDelta("It is "), anyio.Event())
    graph, asked = chat.build(Checkpoints(database)), turn()
    with anyio.fail_after(20):
        deps = with_model(runtime, hangs)
        async with aclosing(chat.run(graph, deps, asked, durability="sync")) as events:
            async for event in events:
                if isinstance(event, Token):
                    break
    again = await played(graph, with_model(runtime, says("It is 34 metres [1].")), asked, resume=Resume())
    assert steps(again) == {"answer", "check"}
    assert text(again) == "It is 34 metres [1]."


async def test_a_model_that_breaks_off_fails_a_background_run_too(runtime: Runtime, database: SqlDatabase) -> None:
    broken: Scripted = (ModelDelta("The lighthouse "), ModelBroken("the model's stream broke off"))
    events = await played(chat.build(Checkpoints(database)), with_model(runtime, broken), turn())
    assert events[-1] == RunFailed("the model's stream broke off", "The lighthouse ")


async def test_a_graph_without_checkpoints_runs_on_when_it_is_asked_to_park(runtime: Runtime) -> None:
    events = await parked_at(chat.build(), with_model(runtime, says("34 metres [1].")), turn(), "recall")
    assert isinstance(events[-1], RunFinished)


class Asks(Protocol):
    """A node as LangGraph calls it: by this name."""

    async def __call__(self, state: ChatState) -> ChatState: ...


@dataclass
class Asking:
    """A small graph whose steps ask a person, one interrupt for each question, at the same time."""

    database: SqlDatabase
    questions: tuple[str, ...] = ("send?",)
    ran: list[str] = field(default_factory=list[str])

    def graph(self) -> chat.ChatGraph:
        """Compiled anew, as another process would."""
        drawn: StateGraph[ChatState, Run, ChatState, ChatState] = StateGraph(ChatState, context_schema=Run)

        async def prepare(state: ChatState) -> ChatState:
            self.ran.append("prepare")
            return ChatState(question="q")

        async def finish(state: ChatState) -> ChatState:
            self.ran.append("finish")
            said = sorted(note.text for note in state.get("notes", []))
            return ChatState(draft=Draft(", ".join(said), "answered", "stop", "rules"))

        def asks(question: str) -> Asks:
            async def ask(state: ChatState) -> ChatState:
                answer = cast(object, interrupt({"question": question}))
                self.ran.append(question)
                return ChatState(notes=[Note("decided", f"{question} {answer}")])

            return ask

        drawn.add_node("prepare", prepare)
        drawn.add_node("finish", finish)
        drawn.add_edge(START, "prepare")
        for question in self.questions:
            drawn.add_node(question, asks(question))
            drawn.add_edge("prepare", question)
        drawn.add_edge(list(self.questions), "finish")
        drawn.add_edge("finish", END)
        return drawn.compile(checkpointer=Checkpoints(self.database))


def approvals(events: Sequence[Event]) -> dict[str, str]:
    """Question to the id that its answer must name."""
    asked = [event for event in events if isinstance(event, ApprovalRequested)]
    return {str(cast(dict[str, object], event.value)["question"]): event.id for event in asked}


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_a_step_that_asks_a_person_ends_the_run_s_events_and_goes_on_with_the_answer(
    runtime: Runtime, database: SqlDatabase, durability: Durability
) -> None:
    asking, asked = Asking(database), turn()
    events = await played(asking.graph(), runtime.deps, asked, durability=durability)
    assert isinstance(events[-1], ApprovalRequested)
    assert events[-1].value == {"question": "send?"}
    assert (await stored(database))[0] == 1
    answers = Resume({events[-1].id: True})
    events = await played(asking.graph(), runtime.deps, asked, durability=durability, resume=answers)
    assert isinstance(events[-1], RunFinished)
    assert events[-1].draft.text == "send? True"
    assert asking.ran == ["prepare", "send?", "finish"]


async def test_a_run_that_waits_and_is_taken_up_without_an_answer_asks_again(
    runtime: Runtime, database: SqlDatabase
) -> None:
    asking, asked = Asking(database), turn()
    first = await played(asking.graph(), runtime.deps, asked, durability="exit")
    again = await played(asking.graph(), runtime.deps, asked, durability="exit", resume=Resume())
    assert approvals(again) == approvals(first)
    events = await played(
        asking.graph(), runtime.deps, asked, durability="exit", resume=Resume({approvals(again)["send?"]: "no"})
    )
    assert isinstance(events[-1], RunFinished)
    assert events[-1].draft.text == "send? no"


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_two_questions_at_once_may_be_answered_one_after_the_other(
    runtime: Runtime, database: SqlDatabase, durability: Durability
) -> None:
    asking, asked = Asking(database, ("send?", "pay?")), turn()
    open_questions = approvals(await played(asking.graph(), runtime.deps, asked, durability=durability))
    assert set(open_questions) == {"send?", "pay?"}
    answer = Resume({open_questions["pay?"]: 5})
    events = await played(asking.graph(), runtime.deps, asked, durability=durability, resume=answer)
    assert approvals(events) == {"send?": open_questions["send?"]}
    answer = Resume({open_questions["send?"]: True})
    events = await played(asking.graph(), runtime.deps, asked, durability=durability, resume=answer)
    assert isinstance(events[-1], RunFinished)
    assert events[-1].draft.text == "pay? 5, send? True"
    assert asking.ran == ["prepare", "pay?", "send?", "finish"]
