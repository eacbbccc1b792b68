"""Words and shapes that the API's description uses on several routes."""

from __future__ import annotations

from pydantic import BaseModel, Field

from tools.types import JsonObject

STREAM_EXAMPLE = """data: {"id":"chatcmpl-01","object":"chat.completion.chunk","created":1790000000,"model":"parley",\
"choices":[{"index":0,"delta":{"content":"With `make run`. [1]"},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-01","object":"chat.completion.chunk","created":1790000000,"model":"parley",\
"choices":[{"index":0,"delta":{"annotations":[{"type":"url_citation","url_citation":{"url":\
"http://127.0.0.1:8080/api/documents/d1#d1.0.3","title":"Guide","start_index":17,"end_index":20}}]},\
"logprobs":null,"finish_reason":"stop"}]}

data: [DONE]

"""

EVENTS_EXAMPLE = """id: 1
event: run.started
data: {"type":"run.started","run_id":"0198c0de-5a1f-7c3e-9b2a-4d5e6f708192","seq":1}

id: 2
event: token
data: {"type":"token","run_id":"0198c0de-5a1f-7c3e-9b2a-4d5e6f708192","seq":2,"text":"With `make run`. [1]"}

"""


class ErrorDetail(BaseModel):
    """What was wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """An error in OpenAI's shape."""

    error: ErrorDetail


class Problem(BaseModel):
    """An error in the shape of RFC 9457."""

    type: str = Field(description="Stable, for programs; docs/api.md lists them all.")
    title: str
    status: int
    detail: str = Field(description="For the person who sent the request.")
    param: str | None = Field(default=None, description="The field that is wrong.")
    run_id: str | None = Field(default=None, description="The run that is in the way.")


Responses = dict[int | str, dict[str, object]]
"""What FastAPI takes as `responses`."""

_MEANINGS = {
    400: "The request is wrong; the text names the field.",
    404: "There is no such thing, or it is somebody else's.",
    409: "It cannot be done now, or the `Idempotency-Key` came with another request.",
    410: "The events are no longer kept.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    500: "A bug; the text has an id that the log explains.",
    503: "The stored data cannot be used now; the text says why.",
    507: "The disk is full; nothing of it was stored.",
}
_EXAMPLES: dict[int, JsonObject] = {
    400: {"type": "/problems/invalid-request", "title": "Bad Request", "status": 400, "param": "messages",
          "detail": "messages: Field required"},
    404: {"type": "/problems/not-found", "title": "Not Found", "status": 404,
          "detail": "there is no conversation 0198c0de-0000-7000-8000-000000000000"},
    409: {"type": "/problems/thread-busy", "title": "Conflict", "status": 409,
          "run_id": "0198c0de-5a1f-7c3e-9b2a-4d5e6f708192",
          "detail": "this conversation is busy with run 0198c0de-5a1f-7c3e-9b2a-4d5e6f708192; wait for its end"},
}  # fmt: skip


def event_stream(example: str, model: str = "") -> dict[str, object]:
    """The `content` of a response that streams; `model` names the shape of each event's JSON. OpenAPI 3.1 has no word
    for a stream's items, so this is 3.2's, which readers of 3.1 pass over."""
    data: JsonObject = {"type": "string"}
    if model:
        data |= {"contentMediaType": "application/json", "contentSchema": {"$ref": f"#/components/schemas/{model}"}}
    line: JsonObject = {"type": "string"}
    event: JsonObject = {
        "type": "object",
        "properties": {"id": line, "event": line, "data": data},
        "required": ["data"],
    }
    return {"text/event-stream": {"itemSchema": event, "example": example}}


OPENAI_ERRORS: Responses = {
    status: {"model": OpenAIError, "description": _MEANINGS[status]} for status in (400, 413, 415, 500, 503)
}
"""Errors of every route below /v1 that takes a body."""


def _problem(status: int) -> dict[str, object]:
    content: dict[str, object] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    if status in _EXAMPLES:
        content["example"] = _EXAMPLES[status]
    return {"description": _MEANINGS[status], "content": {"application/problem+json": content}}


def problems(*statuses: int) -> Responses:
    """Errors of a route that is not below /v1; create_app adds the schema of `Problem`."""
    return {status: _problem(status) for status in statuses}


PROBLEMS = problems(400, 413, 415, 500, 503)
"""Errors of every such route that takes a body."""
