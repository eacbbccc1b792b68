"""Conversations over the API: made, listed, searched, renamed, exported, deleted."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator

import anyio
import httpx
import pytest

from agents.model import ModelDelta
from agents.scripted import ScriptedModel
from memory.sql import Connection, every_tenant
from serving.conversations import Conversations
from serving.principal import Principal
from serving.runtime import Runtime
from tests.databases import postgres_made, record
from tests.serving.api_client import QUESTION, client_of, made_thread, opened, question, thinking, walked
from tools.types import JsonObject

__all__ = ["postgres_made", "record"]

BOB = Principal(user="bob")
UNKNOWN = "0198c0dd-11aa-7bbb-8ccc-0123456789ab"


@pytest.fixture(scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory, record: dict[str, str]) -> AsyncGenerator[Runtime]:
    async with opened(tmp_path_factory.mktemp("threads"), record) as runtime:
        yield runtime


@pytest.fixture
async def client(runtime: Runtime) -> AsyncGenerator[httpx.AsyncClient]:
    async with client_of(runtime) as client:
        for thread in await walked(client, "/api/threads", 200):
            await client.delete(f"/api/threads/{thread['id']}")
        yield client


async def ask(client: httpx.AsyncClient, thread: str, text: str = QUESTION) -> JsonObject:
    response = await client.post(f"/api/threads/{thread}/runs", json=question(text))
    assert response.status_code == 200, response.text
    return response.json()


async def titles(client: httpx.AsyncClient, **query: str) -> list[object]:
    return [one["title"] for one in await walked(client, "/api/threads", 200, **query)]


# --- one conversation --------------------------------------------------------------------------------------------


async def test_a_conversation_is_made_read_renamed_and_deleted(client: httpx.AsyncClient) -> None:
    made = await client.post("/api/threads", json={"title": " The  old\nmill "})
    assert made.status_code == 201
    thread = made.json()
    assert made.headers["location"] == f"/api/threads/{thread['id']}"
    assert set(thread) == {"id", "title", "created_at", "updated_at"}
    assert thread["title"] == "The old mill"
    path = f"/api/threads/{thread['id']}"
    assert (await client.get(path)).json() == thread
    renamed = await client.patch(path, json={"title": "The mill"})
    assert (renamed.status_code, renamed.json()["title"]) == (200, "The mill")
    assert renamed.json()["updated_at"] >= thread["updated_at"]
    assert (await client.get(path)).json() == renamed.json()
    gone = await client.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await client.get(path)).status_code == 404


async def test_a_conversation_needs_no_body_to_be_made(client: httpx.AsyncClient) -> None:
    made = await client.post("/api/threads")
    assert (made.status_code, made.json()["title"]) == (201, "")


@pytest.mark.parametrize(
    ("asked", "title"),
    [
        (QUESTION, QUESTION),
        ("  Who built\nthe Old   Mill?\t", QUESTION),
        ("Please tell me all that is known of the mill, of its wheel, its stones and its people", None),
        ("M" * 200, "M" * 79 + "…"),
    ],
)
async def test_the_first_question_names_a_conversation_that_has_no_title(
    client: httpx.AsyncClient, asked: str, title: str | None
) -> None:
    thread = await made_thread(client)
    await ask(client, thread, asked)
    named = (await client.get(f"/api/threads/{thread}")).json()["title"]
    assert len(named) <= 80
    assert named == title or (title is None and asked.startswith(named[:-1]) and named.endswith("its…"))
    await ask(client, thread, "When was it closed?")
    assert (await client.get(f"/api/threads/{thread}")).json()["title"] == named


async def test_a_title_that_was_given_stays(client: httpx.AsyncClient) -> None:
    thread = await made_thread(client, "Mills")
    await ask(client, thread)
    assert await titles(client) == ["Mills"]


async def test_messages_come_oldest_first_with_the_run_and_the_citations_of_each(client: httpx.AsyncClient) -> None:
    thread = await made_thread(client)
    runs = [await ask(client, thread), await ask(client, thread, "When was it closed?")]
    messages = await walked(client, f"/api/threads/{thread}/messages", 3)
    assert [one["role"] for one in messages] == ["user", "assistant"] * 2
    assert [one["run_id"] for one in messages] == [runs[0]["id"]] * 2 + [runs[1]["id"]] * 2
    assert [one["status"] for one in messages] == ["complete"] * 4
    assert [messages[0]["content"], messages[1]["content"]] == [QUESTION, runs[0]["answer"]]
    assert messages[1]["citations"] == runs[0]["citations"] != []
    assert set(messages[0]) == {"id", "role", "content", "status", "run_id", "citations", "created_at"}


async def test_a_deleted_conversation_leaves_no_row_behind(client: httpx.AsyncClient, runtime: Runtime) -> None:
    kept, thread = await made_thread(client), await made_thread(client)
    keys = {"Idempotency-Key": "delete-1"}
    other = await ask(client, kept)
    run = (await client.post(f"/api/threads/{thread}/runs", json=question(), headers=keys)).json()
    for one in (run, other):
        rated = await client.post("/api/feedback", json={"run_id": one["id"], "rating": 1})
        assert rated.status_code == 201
    tables = ("threads", "messages", "runs", "events", "checkpoints", "checkpointwrites", "feedback", "idempotency")

    async def mentions() -> dict[str, int]:
        def count(connection: Connection) -> dict[str, int]:
            rows = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
            return {t: sum(thread in row or run["id"] in row for row in found) for t, found in rows.items()}

        with every_tenant():
            return await runtime.database.read(count)

    before = await mentions()
    assert before["messages"] == 2
    assert min(before[table] for table in ("threads", "runs", "events", "feedback", "idempotency")) == 1
    assert (await client.delete(f"/api/threads/{thread}")).status_code == 204
    assert set((await mentions()).values()) == {0}
    assert (await client.get(f"/api/runs/{run['id']}")).status_code == 404
    assert len(await walked(client, f"/api/threads/{kept}/messages", 50)) == 2
    assert (await client.get(f"/api/runs/{other['id']}/events")).status_code == 200


async def test_a_conversation_with_a_run_under_way_is_not_deleted(client: httpx.AsyncClient, runtime: Runtime) -> None:
    hanging = anyio.Event()
    async with thinking(runtime, ScriptedModel((ModelDelta("The mill "), hanging))) as busy, client_of(busy) as talker:
        thread = await made_thread(talker)
        body = question("Tell me of the mill", background=True)
        run = (await talker.post(f"/api/threads/{thread}/runs", json=body)).json()
        refused = await talker.delete(f"/api/threads/{thread}")
        assert refused.status_code == 409
        assert (refused.json()["type"], refused.json()["run_id"]) == ("/problems/thread-busy", run["id"])
        assert (await talker.delete(f"/api/runs/{run['id']}")).status_code == 202
        assert (await talker.delete(f"/api/threads/{thread}")).status_code == 204


# --- lists -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
async def test_a_list_shows_each_conversation_once_whatever_is_written_meanwhile(
    client: httpx.AsyncClient, runtime: Runtime, seed: int
) -> None:
    chance = random.Random(seed)
    store, who = Conversations(runtime.database), Principal()
    threads = [(await store.create(who, f"number {number}")).id for number in range(20)]
    seen: list[str] = []
    gone: set[str] = set()
    cursor: str | None = None
    while True:
        params = {"limit": str(chance.randint(1, 4))} | ({"cursor": cursor} if cursor else {})
        body = (await client.get("/api/threads", params=params)).json()
        seen += [one["id"] for one in body["items"]]
        cursor = body["next_cursor"]
        if cursor is None:
            break
        await store.create(who, "made meanwhile")
        await store.rename(who, chance.choice(sorted({*threads} - gone)), "changed meanwhile")
        gone.add(chance.choice(sorted({*threads} - gone)))
        for id in gone - {*seen}:
            if id in threads and await _exists(store, who, id):
                await store.delete(who, id)
    assert len(seen) == len(set(seen))
    assert {*threads} - gone <= {*seen} <= {*threads}
    assert seen == sorted(seen, reverse=True)


async def _exists(store: Conversations, who: Principal, id: str) -> bool:
    return id in {thread.id for thread in (await store.page(who, None, 200)).items}


async def test_the_newest_conversation_is_listed_first_also_after_a_turn_in_another(client: httpx.AsyncClient) -> None:
    first = await made_thread(client, "first")
    await made_thread(client, "second")
    await ask(client, first)
    assert await titles(client) == ["second", "first"]


async def test_everybody_sees_their_own_conversations_only(client: httpx.AsyncClient, runtime: Runtime) -> None:
    store = Conversations(runtime.database)
    mine, theirs = await made_thread(client, "mine"), await store.create(BOB, "theirs")
    assert await titles(client) == ["mine"]
    assert [thread.title for thread in (await store.page(BOB, None, 50)).items] == ["theirs"]
    unknown = await client.get(f"/api/threads/{UNKNOWN}")
    for method, path in (
        ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/messages"), ("GET", "/runs"), ("GET", "/export"),
        ("POST", "/runs"),
    ):  # fmt: skip
        body = {"title": "taken"} if method == "PATCH" else question() if method == "POST" else None
        refused = await client.request(method, f"/api/threads/{theirs.id}{path}", json=body)
        assert refused.status_code == 404, (method, path)
        assert refused.json() == unknown.json() | {"detail": unknown.json()["detail"].replace(UNKNOWN, theirs.id)}
    assert (await store.get(BOB, theirs.id)).title == "theirs"
    assert mine


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["third", "Über Müller", "first"]),
        ("reed", ["first"]),
        ("REED mill", ["first"]),
        ("first reed", ["first"]),
        ("reed sawmill", []),
        ("über", ["Über Müller"]),
        ("ÜBER müll", ["Über Müller"]),
        ("100%", ["third"]),
        ("100_", []),
        ("!", ["third"]),
        ("'; DROP TABLE threads; --", []),
    ],
)
async def test_a_search_finds_what_says_all_words_in_title_or_messages(
    client: httpx.AsyncClient, query: str, found: list[str]
) -> None:
    await ask(client, await made_thread(client, "first"))
    await made_thread(client, "Über Müller")
    await ask(client, await made_thread(client, "third"), "Hello! That is 100% right!")
    assert await titles(client, q=query) == found


async def test_a_search_goes_on_from_its_cursor(client: httpx.AsyncClient) -> None:
    for number in range(7):
        await made_thread(client, f"{'mill' if number % 2 else 'wheel'} {number}")
    found = await walked(client, "/api/threads", 2, q="wheel")
    assert [one["title"] for one in found] == ["wheel 6", "wheel 4", "wheel 2", "wheel 0"]


# --- export ------------------------------------------------------------------------------------------------------


async def test_an_export_in_json_holds_every_message_and_the_feedback(client: httpx.AsyncClient) -> None:
    thread = await made_thread(client)
    run = await ask(client, thread)
    await client.post("/api/feedback", json={"run_id": run["id"], "rating": -1, "reason": "too short"})
    exported = await client.get(f"/api/threads/{thread}/export")
    assert exported.headers["content-type"] == "application/json"
    assert exported.headers["content-disposition"] == f'attachment; filename="thread-{thread}.json"'
    body = exported.json()
    assert body["messages"] == (await client.get(f"/api/threads/{thread}/messages")).json()["items"]
    assert [(one["run_id"], one["rating"], one["reason"]) for one in body["feedback"]] == [(run["id"], -1, "too short")]
    assert {key: body[key] for key in ("id", "title")} == {"id": thread, "title": QUESTION}


async def test_an_export_in_markdown_reads_as_a_conversation_with_its_sources(
    client: httpx.AsyncClient, runtime: Runtime
) -> None:
    thread = await made_thread(client)
    await ask(client, thread)
    exported = await client.get(f"/api/threads/{thread}/export", params={"format": "markdown"})
    assert exported.headers["content-type"] == "text/markdown; charset=utf-8"
    lines = exported.text.splitlines()
    assert lines[0] == f"# {QUESTION}"
    assert [line.split(",")[0] for line in lines if line.startswith("## ")] == ["## You", "## Parley"]
    assert "Tomas Reed" in exported.text
    assert any(line.startswith("[1] Old Mill, ") and "mill.md" in line for line in lines)
    empty = await client.get(f"/api/threads/{await made_thread(client)}/export", params={"format": "markdown"})
    assert empty.text == "# Conversation\n"


async def test_an_answer_that_broke_off_is_exported_as_such(client: httpx.AsyncClient, runtime: Runtime) -> None:
    hanging = anyio.Event()
    model = ScriptedModel((ModelDelta("The mill stands by the river and "), hanging))
    async with thinking(runtime, model) as busy, client_of(busy) as talker:
        thread = await made_thread(talker)
        body = question("Write a story of the mill", background=True)
        run = (await talker.post(f"/api/threads/{thread}/runs", json=body)).json()["id"]
        path = f"/api/runs/{run}/events"
        with anyio.fail_after(20):
            while '"token"' not in (await talker.get(path, headers={"Accept": "application/json"})).text:
                pass
        assert (await talker.delete(f"/api/runs/{run}")).status_code == 202
    exported = await client.get(f"/api/threads/{thread}/export", params={"format": "markdown"})
    assert " (cancelled)\n\nThe mill stands by the river" in exported.text


# --- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": "bWVzc2FnZXM6Mw"}, "cursor"),
        ({"q": "x" * 201}, "q"),
    ],
)
async def test_a_wrong_parameter_is_named(client: httpx.AsyncClient, params: dict[str, str], param: str) -> None:
    refused = await client.get("/api/threads", params=params)
    assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
    problem = refused.json()
    assert (problem["type"], problem["status"], problem["param"]) == ("/problems/invalid-request", 400, param)
    assert problem["detail"].startswith(f"{param}: ")


@pytest.mark.parametrize(
    "body", [{"title": 7}, {"title": "x" * 201}, [], {"title": ""}, {"title": "  \n "}, {}, {"title": None}]
)
async def test_a_wrong_title_is_refused(client: httpx.AsyncClient, body: object) -> None:
    thread = await made_thread(client, "kept")
    refused = await client.patch(f"/api/threads/{thread}", json=body)
    assert (refused.status_code, refused.json()["type"]) == (400, "/problems/invalid-request")
    assert await titles(client) == ["kept"]


async def test_a_body_that_is_not_declared_as_json_and_a_method_that_is_not_there_are_problems(
    client: httpx.AsyncClient,
) -> None:
    undeclared = await client.post("/api/threads", content=b"title=mill")
    assert (undeclared.status_code, undeclared.json()["type"]) == (415, "/problems/unsupported-media-type")
    wrong = await client.put("/api/threads")
    assert (wrong.status_code, wrong.json()["type"]) == (405, "/problems/method-not-allowed")
    assert wrong.headers["allow"]


async def test_the_cursor_of_one_conversations_messages_is_a_number_and_nothing_else(client: httpx.AsyncClient) -> None:
    thread = await made_thread(client)
    for forged in ("bWVzc2FnZXM6YWJj", "bWVzc2FnZXM6OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "bWVzc2FnZXM6", "ww"):
        refused = await client.get(f"/api/threads/{thread}/messages", params={"cursor": forged})
        assert (refused.status_code, refused.json()["param"]) == (400, "cursor"), forged
