"""The body of a chat completion request, from our types to OpenAI's."""

from __future__ import annotations

import orjson

from agents.model import ModelRequest
from agents.types import Message
from tools.types import JsonObject, JsonValue, ToolSpec


def request_body(model: str, request: ModelRequest) -> bytes:
    """The JSON that asks `model` to stream one answer, its usage at the end."""
    body: JsonObject = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body["tool_choice"] = _choice(request.tool_choice)
        if not request.parallel_tool_calls:
            body["parallel_tool_calls"] = False
    if request.schema is not None:
        form: JsonObject = {"name": "answer", "schema": request.schema}  # "strict" would refuse optional fields
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    if request.stop:
        body["stop"] = list(request.stop)
    numbers: dict[str, float | int | None] = {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
    }
    body.update({name: number for name, number in numbers.items() if number is not None})
    return orjson.dumps(body)


def _message(message: Message) -> JsonValue:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    said: JsonObject = {"role": message.role, "content": message.content}
    if message.name:
        said["name"] = message.name
    if message.tool_calls:
        said["content"] = message.content or None
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return said


def _tool(tool: ToolSpec) -> JsonValue:
    function: JsonObject = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _choice(choice: str) -> JsonValue:
    return choice if choice in ("auto", "required") else {"type": "function", "function": {"name": choice}}
