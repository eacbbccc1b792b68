"""Data of the record: conversations, their messages, and the runs that answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from agents.types import Citation, Draft, Note, Usage, Verdict

MessageStatus = Literal["complete", "incomplete", "cancelled", "failed"]
RunStatus = Literal["queued", "running", "waiting", "finished", "failed", "cancelled", "incomplete"]
EndStatus = Literal["finished", "failed", "cancelled", "incomplete"]


@dataclass(frozen=True, slots=True)
class Thread:
    """A stored conversation."""

    id: str
    tenant: str
    user: str
    title: str
    created_at: str
    """RFC 3339, UTC."""
    updated_at: str
    summary: str = ""
    """Running summary of the messages up to number `summary_upto`."""
    summary_upto: int = 0


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message of a stored conversation."""

    thread: str
    number: int
    """From 1, without gaps."""
    id: str
    role: Literal["user", "assistant"]
    content: str
    status: MessageStatus
    run: str
    citations: tuple[Citation, ...]
    created_at: str


@dataclass(frozen=True, slots=True)
class NewRun:
    """What is known of a run before it starts."""

    id: str
    tenant: str
    user: str
    thread: str = ""
    """"" for a stateless turn."""
    caller_user: str = ""
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    background: bool = False


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended."""

    status: EndStatus
    model: str = ""
    outcome: str = ""
    finish: str = ""
    usage: Usage = Usage()
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[Note, ...] = ()
    error: str = ""

    @classmethod
    def of(cls, draft: Draft) -> RunEnd:
        """The end of a run that gave this whole answer."""
        return cls(
            "finished", draft.model, draft.outcome, draft.finish, draft.usage, draft.verdicts, draft.notes
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """The assistant's message of a run, as it was sent."""

    content: str
    status: MessageStatus = "complete"
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One turn of the engine as it is recorded."""

    id: str
    tenant: str
    user: str
    thread: str
    status: RunStatus
    background: bool
    """It goes on when its client leaves, and is taken up again when its process dies."""
    process: str
    """The process that runs it (serving/processes.py); "" while none does."""
    started_at: str
    finished_at: str | None
    model: str
    outcome: str
    finish: str
    usage: Usage
    verdicts: tuple[Verdict, ...]
    notes: tuple[Note, ...]
    caller_user: str
    metadata: dict[str, str]
    error: str
    answer: int
    """Number of the message in the conversation that answers it; 0 when there is none."""


class UnknownThread(Exception):
    """The owner has no such conversation."""


class ThreadBusy(Exception):
    """The conversation has a run that is not over; `run` is its id."""

    def __init__(self, run: str) -> None:
        super().__init__(f"this conversation is busy with run {run}; wait for its end")
        self.run = run


class ServerStopping(Exception):
    """This process has been told to stop and starts no more runs."""


class EventsGone(Exception):
    """The events of a run that is over are no longer kept."""
