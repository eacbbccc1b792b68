"""Which process runs what: runs whose process has died are ended or queued, queued ones are taken, others are told
to stop. For runs of this process see turns.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Literal

from graphs.events import RunCancelled, RunIncomplete
from serving import run_log
from serving.event_log import so_far
from serving.records import Answer, Run, RunEnd
from serving.repository import Repository
from serving.rows import ACTIVE, RUN_COLUMNS, run_of

DIED = "the process that ran it ended before the answer was complete"
"""What a run is told that became incomplete."""

_RUN = ", ".join(RUN_COLUMNS)
SELECT_ACTIVE = f"SELECT id, process, background FROM runs WHERE finished_at IS NULL AND {ACTIVE} AND process <> ''"
SELECT_ONE = f"SELECT process FROM runs WHERE id = ? AND {ACTIVE}"
QUEUE = "UPDATE runs SET status = 'queued', process = '' WHERE id = ?"
TAKE = f"""UPDATE runs SET process = ?, cancelling = 0
WHERE finished_at IS NULL AND status = 'queued' AND process = '' RETURNING {_RUN}"""
ASK = "UPDATE runs SET cancelling = 1 WHERE id = ?"
SELECT_ASKED = "SELECT id FROM runs WHERE process = ? AND cancelling AND finished_at IS NULL"

Cancelled = Literal["over", "ended", "asked"]


class Leases:
    """The rows of runs as one process among others on the same file sees them."""

    def __init__(self, rows: Repository) -> None:
        self._rows, self._database, self._presence = rows, rows.database, rows.presence

    async def recover(self, alive: Collection[str] = ()) -> int:
        """Cares for runs that are under way without a process, and says how many: an interactive one becomes
        incomplete and keeps what it had said, a background one waits to be taken. `alive`: ids of the runs that this
        process works on."""
        now = self._rows.now()
        living = set(alive)

        def care(connection: sqlite3.Connection) -> int:
            rows = connection.execute(SELECT_ACTIVE).fetchall()
            gone = [(id, background) for id, process, background in rows if self._is_gone(id, process, living)]
            for id, background in gone:
                if background:
                    connection.execute(QUEUE, (id,))
                else:
                    _end(connection, id, "incomplete", now)
            return len(gone)

        return await self._database.write(care)

    async def take(self) -> list[Run]:
        """Makes all runs that wait for a process this one's."""
        name = self._presence.name
        return await self._database.write(
            lambda connection: [run_of(row) for row in connection.execute(TAKE, (name,)).fetchall()]
        )

    async def cancel(self, run: str) -> Cancelled:
        """Ends a run that no living process works on ("ended"), or asks the one that does ("asked"): it looks four
        times a second. "over": it had ended. Not for a run that this process works on."""
        now = self._rows.now()

        def stop(connection: sqlite3.Connection) -> Cancelled:
            row = connection.execute(SELECT_ONE, (run,)).fetchone()
            if row is None:
                return "over"
            if not row[0] or self._is_gone(run, row[0], set()):
                _end(connection, run, "cancelled", now)
                return "ended"
            connection.execute(ASK, (run,))
            return "asked"

        return await self._database.write(stop)

    async def asked(self) -> list[str]:
        """Ids of this process's runs whose end another process wants."""
        name = self._presence.name
        return await self._database.read(
            lambda connection: [id for (id,) in connection.execute(SELECT_ASKED, (name,))]
        )  # fmt: skip

    def _is_gone(self, run: str, process: str, alive: set[str]) -> bool:
        if process == self._presence.name:
            return run not in alive
        return self._presence.is_gone(process)


def _end(connection: sqlite3.Connection, run: str, status: Literal["cancelled", "incomplete"], now: str) -> None:
    """Ends a run from what is stored of it."""
    events = [one.event for one in run_log.events_of(connection, run)]
    said = so_far(events)
    last = RunCancelled(said.text) if status == "cancelled" else RunIncomplete(DIED, said.text)
    end = RunEnd(status, error="" if status == "cancelled" else DIED)
    answer = Answer(said.text, status, said.citations) if said.text else None
    run_log.end_run(connection, run, end, answer, [*events, last], now)
