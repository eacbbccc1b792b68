"""Background jobs on Postgres: DBOS with the application's role, and a server that goes away under them."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import psycopg
import pytest
from anyio import fail_after
from psycopg import errors

from knowledge.ingest import document_id
from memory.sql import DatabaseUnavailable
from serving.job_places import ServerPlace
from serving.job_progress import JobProgress
from serving.job_records import Job, NewItem, NewJob
from serving.job_runner import Runner, runner_of, working
from serving.job_store import Owner
from serving.job_work import Work
from serving.retention import Retention
from serving.runtime import Runtime, open_runtime
from serving.settings import Settings
from tests.services.instance import Instance
from tests.services.private import private

DEADLINE = 120
"""Seconds; a bound for what hangs, not a measure."""
LOCAL = Owner("local", "local")


@pytest.fixture(scope="module")
async def postgres() -> AsyncGenerator[tuple[ServerPlace, Instance]]:
    async with private("postgres") as (urls, server):
        yield ServerPlace(urls["PARLEY_DATABASE_URL"], urls["PARLEY_DATABASE_OWNER_URL"]), server


@pytest.fixture(scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Runtime]:
    """The jobs' own rows are in the file here: so it is seen what DBOS does by itself when its server is away."""
    async with open_runtime(Settings(data_dir=tmp_path_factory.mktemp("jobs"))) as parts:
        yield parts


def runner_on(runtime: Runtime, place: ServerPlace) -> Runner:
    progress = JobProgress(runtime.database, runtime.jobs.bell)
    retention = Retention(runtime.database, runtime.catalog, progress, runtime.uploads, event_hours=24)
    work = Work(
        progress, runtime.uploads, retention, database=runtime.database, ingest=runtime.ingest,
        catalog=runtime.catalog, repository=runtime.repository, deps=runtime.deps, pauses=(),
    )  # fmt: skip
    return Runner(runtime.jobs, progress, work, place)


@asynccontextmanager
async def carried_out(runtime: Runtime, place: ServerPlace) -> AsyncGenerator[Runner]:
    async with working(runner_on(runtime, place)) as runner:
        runner.start()
        yield runner


async def upload(runtime: Runtime, *names: str) -> Job:
    """An ingestion of small files, queued."""
    parcel = runtime.uploads.parcel("local")
    for name in names:
        parcel.begin(name)
        parcel.write(f"# {name}\n\nThis is what {name} says.\n".encode())
        parcel.end()
    parcel.commit()
    items = tuple(NewItem(one.path, one.content, document_id("local", one.path)) for one in parcel.received)
    job, _ = await runtime.jobs.add(NewJob("local", "local", "ingest", items), id=parcel.id)
    return job


async def over(runtime: Runtime, job: Job) -> Job:
    """The job, once it is over."""
    with fail_after(DEADLINE):
        return [state async for state in runtime.jobs.follow(LOCAL, job.id, job.version - 1)][-1]


async def part_done(runtime: Runtime, job: Job) -> None:
    with fail_after(DEADLINE):
        async for state in runtime.jobs.follow(LOCAL, job.id, 0):
            if state.done:
                return


async def steps_of(place: ServerPlace, job: Job) -> tuple[int, int]:
    """How many parts DBOS has noted, and how many of them are not the same."""
    async with await psycopg.AsyncConnection.connect(place.url.replace("+psycopg", "")) as connection:
        rows = await connection.execute(
            "SELECT function_name FROM dbos.operation_outputs WHERE workflow_uuid = %s"
            " AND function_name NOT IN ('take', 'end')",
            [f"{job.id}.1"],
        )
        names = await rows.fetchall()
        return len(names), len(set(names))


NAMES = tuple(f"{number:02}.md" for number in range(30))


async def test_the_owner_makes_dbos_s_tables_and_the_application_cannot_change_them(
    runtime: Runtime, postgres: tuple[ServerPlace, Instance]
) -> None:
    place, _ = postgres
    async with carried_out(runtime, place):
        assert (await over(runtime, await upload(runtime, "a.md"))).status == "finished"
    async with await psycopg.AsyncConnection.connect(place.url.replace("+psycopg", ""), autocommit=True) as connection:
        owners = await connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'dbos'")
        assert await owners.fetchall() == [("parley",)]
        for forbidden in ("DROP TABLE dbos.workflow_status", "CREATE TABLE dbos.mine (a int)"):
            with pytest.raises(errors.InsufficientPrivilege):
                await connection.execute(forbidden)


