"""What every request passes before anything else: its size, the host it names, the page it comes from; and what every
response carries. Pure ASGI, so that a stream is never held back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import ApiError, error_response
from serving.settings import Settings, is_loopback

Headers = Sequence[tuple[bytes, bytes]]

EXTRA = "parley.headers"
"""Where `add_headers` leaves headers for the response in the ASGI scope."""
LOCAL_HOSTS = frozenset({b"127.0.0.1", b"[::1]", b"localhost"})
"""Names that a browser resolves to this machine without asking anyone."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
ASKS_METHOD = b"access-control-request-method"
"""What makes an OPTIONS request a preflight."""
PREFLIGHT: Headers = (
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (b"access-control-max-age", b"600"),
    (b"vary", b"Access-Control-Request-Headers"),
)
VARY: Headers = ((b"vary", b"Origin"),)
READABLE = (
    b"access-control-expose-headers",
    b"RateLimit, RateLimit-Policy, Retry-After, Location, WWW-Authenticate",
)
"""What a page of a listed origin may read of a response's headers."""
POLICY = b"content-security-policy"
SECURITY: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
NO_CONTENT: Headers = ((POLICY, b"default-src 'none'; frame-ancestors 'none'"),)
"""For all that is no page; a page names a policy of its own."""


def add_headers(scope: Scope, headers: Headers) -> None:
    """Adds headers to the response that this request will get."""
    scope.setdefault(EXTRA, []).extend(headers)


class Guard:
    """Outermost.

    - Headers and address of a request together may be `max_header_bytes` long: 431.
    - On loopback, or when `hosts` is set, the `Host` must be this machine's or one of those: 421. A page of another
      site whose name was made to point here (DNS rebinding) gets nothing.
    - A page of another origin may read and change what is here only when `cors_origins` lists that origin; a request
      that would change something is refused with 403 when its `Origin` is neither ours nor listed, since some of them
      need no preflight. Credentials (cookies) are never allowed across origins: Parley has none.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._max = settings.max_header_bytes
        named = frozenset(name.encode() for name in settings.names("hosts"))
        self._hosts = LOCAL_HOSTS | named if named or is_loopback(settings.host) else None
        self._origins = frozenset(origin.encode() for origin in settings.names("cors_origins"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what may not pass, and adds the headers to every response."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)

        async def with_headers(message: Message) -> None:
            if message["type"].endswith("response.start"):
                own: list[tuple[bytes, bytes]] = [*message.get("headers", ()), *SECURITY, *scope.get(EXTRA, ())]
                if not any(name == POLICY for name, _ in own):
                    own.extend(NO_CONTENT)
                message["headers"] = own
            await send(message)

        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            self._check(scope, headers)
        except ApiError as error:
            return await error_response(scope["path"], error)(scope, receive, with_headers)
        if ASKS_METHOD in headers and scope.get("method") == "OPTIONS":
            return await _allow(headers, with_headers)
        await self._app(scope, receive, with_headers)

    def _check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        size = len(scope.get("raw_path") or b"") + len(scope.get("query_string", b""))
        if size + sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > self._max:
            raise ApiError(431, f"address and headers are longer than {self._max} bytes, the most that is taken")
        host = headers.get(b"host", b"").lower()
        if self._hosts is not None and _name(host) not in self._hosts:
            raise ApiError(
                421,
                "this server does not answer to the name in the Host header; "
                "ask for 127.0.0.1 or localhost, or name it in PARLEY_HOSTS",
            )
        if self._origins:
            add_headers(scope, VARY)
        if b"origin" in headers:
            self._check_origin(scope, headers[b"origin"].lower(), host, asks=ASKS_METHOD in headers)

    def _check_origin(self, scope: Scope, origin: bytes, host: bytes, *, asks: bool) -> None:
        if origin in self._origins:
            add_headers(scope, ((b"access-control-allow-origin", origin), READABLE))
        elif origin.partition(b"://")[2] != host and (asks or scope.get("method") not in SAFE):
            raise ApiError(
                403,
                "a page of another origin may not do this; PARLEY_CORS_ORIGINS lists the origins that may",
                code="foreign_origin",
            )


def _name(host: bytes) -> bytes:
    """A host without its port."""
    if not host.startswith(b"["):
        return host.partition(b":")[0]
    name, end, port = host.partition(b"]")
    return name + end if port[:1] in (b"", b":") else b""


async def _allow(headers: Mapping[bytes, bytes], send: Send) -> None:
    """Answers a preflight: everything that a key lets do may be asked for."""
    allowed = [*PREFLIGHT]
    if b"access-control-request-headers" in headers:
        allowed.append((b"access-control-allow-headers", headers[b"access-control-request-headers"]))
    if headers.get(b"access-control-request-private-network") == b"true":
        allowed.append((b"access-control-allow-private-network", b"true"))
    await send({"type": "http.response.start", "status": 204, "headers": allowed})
    await send({"type": "http.response.body", "body": b""})
