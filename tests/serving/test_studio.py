# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The chat graph in LangGraph Studio's own server (`make studio`), driven by the SDK; and its parts in this process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.schema import Checkpoint, Input

from evals.graph_picture import draw
from graphs.studio import NoQuestion, StudioGraph, StudioState
from serving.studio import ORIGIN, Process, app
from tools.types import JsonObject, JsonValue

ROOT = Path(__file__).resolve().parents[2]
FILES = ("Makefile", "bootstrap.sh", "app.py", "langgraph.json", "pyproject.toml", "requirements.lock",
         "requirements-dev.lock", "requirements-studio.lock", ".venv-studio")  # fmt: skip
FIRST, SECOND = "Which key opens the bicycle cellar?", "When are the roses pruned?"
BLUE = "The bicycle cellar opens with the blue key. [1]"
ROSES = "The apple trees are pruned in February, the roses in March. [1]"
DEADLINE = 300
"""Seconds; a bound for what hangs, not a measure."""


class Server(NamedTuple):
    """A running `make studio`."""

    url: str
    folder: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Started as a user does, over the documents of data/schema-0001.sqlite; without a key, and without a proxy."""
    subprocess.run(["sh", "bootstrap.sh", "studio"], cwd=ROOT, check=True, timeout=DEADLINE)
    clone = tmp_path_factory.mktemp("clone")
    for name in FILES:
        (clone / name).symlink_to(ROOT / name)
    (clone / "data").mkdir(mode=0o700)
    shutil.copy(Path(__file__).with_name("data") / "schema-0001.sqlite", clone / "data" / "parley.sqlite")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {name: value for name, value in os.environ.items() if not re.match("PARLEY|LANG|MAKE|COV", name)}
    environ |= {"PARLEY_DATA_DIR": str(clone / "data"), "PARLEY_STUDIO_PORT": str(port), "LOG_JSON": "true"}
    with subprocess.Popen(
        ["make", "studio"], cwd=clone, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        said = Heard(process.stdout)
        try:
            assert said.up.wait(DEADLINE), said.text()
            assert process.poll() is None, said.text()
            yield Server(f"http://127.0.0.1:{port}", clone)
            os.killpg(process.pid, signal.SIGINT)
            process.wait(DEADLINE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert "BlockingError" not in said.text()
    assert list((clone / "data" / "processes").iterdir()) == []  # all was closed at the end


class Heard:
    """What the server prints, read as it comes so that it never waits for its reader."""

    def __init__(self, stream: IO[str]) -> None:
        self.up = threading.Event()
        """It has started, or ended."""
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(stream,))
        self._thread.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.append(line)
            if "Application started up" in line:
                self.up.set()
        self.up.set()

    def text(self) -> str:
        """All of it, once the server has ended."""
        return "".join(self._lines)


@pytest.fixture
async def client(server: Server) -> AsyncGenerator[LangGraphClient]:
    async with get_client(url=server.url, api_key=None) as client:
        yield client


def asks(question: str) -> Input:
    return {"messages": [{"role": "user", "content": question}]}


def texts(state: object) -> list[str]:
    messages = cast(dict[str, list[dict[str, str]]], state)["messages"]
    return [message["content"] for message in messages]


async def thread(client: LangGraphClient) -> str:
    return str((await client.threads.create())["thread_id"])


async def waited(
    client: LangGraphClient,
    thread: str,
    question: str | None,
    before: Sequence[str] | None = None,
    checkpoint: Checkpoint | None = None,
) -> dict[str, JsonValue]:
    """Runs to the end or to the next pause, and returns the state."""
    given = None if question is None else asks(question)
    state = cast(
        JsonObject,
        await client.runs.wait(thread, "chat", input=given, interrupt_before=before, checkpoint=checkpoint),
    )
    return state


async def test_a_conversation_of_two_turns_is_held_and_each_turn_begins_anew(client: LangGraphClient) -> None:
    talk = await thread(client)
    assert texts(await waited(client, talk, FIRST)) == [FIRST, BLUE]
    state = await waited(client, talk, SECOND)
    assert texts(state) == [FIRST, BLUE, SECOND, ROSES]
    assert state["question"] == SECOND
    assert (await client.threads.get_state(talk))["next"] == []
    state = await waited(client, talk, "thanks")
    assert texts(state)[-1] == "You are welcome!"
    assert (state["recalled"], state["plan"], state["vector"]) == (None, None, None)  # nothing of the turn before


async def test_a_turn_streams_its_events_each_nodes_values_and_the_answer(client: LangGraphClient) -> None:
    events: list[JsonObject] = []
    values: dict[str, dict[str, JsonValue]] = {}
    messages: list[str] = []
    stream = client.runs.stream(
        await thread(client), "chat", input=asks(FIRST), stream_mode=["custom", "updates", "messages-tuple"]
    )
    async for part in stream:
        match part.event:
            case "custom":
                events.append(cast(JsonObject, part.data))
            case "updates":
                values |= cast(dict[str, dict[str, JsonValue]], part.data)
            case "messages":
                messages.append(cast(list[dict[str, str]], part.data)[0]["content"])
            case _:
                assert part.event == "metadata"
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert "".join(str(event["text"]) for event in events if event["type"] == "token") == BLUE
    assert next(event["step"] for event in events if event["type"] == "step.started") == "begin"
    assert {str(event["type"]) for event in events} == {"step.started", "step.finished", "note", "token", "citation"}
    assert list(values) == ["begin", "screen", "understand", "recall", "plan", "answer", "remember"]
    assert cast(JsonObject, values["understand"]["intent"])["kind"] == "question"
    assert cast(JsonObject, values["answer"]["draft"])["outcome"] == "answered"
    assert len(cast(list[float], values["begin"]["vector"])) == 384
    assert messages == [BLUE]


async def test_a_run_pauses_before_a_node_shows_its_state_and_goes_on(client: LangGraphClient) -> None:
    talk = await thread(client)
    assert texts(await waited(client, talk, FIRST, before=["answer"])) == [FIRST]
    state = await client.threads.get_state(talk)
    assert state["next"] == ["answer"]
    found = cast(dict[str, dict[str, list[dict[str, dict[str, str]]]]], state["values"])["recalled"]["found"]
    assert found[0]["document"]["path"] == "keys.md"
    assert texts(await waited(client, talk, None, before=["remember"])) == [FIRST, BLUE]
    assert texts(await waited(client, talk, None)) == [FIRST, BLUE]
    assert (await client.threads.get_state(talk))["next"] == []


async def test_a_fanned_out_step_pauses_and_goes_on_too(client: LangGraphClient) -> None:
    talk = await thread(client)
    await waited(client, talk, "What is 12*12?", before=["act"])
    assert (await client.threads.get_state(talk))["next"] == ["act"]
    assert texts(await waited(client, talk, None))[-1] == "12*12 = 144"


async def test_what_the_user_said_is_changed_in_the_past_and_asked_again(client: LangGraphClient) -> None:
    talk = await thread(client)
    state = await waited(client, talk, FIRST)
    asked = cast(list[dict[str, str]], state["messages"])[0]
    history = await client.threads.get_history(talk, limit=100)
    before = next(one for one in history if one["next"] == ["begin"])
    other = {"messages": [{"role": "user", "content": SECOND, "id": asked["id"]}]}
    await client.threads.update_state(talk, other, checkpoint=before["checkpoint"], as_node="__start__")
    assert texts(await waited(client, talk, None)) == [SECOND, ROSES]


async def test_a_thread_forks_from_an_earlier_checkpoint(client: LangGraphClient) -> None:
    talk = await thread(client)
    await waited(client, talk, FIRST)
    await waited(client, talk, SECOND)
    history = await client.threads.get_history(talk, limit=100)
    after_first = next(one for one in history if not one["next"] and len(texts(cast(object, one["values"]))) == 2)
    other = "How is limescale removed?"
    forked = await waited(client, talk, other, checkpoint=after_first["checkpoint"])
    assert texts(forked)[:3] == [FIRST, BLUE, other]
    assert "citric acid" in texts(forked)[3]
    before_answer = next(one for one in history if one["next"] == ["answer"])
    again = await waited(client, talk, None, checkpoint=before_answer["checkpoint"])
    assert texts(again) == [FIRST, BLUE, SECOND, ROSES]


async def test_input_without_a_question_is_told_in_words(client: LangGraphClient) -> None:
    talk = await thread(client)
    ended = cast(object, await client.runs.wait(talk, "chat", input={"messages": []}, raise_error=False))
    error = cast(dict[str, dict[str, str]], ended)["__error__"]
    assert error["error"] == "NoQuestion"
    assert '{"messages": [{"role": "user", "content": "..."}]}' in error["message"]


async def test_studio_knows_what_goes_in_and_draws_the_graph(client: LangGraphClient) -> None:
    (assistant,) = await client.assistants.search()
    schemas = await client.assistants.get_schemas(assistant["assistant_id"])
    assert list(cast(dict[str, dict[str, object]], schemas["input_schema"])["properties"]) == ["messages"]
    drawn = await client.assistants.get_graph(assistant["assistant_id"])
    assert {str(node["id"]) for node in drawn["nodes"]} == {
        "__start__", "begin", "screen", "understand", "recall", "plan", "act", "retrieve", "answer", "check",
        "remember", "__end__"}  # fmt: skip


@pytest.mark.parametrize("origin", ["https://example.com", "http://127.0.0.1:8080", "null"])
async def test_pages_of_other_origins_may_do_nothing(server: Server, origin: str) -> None:
    headers = {"Origin": origin}
    preflight = {**headers, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        assert (await http.options("/threads", headers=preflight)).status_code == 403
        answers = [await http.post("/threads", json={}, headers=headers), await http.get("/ok", headers=headers)]
    assert [answer.status_code for answer in answers] == [403, 200]
    assert all("access-control-allow-origin" not in answer.headers for answer in answers)


async def test_the_studio_page_may_use_the_server(server: Server) -> None:
    headers = {"Origin": ORIGIN}
    preflight = {**headers, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type",
                 "Access-Control-Request-Private-Network": "true"}  # fmt: skip
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        asked = await http.options("/threads", headers=preflight)
        made = await http.post("/threads", json={}, headers=headers)
    assert (asked.status_code, asked.headers["access-control-allow-private-network"]) == (204, "true")
    assert made.status_code == 200
    for answer in (asked, made):
        assert answer.headers.get_list("access-control-allow-origin") == [ORIGIN]
    assert "x-pagination-total" in ",".join(made.headers.get_list("access-control-expose-headers"))


async def test_a_name_that_was_made_to_point_here_gets_nothing(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        answer = await http.post("/threads/search", json={}, headers={"Host": "rebound.example.com"})
    assert answer.status_code == 421


@asynccontextmanager
async def opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[StudioGraph]:
    """The graph as Studio's server gets it, with checkpoints as it adds them."""
    shutil.copy(Path(__file__).with_name("data") / "schema-0001.sqlite", folder / "parley.sqlite")
    monkeypatch.setenv("PARLEY_DATA_DIR", str(folder))
    process = Process()
    async with process.lifespan(app):
        graph = await process.graph()
        yield graph.copy({"checkpointer": InMemorySaver()})


