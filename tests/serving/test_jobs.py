"""Background jobs through the runner that a server has, with DBOS and the one file."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest
from anyio import fail_after

from agents.context import Limits
from agents.model import ModelUnavailable
from agents.scripted import ScriptedModel, says
from agents.types import Message
from graphs.events import RunFinished
from knowledge.ingest import Ingest, document_id
from knowledge.types import Document
from memory.sql import Connection
from memory.store import MemoryUnavailable
from memory.types import TRUST_USER, Label
from serving.conversations import Conversations
from serving.database import DATABASE
from serving.documents import remove
from serving.job_places import FilePlace
from serving.job_progress import JobProgress
from serving.job_records import Job, Kind, NewItem, NewJob, NothingToRetry, UnknownJob
from serving.job_runner import Runner, place_of, runner_of, startable, working
from serving.job_store import Owner
from serving.job_work import Work
from serving.principal import Principal
from serving.retention import Retention
from serving.runtime import Runtime, load_engine, open_runtime
from serving.settings import Settings
from serving.turns import TurnRequest, Turns
from tests.serving.api_client import client_of, events_in

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""
LOCAL = Owner("local", "local")
ALL = Owner("local", None)


@pytest.fixture(scope="module")
async def parts(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Runtime]:
    async with open_runtime(Settings(data_dir=tmp_path_factory.mktemp("jobs"))) as parts:
        yield parts


@pytest.fixture
async def runtime(parts: Runtime) -> AsyncGenerator[Runtime]:
    """Without documents and jobs of other tests."""
    for document in await parts.catalog.below("local", ""):
        await parts.ingest.remove("local", document.id)
    await parts.database.write(_without_jobs)
    yield parts


def _without_jobs(connection: Connection) -> None:
    connection.execute("DELETE FROM jobs")
    connection.execute("DELETE FROM jobitems")


class ToldIngest(Ingest):
    """The runtime's ingestion, which a test tells to fail or to wait first."""

    def __init__(self, inner: Ingest) -> None:
        self.inner = inner
        self.failures: list[Exception] = []
        self.before: Callable[[str], object] = lambda _: None
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self.holds = ""
        """Path at which it waits for `go_on`."""
        self.taken: list[str] = []

    async def content(self, tenant: str, path: str, name: str, data: bytes, *, again: bool = False) -> Document:
        if path == self.holds:
            self.reached.set()
            await self.go_on.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append(path)
        return await self.inner.content(tenant, path, name, data, again=again)

    async def remove(self, tenant: str, document_id: str) -> bool:
        return await self.inner.remove(tenant, document_id)


@asynccontextmanager
async def carried_out(
    runtime: Runtime, ingest: Ingest | None = None, *, tries: int = 2, steps: Path | None = None
) -> AsyncGenerator[Runner]:
    """A runner that has begun; a part that fails is tried again at once. `steps`: where DBOS keeps its tables."""
    progress = JobProgress(runtime.database, runtime.jobs.bell)
    retention = Retention(runtime.database, runtime.catalog, progress, runtime.uploads, event_hours=24)
    work = Work(
        progress, runtime.uploads, retention, database=runtime.database, ingest=ingest or runtime.ingest,
        catalog=runtime.catalog, repository=runtime.repository, deps=runtime.deps, pauses=[0.0] * (tries - 1),
    )  # fmt: skip
    place = place_of(runtime.settings) if steps is None else FilePlace(steps)
    async with working(Runner(runtime.jobs, progress, work, place)) as runner:
        runner.start()
        yield runner


async def upload(runtime: Runtime, *names: str, tenant: str = "local") -> Job:
    """An ingestion of small files, queued."""
    parcel = runtime.uploads.parcel(tenant)
    for name in names:
        parcel.begin(name)
        parcel.write(f"# {name}\n\nThis is what {name} says.\n".encode())
        parcel.end()
    parcel.commit()
    items = tuple(NewItem(one.path, one.content, document_id(tenant, one.path)) for one in parcel.received)
    job, _ = await runtime.jobs.add(NewJob(tenant, "local", "ingest", items), id=parcel.id)
    return job


async def over(runtime: Runtime, job: Job, owner: Owner = LOCAL) -> Job:
    """The job, once it is over."""
    with fail_after(DEADLINE):
        states = [state async for state in runtime.jobs.follow(owner, job.id, job.version - 1)]
    assert [one.version for one in states] == sorted({one.version for one in states})
    assert states[-1].is_over
    return states[-1]


