"""Errors as the world sees them, in one place: OpenAI's shape on /v1, problem+json (RFC 9457) elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from knowledge.graph import GraphUnavailable
from memory.sql import DatabaseUnavailable
from memory.store import MemoryUnavailable
from serving.feedback import UnknownRun
from serving.idempotency import KeyReused
from serving.ids import uuid7
from serving.job_records import UnknownJob
from serving.paging import WrongCursor
from serving.records import EventsGone, ServerStopping, ThreadBusy, UnknownThread
from tools.types import JsonObject

log = logging.getLogger(__name__)

OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
CODES = {
    400: "invalid_request",
    401: "unauthenticated",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    421: "wrong_host",
    429: "rate_limited",
    431: "headers_too_large",
    500: "bug",
    503: "unavailable",
    507: "storage_full",
}
"""The kind of a problem whose error has no code of its own, by status; docs/api.md lists them."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
RUN_KEY = "parley.run"
"""Where a wire leaves the id of its run in the ASGI scope, so that a crash can be found in the log."""


class ApiError(Exception):
    """An answer that is an error; the text is for the person who sent the request."""

    def __init__(
        self,
        status: int,
        text: str,
        *,
        param: str | None = None,
        code: str | None = None,
        run: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`param`: the field that is wrong; `code`: stable, for programs; `run`: the run that is in the way."""
        super().__init__(text)
        self.status, self.param, self.code, self.run = status, param, code, run
        self.headers = dict(headers or {})
        self.close = False
        """The request was not read to its end: the connection cannot be used again."""


def openai_error(status: int, text: str, param: str | None = None, code: str | None = None) -> bytes:
    """The body of an error in OpenAI's shape."""
    kind = OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return orjson.dumps({"error": {"message": text, "type": kind, "param": param, "code": code}})


def problem(error: ApiError) -> bytes:
    """The body of an error in the shape of RFC 9457."""
    code = error.code or CODES.get(error.status, "error")
    told: JsonObject = {
        "type": f"/problems/{code.replace('_', '-')}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": str(error),
    }
    if error.param:
        told["param"] = error.param
    if error.run:
        told["run_id"] = error.run
    return orjson.dumps(told)


def error_event(text: str) -> bytes:
    """An error inside OpenAI's event stream that has begun: what came before it is incomplete."""
    return b"data: " + openai_error(500, text) + b"\n\n"


def problem_event(text: str) -> bytes:
    """The same inside an event stream of ours."""
    return b"event: error\ndata: " + problem(ApiError(500, text)) + b"\n\n"


def error_response(path: str, error: ApiError) -> Response:
    """The error as a response in the shape of its path."""
    headers = error.headers | ({"Connection": "close"} if error.close else {})
    if path.startswith("/v1"):
        body = openai_error(error.status, str(error), error.param, error.code)
        return Response(body, error.status, headers, "application/json")
    return Response(problem(error), error.status, headers, "application/problem+json")


_LATER = {"Retry-After": "5"}
"""Seconds within which a store that came back is in use again."""


def translate(error: Exception) -> ApiError:
    """What an expected failure of the layers below means over HTTP."""
    match error:
        case ApiError():
            return error
        case HTTPException():
            return ApiError(error.status_code, error.detail, headers=error.headers)
        case RequestValidationError():
            first = error.errors()[0]
            name = str(first["loc"][-1])
            return ApiError(400, f"{name}: {first['msg']}", param=name)
        case WrongCursor():
            return ApiError(400, str(error), param="cursor")
        case UnknownThread() | UnknownRun() | UnknownJob():
            return ApiError(404, str(error))
        case ThreadBusy():
            return ApiError(409, str(error), code="thread_busy", run=error.run)
        case KeyReused():
            return ApiError(409, str(error), code="idempotency_key_reused")
        case EventsGone():
            return ApiError(410, str(error), code="events_gone")
        case ServerStopping():
            return ApiError(503, str(error), code="stopping", headers=_LATER)
        case _:
            return ApiError(503, str(error), headers=_LATER)


EXPECTED = (
    ApiError,
    HTTPException,
    RequestValidationError,
    WrongCursor,
    UnknownThread,
    UnknownRun,
    UnknownJob,
    ThreadBusy,
    KeyReused,
    EventsGone,
    ServerStopping,
    DatabaseUnavailable,
    MemoryUnavailable,
    GraphUnavailable,
)


async def _expected(request: Request, error: Exception) -> Response:
    told = translate(error)
    if told.status == 405:  # the router names the methods of the first route on this path only
        told.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return error_response(request.url.path, told)


def _methods(request: Request) -> set[str]:
    """What the routes on the path of a request can do."""
    app: FastAPI = request.app
    asked = [(method, {**request.scope, "method": method}) for method in METHODS]
    return {method for method, scope in asked for route in app.routes if route.matches(scope)[0] is Match.FULL}


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
                body = error_event(text) if scope["path"].startswith("/v1") else problem_event(text)
                await send({"type": "http.response.body", "body": body, "more_body": False})
            else:
                raise


def handle_errors(app: FastAPI) -> None:
    """Puts the handlers and the guard into an application."""
    for kind in EXPECTED:
        app.add_exception_handler(kind, _expected)
    app.add_middleware(CrashGuard)
