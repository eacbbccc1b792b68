"""Turns as rows: what is stored when a run begins, while it works and when it ends, each in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from agents.types import Message
from graphs.events import Event, RunCancelled, RunFailed, RunFinished, RunIncomplete, Sequenced
from memory.sql import Connection, SqlDatabase, acting_for, every_tenant
from serving import run_log
from serving.event_log import so_far
from serving.processes import Presence
from serving.records import (
    Answer,
    EventsGone,
    NewRun,
    Run,
    RunEnd,
    StoredMessage,
    Thread,
    ThreadBusy,
    UnknownThread,
)
from serving.rows import (
    ACTIVE,
    MESSAGE_COLUMNS,
    RUN_COLUMNS,
    columns,
    message_of,
    message_values,
    new_run_values,
    run_of,
)
from serving.run_log import INSERT_MESSAGE, Part
from serving.times import stamp
from serving.titles import title_of

SCHEMA = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
"""DDL of the tables, made from serving/tables.py."""

_THREAD = 'id, tenant, "user", title, created_at, updated_at, summary, summary_upto'
_MESSAGE = ", ".join(MESSAGE_COLUMNS)
_RUN = columns(RUN_COLUMNS)
_OWNED = 'tenant = :tenant AND "user" = :user'

SELECT_THREAD = f"SELECT {_THREAD} FROM threads WHERE id = :id AND {_OWNED}"
BEGIN_THREAD = f"""UPDATE threads SET updated_at = :now, title = CASE title WHEN '' THEN :title ELSE title END
WHERE id = :thread AND {_OWNED} RETURNING summary, summary_upto"""
SET_SUMMARY = f"""UPDATE threads SET summary = :summary, summary_upto = :upto
WHERE id = :thread AND {_OWNED} AND summary_upto <= :upto"""
SELECT_MESSAGES = f"""SELECT {_MESSAGE} FROM messages WHERE thread = :thread AND number > :after
AND EXISTS (SELECT 1 FROM threads WHERE id = :thread AND {_OWNED}) ORDER BY number DESC LIMIT :limit"""
SELECT_HISTORY = """SELECT role, content FROM messages WHERE thread = :thread AND number > :after
ORDER BY number DESC LIMIT :limit"""
SELECT_ASKED = """SELECT t.summary, t.summary_upto,
(SELECT max(number) FROM messages m WHERE m.thread = t.id AND m.run = :run AND m.role = 'user')
FROM threads t WHERE t.id = :thread"""
SELECT_HISTORY_UPTO = """SELECT role, content FROM messages WHERE thread = :thread AND number > :after
AND number <= :upto ORDER BY number DESC LIMIT :limit"""
INSERT_RUN = f"""INSERT INTO runs ({_RUN}, cancelling) VALUES (:id, :tenant, :user, :thread, :status, :background,
:process, :now, NULL, '', '', '', 0, 0, 0, 0, '[]', '[]', :caller_user, :metadata, '', 0, 0)"""
SELECT_ACTIVE = f"SELECT id FROM runs WHERE thread = :thread AND thread <> '' AND {ACTIVE}"
SELECT_RUN = f"SELECT {_RUN} FROM runs WHERE id = :id AND {_OWNED}"
SELECT_OVER = f"SELECT NOT {ACTIVE} FROM runs WHERE id = ?"
SELECT_ANSWER = f"SELECT {_MESSAGE} FROM messages WHERE thread = :thread AND number = :number"
HAS_EVENTS = "SELECT 1 FROM events WHERE run = ? LIMIT 1"
START_RUN = f"UPDATE runs SET status = 'running' WHERE id = :id AND process = :process AND {ACTIVE}"
REST_RUN = f"UPDATE runs SET status = :status, process = '' WHERE id = :id AND process = :process AND {ACTIVE}"

HISTORY_MESSAGES = 1000
"""So many of a conversation's messages, at most, are what a turn knows beside the summary."""

Claim = Callable[[Connection, str], None]
"""What else is stored with a new run, whose id it gets; what it raises leaves nothing stored."""


