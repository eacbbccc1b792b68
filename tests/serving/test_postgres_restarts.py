"""Conversations go on while Postgres is killed and started again, and while it is away nobody gets a wrong word."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import anyio
import httpx
import pytest

from agents.types import Message
from graphs.events import Ending, RunFinished
from memory.sql import DatabaseUnavailable, every_tenant
from memory.types import TRUST_USER, Label
from serving.api import create_app
from serving.conversations import Conversations
from serving.principal import Principal
from serving.records import ThreadBusy
from serving.runtime import Runtime, open_runtime
from serving.settings import Settings
from serving.turns import TurnRequest
from tests.services.instance import Instance
from tests.services.private import private

WHO = Principal()
RUNS_AT_A_TIME, KILLS = 20, 10
DEADLINE = 120.0
"""Seconds; a bound for what hangs, not a measure."""


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncGenerator[tuple[Runtime, Instance]]:
    """A runtime over a server of its own and one small document."""
    file = tmp_path / "mill.md"
    file.write_text("# Old Mill\n\nThe Old Mill was built by Tomas Reed. It was closed in 1954.\n", encoding="utf-8")
    async with private("postgres") as (lines, server):
        settings = Settings.model_validate(
            {
                "data_dir": tmp_path,
                "database_url": lines["PARLEY_DATABASE_URL"],
                "database_owner_url": lines["PARLEY_DATABASE_OWNER_URL"],
            }
        )
        async with open_runtime(settings) as runtime:
            await runtime.ingest.paths("local", [str(file)])
            await runtime.turns.warm()
            yield runtime, server


def asking(thread: str) -> TurnRequest:
    said = Message("user", "Who built the Old Mill?", Label("local", "user", TRUST_USER))
    return TurnRequest(WHO, (said,), thread=thread)


async def rows(runtime: Runtime, sql: str) -> list[tuple[object, ...]]:
    with every_tenant():
        return await runtime.database.read(lambda connection: connection.execute(sql).fetchall())


async def reachable(runtime: Runtime) -> None:
    """Waits until the server is used again."""
    while True:
        try:
            await rows(runtime, "SELECT 1")
        except DatabaseUnavailable:
            await asyncio.tasks.sleep(0)
        else:
            return


async def test_ten_kills_under_twenty_runs_lose_and_double_nothing(desk: tuple[Runtime, Instance]) -> None:
    runtime, server = desk
    await runtime.turns.take_up()
    threads = [(await Conversations(runtime.database).create(WHO)).id for _ in range(RUNS_AT_A_TIME)]
    finished: set[str] = set()
    stop = asyncio.Event()

    async def talk(thread: str) -> None:
        while not stop.is_set():
            try:
                async with aclosing(runtime.turns.run(asking(thread))) as events:
                    async for one in events:
                        if isinstance(one.event, RunFinished):
                            finished.add(one.run)
                        elif isinstance(one.event, Ending):
                            break
            except (DatabaseUnavailable, ThreadBusy):
                await asyncio.tasks.sleep(0)

    with anyio.fail_after(DEADLINE):
        async with asyncio.TaskGroup() as tasks:
            for thread in threads:
                tasks.create_task(talk(thread))
            for _ in range(KILLS):
                before = len(finished)
                while len(finished) < before + 3:
                    await asyncio.tasks.sleep(0)
                await server.kill()
                await server.start()
            stop.set()
        await reachable(runtime)
        while await rows(runtime, "SELECT 1 FROM runs WHERE status IN ('queued', 'running', 'waiting')"):
            await runtime.turns.take_up()
    stored = await rows(runtime, "SELECT id, status FROM runs")
    assert finished <= {id for id, status in stored if status == "finished"}
    assert {status for _, status in stored} <= {"finished", "failed", "incomplete", "cancelled"}
    said = Counter(await rows(runtime, "SELECT run, role FROM messages"))
    assert set(said.values()) == {1}
    assert all(said[(run, "assistant")] == 1 for run in finished)
    numbers = await rows(runtime, "SELECT thread, max(number) - count(*), min(number) FROM messages GROUP BY thread")
    assert {row[1:] for row in numbers} == {(0, 1)}


async def test_while_postgres_is_away_requests_get_503_and_work_again_when_it_is_back(
    desk: tuple[Runtime, Instance],
) -> None:
    runtime, server = desk
    transport = httpx.ASGITransport(create_app(runtime))
    body = {"messages": [{"role": "user", "content": "Who built the Old Mill?"}]}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        thread = (await client.post("/api/threads", json={})).json()["id"]
        ask = f"/api/threads/{thread}/runs"
        assert (await client.post(ask, json=body)).status_code == 200
        await server.stop()
        for method, path, sent in (
            ("GET", "/api/threads", None),
            ("GET", "/api/jobs", None),
            ("POST", "/api/threads", {}),
            ("POST", ask, body),
        ):
            refused = await client.request(method, path, json=sent)
            assert (refused.status_code, "Retry-After" in refused.headers) == (503, True), refused.text
            assert "password" not in refused.text
        assert (await client.get("/readyz")).status_code == 503
        await server.start()
        with anyio.fail_after(DEADLINE):
            await reachable(runtime)
        again = await client.post(ask, json=body)
        assert (again.status_code, again.json()["status"]) == (200, "finished"), again.text
        listed = (await client.get(f"/api/threads/{thread}/messages")).json()["items"]
        assert len(listed) == 4
