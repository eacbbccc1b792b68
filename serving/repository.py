"""Conversations and runs as rows: the record that is listed, searched, exported, erased and fed to prompts."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from agents.types import Citation, Note, Usage, Verdict
from memory.sqlite import Database
from serving.ids import uuid7
from serving.records import Answer, NewRun, Run, RunEnd, RunStatus, StoredMessage, Thread, UnknownThread

SCHEMA = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
"""DDL of the tables, made from serving/tables.py."""

STALE_HOURS = 1
"""Far more than a turn may last: a run older than this that still says "running" has no process any more."""

_THREAD = "id, tenant, user, title, created_at, updated_at, summary, summary_upto"
_MESSAGE = "thread, number, id, role, content, status, run, citations, created_at"
RUN_COLUMNS = (
    "id tenant user thread status background process started_at finished_at model outcome finish prompt_tokens "
    "completion_tokens model_calls tool_calls verdicts notes caller_user metadata error"
).split()
_RUN = ", ".join(RUN_COLUMNS)
RUN_STATUS: dict[str, RunStatus] = {
    status: status for status in ("running", "finished", "failed", "cancelled", "incomplete")
}

INSERT_THREAD = f"INSERT INTO threads ({_THREAD}) VALUES (:id, :tenant, :user, :title, :now, :now, '', 0)"
SELECT_THREAD = f"SELECT {_THREAD} FROM threads WHERE id = :id AND tenant = :tenant AND user = :user"
SELECT_THREADS = f"""SELECT {_THREAD} FROM threads WHERE tenant = :tenant AND user = :user
ORDER BY updated_at DESC, id DESC LIMIT :limit"""
TOUCH_THREAD = "UPDATE threads SET updated_at = :now WHERE id = :thread AND tenant = :tenant AND user = :user"
SET_SUMMARY = """UPDATE threads SET summary = :summary, summary_upto = :upto
WHERE id = :thread AND tenant = :tenant AND user = :user AND summary_upto <= :upto"""
INSERT_MESSAGE = f"""INSERT INTO messages ({_MESSAGE})
SELECT :thread, coalesce(max(number), 0) + 1, :id, :role, :content, :status, :run, :citations, :now
FROM messages WHERE thread = :thread RETURNING {_MESSAGE}"""
SELECT_MESSAGES = f"""SELECT {_MESSAGE} FROM messages WHERE thread = :thread AND number > :after
AND EXISTS (SELECT 1 FROM threads WHERE id = :thread AND tenant = :tenant AND user = :user)
ORDER BY number DESC LIMIT :limit"""
INSERT_RUN = f"""INSERT INTO runs ({_RUN}) VALUES (:id, :tenant, :user, :thread, 'running', 0, :process, :now, NULL,
'', '', '', 0, 0, 0, 0, '[]', '[]', :caller_user, :metadata, '')"""
FINISH_RUN = """UPDATE runs SET status = :status, finished_at = :now, model = :model, outcome = :outcome,
finish = :finish, prompt_tokens = :prompt_tokens, completion_tokens = :completion_tokens, model_calls = :model_calls,
tool_calls = :tool_calls, verdicts = :verdicts, notes = :notes, error = :error
WHERE id = :id RETURNING thread, tenant, user"""
SELECT_RUN = f"SELECT {_RUN} FROM runs WHERE id = :id AND tenant = :tenant AND user = :user"
SELECT_RUNNING = "SELECT id, process, started_at FROM runs WHERE status = 'running'"
INTERRUPT_RUN = """UPDATE runs SET status = 'incomplete', finished_at = :now,
error = 'the process that ran it ended before the answer was complete' WHERE id = :id AND status = 'running'"""


class Repository:
    """Reads and writes the rows through the owner of the one file; everything is bound to its tenant and user."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._host = socket.gethostname()
        self._process = f"{self._host}:{os.getpid()}"

    async def create_thread(self, tenant: str, user: str, title: str = "") -> Thread:
        """A new, empty conversation."""
        thread = Thread(uuid7(), tenant, user, title, now := _now(), now)
        values = {"id": thread.id, "tenant": tenant, "user": user, "title": title, "now": now}
        await self._database.write(lambda connection: _execute(connection, INSERT_THREAD, values))
        return thread

    async def thread(self, tenant: str, user: str, id: str) -> Thread | None:
        """The owner's conversation of that id."""
        values = {"id": id, "tenant": tenant, "user": user}
        rows = await self._database.read(lambda connection: connection.execute(SELECT_THREAD, values).fetchall())
        return Thread(*rows[0]) if rows else None

    async def threads(self, tenant: str, user: str, limit: int = 100) -> list[Thread]:
        """The owner's conversations, last changed first."""
        values = {"tenant": tenant, "user": user, "limit": limit}
        rows = await self._database.read(lambda connection: connection.execute(SELECT_THREADS, values).fetchall())
        return [Thread(*row) for row in rows]

    async def messages(
        self, tenant: str, user: str, thread: str, limit: int = 1000, after: int = 0
    ) -> list[StoredMessage]:
        """The newest `limit` messages with a number above `after`, oldest first; none of another owner's thread."""
        values = {"thread": thread, "tenant": tenant, "user": user, "after": after, "limit": limit}
        rows = await self._database.read(lambda connection: connection.execute(SELECT_MESSAGES, values).fetchall())
        return [_message(row) for row in reversed(rows)]

    async def set_summary(self, tenant: str, user: str, thread: str, summary: str, upto: int) -> None:
        """Replaces the running summary, which now covers messages 1 to `upto`; an older summary never wins."""
        values = {"thread": thread, "tenant": tenant, "user": user, "summary": summary, "upto": upto}
        await self._database.write(lambda connection: _execute(connection, SET_SUMMARY, values))

    async def start_run(self, run: NewRun) -> None:
        """Records a stateless run before it starts."""
        values = self._start_values(run)
        await self._database.write(lambda connection: _execute(connection, INSERT_RUN, values))

    async def add_user_message_and_run(self, run: NewRun, content: str) -> StoredMessage:
        """Stores the user's message and the run that will answer it, in one transaction.

        Raises:
            UnknownThread: `run.thread` is no conversation of that owner; nothing is stored.
        """
        started = self._start_values(run)
        said = _message_values(run.thread, run.id, "user", Answer(content), str(started["now"]))

        def both(connection: sqlite3.Connection) -> StoredMessage:
            if connection.execute(TOUCH_THREAD, started).rowcount == 0:
                raise UnknownThread(f"there is no conversation {run.thread}")
            connection.execute(INSERT_RUN, started)
            return _message(connection.execute(INSERT_MESSAGE, said).fetchone())

        return await self._database.write(both)

    async def finish_run(self, run: str, end: RunEnd, answer: Answer | None = None) -> None:
        """Records how a run ended and, of a run in a conversation, the answer as it was sent, in one transaction."""
        ended = _end_values(run, end)

        def both(connection: sqlite3.Connection) -> None:
            row = connection.execute(FINISH_RUN, ended).fetchone()
            if row is None or not row[0] or answer is None:
                return
            connection.execute(INSERT_MESSAGE, _message_values(row[0], run, "assistant", answer, str(ended["now"])))
            touched = {"thread": row[0], "tenant": row[1], "user": row[2], "now": ended["now"]}
            connection.execute(TOUCH_THREAD, touched)

        await self._database.write(both)

    async def run(self, tenant: str, user: str, id: str) -> Run | None:
        """The owner's run of that id."""
        values = {"id": id, "tenant": tenant, "user": user}
        rows = await self._database.read(lambda connection: connection.execute(SELECT_RUN, values).fetchall())
        return _run(rows[0]) if rows else None

    async def interrupt_stale_runs(self) -> int:
        """Marks runs whose process has died as incomplete, and says how many. For the start of a process.

        A run is stale when its process is on this host and gone (or had this process's own number, which is
        new), or when it is older than `STALE_HOURS`; runs of living processes on the same file stay.
        """
        oldest = _stamp(datetime.now(UTC) - timedelta(hours=STALE_HOURS))

        def interrupt(connection: sqlite3.Connection) -> int:
            rows = connection.execute(SELECT_RUNNING).fetchall()
            stale = [{"id": id, "now": _now()} for id, process, started in rows
                     if started < oldest or self._is_gone(process)]  # fmt: skip
            connection.executemany(INTERRUPT_RUN, stale)
            return len(stale)

        return await self._database.write(interrupt)

    def _is_gone(self, process: str) -> bool:
        host, _, pid = process.rpartition(":")
        if host != self._host:
            return False
        return process == self._process or not _is_alive(int(pid))

    def _start_values(self, run: NewRun) -> dict[str, str]:
        return {
            "id": run.id, "tenant": run.tenant, "user": run.user, "thread": run.thread, "process": self._process,
            "now": _now(), "caller_user": run.caller_user, "metadata": orjson.dumps(run.metadata).decode(),
        }  # fmt: skip


