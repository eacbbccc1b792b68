"""What a run said and how it ended, as rows: functions over a connection, each part of somebody's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphs.events import Event, Sequenced
from memory.sql import Connection
from serving.event_log import NOTHING, Said, pack, unpack
from serving.records import Answer, RunEnd
from serving.rows import ACTIVE, MESSAGE_COLUMNS, citations_of, end_values, message_values

_MESSAGE = ", ".join(MESSAGE_COLUMNS)
INSERT_MESSAGE = f"""INSERT INTO messages ({_MESSAGE})
SELECT :thread, coalesce(max(number), 0) + 1, :id, :role, :content, :status, :run, :citations, :now
FROM messages WHERE thread = :thread RETURNING {_MESSAGE}"""
FINISH_RUN = f"""UPDATE runs SET status = :status, finished_at = :now, model = :model, outcome = :outcome,
finish = :finish, prompt_tokens = :prompt_tokens, completion_tokens = :completion_tokens, model_calls = :model_calls,
tool_calls = :tool_calls, verdicts = :verdicts, notes = :notes, error = :error
WHERE id = :id AND process = :process AND {ACTIVE} RETURNING thread"""
SET_ANSWER = "UPDATE runs SET answer = :answer WHERE id = :id"
TOUCH_THREAD = "UPDATE threads SET updated_at = :now WHERE id = :thread"
INSERT_EVENTS = "INSERT INTO events (run, first, last, body) VALUES (?, ?, ?, ?)"
KEEP_EVENTS = f"""INSERT INTO events (run, first, last, body) SELECT id, :first, :last, :body FROM runs
WHERE id = :run AND process = :process AND {ACTIVE}
ON CONFLICT (run, first) DO UPDATE SET last = excluded.last, body = excluded.body"""
"""A part that is on its way to the file is stored once more, with what came after it, when its run stops just then."""
DELETE_EVENTS = "DELETE FROM events WHERE run = ?"
DELETE_CHECKPOINTS = ("DELETE FROM checkpoints WHERE run = ?", "DELETE FROM checkpointwrites WHERE run = ?")
SELECT_EVENTS = "SELECT first, body FROM events WHERE run = ? AND last > ? ORDER BY first"
SELECT_KEPT = """SELECT m.content, m.citations
FROM runs r JOIN messages m ON m.thread = r.thread AND m.number = r.answer WHERE r.id = ?"""


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a run's events, in order; the first has the number `first`."""

    run: str
    process: str
    """Which process says so: another's run is not written to."""
    first: int
    events: tuple[Event, ...]


def keep(connection: Connection, part: Part) -> bytes | None:
    """Stores more events of a run that is not over and still its process's, and gives them as they are kept."""
    if not part.events:
        return None
    body = pack(part.events)
    values = {
        "run": part.run, "process": part.process, "first": part.first, "last": part.first + len(part.events) - 1,
        "body": body,
    }  # fmt: skip
    return body if connection.execute(KEEP_EVENTS, values).rowcount else None


def end_run(
    connection: Connection,
    run: str,
    process: str,
    end: RunEnd,
    answer: Answer | None,
    events: Sequence[Event],
    now: str,
) -> bool:
    """Records the end of a run, its answer where it is one of a conversation, and all its events in one blob.
    False, and nothing is stored, when there is no such run, it was over, or it is no longer that process's."""
    row = connection.execute(FINISH_RUN, end_values(run, process, end, now)).fetchone()
    if row is None:
        return False
    thread, kept = row[0], NOTHING
    if thread and answer is not None:
        message = connection.execute(
            INSERT_MESSAGE, message_values(thread, run, "assistant", answer, now)
        ).fetchone()  # fmt: skip
        connection.execute(SET_ANSWER, {"id": run, "answer": message[1]})
        connection.execute(TOUCH_THREAD, {"thread": thread, "now": now})
        kept = Said(answer.content, answer.citations)
    connection.execute(DELETE_EVENTS, (run,))
    connection.execute(INSERT_EVENTS, (run, 1, len(events), pack(events, kept)))
    for statement in DELETE_CHECKPOINTS:
        connection.execute(statement, (run,))
    return True


def events_of(connection: Connection, run: str, after: int = 0) -> list[Sequenced]:
    """The stored events of a run with numbers above `after`."""
    rows = connection.execute(SELECT_EVENTS, (run, after)).fetchall()
    kept = _kept(connection, run) if rows else NOTHING
    numbered = (
        Sequenced(run, seq, event)
        for first, body in rows
        for seq, event in enumerate(unpack(run, body, kept), start=first)
    )
    return [one for one in numbered if one.seq > after]


def _kept(connection: Connection, run: str) -> Said:
    row = connection.execute(SELECT_KEPT, (run,)).fetchone()
    return NOTHING if row is None else Said(row[0], citations_of(row[1]))
