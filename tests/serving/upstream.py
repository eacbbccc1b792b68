"""A model server on a real loopback socket that behaves, or misbehaves, as a test tells it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson

from tools.types import JsonObject, JsonValue

Behaviour = Callable[["Call"], Awaitable[None]]

MODELS: JsonObject = {"object": "list", "data": [{"id": "tiny", "object": "model", "max_model_len": 4096}]}


@dataclass(slots=True)
class Call:
    """One request to the server, and its answer in the making."""

    path: str
    headers: dict[str, str]
    body: JsonObject
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gone: asyncio.Event
    """The client closed the connection before the answer was whole."""
    written: int = 0
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """The test has seen what came so far."""

    async def start(self, status: int = 200, kind: str = "text/event-stream", extra: str = "") -> None:
        """Sends the head of a chunked response."""
        head = f"HTTP/1.1 {status} Told\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n{extra}\r\n"
        await self.raw(head.encode())

    async def raw(self, data: bytes) -> None:
        """Writes bytes as they are, and waits when the client does not read."""
        self.writer.write(data)
        await self.writer.drain()
        self.written += len(data)

    async def data(self, data: bytes) -> None:
        """Writes bytes of the response's body."""
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def event(self, value: JsonValue) -> None:
        """Writes one event."""
        await self.data(b"data: " + orjson.dumps(value) + b"\n\n")

    async def delta(self, finish: str | None = None, **delta: JsonValue) -> None:
        """Writes one chunk of a chat completion."""
        await self.event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    async def end(self) -> None:
        """Writes [DONE] and ends the body; the connection can be used again."""
        await self.data(b"data: [DONE]\n\n")
        await self.raw(b"0\r\n\r\n")

    async def whole(self, status: int, kind: str, body: bytes, extra: str = "") -> None:
        """A response in one piece."""
        head = f"HTTP/1.1 {status} Told\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        await self.raw(head.encode() + body)

    def reset(self) -> None:
        """Cuts the connection with a TCP reset."""
        connection: socket.socket = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        """Closes the connection as if the server ended."""
        self.writer.close()

    async def say(self, *words: str, finish: str = "stop") -> None:
        """A whole, well-behaved answer."""
        await self.start()
        await self.delta(role="assistant", content="")
        for word in words:
            await self.delta(content=word)
        await self.delta(finish)
        await self.event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(words)}})
        await self.end()


@dataclass(slots=True)
class Upstream:
    """The server: what it was asked, and how it answers."""

    behaviour: Behaviour
    models: JsonObject
    url: str = ""
    calls: list[Call] = field(default_factory=list[Call])
    """Chat completions only."""
    listings: int = 0
    connections: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while (call := await _read(reader, writer)) is not None:
                if call.path.endswith("/models"):
                    self.listings += 1
                    await call.whole(200, "application/json", orjson.dumps(self.models))
                    continue
                self.calls.append(call)
                await self._answer(call)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _answer(self, call: Call) -> None:
        """Lets the behaviour answer and notices when the client leaves; what comes early stays unread."""
        task = asyncio.create_task(self._behave(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is not None:
            error = task.exception()
            assert error is not None
            if not isinstance(error, ConnectionError):
                raise error
            call.gone.set()

    async def _behave(self, call: Call) -> None:
        await self.behaviour(call)

    def close(self) -> None:
        """Ends answers that hang."""
        for task in self._tasks:
            task.cancel()


async def until_gone(call: Call) -> None:
    """Says nothing until the client closes the connection."""
    assert await call.reader.read(1) == b""
    call.gone.set()
    call.close()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    body: JsonObject = orjson.loads(await reader.readexactly(length)) if length else {}
    return Call(first.split()[1], headers, body, reader, writer, asyncio.Event())


@asynccontextmanager
async def upstream(behaviour: Behaviour, models: JsonObject = MODELS) -> AsyncGenerator[Upstream]:
    """A running server."""
    server = Upstream(behaviour, models)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    server.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield server
    finally:
        server.close()
        listener.close()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
