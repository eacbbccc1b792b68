"""Idempotency: what a POST with an `Idempotency-Key` made is stored in the same transaction as the key, so that the
same request sent again gets the same object, whatever crashed in between."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from memory.sql import Connection, SqlDatabase
from serving.times import stamp

LIFETIME = timedelta(hours=24)
"""How long a key is known."""

_OF = 'tenant = :tenant AND "user" = :user AND key = :key'
SELECT = f"SELECT request, made FROM idempotency WHERE {_OF}"
FORGET_ONE = f"DELETE FROM idempotency WHERE {_OF} AND created_at < :oldest"
FORGET = "DELETE FROM idempotency WHERE created_at < :before"
INSERT = """INSERT INTO idempotency (tenant, "user", key, request, made, created_at)
VALUES (:tenant, :user, :key, :request, :made, :now) ON CONFLICT DO NOTHING"""


class KeyReused(Exception):
    """The key was sent before, with another request."""


class AlreadyMade(Exception):
    """The same request was sent before; `made` is the id of what it made."""

    def __init__(self, made: str) -> None:
        super().__init__(f"the same request has made {made}")
        self.made = made


@dataclass(frozen=True, slots=True)
class Claim:
    """An `Idempotency-Key` and what it was sent with."""

    tenant: str
    user: str
    key: str
    request: str
    """Hash of method, path and body."""


class Idempotency:
    """The keys of the last 24 hours; what is made with one calls `keep`."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def forget(self, before: datetime) -> int:
        """Removes the keys that were sent before a time, and says how many; for retention."""
        values = {"before": stamp(before)}
        return await self._database.write(lambda connection: connection.execute(FORGET, values).rowcount)


def keep(connection: Connection, claim: Claim, made: str) -> None:
    """Stores what the claimed request makes; the first statement of the transaction that makes it.

    Raises:
        AlreadyMade: another one with the same key came first; the transaction must make nothing.
        KeyReused: the key came with another request.
    """
    values = {**_values(claim), "made": made}
    connection.execute(FORGET_ONE, values)
    if connection.execute(INSERT, values).rowcount == 0:
        raise AlreadyMade(_same(claim, connection.execute(SELECT, values).fetchone()))


def _same(claim: Claim, row: tuple[str, str]) -> str:
    request, made = row
    if request != claim.request:
        raise KeyReused("this Idempotency-Key was sent before with another request; take a new key for a new request")
    return made


def _values(claim: Claim) -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "tenant": claim.tenant, "user": claim.user, "key": claim.key, "request": claim.request,
        "now": stamp(now), "oldest": stamp(now - LIFETIME),
    }  # fmt: skip
