"""Answers that take their time: each is given up, with all that works on it, as soon as the client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

T = TypeVar("T")

STREAM_START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),  # nginx would hold the tokens back
    ],
}


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

    The response starts with the first chunk, so that a failure before it is still an error with a status.
    """

    def __init__(self, chunks: AsyncGenerator[bytes, None]) -> None:
        self.background = None
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until the source ends or the client goes away, which closes the source."""
        await attended(receive, self._pour(send))

    async def _pour(self, send: Send) -> None:
        started = False
        async with aclosing(self._chunks) as chunks:
            async for chunk in chunks:
                if not started:
                    await send(STREAM_START)
                    started = True
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


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
