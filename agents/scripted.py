"""ScriptedModel: the ChatModel twin that plays prepared answers; for tests and for trying a graph without a server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import anyio

from agents.model import ModelDelta, ModelRequest
from agents.types import Usage
from tools.types import ToolCall

Scripted = Sequence[ModelDelta | Exception | anyio.Event]
"""One answer: deltas to send, an exception to raise there, or an event to wait for (a model that hangs)."""


def says(*pieces: str, finish: str = "stop", usage: Usage | None = None) -> Scripted:
    """An answer that comes in these pieces."""
    return (*(ModelDelta(piece) for piece in pieces), ModelDelta(finish=finish, usage=usage))


def calls(*wishes: ToolCall, text: str = "") -> Scripted:
    """An answer that wants tools called."""
    return (ModelDelta(text), ModelDelta(tool_calls=wishes, finish="tool_calls"))


class ScriptedModel:
    """Plays one prepared answer per call and keeps the requests; after the last it starts again with the first."""

    def __init__(self, *answers: Scripted, name: str = "scripted", window: int = 8192) -> None:
        self._answers = answers or (says("Hello."),)
        self._name, self._window = name, window
        self.requests: list[ModelRequest] = []
        self.closed = 0
        """How many answers were ended, played to the end or not."""

    @property
    def name(self) -> str:
        """The name given to it."""
        return self._name

    async def window(self) -> int:
        """The window given to it."""
        return self._window

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        """Plays the next answer."""
        answer = self._answers[len(self.requests) % len(self._answers)]
        self.requests.append(request)
        try:
            for step in answer:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, ModelDelta):
                    yield step
                else:
                    await step.wait()
        finally:
            self.closed += 1
