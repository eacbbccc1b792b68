"""Rows of runs and messages, and the values of the record that they stand for."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from agents.types import Citation, Note, Usage, Verdict
from serving.ids import uuid7
from serving.records import Answer, MessageStatus, NewRun, Run, RunEnd, RunStatus, StoredMessage

MESSAGE_COLUMNS = "thread number id role content status run citations created_at".split()
RUN_COLUMNS = (
    "id tenant user thread status background process started_at finished_at model outcome finish prompt_tokens "
    "completion_tokens model_calls tool_calls verdicts notes caller_user metadata error answer"
).split()


def columns(names: Sequence[str]) -> str:
    """Their names in a statement; "user" alone would mean another thing to Postgres."""
    return ", ".join('"user"' if name == "user" else name for name in names)


ACTIVE = "status IN ('queued', 'running', 'waiting')"
"""The condition that a run is not over."""

_RUN_STATUS: dict[str, RunStatus] = {
    "queued": "queued", "running": "running", "waiting": "waiting", "finished": "finished", "failed": "failed",
    "cancelled": "cancelled", "incomplete": "incomplete",
}  # fmt: skip
_MESSAGE_STATUS: dict[str, MessageStatus] = {
    "complete": "complete", "incomplete": "incomplete", "cancelled": "cancelled", "failed": "failed",
}  # fmt: skip


def message_of(row: Sequence[str]) -> StoredMessage:
    """The message of a row of MESSAGE_COLUMNS."""
    thread, number, id, role, content, status, run, citations, created_at = row
    return StoredMessage(
        thread, int(number), id, "user" if role == "user" else "assistant", content, _MESSAGE_STATUS[status], run,
        citations_of(citations), created_at,
    )  # fmt: skip


def citations_of(text: str) -> tuple[Citation, ...]:
    """The citations of a message's column."""
    return tuple(Citation(**citation) for citation in orjson.loads(text))


def run_of(row: Sequence[str]) -> Run:
    """The run of a row of RUN_COLUMNS."""
    values = dict(zip(RUN_COLUMNS, row, strict=True))
    return Run(
        id=values["id"],
        tenant=values["tenant"],
        user=values["user"],
        thread=values["thread"],
        status=_RUN_STATUS[values["status"]],
        background=bool(values["background"]),
        process=values["process"],
        started_at=values["started_at"],
        finished_at=values["finished_at"],
        model=values["model"],
        outcome=values["outcome"],
        finish=values["finish"],
        usage=Usage(*(int(number) for number in row[RUN_COLUMNS.index("prompt_tokens") :][:4])),
        verdicts=tuple(Verdict(**verdict) for verdict in orjson.loads(values["verdicts"])),
        notes=tuple(Note(**note) for note in orjson.loads(values["notes"])),
        caller_user=values["caller_user"],
        metadata=dict[str, str](orjson.loads(values["metadata"])),
        error=values["error"],
        answer=int(values["answer"]),
    )


def new_run_values(run: NewRun, process: str, now: str) -> dict[str, str | int]:
    """A run before it starts, for INSERT_RUN."""
    return {
        "id": run.id, "tenant": run.tenant, "user": run.user, "thread": run.thread,
        "status": "queued" if run.background else "running", "background": int(run.background), "process": process,
        "now": now, "caller_user": run.caller_user, "metadata": orjson.dumps(run.metadata).decode(),
    }  # fmt: skip


def message_values(thread: str, run: str, role: str, answer: Answer, now: str) -> dict[str, str | int]:
    """A message, for INSERT_MESSAGE."""
    return {
        "thread": thread, "id": uuid7(), "role": role, "content": answer.content, "status": answer.status, "run": run,
        "citations": _json(answer.citations), "now": now,
    }  # fmt: skip


def end_values(run: str, process: str, end: RunEnd, now: str) -> dict[str, str | int]:
    """The end of a run, for FINISH_RUN."""
    return {
        "id": run, "process": process, "now": now, "status": end.status, "model": end.model, "outcome": end.outcome,
        "finish": end.finish, "prompt_tokens": end.usage.prompt_tokens,
        "completion_tokens": end.usage.completion_tokens, "model_calls": end.usage.model_calls,
        "tool_calls": end.usage.tool_calls, "verdicts": _json(end.verdicts), "notes": _json(end.notes),
        "error": end.error,
    }  # fmt: skip


def _json(values: Sequence[Verdict] | Sequence[Note] | Sequence[Citation]) -> str:
    return orjson.dumps(values).decode()
