"""Feedback: what users think of answers; the last word of each on a run counts."""

from __future__ import annotations

from dataclasses import dataclass

from memory.sql import Connection, SqlDatabase, acting_for
from serving.idempotency import Claim, keep
from serving.principal import Principal
from serving.times import now

_OWNED = 'tenant = :tenant AND "user" = :user'
_FEEDBACK = "run, rating, reason, created_at"
SELECT_RUN = f"SELECT 1 FROM runs WHERE id = :run AND {_OWNED}"
PUT = f"""INSERT INTO feedback (tenant, "user", {_FEEDBACK}) VALUES (:tenant, :user, :run, :rating, :reason, :now)
ON CONFLICT (tenant, "user", run) DO UPDATE
SET rating = excluded.rating, reason = excluded.reason, created_at = excluded.created_at"""
SELECT = f"SELECT {_FEEDBACK} FROM feedback WHERE {_OWNED} AND run = :run"
SELECT_OF_THREAD = f"""SELECT {_FEEDBACK} FROM feedback WHERE {_OWNED}
AND run IN (SELECT id FROM runs WHERE thread = :thread AND {_OWNED}) ORDER BY run"""


class UnknownRun(Exception):
    """The owner has no such run."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one user thinks of one answer."""

    run: str
    rating: int
    """1 or -1."""
    reason: str
    created_at: str


class FeedbackStore:
    """Feedback on the runs of an owner, by that owner."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def put(
        self, who: Principal, run: str, rating: int, reason: str = "", claim: Claim | None = None
    ) -> Feedback:
        """Stores what the owner thinks of a run, in place of what they thought before.

        Raises:
            UnknownRun: the owner has no such run.
            AlreadyMade: `claim` came before; nothing is stored.
            KeyReused: the claim's key came before with another request.
        """
        feedback = Feedback(run, rating, reason, now())
        values = {
            "tenant": who.tenant, "user": who.user, "run": run, "rating": rating, "reason": reason,
            "now": feedback.created_at,
        }  # fmt: skip

        def put(connection: Connection) -> None:
            if claim is not None:
                keep(connection, claim, run)
            if connection.execute(SELECT_RUN, values).fetchone() is None:
                raise _unknown(run)
            connection.execute(PUT, values)

        with acting_for(who.tenant):
            await self._database.write(put)
        return feedback

    async def get(self, who: Principal, run: str) -> Feedback:
        """What the owner thinks of a run.

        Raises:
            UnknownRun: nothing has been said of such a run.
        """
        values = {"tenant": who.tenant, "user": who.user, "run": run}
        with acting_for(who.tenant):
            row = await self._database.read(lambda connection: connection.execute(SELECT, values).fetchone())
        if row is None:
            raise _unknown(run)
        return Feedback(*row)

    async def of_thread(self, who: Principal, thread: str) -> list[Feedback]:
        """What the owner thinks of the runs of a conversation, oldest run first."""
        values = {"tenant": who.tenant, "user": who.user, "thread": thread}
        with acting_for(who.tenant):
            rows = await self._database.read(lambda connection: connection.execute(SELECT_OF_THREAD, values).fetchall())
        return [Feedback(*row) for row in rows]


def _unknown(run: str) -> UnknownRun:
    return UnknownRun(f"there is no run {run}")
