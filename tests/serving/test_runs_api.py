"""Runs over the API: waited for, streamed, in the background; their events, their end, what is wrong with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import anyio
import httpx
import pytest
from starlette.types import Message, Receive, Send

from agents.model import ModelBroken, ModelDelta
from agents.scripted import Scripted, ScriptedModel, says
from agents.types import Usage
from memory.sql import Connection, every_tenant
from serving.runtime import Runtime
from serving.sse import EventStream
from serving.times import now
from tests.databases import postgres_made, record
from tests.serving.api_client import (
    QUESTION,
    client_of,
    events_in,
    made_thread,
    opened,
    question,
    said,
    thinking,
    walked,
)
from tools.types import JsonObject

__all__ = ["postgres_made", "record"]

STORY = "Write a story of the mill"
LIST = {"Accept": "application/json"}
UNKNOWN = "0198c0dd-11aa-7bbb-8ccc-0123456789ab"
SHAPE = set("id thread_id status answer citations usage notes started_at finished_at error".split())


@pytest.fixture(scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory, record: dict[str, str]) -> AsyncGenerator[Runtime]:
    async with opened(tmp_path_factory.mktemp("runs"), record) as runtime:
        yield runtime


@pytest.fixture
async def client(runtime: Runtime) -> AsyncGenerator[httpx.AsyncClient]:
    async with client_of(runtime) as client:
        yield client


async def started(client: httpx.AsyncClient, thread: str, text: str = STORY) -> str:
    """Id of a background run."""
    response = await client.post(f"/api/threads/{thread}/runs", json=question(text, background=True))
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def heard(client: httpx.AsyncClient, run: str, event: str = "token") -> None:
    """Returns when the run has said such an event."""
    with anyio.fail_after(20):
        while f'"type":"{event}"' not in (await client.get(f"/api/runs/{run}/events?limit=200", headers=LIST)).text:
            pass


# --- the three ways to ask ---------------------------------------------------------------------------------------


async def test_a_run_that_is_waited_for_comes_whole(client: httpx.AsyncClient) -> None:
    thread = await made_thread(client)
    response = await client.post(f"/api/threads/{thread}/runs", json=question(metadata={"app": "kiosk"}))
    assert response.status_code == 200
    run = response.json()
    assert set(run) == SHAPE
    assert response.headers["location"] == f"/api/runs/{run['id']}"
    assert (run["thread_id"], run["status"], run["error"]) == (thread, "finished", None)
    assert "Tomas Reed" in run["answer"]
    assert run["citations"][0]["path"].endswith("mill.md")
    assert set(run["usage"]) == {"prompt_tokens", "completion_tokens", "model_calls", "tool_calls"}
    assert [note["code"] for note in run["notes"]] == ["no_model"]
    assert run["started_at"] <= run["finished_at"] <= now()
    assert (await client.get(f"/api/runs/{run['id']}")).json() == run


async def test_a_stream_sends_every_event_with_its_number_and_the_thread_is_free_at_its_end(
    client: httpx.AsyncClient,
) -> None:
    thread = await made_thread(client)
    path = f"/api/threads/{thread}/runs"
    response = await client.post(path, json=question(stream=True))
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = events_in(response.text)
    assert [int(one.id) for one in events] == list(range(1, len(events) + 1))
    assert [(one.data["seq"], one.data["type"]) for one in events] == [(int(one.id), one.event) for one in events]
    assert len({str(one.data["run_id"]) for one in events}) == 1
    kinds = [one.event for one in events]
    assert (kinds[0], kinds[-1]) == ("run.started", "run.finished")
    assert {"step.started", "step.finished", "token", "citation"} <= set(kinds)
    assert said(events) == events[-1].data["answer"]
    assert (await client.post(path, json=question("When was it closed?"))).status_code == 200


async def test_a_background_run_is_told_of_at_once_and_goes_on_without_its_client(runtime: Runtime) -> None:
    gate = anyio.Event()
    script: Scripted = (ModelDelta("Once there was a mill. "), gate, *says("It turned."))
    async with thinking(runtime, ScriptedModel(script)) as slow, client_of(slow) as client:
        thread = await made_thread(client)
        response = await client.post(f"/api/threads/{thread}/runs", json=question(STORY, background=True))
        assert response.status_code == 202
        run = response.json()
        assert (run["status"] in ("queued", "running"), run["answer"], run["finished_at"]) == (True, None, None)
        await heard(client, run["id"])
        gate.set()
        events = events_in((await client.get(f"/api/runs/{run['id']}/events")).text)
        assert said(events) == "Once there was a mill. It turned."
        done = (await client.get(f"/api/runs/{run['id']}")).json()
    assert (done["status"], done["answer"]) == ("finished", "Once there was a mill. It turned.")


async def test_background_and_stream_together_send_the_events(runtime: Runtime) -> None:
    async with thinking(runtime, ScriptedModel(says("A ", "mill."))) as fast, client_of(fast) as client:
        thread = await made_thread(client)
        body = question(STORY, background=True, stream=True)
        response = await client.post(f"/api/threads/{thread}/runs", json=body)
    assert response.status_code == 200
    events = events_in(response.text)
    assert [int(one.id) for one in events] == list(range(1, len(events) + 1))
    assert (said(events), events[-1].event) == ("A mill.", "run.finished")


async def test_earlier_messages_of_an_assistant_may_come_with_the_question(client: httpx.AsyncClient) -> None:
    thread = await made_thread(client)
    messages = [
        {"role": "user", "content": "Which mill do you know?"},
        {"role": "assistant", "content": "The Old Mill."},
        {"role": "user", "content": "Who built it?"},
    ]
    run = (await client.post(f"/api/threads/{thread}/runs", json={"messages": messages})).json()
    assert "Tomas Reed" in run["answer"]
    stored = await walked(client, f"/api/threads/{thread}/messages", 200)
    assert [{"role": one["role"], "content": one["content"]} for one in stored[:3]] == messages
    assert stored[3]["content"] == run["answer"]


async def test_the_runs_of_a_conversation_are_listed_newest_first_with_their_answers(
    client: httpx.AsyncClient,
) -> None:
    thread = await made_thread(client)
    path = f"/api/threads/{thread}/runs"
    runs = [
        (await client.post(path, json=question(text))).json() for text in (QUESTION, "Hello", "When was it closed?")
    ]
    assert await walked(client, path, 2) == runs[::-1]


async def test_a_stateless_call_is_a_run_without_a_thread(client: httpx.AsyncClient) -> None:
    body = {"model": "parley", "messages": [{"role": "user", "content": QUESTION}]}
    completion = (await client.post("/v1/chat/completions", json=body)).json()
    run = (await client.get(f"/api/runs/{completion['id'].removeprefix('chatcmpl-')}")).json()
    assert (run["thread_id"], run["status"]) == (None, "finished")
    assert "Tomas Reed" in run["answer"]


# --- events ------------------------------------------------------------------------------------------------------


async def test_a_replay_from_any_event_is_byte_for_byte_what_was_sent(client: httpx.AsyncClient) -> None:
    thread = await made_thread(client)
    sent = (await client.post(f"/api/threads/{thread}/runs", json=question(stream=True))).text
    frames = [frame + "\n\n" for frame in sent.split("\n\n")[:-1]]
    path = f"/api/runs/{events_in(sent)[0].data['run_id']}/events"
    for number in range(len(frames) + 1):
        headers = {"Last-Event-ID": str(number)} if number % 2 else {}
        replay = await client.get(path, headers=headers, params={} if headers else {"after": str(number)})
        assert replay.status_code == 200
        assert replay.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert replay.text == "".join(frames[number:])
    both = await client.get(path, headers={"Last-Event-ID": "3"}, params={"after": "1"})
    assert both.text == "".join(frames[3:])


async def test_events_are_a_list_for_a_client_that_accepts_json(client: httpx.AsyncClient) -> None:
    thread = await made_thread(client)
    events = events_in((await client.post(f"/api/threads/{thread}/runs", json=question(stream=True))).text)
    path = f"/api/runs/{events[0].data['run_id']}/events"
    items: list[JsonObject] = []
    cursor = ""
    while cursor is not None:
        params = {"limit": "5"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(path, headers=LIST, params=params)).json()
        assert len(page["items"]) <= 5
        items += page["items"]
        cursor = page["next_cursor"]
    assert items == [one.data for one in events]
    later = (await client.get(path, headers=LIST, params={"after": str(len(events) - 1)})).json()
    assert later == {"items": [events[-1].data], "next_cursor": None}


async def test_a_list_of_the_events_so_far_does_not_wait_for_the_rest(runtime: Runtime) -> None:
    async with (
        thinking(runtime, ScriptedModel((ModelDelta("Once "), anyio.Event()))) as slow,
        client_of(slow) as client,
    ):
        run = await started(client, await made_thread(client))
        await heard(client, run)
        page = (await client.get(f"/api/runs/{run}/events?limit=200", headers=LIST)).json()
        assert page["items"][-1]["type"] == "token"
        assert page["next_cursor"] is None


async def test_events_that_are_no_longer_kept_are_gone(client: httpx.AsyncClient, runtime: Runtime) -> None:
    thread = await made_thread(client)
    key = {"Idempotency-Key": "gone-1"}
    body = question(stream=True)
    sent = events_in((await client.post(f"/api/threads/{thread}/runs", json=body, headers=key)).text)
    run = sent[0].data["run_id"]

    def forget(connection: Connection) -> None:
        connection.execute("DELETE FROM events WHERE run = ?", (str(run),))

    with every_tenant():
        await runtime.database.write(forget)
    for refused in (
        await client.get(f"/api/runs/{run}/events"),
        await client.get(f"/api/runs/{run}/events", headers=LIST),
        await client.post(f"/api/threads/{thread}/runs", json=body, headers=key),
    ):
        assert (refused.status_code, refused.json()["type"]) == (410, "/problems/events-gone")
    assert (await client.get(f"/api/runs/{run}")).json()["answer"] == said(sent)


async def test_a_stream_that_has_nothing_to_say_says_that_it_is_still_there(runtime: Runtime) -> None:
    more, spoken = asyncio.Event(), list[Message]()

    async def source() -> AsyncGenerator[bytes]:
        yield b"id: 1\n\n"
        await more.wait()
        yield b"id: 2\n\n"

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        spoken.append(message)
        if message.get("body", b"").startswith(b":"):
            more.set()

    stream = EventStream(source(), {"X-Mill": "old"}, keep_alive=0.01)
    with anyio.fail_after(10):
        await _call(stream, receive, send)
    assert (b"x-mill", b"old") in spoken[0]["headers"]
    assert [part["body"] for part in spoken[1:]] == [b"id: 1\n\n", b": still here\n", b"id: 2\n\n", b""]
    assert [part["more_body"] for part in spoken[1:]] == [True, True, True, False]


async def _call(stream: EventStream, receive: Receive, send: Send) -> None:
    await stream({"type": "http"}, receive, send)


# --- ends --------------------------------------------------------------------------------------------------------


async def test_a_cancelled_run_keeps_what_was_said_and_is_cancelled_only_once(runtime: Runtime) -> None:
    model = ScriptedModel((ModelDelta("Once there was "), anyio.Event()))
    async with thinking(runtime, model) as slow, client_of(slow) as client:
        thread = await made_thread(client)
        run = await started(client, thread)
        await heard(client, run)
        cancelled = await client.delete(f"/api/runs/{run}")
        assert cancelled.status_code == 202
        assert (cancelled.json()["status"], cancelled.json()["answer"]) == ("cancelled", "Once there was ")
        assert model.closed == 1
        again = await client.delete(f"/api/runs/{run}")
        assert (again.status_code, again.json()["type"]) == (409, "/problems/run-over")
        assert again.json()["run_id"] == run
        messages = await walked(client, f"/api/threads/{thread}/messages", 50)
        assert [one["status"] for one in messages] == ["complete", "cancelled"]
        assert events_in((await client.get(f"/api/runs/{run}/events")).text)[-1].event == "run.cancelled"


async def test_a_model_that_breaks_off_makes_a_failed_run_and_never_a_whole_answer(runtime: Runtime) -> None:
    model = ScriptedModel((ModelDelta("The mill was "), ModelBroken("the model broke off")))
    async with thinking(runtime, model) as broken, client_of(broken) as client:
        thread = await made_thread(client)
        run = (await client.post(f"/api/threads/{thread}/runs", json=question(STORY))).json()
        assert (run["status"], run["answer"], run["error"]) == ("failed", "The mill was ", "the model broke off")
        last = (await walked(client, f"/api/threads/{thread}/messages", 50))[-1]
        assert (last["status"], last["content"]) == ("failed", "The mill was ")
        sent = await client.post(f"/api/threads/{thread}/runs", json=question(STORY, stream=True))
        assert events_in(sent.text)[-1].event == "run.failed"


async def test_what_a_model_used_is_told(runtime: Runtime) -> None:
    model = ScriptedModel(says("A mill.", usage=Usage(11, 5, 1)))
    async with thinking(runtime, model) as counted, client_of(counted) as client:
        run = (await client.post(f"/api/threads/{await made_thread(client)}/runs", json=question(STORY))).json()
    assert (run["usage"]["prompt_tokens"], run["usage"]["completion_tokens"]) == (11, 5)


@pytest.mark.parametrize("how", [{}, {"stream": True}, {"background": True}])
async def test_a_busy_conversation_refuses_a_second_run_and_names_the_first(
    runtime: Runtime, how: dict[str, bool]
) -> None:
    async with (
        thinking(runtime, ScriptedModel((ModelDelta("Once "), anyio.Event()))) as slow,
        client_of(slow) as client,
    ):
        thread = await made_thread(client)
        run = await started(client, thread)
        refused = await client.post(f"/api/threads/{thread}/runs", json=question("Hello", **how))
        assert refused.status_code == 409
        assert refused.headers["content-type"] == "application/problem+json"
        assert (refused.json()["type"], refused.json()["run_id"]) == ("/problems/thread-busy", run)
        assert len(await walked(client, f"/api/threads/{thread}/messages", 50)) == 1


# --- what is wrong -----------------------------------------------------------------------------------------------

ONE = {"role": "user", "content": "Hello"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
        ({"messages": [ONE, {"role": "assistant", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x" * 600_000}] * 2}, "messages"),
        ({"messages": [ONE] * 101}, "messages"),
        ({"messages": [ONE], "stream": "yes"}, "stream"),
        ({"messages": [ONE], "background": 1}, "background"),
        ({"messages": [ONE], "metadata": {"n": 7}}, "metadata.n"),
        ({"messages": [ONE], "metadata": {str(n): "x" for n in range(17)}}, "metadata"),
    ],
)
async def test_a_body_that_is_wrong_is_refused_with_the_fields_name(
    client: httpx.AsyncClient, body: JsonObject, param: str
) -> None:
    refused = await client.post(f"/api/threads/{await made_thread(client)}/runs", json=body)
    assert (refused.status_code, refused.json()["type"]) == (400, "/problems/invalid-request")
    assert refused.json()["param"] == param


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_run_that_is_not_there_is_unknown(client: httpx.AsyncClient, method: str) -> None:
    for path in (f"/api/runs/{UNKNOWN}", f"/api/runs/{UNKNOWN}/events"):
        if method == "GET" or not path.endswith("events"):
            refused = await client.request(method, path)
            assert (refused.status_code, refused.json()["detail"]) == (404, f"there is no run {UNKNOWN}")


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "9" * 16])
async def test_a_last_event_id_that_is_no_number_is_refused(client: httpx.AsyncClient, given: str) -> None:
    run = (await client.post(f"/api/threads/{await made_thread(client)}/runs", json=question("Hello"))).json()["id"]
    refused = await client.get(f"/api/runs/{run}/events", headers={"Last-Event-ID": given})
    assert (refused.status_code, refused.json()["param"]) == (400, "Last-Event-ID")
