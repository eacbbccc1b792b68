"""What Parley is measured between: models that answer at once, that take their time or never come to it, and the least
proxy there can be.

Run as `python -m evals.bench.latency_servers model`, `... slow`, `... silent` or `... proxy URL`; prints its own
address as its first line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import aiohttp
import orjson
import uvloop
from aiohttp import web

CARD = {"object": "list", "data": [{"id": "instant", "object": "model", "max_model_len": 32768}]}
SLOW_WORDS, SLOW_SECONDS = 40, 0.003
EVENT_STREAM = {"Content-Type": "text/event-stream"}


def event(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    """One chunk of a chat completion."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "instant"}
    return event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


ROLE, WORD, LAST = chunk({"role": "assistant", "content": ""}), chunk({"content": " word"}), chunk({}, "stop")
USED = event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}})


async def answer(request: web.Request) -> web.StreamResponse:
    """As many chunks as `max_tokens` says, each written by itself, none waited for."""
    asked: dict[str, object] = orjson.loads(await request.read())
    tokens = asked.get("max_tokens")
    response = web.StreamResponse(headers=EVENT_STREAM)
    await response.prepare(request)
    await response.write(ROLE)
    for _ in range(tokens if isinstance(tokens, int) else 8):
        await response.write(WORD)
    await response.write(LAST)
    await response.write(USED)
    await response.write(b"data: [DONE]\n\n")
    return response


async def speak(request: web.Request) -> web.StreamResponse:
    """Forty words, some milliseconds after each other, for as long as somebody listens."""
    response = web.StreamResponse(headers=EVENT_STREAM)
    try:
        await response.prepare(request)
        await response.write(ROLE)
        for _ in range(SLOW_WORDS):
            await response.write(WORD)
            await asyncio.sleep(SLOW_SECONDS)
        await response.write(LAST)
        await response.write(b"data: [DONE]\n\n")
    except ConnectionResetError:
        pass
    return response


async def think(request: web.Request) -> web.StreamResponse:
    """No word, until the client leaves."""
    response = web.StreamResponse(headers=EVENT_STREAM)
    await response.prepare(request)
    await asyncio.Event().wait()
    return response


async def models(_: web.Request) -> web.Response:
    """The one model."""
    return web.json_response(CARD)


def model(reply: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    """A model that answers so."""
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", reply), web.get("/v1/models", models)])
    return app


def proxy(url: str) -> web.Application:
    """Passes a request on and its answer back, chunk by chunk, and looks at neither."""
    app = web.Application()
    session = web.AppKey("session", aiohttp.ClientSession)

    async def opened(app: web.Application) -> None:
        app[session] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def closed(app: web.Application) -> None:
        await app[session].close()

    async def passed(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {"Content-Type": "application/json"}
        async with request.app[session].post(f"{url}/chat/completions", data=body, headers=headers) as upstream:
            response = web.StreamResponse(headers=EVENT_STREAM)
            await response.prepare(request)
            async for data in upstream.content.iter_any():
                await response.write(data)
            return response

    app.on_startup.append(opened)
    app.on_cleanup.append(closed)
    app.add_routes([web.post("/v1/chat/completions", passed)])
    return app


REPLIES = {"model": answer, "slow": speak, "silent": think}
"""How the models answer."""


async def serve(app: web.Application) -> None:
    """Serves on a free loopback port until the process is ended."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}/v1\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    kind = sys.argv[1]
    uvloop.run(serve(proxy(sys.argv[2]) if kind == "proxy" else model(REPLIES[kind])))
