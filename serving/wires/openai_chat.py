"""OpenAI's chat completions: the first wire, spoken by most clients there are."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from graphs.events import RunCancelled, RunFailed, RunFinished, RunIncomplete, RunStarted, Token
from serving.auth import principal
from serving.errors import RUN_KEY, ApiError, error_event
from serving.runtime import Runtime
from serving.sse import Attended, EventStream
from serving.turns import TurnRequest
from serving.wires.body import json_body, read_json
from serving.wires.describe import OPENAI_ERRORS, STREAM_EXAMPLE, event_stream
from serving.wires.openai_render import ChatCompletion, Renderer
from serving.wires.openai_request import ChatRequest
from tools.types import JsonObject

OURS = "parley"
"""The id that is always accepted, whatever the model is called."""

EXAMPLES: JsonObject = {
    "question": {"model": OURS, "messages": [{"role": "user", "content": "How do I start the server?"}]},
    "streamed, second turn": {
        "model": OURS,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "user", "content": "How do I start the server?"},
            {"role": "assistant", "content": "With `make run`. [1]"},
            {"role": "user", "content": "On which port does it listen?"},
        ],
    },
}


class ModelCard(BaseModel):
    """A model that can be asked for."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = OURS


class ModelList(BaseModel):
    """The models: Parley first, then the language model behind it under its own name."""

    object: str = "list"
    data: list[ModelCard]


def openai_routes(runtime: Runtime) -> APIRouter:
    """`/v1/chat/completions` and `/v1/models`."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    started = int(time.time())

    def names() -> list[str]:
        own = runtime.model.server.name if runtime.model else ""
        return list(dict.fromkeys(name for name in (OURS, runtime.settings.model, own) if name))

    @router.post(
        "/chat/completions",
        summary="Go on with a conversation",
        responses={
            200: {
                "model": ChatCompletion,
                "description": "The answer: one JSON object, or with `stream` server-sent events.",
                "content": event_stream(STREAM_EXAMPLE),
            },
            **OPENAI_ERRORS,
            404: {**OPENAI_ERRORS[400], "description": "There is no such model, or no such conversation of yours."},
            409: {**OPENAI_ERRORS[400], "description": "The conversation has a run that is not over."},
            502: {**OPENAI_ERRORS[400], "description": "The model broke off its answer."},
        },
        openapi_extra=json_body(ChatRequest, EXAMPLES),
    )
    async def complete(request: Request) -> Response:
        """Stateless: the history is what you send. With `metadata.thread_id` it is a turn of that conversation of
        yours. Citations are `[n]` in the text and `url_citation` annotations, in the stream's last delta."""
        asked = await read_json(request, ChatRequest, runtime.settings.max_body_bytes)
        if asked.model not in names():
            raise ApiError(404, f"the model {asked.model} does not exist", param="model", code="model_not_found")
        answer = _Answer(runtime, request, asked, asked.turn(principal(request)))
        return EventStream(answer.stream()) if asked.stream else Attended(answer.whole())

    @router.get("/models", summary="List the models", responses={200: {"model": ModelList}, 500: OPENAI_ERRORS[500]})
    async def models() -> Response:
        """The ids that a request may name as its model."""
        cards = [ModelCard(id=name, created=started).model_dump() for name in names()]
        return Response(orjson.dumps({"object": "list", "data": cards}), media_type="application/json")

    return router


def _broken_off(ending: RunFailed | RunIncomplete | RunCancelled) -> ApiError:
    """What the client of an answer that was not completed is told."""
    match ending:
        case RunFailed(error):
            return ApiError(502, error, code="model_failed")
        case RunIncomplete(error):
            return ApiError(503, error, code="stopping")
        case RunCancelled():
            return ApiError(409, "the run was cancelled by another request", code="cancelled")


class _Answer:
    """One answer under way."""

    def __init__(self, runtime: Runtime, request: Request, asked: ChatRequest, turn: TurnRequest) -> None:
        self._turns, self._turn, self._asked = runtime.turns, turn, asked
        self._scope = request.scope
        self._base = str(request.base_url).rstrip("/")

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The chunks; the first goes out with the first token."""
        render = self._renderer("")
        role = b""
        sent = False
        async with aclosing(self._turns.run(self._turn)) as events:
            async for one in events:
                match one.event:
                    case Token(text):
                        if text:
                            yield role + render.token(text)
                            role, sent = b"", True
                    case RunStarted(run):
                        render = self._renderer(run)
                        role = render.role()
                    case RunFinished(draft):
                        yield role + render.end(draft)
                    case RunFailed() | RunIncomplete() | RunCancelled():
                        if not sent:
                            raise _broken_off(one.event)
                        error = str(_broken_off(one.event))
                        yield error_event(error)
                    case _:
                        pass

    async def whole(self) -> Response:
        """The answer in one piece.

        Raises:
            ApiError: 502, the answer could not be completed.
        """
        render = self._renderer("")
        body = b""
        async with aclosing(self._turns.run(self._turn)) as events:
            async for one in events:
                match one.event:
                    case RunStarted(run):
                        render = self._renderer(run)
                    case RunFinished(draft):
                        body = render.completion(draft)
                    case RunFailed() | RunIncomplete() | RunCancelled():
                        raise _broken_off(one.event)
                    case _:
                        pass
        return Response(body, media_type="application/json")

    def _renderer(self, run: str) -> Renderer:
        self._scope[RUN_KEY] = run
        options = self._asked.stream_options
        return Renderer(
            run,
            self._asked.model,
            int(time.time()),
            self._base,
            first=self._asked.is_first(),
            usage=bool(options and options.include_usage),
        )