async def paths(runtime: Runtime) -> list[str]:
    return [document.path for document in await runtime.catalog.below("local", "")]


# -- retry and cancel ------------------------------------------------------------------------------------------------


async def test_what_may_pass_is_tried_again_and_the_job_finishes(runtime: Runtime) -> None:
    ingest = ToldIngest(runtime.ingest)
    ingest.failures = [MemoryUnavailable("the memory is away"), OSError(28, "No space left on device")]
    async with carried_out(runtime, ingest, tries=3):
        job = await over(runtime, await upload(runtime, "a.md", "b.md"))
    assert (job.status, job.done, job.failed, job.error) == ("finished", 2, 0, "")
    assert await paths(runtime) == ["a.md", "b.md"]


async def test_what_does_not_pass_fails_the_job_and_a_retry_does_what_is_left(runtime: Runtime) -> None:
    ingest = ToldIngest(runtime.ingest)
    async with carried_out(runtime, ingest):
        job = await over(runtime, await upload(runtime, "a.md"))
        ingest.failures = [MemoryUnavailable("the memory is away")] * 2
        failed = await over(runtime, await upload(runtime, "b.md", "c.md"))
        assert (failed.status, failed.done) == ("failed", 0)
        assert failed.error == "given up after 2 tries: the memory is away"
        again = await runtime.jobs.retry(LOCAL, failed.id)
        assert (again.status, again.attempt, again.error) == ("queued", 2, "")
        done = await over(runtime, again)
        assert (done.status, done.done, done.attempt) == ("finished", 2, 2)
        with pytest.raises(NothingToRetry, match="all of the job"):
            await runtime.jobs.retry(LOCAL, job.id)
    assert ingest.taken == ["a.md", "b.md", "c.md"]


async def test_broken_parts_of_a_finished_job_can_be_tried_again(runtime: Runtime) -> None:
    async with carried_out(runtime):
        job = await over(runtime, await upload(runtime, "a.md", "b.exe"))
        assert (job.status, job.done, job.failed) == ("finished", 1, 1)
        job = await over(runtime, await runtime.jobs.retry(LOCAL, job.id))
        assert (job.status, job.done, job.failed, job.attempt) == ("finished", 1, 1, 2)
        for item in await runtime.jobs.all_items(LOCAL, job.id):
            runtime.uploads.discard("local", job.id, item.content)
        job = await over(runtime, await runtime.jobs.retry(LOCAL, job.id))
    assert job.error == "b.exe: its bytes are no longer there; upload it again"


async def test_a_job_that_waits_is_cancelled_at_once_and_can_be_queued_again(runtime: Runtime) -> None:
    job = await upload(runtime, "a.md")
    with pytest.raises(NothingToRetry, match="queued"):
        await runtime.jobs.retry(LOCAL, job.id)
    assert (await runtime.jobs.cancel(LOCAL, job.id)).status == "cancelled"
    with pytest.raises(UnknownJob):
        await runtime.jobs.cancel(Owner("local", "another"), job.id)
    async with carried_out(runtime):
        job = await over(runtime, await runtime.jobs.retry(LOCAL, job.id))
    assert (job.status, job.done) == ("finished", 1)


async def test_cancelling_over_http_stops_after_the_part_under_way_and_keeps_what_is_done(runtime: Runtime) -> None:
    ingest = ToldIngest(runtime.ingest)
    ingest.holds = "b.md"
    async with carried_out(runtime, ingest), client_of(runtime) as client:
        job = await upload(runtime, "a.md", "b.md", "c.md", "d.md")
        path = f"/api/jobs/{job.id}"
        with fail_after(DEADLINE):
            await ingest.reached.wait()
            cancelled = await client.delete(path)
            assert (cancelled.status_code, cancelled.json()["status"]) == (202, "running")
            ingest.go_on.set()
            told = events_in((await client.get(f"{path}/events")).text)
        assert (told[-1].event, told[-1].data["done"]) == ("job.cancelled", 2)
        assert await paths(runtime) == ["a.md", "b.md"]
        items = (await client.get(f"{path}/items")).json()["items"]
        assert [item["status"] for item in items] == ["done", "done", "cancelled", "cancelled"]
        refused = await client.delete(path)
        assert (refused.status_code, refused.json()["type"]) == (409, "/problems/job-over")
        retried = await over(runtime, await runtime.jobs.retry(LOCAL, job.id))
    assert (retried.status, retried.done) == ("finished", 4)
    assert ingest.taken == ["a.md", "b.md", "c.md", "d.md"]


