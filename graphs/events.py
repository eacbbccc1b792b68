"""What a run says while it works: the one vocabulary that every wire translates."""

from __future__ import annotations

from dataclasses import dataclass

from agents.types import Citation, Draft, Note


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
class RunFinished:
    """Last event: the answer is complete and stored."""

    draft: Draft


@dataclass(frozen=True, slots=True)
class RunFailed:
    """Last event: what was sent is incomplete. `error` is in words a person understands."""

    error: str
    text: str
    """What had been sent of the answer."""


Event = RunStarted | StepStarted | StepFinished | Token | Cited | Noted | RunFinished | RunFailed
