"""CPU of the door per request: the guard, the look for keys, a key, and a whole small request with and without.

Run by hand: `python -m evals.bench.access`. Microseconds of CPU of this process, the least of several rounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from tempfile import TemporaryDirectory

from serving.auth import Access
from serving.database import open_database
from serving.guards import Guard
from serving.keys import Keys
from serving.limits import RateLimits
from serving.local_bus import LocalBus
from serving.principal import Principal
from serving.settings import Settings

Message = MutableMapping[str, object]
Scope = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUESTS, ROUNDS = 5_000, 7
HEADERS = [
    (b"host", b"127.0.0.1:8080"), (b"accept", b"application/json"), (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"), (b"user-agent", b"AsyncOpenAI/Python 3.52.0"), (b"content-length", b"120"),
    (b"content-type", b"application/json"), (b"x-stainless-lang", b"python"),
]  # fmt: skip


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """The least that an application can do."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"{}"})


async def microseconds(app: ASGIApp, key: str) -> float:
    """CPU of one request."""

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        pass

    headers = [*HEADERS, (b"authorization", f"Bearer {key}".encode())]
    least = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(REQUESTS):
            scope: Scope = {
                "type": "http", "method": "GET", "path": "/api/threads", "raw_path": b"/api/threads",
                "query_string": b"", "headers": headers, "client": ("127.0.0.1", 50_000),
            }  # fmt: skip
            await app(scope, receive, send)
        least = min(least, (time.process_time() - started) / REQUESTS * 1e6)
    return least


async def main() -> None:
    """Prints a line for each."""
    with TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder))
        database = await open_database(settings.data_dir)
        keys = Keys(database)

        def find() -> Keys:
            return keys

        bus = LocalBus()
        limits = RateLimits(1_000_000, lambda: bus)
        bare = await microseconds(answer, "any")
        guard = await microseconds(Guard(answer, settings), "any")
        local = await microseconds(Access(answer, find, limits), "any")
        made = [await keys.create(Principal("acme", f"user-{number}")) for number in range(1_000)]
        _, key = made[500]
        known = await microseconds(Access(answer, find, limits), key)
        unlimited = await microseconds(Access(answer, find, None), key)
        started = time.process_time()
        for _ in range(REQUESTS):
            await database.read(lambda connection: connection.execute("SELECT 1 FROM keys LIMIT 1").fetchall())
        hop = (time.process_time() - started) / REQUESTS * 1e6
        await database.close()
    print(f"guard                         {guard - bare:6.1f} µs")
    print(f"door, no key ever made        {local - bare:6.1f} µs")
    print(f"door, one of 1000 keys        {unlimited - bare:6.1f} µs")
    print(f"door, with its rate limit     {known - bare:6.1f} µs")
    print(f"for comparison: Database.read {hop:6.1f} µs")


if __name__ == "__main__":
    asyncio.run(main())
