"""The header `Idempotency-Key`: what it may be, and what it stands for."""

from __future__ import annotations

import hashlib
import re

from starlette.requests import Request

from serving.errors import ApiError
from serving.idempotency import Claim
from serving.principal import Principal
from tools.types import JsonObject

HEADER = "Idempotency-Key"
REPLAYED = {"Idempotency-Replayed": "true"}
"""Header of a response that tells what an earlier request has made."""
_KEY = re.compile(r"[!-~]{1,255}")

PARAMETER: JsonObject = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Sent again with the same body within 24 hours, it gets what the first request made; with another "
    "body it gets 409.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "example": "5f0c1f9e-order-7",
}
"""The header in the description of a route."""


def claim_of(request: Request, who: Principal, body: bytes) -> Claim | None:
    """The request's claim on what it makes; None without the header. `body` is what it says, in one fixed form.

    Raises:
        ApiError: 400, the header is none.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise ApiError(400, f"{HEADER} must be 1 to 255 visible ASCII characters", param=HEADER)
    said = b"\n".join((request.method.encode(), request.url.path.encode(), body))
    return Claim(who.tenant, who.user, key, hashlib.sha256(said).hexdigest())
