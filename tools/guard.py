"""Guard: the wrapper round every toolset: policy, arguments, time-out, size cap and labels of results."""

from __future__ import annotations

from dataclasses import replace

import anyio

from memory.types import TRUST_NONE, TRUST_SYSTEM, Label
from tools.arguments import ArgumentError, parse
from tools.policy import decide
from tools.toolset import Caller, Toolset
from tools.types import ToolCall, ToolResult, ToolSpec


class Guard:
    """A toolset that lets only decided, well-formed calls through and never hands on more than it should."""

    def __init__(self, inner: Toolset, server: str, *, seconds: float = 10.0, max_chars: int = 16_000) -> None:
        self._inner = inner
        self._server = server
        self._seconds = seconds
        self._max_chars = max_chars

    async def list(self) -> list[ToolSpec]:
        """The inner toolset's tools."""
        return await self._inner.list()

    async def call(self, caller: Caller, call: ToolCall) -> ToolResult:
        """Runs a call that the policy allows and whose arguments fit; every refusal is a failed result."""
        origin = f"tool:{self._server}/{call.name}"
        spec = next((spec for spec in await self._inner.list() if spec.name == call.name), None)
        written = Label(tenant=caller.tenant, origin="model", trust=TRUST_NONE)
        decision = decide(spec, caller.tenant, written)
        if spec is None or decision.verdict != "allow":
            return _failed(caller, call, origin, f"{call.name} was not called: {decision.reason}.")
        try:
            parse(call.arguments, spec.parameters)
        except ArgumentError as error:
            return _failed(caller, call, origin, f"{call.name} was not called: {error}.")
        try:
            with anyio.fail_after(self._seconds):
                result = await self._inner.call(caller, call)
        except TimeoutError:
            return _failed(caller, call, origin, f"{call.name} gave no result within {self._seconds:g} s.")
        return self._bounded(caller, call, origin, result)

    def _bounded(self, caller: Caller, call: ToolCall, origin: str, result: ToolResult) -> ToolResult:
        label = result.label
        if label.tenant != caller.tenant:
            return _failed(caller, call, origin, f"{call.name} returned something that belongs to someone else.")
        text = result.text
        if len(text) > self._max_chars:
            text = f"{text[: self._max_chars]}\n... ({len(text) - self._max_chars} more characters left out)"
        label = replace(label, origin=origin, trust=min(label.trust, TRUST_SYSTEM))  # no tool speaks for the user
        return replace(result, call=call.id, text=text, label=label)


def _failed(caller: Caller, call: ToolCall, origin: str, text: str) -> ToolResult:
    return ToolResult(call.id, text, Label(caller.tenant, origin, TRUST_NONE), failed=True)
