"""A chat completion request of OpenAI: what it may say, and the turn that it asks for."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from agents.context import Sampling
from agents.types import Message
from memory.types import TRUST_NONE, TRUST_USER, Label
from serving.errors import ApiError
from serving.principal import Principal
from serving.turns import TurnRequest
from tools.types import JsonObject, ToolCall, ToolSpec

MAX_CHARACTERS = 1_000_000
"""Of all messages together: far above any model's window, and what moderation can still read in seconds."""
NO_ARGUMENTS: JsonObject = {"type": "object", "properties": {}}


class _Wire(BaseModel):
    """Fields that are unknown are ignored, as OpenAI does; a wrong type is never converted."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


class ContentPart(_Wire):
    """A part of a message. Only text is understood."""

    type: str = Field(description='"text"', examples=["text"])
    text: str | None = None


class FunctionCall(_Wire):
    """Name and arguments of a call."""

    name: str
    arguments: str = Field(description="JSON text")


class WireToolCall(_Wire):
    """A call that the assistant made earlier."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class WireMessage(_Wire):
    """One message of the history."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[WireToolCall] | None = Field(default=None, description="Of an assistant message.")
    tool_call_id: str | None = Field(default=None, description="Of a tool message: the call that it answers.")


class FunctionSpec(_Wire):
    """A function of the caller."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, JsonValue] | None = Field(default=None, description="JSON Schema of the arguments.")


class WireTool(_Wire):
    """A tool of the caller: the model may call it, the caller runs it."""

    type: Literal["function"]
    function: FunctionSpec


class FunctionName(_Wire):
    """The function that must be called."""

    name: str


class NamedToolChoice(_Wire):
    """Demands a call of one function."""

    type: Literal["function"] = "function"
    function: FunctionName


class StreamOptions(_Wire):
    """How to stream."""

    include_usage: bool | None = Field(default=None, description="Send a last chunk with the usage.")


class ResponseFormat(_Wire):
    """Only "text" is known."""

    type: str


