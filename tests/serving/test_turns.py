"""Turns: what is stored before and after a run, and what a conversation carries from turn to turn."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import anyio
import pytest

from agents.context import Limits
from agents.model import ChatModel, ModelBroken, ModelDelta, ModelRequest
from agents.scripted import Scripted, ScriptedModel, says
from agents.types import Draft, Message
from graphs.events import Event, RunCancelled, RunFailed, RunFinished, RunStarted, Sequenced, Token
from memory.sql import Connection, every_tenant
from memory.types import TRUST_NONE, TRUST_USER, Label
from serving.conversations import Conversations
from serving.leases import Leases
from serving.live import LiveRun
from serving.principal import Principal
from serving.processes import FolderPresence
from serving.records import Run, StoredMessage, UnknownThread
from serving.repository import Repository
from serving.runtime import Runtime, load_engine, open_runtime
from serving.settings import Settings
from serving.turns import ThreadBusy, TurnRequest, Turns
from tests.databases import postgres_made, record

__all__ = ["postgres_made", "record"]

WHO = Principal()


@pytest.fixture(scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory, record: dict[str, str]) -> AsyncIterator[Runtime]:
    folder = tmp_path_factory.mktemp("turns")
    file = folder / "mill.md"
    file.write_text("# Old Mill\n\nThe Old Mill was built by Tomas Reed. It was closed in 1954.\n", encoding="utf-8")
    async with open_runtime(Settings.model_validate({"data_dir": folder, **record})) as opened:
        await opened.ingest.paths("local", [str(file)], lambda _: None)
        yield opened


def turns(runtime: Runtime, model: ChatModel | None = None) -> Turns:
    load = partial(load_engine, runtime.database)
    return Turns(replace(runtime.deps, model=model), load, runtime.repository, Limits())


def asking(text: str, thread: str = "") -> TurnRequest:
    return TurnRequest(WHO, (Message("user", text, Label("local", "user", TRUST_USER)),), thread=thread)


async def played(door: Turns, request: TurnRequest) -> list[Event]:
    with anyio.fail_after(30):
        async with aclosing(door.run(request)) as events:
            return [one.event async for one in events]


async def answered(door: Turns, request: TurnRequest) -> Draft:
    last = (await played(door, request))[-1]
    assert isinstance(last, RunFinished)
    return last.draft


def run_id(events: list[Event]) -> str:
    assert isinstance(events[0], RunStarted)
    return events[0].run


async def row(runtime: Runtime, run: str) -> Run:
    found = await runtime.repository.run("local", "local", run)
    assert found is not None
    return found


async def messages(runtime: Runtime, thread: str) -> list[StoredMessage]:
    return await runtime.repository.messages("local", "local", thread)


async def new_thread(runtime: Runtime) -> str:
    return (await Conversations(runtime.database).create(WHO)).id


async def test_a_stateless_turn_leaves_only_its_run_with_usage_and_verdicts(runtime: Runtime) -> None:
    request = replace(asking("Who built the Old Mill?"), caller_user="u-7", metadata={"app": "kiosk"})
    stored = await row(runtime, run_id(await played(turns(runtime), request)))
    assert (stored.status, stored.outcome, stored.model, stored.thread) == ("finished", "answered", "extractive", "")
    assert (stored.caller_user, stored.metadata) == ("u-7", {"app": "kiosk"})
    assert (await Conversations(runtime.database).page(WHO, None, 10)).items == ()


async def test_a_conversation_goes_on_where_it_was(runtime: Runtime) -> None:
    thread = await new_thread(runtime)
    await answered(turns(runtime), asking("Who built the Old Mill?", thread))
    second = await answered(turns(runtime), asking("And when was it closed?", thread))
    assert "1954" in second.citations[0].quote
    stored = await messages(runtime, thread)
    assert [(m.role, m.status) for m in stored] == [("user", "complete"), ("assistant", "complete")] * 2
    assert stored[3].content == second.text
    assert stored[3].citations == second.citations


async def test_what_a_user_said_of_themselves_is_found_in_a_later_conversation(runtime: Runtime) -> None:
    first, second = await new_thread(runtime), await new_thread(runtime)
    model = ScriptedModel(says("Noted."), says("It is green tea."))
    door = turns(runtime, model)
    await answered(door, asking("Please remember that my favourite drink is green tea.", first))
    await answered(door, asking("Which drink do I like most?", second))
    assert "my favourite drink is green tea" in "".join(m.content for m in model.requests[-1].messages)
    stateless = ScriptedModel(says("I do not know."))
    await answered(turns(runtime, stateless), asking("Which drink do I like most?"))
    assert "green tea" not in "".join(m.content for m in stateless.requests[-1].messages)


async def test_what_was_said_before_a_cancel_is_stored_as_incomplete(runtime: Runtime) -> None:
    thread = await new_thread(runtime)
    hanging: Scripted = (ModelDelta("The mill stands "), anyio.Event())
    run = ""
    with anyio.fail_after(10):
        async with aclosing(turns(runtime, ScriptedModel(hanging)).run(asking("Tell me of the mill", thread))) as all_:
            async for one in all_:
                run = one.run
                if isinstance(one.event, Token):
                    break
    assert (await row(runtime, run)).status == "cancelled"
    last = (await messages(runtime, thread))[-1]
    assert (last.role, last.status, last.content) == ("assistant", "cancelled", "The mill stands ")


async def test_a_model_that_breaks_off_fails_the_run_and_keeps_what_was_said(runtime: Runtime) -> None:
    thread = await new_thread(runtime)
    broken: Scripted = (ModelDelta("It was "), ModelBroken("the model's stream broke off"))
    events = await played(turns(runtime, ScriptedModel(broken)), asking("When was the mill closed?", thread))
    assert isinstance(events[-1], RunFailed)
    stored = await row(runtime, run_id(events))
    assert (stored.status, stored.error) == ("failed", "the model's stream broke off")
    assert [m.status for m in await messages(runtime, thread)] == ["complete", "failed"]


async def test_a_bug_is_raised_and_the_run_is_marked_as_failed(runtime: Runtime) -> None:
    run = ""
    with pytest.raises(ZeroDivisionError):
        async with aclosing(turns(runtime, ScriptedModel((ZeroDivisionError(),))).run(asking("Why a mill?"))) as all_:
            async for one in all_:
                run = one.run
    stored = await row(runtime, run)
    assert (stored.status, stored.error) == ("failed", "internal error: ZeroDivisionError")


async def test_a_busy_conversation_refuses_a_second_run_and_names_the_first(runtime: Runtime) -> None:
    thread = await new_thread(runtime)
    door = turns(runtime, ScriptedModel((ModelDelta("One"), anyio.Event())))
    async with aclosing(door.run(asking("Tell me of the mill", thread))) as first:
        started = await anext(first)
        with pytest.raises(ThreadBusy) as busy:
            await played(door, asking("And now?", thread))
        assert busy.value.run == started.run
    free = turns(runtime)
    assert (await answered(free, asking("Who built the Old Mill?", thread))).text


async def test_an_unknown_conversation_stores_nothing_and_is_free_again(runtime: Runtime) -> None:
    door = turns(runtime)
    for _ in range(2):
        with pytest.raises(UnknownThread):
            await played(door, asking("Hello", "no-such-thread"))


async def test_a_long_conversation_gets_a_running_summary_and_keeps_its_newest_turns(runtime: Runtime) -> None:
    thread = await new_thread(runtime)
    long = "The mill has many stones and every stone has a name of its own. " * 60
    model = ScriptedModel(says("I see."), name="scripted", window=100_000)
    door = turns(runtime, model)
    for number in range(8):
        await answered(door, asking(f"Note {number}: {long}", thread))
    with anyio.fail_after(10):
        while True:
            summarised = await runtime.repository.thread("local", "local", thread)
            assert summarised is not None
            if summarised.summary:
                break
            await asyncio.sleep(0)
    assert 0 < summarised.summary_upto <= 8
    await answered(door, asking("And now a short question about the mill?", thread))
    prompt = "".join(m.content for m in model.requests[-1].messages)
    assert summarised.summary in prompt
    assert "Note 7" in prompt
    assert "Note 0: The mill" not in prompt
    await door.close()


async def test_a_reader_may_leave_at_any_moment_and_nothing_stays_under_way(runtime: Runtime) -> None:
    model = ScriptedModel((ModelDelta("One "), ModelDelta("two"), anyio.Event()))
    door = turns(runtime, model)
    await door.warm()
    left: list[str] = []
    tasks = asyncio.all_tasks()
    for moment in range(0, 120, 3):
        thread = await new_thread(runtime)
        left.append(thread)
        reading = asyncio.create_task(played(door, asking("Tell me of the mill", thread)))
        for _ in range(moment):
            await asyncio.sleep(0)
        reading.cancel()
        with anyio.fail_after(5):
            await asyncio.wait([reading])
        del reading
    await door.close()
    gc.collect()
    assert [kept for kept in gc.get_objects() if isinstance(kept, LiveRun)] == []
    assert asyncio.all_tasks() == tasks
    assert await active(runtime) == []
    assert model.closed == len(model.requests)
    for thread in left:
        stored = [(m.role, m.status) for m in await messages(runtime, thread)]
        assert stored in ([], [("user", "complete")], [("user", "complete"), ("assistant", "cancelled")])


async def active(runtime: Runtime) -> list[str]:
    sql = "SELECT id FROM runs WHERE status IN ('queued', 'running', 'waiting')"
    with every_tenant():
        return [id for (id,) in await runtime.database.read(lambda connection: connection.execute(sql).fetchall())]


async def test_a_background_run_needs_no_reader_and_a_reader_that_leaves_does_not_end_it(runtime: Runtime) -> None:
    thread, pause = await new_thread(runtime), anyio.Event()
    spoken: Scripted = (ModelDelta("The mill "), pause, ModelDelta("stands."), ModelDelta(finish="stop"))
    door = turns(runtime, ScriptedModel(spoken))
    run = await door.start(asking("Tell me of the mill", thread))
    with anyio.fail_after(30):
        async with aclosing(door.events(run)) as first:
            async for one in first:
                if isinstance(one.event, Token):
                    break
        pause.set()
        async with aclosing(door.events(run)) as second:
            told = [one async for one in second]
    assert [one.seq for one in told] == list(range(1, len(told) + 1))
    assert isinstance(told[-1].event, RunFinished)
    assert [m.content for m in await messages(runtime, thread)] == ["Tell me of the mill", "The mill stands."]
    assert (await row(runtime, run.id)).background


async def test_a_cancel_from_elsewhere_ends_the_models_call_and_tells_the_reader(runtime: Runtime) -> None:
    thread = await new_thread(runtime)
    model = ScriptedModel((ModelDelta("The mill stands "), anyio.Event()))
    door = turns(runtime, model)
    told: list[Sequenced] = []
    with anyio.fail_after(10):
        async with aclosing(door.run(asking("Tell me of the mill", thread))) as events:
            async for one in events:
                told.append(one)
                if isinstance(one.event, Token):
                    assert await door.cancel(await row(runtime, one.run))
                    assert model.closed == len(model.requests)
    assert told[-1].event == RunCancelled("The mill stands ")
    stored = await row(runtime, told[-1].run)
    assert stored.status == "cancelled"
    assert not await door.cancel(stored)
    assert [m.status for m in await messages(runtime, thread)] == ["complete", "cancelled"]


async def test_a_bug_in_a_background_run_is_its_last_event_and_in_the_log(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    door = turns(runtime, ScriptedModel((ZeroDivisionError(),)))
    run = await door.start(asking("Why a mill?"))
    with anyio.fail_after(10):
        async with aclosing(door.events(run)) as events:
            told = [one.event async for one in events]
    assert told[-1] == RunFailed("internal error: ZeroDivisionError", "")
    await door.close()
    assert any(run.id in record.getMessage() and record.exc_info for record in caplog.records)


async def test_the_clock_stepped_back_an_hour_loses_and_reorders_nothing(runtime: Runtime, tmp_path: Path) -> None:
    times = [datetime(2026, 5, 1, 12, 0, tzinfo=UTC)]
    presence = FolderPresence(tmp_path)
    rows = Repository(runtime.database, presence, clock=lambda: times[-1])
    door = Turns(runtime.deps, partial(load_engine, runtime.database), rows, Limits())
    thread = await new_thread(runtime)
    questions = ("Who built the Old Mill?", "And when was it closed?", "Who built it again?")
    for hours, question in enumerate(questions):
        times.append(times[0] - timedelta(hours=hours))
        await answered(door, asking(question, thread))
        assert await Leases(rows).recover() == 0
    stored = await messages(runtime, thread)
    assert [m.number for m in stored] == [1, 2, 3, 4, 5, 6]
    assert [m.content for m in stored if m.role == "user"] == list(questions)
    assert stored[0].created_at > stored[2].created_at > stored[4].created_at
    assert all(m.status == "complete" for m in stored)
    await door.close()
    await presence.close()


async def test_several_new_messages_are_stored_in_order_and_name_the_conversation(runtime: Runtime) -> None:
    thread = await new_thread(runtime)
    mine, model = Label("local", "user", TRUST_USER), Label("local", "model", TRUST_NONE)
    request = TurnRequest(
        WHO,
        (
            Message("system", "Be brief.", Label("local", "system", TRUST_USER)),
            Message("user", "What is this?", mine),
            Message("assistant", "A mill.", model),
            Message("user", "Who built it?", mine),
        ),
        thread=thread,
    )
    scripted = ScriptedModel(says("Tomas Reed."))
    await answered(turns(runtime, scripted), request)
    stored = await messages(runtime, thread)
    assert [(m.role, m.content) for m in stored[:3]] == [
        ("user", "What is this?"), ("assistant", "A mill."), ("user", "Who built it?"),
    ]  # fmt: skip
    found = await runtime.repository.thread("local", "local", thread)
    assert found is not None
    assert found.title == "What is this?"
    prompt = "".join(m.content for m in scripted.requests[-1].messages)
    assert "Be brief." in prompt
    assert "A mill." in prompt


class Summarising(ScriptedModel):
    """Says the same to every question, and nothing when it is to write a summary."""

    asked = 0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        if "running summary of a conversation" in request.messages[0].content:
            self.asked += 1
            await anyio.Event().wait()
        async for delta in super().stream(request):
            yield delta


async def test_a_summary_under_way_is_given_up_when_the_process_ends(runtime: Runtime) -> None:
    thread = await new_thread(runtime)
    model = Summarising(says("I see. " * 2_000), window=100_000)
    door = turns(runtime, model)
    for number in range(6):
        await answered(door, asking(f"Note {number}: the mill has stones.", thread))
    with anyio.fail_after(10):
        while not model.asked:
            await asyncio.sleep(0)
        await door.close()
    found = await runtime.repository.thread("local", "local", thread)
    assert found is not None
    assert (found.summary, model.asked) == ("", 1)


async def test_what_a_claim_refuses_leaves_nothing_stored(runtime: Runtime) -> None:
    thread = await new_thread(runtime)

    def refuse(connection: Connection, run: str) -> None:
        connection.execute("UPDATE threads SET title = ?", (run,))
        raise PermissionError(run)

    request = replace(asking("Who built the Old Mill?", thread), claim=refuse, run="0199-own-id")
    for start in (played(turns(runtime), request), turns(runtime).start(request)):
        with pytest.raises(PermissionError, match="0199-own-id"):
            await start
    assert await messages(runtime, thread) == []
    assert await runtime.repository.run("local", "local", "0199-own-id") is None
    found = await runtime.repository.thread("local", "local", thread)
    assert found is not None
    assert found.title == ""


async def test_whoever_wants_to_know_hears_of_whole_answers_only(runtime: Runtime) -> None:
    heard: list[tuple[str, str, str]] = []

    async def hear(tenant: str, user: str, thread: str) -> None:
        heard.append((tenant, user, thread))

    broken = ScriptedModel((ModelDelta("It was "), ModelBroken("broken off")))
    load = partial(load_engine, runtime.database)
    door = Turns(runtime.deps, load, runtime.repository, Limits(), hear)
    failing = Turns(replace(runtime.deps, model=broken), load, runtime.repository, Limits(), hear)
    whole, part = await new_thread(runtime), await new_thread(runtime)
    await played(door, asking("Who built the Old Mill?", whole))
    await played(failing, asking("Who built the Old Mill?", part))
    await played(door, asking("Who built the Old Mill?"))
    assert heard == [("local", "local", whole)]
