"""Any server that speaks OpenAI's chat completions (vLLM, Ollama, llama.cpp, OpenAI) as a ChatModel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import orjson

from agents.model import ModelBroken, ModelDelta, ModelRefused, ModelRequest, ModelUnavailable
from serving.models.chat_request import request_body
from serving.models.chat_stream import Assembly, BadStream, DataLines, error_text
from tools.types import JsonObject, JsonValue

READ_BUFFER = 1 << 14
"""Bytes read ahead of a slow reader; TCP then slows the server."""
MAX_ERROR_BODY = 1 << 16
MAX_SHOWN = 300
"""Characters of a server's own message that are passed on."""
DEFAULT_WINDOW = 8192
ASK_SECONDS = 3.0
"""For questions beside the chat: which models, is it there."""
FRESH_SECONDS = 3.0
"""So long an answer about the server's health is used again."""
TAIL_SECONDS = 2.0
"""Wait for the usage and [DONE] after the finish reason; the answer is complete without them."""
END_SECONDS = 0.2
"""Wait for the end of the body after [DONE], so that the connection can be used again."""
REFUSALS = frozenset({400, 413, 422})
WINDOW_FIELDS = ("max_model_len", "context_length", "max_context_length", "context_window", "n_ctx", "n_ctx_train")
"""What servers call a model's window: vLLM, OpenRouter, LM Studio and Mistral, Groq, llama.cpp (in `meta`)."""


@dataclass(frozen=True, slots=True)
class _Served:
    """A model that the server lists."""

    name: str
    window: int | None


