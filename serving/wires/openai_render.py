"""An answer in OpenAI's words: chunks of a stream, or one completion."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import orjson
from pydantic import BaseModel, Field

from agents.types import Citation, Draft, Usage
from serving.wires.openai_request import WireToolCall
from tools.types import JsonObject, JsonValue

ALWAYS_SHOWN = "model_failed"
SHOWN_FIRST = "no_model"
"""Codes of the notes that this wire shows as the answer's last line, having no other place for them: that the model
failed whenever it did, that there is none in a conversation's first answer."""


class UrlCitation(BaseModel):
    """Where a marker `[n]` stands, and what it points to."""

    url: str
    title: str
    start_index: int = Field(description="Of the `[n]` in the content, in characters.")
    end_index: int


class Annotation(BaseModel):
    """A citation of the answer."""

    type: str = "url_citation"
    url_citation: UrlCitation


class AnswerMessage(BaseModel):
    """The answer."""

    role: str = "assistant"
    content: str | None
    refusal: None = None
    annotations: list[Annotation]
    tool_calls: list[WireToolCall] | None = None


class Choice(BaseModel):
    """The one answer."""

    index: int = 0
    message: AnswerMessage
    logprobs: None = None
    finish_reason: str = Field(description="stop, length, content_filter or tool_calls")


class TokenUsage(BaseModel):
    """What all model calls of the turn used together; zero without a model."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage


class Renderer:
    """Renders one answer: `run` is its id, `model` the name that the caller used, `base` our own address."""

    def __init__(self, run: str, model: str, created: int, base: str, *, first: bool, usage: bool) -> None:
        self._base, self._first, self._usage = base, first, usage
        self._head: JsonObject = {"id": f"chatcmpl-{run}", "object": "", "created": created, "model": model}
        stem = orjson.dumps({**self._head, "object": "chat.completion.chunk"})[:-1]
        self._open = b"data: " + stem + b',"choices":[{"index":0,"delta":'
        self._close = b"}]," + (b'"usage":null,' if usage else b"") + b'"system_fingerprint":null}\n\n'
        self._token_open = self._open + b'{"content":'
        self._token_close = b'},"logprobs":null,"finish_reason":null' + self._close
        self._stem = stem

    def role(self) -> bytes:
        """The first chunk."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None}, None)

    def token(self, text: str) -> bytes:
        """A piece of the text; this is the hot path, so only the text itself is rendered."""
        return self._token_open + orjson.dumps(text) + self._token_close

    def end(self, draft: Draft) -> bytes:
        """All that follows the last token: note, calls, citations with the finish reason, usage, [DONE]."""
        line = self._note_line(draft)
        parts = [self.token(line)] if line else []
        if draft.tool_calls:
            parts.append(self._chunk({"tool_calls": [{"index": i, **c} for i, c in enumerate(_calls(draft))]}, None))
        annotations = self._annotations(draft)
        parts.append(self._chunk({"annotations": annotations} if annotations else {}, draft.finish))
        if self._usage:
            used = orjson.dumps(_usage(draft.usage))
            parts.append(b"data: " + self._stem + b',"choices":[],"usage":' + used + b"}\n\n")
        parts.append(b"data: [DONE]\n\n")
        return b"".join(parts)

    def completion(self, draft: Draft) -> bytes:
        """The whole answer as one JSON object."""
        text = draft.text + self._note_line(draft)
        message: JsonObject = {
            "role": "assistant",
            "content": text if text or not draft.tool_calls else None,
            "refusal": None,
            "annotations": self._annotations(draft),
        }
        if draft.tool_calls:
            message["tool_calls"] = list[JsonValue](_calls(draft))
        choice: JsonObject = {"index": 0, "message": message, "logprobs": None, "finish_reason": draft.finish}
        return orjson.dumps(
            {**self._head, "object": "chat.completion", "choices": [choice], "usage": _usage(draft.usage)}
        )

    def _chunk(self, delta: JsonObject, finish: str | None) -> bytes:
        return (
            self._open + orjson.dumps(delta) + b',"logprobs":null,"finish_reason":' + orjson.dumps(finish) + self._close
        )

    def _note_line(self, draft: Draft) -> str:
        shown = {ALWAYS_SHOWN, SHOWN_FIRST} if self._first else {ALWAYS_SHOWN}
        lines = [note.text for note in draft.notes if note.code in shown]
        return "".join(f"\n\n{line}" for line in lines) if draft.text else "\n\n".join(lines)

    def _annotations(self, draft: Draft) -> list[JsonValue]:
        cited = {citation.index: citation for citation in draft.citations}
        return [
            {
                "type": "url_citation",
                "url_citation": {
                    "url": source_url(cited[span.index], self._base),
                    "title": cited[span.index].title,
                    "start_index": span.start,
                    "end_index": span.end,
                },
            }
            for span in draft.spans
            if span.index in cited
        ]


def source_url(citation: Citation, base: str) -> str:
    """The source's own web address, or the document's page here; never a path of the server."""
    if urlsplit(citation.url).scheme in ("http", "https"):
        return citation.url
    return f"{base}/api/documents/{quote(citation.document, safe='')}#{quote(citation.passage, safe='')}"


def _calls(draft: Draft) -> list[JsonObject]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in draft.tool_calls
    ]


def _usage(usage: Usage) -> JsonObject:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
