"""Runs and the servers that share a bus: who follows hears at once, who lost a run lets it go, who died is missed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import anyio
import pytest

from agents.context import Deps
from graphs.events import AnswerRestarted, Cited, Event, RunCancelled, RunFinished, RunIncomplete, RunStarted, Token
from serving.bus import QUEUED_BELL
from serving.leased_presence import LEASE_SECONDS, LeasedPresence
from serving.leases import DIED, Leases
from serving.local_bus import LocalBus
from serving.records import Run
from serving.redis_bus import RedisBus
from tests.clock import Clock
from tests.faults import FaultProxy
from tests.serving.told_engine import WHOLE, Process, asking, ending, new_thread, played, process, row
from tests.serving.upstream import free_port

HOUR = 3600.0


class Told(LocalBus):
    """A bus that tells everything: nobody has to look into the database."""

    @property
    def look_seconds(self) -> float:
        return HOUR


async def all_events(one: Process, run: Run, after: int = 0) -> list[Event]:
    with anyio.fail_after(20):
        async with aclosing(one.turns.events(run, after)) as events:
            told = [event async for event in events]
    assert [event.seq for event in told] == list(range(after + 1, after + 1 + len(told)))
    return [event.event for event in told]


async def settled(one: Process) -> None:
    """Returns when nothing runs in this process."""
    with anyio.fail_after(20):
        while one.engine.closed < len(one.engine.turns):
            await asyncio.sleep(0)


async def test_followers_elsewhere_hear_everything_once_without_looking_into_the_database(
    tmp_path: Path, deps: Deps
) -> None:
    bus, pause = Told(), [anyio.Event() for _ in range(3)]
    said: list[Event] = [Token(f"{number} ") for number in range(300)]
    playing = (*said[:1], pause[0], *said[1:100], pause[1], *said[100:], pause[2], WHOLE[-1])
    async with process(tmp_path, deps, *playing, bus=bus) as one, process(tmp_path, deps, bus=bus) as other:
        run = await one.turns.start(asking("Count", await new_thread(one)))
        async with asyncio.TaskGroup() as group:
            heard = [group.create_task(all_events(other, run, after)) for after in (0, 0, 1, 50, 301)]
            with anyio.fail_after(20):
                for gate, count in zip(pause, (2, 101, 301), strict=True):
                    async with aclosing(other.turns.events(run)) as events:
                        async for event in events:
                            if event.seq == count:
                                break
                    gate.set()
        whole = await all_events(one, run)
        assert [task.result() for task in heard] == [whole[after:] for after in (0, 0, 1, 50, 301)]
        assert whole == [RunStarted(run.id), *said, WHOLE[-1]]


async def test_a_cancel_elsewhere_is_heard_without_looking_into_the_database(tmp_path: Path, deps: Deps) -> None:
    bus = Told()
    async with (
        process(tmp_path, deps, WHOLE[0], anyio.Event(), bus=bus) as one,
        process(tmp_path, deps, bus=bus) as other,
    ):
        run = await one.turns.start(asking("Where?", await new_thread(one)))
        async with aclosing(other.turns.events(run)) as following:
            with anyio.fail_after(20):
                async for event in following:
                    if isinstance(event.event, Token):
                        break
                assert await other.turns.cancel(run)
            assert one.engine.closed == 1
        assert (await all_events(other, run))[-1] == RunCancelled("The mill ")
        assert not await other.turns.cancel(run)


async def test_a_process_whose_run_was_taken_lets_it_go_and_changes_nothing(tmp_path: Path, deps: Deps) -> None:
    bus, go_on = Told(), anyio.Event()
    async with (
        process(tmp_path, deps, WHOLE[0], go_on, Token("nonsense"), WHOLE[-1], bus=bus) as slow,
        process(tmp_path, deps, *WHOLE, bus=bus) as other,
    ):
        run = await slow.turns.start(asking("Where?", await new_thread(slow)))
        async with aclosing(other.turns.events(run)) as following, aclosing(slow.turns.events(run)) as at_home:
            with anyio.fail_after(20):
                elsewhere = [await anext(following) for _ in range(2)]
                home = [await anext(at_home) for _ in range(2)]
            await slow.die()  # it only seems so
            assert await other.turns.take_up() == 1
            go_on.set()
            with anyio.fail_after(20):
                elsewhere += [event async for event in following]
                home += [event async for event in at_home]
        await settled(slow)
        assert elsewhere == home
        assert [event.seq for event in home] == list(range(1, len(home) + 1))
        assert [type(event.event) for event in home[2:]] == [AnswerRestarted, Token, Cited, Token, RunFinished]
        assert await all_events(slow, run) == await all_events(other, run) == [event.event for event in home]
        assert (await row(slow, run.id)).process == other.rows.presence.name


async def test_the_reader_of_an_attached_run_that_was_taken_hears_its_end_from_the_record(
    tmp_path: Path, deps: Deps
) -> None:
    bus, go_on = Told(), anyio.Event()
    async with (
        process(tmp_path, deps, WHOLE[0], go_on, *WHOLE[1:], bus=bus) as slow,
        process(tmp_path, deps, bus=bus) as other,
    ):
        reading = asyncio.create_task(played(slow.turns, asking("Where?", await new_thread(slow))))
        with anyio.fail_after(20):
            while not slow.engine.turns:
                await asyncio.sleep(0)
            run = await row(slow, slow.engine.turns[0].run)
            async with aclosing(other.turns.events(run)) as following:
                async for event in following:
                    if isinstance(event.event, Token):
                        break
        await slow.die()
        assert await Leases(other.rows).recover() == 1
        go_on.set()
        assert ending(await reading) == RunIncomplete(DIED, "The mill ")
        assert (await row(slow, run.id)).status == "incomplete"


async def test_a_server_takes_up_what_comes_without_a_process_as_long_as_it_serves(tmp_path: Path, deps: Deps) -> None:
    bus = Told()
    async with (
        process(tmp_path, deps, WHOLE[0], anyio.Event(), bus=bus) as one,
        process(tmp_path, deps, *WHOLE, bus=bus) as other,
    ):
        assert await other.turns.take_up() == 0
        killed, parked = [await one.turns.start(asking("Where?", await new_thread(one))) for _ in range(2)]
        await one.die()
        await bus.ring(QUEUED_BELL)  # else the watch looks some seconds later
        assert (await all_events(other, killed))[-1] == WHOLE[-1]
        assert (await all_events(other, parked))[-1] == WHOLE[-1]
        assert len(other.engine.turns) == 2
    async with (
        process(tmp_path, deps, WHOLE[0], anyio.Event(), bus=bus) as one,
        process(tmp_path, deps, *WHOLE, bus=bus) as other,
    ):
        assert await other.turns.take_up() == 0
        run = await one.turns.start(asking("Where?", await new_thread(one)))
        await one.turns.drain()
        assert (await all_events(other, run))[-1] == WHOLE[-1]


@pytest.mark.parametrize("how", ["refuses", "says nothing"])
async def test_a_bus_that_is_lost_fails_no_run_no_follower_and_no_cancel(
    tmp_path: Path, deps: Deps, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    go_on = anyio.Event()
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", free_port()))
        proxy.hang(how != "refuses")
        bus = await RedisBus.open(f"redis://127.0.0.1:{proxy.port}/0")
        stack.push_async_callback(bus.close)
        one = await stack.enter_async_context(process(tmp_path, deps, WHOLE[0], go_on, *WHOLE[1:], bus=bus))
        other = await stack.enter_async_context(process(tmp_path, deps, bus=bus))
        run = await one.turns.start(asking("Where?", await new_thread(one)))
        doomed = await one.turns.start(asking("And this?", await new_thread(one)))
        following = asyncio.create_task(all_events(other, run))
        with anyio.fail_after(20):
            assert await other.turns.cancel(doomed)
        go_on.set()
        assert (await following)[-1] == WHOLE[-1]
        assert (await all_events(other, doomed))[-1] == RunCancelled("The mill ")
    told = [record.getMessage() for record in caplog.records if "read the database meanwhile" in record.getMessage()]
    assert len(told) == 2  # once in each process


# --- who lives ---------------------------------------------------------------------------------------------------


async def test_a_process_whose_lease_ran_out_counts_as_ended_and_one_that_renews_does_not() -> None:
    clock = Clock()
    book = LocalBus(clock)
    one, other, watcher = (LeasedPresence(book, clock) for _ in range(3))
    for each in (one, other, watcher):
        assert await each.renew()
    names = {one.name, other.name, watcher.name}
    assert len(names) == 3
    for _ in range(int(LEASE_SECONDS) - 1):
        clock.now += 1
        assert await other.renew()
        assert await watcher.gone(names) == set()
    clock.now += 1
    assert await watcher.gone(names) == {one.name}
    before = one.name
    assert await one.renew()  # it was only slow
    assert one.name != before
    assert int(one.name.partition("#")[2]) > int(before.partition("#")[2])
    assert one.is_mine(before)
    assert not other.is_mine(before)
    assert await watcher.gone({before}) == set()
    await one.close()
    assert await watcher.gone({one.name}) == {one.name}


async def test_nobody_counts_as_ended_before_a_lease_could_have_been_renewed() -> None:
    clock = Clock()
    book = LocalBus(clock)
    living, new = LeasedPresence(book, clock), LeasedPresence(book, clock)
    assert await living.renew()
    name = living.name
    clock.now += 2 * LEASE_SECONDS  # the leases were lost with their server, which is back
    assert await new.renew()
    assert await new.gone({name}) == set()
    assert await living.renew()
    for _ in range(2 * int(LEASE_SECONDS)):
        clock.now += 1
        assert await living.renew()
        assert await new.gone({name}) == set()


async def test_nobody_counts_as_ended_while_the_leases_cannot_be_reached() -> None:
    bus = await RedisBus.open(f"redis://127.0.0.1:{free_port()}/0")
    try:
        presence = await LeasedPresence.open(bus)
        assert presence.name.endswith("#0")
        assert await presence.gone({"somebody#7"}) == set()
        assert not await presence.renew()
        await presence.close()
    finally:
        await bus.close()
