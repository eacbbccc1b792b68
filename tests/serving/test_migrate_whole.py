"""A whole Parley moves from its data folder to Postgres, Weaviate, Neo4j and Redis, and answers as before."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import NamedTuple

import pytest
from anyio import fail_after

from agents.types import Message
from graphs.events import RunFinished
from knowledge.ingest import document_id
from memory.sql import acting_for
from memory.types import TRUST_USER, Label
from serving.conversations import Conversations
from serving.job_records import NewItem, NewJob
from serving.job_runner import runner_of, working
from serving.job_store import Owner
from serving.principal import Principal
from serving.runtime import Runtime, open_runtime
from serving.settings import Settings
from serving.turns import TurnRequest
from tests.serving.in_process import commands, settled
from tests.serving.production import addresses, settings_of

DEADLINE = 120
"""Seconds; a bound for what hangs, not a measure."""
MILL = b"# Old Mill\n\nThe Old Mill was built by Tomas Reed in 1871. It was closed in 1954.\n"
FERRY = "# Ferry\n\nThe ferry to Norwick costs 3 crowns and leaves every hour.\n"
QUESTIONS = ("Who built the Old Mill?", "What does the ferry to Norwick cost?")


class Found(NamedTuple):
    """What one Parley knows."""

    hits: list[tuple[str, str]]
    messages: list[str]


async def carried_out(runtime: Runtime, tenant: str, id: str) -> None:
    """Waits until a job is finished."""
    async with working(runner_of(runtime)) as runner:
        runner.start()
        with fail_after(DEADLINE):
            *_, last = [state async for state in runtime.jobs.follow(Owner(tenant, None), id, 0)]
    assert (last.status, last.failed) == ("finished", 0), last.error


async def lived_in(data: Path, who: Principal, ferry: Path) -> Found:
    """A data folder with an upload, a file and a conversation."""
    async with open_runtime(Settings(data_dir=data)) as runtime:
        parcel = runtime.uploads.parcel(who.tenant)
        parcel.begin("mill.md")
        parcel.write(MILL)
        parcel.end()
        parcel.commit()
        items = tuple(NewItem(one.path, one.content, document_id(who.tenant, one.path)) for one in parcel.received)
        job, _ = await runtime.jobs.add(NewJob(who.tenant, who.user, "ingest", items), id=parcel.id)
        await carried_out(runtime, who.tenant, job.id)
        assert (await runtime.ingest.paths(who.tenant, [str(ferry)])).new == 1
        thread = await Conversations(runtime.database).create(who, "")
        asked = Message("user", QUESTIONS[0], Label(who.tenant, "user", TRUST_USER))
        assert isinstance([one.event async for one in runtime.turns.run(TurnRequest(who, (asked,), thread.id))][-1],
                          RunFinished)  # fmt: skip
        return await known(runtime, who)


async def known(runtime: Runtime, who: Principal) -> Found:
    """What is found and what was said."""
    with acting_for(who.tenant):
        hits = [
            (Path(hit.document.path).name, hit.passage.text)
            for question in QUESTIONS
            for hit in await runtime.search(who, question, 3)
        ]
        conversations = Conversations(runtime.database)
        (thread,) = (await conversations.page(who, None, 10)).items
        messages = (await conversations.messages(who, thread.id, None, 10)).items
    return Found(hits, [message.content for message in messages])


def test_a_data_folder_moves_to_servers_and_its_documents_are_read_again_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = settled(tmp_path, monkeypatch) / "data"
    data.mkdir()
    ferry = tmp_path / "ferry.md"
    ferry.write_text(FERRY)
    who = Principal(f"t{secrets.token_hex(6)}", "ann")
    before = asyncio.run(lived_in(data, who, ferry))
    assert {name for name, _ in before.hits} == {"mill.md", "ferry.md"}
    with addresses() as urls, commands(capsys) as parley:
        for name, url in urls.items():
            monkeypatch.setenv(name, url)
        moved = parley("migrate", "--from", f"sqlite:{data}")
        assert moved.status == 0, moved.err
        queued = parley("--tenant", who.tenant, "jobs", "start", "reembed", "--json")
        assert queued.status == 0, queued.err
        job = str(queued.list("jobs")[0]["id"])

        async def after() -> Found:
            async with open_runtime(settings_of(data, urls)) as runtime:
                assert (await known(runtime, who)).hits == []
                await carried_out(runtime, who.tenant, job)
                found = await known(runtime, who)
                for document in await runtime.catalog.below(who.tenant, ""):
                    await runtime.ingest.remove(who.tenant, document.id)
            return found

        assert asyncio.run(after()) == before
