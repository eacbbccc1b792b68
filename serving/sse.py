"""Answers that take their time: each is given up, with all that works on it, as soon as the client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the tokens back
]
KEEP_ALIVE_SECONDS = 15.0
COMMENT = b": still here\n"
"""One line, without the blank one that ends an event: some readers take that for an event without data."""


class Attended(Response):
    """A response that is worked out only while the client waits for it."""

    def __init__(self, work: Coroutine[None, None, Response]) -> None:
        self.background = None
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Works, then sends; sends nothing when the client has gone."""
        response = await attended(receive, self._work)
        if response is not None:
            await response(scope, receive, send)


class EventStream(Response):
    """Server-sent events, each sent as it comes; a reader who is slow makes the source wait.

    The response starts with the first chunk, so that a failure before it is still an error with a status. From then
    on a comment goes out whenever nothing else has for `keep_alive` seconds, lest a proxy take silence for an end.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        headers: Mapping[str, str] | None = None,
        keep_alive: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        self.background = None
        self._chunks = chunks
        self._headers = [*STREAM_HEADERS, *((k.lower().encode(), v.encode()) for k, v in (headers or {}).items())]
        self._keep_alive = keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until the source ends or the client goes away, which closes the source."""
        await attended(receive, self._pour(send))

    async def _pour(self, send: Send) -> None:
        keeper: asyncio.Task[None] | None = None
        spoken = _Spoken()
        try:
            async with aclosing(self._chunks) as chunks:
                async for chunk in chunks:
                    if keeper is None:
                        await self._start(send)
                        keeper = asyncio.create_task(self._keep(send, spoken))
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    spoken.at = spoken.now()
        finally:
            if keeper is not None:
                keeper.cancel()
                await asyncio.wait((keeper,))
        if keeper is None:
            await self._start(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})

    async def _keep(self, send: Send, spoken: _Spoken) -> None:
        while True:
            await asyncio.sleep(spoken.at + self._keep_alive - spoken.now())
            if spoken.now() - spoken.at >= self._keep_alive:
                await send({"type": "http.response.body", "body": COMMENT, "more_body": True})
                spoken.at = spoken.now()


class _Spoken:
    """When a stream last sent something, by the loop's clock."""

    def __init__(self) -> None:
        self.now = asyncio.get_running_loop().time
        self.at = self.now()


async def attended(receive: Receive, work: Coroutine[None, None, T]) -> T | None:
    """The result of `work`, or None when the client went away first: then `work` has been cancelled and has ended.

    The request's body must have been read: what `receive` brings now is the client's leaving.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.wait((working, leaving))
    return None if working.cancelled() else working.result()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
