"""Runs and the processes that work on them: what the others see, what is left of a dead one, who goes on."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from agents.context import Deps
from agents.types import Draft, Verdict
from evals.bench.record import pages
from graphs.control import Resume
from graphs.events import (
    AnswerRestarted,
    ApprovalRequested,
    Cited,
    Event,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunIncomplete,
    RunStarted,
    Sequenced,
    StepFinished,
    StepStarted,
    Token,
)
from serving.leases import DIED, Leases
from serving.live import AHEAD
from serving.outcomes import STOPPED
from serving.processes import FolderPresence
from serving.records import Answer, EventsGone, Run, ServerStopping, ThreadBusy
from tests.serving.told_engine import (
    CITATION,
    WHOLE,
    Process,
    asking,
    draft_of,
    ending,
    new_thread,
    played,
    process,
    row,
)


async def said(one: Process, thread: str) -> list[tuple[str, str, str]]:
    stored = await one.rows.messages("local", "local", thread)
    assert [message.number for message in stored] == list(range(1, len(stored) + 1))
    return [(message.role, message.content, message.status) for message in stored]


async def all_events(one: Process, run: Run, after: int = 0, *, follow: bool = True) -> list[Sequenced]:
    with anyio.fail_after(10):
        async with aclosing(one.turns.events(run, after, follow=follow)) as events:
            return [event async for event in events]


async def until(events: AsyncGenerator[Sequenced, None], kind: type[Event]) -> Sequenced:
    with anyio.fail_after(10):
        async for one in events:
            if isinstance(one.event, kind):
                return one
    raise AssertionError(f"no {kind.__name__} came")


async def test_replay_equals_what_was_sent_from_every_number_on(tmp_path: Path, deps: Deps) -> None:
    async with process(tmp_path, deps, StepStarted("answer"), *WHOLE) as one:
        thread = await new_thread(one)
        for request in (asking("Where?", thread), asking("Stateless?")):
            sent = await played(one.turns, request)
            assert draft_of(ending(sent)) == "The mill stands. [1]"
            run = await row(one, sent[0].run)
            for after in range(len(sent) + 1):
                assert await all_events(one, run, after) == sent[after:]
            assert await one.rows.answer(run) == Answer("The mill stands. [1]", "complete", (CITATION,))


async def test_another_process_follows_a_run_while_it_works(tmp_path: Path, deps: Deps) -> None:
    go_on = anyio.Event()
    async with process(tmp_path, deps, WHOLE[0], go_on, *WHOLE[1:]) as one, process(tmp_path, deps) as other:
        run = await one.turns.start(asking("Where?", await new_thread(one)))
        assert run.background
        async with aclosing(other.turns.events(run)) as events:
            seen = [await until(events, Token)]
            assert (await row(other, run.id)).status == "running"
            assert [one.seq for one in await all_events(other, run, follow=False)] == [1, 2]
            go_on.set()
            with anyio.fail_after(10):
                seen += [event async for event in events]
        assert [event.seq for event in seen] == [2, 3, 4, 5]
        assert draft_of(seen[-1].event) == "The mill stands. [1]"
        assert one.engine.durabilities == ["sync"]


async def test_two_processes_never_work_on_one_conversation(tmp_path: Path, deps: Deps) -> None:
    async with process(tmp_path, deps, anyio.Event()) as one, process(tmp_path, deps, *WHOLE) as other:
        thread = await new_thread(one)
        run = await one.turns.start(asking("Where?", thread))
        with pytest.raises(ThreadBusy) as busy:
            await played(other.turns, asking("And here?", thread))
        assert busy.value.run == run.id
        assert await said(other, thread) == [("user", "Where?", "complete")]


async def test_what_a_dead_process_had_said_is_kept_as_incomplete(tmp_path: Path, deps: Deps) -> None:
    async with process(tmp_path, deps, *WHOLE[:2], anyio.Event()) as dead, process(tmp_path, deps, *WHOLE) as other:
        thread = await new_thread(dead)
        async with aclosing(dead.turns.run(asking("Where?", thread))) as reading:
            run = await row(dead, (await until(reading, Cited)).run)
            async with aclosing(other.turns.events(run)) as events:
                await until(events, Cited)
            assert await Leases(other.rows).recover() == 0
            await dead.die()
            assert await Leases(other.rows).recover() == 1
            assert await Leases(other.rows).recover() == 0
            left = await row(other, run.id)
            assert (left.status, left.error) == ("incomplete", DIED)
            assert await said(other, thread) == [
                ("user", "Where?", "complete"),
                ("assistant", "The mill ", "incomplete"),
            ]
            events = await all_events(other, run)
            assert ending(events) == RunIncomplete(DIED, "The mill ")
            assert await other.rows.answer(left) == Answer("The mill ", "incomplete", (CITATION,))
        assert await all_events(other, run) == events  # the dead one's own end came too late
        assert draft_of(ending(await played(other.turns, asking("Again?", thread))))


async def test_a_dead_processs_conversation_is_freed_by_the_next_turn(tmp_path: Path, deps: Deps) -> None:
    async with process(tmp_path, deps, anyio.Event()) as dead, process(tmp_path, deps, *WHOLE) as other:
        thread = await new_thread(dead)
        async with aclosing(dead.turns.run(asking("Where?", thread))) as reading:
            await until(reading, RunStarted)
            await dead.die()
            await played(other.turns, asking("And now?", thread))
            assert [text for _, text, _ in await said(other, thread)] == ["Where?", "And now?", "The mill stands. [1]"]


async def test_a_run_whose_end_could_not_be_stored_does_not_keep_its_conversation(tmp_path: Path, deps: Deps) -> None:
    trigger = """CREATE TRIGGER full BEFORE UPDATE OF status ON runs WHEN NEW.status = 'finished'
        BEGIN SELECT RAISE(ABORT, 'no room'); END"""
    async with process(tmp_path, deps, *WHOLE) as one:
        thread = await new_thread(one)
        await one.database.write(lambda connection: _run(connection, trigger))
        with pytest.raises(sqlite3.IntegrityError, match="no room"):
            await played(one.turns, asking("Where?", thread))
        await one.database.write(lambda connection: _run(connection, "DROP TRIGGER full"))
        await played(one.turns, asking("And now?", thread))
        assert [status for _, _, status in await said(one, thread)] == ["complete"] * 3


def _run(connection: sqlite3.Connection, sql: str) -> None:
    connection.execute(sql)


async def test_a_background_run_of_a_dead_process_goes_on_in_the_next_with_higher_numbers(
    tmp_path: Path, deps: Deps
) -> None:
    async with process(tmp_path, deps, WHOLE[0], anyio.Event()) as dead, process(tmp_path, deps, *WHOLE) as other:
        thread = await new_thread(dead)
        run = await dead.turns.start(asking("Where?", thread))
        async with aclosing(other.turns.events(run)) as following:
            token = await until(following, Token)
            await dead.die()
            assert await Leases(other.rows).recover() == 1
            assert (await row(other, run.id)).status == "queued"
            assert await other.turns.take_up() == 1
            with anyio.fail_after(10):
                rest = [one async for one in following]
        assert [one.seq for one in rest] == list(range(token.seq + 1, token.seq + 1 + len(rest)))
        assert [type(one.event) for one in rest] == [AnswerRestarted, Token, Cited, Token, RunFinished]
        assert other.engine.resumed == [Resume()]
        assert [message.content for message in other.engine.turns[0].messages] == ["Where?"]
        assert (await row(other, run.id)).status == "finished"
        assert await said(other, thread) == [
            ("user", "Where?", "complete"), ("assistant", "The mill stands. [1]", "complete"),
        ]  # fmt: skip
        assert ending(await all_events(other, run)) == WHOLE[-1]
        assert await other.turns.take_up() == 0


async def test_a_stopped_server_parks_background_runs_and_cuts_the_others(tmp_path: Path, deps: Deps) -> None:
    async with process(tmp_path, deps, WHOLE[0], anyio.Event()) as one, process(tmp_path, deps, *WHOLE) as other:
        first, second = await new_thread(one), await new_thread(one)
        parked = await one.turns.start(asking("Where?", first))
        reading = asyncio.create_task(played(one.turns, asking("And here?", second)))
        with anyio.fail_after(10):
            while len(one.engine.turns) < 2 or not await said(one, second):
                await asyncio.sleep(0)
        lines = await one.turns.drain(0.05)
        events = await reading
        assert isinstance(ending(events), RunIncomplete)
        assert (await row(other, events[0].run)).error == STOPPED
        assert await said(other, second) == [
            ("user", "And here?", "complete"),
            ("assistant", "The mill ", "incomplete"),
        ]
        assert (await row(other, parked.id)).status == "queued"
        assert sorted(parked.id in line for line in lines) == [False, True]
        assert any("parked" in line for line in lines)
        with pytest.raises(ServerStopping):
            await played(one.turns, asking("More?"))
        assert await one.turns.take_up() == 0
        assert await other.turns.take_up() == 1
        assert draft_of(ending(await all_events(other, parked))) == "The mill stands. [1]"


async def test_a_run_that_can_stop_between_two_steps_is_parked_there(tmp_path: Path, deps: Deps) -> None:
    step = anyio.Event()
    async with process(tmp_path, deps, step, *WHOLE) as one, process(tmp_path, deps, *WHOLE) as other:
        run = await one.turns.start(asking("Where?", await new_thread(one)))
        async with aclosing(one.turns.events(run)) as following:
            await until(following, RunStarted)
            draining = asyncio.create_task(one.turns.drain(30))
            await asyncio.sleep(0)
            step.set()
            with anyio.fail_after(10):
                await draining
                assert [event async for event in following] == []
        assert (await row(other, run.id)).status == "queued"
        assert await other.turns.take_up() == 1
        events = await all_events(other, run)
        assert AnswerRestarted() not in [event.event for event in events]
        assert ending(events) == WHOLE[-1]


async def test_a_cancel_reaches_the_process_that_runs_it(tmp_path: Path, deps: Deps) -> None:
    async with process(tmp_path, deps, WHOLE[0], anyio.Event()) as one, process(tmp_path, deps) as other:
        thread = await new_thread(one)
        run = await one.turns.start(asking("Where?", thread))
        async with aclosing(one.turns.events(run)) as following:
            await until(following, Token)
            with anyio.fail_after(3):
                assert await other.turns.cancel(run)
            assert one.engine.closed == 1
            assert [event.event async for event in following] == [RunCancelled("The mill ")]
        assert (await row(other, run.id)).status == "cancelled"
        assert (await said(other, thread))[1:] == [("assistant", "The mill ", "cancelled")]
        assert not await other.turns.cancel(run)


async def test_a_run_without_a_process_can_be_cancelled(tmp_path: Path, deps: Deps) -> None:
    async with process(tmp_path, deps, WHOLE[0], anyio.Event()) as one, process(tmp_path, deps) as other:
        run = await one.turns.start(asking("Where?", await new_thread(one)))
        async with aclosing(one.turns.events(run)) as following:
            await until(following, Token)
        await one.turns.drain()
        assert await other.turns.cancel(run)
        assert ending(await all_events(other, run)) == RunCancelled("The mill ")
        assert await other.turns.take_up() == 0


async def test_a_run_that_asks_a_person_waits_and_keeps_its_conversation(tmp_path: Path, deps: Deps) -> None:
    async with process(tmp_path, deps, ApprovalRequested("a1", "send?")) as one, process(tmp_path, deps) as other:
        thread = await new_thread(one)
        run = await one.turns.start(asking("Send it", thread))
        async with aclosing(one.turns.events(run)) as following:
            assert (await until(following, ApprovalRequested)).seq == 2
            with anyio.fail_after(10):
                while (await row(other, run.id)).status != "waiting":
                    await asyncio.sleep(0)
        assert await Leases(other.rows).recover() == 0
        with pytest.raises(ThreadBusy):
            await played(other.turns, asking("And?", thread))
        assert await other.turns.cancel(run)
        assert (await row(one, run.id)).status == "cancelled"


async def test_more_background_runs_than_there_is_room_for_wait_their_turn(tmp_path: Path, deps: Deps) -> None:
    go_on = anyio.Event()
    async with process(tmp_path, deps, go_on, *WHOLE) as one:
        runs = [await one.turns.start(asking("Where?", await new_thread(one))) for _ in range(18)]
        with anyio.fail_after(10):
            while len(one.engine.turns) < 16:
                await asyncio.sleep(0)
        status = [(await row(one, run.id)).status for run in runs]
        assert (status.count("running"), status.count("queued")) == (16, 2)
        assert await one.turns.cancel(runs[-1])
        go_on.set()
        for run in runs[:-1]:
            assert ending(await all_events(one, run)) == WHOLE[-1]
        assert len(one.engine.turns) == 17


async def test_events_that_are_no_longer_kept_are_said_to_be_gone(tmp_path: Path, deps: Deps) -> None:
    async with process(tmp_path, deps, *WHOLE) as one:
        run = await row(one, (await played(one.turns, asking("Where?")))[0].run)
        await one.database.write(lambda connection: _run(connection, "DELETE FROM events"))
        with pytest.raises(EventsGone):
            await all_events(one, run)
        assert await one.rows.answer(run) is None


async def test_a_process_is_gone_when_its_lock_is(tmp_path: Path) -> None:
    mine, other = FolderPresence(tmp_path), FolderPresence(tmp_path)
    assert await mine.gone({other.name, mine.name}) == set()
    assert (mine.is_mine(mine.name), mine.is_mine(other.name)) == (True, False)
    name = other.name
    del other  # as the kernel does it: the lock is dropped, the file stays
    assert (tmp_path / "processes" / name).exists()
    third = FolderPresence(tmp_path)
    assert not (tmp_path / "processes" / name).exists()
    assert await mine.gone({name, third.name}) == {name}
    await third.close()
    assert [file.name for file in (tmp_path / "processes").iterdir()] == [mine.name]
    await mine.close()
    assert list((tmp_path / "processes").iterdir()) == []


async def test_a_slow_reader_of_an_attached_run_slows_it_and_a_follower_does_not(tmp_path: Path, deps: Deps) -> None:
    said: list[Event] = [Token(str(number)) for number in range(200)]
    async with process(tmp_path, deps, *said, WHOLE[-1]) as one:
        async with aclosing(one.turns.run(asking("Count"))) as reading:
            first = await until(reading, Token)
            run = await row(one, first.run)
            async with aclosing(one.turns.events(run)) as following:
                ahead = [await anext(following) for _ in range(AHEAD)]
            assert ahead[-1].seq == AHEAD
            assert len(await all_events(one, run, follow=False)) <= AHEAD + 2
            with anyio.fail_after(10):
                assert len([event async for event in reading]) == len(said)
        background = await one.turns.start(asking("Count"))
        assert len(await all_events(one, background)) == len(said) + 2


async def test_a_stateless_answer_that_broke_off_is_known_while_its_events_are_kept(tmp_path: Path, deps: Deps) -> None:
    broken = RunFailed("the model's stream broke off", "The mill ")
    async with process(tmp_path, deps, *WHOLE[:2], broken) as one:
        run = await row(one, (await played(one.turns, asking("Where?")))[0].run)
        assert await one.rows.answer(run) == Answer("The mill ", "failed", (CITATION,))
    async with process(tmp_path, deps, *WHOLE[:2], anyio.Event()) as one:
        run = await one.turns.start(asking("Where?"))
        async with aclosing(one.turns.events(run)) as following:
            await until(following, Cited)
        assert await one.turns.cancel(run)
        assert await one.rows.answer(run) == Answer("The mill ", "cancelled", (CITATION,))
        async with aclosing(one.turns.run(asking("Where?"))) as reading:
            run = await row(one, (await until(reading, Cited)).run)
            await one.turns.drain()
        assert await one.rows.answer(run) == Answer("The mill ", "incomplete", (CITATION,))


async def test_a_run_that_comes_while_the_server_stops_is_refused_or_stored_and_never_lost(
    tmp_path: Path, deps: Deps
) -> None:
    async with process(tmp_path, deps, *WHOLE) as one:
        thread = await new_thread(one)
        starting = asyncio.create_task(one.turns.start(asking("Where?", thread)))
        await asyncio.sleep(0)
        lines = await one.turns.drain()
        assert len(lines) == 1
        await asyncio.wait([starting])
        if isinstance(starting.exception(), ServerStopping):
            assert await said(one, thread) == []
        else:
            assert (await row(one, starting.result().id)).status == "queued"
            assert await said(one, thread) == [("user", "Where?", "complete")]


async def test_a_run_whose_end_cannot_be_stored_is_named_when_the_server_stops(tmp_path: Path, deps: Deps) -> None:
    trigger = """CREATE TRIGGER full BEFORE UPDATE OF status ON runs WHEN NEW.status = 'incomplete'
        BEGIN SELECT RAISE(ABORT, 'no room'); END"""
    async with process(tmp_path, deps, anyio.Event()) as one:
        await one.database.write(lambda connection: _run(connection, trigger))
        reading = asyncio.create_task(played(one.turns, asking("Where?", await new_thread(one))))
        with anyio.fail_after(10):
            while not one.engine.turns:
                await asyncio.sleep(0)
        lines = await one.turns.drain()
        with pytest.raises(sqlite3.IntegrityError):
            await reading
        assert "could not be stored" in lines[0]
        await one.database.write(lambda connection: _run(connection, "DROP TRIGGER full"))


async def test_events_that_cannot_be_stored_now_are_stored_later(
    tmp_path: Path, deps: Deps, caplog: pytest.LogCaptureFixture
) -> None:
    aside = tmp_path / "aside"
    go_on = anyio.Event()
    async with process(tmp_path, deps, WHOLE[0], go_on, *WHOLE[1:]) as one:
        file = one.database.path
        run = await one.turns.start(asking("Where?", await new_thread(one)))
        async with aclosing(one.turns.events(run)) as following:
            await until(following, RunStarted)
            file.rename(aside)
            with anyio.fail_after(10):
                while not any("could not be stored" in record.getMessage() for record in caplog.records):
                    await asyncio.sleep(0)
            aside.rename(file)
            go_on.set()
        assert ending(await all_events(one, run)) == WHOLE[-1]


async def test_a_hundred_turns_of_a_kilobyte_take_less_than_four_hundred(tmp_path: Path, deps: Deps) -> None:
    words = [f"mill{number:03} " for number in range(103)]
    draft = Draft("".join(words), "answered", "stop", "told", verdicts=(Verdict(True),))
    steps = [StepFinished(name, 0.001234) for name in ("begin", "screen", "understand", "recall", "plan", "answer")]
    async with process(tmp_path, deps, *steps, *map(Token, words), RunFinished(draft)) as one:
        thread = await new_thread(one)
        before, _ = pages(one.database.path)
        for _ in range(100):
            await played(one.turns, asking("Where does the mill stand? " * 7, thread))
        after, _ = pages(one.database.path)
        assert len(draft.text) + 189 > 1_000
        assert after - before < 400_000
