"""The same POST sent again makes nothing again: conversations, runs and feedback, whatever happened in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import anyio
import httpx
import pytest

from agents.model import ModelDelta
from agents.scripted import Scripted, ScriptedModel, says
from memory.sql import Connection, every_tenant
from serving.conversations import Conversations
from serving.idempotency import AlreadyMade, Claim, Idempotency
from serving.ids import uuid7
from serving.principal import Principal
from serving.runtime import Runtime
from tests.databases import postgres_made, record
from tests.serving.api_client import client_of, events_in, made_thread, opened, question, said, thinking, walked
from tools.types import JsonObject

__all__ = ["postgres_made", "record"]

STORY = "Write a story of the mill"
HOW = pytest.mark.parametrize("how", [{}, {"stream": True}, {"background": True}, {"background": True, "stream": True}])


@pytest.fixture(scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory, record: dict[str, str]) -> AsyncGenerator[Runtime]:
    async with opened(tmp_path_factory.mktemp("keys"), record) as runtime:
        yield runtime


@pytest.fixture
async def client(runtime: Runtime) -> AsyncGenerator[httpx.AsyncClient]:
    async with client_of(runtime) as client:
        yield client


@pytest.fixture
def key() -> dict[str, str]:
    """A header that was never sent before."""
    return {"Idempotency-Key": uuid7()}


def run_in(response: httpx.Response) -> str:
    """Id of the run that a response tells of, in whatever form."""
    if response.headers["content-type"].startswith("text/event-stream"):
        return str(events_in(response.text)[0].data["run_id"])
    return str(response.json()["id"])


async def ended(client: httpx.AsyncClient, run: str) -> dict[str, object]:
    await client.get(f"/api/runs/{run}/events")
    return (await client.get(f"/api/runs/{run}")).json()


# --- conversations and feedback ----------------------------------------------------------------------------------


async def test_the_same_request_makes_one_conversation(client: httpx.AsyncClient, key: dict[str, str]) -> None:
    first = await client.post("/api/threads", json={"title": "Mills"}, headers=key)
    second = await client.post("/api/threads", content=b'{ "title":"Mills" }',
                               headers={**key, "Content-Type": "application/json"})  # fmt: skip
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]


async def test_ten_at_once_make_one_conversation(client: httpx.AsyncClient, key: dict[str, str]) -> None:
    made = await asyncio.gather(*(client.post("/api/threads", json={"title": "Rush"}, headers=key) for _ in range(10)))
    assert {one.status_code for one in made} == {201}
    assert len({one.json()["id"] for one in made}) == 1
    assert len([one for one in await walked(client, "/api/threads", 200) if one["title"] == "Rush"]) == 1


async def test_a_key_with_another_request_is_refused_and_makes_nothing(
    client: httpx.AsyncClient, key: dict[str, str]
) -> None:
    thread = (await client.post("/api/threads", json={"title": "Mills"}, headers=key)).json()["id"]
    count = len(await walked(client, "/api/threads", 200))
    other_body = await client.post("/api/threads", json={"title": "Wheels"}, headers=key)
    other_path = await client.post(f"/api/threads/{thread}/runs", json=question(), headers=key)
    for refused in (other_body, other_path):
        assert refused.status_code == 409
        assert refused.json()["type"] == "/problems/idempotency-key-reused"
    assert len(await walked(client, "/api/threads", 200)) == count
    assert await walked(client, f"/api/threads/{thread}/runs", 50) == []


async def test_a_key_is_each_users_own(runtime: Runtime) -> None:
    store = Conversations(runtime.database)
    claims = [Claim(who.tenant, who.user, "k", "r") for who in (Principal(), Principal(user="bob"))]
    mine = await store.create(Principal(), "mine", claims[0])
    bobs = await store.create(Principal(user="bob"), "bob's", claims[1])
    with pytest.raises(AlreadyMade) as again:
        await store.create(Principal(), "mine", claims[0])
    assert again.value.made == mine.id != bobs.id


async def test_a_key_that_is_a_day_old_counts_no_more_and_is_forgotten(
    client: httpx.AsyncClient, runtime: Runtime, key: dict[str, str]
) -> None:
    first = (await client.post("/api/threads", json={}, headers=key)).json()["id"]

    def age(connection: Connection) -> None:
        old = (datetime.now(UTC) - timedelta(hours=24, minutes=1)).isoformat()
        connection.execute("UPDATE idempotency SET created_at = ? WHERE made = ?", (old, first))

    with every_tenant():
        await runtime.database.write(age)
    second = (await client.post("/api/threads", json={}, headers=key)).json()["id"]
    assert second != first
    keys = Idempotency(runtime.database)
    assert (await client.post("/api/threads", json={}, headers=key)).json()["id"] == second
    with every_tenant():
        assert await keys.forget(datetime.now(UTC) - timedelta(hours=1)) == 0
    with every_tenant():
        assert await keys.forget(datetime.now(UTC) + timedelta(hours=1)) >= 1
    assert (await client.post("/api/threads", json={}, headers=key)).json()["id"] not in (first, second)


@pytest.mark.parametrize("wrong", ["", "two words", "x" * 256, "schlüssel"])
async def test_a_key_must_be_visible_ascii(client: httpx.AsyncClient, wrong: str) -> None:
    refused = await client.post("/api/threads", json={}, headers=[(b"Idempotency-Key", wrong.encode())])
    assert (refused.status_code, refused.json()["param"]) == (400, "Idempotency-Key")


async def test_the_last_feedback_of_a_user_counts_and_a_repeated_one_is_told_again(
    client: httpx.AsyncClient, key: dict[str, str]
) -> None:
    thread = await made_thread(client)
    run = (await client.post(f"/api/threads/{thread}/runs", json=question())).json()["id"]
    good = {"run_id": run, "rating": 1, "reason": "right"}
    first = await client.post("/api/feedback", json=good, headers=key)
    again = await client.post("/api/feedback", json=good, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert {k: first.json()[k] for k in good} == good
    assert "idempotency-replayed" in again.headers
    changed = await client.post("/api/feedback", json={"run_id": run, "rating": -1})
    assert (changed.json()["rating"], changed.json()["reason"]) == (-1, None)
    export = (await client.get(f"/api/threads/{thread}/export")).json()
    assert [one["rating"] for one in export["feedback"]] == [-1]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"rating": 1}, "run_id"),
        ({"run_id": "x", "rating": 0}, "rating"),
        ({"run_id": "x", "rating": True}, "rating"),
        ({"run_id": "x", "rating": "1"}, "rating"),
        ({"run_id": "x", "rating": 1, "reason": "y" * 4001}, "reason"),
    ],
)
async def test_feedback_that_is_wrong_is_refused(client: httpx.AsyncClient, body: object, param: str) -> None:
    refused = await client.post("/api/feedback", json=body)
    assert (refused.status_code, refused.json()["param"]) == (400, param)


async def test_feedback_on_an_unknown_run_is_refused_and_uses_up_no_key(
    client: httpx.AsyncClient, key: dict[str, str]
) -> None:
    refused = await client.post("/api/feedback", json={"run_id": "none", "rating": 1}, headers=key)
    assert (refused.status_code, refused.json()["type"]) == (404, "/problems/not-found")
    assert (await client.post("/api/threads", json={}, headers=key)).status_code == 201


# --- runs --------------------------------------------------------------------------------------------------------


@HOW
async def test_the_same_request_is_one_run_and_one_answer(
    runtime: Runtime, key: dict[str, str], how: dict[str, bool]
) -> None:
    model = ScriptedModel(says("A ", "mill."))
    async with thinking(runtime, model) as fast, client_of(fast) as client:
        path = f"/api/threads/{await made_thread(client)}/runs"
        first = await client.post(path, json=question(STORY, **how), headers=key)
        run = await ended(client, run_in(first))
        calls = len(model.requests)
        second = await client.post(path, json=question(STORY, **how), headers=key)
        assert second.status_code == first.status_code
        assert run_in(second) == run["id"]
        if "stream" in how:
            assert [one for one in second.text.splitlines() if one[:1] != ":"] == [
                one for one in first.text.splitlines() if one[:1] != ":"
            ]
        else:
            assert second.json() == run
            assert second.headers["idempotency-replayed"] == "true"
        assert len(model.requests) == calls
        assert len(await walked(client, path, 50)) == 1
        other = await client.post(path, json=question("Another story", **how), headers=key)
        assert (other.status_code, other.json()["type"]) == (409, "/problems/idempotency-key-reused")


@HOW
async def test_a_request_repeated_while_its_run_works_waits_for_the_same_run(
    runtime: Runtime, key: dict[str, str], how: dict[str, bool]
) -> None:
    gate = anyio.Event()
    script: Scripted = (ModelDelta("Once there was "), gate, *says("a mill."))
    async with thinking(runtime, ScriptedModel(script)) as slow, client_of(slow) as client:
        path = f"/api/threads/{await made_thread(client)}/runs"
        both: list[httpx.Response] = []
        found: list[JsonObject] = []

        async def ask() -> None:
            both.append(await client.post(path, json=question(STORY, **how), headers=key))

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                group.start_soon(ask)
                while not found:
                    found = await walked(client, path, 5)
                gate.set()
        assert [one.status_code for one in both] == [both[0].status_code] * 2
        assert {run_in(one) for one in both} == {str(found[0]["id"])}
        assert (await ended(client, run_in(both[0])))["answer"] == "Once there was a mill."
        if "stream" in how:
            assert [said(events_in(one.text)) for one in both] == ["Once there was a mill."] * 2
        elif not how:
            assert [one.json()["answer"] for one in both] == ["Once there was a mill."] * 2
        assert len(await walked(client, path, 50)) == 1


async def test_a_request_repeated_after_its_process_died_gets_the_run_that_is_taken_up(
    runtime: Runtime, key: dict[str, str]
) -> None:
    model = ScriptedModel((ModelDelta("Once "), anyio.Event()))
    body = question(STORY, background=True)
    async with thinking(runtime, model) as dying, client_of(dying) as client:
        path = f"/api/threads/{await made_thread(client)}/runs"
        run = (await client.post(path, json=body, headers=key)).json()["id"]
        with anyio.fail_after(20):
            while not model.requests:
                await anyio.lowlevel.checkpoint()
    async with thinking(runtime, ScriptedModel(says("A mill."))) as next_, client_of(next_) as client:
        assert (await client.post(path, json=body, headers=key)).json()["id"] == run
        assert await next_.turns.take_up() == 1
        with anyio.fail_after(20):
            assert (await ended(client, run))["answer"] == "A mill."
        assert (await client.post(path, json=body, headers=key)).json()["status"] == "finished"
        assert len(await walked(client, path, 50)) == 1


async def test_a_run_that_could_not_begin_uses_up_no_key(runtime: Runtime, key: dict[str, str]) -> None:
    model = ScriptedModel((ModelDelta("Once "), anyio.Event()))
    async with thinking(runtime, model) as slow, client_of(slow) as client:
        path = f"/api/threads/{await made_thread(client)}/runs"
        busy = (await client.post(path, json=question(STORY, background=True))).json()["id"]
        assert (await client.post(path, json=question(), headers=key)).status_code == 409
        await client.delete(f"/api/runs/{busy}")
    async with client_of(runtime) as client:
        assert "Tomas Reed" in (await client.post(path, json=question(), headers=key)).json()["answer"]