class OpenAICompatibleModel:
    """ChatModel over HTTP. Make it inside a running event loop; close it with `close`.

    `model` "" means the server's first one, `window` None means what the server says; both are asked when they are
    first needed, so a server that is down never delays a start. Times are seconds.
    """

    def __init__(
        self,
        url: str,
        model: str = "",
        key: str = "",
        window: int | None = None,
        *,
        connect_seconds: float = 5.0,
        first_token_seconds: float = 30.0,
        stall_seconds: float = 60.0,
    ) -> None:
        self._url = url.rstrip("/")
        self._place = _place(self._url)
        self._model, self._window, self._key = model, window, key
        self._first_token_seconds, self._stall_seconds = first_token_seconds, stall_seconds
        self._asking = asyncio.Lock()
        self._checked = -FRESH_SECONDS
        self._down: str | None = None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds),
            headers={"Authorization": f"Bearer {key}"} if key else None,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_BUFFER,
        )

    async def close(self) -> None:
        """Closes every connection."""
        await self._session.close()

    @property
    def name(self) -> str:
        """The model's name: as set, or as the server called it; "" before it was first asked."""
        return self._model

    async def window(self) -> int:
        """The context window in tokens; `DEFAULT_WINDOW` when the server does not say or cannot be asked."""
        if self._window is None:
            try:
                await self._identify()
            except ModelUnavailable:
                return DEFAULT_WINDOW
        return self._window or DEFAULT_WINDOW

    async def reachable(self) -> str | None:
        """Why the server cannot be used now, or None when it can; asks at most once in `FRESH_SECONDS`."""
        async with self._asking:
            if time.monotonic() - self._checked >= FRESH_SECONDS:
                try:
                    await self._list()
                    self._down = None
                except ModelUnavailable as error:
                    self._down = str(error)
                self._checked = time.monotonic()
            return self._down

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        """Streams one answer; closing or cancelling closes the connection at once.

        Raises:
            ModelUnavailable: nothing came. ModelRefused: the server would not take this request.
            ModelBroken: the answer broke off, stood still or had no finish reason.
        """
        deadline = asyncio.get_running_loop().time() + self._first_token_seconds
        if not self._model:
            await self._identify()
        response = await self._post(request_body(self._model, request), deadline)
        started = False
        try:
            await self._check(response)
            async with aclosing(self._deltas(response, deadline)) as deltas:
                async for delta in deltas:
                    started = True
                    yield delta
        except (BadStream, aiohttp.ClientError, TimeoutError) as error:
            reason = self._shown(_reason(error))
            if started:
                raise ModelBroken(f"the answer of the model at {self._place} broke off: {reason}") from error
            raise ModelUnavailable(f"the model at {self._place} gave no answer: {reason}") from error
        finally:
            response.close()  # a response that was read to its end has given its connection back already

    async def _post(self, body: bytes, deadline: float) -> aiohttp.ClientResponse:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        url = f"{self._url}/chat/completions"
        try:
            async with asyncio.timeout_at(deadline):
                try:
                    return await self._session.post(url, data=body, headers=headers, allow_redirects=False)
                except aiohttp.ClientConnectorError:
                    raise
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):  # a kept connection had just closed
                    return await self._session.post(url, data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ModelUnavailable(f"the model at {self._place} cannot be reached: {_reason(error)}") from error

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raises unless the response is an event stream."""
        if response.status == 200 and response.content_type == "text/event-stream":
            return
        told = self._shown(await _told(response))
        told = f": {told}" if told else ""
        if response.status == 200:
            kind = response.content_type
            raise ModelUnavailable(f"the model at {self._place} did not send an event stream but {kind}{told}")
        failure = ModelRefused if response.status in REFUSALS else ModelUnavailable
        raise failure(f"the model at {self._place} answered with status {response.status}{told}")

    async def _deltas(self, response: aiohttp.ClientResponse, deadline: float) -> AsyncGenerator[ModelDelta, None]:
        clock = asyncio.get_running_loop().time
        lines, answer = DataLines(), Assembly()
        started = tail = False
        while True:
            data = await _read(response.content, deadline, lenient=answer.finished)
            for payload in lines.feed(data or b"\n"):
                delta = answer.feed(payload)
                if delta is not None:
                    started = True
                    yield delta
                if answer.active:
                    deadline = clock() + (self._stall_seconds if started else self._first_token_seconds)
            if not data:
                break
            if answer.finished and not tail:
                tail, deadline = True, clock() + TAIL_SECONDS
            if answer.ended:
                deadline = min(deadline, clock() + END_SECONDS)
        if not answer.finished:
            raise BadStream("it ended without a finish reason")

    async def _identify(self) -> None:
        """Asks the server, once, for what was not set.

        Raises:
            ModelUnavailable: it cannot be asked, or lists no model.
        """
        async with self._asking:
            if self._model and self._window is not None:
                return
            served = await self._list()
            if not self._model:
                if not served:
                    raise ModelUnavailable(f"the server at {self._place} lists no model: set PARLEY_MODEL")
                self._model = served[0].name
            if self._window is None:
                windows = {model.name: model.window for model in served}
                self._window = windows.get(self._model) or DEFAULT_WINDOW

    async def _list(self) -> list[_Served]:
        try:
            async with (
                asyncio.timeout(ASK_SECONDS),
                self._session.get(f"{self._url}/models", allow_redirects=False) as response,
            ):
                if response.status != 200:
                    told = self._shown(await _told(response))
                    told = f": {told}" if told else ""
                    raise ModelUnavailable(f"the model at {self._place} answered with status {response.status}{told}")
                listing: JsonValue = orjson.loads(await response.read())
        except orjson.JSONDecodeError:
            raise ModelUnavailable(f"the model at {self._place} does not list its models as JSON") from None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ModelUnavailable(f"the model at {self._place} cannot be reached: {_reason(error)}") from error
        models = listing.get("data") if isinstance(listing, dict) else None
        return [_served(model) for model in models if isinstance(model, dict)] if isinstance(models, list) else []

    def _shown(self, text: str) -> str:
        """A server's own words: short, on one line, and without our key, which some servers repeat."""
        text = " ".join(text.split())
        if self._key:
            text = text.replace(self._key, "***")
        return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


async def _read(content: aiohttp.StreamReader, deadline: float, *, lenient: bool) -> bytes:
    """The next bytes, b"" at the end; with `lenient` a failure is an end too."""
    try:
        if asyncio.get_running_loop().time() >= deadline:
            raise TimeoutError  # noise without an end counts as silence
        data = content.read_nowait()
        if data or content.at_eof():
            return data
        async with asyncio.timeout_at(deadline):
            return await content.readany()
    except (aiohttp.ClientError, TimeoutError):
        if lenient:
            return b""
        raise


async def _told(response: aiohttp.ClientResponse) -> str:
    """What an error response says, as far as it can be read."""
    body = b""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            while len(body) < MAX_ERROR_BODY and (data := await response.content.read(MAX_ERROR_BODY)):
                body += data
    except (aiohttp.ClientError, TimeoutError):
        pass
    try:
        return error_text(orjson.loads(body))
    except orjson.JSONDecodeError:
        return "" if body.lstrip()[:1] == b"<" else body.decode("utf-8", "replace")


def _served(model: JsonObject) -> _Served:
    meta = model.get("meta")
    places = [model, meta] if isinstance(meta, dict) else [model]
    windows = [place.get(field) for place in places for field in WINDOW_FIELDS]
    return _Served(
        str(model.get("id", "")), next((size for size in windows if isinstance(size, int) and size > 0), None)
    )


def _place(url: str) -> str:
    """The address as it may be shown: without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _reason(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "its name cannot be resolved"
        case aiohttp.ConnectionTimeoutError():
            return "no connection was made in time"
        case aiohttp.ClientConnectorError():
            return (error.os_error.strerror or str(error.os_error)).lower()
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | aiohttp.ClientOSError():
            return "the connection was closed"
        case TimeoutError():
            return "it was silent for too long"
        case _:
            return str(error)
