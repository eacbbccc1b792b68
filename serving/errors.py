"""Errors as the world sees them, in one place: OpenAI's shape on /v1, problem+json (RFC 9457) elsewhere."""

from __future__ import annotations

import logging
from http import HTTPStatus

import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from knowledge.graph import GraphUnavailable
from memory.sqlite_errors import DatabaseUnavailable
from memory.store import MemoryUnavailable
from serving.ids import uuid7
from serving.records import UnknownThread
from serving.turns import ThreadBusy
from tools.types import JsonObject

log = logging.getLogger(__name__)

OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
RUN_KEY = "parley.run"
"""Where a wire leaves the id of its run in the ASGI scope, so that a crash can be found in the log."""


class ApiError(Exception):
    """An answer that is an error; the text is for the person who sent the request."""

    def __init__(self, status: int, text: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(text)
        self.status, self.param, self.code = status, param, code
        self.close = False
        """The request was not read to its end: the connection cannot be used again."""


def openai_error(status: int, text: str, param: str | None = None, code: str | None = None) -> bytes:
    """The body of an error in OpenAI's shape."""
    kind = OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return orjson.dumps({"error": {"message": text, "type": kind, "param": param, "code": code}})


def error_event(text: str) -> bytes:
    """An error inside an event stream that has begun: what came before it is incomplete."""
    return b"data: " + openai_error(500, text) + b"\n\n"


def error_response(path: str, error: ApiError) -> Response:
    """The error as a response in the shape of its path."""
    headers = {"Connection": "close"} if error.close else None
    if path.startswith("/v1"):
        body = openai_error(error.status, str(error), error.param, error.code)
        return Response(body, error.status, headers, "application/json")
    problem: JsonObject = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": str(error),
    }
    if error.param:
        problem["param"] = error.param
    return Response(orjson.dumps(problem), error.status, headers, "application/problem+json")


def translate(error: Exception) -> ApiError:
    """What an expected failure of the layers below means over HTTP."""
    match error:
        case ApiError():
            return error
        case HTTPException():
            return ApiError(error.status_code, error.detail)
        case UnknownThread():
            return ApiError(404, str(error))
        case ThreadBusy():
            return ApiError(409, str(error), code="thread_busy")
        case _:
            return ApiError(503, str(error))


EXPECTED = (
    ApiError,
    HTTPException,
    UnknownThread,
    ThreadBusy,
    DatabaseUnavailable,
    MemoryUnavailable,
    GraphUnavailable,
)


async def _expected(request: Request, error: Exception) -> Response:
    return error_response(request.url.path, translate(error))


class CrashGuard:
    """Outermost: a bug becomes a 500, or the last event of a stream, with an id that the log explains."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on and catches what nobody expected."""
        started: Message | None = None

        async def watched(message: Message) -> None:
            nonlocal started
            if started is None:
                started = message
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:  # the one place where a bug ends: told without a trace, logged with one
            id: str = scope.get(RUN_KEY) or uuid7()
            log.exception("a bug in %s %s, id %s", scope.get("method"), scope.get("path"), id)
            text = f"something went wrong inside Parley; the log tells more under the id {id}"
            if started is None:
                await error_response(scope["path"], ApiError(500, text))(scope, receive, send)
            elif (b"content-type", b"text/event-stream; charset=utf-8") in started["headers"]:
                await send({"type": "http.response.body", "body": error_event(text), "more_body": False})
            else:
                raise


def handle_errors(app: FastAPI) -> None:
    """Puts the handlers and the guard into an application."""
    for kind in EXPECTED:
        app.add_exception_handler(kind, _expected)
    app.add_middleware(CrashGuard)