class ChatRequest(_Wire):
    """A conversation to go on with. Stateless: all of the history is in `messages`."""

    model: str = Field(min_length=1, description='"parley", or the name of the configured model.')
    messages: list[WireMessage] = Field(min_length=1, description="The last one is to be answered.")
    stream: bool | None = Field(default=None, description="Send the answer as it is made.")
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    n: int | None = Field(default=None, description="Only 1.")
    tools: list[WireTool] | None = Field(default=None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    user: str | None = Field(default=None, description="Recorded with the run; never chooses whose memory is read.")
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        default=None,
        max_length=16,
        description="Recorded with the run. `thread_id` makes the call a turn of that conversation of yours: of "
        "`messages`, what follows the last answer is new; what came before is taken from the conversation.",
    )

    def turn(self, principal: Principal) -> TurnRequest:
        """The turn that this asks for.

        Raises:
            ApiError: 400, something is asked that makes no sense or cannot be done.
        """
        self._check()
        tools, choice = self._tools()
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        messages = _history(self.messages, principal.tenant)
        thread = (self.metadata or {}).get("thread_id", "")
        return TurnRequest(
            principal,
            self._new(messages) if thread else messages,
            thread=thread,
            sampling=Sampling(
                temperature=self.temperature,
                top_p=self.top_p,
                max_tokens=self.max_completion_tokens or self.max_tokens,
                stop=tuple(text for text in stop if text),
                seed=self.seed,
                tool_choice=choice,
                parallel_tool_calls=self.parallel_tool_calls is not False,
            ),
            caller_tools=tools,
            caller_user=self.user or "",
            metadata=self.metadata or {},
        )

    def is_first(self) -> bool:
        """Nothing has been answered yet in this conversation."""
        return not any(message.role == "assistant" and message.content for message in self.messages)

    def _new(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """What a stored conversation does not have yet: the user's words since the last answer, and instructions."""
        if self.tools or any(message.role == "tool" for message in messages):
            said = "tools of the caller cannot be used in a stored conversation: leave metadata.thread_id out"
            raise ApiError(400, said, param="tools")
        answered = max((i for i, message in enumerate(messages) if message.role == "assistant"), default=-1)
        return tuple(
            message for i, message in enumerate(messages) if message.role == "system" or i > answered
        )  # fmt: skip

    def _check(self) -> None:
        if self.n not in (None, 1):
            raise ApiError(400, "n must be 1: one answer is given to one request", param="n")
        if self.stream_options and not self.stream:
            raise ApiError(400, "stream_options is only allowed when stream is true", param="stream_options")
        if self.response_format and self.response_format.type != "text":
            text = f"response_format {self.response_format.type} is not supported: answers are text with citations"
            raise ApiError(400, text, param="response_format")

    def _tools(self) -> tuple[tuple[ToolSpec, ...], str]:
        """The tools to offer, and which must be called."""
        tools = tuple(_tool(tool.function) for tool in self.tools or ())
        twice = [name for name, count in Counter(tool.name for tool in tools).items() if count > 1]
        if twice:
            raise ApiError(400, f"two tools are called {twice[0]}", param="tools")
        choice = self.tool_choice or "auto"
        if isinstance(choice, NamedToolChoice):
            choice = choice.function.name
            if choice not in {tool.name for tool in tools}:
                raise ApiError(400, f"tool_choice names {choice}, which is not among the tools", param="tool_choice")
        if choice == "required" and not tools:
            raise ApiError(400, "tool_choice is required, but there are no tools", param="tool_choice")
        return ((), "auto") if choice == "none" else (tools, choice)


def _tool(function: FunctionSpec) -> ToolSpec:
    return ToolSpec(function.name, function.description or "", function.parameters or NO_ARGUMENTS)


def _history(messages: list[WireMessage], tenant: str) -> tuple[Message, ...]:
    """The messages as ours; instructions that stand after the last message go before it, which must be a question
    or the results of the caller's tools."""
    names: dict[str, str] = {}
    history = [_message(message, index, names, tenant) for index, message in enumerate(messages)]
    last = next((i for i in reversed(range(len(history))) if history[i].role != "system"), -1)
    param = f"messages[{max(last, 0)}]"
    length = sum(len(message.content) for message in history)
    if length > MAX_CHARACTERS:
        said = f"the messages have {length} characters, more than the {MAX_CHARACTERS} that are read"
        raise ApiError(400, said, param="messages", code="string_above_max_length")
    if last < 0 or history[last].role == "assistant":
        raise ApiError(400, "the last message must be of the role user or tool", param=param)
    if not history[last].content.strip() and history[last].role == "user":
        raise ApiError(400, "the message is empty", param=f"{param}.content")
    return (*history[:last], *history[last + 1 :], history[last])


def _message(message: WireMessage, index: int, names: dict[str, str], tenant: str) -> Message:
    param = f"messages[{index}]"
    text = _text(message, param)
    match message.role:
        case "user":
            return Message("user", text, Label(tenant, "user", TRUST_USER), name=message.name or "")
        case "system" | "developer":
            return Message("system", text, Label(tenant, "system", TRUST_USER))
        case "assistant":
            calls = tuple(ToolCall(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or ())
            names.update((call.id, call.name) for call in calls)
            return Message("assistant", text, Label(tenant, "model", TRUST_NONE), tool_calls=calls)
        case "tool":
            id = message.tool_call_id or ""
            if id not in names:
                said = "tool_call_id must name a call of an assistant message before it"
                raise ApiError(400, said, param=f"{param}.tool_call_id")
            label = Label(tenant, f"tool:caller/{names[id]}", TRUST_NONE)
            return Message("tool", text, label, tool_call_id=id, name=names[id])


def _text(message: WireMessage, param: str) -> str:
    content = message.content
    if content is None:
        if message.role == "assistant" and message.tool_calls:
            return ""
        raise ApiError(400, "content is missing", param=f"{param}.content")
    if isinstance(content, str):
        return content
    for index, part in enumerate(content):
        if part.type != "text" or part.text is None:
            said = f"content of the type {part.type} is not supported: send text"
            raise ApiError(400, said, param=f"{param}.content[{index}]")
    return "\n".join(part.text or "" for part in content)
