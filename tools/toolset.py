"""Toolset, the port: some tools, listed and called; wrappers combine them and put the guard in front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tools.types import ToolCall, ToolResult, ToolSpec


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a tool is called."""

    tenant: str
    user: str


class Toolset(Protocol):
    """Tools behind one door; MCP servers will be one implementation."""

    async def list(self) -> list[ToolSpec]:
        """The tools, in a fixed order (the prompt prefix depends on it)."""
        ...

    async def call(self, caller: Caller, call: ToolCall) -> ToolResult:
        """Runs one call. Unknown tools, wrong arguments, time-outs and failures of the tool are results with
        `failed` set and a text that says what to do; only bugs and cancellation raise."""
        ...
