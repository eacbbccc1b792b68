"""Two `parley serve` processes that share their servers, nginx before them, and a model that a test plays."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httpx
from httpx_sse import aconnect_sse

from tests.services.private import private
from tests.serving.api_client import ServerEvent
from tests.serving.upstream import Call, Upstream, free_port, upstream

READY = re.compile(rb"Parley is ready on (http://\S+) ")
PROXY = """
events {}
http {
  include {home}/paths.conf;
  access_log off;
  upstream parley {
    server 127.0.0.1:ONE max_fails=1 fail_timeout=1s;
    server 127.0.0.1:OTHER max_fails=1 fail_timeout=1s;
  }
  server {
    listen 127.0.0.1:{port};
    location / {
      proxy_pass http://parley;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_buffering off;
      proxy_connect_timeout 2s;
      proxy_read_timeout 300s;
    }
  }
}
"""


@dataclass(slots=True)
class Replica:
    """One server, started again on its port as often as a test likes."""

    data: Path
    environment: Mapping[str, str]
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    @property
    def _said(self) -> Path:
        return self.data.parent / f"said-{self.port}"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """The environment that it runs in."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
        return {**kept, "PARLEY_DATA_DIR": str(self.data), **self.environment}

    async def start(self) -> None:
        """Returns when it is ready."""
        with self._said.open("ab") as said:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "serving.cli", "serve", "--port", str(self.port),
                env=self.settings, stdout=asyncio.subprocess.PIPE, stderr=said,
            )  # fmt: skip
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if READY.search(line):
                return
        raise AssertionError(self.said())

    def said(self) -> str:
        """Its standard error so far."""
        return self._said.read_text(encoding="utf-8")

    async def kill(self) -> None:
        """SIGKILL."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM."""
        await self._end(signal.SIGTERM)

    async def _end(self, how: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(how)
            await self.process.communicate()


@dataclass(slots=True)
class Storyteller:
    """The model: tells the words one by one, each as soon as it may, in every answer."""

    words: tuple[str, ...]
    told: asyncio.Event = field(default_factory=asyncio.Event)
    """The words after the first may be said."""
    left: list[str] = field(default_factory=list[str])
    """Questions whose asker hung up."""

    async def __call__(self, call: Call) -> None:
        """One answer."""
        await call.start()
        await call.delta(content=self.words[0])
        gone = asyncio.create_task(call.reader.read(1))
        told = asyncio.create_task(self.told.wait())
        await asyncio.wait([gone, told], return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if gone.done():
            gone.exception()  # a reset, when the asker was killed
            self.left.append(asked_in(call))
            call.gone.set()
            call.close()
            return
        gone.cancel()
        for word in self.words[1:]:
            await call.delta(content=word)
        await call.delta("stop")
        await call.end()


@dataclass(slots=True)
class Replicas:
    """Both servers and what is around them."""

    one: Replica
    other: Replica
    proxy: str
    """nginx, which asks either."""
    model: Upstream


@asynccontextmanager
async def replicas(one: Path, other: Path, environment: Mapping[str, str]) -> AsyncGenerator[Replicas]:
    """Both running; `one`, `other`: their data folders, the same where they share the file."""
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(upstream(Storyteller(("Once ", "upon ", "a mill."))))
        both = [Replica(folder, {**environment, "PARLEY_MODEL_URL": model.url}) for folder in (one, other)]
        for replica in both:
            stack.push_async_callback(replica.kill)
        config = PROXY.replace("ONE", str(both[0].port)).replace("OTHER", str(both[1].port))
        urls, _ = await stack.enter_async_context(private("nginx", config=config))
        await asyncio.gather(*(replica.start() for replica in both))
        yield Replicas(both[0], both[1], urls["PARLEY_TEST_NGINX_URL"], model)


def asked_in(call: Call) -> str:
    """The question that a call of the model is to answer; "" for a call of another kind, such as for a title."""
    messages = cast(list[dict[str, str]], call.body["messages"])
    return messages[-1]["content"] if messages[0]["content"].startswith("You are Parley") else ""


async def follow(base: str, run: str, heard: list[ServerEvent], *, until: str = "") -> None:
    """Adds a run's events after those already heard, until one of that kind or the last. Raises httpx.TransportError
    when the server goes."""
    headers = {"Last-Event-ID": heard[-1].id} if heard else {}
    async with (
        httpx.AsyncClient(base_url=base, timeout=60) as client,
        aconnect_sse(client, "GET", f"/api/runs/{run}/events", headers=headers) as source,
    ):
        assert source.response.status_code == 200, await source.response.aread()
        async for event in source.aiter_sse():
            heard.append(ServerEvent(event.id, event.event, event.json()))
            if event.event == until:
                return