async def test_a_document_that_is_deleted_while_it_is_made_stays_deleted(runtime: Runtime) -> None:
    ingest = ToldIngest(runtime.ingest)
    ingest.holds = "a.md"
    async with carried_out(runtime, ingest), client_of(runtime) as client:
        job = await upload(runtime, "a.md", "b.md")
        with fail_after(DEADLINE):
            await ingest.reached.wait()
        assert (await client.delete(f"/api/documents/{document_id('local', 'a.md')}")).status_code == 204
        ingest.go_on.set()
        job = await over(runtime, job)
    assert (job.status, job.done, job.total) == ("finished", 1, 2)
    assert await paths(runtime) == ["b.md"]
    assert runtime.uploads.original("local", document_id("local", "a.md")) is None


async def test_what_a_killed_server_had_made_of_a_deleted_document_is_removed(runtime: Runtime) -> None:
    job = await upload(runtime, "a.md", "b.md", "c.md")
    for name in ("a.md", "b.md"):
        await runtime.ingest.content("local", name, name, b"# What the killed server had made")
        await runtime.jobs.drop("local", document_id("local", name))
    again = await upload(runtime, "b.md")
    async with carried_out(runtime):
        assert (await over(runtime, job)).done == 1
        assert await paths(runtime) == ["b.md", "c.md"]
        assert (await over(runtime, again)).done == 1
    assert await paths(runtime) == ["b.md", "c.md"]


# -- events ----------------------------------------------------------------------------------------------------------


async def test_a_follower_that_comes_back_gets_what_it_missed_and_nothing_twice(runtime: Runtime) -> None:
    async with carried_out(runtime), client_of(runtime) as client:
        job = await over(runtime, await upload(runtime, *(f"{n}.md" for n in range(5))))
        path = f"/api/jobs/{job.id}/events"
        told = events_in((await client.get(path)).text)
        assert [(one.id, one.event) for one in told] == [(str(job.version), "job.finished")]
        assert told[0].data["done"] == 5
        behind = await client.get(path, headers={"Last-Event-ID": str(job.version - 1)})
        assert events_in(behind.text) == told
        assert (await client.get(path, headers={"Last-Event-ID": told[-1].id})).status_code == 204
        assert (await client.get(path, headers={"Last-Event-ID": "x"})).status_code == 400


