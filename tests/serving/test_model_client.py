"""The client of OpenAI-compatible servers against a real socket, in good and bad weather."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import pytest
from anyio import fail_after, move_on_after

from agents.model import ModelBroken, ModelDelta, ModelRefused, ModelRequest, ModelUnavailable
from agents.types import Message, Usage
from memory.types import Label
from serving.models.open import open_model
from serving.models.openai_compatible import DEFAULT_WINDOW, OpenAICompatibleModel
from tests.serving.upstream import Behaviour, Call, free_port, until_gone, upstream
from tools.types import JsonObject, ToolCall, ToolSpec

LABEL = Label("local", "user", 3)
HELLO = ModelRequest((Message("user", "hello", LABEL),))


@asynccontextmanager
async def model_at(
    url: str,
    model: str = "tiny",
    key: str = "",
    window: int | None = None,
    first_token_seconds: float = 5.0,
    stall_seconds: float = 5.0,
) -> AsyncGenerator[OpenAICompatibleModel]:
    client = OpenAICompatibleModel(
        url, model, key, window, first_token_seconds=first_token_seconds, stall_seconds=stall_seconds
    )
    try:
        yield client
    finally:
        await client.close()


async def collect(client: OpenAICompatibleModel, request: ModelRequest = HELLO) -> list[ModelDelta]:
    return [delta async for delta in client.stream(request)]


async def quiet_for(seconds: float) -> None:
    """Says nothing for a while: the silence itself is what is tested."""
    with move_on_after(seconds):
        await asyncio.Event().wait()


def text_of(deltas: list[ModelDelta]) -> str:
    return "".join(delta.text for delta in deltas)


async def say_hi(call: Call) -> None:
    await call.say("Hi", " there")


async def test_an_answer_comes_as_text_finish_and_usage() -> None:
    async with upstream(say_hi) as server, model_at(server.url, key="k-1") as client:
        deltas = await collect(client)
    assert text_of(deltas) == "Hi there"
    assert [delta.finish for delta in deltas if delta.finish] == ["stop"]
    assert deltas[-1].usage == Usage(7, 2)
    assert server.calls[0].headers["authorization"] == "Bearer k-1"
    assert server.calls[0].path == "/v1/chat/completions"


async def test_a_request_carries_everything_that_was_asked() -> None:
    look = ToolSpec("look", "Looks.", {"type": "object"})
    request = ModelRequest(
        messages=(
            Message("system", "Be brief.", LABEL),
            Message("user", "look", LABEL, name="ann"),
            Message("assistant", "", LABEL, tool_calls=(ToolCall("c1", "look", '{"at":1}'),)),
            Message("tool", "a tree", LABEL, tool_call_id="c1", name="look"),
        ),
        tools=(look,),
        max_tokens=9,
        temperature=0.0,
        top_p=0.5,
        stop=("END",),
        seed=4,
        tool_choice="look",
        parallel_tool_calls=False,
        schema={"type": "object"},
    )
    async with upstream(say_hi) as server, model_at(server.url) as client:
        await collect(client, request)
    assert server.calls[0].body == {
        "model": "tiny",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "look", "name": "ann"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "a tree"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": look.parameters}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}},
        },
        "max_tokens": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "stop": ["END"],
        "seed": 4,
    }


async def test_characters_cut_between_packets_crlf_and_comments_are_understood() -> None:
    async def dribble(call: Call) -> None:
        await call.start()
        chunk = '{"choices":[{"delta":{"content":"grüße 🙂"},"finish_reason":null}]}'
        last = '{"choices":[{"delta":{},"finish_reason":"length"}]}'
        stream = f": keep-alive\r\n\r\nevent: message\r\ndata:{chunk}\r\n\r\nid: 4\r\ndata: {last}".encode()
        for at in range(len(stream)):
            await call.data(stream[at : at + 1])
        await call.raw(b"0\r\n\r\n")

    async with upstream(dribble) as server, model_at(server.url) as client:
        deltas = await collect(client)
    assert text_of(deltas) == "grüße 🙂"
    assert deltas[-1].finish == "length"


@pytest.mark.parametrize(
    "pieces",
    [
        [
            [{"index": 0, "id": "a", "type": "function", "function": {"name": "look", "arguments": ""}}],
            [{"index": 0, "function": {"arguments": '{"x"'}}],
            [{"index": 1, "id": "b", "function": {"name": "go", "arguments": "{}"}}],
            [{"index": 0, "function": {"arguments": ":1}"}}],
        ],
        [[{"id": "a", "function": {"name": "look", "arguments": '{"x":1}'}}, {"id": "b", "function": {"name": "go"}}]],
        [
            [{"index": 0, "id": "a", "function": {"name": "look", "arguments": '{"x":1}'}}],
            [{"index": 0, "id": "b", "function": {"name": "go", "arguments": "{}"}}],
        ],
        [
            [{"id": "a", "function": {"name": "look"}}],
            [{"function": {"arguments": '{"x":1}'}}],
            [{"id": "b", "function": {"name": "go"}}],
        ],
    ],
    ids=["by index", "at once without index", "one index twice", "pieces without index"],
)
async def test_tool_calls_come_whole_with_the_finish(pieces: list[list[JsonObject]]) -> None:
    async def call_tools(call: Call) -> None:
        await call.start()
        for piece in pieces:
            await call.delta(tool_calls=list(piece))
        await call.delta("tool_calls")
        await call.end()

    async with upstream(call_tools) as server, model_at(server.url) as client:
        deltas = await collect(client)
    assert deltas == [
        ModelDelta(
            tool_calls=(ToolCall("a", "look", '{"x":1}'), ToolCall("b", "go", "{}")), finish="tool_calls"
        )
    ]  # fmt: skip


async def test_reasoning_is_left_out_and_counts_as_a_sign_of_life() -> None:
    async def think(call: Call) -> None:
        await call.start()
        for _ in range(6):
            await call.delta(reasoning="hm")
            await quiet_for(0.06)
        await call.delta(content="Yes", reasoning_content="so")
        await call.delta("stop")
        await call.end()

    async with upstream(think) as server, model_at(server.url, first_token_seconds=0.2) as client:
        assert text_of(await collect(client)) == "Yes"


# --- before the first delta: unavailable -------------------------------------------------------------------------


def whole(status: int, kind: str, body: bytes, extra: str = "") -> Behaviour:
    async def answer(call: Call) -> None:
        await call.whole(status, kind, body, extra)

    return answer


def streaming(*events: JsonObject, then: Callable[[Call], Awaitable[None]] | None = None) -> Behaviour:
    async def answer(call: Call) -> None:
        await call.start()
        for event in events:
            await call.event(event)
        if then is not None:
            await then(call)
        else:
            await call.raw(b"0\r\n\r\n")
            call.close()

    return answer


async def cut(call: Call) -> None:
    call.close()


async def reset(call: Call) -> None:
    call.reset()


async def comments(call: Call) -> None:
    """Keeps talking and says nothing."""
    while not call.gone.is_set():
        await call.data(b": still here\n\n" * 100)


def once_heard(then: Behaviour) -> Behaviour:
    async def wait_first(call: Call) -> None:
        await call.heard.wait()
        await then(call)

    return wait_first


async def garbage(call: Call) -> None:
    await call.data(b"data: {not json\n\n")


async def wrong(call: Call) -> None:
    await call.data(b"data: [1]\n\n")


async def flood(call: Call) -> None:
    await call.data(b"data: " + b"x" * (1 << 20) + b"xxxxxxxxxxxxx")


ROLE: JsonObject = {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
WORD: JsonObject = {"choices": [{"delta": {"content": "Once"}, "finish_reason": None}]}
LAST: JsonObject = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
NAMELESS: JsonObject = {"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "a"}]}, "finish_reason": "stop"}]}
BAD_CALL: JsonObject = {"choices": [{"delta": {"tool_calls": ["look"]}, "finish_reason": None}]}

NOTHING: dict[str, tuple[Behaviour, str]] = {
    "400": (whole(400, "application/json", b'{"error":{"message":"too  long"}}'), "status 400: too long$"),
    "401": (whole(401, "application/json", b'{"error":"bad key s3cret"}'), r"status 401: bad key \*\*\*$"),
    "404": (whole(404, "application/json", b'{"object":"error","message":"no such model"}'), "404: no such model$"),
    "422": (whole(422, "application/json", b'{"detail":[{"msg":"missing"}]}'), "status 422: missing$"),
    "429": (whole(429, "text/plain", b"slow down"), "status 429: slow down$"),
    "500": (whole(500, "text/html", b"<html>oops</html>"), "status 500$"),
    "503 without text": (whole(503, "application/json", b"[]"), "status 503$"),
    "long text": (whole(500, "text/plain", b"y" * 9999), "status 500: y{299}…$"),
    "redirect": (whole(302, "text/html", b"", "Location: http://example.com\r\n"), "status 302$"),
    "html": (whole(200, "text/html", b"<html>Welcome</html>"), "not send an event stream but text/html$"),
    "json": (whole(200, "application/json", b'{"error":{"message":"busy"}}'), "but application/json: busy$"),
    "error first": (streaming({"error": {"message": "out of memory"}}), "out of memory$"),
    "error after role": (streaming(ROLE, {"object": "error", "message": "gone"}), "gone$"),
    "error without text": (streaming({"error": {"code": 1}}), "an error without a message$"),
    "ended after role": (streaming(ROLE), "ended without a finish reason$"),
    "closed at once": (cut, "the connection was closed$"),
    "reset at once": (reset, "the connection was closed$"),
    "cut after head": (streaming(then=cut), "the connection was closed$"),
    "reset after role": (streaming(ROLE, then=reset), "the connection was closed$"),
    "garbage": (streaming(then=garbage), "a chunk that is not JSON$"),
    "wrong shape": (streaming(then=wrong), "a chunk that is not an object$"),
    "wrong choice": (streaming({"choices": ["a"]}), "a choice that is not an object$"),
    "endless line": (streaming(then=flood), "a line of more than 1048576 bytes$"),
    "call without name": (streaming(NAMELESS), "a tool call without a name$"),
    "wrong call": (streaming(BAD_CALL), "a tool call that is not an object$"),
    "silent": (until_gone, "it was silent for too long$"),
    "silent after head": (streaming(then=until_gone), "it was silent for too long$"),
    "silent but for comments": (streaming(ROLE, then=comments), "it was silent for too long$"),
    "silent after role": (streaming(ROLE, then=until_gone), "it was silent for too long$"),
}


@pytest.mark.parametrize("case", NOTHING)
async def test_a_failure_before_the_first_word_is_an_unavailable_model(case: str) -> None:
    behaviour, said = NOTHING[case]
    seconds = 0.3 if case.startswith("silent") else 5.0
    async with upstream(behaviour) as server, model_at(server.url, key="s3cret", first_token_seconds=seconds) as client:
        with fail_after(3), pytest.raises(ModelUnavailable, match=said) as raised:
            await collect(client)
    assert server.url in str(raised.value)
    assert isinstance(raised.value, ModelRefused) == (case in ("400", "422"))


async def test_a_server_that_refuses_or_has_no_address_is_unavailable() -> None:
    async with model_at(f"http://ann:pass@127.0.0.1:{free_port()}/v1") as client:
        with pytest.raises(ModelUnavailable, match="cannot be reached: connect") as raised:
            await collect(client)
        assert "pass" not in str(raised.value)
    async with model_at("http://model.invalid/v1") as client:
        with pytest.raises(ModelUnavailable, match="its name cannot be resolved"):
            await collect(client)


# --- after the first delta: broken -------------------------------------------------------------------------------

BROKEN: dict[str, tuple[Behaviour, str]] = {
    "ended": (streaming(WORD), "ended without a finish reason$"),
    "cut": (streaming(WORD, then=once_heard(cut)), "the connection was closed$"),
    "reset": (streaming(WORD, then=once_heard(reset)), "the connection was closed$"),
    "garbage": (streaming(WORD, then=once_heard(garbage)), "a chunk that is not JSON$"),
    "error": (streaming(WORD, {"error": {"message": "out of memory"}}), "out of memory$"),
    "stall": (streaming(WORD, then=until_gone), "it was silent for too long$"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_failure_after_the_first_word_is_a_broken_answer(case: str) -> None:
    behaviour, said = BROKEN[case]
    seen: list[ModelDelta] = []
    async with upstream(behaviour) as server:
        seconds = 0.3 if case == "stall" else 5.0
        async with model_at(server.url, stall_seconds=seconds) as client:
            with fail_after(3), pytest.raises(ModelBroken, match=said):
                async with aclosing(client.stream(HELLO)) as deltas:
                    async for delta in deltas:
                        seen.append(delta)
                        server.calls[0].heard.set()
    assert text_of(seen) == "Once"


@pytest.mark.parametrize("then", [cut, reset, garbage, until_gone, comments], ids=lambda then: then.__name__)
async def test_what_goes_wrong_after_the_finish_reason_does_no_harm(then: Behaviour) -> None:
    seen: list[ModelDelta] = []
    behaviour = streaming(WORD, LAST, WORD, then=once_heard(then))
    async with upstream(behaviour) as server, model_at(server.url) as client, aclosing(client.stream(HELLO)) as deltas:
        with fail_after(4):
            async for delta in deltas:
                seen.append(delta)
                if delta.finish:
                    server.calls[0].heard.set()
    assert (text_of(seen), seen[-1].finish) == ("Once", "stop")


# --- connections -------------------------------------------------------------------------------------------------


async def test_leaving_an_answer_closes_its_connection_within_a_second() -> None:
    left = asyncio.Event()

    async def talk(call: Call) -> None:
        await call.start()
        await call.delta(content="Once")
        await until_gone(call)
        left.set()

    async with upstream(talk) as server, model_at(server.url) as client:
        async with aclosing(client.stream(HELLO)) as deltas:
            assert (await anext(deltas)).text == "Once"
        with fail_after(1):
            await left.wait()


async def test_cancelling_a_wait_for_the_first_word_closes_its_connection_within_a_second() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def stay_silent(call: Call) -> None:
        asked.set()
        await until_gone(call)
        left.set()

    async with upstream(stay_silent) as server, model_at(server.url) as client:
        task = asyncio.create_task(collect(client))
        await asked.wait()
        task.cancel()
        with fail_after(1):
            await left.wait()
            await asyncio.wait({task})
    assert task.cancelled()


async def test_answers_share_a_connection_and_a_stale_one_is_replaced() -> None:
    async def once_then_close(call: Call) -> None:
        await say_hi(call)
        if len(server.calls) == 2:
            call.close()

    async with upstream(once_then_close) as server, model_at(server.url) as client:
        for _ in range(3):
            assert text_of(await collect(client)) == "Hi there"
        assert server.connections == 2


async def test_a_slow_reader_slows_the_model_and_not_the_memory() -> None:
    paused = asyncio.Event()
    call_made: list[Call] = []

    async def pour(call: Call) -> None:
        call_made.append(call)
        await call.start()
        for _ in range(50_000):
            try:
                async with asyncio.timeout(0.5):
                    await call.delta(content="x" * 2000)
            except TimeoutError:
                paused.set()
                raise ConnectionError from None

    async with upstream(pour) as server, model_at(server.url) as client, aclosing(client.stream(HELLO)) as deltas:
        await anext(deltas)
        with fail_after(20):
            await paused.wait()
    assert call_made[0].written < 20_000_000  # of 100 MB: what the kernel's own buffers take


# --- what the server knows ---------------------------------------------------------------------------------------


async def test_name_and_window_are_asked_from_the_server_once_and_not_before_they_are_needed() -> None:
    async with upstream(say_hi) as server, model_at(server.url, model="") as client:
        assert (client.name, server.listings) == ("", 0)
        await asyncio.gather(collect(client), collect(client), client.window())
        assert (client.name, await client.window(), server.listings) == ("tiny", 4096, 1)
        assert server.calls[0].body["model"] == "tiny"


@pytest.mark.parametrize(
    ("card", "window"),
    [
        ({"id": "tiny", "context_length": 100}, 100),
        ({"id": "tiny", "meta": {"n_ctx_train": 200, "n_ctx": 150}}, 150),
        ({"id": "tiny", "meta": {"n_ctx_train": 200}}, 200),
        ({"id": "tiny", "max_model_len": None}, DEFAULT_WINDOW),
        ({"id": "other", "max_model_len": 300}, DEFAULT_WINDOW),
    ],
)
async def test_the_window_is_found_in_every_dialect(card: JsonObject, window: int) -> None:
    async with upstream(say_hi, {"data": [card]}) as server, model_at(server.url) as client:
        assert await client.window() == window


async def test_a_window_that_was_set_is_not_asked_and_one_that_cannot_be_asked_is_the_default() -> None:
    async with model_at(f"http://127.0.0.1:{free_port()}/v1", window=999) as client:
        assert await client.window() == 999
    async with model_at(f"http://127.0.0.1:{free_port()}/v1") as client:
        assert await client.window() == DEFAULT_WINDOW


@pytest.mark.parametrize("listing", [{"data": []}, {"data": None}, {}])
async def test_a_server_without_a_model_says_what_to_set(listing: JsonObject) -> None:
    async with upstream(say_hi, listing) as server, model_at(server.url, model="") as client:
        with pytest.raises(ModelUnavailable, match="lists no model: set PARLEY_MODEL"):
            await collect(client)


async def test_health_is_asked_at_most_once_in_a_while() -> None:
    async with upstream(say_hi) as server, model_at(server.url) as client:
        assert await client.reachable() is None
        assert await client.reachable() is None
        assert server.listings == 1
    async with model_at(f"http://127.0.0.1:{free_port()}/v1") as client:
        assert "cannot be reached" in (await client.reachable() or "")


async def listing_as(status: int, body: bytes) -> str | None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d Told\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener, model_at(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1") as client:
        return await client.reachable()


async def test_a_server_that_lists_no_models_properly_is_named_with_the_reason() -> None:
    assert "status 401: who are you" in (await listing_as(401, b'{"error":"who are you"}') or "")
    assert "does not list its models as JSON" in (await listing_as(200, b"<html>") or "")


async def test_an_opened_model_answers_through_its_breaker() -> None:
    async with upstream(say_hi) as server:
        opened = await open_model(server.url, "tiny")
        try:
            deltas = [delta async for delta in opened.model.stream(HELLO)]
            assert text_of(deltas) == "Hi there"
            assert opened.model.name == opened.server.name == "tiny"
        finally:
            await opened.server.close()
