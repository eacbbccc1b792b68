"""Reads the JSON body of a request: bounded, checked against its model, with errors that name the field."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import ClientDisconnect, Request

from serving.errors import ApiError
from tools.types import JsonObject

M = TypeVar("M", bound=BaseModel)

DRAIN_FACTOR, DRAIN_SECONDS = 8, 10.0
"""A body that is too large is read on, unkept, up to so many times the limit and so long: a client that is still
sending would lose the error message to a reset connection."""
FIELD = re.compile(r"[a-z_][a-z0-9_]*")
BRANCHES = frozenset({"str", "int", "float", "bool", "none", "dict"})
"""Parts of an error's location that name a branch of a union, not a field; models' names are no `FIELD`."""


async def read_json(request: Request, model: type[M], limit: int, *, empty: bool = False) -> M:
    """The body as `model`; with `empty` no body at all is an empty object.

    Raises:
        ApiError: 413 too large, 415 not declared as JSON, 400 not UTF-8, not JSON or not what the model wants.
    """
    if empty and request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return model()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise ApiError(415, "the body must be sent as JSON: add the header Content-Type: application/json")
    body = await _read(request, limit)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _explain(error.errors(include_url=False, include_context=False, include_input=False)) from None


async def _read(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    size, parts = 0, list[bytes]()
    too_large = ApiError(413, f"the body is larger than {limit} bytes, the most that this server takes")
    too_large.close = True
    if declared.isdigit() and int(declared) > limit and "expect" in request.headers:
        raise too_large  # the client waits to be told whether to send at all
    try:
        async with asyncio.timeout(None) as patience, aclosing(request.stream()) as stream:
            async for part in stream:
                size += len(part)
                if size <= limit:
                    parts.append(part)
                elif size > limit * DRAIN_FACTOR:
                    break
                elif patience.when() is None:
                    parts.clear()
                    patience.reschedule(asyncio.get_running_loop().time() + DRAIN_SECONDS)
    except (TimeoutError, ClientDisconnect):
        if size <= limit:
            raise ApiError(400, "the request broke off before its end") from None
    if size > limit:
        raise too_large
    return b"".join(parts)


def _explain(errors: list[ErrorDetails]) -> ApiError:
    """The most telling error, in words, with the field's name as OpenAI writes it: `messages[0].content`. Of a
    union's errors that is the one that came furthest."""
    error = max(errors, key=lambda one: (len(_field(one)), not one["type"].endswith("_type")))
    param = _field(error)
    return ApiError(400, f"{param}: {error['msg']}" if param else f"{error['msg']}", param=param or None)


def _field(error: ErrorDetails) -> str:
    name = ""
    for part in error["loc"]:
        if isinstance(part, int):
            name += f"[{part}]"
        elif part not in BRANCHES and FIELD.fullmatch(part):
            name += f".{part}" if name else part
    return name


def json_body(model: type[BaseModel], examples: JsonObject, *, required: bool = True) -> JsonObject:
    """The `requestBody` of OpenAPI for a route that uses `read_json`; create_app adds the model's schema."""
    named: JsonObject = {name: {"value": value} for name, value in examples.items()}
    content: JsonObject = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}, "examples": named}
    return {"requestBody": {"required": required, "content": {"application/json": content}}}
