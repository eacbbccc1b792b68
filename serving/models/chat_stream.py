"""What a chat completion stream says: bytes to lines, lines to chunks, chunks to our deltas. Reads no socket."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from agents.model import ModelDelta
from agents.types import Usage
from tools.types import JsonObject, JsonValue, ToolCall

MAX_LINE = 1 << 20
"""Bytes of one line, and of one call's arguments; a server that sends more is not answering a chat."""


class BadStream(Exception):
    """The stream says something that is no chat completion; the text tells what."""


class DataLines:
    """Cuts a byte stream into the payloads of its `data:` lines; comments and other fields are left out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are complete now; `b"\\n"` at the end of the stream gives a last unended one.

        Raises:
            BadStream: a line is longer than `MAX_LINE`.
        """
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE:
            raise BadStream(f"a line of more than {MAX_LINE} bytes")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


@dataclass(slots=True)
class _Call:
    """A tool call as it comes in, piece by piece."""

    id: str = ""
    name: str = ""
    arguments: str = ""


class Assembly:
    """Puts one answer together from its chunks."""

    def __init__(self) -> None:
        self.finished = False
        """A finish reason came."""
        self.ended = False
        """[DONE] came: nothing follows."""
        self.active = False
        """The chunk fed last brought text, reasoning or a piece of a tool call."""
        self._calls: dict[int, _Call] = {}

    def feed(self, payload: bytes) -> ModelDelta | None:
        """What a chunk adds to the answer, or None when it adds nothing to show (role, reasoning, part of a call).

        Raises:
            BadStream: not JSON, not a chunk, or the server's own error in the stream.
        """
        self.active = False
        if payload == b"[DONE]":
            self.ended = True
            return None
        try:
            return self._chunk(payload)
        except BadStream:
            if self.finished:  # the answer is whole; only its usage is lost
                return None
            raise

    def _chunk(self, payload: bytes) -> ModelDelta | None:
        try:
            chunk: JsonValue = orjson.loads(payload)
        except orjson.JSONDecodeError:
            raise BadStream("a chunk that is not JSON") from None
        if not isinstance(chunk, dict):
            raise BadStream("a chunk that is not an object")
        if chunk.get("error") or chunk.get("object") == "error":
            raise BadStream(error_text(chunk) or "an error without a message")
        usage = _usage(chunk.get("usage"))
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or self.finished:
            return ModelDelta(usage=usage) if usage else None
        return self._choice(choices[0], usage)

    def _choice(self, choice: JsonValue, usage: Usage | None) -> ModelDelta | None:
        if not isinstance(choice, dict):
            raise BadStream("a choice that is not an object")
        text = ""
        delta = choice.get("delta")
        if isinstance(delta, dict):
            content = delta.get("content")
            text = content if isinstance(content, str) else ""
            self._add_calls(delta.get("tool_calls"))
            self.active = self.active or bool(text or delta.get("reasoning") or delta.get("reasoning_content"))
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            calls = self._whole_calls()
            self.finished = self.active = True
            return ModelDelta(text, calls, finish, usage)
        return ModelDelta(text, usage=usage) if text or usage else None

    def _add_calls(self, pieces: JsonValue) -> None:
        if not isinstance(pieces, list):
            return
        for piece in pieces:
            if not isinstance(piece, dict):
                raise BadStream("a tool call that is not an object")
            self.active = True
            call = self._call_of(piece)
            function = piece.get("function")
            if isinstance(function, dict):
                call.name += _text(function, "name") if not call.name else ""
                call.arguments += _text(function, "arguments")
            if len(call.arguments) > MAX_LINE:
                raise BadStream(f"a tool call with more than {MAX_LINE} characters of arguments")

    def _call_of(self, piece: JsonObject) -> _Call:
        """The call that a piece belongs to: by index; a new id under an old index starts a new call (Ollama)."""
        id = _text(piece, "id")
        index = piece.get("index")
        if not isinstance(index, int):
            index = len(self._calls) if id or not self._calls else max(self._calls)
        call = self._calls.get(index)
        if call is not None and id and call.id and call.id != id:
            index, call = max(self._calls) + 1, None
        if call is None:
            call = self._calls[index] = _Call()
        call.id = call.id or id
        return call

    def _whole_calls(self) -> tuple[ToolCall, ...]:
        calls = [call for _, call in sorted(self._calls.items())]
        if any(not call.name for call in calls):
            raise BadStream("a tool call without a name")
        return tuple(
            ToolCall(call.id or f"call_{number}", call.name, call.arguments or "{}")
            for number, call in enumerate(calls, 1)
        )


def error_text(body: JsonValue) -> str:
    """The message in an error body, in any of the shapes that servers use; "" when there is none."""
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return error_text(body[0]) if body else ""
    if isinstance(body, dict):
        for key in ("error", "message", "detail", "msg"):
            if text := error_text(body.get(key)):
                return text
    return ""


def _text(piece: JsonObject, key: str) -> str:
    value = piece.get(key)
    return value if isinstance(value, str) else ""


def _usage(usage: JsonValue) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Usage(prompt if isinstance(prompt, int) else 0, completion if isinstance(completion, int) else 0)
