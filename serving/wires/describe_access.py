"""What the guard and the door answer on every route, as the API's description tells it."""

from __future__ import annotations

from serving.auth import is_open
from tools.types import JsonObject, JsonValue

SCHEMES: JsonObject = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access key, made with `parley keys create`. None is needed on the machine itself as long as "
        "no key was ever made.",
    }
}
"""The `securitySchemes` of the description."""

_RETRY: JsonObject = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
_BEARER: JsonObject = {"WWW-Authenticate": {"schema": {"type": "string"}, "example": "Bearer"}}
_ANYWHERE: dict[str, tuple[str, JsonObject]] = {
    "403": ("A page of another origin may not change anything here.", {}),
    "421": ("The server does not answer to the name in the `Host` header.", {}),
    "431": ("Address and headers are too long.", {}),
}
_WITH_KEY: dict[str, tuple[str, JsonObject]] = {
    "401": ("No valid access key was sent.", _BEARER),
    "429": ("The key asked too often.", _RETRY),
    "503": ("The stored keys cannot be read now; the text says why.", {}),
}


def security(path: str) -> list[JsonValue]:
    """The `security` of a route: a key, or none."""
    return [] if is_open(path) else [{"key": []}, {}]


def refusals(path: str) -> JsonObject:
    """The `responses` that a route has besides its own."""
    openai = path.startswith("/v1")
    kind, shape = ("application/json", "OpenAIError") if openai else ("application/problem+json", "Problem")
    found = _ANYWHERE if is_open(path) else _ANYWHERE | _WITH_KEY
    content: JsonObject = {kind: {"schema": {"$ref": f"#/components/schemas/{shape}"}}}
    told: JsonObject = {}
    for status, (meaning, headers) in found.items():
        told[status] = {"description": meaning, "content": content, "headers": headers}
    return told
