"""Data of tools: what one can do, one call, and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memory.types import Label

Effect = Literal["read", "open", "write", "egress", "destroy", "admin", "spend"]
"""SAFETY section 1; "open" is a read that sends its arguments out."""

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
"""A value of JSON: arguments and results of tools, schemas."""
JsonObject = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as models see it."""

    name: str
    description: str
    parameters: JsonObject
    """JSON Schema of the arguments."""
    effect: Effect = "read"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One wish to use a tool."""

    id: str
    name: str
    arguments: str
    """JSON text as it came; `Toolset.call` checks it."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came back; a failure is a value, told to the model."""

    call: str
    """Id of the call."""
    text: str
    label: Label
    failed: bool = False
    data: JsonValue = None