async def said(graph: StudioGraph, *messages: HumanMessage | AIMessage | SystemMessage, before: str = "") -> list[str]:
    config: RunnableConfig = {"configurable": {"thread_id": "t"}}
    pauses = [before] if before else None
    given = MessagesState(messages=list(messages)) if messages else None
    state = cast(StudioState, await graph.ainvoke(given, config, interrupt_before=pauses))
    return [message.text for message in state["messages"]]


async def test_turns_pauses_and_a_greeting_run_in_this_process_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, monkeypatch) as graph:
        assert await said(graph, SystemMessage("Be brief."), HumanMessage(FIRST)) == ["Be brief.", FIRST, BLUE]
        assert await said(graph, HumanMessage("What is 12*12?"), before="act") == [
            "Be brief.",
            FIRST,
            BLUE,
            "What is 12*12?",
        ]
        assert (await said(graph))[-1] == "12*12 = 144"
        assert (await said(graph, HumanMessage("hello")))[-1].startswith("Hello")
        with pytest.raises(NoQuestion, match="the last one the user's"):
            await said(graph, SystemMessage("Be brief."))


async def test_an_unanswerable_question_is_looked_up_again_when_it_has_to_be_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, monkeypatch) as graph:
        await said(graph, HumanMessage("Which key opens the bicycle cellar?"))
        await said(graph, HumanMessage("And what is the deposit for it?"), before="retrieve")
        assert "30 euros" in (await said(graph))[-1]


async def test_a_request_that_comes_before_all_is_open_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_DATA_DIR", str(tmp_path))
    process = Process()
    early = asyncio.create_task(process.graph())
    await asyncio.sleep(0)
    assert not early.done()
    async with process.lifespan(app):
        assert set((await early).nodes) >= {"begin", "answer", "remember"}


def test_the_doors_are_the_ones_that_langgraph_json_names() -> None:
    config = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))
    assert config["graphs"]["chat"]["path"] == "./app.py:graph"
    assert config["http"] == {"app": "serving.studio:app", "cors": config["http"]["cors"]}
    assert config["http"]["cors"]["allow_origins"] == []  # the guard answers for Studio's origin, and for no other


def test_the_picture_shows_the_graph_as_it_is() -> None:
    assert (ROOT / "docs" / "graph.svg").read_text(encoding="utf-8") == draw()
