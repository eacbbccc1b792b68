"""What tests of the API share: a client over an open runtime, a scripted model in it, and events read from a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import httpx
import orjson

from agents.context import Limits
from agents.model import ChatModel
from serving.api import create_app
from serving.runtime import Runtime, load_engine, open_runtime
from serving.settings import Settings
from serving.turns import Turns
from tools.types import JsonObject

MILL = "# Old Mill\n\nThe Old Mill was built by Tomas Reed. It was closed in 1954.\n"
NO_SETTINGS: Mapping[str, str] = {}
QUESTION = "Who built the Old Mill?"


class ServerEvent(NamedTuple):
    """One server-sent event."""

    id: str
    event: str
    data: JsonObject


@asynccontextmanager
async def opened(folder: Path, record: Mapping[str, str] = NO_SETTINGS) -> AsyncGenerator[Runtime]:
    """A runtime without a model over one small document. `record`: see tests/databases.py."""
    file = folder / "mill.md"
    file.write_text(MILL, encoding="utf-8")
    async with open_runtime(Settings.model_validate({"data_dir": folder / "data", **record})) as runtime:
        await runtime.ingest.paths("local", [str(file)])
        yield runtime


@asynccontextmanager
async def thinking(runtime: Runtime, model: ChatModel) -> AsyncGenerator[Runtime]:
    """The same runtime with a model."""
    turns = Turns(
        replace(runtime.deps, model=model), partial(load_engine, runtime.database), runtime.repository, Limits()
    )
    try:
        yield replace(runtime, turns=turns)
    finally:
        await turns.close()


def client_of(runtime: Runtime) -> httpx.AsyncClient:
    """A client of the API, without sockets."""
    transport = httpx.ASGITransport(create_app(runtime))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080")


def question(text: str = QUESTION, **more: object) -> dict[str, object]:
    """The body of a run."""
    return {"messages": [{"role": "user", "content": text}], **more}


async def made_thread(client: httpx.AsyncClient, title: str = "") -> str:
    """Id of a new thread."""
    response = await client.post("/api/threads", json={"title": title})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def walked(client: httpx.AsyncClient, path: str, limit: int, **more: str) -> list[JsonObject]:
    """All items of a list."""
    items: list[JsonObject] = []
    cursor: str | None = None
    while True:
        params = {"limit": str(limit), **more, **({"cursor": cursor} if cursor else {})}
        response = await client.get(path, params=params)
        assert response.status_code == 200, response.text
        body = cast(dict[str, list[JsonObject]], response.json())
        assert len(body["items"]) <= limit
        items += body["items"]
        cursor = cast("str | None", response.json()["next_cursor"])
        if cursor is None:
            return items


def events_in(text: str) -> list[ServerEvent]:
    """The events of a stream, comments left out."""
    events: list[ServerEvent] = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            fields = dict(cast("tuple[str, str]", tuple(line.split(": ", 1))) for line in lines)
            events.append(ServerEvent(fields["id"], fields["event"], orjson.loads(fields["data"])))
    return events


def said(events: Sequence[ServerEvent]) -> str:
    """The text of the tokens."""
    return "".join(str(one.data["text"]) for one in events if one.event == "token")
