"""The whole server on real sockets: clients as they are used, a model that behaves or not, readers that leave."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import httpx
import orjson
import pytest
from anyio import fail_after
from openai import APIError, APIStatusError, AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from serving.runtime import Runtime, open_runtime
from serving.settings import Settings
from tests.serving.served import served
from tests.serving.upstream import Behaviour, Call, Upstream, until_gone, upstream
from tools.types import JsonObject

DOCUMENTS = {
    "kestrel.md": "# Kestrel Bridge\n\nThe Kestrel Bridge was designed by Mira Solberg. "
    "The Kestrel Bridge opened in 1931 after four years of work.\n",
    "heron.md": "# Heron Bridge\n\nThe Heron Bridge was designed by Jonas Wik. "
    "The Heron Bridge opened in 1957 and was rebuilt later.\n",
}
FIRST, SECOND = "Who designed the Kestrel Bridge?", "When did it open?"


@asynccontextmanager
async def parley(folder: Path, model_url: str) -> AsyncGenerator[tuple[Runtime, str]]:
    settings = Settings(data_dir=folder, model_url=model_url, first_token_seconds=1.0)
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    async with open_runtime(settings) as runtime:
        await runtime.ingest.paths("local", [str(folder / name) for name in DOCUMENTS])
        async with served(runtime) as base:
            yield runtime, base


@dataclass(slots=True)
class Desk:
    """A server whose model each test tells how to behave."""

    runtime: Runtime
    base: str
    model: Upstream

    def behave(self, behaviour: Behaviour) -> list[Call]:
        """Sets the model's behaviour and returns the list of calls that it will get."""
        self.model.behaviour = behaviour
        self.model.calls.clear()
        return self.model.calls


@pytest.fixture(scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Desk]:
    async with upstream(clerk) as model, parley(tmp_path_factory.mktemp("model"), model.url) as (runtime, base):
        yield Desk(runtime, base, model)


