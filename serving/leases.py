"""Which process runs what: runs whose process has died are ended or queued, queued ones are taken, others are told
to stop. Whoever lives is asked before the rows are written; each write then holds only for a run that is still the
process's that was asked about. For runs of this process see turns.py."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from graphs.events import RunCancelled, RunIncomplete
from memory.sql import Connection, acting_for, every_tenant
from serving import run_log
from serving.event_log import so_far
from serving.records import Answer, Run, RunEnd
from serving.repository import Repository
from serving.rows import ACTIVE, RUN_COLUMNS, columns, run_of

DIED = "the process that ran it ended before the answer was complete"
"""What a run is told that became incomplete."""

_RUN = columns(RUN_COLUMNS)
SELECT_ACTIVE = f"SELECT id, process, background FROM runs WHERE finished_at IS NULL AND {ACTIVE} AND process <> ''"
SELECT_ONE = f"SELECT process FROM runs WHERE id = ? AND {ACTIVE}"
QUEUE = f"UPDATE runs SET status = 'queued', process = '' WHERE id = ? AND process = ? AND {ACTIVE}"
HAS_QUEUED = "SELECT 1 FROM runs WHERE finished_at IS NULL AND status = 'queued' AND process = '' LIMIT 1"
TAKE = f"""UPDATE runs SET process = ?, cancelling = 0
WHERE finished_at IS NULL AND status = 'queued' AND process = '' RETURNING {_RUN}"""
ASK = f"UPDATE runs SET cancelling = 1 WHERE id = ? AND process = ? AND {ACTIVE}"
SELECT_HELD = f"SELECT id, process, cancelling FROM runs WHERE finished_at IS NULL AND {ACTIVE} AND process <> ''"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What became of the wish that a run ends."""

    how: Literal["over", "ended", "asked"]
    process: str = ""
    """Who was asked."""


@dataclass(frozen=True, slots=True)
class Held:
    """A run that is under way, as its row says."""

    process: str
    cancelling: bool
    """Another process wants its end."""


class Leases:
    """The rows of runs as one process among others on the same database sees them."""

    def __init__(self, rows: Repository) -> None:
        self._rows, self._database, self._presence = rows, rows.database, rows.presence

    async def recover(self, alive: Collection[str] = ()) -> int:
        """Cares for runs that are under way without a process, and says how many: an interactive one becomes
        incomplete and keeps what it had said, a background one waits to be taken. `alive`: ids of the runs that this
        process works on."""
        with every_tenant():
            rows = await self._database.read(lambda connection: connection.execute(SELECT_ACTIVE).fetchall())
        dead = await self._presence.gone({process for _, process, _ in rows})
        gone = [
            (id, process, background)
            for id, process, background in rows
            if process in dead or (self._presence.is_mine(process) and id not in alive)
        ]
        if not gone:
            return 0
        now = self._rows.now()

        def care(connection: Connection) -> int:
            cared = 0
            for id, process, background in gone:
                if background:
                    cared += connection.execute(QUEUE, (id, process)).rowcount
                else:
                    cared += _end(connection, id, process, "incomplete", now)
            return cared

        with every_tenant():
            return await self._database.write(care)

    async def take(self) -> list[Run]:
        """Makes all runs that wait for a process this one's."""
        with every_tenant():
            if not await self._database.read(lambda connection: connection.execute(HAS_QUEUED).fetchone()):
                return []
            name = self._presence.name
            return await self._database.write(
                lambda connection: [run_of(row) for row in connection.execute(TAKE, (name,)).fetchall()]
            )

    async def cancel(self, tenant: str, run: str) -> Cancelled:
        """Ends a run that no living process works on ("ended"), or asks the one that does ("asked"). "over": it had
        ended. Not for a run that this process works on."""
        with acting_for(tenant):
            while True:
                row = await self._database.read(lambda connection: connection.execute(SELECT_ONE, (run,)).fetchone())
                if row is None:
                    return Cancelled("over")
                process: str = row[0]
                if not process or self._presence.is_mine(process) or await self._presence.gone({process}):
                    how, done = "ended", await self._end(run, process)
                else:
                    how, done = "asked", await self._ask(run, process)
                if done:  # else it has changed hands
                    return Cancelled(how, process)

    async def held(self) -> dict[str, Held]:
        """The runs that processes work on, by id."""
        with every_tenant():
            rows = await self._database.read(lambda connection: connection.execute(SELECT_HELD).fetchall())
        return {id: Held(process, bool(cancelling)) for id, process, cancelling in rows}

    async def _end(self, run: str, process: str) -> bool:
        now = self._rows.now()
        return await self._database.write(lambda connection: _end(connection, run, process, "cancelled", now))

    async def _ask(self, run: str, process: str) -> bool:
        return await self._database.write(lambda connection: connection.execute(ASK, (run, process)).rowcount > 0)


def _end(connection: Connection, run: str, process: str, status: Literal["cancelled", "incomplete"], now: str) -> bool:
    """Ends a run from what is stored of it. False when it is no longer that process's."""
    events = [one.event for one in run_log.events_of(connection, run)]
    said = so_far(events)
    last = RunCancelled(said.text) if status == "cancelled" else RunIncomplete(DIED, said.text)
    end = RunEnd(status, error="" if status == "cancelled" else DIED)
    answer = Answer(said.text, status, said.citations) if said.text else None
    return run_log.end_run(connection, run, process, end, answer, [*events, last], now)
