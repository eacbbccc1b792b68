"""How a run is started, stopped and taken up again: data that its caller has without loading LangGraph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tools.types import JsonValue

Durability = Literal["sync", "exit"]
"""When a run's checkpoint is on disk. sync: before the next step begins, so that a killed process loses no step that
ended. exit: when the run pauses, and never when it ends."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with a run from its last checkpoint instead of from its beginning."""

    answers: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """Id of an ApprovalRequested to what a person decided; empty after a crash or when the run was parked."""


class Park:
    """Asks one run to stop between two steps, where it can be taken up again. `request` may come from any thread."""

    def __init__(self) -> None:
        self._requested = False

    @property
    def requested(self) -> bool:
        """The run is to stop."""
        return self._requested

    def request(self) -> None:
        """Stops the run before its next step; a step that has begun is finished first."""
        self._requested = True
