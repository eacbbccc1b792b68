"""The wires over a real runtime, with the engine's events told by the test where the translation is what matters."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, MutableMapping
from dataclasses import replace
from pathlib import Path

import httpx
import orjson
import pytest

import app as doors
from agents.context import Sampling
from agents.types import Citation, CitationSpan, Draft, Message, Note, Usage
from graphs.events import (
    Cited,
    Event,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunIncomplete,
    RunStarted,
    Sequenced,
    StepStarted,
    Token,
)
from knowledge.types import Found
from memory.sqlite import Database
from memory.store import MemoryUnavailable
from memory.types import Label
from serving.api import create_app
from serving.principal import LOCAL, Principal
from serving.records import UnknownThread
from serving.runtime import Runtime, open_runtime
from serving.settings import Settings
from serving.turns import ThreadBusy, TurnRequest, Turns
from tools.types import JsonObject, JsonValue, ToolCall, ToolSpec

ASGIMessage = MutableMapping[str, object]

RUN = "0199-run"
CITATION = Citation(1, "d1", "d1.0.3", "Guide", "/srv/secret/guide.md", "Use it.", 2, "Setup", 0, 7)
WEB = Citation(2, "d2", "d2.0.1", "Site", "/srv/site.html", "See.", None, "", 0, 4, "https://example.org/page")
DRAFT = Draft(
    "Use it. [1] See. [2][1]",
    "answered",
    "stop",
    "tiny",
    (CITATION, WEB),
    (CitationSpan(1, 8, 11), CitationSpan(2, 17, 20), CitationSpan(1, 20, 23)),
    usage=Usage(10, 5, 1),
)
TOLD: tuple[Event, ...] = (
    RunStarted(RUN), StepStarted("answer"), Token("Use it. [1]"), Cited(CITATION), Token(""), Token(" See. [2][1]"),
    RunFinished(DRAFT),
)  # fmt: skip


class ToldTurns(Turns):
    """An engine that says what a test tells it, and remembers what it was asked."""

    def __init__(self, *events: Event | Exception) -> None:
        self.told = events
        self.asked: list[TurnRequest] = []

    async def run(self, request: TurnRequest) -> AsyncGenerator[Sequenced, None]:
        self.asked.append(request)
        for seq, event in enumerate(self.told, start=1):
            if isinstance(event, Exception):
                raise event
            yield Sequenced(RUN, seq, event)


@pytest.fixture(scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Runtime]:
    folder = tmp_path_factory.mktemp("data")
    settings = Settings(data_dir=folder, model="tiny-instruct", max_body_bytes=5_000, hosts="parley.test")
    async with open_runtime(settings) as runtime:
        yield runtime


def telling(runtime: Runtime, *events: Event | Exception) -> tuple[httpx.AsyncClient, ToldTurns]:
    turns = ToldTurns(*events)
    return client_of(replace(runtime, turns=turns)), turns


def client_of(runtime: Runtime) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(runtime))
    return httpx.AsyncClient(transport=transport, base_url="http://parley.test:8080")


def asking(**more: JsonValue) -> JsonObject:
    return {"model": "parley", "messages": [{"role": "user", "content": "How?"}], **more}


def events_of(response: httpx.Response) -> list[JsonObject]:
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = response.text.split("\n\n")
    assert events.pop() == ""
    return [orjson.loads(event.removeprefix("data: ")) for event in events if event != "data: [DONE]"]


CHAT = "/v1/chat/completions"
ANNOTATIONS: list[JsonValue] = [
    {
        "type": "url_citation",
        "url_citation": {"url": url, "title": title, "start_index": start, "end_index": end},
    }
    for url, title, start, end in (
        ("http://parley.test:8080/api/documents/d1#d1.0.3", "Guide", 8, 11),
        ("https://example.org/page", "Site", 17, 20),
        ("http://parley.test:8080/api/documents/d1#d1.0.3", "Guide", 20, 23),
    )
]


async def test_a_plain_answer_has_its_citations_as_annotations_that_span_the_markers(runtime: Runtime) -> None:
    client, _ = telling(runtime, *TOLD)
    response = await client.post(CHAT, json=asking())
    body = response.json()
    assert response.status_code == 200
    assert (body["id"], body["object"], body["model"]) == (f"chatcmpl-{RUN}", "chat.completion", "parley")
    assert body["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    (choice,) = body["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": DRAFT.text, "refusal": None, "annotations": ANNOTATIONS},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert [DRAFT.text[span.start : span.end] for span in DRAFT.spans] == ["[1]", "[2]", "[1]"]
    assert "/srv/" not in response.text


async def test_a_stream_has_a_chunk_for_each_token_and_its_citations_in_the_last_delta(runtime: Runtime) -> None:
    client, _ = telling(runtime, *TOLD)
    response = await client.post(CHAT, json=asking(stream=True))
    chunks = events_of(response)
    assert response.text.endswith("data: [DONE]\n\n")
    assert response.headers["cache-control"] == "no-cache"
    assert {(chunk["id"], chunk["object"], chunk["model"]) for chunk in chunks} == {
        (f"chatcmpl-{RUN}", "chat.completion.chunk", "parley")
    }
    assert all("usage" not in chunk for chunk in chunks)
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        for delta, finish in (
            ({"role": "assistant", "content": "", "refusal": None}, None),
            ({"content": "Use it. [1]"}, None),
            ({"content": " See. [2][1]"}, None),
            ({"annotations": ANNOTATIONS}, "stop"),
        )
    ]


async def test_a_stream_ends_with_its_usage_when_that_was_asked(runtime: Runtime) -> None:
    client, _ = telling(runtime, *TOLD)
    chunks = events_of(await client.post(CHAT, json=asking(stream=True, stream_options={"include_usage": True})))
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


NO_MODEL = Draft("Hello.", "answered", "stop", "rules", notes=(Note("no_model", "No model is set."),))
FAILED = Draft("Hello.", "answered", "stop", "extractive", notes=(Note("model_failed", "The model is down."),))
QUIET = Draft("Hello.", "answered", "stop", "tiny", notes=(Note("unsupported", "Nothing supports it."),))
EARLIER: list[JsonValue] = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "How?"},
]


@pytest.mark.parametrize(
    ("draft", "earlier", "text"),
    [
        (NO_MODEL, False, "Hello.\n\nNo model is set."),
        (NO_MODEL, True, "Hello."),
        (FAILED, False, "Hello.\n\nThe model is down."),
        (FAILED, True, "Hello.\n\nThe model is down."),
        (QUIET, False, "Hello."),
        (replace(NO_MODEL, text=""), False, "No model is set."),
    ],
)
async def test_the_note_on_a_missing_model_ends_the_first_answer_of_a_conversation_only(
    runtime: Runtime, draft: Draft, earlier: bool, text: str
) -> None:
    asked = asking(messages=EARLIER) if earlier else asking()
    tokens = (Token(draft.text),) if draft.text else ()
    client, _ = telling(runtime, RunStarted(RUN), *tokens, RunFinished(draft))
    plain = (await client.post(CHAT, json=asked)).json()
    assert plain["choices"][0]["message"]["content"] == text
    streamed = await client.post(CHAT, json={**asked, "stream": True})
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in streamed_chunks(streamed)) == text


def streamed_chunks(response: httpx.Response) -> list[dict[str, list[dict[str, dict[str, str]]]]]:
    events = response.text.strip().split("\n\n")
    return [orjson.loads(event.removeprefix("data: ")) for event in events if event != "data: [DONE]"]


CALL = ToolCall("call_1", "weather", '{"city":"Oslo"}')
WIRE_CALL: JsonObject = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
}


async def test_calls_of_the_callers_tools_end_the_turn_with_tool_calls(runtime: Runtime) -> None:
    draft = Draft("", "answered", "tool_calls", "tiny", tool_calls=(CALL,))
    client, _ = telling(runtime, RunStarted(RUN), RunFinished(draft))
    plain = (await client.post(CHAT, json=asking())).json()["choices"][0]
    assert (plain["message"]["content"], plain["message"]["tool_calls"]) == (None, [WIRE_CALL])
    assert plain["finish_reason"] == "tool_calls"
    chunks = events_of(await client.post(CHAT, json=asking(stream=True)))
    assert [chunk["choices"] for chunk in chunks[1:]] == [
        [
            {
                "index": 0,
                "delta": {"tool_calls": [{"index": 0, **WIRE_CALL}]},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
        [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"}],
    ]


async def test_a_run_that_fails_before_its_first_token_is_a_502(runtime: Runtime) -> None:
    client, _ = telling(runtime, RunStarted(RUN), RunFailed("The model broke off.", ""))
    for stream in (False, True):
        response = await client.post(CHAT, json=asking(stream=stream))
        assert response.status_code == 502
        assert response.json() == {
            "error": {
                "message": "The model broke off.",
                "type": "server_error",
                "param": None,
                "code": "model_failed",
            }
        }


async def test_a_run_that_fails_after_its_first_token_ends_with_an_error_and_never_with_stop(runtime: Runtime) -> None:
    client, _ = telling(runtime, RunStarted(RUN), Token("Use"), RunFailed("The model broke off.", "Use"))
    assert (await client.post(CHAT, json=asking())).status_code == 502
    response = await client.post(CHAT, json=asking(stream=True))
    chunks = events_of(response)
    assert chunks[-1] == {
        "error": {"message": "The model broke off.", "type": "server_error", "param": None, "code": None}
    }
    assert "[DONE]" not in response.text
    assert '"finish_reason":"stop"' not in response.text


async def test_a_bug_is_told_with_an_id_that_the_log_explains_and_without_a_trace(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    bug = RuntimeError("secret detail")
    client, _ = telling(runtime, RunStarted(RUN), Token("Use"), bug)
    plain = await client.post(CHAT, json=asking())
    streamed = await client.post(CHAT, json=asking(stream=True))
    unstarted = await telling(runtime, bug)[0].post(CHAT, json=asking())
    assert (plain.status_code, streamed.status_code, unstarted.status_code) == (500, 200, 500)
    assert RUN in plain.text
    assert RUN in str(events_of(streamed)[-1]["error"])
    for response in (plain, streamed, unstarted):
        assert "secret detail" not in response.text
        assert "Traceback" not in response.text
    crashes = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [RUN in record.getMessage() for record in crashes] == [True, True, False]
    assert all(record.exc_info for record in crashes)
    caplog.clear()


async def test_a_bug_in_a_half_sent_plain_response_breaks_the_connection(runtime: Runtime) -> None:
    application = create_app(runtime)

    async def half(request: object) -> object:
        class Half(httpx.Response):
            async def __call__(self, scope: object, receive: object, send: object) -> None:
                await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
                raise RuntimeError("half")

        return Half(200)

    application.add_route("/half", half)  # type: ignore[arg-type]
    client = httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://parley.test")
    with pytest.raises(RuntimeError, match="half"):
        await client.get("/half")


@pytest.mark.parametrize(
    ("failure", "status"),
    [(MemoryUnavailable("the disk is full"), 503), (ThreadBusy("r1"), 409), (UnknownThread("no such thread"), 404)],
)
async def test_what_the_engine_may_raise_has_a_status_and_its_words(
    runtime: Runtime, failure: Exception, status: int
) -> None:
    client, _ = telling(runtime, failure)
    response = await client.post(CHAT, json=asking(stream=True))
    assert (response.status_code, response.json()["error"]["message"]) == (status, str(failure))


# --- requests ----------------------------------------------------------------------------------------------------


async def test_a_request_becomes_a_turn_with_all_that_it_says(runtime: Runtime) -> None:
    client, turns = telling(runtime, *TOLD)
    response = await client.post(
        CHAT,
        headers={"Authorization": "Bearer anything"},
        json={
            "model": "tiny-instruct",
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "What is"}, {"type": "text", "text": "it?"}]},
                {"role": "assistant", "content": None, "tool_calls": [WIRE_CALL]},
                {"role": "tool", "tool_call_id": "call_1", "content": "Rain"},
                {"role": "system", "content": "In English."},
            ],
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
            "parallel_tool_calls": False,
            "max_tokens": 7,
            "max_completion_tokens": 9,
            "temperature": 0,
            "top_p": 0.5,
            "stop": ["END", ""],
            "seed": 3,
            "n": 1,
            "user": "end-user",
            "metadata": {"a": "b"},
            "response_format": {"type": "text"},
            "logit_bias": {"5": 1},
            "some_future_field": {"x": 1},
        },
    )
    assert response.status_code == 200
    assert response.json()["model"] == "tiny-instruct"
    system = Label("local", "system", 3)
    assert turns.asked == [
        TurnRequest(
            LOCAL,
            (
                Message("system", "Be brief.", system),
                Message("user", "What is\nit?", Label("local", "user", 3)),
                Message("assistant", "", Label("local", "model", 0), tool_calls=(CALL,)),
                Message("system", "In English.", system),
                Message(
                    "tool", "Rain", Label("local", "tool:caller/weather", 0), tool_call_id="call_1", name="weather"
                ),
            ),
            sampling=Sampling(0, 0.5, 9, ("END",), 3, "weather", False),
            caller_tools=(ToolSpec("weather", "", {"type": "object"}),),
            caller_user="end-user",
            metadata={"a": "b"},
        )
    ]


async def test_a_call_that_names_a_conversation_brings_what_is_new_and_its_instructions(runtime: Runtime) -> None:
    client, turns = telling(runtime, *TOLD)
    history: list[JsonValue] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Old?"},
        {"role": "assistant", "content": "Old."},
        {"role": "user", "content": "Listen."},
        {"role": "user", "content": "New?"},
    ]
    asked = {"model": "parley", "messages": history, "metadata": {"thread_id": "t-1"}}
    assert (await client.post(CHAT, json=asked)).status_code == 200
    assert turns.asked[0].thread == "t-1"
    assert [message.content for message in turns.asked[0].messages] == ["Be brief.", "Listen.", "New?"]


async def test_the_callers_tools_and_a_stored_conversation_do_not_go_together(runtime: Runtime) -> None:
    client, turns = telling(runtime, *TOLD)
    refused = await client.post(CHAT, json=asking(tools=[TOOL], metadata={"thread_id": "t-1"}))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")
    assert turns.asked == []


async def test_a_conversation_is_told_apart_from_an_unknown_and_a_busy_one(runtime: Runtime) -> None:
    unknown = await client_of(runtime).post(CHAT, json=asking(metadata={"thread_id": "none"}))
    assert unknown.status_code == 404
    client, _ = telling(runtime, ThreadBusy("r-1"))
    busy = await client.post(CHAT, json=asking(metadata={"thread_id": "t-1"}))
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "thread_busy")
    assert "r-1" in busy.json()["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("ending", "status", "code"),
    [
        (RunIncomplete("the server was stopped", ""), 503, "stopping"),
        (RunCancelled(""), 409, "cancelled"),
    ],
)
async def test_an_answer_that_somebody_else_ended_is_an_error(
    runtime: Runtime, stream: bool, ending: Event, status: int, code: str
) -> None:
    client, _ = telling(runtime, RunStarted(RUN), ending)
    response = await client.post(CHAT, json=asking(stream=stream))
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("more", "sampling", "tools"),
    [
        ({}, Sampling(), 0),
        ({"stop": "END"}, Sampling(stop=("END",)), 0),
        ({"stop": None, "tools": None, "metadata": None, "user": None}, Sampling(), 0),
        ({"tools": [{"type": "function", "function": {"name": "a"}}], "tool_choice": "none"}, Sampling(), 0),
        (
            {"tools": [{"type": "function", "function": {"name": "a"}}], "tool_choice": "required"},
            Sampling(tool_choice="required"),
            1,
        ),
    ],
)
async def test_what_a_request_leaves_open_stays_open(
    runtime: Runtime, more: JsonObject, sampling: Sampling, tools: int
) -> None:
    client, turns = telling(runtime, *TOLD)
    assert (await client.post(CHAT, json=asking(**more))).status_code == 200
    assert turns.asked[0].sampling == sampling
    assert len(turns.asked[0].caller_tools) == tools


def said(*messages: JsonValue) -> JsonObject:
    return {"model": "parley", "messages": list(messages)}


ASSISTANT: JsonObject = {"role": "assistant", "content": "Hello"}
PICTURE: JsonObject = {"type": "image_url", "image_url": {"url": "data:"}}
TOOL: JsonObject = {"type": "function", "function": {"name": "a"}}
WRONG: dict[str, tuple[JsonValue, str | None, str]] = {
    "no object": ([], None, "object"),
    "no model": ({"messages": [{"role": "user", "content": "x"}]}, "model", "required"),
    "no messages": ({"model": "parley"}, "messages", "required"),
    "empty list": (said(), "messages", "at least 1"),
    "wrong role": (said({"role": "wizard", "content": "x"}), "messages[0].role", "'user'"),
    "no content": (said({"role": "user"}), "messages[0].content", "missing"),
    "no content of an answer": (said({"role": "assistant"}), "messages[0].content", "missing"),
    "empty": (said({"role": "user", "content": " \n"}), "messages[0].content", "empty"),
    "number as content": (said({"role": "user", "content": 5}), "messages[0].content", "string"),
    "picture": (said({"role": "user", "content": [PICTURE]}), "messages[0].content[0]", "image_url is not supported"),
    "answer last": (said({"role": "user", "content": "x"}, ASSISTANT), "messages[1]", "role user or tool"),
    "system only": (said({"role": "system", "content": "x"}), "messages[0]", "role user or tool"),
    "tool without call": (
        said({"role": "tool", "content": "x", "tool_call_id": "c"}),
        "messages[0].tool_call_id",
        "must name a call",
    ),
    "hot": (asking(temperature=3), "temperature", "less than or equal to 2"),
    "text for number": (asking(max_tokens="5"), "max_tokens", "integer"),
    "no tokens": (asking(max_tokens=0), "max_tokens", "greater than or equal to 1"),
    "number for flag": (asking(stream="yes"), "stream", "boolean"),
    "two answers": (asking(n=2), "n", "must be 1"),
    "many stops": (asking(stop=["a", "b", "c", "d", "e"]), "stop", "at most 4"),
    "usage without stream": (asking(stream_options={"include_usage": True}), "stream_options", "only allowed"),
    "json format": (asking(response_format={"type": "json_object"}), "response_format", "not supported"),
    "metadata of numbers": (asking(metadata={"a": 1}), "metadata.a", "string"),
    "much metadata": (asking(metadata={str(i): "" for i in range(17)}), "metadata", "at most 16"),
    "long metadata": (asking(metadata={"a": "x" * 513}), "metadata.a", "at most 512"),
    "tool name": (
        asking(tools=[{"type": "function", "function": {"name": "a b"}}]),
        "tools[0].function.name",
        "match pattern",
    ),
    "two tools of a name": (asking(tools=[TOOL, TOOL]), "tools", "two tools are called a"),
    "choice of none": (asking(tool_choice="required"), "tool_choice", "no tools"),
    "choice of another": (
        asking(tools=[TOOL], tool_choice={"function": {"name": "b"}}),
        "tool_choice",
        "not among the tools",
    ),
    "choice that is none": (asking(tool_choice="maybe"), "tool_choice", "'auto'"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_request_is_a_400_that_names_the_field(runtime: Runtime, case: str) -> None:
    body, param, words = WRONG[case]
    client, turns = telling(runtime, *TOLD)
    response = await client.post(CHAT, json=body)
    error = response.json()["error"]
    assert response.status_code == 400
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, None)
    assert words in error["message"]
    assert turns.asked == []


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("path", [CHAT, "/api/search"])
@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b'{"model": "parley", "messages": [{"role": "user", "content": "\xff"}], "query": "\xff"}', JSON, 400),
        (b'{"model": "parley", "messages": [{"role": "user", "content": "\\ud800"}], "query": "\\ud800"}', JSON, 400),
        (b'{"model": ', JSON, 400),
        (b"", JSON, 400),
        (b'{"query": "' + b"x" * 6_000 + b'"}', JSON, 413),
        (b'{"query": "' + b"x" * 90_000 + b'"}', JSON, 413),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {}, 415),
    ],
    ids=["not UTF-8", "half a character", "cut JSON", "nothing", "large", "very large", "text", "untyped"],
)
async def test_a_body_that_cannot_be_read_is_told_so(
    runtime: Runtime, path: str, content: bytes, headers: dict[str, str], status: int
) -> None:
    async def parts() -> AsyncGenerator[bytes]:
        for at in range(0, len(content), 1000):
            yield content[at : at + 1000]

    client, _ = telling(runtime, *TOLD)
    whole = await client.post(path, content=content, headers=headers)
    unmeasured = await client.post(path, content=parts(), headers=headers)
    assert (whole.status_code, unmeasured.status_code) == (status, status)
    if status == 413:
        assert "larger than 5000 bytes" in whole.text
        assert whole.headers["connection"] == "close"
    told = await client.post(path, content=content, headers={**headers, "Expect": "100-continue"})
    assert told.status_code == status


async def test_a_client_that_leaves_in_the_middle_of_its_body_asks_nothing(runtime: Runtime) -> None:
    turns = ToldTurns(*TOLD)
    sent: list[ASGIMessage] = []
    parts: list[ASGIMessage] = [
        {"type": "http.request", "body": b'{"model":', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> ASGIMessage:
        return parts.pop(0)

    async def send(message: ASGIMessage) -> None:
        sent.append(message)

    scope: ASGIMessage = {
        "type": "http", "method": "POST", "path": CHAT, "raw_path": CHAT.encode(), "query_string": b"",
        "headers": [(b"host", b"parley.test"), (b"content-type", b"application/json")], "scheme": "http",
        "http_version": "1.1", "client": ("127.0.0.1", 4000),
    }  # fmt: skip
    await create_app(replace(runtime, turns=turns))(scope, receive, send)
    assert sent[0]["status"] == 400
    assert turns.asked == []


async def test_a_vendors_json_type_is_json(runtime: Runtime) -> None:
    client, _ = telling(runtime, *TOLD)
    headers = {"Content-Type": "application/vnd.api+json; charset=utf-8"}
    assert (await client.post(CHAT, content=orjson.dumps(asking()), headers=headers)).status_code == 200


async def test_parley_is_the_first_model_and_an_unknown_one_is_not_found(runtime: Runtime) -> None:
    client, _ = telling(runtime, *TOLD)
    listed = (await client.get("/v1/models", headers={"Authorization": "Bearer x"})).json()
    assert listed["object"] == "list"
    assert [(card["id"], card["object"]) for card in listed["data"]] == [
        ("parley", "model"),
        ("tiny-instruct", "model"),
    ]
    response = await client.post(CHAT, json={**asking(), "model": "gpt-9"})
    assert response.status_code == 404
    assert response.json()["error"] == {
        "message": "the model gpt-9 does not exist",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


# --- search, health, description ---------------------------------------------------------------------------------


async def test_search_finds_what_was_taken_in_with_scores_part_by_part(runtime: Runtime, tmp_path: Path) -> None:
    file = tmp_path / "otters.md"
    file.write_text("# Otters\n\n## Food\n\nSea otters crack mussels open with a stone.\n", encoding="utf-8")
    await runtime.ingest.paths("local", [str(file)])
    response = await client_of(runtime).post("/api/search", json={"query": "What do otters eat?", "limit": 3})
    assert response.status_code == 200
    hit = response.json()["hits"][0]
    assert list(hit) == ["document", "title", "path", "text", "page", "heading", "start", "end", "score", "parts"]
    assert (hit["title"], hit["path"], hit["heading"], hit["page"]) == ("Otters", str(file), "Food", None)
    assert "mussels" in hit["text"]
    assert hit["end"] - hit["start"] == len(hit["text"])
    assert hit["score"] > 0
    assert all(isinstance(part, float) for part in hit["parts"].values())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "query"),
        ({"query": " "}, "query"),
        ({"query": "x", "limit": 51}, "limit"),
        ({"query": 3}, "query"),
        ({"query": "x" * 4_001}, "query"),
    ],
)
async def test_a_wrong_search_is_a_problem_that_names_the_field(runtime: Runtime, body: JsonObject, param: str) -> None:
    response = await client_of(runtime).post("/api/search", json=body)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["title"], problem["status"], problem["param"]) == ("Bad Request", 400, param)


class GoneSearch(Runtime):
    """A runtime whose memory has gone."""

    async def search(self, principal: Principal, query: str, limit: int) -> list[Found]:
        raise MemoryUnavailable("the disk is full")


def as_gone(runtime: Runtime) -> GoneSearch:
    return GoneSearch(**{name: getattr(runtime, name) for name in Runtime.__dataclass_fields__})


async def test_a_search_without_its_memory_is_a_503(runtime: Runtime) -> None:
    response = await client_of(as_gone(runtime)).post("/api/search", json={"query": "x"})
    assert (response.status_code, response.json()["detail"]) == (503, "the disk is full")


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/v1/nothing", 404, "application/json"),
        ("GET", CHAT, 405, "application/json"),
        ("GET", "/api/nothing", 404, "application/problem+json"),
        ("GET", "/api/search", 405, "application/problem+json"),
    ],
)
async def test_what_is_not_there_is_told_in_the_shape_of_its_path(
    runtime: Runtime, method: str, path: str, status: int, kind: str
) -> None:
    response = await client_of(runtime).request(method, path)
    assert (response.status_code, response.headers["content-type"]) == (status, kind)


async def test_health_says_alive_and_readiness_names_the_part_that_is_down(runtime: Runtime, tmp_path: Path) -> None:
    client = client_of(runtime)
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "parts": {"data": None, "embedder": None}})
    closed = await Database.open(tmp_path / "gone.db", [])
    await closed.close()
    down = await client_of(replace(runtime, stores=replace(runtime.stores, database=closed))).get("/readyz")
    assert (down.status_code, down.json()["status"]) == (503, "not ready")
    assert down.json()["parts"] == {"data": "does not work", "embedder": None}  # nobody can be known without the data


async def test_the_description_is_complete(runtime: Runtime) -> None:
    description = (await client_of(runtime).get("/openapi.json")).json()
    assert description["openapi"].startswith("3.1")
    assert {CHAT, "/v1/models", "/api/search", "/healthz", "/readyz"} <= set(description["paths"])
    schemas = description["components"]["schemas"]
    text = orjson.dumps(description).decode()
    for reference in {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}:
        assert reference in schemas
    for path in (CHAT, "/api/search"):
        operation = description["paths"][path]["post"]
        assert {"200", "400", "413", "415", "500", "503"} <= set(operation["responses"])
        assert operation["requestBody"]["content"]["application/json"]["examples"]
    for path, operations in description["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path


async def test_the_examples_of_the_description_are_accepted(runtime: Runtime) -> None:
    client, _ = telling(runtime, *TOLD)
    description = (await client.get("/openapi.json")).json()
    for path in (CHAT, "/api/search"):
        examples = description["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        for name, example in examples.items():
            assert (await client.post(path, json=example["value"])).status_code == 200, name


async def test_the_docs_page_shows_every_path_and_loads_nothing(runtime: Runtime) -> None:
    client = client_of(runtime)
    page = await client.get("/", follow_redirects=True)
    assert page.url.path == "/docs"
    for path in (CHAT, "/v1/models", "/api/search", "/readyz"):
        assert f"<code>{path}</code>" in page.text
    assert "<script" not in page.text
    assert "src=" not in page.text
    assert "ChatRequest" in page.text


async def test_uvicorn_can_serve_the_application_by_its_own_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_DATA_DIR", str(tmp_path / "fresh"))
    application = doors.create()
    async with application.router.lifespan_context(application):
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get("/readyz")).status_code == 200
    assert (tmp_path / "fresh").is_dir()
