"""What a run says while it works: the one vocabulary that every wire translates."""

from __future__ import annotations

from dataclasses import dataclass

from agents.types import Citation, Draft, Emitted, Note, TextDelta
from tools.types import JsonValue


@dataclass(frozen=True, slots=True)
class RunStarted:
    """First event of a run."""

    run: str


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A node began to work."""

    step: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A node ended."""

    step: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Cited:
    """The answer cited a passage for the first time."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class Noted:
    """Something the user should know."""

    note: Note


@dataclass(frozen=True, slots=True)
class AnswerRestarted:
    """The run was taken up again after a crash: tokens, citations and notes before this are void."""


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """The run waits for a person."""

    id: str
    """What the decision must name."""
    value: JsonValue
    """What is to be decided."""


@dataclass(frozen=True, slots=True)
class RunFinished:
    """Last event: the answer is complete and stored."""

    draft: Draft


@dataclass(frozen=True, slots=True)
class RunFailed:
    """Last event: what was sent is incomplete. `error` is in words a person understands."""

    error: str
    text: str
    """What had been sent of the answer."""


@dataclass(frozen=True, slots=True)
class RunCancelled:
    """Last event: the client left or cancelled the run; what was sent is not the whole answer."""

    text: str


@dataclass(frozen=True, slots=True)
class RunIncomplete:
    """Last event: the process that ran it ended first; what was sent is not the whole answer."""

    error: str
    text: str


Ending = RunFinished | RunFailed | RunCancelled | RunIncomplete
"""What comes last, exactly once."""
Event = (
    RunStarted | StepStarted | StepFinished | Token | Cited | Noted | AnswerRestarted | ApprovalRequested | Ending
)  # fmt: skip


def emitted(item: Emitted) -> Event:
    """What an agent sends out, as an event of its run."""
    match item:
        case TextDelta(text):
            return Token(text)
        case Citation():
            return Cited(item)
        case Note():
            return Noted(item)


@dataclass(frozen=True, slots=True)
class Sequenced:
    """An event with its place among those of its run."""

    run: str
    seq: int
    """From 1, without gaps."""
    event: Event
