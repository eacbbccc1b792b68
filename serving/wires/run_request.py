"""What starts a run: the messages to say, and how the answer is to come."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from agents.types import Message
from memory.types import TRUST_NONE, TRUST_USER, Label
from serving.errors import ApiError
from serving.idempotency import Claim, keep
from serving.ids import uuid7
from serving.principal import Principal
from serving.turns import TurnRequest
from tools.types import JsonObject

MAX_CHARACTERS = 1_000_000
"""Of all messages together, as on /v1."""
EXAMPLES: JsonObject = {
    "waits": {"messages": [{"role": "user", "content": "How do I start the server?"}]},
    "streams": {"messages": [{"role": "user", "content": "On which port does it listen?"}], "stream": True},
    "in the background": {"messages": [{"role": "user", "content": "How do I stop it?"}], "background": True},
}


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


class NewMessage(_Wire):
    """A message that the conversation does not have yet."""

    role: Literal["user", "assistant"]
    content: str = Field(min_length=1, max_length=MAX_CHARACTERS)


class RunRequest(_Wire):
    """What to say in a conversation, and how the answer is to come."""

    messages: list[NewMessage] = Field(min_length=1, max_length=100, description="The last one is the user's.")
    stream: bool = Field(default=False, description="Send the run's events as they come.")
    background: bool = Field(default=False, description="Go on when the client leaves.")
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] = Field(
        default_factory=dict, max_length=16, description="Recorded with the run."
    )

    def turn(self, who: Principal, thread: str, claim: Claim | None) -> TurnRequest:
        """The turn that this asks for.

        Raises:
            ApiError: 400, it makes no sense.
        """
        last = f"messages[{len(self.messages) - 1}]"
        if self.messages[-1].role != "user":
            raise ApiError(400, "the last message must be of the role user", param=f"{last}.role")
        if not self.messages[-1].content.strip():
            raise ApiError(400, "the message is empty", param=f"{last}.content")
        length = sum(len(message.content) for message in self.messages)
        if length > MAX_CHARACTERS:
            said = f"the messages have {length} characters, more than the {MAX_CHARACTERS} that are read"
            raise ApiError(400, said, param="messages")
        return TurnRequest(
            who,
            tuple(_message(message, who.tenant) for message in self.messages),
            thread=thread,
            run=uuid7(),
            metadata=self.metadata,
            claim=None if claim is None else (lambda connection, run: keep(connection, claim, run)),
        )


def _message(message: NewMessage, tenant: str) -> Message:
    label = Label(tenant, "user", TRUST_USER) if message.role == "user" else Label(tenant, "model", TRUST_NONE)
    return Message(message.role, message.content, label)