async def test_jobs_are_listed_newest_first_page_by_page_and_the_servers_own_are_not(runtime: Runtime) -> None:
    made = [await upload(runtime, "a.md") for _ in range(3)]
    await runtime.jobs.add(NewJob("", "", "retention", (NewItem("events"),)))
    async with client_of(runtime) as client:
        first = (await client.get("/api/jobs", params={"limit": 2})).json()
        rest = (await client.get("/api/jobs", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [one["id"] for one in (*first["items"], *rest["items"])] == [job.id for job in reversed(made)]
    assert rest["next_cursor"] is None
    assert len((await runtime.jobs.list(ALL, None, 10)).items) == 4


# -- going on --------------------------------------------------------------------------------------------------------


async def test_a_runner_that_is_stopped_leaves_the_job_to_the_next_one(runtime: Runtime) -> None:
    first, second = ToldIngest(runtime.ingest), ToldIngest(runtime.ingest)
    first.holds = "c.md"
    job = await upload(runtime, "a.md", "b.md", "c.md", "d.md")
    async with carried_out(runtime, first):
        with fail_after(DEADLINE):
            await first.reached.wait()
    left = await runtime.jobs.get(LOCAL, job.id)
    assert left is not None
    assert (left.status, left.done) == ("running", 2)
    async with carried_out(runtime, second):
        job = await over(runtime, job)
    assert (job.status, job.done, job.attempt) == ("finished", 4, 1)
    assert first.taken == ["a.md", "b.md"]
    assert second.taken == ["c.md", "d.md"]


async def test_one_runner_works_on_a_data_folder_and_another_takes_over_when_it_ends(runtime: Runtime) -> None:
    first, second = ToldIngest(runtime.ingest), ToldIngest(runtime.ingest)
    async with carried_out(runtime, second):
        pass  # whoever comes later finds DBOS's tables there
    with fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            stop = asyncio.Event()
            begun = asyncio.Event()

            async def run_first() -> None:
                async with carried_out(runtime, first):
                    await over(runtime, await upload(runtime, "a.md"))
                    begun.set()
                    await stop.wait()

            tasks.start_soon(run_first)
            await begun.wait()
            async with carried_out(runtime, second):
                await over(runtime, await upload(runtime, "b.md"))
                stop.set()
                await over(runtime, await upload(runtime, "c.md"))
    assert first.taken + second.taken == ["a.md", "b.md", "c.md"]
    assert "b.md" in first.taken


async def test_a_bug_in_a_part_fails_the_job_and_is_told_in_the_log(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    ingest = ToldIngest(runtime.ingest)
    ingest.failures = [ZeroDivisionError("a bug")]
    async with carried_out(runtime, ingest):
        job = await over(runtime, await upload(runtime, "a.md"))
        assert (job.status, job.error) == ("failed", "internal error: ZeroDivisionError")
        assert "a bug" in caplog.text
        assert (await over(runtime, await runtime.jobs.retry(LOCAL, job.id))).status == "finished"


async def test_a_job_that_nothing_goes_on_with_has_failed(runtime: Runtime) -> None:
    job = await upload(runtime, "a.md")

    def lose(connection: Connection) -> None:
        connection.execute("UPDATE jobs SET status = 'running', attempt = 7 WHERE id = ?", (job.id,))

    await runtime.database.write(lose)
    async with carried_out(runtime):
        lost = await over(runtime, job)
        assert (lost.status, lost.error) == ("failed", "it broke off, and the log tells why")
        assert (await over(runtime, await runtime.jobs.retry(LOCAL, job.id))).status == "finished"


def renamed(table: str, name: str) -> Callable[[Connection], None]:
    def rename(connection: Connection) -> None:
        connection.execute(f"ALTER TABLE {table} RENAME TO {name}")

    return rename


async def told(runtime: Runtime, caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Waits until the log says so."""
    with fail_after(DEADLINE), runtime.jobs.bell.listening() as heard:
        while text not in caplog.text:
            await heard.wait(0.1)


async def test_jobs_wait_while_dbos_cannot_use_its_tables(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    async with carried_out(runtime):
        await over(runtime, await upload(runtime, "a.md"))
        await runtime.database.write(renamed("workflow_status", "workflow_status_away"))
        job = await upload(runtime, "b.md")
        await told(runtime, caplog, f"background jobs wait: the job {job.id} cannot be started")
        await runtime.database.write(renamed("workflow_status_away", "workflow_status"))
        assert (await over(runtime, job)).status == "finished"


async def test_a_job_whose_steps_cannot_be_noted_has_failed_and_can_be_retried(runtime: Runtime) -> None:
    ingest = ToldIngest(runtime.ingest)
    ingest.holds = "b.md"
    async with carried_out(runtime, ingest):
        job = await upload(runtime, "a.md", "b.md", "c.md")
        with fail_after(DEADLINE):
            await ingest.reached.wait()
        await runtime.database.write(renamed("operation_outputs", "operation_outputs_away"))
        ingest.go_on.set()
        failed = await over(runtime, job)
        assert (failed.status, failed.done) == ("failed", 2)
        assert "what was done could not be noted" in failed.error
        await runtime.database.write(renamed("operation_outputs_away", "operation_outputs"))
        job = await over(runtime, await runtime.jobs.retry(LOCAL, job.id))
    assert (job.status, job.done, job.attempt) == ("finished", 3, 2)


async def test_a_runner_that_cannot_start_dbos_tries_again(
    runtime: Runtime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "parley.sqlite").mkdir()
    async with carried_out(runtime, steps=tmp_path / "parley.sqlite"):
        await told(runtime, caplog, "background jobs cannot be started")
        (tmp_path / "parley.sqlite").rmdir()
        assert (await over(runtime, await upload(runtime, "a.md"))).status == "finished"


async def test_a_deleted_upload_is_named_by_no_job_and_by_none_of_its_steps(runtime: Runtime) -> None:
    async with carried_out(runtime):
        done = await over(runtime, await upload(runtime, "secret.md", "kept.md"))
    waiting = await upload(runtime, "secret.md", "later.md")
    assert await remove(runtime, "local", document_id("local", "secret.md"))
    async with carried_out(runtime):
        assert (await over(runtime, waiting)).status == "finished"
    for job, names in ((done, ["(deleted)", "kept.md"]), (waiting, ["(deleted)", "later.md"])):
        assert [item.name for item in await runtime.jobs.all_items(LOCAL, job.id)] == names
    tables = ("jobs", "jobitems", "workflow_status", "workflow_input", "workflow_output", "operation_outputs")
    with closing(sqlite3.connect(Path(runtime.settings.data_dir) / DATABASE)) as file:
        rows = [str(row) for table in tables for row in file.execute(f"SELECT * FROM {table}")]
    assert any("kept.md" in row for row in rows)
    for named in ("secret.md", document_id("local", "secret.md")):
        assert [row for row in rows if named in row] == []


def job_of(id: str, kind: Kind = "ingest", tenant: str = "t", status: str = "queued") -> Job:
    return Job(
        id, tenant, "u", kind, "running" if status == "running" else "queued", 0, 1, 0, "", 1, 1, "", "",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("jobs", "started", "begin"),
    [
        ([job_of("1"), job_of("2")], "", "1"),
        ([job_of("1"), job_of("2", tenant="v"), job_of("3", tenant="w")], "", "12"),
        ([job_of("1", status="running"), job_of("2"), job_of("3", tenant="v")], "", "3"),
        ([job_of("1"), job_of("2")], "1", ""),
        ([job_of("1", "reembed"), job_of("2", "title"), job_of("3", "retention"), job_of("4", "title")], "", "123"),
    ],
)
def test_few_jobs_begin_at_a_time_and_a_tenants_long_ones_in_turn(jobs: list[Job], started: str, begin: str) -> None:
    assert [job.id for job in startable(jobs, set(started))] == list(begin)


# -- kinds -----------------------------------------------------------------------------------------------------------


async def test_reembedding_reads_uploads_and_files_again_and_stores_what_comes_out(
    runtime: Runtime, tmp_path: Path
) -> None:
    for name in ("kept.md", "lost.md"):
        (tmp_path / name).write_text(f"# {name}\n\nThis is on the disk.\n")
    async with carried_out(runtime):
        await over(runtime, await upload(runtime, "sent.md"))
        await runtime.ingest.paths("local", [str(tmp_path)])
        documents = await runtime.catalog.below("local", "")
        before = {document.path: document.sha256 for document in documents}
        (tmp_path / "lost.md").unlink()

        def age(connection: Connection) -> None:
            connection.execute("UPDATE documents SET sha256 = 'of an older version'")

        await runtime.database.write(age)
        items = [NewItem(document.path, document=document.id) for document in documents]
        items.append(NewItem("removed.md", document="removed meanwhile"))
        job, _ = await runtime.jobs.add(NewJob("local", "local", "reembed", tuple(items)))
        job = await over(runtime, job)
    assert (job.status, job.done, job.failed) == ("finished", 3, 1)
    assert job.error == f"{tmp_path}/lost.md: the document stays as it is: it vanished before it could be read"
    after = {document.path: document.sha256 for document in await runtime.catalog.below("local", "")}
    assert after == before | {f"{tmp_path}/lost.md": "of an older version"}


TITLED = Principal()


async def asked(runtime: Runtime, model: ScriptedModel, thread: str, question: str) -> None:
    """One turn of a conversation, with a model and what a server does after an answer."""
    deps = replace(runtime.deps, model=model)
    turns = Turns(
        deps, partial(load_engine, runtime.database), runtime.repository, Limits(), answered=runtime.jobs.title_later
    )
    request = TurnRequest(TITLED, (Message("user", question, Label("local", "user", TRUST_USER)),), thread)
    with fail_after(DEADLINE):
        last = [one.event async for one in turns.run(request)][-1]
    assert isinstance(last, RunFinished)
    await turns.close()


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ('Title: "Bridges  of\tKestrel."\nBecause it is about bridges.', "Bridges of Kestrel"),
        ("This is no title but a very long text. " * 5, "Hello, who built the bridge?"),
        ("\n", "Hello, who built the bridge?"),
        (None, "Hello, who built the bridge?"),
    ],
)
async def test_a_conversation_gets_a_title_after_its_first_answer(
    runtime: Runtime, written: str | None, shown: str
) -> None:
    conversations = Conversations(runtime.database)
    thread = await conversations.create(TITLED, "")
    await asked(runtime, ScriptedModel(says("Nobody knows.")), thread.id, "Hello, who built the bridge?")
    (job,) = (await runtime.jobs.list(LOCAL, None, 10)).items
    assert (job.kind, job.total) == ("title", 1)
    namer = ScriptedModel((ModelUnavailable("away"),) if written is None else says(written))
    async with carried_out(replace(runtime, deps=replace(runtime.deps, model=namer))):
        assert (await over(runtime, job)).status == "finished"
    assert (await conversations.get(TITLED, thread.id)).title == shown
    await asked(runtime, ScriptedModel(says("Still nobody.")), thread.id, "And who paid for it?")
    assert len((await runtime.jobs.list(LOCAL, None, 10)).items) == 1


async def test_a_conversation_that_has_a_name_keeps_it(runtime: Runtime) -> None:
    conversations = Conversations(runtime.database)
    thread = await conversations.create(TITLED, "Mine")
    await asked(runtime, ScriptedModel(says("Nobody knows.")), thread.id, "Who built the bridge?")
    gone, _ = await runtime.jobs.add(NewJob("local", "local", "title", (NewItem("a conversation that is gone"),)))
    async with carried_out(replace(runtime, deps=replace(runtime.deps, model=ScriptedModel(says("Bridges"))))):
        for job in (await runtime.jobs.list(LOCAL, None, 10)).items:
            assert (await over(runtime, job)).status == "finished"
    assert gone.id in {job.id for job in (await runtime.jobs.list(LOCAL, None, 10)).items}
    assert (await conversations.get(TITLED, thread.id)).title == "Mine"


async def test_retention_begins_by_itself_and_once_in_its_time(runtime: Runtime) -> None:
    async with working(runner_of(runtime)) as runner:
        runner.start()
        while not (found := [job for job in (await runtime.jobs.list(ALL, None, 9)).items if job.kind == "retention"]):
            with runtime.jobs.bell.listening() as heard:
                await heard.wait(0.1)
        job = await over(runtime, found[0], Owner("", ""))
    assert (job.status, job.done) == ("finished", 4)
    async with working(runner_of(runtime)) as runner:
        runner.start()
        await over(runtime, await upload(runtime, "a.md"))
    kinds = [job.kind for job in (await runtime.jobs.list(ALL, None, 9)).items]
    assert kinds.count("retention") == 1


# -- kill -9 ---------------------------------------------------------------------------------------------------------

READY = re.compile(r"Uvicorn running on (http://\S+) ")
FILES, KILLS = 25, 3


class Served:
    """The application as a process of its own."""

    def __init__(self, folder: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "app:create", "--factory", "--port", "0"], cwd=ROOT,
            env=kept | {"PARLEY_DATA_DIR": str(folder)}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        self.url = next((found[1] for line in self.process.stderr if (found := READY.search(line))), "")
        assert self.url

    def kill(self) -> None:
        """As the system does."""
        self.process.kill()
        self.process.communicate()


def progress(url: str, job: str, enough: int | None = None) -> int:
    """How many parts are done, once they are `enough`; without, once the job is over, which is told a little later."""
    with httpx.stream("GET", f"{url}/api/jobs/{job}/events", timeout=DEADLINE) as events:
        done = 0
        for line in events.iter_lines():
            if line.startswith("data: "):
                done = int(json.loads(line.removeprefix("data: "))["done"])
                if enough is not None and done >= enough:
                    break
        return done


def test_an_upload_survives_three_kills_and_everything_is_taken_in_once(tmp_path: Path) -> None:
    parts = [
        ("files", (f"shelf/{n}.md", f"# Shelf {n}\n\nShelf {n} holds {n * 17} books.\n".encode())) for n in range(FILES)
    ]
    server = Served(tmp_path)
    try:
        accepted = httpx.post(f"{server.url}/api/documents", files=parts, timeout=DEADLINE).json()
        job, seen = accepted["job_id"], [0]
        for kill in range(1, KILLS + 1):
            seen.append(progress(server.url, job, kill * FILES // (KILLS + 2)))
            server.kill()
            server = Served(tmp_path)
        assert progress(server.url, job) == FILES
        last = httpx.get(f"{server.url}/api/jobs/{job}").json()
        listed = httpx.get(f"{server.url}/api/documents", params={"limit": 200}).json()["items"]
        hits = httpx.post(f"{server.url}/api/search", json={"query": "Shelf 17 holds how many books"}).json()["hits"]
    finally:
        server.kill()
    assert (last["status"], last["done"], last["failed"]) == ("finished", FILES, 0)
    assert seen == sorted(seen)
    assert sorted(one["id"] for one in listed) == sorted(one["id"] for one in accepted["documents"])
    assert [hit["path"] for hit in hits].count("shelf/17.md") == 1
    with closing(sqlite3.connect(tmp_path / "parley.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (steps,) = database.execute(
            "SELECT count(*) FROM operation_outputs WHERE function_name NOT IN ('take', 'end')"
            f" AND workflow_uuid = '{job}.1'"
        ).fetchone()
    assert steps == FILES
