"""JSON answers of the routes below /api."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import orjson
from starlette.responses import Response

from serving.paging import Page
from tools.types import JsonObject, JsonValue

T = TypeVar("T")


def reply(value: JsonObject, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """One JSON object."""
    return Response(orjson.dumps(value), status, headers, "application/json")


def listed(page: Page[T], shape: Callable[[T], JsonObject]) -> Response:
    """A page of a list."""
    return reply({"items": list[JsonValue](map(shape, page.items)), "next_cursor": page.next_cursor})
