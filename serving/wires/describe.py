"""Words and shapes that the API's description uses on several routes."""

from __future__ import annotations

from pydantic import BaseModel

STREAM_EXAMPLE = """data: {"id":"chatcmpl-01","object":"chat.completion.chunk","created":1790000000,"model":"parley",\
"choices":[{"index":0,"delta":{"content":"With `make run`. [1]"},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-01","object":"chat.completion.chunk","created":1790000000,"model":"parley",\
"choices":[{"index":0,"delta":{"annotations":[{"type":"url_citation","url_citation":{"url":\
"http://127.0.0.1:8080/api/documents/d1#d1.0.3","title":"Guide","start_index":17,"end_index":20}}]},\
"logprobs":null,"finish_reason":"stop"}]}

data: [DONE]

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

    type: str
    title: str
    status: int
    detail: str
    param: str | None = None


Responses = dict[int | str, dict[str, object]]
"""What FastAPI takes as `responses`."""

_MEANINGS = {
    400: "The request is wrong; the text names the field.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    500: "A bug; the text has an id that the log explains.",
    503: "The stored data cannot be used now; the text says why.",
}

OPENAI_ERRORS: Responses = {
    status: {"model": OpenAIError, "description": meaning} for status, meaning in _MEANINGS.items()
}
"""Errors of every route below /v1 that takes a body."""


def _problem(status: int, meaning: str) -> dict[str, object]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": meaning, "content": content}


PROBLEMS: Responses = {status: _problem(status, meaning) for status, meaning in _MEANINGS.items()}
"""Errors of every other route that takes a body; create_app adds the schema of `Problem`."""