@pytest.fixture(scope="module")
async def alone(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    async with parley(tmp_path_factory.mktemp("alone"), "") as (_, base):
        yield base


def prompt(call: Call) -> str:
    """Everything that a call says to the model."""
    return orjson.dumps(call.body["messages"]).decode()


async def clerk(call: Call) -> None:
    """A model that can do two things: put names for pronouns, and copy what passage 1 says."""
    text = prompt(call)
    if "response_format" in call.body:
        reply = orjson.dumps({"kind": "question", "question": "When did the Kestrel Bridge open?", "language": "en"})
        return await call.say(reply.decode())
    newest = cast(list[dict[str, str]], call.body["messages"])[-1]["content"]
    passage = newest.partition('<passage n="1"')[2].partition("</passage>")[0]
    wanted = r"opened in \d+" if SECOND in newest else r"designed by \w+ \w+"
    found = re.search(wanted, passage)
    assert found is not None, text
    await call.say("It was ", found.group(), " [1].")


# --- clients -----------------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """An answer as a client got it."""

    text: str
    cited: str
    """What the first annotation's span covers."""
    url: str
    finish: str


Ask = Callable[[str, list[ChatCompletionMessageParam]], Awaitable[Said]]


async def ask_plainly(base: str, messages: list[ChatCompletionMessageParam]) -> Said:
    async with AsyncOpenAI(base_url=f"{base}/v1", api_key="any") as client:
        answer = await client.chat.completions.create(model="parley", messages=messages)
    choice = answer.choices[0]
    text = choice.message.content or ""
    assert choice.message.annotations
    citation = choice.message.annotations[0].url_citation
    return Said(text, text[citation.start_index : citation.end_index], citation.url, choice.finish_reason)


async def ask_streaming(base: str, messages: list[ChatCompletionMessageParam]) -> Said:
    pieces: list[str] = []
    finish, extra = "", dict[str, object]()
    async with AsyncOpenAI(base_url=f"{base}/v1", api_key="any") as client:
        stream = await client.chat.completions.create(
            model="parley", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        usages = 0
        async for chunk in stream:
            usages += chunk.usage is not None
            for choice in chunk.choices:
                pieces.append(choice.delta.content or "")
                extra |= choice.delta.model_extra or {}
                finish = choice.finish_reason or finish
    assert usages == 1
    return told("".join(pieces), extra, finish)


async def ask_with_curl(base: str, messages: list[ChatCompletionMessageParam]) -> Said:
    body = orjson.dumps({"model": "parley", "stream": True, "messages": messages}).decode()
    process = await asyncio.create_subprocess_exec(
        "curl", "-sN", f"{base}/v1/chat/completions", "-H", "Content-Type: application/json", "-d", body,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    events = output.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    choices = [orjson.loads(event.removeprefix("data: "))["choices"][0] for event in events[:-2]]
    extra = dict[str, object]()
    for choice in choices:
        extra |= choice["delta"]
    text = "".join(choice["delta"].get("content", "") for choice in choices)
    return told(text, extra, choices[-1]["finish_reason"])


def told(text: str, extra: dict[str, object], finish: str) -> Said:
    annotations = cast(list[dict[str, dict[str, int | str]]], extra["annotations"])
    citation = annotations[0]["url_citation"]
    cited = text[int(citation["start_index"]) : int(citation["end_index"])]
    return Said(text, cited, str(citation["url"]), finish)


async def converse(ask: Ask, base: str) -> tuple[Said, Said]:
    first = await ask(base, [{"role": "user", "content": FIRST}])
    history: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": FIRST},
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": SECOND},
    ]
    return first, await ask(base, history)


CLIENTS = pytest.mark.parametrize("ask", [ask_plainly, ask_streaming, ask_with_curl], ids=lambda ask: ask.__name__)


@CLIENTS
async def test_two_turns_without_a_model_where_the_second_needs_the_first(ask: Ask, alone: str) -> None:
    first, second = await converse(ask, alone)
    assert "Mira Solberg" in first.text
    assert "No language model is set" in first.text.splitlines()[-1]
    assert "1931" in second.text
    assert "1957" not in second.text
    assert "No language model" not in second.text
    for answer in (first, second):
        assert (answer.cited, answer.finish) == ("[1]", "stop")
        assert answer.url.startswith(f"{alone}/api/documents/")


@CLIENTS
async def test_two_turns_with_a_model_where_the_second_needs_the_first(ask: Ask, desk: Desk) -> None:
    calls = desk.behave(clerk)
    first, second = await converse(ask, desk.base)
    assert (first.text, second.text) == ("It was designed by Mira Solberg [1].", "It was opened in 1931 [1].")
    assert FIRST in prompt(calls[-1])
    assert "It was designed by Mira Solberg [1]." in prompt(calls[-1])
    for answer in (first, second):
        assert (answer.cited, answer.finish) == ("[1]", "stop")


async def test_the_callers_tool_is_called_and_its_result_goes_on(desk: Desk) -> None:
    async def use_tool(call: Call) -> None:
        messages = cast(list[JsonObject], call.body["messages"])
        if messages[-1]["role"] == "tool":
            return await call.say("Take an umbrella: ", str(messages[-1]["content"]))
        await call.start()
        function: JsonObject = {"name": "weather", "arguments": '{"city": "Oslo"}'}
        await call.delta(tool_calls=[{"index": 0, "id": "call_7", "type": "function", "function": function}])
        await call.delta("tool_calls")
        await call.end()

    calls = desk.behave(use_tool)
    question: ChatCompletionMessageParam = {"role": "user", "content": "Draft a packing list for the weather in Oslo"}
    async with AsyncOpenAI(base_url=f"{desk.base}/v1", api_key="any") as client:
        asked = await client.chat.completions.create(
            model="parley",
            messages=[question],
            tools=[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        )
        assert asked.choices[0].finish_reason == "tool_calls"
        (wish,) = asked.choices[0].message.tool_calls or []
        answered = await client.chat.completions.create(
            model="parley",
            messages=[
                question,
                cast(ChatCompletionMessageParam, asked.choices[0].message.model_dump(exclude_none=True)),
                {"role": "tool", "tool_call_id": wish.id, "content": "heavy rain"},
            ],
        )
    assert (wish.id, wish.type) == ("call_7", "function")
    assert answered.choices[0].message.content == "Take an umbrella: heavy rain"
    offered = [tool["function"]["name"] for tool in cast(list[dict[str, dict[str, str]]], calls[0].body["tools"])]
    assert "weather" in offered
    assert len(offered) > 1  # our own tools still run


# --- a model that fails ------------------------------------------------------------------------------------------


async def answer_html(call: Call) -> None:
    await call.whole(200, "text/html", b"<html>Welcome</html>")


async def answer_400(call: Call) -> None:
    await call.whole(400, "application/json", b'{"error":{"message":"no"}}')


async def answer_429(call: Call) -> None:
    await call.whole(429, "application/json", b"{}")


async def answer_500(call: Call) -> None:
    await call.whole(500, "text/plain", b"oops")


async def close_at_once(call: Call) -> None:
    call.close()


async def end_unsaid(call: Call) -> None:
    await call.start()
    await call.delta(role="assistant", content="")
    await call.end()


BEFORE = [until_gone, answer_html, answer_400, answer_429, answer_500, close_at_once, end_unsaid]


@pytest.mark.parametrize("ask", [ask_plainly, ask_streaming], ids=lambda ask: ask.__name__)
@pytest.mark.parametrize("behaviour", BEFORE, ids=lambda behaviour: behaviour.__name__)
async def test_a_model_that_fails_before_its_first_word_is_replaced_by_quotes_with_a_note(
    ask: Ask, behaviour: Behaviour, desk: Desk
) -> None:
    desk.behave(behaviour)
    with fail_after(8):
        answer = await ask(desk.base, [{"role": "user", "content": FIRST}])
    assert "Mira Solberg" in answer.text
    assert (answer.cited, answer.finish) == ("[1]", "stop")
    assert "The language model did not answer" in answer.text.splitlines()[-1]
    desk.behave(clerk)
    healed = await ask(desk.base, [{"role": "user", "content": FIRST}])
    assert healed.text == "It was designed by Mira Solberg [1]."


async def break_off(call: Call) -> None:
    await call.start()
    await call.delta(content="It was designed by nobody less than the famous Mira Solberg, who also built ")
    await call.raw(b"0\r\n\r\n")


async def error_chunk(call: Call) -> None:
    await call.start()
    await call.delta(content="It was designed by nobody less than the famous Mira Solberg, who also built ")
    await call.event({"error": {"message": "out of memory"}})
    await call.end()


@pytest.mark.parametrize("behaviour", [break_off, error_chunk], ids=lambda behaviour: behaviour.__name__)
async def test_a_model_that_breaks_off_after_its_first_word_is_an_error_and_never_a_stop(
    behaviour: Behaviour, desk: Desk
) -> None:
    desk.behave(behaviour)
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": FIRST}]
    async with AsyncOpenAI(base_url=f"{desk.base}/v1", api_key="any", max_retries=0) as client:
        with pytest.raises(APIStatusError) as plain:
            await client.chat.completions.create(model="parley", messages=messages)
        assert plain.value.status_code == 502
        seen: list[str | None] = []
        with pytest.raises(APIError, match="broke off"):
            async for chunk in await client.chat.completions.create(model="parley", messages=messages, stream=True):
                seen += [choice.finish_reason for choice in chunk.choices]
    assert set(seen) == {None}


# --- readers that leave or are slow ------------------------------------------------------------------------------


async def opened(base: str, body: JsonObject) -> socket.socket:
    """A connection on which a request has been sent; its receive buffer is as small as can be."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    url = httpx.URL(base)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (url.host, url.port))
    sent = orjson.dumps(body)
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    await loop.sock_sendall(connection, f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
    return connection


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("spoken", [True, False], ids=["while it speaks", "before its first word"])
async def test_a_client_that_goes_away_ends_the_models_call_within_a_second(
    stream: bool, spoken: bool, desk: Desk
) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def never_end(call: Call) -> None:
        if spoken:
            await call.start()
            await call.delta(content="It was " + "a long story. " * 20)
        asked.set()
        await until_gone(call)
        left.set()

    desk.behave(never_end)
    body: JsonObject = {"model": "parley", "stream": stream, "messages": [{"role": "user", "content": FIRST}]}
    connection = await opened(desk.base, body)
    await asked.wait()
    id = ""
    if stream and spoken:
        received = await asyncio.get_running_loop().sock_recv(connection, 4096)
        id = re.findall(rb"chatcmpl-([0-9a-f-]+)", received)[0].decode()
    connection.close()
    with fail_after(1):
        await left.wait()
        while id and (run := await desk.runtime.repository.run("local", "local", id)) and run.status != "cancelled":
            assert run.status == "running"


async def test_a_slow_client_slows_the_model_and_not_the_memory(desk: Desk) -> None:
    paused = asyncio.Event()

    async def pour(call: Call) -> None:
        await call.start()
        while not paused.is_set():
            try:
                async with asyncio.timeout(1.0):
                    await call.delta(content="the river runs on and on " * 100)
            except TimeoutError:
                paused.set()
                raise ConnectionError from None

    calls = desk.behave(pour)
    body: JsonObject = {"model": "parley", "stream": True, "messages": [{"role": "user", "content": "Hello!"}]}
    with closing(await opened(desk.base, body)), fail_after(60):
        await paused.wait()
    assert calls[0].written < 20_000_000


async def test_a_body_of_more_than_ten_megabytes_is_refused_with_and_without_its_length(alone: str) -> None:
    body = orjson.dumps({"model": "parley", "messages": [{"role": "user", "content": "x" * 10_500_000}]})

    async def pieces() -> AsyncGenerator[bytes]:
        for at in range(0, len(body), 1 << 16):
            yield body[at : at + (1 << 16)]

    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(timeout=30) as client:
        for content in (body, pieces()):
            response = await client.post(f"{alone}/v1/chat/completions", content=content, headers=headers)
            assert response.status_code == 413
            assert "larger than 10000000 bytes" in response.json()["error"]["message"]


async def test_more_text_than_can_be_read_is_a_400_and_the_server_goes_on(alone: str) -> None:
    async with AsyncOpenAI(base_url=f"{alone}/v1", api_key="any", max_retries=0) as client:
        with pytest.raises(APIStatusError, match="have 9900000 characters") as refused:
            await client.chat.completions.create(
                model="parley", messages=[{"role": "user", "content": "x" * 9_900_000}]
            )  # fmt: skip
    assert (refused.value.status_code, refused.value.code) == (400, "string_above_max_length")
    said = await ask_plainly(alone, [{"role": "user", "content": FIRST}])
    assert "Mira Solberg" in said.text


async def test_readiness_names_a_model_that_is_down_and_stays_ready(tmp_path: Path) -> None:
    async with upstream(clerk) as model:
        url = model.url
    async with parley(tmp_path, url) as (_, base), httpx.AsyncClient() as client:
        ready = await client.get(f"{base}/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert url in ready.json()["parts"]["model"]