async def test_jobs_go_on_when_a_crashed_server_is_back(
    runtime: Runtime, postgres: tuple[ServerPlace, Instance]
) -> None:
    place, server = postgres
    async with carried_out(runtime, place):
        job = await upload(runtime, *NAMES)
        for _ in range(3):
            await part_done(runtime, job)
            await server.kill()
            await server.start()
        last = await over(runtime, job)
    assert (last.status, last.done, last.failed) == ("finished", len(NAMES), 0)
    assert await steps_of(place, job) == (len(NAMES), len(NAMES))


async def test_jobs_go_on_when_the_crashed_server_holds_their_own_rows_too(
    postgres: tuple[ServerPlace, Instance], tmp_path: Path
) -> None:
    place, server = postgres
    settings = Settings(data_dir=tmp_path, database_url=place.url, database_owner_url=place.owner_url)
    async with open_runtime(settings) as runtime, working(runner_of(runtime)) as runner:
        runner.start()
        job = await upload(runtime, *NAMES)
        for enough in (1, 8, 15):
            await far(runtime, job, enough)
            await server.kill()
            await server.start()
        last = await far(runtime, job, len(NAMES))
        while not last.is_over:
            last = await far(runtime, job, len(NAMES))
        assert (last.status, last.done, last.failed) == ("finished", len(NAMES), 0)
        assert len(await runtime.catalog.below("local", "")) == len(NAMES)


async def far(runtime: Runtime, job: Job, enough: int) -> Job:
    """The job once so many parts are done, or none will be; a server that is away is asked again."""
    with fail_after(DEADLINE):
        while True:
            with suppress(DatabaseUnavailable):
                found = await runtime.jobs.get(LOCAL, job.id)
                if found is not None and (found.done >= enough or found.is_over):
                    return found
            with runtime.jobs.bell.listening() as heard:
                await heard.wait(0.1)


async def test_a_runner_ends_at_once_while_its_server_is_away_and_the_next_goes_on(
    runtime: Runtime, postgres: tuple[ServerPlace, Instance], caplog: pytest.LogCaptureFixture
) -> None:
    place, server = postgres
    caplog.set_level(logging.WARNING)
    async with carried_out(runtime, place):
        job = await upload(runtime, *NAMES)
        await part_done(runtime, job)
        await server.stop()
        with fail_after(DEADLINE), runtime.jobs.bell.listening() as heard:
            while "background jobs wait for Postgres" not in caplog.text:
                await heard.wait(0.1)
    await server.start()
    async with carried_out(runtime, place):
        last = await over(runtime, job)
    assert (last.status, last.done, last.failed, last.attempt) == ("finished", len(NAMES), 0, 1)


async def test_of_two_runners_one_works_and_the_other_takes_over(
    runtime: Runtime, postgres: tuple[ServerPlace, Instance]
) -> None:
    place, _ = postgres
    second = runner_on(runtime, place)
    second.start()
    async with anyio.create_task_group() as tasks:
        async with carried_out(runtime, place):
            await over(runtime, await upload(runtime, "first.md"))
            tasks.start_soon(second.run)
            job = await upload(runtime, *NAMES)
            await part_done(runtime, job)
        assert (await over(runtime, job)).status == "finished"
        assert await steps_of(place, job) == (len(NAMES), len(NAMES))
        second.stop()
        tasks.cancel_scope.cancel()


async def test_without_the_owner_s_address_jobs_wait_for_their_tables(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    async with private("postgres") as (urls, _):
        url, owner_url = urls["PARLEY_DATABASE_URL"], urls["PARLEY_DATABASE_OWNER_URL"]
        async with carried_out(runtime, ServerPlace(url)):
            job = await upload(runtime, "waits.md")
            with fail_after(DEADLINE), runtime.jobs.bell.listening() as heard:
                while "background jobs cannot be started" not in caplog.text:
                    await heard.wait(0.1)
            assert url.split(":")[2].split("@")[0] not in caplog.text
        async with carried_out(runtime, ServerPlace(url, owner_url)):
            assert (await over(runtime, job)).status == "finished"