@dataclass(frozen=True, slots=True)
class History:
    """What a turn knows of its conversation: its newest messages, oldest first, and the summary of those before."""

    summary: str
    messages: tuple[tuple[str, str], ...]
    """Role ("user" or "assistant") and text."""


@dataclass(frozen=True, slots=True)
class Told:
    """Stored events of a run."""

    events: list[Sequenced]
    over: bool
    """The run has ended: no more will come."""


class Repository:
    """Reads and writes the rows; what is read for somebody is bound to its owner."""

    def __init__(
        self, database: SqlDatabase, presence: Presence, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """`presence`: runs that begin here are its process's; whoever opened it closes it."""
        self.database, self.presence = database, presence
        self._clock = clock

    def now(self) -> str:
        """This moment as it is stored."""
        return stamp(self._clock())

    async def thread(self, tenant: str, user: str, id: str) -> Thread | None:
        """The owner's conversation of that id."""
        values = {"id": id, "tenant": tenant, "user": user}
        with acting_for(tenant):
            rows = await self.database.read(lambda connection: connection.execute(SELECT_THREAD, values).fetchall())
        return Thread(*rows[0]) if rows else None

    async def messages(
        self, tenant: str, user: str, thread: str, limit: int = 1000, after: int = 0
    ) -> list[StoredMessage]:
        """The newest `limit` messages with a number above `after`, oldest first; none of another owner's thread."""
        values = {"thread": thread, "tenant": tenant, "user": user, "after": after, "limit": limit}
        with acting_for(tenant):
            rows = await self.database.read(lambda connection: connection.execute(SELECT_MESSAGES, values).fetchall())
        return [message_of(row) for row in reversed(rows)]

    async def set_summary(self, tenant: str, user: str, thread: str, summary: str, upto: int) -> None:
        """Replaces the running summary, which now covers messages 1 to `upto`; an older summary never wins."""
        values = {"thread": thread, "tenant": tenant, "user": user, "summary": summary, "upto": upto}
        with acting_for(tenant):
            await self.database.write(lambda connection: _execute(connection, SET_SUMMARY, values))

    async def begin(self, run: NewRun, messages: Sequence[Message] = (), claim: Claim | None = None) -> History:
        """Stores a run before it starts and, in a conversation, the new messages that it is to answer; returns what
        the turn then knows. A conversation without a name is called after the first of the user's messages.

        Raises:
            UnknownThread: `run.thread` is no conversation of that owner.
            ThreadBusy: the conversation has a run that is not over.
        """
        values = new_run_values(run, self.presence.name, self.now())
        values["title"] = title_of(next((message.content for message in messages if message.role == "user"), ""))

        def store(connection: Connection) -> History:
            if claim is not None:
                claim(connection, run.id)
            if not run.thread:
                connection.execute(INSERT_RUN, values)
                return History("", ())
            found = connection.execute(BEGIN_THREAD, values).fetchone()
            if found is None:
                raise UnknownThread(f"there is no conversation {run.thread}")
            busy = connection.execute(SELECT_ACTIVE, values).fetchone()
            if busy is not None:
                raise ThreadBusy(busy[0])
            connection.execute(INSERT_RUN, values)
            for message in messages:
                said = message_values(run.thread, run.id, message.role, Answer(message.content), str(values["now"]))
                connection.execute(INSERT_MESSAGE, said).fetchone()
            asked = {"thread": run.thread, "after": found[1], "limit": HISTORY_MESSAGES}
            return History(found[0], tuple(reversed(connection.execute(SELECT_HISTORY, asked).fetchall())))

        with acting_for(run.tenant):
            return await self.database.write(store)

    async def asked(self, run: Run) -> History:
        """What a run in a conversation that began before was asked and knew."""

        def select(connection: Connection) -> History:
            values = {"thread": run.thread, "run": run.id}
            summary, after, upto = connection.execute(SELECT_ASKED, values).fetchone()
            window = {"thread": run.thread, "after": after, "upto": upto, "limit": HISTORY_MESSAGES}
            return History(summary, tuple(reversed(connection.execute(SELECT_HISTORY_UPTO, window).fetchall())))

        with acting_for(run.tenant):
            return await self.database.read(select)

    async def start_run(self, id: str, process: str) -> bool:
        """A run that was queued works from now on. False when it is not, or no longer, that process's."""
        values = {"id": id, "process": process}
        return await self.database.write(lambda connection: connection.execute(START_RUN, values).rowcount > 0)

    async def keep_events(self, parts: Sequence[Part]) -> list[bytes | None]:
        """Stores what runs under way have said since the last time; each part as it is kept, None for one of a run
        that is no longer its process's, of which nothing is stored."""
        with every_tenant():
            return await self.database.write(lambda connection: [run_log.keep(connection, part) for part in parts])

    async def rest_run(self, status: Literal["queued", "waiting"], part: Part) -> None:
        """A run stops here for now, with its last events; nobody runs it. Nothing changes when it is no longer the
        part's process's."""

        def store(connection: Connection) -> None:
            run_log.keep(connection, part)
            connection.execute(REST_RUN, {"id": part.run, "process": part.process, "status": status})

        await self.database.write(store)

    async def finish_run(
        self, run: str, process: str, end: RunEnd, answer: Answer | None = None, events: Sequence[Event] = ()
    ) -> bool:
        """Records how a run ended, the answer of one in a conversation as it was sent, and all events of the run,
        the last included. False, and nothing is stored, of a run that nobody began, that was over, or that is no
        longer that process's."""
        now = self.now()
        return await self.database.write(
            lambda connection: run_log.end_run(connection, run, process, end, answer, events, now)
        )

    async def run(self, tenant: str, user: str, id: str) -> Run | None:
        """The owner's run of that id."""
        values = {"id": id, "tenant": tenant, "user": user}
        with acting_for(tenant):
            rows = await self.database.read(lambda connection: connection.execute(SELECT_RUN, values).fetchall())
        return run_of(rows[0]) if rows else None

    async def answer(self, run: Run) -> Answer | None:
        """What a run answered: its message, or, of a stateless run, what its events tell while they are kept. None
        when it said nothing or is not over."""
        values = {"thread": run.thread, "number": run.answer}
        with acting_for(run.tenant):
            if not run.thread:
                return _told(await self.database.read(lambda connection: run_log.events_of(connection, run.id)))
            rows = await self.database.read(lambda connection: connection.execute(SELECT_ANSWER, values).fetchall())
        messages = [message_of(row) for row in rows]
        return Answer(messages[0].content, messages[0].status, messages[0].citations) if messages else None

    async def events(self, tenant: str, run: str, after: int) -> Told:
        """The stored events of a run with numbers above `after`.

        Raises:
            EventsGone: the run is over and its events are no longer kept, or it has been removed.
        """

        def select(connection: Connection) -> Told:
            row = connection.execute(SELECT_OVER, (run,)).fetchone()
            if row is None or (row[0] and connection.execute(HAS_EVENTS, (run,)).fetchone() is None):
                raise EventsGone(f"the events of run {run} are no longer kept")
            return Told(run_log.events_of(connection, run, after), bool(row[0]))

        with acting_for(tenant):
            return await self.database.read(select)


def _told(events: Sequence[Sequenced]) -> Answer | None:
    """The answer of a stateless run that is over."""
    last = events[-1].event if events else None
    said = so_far(one.event for one in events)
    match last:
        case RunFinished(draft):
            return Answer(draft.text, "complete", draft.citations)
        case RunFailed() if said.text:
            return Answer(said.text, "failed", said.citations)
        case RunCancelled() if said.text:
            return Answer(said.text, "cancelled", said.citations)
        case RunIncomplete() if said.text:
            return Answer(said.text, "incomplete", said.citations)
        case _:
            return None


def _execute(connection: Connection, sql: str, values: dict[str, str] | dict[str, str | int]) -> None:
    connection.execute(sql, values)
