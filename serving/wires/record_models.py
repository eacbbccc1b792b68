"""Conversations, messages, runs and lists of them, as the API's description shows them (serving/shapes.py makes
them)."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from serving.paging import DEFAULT_LIMIT, MAX_LIMIT

THREAD = "0198c0dd-11aa-7bbb-8ccc-0123456789ab"
RUN = "0198c0de-5a1f-7c3e-9b2a-4d5e6f708192"
MESSAGE = "0198c0de-5a20-7d4f-8c3b-5e6f70819203"
TIME = "2026-11-21T16:30:00.000Z"

Cursor = Annotated[
    str | None, Query(min_length=1, max_length=200, description="`next_cursor` of the page before; none: the start.")
]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most.")]
USUAL = DEFAULT_LIMIT


class ThreadModel(BaseModel):
    """A conversation."""

    id: str = Field(examples=[THREAD])
    title: str = Field(description='Its first question until it is given another one; "" before that.')
    created_at: str = Field(examples=[TIME], description="RFC 3339, UTC, as every time here.")
    updated_at: str = Field(examples=[TIME])


class CitationModel(BaseModel):
    """What an answer cites as `[index]`."""

    index: int
    document: str
    passage: str
    title: str
    path: str
    quote: str = Field(description="Verbatim.")
    page: int | None
    heading: str
    start: int = Field(description="Where the quote stands in the document's parsed text, in characters.")
    end: int
    url: str


class MessageModel(BaseModel):
    """A message of a conversation."""

    id: str = Field(examples=[MESSAGE])
    role: Literal["user", "assistant"]
    content: str
    status: Literal["complete", "incomplete", "cancelled", "failed"] = Field(
        description="Other than complete: the answer broke off here, and how."
    )
    run_id: str | None = Field(examples=[RUN], description="The run that it started or came from.")
    citations: list[CitationModel]
    created_at: str = Field(examples=[TIME])


class NoteModel(BaseModel):
    """Something to know beside the answer."""

    code: str = Field(examples=["no_model"])
    text: str


class UsageModel(BaseModel):
    """What all calls of a run used."""

    prompt_tokens: int
    completion_tokens: int
    model_calls: int
    tool_calls: int


class RunModel(BaseModel):
    """One turn: a question and what came of it."""

    id: str = Field(examples=[RUN])
    thread_id: str | None = Field(examples=[THREAD], description="null: a stateless call below /v1.")
    status: Literal["queued", "running", "waiting", "finished", "failed", "cancelled", "incomplete"]
    answer: str | None = Field(description="Whole only when the status is finished; null: nothing was said.")
    citations: list[CitationModel]
    usage: UsageModel
    notes: list[NoteModel]
    started_at: str = Field(examples=[TIME])
    finished_at: str | None = Field(examples=[TIME])
    error: str | None = Field(description="What went wrong, in words a person understands.")


class EventModel(BaseModel, extra="allow"):
    """One event of a run; each type has fields of its own."""

    type: Literal[
        "run.started", "step.started", "step.finished", "token", "citation", "note", "approval.requested",
        "answer.restarted", "run.finished", "run.failed", "run.cancelled", "run.incomplete",
    ]  # fmt: skip
    run_id: str = Field(examples=[RUN])
    seq: int = Field(description="From 1, without gaps.")


class ThreadPage(BaseModel):
    """Some conversations, newest made first."""

    items: list[ThreadModel]
    next_cursor: str | None


class MessagePage(BaseModel):
    """Some messages, oldest first."""

    items: list[MessageModel]
    next_cursor: str | None


class RunPage(BaseModel):
    """Some runs, newest first."""

    items: list[RunModel]
    next_cursor: str | None


class EventPage(BaseModel):
    """Some events, in order."""

    items: list[EventModel]
    next_cursor: str | None
