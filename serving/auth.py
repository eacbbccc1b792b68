"""Who asks: a middleware finds the principal before any route; a route reads it with `principal(request)`."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from memory.sql import DatabaseUnavailable, acting_for
from serving.buckets import Taken
from serving.errors import ApiError, error_response, translate
from serving.guards import add_headers
from serving.keys import Bearer, Keys
from serving.limits import RateLimits
from serving.principal import LOCAL, Principal

PRINCIPAL = "parley.principal"
"""Where the middleware leaves the principal in the ASGI scope; not there on an open route without a valid key."""
OPEN = frozenset({"/", "/docs", "/openapi.json", "/healthz"})
"""Routes that know nobody and tell nothing of anyone."""
READY = "/readyz"
"""Open too; it tells more to those who would be let in elsewhere."""
SCHEME = b"bearer "


def principal(request: Request) -> Principal:
    """Who sent the request. Only for routes that are not open."""
    return principal_of(request.scope)


def principal_of(scope: Scope) -> Principal:
    """Who sent the request of an ASGI scope that is not open."""
    found: Principal = scope[PRINCIPAL]
    return found


def is_known(request: Request) -> bool:
    """Whether the sender of a request to an open route would be let in elsewhere."""
    return PRINCIPAL in request.scope


def is_open(path: str) -> bool:
    """Whether a route answers without a key."""
    return path in OPEN or path == READY


class Access:
    """Lets in whoever has a valid key or, while no key was ever made, whoever sits at this machine.

    The key is read from the database with each request, so that a new or revoked one counts at once. With a key, its
    rate limit holds too; the local user has none.
    """

    def __init__(self, app: ASGIApp, keys: Callable[[], Keys], limits: RateLimits | None) -> None:
        """`keys`: asked with each request, since the database is opened later than the application is made;
        `limits`: None for none."""
        self._app = app
        self._keys = keys
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what may pass, with its principal in the scope; answers the rest with 401 or 429."""
        if scope["type"] == "lifespan" or scope["path"] in OPEN:
            return await self._app(scope, receive, send)
        path = scope["path"]
        try:
            found = await self._found(scope)
            if found is not None:
                scope[PRINCIPAL] = found
            elif path != READY:
                raise _unknown(path)
        except (ApiError, DatabaseUnavailable) as error:
            if path != READY:
                return await error_response(path, translate(error))(scope, receive, send)
        if PRINCIPAL not in scope:
            return await self._app(scope, receive, send)
        with acting_for(principal_of(scope).tenant):
            await self._app(scope, receive, send)

    async def _found(self, scope: Scope) -> Principal | None:
        keys = self._keys()
        sent = _token(scope)
        bearer = await keys.bearer(sent) if sent else None
        if bearer is not None:
            await self._count(scope, bearer)
            return bearer.principal
        return None if await keys.any() or not _is_near(scope) else LOCAL

    async def _count(self, scope: Scope, bearer: Bearer) -> None:
        if self._limits is None or scope["path"] == READY:
            return
        taken = await self._limits.take(bearer.key)
        add_headers(scope, _rate_headers(self._limits.per_minute, taken))
        if not taken.allowed:
            raise ApiError(
                429,
                f"this key may ask {self._limits.per_minute} times a minute; go on in {taken.wait} s",
                code="rate_limit_exceeded" if scope["path"].startswith("/v1") else None,
                headers={"Retry-After": str(taken.wait)},
            )


def _token(scope: Scope) -> str:
    """The bearer token that was sent; "" for none."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            return value[len(SCHEME) :].strip().decode("latin-1") if value[: len(SCHEME)].lower() == SCHEME else ""
    return ""


def _is_near(scope: Scope) -> bool:
    """Whether the client is this machine itself: `uvicorn --host 0.0.0.0` opens nothing that the settings do not."""
    client = scope.get("client")
    return client is not None and _is_loopback(client[0])


@lru_cache(maxsize=64)
def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _unknown(path: str) -> ApiError:
    """The same for no key, a wrong, a revoked and an expired one: what a key once was is nobody's business."""
    return ApiError(
        401,
        "this needs a valid access key, sent as `Authorization: Bearer parley_...`; "
        "`parley keys create --tenant T --user U` makes one",
        code="invalid_api_key" if path.startswith("/v1") else None,
        headers={"WWW-Authenticate": "Bearer"},
    )


def _rate_headers(per_minute: int, taken: Taken) -> list[tuple[bytes, bytes]]:
    """As draft-ietf-httpapi-ratelimit-headers-10 writes them."""
    return [
        (b"ratelimit-policy", b'"key";q=%d;w=60' % per_minute),
        (b"ratelimit", b'"key";r=%d;t=%d' % (taken.left, taken.full)),
    ]