def _execute(connection: sqlite3.Connection, sql: str, values: dict[str, str] | dict[str, str | int]) -> None:
    connection.execute(sql, values)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _now() -> str:
    return _stamp(datetime.now(UTC))


def _stamp(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(values: Sequence[Verdict] | Sequence[Note] | Sequence[Citation]) -> str:
    return orjson.dumps(values).decode()


def _message_values(thread: str, run: str, role: str, answer: Answer, now: str) -> dict[str, str]:
    return {
        "thread": thread, "id": uuid7(), "role": role, "content": answer.content, "status": answer.status, "run": run,
        "citations": _json(answer.citations), "now": now,
    }  # fmt: skip


def _end_values(run: str, end: RunEnd) -> dict[str, str | int]:
    return {
        "id": run, "now": _now(), "status": end.status, "model": end.model, "outcome": end.outcome,
        "finish": end.finish, "prompt_tokens": end.usage.prompt_tokens,
        "completion_tokens": end.usage.completion_tokens, "model_calls": end.usage.model_calls,
        "tool_calls": end.usage.tool_calls, "verdicts": _json(end.verdicts), "notes": _json(end.notes),
        "error": end.error,
    }  # fmt: skip


def _message(row: Sequence[str]) -> StoredMessage:
    thread, number, id, role, content, status, run, citations, created_at = row
    return StoredMessage(
        thread, int(number), id, "user" if role == "user" else "assistant", content,
        "complete" if status == "complete" else "incomplete", run,
        tuple(Citation(**citation) for citation in orjson.loads(citations)), created_at,
    )  # fmt: skip


def _run(row: Sequence[str]) -> Run:
    values = dict(zip(RUN_COLUMNS, row, strict=True))
    return Run(
        id=values["id"],
        tenant=values["tenant"],
        user=values["user"],
        thread=values["thread"],
        status=RUN_STATUS[values["status"]],
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
    )
