"""The header `Last-Event-ID`, with which a reader of events goes on where it stopped."""

from __future__ import annotations

import re

from starlette.requests import Request

from serving.errors import ApiError
from tools.types import JsonObject

LAST_EVENT_ID: JsonObject = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "`id` of the last event that came: the ones after it follow.",
    "schema": {"type": "string", "pattern": "^[0-9]{0,15}$"},
}
"""The header in the description of a route."""

_NUMBER = re.compile(r"[0-9]{1,15}")


def last_event_id(request: Request) -> int:
    """The number of the last event that the reader has; 0 when it has none.

    Raises:
        ApiError: 400, it is no number.
    """
    given = request.headers.get("last-event-id", "")
    if given and not _NUMBER.fullmatch(given):
        raise ApiError(400, "Last-Event-ID: not the id of an event", param="Last-Event-ID")
    return int(given or 0)
