"""Leases as rows of Postgres, for servers that share one and no Redis; the database's clock says which have run out."""

from __future__ import annotations

from memory.sql import Connection, DatabaseUnavailable, SqlDatabase
from serving.bus import BusUnavailable

ACQUIRE = """INSERT INTO leases (name, token, expires_at)
VALUES (:name, :above + 1, clock_timestamp() + make_interval(secs => :seconds))
ON CONFLICT (name) DO UPDATE SET token = greatest(leases.token, :above) + 1, expires_at = excluded.expires_at
WHERE leases.expires_at <= clock_timestamp() RETURNING token"""
RENEW = """UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => :seconds)
WHERE name = :name AND token = :token AND expires_at > clock_timestamp()"""
RELEASE = "UPDATE leases SET expires_at = clock_timestamp() WHERE name = :name AND token = :token"
FORGET = "DELETE FROM leases WHERE expires_at < clock_timestamp() - interval '1 day'"


class RowLeases:
    """A LeaseBook, see serving/leased_presence.py."""

    def __init__(self, database: SqlDatabase) -> None:
        """`database`: a Postgres one."""
        self._database = database

    async def acquire(self, name: str, seconds: float, above: int = 0) -> int | None:
        """As Bus.acquire."""

        def acquire(connection: Connection) -> int | None:
            connection.execute(FORGET)
            row = connection.execute(ACQUIRE, {"name": name, "seconds": seconds, "above": above}).fetchone()
            return None if row is None else int(row[0])

        try:
            return await self._database.write(acquire)
        except DatabaseUnavailable as error:
            raise BusUnavailable(str(error)) from error

    async def renew(self, name: str, token: int, seconds: float) -> bool:
        """As Bus.renew."""
        return await self._change(RENEW, {"name": name, "token": token, "seconds": seconds}) > 0

    async def release(self, name: str, token: int) -> None:
        """As Bus.release."""
        await self._change(RELEASE, {"name": name, "token": token})

    async def _change(self, sql: str, values: dict[str, str | int | float]) -> int:
        try:
            return await self._database.write(lambda connection: connection.execute(sql, values).rowcount)
        except DatabaseUnavailable as error:
            raise BusUnavailable(str(error)) from error
