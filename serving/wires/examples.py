"""One story in examples: a question about a handbook and its answer, as every route would show them."""

from __future__ import annotations

from typing import cast

import orjson

from serving.errors import ApiError, openai_error, problem
from serving.wires.job_models import DOCUMENT, JOB
from serving.wires.record_models import MESSAGE, RUN, THREAD, TIME
from tools.types import JsonObject, JsonValue

PATH, TITLE, QUESTION = "handbook/opening-hours.md", "Opening hours", "When is the museum open?"
PASSAGE = "The museum is open from April to October, from nine to five."
CITATION: JsonObject = {
    "index": 1,
    "document": DOCUMENT,
    "passage": f"{DOCUMENT}.1.0",
    "title": TITLE,
    "path": PATH,
    "quote": PASSAGE,
    "page": None,
    "heading": "Visitors > Hours",
    "start": 120,
    "end": 180,
    "url": "",
}
ANSWER = f"{PASSAGE} [1]"
USAGE: JsonObject = {"prompt_tokens": 412, "completion_tokens": 18, "model_calls": 1, "tool_calls": 0}
CONVERSATION: JsonObject = {"id": THREAD, "title": QUESTION, "created_at": TIME, "updated_at": TIME}
ASKED: JsonObject = {
    "id": MESSAGE,
    "role": "user",
    "content": QUESTION,
    "status": "complete",
    "run_id": RUN,
    "citations": [],
    "created_at": TIME,
}
ANSWERED: JsonObject = {**ASKED, "role": "assistant", "content": ANSWER, "citations": [CITATION]}
ENDED: JsonObject = {
    "id": RUN,
    "thread_id": THREAD,
    "status": "finished",
    "answer": ANSWER,
    "citations": [CITATION],
    "usage": USAGE,
    "notes": [],
    "started_at": TIME,
    "finished_at": TIME,
    "error": None,
}
KEPT: JsonObject = {
    "id": DOCUMENT,
    "path": PATH,
    "title": TITLE,
    "status": "ready",
    "passages": 7,
    "bytes": 5120,
    "updated_at": TIME,
    "url": None,
    "error": None,
}
PLACE: JsonObject = {"text": PASSAGE, "heading": "Visitors > Hours", "page": None, "start": 120, "end": 180}
WORK: JsonObject = {
    "id": JOB, "kind": "ingest", "status": "running", "done": 2, "total": 3, "failed": 0, "error": None,
}  # fmt: skip
CITED: JsonObject = {
    "type": "url_citation",
    "url_citation": {
        "url": f"http://127.0.0.1:8080/api/documents/{DOCUMENT}#{DOCUMENT}.1.0",
        "title": TITLE,
        "start_index": 61,
        "end_index": 64,
    },
}


def _some(*items: JsonObject) -> JsonObject:
    return {"items": list[JsonValue](items), "next_cursor": None}


BY_MODEL: dict[str, JsonObject] = {
    "ThreadModel": CONVERSATION,
    "ThreadPage": _some(CONVERSATION),
    "MessagePage": _some(ASKED, ANSWERED),
    "RunModel": ENDED,
    "RunPage": _some(ENDED),
    "EventPage": _some(
        {"type": "run.started", "run_id": RUN, "seq": 1}, {"type": "token", "run_id": RUN, "seq": 2, "text": ANSWER}
    ),
    "FeedbackModel": {"run_id": RUN, "rating": 1, "reason": "Right page, right sentence.", "created_at": TIME},
    "AcceptedModel": {"job_id": JOB, "documents": [{"id": DOCUMENT, "path": PATH, "status": "queued"}]},
    "DocumentModel": KEPT,
    "DocumentPage": _some(KEPT),
    "PassagePage": _some({"id": f"{DOCUMENT}.1.0", **PLACE}),
    "JobModel": WORK,
    "JobPage": _some(WORK),
    "ItemPage": _some({"number": 1, "name": PATH, "document": DOCUMENT, "status": "done", "error": None}),
    "SearchResponse": {
        "hits": [
            {
                "document": DOCUMENT,
                "title": TITLE,
                "path": PATH,
                **PLACE,
                "score": 0.912,
                "parts": {"dense": 0.5, "words": 0.412},
            }
        ]
    },
    "ChatCompletion": {
        "id": f"chatcmpl-{RUN}",
        "object": "chat.completion",
        "created": 1790000000,
        "model": "parley",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": ANSWER, "refusal": None, "annotations": [CITED]},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 412, "completion_tokens": 18, "total_tokens": 430},
    },
    "ModelList": {
        "object": "list",
        "data": [{"id": "parley", "object": "model", "created": 1790000000, "owned_by": "parley"}],
    },
    "Health": {"status": "ok"},
    "Readiness": {"status": "ready", "parts": {"data": None, "embedder": None}},
}
"""Name of a response's model to what such a response may look like."""

BY_KIND: dict[str, JsonObject] = {
    "application/json": {**CONVERSATION, "messages": [ASKED, ANSWERED], "feedback": []},
    "multipart/form-data": {"files": ["# Opening hours\n\nThe museum is open from April to October.\n"]},
}
"""Media type to an example where the schema is no model: an export, an upload."""


USUAL = {403: "foreign_origin", 409: "idempotency_key_reused", 410: "events_gone"}
"""The code of an error whose status has several."""


def fill(operation: JsonObject) -> None:
    """Gives each body and each response of an operation an example, where it has none."""
    body = cast(dict[str, JsonObject], operation.get("requestBody", {}))
    _fill(cast(dict[str, JsonObject], body.get("content", {})), 200, "")
    for status, response in cast(dict[str, JsonObject], operation["responses"]).items():
        content = cast(dict[str, JsonObject], response.get("content", {}))
        _fill(content, int(status), str(response["description"]))


def _fill(content: dict[str, JsonObject], status: int, meaning: str) -> None:
    for kind, shape in content.items():
        if "example" in shape or "examples" in shape:
            continue
        model = str(cast(JsonObject, shape.get("schema", {})).get("$ref", "")).rpartition("/")[2]
        if model in ("Problem", "OpenAIError"):
            shape["example"] = _error(model, status, meaning)
        elif model in BY_MODEL:
            shape["example"] = BY_MODEL[model]
        elif not model and kind in BY_KIND:
            shape["example"] = BY_KIND[kind]


def _error(model: str, status: int, meaning: str) -> JsonValue:
    code = USUAL.get(status)
    if model == "OpenAIError":
        return cast(JsonValue, orjson.loads(openai_error(status, meaning, code=code)))
    return cast(JsonValue, orjson.loads(problem(ApiError(status, meaning, code=code))))
